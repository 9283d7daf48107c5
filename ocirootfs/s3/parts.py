"""A stream cut into parts that are sent side by side, in bounded memory. Knows nothing of S3 but its limits.

    write() ──copy──> the buffer being filled ──full──> queue ──> `jobs` threads, each calling send(number, body)
                            ^                                                    │
                            └──────────── `jobs + 1` buffers in all <────────────┘

The writer waits for a free buffer, which is the back pressure. A part that fails surfaces at the next `write` or at
`finish`. Whoever waits here waits on a queue or on the end of a thread, never on the network, so that a signal's
exception gets through at once; the threads are daemons, so that one which hangs in the network cannot hold up the
end of the process (a ThreadPoolExecutor's would: it joins them at exit).
"""

from __future__ import annotations

import hashlib
import io
import threading
from contextlib import contextmanager
from queue import SimpleQueue
from typing import TYPE_CHECKING, Generic, TypeVar

from ocirootfs.errors import DestinationError, LocalError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Amazon S3 User Guide, "Amazon S3 multipart upload limits".
MAX_PARTS = 10_000
MIN_PART_SIZE = 5 * 1024**2
MAX_PART_SIZE = 5 * 1024**3

_PARTS_PER_SIZE = 900

T = TypeVar("T")


def part_size(number: int, base: int) -> int:
    """Return the size in bytes of part `number`, counted from 1, of a stream whose length nobody knows.

    The size doubles every 900 parts: even from 5 MiB, 10,000 parts hold more than 8 TiB, while the first 7 GiB at
    the default of 8 MiB, which is almost every image, stay with the small size and its small buffers.
    """
    return min(base << (number - 1) // _PARTS_PER_SIZE, MAX_PART_SIZE)


class PartCancelledError(BaseException):
    """The upload was given up while this part was being sent.

    Like asyncio's CancelledError it is no Exception: botocore takes every Exception for a broken connection and
    sends the part again.
    """


class PartBody:
    """The bytes of one part, as a file to read from, again if need be, until its upload is given up.

    `read` returns views of the part's buffer, not copies.
    """

    def __init__(self, view: memoryview, cancelled: threading.Event) -> None:
        self._view = view
        self._cancelled = cancelled
        self._position = 0

    def __len__(self) -> int:
        return len(self._view)

    def read(self, size: int | None = -1) -> memoryview:
        """Return the next `size` bytes, all that is left if negative; empty at the end."""
        self.require_wanted()
        start = self._position
        end = len(self._view) if size is None or size < 0 else min(start + size, len(self._view))
        self._position = max(start, end)
        return self._view[start:end]

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move as a file's seek does."""
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: len(self._view)}[whence]
        self._position = max(0, origin + offset)
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def require_wanted(self) -> None:
        """Raise PartCancelledError if the upload was given up."""
        if self._cancelled.is_set():
            raise PartCancelledError

    def md5(self) -> bytes:
        """Hash the whole part: S3's ETag is an MD5."""
        return hashlib.md5(self._view, usedforsecurity=False).digest()


class Parts(Generic[T]):
    """Cut what is written into parts and have `send` called for each, on up to `jobs` threads.

    `send(number, body)` returns what is to be remembered of the part; it gets a body that raises
    PartCancelledError after `cancel`. Not for use by several writers.
    """

    def __init__(self, send: Callable[[int, PartBody], T], *, base: int, jobs: int) -> None:
        self._send = send
        self._base = base
        self._jobs = jobs
        self._free: SimpleQueue[memoryview] = SimpleQueue()
        for _ in range(jobs + 1):
            self._free.put(memoryview(bytearray()))
        self._full: SimpleQueue[tuple[int, memoryview, int] | None] = SimpleQueue()
        self._buffer = memoryview(bytearray())
        self._filled = 0
        self._sent: dict[int, T] = {}
        self._number = 1
        self._threads: list[threading.Thread] = []
        self._cancelled = threading.Event()
        self._change = threading.Condition()
        self._sending = 0
        self._failure: BaseException | None = None

    @property
    def started(self) -> bool:
        """Whether a part was full and is on its way."""
        return self._number > 1

    def rest(self) -> PartBody:
        """Return what no part has taken yet: everything, as long as none was full."""
        return PartBody(self._buffer[: self._filled], self._cancelled)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append `data`, waiting for a free buffer if need be; raises what a part failed with."""
        data = memoryview(data).cast("B")
        while data:
            if not self._buffer:
                self._buffer = self._next_buffer()
            taken = data[: len(self._buffer) - self._filled]
            self._buffer[self._filled : self._filled + len(taken)] = taken
            self._filled += len(taken)
            data = data[len(taken) :]
            if self._filled == len(self._buffer):
                self._dispatch()

    def finish(self) -> list[T]:
        """Send what is left and wait for all; returns what `send` returned, in the order of the parts."""
        if self._filled:
            self._dispatch()
        self._stop()
        for thread in self._threads:
            thread.join()
        self._raise_failure()
        return [self._sent[number] for number in range(1, self._number)]

    def cancel(self, seconds: float) -> bool:
        """Send nothing more; wait at most `seconds` for the parts under way, return whether all have ended."""
        # Counts what is being sent, not threads: a signal's exception may leave `Thread.start` when the thread runs.
        with self._change:
            self._cancelled.set()
            self._stop()
            return self._change.wait_for(lambda: not self._sending, max(0.0, seconds))

    def _next_buffer(self) -> memoryview:
        buffer = self._free.get()
        self._raise_failure()
        size = part_size(self._number, self._base)
        if len(buffer) < size:  # the first use, or the parts grew; untouched pages of a new one cost nothing
            buffer = memoryview(bytearray(size))
        return buffer

    def _dispatch(self) -> None:
        self._raise_failure()
        if self._number > MAX_PARTS:
            raise DestinationError(f"the archive needs more than the {MAX_PARTS} parts that S3 allows")
        self._full.put((self._number, self._buffer, self._filled))
        self._number += 1
        self._buffer, self._filled = memoryview(bytearray()), 0
        if len(self._threads) < self._jobs:
            self._start_thread()

    def _start_thread(self) -> None:
        thread = threading.Thread(target=self._work, name="ocirootfs-part", daemon=True)
        self._threads.append(thread)
        try:
            thread.start()
        except RuntimeError as error:  # the container's limit on processes
            self._threads.remove(thread)
            if not self._threads:
                raise LocalError(f"cannot start a thread to upload with: {error}") from error

    def _stop(self) -> None:
        for _ in self._threads:
            self._full.put(None)

    def _work(self) -> None:
        while job := self._full.get():
            number, buffer, filled = job
            try:
                with self._under_way():
                    self._sent[number] = self._send(number, PartBody(buffer[:filled], self._cancelled))
            except PartCancelledError:
                pass
            except BaseException as error:  # noqa: BLE001  raised again in the writer
                self._failure = self._failure or error
                self._cancelled.set()
            finally:
                self._free.put(buffer)

    @contextmanager
    def _under_way(self) -> Iterator[None]:
        with self._change:
            if self._cancelled.is_set():
                raise PartCancelledError
            self._sending += 1
        try:
            yield
        finally:
            with self._change:
                self._sending -= 1
                self._change.notify_all()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure
