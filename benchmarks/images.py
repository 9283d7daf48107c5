"""Images to measure with, made from seeds and kept under benchmarks/cache/ as OCI image layouts.

    python -m benchmarks.images [NAME...]

They have what real images have and what a flattener must look at: files of every size, layers that replace, remove and
hide what lower ones have, hard links, setuid files, names too long for a plain header. Layers are written as docker
writes them: the entries in order of their names, parents first, PAX headers only where the plain one does not do.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from zlib_ng import zlib_ng

from benchmarks import content
from benchmarks.content import Draws, Slice, vocabulary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

CACHE = Path(__file__).parent / "cache"
_LEVEL = 6  # about what registries hold

# How often a file is between two sizes in bytes: a Debian root with a toolchain, and JavaScript packages.
Sizes = tuple[tuple[int, int, int], ...]
DEBIAN: Sizes = (
    (120, 0, 256),
    (260, 256, 1 << 10),
    (300, 1 << 10, 1 << 12),
    (200, 1 << 12, 1 << 14),
    (85, 1 << 14, 1 << 16),
    (28, 1 << 16, 1 << 18),
    (6, 1 << 18, 1 << 20),
    (1, 1 << 20, 12 << 20),
)
PACKAGES: Sizes = ((250, 20, 500), (420, 500, 2000), (260, 2000, 6000), (65, 6000, 24000), (5, 24000, 200000))


class Node(NamedTuple):
    """What a layer has under a name."""

    type: bytes
    mode: int
    owner: int
    mtime: int
    content: tuple[Slice, ...] = ()
    link: str = ""
    xattr: tuple[str, bytes] | None = None

    @property
    def size(self) -> int:
        """Bytes of content."""
        return sum(part.size for part in self.content)


Layer = dict[str, Node]


@dataclass(frozen=True)
class LayerFacts:
    """A layer as it was written."""

    digest: str
    diff_id: str
    size: int
    plain: int
    entries: int


@dataclass(frozen=True)
class Built:
    """An image in the cache."""

    name: str
    directory: Path
    layers: tuple[LayerFacts, ...]
    tag: str = "latest"

    @property
    def blobs(self) -> list[Path]:
        """The layers' files, under names that gzip takes (it wants its suffix)."""
        return [self.directory / "named" / f"{number:02}.gz" for number in range(len(self.layers))]

    @property
    def layout(self) -> Path:
        """The OCI image layout."""
        return self.directory / "layout"


