"""The library as a program uses it."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests

import ocirootfs
from ocirootfs.destination import Stored
from ocirootfs.errors import InputError, UsageError
from tests.layers import FIXTURES, OCI_MANIFEST, Built, build
from tests.servers.registry import FakeRegistry
from tests.trees import read_tree, summary

if TYPE_CHECKING:
    from tests.servers.moto import S3Endpoint

LAYERS = [
    {"entries": [{"type": "file", "name": "a", "data": "old"}, {"type": "file", "name": "usr/doc/x", "data": "x"}]},
    {"entries": [{"type": "file", "name": "a", "data": "new"}, {"type": "hardlink", "name": "b", "linkname": "a"}]},
    {"entries": [{"type": "file", "name": ".wh.a"}]},
]


def built() -> Built:
    return build(LAYERS, config={"config": {"Env": ["A=1"], "User": "1000"}})


@pytest.fixture
def layout(tmp_path: Path) -> str:
    return f"oci:{built().layout(tmp_path / 'layout')}"


def test_an_image_is_values(layout: str) -> None:
    with ocirootfs.open(layout) as image:
        assert str(image.digest) == built().digest
        assert image.config.env == ("A=1",)
        assert [layer.number for layer in image.layers] == [1, 2, 3]
        assert json.loads(ocirootfs.metadata(image))["user"] == "1000"


def test_flatten_gives_each_path_once_with_its_bytes(layout: str) -> None:
    with ocirootfs.open(layout) as image:
        found = [(entry.path, entry.kind.value, b"".join(body)) for entry, body in ocirootfs.flatten(image)]
    assert found == [
        (b"b", "file", b"new"),
        (b"usr/doc/x", "file", b"x"),
        (b"usr/doc", "directory", b""),
        (b"usr", "directory", b""),
        (b"", "directory", b""),
    ]


def test_flatten_again_and_with_exclusions(layout: str) -> None:
    with ocirootfs.open(layout) as image:
        for _ in range(2):
            paths = [entry.path for entry, _ in ocirootfs.flatten(image, exclude=["usr/doc"])]
            assert paths == [b"b", b"usr", b""]


def test_an_archive_in_a_file_object_is_an_image(layout: str) -> None:
    archive = io.BytesIO()
    with ocirootfs.open(layout) as image:
        stored = ocirootfs.fetch(image, archive)
        direct = io.BytesIO()
        ocirootfs.pack(image, direct)
    assert stored.size == len(archive.getvalue())
    archive.seek(0)
    with ocirootfs.open(archive) as image:
        through = io.BytesIO()
        ocirootfs.pack(image, through)
    assert through.getvalue() == direct.getvalue()


def test_pack_says_what_it_did(layout: str, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    with ocirootfs.open(layout) as image:
        packed = ocirootfs.pack(
            image,
            tmp_path,
            layout=ocirootfs.Layout("rootfs"),
            progress=lambda layer, size: seen.append((layer.number, size)),
        )
        assert sum(size for _, size in seen) == sum(layer.size for layer in image.layers)
    assert [number for number, _ in seen] == [3, 2, 1]
    made = Path(packed.stored.location)
    assert made.parent == tmp_path
    assert (packed.stored.size, packed.report.entries) == (made.stat().st_size, 4)
    assert set(read_tree(io.BytesIO(gzip.decompress(made.read_bytes())))) == {"b", "usr", "usr/doc", "usr/doc/x"}


class Memory:
    """A destination of the caller's own, as the protocol has it."""

    restartable = True

    def __init__(self) -> None:
        self.data = b""
        self.ended = ""

    def write(self, data: Any) -> None:
        self.data += data

    def restart(self) -> None:
        self.data = b""

    def commit(self) -> Stored:
        self.ended = "committed"
        return Stored("memory", len(self.data), "")

    def abort(self) -> None:
        self.ended = "aborted"


