"""What a person and a CI log see: messages on standard error, exit statuses, signals."""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import signal
import sys
import threading
import warnings
from typing import TYPE_CHECKING

from ocirootfs.cli import streams
from ocirootfs.cli.echo import Echo
from ocirootfs.cli.messages import NOTICE, Console
from ocirootfs.errors import LocalError, OcirootfsError, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ocirootfs.cli.messages import Format

_LOG = logging.getLogger("ocirootfs.cli")
# Bytes of each thread's stack, all of which a limit on memory counts. The usual 8 MiB leave a small container none, and
# Python waits for ever for a thread that finds no memory to begin with.
_STACK = 1 << 20
# All that people and systems send to end a program that can still clean up; SIGXCPU comes with a limit on its time.
_SIGNALS = (
    signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGALRM, signal.SIGUSR1, signal.SIGUSR2,
    signal.SIGXCPU,
)  # fmt: skip


class Interrupted(BaseException):
    """A signal asked us to stop. Not an Exception, so that only what cleans up catches it.

    `left` says what there is of what was asked for.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number
        self.left = "nothing was published"


def run(command: Callable[[], None], *, quiet: bool, verbose: int, debug: bool, log_format: Format = "text") -> int:
    """Run a command and return the exit status that says how it ended."""
    threading.stack_size(_STACK)
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr.reconfigure(errors="backslashreplace")  # a C locale must not turn a message into a traceback
    _log_to_stderr(log_format, quiet=quiet, verbose=verbose, debug=debug)
    try:
        with _signals_raise():
            command()
            _flush()
    except OcirootfsError as error:
        return _failed(error, str(error), error.hint, error.exit_code, debug=debug)
    except BrokenPipeError:  # whoever read our output has left, which is no news to anybody
        streams.discard()
        return 128 + signal.SIGPIPE
    except Interrupted as error:
        status = 128 + error.number
        text = f"{signal.Signals(error.number).name}: stopped, and {error.left}"
        _LOG.error("%s", text, extra={"is_plain": True, "status": status})
        return status
    except OSError as error:
        return _failed(error, _unforeseen(error), None, 8, debug=debug)
    except Exception as error:  # noqa: BLE001  # the last resort: a bug, reported as one
        if shortage := _shortage(error):
            return _failed(error, shortage, None, 8, debug=debug)
        text = f"internal error: {type(error).__name__}: {error}"
        return _failed(error, text, "this is a bug; --debug shows where", 1, debug=debug)
    return 0


def _flush() -> None:
    """Have what was printed written, to a reader who may keep us waiting."""
    try:
        streams.flush()
    except Interrupted as stop:
        stop.left = "what was asked for is done"
        raise
    except BrokenPipeError:
        raise
    except OSError as error:
        raise LocalError(f"cannot write standard output: {error.strerror}") from error


def _unforeseen(error: OSError) -> str:
    """Say what the system refuses. All files of ours say where; what has no room and no name is standard output."""
    where = "cannot write standard output: " if error.errno == errno.ENOSPC and error.filename is None else ""
    return f"{where}{error.strerror or error}"


def _shortage(error: Exception) -> str | None:
    """Say what this machine has too little of, if that is what the interpreter complains of."""
    if isinstance(error, MemoryError):
        return "this machine, or a limit on this process, leaves too little memory"
    if isinstance(error, RuntimeError) and "start new thread" in str(error):
        return "this machine, or a limit on this user, lets no more threads start"
    return None


def escaped(text: str | bytes) -> str:
    """Return untrusted text fit for a terminal, all of it."""
    return printable(text, 6 * len(text) + 1)  # an escape has at most six characters


def warn(text: str) -> None:
    """Warn, unless --quiet."""
    _LOG.warning("%s", text)


def info(text: str) -> None:
    """Tell, with --verbose."""
    _LOG.info("%s", text)


def fail(text: str, hint: str | None, status: int) -> None:
    """Say that one of several things failed, and how it would have ended a command of its own."""
    _LOG.error("%s", text, extra={"hint": hint, "status": status})


def tell(text: str) -> None:
    """Tell, unless --quiet."""
    _LOG.log(NOTICE, "%s", text)


def tell_block(text: str) -> None:
    """Tell something of several lines that is there to be copied, unless --quiet."""
    _LOG.log(NOTICE, "%s", text, extra={"is_block": True})


def _failed(error: BaseException, text: str, hint: str | None, status: int, *, debug: bool) -> int:
    _LOG.error("%s", text, extra={"hint": hint, "status": status}, exc_info=error if debug else None)
    try:
        sys.stdout.flush()
    except OSError:
        streams.discard()
    return status


@contextlib.contextmanager
def _signals_raise() -> Iterator[None]:
    """Turn the signals that end a CI job into an exception, once: clean-up is not to be cut short by a second one."""
    echo = Echo(_SIGNALS)

    def stop(number: int, _frame: object) -> None:
        echo.hear()
        sys.unraisablehook = _cut_off
        for each in _SIGNALS:
            signal.signal(each, insist)
        raise Interrupted(number)

    def insist(number: int, _frame: object) -> None:
        if not echo.is_own():
            _LOG.error("cleaning up; once more to give up on that", extra={"is_plain": True})
            signal.signal(number, signal.SIG_DFL)

    before = {number: signal.signal(number, stop) for number in _SIGNALS if signal.getsignal(number) != signal.SIG_IGN}
    try:
        with echo.listening():
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _cut_off(event: sys.UnraisableHookArgs) -> None:
    """Note what an object says that a signal left half made, such as the file of a socket, when it is to go."""
    _LOG.debug("%s %r", event.err_msg or "ignored in", event.object, exc_info=event.exc_value)


def _log_to_stderr(log_format: Format, *, quiet: bool, verbose: int, debug: bool) -> None:
    """Show the library's log: warnings, with -v what it does, with -vv or --debug every detail."""
    level = logging.ERROR if quiet else (NOTICE, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    handler = Console(sys.stderr, log_format)
    handler.setLevel(logging.DEBUG if debug else level)
    logger = logging.getLogger("ocirootfs")
    logger.handlers[:] = [handler]
    logger.setLevel(min(handler.level, logging.WARNING))  # for who else listens, such as the result's list of warnings
    logger.propagate = False
    # Whoever asks for --insecure has been warned by the option's name; urllib3 would do it once a request.
    warnings.filterwarnings("ignore", message="Unverified HTTPS request")
