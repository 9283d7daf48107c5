"""Flattening, for whatever layers: random histories of a file system, and random stacks of entries.

OCIROOTFS_EXAMPLES sets how many examples each property is tried on.
"""

from __future__ import annotations

import io
import os
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ocirootfs.bundle import Layout, Report, bundle
from ocirootfs.image import Image
from ocirootfs.manifest import parse_config
from ocirootfs.spool import Spool
from tests import model, trees
from tests.model import Node
from tests.mutants import carefully, check_stack, excluding, layers_of, rejects, tree_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal

    from ocirootfs.image import Layer
    from tests.layers import Data

EXAMPLES = int(os.environ.get("OCIROOTFS_EXAMPLES", "300"))
pytestmark = pytest.mark.timeout(120 + EXAMPLES // 4)
thorough = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])

State: TypeAlias = "dict[str, Node]"
"""A file system at one moment: paths, the root not among them, and nodes, which are never changed."""

# (a) Histories.

names = st.sampled_from(["a", "b", "c", "ab", "\udcff\n"])
paths = st.lists(names, min_size=1, max_size=3).map("/".join)
modes = st.sampled_from([0o644, 0o4755, 0o600])
owners = st.sampled_from([0, 1, 70000])
times = st.sampled_from([0, 1600000000 * 10**9, -1, 10**9 + 5])
xattrs = st.sampled_from([(), (), ((b"user.a", b"\xff"),), ((b"security.capability", b"\1"), (b"user.b", b""))])


@st.composite
def nodes(draw: st.DrawFn) -> Node:
    kind = draw(st.sampled_from(["file", "file", "file", "dir", "symlink", "fifo", "char"]))
    return Node(
        kind,
        0o777 if kind == "symlink" else draw(modes),
        draw(owners),
        draw(owners),
        draw(times),
        draw(st.binary(max_size=3)) if kind == "file" else b"",
        draw(paths).encode("utf-8", "surrogateescape") if kind == "symlink" else b"",
        (1, 3) if kind == "char" else (0, 0),
        draw(xattrs),
    )


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


numbers = st.integers(0, 9)
steps = st.one_of(
    st.builds(Put, paths, nodes()),
    st.builds(Link, paths, numbers),
    st.builds(Link, paths, numbers),
    st.builds(Remove, numbers),
    st.builds(Change, numbers, modes, times),
)


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[list[Data]], State]:
    """Draw a history as layers, and the state that it ends in."""
    state: State = {}
    layers = []
    for changes in draw(st.lists(st.lists(steps, max_size=12), min_size=1, max_size=5)):
        before = dict(state)
        for step in changes:
            step.apply(state)
        layers.append(Difference(draw, before, state).entries())
    return layers, state


class Difference:
    """How a layer may express what became of one state: much is optional, and is drawn."""

    def __init__(self, draw: st.DrawFn, old: State, new: State) -> None:
        self.draw = draw
        self.new = new
        self.anew = self._made_anew(old)
        self.old = {path: node for path, node in old.items() if not self._is_hidden(path)}
        """What the markers leave of the lower layers."""
        self.linked = self.old
        self.below = old

    def coin(self) -> bool:
        return self.draw(st.booleans())

    def rarely(self) -> bool:
        return self.draw(st.integers(0, 4)) == 4

    def _made_anew(self, old: State) -> dict[str, Literal["opaque", "whiteout"]]:
        """Choose directories that the layer makes anew, listing all that is in them."""
        both = [
            "",
            *sorted(path for path in self.new if path in old and self.new[path].type == old[path].type == "dir"),
        ]
        how = st.sampled_from(["no", "no", "no", "opaque", "whiteout"])
        chosen = {path: self.draw(how) for path in both}
        return {path: "whiteout" if each == "whiteout" and path else "opaque"
                for path, each in chosen.items() if each != "no"}  # fmt: skip

    def _is_hidden(self, path: str) -> bool:
        return self.anew.get(path) == "whiteout" or any(each in self.anew for each in ["", *parents(path)])

    def entries(self) -> list[Data]:
        listed = self._listed()
        markers = self._markers(listed)
        entries = self._directories(listed, markers) + self._files(listed) + markers
        return self.draw(st.permutations(entries)) if self.coin() else entries

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
                group = self.draw(st.permutations(group))
            known = self._lower_name(node, listed)
            whole = all(path in listed for path in self.new if self.new[path] is node)
            if known is None or (whole and self.coin()):
                known, *group = group
                entries.append(entry_of(known, node))
            linkable = [known]
            for path in group:  # to any name before it, but in the archive it may come first
                entries.append({"type": "hardlink", "name": path, "linkname": self.draw(st.sampled_from(linkable))})
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


