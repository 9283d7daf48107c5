"""Blobs of Debian's docker-registry, through a proxy that cuts every connection; archives as skopeo reads them."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import random
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest

import ocirootfs
from ocirootfs.registry import Registry
from ocirootfs.registry.credentials import anonymous
from tests.commands import run
from tests.layers import OCI_INDEX, OCI_MANIFEST, Built, build
from tests.servers.cutting_proxy import cutting_proxy
from tests.servers.docker_registry import docker_registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Real = Callable[[str], Path]

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("registry")]

NOISE = [random.Random(seed).randbytes(7 << 20) for seed in range(3)]


def noisy(seeds: list[int], architecture: str = "amd64") -> Built:
    """Make an image whose layers do not compress."""
    blobs = [tar(NOISE[seed]) for seed in seeds]
    layers = [{"bytes_b64": base64.b64encode(blob).decode(), "wrap": "none"} for blob in blobs]
    return build(layers, config={"architecture": architecture})


def tar(content: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        info = tarfile.TarInfo("noise")
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def skopeo(real: Real, *arguments: str | Path) -> None:
    ran = subprocess.run(
        [real("skopeo"), "--insecure-policy", *arguments], capture_output=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr.decode(errors="replace")


@pytest.fixture(scope="module")
def registry(real: Real, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with docker_registry(real("docker-registry"), tmp_path_factory.mktemp("registry")) as host:
        yield host


@pytest.fixture(scope="module")
def image(real: Real, registry: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    layout = noisy([0, 1, 2]).layout(tmp_path_factory.mktemp("image") / "layout")
    target = f"docker://{registry}/a/noise:1"
    skopeo(real, "copy", "--preserve-digests", "--dest-tls-verify=false", f"oci:{layout}:latest", target)
    return "a/noise:1"


@pytest.mark.parametrize("jobs", [1, 3])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_connection_is_cut(registry: str, image: str, jobs: int, seed: int) -> None:
    out = io.BytesIO()
    with cutting_proxy(registry, least=50_000, most=3 << 20, seed=seed) as proxy:
        # A third of the connections bring too little to count as progress: six such in a row are not that rare.
        client = Registry(credentials=anonymous, jobs=jobs, sleep=lambda _: None, timeout=10, retries=50)
        with client, ocirootfs.open(f"{proxy.host}/{image}", registry=client) as found:
            ocirootfs.fetch(found, out)
            size = sum(layer.size for layer in found.layers)
            digests = {str(layer.digest) for layer in found.layers}
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as archive:
        files = {member.name: archive.extractfile(member) for member in archive}
        held = {f"sha256:{hashlib.sha256(file.read()).hexdigest()}" for file in files.values() if file}
    assert digests <= held
    assert proxy.cuts >= 8
    assert size < proxy.sent < 1.1 * size
    print(f"\n{jobs} jobs, seed {seed}: {proxy.cuts} cuts, {proxy.sent / size - 1:+.2%} bytes")


def test_a_whole_index_as_skopeo_copies_it(real: Real, registry: str, tmp_path: Path) -> None:
    """Two platforms and something that is no image: all of it goes to another registry, with the same digest."""
    parts = {"amd64": noisy([0]), "arm64": noisy([1, 0], "arm64")}
    statement = b'{"_type":"https://in-toto.io/Statement/v0.1"}'
    attestation = build([], config={"architecture": "unknown", "os": "unknown"})
    document = json.loads(attestation.manifest)
    digest = f"sha256:{hashlib.sha256(statement).hexdigest()}"
    document["layers"] = [{"mediaType": "application/vnd.in-toto+json", "digest": digest, "size": len(statement)}]
    other = Built(json.dumps(document).encode(), {**attestation.blobs, digest: statement}, OCI_MANIFEST)
    entries = [entry(built, architecture) for architecture, built in parts.items()]
    annotations = {"vnd.docker.reference.type": "attestation-manifest"}
    entries.append({**entry(other, "unknown", "unknown"), "annotations": annotations})
    index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()
    blobs = {built.digest: built.manifest for built in (*parts.values(), other)}
    for built in (*parts.values(), other):
        blobs |= built.blobs
    layout = Built(index, blobs, OCI_INDEX).layout(tmp_path / "layout")
    name = f"{registry}/a/many:1"
    copy = ("copy", "--all", "--preserve-digests", "--dest-tls-verify=false")
    skopeo(real, *copy, f"oci:{layout}:latest", f"docker://{name}")

    run("fetch", name, "--no-creds", "--all-platforms", "-o", str(tmp_path / "all.tar")).ok  # noqa: B018
    skopeo(real, *copy, f"oci-archive:{tmp_path / 'all.tar'}", f"docker://{registry}/b/many:1")

    with Registry(credentials=anonymous) as client:
        copied = client.manifest(ocirootfs.Reference.parse(f"{registry}/b/many:1"))
    assert copied.raw == index


def entry(built: Built, architecture: str, system: str = "linux") -> dict[str, object]:
    return {
        "mediaType": OCI_MANIFEST,
        "digest": built.digest,
        "size": len(built.manifest),
        "platform": {"os": system, "architecture": architecture},
    }


def test_images_of_a_bundle_as_skopeo_finds_them(real: Real, registry: str, tmp_path: Path) -> None:
    for number in (1, 2):
        layout = noisy([0, number]).layout(tmp_path / f"layout{number}")
        target = f"docker://{registry}/team/app{number}:1"
        skopeo(real, "copy", "--preserve-digests", "--dest-tls-verify=false", f"oci:{layout}:latest", target)
    names = [f"{registry}/team/app{number}:1" for number in (1, 2)]
    run("fetch", *names, "--no-creds", "-o", str(tmp_path / "bundle.tar")).ok  # noqa: B018
    for number, name in enumerate(names, 1):
        skopeo(real, "copy", f"docker-archive:{tmp_path / 'bundle.tar'}:{name}", f"dir:{tmp_path / f'out{number}'}")
        manifest = json.loads((tmp_path / f"out{number}" / "manifest.json").read_text())
        assert [layer["digest"] for layer in manifest["layers"]] == [
            f"sha256:{hashlib.sha256(tar(NOISE[seed])).hexdigest()}" for seed in (0, number)
        ]
