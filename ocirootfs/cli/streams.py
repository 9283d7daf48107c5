"""The standard streams, as they were handed over, and as one can rely on them."""

from __future__ import annotations

import contextlib
import os
import sys


def reserve() -> None:
    """Make sure that descriptors 0 to 2 are taken: the next file opened would get a closed one, and our messages.

    An archive that is written to a closed one is an error, as it would be without us; what is said there is not heard.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDONLY)  # the lowest free number, which is this one
    # Python has None where a stream was closed, and then prints to standard output what is meant for standard error.
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115, PTH123


def say(line: str) -> None:
    """Write one line to standard error, if there is anybody to read it."""
    if sys.stderr is not None:  # print() would take standard output instead
        with contextlib.suppress(OSError, ValueError):
            print(line, file=sys.stderr, flush=True)
