"""Where an archive goes: a file or a stream; for a bucket see `s3`.

Nobody sees an archive before `commit`, so that an input which turns out broken at its last byte has published
nothing. The caller's side of the contract is

    try:
        ... destination.write(block) ...
        stored = destination.commit()
    except BaseException:
        destination.abort()
        raise
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import io
import os
import stat
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Protocol, runtime_checkable

from ocirootfs.errors import DestinationError, LocalError, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

# Longer than this many bytes, a name leaves no room for our suffix in the 255 that file systems allow.
_STEM_BYTES = 240

_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
)


@dataclass(frozen=True, slots=True)
class Stored:
    """What a commit achieved.

    `location` is the path as given, `-` or `s3://bucket/key`; `size` counts bytes; `sha256` is the hex digest of
    the archive, empty where another run wrote it. `etag` and `version_id` are a bucket's own words, without quotes.
    """

    location: str
    size: int
    sha256: str
    etag: str | None = None
    version_id: str | None = None


@runtime_checkable
class Destination(Protocol):
    """Where an archive goes: all of it, or nothing."""

    @property
    def restartable(self) -> bool:
        """Whether `restart` can be called."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Take `data`, which the caller may reuse afterwards."""

    def restart(self) -> None:
        """Forget everything written so far and begin again."""

    def commit(self) -> Stored:
        """Publish; called once, and only after the whole input proved itself."""

    def abort(self) -> None:
        """Leave nothing behind. May be called again, after a failed commit, and after a commit (no effect)."""


@runtime_checkable
class Standing(Protocol):
    """A destination that may hold already what is to be written."""

    def standing(self) -> Stored | None:
        """Return what is there and is to stay; None if the archive is to be written."""


class Tally:
    """How many bytes passed by, and their SHA-256."""

    __slots__ = ("_hasher", "size")

    def __init__(self) -> None:
        self.size = 0
        self._hasher = hashlib.sha256()

    def add(self, data: bytes | bytearray | memoryview) -> None:
        """Count and hash `data` (the hash runs without the interpreter's lock)."""
        self.size += len(data)
        self._hasher.update(data)

    def stored(self, location: str) -> Stored:
        """Say what was stored at `location`."""
        return Stored(location, self.size, self._hasher.hexdigest())


