"""Signals that come while threads work: clean-up ends, wherever the exception of a signal's handler was raised."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ocirootfs.aside import aside
from ocirootfs.gzip import BLOCK, GzipWriter
from ocirootfs.inorder import InOrder
from ocirootfs.s3.parts import PartBody, Parts
from tests.commands import environment, run_here, started
from tests.make_fixtures import ZONES
from tests.servers.registry import FakeRegistry

if TYPE_CHECKING:
    from collections.abc import Iterator

NOISE = random.Random(1).randbytes(BLOCK)
TIMES = 300


class StoppedError(BaseException):
    """What the handler raises."""


def read_aside() -> None:
    def work(chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            yield chunk[:10]
            yield chunk[10:]

    for _ in aside((bytes(100) for _ in range(1_000_000)), work):
        pass


def compress() -> None:
    with GzipWriter(lambda _: None, threads=3) as writer:
        for _ in range(10_000):
            writer.write(NOISE)


def call_in_order() -> None:
    calls: InOrder[int] = InOrder(3, "call")
    try:
        for _ in range(1_000_000):
            calls.call(lambda: 1)
            assert len(calls) < 5 or calls.result() == 1
    finally:
        calls.close()


def send_parts() -> None:
    def send(number: int, body: PartBody) -> int:
        return len(body.read())

    parts = Parts(send, base=100, jobs=2)
    try:
        for _ in range(9000):
            parts.write(bytes(100))
    finally:
        assert parts.cancel(10)


JOBS = {job.__name__: job for job in (read_aside, compress, call_in_order, send_parts)}


def interrupt(name: str) -> None:
    """Begin a job again and again, and stop it after no more than 20 ms; print how often that came in time."""

    def stop(*_: object) -> None:
        raise StoppedError

    signal.signal(signal.SIGALRM, stop)
    moments = random.Random(1)
    stopped, times = 0, TIMES // 3 if name == "compress" else TIMES
    for _ in range(times):
        try:
            signal.setitimer(signal.ITIMER_REAL, moments.uniform(0.0005, 0.02))
            JOBS[name]()
            signal.setitimer(signal.ITIMER_REAL, 0)
        except StoppedError:
            stopped += 1
    print(stopped / times)


@pytest.mark.parametrize("name", JOBS)
def test_clean_up_ends(name: str) -> None:
    """In a process of its own, which a deadlock would not let go of."""
    code = f"from tests.test_signals import interrupt; interrupt({name!r})"
    ran = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, timeout=120, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert float(ran.stdout) > 0.5


DEAF = """
import signal, sys, threading
from ocirootfs.cli import main
threading.Thread(target=threading.Event().wait, daemon=True).start()
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # from now on it comes in the other thread
sys.exit(main(sys.argv[1:]))
"""


def test_a_signal_that_does_not_interrupt_the_reading_of_a_pipe(tmp_path: Path) -> None:
    """As one that comes just before read(2): the handler's flag is up, and nobody looks at it."""
    stream = run_here("fetch", f"oci:{ZONES}").ok.out
    command = [sys.executable, "-c", DEAF]
    with started("pack", "-o", str(tmp_path / "a.tgz"), command=command) as process:
        assert process.stdin
        process.stdin.write(stream[:-1000])
        process.stdin.flush()
        end = time.monotonic() + 30
        while not list(tmp_path.iterdir()) and time.monotonic() < end:
            time.sleep(0.05)
        time.sleep(0.5)  # until it waits for the rest
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 143
    assert list(tmp_path.iterdir()) == []


