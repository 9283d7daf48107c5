"""Running the command line: in this process, in one of its own, and as two behind a pipe."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import subprocess
import sys
import threading
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from ocirootfs.cli import main

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

OCIROOTFS = (sys.executable, "-m", "ocirootfs")
SECONDS = 60

_ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Ran:
    """How a command ended and what it said."""

    status: int
    out: bytes
    err: str

    @property
    def accepted(self) -> Ran:
        """Demand that it did well, and at most warned of what is odd about a layer."""
        assert self.status == 0, self
        assert all(line.startswith("ocirootfs: warning: layer ") for line in self.err.splitlines()), self
        return self

    @property
    def ok(self) -> Ran:
        """Demand that it did well and had nothing to complain of."""
        assert (self.status, self.err) == (0, ""), self
        return self


def environment(**more: str | None) -> dict[str, str]:
    """Return this process's environment, changed; None removes a variable."""
    path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
    changed = {**os.environ, "PYTHONPATH": path, **more}
    return {name: value for name, value in changed.items() if value is not None}


@contextmanager
def started(*arguments: str, command: Sequence[str] = OCIROOTFS, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Start a command in a process of its own, all of whose streams are pipes unless `options` say otherwise."""
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen([*command, *arguments], **{"env": environment(), **streams, **options}) as process:
        try:
            yield process
        finally:
            process.kill()


def finished(process: subprocess.Popen[bytes], stdin: bytes | None = None) -> Ran:
    """Feed a command, and wait until it ends."""
    out, err = process.communicate(stdin, SECONDS)
    return Ran(process.returncode, out or b"", (err or b"").decode("utf-8", "surrogateescape"))


def run(*arguments: str, stdin: bytes = b"", **options: Any) -> Ran:
    """Run a command in a process of its own; `options` are Popen's, and `command`."""
    with started(*arguments, **options) as process:
        return finished(process, stdin)


def pipe(fetch: Sequence[str], pack: Sequence[str], **options: Any) -> tuple[Ran, Ran]:
    """Run `ocirootfs fetch … | ocirootfs pack …`, two processes."""
    with started("fetch", *fetch, **{"stdin": subprocess.DEVNULL, **options}) as writer:
        assert writer.stdout is not None
        with started("pack", *pack, stdin=writer.stdout, **options) as reader:
            writer.stdout.close()  # the reader alone keeps it alive
            writer.stdout = None
            ended = finished(reader)
            return finished(writer), ended


def run_here(*arguments: str, stdin: bytes = b"") -> Ran:
    """Run a command in this process, which saves its start; standard input and output are pipes here, too."""
    err = io.StringIO()
    log = logging.getLogger("ocirootfs")
    with ExitStack() as stack:
        stack.callback(setattr, sys, "stdin", sys.stdin)
        stack.callback(log.setLevel, log.level)
        for name, value in (("propagate", log.propagate), ("handlers", log.handlers[:])):
            stack.callback(
                setattr, log, name, value
            )  # the command sets up its own, which would hide the log from tests
        sys.stdin = stack.enter_context(_fed(stdin))
        out, written = stack.enter_context(_drained())
        with redirect_stdout(out), redirect_stderr(err):
            try:
                status = main(arguments)
            except SystemExit as ended:  # argparse
                status = int(ended.code or 0)
    return Ran(status, bytes(written), err.getvalue())


@contextmanager
def _fed(data: bytes) -> Iterator[io.TextIOWrapper]:
    reading, writing = os.pipe()

    def feed(stream: BinaryIO) -> None:
        with contextlib.suppress(BrokenPipeError), stream:
            stream.write(data)

    with _thread(feed, os.fdopen(writing, "wb", buffering=0)), os.fdopen(reading) as stream:
        yield stream


@contextmanager
def _drained() -> Iterator[tuple[io.TextIOWrapper, bytearray]]:
    reading, writing = os.pipe()
    found = bytearray()

    def drain(stream: BinaryIO) -> None:
        with stream:
            while chunk := stream.read(1 << 16):
                found.extend(chunk)

    with _thread(drain, os.fdopen(reading, "rb", buffering=0)), os.fdopen(writing, "w") as stream:
        yield stream, found


@contextmanager
def _thread(target: Any, stream: BinaryIO) -> Iterator[None]:
    thread = threading.Thread(target=target, args=(stream,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join(SECONDS)
