"""The standard streams, as they were handed over, and as one can rely on them."""

from __future__ import annotations

import contextlib
import errno
import io
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
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        # What is printed is data: the same whatever the locale, and the bytes of a name that was given on the way in.
        sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")


def say(line: str) -> None:
    """Write one line to standard error, if there is anybody to read it."""
    if sys.stderr is not None:  # print() would take standard output instead
        with contextlib.suppress(OSError, ValueError):
            print(line, file=sys.stderr, flush=True)


def flush() -> None:
    """Write what standard output holds; that it was closed from the beginning says that nobody wants it."""
    try:
        sys.stdout.flush()
    except OSError as error:
        discard()
        if error.errno != errno.EBADF:
            raise


def discard() -> None:
    """Let go of what could not be written, of which Python would complain once more at its exit."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def printed(text: str) -> int:
    """Print to standard output, and return the exit status that says how that went."""
    try:
        sys.stdout.write(text)
        flush()
    except BrokenPipeError:  # whoever read our output has left, which is no news to anybody
        import signal  # noqa: PLC0415  # --help and --version do without

        discard()
        return 128 + signal.SIGPIPE
    except OSError as error:
        discard()
        if error.errno != errno.EBADF:  # see flush(); where Python does not buffer, writing is refused already
            say(f"ocirootfs: error: cannot write standard output: {error.strerror}")
            return 8
    return 0
