"""The reference model of flattening: what a stack of layers means, written as plainly as it can be.

Bottom up over whole trees in memory, one layer after the other, in two passes over each: first its entries make a tree
(A) and its deferred hard links are bound (B), then its markers (C) and its tree (D) are applied to the tree of the
layers below. A tree is a dict from path to node, and paths with the same node are hard links. It takes the entries of
tests/layers.py as they are, never a tar archive, and shares nothing with the package but its errors.

Four things are settled here that the specification leaves open; each is marked "Settled".

Below it are stacks of layers to try it on, drawn at random.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Protocol, TypeAlias, TypeVar

from ocirootfs.errors import LayerError
from tests.layers import Data, raw_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_T = TypeVar("_T")


@dataclass(eq=False)
class Node:
    """A file, directory, link to be bound (`link`), … Hard links are one node under several paths."""

    type: str
    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    """Nanoseconds."""
    data: bytes = b""
    linkname: bytes = b""
    device: tuple[int, int] = (0, 0)
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    listed: bool = True
    """False for a directory that is only implied."""
    bound: Node | None = None
    """Of a `link`, what it turned out to be."""


Tree: TypeAlias = dict[bytes, Node]


def flattened(layers: Sequence[Sequence[Data]], excluded: Callable[[bytes], bool] | None = None) -> Tree:
    """Return the tree that layers, bottom first, give; LayerError if no host accepts them. The root is `b""`."""
    tree: Tree = {b"": Node("dir")}
    for entries in layers:
        layer = _Layer()
        for entry in entries:
            layer.take(entry)
        layer.bind(tree)
        layer.hide(tree)
        layer.merge(tree)
    for path in list(tree):
        # Settled: AUFS's own files are whatever lies in a root directory with its prefix, not only in its three.
        if path.startswith(b".wh..wh.") or (excluded and any(excluded(each) for each in _prefixes(path))):
            tree.pop(path)
    tree[b""] = Node("dir")
    return {path: _final(node) for path, node in tree.items()}


def view(tree: Tree) -> dict[bytes, tuple[object, ...]]:
    """Return a tree as values that can be compared, each path with all the names of its inode."""
    names: dict[int, list[bytes]] = {}
    for path in sorted(tree):
        names.setdefault(id(tree[path]), []).append(path)
    return {
        path: (
            *(node.type, oct(node.mode), node.uid, node.gid, node.mtime, node.data, node.linkname, node.device),
            *(node.xattrs, tuple(names[id(node)])),
        )
        for path, node in tree.items()
    }


def can_read(entries: Sequence[Data]) -> bool:
    """Tell whether the model knows all of these entries: not those that are given as bytes, nor sparse files."""
    return not any(entry["type"] == "raw" or any("GNU." in key for key in entry.get("pax", {})) for entry in entries)


class _Layer:
    """One layer on its own: its tree, its whiteouts, its opaque directories."""

    def __init__(self) -> None:
        self.tree: Tree = {b"": Node("dir", listed=False)}
        self.whiteouts: list[bytes] = []
        self.opaques: list[bytes] = []
        self.deferred: list[tuple[Node, bytes]] = []

    # A. Read the layer into its own tree.

    def take(self, entry: Data) -> None:
        node = _node(entry)
        if node is None:
            return
        spelled = raw_bytes(entry.get("pax", {}).get("path", entry["name"]))
        if b"\0" in spelled + node.linkname:
            raise LayerError("a NUL")
        parts = _folded(spelled, clamp=False)
        if not parts:
            if node.type != "dir" and spelled:
                raise LayerError("the root is a directory")
            return
        parent = _joined(self.followed(parts[:-1]))
        self._imply(parent)
        if parts[-1].startswith(b".wh."):
            self._mark(parent, parts[-1])
        else:
            self._put(_joined([parent, parts[-1]]), node)

    def _imply(self, parent: bytes) -> None:
        for prefix in _prefixes(parent):
            if prefix not in self.tree or self.tree[prefix].type != "dir":
                _remove(self.tree, prefix)
                self.tree[prefix] = Node("dir", listed=False)

    def _mark(self, parent: bytes, name: bytes) -> None:
        if name == b".wh..wh..opq":
            self.opaques.append(parent)
        elif name in (b".wh.", b".wh..", b".wh..."):
            raise LayerError("a whiteout of nothing")
        else:
            self.whiteouts.append(_joined([parent, name[4:]]))

    def _put(self, path: bytes, node: Node) -> None:
        if node.type == "char" and node.device == (0, 0):
            self.whiteouts.append(path)
            _remove(self.tree, path)
        elif node.type == "dir":
            if path in self.tree and self.tree[path].type != "dir":
                _remove(self.tree, path)
            self.tree[path] = node  # what is inside stays: it has its own paths
        elif node.type == "link":
            self._link(path, node)
        else:
            _remove(self.tree, path)
            self.tree[path] = node

    def _link(self, path: bytes, node: Node) -> None:
        named = _folded(node.linkname, clamp=True)
        target = _joined(self.followed(named[:-1]) + named[-1:])
        found = self.tree.get(target)
        if found and found.type == "dir":
            raise LayerError("a hard link to a directory")
        if not found:
            found = node
            self.deferred.append((node, target))
        if self.tree.get(path) is not found:
            _remove(self.tree, path)
            self.tree[path] = found

    def followed(self, parts: Sequence[bytes]) -> list[bytes]:
        """Resolve symlinks of this layer, the last component too."""
        done: list[bytes] = []
        todo = list(parts)
        hops = 0
        while todo:
            part = todo.pop(0)
            if part == b"..":
                done = done[:-1]
            elif part not in (b"", b"."):
                node = self.tree.get(_joined([*done, part]))
                if node and node.type == "symlink":
                    hops += 1
                    if hops > 40:
                        raise LayerError("too many symbolic links")
                    done = [] if node.linkname.startswith(b"/") else done
                    todo = node.linkname.split(b"/") + todo
                else:
                    done.append(part)
        return done

    # B. Bind the links whose target was not there.

    def bind(self, below: Tree) -> None:
        left = []
        for node, target in self.deferred:
            found = self.tree.get(target)
            if found and found.type == "dir":
                raise LayerError("a hard link to a directory")
            if found and _final(found) is not node:
                node.bound = found
            else:  # Settled: of links in a circle, the last is the one that may still find its target below.
                left.append((node, target))
        for node, target in left:
            found = below.get(target)
            if found is None:
                raise LayerError("a hard link to nothing" + _why(below, target))
            if found.type == "dir":
                raise LayerError("a hard link to a directory")
            node.bound = found

    # C. Hide what the markers hide.

    def hide(self, below: Tree) -> None:
        """Apply the markers. Settled: one in a directory that the layer replaced afterwards went with it."""
        for path in self.opaques:
            if self._has_directory(path) and path in below and below[path].type == "dir":
                for inner in _inside(below, path):
                    del below[inner]
        for path in self.whiteouts:
            if self._has_directory(path.rpartition(b"/")[0]):
                _remove(below, path)

    def _has_directory(self, path: bytes) -> bool:
        return path in self.tree and self.tree[path].type == "dir"

    # D. Put the layer's tree on top.

    def merge(self, below: Tree) -> None:
        for path in sorted(self.tree):  # parents first
            node = self.tree[path]
            if path in below and below[path].type == "dir" and node.type == "dir":
                if node.listed:
                    below[path] = node
            else:
                _remove(below, path)
                below[path] = node


def _node(entry: Data) -> Node | None:
    """Read an entry's type and attributes; None for what is no entry of the tree."""
    kind = _type(entry)
    if kind is None:
        return None
    pax = entry.get("pax", {})
    seconds = Decimal(pax.get("mtime", str(entry.get("mtime", 1600000000))))
    default = {"dir": "0755", "symlink": "0777"}.get(entry["type"], "0644")
    xattrs = {raw_bytes(name): raw_bytes(value) for name, value in entry.get("xattrs", {}).items()}
    node = Node(
        "link" if kind == "hardlink" else kind,
        int(entry.get("mode", default), 8) & 0o7777,
        int(pax.get("uid", entry.get("uid", 0))),
        int(pax.get("gid", entry.get("gid", 0))),
        int(seconds * 10**9),
        raw_bytes(entry.get("data", "")) if kind == "file" else b"",
        raw_bytes(pax.get("linkpath", entry["linkname"])) if kind in ("symlink", "hardlink") else b"",
        (entry.get("devmajor", 0), entry.get("devminor", 0)) if kind in ("char", "block") else (0, 0),
        tuple(sorted(each for each in xattrs.items() if not each[0].startswith((b"trusted.", b"security.selinux")))),
    )
    if not (0 <= node.uid < 2**32 - 1 and 0 <= node.gid < 2**32 - 1):
        raise LayerError("an owner out of range")
    if not (0 <= node.device[0] < 2**12 and 0 <= node.device[1] < 2**20):
        raise LayerError("a device out of range")
    return node


