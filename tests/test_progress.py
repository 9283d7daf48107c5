"""How far it is, as people and logs are told, and messages as JSON."""

from __future__ import annotations

import json
import logging
import os
import pty
import re
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from ocirootfs.cli.progress import Lines, Tally, human, human_time
from ocirootfs.digest import Digest
from ocirootfs.image import Layer
from tests.commands import environment, finished, run_here, started
from tests.layers import build

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20


def layer(number: int, size: int) -> Layer:
    digest = Digest.of(b"%d" % number)
    return Layer(number, digest, size, digest, "", list)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OCIROOTFS_PROGRESS", raising=False)
    return tmp_path


@pytest.fixture
def source(here: Path) -> str:
    layers: list[Any] = [{"entries": [{"type": "file", "name": name, "data": name * 1000}]} for name in "ab"]
    return f"oci:{build(layers).layout(here / 'layout')}"


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


TOP, BOTTOM = layer(2, 40 * MIB), layer(1, 60 * MIB)
NAMES = {each: each.name for each in (TOP, BOTTOM)}

# At which second how many MiB of which layer arrive.
STEPS = [(0, TOP, 10), (2, TOP, 10), (4, TOP, 10), (11, TOP, 5), (15, TOP, 5), (16, BOTTOM, 1), (25, BOTTOM, 1),
         (26, BOTTOM, 1), (27, BOTTOM, 1), (40, BOTTOM, 56)]  # fmt: skip
SAID = [
    (0, f"{TOP.name}: begun, 40.0 MiB"),
    (11, f"{TOP.name}: 35.0 MiB of 100.0 MiB, 35 %, 3.2 MiB/s, 20 s left"),
    (15, f"{TOP.name}: done; 40.0 MiB of 100.0 MiB, 40 %, 2.7 MiB/s, 22 s left"),
    (16, f"{BOTTOM.name}: begun, 60.0 MiB"),
    (26, f"{BOTTOM.name}: 43.0 MiB of 100.0 MiB, 43 %, 1.7 MiB/s, 34 s left"),
    (40, f"{BOTTOM.name}: done; 100.0 MiB of 100.0 MiB, 100 %, 2.5 MiB/s"),
]


@pytest.mark.parametrize("is_patient", [False, True])
def test_lines(is_patient: bool, caplog: pytest.LogCaptureFixture) -> None:
    """One when a layer begins or ends, and one after ten seconds of silence; if patient, from the first such."""
    clock = Clock()
    lines = Lines(100 * MIB, is_patient=is_patient, monotonic=clock)
    said = []
    with caplog.at_level(logging.INFO, logger="ocirootfs"):
        for second, what, size in STEPS:
            clock.now = 100.0 + second
            lines(what, size * MIB)
            said += [(second, record.getMessage()) for record in caplog.records]
            caplog.clear()
    assert said == [each for each in SAID if not is_patient or each[0] >= 11]


def test_what_is_read_again_does_not_count() -> None:
    tally = Tally()
    assert [tally.add(TOP, 30 * MIB), tally.add(TOP, 30 * MIB), tally.add(TOP, 40 * MIB)] == [30 * MIB, 10 * MIB, 0]
    assert (tally.done, tally.read_of(TOP), tally.read_of(BOTTOM)) == (40 * MIB, 100 * MIB, 0)


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 30, "5.0 GiB"), (3 << 40, "3.0 TiB")]
)
def test_sizes(size: int, text: str) -> None:
    assert human(size) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (3725, "62 min 5 s")])
def test_times(seconds: float, text: str) -> None:
    assert human_time(seconds) == text


# Options, a variable, and how many lines a log gets of two layers.
LOGS: list[tuple[list[str], str, int]] = [
    ([], "", 0), (["--progress", "auto"], "plain", 0), (["--progress", "none"], "plain", 0), ([], "plain", 4),
    (["--progress", "plain"], "none", 4), (["--progress", "bar"], "", 4), (["--progress", "plain", "-q"], "", 0),
]  # fmt: skip


