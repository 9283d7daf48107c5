"""Fetching: an image in, the archive of it at its destination, or nothing there at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocirootfs.archive import writer
from ocirootfs.image import watched

if TYPE_CHECKING:
    from ocirootfs.destination import Destination, Stored
    from ocirootfs.image import Image, Progress


def fetch(image: Image, destination: Destination, *, progress: Progress | None = None) -> Stored:
    """Write an image with a manifest as an archive (see `archive.writer`), layers as they are stored and topmost first.

    Holds one chunk of a layer at a time and needs no disk. `progress` hears of each of them. The archive ends properly
    only if every blob was what its digest says; on any exception, KeyboardInterrupt included, the destination is
    aborted and the exception goes on.
    """
    try:
        writer.write(watched(image, progress) if progress else image, destination.write)
        return destination.commit()
    except BaseException:
        destination.abort()
        raise