def _type(entry: Data) -> str | None:
    flag = entry.get("typeflag")
    if flag is None:
        return str(entry["type"])
    if flag in ("g", "V"):
        return None
    if flag == "\0":
        return "dir" if entry["name"].endswith("/") else "file"
    if flag == "7":
        return "file"
    raise LayerError("an unknown type")


def _folded(name: bytes, *, clamp: bool) -> list[bytes]:
    parts: list[bytes] = []
    for part in name.split(b"/"):
        if part == b"..":
            if not parts and not clamp:
                raise LayerError("a name that climbs out")
            parts = parts[:-1]
        elif part not in (b"", b"."):
            parts.append(part)
    return parts


def _joined(parts: Sequence[bytes]) -> bytes:
    return b"/".join(part for part in parts if part)


def _prefixes(path: bytes) -> list[bytes]:
    parts = path.split(b"/") if path else []
    return [b"/".join(parts[:count]) for count in range(1, len(parts) + 1)]


def _why(tree: Tree, path: bytes) -> str:
    """Settled: what a lower layer has behind a symlink is refused, though it could be found through the symlink."""
    through = [each for each in _prefixes(path)[:-1] if each in tree and tree[each].type == "symlink"]
    return ": it is behind a symbolic link of a lower layer" if through else ""