@dataclass
class _Maker:
    """An image in the making: its layers, and the files that it shows so far."""

    draws: Draws
    layers: list[Layer] = field(default_factory=list)
    directories: dict[str, Node] = field(default_factory=dict)
    files: dict[str, Node] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)

    def layer(self) -> Layer:
        self.layers.append({})
        return self.layers[-1]

    def put(self, path: str, node: Node) -> None:
        self.layers[-1][path] = node
        self.taken.add(path)
        if node.type != b"5":
            self.files[path] = node

    def name(self, directory: str, suffix: str = "") -> str:
        """Make up a name that is not there yet."""
        words = [self.draws.one_of(vocabulary()) for _ in range((1, 1, 2)[self.draws.below(3)])]
        path = stem = f"{directory}/{'-'.join(words)}"
        while path + suffix in self.taken:
            path = f"{stem}{self.draws.below(1 << 20)}"
        return path + suffix

    def directory(self, path: str) -> str:
        """List a directory, and what it is in."""
        parent, slash, _ = path.rpartition("/")
        if slash and parent not in self.directories:
            self.directory(parent)
        self.directories[path] = Node(b"5", 0o755, 0, self.mtime())
        self.put(path, self.directories[path])
        return path

    def grow(self, count: int, below: str, depth: int = 7) -> list[str]:
        """Make a tree of directories."""
        grown = [below if below in self.directories else self.directory(below)]
        while len(grown) < count:
            parent = self.draws.one_of(grown)
            if parent.count("/") < depth:
                grown.append(self.directory(self.name(parent)))
        return grown

    def mtime(self) -> int:
        return 1_500_000_000 + self.draws.below(1 << 27)

    def node(self, kind: content.Kind, size: int) -> Node:
        mode = 0o755 if kind == "binary" else 0o644
        return Node(b"0", mode, 0, self.mtime(), self.draws.content(kind, size))

    def fill(self, directories: Sequence[str], size: int, sizes: Sizes, kinds: Sequence[int] = (75, 18, 7)) -> None:
        """Add files until they hold `size` bytes; `kinds` weighs text, binaries and compressed files."""
        options: tuple[tuple[content.Kind, Sequence[str]], ...] = (
            ("text", (".py", ".h", ".js", ".json", ".txt", ".conf", "")),
            ("binary", (".so", ".so.1", ".o", ".pyc", "")),
            ("noise", (".gz", ".png", ".zip", ".woff2")),
        )
        while size > 0:
            _, low, high = sizes[self.draws.weighted([weight for weight, _, _ in sizes])]
            kind, suffixes = options[self.draws.weighted(kinds)]
            node = self.node(kind, self.draws.between(low, high))
            size -= node.size
            path = self.name(self.draws.one_of(directories), self.draws.one_of(suffixes))
            if self.draws.below(300) == 0:
                node = node._replace(mode=0o4755 if self.draws.below(2) else 0o2755)
            if self.draws.below(50) == 0:
                node = node._replace(owner=self.draws.between(1, 1000))
            if self.draws.below(2000) == 0:
                node = node._replace(xattr=("security.capability", b"\1\0\0\2\0\4\0\0" + bytes(12)))
            self.put(path, node)
            self._companions(path, node)

    def _companions(self, path: str, node: Node) -> None:
        """Give some files a symlink or more names."""
        drawn = self.draws.below(100)
        if drawn < 6:
            self.put(path + "-current", Node(b"2", 0o777, 0, node.mtime, link=path.rpartition("/")[2]))
        elif drawn < 8:
            for number in range(self.draws.between(1, 3)):
                self.put(f"{path}-{number}", node._replace(type=b"1", content=(), link=path, xattr=None))

    def chosen(self, count: int) -> Iterator[str]:
        """Draw files from the layers so far, hard links and their targets included."""
        below = [path for path in self.files if path not in self.layers[-1]]
        for _ in range(min(count, len(below))):
            at = self.draws.below(len(below))
            below[at], below[-1] = below[-1], below[at]
            yield below.pop()

    def replace(self, count: int) -> None:
        for path in self.chosen(count):
            self.put(path, self.node("text", self.draws.between(100, 40000)))

    def remove(self, count: int) -> None:
        for path in self.chosen(count):
            directory, _, name = path.rpartition("/")
            self.put(f"{directory}/.wh.{name}", Node(b"0", 0o644, 0, 0))
            del self.files[path], self.files[f"{directory}/.wh.{name}"]

    def hide(self, count: int) -> None:
        """Make directories of lower layers opaque, and put something else there."""
        for _ in range(count):
            directory = self.draws.one_of([path for path in self.directories if path.count("/") >= 3])
            self.files = {path: node for path, node in self.files.items() if not path.startswith(directory + "/")}
            self.put(f"{directory}/.wh..wh..opq", Node(b"0", 0o644, 0, 0))
            del self.files[f"{directory}/.wh..wh..opq"]
            self.fill([directory], 60000, DEBIAN)

    def ordered(self, layer: Layer) -> list[tuple[str, Node]]:
        """Return a layer's entries as they are written: with every parent, in order of components."""
        for path in list(layer):
            parent = path.rpartition("/")[0]
            while parent and parent not in layer:
                layer[parent] = self.directories[parent]
                parent = parent.rpartition("/")[0]
        return sorted(layer.items(), key=lambda item: item[0].split("/"))


def _layered(maker: _Maker) -> None:
    """Make what a Dockerfile of a compiled application leaves: 540 MB in six layers."""
    maker.layer()
    base = [place for top in ("usr/lib", "usr/share", "usr/bin", "etc", "var/lib") for place in maker.grow(260, top)]
    maker.fill(base, 130 << 20, DEBIAN)
    maker.layer()
    maker.fill(maker.grow(900, "usr/lib/gcc") + base, 250 << 20, DEBIAN, (66, 26, 8))
    maker.replace(150)
    maker.layer()
    maker.fill(maker.grow(1200, "usr/local/lib/python3.12/site-packages"), 90 << 20, DEBIAN)
    maker.remove(400)
    maker.layer()
    maker.fill(maker.grow(200, "srv/app"), 45 << 20, DEBIAN)
    maker.replace(300)
    maker.layer()
    maker.hide(5)
    maker.remove(900)
    maker.fill(["etc"], 300000, DEBIAN)
    maker.layer()
    maker.replace(60)
    maker.fill(maker.grow(20, "srv/app/static"), 20 << 20, DEBIAN, (50, 0, 50))