ELSEWHERE = """
import signal, sys, threading
from ocirootfs.cli import main

def stop():
    sys.stdin.buffer.read(1)
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)  # where it interrupts nothing

threading.Thread(target=stop, daemon=True).start()
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("jobs", ["1", "3"])
def test_a_signal_that_does_not_interrupt_waiting_for_a_server(jobs: str, tmp_path: Path) -> None:
    """As one that comes just before recv(2): the interpreter knows of it, and the main thread waits on."""
    reached, go = threading.Event(), threading.Event()

    def wait(*_: object) -> None:
        if len(fake.requests) > 2:
            reached.set()
            go.wait(30)

    with FakeRegistry() as fake:
        reference = fake.add_image()
        fake.before_any = wait
        words = ("fetch", str(reference), "--jobs", jobs, "-o", str(tmp_path / "a.tar"))
        with started(*words, command=[sys.executable, "-c", ELSEWHERE]) as process:
            assert reached.wait(30)
            time.sleep(0.5)  # until it waits for the answer
            assert process.stdin
            process.stdin.write(b"!")
            process.stdin.flush()
            status = process.wait(10)
            go.set()
            assert process.stderr
            assert (status, process.stderr.read().count(b"SIGTERM: stopped")) == (143, 1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", ["inspect", "mirror"])
def test_a_credential_helper_that_hangs_is_stopped(verb: str, tmp_path: Path) -> None:
    """In the main thread and in another, which Python leaves as it is when the command ends."""
    helper, number = tmp_path / "docker-credential-slow", tmp_path / "pid"
    helper.write_text(f"#!/bin/sh\nsleep 60 & echo $! > {number}.new; mv {number}.new {number}; wait\n")
    helper.chmod(0o755)
    with FakeRegistry(auth="basic") as fake:
        reference = fake.add_image()
        items = tmp_path / "images.yml"
        items.write_text(json.dumps({"images": [{"image": str(reference), "to": "s3://bucket/a.tgz"}]}))
        words = {"inspect": [str(reference)], "mirror": [str(items), "--endpoint-url", "http://127.0.0.1:1"]}
        environ = environment(
            PATH=f"{tmp_path}:{os.environ['PATH']}",
            DOCKER_AUTH_CONFIG='{"credsStore": "slow"}',
            AWS_ACCESS_KEY_ID="k",
            AWS_SECRET_ACCESS_KEY="s",
        )
        with started(verb, *words[verb], env=environ) as process:
            end = time.monotonic() + 30
            while not number.exists() and time.monotonic() < end:
                time.sleep(0.02)
            process.send_signal(signal.SIGTERM)
            assert process.wait(5) == 143
    assert is_gone(int(number.read_text()))


def is_gone(process: int) -> bool:
    """Wait until a process that nobody waits for has ended."""
    end = time.monotonic() + 5
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":  # and whoever adopted it waits for it when it likes
            return True
        time.sleep(0.02)
    return False


HALF_MADE = """\
import os, signal, sys, time
from ocirootfs.cli import console

class HalfMade:
    def __del__(self):
        self.never_set

def command():
    made = HalfMade()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(10)

sys.exit(console.run(command, quiet=False, verbose=0, debug=bool(sys.argv[1:])))
"""


@pytest.mark.parametrize("words", [[], ["--debug"]])
def test_what_a_signal_left_half_made_is_no_news(words: list[str]) -> None:
    """Python 3.13 says of a socket's file that it cannot be closed, when a signal came while it was made."""
    ran = subprocess.run(
        [sys.executable, "-c", HALF_MADE, *words], capture_output=True, text=True, timeout=30, check=False
    )
    assert ran.returncode == 128 + signal.SIGTERM
    told = ran.stderr.splitlines()
    assert "ocirootfs: SIGTERM: stopped, and nothing was published" in told
    assert ("never_set" in ran.stderr, len(told) > 1) == (bool(words), bool(words))


def test_a_call_is_made_where_no_thread_can_be() -> None:
    calls: InOrder[int] = InOrder(0, "none")
    calls.call(lambda: 1)
    calls.call(lambda: 1 // 0)
    assert (len(calls), calls.result()) == (2, 1)
    with pytest.raises(ZeroDivisionError):
        calls.result()
    calls.close()


def test_calls_that_are_not_begun_when_it_ends_are_not_made() -> None:
    made: list[int] = []
    calls: InOrder[object] = InOrder(1, "one")
    begun = threading.Event()

    def slow() -> None:
        begun.set()
        time.sleep(0.2)

    calls.call(slow)
    assert begun.wait(10)
    for number in range(5):
        calls.call(partial(made.append, number))
    calls.close()
    assert made == []
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("one_")]
