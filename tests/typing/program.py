"""A program that uses all that is public, for mypy to read; overlooking a wrong use would leave an unused ignore."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal, assert_type

import ocirootfs
from ocirootfs.destination import Stored
from ocirootfs.digest import Digest
from ocirootfs.manifest import Config, Index, Manifest
from ocirootfs.treewriter import Attributes, Losses

IMAGE: ocirootfs.Image


def opening() -> None:
    with ocirootfs.open("ubuntu:17.04", platform="linux/arm64", name="a", tmpdir="/tmp") as image:
        assert_type(image, ocirootfs.Image)
    with ocirootfs.open(Path("a.tar"), platform=ocirootfs.Platform.default()), ocirootfs.open(io.BytesIO(b"")):
        pass
    limits = ocirootfs.Limits(entries=20_000_000, path=128 << 10)
    with ocirootfs.open("ubuntu", limits=limits) as image:
        assert_type(image.limits, ocirootfs.Limits)
        assert_type(image.limits.path, int)
    limits.path = 1  # type: ignore[misc]
    ocirootfs.Limits(names=1)  # type: ignore[call-arg]
    with ocirootfs.open("ubuntu", "linux/arm64"):  # type: ignore[call-arg]
        pass
    with ocirootfs.open(b"ubuntu"):  # type: ignore[arg-type]
        pass
    with ocirootfs.open(io.StringIO("")):  # type: ignore[arg-type]
        pass
    ocirootfs.open("ubuntu").layers  # type: ignore[attr-defined]


def image(image: ocirootfs.Image) -> None:
    assert_type(image.config, Config)
    assert_type(image.layers, tuple[ocirootfs.Layer, ...])
    assert_type(image.manifest, Manifest | None)
    assert_type(image.index, Index | None)
    assert_type(image.reference, ocirootfs.Reference | None)
    assert_type(image.digest, Digest | None)
    assert_type(image.config.env, tuple[str, ...])
    assert_type(image.config.user, str)
    assert_type(image.config.entrypoint, tuple[str, ...] | None)
    assert_type(image.config.cmd, tuple[str, ...] | None)
    assert_type(image.config.labels, Mapping[str, str])
    assert_type(image.config.platform, ocirootfs.Platform)
    image.layers = ()  # type: ignore[misc]
    image.digest.hex  # type: ignore[union-attr]


def layer(layer: ocirootfs.Layer) -> None:
    assert_type(layer.number, int)
    assert_type(layer.diff_id, Digest)
    assert_type(layer.size, int)
    assert_type(layer.digest, Digest | None)
    assert_type(layer.media_type, str)
    assert_type(layer.name, str)
    assert_type(layer.source, Callable[[], Iterable[bytes]])
    assert_type(layer.blob(), Iterator[bytes])
    assert_type(layer.open(), Iterator[bytes])


def flattening(image: ocirootfs.Image) -> None:
    for entry, body in ocirootfs.flatten(image, exclude=["usr/share/doc"], tmpdir=None):
        assert_type(entry, ocirootfs.Entry)
        assert_type(body, Iterable[bytes | memoryview])
        assert_type(entry.path, bytes)
        assert_type(entry.kind, ocirootfs.Kind)
        assert_type(entry.mode, int)
        assert_type(entry.uid, int)
        assert_type(entry.gid, int)
        assert_type(entry.mtime, int)
        assert_type(entry.size, int)
        assert_type(entry.link, bytes)
        assert_type(entry.device, tuple[int, int])
        assert_type(entry.xattrs, tuple[tuple[bytes, bytes], ...])
        assert_type(entry.kind.value, str)
        entry.mode = 0o644  # type: ignore[misc]
        entry.path.startswith("etc")  # type: ignore[arg-type]
    ocirootfs.flatten(image, ["usr"])  # type: ignore[call-arg]
    ocirootfs.flatten("ubuntu:17.04")  # type: ignore[arg-type]
    assert_type(ocirootfs.metadata(image), bytes)


def fetching(image: ocirootfs.Image) -> None:
    assert_type(ocirootfs.fetch(image, "a.tar"), Stored)
    assert_type(ocirootfs.fetch([image, image], Path("a.tar"), progress=heard), Stored)
    ocirootfs.fetch("ubuntu:17.04", "a.tar")  # type: ignore[arg-type]
    ocirootfs.fetch(image)  # type: ignore[call-arg]


def heard(layer: ocirootfs.Layer, size: int) -> None:
    pass


class Own:
    """A destination of the program's own."""

    restartable = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        pass

    def restart(self) -> None:
        pass

    def commit(self) -> Stored:
        return Stored("own", 0, "")

    def abort(self) -> None:
        pass


