"""Flattening: what is visible of an image's layers, in one pass over each, the topmost first.

The theory of operation. A layer says what changed; the layers above it decide what of that is still visible. Each
layer is a tree of its own (`layertree`), and the trees are stacked as overlayfs stacks them. Going down from the
topmost layer, one tree remembers what the layers so far have covered. An entry of the next layer is visible unless that
tree has

- a non-directory or a whiteout at its path or at a parent of it, or
- an opaque directory above it, or
- a directory at its path, where it is none.

A visible entry goes out as it is met, with its content still in the read buffer. When the layer ends, its own tree,
with its whiteouts and opaque directories, is merged into the covering one. Nothing is unpacked, and an ordinary image
is read once.

Four things cannot go out as they are met:

*Hard links to what a layer above hides.* A hidden file may be the content of a visible name, whose entry comes later in
its layer and has no content of its own. So the content of a hidden file is kept until its layer ends (`spool`), and the
first visible link to it becomes the file.

*Hard links to a lower layer, or to a later entry.* They wait for the target, which is what the layers below showed
before this layer's markers, and go out as soon as it is found: as links to it, or as the file itself if it is hidden.

*Directories.* They go out last, children before parents. Only then are their attributes known (the topmost layer that
lists one decides), and it is the one order that every extractor restores exactly, since nothing touches a directory
afterwards.

*A name given twice in one layer.* The last entry counts, but the first may have gone out. `Superseded` is raised then,
and whoever asked starts over with that layer among `careful`: its headers are read first, to learn which entries do
not last. Writers that take a layer from a file system never do this, so nobody else pays for it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Iterator, Sequence
from typing import TYPE_CHECKING

from ocirootfs.entry import Body, Entry, Kind
from ocirootfs.errors import InputError, LayerError, printable
from ocirootfs.layertree import (
    AUFS,
    COVERED,
    IMPLIED,
    Cover,
    Covered,
    Deferred,
    Directory,
    Inode,
    LayerTree,
    Leaf,
    Link,
    Node,
    Place,
    final,
    inode_of,
    superseded,
    symlink_target,
)
from ocirootfs.limits import USUAL, Limits, raising
from ocirootfs.oddity import Note, Oddities, Oddity
from ocirootfs.tar import reader
from ocirootfs.tar.sparse import Expanded

if TYPE_CHECKING:
    from ocirootfs.image import Layer
    from ocirootfs.spool import Spool

log = logging.getLogger("ocirootfs.flattening")

Visible = Iterator[tuple[Entry, Body]]
Excluded = Callable[[bytes], bool]


class Superseded(Exception):  # noqa: N818  # not an error: it asks for another go
    """A layer gave a name twice, and the entry that does not count has gone out already."""

    def __init__(self, layer: int) -> None:
        super().__init__(layer)
        self.layer = layer


ALWAYS: Container[int] = range(1, 1 << 30)
"""Every layer is read with care: twice, and never Superseded."""

_RESTARTS = 3
_LONG = 255  # bytes of a name; no file system takes more (limits.h, NAME_MAX)
_SEGMENT = 100  # bytes of memory for each piece of a sparse file


def more_careful(careful: Container[int], again: Superseded) -> Container[int]:
    """Return which layers to read with care when one proved to need it: that one too, and before long all of them.

    Starting over costs all that was done, reading each layer twice at most as much as that.
    """
    known = careful if isinstance(careful, frozenset) else frozenset[int]()
    return known | {again.layer} if len(known) < _RESTARTS else ALWAYS


def flatten(
    layers: Sequence[Layer],
    spool: Spool,
    *,
    excluded: Excluded | None = None,
    careful: Container[int] = ALWAYS,
    limits: Limits = USUAL,
) -> Visible:
    """Yield the visible entries of `layers` (bottom first, as a manifest lists them), each path once.

    First the non-directories, as they are met, a hard link always after the entry it names; then the directories, in
    post-order, the root (path `b""`) last. Contents are to be read before the next entry is asked for. `excluded` paths
    are left out with all below them, as if a layer above hid them. The layers whose numbers are in `careful` are read
    twice. Raises InputError for what no container host accepts or is over one of the `limits`, Superseded for a layer
    that needed care. What is odd is logged as a warning when everything has been shown.

    The bytes of a layer are proved when the iterator passes its end: nothing made of them may be published before the
    iterator is exhausted.
    """
    stack = _Stack(spool, excluded, limits)
    for layer in reversed(layers):
        try:
            yield from stack.show(layer, careful=layer.number in careful)
        except LayerError as error:
            raise InputError(f"{layer.name}: {error}", hint=error.hint) from error
    try:
        stack.finish()
    except LayerError as error:
        raise InputError(error.message) from None
    yield from stack.directories()
    for line in stack.oddities.lines():
        log.warning("%s", line)


class _Stack:
    """What the layers so far cover, and the links that wait for the layers below."""

    def __init__(self, spool: Spool, excluded: Excluded | None, limits: Limits) -> None:
        self._above = Directory()
        self._awaited: list[Awaited] = []
        self._spool = spool
        self._excluded = excluded
        self._limits = limits
        self._left = limits.entries  # entries that the layers may still have
        self._attributes = limits.attributes  # bytes that may still be kept
        self.oddities = Oddities()

    def show(self, layer: Layer, *, careful: bool) -> Visible:
        """Yield what is visible of the next layer down, then cover what it covers."""
        dead = self._dead(layer) if careful else frozenset()
        note = self.oddities.within(layer.name)
        tree = LayerTree(self._cover, _refusing(layer.number), note, self._limits.path_depth, self._left)
        chunks = layer.open()
        try:
            yield from self._entries(tree, chunks, dead, note)
        except LayerError:
            for _ in chunks:  # a digest that is wrong is the better message
                pass
            raise
        tree.apply_markers()
        deferred: list[Deferred] = []
        yield from self._bind_within(tree, deferred)
        yield from self._bind_from_above(tree)
        self._awaited += [Awaited(layer.name, each) for each in deferred]
        self._spool.clear()
        _merge(self._above, tree.root, note)

    def _dead(self, layer: Layer) -> frozenset[int]:
        """Read a layer's headers, to know which of its entries will not count."""
        entries = (entry for entry, _ in reader.read(layer.open(), limits=self._limits, most=self._left))
        return superseded(entries, self._limits.path_depth, self._left)

    def _entries(self, tree: LayerTree, chunks: Iterator[bytes], dead: frozenset[int], note: Note) -> Visible:
        owners: dict[tuple[int, int, int], tuple[int, int, int]] = {}
        excluded = self._excluded
        ordinal = -1
        for ordinal, (listed, body) in enumerate(reader.read(chunks, limits=self._limits, most=self._left)):
            entry = self._counted(listed, note) if listed.xattrs or listed.link or len(listed.path) > _LONG else listed
            taken = tree.take(0, entry)  # only `superseded` wants to know ordinals, and a million of them take room
            if taken is None:
                continue
            path, place, node = taken
            is_covered = place.cover is not None and not _uncovered(place, path)
            visible = not is_covered and ordinal not in dead and not (excluded and excluded(path))
            node.shown = visible
            if isinstance(node, Link):
                if visible:
                    yield from self._name(node.inode, path)
                continue
            owner = entry[2:5]  # mode, uid, gid
            node.owner = owners.setdefault(owner, owner)
            node.mtime = entry.mtime
            if visible:
                yield entry if entry.path is path else entry._replace(path=path), body
            else:
                self._hide(node, entry, body)
        self._left = max(0, self._left - (ordinal + 1) - tree.implied)

    def _counted(self, listed: Entry, note: Note) -> Entry:
        """Drop attributes of the host that made the layer; what a directory has left is kept to the end, and counts.

        So do names that no file system takes, of which a kilobyte of gzip may hold a megabyte.
        """
        entry = _portable(listed, note) if listed.xattrs else listed
        lengths = len(entry.path.rstrip(b"/").rpartition(b"/")[2]), len(entry.link)
        self._keep(entry, sum(length for length in lengths if length > _LONG))
        if entry.kind is Kind.DIRECTORY:
            self._keep(entry, _attributes(entry))
        return entry

    def _keep(self, entry: Entry, size: int) -> None:
        """Count bytes that stay in memory; LayerError over the limit, and what is let go is not given back."""
        self._attributes -= size
        if self._attributes < 0:
            raise LayerError(
                f"extended attributes and long names of more than {self._limits.attributes} bytes",
                path=entry.path,
                hint=raising("attributes"),
            )

    def _hide(self, node: Inode, entry: Entry, body: Body) -> None:
        """Keep what a visible name may need of a hidden inode; of a sparse file no more than what is stored."""
        if entry.kind is not Kind.FILE or entry.xattrs:
            self._keep(entry, _attributes(entry))
            node.extended().entry = entry._replace(path=b"")
        if isinstance(body, Expanded):
            self._keep(entry, _SEGMENT * len(body.sparse.segments))
            node.extended().entry = entry._replace(path=b"")
            node.extended().sparse, body = body.sparse, body.stored
        if entry.size:
            node.kept = self._spool.keep(body)

    def _content(self, inode: Inode) -> Body:
        """Return what was kept of a hidden inode's content."""
        if inode.kept is None:
            return ()
        stored = self._spool.read(inode.kept)
        sparse = inode.extra.sparse if inode.extra else None
        return sparse.expand(stored) if sparse else stored

    def _cover(self, path: bytes, above: Place | None) -> Cover:
        """Look up what the layers above have at a directory's path; `above` is its parent, if that is known."""
        if above is None or not above.prefix:
            return self._covers(path.split(b"/") if path else [])
        if self._excluded and self._excluded(path):
            return COVERED
        if not isinstance(above.cover, Directory):
            return above.cover
        return _within(above.cover, path[len(above.prefix) :])

    def _covers(self, components: list[bytes]) -> Cover:
        if components and components[0].startswith(AUFS):
            return COVERED
        if self._excluded and any(map(self._excluded, _parents(components))):
            return COVERED
        cover: Cover = COVERED if self._above.opaque else self._above
        for component in components:
            if not isinstance(cover, Directory):
                return cover
            cover = _within(cover, component)
        return cover

    def _name(self, inode: Inode, path: bytes) -> Visible:
        """Give an inode the visible name `path`: as a link to its leader, or as the leader itself."""
        extra = inode.extended()
        if extra.waiting is not None:
            extra.waiting.append(path)
        elif extra.leader is not None:
            yield Entry(path, Kind.HARDLINK, *inode.owner, inode.mtime, link=extra.leader), ()
        else:
            extra.leader = path
            yield inode.entry(path), self._content(inode)

    def _bind_within(self, tree: LayerTree, left: list[Deferred]) -> Visible:
        """Bind the links that name a later entry of their layer; those for the layers below are added to `left`.

        A link may name a link that waits, too. The last is bound first, so that no chain of them is gone through twice.
        """
        bound: list[Inode] = []
        for deferred in reversed(tree.deferred):
            inode = _target(tree.find(deferred.target), deferred.target)
            if inode is None or inode is deferred.inode:
                left.append(deferred)
            else:
                deferred.inode.extended().bound = inode
                bound.append(deferred.inode)
        left.reverse()
        for waiting in reversed(bound):
            yield from self._bind(waiting, final(waiting))

    def _bind_from_above(self, tree: LayerTree) -> Visible:
        """Bind the links of the layers above that name what this layer has."""
        still = []
        for awaited in self._awaited:
            inode = awaited.look(tree)
            if inode is None:
                still.append(awaited)
            else:
                yield from self._bind(awaited.inode, inode)
        self._awaited = still

    def _bind(self, waiting: Inode, inode: Inode) -> Visible:
        """Give the names of `waiting`, which is known by them only, to the inode that has been found."""
        extra = waiting.extended()
        names, extra.waiting = extra.waiting or [], None
        for name in names:
            yield from self._name(inode, name)

    def finish(self) -> None:
        """Refuse links whose target no layer has."""
        for awaited in self._awaited:
            raise awaited.missing()

    def directories(self) -> Visible:
        """Yield all directories, children before parents, in order of their names, the root last."""
        todo: list[tuple[bytes, Directory, bool]] = [(b"", self._above, False)]
        while todo:
            path, directory, entered = todo.pop()
            if entered:
                entry = IMPLIED if directory.entry is None or not path else directory.entry
                yield entry._replace(path=path), ()
                continue
            todo.append((path, directory, True))
            prefix = path + b"/" if path else b""
            for name in sorted(directory.children, reverse=True):
                child = directory.children[name]
                if isinstance(child, Directory) and self._is_shown(prefix + name):
                    todo.append((prefix + name, child, False))

    def _is_shown(self, path: bytes) -> bool:
        return not path.startswith(AUFS) and not (self._excluded and self._excluded(path))


