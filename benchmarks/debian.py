"""The image `debian`: real packages in four layers, half a gigabyte, by mmdebstrap, apt-get and podman, as root."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from benchmarks import images
from benchmarks.images import Built, LayerFacts
from ocirootfs.digest import Digest
from ocirootfs.image import Layer
from ocirootfs.tar import reader
from tests import debian_image

if TYPE_CHECKING:
    from pathlib import Path

_APT = "DEBIAN_FRONTEND=noninteractive apt-get -q -y -o APT::Sandbox::User=root"
_INSTALL = f"{_APT} --no-install-recommends install"

STEPS = {
    "what everybody wants": [f"{_APT} update", f"{_INSTALL} ca-certificates curl git openssh-client vim-tiny less"],
    "a toolchain": [f"{_INSTALL} gcc libc6-dev make python3"],
    "a layer that tidies up": [f"{_APT} purge vim-tiny", "rm -rf /var/lib/apt/lists /usr/share/doc /usr/share/man"],
}


def build() -> Built:
    """Return the image, made now unless the cache has it."""
    layout = debian_image.layout(steps=STEPS)
    directory = images.CACHE / "debian"
    named = directory / "named"
    named.mkdir(parents=True, exist_ok=True)
    here = directory / "layout"
    here.unlink(missing_ok=True)
    here.symlink_to(layout)
    blobs = layout / "blobs" / "sha256"
    index = json.loads((layout / "index.json").read_text())
    manifest = _document(blobs, index["manifests"][0])
    diff_ids = _document(blobs, manifest["config"])["rootfs"]["diff_ids"]
    layers = []
    for number, (descriptor, diff_id) in enumerate(zip(manifest["layers"], diff_ids, strict=True)):
        blob = blobs / descriptor["digest"].partition(":")[2]
        link = named / f"{number:02}.gz"
        link.unlink(missing_ok=True)
        link.symlink_to(blob)
        layers.append(_facts(blob, descriptor, diff_id))
    return Built("debian", directory, tuple(layers), tag="1")


def _document(blobs: Path, descriptor: dict[str, str]) -> Any:
    return json.loads((blobs / descriptor["digest"].partition(":")[2]).read_text())


def _facts(blob: Path, descriptor: dict[str, str], diff_id: str) -> LayerFacts:
    digest, plain_digest = Digest.parse(descriptor["digest"]), Digest.parse(diff_id)
    layer = Layer(1, plain_digest, blob.stat().st_size, digest, "", lambda: (blob.read_bytes(),))
    plain = sum(map(len, layer.open()))
    entries = sum(1 for _ in reader.read(layer.open()))
    return LayerFacts(digest.hex, plain_digest.hex, layer.size, plain, entries)
