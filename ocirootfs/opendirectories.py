"""The directories of a tree that is being made: each is made by us, once, and reached from its root without a link.

A path is never handed to the kernel whole. Every step is one name below an open directory, and O_NOFOLLOW refuses a
symbolic link there, so that no name, however it was chosen and whatever else happens on this machine, leads out of the
tree; and paths may be longer than PATH_MAX.
"""

from __future__ import annotations

import os
from itertools import pairwise

_LIMIT = 32
"""The most directories that are open at a time, besides the root."""

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def is_empty(directory: int) -> bool:
    """Tell whether an open directory has nothing in it."""
    with os.scandir(directory) as found:
        return next(found, None) is None


class _Made:
    """A directory that has been made; `descriptor` is -1 while it is not open."""

    __slots__ = ("children", "descriptor", "name")

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.children: dict[bytes, _Made] = {}
        self.descriptor = -1


class OpenDirectories:
    """Gives descriptors of directories by path, and makes them when first asked for, with mode 0700.

    The root's descriptor stays the caller's. Raises what the operating system raises; FileExistsError where a name that
    we have not made is there, which a file system that folds case does.
    """

    def __init__(self, root: int) -> None:
        self._root = _Made(b"")
        self._root.descriptor = root
        self._open: dict[_Made, None] = {}  # the one used last at the end
        self._path = b""
        self._last = self._root

    def of(self, path: bytes) -> int:
        """Return the descriptor of the directory at a canonical path; good until the next call."""
        if path != self._path or self._last.descriptor < 0:
            self._last = self._reach(path)
            self._path = path
        return self._last.descriptor

    def has(self, path: bytes) -> bool:
        """Tell whether the directory at `path`, which is not the root's, has been made."""
        names = path.split(b"/")
        return len(self._known(names)) > len(names)

    def close(self, path: bytes) -> None:
        """Close the directory at `path`, which is not needed for now."""
        self.of(path)
        if path:
            self._close(self._last)

    def close_all(self) -> None:
        """Close everything but the root."""
        for node in list(self._open):
            self._close(node)

    def _reach(self, path: bytes) -> _Made:
        """Go down from the nearest parent that is open."""
        names = path.split(b"/") if path else []
        nodes = self._known(names)
        nearest = next(place for place in reversed(range(len(nodes))) if nodes[place].descriptor >= 0)
        for parent, node in pairwise(nodes[nearest:]):
            self._enter(node, parent)
        for name in names[len(nodes) - 1 :]:
            nodes.append(self._make(name, nodes[-1]))
        found = nodes[-1]
        if found is not self._root:
            self._open[found] = self._open.pop(found, None)
        return found

    def _known(self, names: list[bytes]) -> list[_Made]:
        """Return the root and what has been made of the path below it."""
        nodes = [self._root]
        for name in names:
            node = nodes[-1].children.get(name)
            if node is None:
                break
            nodes.append(node)
        return nodes

    def _make(self, name: bytes, parent: _Made) -> _Made:
        os.mkdir(name, 0o700, dir_fd=parent.descriptor)
        node = parent.children[name] = _Made(name)
        self._enter(node, parent)
        return node

    def _enter(self, node: _Made, parent: _Made) -> None:
        node.descriptor = os.open(node.name, DIRECTORY, dir_fd=parent.descriptor)
        self._open[node] = None
        if len(self._open) > _LIMIT:
            self._close(next(iter(self._open)))

    def _close(self, node: _Made) -> None:
        self._open.pop(node, None)
        descriptor, node.descriptor = node.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
