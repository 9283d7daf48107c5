"""Flattening, for whatever layers: random histories of a file system, and random stacks of entries.

OCIROOTFS_EXAMPLES sets how many examples Hypothesis tries each property on, OCIROOTFS_HISTORIES how many histories are
drawn without it.
"""

from __future__ import annotations

import io
import os
import random
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ocirootfs.bundle import Layout, Report, bundle
from ocirootfs.image import Image
from ocirootfs.manifest import parse_config
from ocirootfs.spool import Spool
from tests import model, trees
from tests.histories import history, tree
from tests.model import Node
from tests.mutants import carefully, check_stack, excluding, layers_of, optimistically, rejects, tree_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ocirootfs.image import Layer
    from tests.histories import State
    from tests.layers import Data

EXAMPLES = int(os.environ.get("OCIROOTFS_EXAMPLES", "300"))
HISTORIES = int(os.environ.get("OCIROOTFS_HISTORIES", "1200"))
SHARES = 8  # for as many processes
pytestmark = pytest.mark.timeout(120 + EXAMPLES // 4 + HISTORIES // 40)
thorough = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])

# (a) Histories.


@st.composite
def histories(draw: st.DrawFn, *, doubles: bool) -> tuple[list[list[Data]], State]:
    return history(lambda options: draw(st.sampled_from(options)), doubles=doubles)


def check_history(layers: list[list[Data]], state: State, *, doubles: bool) -> None:
    """The layers of a history give its last state; without doubles, not one of them has to be read twice."""
    last = model.view(tree(state))
    run = optimistically if doubles else partial(carefully, careful=())
    assert model.view(tree_of(run(layers_of(layers)))) == last
    assert model.view(model.flattened(layers)) == last


@thorough
@given(histories(doubles=False))
def test_history(drawn: tuple[list[list[Data]], State]) -> None:
    check_history(*drawn, doubles=False)


@thorough
@given(histories(doubles=True))
def test_history_with_doubles(drawn: tuple[list[list[Data]], State]) -> None:
    check_history(*drawn, doubles=True)


# The many: the same drawn without Hypothesis, which is five times as fast. A history that fails is named by its number;
# what raw layers fail on is cut down first.


@pytest.mark.parametrize("share", range(SHARES))
def test_many_histories(share: int) -> None:
    for number in range(share, HISTORIES, SHARES):
        doubles = number % 4 == 3
        layers, state = history(random.Random(number).choice, doubles=doubles)
        try:
            check_history(layers, state, doubles=doubles)
        except Exception as error:
            raise AssertionError(f"history {number}: {error}") from error


@pytest.mark.parametrize("share", range(SHARES))
def test_many_raw_stacks(share: int) -> None:
    for number in range(share, HISTORIES // 4, SHARES):
        stack = model.random_stack(random.Random(number).choice)
        if not passes(stack):
            smallest = shrunk(stack, lambda candidate: not passes(candidate))
            check_stack(smallest)
            raise AssertionError(f"stack {number} fails now and then")


def passes(stack: list[list[Data]]) -> bool:
    """Tell whether a stack is flattened as the model flattens it."""
    try:
        check_stack(stack)
    except Exception:  # noqa: BLE001  # whatever it is
        return False
    return True


def shrunk(stack: list[list[Data]], fails: Callable[[list[list[Data]]], bool]) -> list[list[Data]]:
    """Return a stack that still fails, and would not with any one entry less."""
    for number, layer in enumerate(stack):
        for index in range(len(layer)):
            smaller = [*stack[:number], layer[:index] + layer[index + 1 :], *stack[number + 1 :]]
            if fails(smaller):
                return shrunk(smaller, fails)
    return [layer for layer in stack if layer] if fails([layer for layer in stack if layer]) else stack


def test_shrinking_finds_the_culprits() -> None:
    def fails(stack: list[list[Data]]) -> bool:
        lower, upper = ({entry["type"] for layer in half for entry in layer} for half in (stack[:1], stack[1:]))
        return "file" in lower and "symlink" in upper

    for number in range(200):
        stack = model.random_stack(random.Random(number).choice)
        if fails(stack):
            assert [[entry["type"] for entry in layer] for layer in shrunk(stack, fails)] == [["file"], ["symlink"]]


def test_histories_have_everything() -> None:
    """What is drawn is as wild as it is meant to be."""
    seen: Counter[str] = Counter()
    for number in range(400):
        layers, _ = history(random.Random(number).choice, doubles=True)
        for entries in layers:
            seen.update(features(entries))
    wanted = {
        "file", "dir", "symlink", "hardlink", "fifo", "char", "whiteout", "opaque", "overlay whiteout", "xattrs",
        "non-UTF-8", "long", "twice", "no parent", "through a symlink", "link to a lower layer",
    }  # fmt: skip
    assert {feature for feature in wanted if seen[feature] < 20} == set()


def features(entries: list[Data]) -> Iterator[str]:
    """Yield what is of interest about a layer."""
    names = [entry["name"] for entry in entries]
    for entry in entries:
        head, _, name = entry["name"].rpartition("/")
        yield entry["type"]
        yield "opaque" if name == ".wh..wh..opq" else "whiteout" if name.startswith(".wh.") else "plain"
        yield "overlay whiteout" if entry["type"] == "char" and "devmajor" not in entry else "plain"
        yield "xattrs" if entry.get("xattrs") else "plain"
        yield "non-UTF-8" if "\udcff" in name else "plain"
        yield "long" if len(name) > 100 else "plain"
        yield "twice" if names.count(entry["name"]) > 1 else "plain"
        yield "no parent" if head and head not in names else "plain"
        parents = [other for other in entries if other["name"] == head]
        yield "through a symlink" if parents and parents[-1]["type"] == "symlink" else "plain"
        yield "link to a lower layer" if entry["type"] == "hardlink" and entry["linkname"] not in names else "plain"


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