def packing(image: ocirootfs.Image) -> None:
    layout = ocirootfs.Layout("rootfs", exclude=("usr/share/doc",), devices="drop", latest=0)
    packed = ocirootfs.pack(image, io.BytesIO(), layout=layout, compress="none", level=9, threads=2, progress=heard)
    assert_type(packed, ocirootfs.Packed)
    assert_type(packed.stored, Stored)
    assert_type(packed.digest, Digest | None)
    assert_type(packed.report, ocirootfs.Report)
    assert_type(packed.skipped, bool)
    assert_type(packed.stored.location, str)
    assert_type(packed.stored.size, int)
    assert_type(packed.stored.sha256, str)
    assert_type(packed.stored.etag, str | None)
    assert_type(packed.report.entries, int)
    assert_type(packed.report.devices, list[bytes])
    assert_type(packed.report.capabilities, list[bytes])
    assert_type(packed.report.high_ids, list[bytes])
    assert_type(layout.kind, Literal["concourse", "rootfs", "resource-type"])
    assert_type(layout.keeps_devices, bool)
    ocirootfs.pack(image, Own())
    ocirootfs.pack(image, "s3://images/a.tgz", s3_options=ocirootfs.S3Options(part_size=16 << 20, if_exists="skip"))
    ocirootfs.pack(image, io.StringIO())  # type: ignore[arg-type]
    ocirootfs.pack(image, "a.tgz", compress="zstd")  # type: ignore[arg-type]
    ocirootfs.pack(image, "a.tgz", layout="rootfs")  # type: ignore[arg-type]
    ocirootfs.Layout("docker")  # type: ignore[arg-type]
    ocirootfs.S3Options("https://minio.corp")  # type: ignore[call-arg]
    ocirootfs.S3Options(if_exists="sometimes")  # type: ignore[arg-type]


def unpacking(image: ocirootfs.Image) -> None:
    unpacked = ocirootfs.unpack(image, Path("root"), layout="concourse", devices="keep", owners=True, xattrs=True)
    assert_type(unpacked, ocirootfs.Unpacked)
    assert_type(unpacked.location, str)
    assert_type(unpacked.digest, Digest | None)
    assert_type(unpacked.attributes, Attributes)
    assert_type(unpacked.report, ocirootfs.Report)
    assert_type(unpacked.losses, Losses)
    ocirootfs.unpack(image, "root", owners="me")  # type: ignore[arg-type]
    ocirootfs.unpack(image, "s3", layout="tar")  # type: ignore[arg-type]


def checking() -> None:
    checked = ocirootfs.check(Path("a.tgz"), regexp="a-(.*).tgz")
    assert_type(checked, ocirootfs.Checked)
    assert_type(checked.starts, bool)
    assert_type(checked.version, str | None)
    assert_type(checked.findings, tuple[ocirootfs.Finding, ...])
    assert_type(checked.findings[0].code, str)
    assert_type(checked.findings[0].where, tuple[str, ...])
    ocirootfs.check(b"a.tgz")  # type: ignore[arg-type]


def values() -> None:
    reference = ocirootfs.Reference.parse("ghcr.io/a/b:1")
    assert_type(reference, ocirootfs.Reference)
    assert_type(reference.registry, str)
    assert_type(reference.repository, str)
    assert_type(reference.tag, str | None)
    assert_type(reference.digest, Digest | None)
    assert_type(reference.familiar, str)
    assert_type(reference.name, str)
    platform = ocirootfs.Platform.parse("linux/arm/v7")
    assert_type(platform, ocirootfs.Platform)
    assert_type((platform.os, platform.architecture, platform.variant, platform.os_version), tuple[str, str, str, str])
    assert_type(ocirootfs.Kind.FILE, Literal[ocirootfs.Kind.FILE])
    error = ocirootfs.OcirootfsError("it failed", hint="try again")
    assert_type(error.hint, str | None)
    assert_type(error.exit_code, int)
    reference.tag = "2"  # type: ignore[misc]
    platform.os = "linux"  # type: ignore[misc]
    ocirootfs.OcirootfsError("it failed", "try again")  # type: ignore[call-arg]
    ocirootfs.Reference.parse(b"ubuntu")  # type: ignore[arg-type]
    assert_type(ocirootfs.__version__, str)
    ocirootfs.download  # type: ignore[attr-defined]
