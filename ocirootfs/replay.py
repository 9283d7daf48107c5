"""Layers that can be read again although their source cannot, or only at a price.

An image is read once, unless one of its layers gives a name twice (see `flattening`) or the destination cannot take
back what was written. For those cases what a layer's source yields is kept aside while it passes, within reason: if
there is no room, the source is asked again, and says so if that cannot be.
"""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from typing import TYPE_CHECKING

from ocirootfs.errors import LocalError
from ocirootfs.spool import Kept

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ocirootfs.image import Image
    from ocirootfs.spool import Spool

log = logging.getLogger("ocirootfs.replay")

IN_MEMORY = 16 << 20
"""Bytes of compressed layers that are kept without asking for disk."""


def replayable(image: Image, spool: Spool, directory: str | None, *, readings: int | None = None) -> Image:
    """Return the image with layers that keep their bytes in `spool` when first read, if that is affordable.

    A layer's room is given back after so many complete `readings`, if the spool ends with it.
    """
    if not _affordable(sum(layer.size for layer in image.layers), directory):
        return image
    layers = [replace(layer, source=_Replay(layer.source, spool, readings)) for layer in image.layers]
    return replace(image, layers=tuple(layers))


def _affordable(size: int, directory: str | None) -> bool:
    """Tell whether `size` bytes may lie around: few, or on a disk with twice the room and not in memory after all."""
    return size <= IN_MEMORY or spare_room(directory) >= size


def spare_room(directory: str | None) -> int:
    """Return how many bytes may lie in temporary files: half of what is free, and none where that is memory."""
    import shutil  # noqa: PLC0415  # what stays in memory does without
    import tempfile  # noqa: PLC0415

    try:
        where = directory or tempfile.gettempdir()
        return 0 if _is_memory(where) else shutil.disk_usage(where).free // 2
    except OSError:
        return 0


def _is_memory(directory: str) -> bool:
    """Tell whether a directory's file system is a tmpfs (proc(5), mountinfo): its files count as memory used."""
    device = os.stat(directory).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except OSError:
        return False
    found = (line.partition(" - ") for line in lines if line.split(" ", 3)[2] == number)
    return any(rest.split(" ", 1)[0] in ("tmpfs", "ramfs") for _, _, rest in found)


class _Replay:
    """A layer's source: what it yields the first time is kept, and comes from there from then on."""

    def __init__(self, source: Callable[[], Iterable[bytes]], spool: Spool, readings: int | None) -> None:
        self._source = source
        self._spool = spool
        self._left = readings
        self._first: _Keeping | None = None

    def __call__(self) -> Iterator[bytes]:
        if self._first is None:
            self._first = _Keeping(self._source(), self._spool)
            yield from self._first
        elif (kept := self._first.whole()) is not None:
            yield from self._spool.read(kept)
        else:
            yield from self._source()
        self._count()

    def _count(self) -> None:
        """Give the room back after the last reading."""
        if self._left is None or self._first is None:
            return
        self._left -= 1
        kept = self._first.whole()
        if not self._left and kept is not None:
            self._spool.release(kept)
            self._first = None


class _Keeping:
    """The first reading. It may be given up half way; then the rest is fetched when it is needed after all."""

    def __init__(self, chunks: Iterable[bytes], spool: Spool) -> None:
        self._chunks = iter(chunks)
        self._spool = spool
        self._start = self._end = spool.end
        self._room = True
        self._kept: Kept | None = None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        chunk = next(self._chunks, None)
        if chunk is None:
            if self._room and self._kept is None:
                self._kept = Kept(self._start, self._end - self._start)
            raise StopIteration
        if self._room and self._spool.end != self._end:
            self._room = False  # another layer is being read at the same time, and a run must be of one piece
        if self._room:
            try:
                self._spool.append(chunk)
                self._end = self._spool.end
            except LocalError as error:
                log.debug("a layer is not kept: %s", error)
                self._room = False
        return chunk

    def whole(self) -> Kept | None:
        """Return what was kept of the layer, all of it; None if there was no room."""
        for _ in self:
            pass
        return self._kept
