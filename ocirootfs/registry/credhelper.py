"""Docker's credential helpers: programs that keep passwords, called `docker-credential-NAME`.

Source: github.com/docker/docker-credential-helpers. `get` reads a server from stdin and answers
`{"ServerURL", "Username", "Secret"}` on stdout; a failure is an exit status, with the reason on stdout.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import select
import shutil
import signal
import subprocess
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING

from ocirootfs import strictjson
from ocirootfs.errors import AuthError, InputError, TemporaryError, printable
from ocirootfs.strictjson import as_object, as_string

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*", re.ASCII)
_NOT_FOUND = "credentials not found in native keychain"  # credentials/error.go
_ANSWER_LIMIT = 1 << 20
_OWN_SECRET = "OCIROOTFS_PASSWORD"  # noqa: S105  # which no helper needs
_TIMEOUT = 30.0  # seconds; cloud providers' helpers ask the network
_PATIENCE = 1.0  # seconds, with one that is killed
_GLANCE = 100  # milliseconds
_PIECE = 64 << 10


def ask(name: str, server: str, environ: Mapping[str, str], timeout: float = _TIMEOUT) -> tuple[str, str] | None:
    """Return the user name and the secret that helper `name` has for `server`, None if it has none.

    The helper is looked for in the absolute directories of PATH. Raises AuthError if it is missing, cannot be run,
    fails or hangs, TemporaryError if it was stopped (see `Running`). What it wrote is shown only if it failed, since
    otherwise that is the secret.
    """
    if not _NAME.fullmatch(name):
        raise AuthError(f"'{printable(name, 40)}' is not the name of a credential helper")
    program = f"docker-credential-{name}"
    found = shutil.which(program, path=_absolute(environ.get("PATH", os.defpath)))
    if found is None:
        raise AuthError(f"{program} is not in PATH")
    status, output = _run(found, server, environ, timeout)
    if status == 0:
        return _answer(output, program)
    reason = output.decode("utf-8", "replace").strip()
    if reason == _NOT_FOUND:
        return None
    if status == -signal.SIGKILL:
        raise AuthError(f"{program} did not answer within {timeout:g} s, or too much")
    raise AuthError(
        f"{program} failed with status {status}: {printable(reason, 120)}",
        hint=f"try: echo {server} | {program} get",
    )


class Running:
    """The helpers that run on somebody's behalf, which another thread can end."""

    def __init__(self) -> None:
        # No lock, which a signal's exception could leave taken: who begins adds and then looks, who stops the reverse.
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._stopped = False

    def stop(self) -> None:
        """Kill those that run, and refuse new ones: both with a TemporaryError in their own thread. From any thread."""
        self._stopped = True
        for process in list(self._processes.values()):
            _kill(process)

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Know of all helpers that this thread asks while the context lasts."""
        token = _RUNNING.set(self)
        try:
            yield
        finally:
            _RUNNING.reset(token)

    @contextlib.contextmanager
    def holding(self, process: subprocess.Popen[bytes]) -> Iterator[None]:
        """Know of `process` while the context lasts."""
        self._processes[process.pid] = process
        try:
            self._check()
            yield
            self._check()
        finally:
            del self._processes[process.pid]

    def _check(self) -> None:
        if self._stopped:
            raise TemporaryError("the search for credentials was stopped")


# Not an argument, as any function may be a search for credentials, and few of them ask a helper.
_RUNNING: ContextVar[Running] = ContextVar("_RUNNING")


def _run(program: str, server: str, environ: Mapping[str, str], timeout: float) -> tuple[int, bytes]:
    """Run the helper, and kill it with its children when it takes too long, says too much, or nobody waits any more."""
    end = time.monotonic() + timeout
    process = _started(program, environ)
    try:
        with _RUNNING.get(Running()).holding(process):
            _ask(process, server)
            answer = _heard(process, end)
            if len(answer) <= _ANSWER_LIMIT:
                _wait(process, end - time.monotonic())
            _kill(process)
            return process.wait(), answer
    finally:  # on a signal, too; and the wait for what is killed is not without an end
        _kill(process)
        _wait(process, _PATIENCE)
        for pipe in filter(None, (process.stdin, process.stdout)):
            pipe.close()


def _started(program: str, environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(  # noqa: S603 - a name from the user's own configuration, found in the user's PATH
            [program, "get"],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={name: value for name, value in environ.items() if name != _OWN_SECRET},
            start_new_session=True,
        )
    except OSError as error:
        reason = "there is no such interpreter" if error.errno == errno.ENOENT else f"{error.strerror}".lower()
        raise AuthError(f"cannot run {printable(program)}: {reason}") from None


def _ask(process: subprocess.Popen[bytes], server: str) -> None:
    if process.stdin is None:
        raise AssertionError
    with contextlib.suppress(BrokenPipeError):  # it needs no question, or it died: the status tells
        process.stdin.write(server.encode())  # which a pipe has room for
    process.stdin.close()


def _heard(process: subprocess.Popen[bytes], end: float) -> bytes:
    """Return what the helper writes until it closes its output, or ends and leaves that to others, or until `end`."""
    if process.stdout is None:
        raise AssertionError
    answer = bytearray()
    ready = select.poll()
    ready.register(process.stdout, select.POLLIN)
    while len(answer) <= _ANSWER_LIMIT and time.monotonic() < end:
        is_over = process.poll() is not None  # asked first: what it wrote by then is there
        if ready.poll(0 if is_over else _GLANCE):
            piece = process.stdout.read(_PIECE)
            if not piece:
                break
            answer += piece
        elif is_over:
            break
    return bytes(answer)


def _wait(process: subprocess.Popen[bytes], seconds: float) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(max(0.0, seconds))


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the helper and its children, unless it has ended by itself: then they are meant to stay."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _answer(output: bytes, program: str) -> tuple[str, str]:
    try:
        fields = as_object(strictjson.load(output, program), program)
        return as_string(fields.get("Username"), program), as_string(fields.get("Secret"), program)
    except InputError:  # whose message might quote the secret
        raise AuthError(f"{program} answered something else than credentials") from None


def _absolute(path: str) -> str:
    """Leave the relative directories out of PATH: a checkout's own `docker-credential-x` is not the user's."""
    return os.pathsep.join(entry for entry in path.split(os.pathsep) if entry.startswith("/"))
