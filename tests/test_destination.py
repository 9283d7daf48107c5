from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import os
import stat
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import BinaryIO, cast

import pytest

from ocirootfs.destination import Destination, FileDestination, Stored, StreamDestination
from ocirootfs.errors import DestinationError, LocalError, OcirootfsError

DATA = b"archive" * 1000


def stored(location: str, data: bytes) -> Stored:
    return Stored(location, len(data), hashlib.sha256(data).hexdigest())


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_both_are_destinations(here: Path) -> None:
    destinations: list[Destination] = [FileDestination("a.tgz"), StreamDestination(io.BytesIO())]
    for destination in destinations:
        destination.write(DATA)
        assert destination.restartable
        assert destination.commit().size == len(DATA)


# --- a file


@pytest.mark.parametrize("path", ["a.tgz", "./a.tgz", Path("a.tgz")])
def test_a_file_appears_at_commit_and_not_before(here: Path, path: str | Path) -> None:
    destination = FileDestination(path)
    destination.write(DATA)
    assert not (here / "a.tgz").exists()
    destination.write(memoryview(bytearray(b"tail")))
    assert destination.commit() == stored(str(path), DATA + b"tail")
    assert (here / "a.tgz").read_bytes() == DATA + b"tail"
    assert names(here) == ["a.tgz"]


