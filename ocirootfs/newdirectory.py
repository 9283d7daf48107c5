"""A directory that is there as a whole or not at all: made beside its place, and renamed into it.

The caller's side of the contract is that of `destination`: write below `descriptor`, then `commit`, and `abort` on any
exception.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ocirootfs.errors import DestinationError, LocalError, UsageError, printable
from ocirootfs.opendirectories import DIRECTORY, is_empty

if TYPE_CHECKING:
    from collections.abc import Iterator

# Longer than this many bytes, a name leaves no room for our suffix in the 255 that file systems allow.
_STEM_BYTES = 240
_SEARCHABLE = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
_TAKEN = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.EBUSY)


class NewDirectory:
    """A directory in the making. `descriptor` is open on it; until `commit` nobody else can enter it.

    What stands in its place may only be an empty directory, whose mode and owner stay. Raises UsageError if it is
    anything else, LocalError for everything that this machine cannot do. All of that is told at once, before the first
    layer is read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.location = os.fspath(path)
        head, self._name = os.path.split(self.location.rstrip("/"))
        if self._name in ("", ".", ".."):
            raise UsageError(
                f"'{printable(self.location)}' cannot be replaced as a whole",
                hint="name a directory that is not there yet; it is made",
            )
        self._part: str | None = None
        self.descriptor = -1
        with self._local_errors():
            self._parent = os.open(head or ("/" if self.location.startswith("/") else "."), _SEARCHABLE)
        try:
            with self._local_errors():
                self._replaced = self._replaceable()
                self._begin()
        except BaseException:  # a signal may have hit after the directory was made
            self.abort()
            raise

    def _replaceable(self) -> os.stat_result | None:
        """Return the status of the empty directory that is to be replaced, if there is one."""
        try:
            found = os.stat(self._name, dir_fd=self._parent, follow_symlinks=False)
        except FileNotFoundError:
            return None
        if not stat.S_ISDIR(found.st_mode):
            raise UsageError(f"'{printable(self.location)}' is there and is no directory")
        if found.st_dev != os.fstat(self._parent).st_dev:
            raise UsageError(
                f"'{printable(self.location)}' is a file system's mount point, which cannot be replaced",
                hint="name a new directory inside it",
            )
        descriptor = os.open(self._name, DIRECTORY, dir_fd=self._parent)
        try:
            if not is_empty(descriptor):
                raise UsageError(
                    f"the directory '{printable(self.location)}' is not empty",
                    hint="name one that is not there yet; nothing is ever written over",
                )
        finally:
            os.close(descriptor)
        return found

    def _begin(self) -> None:
        # The name cannot be guessed, and mkdir follows nothing: nobody can have planted a link there.
        stem = os.fsdecode(os.fsencode(self._name)[:_STEM_BYTES])
        self._part = f"{stem}.part-{os.urandom(4).hex()}"
        os.mkdir(self._part, 0o700, dir_fd=self._parent)
        self.descriptor = os.open(self._part, DIRECTORY, dir_fd=self._parent)

    def restart(self) -> None:
        """Remove everything in it."""
        with self._local_errors():
            empty(self.descriptor)

    def commit(self) -> None:
        """Rename it into its place; DestinationError if something has appeared there meanwhile."""
        with self._local_errors("replace"):
            if self._replaced is not None:
                self._resemble(self._replaced)
            os.rename(self._part or "", self._name, src_dir_fd=self._parent, dst_dir_fd=self._parent)
        self._part = None
        self._close()

    def _resemble(self, replaced: os.stat_result) -> None:
        if os.geteuid() == 0:
            os.fchown(self.descriptor, replaced.st_uid, replaced.st_gid)
        else:
            with contextlib.suppress(PermissionError):  # a group that the caller is not in
                os.fchown(self.descriptor, -1, replaced.st_gid)
        os.fchmod(self.descriptor, stat.S_IMODE(replaced.st_mode))

    def abort(self) -> None:
        """Remove it, unless it has been committed; LocalError if the machine will not let us. May be called again."""
        try:
            if self._is_unfinished():
                with self._local_errors("remove"):
                    if self.descriptor >= 0:
                        empty(self.descriptor)
                    os.rmdir(self._part or "", dir_fd=self._parent)
        finally:
            self._part = None
            self._close()

    def _is_unfinished(self) -> bool:
        """Tell whether the directory is still where it was made: a signal may have hit right after it was renamed."""
        if self._part is None:
            return False
        try:
            found = os.stat(self._part, dir_fd=self._parent, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return self.descriptor < 0 or os.path.samestat(found, os.fstat(self.descriptor))

    def _close(self) -> None:
        for descriptor in (self.descriptor, self._parent):
            if descriptor >= 0:
                os.close(descriptor)
        self.descriptor = self._parent = -1

    @contextmanager
    def _local_errors(self, verb: str = "make") -> Iterator[None]:
        try:
            yield
        except OSError as error:
            where = f"'{printable(self.location)}'"
            if error.errno in _TAKEN and verb == "replace":
                raise DestinationError(f"{where} cannot be replaced: {error.strerror}") from error
            if isinstance(error, FileNotFoundError):
                raise LocalError(f"cannot {verb} {where}: the directory it is to be in does not exist") from error
            left = f"; '{printable(self._part or '')}' is left beside it" if verb == "remove" else ""
            raise LocalError(f"cannot {verb} {where}: {error.strerror or error}{left}") from error


def empty(root: int) -> None:
    """Remove all that is in an open directory of our own, whatever the modes and however deep.

    Directories inside are moved up to the top before they are emptied, so that two are open at a time, no path becomes
    long, and nothing recurs. No link is followed.
    """
    os.fchmod(root, 0o700)  # nobody else is to be in here now
    names = (f"{os.urandom(8).hex()}.{number}" for number in itertools.count())
    while directories := _removed_but_directories(root):
        for name in directories:
            descriptor = _entered(name, root)
            try:
                for inner in _removed_but_directories(descriptor):
                    os.close(_entered(inner, descriptor))  # a directory that cannot be written cannot be moved either
                    os.rename(inner, next(names), src_dir_fd=descriptor, dst_dir_fd=root)
            finally:
                os.close(descriptor)
            os.rmdir(name, dir_fd=root)


def _removed_but_directories(directory: int) -> list[str]:
    """Remove what is no directory, and return the names of those."""
    with os.scandir(directory) as found:
        entries = list(found)
    left = []
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            left.append(entry.name)
        else:
            os.unlink(entry.name, dir_fd=directory)
    return left


def _entered(name: str, parent: int) -> int:
    """Open a directory, and make it ours to change."""
    try:
        descriptor = os.open(name, DIRECTORY, dir_fd=parent)
    except PermissionError:
        # Only a user's own directories can refuse that user, and nobody else can have put anything here.
        os.chmod(name, 0o700, dir_fd=parent)
        descriptor = os.open(name, DIRECTORY, dir_fd=parent)
    with contextlib.suppress(PermissionError):
        os.fchmod(descriptor, 0o700)
    return descriptor
