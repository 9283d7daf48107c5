"""Everything that an index lists: its images, the indexes within it, and what is no image, such as attestations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocirootfs.errors import ArtifactError, InputError
from ocirootfs.image import Family, Image, Layer
from ocirootfs.limits import USUAL, Limits, raising
from ocirootfs.manifest import Index, Manifest, is_image, parse_manifest, parts
from ocirootfs.platform import Platform, rank

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ocirootfs.digest import Descriptor, Digest


class Gatherer:
    """Gathers with three functions: of a manifest the bytes, the type and the name; an image; a blob's stored bytes."""

    def __init__(
        self,
        document: Callable[[Descriptor], tuple[bytes, str | None, str]],
        image: Callable[[Manifest], Image],
        blob: Callable[[Descriptor], Iterator[bytes]],
        limits: Limits = USUAL,
    ) -> None:
        self._document, self._image, self._blob = document, image, blob
        self._limits = limits
        self._images: dict[Digest, Image] = {}
        self._documents: dict[Digest, bytes] = {}
        self._others: dict[Digest, Descriptor] = {}

    def gather(self, index: Index, what: str) -> Family:
        """Fetch all manifests and configs; the layers and other blobs when they are read. InputError if no image."""
        self._walk(index, what, self._limits.index_depth)
        if not self._images:
            raise InputError(f"{what}: the index lists no image")
        others = tuple(self._other(number, part) for number, part in enumerate(self._others.values(), 1))
        return Family(index, tuple(self._images.values()), tuple(self._documents.items()), others)

    def _walk(self, index: Index, what: str, depth: int) -> None:
        for entry in index.manifests:
            raw, media_type, name = self._document(entry)
            found = self._parsed(raw, media_type, name) if is_image(entry) else None
            if found is None:
                self._documents[entry.digest] = raw
                self._others |= {part.digest: part for part in parts(raw, name, self._limits)}
            elif isinstance(found, Manifest):
                self._images[entry.digest] = self._image(found)
            elif depth == 0:
                text = f"{what}: indexes within indexes, more than {self._limits.index_depth} deep"
                raise InputError(text, hint=raising("index_depth"))
            else:
                self._documents[entry.digest] = raw
                self._walk(found, what, depth - 1)

    def _parsed(self, raw: bytes, media_type: str | None, name: str) -> Manifest | Index | None:
        """Read what looks like an image or an index; None for what turns out to be an artifact."""
        try:
            return parse_manifest(raw, media_type, name, self._limits)
        except ArtifactError:
            return None

    def _other(self, number: int, part: Descriptor) -> Layer:
        return Layer(number, part.digest, part.size, part.digest, part.media_type, lambda: self._blob(part))


def best(family: Family, wanted: Platform) -> Image:
    """Return the image that serves a platform best; the first one if none does."""
    ranked = [(rank(wanted, image.config.platform), image) for image in family.images]
    serving = [(score, image) for score, image in ranked if score is not None]
    return min(serving, key=lambda pair: pair[0])[1] if serving else family.images[0]