def _attributes(entry: Entry) -> int:
    """Return the bytes of an entry's extended attributes."""
    return sum(len(name) + len(value) for name, value in entry.xattrs)


def _portable(entry: Entry, note: Note) -> Entry:
    """Drop the attributes that belong to the host that made the layer.

    `trusted.` is overlayfs's own bookkeeping, which on another host would make a directory opaque (containerd refuses
    it); SELinux labels are set by the host's policy (containers/storage and umoci drop them).
    """
    if any(name.startswith(b"trusted.") for name, _ in entry.xattrs):
        note(Oddity.TRUSTED, entry.path)
    kept = tuple((k, v) for k, v in entry.xattrs if not k.startswith(b"trusted.") and k != b"security.selinux")
    return entry._replace(xattrs=kept)


def _refusing(number: int) -> Callable[[Leaf], None]:
    """Return what a layer's tree calls when a name goes: too late if it has been shown."""

    def dropped(leaf: Leaf) -> None:
        if leaf.shown:
            raise Superseded(number)

    return dropped


def _within(cover: Directory, name: bytes) -> Cover:
    """Return what upper layers have at a directory `name` inside of what they have as a directory."""
    child = cover.children.get(name)
    if isinstance(child, Directory):
        return COVERED if child.opaque else child
    return None if child is None else COVERED