def test_an_existing_file_is_replaced_whole(here: Path) -> None:
    (here / "a.tgz").write_bytes(b"old")
    destination = FileDestination("a.tgz")
    destination.write(DATA)
    assert (here / "a.tgz").read_bytes() == b"old"
    destination.commit()
    assert (here / "a.tgz").read_bytes() == DATA


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0, 0o666)])
def test_the_umask_decides_the_mode(here: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        FileDestination("a.tgz").commit()
    finally:
        os.umask(before)
    assert stat.S_IMODE((here / "a.tgz").stat().st_mode) == mode


def test_abort_leaves_nothing_and_can_be_repeated(here: Path) -> None:
    (here / "a.tgz").write_bytes(b"old")
    destination = FileDestination("a.tgz")
    destination.write(DATA)
    destination.abort()
    destination.abort()
    assert names(here) == ["a.tgz"]
    assert (here / "a.tgz").read_bytes() == b"old"


def test_abort_after_commit_keeps_the_file(here: Path) -> None:
    destination = FileDestination("a.tgz")
    destination.commit()
    destination.abort()
    assert names(here) == ["a.tgz"]


def test_restart_forgets(here: Path) -> None:
    destination = FileDestination("a.tgz")
    destination.write(DATA)
    destination.restart()
    destination.write(b"other")
    assert destination.commit() == stored("a.tgz", b"other")
    assert (here / "a.tgz").read_bytes() == b"other"


def test_the_part_beside_cannot_be_guessed_and_fits(here: Path) -> None:
    name = "ä" * 127  # 254 bytes
    first, second = FileDestination(name), FileDestination(name)
    parts = names(here)
    assert len(set(parts)) == 2
    assert all(part.endswith(".part") for part in parts)
    second.abort()
    first.commit()
    assert names(here) == [name]


@pytest.mark.parametrize("kind", ["directory", "slash", "pipe", "link", "dangling", "dot"])
def test_only_a_regular_file_is_replaced(here: Path, kind: str) -> None:
    path = {"slash": "new/", "dot": "."}.get(kind, "there")
    if kind == "directory":
        (here / "there").mkdir()
    elif kind == "pipe":
        os.mkfifo("there")
    elif kind in ("link", "dangling"):
        (here / "there").symlink_to("target")
        if kind == "link":
            (here / "target").write_bytes(b"")
    before = names(here)
    with pytest.raises(DestinationError):
        FileDestination(path)
    assert names(here) == before


def test_what_appeared_meanwhile_is_not_replaced_either(here: Path) -> None:
    destination = FileDestination("a.tgz")
    (here / "a.tgz").mkdir()
    with pytest.raises(DestinationError):
        destination.commit()
    destination.abort()
    assert names(here) == ["a.tgz"]


def test_a_device_is_not_replaced() -> None:
    with pytest.raises(DestinationError, match="is a device"):
        FileDestination("/dev/null")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("no/such/a.tgz", "'no/such/a.tgz': its directory does not exist"),
        ("file/a.tgz", "'file/a.tgz': Not a directory"),
        ("n" * 300, "File name too long"),
        ("\x1b[2J/a.tgz", r"'\\x1b\[2J/a.tgz'"),
    ],
)
def test_what_the_machine_refuses_is_named(here: Path, path: str, message: str) -> None:
    (here / "file").write_bytes(b"")
    with pytest.raises(LocalError, match=message):
        FileDestination(path)
    assert names(here) == ["file"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_without_permission(here: Path) -> None:
    (here / "locked").mkdir(mode=0o500)
    with pytest.raises(LocalError, match="Permission denied"):
        FileDestination("locked/a.tgz")


def test_a_full_disk_is_a_local_error_and_leaves_nothing(here: Path) -> None:
    # The limit on the size of a file stands in for a full disk; it holds for a whole process.
    script = """
        import resource, sys
        from ocirootfs.destination import FileDestination
        from ocirootfs.errors import LocalError
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        destination = FileDestination("a.tgz")
        try:
            for _ in range(10):
                destination.write(bytes(30_000))
        except LocalError as error:
            destination.abort()
            print(error)
    """
    root = Path(__file__).parent.parent
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert result.stdout == "cannot write 'a.tgz': File too large after 90000 bytes\n"
    assert names(here) == []


def test_no_file_stays_open(here: Path) -> None:
    before = names(Path("/proc/self/fd"))
    FileDestination("a").commit()
    FileDestination("b").abort()
    assert names(Path("/proc/self/fd")) == before


# --- a stream


def test_a_stream_gets_every_byte_at_once() -> None:
    stream = io.BytesIO()
    destination = StreamDestination(stream)
    destination.write(DATA)
    assert stream.getvalue() == DATA
    assert destination.commit() == stored("-", DATA)


def test_a_pipe_cannot_be_restarted() -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as source, os.fdopen(writer, "wb") as stream:
        destination = StreamDestination(stream)
        assert not destination.restartable
        with pytest.raises(io.UnsupportedOperation):
            destination.restart()
        destination.write(b"some")
        destination.commit()
        destination.abort()
        assert source.read(4) == b"some"


@pytest.mark.parametrize("buffering", [0, -1])
@pytest.mark.parametrize("end", ["restart", "abort"])
def test_a_regular_file_goes_back_to_where_we_began(here: Path, buffering: int, end: str) -> None:
    with (here / "out").open("w+b", buffering=buffering) as stream:
        stream.write(b"before")
        destination = StreamDestination(stream)
        assert destination.restartable
        destination.write(DATA)
        getattr(destination, end)()
        destination.write(b"after")
        assert destination.commit() == stored("-", b"after") or end == "abort"
    assert (here / "out").read_bytes() == b"beforeafter"


def test_a_bytesio_restarts() -> None:
    stream = io.BytesIO()
    destination = StreamDestination(stream)
    destination.write(DATA)
    destination.restart()
    destination.write(b"x")
    assert stream.getvalue() == b"x"


def test_what_may_not_be_cut_is_not_restartable(here: Path) -> None:
    (here / "out").write_bytes(b"contents")
    with (here / "out").open("ab") as appending:
        assert not StreamDestination(appending).restartable
    with (here / "out").open("r+b") as overwriting:
        assert not StreamDestination(overwriting).restartable
    with gzip.open("packed", "wb") as packed:
        assert not StreamDestination(cast("BinaryIO", packed)).restartable


def test_a_broken_pipe_passes_through() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb", buffering=0) as stream:
        destination = StreamDestination(cast("BinaryIO", stream))
        with pytest.raises(BrokenPipeError):
            destination.write(DATA)
        destination.abort()


@pytest.mark.parametrize("buffering", [0, -1])
def test_a_full_device_is_a_local_error(buffering: int) -> None:
    def fill(destination: StreamDestination) -> None:
        destination.write(DATA)
        destination.commit()

    with Path("/dev/full").open("wb", buffering=0) as raw:
        stream = raw if not buffering else io.BufferedWriter(raw)
        with pytest.raises(LocalError, match="cannot write standard output: No space left on device after"):
            fill(StreamDestination(cast("BinaryIO", stream)))
        with contextlib.suppress(OSError):
            stream.close()


class Trickle(io.RawIOBase):
    """A raw stream whose writes are short, as those of a terminal or a socket may be."""

    def __init__(self) -> None:
        self.received = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int | None:
        taken = memoryview(cast("bytes", data))[:7]
        self.received += taken
        return len(taken)


def test_short_writes_are_continued() -> None:
    stream = Trickle()
    StreamDestination(cast("BinaryIO", stream)).write(DATA)
    assert stream.received == DATA


class Stalled(Trickle):
    def write(self, data: object) -> int | None:
        return None


def test_a_stream_that_would_block_is_an_error_not_a_loop() -> None:
    with pytest.raises(LocalError, match="non-blocking"):
        StreamDestination(cast("BinaryIO", Stalled())).write(DATA)


def test_errors_have_the_exit_codes_of_their_owners() -> None:
    assert issubclass(LocalError, OcirootfsError)
    assert (LocalError.exit_code, DestinationError.exit_code) == (8, 7)
