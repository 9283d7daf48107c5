"""Keeping bytes aside: what comes back, where it lies, and what happens when there is no room."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocirootfs.errors import LocalError
from ocirootfs.spool import Kept, Spool

if TYPE_CHECKING:
    from ocirootfs.entry import Piece


def read(spool: Spool, kept: Kept) -> bytes:
    return b"".join(spool.read(kept))


def view(data: bytes) -> memoryview:
    return memoryview(data)


BINARY = st.binary(max_size=40)
PIECES = st.lists(BINARY | BINARY.map(view), max_size=4)
STEPS = st.lists(
    st.tuples(st.just("keep"), PIECES)
    | st.tuples(st.sampled_from(["read", "release", "release last", "clear"]), st.integers(0, 9)),
    max_size=25,
)


@pytest.mark.parametrize("memory", [1, 30, 1 << 20])
@given(steps=STEPS)
@settings(deadline=None, max_examples=60)
def test_it_is_a_list_of_runs(memory: int, steps: list[tuple[str, list[Piece] | int]]) -> None:
    """Against a plain dict: whatever else was kept, given back or read, a run comes back as it was."""
    runs: dict[Kept, bytes] = {}
    with Spool(memory=memory) as spool:
        for step, what in steps:
            if isinstance(what, list):
                kept = spool.keep(what)
                runs[kept] = b"".join(what)
                assert kept.offset + kept.size == spool.end
            elif step == "clear":
                spool.clear()
                runs.clear()
                assert spool.end == 0
            elif runs:
                kept = list(runs)[-1 if step == "release last" else what % len(runs)]
                if step == "read":
                    assert read(spool, kept) == runs[kept]
                    continue
                end = spool.end
                spool.release(kept)
                assert spool.end == (kept.offset if kept.offset + kept.size == end else end)
                for other in [other for other in runs if other.offset + other.size > spool.end or other == kept]:
                    del runs[other]
        assert {kept: read(spool, kept) for kept in runs} == runs


def test_runs_of_several_pieces() -> None:
    with Spool(memory=10) as spool:
        start = spool.end
        spool.append(b"abc")
        spool.append(memoryview(b"defghijklmnop")[:10])
        assert spool.since(start) == Kept(0, 13)
        assert spool.keep([]) == Kept(13, 0)
        assert read(spool, Kept(0, 13)) == b"abcdefghijklm"
        assert read(spool, Kept(2, 3)) == b"cde"
        assert list(spool.read(Kept(5, 0))) == []


@pytest.mark.parametrize("memory", [1, 1 << 30])
def test_it_may_grow_while_it_is_read(memory: int) -> None:
    with Spool(memory=memory) as spool:
        kept = spool.keep([b"a" * 700_000])
        got = b""
        for piece in spool.read(kept):
            got += piece
            spool.append(b"b" * 1000)
        assert got == b"a" * 700_000
        assert spool.end > 700_000


def test_large_runs_come_in_pieces() -> None:
    with Spool() as spool:
        kept = spool.keep([bytes(3 << 20)])
        assert max(map(len, spool.read(kept))) <= 1 << 18


def test_a_run_is_given_back_only_from_the_end() -> None:
    with Spool(memory=1) as spool:
        first, second = spool.keep([b"first"]), spool.keep([b"second"])
        spool.release(first)
        assert (spool.end, read(spool, first)) == (11, b"first")
        spool.release(second)
        assert spool.end == 5
        assert read(spool, spool.keep([b"third"])) == b"third"
        assert read(spool, first) == b"first"


def open_files(directory: Path) -> list[str]:
    """Return the open files of this process below a directory, deleted ones with them."""
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the listing's own
            found.append(str(descriptor.readlink()))
    return [path for path in found if path.startswith(str(directory))]


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs Linux's /proc")
def test_the_file_is_made_late_and_has_no_name(tmp_path: Path) -> None:
    with Spool(str(tmp_path), memory=1000) as spool:
        spool.append(b"x" * 1000)
        assert open_files(tmp_path) == []
        spool.append(b"x")
        assert len(open_files(tmp_path)) == 1
        assert list(tmp_path.iterdir()) == []
    assert open_files(tmp_path) == []


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    """It is not missed until it is needed, and then by name of the cure."""
    with Spool(str(tmp_path / "absent"), memory=4) as spool:
        spool.append(b"four")
        with pytest.raises(LocalError, match=r"^cannot keep 5 bytes in a temporary file in .*: No such file") as caught:
            spool.append(b"5")
        assert caught.value.exit_code == 8
        assert caught.value.hint is not None
        assert "--tmpdir" in caught.value.hint
        assert read(spool, Kept(0, 4)) == b"four"


FULL_DISK = """
import resource, signal, sys
from ocirootfs.errors import LocalError
from ocirootfs.spool import Spool

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    with Spool(sys.argv[1], memory=int(sys.argv[2])) as spool:
        kept = []
        try:
            for size in sys.argv[3:]:
                kept.append((int(size), spool.keep([b"x" * int(size)])))
        finally:
            for size, each in kept:
                got = b"".join(spool.read(each))
                assert got == b"x" * size, (size, len(got))
except LocalError as error:
    print("LocalError:", error)
else:
    print("no error")
"""


def on_a_full_disk(directory: Path, memory: int, *sizes: int) -> str:
    """Keep runs of these sizes where a file may have 50,000 bytes, read back what could be kept, tell the outcome."""
    command = [sys.executable, "-c", FULL_DISK, str(directory), str(memory), *map(str, sizes)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or done.stderr.strip().splitlines()[-1]


def test_enough_room(tmp_path: Path) -> None:
    assert on_a_full_disk(tmp_path, 1, 40_000, 9_000) == "no error"


def test_one_run_too_large(tmp_path: Path) -> None:
    expected = f"LocalError: cannot keep 60000 bytes in a temporary file in {tmp_path}: File too large"
    assert on_a_full_disk(tmp_path, 1, 60_000) == expected


@pytest.mark.parametrize(
    ("memory", "sizes"),
    [(1, [49_000, 2_000]), (1, [4096] * 13), (1, [100] * 501), (45_000, [40_000, 4_000, 7_000])],
)
def test_a_full_disk_is_a_local_error_and_what_was_kept_before_stays(
    memory: int, sizes: list[int], tmp_path: Path
) -> None:
    outcome = on_a_full_disk(tmp_path, memory, *sizes)
    assert outcome.startswith("LocalError: cannot keep ")