def _uncovered(place: Place, path: bytes) -> bool:
    """Tell whether no layer above has anything in the way of a non-directory at `path`, in `place`."""
    cover = place.cover
    if cover is None:
        return True
    return isinstance(cover, Directory) and path[len(place.prefix) :] not in cover.children


def _parents(components: Sequence[bytes]) -> Iterator[bytes]:
    """Yield a path and every path above it, the shortest first, the root not."""
    path, end = b"/".join(components), -1
    for component in components:
        end += 1 + len(component)
        yield path[:end]


def _target(node: Directory | Leaf | None, path: Sequence[bytes]) -> Inode | None:
    """Return the inode that a hard link to `path` names; nothing if it is not there."""
    if isinstance(node, Directory):
        raise LayerError("a hard link to a directory", path=b"/".join(path))
    return None if node is None else inode_of(node, b"/".join(path))


class Awaited:
    """A hard link on its way down, looking for what the layers below its own showed at a path.

    Each layer may have the target, may show that there is none, or may say nothing. `_known` counts the leading
    components that a layer in between has as directories: what a lower one has there instead is hidden by them.
    """

    def __init__(self, layer: str, deferred: Deferred) -> None:
        self.inode = deferred.inode
        self._layer = layer
        self._target = deferred.target
        self._known = 0

    def look(self, tree: LayerTree) -> Inode | None:
        """Look for the target in the next layer down; LayerError if it shows that there is none."""
        directory = tree.root
        sealed = directory.opaque
        for depth, name in enumerate(self._target[:-1]):
            child = directory.children.get(name)
            if child is None:
                break
            if not isinstance(child, Directory):
                raise self._blocked(depth, child)
            directory = child
            sealed = sealed or directory.opaque
            self._known = max(self._known, depth + 1)
        else:
            child = directory.children.get(self._target[-1])
            if child is not None and not isinstance(child, Covered):
                return _target(child, self._target)
            sealed = sealed or child is not None
        if sealed:
            raise self.missing()
        return None

    def _blocked(self, depth: int, node: Leaf | Covered) -> LayerError:
        """Say why nothing can be at the target: a parent of it is no directory."""
        if depth >= self._known and not isinstance(node, Covered) and symlink_target(node) is not None:
            through = b"/".join(self._target[: depth + 1])
            # Overlay hosts resolve hard links in the layer being applied alone, and refuse this too.
            return LayerError(
                f"a hard link to '{printable(b'/'.join(self._target))}', which a lower layer has behind "
                f"the symbolic link '{printable(through)}'"
            )
        return self.missing()

    def missing(self) -> LayerError:
        """Return the error for a target that no layer has."""
        target = printable(b"/".join(self._target))
        return LayerError(f"a hard link of {self._layer} names '{target}', which is neither in it nor below")


def _merge(above: Directory, root: Directory, note: Note) -> None:
    """Let the tree of upper layers cover what one more layer covers. The layer's tree is used up."""
    todo = [(b"", above, root)]
    while todo:
        prefix, upper, lower = todo.pop()
        if upper.entry is None:  # implied so far: the layer below may list it, opaque or not
            upper.entry = lower.entry
        if upper.opaque:
            continue
        upper.opaque = lower.opaque
        for name, node in lower.children.items():
            mine = upper.children.get(name)
            if mine is None:
                upper.children[name] = _settled(node)
            elif isinstance(mine, Directory):
                if isinstance(node, Directory):
                    todo.append((prefix + name + b"/", mine, node))
                    continue
                if mine.entry is None and symlink_target(node) is not None:
                    note(Oddity.SHADOWED, prefix + name)
                mine.cut()


def _settled(node: Node) -> Node:
    """Forget all that is known of a subtree's non-directories but that they are there."""
    if not isinstance(node, Directory):
        return COVERED
    todo = [node]
    while todo:
        children = todo.pop().children
        for name, child in children.items():
            if isinstance(child, Directory):
                todo.append(child)
            else:
                children[name] = COVERED
    return node
