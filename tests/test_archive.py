"""Image archives: what `writer.write` writes, and finding the image in that and in everybody else's."""

from __future__ import annotations

import bz2
import functools
import gzip
import hashlib
import io
import itertools
import json
import lzma
import os
import random
import tarfile
import tempfile
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from ocirootfs.archive import writer
from ocirootfs.errors import (
    DigestError,
    InputError,
    LocalError,
    NotFoundError,
    OcirootfsError,
    TruncatedError,
    UsageError,
)
from ocirootfs.platform import Platform
from ocirootfs.replay import replayable
from ocirootfs.source import Source, image_in, local_image
from ocirootfs.spool import Spool
from tests.layers import OCI_INDEX, OCI_MANIFEST, Built, Data, build, layer_bytes, sha256

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ocirootfs.image import Image

REF_NAME = "org.opencontainers.image.ref.name"
IMAGE_NAME = "io.containerd.image.name"
KINDS = pytest.mark.parametrize("kind", ["directory", "file", "stream"])
TARS = pytest.mark.parametrize("kind", ["file", "stream"])

Files = dict[str, bytes]
Held = list[object]
Refusal = TypeVar("Refusal", bound=OcirootfsError)


def layer(number: int, size: int = 900, **more: Any) -> Data:
    data = random.Random(number).choices("abcdefgh", k=size)
    return {"entries": [{"name": f"file{number}", "type": "file", "data": "".join(data)}], **more}


LAYERS = [layer(1), layer(2, wrap="zstd"), layer(3, wrap="none"), layer(4, wrap="gzip-multi")]


@functools.cache
def built(**config: str) -> Built:
    return build(LAYERS, config={"config": {"Env": ["A=1"], "User": "nobody"}, **config})


def descriptor(image: Built, **more: Any) -> Data:
    return {"mediaType": OCI_MANIFEST, "digest": image.digest, "size": len(image.manifest), **more}


def named(image: Built, name: str, **more: Any) -> Data:
    return descriptor(image, annotations={IMAGE_NAME: name}, **more)


def index(*entries: Data) -> bytes:
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()


def blob(data: bytes) -> str:
    return f"blobs/sha256/{hashlib.sha256(data).hexdigest()}"


def layout(images: Sequence[Built], *entries: Data, more: Sequence[bytes] = ()) -> Files:
    """Return the files of an OCI layout."""
    contents = [data for image in images for data in (image.manifest, *image.blobs.values())] + list(more)
    found = {"oci-layout": b'{"imageLayoutVersion": "1.0.0"}', "index.json": index(*entries)}
    return found | {blob(data): data for data in contents}


def simple(image: Built | None = None) -> Files:
    image = image or built()
    return layout([image], named(image, "docker.io/library/app:1.0"))


def tar_of(members: Files | Sequence[tuple[str, bytes | tuple[bytes, str]]]) -> bytes:
    """Return a tar of files, and of links as pairs of type and target."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, what in members.items() if isinstance(members, dict) else members:
            info = tarfile.TarInfo(name)
            if isinstance(what, tuple):
                info.type, info.linkname = what
                tar.addfile(info)
            else:
                info.size = len(what)
                tar.addfile(info, io.BytesIO(what))
    return out.getvalue()


@contextmanager
def opened(
    kind: str,
    data: bytes | Files,
    tmp_path: Path,
    *,
    name: str | None = None,
    platform: str | None = None,
    transport: Any = "path",
) -> Iterator[Image]:
    """Open the image in a tar or in files: in a directory, in a file, in a stream."""
    wanted = None if platform is None else Platform.parse(platform)
    if kind == "stream":
        assert name is None
        assert transport == "path"
        with Spool() as spool:
            yield image_in(io.BytesIO(data if isinstance(data, bytes) else tar_of(data)), wanted, spool, what="it")
        return
    path = tmp_path / "it"
    if kind == "directory":
        assert isinstance(data, dict)
        for file, content in data.items():
            (path / file).parent.mkdir(parents=True, exist_ok=True)
            (path / file).write_bytes(content)
    else:
        path.write_bytes(data if isinstance(data, bytes) else tar_of(data))
    with local_image(Source(transport, str(path), name), wanted) as image:
        yield image


def write(image: Image, out: Callable[[bytes], object]) -> None:
    writer.write([image], writer.blobs([image]), out)


def held(image: Image) -> Held:
    """Read everything, topmost layer first, to the proper end."""
    layers = [b"".join(each.open()) for each in reversed(image.layers)]
    image.finish()
    reference = image.reference and str(image.reference)
    return [image.config.raw, image.manifest and image.manifest.raw, reference, *layers]


def refused(
    error: type[Refusal], words: str, kind: str, data: bytes | Files, tmp_path: Path, **options: Any
) -> Refusal:
    """Return the error that opening and reading must end with."""
    with pytest.raises(error, match=words) as caught, opened(kind, data, tmp_path, **options) as image:
        held(image)
    return caught.value


def hint(error: OcirootfsError) -> str:
    assert error.hint is not None
    return error.hint


def contents(image: Built, reference: str | None = "docker.io/library/app:1.0") -> Held:
    """Return what `held` must give for an image of LAYERS."""
    config = image.blobs[json.loads(image.manifest)["config"]["digest"]]
    return [config, image.manifest, reference, *(layer_bytes(each["entries"]) for each in reversed(LAYERS))]


def written(files: Files, tmp_path: Path) -> bytes:
    out: list[bytes] = []
    with opened("directory", files, tmp_path) as image:
        write(image, out.append)
    return b"".join(out)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return what `fetch` would write of the image of LAYERS."""
    return written(simple(), tmp_path_factory.mktemp("archive"))


