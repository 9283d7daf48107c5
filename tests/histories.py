"""Histories of a file system, drawn at random, and the layers that may express them.

The truth here is the history itself: what the file system is in the end is known without any rule of flattening. Each
step between two moments is a layer, in which much is optional and is drawn: what is listed beyond what changed, in what
order, under what names, through which symbolic links, by which markers. With `doubles`, entries come twice in a layer,
which no writer that reads a file system does.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, TypeVar

from tests import model
from tests.model import Node

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Literal

    from tests.layers import Data
    from tests.model import Choose

_T = TypeVar("_T")

State: TypeAlias = "dict[str, Node]"
"""A file system at one moment: paths, the root not among them, and nodes, which are never changed."""

_NAMES = ("a", "b", "c", "ab", "\udcff\n", "a", "b", "c", "n" * 130)
_MODES = (0o644, 0o4755, 0o600)
_OWNERS = (0, 1, 70000)
_TIMES = (0, 1600000000 * 10**9, -1, 10**9 + 5)
_XATTRS = ((), (), ((b"user.a", b"\xff"),), ((b"security.capability", b"\1"), (b"user.b", b"")))
_KINDS = ("file", "file", "file", "dir", "symlink", "fifo", "char")
_CONTENTS = (b"", b"\0", b"x", b"yz")
_CLIMBS = ("", "", "/", "../", "./")


def _path(choose: Choose, depths: Sequence[int] = (1, 2, 3)) -> str:
    return "/".join(choose(_NAMES) for _ in range(choose(depths)))


def _node(choose: Choose, kinds: Sequence[str] = _KINDS) -> Node:
    kind = choose(kinds)
    return Node(
        kind,
        0o777 if kind == "symlink" else choose(_MODES),
        choose(_OWNERS),
        choose(_OWNERS),
        choose(_TIMES),
        choose(_CONTENTS) if kind == "file" else b"",
        _raw(choose(_CLIMBS) + _path(choose, (1, 1, 2))) if kind == "symlink" else b"",
        (1, 3) if kind == "char" else (0, 0),
        choose(_XATTRS),
    )


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _shuffled(choose: Choose, items: Sequence[_T]) -> list[_T]:
    left = list(items)
    return [left.pop(choose(range(len(left)))) for _ in items]


class Put(NamedTuple):
    """Put a node at a path, replacing what is there; a directory over a directory changes its attributes only."""

    path: str
    node: Node

    def apply(self, state: State) -> None:
        if make_parents(state, self.path):
            if self.path in state and not state[self.path].type == self.node.type == "dir":
                remove(state, self.path)
            state[self.path] = replace(self.node)


class Link(NamedTuple):
    """Give some node one more name."""

    path: str
    number: int

    def apply(self, state: State) -> None:
        path = self.path
        others = sorted(each for each in state if state[each].type != "dir" and not (each + "/").startswith(path + "/"))
        if others and make_parents(state, path):
            node = state[others[self.number % len(others)]]
            remove(state, path)
            state[path] = node


class Alias(NamedTuple):
    """Put a symbolic link to some directory at a path."""

    path: str
    number: int

    def apply(self, state: State) -> None:
        directories = sorted(each for each in state if state[each].type == "dir")
        if directories:
            target = "/" + directories[self.number % len(directories)]
            Put(self.path, Node("symlink", 0o777, linkname=_raw(target))).apply(state)


class Remove(NamedTuple):
    """Remove a path and what is below it."""

    number: int

    def apply(self, state: State) -> None:
        if state:
            remove(state, sorted(state)[self.number % len(state)])


class Change(NamedTuple):
    """Change mode and time of a node, for all its names."""

    number: int
    mode: int
    mtime: int

    def apply(self, state: State) -> None:
        if state:
            old = state[sorted(state)[self.number % len(state)]]
            new = replace(old, mode=old.mode if old.type == "symlink" else self.mode, mtime=self.mtime)
            state.update({path: new for path in state if state[path] is old})


def make_parents(state: State, path: str) -> bool:
    """Make missing parents, with the attributes of directories nobody lists; False if something is in the way."""
    above = parents(path)
    if any(each in state and state[each].type != "dir" for each in above):
        return False
    for each in above:
        state.setdefault(each, Node("dir"))
    return True


def parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


def inside(state: State, path: str) -> list[str]:
    return [each for each in state if each.startswith(path + "/" if path else "")]


def remove(state: State, path: str) -> None:
    for each in [path, *inside(state, path)]:
        state.pop(each, None)


_NUMBERS = tuple(range(10))
_STEPS: tuple[Callable[[Choose], Put | Link | Alias | Remove | Change], ...] = (
    lambda choose: Put(_path(choose), _node(choose)),
    lambda choose: Link(_path(choose), choose(_NUMBERS)),
    lambda choose: Link(_path(choose), choose(_NUMBERS)),
    lambda choose: Alias(_path(choose), choose(_NUMBERS)),
    lambda choose: Remove(choose(_NUMBERS)),
    lambda choose: Change(choose(_NUMBERS), choose(_MODES), choose(_TIMES)),
)


def history(choose: Choose, *, doubles: bool) -> tuple[list[list[Data]], State]:
    """Draw a history as layers, bottom first, and the state that it ends in."""
    state: State = {}
    layers = []
    for _ in range(choose((1, 2, 3, 4, 5))):
        before = dict(state)
        for _ in range(choose(range(13))):
            choose(_STEPS)(choose).apply(state)
        layers.append(Difference(choose, before, state).entries(doubles=doubles))
    return layers, state


def tree(state: State) -> model.Tree:
    """Return a state as the model has it."""
    return {b"": Node("dir")} | {_raw(path): node for path, node in state.items()}


class Difference:
    """How a layer may express what became of one state: much is optional, and is drawn."""

    def __init__(self, choose: Choose, old: State, new: State) -> None:
        self.choose = choose
        self.new = new
        self.anew = self._made_anew(old)
        self.old = {path: node for path, node in old.items() if not self._is_hidden(path)}
        """What the markers leave of the lower layers."""
        self.below = old

    def coin(self) -> bool:
        return self.choose((False, True))

    def rarely(self) -> bool:
        return self.choose(range(5)) == 4

    def _made_anew(self, old: State) -> dict[str, Literal["opaque", "whiteout"]]:
        """Choose directories that the layer makes anew, listing all that is in them."""
        both = [
            "",
            *sorted(path for path in self.new if path in old and self.new[path].type == old[path].type == "dir"),
        ]
        chosen = {path: self.choose(("no", "no", "no", "opaque", "whiteout")) for path in both}
        return {path: "whiteout" if each == "whiteout" and path else "opaque"
                for path, each in chosen.items() if each != "no"}  # fmt: skip

    def _is_hidden(self, path: str) -> bool:
        return self.anew.get(path) == "whiteout" or any(each in self.anew for each in ["", *parents(path)])

    def entries(self, *, doubles: bool) -> list[Data]:
        listed = self._listed()
        markers = self._markers(listed)
        entries = self._directories(listed, markers) + self._files(listed) + markers
        if self.coin():
            entries = _shuffled(self.choose, entries)
        if doubles:
            entries = [each for entry in entries for each in self._doubled(entry)]
        return self._respelled(entries) if self.coin() else entries

    def _doubled(self, entry: Data) -> list[Data]:
        """Put another entry of the same name right before one: nothing in between can take it for the real one."""
        name = entry["name"]
        if not self.rarely() or name not in self.new or (entry["type"] == "char" and "devmajor" not in entry):
            return [entry]
        kinds = ("dir",) if entry["type"] == "dir" else ("file", "symlink", "fifo")
        return [entry_of(name, _node(self.choose, kinds)), entry]

    def _respelled(self, entries: list[Data]) -> list[Data]:
        """Name entries through symbolic links to their directories that the layer has listed before them."""
        through: dict[str, str] = {}
        spelled = []
        for entry in entries:
            head, slash, name = entry["name"].rpartition("/")
            if head in through and self.coin():
                spelled.append({**entry, "name": through[head] + slash + name})
            else:
                spelled.append(entry)
            path = entry["name"]
            if entry["type"] == "symlink" and path in self.new and self.new[path].linkname == _raw(entry["linkname"]):
                target = _lexical(path, entry["linkname"])
                if target in self.new and self.new[target].type == "dir":
                    through[target] = path
        return spelled

    def _listed(self) -> set[str]:
        """Choose the non-directories that are listed: changed ones, and all names of an inode with a changed one."""
        listed: set[str] = set()
        for node in {id(node): node for node in self.new.values() if node.type != "dir"}.values():
            group = [path for path in self.new if self.new[path] is node]
            changed = [path for path in group if self.old.get(path) is not node]
            listed.update(group if self.rarely() else changed)
        while True:  # what is listed may be in the way of a link to a lower layer, so that more has to be
            more = {
                path
                for node in {id(self.new[path]): self.new[path] for path in listed}.values()
                for path in self.new
                if self.new[path] is node and path not in listed and self._lower_name(node, listed) is None
            }
            if not more:
                return listed
            listed |= more

    def _lower_name(self, node: Node, listed: set[str]) -> str | None:
        """Find a name that a hard link of this layer can call a node by that only a lower layer has."""
        own = listed | {path for path in self.new if self.new[path].type == "dir"}
        for path in sorted(self.below):
            above = parents(path)
            clear = all(each not in self.new or self.new[each].type == "dir" for each in above)
            if self.below[path] is node and path not in own and clear:
                return path
        return None

    def _files(self, listed: set[str]) -> list[Data]:
        entries = []
        for node in {id(self.new[path]): self.new[path] for path in sorted(listed)}.values():
            group = [path for path in sorted(listed) if self.new[path] is node]
            if self.coin():
                group = _shuffled(self.choose, group)
            known = self._lower_name(node, listed)
            whole = all(path in listed for path in self.new if self.new[path] is node)
            if known is None or (whole and self.coin()):
                known, *group = group
                entries.append(entry_of(known, node))
            linkable = [known]
            for path in group:  # to any name before it, but in the archive it may come first
                entries.append({"type": "hardlink", "name": path, "linkname": self.choose(linkable)})
                linkable.append(path)
        return entries

    def _markers(self, listed: set[str]) -> list[Data]:
        markers = [marker(path, how == "opaque") for path, how in self.anew.items()]
        for path in sorted(self.old):
            parent = path.rpartition("/")[0]
            stays = not parent or (parent in self.new and self.new[parent].type == "dir" and parent in self.old)
            if path not in self.new and stays and (not parent or self.old[parent].type == "dir"):
                overlay = {"type": "char", "name": path}
                markers.append(overlay if self.rarely() else marker(path, False))
        return markers + [marker(path, False) for path in sorted(listed) if self.rarely()]

    def _directories(self, listed: set[str], markers: list[Data]) -> list[Data]:
        """List directories that are new or changed, and others at will; deepest first, as a new one may be implied."""
        named = listed | {entry["name"] for entry in markers}
        entries = []
        for path in sorted((path for path in self.new if self.new[path].type == "dir"), reverse=True):
            node, lower = self.new[path], self.old.get(path)
            if lower is not None and lower.type == "dir":
                optional = model.view({b"": replace(lower, listed=True)}) == model.view({b"": node})
            else:
                implied = any(each.startswith(path + "/") for each in named)
                optional = implied and model.view({b"": node}) == model.view({b"": Node("dir")})
            if not optional or self.rarely():
                named.add(path)
                entries.append(entry_of(path, node))
        return entries


def _lexical(path: str, target: str) -> str:
    """Return where a symbolic link at `path` leads if nothing on the way is another one."""
    parts = [] if target.startswith("/") else path.split("/")[:-1]
    for part in target.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def marker(path: str, opaque: bool) -> Data:
    head, slash, name = path.rpartition("/")
    return {"type": "file", "name": f"{path}/.wh..wh..opq" if opaque else f"{head}{slash}.wh.{name}"}


def entry_of(path: str, node: Node) -> Data:
    seconds, nanoseconds = divmod(abs(node.mtime), 10**9)
    return {
        "type": node.type,
        "name": path,
        "mode": f"{node.mode:o}",
        "uid": node.uid,
        "gid": node.gid,
        "mtime": f"{'-' if node.mtime < 0 else ''}{seconds}.{nanoseconds:09d}",
        "data": _text(node.data),
        "linkname": _text(node.linkname),
        "devmajor": node.device[0],
        "devminor": node.device[1],
        "xattrs": {_text(name): _text(value) for name, value in node.xattrs},
    }