def _many(maker: _Maker) -> None:
    """Make a node_modules: 70,000 small files, deep down, in 9,000 directories."""
    maker.layer()
    maker.fill(maker.grow(400, "usr/lib"), 20 << 20, DEBIAN)
    maker.layer()
    maker.fill(maker.grow(6500, "srv/app/node_modules", depth=7), 135 << 20, PACKAGES, (97, 1, 2))
    maker.layer()
    maker.fill(maker.grow(2300, "srv/app/packages/frontend/node_modules", depth=8), 52 << 20, PACKAGES, (97, 1, 2))
    maker.replace(500)
    maker.remove(300)


def _large(maker: _Maker) -> None:
    """Make models and databases: 1 GB in five files."""
    maker.layer()
    maker.fill(maker.grow(20, "usr/lib"), 5 << 20, DEBIAN)
    kinds: tuple[content.Kind, ...] = ("binary", "text", "noise")
    for layer in ((300, 250), (200, 150, 124)):
        maker.layer()
        for megabytes in layer:
            kind = kinds[megabytes % 3 if megabytes != 300 else 0]
            maker.put(maker.name(maker.directory("srv/data"), ".bin"), maker.node(kind, megabytes << 20))


def _layers(maker: _Maker) -> None:
    """Make 25 layers that undo a good part of one another: 200 MB."""
    maker.layer()
    places = maker.grow(700, "usr")
    maker.fill(places, 60 << 20, DEBIAN)
    for number in range(24):
        maker.layer()
        maker.fill(maker.grow(25, f"opt/step{number}") + places, 6 << 20, DEBIAN)
        maker.replace(120)
        maker.remove(160)
        maker.hide(number % 2)


def _tiny(maker: _Maker) -> None:
    """Make a busybox: one binary with 300 names, and a few files."""
    maker.layer()
    maker.directory("bin")
    maker.put("bin/[", maker.node("binary", 1 << 20))
    for number in range(300):
        maker.put(f"bin/{vocabulary()[number]}", Node(b"1", 0o755, 0, 1_600_000_000, link="bin/["))
    maker.fill(maker.grow(6, "etc"), 100000, DEBIAN[:4])


MAKERS: dict[str, Callable[[_Maker], None]] = {
    "layered": _layered,
    "many": _many,
    "large": _large,
    "layers": _layers,
    "tiny": _tiny,
}


def build(name: str) -> Built:
    """Return the image called `name`, made now unless the cache has it as these sources make it."""
    directory = CACHE / name
    facts = directory / "facts.json"
    recipe = sha256(b"".join(Path(source).read_bytes() for source in (__file__, content.__file__))).hexdigest()
    if not facts.exists() or json.loads(facts.read_text())["recipe"] != recipe:
        shutil.rmtree(directory, ignore_errors=True)
        layers = _make(name, directory)
        facts.write_text(json.dumps({"recipe": recipe, "layers": [asdict(layer) for layer in layers]}))
    return Built(name, directory, tuple(LayerFacts(**layer) for layer in json.loads(facts.read_text())["layers"]))


def _make(name: str, directory: Path) -> list[LayerFacts]:
    maker = _Maker(Draws(name))
    MAKERS[name](maker)
    blobs = directory / "layout" / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    (directory / "named").mkdir()
    for kind in ("text", "binary", "noise"):
        content.pool(kind)  # not twice, by two threads
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        layers = list(threads.map(lambda layer: _write_layer(maker.ordered(layer), blobs), maker.layers))
    for number, layer in enumerate(layers):
        os.link(blobs / layer.digest, directory / "named" / f"{number:02}.gz")
    _write_layout(layers, directory / "layout")
    return layers