def parts(archive: bytes) -> list[bytes]:
    """Cut an archive into its members and its end."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        starts = [member.offset for member in tar.getmembers()]
        end = tar.offset
    edges = [*starts, end, len(archive)]
    return [archive[start:stop] for start, stop in itertools.pairwise(edges)]


# Writing.


def test_what_is_written(archive: bytes) -> None:
    image = built()
    manifest = json.loads(image.manifest)
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        members = tar.getmembers()
        found = {member.name: tar.extractfile(member).read() for member in members}  # type: ignore[union-attr]
        end = tar.offset
    assert archive[end:] == bytes(1024)
    layers = [blob(image.blobs[each["digest"]]) for each in manifest["layers"]]
    config = blob(image.blobs[manifest["config"]["digest"]])
    assert list(found) == ["oci-layout", "index.json", "manifest.json", blob(image.manifest), config, *layers[::-1]]
    assert all(blob(data) == name for name, data in found.items() if "/" in name)
    assert json.loads(found["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    (entry,) = json.loads(found["index.json"])["manifests"]
    assert entry == descriptor(
        image,
        platform={"architecture": "amd64", "os": "linux"},
        annotations={IMAGE_NAME: "docker.io/library/app:1.0", REF_NAME: "1.0"},
    )
    assert json.loads(found["manifest.json"]) == [{"Config": config, "RepoTags": ["app:1.0"], "Layers": layers}]
    attributes = {(m.type, m.mode, m.uid, m.gid, m.mtime, m.uname, m.gname) for m in members}
    assert attributes == {(tarfile.REGTYPE, 0o644, 0, 0, 0, "", "")}


def test_the_same_image_gives_the_same_bytes(archive: bytes, tmp_path: Path) -> None:
    with opened("file", archive, tmp_path) as image:
        again: list[bytes] = []
        write(image, again.append)
    assert b"".join(again) == archive


def test_an_image_without_a_name(tmp_path: Path) -> None:
    image = built()
    data = written(layout([image], descriptor(image)), tmp_path)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        documents = [json.load(tar.extractfile(name)) for name in ("index.json", "manifest.json")]  # type: ignore[arg-type]
    assert "annotations" not in documents[0]["manifests"][0]
    assert documents[1][0]["RepoTags"] is None
    with opened("stream", data, tmp_path) as found:
        assert held(found) == contents(image, None)


def test_an_image_with_a_digest_for_a_name(tmp_path: Path) -> None:
    image = built()
    name = f"example.com/app@{image.digest}"
    data = written(layout([image], named(image, name)), tmp_path)
    with opened("stream", data, tmp_path) as found:
        assert held(found) == contents(image, name)


def test_a_layer_listed_twice_is_written_once(tmp_path: Path) -> None:
    image = build([layer(1), layer(2), layer(1), layer(1)])
    data = written(simple(image), tmp_path)
    assert len(parts(data)) == 5 + 2 + 1
    expected = [layer_bytes(layer(number)["entries"]) for number in (1, 1, 2, 1)]
    with opened("file", data, tmp_path / "it") as found:
        assert held(found)[3:] == expected


def test_a_layer_listed_twice_in_a_stream(tmp_path: Path) -> None:
    data = written(simple(build([layer(1), layer(2), layer(1)])), tmp_path)
    with Spool() as spool, opened("stream", data, tmp_path) as found:
        expected = [layer_bytes(layer(number)["entries"]) for number in (1, 2, 1)]
        assert held(replayable(found, spool, None))[3:] == expected


def test_an_image_without_a_manifest_is_not_written(tmp_path: Path) -> None:
    out: list[bytes] = []
    with (
        opened("file", tar_of(flat(built())), tmp_path) as image,
        pytest.raises(UsageError, match="without a manifest"),
    ):
        write(image, out.append)
    assert out == []


@pytest.mark.parametrize("change", ["flip", "cut", "long"])
@pytest.mark.parametrize("number", range(4))
def test_no_end_is_written_after_a_layer_that_is_wrong(change: str, number: int, tmp_path: Path) -> None:
    image = built()
    files = simple(image)
    name = "blobs/sha256/" + json.loads(image.manifest)["layers"][number]["digest"].partition(":")[2]
    data = files[name]
    files[name] = {"flip": data[:-1] + b"\xff", "cut": data[:-1], "long": data + b"x"}[change]
    out: list[bytes] = []
    with opened("directory", files, tmp_path) as found, pytest.raises(InputError, match=f"^layer {number + 1} "):
        write(found, out.append)
    with pytest.raises(InputError), opened("stream", b"".join(out), tmp_path) as cut:
        held(cut)


def test_no_end_is_written_if_the_source_was_not_whole(tmp_path: Path) -> None:
    def finish() -> None:
        raise TruncatedError("the source was cut")

    out: list[bytes] = []
    with opened("directory", simple(), tmp_path) as image, pytest.raises(TruncatedError, match="the source was cut"):
        write(replace(image, finish=finish), out.append)
    refused(TruncatedError, "without its end marker", "stream", b"".join(out), tmp_path)


# Reading it back.


@KINDS
def test_a_layout(kind: str, tmp_path: Path) -> None:
    with opened(kind, simple(), tmp_path) as image:
        assert held(image) == contents(built())
        assert image.again == ("never" if kind == "stream" else "free")
        assert image.config.user == "nobody"


@TARS
def test_what_was_written_is_read_back(kind: str, archive: bytes, tmp_path: Path) -> None:
    with opened(kind, archive, tmp_path) as image:
        assert held(image) == contents(built())


@TARS
def test_layers_in_any_order(kind: str, archive: bytes, tmp_path: Path) -> None:
    """Bottom first too, where a stream keeps what comes by."""
    with opened(kind, archive, tmp_path) as image:
        found = [b"".join(each.open()) for each in image.layers]
        image.finish()
    assert found == contents(built())[:2:-1]


@pytest.mark.parametrize("kind", ["directory", "file"])
def test_layers_again(kind: str, tmp_path: Path) -> None:
    with opened(kind, simple(), tmp_path) as image:
        assert held(image) == held(image)


def test_a_stream_in_our_order_keeps_the_documents_alone(archive: bytes) -> None:
    with Spool() as spool:
        held(image_in(io.BytesIO(archive), None, spool))
        assert spool.end < 2000


@given(st.permutations(range(9)), st.integers(1, 3000))
@settings(deadline=None, max_examples=50)
def test_members_in_any_order(archive: bytes, order: list[int], size: int) -> None:
    members = parts(archive)
    shuffled = b"".join(members[number] for number in order) + members[-1]
    with Spool() as spool:
        assert held(image_in(Slow(shuffled, size), None, spool)) == contents(built())


class Slow(io.BytesIO):
    """A stream that gives a few bytes at a time, as a pipe does."""

    def __init__(self, data: bytes, step: int) -> None:
        super().__init__(data)
        self._step = step

    def read1(self, size: int | None = -1) -> bytes:
        return super().read1(min(size, self._step) if size and size > 0 else self._step)


@TARS
@pytest.mark.parametrize("first", [1, 2, 3, 4, 7, 8])
def test_one_member_last(kind: str, first: int, archive: bytes, tmp_path: Path) -> None:
    """The index, a manifest, a layer last: as other writers have it."""
    members = parts(archive)
    last = members.pop(first)
    data = b"".join([*members[:-1], last, members[-1]])
    with opened(kind, data, tmp_path) as image:
        assert held(image) == contents(built())


@TARS
def test_blobs_twice(kind: str, archive: bytes, tmp_path: Path) -> None:
    members = parts(archive)
    documents, blobs = members[:3], members[3:-1]
    data = b"".join(documents) + b"".join(member for member in blobs for _ in range(2)) + members[-1]
    with opened(kind, data, tmp_path) as image:
        assert held(image) == contents(built())


@TARS
def test_members_that_nobody_asked_for(kind: str, archive: bytes, tmp_path: Path) -> None:
    odd = tar_of([("dir", (tarfile.DIRTYPE, "")), ("blobs/sha256/x", b"x"), ("l", (tarfile.SYMTYPE, "/etc/passwd"))])
    with opened(kind, b"".join(parts(odd)[:-1]) + archive, tmp_path) as image:
        assert held(image) == contents(built())


PACKERS: list[Callable[[bytes], bytes]] = [gzip.compress, zstandard.compress, lzma.compress, bz2.compress]


@TARS
@pytest.mark.parametrize("pack", PACKERS)
def test_a_compressed_archive(kind: str, pack: Callable[[bytes], bytes], archive: bytes, tmp_path: Path) -> None:
    with opened(kind, pack(archive), tmp_path) as image:
        assert held(image) == contents(built())
        assert image.again == "never"


# Cut.


def cuts(data: bytes) -> list[int]:
    """Return where to cut: around the edges of every member and its content, in the end, and anywhere."""
    edges = {0, 512, len(data)}
    at = 0
    for part in parts(data):
        edges |= {at, at + 512, at + len(part.rstrip(b"\0")), at + len(part)}
        at += len(part)
    around = {edge + step for edge in edges for step in (-1, 0, 1)}
    around |= set(range(len(data) - 1025, len(data), 64)) | set(random.Random(2).sample(range(len(data)), 200))
    return sorted(cut for cut in around if 0 <= cut < len(data))


@TARS
def test_a_cut_archive_is_never_taken_for_whole(kind: str, archive: bytes, tmp_path: Path) -> None:
    for cut in cuts(archive):
        with pytest.raises(InputError), opened(kind, archive[:cut], tmp_path) as image:
            held(image)


@pytest.mark.parametrize("pack", PACKERS[:2])
def test_a_cut_compressed_archive_is_never_taken_for_whole(
    pack: Callable[[bytes], bytes], archive: bytes, tmp_path: Path
) -> None:
    packed = pack(archive)
    for cut in {*range(20), *range(len(packed) - 20, len(packed)), *random.Random(3).sample(range(len(packed)), 60)}:
        with pytest.raises(InputError), opened("stream", packed[:cut], tmp_path) as image:
            held(image)


def test_a_cut_archive_of_docker_save_is_never_taken_for_whole(tmp_path: Path) -> None:
    data = tar_of(flat(built()))
    data = b"".join(parts(data)[:-1]) + bytes(1024)
    for cut in cuts(data)[::3]:
        with pytest.raises(InputError), opened("stream", data[:cut], tmp_path) as image:
            held(image)


def test_what_a_cut_pipe_says(archive: bytes, tmp_path: Path) -> None:
    """How far it came, and where to look."""
    start = len(archive) - len(parts(archive)[-2]) - 1024  # of the bottom layer
    with opened("stream", archive[: start + 600], tmp_path) as image:
        with pytest.raises(TruncatedError, match=r"^it ended after 3 of 4 layers$") as caught:
            held(image)
        assert caught.value.hint == "the command before the pipe failed; its message is above"


# Archives of docker, podman and skopeo.


def flat(image: Built) -> Files:
    """Return what skopeo and podman write: a file a layer, plain, and its name is its diff ID."""
    config = contents(image)[0]
    assert isinstance(config, bytes)
    layers = [layer_bytes(each["entries"]) for each in LAYERS]
    name = hashlib.sha256(config).hexdigest() + ".json"
    paths = [f"{hashlib.sha256(data).hexdigest()}.tar" for data in layers]
    manifest = [{"Config": name, "RepoTags": ["docker.io/library/app:1.0"], "Layers": paths}]
    return dict(zip(paths, layers, strict=True)) | {name: config, "manifest.json": json.dumps(manifest).encode()}


def without_manifest(image: Built) -> Held:
    return [None if place == 1 else each for place, each in enumerate(contents(image))]


@KINDS
def test_a_flat_archive(kind: str, tmp_path: Path) -> None:
    with opened(kind, flat(built()), tmp_path) as image:
        assert held(image) == without_manifest(built())
        assert image.digest is None


@TARS
@pytest.mark.parametrize("link", [tarfile.SYMTYPE, tarfile.LNKTYPE])
@pytest.mark.parametrize("forward", [False, True])
def test_an_old_archive_of_docker(kind: str, link: bytes, forward: bool, tmp_path: Path) -> None:
    """A directory a layer; a layer that is another's is a link to it."""
    image = build([layer(1), layer(2), layer(1)])
    config = image.blobs[json.loads(image.manifest)["config"]["digest"]]
    name = hashlib.sha256(config).hexdigest() + ".json"
    one, two = (layer_bytes(layer(number)["entries"]) for number in (1, 2))
    paths = [f"{digit * 64}/layer.tar" for digit in "abc"]
    manifest = json.dumps([{"Config": name, "RepoTags": None, "Layers": paths}]).encode()
    target = f"../{paths[0]}" if link == tarfile.SYMTYPE else paths[0]
    members: list[tuple[str, bytes | tuple[bytes, str]]] = [
        ("a" * 64, (tarfile.DIRTYPE, "")),
        (f"{'a' * 64}/VERSION", b"1.0"),
        (paths[0], one),
        (paths[1], two),
        (paths[2], (link, target)),
        (name, config),
        ("manifest.json", manifest),
        ("repositories", b"{}"),
    ]
    with opened(kind, tar_of(members[::-1] if forward else members), tmp_path) as found:
        assert held(found) == [config, None, None, one, two, one]


