"""Visible entries, written to disk below an open directory, with no right but that of writing there.

Every entry is made anew, by a call that fails if its name is there (O_EXCL, mkdir, symlink, link) and follows no link,
below directories that were made the same way (`opendirectories`). Attributes are set on the descriptor that the call
gave, and those of a directory last, when nothing will be written in it any more: until then it has mode 0700. So no
layer can reach what is outside, whatever it holds: its names meet nothing but our own empty directory.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ocirootfs.entry import Entry, Kind
from ocirootfs.errors import LocalError, printable
from ocirootfs.opendirectories import OpenDirectories, is_empty

if TYPE_CHECKING:
    from ocirootfs.entry import Body, Piece
    from ocirootfs.flattening import Visible

KEEP = b".keep"
"""The name of the file that keeps an empty directory where only files are kept, as in git."""

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC  # O_EXCL follows no link, either (open(2))
# A named pipe that was just made is opened for its attributes only: reading from it would not wait, nor does this.
_PIPE = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
_SET_IDS = stat.S_ISUID | stat.S_ISGID
_CAPABILITY = b"security.capability"
# Another tool's records of owners and of hidden files, which would take a layer's word for its own.
_RESERVED = (b"user.overlay.", b"user.rootlesscontainers", b"user.containers.", b"user.fuseoverlayfs.")
_ROOT = Entry(b"", Kind.DIRECTORY, 0o755, 0, 0, 0)
_FARTHEST = (2**63 - 1) * 10**9  # what a kernel's seconds hold; a file system may hold less, and clamps


@dataclass(slots=True)
class Losses:
    """What of a tree could not be written: filled while it is."""

    set_ids: list[bytes] = field(default_factory=list)
    """Paths of files without their setuid and setgid bits, because they have not got their owners."""
    xattrs: list[bytes] = field(default_factory=list)
    """Paths with extended attributes, of those asked for, that the file system or the kernel did not take."""
    capabilities: list[bytes] = field(default_factory=list)
    """Paths of files without their capabilities, because extended attributes were not asked for."""


@dataclass(frozen=True, slots=True)
class Attributes:
    """What goes to disk besides contents, modes and times.

    `owners` gives files to their owners, which takes root; without it they are the caller's, and regular files lose
    their setuid and setgid bits, which would lend out the caller's rights instead of the owner's. `xattrs` writes
    `user.*` attributes and file capabilities. `keep_empty` puts a `.keep` into directories that have nothing in them.
    """

    owners: bool = False
    xattrs: bool = False
    keep_empty: bool = False


class TreeWriter:
    """Writes entries below `root`, an open directory that is empty and nobody else's; `location` names it in errors.

    LocalError says which entry cannot be written, and why. To be closed.
    """

    def __init__(self, root: int, location: str, attributes: Attributes, losses: Losses) -> None:
        self._location = location
        self._losses = losses
        self._owners = attributes.owners
        self._xattrs = attributes.xattrs
        self._keep_empty = attributes.keep_empty
        self._directories = OpenDirectories(root)

    def __enter__(self) -> TreeWriter:
        """Begin; that owners cannot be given is told here, and not when the image has been downloaded."""
        if self._owners:
            try:
                os.fchown(self._directories.of(b""), 0, 0)
            except OSError as error:
                raise self._refused(_ROOT, error) from error
        return self

    def __exit__(self, *exception: object) -> None:
        self._directories.close_all()

    def write(self, visible: Visible) -> int:
        """Write entries in the order of `flatten`, each below directories that are not complete; return how many."""
        count = 0
        for entry, body in visible:
            self.put(entry, body)
            count += 1
        return count

    def put(self, entry: Entry, body: Body) -> None:
        """Write one entry; a directory is complete then, and a hard link's target is there already."""
        head, _, name = entry.path.rpartition(b"/")
        kind = entry.kind
        try:
            if kind is Kind.DIRECTORY:
                self._directory(entry)
            elif kind is not Kind.FILE:
                self._special(entry, name, self._directories.of(head))
            else:
                descriptor = os.open(name, _NEW, 0o600, dir_fd=self._directories.of(head))
        except OSError as error:
            raise self._refused(entry, error) from error
        if kind is Kind.FILE:
            self._fill(descriptor, entry, body)

    def _fill(self, descriptor: int, entry: Entry, body: Body) -> None:
        try:
            if entry.size:
                self._content(descriptor, entry, body)
            self._describe(descriptor, entry)
        finally:
            os.close(descriptor)

    def _content(self, descriptor: int, entry: Entry, body: Body) -> None:
        for piece in body:
            try:
                written = os.write(descriptor, piece)
                if written != len(piece):
                    _write_rest(descriptor, piece, written)
            except OSError as error:
                raise self._refused(entry, error) from error

    def _describe(self, descriptor: int, entry: Entry) -> None:
        """Set attributes in the one order that works: a change of owner clears bits, and mode 0444 refuses xattrs."""
        try:
            mode = entry.mode
            if self._owners:
                os.fchown(descriptor, entry.uid, entry.gid)
            elif mode & _SET_IDS and entry.kind is Kind.FILE:
                mode &= ~_SET_IDS
                self._losses.set_ids.append(entry.path)
            if entry.xattrs:
                self._set_xattrs(descriptor, entry)
            os.fchmod(descriptor, mode)
            os.utime(descriptor, ns=_times(entry))
        except OSError as error:
            raise self._refused(entry, error) from error

    def _set_xattrs(self, descriptor: int, entry: Entry) -> None:
        if not self._xattrs:
            if any(name == _CAPABILITY for name, _ in entry.xattrs):
                self._losses.capabilities.append(entry.path)
            return
        is_complete = True
        for name, value in entry.xattrs:
            if name != _CAPABILITY and (not name.startswith(b"user.") or name.startswith(_RESERVED)):
                continue
            try:
                os.setxattr(descriptor, name, value)
            except OSError:  # each file system has limits and answers of its own (ext4 says ENOSPC of a long value)
                is_complete = False
        if not is_complete:
            self._losses.xattrs.append(entry.path)

    def _special(self, entry: Entry, name: bytes, parent: int) -> None:
        match entry.kind:
            case Kind.HARDLINK:
                self._link(entry.link, name, parent)
            case Kind.SYMLINK:
                os.symlink(entry.link, name, dir_fd=parent)
                self._describe_name(name, parent, entry)
            case Kind.FIFO:
                os.mkfifo(name, 0o600, dir_fd=parent)
                descriptor = os.open(name, _PIPE, dir_fd=parent)
                try:
                    self._describe(descriptor, entry)
                finally:
                    os.close(descriptor)
            case _:
                self._device(entry, name, parent)

    def _link(self, target: bytes, name: bytes, parent: int) -> None:
        head, _, leader = target.rpartition(b"/")
        here = os.dup(parent)  # looking for the other directory may close this one
        try:
            there = self._directories.of(head)
            os.link(leader, name, src_dir_fd=there, dst_dir_fd=here, follow_symlinks=False)
        finally:
            os.close(here)

    def _device(self, entry: Entry, name: bytes, parent: int) -> None:
        """Make a device node. It is never opened, which could do anything; nobody else can put a link in its place."""
        file_type = stat.S_IFCHR if entry.kind is Kind.CHAR else stat.S_IFBLK
        os.mknod(name, file_type | 0o600, os.makedev(*entry.device), dir_fd=parent)
        self._describe_name(name, parent, entry)
        os.chmod(name, entry.mode, dir_fd=parent)

    def _describe_name(self, name: bytes, parent: int, entry: Entry) -> None:
        """Set owner and time of what cannot be opened."""
        if self._owners:
            os.chown(name, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
        os.utime(name, ns=_times(entry), dir_fd=parent, follow_symlinks=False)
        if entry.xattrs and self._xattrs:
            self._losses.xattrs.append(entry.path)

    def _directory(self, entry: Entry) -> None:
        path = entry.path
        if self._keep_empty and self._is_empty(path):
            kept = Entry(path + b"/" + KEEP if path else KEEP, Kind.FILE, 0o644, entry.uid, entry.gid, entry.mtime)
            self.put(kept, ())
        self._describe(self._directories.of(path), entry)
        self._directories.close(path)

    def _is_empty(self, path: bytes) -> bool:
        """Tell whether nothing was put into a directory: then it has not been made, unless it is the root."""
        if path:
            return not self._directories.has(path)
        return is_empty(self._directories.of(b""))

    def _refused(self, entry: Entry, error: OSError) -> LocalError:
        """Say what the operating system refuses, and for which entry."""
        path = f"'{printable(entry.path)}' in " if entry.path else ""
        where = f"cannot write {path}'{printable(self._location)}'"
        hint = None
        match error.errno:
            case errno.EEXIST:
                why = "the file system takes its name for another one of the image's"
                hint = "use one that tells names apart by case and spelling, as those of Linux do"
            case errno.EINVAL if self._owners:
                why = f"its owner {entry.uid}:{entry.gid} is not mapped in this user namespace"
                hint = "--chown no leaves all files to you"
            case errno.ENOENT if entry.kind is Kind.SYMLINK and not entry.link:
                why = "no file system has a symbolic link to nothing"
            case errno.EPERM if entry.kind in (Kind.CHAR, Kind.BLOCK):
                why, hint = "making device nodes takes root", "--devices drop leaves them out"
            case errno.EPERM if self._owners:
                why, hint = "giving files to their owners takes root", "--chown no leaves all files to you"
            case _:
                why = error.strerror or str(error)
        return LocalError(f"{where}: {why}", hint=hint)


def _times(entry: Entry) -> tuple[int, int]:
    mtime = entry.mtime
    if not -_FARTHEST <= mtime <= _FARTHEST:
        mtime = _FARTHEST if mtime > 0 else -_FARTHEST
    return mtime, mtime


def _write_rest(descriptor: int, piece: Piece, written: int) -> None:
    rest = memoryview(piece)[written:]
    while rest:
        rest = rest[os.write(descriptor, rest) :]
