"""What GNU tar and busybox tar make of each entry, as root in a worker's user namespace.

The theory of operation. Both were measured (GNU tar 1.34, busybox 1.35 and 1.37). What an entry comes to depends on
those before it: whether its parents are directories, whether its name is taken, whether its link's target is there. So
the kind of each path is kept, at the place to which symbolic links lead it, and nothing else of it. Links that come
before their target wait until it does, or the archive ends. busybox makes hard links and some symbolic links last, so
that it matters to them what comes later.
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
_COMPONENT, _PATH = 255, 4094  # bytes that Linux takes, and busybox, for which a path's NUL counts
_BILLION = 10**9
_HOPS = 40
_XATTRS = (b"SCHILY.xattr.", b"LIBARCHIVE.xattr.", b"SCHILY.acl.")
_KNOWN = b"01234567S"
_FOLDERS = b"5D"  # D comes with a list of what is in it, from GNU tar --incremental
_MOUNTS = (b"dev", b"proc", b"sys")
_WRITTEN = (b"url", b"s3_uri", b"version")  # s3-resource, in/command.go
_OVERWRITTEN = (*_WRITTEN, b"tags.json")  # which is only written if download_tags is set


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
        self._kinds: dict[bytes, Kind] = {b"": Kind.DIRECTORY}
        self._links: dict[bytes, bytes] = {}
        self._waiting: dict[bytes, bytes] = {}
        self._late: set[bytes] = set()  # what busybox makes last
        self._targets: set[bytes] = set()  # of hard links
        self._parent = b""

    def kind(self, path: bytes) -> Kind | None:
        """Return what is at a path."""
        return self._kinds.get(path)

    def is_hard_link(self, path: bytes) -> bool:
        """Tell whether a path is another name of a file."""
        return path in self._late and self._kinds[path] is Kind.FILE

    def has_more_than_directories(self) -> bool:
        """Tell whether anything lies below rootfs that could run."""
        return any(kind not in _DIRECTORIES and path.startswith(b"rootfs/") for path, kind in self._kinds.items())

    def add(self, member: Member) -> bytes | None:
        """Judge an entry, and return the path at which it is; None if it is nowhere."""
        name = parts(member.name)
        add = self._findings.add
        for code in member.oddities:
            add(code, member.name)
        if b".." in name:
            add("dotdot-name", member.name)
            return None
        if member.name.startswith(b"/"):
            add("absolute-name", member.name)
        if member.kind != b"1":  # another name of a file changes nothing about it
            _judge_owner(member, self._findings)
            _judge_records(member, self._findings)
        if not name:
            _judge_root(member, self._findings)
            return None
        if max(map(len, name)) > _COMPONENT or len(member.name) > _PATH or len(member.link) > _PATH:
            add("long-name", member.name)
            return None
        if not self._judge_type(member):
            return None
        self._judge_place(name, member)
        path = self._entered(name)
        self._place(path, member)
        return path

    def finish(self) -> None:
        """Judge what only the end shows."""
        for target, name in self._waiting.items():
            self._findings.add("link-dangling", name, f"'{target.decode(errors='backslashreplace')}' is not there")
        for path, kind in self._kinds.items():
            if kind is Kind.IMPLIED:
                self._findings.add("parents-missing", path)
            if path in _WRITTEN and kind in _DIRECTORIES:
                self._findings.add("name-reserved", path)

    def _judge_type(self, member: Member) -> bool:
        """Say what is odd about the type; False for what makes nothing."""
        add = self._findings.add
        if member.kind == b"V":
            return False
        if member.kind not in _KNOWN:
            add("unknown-type", member.name, f"'{member.kind.decode(errors='backslashreplace')}'")
        elif member.kind == b"S":
            is_pax = any(key.startswith(pax.SPARSE) for key in member.records)
            add("sparse-pax" if is_pax else "sparse", member.name)
        elif member.kind in b"34":
            is_whiteout = member.kind == b"3" and member.device == (0, 0)
            add("device-zero" if is_whiteout else "device", member.name)
        elif member.kind == b"2" and not member.link:
            add("symlink-empty", member.name)
            return False
        elif member.kind == b"2" and (member.uid or member.gid):
            add("symlink-owner", member.name)
        elif _is_folder(member) and member.kind not in _FOLDERS:
            add("directory-as-file", member.name)
        return True

    def _judge_place(self, name: list[bytes], member: Member) -> None:
        add = self._findings.add
        if len(name) == 1 and name[0] in _OVERWRITTEN:
            add("overwritten", name[0])
        if name[0] == self._intermediate and name[0] not in (b"rootfs", b"metadata.json"):
            add("name-taken" if len(name) > 1 or _is_folder(member) else "name-lost", name[0])
        if len(name) > 2 and name[0] == b"rootfs" and name[1] in _MOUNTS:
            add("below-mounts", member.name)

    def _entered(self, name: list[bytes]) -> bytes:
        """Go through the parents of a path, which become directories if there is nothing, and return where it is."""
        path = b"/".join(name)
        parent = path.rpartition(b"/")[0]
        if parent == self._parent:
            return path
        at = b""
        for part in name[:-1]:
            at = at + b"/" + part if at else part
            kind = self._kinds.get(at)
            if kind is Kind.SYMLINK:
                if at in self._late:
                    self._findings.add("late-replaced", path)
                at = self._followed(at)
                kind = self._end_of(at)
            if kind is None:
                self._kinds[at] = Kind.IMPLIED
            elif kind is Kind.EMPTY_DIRECTORY:
                self._kinds[at] = Kind.DIRECTORY
            elif kind not in _DIRECTORIES:
                self._findings.add("through-late-symlink" if kind is Kind.LATE_SYMLINK else "through-file", path)
                return path
        if at == parent:
            self._parent = parent
        else:
            self._findings.add("through-symlink", path)
        return at + b"/" + name[-1] if at else name[-1]

    def _end_of(self, path: bytes) -> Kind:
        """Return what a symbolic link leads to, or is stopped by; nothing is no directory, and counts as a file."""
        ends = [at for at, byte in enumerate(path) if byte == ord("/")] + [len(path)]
        kinds = (self._kinds.get(path[:end], Kind.FILE) for end in ends)
        return next((kind for kind in kinds if kind not in _DIRECTORIES), self._kinds.get(path, Kind.FILE))

    def _place(self, path: bytes, member: Member) -> None:
        """Put an entry at its path."""
        before = self._kinds.get(path)
        target = self._target(path, member) if member.kind == b"1" else None
        if target == path and before is not None:
            self._findings.add("duplicate", path)  # to itself, as GNU tar writes what it meets twice
            return
        is_folder = _is_folder(member)
        if before is not None:
            self._parent = b""
            self._judge_again(path, before, is_folder=is_folder)
        if is_folder:
            self._kinds[path] = Kind.DIRECTORY if before in (Kind.DIRECTORY, Kind.IMPLIED) else Kind.EMPTY_DIRECTORY
            return
        self._kinds[path] = Kind.FILE
        if member.kind == b"2":
            self._point(path, member.link)
        elif target is not None:
            self._link(path, target)
        if self._waiting.pop(path, None) is not None:
            self._findings.add("link-forward", path)

    def _judge_again(self, path: bytes, before: Kind, *, is_folder: bool) -> None:
        """Say what becomes of a path that is there already."""
        if path in self._late:
            self._late.discard(path)
            code = "late-symlink-then-directory" if is_folder and before is Kind.LATE_SYMLINK else "late-replaced"
        elif is_folder:
            if before in _DIRECTORIES:
                return
            code = "symlink-then-directory" if before is Kind.SYMLINK else "file-then-directory"
        elif before in _DIRECTORIES:
            code = "empty-directory-then-file" if before is Kind.EMPTY_DIRECTORY else "directory-then-file"
        else:
            code = "target-replaced" if path in self._targets else "duplicate"
        self._findings.add(code, path)

    def _point(self, path: bytes, target: bytes) -> None:
        """Make a symbolic link."""
        is_late = target.startswith(b"/") or b".." in parts(target)
        self._kinds[path] = Kind.LATE_SYMLINK if is_late else Kind.SYMLINK
        self._links[path] = target
        if is_late:
            self._late.add(path)

    def _target(self, path: bytes, member: Member) -> bytes:
        """Return the path to which a hard link leads."""
        if member.link.startswith(b"/"):
            self._findings.add("link-absolute", path)
        target = parts(member.link)
        if b".." in target:
            self._findings.add("link-dotdot", path)
            target = target[len(target) - target[::-1].index(b"..") :]
        if len(target) < 2:
            return b"".join(target)
        return b"/".join(part for part in (self._followed(b"/".join(target[:-1])), target[-1]) if part)

    def _link(self, path: bytes, target: bytes) -> None:
        """Make a hard link; one whose target is not there yet waits for it."""
        kind = self._kinds.get(target)
        if target == path or kind in _DIRECTORIES:
            self._findings.add("link-dangling", path, "itself" if target == path else "a directory")
        elif kind is None:
            self._waiting.setdefault(target, path)
        else:
            self._kinds[path] = kind
            if target in self._links:
                self._links[path] = self._links[target]
            self._targets.add(target)
        self._late.add(path)

    def _followed(self, path: bytes) -> bytes:
        """Return a path with those symbolic links followed that are made at once, at its end, too."""
        for _ in range(_HOPS):
            cut = path.find(b"/")
            while cut >= 0 and self._kinds.get(path[:cut]) is not Kind.SYMLINK:
                cut = path.find(b"/", cut + 1)
            end = len(path) if cut < 0 else cut
            if self._kinds.get(path[:end]) is not Kind.SYMLINK:
                return path
            folder = path[:end].rpartition(b"/")[0]
            path = b"/".join(parts(b"/".join([folder, self._links[path[:end]], path[end:]])))
        return path


def _is_folder(member: Member) -> bool:
    """Tell directories, and what the oldest tars wrote for one: a file with a slash behind its name."""
    return member.kind in _FOLDERS or (member.kind in b"07" and member.name.endswith(b"/"))


def _judge_root(member: Member, findings: Findings) -> None:
    """Say what becomes of an entry that has no name."""
    if member.kind in _FOLDERS:
        said = f"mode {member.mode & 0o7777:04o}, {member.uid}:{member.gid}"
        findings.add("root-entry", member.name or b"./", said)
    elif member.kind != b"V":
        findings.add("root-no-directory", member.name or b"./")


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
    is_symlink = member.kind == b"2"  # whose owner and time busybox does not set at all
    if (member.uid, member.gid) != member.plain[:2] and not is_symlink:
        findings.add("pax-owner", member.name, f"{member.uid}:{member.gid}")
    if member.size != member.plain[2] and member.kind != b"S":
        findings.add("pax-size", member.name)
    time = pax.nanoseconds(records.get(b"mtime", b"%d" % member.plain[3])) // _BILLION
    if time != member.plain[3] and not is_symlink:
        findings.add("pax-time", member.name)
    if b"hdrcharset" in records:
        findings.add("pax-charset", member.name)
    for key in records:
        if key.startswith(_XATTRS):
            code = "capabilities-lost" if key.endswith(b"security.capability") else "xattrs-lost"
            findings.add(code, member.name)