@TARS
@pytest.mark.parametrize("transport", ["oci-archive", "docker-archive"])
def test_what_is_both_is_read_as_it_is_called(kind: str, transport: str, archive: bytes, tmp_path: Path) -> None:
    with opened("file", archive, tmp_path, transport=transport) as image:
        assert (image.manifest is None) == (transport == "docker-archive")
        assert held(image)[3:] == contents(built())[3:]


@TARS
@pytest.mark.parametrize("change", ["flip", "cut", "absent"])
@pytest.mark.parametrize("what", ["config", "layer"])
def test_a_damaged_flat_archive(kind: str, change: str, what: str, tmp_path: Path) -> None:
    files = flat(built())
    name = next(each for each in files if each.endswith(".json" if what == "config" else ".tar"))
    data = files.pop(name)
    if change != "absent":
        files[name] = data[:-3] + b"\xff" + data[-2:] if change == "flip" else data[:-512]
    with pytest.raises(InputError), opened(kind, files, tmp_path) as image:
        held(image)


@TARS
@pytest.mark.parametrize("path", ["{}.json", "blobs/sha256/{}"])
def test_a_config_is_what_its_name_says(kind: str, path: str, tmp_path: Path) -> None:
    files = flat(built())
    manifest = json.loads(files["manifest.json"])
    config = files.pop(manifest[0]["Config"])
    manifest[0]["Config"] = path.format(hashlib.sha256(config).hexdigest())
    files |= {manifest[0]["Config"]: config, "manifest.json": json.dumps(manifest).encode()}
    with opened(kind, files, tmp_path) as image:
        assert held(image) == without_manifest(built())
    files[manifest[0]["Config"]] = config.replace(b"nobody", b"root")
    refused(DigestError, "config .*: got sha256:", kind, files, tmp_path)


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        (b"[]", "it holds no image"),
        (b"null", "it holds no image"),
        (b"{}", "expected an array"),
        (b"[1]", "expected an object"),
        (b"[{}]", "the image's config '' is not in it"),
        (b'[{"Config": "c"}]', "the image's config 'c' is not in it"),
        (b'[{"Config": 1}]', "Config: expected a string"),
        (b'[{"Config": "manifest.json"}]', "expected an object"),
        (b"[", "not valid JSON"),
    ],
)
def test_a_broken_manifest_json(manifest: bytes, words: str, tmp_path: Path) -> None:
    refused(InputError, words, "file", {"manifest.json": manifest}, tmp_path)


