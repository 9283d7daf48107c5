"""Layers downloaded ahead of who reads them, one connection each, in the order in which they will be read.

Many registries limit each connection, so several at a time are faster than one; but layers are read in turn. What
arrives early waits in memory, at most 32 MiB of an image, and beyond that in an unnamed temporary file a layer, if
the disk has the room and is no memory after all. Without disk the downloads pause until the reader has caught up. So
neither order nor bytes depend on `jobs`, and with one job nothing is kept anywhere.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import threading
import time
from collections import deque
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from ocirootfs.errors import DigestError, LocalError
from ocirootfs.replay import spare_room
from ocirootfs.spool import Kept, Spool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ocirootfs.image import Image, Layer

log = logging.getLogger("ocirootfs.prefetch")

IN_MEMORY = 32 << 20
"""Bytes that wait in memory, all layers together."""
_FIRST = 1 << 20  # bytes that a layer may have waiting whatever the others have, so that its reader never starves
_LEAST = 1 << 16  # bytes that wait as one: a server may send them singly, and each object takes memory of its own
_JOIN = 2.0  # seconds

_Waiting: TypeAlias = "bytes | Kept"


@contextmanager
def prefetched(
    layers: Sequence[Layer], images: Sequence[Image], tmpdir: str | None = None
) -> Iterator[Callable[[Layer], Layer]]:
    """Give what turns a layer into the same layer, fetched ahead with up to the images' `jobs` at a time.

    `layers` are those of `images` in the order of reading; any other order works, and gains less. The first reading
    starts it all, and a second reading of a layer asks its source. A failure is raised where its layer is read. A layer
    that was whole before anybody read it, and has the wrong digest, is downloaded once more. When the context ends the
    downloads are stopped.
    """
    order = {layer.digest: layer for layer in layers if layer.digest}
    jobs = min(max((image.jobs for image in images), default=1), len(order))
    if jobs < 2:
        yield lambda layer: layer
        return
    queue = _Queue(list(order.values()), jobs, tmpdir)
    try:
        yield lambda layer: replace(layer, source=queue.source(layer))
    finally:
        queue.close([image.interrupt for image in images])


def prefetched_image(image: Image, ahead: Callable[[Layer], Layer]) -> Image:
    """Return the image with all its layers fetched ahead."""
    return replace(image, layers=tuple(map(ahead, image.layers)))


class _Ahead:
    """What of one layer has arrived and is not read yet. The queue's lock guards it."""

    def __init__(self, layer: Layer, spool: Spool) -> None:
        self.layer = layer
        self.spool = spool
        self.waiting: deque[_Waiting] = deque()
        self.size = 0  # bytes waiting
        self.held = 0  # of these in memory
        self.is_begun = self.is_read = self.is_done = self.is_dropped = False
        self.error: BaseException | None = None

    def clear(self) -> None:
        self.waiting.clear()
        self.spool.clear()
        self.size = self.held = 0


class _StoppedError(Exception):
    """Nobody wants this layer any more."""


