"""Fetching: images in, one archive of them at its destination, or nothing there at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocirootfs.archive import writer
from ocirootfs.image import watched_layer
from ocirootfs.prefetch import prefetched

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocirootfs.destination import Destination, Stored
    from ocirootfs.image import Image, Layer, Progress


def fetch(
    images: Sequence[Image],
    destination: Destination,
    *,
    tmpdir: str | None = None,
    progress: Progress | None = None,
) -> Stored:
    """Write images with manifests as one archive (see `archive.writer`), layers as they are stored and topmost first.

    Layers are downloaded ahead as the images' `jobs` say (see `prefetch`, which may make temporary files in `tmpdir`);
    with one job one chunk is held at a time and no disk is needed. `progress` hears of each chunk. The archive ends
    properly only if every blob was what its digest says; on any exception, KeyboardInterrupt included, the destination
    is aborted and the exception goes on.
    """
    try:
        layers = writer.blobs(images)
        with prefetched(layers, images, tmpdir) as ahead:
            writer.write(images, [_watched(ahead(layer), progress) for layer in layers], destination.write)
        return destination.commit()
    except BaseException:
        destination.abort()
        raise


def _watched(layer: Layer, progress: Progress | None) -> Layer:
    return watched_layer(layer, progress) if progress else layer
