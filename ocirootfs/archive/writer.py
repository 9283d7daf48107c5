"""The archive that goes through a pipe: one tar that is an OCI image layout and an archive of `docker save` at once.

Every byte of it is covered by a digest or is the end marker, so a
pipe that is cut anywhere is noticed. Descriptor sizes give each tar header before its blob has arrived, so nothing is
buffered. The documents come first and the layers topmost first, which lets the reader flatten while it reads.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ocirootfs.archive.ocilayout import IMAGE_NAME, REF_NAME, blob_path
from ocirootfs.entry import Entry, Kind
from ocirootfs.errors import UsageError
from ocirootfs.manifest import OCI_INDEX
from ocirootfs.tar.writer import END, file_padding, gnu_header

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ocirootfs.digest import Digest
    from ocirootfs.image import Image
    from ocirootfs.manifest import Manifest

_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'


def write(image: Image, write: Callable[[bytes], object]) -> None:
    """Write an image with a manifest as one archive, the end marker only after every blob has proved itself."""
    manifest = image.manifest
    if manifest is None:
        raise UsageError("an image without a manifest cannot be written as an archive")
    documents = (
        ("oci-layout", _LAYOUT),
        ("index.json", _index_json(image, manifest)),
        ("manifest.json", _manifest_json(image, manifest)),
        (blob_path(manifest.digest), manifest.raw),
        (blob_path(manifest.config.digest), image.config.raw),
    )
    for name, content in documents:
        _member(name, len(content), (content,), write)
    written: set[Digest] = set()
    for layer in reversed(image.layers):
        if layer.digest is not None and layer.digest not in written:
            written.add(layer.digest)
            _member(blob_path(layer.digest), layer.size, layer.blob(), write)
    image.finish()
    write(END)


def _member(name: str, size: int, chunks: Iterable[bytes], write: Callable[[bytes], object]) -> None:
    write(gnu_header(Entry(name.encode(), Kind.FILE, 0o644, 0, 0, 0, size)))
    for chunk in chunks:
        write(chunk)
    write(file_padding(size))


def _index_json(image: Image, manifest: Manifest) -> bytes:
    platform = image.config.platform
    descriptor: dict[str, object] = {
        "mediaType": manifest.media_type,
        "digest": str(manifest.digest),
        "size": len(manifest.raw),
        "platform": {
            "architecture": platform.architecture,
            "os": platform.os,
            **({"variant": platform.variant} if platform.variant else {}),
        },
    }
    if image.reference is not None:
        name = {IMAGE_NAME: str(image.reference)}
        descriptor["annotations"] = name | ({REF_NAME: image.reference.tag} if image.reference.tag else {})
    return _compact({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [descriptor]})


def _manifest_json(image: Image, manifest: Manifest) -> bytes:
    reference = image.reference
    tags = [f"{reference.familiar}:{reference.tag}"] if reference and reference.tag else None
    layers = [blob_path(layer.digest) for layer in manifest.layers]
    return _compact([{"Config": blob_path(manifest.config.digest), "RepoTags": tags, "Layers": layers}])


def _compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
