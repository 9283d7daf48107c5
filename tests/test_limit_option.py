"""`--limit`, limit by limit: what is at it passes, one more is refused with a hint, and raising it lets that pass."""

from __future__ import annotations

import base64
import io
import json
import lzma
import tarfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import zstandard

import ocirootfs
from ocirootfs.errors import InputError, UsageError
from ocirootfs.limits import RANGES, USUAL, Limits, names
from ocirootfs.registry import Registry
from ocirootfs.registry.credentials import anonymous
from tests.commands import Ran, run_here
from tests.layers import OCI_INDEX, OCI_MANIFEST, Built, Data, build, layer_bytes, sha256
from tests.servers.registry import FakeRegistry, Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.servers.moto import S3Endpoint

AMD64 = {"os": "linux", "architecture": "amd64"}
FILE: Data = {"type": "file", "name": "a"}
MIB = 1 << 20


@dataclass
class Made:
    """An image, and what is around it: indexes, the outermost last, and how often the last lists what it has."""

    image: Built
    indexes: list[bytes] = field(default_factory=list)
    listed: int = 1
    token: dict[str, Any] | None = None
    hops: int = 0

    def nested(self, media_type: str = OCI_MANIFEST) -> tuple[bytes, str]:
        return (self.indexes[-1], OCI_INDEX) if self.indexes else (self.image.manifest, media_type)


def entry_of(raw: bytes, media_type: str, **more: Any) -> Data:
    return {"mediaType": media_type, "digest": sha256(raw), "size": len(raw), **more}


def index_of(entries: list[Data]) -> bytes:
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()


def with_config(built: Built, config: bytes) -> Built:
    """Give an image a config of other bytes."""
    manifest = json.loads(built.manifest)
    manifest["config"] |= {"digest": sha256(config), "size": len(config)}
    return Built(json.dumps(manifest).encode(), {**built.blobs, sha256(config): config}, built.media_type)


def config_of(built: Built) -> bytes:
    return built.blobs[json.loads(built.manifest)["config"]["digest"]]


def of_entries(*entries: Data, **layer: Any) -> Made:
    return Made(build([{"entries": list(entries), **layer}]))


# An input for each limit, of a given magnitude


def large_config(size: int) -> Made:
    built = build([{"entries": [FILE]}])
    return Made(with_config(built, config_of(built).ljust(size)))


def large_manifest(size: int) -> Made:
    built = build([{"entries": [FILE]}])
    return Made(Built(built.manifest.ljust(size), built.blobs, built.media_type))


def deep_config(depth: int) -> Made:
    """The outermost object is a level, too."""
    built = build([{"entries": [FILE]}])
    text = '{"x":' + "[" * (depth - 1) + "]" * (depth - 1) + "," + config_of(built).decode()[1:]
    return Made(with_config(built, text.encode()))


def large_token(size: int) -> Made:
    answer = {"token": "repository:a/b:pull/0-9", "expires_in": 300, "x": ""}
    return Made(of_entries(FILE).image, token={"x": "x" * (size - len(json.dumps(answer)))})


def deep_token(depth: int) -> Made:
    value: Any = []
    for _ in range(depth - 2):
        value = [value]
    return Made(of_entries(FILE).image, token={"x": value})


def indexes(depth: int) -> Made:
    made = of_entries(FILE)
    for _ in range(depth):
        made.indexes.append(index_of([entry_of(*made.nested(), platform=AMD64)]))
    return made


def hops(count: int) -> Made:
    return Made(of_entries(FILE).image, hops=count)


def many_layers(count: int) -> Made:
    return Made(build([{"entries": [FILE]}] * count))


def many_manifests(count: int) -> Made:
    return Made(of_entries(FILE).image, listed=count)


def many_entries(count: int) -> Made:
    """In two layers."""
    entries = [{"type": "file", "name": str(number)} for number in range(count)]
    return Made(build([{"entries": entries[:5]}, {"entries": entries[5:]}]))


def long_name(length: int) -> Made:
    return of_entries({"type": "file", "name": "x" * length})


def long_target(length: int) -> Made:
    return of_entries({"type": "symlink", "name": "a", "linkname": "x" * length, "fmt": "gnu"})


def deep_path(depth: int) -> Made:
    return of_entries({"type": "file", "name": "d/" * depth + "f"})


def implied(count: int) -> Made:
    """Directories that no entry lists, one inside the other."""
    return of_entries({"type": "file", "name": "d/" * count + "f"})


def attributes(size: int) -> Made:
    """Directories whose extended attributes, names included, have so many bytes in all."""
    most, name = 1 << 19, len("user.a")
    sizes = [*[most] * (size // most), *([size % most] if size % most else [])]
    return of_entries(
        *({"type": "dir", "name": f"d{n}", "xattrs": {"user.a": "x" * (each - name)}} for n, each in enumerate(sizes))
    )


def large_extension(size: int) -> Made:
    return of_entries({**FILE, "pax": {"comment": "x" * (size - len(f"{size} comment=\n"))}})


def sparse(size: int) -> Made:
    pax = {"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.size": str(size), "GNU.sparse.map": "0,1"}
    return of_entries({**FILE, "data": "x", "pax": pax})


def stored_as(blob: bytes, plain: bytes) -> Made:
    """An image whose only layer is stored in a way of its own."""
    built = build([{"bytes_b64": base64.b64encode(plain).decode(), "wrap": "none"}])
    manifest = json.loads(built.manifest)
    manifest["layers"][0] |= {"digest": sha256(blob), "size": len(blob)}
    return Made(Built(json.dumps(manifest).encode(), {**built.blobs, sha256(blob): blob}, built.media_type))


def zstd_window(size: int) -> Made:
    """RFC 8878, 3.1.1.1.2: a power of two from 1 KiB and eighths of it; then raw blocks, the last one marked."""
    exponent = size.bit_length() - 1
    eighths, odd = divmod(size - (1 << exponent), 1 << (exponent - 3))
    assert not odd
    plain = layer_bytes([FILE])
    head = zstandard.MAGIC_NUMBER.to_bytes(4, "little") + bytes([0x00, (exponent - 10) << 3 | eighths])
    return stored_as(head + (len(plain) << 3 | 1).to_bytes(3, "little") + plain, plain)


def xz_dictionary(size: int) -> Made:
    plain = layer_bytes([FILE])
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": size}]
    return stored_as(lzma.compress(plain, filters=filters), plain)


# Where the image is


ALL = ("registry", "oci", "oci-archive", "docker-archive", "pipe")
NOT_DOCKER = ("registry", "oci", "oci-archive", "pipe")


def tar_of(files: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return made.getvalue()


def oci_files(made: Made) -> dict[str, bytes]:
    top = index_of([entry_of(*made.nested())] * made.listed)
    blobs = {**made.image.blobs, **{sha256(raw): raw for raw in (made.image.manifest, *made.indexes)}}
    stored = {f"blobs/sha256/{digest.partition(':')[2]}": data for digest, data in blobs.items()}
    return {"oci-layout": b'{"imageLayoutVersion": "1.0.0"}', "index.json": top, **stored}


def docker_files(made: Made) -> dict[str, bytes]:
    manifest = json.loads(made.image.manifest)
    layers = [f"{number}/layer.tar" for number, _ in enumerate(manifest["layers"])]
    others = [{"Config": "c.json", "RepoTags": [f"other:{n}"], "Layers": layers} for n in range(1, made.listed)]
    listed = [{"Config": "c.json", "RepoTags": ["a:1"], "Layers": layers}, *others]
    blobs = [made.image.blobs[layer["digest"]] for layer in manifest["layers"]]
    return {
        "manifest.json": json.dumps(listed).encode(),
        "c.json": config_of(made.image),
        **dict(zip(layers, blobs, strict=True)),
    }


@dataclass
class Site:
    """Serves and writes images, and runs commands with them."""

    directory: Path
    count: int = 0

    def run(self, verb: str, kind: str, made: Made, *words: str) -> Ran:
        self.count += 1
        place = self.directory / str(self.count)
        if kind == "registry":
            return self._from_registry(verb, made, words)
        if kind == "pipe":
            return run_here(verb, "-", *words, stdin=tar_of(oci_files(made)))
        if kind == "oci":
            for name, data in oci_files(made).items():
                (place / name).parent.mkdir(parents=True, exist_ok=True)
                (place / name).write_bytes(data)
            return run_here(verb, f"oci:{place}", *words)
        place.write_bytes(tar_of(docker_files(made) if kind == "docker-archive" else oci_files(made)))
        return run_here(verb, f"{kind}:{place}" + (":a:1" if kind == "docker-archive" else ""), *words)

    def _from_registry(self, verb: str, made: Made, words: tuple[str, ...]) -> Ran:
        with FakeRegistry(auth="bearer" if made.token else None, anonymous=True) as fake:
            fake.granted = made.token or {}
            if made.hops:
                here = {"Location": "/v2/a/b/manifests/1"}
                fake.faults = [Fault("/manifests/", status=302, headers=here, times=made.hops)]
            reference = served(fake, made)
            return run_here(verb, reference, *words, "--no-creds", "--retries", "0", "--platform", "linux/amd64")


def served(fake: FakeRegistry, made: Made) -> str:
    fake.add("a/b", "image", made.image.manifest, OCI_MANIFEST, made.image.blobs)
    for raw in made.indexes:
        fake.add("a/b", "index", raw, OCI_INDEX)
    if made.indexes or made.listed > 1:
        return str(fake.add("a/b", "1", index_of([entry_of(*made.nested(), platform=AMD64)] * made.listed), OCI_INDEX))
    return str(fake.add("a/b", "1", made.image.manifest, OCI_MANIFEST))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.delenv("DOCKER_AUTH_CONFIG", raising=False)
    return Site(tmp_path)


@dataclass(frozen=True)
class Row:
    """What makes an input of a magnitude, which limit that is for, and what is said of one over it.

    `at` is the limit, its default or another; `over` is the next magnitude that there is.
    """

    name: str
    make: Callable[[int], Made]
    at: int
    says: str
    kinds: tuple[str, ...] = ALL
    over: int = 0
    status: int = 6


ROWS = [
    Row("document", large_config, 5000, "larger than 5000 bytes"),
    Row("document", large_manifest, 5000, "larger than 5000 bytes", NOT_DOCKER),
    Row("document", large_config, USUAL.document, "larger than 8388608 bytes"),
    Row("token", large_token, 5000, "larger than 5000 bytes", ("registry",)),
    Row("token", large_token, USUAL.token, "larger than 1048576 bytes", ("registry",)),
    Row("json_depth", deep_config, 10, "deeper than 10 levels"),
    Row("json_depth", deep_config, USUAL.json_depth, "deeper than 64 levels"),
    Row("json_depth", deep_token, USUAL.json_depth, "deeper than 64 levels", ("registry",), status=4),
    Row("index_depth", indexes, 1, "deep", NOT_DOCKER),
    Row("index_depth", indexes, USUAL.index_depth, "deep", NOT_DOCKER),
    Row("redirects", hops, 2, "redirected more than 2 times", ("registry",), status=5),
    Row("redirects", hops, USUAL.redirects, "redirected more than 10 times", ("registry",), status=5),
    Row("layers", many_layers, 3, "more than 3 entries"),
    Row("layers", many_layers, USUAL.layers, "more than 1000 entries", ("oci-archive", "docker-archive", "pipe")),
    Row("manifests", many_manifests, 2, "more than 2 entries"),
    Row("manifests", many_manifests, USUAL.manifests, "more than 1000 entries"),
    Row("entries", many_entries, 20, "and 20 are the most of an image"),
    Row("entries", implied, 20, "more than 20 directories that it does not list"),
    Row("attributes", attributes, 500, "extended attributes and long names of more than 500 bytes"),
    Row("attributes", attributes, USUAL.attributes, "than 67108864 bytes", ("oci",), over=USUAL.attributes + 10),
    Row("path", long_name, 300, "a name of more than 300 bytes"),
    Row("path", long_name, USUAL.path, "a name of more than 65536 bytes"),
    Row("path", long_target, USUAL.path, "a name of more than 65536 bytes"),
    Row("path_depth", deep_path, 10, "a path of more than 10 components"),
    Row("path_depth", deep_path, USUAL.path_depth, "a path of more than 4096 components"),
    Row("extension", large_extension, 500, "an extension header of 501 bytes is over the limit of 500"),
    Row("extension", large_extension, USUAL.extension, "over the limit of 1048576"),
    Row("sparse", sparse, 5000, "a sparse file of 5001 bytes is over the limit of 5000"),
    Row("sparse", sparse, USUAL.sparse, "over the limit of 68719476736"),
    Row("window", zstd_window, 1 << 20, "asks for too much memory", over=9 << 17),
    Row("window", zstd_window, USUAL.window, "asks for too much memory", over=9 << 24),
    Row("window", xz_dictionary, 2 << 20, "the xz stream is corrupt (Memory usage limit exceeded)", over=8 << 20),
]  # fmt: skip


@pytest.mark.parametrize(
    ("row", "kind"),
    [pytest.param(row, kind, id=f"{row.make.__name__}-{row.at}-{kind}") for row in ROWS for kind in row.kinds],
)
def test_a_limit(row: Row, kind: str, site: Site) -> None:
    usual = row.at == getattr(USUAL, row.name)
    lowered = () if usual else ("--limit", f"{row.name}={row.at}")
    over = row.make(row.over or row.at + 1)

    within = site.run("ls", kind, row.make(row.at if row.make is not xz_dictionary else MIB), *lowered)
    refused = site.run("ls", kind, over, *lowered)
    raised = site.run("ls", kind, over, "--limit", f"{row.name}={row.over * 2 or row.at + 1}")

    assert (within.status, raised.status) == (0, 0), (within.err, raised.err)
    assert refused.status == row.status, refused.err
    assert row.says in refused.err
    assert f"if that is right: --limit {row.name}=" in refused.err


def test_every_limit_has_a_row_at_its_default_or_a_lower_one() -> None:
    assert {row.name for row in ROWS} == set(names()) == set(RANGES)
    assert {row.name for row in ROWS if row.at == getattr(USUAL, row.name)} == set(names()) - {"entries"}


# An archive of images is read by the same rules


@pytest.mark.parametrize("kind", ["oci-archive", "docker-archive", "pipe"])
def test_members_of_an_archive(kind: str, site: Site) -> None:
    refused = site.run("ls", kind, many_layers(3), "--limit", "entries=3")
    assert (refused.status, "the archive is broken" in refused.err) == (6, True), refused.err
    assert "more than 3 entries" in refused.err
    assert "--limit entries=N" in refused.err
    assert site.run("ls", kind, many_layers(3), "--limit", "entries=7").status == 0


@pytest.mark.parametrize("kind", ["oci-archive", "pipe"])
def test_the_first_member_of_an_archive(kind: str, tmp_path: Path) -> None:
    """One that is over a limit does not make the archive no tar."""
    info = tarfile.TarInfo("x" * 300)
    data = info.tobuf(tarfile.GNU_FORMAT) + bytes(1024)
    (tmp_path / "a.tar").write_bytes(data)
    ran = run_here("ls", "-" if kind == "pipe" else str(tmp_path / "a.tar"), "--limit", "path=299", stdin=data)
    assert (ran.status, "a name of more than 299 bytes" in ran.err, "no tar" in ran.err) == (6, True, False), ran.err


def test_the_window_of_an_archive(site: Site) -> None:
    data = lzma.compress(tar_of(oci_files(of_entries(FILE))), preset=6)
    assert run_here("ls", "-", stdin=data).status == 0
    ran = run_here("ls", "-", "--limit", "window=1MiB", stdin=data)
    assert (ran.status, "--limit window=SIZE" in ran.err) == (6, True), ran.err


def test_the_whole_index(site: Site, tmp_path: Path) -> None:
    """With what is no image, too."""
    out = ["-o", str(tmp_path / "a.tar"), "--retries", "0", "--all-platforms", "--no-creds"]

    def fetched(fake: FakeRegistry, made: Made, *words: str) -> Ran:
        return run_here("fetch", served(fake, made), *out, *words)

    with FakeRegistry() as fake:
        refused = fetched(fake, indexes(4))
        assert (refused.status, "--limit index_depth=N" in refused.err) == (6, True), refused.err
        assert fetched(fake, indexes(4), "--limit", "index_depth=4").status == 0
        other = json.dumps({"schemaVersion": 2, "x": [[[[]]]], "blobs": []}).encode()
        fake.add("a/b", "other", other)
        made = of_entries(FILE)
        listed = [entry_of(*made.nested(), platform=AMD64), entry_of(other, "application/vnd.other+json")]
        served(fake, made)
        reference = str(fake.add("a/b", "1", index_of(listed), OCI_INDEX))
        refused = run_here("fetch", reference, *out, "--limit", "json_depth=4")
        assert (refused.status, "--limit json_depth=N" in refused.err) == (6, True), refused.err
        assert run_here("fetch", reference, *out, "--limit", "json_depth=5").status == 0


# Every verb, and every way to read a layer


VERBS: list[tuple[str, ...]] = [
    ("fetch", "-o", "OUT/a.tar"), ("inspect",), ("ls",), ("ls", "--extract", "a"), ("pack", "-o", "OUT/a.tgz"),
    ("pack", "-o", "-"), ("unpack", "OUT/tree", "--chown", "no"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "kind"),
    [(words, kind) for words in VERBS for kind in ("registry", "oci", "pipe") if (words[0], kind) != ("fetch", "pipe")],
    ids=lambda part: part if isinstance(part, str) else " ".join(part),
)
def test_every_verb(words: tuple[str, ...], kind: str, site: Site) -> None:
    verb, *more = (word.replace("OUT", str(site.directory)) for word in words)
    made = of_entries(FILE, {"type": "file", "name": f"d/{'x' * 150}/{'y' * 150}"})

    def ran(limit: str) -> Ran:
        return site.run(verb, kind, made, *more, "--limit", limit)

    for limit in ("document=10", "path=256", "entries=1", "path_depth=1", "extension=256"):
        found = ran(limit)
        reads = verb not in ("fetch", "inspect") or limit == "document=10" or (kind, limit) == ("pipe", "entries=1")
        assert (found.status, f"--limit {limit.partition('=')[0]}=" in found.err) == (
            (6, True) if reads else (0, False)
        )
    assert ran("path=303").status == 0


def test_mirror(s3: S3Endpoint, tmp_path: Path) -> None:
    with FakeRegistry() as fake:
        reference = served(fake, long_name(300))
        (tmp_path / "a.yml").write_text(f"images: [{{image: '{reference}', to: 's3://{s3.bucket}/a.tgz'}}]")
        words = ["mirror", str(tmp_path / "a.yml"), "--endpoint-url", s3.endpoint, "--no-creds"]
        refused = run_here(*words, "--limit", "path=299")
        assert (refused.status, s3.keys(), "--limit path=SIZE" in refused.err) == (6, [], True), refused.err
        assert run_here(*words, "--limit", "path=300").status == 0
    assert s3.keys() == ["a.tgz"]
    shown = run_here(*words, "--limit", "path=128KiB", "--limit=entries=20000000", "--pipeline").ok.out.decode()
    assert (
        shown.count("--limit=path=128KiB") == shown.count("--limit=entries=20000000") == shown.count("--no-creds") > 0
    )


# What is written, and what is no limit


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("names=1", f"'names=1' is no limit; there are {', '.join(names())}"),
        ("path", "'path' is no limit"),
        ("=1", "'=1' is no limit"),
        ("path=", "'' is not a size such as 8MiB"),
        ("path=x", "'x' is not a size such as 8MiB"),
        ("path=-1", "'-1' is not a size"),
        ("path=0", "path is from 256 to 8MiB"),
        ("path=1GiB", "path is from 256 to 8MiB"),
        ("entries=0", "entries is from 1 to 1099511627776"),
        ("entries=1K", "'1K' is not a number"),
        ("entries=-1", "'-1' is not a number"),
        ("json_depth=501", "json_depth is from 1 to 500"),
        ("path_depth=1000000", "path_depth is from 1 to 8192"),
        ("window=4GiB", "window is from 1KiB to 2GiB"),
        ("entries=" + "9" * 5000, "--limit"),
    ],
)
def test_no_limit(text: str, says: str) -> None:
    ran = run_here("ls", "oci:nowhere", "--limit", text)
    assert (ran.status, says in ran.err, "Traceback" in ran.err) == (2, True, False), ran.err
    assert "ocirootfs ls --help" in ran.err


def test_of_two_the_last_counts(site: Site) -> None:
    words = ("--limit", "path=256", "--limit", "path=1MiB", "--limit", "entries=9")
    assert site.run("ls", "oci", long_name(300), *words).status == 0


@pytest.mark.parametrize("verb", ["fetch", "inspect", "ls", "mirror", "pack", "unpack"])
def test_the_help_has_the_defaults(verb: str) -> None:
    text = " ".join(run_here(verb, "--help-all").ok.out.decode().split())
    assert "document=8MiB token=1MiB json_depth=64 index_depth=3 redirects=10 layers=1000 manifests=1000" in text
    assert (
        "entries=5000000 path=64KiB path_depth=4096 extension=1MiB attributes=64MiB sparse=64GiB window=128MiB" in text
    )


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("step", ["below", "above", "text"])
def test_what_no_limit_can_be(name: str, step: str) -> None:
    least, most, _ = RANGES[name]
    assert least <= getattr(USUAL, name) <= most
    assert getattr(Limits(**{name: least}), name) == least
    assert getattr(Limits(**{name: most}), name) == most
    wrong: Any = {"below": least - 1, "above": most + 1, "text": "1"}[step]
    with pytest.raises(UsageError, match=f"the limit {name} is from {least} to {most}, and not"):
        Limits(**{name: wrong})


# As far as a limit can be moved, the code goes


@pytest.mark.parametrize("verb", ["ls", "inspect"])
def test_the_deepest_json(verb: str, site: Site) -> None:
    most = RANGES["json_depth"].most
    for kind in ("registry", "pipe"):
        assert site.run(verb, kind, deep_config(most), "--limit", f"json_depth={most}").status == 0
        refused = site.run(verb, kind, deep_config(most + 1), "--limit", f"json_depth={most}")
        assert (refused.status, f"deeper than {most} levels" in refused.err) == (6, True), refused.err


@pytest.mark.parametrize("kind", ["registry", "pipe"])
def test_the_deepest_index(kind: str, site: Site) -> None:
    most = RANGES["index_depth"].most
    assert site.run("ls", kind, indexes(most), "--limit", f"index_depth={most}").status == 0


@pytest.mark.parametrize("words", [("ls",), ("pack", "-o", "-")], ids=" ".join)
def test_the_deepest_path(words: tuple[str, ...], site: Site) -> None:
    """`unpack` does it too, in half a minute."""
    most = RANGES["path_depth"].most
    verb, *more = words
    assert site.run(verb, "oci", deep_path(most), *more, "--limit", f"path_depth={most}").status == 0


def test_the_longest_name(site: Site) -> None:
    most = RANGES["extension"].most
    made = large_extension(most)
    assert site.run("ls", "oci", made, "--limit", f"extension={most}").status == 0
    words = ("--limit", "path=8MiB", "--limit", "extension=8MiB")
    name = long_name(most - 100)
    assert len(site.run("ls", "oci", name, *words).ok.out) > most - 100


# The library


def test_the_library(tmp_path: Path) -> None:
    layout = long_name(300).image.layout(tmp_path / "layout")
    few = Limits(path=256)
    for source in (f"oci:{layout}", io.BytesIO(tar_of(oci_files(long_name(300))))):
        with ocirootfs.open(source, limits=few) as image:
            assert image.limits is few
            with pytest.raises(InputError, match="a name of more than 256 bytes"):
                list(ocirootfs.flatten(image))
    with ocirootfs.open(f"oci:{layout}") as image:
        assert image.limits == Limits()
        assert len(list(ocirootfs.flatten(image))) == 2


@pytest.fixture
def reference() -> Iterator[str]:
    with FakeRegistry() as fake:
        yield served(fake, long_name(300))


def test_a_registry_of_ones_own(reference: str) -> None:
    few = Limits(path=256)
    with Registry(limits=few, credentials=anonymous) as registry:
        for limits in (None, few, Limits(path=256)):
            with ocirootfs.open(reference, platform="amd64", registry=registry, limits=limits) as image:
                assert image.limits == few
                with pytest.raises(InputError, match="a name of more than 256 bytes"):
                    list(ocirootfs.flatten(image))
        with (
            pytest.raises(UsageError, match="the registry has other limits"),
            ocirootfs.open(reference, registry=registry, limits=Limits()),
        ):
            pass
    with ocirootfs.open(reference, platform="amd64", limits=few) as image:
        assert image.limits == few