def _gathered(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the same bytes, at least `_LEAST` at a time but for the last, and then what the source raised."""
    waiting: list[bytes] = []
    size = 0
    error: Exception | None = None
    try:
        for chunk in chunks:
            waiting.append(chunk)
            size += len(chunk)
            if size >= _LEAST:
                yield b"".join(waiting)
                waiting, size = [], 0
    except Exception as found:  # noqa: BLE001  # raised below
        error = found
    if waiting:
        yield b"".join(waiting)
    if error is not None:
        raise error


class _Queue:
    """Layers in the order of reading, and the threads that fill them."""

    def __init__(self, order: Sequence[Layer], jobs: int, tmpdir: str | None) -> None:
        self._changed = threading.Condition()
        self._ahead = {layer.digest: _Ahead(layer, Spool(tmpdir, memory=0)) for layer in order}
        self._disk = spare_room(tmpdir)  # bytes that may still go there
        self._stopped = False
        self._threads = [threading.Thread(target=self._work, name="prefetch", daemon=True) for _ in range(jobs)]
        self._started = False

    def source(self, layer: Layer) -> Callable[[], Iterator[bytes]]:
        """Return the layer's source: what was fetched ahead, the first time."""
        ahead = self._ahead.get(layer.digest)
        if ahead is None:
            return lambda: iter(layer.source())
        return lambda: self._read(ahead)

    def close(self, interrupts: Sequence[Callable[[], None]]) -> None:
        """End the downloads and give everything back."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        for interrupt in interrupts:
            interrupt()
        end = time.monotonic() + _JOIN
        for thread in self._threads:
            # One that is waiting for an answer ends by itself, when that comes or its timeout does.
            if thread.is_alive():
                thread.join(max(0.0, end - time.monotonic()))
        with self._changed:
            for ahead in self._ahead.values():
                ahead.is_dropped = True
                self._give_back(ahead)
                ahead.spool.close()

    # Reading

    def _read(self, ahead: _Ahead) -> Iterator[bytes]:
        if not self._claim(ahead):
            yield from ahead.layer.source()
            return
        try:
            while (chunk := self._next(ahead)) is not None:
                yield chunk
        finally:
            with self._changed:
                ahead.is_dropped = True
                self._give_back(ahead)

    def _claim(self, ahead: _Ahead) -> bool:
        """Take a layer for the one reading that there is; False if it is to be read from its source."""
        with self._changed:
            if not self._started:
                self._started = True
                if self._start():
                    self._changed.wait_for(lambda: ahead.is_begun, 1.0)  # its thread is about to take it
            taken, ahead.is_read = ahead.is_read or not ahead.is_begun, True
            ahead.is_begun = True
            self._changed.notify_all()
            return not taken

    def _start(self) -> bool:
        """Start the threads, as many as this machine allows; False if that is none."""
        try:
            for thread in self._threads:
                thread.start()
        except RuntimeError as error:
            log.debug("nothing more is fetched ahead: %s", error)
        return self._threads[0].is_alive()

    def _next(self, ahead: _Ahead) -> bytes | None:
        with self._changed:
            self._changed.wait_for(lambda: ahead.waiting or ahead.is_done or self._stopped)
            if not ahead.waiting:
                if ahead.error:
                    raise ahead.error
                return None
            found = ahead.waiting.popleft()
            chunk = found if isinstance(found, bytes) else b"".join(ahead.spool.read(found))
            ahead.size -= len(chunk)
            if found is chunk:
                ahead.held -= len(chunk)
            self._changed.notify_all()
            return chunk

    def _give_back(self, ahead: _Ahead) -> None:
        self._disk += ahead.spool.end
        ahead.clear()
        self._changed.notify_all()

    # Downloading

    def _work(self) -> None:
        while (ahead := self._begin()) is not None:
            try:
                self._download(ahead)
            except _StoppedError:
                pass
            except BaseException as error:  # noqa: BLE001  # it is the reader's
                ahead.error = error
            with self._changed:
                ahead.is_done = True
                self._changed.notify_all()

    def _begin(self) -> _Ahead | None:
        with self._changed:
            found = None if self._stopped else next((each for each in self._ahead.values() if not each.is_begun), None)
            if found:
                found.is_begun = True
                self._changed.notify_all()
            return found

    def _download(self, ahead: _Ahead) -> None:
        if not self._fill(ahead, is_last=False):
            log.warning("%s is not what its digest says; downloading it once more", ahead.layer.name)
            self._fill(ahead, is_last=True)

    def _fill(self, ahead: _Ahead, *, is_last: bool) -> bool:
        """Fetch a layer; False if it is wrong and nobody has seen anything of it, which is then forgotten."""
        digest = ahead.layer.digest
        if digest is None:
            raise ValueError("a layer without digest is not fetched ahead")
        hasher = hashlib.new(digest.algorithm)
        with contextlib.suppress(DigestError):  # a cache's; the digest below is another then, too
            for chunk in _gathered(ahead.layer.source()):
                hasher.update(chunk)
                self._put(ahead, chunk)
        with self._changed:
            if hasher.hexdigest() == digest.hex or ahead.is_read or is_last:
                return True  # whoever reads it proves it once more
            self._give_back(ahead)
            return False

    def _put(self, ahead: _Ahead, chunk: bytes) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._has_room(ahead, len(chunk)))
            if self._stopped or ahead.is_dropped:
                raise _StoppedError
            if self._fits(ahead, len(chunk)):
                ahead.waiting.append(chunk)
                ahead.held += len(chunk)
            elif (kept := self._to_disk(ahead, chunk)) is not None:
                ahead.waiting.append(kept)
            else:
                ahead.waiting.append(chunk)
                ahead.held += len(chunk)
            ahead.size += len(chunk)
            self._changed.notify_all()

    def _has_room(self, ahead: _Ahead, size: int) -> bool:
        return self._stopped or ahead.is_dropped or self._fits(ahead, size) or self._disk >= size

    def _fits(self, ahead: _Ahead, size: int) -> bool:
        """Whether memory has room: for all, or for the little that keeps a reader going."""
        total = sum(each.held for each in self._ahead.values())
        starving = ahead.is_read and (not ahead.waiting or ahead.size + size <= _FIRST)
        return starving or total + size <= IN_MEMORY

    def _to_disk(self, ahead: _Ahead, chunk: bytes) -> Kept | None:
        start = ahead.spool.end
        try:
            ahead.spool.append(chunk)
        except LocalError as error:
            log.debug("no more room to fetch ahead: %s", error)
            self._disk = 0
            return None
        self._disk -= len(chunk)
        return ahead.spool.since(start)
