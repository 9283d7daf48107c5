"""What GNU tar and busybox tar make of each entry, as root in a worker's user namespace.

The theory of operation. Both were measured (GNU tar 1.34, busybox 1.35 and 1.37). What an entry comes to depends on
those before it: whether its parents are directories, whether its name is taken, whether its link's target is there. So
the kind of each path is kept, and nothing else of it. Links that come before their target wait until it does, or the
archive ends.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from ocirootfs.tar import pax

if TYPE_CHECKING:
    from ocirootfs.consumer.finding import Findings
    from ocirootfs.consumer.stream import Member

_HIGHEST_ID = 2**32 - 3  # a worker maps 0 to 2**32 - 2, and 1 to 2**32 - 3 to themselves
_HIGH_ID = 65_535  # what a worker in a namespace of 65,536 ids cannot map
_COMPONENT, _PATH = 255, 4095  # bytes that Linux takes
_BILLION = 10**9
_HOPS = 40
_XATTRS = (b"SCHILY.xattr.", b"LIBARCHIVE.xattr.", b"SCHILY.acl.")
_KNOWN = b"01234567S"
_MOUNTS = (b"dev", b"proc", b"sys")
_OVERWRITTEN = (b"url", b"s3_uri", b"version", b"tags.json")  # s3-resource, in/command.go


class Kind(IntEnum):
    """What is at a path by now."""

    FILE = 1
    SYMLINK = 2
    LATE_SYMLINK = 3  # absolute, or with '..': tars make it last
    EMPTY_DIRECTORY = 4
    DIRECTORY = 5
    IMPLIED = 6  # a directory without an entry


_DIRECTORIES = (Kind.EMPTY_DIRECTORY, Kind.DIRECTORY, Kind.IMPLIED)


def parts(name: bytes) -> list[bytes]:
    """Cut a name into its components, empty ones and dots left out."""
    return [part for part in name.split(b"/") if part not in (b"", b".")]


class Tree:
    """What an archive has unpacked to so far; `intermediate` is what the resource calls the tar beside it."""

    def __init__(self, findings: Findings, intermediate: bytes | None) -> None:
        self._findings = findings
        self._intermediate = intermediate
        self._kinds: dict[bytes, Kind] = {}
        self._links: dict[bytes, bytes] = {}
        self._waiting: dict[bytes, bytes] = {}
        self._parent = b""

    def kind(self, path: bytes) -> Kind | None:
        """Return what is at a path."""
        return self._kinds.get(path)

    def has_more_than_directories(self) -> bool:
        """Tell whether anything lies below rootfs that could run."""
        return any(kind not in _DIRECTORIES and path.startswith(b"rootfs/") for path, kind in self._kinds.items())

    def add(self, member: Member) -> bytes | None:
        """Judge an entry, and return the path at which it is; None if it is nowhere."""
        name = parts(member.name)
        add = self._findings.add
        if b".." in name:
            add("dotdot-name", member.name)
            return None
        if member.name.startswith(b"/"):
            add("absolute-name", member.name)
        _judge_owner(member, self._findings)
        _judge_records(member, self._findings)
        if not name:
            add("root-entry", member.name or b"./", f"mode {member.mode & 0o7777:04o}, {member.uid}:{member.gid}")
            return None
        if max(map(len, name)) > _COMPONENT or len(member.name) > _PATH or len(member.link) > _PATH:
            add("long-name", member.name)
            return None
        if not self._judge_type(member):
            return None
        path = b"/".join(name)
        self._judge_place(name, member)
        self._enter(path, name)
        self._place(path, member)
        return path

    def finish(self) -> None:
        """Judge what only the end shows."""
        for target, name in self._waiting.items():
            self._findings.add("link-dangling", name, f"'{target.decode(errors='backslashreplace')}' is not there")
        for path, kind in self._kinds.items():
            if kind is Kind.IMPLIED:
                self._findings.add("parents-missing", path)

    def _judge_type(self, member: Member) -> bool:
        """Say what is odd about the type; False for what makes nothing."""
        add = self._findings.add
        if member.kind == b"V":
            return False
        if member.kind not in _KNOWN:
            add("unknown-type", member.name, f"'{member.kind.decode(errors='backslashreplace')}'")
        elif member.kind == b"S":
            add("sparse-pax" if b"GNU.sparse.name" in member.records else "sparse", member.name)
        elif member.kind in b"34":
            is_whiteout = member.kind == b"3" and member.device == (0, 0)
            add("device-zero" if is_whiteout else "device", member.name)
        return True

    def _judge_place(self, name: list[bytes], member: Member) -> None:
        add = self._findings.add
        if len(name) == 1 and name[0] in _OVERWRITTEN:
            add("overwritten", name[0])
        if len(name) == 1 and name[0] == self._intermediate and name[0] not in (b"rootfs", b"metadata.json"):
            add("name-lost", name[0])
        if len(name) > 2 and name[0] == b"rootfs" and name[1] in _MOUNTS:
            add("below-mounts", member.name)

    def _enter(self, path: bytes, name: list[bytes]) -> None:
        """Go through the parents of a path, which become directories if there is nothing."""
        parent = path.rpartition(b"/")[0]
        if parent == self._parent:
            return
        add = self._findings.add
        at = b""
        for part in name[:-1]:
            at = at + b"/" + part if at else part
            kind = self._kinds.get(at)
            if kind is None:
                self._kinds[at] = Kind.IMPLIED
            elif kind is Kind.EMPTY_DIRECTORY:
                self._kinds[at] = Kind.DIRECTORY
            elif kind not in _DIRECTORIES:
                codes = {Kind.SYMLINK: "through-symlink", Kind.LATE_SYMLINK: "through-late-symlink"}
                add(codes.get(kind, "through-file"), path)
                return
        self._parent = parent

    def _place(self, path: bytes, member: Member) -> None:
        """Put an entry at its path."""
        before = self._kinds.get(path)
        if member.kind == b"5":
            self._place_directory(path, before)
            return
        if before is not None:
            codes = {Kind.EMPTY_DIRECTORY: "empty-directory-then-file"} | dict.fromkeys(
                (Kind.DIRECTORY, Kind.IMPLIED), "directory-then-file"
            )
            self._findings.add(codes.get(before, "duplicate"), path)
            self._parent = b""
        kind = Kind.FILE
        if member.kind == b"2":
            is_late = member.link.startswith(b"/") or b".." in parts(member.link)
            kind = Kind.LATE_SYMLINK if is_late else Kind.SYMLINK
            self._links[path] = member.link
        elif member.kind == b"1":
            kind = self._linked(path, member)
        self._kinds[path] = kind
        if self._waiting.pop(path, None) is not None:
            self._findings.add("link-forward", path)

    def _place_directory(self, path: bytes, before: Kind | None) -> None:
        if before in (Kind.SYMLINK, Kind.LATE_SYMLINK):
            self._findings.add("symlink-then-directory", path)
        elif before is Kind.FILE:
            self._findings.add("file-then-directory", path)
        is_full = before in (Kind.DIRECTORY, Kind.IMPLIED)
        self._kinds[path] = Kind.DIRECTORY if is_full else Kind.EMPTY_DIRECTORY
        self._parent = b""

    def _linked(self, path: bytes, member: Member) -> Kind:
        """Follow a hard link; one whose target is not there yet waits for it."""
        if member.link.startswith(b"/"):
            self._findings.add("link-absolute", path)
        target = parts(member.link)
        if b".." in target:
            self._findings.add("link-dotdot", path)
            target = target[len(target) - target[::-1].index(b"..") :]
        wanted = self._resolved(b"/".join(target))
        kind = self._kinds.get(wanted)
        if kind in _DIRECTORIES:
            self._findings.add("link-dangling", path, "a directory")
        elif kind is None:
            self._waiting.setdefault(wanted, path)
        return Kind.FILE if kind is None or kind in _DIRECTORIES else kind

    def _resolved(self, path: bytes) -> bytes:
        """Return a path with those symbolic links followed that are made at once."""
        for _ in range(_HOPS):
            cut = path.find(b"/")
            while cut >= 0 and self._kinds.get(path[:cut]) is not Kind.SYMLINK:
                cut = path.find(b"/", cut + 1)
            if cut < 0:
                return path
            folder = path[:cut].rpartition(b"/")[0]
            path = b"/".join(parts(b"/".join([folder, self._links[path[:cut]], path[cut + 1 :]])))
        return path


def _judge_owner(member: Member, findings: Findings) -> None:
    """Say what becomes of an entry's owner."""
    ids = (member.uid, member.gid)
    if any(not 0 <= number <= _HIGHEST_ID for number in ids):
        findings.add("id-unmappable", member.name, f"{member.uid}:{member.gid}")
    elif max(ids) >= _HIGH_ID:
        findings.add("id-high", member.name, f"{member.uid}:{member.gid}")
    for name, number in zip(member.names, ids, strict=True):
        if name and (name, number) != (b"root", 0):
            findings.add("owner-names", member.name, f"'{name.decode(errors='backslashreplace')}'")
            return


def _judge_records(member: Member, findings: Findings) -> None:
    """Say what becomes of what a PAX header says."""
    records = member.records
    if not records:
        return
    if (member.uid, member.gid) != member.plain[:2]:
        findings.add("pax-owner", member.name, f"{member.uid}:{member.gid}")
    if member.size != member.plain[2] and member.kind != b"S":
        findings.add("pax-size", member.name)
    if records.get(b"mtime") and pax.nanoseconds(records[b"mtime"]) // _BILLION != member.plain[3]:
        findings.add("pax-time", member.name)
    if b"hdrcharset" in records:
        findings.add("pax-charset", member.name)
    for key in records:
        if key.startswith(_XATTRS):
            code = "capabilities-lost" if key.endswith(b"security.capability") else "xattrs-lost"
            findings.add(code, member.name)
