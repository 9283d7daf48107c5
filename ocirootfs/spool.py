"""Bytes kept aside: in memory while they are few, then in one unnamed temporary file."""

from __future__ import annotations

import io
from typing import IO, TYPE_CHECKING, NamedTuple

from ocirootfs.errors import LocalError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ocirootfs.entry import Piece

_PIECE = 1 << 18


class Kept(NamedTuple):
    """Where in a spool something was kept."""

    offset: int
    size: int


class Spool:
    """A place for bytes that are needed once more.

    The file has no name, so nothing is left behind however the process ends. It is made in `directory`, by default
    where TMPDIR points, once more than `memory` bytes are kept; LocalError says so when that fails.
    """

    def __init__(self, directory: str | None = None, memory: int = 4 << 20) -> None:
        self._directory = directory
        self._memory = memory
        self._file: IO[bytes] = io.BytesIO()
        self._end = 0

    def append(self, piece: Piece) -> None:
        """Keep one more piece."""
        try:
            if self._end + len(piece) > self._memory and isinstance(self._file, io.BytesIO):
                self._to_disk(self._file)
            self._file.seek(self._end)
            _write_all(self._file, piece)
        except OSError as error:
            import tempfile  # noqa: PLC0415  # as below

            need = self._end + len(piece)
            raise LocalError(
                f"cannot keep {need} bytes in a temporary file in {self._directory or tempfile.gettempdir()}: "
                f"{error.strerror}",
                hint="point TMPDIR or --tmpdir to a directory with room that you may write to",
            ) from error
        self._end += len(piece)

    def _to_disk(self, held: io.BytesIO) -> None:
        import tempfile  # noqa: PLC0415  # what stays in memory does without

        # Unbuffered, so that a full disk is met here and not in a later seek or close.
        file = tempfile.TemporaryFile(dir=self._directory, buffering=0)  # noqa: SIM115  # close() ends it
        try:
            held.seek(0)
            for piece in iter(lambda: held.read(_PIECE), b""):  # copies: a view would outlive this in a traceback
                _write_all(file, piece)
        except OSError:
            file.close()
            raise
        self._file = file

    def keep(self, pieces: Iterable[Piece]) -> Kept:
        """Keep all pieces as one run of bytes."""
        start = self._end
        for piece in pieces:
            self.append(piece)
        return self.since(start)

    @property
    def end(self) -> int:
        """Bytes kept so far."""
        return self._end

    def since(self, start: int) -> Kept:
        """Return all that was kept from offset `start` on, as one run."""
        return Kept(start, self._end - start)

    def release(self, kept: Kept) -> None:
        """Give back the room of the run that was kept last; any other stays where it is."""
        if kept.offset + kept.size == self._end:
            self._file.truncate(kept.offset)
            self._end = kept.offset

    def read(self, kept: Kept) -> Iterator[bytes]:
        """Yield what was kept, piece by piece; the spool may grow meanwhile."""
        at, end = kept.offset, kept.offset + kept.size
        while at < end:
            self._file.seek(at)
            piece = self._file.read(min(_PIECE, end - at))
            if not piece:
                raise LocalError("a temporary file has become shorter")
            at += len(piece)
            yield piece

    def clear(self) -> None:
        """Forget everything and give the room back."""
        if self._end:
            self._file.seek(0)
            self._file.truncate()
            self._end = 0

    def close(self) -> None:
        """Give up the file."""
        self._file.close()

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _write_all(file: IO[bytes], piece: Piece) -> None:
    """Write all of a piece: an unbuffered file may take less at a time."""
    left = memoryview(piece)
    while left:
        left = left[file.write(left) :]
