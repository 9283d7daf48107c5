"""Layers that several images of one run have in common: downloaded once, whoever needs them first.

Who needs a shared layer first downloads the whole of it into an unnamed temporary file, and the others wait for that:
a download that waited for its reader, which may wait for another layer, could make them wait for each other for ever.
The file goes when the last image that needs it is done, so the disk holds what is shared among the images under way
and to come, and nothing when the run is over, however it ends. Without room each image downloads for itself.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from ocirootfs.errors import DigestError, LocalError
from ocirootfs.replay import spare_room
from ocirootfs.spool import Kept, Spool

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ocirootfs.digest import Digest
    from ocirootfs.image import Image, Layer

log = logging.getLogger("ocirootfs.mirroring")

_IN_MEMORY = 1 << 17  # bytes of a layer that are not worth a file


class SharedLayers:
    """What `images` have in common; temporary files are made in `tmpdir`. Any thread may use it."""

    def __init__(self, images: Iterable[Image], tmpdir: str | None = None) -> None:
        uses = Counter(digest for image in images for digest in _digests(image))
        self._shared = {digest: _Shared(count, tmpdir) for digest, count in uses.items() if count > 1}

    def image(self, image: Image) -> Image:
        """Return the image with layers that are read from here if others have them too."""
        return replace(image, layers=tuple(map(self._layer, image.layers)))

    def release(self, image: Image) -> None:
        """Hear that an image needs its layers no more."""
        for digest in _digests(image) & set(self._shared):
            self._shared[digest].release()

    def _layer(self, layer: Layer) -> Layer:
        shared = self._shared.get(layer.digest) if layer.digest else None
        return replace(layer, source=lambda: shared.read(layer)) if shared else layer


def _digests(image: Image) -> set[Digest]:
    return {layer.digest for layer in image.layers if layer.digest}


class _Shared:
    """One layer: nothing of it, or all."""

    def __init__(self, users: int, tmpdir: str | None) -> None:
        self._lock = threading.Lock()
        self._spool = Spool(tmpdir, memory=_IN_MEMORY)
        self._tmpdir = tmpdir
        self._users = users
        self._is_whole = False
        self._has_room = True

    def read(self, layer: Layer) -> Iterator[bytes]:
        """Yield the stored bytes."""
        with self._lock:
            if not self._is_whole and self._has_room:
                self._fill(layer)
        if not self._is_whole:
            yield from layer.source()
            return
        pieces = self._spool.read(Kept(0, layer.size))
        while True:
            with self._lock:  # the file has one position for all its readers
                piece = next(pieces, None)
            if piece is None:
                return
            yield piece

    def release(self) -> None:
        """Count one image less, and give everything back with the last."""
        with self._lock:
            self._users -= 1
            if not self._users:
                self._is_whole = self._has_room = False
                self._spool.close()

    def _fill(self, layer: Layer) -> None:
        if layer.size > _IN_MEMORY and spare_room(self._tmpdir) < layer.size:
            self._give_up(layer, "there is too little room")
            return
        try:
            try:
                self._copy(layer)
            except DigestError as error:
                log.warning("%s; downloading it once more", error)
                self._copy(layer)
        except LocalError as error:
            self._spool.clear()
            self._give_up(layer, str(error))

    def _copy(self, layer: Layer) -> None:
        self._spool.clear()
        for chunk in layer.blob():
            self._spool.append(chunk)
        self._is_whole = True

    def _give_up(self, layer: Layer, why: str) -> None:
        self._has_room = False
        log.info("%s is downloaded for each image that has it: %s", layer.name, why)