def marker(path: str, opaque: bool) -> Data:
    head, slash, name = path.rpartition("/")
    return {"type": "file", "name": f"{path}/.wh..wh..opq" if opaque else f"{head}{slash}.wh.{name}"}


def entry_of(path: str, node: Node) -> Data:
    def text(raw: bytes) -> str:
        return raw.decode("utf-8", "surrogateescape")

    seconds, nanoseconds = divmod(abs(node.mtime), 10**9)
    return {
        "type": node.type,
        "name": path,
        "mode": f"{node.mode:o}",
        "uid": node.uid,
        "gid": node.gid,
        "mtime": f"{'-' if node.mtime < 0 else ''}{seconds}.{nanoseconds:09d}",
        "data": text(node.data),
        "linkname": text(node.linkname),
        "devmajor": node.device[0],
        "devminor": node.device[1],
        "xattrs": {text(name): text(value) for name, value in node.xattrs},
    }


@thorough
@given(histories())
def test_history(history: tuple[list[list[Data]], State]) -> None:
    """The layers of a history give its last state, and not one of them has to be read twice."""
    layers, state = history
    last = model.view(
        {b"": Node("dir")} | {path.encode("utf-8", "surrogateescape"): node for path, node in state.items()}
    )
    assert model.view(tree_of(carefully(layers_of(layers), careful=()))) == last
    assert model.view(model.flattened(layers)) == last


# (b) Raw layers.


@st.composite
def raw_entries(draw: st.DrawFn) -> Data:
    return model.raw_entry(lambda options: draw(st.sampled_from(options)))


raw_stacks = st.lists(st.lists(raw_entries(), max_size=9), min_size=1, max_size=4).map(model.completed)
exclusions = st.lists(st.sampled_from([b"a", b"b", b"ab", b"b/a", b"c/b", b"a/\xff"]), max_size=2)


@thorough
@given(raw_stacks, exclusions, st.sampled_from([1 << 20, 512, 700]))
def test_raw_layers(stack: list[list[Data]], excluded: list[bytes], piece: int) -> None:
    """Whatever the entries: the same tree as the model's, or both reject them; with care or without."""
    check_stack(stack, excluding(excluded), piece)


CONFIG = parse_config(
    b'{"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}', "config"
)


def archived(layers: Sequence[Layer], layout: Layout) -> dict[bytes, trees.Node]:
    """Read back the archive of a flattened image with the standard library; `trees` checks that it is canonical."""
    with Spool() as spool:
        archive = b"".join(bundle(Image(CONFIG, tuple(layers)), layout, spool, Report(), range(1, 99)))
    tree = trees.read_tree(io.BytesIO(archive), "rootfs/" if layout.kind == "concourse" else "")
    return {path.encode("utf-8", "surrogateescape"): node for path, node in tree.items()}


def as_archived(tree: model.Tree, layout: Layout) -> dict[bytes, tuple[object, ...]]:
    """Return what of a tree an archive of that layout holds."""
    concourse = layout.kind == "concourse"
    kept = {
        path: node
        for path, node in tree.items()
        if not (concourse and node.type in ("char", "block")) and (path or concourse)
    }
    return {
        path: (
            *values[:4],
            values[4] // 10**9 * 10**9 if concourse else values[4],  # type: ignore[operator]  # it is the time
            *values[5:8],
            () if concourse else values[8],
            values[9],
        )
        for path, values in model.view(kept).items()
    }


def as_read(tree: dict[bytes, trees.Node]) -> dict[bytes, tuple[object, ...]]:
    """Return a tree that was read back, as values like the model's."""

    def raw(text: str) -> bytes:
        return text.encode("utf-8", "surrogateescape")

    alike = {
        id(node): Node(
            node.type, node.mode, node.uid, node.gid, int(node.mtime * 10**9), node.data, raw(node.linkname),
            (node.devmajor, node.devminor), tuple(sorted((raw(k), raw(v)) for k, v in dict(node.xattrs).items())),
        )
        for node in tree.values()
    }  # fmt: skip
    return model.view({path: alike[id(node)] for path, node in tree.items()})


@thorough
@given(raw_stacks, st.sampled_from([1 << 20, 700]))
def test_archives_of_raw_layers(stack: list[list[Data]], piece: int) -> None:
    """In both layouts the archive is canonical and holds the tree, as far as the layout can."""
    tree: model.Tree = {}
    if rejects(lambda: tree.update(model.flattened(stack))) is not None:
        return  # as flatten does: see above
    layers = layers_of(stack, piece)
    for layout in (Layout("concourse"), Layout("rootfs")):
        assert as_read(archived(layers, layout)) == as_archived(tree, layout)
