"""Work on a stream in a thread of its own, while the caller works on what comes out of it.

The theory of operation. Inflating and hashing release the interpreter lock, so another core can do them while this one
reads tar headers. Only they move: the stream itself is read by the caller, in whose thread signals arrive, connections
break and progress is told, and who alone may wait for somebody else. The thread never waits but for the caller, so it
can be stopped, and waited for, at any time.

    caller ──reads the source──> inbox ──> work, in the thread ──> outbox ──> the caller again

Both are bounded, in chunks and pieces. What the source raises goes through `inbox`, and so comes out of the work at the
place where it would have without a thread: what was read before it still comes first.
"""

from __future__ import annotations

import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

Work: TypeAlias = "Callable[[Iterator[bytes]], Iterator[bytes]]"

_CHUNKS = 3  # read and not yet worked on: of a file, half a mebibyte each
_PIECES = 3  # worked on and not yet taken: a mebibyte each


class _StoppedError(BaseException):
    """The caller wants no more: raised inside the work, to end it."""


class _End:
    """The end of a stream, and what it ended with, if that was an error."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


_TAKEN = object()  # in the outbox: the work has taken a chunk


def aside(source: Iterable[bytes], work: Work) -> Iterator[bytes]:
    """Yield what `work` makes of `source`, in order; the work is done in a thread, the source read in the caller's.

    Errors of both are raised where they would be by `work(iter(source))`, which is what happens where no thread can be
    started. The thread has ended when the iterator has, however that was.
    """
    thread = _Thread(work)
    if not thread.start():
        yield from work(iter(source))
        return
    try:
        yield from thread.pieces(iter(source))
    finally:
        thread.stop()


class _Thread:
    def __init__(self, work: Work) -> None:
        self._work = work
        self._inbox: SimpleQueue[bytes | _End] = SimpleQueue()
        self._outbox: SimpleQueue[bytes | _End | object] = SimpleQueue()
        # Tokens, one a piece that may be made. No Semaphore: a signal's exception may leave its lock taken (`inorder`).
        self._room: SimpleQueue[None] = SimpleQueue()
        for _ in range(_PIECES):
            self._room.put(None)
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="inflate", daemon=True)

    def start(self) -> bool:
        """Tell whether there is a thread: a container may allow no more."""
        try:
            self._thread.start()
        except RuntimeError:
            return False
        return True

    def stop(self) -> None:
        """End the work, wherever it is."""
        self._stopped = True
        self._inbox.put(_End(_StoppedError()))
        self._room.put(None)
        self._thread.join()

    def pieces(self, source: Iterator[bytes]) -> Iterator[bytes]:
        """Feed the thread, and yield what it makes of that; in the caller's thread."""
        feeding, waiting = True, 0
        while True:
            while feeding and waiting < _CHUNKS:
                item = _next(source)
                feeding = not isinstance(item, _End)
                self._inbox.put(item)
                waiting += 1
            made = self._outbox.get()
            if made is _TAKEN:
                waiting -= 1
            elif isinstance(made, bytes):
                self._room.put(None)
                yield made
            elif isinstance(made, _End):
                if made.error is not None:
                    raise made.error
                return

    def _run(self) -> None:
        end = _End()
        try:
            for piece in self._work(self._chunks()):
                self._room.get()
                if self._stopped:
                    return
                self._outbox.put(piece)
        except BaseException as error:  # noqa: BLE001  # raised again in the caller
            end = _End(error)
        self._outbox.put(end)

    def _chunks(self) -> Iterator[bytes]:
        while True:
            item = self._inbox.get()
            self._outbox.put(_TAKEN)
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            yield item


def _next(source: Iterator[bytes]) -> bytes | _End:
    """Read one more chunk, or how the source ended; what is no Exception, a signal's say, is the caller's at once."""
    try:
        return next(source)
    except StopIteration:
        return _End()
    except Exception as error:  # noqa: BLE001  # whatever it is, it comes out of the work again
        return _End(error)