def test_layers_that_do_not_fit_the_config(tmp_path: Path) -> None:
    files = flat(built())
    manifest = json.loads(files["manifest.json"])
    manifest[0]["Layers"].pop()
    files["manifest.json"] = json.dumps(manifest).encode()
    refused(InputError, "it lists 3 layers, but the config 4 diff IDs", "file", files, tmp_path)


# Several images.


@functools.cache
def two() -> tuple[Built, Built]:
    return build([layer(1)]), build([layer(2)])


def two_in_a_layout() -> Files:
    one, other = two()
    return layout(
        two(),
        named(one, "docker.io/library/app:1.0"),
        descriptor(other, annotations={REF_NAME: "quay.io/org/other:2.0"}),
        descriptor(other, annotations={REF_NAME: "latest"}),
    )


def two_of_docker() -> Files:
    files: Files = {}
    images = []
    for image, tags in zip(two(), (["app:1.0"], ["quay.io/org/other:2.0", "other:latest"]), strict=True):
        manifest = json.loads(image.manifest)
        files |= {blob(data): data for data in image.blobs.values()}
        paths = [blob(image.blobs[each["digest"]]) for each in (manifest["config"], *manifest["layers"])]
        images.append({"Config": paths[0], "RepoTags": tags, "Layers": paths[1:]})
    return files | {"manifest.json": json.dumps(images).encode()}