class _Blob:
    """A layer's file, compressed and hashed as it is written."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._deflate: Any = zlib_ng.compressobj(_LEVEL, zlib_ng.DEFLATED, 31)
        self._waiting: list[bytes | memoryview] = []
        self._held = 0
        self.plain_hash, self.hash = sha256(), sha256()
        self.plain = self.size = 0

    def write(self, piece: bytes | memoryview) -> None:
        self._waiting.append(piece)
        self._held += len(piece)
        if self._held >= 1 << 20:
            self._pass_on()

    def _pass_on(self) -> None:
        joined = b"".join(self._waiting)
        self.plain += len(joined)
        self.plain_hash.update(joined)
        self._waiting, self._held = [], 0
        self._store(self._deflate.compress(joined))

    def _store(self, data: bytes) -> None:
        self.hash.update(data)
        self.size += self._file.write(data)

    def close(self) -> None:
        self._pass_on()
        self._store(self._deflate.flush())
        self._file.close()


def _write_layer(entries: Sequence[tuple[str, Node]], blobs: Path) -> LayerFacts:
    part = blobs / f"{id(entries)}.part"
    blob = _Blob(part)
    for path, node in entries:
        blob.write(_header(path, node))
        for each in node.content:
            blob.write(each.read())
        blob.write(bytes(-node.size % 512))
    blob.write(bytes(1024))
    blob.close()
    digest = blob.hash.hexdigest()
    part.rename(blobs / digest)
    return LayerFacts(digest, blob.plain_hash.hexdigest(), blob.size, blob.plain, len(entries))


def _header(path: str, node: Node) -> bytes:
    """Return the header blocks of an entry as Go's archive/tar writes them, which most layers come from."""
    name = (path + "/" if node.type == b"5" else path).encode()
    link = node.link.encode()
    records = b""
    if len(name) > 100:
        records += _record(b"path", name)
    if len(link) > 100:
        records += _record(b"linkpath", link)
    if node.xattr:
        records += _record(b"SCHILY.xattr." + node.xattr[0].encode(), node.xattr[1])
    plain = _block(name, node, node.type, link, node.size)
    if not records:
        return plain
    extension = Node(b"x", 0, 0, 0)
    head = _block(b"PaxHeaders.0/" + name[-80:], extension, b"x", b"", len(records))
    return head + records + bytes(-len(records) % 512) + plain


def _record(key: bytes, value: bytes) -> bytes:
    body = b" %b=%b\n" % (key, value)
    length = len(body) + 2
    while length != len(b"%d" % length) + len(body):
        length += 1
    return b"%d%b" % (length, body)


def _block(name: bytes, node: Node, type_: bytes, link: bytes, size: int) -> bytes:
    numbers = b"%07o\0%07o\0%07o\0%011o\0%011o\0" % (node.mode, node.owner, node.owner, size, node.mtime)
    head = name[:100].ljust(100, b"\0") + numbers
    tail = type_ + link[:100].ljust(100, b"\0") + b"ustar\x0000" + bytes(64) + b"0000000\x000000000\0" + bytes(167)
    return b"%b%06o\0 %b" % (head, sum(head) + sum(tail) + 256, tail)


def _write_layout(layers: Sequence[LayerFacts], layout: Path) -> None:
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": ["PATH=/usr/bin:/bin"], "User": "1000", "Cmd": ["/bin/sh"], "WorkingDir": "/srv/app"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer.diff_id}" for layer in layers]},
    }
    kind = "application/vnd.oci.image."
    manifest = {
        "schemaVersion": 2,
        "mediaType": kind + "manifest.v1+json",
        "config": _stored(layout, config, kind + "config.v1+json"),
        "layers": [
            {"mediaType": kind + "layer.v1.tar+gzip", "digest": f"sha256:{layer.digest}", "size": layer.size}
            for layer in layers
        ],
    }
    described = _stored(layout, manifest, kind + "manifest.v1+json")
    index = {"schemaVersion": 2, "mediaType": kind + "index.v1+json", "manifests": [described]}
    described["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
    (layout / "index.json").write_text(json.dumps(index))
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


def _stored(layout: Path, document: dict[str, Any], media_type: str) -> dict[str, Any]:
    data = json.dumps(document).encode()
    digest = sha256(data).hexdigest()
    (layout / "blobs" / "sha256" / digest).write_bytes(data)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.images", description="Make the images to measure with.")
    parser.add_argument("names", metavar="NAME", nargs="*", choices=[[], *MAKERS], help=", ".join(MAKERS))
    for name in parser.parse_args().names or MAKERS:
        begun = time.perf_counter()
        built = build(name)
        entries, plain, size = (
            sum(getattr(layer, key) for layer in built.layers) for key in ("entries", "plain", "size")
        )
        print(
            f"{name}: {len(built.layers)} layers, {entries:,} entries, {plain / 1e6:,.0f} MB in "
            f"{size / 1e6:,.0f} MB of gzip ({size / plain:.2f}), {time.perf_counter() - begun:.1f} s"
        )


if __name__ == "__main__":
    main()