class FileDestination:
    """A regular file, written beside its place and renamed into it.

    Raises DestinationError where something stands that is no regular file (a symbolic link is refused too, as
    docker's atomic writer does: following one that somebody else planted overwrites a file of ours), LocalError
    for everything that this machine cannot do. `path` is opened at once, so that a typing error is reported
    before the first byte is downloaded.
    """

    restartable = True

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._location = os.fspath(path)
        self._tally = Tally()
        self._require_replaceable()
        # The name cannot be guessed and "x" opens with O_EXCL: nobody can have planted a link there. The kernel
        # applies the umask (and default ACLs) to mode 0666, which no later chmod could do without reading the
        # umask, and the only call that reads it also changes it for every thread.
        directory, name = os.path.split(self._location)
        stem = os.fsdecode(os.fsencode(name)[:_STEM_BYTES])
        self._part: str | None = os.path.join(directory, f"{stem}.{os.urandom(4).hex()}.part")
        try:
            with self._local_errors():
                self._file = open(self._part, "xb", buffering=0)  # noqa: SIM115  # for as long as it is written
        except BaseException:  # a signal may have hit after the file was made
            with contextlib.suppress(OSError):  # which may be refused as making it was
                os.unlink(self._part)
            raise

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append `data`; LocalError when the disk, the quota or the size limit is exhausted."""
        with self._local_errors():
            _write_fully(self._file, data)
        self._tally.add(data)

    def restart(self) -> None:
        """Empty the file."""
        with self._local_errors():
            self._file.seek(0)
            self._file.truncate()
        self._tally = Tally()

    def commit(self) -> Stored:
        """Rename the file into its place."""
        self._require_replaceable()
        with self._local_errors():
            # Without it, a power cut after the rename leaves an empty file under the final name on file systems
            # that delay allocation; and NFS reports a full disk only here. The directory needs none: if the
            # rename is lost, the old state is back, which is also all or nothing.
            os.fsync(self._file.fileno())
            self._file.close()
            if self._part is not None:
                os.replace(self._part, self._location)
                self._part = None
        return self._tally.stored(self._location)

    def abort(self) -> None:
        """Remove the unfinished file; LocalError if the machine will not let us."""
        with contextlib.suppress(OSError):
            self._file.close()
        if self._part is not None:
            with self._local_errors(), contextlib.suppress(FileNotFoundError):
                os.unlink(self._part)
            self._part = None

    def _require_replaceable(self) -> None:
        if os.path.basename(self._location) in ("", ".", ".."):
            raise DestinationError(f"'{printable(self._location)}' is a directory")
        try:
            mode = os.lstat(self._location).st_mode
        except FileNotFoundError:
            return
        except OSError as error:
            raise _local_error(error, self._location, self._tally) from error
        if not stat.S_ISREG(mode):
            kind = next((name for test, name in _KINDS if test(mode)), "a device")
            raise DestinationError(
                f"'{printable(self._location)}' is {kind}, which is not replaced by a file",
                hint="name a file; '-o -' writes to standard output",
            )

    @contextmanager
    def _local_errors(self) -> Iterator[None]:
        with _local_errors(self._location, self._tally):
            yield


class StreamDestination:
    """An open binary stream, such as standard output.

    What went into a pipe cannot be taken back; a regular file whose end we are at can be, so there (and in a
    BytesIO) `restart` and `abort` truncate to where we began. BrokenPipeError passes through as it is: a reader
    that has seen enough is no failure.
    """

    def __init__(self, stream: BinaryIO, location: str = "-") -> None:
        self._stream = stream
        self._location = location
        self._tally = Tally()
        self._start = _rewind_point(stream)

    @property
    def restartable(self) -> bool:
        """Whether what was written can be taken back."""
        return self._start is not None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write all of `data`; LocalError when the disk is full."""
        with _local_errors(self._location, self._tally):
            _write_fully(self._stream, data)
        self._tally.add(data)

    def restart(self) -> None:
        """Truncate to where we began."""
        if self._start is None:
            raise io.UnsupportedOperation("restart")
        with _local_errors(self._location, self._tally):
            self._stream.seek(self._start)
            self._stream.truncate()
        self._tally = Tally()

    def commit(self) -> Stored:
        """Flush."""
        with _local_errors(self._location, self._tally):
            self._stream.flush()
        return self._tally.stored(self._location)

    def abort(self) -> None:
        """Take back what can be taken back."""
        if self._start is not None and self._tally.size:
            with contextlib.suppress(LocalError, ValueError):  # ValueError: the stream was closed
                self.restart()


def _rewind_point(stream: object) -> int | None:
    """Return the offset to go back to, or None where that cannot be done, or would lose what is not ours.

    Wrappers have a `fileno` and a `seek` too (gzip's, for one), so only the interpreter's own kinds of file are
    trusted. With O_APPEND the offset means nothing, and bytes behind it were there before us.
    """
    if isinstance(stream, io.BytesIO):
        return stream.tell() if stream.tell() == stream.getbuffer().nbytes else None
    if not isinstance(stream, io.FileIO | io.BufferedWriter | io.BufferedRandom):
        return None
    try:
        stream.flush()
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode):
            return None
        if fcntl.fcntl(stream.fileno(), fcntl.F_GETFL) & os.O_APPEND:
            return None
        offset = stream.tell()
    except OSError:
        return None
    return offset if offset == status.st_size else None


def _write_fully(stream: io.FileIO | BinaryIO, data: bytes | bytearray | memoryview) -> None:
    """Write all of `data`: under `python -u` even standard output is a raw file, whose writes may be short."""
    rest = memoryview(data).cast("B")
    while rest:
        written = stream.write(rest)
        if written is None:
            raise BlockingIOError(errno.EAGAIN, "the stream is set to non-blocking and its reader is slow")
        rest = rest[written:]


@contextmanager
def _local_errors(location: str, tally: Tally) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _local_error(error, location, tally) from error


def _local_error(error: OSError, location: str, tally: Tally) -> LocalError:
    """Say what the operating system refuses, for which file, and how far we came if there was no room."""
    where = "standard output" if location == "-" else f"'{printable(location)}'"
    if isinstance(error, FileNotFoundError):
        return LocalError(f"cannot write {where}: its directory does not exist")
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    progress = f" after {tally.size} bytes" if full else ""
    return LocalError(f"cannot write {where}: {error.strerror or error}{progress}")