@pytest.mark.parametrize("verb", ["fetch", "pack", "ls"])
@pytest.mark.parametrize(("words", "variable", "count"), LOGS)
def test_logs(
    verb: str, words: list[str], variable: str, count: int, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bar in no log, whoever asks for one."""
    monkeypatch.setenv("OCIROOTFS_PROGRESS", variable)
    target = [] if verb == "ls" else ["-o", "a.tar"]
    ran = run_here(verb, source, *target, *words)
    lines = [line for line in ran.err.splitlines() if ": layer " in line]
    assert (ran.status, len(ran.err.splitlines())) == (0, len(lines)), ran.err
    assert len(lines) == count, ran.err
    assert "\r" not in ran.err


def test_a_variable_that_makes_no_sense(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCIROOTFS_PROGRESS", "tty")
    ran = run_here("pack", source)
    assert (ran.status, "OCIROOTFS_PROGRESS 'tty': there are auto, bar, plain, none" in ran.err) == (2, True)


# On a terminal


def shown(*words: str, **variables: str | None) -> str:
    """Return what a command shows on a terminal."""
    ours, theirs = pty.openpty()
    with started(*words, stdin=subprocess.DEVNULL, stderr=theirs, env=environment(**variables)) as process:
        os.close(theirs)
        found = b""
        while True:
            try:
                found += os.read(ours, 1 << 16)
            except OSError:  # how Linux says that nobody has the other end open any more
                break
        assert finished(process).status == 0
    os.close(ours)
    return found.decode()


@pytest.mark.parametrize("variables", [{"TERM": "dumb"}, {"TERM": None}, {"OCIROOTFS_PROGRESS": "none"}])
def test_terminals_without_a_bar(variables: dict[str, str | None], source: str) -> None:
    assert shown("pack", source, **{"TERM": "xterm", **variables}) == ""


def test_a_terminal_without_a_size_has_a_bar_of_80_columns(source: str) -> None:
    """As a pseudo-terminal is whose maker did not care."""
    widths = {len(line) for line in re.split(r"[\r\n]+", shown("pack", source, TERM="xterm")) if line.strip()}
    assert widths <= {79, 80}
    assert widths


def test_a_bar_has_total_rate_and_what_is_left(source: str) -> None:
    found = shown("pack", source, TERM="xterm", NO_COLOR="1")
    assert re.search(r"100%\|.*\| ([\d.]+)k?/\1k? \[\d\d:\d\d<\d\d:\d\d, .+B/s\]", found), found
    assert "\x1b[3" not in found  # a colour


def test_a_message_stands_on_a_line_of_its_own(here: Path) -> None:
    """The bar steps aside for it."""
    entries = [{"type": "file", "name": "a"}, {"type": "file", "name": "a/b"}]
    source = f"oci:{build([{'entries': entries}]).layout(here / 'odd')}"
    found = shown("pack", source, TERM="xterm").replace("\r\n", "\n")
    (before,) = re.findall(r"(.*)ocirootfs: warning: layer 1", found)
    assert before.endswith("\r") or not before, found


# As JSON


def objects(err: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in err.splitlines()]


def test_progress_as_json(source: str) -> None:
    ran = run_here("pack", source, "--log-format", "json")
    found = objects(ran.err)
    assert [(each["event"], each["state"], each["layer"]) for each in found] == [
        ("progress", state, number) for number in (2, 1) for state in ("begun", "finished")
    ]
    last = found[-1]
    assert (last["level"], last["done"], last["seconds_left"]) == ("info", last["total"], 0)
    assert last["message"].startswith("layer 1 (sha256:")
    assert re.fullmatch(rb"layout-\w{12}\.tgz\n", ran.out)


def test_messages_as_json(here: Path) -> None:
    entries = [{"type": "file", "name": "a"}, {"type": "file", "name": "a/b"}]
    source = f"oci:{build([{'entries': entries}]).layout(here / 'odd')}"
    ran = run_here("pack", source, "--log-format", "json", "--progress", "none")
    (warning,) = objects(ran.err)
    assert (warning["level"], warning["event"]) == ("warning", "message")
    assert "has entries below it" in warning["message"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", warning["time"])


@pytest.mark.parametrize("debug", [False, True])
def test_errors_as_json(debug: bool) -> None:
    ran = run_here("pack", "Ubuntu:17.04", "--log-format", "json", *["--debug"] * debug)
    (error,) = objects(ran.err)
    assert (ran.status, error["event"], error["level"], error["status"]) == (2, "error", "error", 2)
    assert "lowercase" in error["message"]
    assert "ubuntu:17.04" in error["hint"]
    assert ("Traceback" in error.get("traceback", "")) == debug
