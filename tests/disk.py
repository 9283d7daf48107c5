"""What lies on a real file system, as trees that compare with the model's: files' contents are their SHA-256."""

from __future__ import annotations

import ctypes
import hashlib
import os
import stat
from dataclasses import replace
from typing import TYPE_CHECKING

from ocirootfs.entry import Kind
from ocirootfs.flattening import Superseded, flatten
from ocirootfs.spool import Spool
from tests import model
from tests.model import Node, Tree

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Sequence
    from pathlib import Path

    from ocirootfs.image import Layer

_TYPES = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "dir",
    stat.S_IFLNK: "symlink",
    stat.S_IFCHR: "char",
    stat.S_IFBLK: "block",
    stat.S_IFIFO: "fifo",
}
_PIECE = 1 << 20


def tree(root: Path) -> Tree:
    """Read what lies below a directory, and the directory itself as `b""`. Names that share an inode share a node."""
    top = os.fsencode(root)
    inodes: dict[int, Node] = {}
    found: Tree = {}
    for path in _walk(top):
        try:
            status = os.lstat(path)
        except (
            FileNotFoundError
        ):  # overlayfs may list a whiteout that hides nothing, though nothing can be done with it
            continue
        node = inodes.get(status.st_ino) or _node(path, status)
        if not stat.S_ISDIR(status.st_mode):
            inodes[status.st_ino] = node
        found[path[len(top) + 1 :]] = node
    return found


def _walk(top: bytes) -> Iterator[bytes]:
    todo = [top]
    while todo:
        path = todo.pop()
        yield path
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    todo.append(entry.path)
                else:
                    yield entry.path


def _node(path: bytes, status: os.stat_result) -> Node:
    kind = _TYPES[stat.S_IFMT(status.st_mode)]
    names = [name for name in os.listxattr(path, follow_symlinks=False) if _counts(name)]
    return Node(
        kind,
        stat.S_IMODE(status.st_mode),
        status.st_uid,
        status.st_gid,
        status.st_mtime_ns,
        _digest(path) if kind == "file" else b"",
        os.readlink(path) if kind == "symlink" else b"",  # noqa: PTH115
        (os.major(status.st_rdev), os.minor(status.st_rdev)) if kind in ("char", "block") else (0, 0),
        tuple(sorted((os.fsencode(name), os.getxattr(path, name, follow_symlinks=False)) for name in names)),
    )


def _counts(name: str) -> bool:
    return name.startswith("user.") or name == "security.capability"


def _digest(path: bytes) -> bytes:
    with open(path, "rb") as file:  # noqa: PTH123
        return hashlib.file_digest(file, "sha256").digest()


def flattened(layers: Sequence[Layer]) -> Tree:
    """Flatten with the package, and return the tree, hashing contents as they pass."""
    careful: set[int] = set()
    while True:
        try:
            return _flattened(layers, careful)
        except Superseded as again:
            careful.add(again.layer)


def _flattened(layers: Sequence[Layer], careful: Container[int]) -> Tree:
    found: Tree = {}
    with Spool() as spool:
        for entry, body in flatten(layers, spool, careful=careful):
            digest = hashlib.sha256()
            for piece in body:
                digest.update(piece)
            if entry.kind is Kind.HARDLINK:
                found[entry.path] = found[entry.link]
                continue
            kind = {"directory": "dir", "character device": "char", "block device": "block"}.get(
                entry.kind.value, entry.kind.value
            )
            content = digest.digest() if entry.kind is Kind.FILE else b""
            found[entry.path] = Node(kind, *entry[2:6], content, entry.link, entry.device, entry.xattrs)
    return found


def hashed(tree: Tree) -> Tree:
    """Return a model's tree with contents as their SHA-256."""
    nodes = {
        id(node): replace(node, data=hashlib.sha256(node.data).digest()) if node.type == "file" else node
        for node in tree.values()
    }
    return {path: nodes[id(node)] for path, node in tree.items()}


FIELDS = ("type", "mode", "uid", "gid", "mtime", "data", "linkname", "device", "xattrs", "group")


def differences(found: Tree, wanted: Tree, *, undated: Container[bytes] = ()) -> dict[bytes, str]:
    """Compare two trees entry by entry; each path that differs, and in what. The mtimes of `undated` do not count."""
    ours, theirs = model.view(found), model.view(wanted)
    said = dict.fromkeys(ours.keys() ^ theirs.keys(), "only in one")
    for path in ours.keys() & theirs.keys():
        unlike = [
            f"{field} {mine!r} is not {yours!r}"
            for field, mine, yours in zip(FIELDS, ours[path], theirs[path], strict=True)
            if mine != yours and not (field == "mtime" and path in undated)
        ]
        if unlike:
            said[path] = ", ".join(unlike)
    return said


_LIBC = ctypes.CDLL(None, use_errno=True)


def mount_overlay(lowers: Sequence[str], folder: Path, target: Path) -> None:
    """Stack directories of `folder`, topmost first, read-only at `target`. OSError if that may not be."""
    options = f"lowerdir={':'.join(lowers)}".encode()
    before = os.open(".", os.O_RDONLY)
    try:
        os.chdir(folder)  # the kernel takes no more than a page of options, and a path may hold a colon
        status = _LIBC.mount(b"overlay", os.fsencode(target), b"overlay", 1, options)
    finally:
        os.fchdir(before)
        os.close(before)
    if status:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def unmount(target: Path) -> None:
    """Take a mount away, in use or not."""
    _LIBC.umount2(os.fsencode(target), 2)
