"""Calls made on other cores, whose results come in the order of the calls.

A small `concurrent.futures`, and apart from it for one reason: signals. Python raises what a signal's handler raises
between any two steps of the main thread, and so may leave a lock taken whose taking is several steps: that of a
`threading.Condition`, and with it of Semaphore, Event, queue.Queue and a Future. Whoever needs it next, to clean up,
waits for ever. What a SimpleQueue does is a single step.
"""

from __future__ import annotations

import threading
from collections import deque
from queue import SimpleQueue
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class _Failure:
    """What a call raised."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


_Call: TypeAlias = "tuple[Callable[[], T], SimpleQueue[T | _Failure]]"


class InOrder(Generic[T]):
    """Makes calls in up to `most` threads, which are started when there is something to do.

    Where no thread can be started, a call is made at once, in the caller's.
    """

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._threads: list[threading.Thread] = []
        self._calls: SimpleQueue[_Call[T] | None] = SimpleQueue()
        self._results: deque[SimpleQueue[T | _Failure]] = deque()
        self._stopped = False

    def __len__(self) -> int:
        """Return how many results have not been taken."""
        return len(self._results)

    def call(self, function: Callable[[], T]) -> None:
        """Have a call made."""
        if len(self._threads) < self._most:
            self._start()
        result: SimpleQueue[T | _Failure] = SimpleQueue()
        self._results.append(result)
        if self._threads:
            self._calls.put((function, result))
        else:
            result.put(_made(function))

    def result(self) -> T:
        """Take the result of the oldest call, waiting for it; what it raised is raised here."""
        result = self._results.popleft().get()
        if isinstance(result, _Failure):
            raise result.error
        return result

    def close(self) -> None:
        """End the threads; calls that are not begun are not made."""
        self._stopped = True
        for _ in self._threads:
            self._calls.put(None)
        for thread in self._threads:
            if thread.is_alive():  # unless a signal cut its start off
                thread.join()

    def _start(self) -> None:
        # A daemon, so that one that a signal cut off at its start holds up nothing.
        thread = threading.Thread(target=self._work, name=f"{self._name}_{len(self._threads)}", daemon=True)
        self._threads.append(thread)
        try:
            thread.start()
        except RuntimeError:  # the container's limit on processes
            self._threads.remove(thread)
            self._most = len(self._threads)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            function, result = call
            if not self._stopped:
                result.put(_made(function))


def _made(function: Callable[[], T]) -> T | _Failure:
    try:
        return function()
    except BaseException as error:  # noqa: BLE001  # raised again where the result is taken
        return _Failure(error)