SEVERAL = pytest.mark.parametrize("make", [two_in_a_layout, two_of_docker])


@SEVERAL
@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("app:1.0", 1),
        ("docker.io/library/app:1.0", 1),
        ("docker.io/app:1.0", 1),
        ("quay.io/org/other:2.0", 2),
    ],
)
def test_an_image_is_found_by_name(make: Callable[[], Files], name: str, number: int, tmp_path: Path) -> None:
    with opened("file", make(), tmp_path, name=name) as image:
        assert held(image)[3:] == [layer_bytes(layer(number)["entries"])]


def test_an_image_is_found_by_tag(tmp_path: Path) -> None:
    with opened("directory", two_in_a_layout(), tmp_path, name="latest") as image:
        assert held(image)[3:] == [layer_bytes(layer(2)["entries"])]


@SEVERAL
def test_one_of_several_must_be_named(make: Callable[[], Files], tmp_path: Path) -> None:
    error = refused(UsageError, "images, so one must be named$", "file", make(), tmp_path)
    assert "app:1.0" in hint(error)
    assert "quay.io/org/other:2.0" in hint(error)


@SEVERAL
@pytest.mark.parametrize("name", ["app", "app:2.0", "other:2.0", "org/other:2.0", "1.0", "=", "x" * 300])
def test_a_name_that_is_not_there(make: Callable[[], Files], name: str, tmp_path: Path) -> None:
    error = refused(NotFoundError, "it holds no image called '", "file", make(), tmp_path, name=name)
    assert hint(error).startswith("it holds ")
    assert "app:1.0" in hint(error)


