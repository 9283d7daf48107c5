"""`pack --layout resource-type`: what a Concourse worker has for each of its base resource types."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

import ocirootfs
from ocirootfs.bundle import Layout
from ocirootfs.resourcetype import ResourceType
from tests.commands import run_here
from tests.layers import OCI_MANIFEST, build
from tests.servers.registry import FakeRegistry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ENTRIES: list[dict[str, Any]] = [
    {"type": "dir", "name": "./", "mode": "0700"},
    {"type": "dir", "name": "opt/resource", "uid": 7},
    {"type": "file", "name": "opt/resource/check", "data": "#!/bin/sh\n" * 99, "mode": "4755", "gid": 1000},
    {"type": "hardlink", "name": "opt/resource/in", "linkname": "opt/resource/check"},
    {"type": "char", "name": "null", "devmajor": 1, "devminor": 3},
    {"type": "file", "name": "dev/x", "data": "x"},
]
TWICE: list[dict[str, Any]] = [
    {"type": "file", "name": "twice", "data": "first"},
    {"type": "file", "name": "twice", "data": "second"},
]
DEFAULTS = {"type": "git", "version": "1.2", "privileged": False, "unique_version_history": False}


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry() as found:
        yield found


def served(registry: FakeRegistry, entries: list[dict[str, Any]], name: str = "c/git-resource", **labels: str) -> str:
    image = build([{"entries": entries}], config={"architecture": "amd64", "config": {"Labels": labels}})
    return str(registry.add(name, "1.2", image.manifest, OCI_MANIFEST, image.blobs))


def packed(source: str, *words: str) -> dict[str, bytes]:
    """Pack, and return the members of the archive, which must be these two."""
    ran = run_here("pack", source, "--platform", "amd64", "--layout", "resource-type", "-o", "-", *words)
    assert ran.status == 0, ran
    with tarfile.open(fileobj=io.BytesIO(ran.out), mode="r:") as files:
        found = {member.name: files.extractfile(member) for member in files}
    assert list(found) == ["resource_metadata.json", "rootfs.tgz"]
    return {name: file.read() for name, file in found.items() if file}


def files_of(raw: bytes, prefix: str = "") -> dict[str, tuple[Any, ...]]:
    """What a compressed tar says of its members below `prefix`, and what they hold."""
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(raw)), mode="r:") as files:
        return {
            member.name.removeprefix(prefix): (member.type, member.mode, member.uid, member.gid, member.mtime,
                member.linkname.removeprefix(prefix), member.isreg() and files.extractfile(member).read())  # type: ignore[union-attr]
            for member in files if member.name.startswith(prefix)
        }  # fmt: skip


def test_the_files_are_those_of_the_concourse_layout_at_the_top(registry: FakeRegistry) -> None:
    source = served(registry, ENTRIES)
    found = packed(source)
    assert json.loads(found["resource_metadata.json"]) == DEFAULTS
    concourse = run_here("pack", source, "--platform", "amd64", "-o", "-").out
    files = files_of(found["rootfs.tgz"])
    assert files == files_of(concourse, "rootfs/")
    assert set(files) == {"opt", "opt/resource", "opt/resource/check", "opt/resource/in", "dev"}
    assert found == packed(source, "--threads", "1")


@pytest.mark.parametrize(("words", "labels", "changed"), [
    ([], {"org.opencontainers.image.version": "3.4"}, {"version": "3.4"}),
    (["--resource-version", "5"], {"org.opencontainers.image.version": "3.4"}, {"version": "5"}),
    (["--resource-type", "other", "--privileged"], {}, {"type": "other", "privileged": True}),
    (["--unique-version-history"], {}, {"unique_version_history": True}),
])  # fmt: skip
def test_what_is_said_of_it(
    words: list[str], labels: dict[str, str], changed: dict[str, Any], registry: FakeRegistry
) -> None:
    found = packed(served(registry, ENTRIES, **labels), *words)
    assert json.loads(found["resource_metadata.json"]) == DEFAULTS | changed


def test_a_name_twice_in_a_layer(registry: FakeRegistry, tmp_path: Path) -> None:
    """A file starts over; standard output is written with care from the start."""
    source = served(registry, TWICE)
    target = tmp_path / "a.tar"
    words = ("pack", source, "--platform", "amd64", "--layout", "resource-type", "-o", str(target))
    run_here(*words).accepted  # noqa: B018
    with tarfile.open(target) as files:
        rootfs = files.extractfile("rootfs.tgz")
        assert rootfs
        for raw in (rootfs.read(), packed(source)["rootfs.tgz"]):
            assert files_of(raw)["twice"][-1] == b"second"


@pytest.mark.parametrize(("words", "said"), [
    (["-o", "a.tgz"], "compressed already"),
    (["-o", "a.tar", "--compress", "gzip"], "compressed already"),
    (["-o", "a.tar", "--user", "x"], "no metadata.json"),
    (["-o", "a.tar", "--resource-type", ""], "cannot be empty"),
    (["-o", "a.tar", "--layout", "rootfs", "--privileged"], "is no resource type"),
], ids=str)  # fmt: skip
def test_mistakes(words: list[str], said: str, registry: FakeRegistry) -> None:
    ran = run_here("pack", served(registry, ENTRIES), "--layout", "resource-type", *words)
    assert (ran.status, said in ran.err) == (2, True), ran.err
    assert registry.requests == []


def test_an_image_without_a_name(tmp_path: Path) -> None:
    layout = build([{"entries": ENTRIES}]).layout(tmp_path / "layout")
    words = ["pack", f"oci:{layout}", "--layout", "resource-type", "-o", str(tmp_path / "a.tar")]
    ran = run_here(*words)
    assert (ran.status, "--resource-type NAME" in ran.err) == (2, True), ran.err
    assert list(tmp_path.iterdir()) == [layout]
    assert run_here(*words, "--resource-type", "x", "--resource-version", "1").status == 0


def test_the_library_and_the_default_name(registry: FakeRegistry, tmp_path: Path) -> None:
    source = served(registry, ENTRIES, "c/mock-resource")
    with ocirootfs.open(source, platform="amd64") as image:
        done = ocirootfs.pack(image, f"{tmp_path}/", layout=Layout("resource-type", resource=ResourceType(version="9")))
    assert done.stored.location == f"{tmp_path}/mock-resource-1.2.tar"
    with tarfile.open(done.stored.location) as files:
        document = files.extractfile("resource_metadata.json")
        assert document
        assert json.load(document)["version"] == "9"
