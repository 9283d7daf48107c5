"""An image: its configuration and its layers, wherever they come from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

from ocirootfs.aside import aside
from ocirootfs.compression import decompressed
from ocirootfs.digest import Descriptor, Digest, verified
from ocirootfs.errors import InputError
from ocirootfs.limits import USUAL, Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ocirootfs.manifest import Config, Index, Manifest
    from ocirootfs.reference import Reference

_SMALL = 1 << 18  # bytes of a stored layer that are not worth a thread

Again: TypeAlias = Literal["free", "costly", "never"]
Progress: TypeAlias = "Callable[[Layer, int], None]"
"""Hears of each chunk of a layer's stored bytes as it is read: the layer, and how many bytes."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of an image: how it is stored, and what it must decompress to.

    `number` counts from 1, the bottom. `size` is that of the blob as stored, in bytes, and `digest` its digest: None
    where only the diff ID is known (archives of `docker save` before 25). `source` gives the stored bytes; each call
    starts again at byte 0. `window` is the memory in bytes that decompressing may take (`Limits.window`). Source: OCI
    image-spec, layer.md and descriptor.md.

    >>> with ocirootfs.open("oci:tests/fixtures/zones") as image:
    ...     for layer in image.layers:
    ...         print(layer.name, layer.media_type.rpartition(".")[2], sum(map(len, layer.open())))
    layer 1 (sha256:8aa1143689ca) tar+gzip 44032
    layer 2 (sha256:8820c9754803) tar+zstd 8704
    layer 3 (sha256:5fcca407f1f1) tar 5120
    """

    number: int
    diff_id: Digest
    size: int
    digest: Digest | None
    media_type: str
    source: Callable[[], Iterable[bytes]]
    window: int = USUAL.window

    @property
    def name(self) -> str:
        """What errors call it."""
        digest = self.digest or self.diff_id
        return f"layer {self.number} ({digest.algorithm}:{digest.hex[:12]})"

    def blob(self) -> Iterator[bytes]:
        """Yield the stored bytes, proved at their end to be those of size and digest (see `digest.verified`)."""
        return self._proved(self.source())

    def open(self) -> Iterator[bytes]:
        """Yield the layer's tar stream, proved at its end to be that of the diff ID.

        Each call gives the same bytes again. Raises DigestError, TruncatedError or InputError, at the latest when the
        stream ends: nothing that was made of it may be published before.
        """
        if self.size < _SMALL:
            return self._plain(iter(self.source()))
        return aside(self.source(), self._plain)

    def _plain(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """Prove and decompress the stored bytes."""
        stored = self._proved(chunks)
        plain = decompressed(stored, self.name, self.window)
        if self.digest != self.diff_id:  # else it is stored as it is, and one hash proves both
            plain = verified(plain, self.diff_id, None, f"{self.name}, decompressed")
        try:
            yield from plain
        except InputError:
            for _ in stored:  # what cannot be decompressed may not be what was promised, which is the better message
                pass
            raise

    def _proved(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        if self.digest is None:
            return iter(chunks)
        return verified(chunks, self.digest, self.size, self.name)


@dataclass(frozen=True, slots=True)
class Image:
    """What a registry, an OCI layout or an archive holds under one name for one platform.

    `layers` run from the bottom to the top. `manifest` and `reference` are None where the source has none. It is good
    for as long as the context of `open` lasts. Sources: OCI image-spec, manifest.md and config.md.

    >>> with ocirootfs.open("oci:tests/fixtures/zones") as image:
    ...     print(image.digest, image.config.user, len(image.layers))
    sha256:c4d58ddd1bc3e2a1bc1595ee163b0e0e6ed3c6944a366d9d5ac3c50f4a1d5156 zones 3
    """

    config: Config
    layers: tuple[Layer, ...]
    manifest: Manifest | None = None
    reference: Reference | None = None
    finish: Callable[[], None] = lambda: None
    """To be called after the last layer was read and before anything is published: proves that its source was whole."""
    again: Again = "free"
    """What it takes to read a layer a second time: nothing, another download, or it cannot be."""
    jobs: int = 1
    """How many layers may be read at a time, which is of use where reading is downloading."""
    interrupt: Callable[[], None] = lambda: None
    """Ends, from any thread, the reading of layers under way, with an error; none can be read afterwards."""
    index: Index | None = None
    """The index that the image was chosen from, if there was one."""
    family: Family | None = None
    """The whole index that the image was chosen from, if that was asked for."""
    limits: Limits = USUAL
    """What bounds the reading of its layers."""

    @property
    def digest(self) -> Digest | None:
        """The manifest's digest, which is what `name@sha256:…` pins."""
        return self.manifest.digest if self.manifest else None


@dataclass(frozen=True, slots=True)
class Family:
    """An index with everything that it lists: the images, and what else it has, such as attestations.

    `documents` are the manifests of the latter and nested indexes, by digest; `others` their blobs.
    """

    index: Index
    images: tuple[Image, ...]
    documents: tuple[tuple[Digest, bytes], ...] = ()
    others: tuple[Layer, ...] = ()


def assemble(
    manifest: Manifest,
    config: Config,
    blob: Callable[[Descriptor], Iterable[bytes]],
    reference: Reference | None,
    limits: Limits = USUAL,
) -> Image:
    """Make an image of a manifest and its config; `blob` gives the stored bytes of a descriptor, from byte 0 a call.

    Raises InputError when the two do not have the same number of layers (image-spec, config.md: diff_ids are "in
    order from first to last", one for each layer). `history` plays no part.
    """
    if len(manifest.layers) != len(config.diff_ids):
        raise InputError(
            f"the manifest lists {len(manifest.layers)} layers, but the config {len(config.diff_ids)} diff IDs"
        )
    pairs = enumerate(zip(manifest.layers, config.diff_ids, strict=True), 1)
    layers = tuple(
        Layer(number, diff_id, found.size, found.digest, found.media_type, _source(blob, found), limits.window)
        for number, (found, diff_id) in pairs
    )
    return Image(config, layers, manifest, reference, limits=limits)


def _source(blob: Callable[[Descriptor], Iterable[bytes]], descriptor: Descriptor) -> Callable[[], Iterable[bytes]]:
    if descriptor.data is not None:
        data = descriptor.data
        return lambda: (data,)
    return lambda: blob(descriptor)


def watched(image: Image, progress: Progress) -> Image:
    """Return the image with layers that tell `progress` what is read of them."""
    return replace(image, layers=tuple(watched_layer(layer, progress) for layer in image.layers))


def watched_layer(layer: Layer, progress: Progress) -> Layer:
    """Return the layer with a source that tells `progress` what is read of it."""

    def source() -> Iterator[bytes]:
        for chunk in layer.source():
            progress(layer, len(chunk))
            yield chunk

    return replace(layer, source=source)