def test_holdings_are_printable(tmp_path: Path) -> None:
    one, other = two()
    files = layout(two(), named(one, "a\x1b[31m"), named(other, "b\u202e" * 1000))
    error = refused(UsageError, "one must be named", "file", files, tmp_path)
    assert hint(error).isprintable()
    assert len(hint(error)) < 250


# Several platforms.


@functools.cache
def platforms() -> dict[str, Built]:
    return {
        "amd64": build([layer(1)], config={"architecture": "amd64"}),
        "arm64": build([layer(2)], config={"architecture": "arm64"}),
        "arm": build([layer(3)], config={"architecture": "arm", "variant": "v7"}),
    }


def entries(*, named_platforms: bool) -> list[Data]:
    found = []
    for image in platforms().values():
        config = json.loads(image.blobs[json.loads(image.manifest)["config"]["digest"]])
        platform = {key: config[key] for key in ("os", "architecture", "variant") if key in config}
        found.append(descriptor(image, **({"platform": platform} if named_platforms else {})))
    return found


def all_platforms(*, nested: int, named_platforms: bool) -> Files:
    """Return a layout of one name; its images are in an index in an index, so many deep."""
    inner = entries(named_platforms=named_platforms)
    documents = []
    for _ in range(nested):
        document = index(*inner)
        documents.append(document)
        inner = [{"mediaType": OCI_INDEX, "digest": sha256(document), "size": len(document)}]
    for entry in inner:
        entry["annotations"] = {IMAGE_NAME: "docker.io/library/app:1.0"}
    return layout(list(platforms().values()), *inner, more=documents)


