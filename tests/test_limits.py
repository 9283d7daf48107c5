"""Every limit on what an image may make us do: at the limit all is well, one beyond it is refused."""

from __future__ import annotations

import io
import json
import os
import tarfile
from typing import TYPE_CHECKING, Literal

import pytest
import zstandard

from ocirootfs.cli.options import size
from ocirootfs.compression import decompressed
from ocirootfs.errors import InputError, LayerError, TemporaryError
from ocirootfs.expansion import EXPANDED, bounded, bounded_archive
from ocirootfs.flattening import flatten
from ocirootfs.image import Image
from ocirootfs.limits import USUAL, Limits
from ocirootfs.manifest import parse_config
from ocirootfs.registry.transport import Request, Transport
from ocirootfs.spool import Spool
from ocirootfs.tar import reader
from tests.commands import run_here
from tests.layers import Data, build
from tests.mutants import layers_of
from tests.servers.registry import FakeRegistry, Fault

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20


def archive(count: int) -> bytes:
    with io.BytesIO() as made:
        with tarfile.open(fileobj=made, mode="w") as files:
            for number in range(count):
                files.addfile(tarfile.TarInfo(f"{number}"))
        return made.getvalue()


@pytest.mark.parametrize("kind", ["stream", "file"])
def test_entries(kind: str) -> None:
    def read(data: bytes, most: int) -> int:
        if kind == "stream":
            return sum(1 for _ in reader.read([data], limits=Limits(entries=most)))
        return sum(1 for _ in reader.index([data], lambda _: None, limits=Limits(entries=most)))

    assert read(archive(7), 7) == 7
    with pytest.raises(LayerError, match="more than 7 entries"):
        read(archive(8), 7)


def test_entries_of_all_layers_together() -> None:
    def flattened(most: int) -> int:
        with Spool() as spool:
            return sum(1 for _ in flatten(image.layers, spool, limits=Limits(entries=most)))

    image = image_of(1, 2, 3)
    assert flattened(3) == 2  # one file, and the root
    with pytest.raises(InputError, match=r"layer 1 .*: more than 0 entries, and 2 are the most of an image"):
        flattened(2)


@pytest.mark.parametrize("where", ["name", "linkname"])
@pytest.mark.parametrize("form", [1, 2], ids=["gnu", "pax"])
def test_the_length_of_names(form: Literal[1, 2], where: str) -> None:
    def named(length: int) -> bytes:
        info = tarfile.TarInfo("a")
        info.type = tarfile.SYMTYPE
        setattr(info, where, "x" * length)
        return info.tobuf(form) + bytes(1024)

    [(entry, _)] = reader.read([named(USUAL.path)])
    assert len(entry.path if where == "name" else entry.link) == USUAL.path
    with pytest.raises(LayerError, match="a name of more than 65536 bytes"):
        list(reader.read([named(USUAL.path + 1)]))


# What an image expands to


def image_of(*sizes: int) -> Image:
    config = parse_config(b'{"rootfs": {"type": "layers", "diff_ids": []}}', "config")
    stacks: list[list[Data]] = [[{"type": "file", "name": "a", "data": "x" * size}] for size in sizes]
    return Image(config, tuple(layers_of(stacks, 700)))


def test_what_layers_decompress_to() -> None:
    image = image_of(3000, 9000)
    total = sum(len(b"".join(layer.open())) for layer in image.layers)
    for _ in range(2):  # what is read again counts once
        just = bounded(image, total)
        for layer in (*just.layers, *just.layers):
            assert b"".join(layer.open())
    few = bounded(image, total - 1)
    assert b"".join(few.layers[1].open())
    with pytest.raises(InputError, match=rf"layer 1 .*: the image expands to more than {total - 1} bytes"):
        list(few.layers[0].open())


def test_a_layer_that_was_left_half_read_and_read_again_counts_once() -> None:
    image = image_of(9000)
    total = len(b"".join(image.layers[0].open()))
    [layer] = bounded(image, total).layers
    next(layer.open())
    assert len(b"".join(layer.open())) == total


def test_what_the_archive_comes_to() -> None:
    assert b"".join(bounded_archive([b"ab", b"", b"c"], 3)) == b"abc"
    pieces = bounded_archive([b"ab", b"cd"], 3)
    assert next(pieces) == b"ab"
    with pytest.raises(InputError, match="the archive: the image expands to more than 3 bytes"):
        next(pieces)


@pytest.fixture
def sparse(tmp_path: Path) -> str:
    """A file of 40 MiB that takes a few blocks in its layer."""
    pax = {"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.size": str(40 * MIB), "GNU.sparse.map": "0,1"}
    entries: list[Data] = [{"type": "file", "name": "a", "data": "x", "pax": pax}]
    return f"oci:{build([{'entries': entries}]).layout(tmp_path / 'sparse')}"