def _inside(tree: Tree, path: bytes) -> list[bytes]:
    return [each for each in tree if each and (not path or each.startswith(path + b"/"))]


def _remove(tree: Tree, path: bytes) -> None:
    for each in [path, *_inside(tree, path)]:
        tree.pop(each, None)


def _final(node: Node) -> Node:
    while node.bound:
        node = node.bound
    return node


class Choose(Protocol):
    """Picks one of some options: `random.Random.choice`, or Hypothesis drawing, which prefers the first."""

    def __call__(self, options: Sequence[_T], /) -> _T: ...


_NAMES = ("a", "b", "c", "a", "b", "c", "ab", "a\n*", "\udcff", "c:x", ".wh", "é", "L" * 101)
_ODD = (".wh.x", ".wh..wh.plnk", ".wh..wh.aufs")  # components that are no marker, as they are not the last
_SPELLED = ("{}", "{}", "{}", "{}", "{}", "./{}", "/{}", "{}/", ".//{}", "c/../{}", "{}/.")
_POINTERS = ("a", "b", "/a", "../b", "a/b", "..", "/", "/b/c", "./c/../a", "c/..", "../../c/a", ".", "", "b/ab")
_TYPES = {
    "file": 9, "dir": 5, "symlink": 5, "hardlink": 6, "whiteout": 5, "opaque": 2, "fifo": 1, "char": 1, "block": 1,
    "hidden": 1, "odd": 1,
}  # fmt: skip
_WEIGHTED = tuple(kind for kind, weight in _TYPES.items() for _ in range(weight))
_OWNERS = (0, 0, 1, 65535, 2**31)
_TIMES = (1600000000, 0, -1, "1.5", "-1.000000001")
_XATTRS: tuple[dict[str, str], ...] = (
    *({}, {}, {}, {"user.a": "x"}, {"user.b": "\udc80\n="}, {"security.capability": "\1\0"}),
    *({"trusted.overlay.opaque": "y"}, {"security.selinux": "l", "user.z": ""}),
)
_RARELY = tuple(range(200))


