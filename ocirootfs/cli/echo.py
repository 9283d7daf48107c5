"""A signal that nobody noticed is sent again.

Python runs a signal's handler in the main thread, between two steps of that, or when the signal interrupts a system
call that waits (PEP 475). One that comes after the last step and before the call does neither, and then the call waits
on: for a server that says nothing, until its timeout. But the interpreter writes the number of each signal to a
descriptor at once (`signal.set_wakeup_fd`), whatever its threads are doing. A thread reads it there, and sends the
signal to the main thread again, until its handler has run.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_AFTER = 0.2  # seconds


class Echo:
    """Repeats those of the `signals` that are not heard."""

    def __init__(self, signals: Collection[int]) -> None:
        self._signals = signals
        self._heard = False
        self._sent = False
        self._over = False

    def hear(self) -> None:
        """Note that a handler runs, as the first thing that it does; after that nothing is repeated."""
        self._heard, self._sent = True, False

    def is_own(self) -> bool:
        """Tell, once, whether a signal that comes after one was heard is that one's echo."""
        sent, self._sent = self._sent, False
        return sent

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listen for as long as the context lasts; in the main thread. Where no thread can be started, nobody does."""
        reading, writing = os.pipe()
        os.set_blocking(writing, False)  # set_wakeup_fd wants it so
        if not self._start(reading):
            os.close(reading)
            os.close(writing)
            yield
            return
        before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        try:
            yield
        finally:
            self._over = True
            signal.set_wakeup_fd(before)
            os.close(writing)  # which ends the thread, and that closes the other end

    def _start(self, reading: int) -> bool:
        """Start the thread; False if this machine allows none."""
        try:
            threading.Thread(target=self._repeat, args=(reading,), name="echo", daemon=True).start()
        except RuntimeError:  # the container's limit on processes
            return False
        return True

    def _repeat(self, reading: int) -> None:
        main = threading.main_thread().ident
        with os.fdopen(reading, "rb", buffering=0) as numbers:
            while number := numbers.read(1):
                while main and number[0] in self._signals and self._is_due():
                    time.sleep(_AFTER)
                    if self._is_due():
                        self._sent = True
                        signal.pthread_kill(main, number[0])

    def _is_due(self) -> bool:
        return not (self._heard or self._over)