@pytest.fixture
def bomb(tmp_path: Path) -> str:
    """A layer of 40 MiB that is a few KiB as stored, all of which a whiteout hides."""
    lower: list[Data] = [{"type": "file", "name": "a", "data": "\0" * (40 * MIB)}]
    upper: list[Data] = [{"type": "file", "name": ".wh.a"}]
    return f"oci:{build([{'entries': lower, 'wrap': 'zstd'}, {'entries': upper}]).layout(tmp_path / 'bomb')}"


@pytest.mark.parametrize("source", ["bomb", "sparse"])
@pytest.mark.parametrize("compress", ["gzip", "none"])
def test_the_option(source: str, compress: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    target = tmp_path / "out" / ("a.tgz" if compress == "gzip" else "a.tar")
    target.parent.mkdir()
    words = ["pack", request.getfixturevalue(source), "-o", str(target), "--compress", compress, "--max-expanded"]

    ran = run_here(*words, "39MiB")

    assert ran.status == 6
    assert f"the image expands to more than {39 * MIB} bytes; nothing was written to {target}" in ran.err
    assert "--max-expanded SIZE" in ran.err
    assert os.listdir(target.parent) == []  # noqa: PTH208
    assert run_here(*words, "41MiB").status == 0


@pytest.mark.parametrize("source", ["bomb", "sparse"])
def test_the_option_for_a_directory(source: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    words = ["unpack", request.getfixturevalue(source), str(tmp_path / "tree"), "--chown", "no", "--max-expanded"]
    ran = run_here(*words, "39MiB")
    assert ran.status == 6
    assert f"the image expands to more than {39 * MIB} bytes" in ran.err
    assert not (tmp_path / "tree").exists()
    assert run_here(*words, "41MiB").status == 0


def test_the_default() -> None:
    assert size("256GiB") == EXPANDED
    assert size("1T") == 1 << 40
    assert "256GiB" in run_here("pack", "--help").out.decode()


# What is read of a server's answers, and of documents


@pytest.mark.parametrize("what", ["manifest", "config", "token", "error"])
def test_answers(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body without a length that goes on for ever is read to the limit, not to its end."""
    monkeypatch.setenv("DOCKER_AUTH_CONFIG", "{}")
    path, server, limit = {
        "manifest": ("/manifests/1", "registry", USUAL.document),
        "config": ("/blobs/", "registry", 0),
        "token": ("/token", "token", 1 * MIB),
        "error": ("/manifests/1", "registry", 64 << 10),
    }[what]
    with FakeRegistry(auth="bearer" if what == "token" else None, anonymous=True) as fake:
        reference = fake.add_image()
        endless = Fault(path, server, unsized=True, extra=b" " * (limit + 3 * MIB), times=9)
        if what == "error":
            endless.status, endless.body = 404, b"x"
        fake.faults = [endless]
        ran = run_here("fetch", str(reference), "-o", str(tmp_path / "a.tar"), "--retries", "0", "--platform", "amd64")
    assert ran.status == {"error": 3}.get(what, 6), ran.err
    says = {"config": "sent more than the", "error": "not found"}.get(what, f"is larger than {limit} bytes")
    assert says in ran.err
    assert "Traceback" not in ran.err
    assert list(tmp_path.iterdir()) == []


def test_a_config_that_says_itself_too_large() -> None:
    with FakeRegistry() as fake:
        fake.add_image()
        document = json.loads(fake._manifests["a/b", "1"].body)
        document["config"]["size"] = USUAL.document + 1
        reference = fake.add("a/b", "2", json.dumps(document).encode())
        ran = run_here("fetch", str(reference), "-o", "-")
        assert fake.seen(path="/blobs/") == []
    assert ran.status == 6
    assert f"the config is larger than {USUAL.document} bytes" in ran.err


@pytest.mark.parametrize(("hops", "good"), [(10, True), (11, False)])
def test_redirects(hops: int, good: bool) -> None:
    with FakeRegistry() as fake:
        fake.faults = [Fault("/v2/", status=302, headers={"Location": "/v2/"}, times=hops)]
        transport = Transport(sleep=lambda _: None)
        request = Request("GET", f"http://{fake.host}/v2/", "it", limit=100)
        if good:
            assert transport.send(request).body == b"{}"
        else:
            with pytest.raises(TemporaryError, match="redirected more than 10 times"):
                transport.send(request)
        transport.close()


@pytest.mark.parametrize("window", [27, 28])
def test_the_window_of_zstd(window: int, tmp_path: Path) -> None:
    """A frame header may ask for 2 GiB of memory; only what it says is looked at."""
    # RFC 8878, 3.1.1.1.2: exponent above 10 in the upper five bits; then one raw block of one byte, the last.
    frame = zstandard.MAGIC_NUMBER.to_bytes(4, "little") + bytes([0x00, (window - 10) << 3]) + b"\x09\x00\x00x"
    if window == 27:
        assert b"".join(decompressed([frame], "it")) == b"x"
    else:
        with pytest.raises(InputError, match="too much memory"):
            list(decompressed([frame], "it"))