@KINDS
@pytest.mark.parametrize("nested", [0, 1, 2, 3])
@pytest.mark.parametrize("named_platforms", [True, False])
@pytest.mark.parametrize(("platform", "number"), [("linux/amd64", 1), ("arm64", 2), ("linux/arm/v7", 3)])
def test_the_platform_is_chosen(
    kind: str, nested: int, named_platforms: bool, platform: str, number: int, tmp_path: Path
) -> None:
    files = all_platforms(nested=nested, named_platforms=named_platforms)
    with opened(kind, files, tmp_path, platform=platform) as image:
        assert held(image)[2:] == ["docker.io/library/app:1.0", layer_bytes(layer(number)["entries"])]


@pytest.mark.parametrize("nested", [0, 1])
@pytest.mark.parametrize("named_platforms", [True, False])
def test_a_platform_that_is_not_there(nested: int, named_platforms: bool, tmp_path: Path) -> None:
    files = all_platforms(nested=nested, named_platforms=named_platforms)
    error = refused(NotFoundError, "no image for linux/s390x", "file", files, tmp_path, platform="s390x")
    if named_platforms:
        assert "linux/amd64, linux/arm64, linux/arm/v7" in str(error)


def test_indexes_nested_too_deep(tmp_path: Path) -> None:
    files = all_platforms(nested=4, named_platforms=True)
    refused(InputError, "indexes nested deeper than 3", "file", files, tmp_path)


@KINDS
def test_an_image_that_stands_alone_serves_unless_a_platform_is_asked_for(kind: str, tmp_path: Path) -> None:
    image = built(architecture="s390x")
    files = layout([image], descriptor(image))
    with opened(kind, files, tmp_path) as found:
        assert str(found.config.platform) == "linux/s390x"
    refused(NotFoundError, "no image for linux/riscv64", kind, files, tmp_path, platform="riscv64")


def test_a_flat_archive_of_another_platform(tmp_path: Path) -> None:
    words = "no image for linux/arm64; available: linux/amd64"
    refused(NotFoundError, words, "file", flat(built()), tmp_path, platform="arm64")


def test_platforms_of_which_some_are_absent(tmp_path: Path) -> None:
    """As `docker save` and `skopeo copy` leave an index of which they copied one image."""
    files = all_platforms(nested=1, named_platforms=True)
    for name in ("arm64", "arm"):
        del files[blob(platforms()[name].manifest)]
    with opened("file", files, tmp_path, platform="amd64") as image:
        assert held(image)[3:] == [layer_bytes(layer(1)["entries"])]
    refused(NotFoundError, "its index lists sha256:.*, which is not in it", "file", files, tmp_path, platform="arm64")


# What is missing, wrong, or no image.


@KINDS
@pytest.mark.parametrize("what", ["manifest", "config", "layer"])
def test_missing_blobs(kind: str, what: str, tmp_path: Path) -> None:
    image = built()
    manifest = json.loads(image.manifest)
    digests = {
        "manifest": image.digest,
        "config": manifest["config"]["digest"],
        "layer": manifest["layers"][1]["digest"],
    }
    missing = digests[what].partition(":")[2]
    files = simple()
    del files[f"blobs/sha256/{missing}"]
    error = refused(OcirootfsError, missing, kind, files, tmp_path)
    assert isinstance(error, InputError)


@KINDS
@pytest.mark.parametrize("change", ["flip", "cut", "long"])
@pytest.mark.parametrize("what", ["manifest", "config", "layer"])
def test_altered_blobs(kind: str, change: str, what: str, tmp_path: Path) -> None:
    image = built()
    manifest = json.loads(image.manifest)
    digests = {
        "manifest": image.digest,
        "config": manifest["config"]["digest"],
        "layer": manifest["layers"][1]["digest"],
    }
    files = simple()
    name = "blobs/sha256/" + digests[what].partition(":")[2]
    data = files[name]
    files[name] = {"flip": data.replace(b"a", b"b", 1), "cut": data[:-1], "long": data + b" "}[change]
    words = {"flip": "got sha256:|corrupt", "cut": "ended after", "long": "more than the"}[change]
    error = refused(InputError, words, kind, files, tmp_path)
    if change == "flip":
        assert isinstance(error, DigestError) or what == "layer"


