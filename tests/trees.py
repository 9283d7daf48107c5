"""What a tar archive holds, read with the standard library, and whether it is canonical."""

from __future__ import annotations

import hashlib
import tarfile
from dataclasses import dataclass
from decimal import Decimal
from typing import IO, Any

NAMES = {
    tarfile.REGTYPE: "file",
    tarfile.AREGTYPE: "file",
    tarfile.DIRTYPE: "dir",
    tarfile.SYMTYPE: "symlink",
    tarfile.CHRTYPE: "char",
    tarfile.BLKTYPE: "block",
    tarfile.FIFOTYPE: "fifo",
}


@dataclass
class Node:
    """One path of a tree; hard links are one object under several paths."""

    type: str
    mode: int
    uid: int
    gid: int
    mtime: Decimal
    data: bytes = b""
    linkname: str = ""
    devmajor: int = 0
    devminor: int = 0
    xattrs: Any = ()


def read_tree(file: IO[bytes], prefix: str = "") -> dict[str, Node]:
    """Read a whole archive into a tree, proving it canonical on the way; what is not below `prefix` is left out.

    The root has the path `""`.
    """
    tree: dict[str, Node] = {}
    file.seek(0)
    with tarfile.open(fileobj=file, mode="r:", encoding="utf-8", errors="surrogateescape") as archive:
        members = archive.getmembers()
        check_canonical(members)
        end = max((member.offset_data + member.size * member.isreg() for member in members), default=0)
        for member in members:
            if not (member.name + "/").startswith(prefix):
                continue
            path = "" if member.name in (prefix.rstrip("/"), ".") else member.name[len(prefix) :]
            if member.islnk():
                tree[path] = tree[member.linkname[len(prefix) :]]
                continue
            body = archive.extractfile(member) if member.isreg() else None
            tree[path] = _node(member, body.read() if body else b"")
    file.seek(0, 2)
    assert file.tell() == end + -end % 512 + 1024, "not just the two zero blocks after the last member"
    file.seek(-1024, 2)
    assert file.read() == bytes(1024), "no two zero blocks at the end"
    return tree


def _node(member: tarfile.TarInfo, data: bytes) -> Node:
    xattrs = {
        key.removeprefix("SCHILY.xattr."): value
        for key, value in member.pax_headers.items()
        if key.startswith("SCHILY.xattr.")
    }
    return Node(
        NAMES[member.type],
        member.mode,
        member.uid,
        member.gid,
        Decimal(member.pax_headers.get("mtime", str(member.mtime))),
        data,
        member.linkname,
        member.devmajor,
        member.devminor,
        xattrs,
    )


def check_canonical(members: list[tarfile.TarInfo]) -> None:
    """Assert what makes a stream safe in any extractor and the same in all."""
    kinds: dict[str, bytes] = {}
    in_directories = False
    for member in members:
        name = member.name
        assert name not in kinds, f"{name!r} twice"
        assert name == "." or (not name.startswith("/") and ".." not in name.split("/")), name
        # A layer may put files below `.wh.x`, which no host takes for a marker; a marker itself is never a directory.
        assert member.isdir() or not name.rsplit("/", 1)[-1].startswith(".wh."), name
        assert member.type in NAMES or member.islnk(), (name, member.type)
        assert (member.uname, member.gname) == ("", ""), name
        kinds[name] = member.type
        if member.islnk():
            assert kinds.get(member.linkname) not in (None, tarfile.DIRTYPE, tarfile.LNKTYPE), (name, member.linkname)
            assert member.size == 0, name
        in_directories = in_directories or member.isdir()
        assert in_directories == member.isdir(), f"{name!r} after the first directory"
    directories = [member.name for member in members if member.isdir()]
    place = {name: index for index, name in enumerate(directories)}
    for name, kind in kinds.items():
        parent = name.rpartition("/")[0]
        if parent:
            assert kinds.get(parent) == tarfile.DIRTYPE, f"{name!r} has no directory entry above it"
            if kind == tarfile.DIRTYPE:
                assert place[name] < place[parent], f"{name!r} after its parent"


def summary(tree: dict[str, Node]) -> dict[str, tuple[object, ...]]:
    """Return a tree as comparable values, hard-linked paths as the group they are in."""
    groups: dict[int, list[str]] = {}
    for path in sorted(tree):
        groups.setdefault(id(tree[path]), []).append(path)
    return {
        path: (
            node.type, oct(node.mode), node.uid, node.gid, node.mtime, node.linkname,
            node.devmajor, node.devminor, tuple(sorted(dict(node.xattrs).items())),
            hashlib.sha256(node.data).hexdigest()[:16], tuple(groups[id(node)]),
        )
        for path, node in tree.items()
    }  # fmt: skip
