"""One layer, read in isolation: the tree that its entries make on their own.

A container host extracts a layer into an empty directory and stacks the result on the layers below (that is what
overlayfs does, and what dockerd, containerd and podman agree on). So what an entry means depends on its own layer only:

- A symlink among an entry's parents is followed if this layer has it, inside the image, and not otherwise.
- The last entry of a name wins, as in any extractor; a hard link taken in between keeps the earlier file.
- A parent that no entry lists is implied. What is in the way of a parent is replaced.
- A whiteout or an opaque marker hides lower layers only, wherever in its layer it stands (image-spec, layer.md:
  "Whiteout files MUST only apply to resources in lower/parent layers"). It is noted here and never changes this tree.

Names are bytes and are compared as bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from ocirootfs.entry import Entry, Kind, canonical, folded
from ocirootfs.errors import LayerError
from ocirootfs.limits import USUAL, raising
from ocirootfs.oddity import Note, Oddity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ocirootfs.spool import Kept
    from ocirootfs.tar.sparse import Sparse

WHITEOUT = b".wh."
OPAQUE = b".wh..wh..opq"
AUFS = b".wh..wh."
"""What AUFS keeps at the root of its branches begins with this; it is no part of the image (moby/moby#15996)."""

_NO_NAMES = frozenset([b"", b".", b".."])
_FILE, _DIRECTORY = Kind.FILE, Kind.DIRECTORY  # to look up an enumeration's member takes as long as half a call
_HOPS = 40  # the kernel's limit on symlinks in one path (path_resolution(7))
_FOLLOWED = 10_000_000  # components that all symlinks of a layer lead through, in a few seconds


class Directory:
    """A directory: its children, and what the topmost layer that lists it says of it.

    `entry` is None while only implied. `opaque` hides what lower layers have inside.
    """

    __slots__ = ("children", "entry", "opaque")

    def __init__(self) -> None:
        self.children: dict[bytes, Node] = {}
        self.entry: Entry | None = None
        self.opaque = False

    def cut(self) -> None:
        """Hide whatever lower layers have at this path, the directory's own attributes included."""
        self.opaque = True
        if self.entry is None:
            self.entry = IMPLIED


IMPLIED = Entry(b"", Kind.DIRECTORY, 0o755, 0, 0, 0)
"""The attributes of a directory that no layer lists. Hosts take the current time, which no archive should hold."""


class Inode:
    """A non-directory, and the first of its names. Small, for a layer may have a million: most are plain files.

    `owner` (mode, uid, gid) and `mtime` are all that a further name needs of a plain file that has been shown, and
    with what was `kept` of its content all that there is to know of a hidden one. The rest is in `extra`.
    """

    __slots__ = ("extra", "kept", "mtime", "ordinal", "owner", "shown")

    def __init__(self, ordinal: int) -> None:
        self.ordinal = ordinal
        self.shown = False
        self.owner = (0, 0, 0)
        self.mtime = 0
        self.kept: Kept | None = None
        self.extra: Extra | None = None

    def extended(self) -> Extra:
        """Return what is known beyond the ordinary, to add to it."""
        if self.extra is None:
            self.extra = Extra()
        return self.extra

    def entry(self, path: bytes) -> Entry:
        """Return the entry to show this inode by, once it is to be shown under `path`."""
        if self.extra is not None and self.extra.entry is not None:
            return self.extra.entry._replace(path=path)
        return Entry(path, Kind.FILE, *self.owner, self.mtime, self.kept.size if self.kept else 0)


class Extra:
    """What only some inodes have.

    `entry`, without its path, is there for all but plain files, for those with extended attributes, and for hidden ones
    that are `sparse`, of whose content what is kept is only the data. An inode with several names is
    shown by its `leader`, the path that came first. `waiting` is for one that a lower layer holds, or a later entry:
    the visible names to give it when it is found, which is then what it is `bound` to.
    """

    __slots__ = ("bound", "entry", "leader", "sparse", "waiting")

    def __init__(self) -> None:
        self.entry: Entry | None = None
        self.sparse: Sparse | None = None
        self.leader: bytes | None = None
        self.waiting: list[bytes] | None = None
        self.bound: Inode | None = None


class Link:
    """A further name of an inode."""

    __slots__ = ("inode", "ordinal", "shown")

    def __init__(self, ordinal: int, inode: Inode) -> None:
        self.ordinal = ordinal
        self.inode = inode
        self.shown = False


class Covered:
    """In the tree of upper layers: here is a non-directory or a whiteout, and nothing of a lower layer shows."""


COVERED = Covered()
Leaf: TypeAlias = Inode | Link
Node: TypeAlias = Directory | Leaf | Covered
Cover: TypeAlias = Directory | Covered | None
"""What upper layers have at a directory's path: one to look into, something that hides it, or nothing."""


class Place:
    """A directory of the layer that entries go into, resolved."""

    __slots__ = ("cover", "directory", "moved", "prefix")

    def __init__(self, path: bytes, directory: Directory, cover: Cover, *, moved: bool) -> None:
        self.prefix = path + b"/" if path else b""
        self.directory = directory
        self.cover = cover
        self.moved = moved  # a symlink led here, so entries are not where they say


class Deferred:
    """A hard link whose target the layer does not have, or not yet."""

    __slots__ = ("inode", "target")

    def __init__(self, target: list[bytes], inode: Inode) -> None:
        self.target = target
        self.inode = inode


class LayerTree:
    """The tree of one layer while its entries pass, in order, through `take`.

    `cover` tells what upper layers have at a directory's path, given what they have at its parent if that is known;
    `dropped` hears of each name that a later entry of the layer
    replaces or removes, `note` of what is odd. `depth` directories may contain one another (`Limits.path_depth`), and
    `most` may be there that no entry lists, which `implied` counts.
    """

    def __init__(
        self,
        cover: Callable[[bytes, Place | None], Cover],
        dropped: Callable[[Leaf], None],
        note: Note,
        depth: int = USUAL.path_depth,
        most: int = USUAL.entries,
    ) -> None:
        self.implied = 0
        self.root = Directory()
        self.whiteouts: list[bytes] = []
        self.opaques: list[bytes] = []
        self.deferred: list[Deferred] = []
        self._cover = cover
        self._dropped = dropped
        self._note = note
        self._depth = depth
        self._most = most
        self._followed = 0
        self._places: dict[bytes, Place] = {}
        self._moved = False  # some place was reached through a symlink

    def take(self, ordinal: int, entry: Entry) -> tuple[bytes, Place, Leaf] | None:
        """Put an entry where it belongs; None for directories and markers, which are never shown as they come.

        Otherwise the canonical path of the entry, its place, and its node, new and not shown yet. Raises LayerError
        for what no container host accepts.
        """
        path = entry.path
        head, slash, name = path.rpartition(b"/")
        place = self._places.get(head)
        # Nearly all: the parent's path is that of a place, and so canonical, and the name is one.
        if place is None or name in _NO_NAMES or (slash and not head) or b"\0" in name:
            path = canonical(path)
            head, _, name = path.rpartition(b"/")
            if not name:
                _check_root(entry)
                return None  # its attributes are nobody's to set; hosts ignore `./`, and so an empty name
            place = self._places.get(head) or self._place(head)
        if name[:4] == WHITEOUT:
            self._mark(place, name)
            return None
        if place.moved:
            path = place.prefix + name
        kind = entry.kind
        if kind is _FILE:
            children = place.directory.children
            if name in children:
                self._remove(place, name)
            children[name] = node = Inode(ordinal)
            return path, place, node
        if kind is _DIRECTORY:
            self._put_directory(place, name, entry)
            return None
        return self._take_special(ordinal, entry, path, place, name)

    def _take_special(
        self, ordinal: int, entry: Entry, path: bytes, place: Place, name: bytes
    ) -> tuple[bytes, Place, Leaf] | None:
        """Put in what is neither a file nor a directory."""
        kind = entry.kind
        if kind is Kind.CHAR and entry.device == (0, 0):  # overlayfs's own form of a whiteout
            self._remove(place, name)
            self.whiteouts.append(path)
            self._note(Oddity.WHITEOUT_DEVICE, path)
            return None
        if kind is Kind.HARDLINK:
            return self._link(ordinal, entry, path, place, name)
        node = Inode(ordinal)
        if kind is Kind.SYMLINK:
            node.extended().entry = entry._replace(path=b"")
        self._put(place, name, node)
        return path, place, node

    def apply_markers(self) -> None:
        """Write the layer's whiteouts and opaque directories into its tree, once all its entries are there.

        A whiteout of what the layer itself has hides what lower layers have there, and only that.
        """
        for path in self.whiteouts:
            head, _, name = path.rpartition(b"/")
            parent = self.find(head.split(b"/") if head else [])
            if isinstance(parent, Directory):
                node = parent.children.setdefault(name, COVERED)
                if isinstance(node, Directory):
                    node.cut()
        for path in self.opaques:
            directory = self.find(path.split(b"/") if path else [])
            if isinstance(directory, Directory):
                directory.opaque = True

    def _mark(self, place: Place, name: bytes) -> None:
        """Note a whiteout or an opaque marker, whatever its type, size and content are."""
        hidden = name[len(WHITEOUT) :]
        if name == OPAQUE:
            self.opaques.append(place.prefix[:-1])
        elif hidden in (b"", b".", b".."):
            raise LayerError("a whiteout of nothing", path=place.prefix + name)  # layer.md: SHOULD be an error
        else:
            self.whiteouts.append(place.prefix + hidden)

    def _put_directory(self, place: Place, name: bytes, entry: Entry) -> None:
        node = place.directory.children.get(name)
        if not isinstance(node, Directory):
            node = Directory()
            self._put(place, name, node)
        node.entry = entry._replace(path=b"")  # it takes memory, and the tree has it

    def _put(self, place: Place, name: bytes, node: Directory | Leaf) -> None:
        if name in place.directory.children:
            self._remove(place, name)
        place.directory.children[name] = node
        if self._moved and symlink_target(node) is not None:
            self._places.clear()  # one of them may go up again from what was nothing here: `name/..`

    def _remove(self, place: Place, name: bytes) -> None:
        node = place.directory.children.pop(name, None)
        if node is not None:
            self._drop(node)

    def _drop(self, node: Node) -> None:
        """Tell of every name that goes with `node`."""
        going = [node]
        while going:
            node = going.pop()
            if isinstance(node, Directory):
                going.extend(node.children.values())
                self._places.clear()  # they may lead into it
            elif not isinstance(node, Covered):
                if symlink_target(node) is not None:
                    self._places.clear()  # they may have gone through it
                self._dropped(node)

    def _link(
        self, ordinal: int, entry: Entry, path: bytes, place: Place, name: bytes
    ) -> tuple[bytes, Place, Leaf] | None:
        """Give an inode one more name; the attributes in a link's header are not the inode's and do not count."""
        target = self.resolved(folded(entry.link, clamp=True))
        found = self.find(target)
        if isinstance(found, Directory):
            raise LayerError("a hard link to a directory", path=entry.path)
        if found is not None and b"/".join(target) == path:
            return None  # to itself: GNU tar writes that for a name given twice
        if found is None:
            inode = Inode(ordinal)
            inode.extended().waiting = []
            self.deferred.append(Deferred(target, inode))
        else:
            inode = inode_of(found, b"/".join(target))
        link = Link(ordinal, inode)
        self._put(place, name, link)
        return path, place, link

    def _place(self, head: bytes) -> Place:
        """Resolve the parent directory of an entry and make it if no entry has."""
        above = self._places.get(head.rpartition(b"/")[0]) if head else None
        if above is not None and not above.moved and len(head) < self._depth:  # nearly all: one step below a known one
            node = above.directory.children.get(head[len(above.prefix) :])
            if isinstance(node, Directory):
                place = self._places[head] = Place(head, node, self._cover(head, above), moved=False)
                return place
        return self._far_place(head)

    def _far_place(self, head: bytes) -> Place:
        components = self.resolved(head.split(b"/") if head else [], follow_last=True)
        if len(components) > self._depth:
            raise LayerError(f"a path of more than {self._depth} components", path=head, hint=raising("path_depth"))
        path = b"/".join(components)
        directory = self.root
        for depth, component in enumerate(components, 1):
            node = directory.children.get(component)
            if not isinstance(node, Directory):
                if node is not None:
                    self._note(Oddity.IN_THE_WAY, b"/".join(components[:depth]))
                    self._drop(node)
                self.implied += 1
                if self.implied > self._most:
                    raise LayerError(
                        f"more than {self._most} directories that it does not list", hint=raising("entries")
                    )
                node = directory.children[component] = Directory()
                if component.startswith(WHITEOUT) and not path.startswith(AUFS):
                    self._note(Oddity.WHITEOUT_DIRECTORY, b"/".join(components[:depth]))
            directory = node
        self._moved = self._moved or path != head
        place = self._places[head] = Place(path, directory, self._cover(path, None), moved=path != head)
        return place

    def resolved(self, components: list[bytes], *, follow_last: bool = False) -> list[bytes]:
        """Follow the symlinks of this layer among `components`, not the last unless told to.

        Absolute targets start at the image's root and `..` stops there, as for a process inside. What the layer does
        not have stays as it is spelled.
        """
        todo = components[::-1]
        done: list[bytes] = []
        nodes: list[Node | None] = [self.root]  # of every step done, and of the root before them
        hops = 0
        while todo:
            component = todo.pop()
            if component == b"..":
                del done[-1:], nodes[max(1, len(nodes) - 1) :]
                continue
            parent = nodes[-1]
            node = parent.children.get(component) if isinstance(parent, Directory) else None
            target = symlink_target(node) if todo or follow_last else None
            if target is None:
                done.append(component)
                nodes.append(node)
                continue
            hops += 1
            if hops > _HOPS:
                raise LayerError("too many levels of symbolic links", path=b"/".join(components))
            if target[:1] == b"/":
                done.clear()
                del nodes[1:]
            parts = target.split(b"/")
            self._followed += len(parts)
            if self._followed > _FOLLOWED:
                raise LayerError("symbolic links that lead too far", path=b"/".join(components))
            todo.extend(part for part in reversed(parts) if part not in (b"", b"."))
        return done

    def find(self, components: list[bytes]) -> Directory | Leaf | None:
        """Look up a path, following nothing."""
        node: Node = self.root
        for component in components:
            child = node.children.get(component) if isinstance(node, Directory) else None
            if child is None or isinstance(child, Covered):
                return None
            node = child
        return node if not isinstance(node, Covered) else None


def _check_root(entry: Entry) -> None:
    """Refuse a root that is no directory."""
    if entry.kind is not _DIRECTORY and entry.path:
        raise LayerError("the root of an image is a directory", path=entry.path)


def symlink_target(node: Node | None) -> bytes | None:
    """Return where a symlink leads; None for anything else."""
    inode = node.inode if isinstance(node, Link) else node
    if isinstance(inode, Inode) and inode.extra and inode.extra.entry and inode.extra.entry.kind is Kind.SYMLINK:
        return inode.extra.entry.link
    return None


def inode_of(leaf: Leaf, path: bytes) -> Inode:
    """Return what a leaf at `path` names. An inode that was shown is known by that path from now on."""
    inode = final(leaf.inode if isinstance(leaf, Link) else leaf)
    if leaf.shown and inode is leaf:
        extra = inode.extended()
        extra.leader = extra.leader or path
    return inode


def final(inode: Inode) -> Inode:
    """Return the inode that one which waited was bound to, however many lie in between; from now on it is one step."""
    last = inode
    while last.extra is not None and last.extra.bound is not None:
        last = last.extra.bound
    while inode.extra is not None and inode.extra.bound is not None:
        inode.extra.bound, inode = last, inode.extra.bound
    return last


def superseded(entries: Iterable[Entry], depth: int = USUAL.path_depth, most: int = USUAL.entries) -> frozenset[int]:
    """Read a layer's headers and return the ordinals of the entries that do not survive in their own layer."""
    dead: set[int] = set()

    def dropped(leaf: Leaf) -> None:
        dead.add(leaf.ordinal)

    tree = LayerTree(lambda *_: COVERED, dropped, lambda *_: None, depth, most)  # who reads it next will tell
    for ordinal, entry in enumerate(entries):
        tree.take(ordinal, entry._replace(xattrs=()) if entry.xattrs else entry)
    return frozenset(dead)