@KINDS
@pytest.mark.parametrize("wrap", ["gzip", "zstd", "none"])
def test_layers_that_are_not_those_of_the_config(kind: str, wrap: str, tmp_path: Path) -> None:
    """The blob is what the manifest lists, but its content is not what the config promises."""
    image = build([layer(1), layer(2, wrap=wrap, diff_id=sha256(b"other"))])
    expected = f"^layer 2 .*, decompressed: got sha256:.*, expected {sha256(b'other')}$"
    refused(DigestError, expected, kind, simple(image), tmp_path)


@KINDS
@pytest.mark.parametrize(
    ("document", "words"),
    [
        (b"", "not valid JSON"),
        (b"{}", "schemaVersion"),
        (index(), "it holds no image"),
        (index({"mediaType": "text/plain", "digest": sha256(b""), "size": 0}), "it holds no image"),
        (index({"mediaType": OCI_MANIFEST, "digest": "../../etc/passwd", "size": 0}), "is not a digest"),
        (built().manifest, "an image that calls itself"),
    ],
)
def test_a_broken_index(kind: str, document: bytes, words: str, tmp_path: Path) -> None:
    refused(InputError, words, kind, simple() | {"index.json": document}, tmp_path)


@TARS
def test_a_file_system_is_no_image(kind: str, tmp_path: Path) -> None:
    """What `docker export` writes."""
    data = tar_of([("etc", (tarfile.DIRTYPE, "")), ("etc/passwd", b"root"), ("sh", (tarfile.SYMTYPE, "/bin/sh"))])
    words = "is not an image: it has neither index.json nor manifest.json$"
    assert "docker export" in hint(refused(InputError, words, kind, data, tmp_path))


def test_a_directory_that_is_no_image(tmp_path: Path) -> None:
    refused(InputError, "neither index.json nor manifest.json", "directory", {"x/y": b""}, tmp_path)


@TARS
def test_an_empty_archive(kind: str, tmp_path: Path) -> None:
    refused(TruncatedError, "it is empty$", kind, b"", tmp_path)


@TARS
def test_text(kind: str, tmp_path: Path) -> None:
    for text in (b"Error: no such image\n", b"<html>" * 500):
        refused(InputError, "it is no tar at all$", kind, text, tmp_path)


@pytest.mark.parametrize("transport", ["path", "oci", "oci-archive", "docker-archive"])
def test_a_path_that_is_not_there(transport: Any, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="there is no "), local_image(Source(transport, str(tmp_path / "x")), None):
        pass


@given(flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=3))
@settings(deadline=None, max_examples=80)
def test_a_damaged_archive_gives_the_image_or_an_error(archive: bytes, flips: list[tuple[float, int]]) -> None:
    data = bytearray(archive)
    for place, bits in flips:
        data[int(place * len(data))] ^= bits
    with Spool() as spool:
        try:
            found = held(image_in(io.BytesIO(bytes(data)), None, spool))
        except OcirootfsError:
            return
    # The name is the one thing that no digest covers.
    assert [*found[:2], *found[3:]] == [*contents(built())[:2], *contents(built())[3:]]


@pytest.mark.parametrize("closed", ["above/image/blobs", "above/image", "above"])
def test_what_may_not_be_read_is_this_machines_fault(closed: str) -> None:
    """It is not missing, and the image not broken."""
    with tempfile.TemporaryDirectory() as top:
        Path(top).chmod(0o755)
        layout = build([{"entries": [{"type": "file", "name": "a"}]}]).layout(Path(top) / "above" / "image")
        barred = Path(top) / closed
        barred.chmod(0)
        before = os.geteuid()
        if before == 0:
            os.seteuid(65534)
        try:
            with (
                pytest.raises(LocalError, match="Permission denied"),
                local_image(Source.parse(f"oci:{layout}"), None, None),
            ):
                pass
        finally:
            os.seteuid(before)
            barred.chmod(0o755)