def test_a_destination_of_ones_own(layout: str) -> None:
    memory = Memory()
    with ocirootfs.open(layout) as image:
        assert ocirootfs.pack(image, memory, compress="none").stored.location == "memory"
    assert memory.ended == "committed"
    assert "b" in read_tree(io.BytesIO(memory.data), "rootfs/")


def test_a_name_given_twice_starts_the_destination_over(tmp_path: Path) -> None:
    twice = build([{"entries": [{"type": "file", "name": "a", "data": data} for data in ("1", "2")]}])
    memory, stream = Memory(), io.BytesIO()
    with ocirootfs.open(f"oci:{twice.layout(tmp_path / 'twice')}") as image:
        ocirootfs.pack(image, memory, compress="none")
        ocirootfs.pack(image, io.BufferedWriter(_Pipe(stream)), compress="none")
    assert read_tree(io.BytesIO(memory.data), "rootfs/")["a"].data == b"2"
    assert stream.getvalue() == memory.data


class _Pipe(io.RawIOBase):
    """A stream that cannot take anything back."""

    def __init__(self, sink: io.BytesIO) -> None:
        self._sink = sink

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return self._sink.write(data)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, UsageError("stop")])
def test_whatever_stops_it_aborts(layout: str, error: Any) -> None:
    memory = Memory()

    def stop(*_: object) -> None:
        raise error

    with ocirootfs.open(layout) as image, pytest.raises(error if isinstance(error, type) else type(error)):
        ocirootfs.pack(image, memory, progress=stop)
    assert memory.ended == "aborted"


def test_a_registry_through_a_session_of_ones_own() -> None:
    image_built = built()
    with FakeRegistry() as registry, requests.Session() as session:
        session.headers["X-Asked-By"] = "test"
        reference = registry.add("team/app", "1", image_built.manifest, OCI_MANIFEST, image_built.blobs)
        with ocirootfs.open(str(reference), session=session) as image:
            out = io.BytesIO()
            ocirootfs.pack(image, out)
        assert all(request.headers["X-Asked-By"] == "test" for request in registry.requests)
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as archive:
        names = {name: archive.extractfile(name) for name in ("tag", "repository", "digest")}
        found = {name: file.read().decode() for name, file in names.items() if file}
    assert found == {"tag": "1", "repository": reference.familiar, "digest": image_built.digest}


def test_a_bucket_through_a_client_of_ones_own(s3: S3Endpoint, layout: str) -> None:
    with ocirootfs.open(layout) as image:
        packed = ocirootfs.pack(image, f"s3://{s3.bucket}/app/", s3_client=s3.client)
        file = io.BytesIO()
        ocirootfs.pack(image, file)
    key = packed.stored.location.removeprefix(f"s3://{s3.bucket}/")
    found = s3.client.get_object(Bucket=s3.bucket, Key=key)
    assert found["Body"].read() == file.getvalue()
    assert found["Metadata"]["ocirootfs-digest"] == built().digest


def test_it_never_prints(layout: str, capfd: pytest.CaptureFixture[str]) -> None:
    with ocirootfs.open(layout) as image:
        ocirootfs.pack(image, io.BytesIO())
        list(ocirootfs.flatten(image))
    with pytest.raises(InputError), ocirootfs.open(io.BytesIO(b"no archive")):
        pass
    assert capfd.readouterr() == ("", "")


def test_the_image_that_comes_along_in_two_layouts(tmp_path: Path) -> None:
    with ocirootfs.open(f"oci:{FIXTURES / 'zones'}") as image:
        concourse, rootfs = io.BytesIO(), io.BytesIO()
        ocirootfs.pack(image, concourse, compress="none")
        ocirootfs.pack(image, rootfs, compress="none", layout=ocirootfs.Layout("rootfs", devices="drop"))
    one, two = (summary(read_tree(file, prefix)) for file, prefix in ((concourse, "rootfs/"), (rootfs, "")))
    root = one.pop("")
    assert root[:4] == ("dir", "0o755", 0, 0)
    assert one == two
