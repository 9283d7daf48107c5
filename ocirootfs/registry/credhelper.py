"""Docker's credential helpers: programs that keep passwords, called `docker-credential-NAME`.

Source: github.com/docker/docker-credential-helpers. `get` reads a server from stdin and answers
`{"ServerURL", "Username", "Secret"}` on stdout; a failure is an exit status, with the reason on stdout.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import threading
from typing import TYPE_CHECKING

from ocirootfs import strictjson
from ocirootfs.errors import AuthError, InputError, printable
from ocirootfs.strictjson import as_object, as_string

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*", re.ASCII)
_NOT_FOUND = "credentials not found in native keychain"  # credentials/error.go
_ANSWER_LIMIT = 1 << 20
_OWN_SECRET = "OCIROOTFS_PASSWORD"  # noqa: S105  # which no helper needs
_TIMEOUT = 30.0  # seconds; cloud providers' helpers ask the network


def ask(name: str, server: str, environ: Mapping[str, str], timeout: float = _TIMEOUT) -> tuple[str, str] | None:
    """Return the user name and the secret that helper `name` has for `server`, None if it has none.

    The helper is looked for in the absolute directories of PATH. Raises AuthError if it is missing, fails or
    hangs; what it wrote is shown only if it failed, since otherwise that is the secret.
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


def _run(program: str, server: str, environ: Mapping[str, str], timeout: float) -> tuple[int, bytes]:
    """Run the helper, and kill it with its children when it takes too long or says too much."""
    process = subprocess.Popen(  # noqa: S603 - a name from the user's own configuration, found in the user's PATH
        [program, "get"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={name: value for name, value in environ.items() if name != _OWN_SECRET},
        start_new_session=True,
    )
    if process.stdin is None or process.stdout is None:
        raise AssertionError
    timer = threading.Timer(timeout, _kill, [process])
    timer.start()
    with process, process.stdout as output:
        try:
            with process.stdin as question:
                question.write(server.encode())
        except BrokenPipeError:
            pass  # it needs no question, or it died: the status tells
        try:
            answer = output.read(_ANSWER_LIMIT + 1)
            if len(answer) > _ANSWER_LIMIT:
                _kill(process)
            return process.wait(), answer
        finally:
            timer.cancel()


def _kill(process: subprocess.Popen[bytes]) -> None:
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
