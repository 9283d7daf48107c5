"""Ending the downloads that other threads are at."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ocirootfs.errors import TemporaryError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ocirootfs.registry.transport import Answer


class Interrupt:
    """A switch that downloads look at, and that wakes those which are waiting for bytes. It cannot be undone."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reading: list[Answer] = []
        self._stopped = False

    def stop(self) -> None:
        """End the downloads under way, and refuse new ones: both with an error in their own thread."""
        with self._lock:
            self._stopped = True
            for answer in self._reading:
                answer.wake()

    def check(self) -> None:
        """Raise TemporaryError once stopped."""
        if self._stopped:
            raise TemporaryError("the download was stopped")

    @contextmanager
    def watching(self, answer: Answer) -> Iterator[Answer]:
        """Wake who reads this answer, while the context lasts, when `stop` is called."""
        with self._lock:
            self.check()
            self._reading.append(answer)
        try:
            yield answer
        finally:
            with self._lock:
                self._reading = [other for other in self._reading if other is not answer]
