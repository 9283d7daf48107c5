"""Artifacts in an index beside images: signatures, bills of materials, charts. They are no images, and no trouble."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.commands import run_here
from tests.layers import OCI_INDEX, OCI_MANIFEST, Built, Data, build
from tests.servers.registry import FakeRegistry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EMPTY = b"{}"
SIGNED = b"a signature"


def descriptor(raw: bytes, media_type: str, **more: Any) -> Data:
    return {"mediaType": media_type, "digest": f"sha256:{hashlib.sha256(raw).hexdigest()}", "size": len(raw), **more}


ARTIFACT = json.dumps(
    {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": "application/vnd.example.signature",
        "config": descriptor(EMPTY, "application/vnd.oci.empty.v1+json"),
        "layers": [descriptor(SIGNED, "application/octet-stream")],
    }
).encode()
AMD64 = {"os": "linux", "architecture": "amd64"}
TYPED = {"artifactType": "application/vnd.example.signature"}


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with FakeRegistry() as registry:
        yield registry


@pytest.fixture(scope="module")
def image() -> Built:
    return build([{"entries": [{"type": "file", "name": "a", "data": "1"}]}], config={"architecture": "amd64"})


def serve(fake: FakeRegistry, *entries: Data, image: Built) -> str:
    """Serve an index of these entries."""
    parts = {f"sha256:{hashlib.sha256(raw).hexdigest()}": raw for raw in (EMPTY, SIGNED)}
    fake.add("a/b", "image", image.manifest, OCI_MANIFEST, image.blobs)
    fake.add("a/b", "artifact", ARTIFACT, OCI_MANIFEST, parts)
    index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(entries)}).encode()
    return str(fake.add("a/b", "1", index, OCI_INDEX))


def entries_of(image: Built, typed: dict[str, str], *, platform: bool = True) -> list[Data]:
    shown = {"platform": AMD64} if platform else {}
    return [descriptor(ARTIFACT, OCI_MANIFEST, **typed), descriptor(image.manifest, OCI_MANIFEST, **shown)]


@pytest.mark.parametrize("typed", [{}, TYPED], ids=["not said", "said"])
@pytest.mark.parametrize("platform", [True, False])
def test_the_image_is_found(fake: FakeRegistry, image: Built, typed: dict[str, str], *, platform: bool) -> None:
    reference = serve(fake, *entries_of(image, typed, platform=platform), image=image)
    ran = run_here("inspect", reference, "--platform", "linux/amd64", "--field", "digest").ok
    assert ran.out.decode().split() == [f"sha256:{hashlib.sha256(image.manifest).hexdigest()}"]


@pytest.mark.parametrize("typed", [{}, TYPED], ids=["not said", "said"])
def test_another_platform_is_what_is_missing(fake: FakeRegistry, image: Built, typed: dict[str, str]) -> None:
    reference = serve(fake, *entries_of(image, typed), image=image)
    ran = run_here("inspect", reference, "--platform", "linux/arm64")
    assert (ran.status, "no image for linux/arm64; available: linux/amd64" in ran.err) == (3, True), ran


def test_an_index_of_artifacts_is_none_of_images(fake: FakeRegistry, image: Built) -> None:
    reference = serve(fake, descriptor(ARTIFACT, OCI_MANIFEST), image=image)
    ran = run_here("inspect", reference, "--platform", "linux/amd64")
    assert (ran.status, "not a container image but an artifact of type" in ran.err) == (6, True), ran


@pytest.mark.parametrize("typed", [{}, TYPED], ids=["not said", "said"])
def test_all_of_it_goes_along(fake: FakeRegistry, image: Built, typed: dict[str, str], tmp_path: Path) -> None:
    """And an archive with an artifact in it is read as the registry is."""
    reference = serve(fake, *entries_of(image, typed), image=image)
    archive = tmp_path / "all.tar"
    run_here("fetch", reference, "--all-platforms", "-o", str(archive)).ok  # noqa: B018
    assert SIGNED in archive.read_bytes()
    ran = run_here("ls", str(archive), "--platform", "linux/amd64").ok
    assert b"a" in ran.out.split()
    ran = run_here("ls", str(archive), "--platform", "linux/arm64")
    assert ran.status == 3, ran
