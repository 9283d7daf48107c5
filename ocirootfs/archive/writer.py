"""The archive that goes through a pipe: one tar that is an OCI image layout and an archive of `docker save` at once.

It holds one image or several, what they share once. Every byte of it is covered by a digest or is the end marker, so a
pipe that is cut anywhere is noticed. Descriptor sizes give each tar header before its blob has arrived, so nothing is
buffered. The documents come first and the layers topmost first, which lets the reader flatten while it reads.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

from ocirootfs.archive.ocilayout import IMAGE_NAME, REF_NAME, blob_path
from ocirootfs.entry import Entry, Kind
from ocirootfs.errors import UsageError
from ocirootfs.manifest import OCI_INDEX
from ocirootfs.tar.writer import END, file_padding, gnu_header

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from ocirootfs.image import Image, Layer
    from ocirootfs.manifest import Manifest

_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'


def write(images: Sequence[Image], layers: Iterable[Layer], write: Callable[[bytes], object]) -> None:
    """Write images as one archive, the end marker only after every blob has proved itself.

    `layers` are `blobs(images)`, by whatever way they are read. An image with a `family` goes in with all of that.
    """
    documents = {"oci-layout": _LAYOUT, "index.json": _index_json(images), "manifest.json": _manifest_json(images)}
    for image in images:
        documents |= _documents(image)
    for name, content in documents.items():
        _member(name, len(content), (content,), write)
    for layer in layers:
        if layer.digest is not None:
            _member(blob_path(layer.digest), layer.size, layer.blob(), write)
    for image in images:
        image.finish()
    write(END)


def blobs(images: Iterable[Image]) -> list[Layer]:
    """Return the blobs of an archive of `images` in its order: image by image, topmost first, each digest once."""
    layers = (layer for image in images for member in _members(image) for layer in reversed(member.layers))
    others = (layer for image in images if image.family for layer in image.family.others)
    return list({layer.digest: layer for layer in (*layers, *others) if layer.digest}.values())


def _members(image: Image) -> tuple[Image, ...]:
    return image.family.images if image.family else (image,)


def _manifest(image: Image) -> Manifest:
    if image.manifest is None:
        raise UsageError("an image without a manifest cannot be written as an archive")
    return image.manifest


def _documents(image: Image) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    if image.family:
        found[blob_path(image.family.index.digest)] = image.family.index.raw
        found |= {blob_path(digest): raw for digest, raw in image.family.documents}
    for member in _members(image):
        manifest = _manifest(member)
        found[blob_path(manifest.digest)] = manifest.raw
        found[blob_path(manifest.config.digest)] = member.config.raw
    return found


def _member(name: str, size: int, chunks: Iterable[bytes], write: Callable[[bytes], object]) -> None:
    write(gnu_header(Entry(name.encode(), Kind.FILE, 0o644, 0, 0, 0, size)))
    for chunk in chunks:
        write(chunk)
    write(file_padding(size))


def _index_json(images: Sequence[Image]) -> bytes:
    tags = Counter(image.reference.tag for image in images if image.reference)
    entries = [_descriptor(image, tags) for image in images]
    return _compact({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries})


def _descriptor(image: Image, tags: Mapping[str | None, int]) -> dict[str, object]:
    """Describe an image, or the whole index that it comes with, under its name.

    `tags` says how many images have each. One that is another's too tells neither: those go by their whole names, by
    which skopeo finds them (containers-image, oci-archive transport).
    """
    document = image.family.index if image.family else _manifest(image)
    descriptor: dict[str, object] = {
        "mediaType": document.media_type,
        "digest": str(document.digest),
        "size": len(document.raw),
    }
    if not image.family:
        platform = image.config.platform
        descriptor["platform"] = {
            "architecture": platform.architecture,
            "os": platform.os,
            **({"variant": platform.variant} if platform.variant else {}),
        }
    if image.reference is not None:
        name, tag = str(image.reference), image.reference.tag
        label = {REF_NAME: tag if tags[tag] == 1 else name} if tag else {}
        descriptor["annotations"] = {IMAGE_NAME: name, **label}
    return descriptor


def _manifest_json(images: Iterable[Image]) -> bytes:
    """List the images for `docker load`; of a whole index the one for the platform that was wanted."""
    return _compact([_loadable(image) for image in images])


def _loadable(image: Image) -> dict[str, object]:
    manifest, reference = _manifest(image), image.reference
    tags = [f"{reference.familiar}:{reference.tag}"] if reference and reference.tag else None
    layers = [blob_path(layer.digest) for layer in manifest.layers]
    return {"Config": blob_path(manifest.config.digest), "RepoTags": tags, "Layers": layers}


def _compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
