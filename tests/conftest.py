"""Fixtures that more than one file of tests needs."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.catalogue import summary
from tests.servers.moto import S3Endpoint, endpoint, moto_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def pytest_configure() -> None:
    """Heed signals: what is started in the background by a shell, or by nohup, ignores some, and so do its children."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGQUIT):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


@pytest.fixture(autouse=True)
def _aws_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give every test the same AWS environment, whatever the developer's own is."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")  # one retry, at most a second later


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep a developer's proxy out of what is on this machine."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1,localhost,[::1]")


@pytest.fixture(scope="session")
def _moto() -> Iterator[str]:
    with moto_server() as url:
        yield url


@pytest.fixture
def s3(_moto: str) -> Iterator[S3Endpoint]:
    """A bucket of the test's own in a lenient S3: `.endpoint`, `.client`, `.bucket`."""
    with endpoint(_moto, f"bucket-{uuid.uuid4().hex}") as found:
        yield found


@pytest.fixture(scope="session")
def real() -> Callable[[str], Path]:
    """Find a program that a test marked `real` needs, beside Python or in PATH.

    Where it is missing the test is skipped, or fails if OCIROOTFS_REQUIRE_REAL=1.
    """

    def find(program: str) -> Path:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        found = shutil.which(program, path=path)
        if found is None:
            missing = f"'{program}' is not installed"
            if os.environ.get("OCIROOTFS_REQUIRE_REAL") == "1":
                pytest.fail(missing)
            pytest.skip(missing)
        return Path(found)

    return find


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say how many of the attacks and of the faults that were thought of were held (see `catalogue`)."""
    functions = {
        state: {report.nodeid.partition("[")[0] for report in terminalreporter.stats.get(state, ())}
        for state in ("passed", "failed", "error")
    }
    full = os.environ.get("OCIROOTFS_TABLES") == "1"
    for line in summary(functions["passed"], functions["failed"] | functions["error"], full=full):
        terminalreporter.write_line(line)
