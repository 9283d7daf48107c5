"""What a person and a CI log see: messages on standard error, exit statuses, signals."""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import signal
import sys
import traceback
import warnings
from typing import TYPE_CHECKING, NoReturn

from ocirootfs.errors import OcirootfsError, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_LOG = logging.getLogger("ocirootfs.cli")
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """A signal asked us to stop. Not an Exception, so that only what cleans up catches it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Words(argparse.ArgumentParser):
    """A parser of words whose complaints look like all our others."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong in one line, and where to read more."""
        say(f"ocirootfs: error: {printable(message, 1000)}")
        say(f"  hint: {self.prog} --help")
        sys.exit(2)


def reserve_standard_streams() -> None:
    """Make sure that descriptors 0 to 2 are taken: the next file opened would get a closed one, and our messages."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one


def run(command: Callable[[], None], *, quiet: bool, verbose: int, debug: bool) -> int:
    """Run a command and return the exit status that says how it ended."""
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr.reconfigure(errors="backslashreplace")  # a C locale must not turn a message into a traceback
    _log_to_stderr(quiet=quiet, verbose=verbose, debug=debug)
    try:
        with _signals_raise():
            command()
            sys.stdout.flush()
    except OcirootfsError as error:
        return _failed(error, str(error), error.hint, error.exit_code, debug=debug)
    except BrokenPipeError:
        # Whoever read our output has left, which is no news to anybody. Python would complain once more at its exit.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 128 + signal.SIGPIPE
    except Interrupted as error:
        say(f"ocirootfs: {signal.Signals(error.number).name}: stopped, and nothing was published")
        return 128 + error.number
    except OSError as error:
        return _failed(error, f"{error.strerror or error}", None, 8, debug=debug)
    except Exception as error:  # noqa: BLE001  # the last resort: a bug, reported as one
        text = f"internal error: {type(error).__name__}: {error}"
        return _failed(error, text, "this is a bug; --debug shows where", 1, debug=debug)
    return 0


def say(line: str) -> None:
    """Write one line to standard error, if there is anybody to read it."""
    with contextlib.suppress(OSError, ValueError):
        print(line, file=sys.stderr, flush=True)


def warn(text: str) -> None:
    """Warn, unless --quiet."""
    _LOG.warning("%s", text)


def info(text: str) -> None:
    """Tell, with --verbose."""
    _LOG.info("%s", text)


def _failed(error: BaseException, text: str, hint: str | None, status: int, *, debug: bool) -> int:
    if debug:
        with contextlib.suppress(OSError, ValueError):
            traceback.print_exception(error, file=sys.stderr)
    say(f"ocirootfs: error: {printable(text, 1000)}")
    if hint:
        say(f"  hint: {printable(hint, 1000)}")
    return status


@contextlib.contextmanager
def _signals_raise() -> Iterator[None]:
    """Turn the signals that end a CI job into an exception, once: clean-up is not to be cut short by a second one."""

    def stop(number: int, _frame: object) -> None:
        for each in _SIGNALS:
            signal.signal(each, _insist)
        raise Interrupted(number)

    before = {number: signal.signal(number, stop) for number in _SIGNALS if signal.getsignal(number) != signal.SIG_IGN}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _insist(number: int, _frame: object) -> None:
    say("ocirootfs: cleaning up; once more to give up on that")
    signal.signal(number, signal.SIG_DFL)


class _Lines(logging.Formatter):
    """Log records as this program's messages."""

    def format(self, record: logging.LogRecord) -> str:
        level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        return f"ocirootfs: {level}{printable(record.getMessage(), 1000)}"


class _Once(logging.Filter):
    """Lets each warning through once: a layer that is read twice has the same ones again."""

    def __init__(self) -> None:
        super().__init__()
        self._said: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno != logging.WARNING:
            return True
        text = record.getMessage()
        is_new = text not in self._said
        self._said.add(text)
        return is_new


def _log_to_stderr(*, quiet: bool, verbose: int, debug: bool) -> None:
    """Show the library's log: warnings, with -v what it does, with -vv or --debug every detail."""
    level = logging.ERROR if quiet else (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines())
    handler.addFilter(_Once())
    handler.setLevel(logging.DEBUG if debug else level)
    logger = logging.getLogger("ocirootfs")
    logger.handlers[:] = [handler]
    logger.setLevel(min(handler.level, logging.WARNING))  # for who else listens, such as the result's list of warnings
    logger.propagate = False
    # Whoever asks for --insecure has been warned by the option's name; urllib3 would do it once a request.
    warnings.filterwarnings("ignore", message="Unverified HTTPS request")