def raw_entry(choose: Choose) -> Data:
    """Draw one entry of a layer, as wild as any; hard links get their target in `completed`."""
    kind = choose(_WEIGHTED)
    path = _path(choose, (1, 2, 1, 2, 3))
    if kind in ("whiteout", "opaque"):
        return _marker(choose, kind, path)
    entry = {"name": path, **_body(choose, kind, path)}
    if choose(_RARELY) == 100:
        entry["name"] = choose(("../a", "a/../../b", "./", "", "/", "a/..", ".."))
    else:
        entry["name"] = choose(_SPELLED).format(entry["name"])
    attributes = {"uid": choose(_OWNERS), "gid": choose(_OWNERS), "mtime": choose(_TIMES), "xattrs": choose(_XATTRS)}
    return entry | attributes


def _path(choose: Choose, depths: Sequence[int]) -> str:
    return "/".join(choose(_NAMES) for _ in range(choose(depths)))


def _marker(choose: Choose, kind: str, path: str) -> Data:
    """Draw a whiteout or an opaque marker of any type, rarely a bad one."""
    head, slash, name = path.rpartition("/")
    marker = ".wh..wh..opq" if kind == "opaque" else ".wh." + name
    if choose(_RARELY) == 100:
        marker = choose((".wh.", ".wh..", ".wh...", ".wh..wh..opqX", ".wh..wh.aufs"))
    type_ = choose(("file", "file", "file", "dir", "symlink", "hardlink", "fifo", "char"))
    return {"type": type_, "name": head + slash + marker, "linkname": "no/where"}


def _body(choose: Choose, kind: str, path: str) -> Data:
    """Draw what is particular to an entry's type."""
    match kind:
        case "file":
            return {"type": kind, "mode": choose(("0644", "4711", "0000")), "empty": choose(range(8)) == 7}
        case "dir":
            return {"type": kind, "mode": choose(("0755", "0700", "1777", "0000"))}
        case "symlink":
            return {"type": kind, "linkname": choose(_POINTERS)}
        case "hardlink":
            number = choose(range(24))
            return {"type": kind, "link": number, **({"linkname": _path(choose, (1, 2))} if number == 23 else {})}
        case "char" | "block":
            return {"type": kind, "devmajor": choose((1, 4095)), "devminor": choose((3, 2**20 - 1))}
        case "hidden":  # overlayfs's whiteout
            return {"type": "char"}
        case "odd":
            return {"type": choose(("file", "dir")), "name": choose(_ODD) + "/" + path.rpartition("/")[2]}
    return {"type": kind}


def completed(drawn: Sequence[Sequence[Data]]) -> list[list[Data]]:
    """Return drawn layers ready for tests/layers.py: with contents that tell files apart, and hard links' targets."""
    below: list[str] = []
    layers = []
    for number, entries in enumerate(drawn):
        own = [entry["name"] for entry in entries if _can_be_linked(entry)]
        layers.append([_completed(entry, f"{number}.{index}", own, below) for index, entry in enumerate(entries)])
        below = own + below
    return layers


def _completed(entry: Data, data: str, own: Sequence[str], below: Sequence[str]) -> Data:
    """Fill in content or target; a hard link of an even number prefers a name of its own layer."""
    if entry["type"] == "file":
        return {**entry, "data": "" if entry.get("empty") else data}
    if "link" not in entry or "linkname" in entry:
        return entry
    half, odd = divmod(entry["link"], 2)
    names = (below or own) if odd else (own or below)
    return {**entry, "linkname": names[half % len(names)] if names else "nothing"}


def _can_be_linked(entry: Data) -> bool:
    is_marker = entry["name"].rpartition("/")[2].startswith(".wh.")
    return entry["type"] not in ("dir", "hardlink") and not is_marker


def random_stack(choose: Choose) -> list[list[Data]]:
    """Draw a stack of layers without Hypothesis."""
    layers = [[raw_entry(choose) for _ in range(choose(range(9)))] for _ in range(choose((1, 2, 3, 3, 4)))]
    return completed(layers)
