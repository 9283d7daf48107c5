"""Flattening, case by case: every vector through `flatten` and through the model, and what no vector can say."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from ocirootfs.entry import Entry, Kind
from ocirootfs.errors import InputError, LayerError
from ocirootfs.flattening import Superseded, flatten
from ocirootfs.layertree import LayerTree
from ocirootfs.limits import USUAL
from ocirootfs.spool import Spool
from tests import model
from tests.mutants import (
    ODD,
    carefully,
    check_vector,
    check_warnings,
    file,
    layers_of,
    link,
    mismatches,
    optimistically,
    tree_of,
    vectors,
    warnings_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ocirootfs.image import Layer
    from tests.layers import Data

VECTORS = {vector["name"]: vector for vector in vectors()}

# In files whose format only a reader of tar knows, which the model is not.
BYTES_ONLY = {
    "sp-gnu-old", "sp-pax-0.1", "nm-gnu-atime-not-prefix", "more-pax-last-record-wins", "more-mode-with-type-bits",
}  # fmt: skip

# Corner cases that are covered by the specification's own vectors or are nothing that a layer can say.
ELSEWHERE = {"A22": "wh-trusted-overlay-opaque-xattr", "A24": "wh-case-sensitive", "D8": "nm-gnu-atime-not-prefix",
             "D9": "nm-unicode-nfc-nfd", "E20": "sp-gnu-old"}  # fmt: skip
NOT_HERE = {"D7", "E16"}  # a deep path is tested below; no tar holds a socket


@pytest.mark.parametrize("name", VECTORS)
def test_vector_with_care(name: str) -> None:
    check_vector(VECTORS[name], carefully)


@pytest.mark.parametrize("name", VECTORS)
def test_vector_starting_over(name: str) -> None:
    check_vector(VECTORS[name], optimistically)


@pytest.mark.parametrize("name", sorted(VECTORS.keys() - BYTES_ONLY))
def test_vector_and_model(name: str) -> None:
    vector = VECTORS[name]
    if vector["expect"] == "reject":
        with pytest.raises(LayerError):
            model.flattened(vector["layers"])
    else:
        assert not mismatches(vector, model.flattened(vector["layers"]))


def test_the_model_leaves_out_no_more_than_it_must() -> None:
    unreadable = {name for name, vector in VECTORS.items() if not all(map(model.can_read, vector["layers"]))}
    assert unreadable == BYTES_ONLY


def test_every_row_of_the_table_has_a_vector() -> None:
    rows = {f"{part}{number}" for part, last in zip("ABCDE", (25, 16, 16, 11, 23), strict=True)
            for number in range(1, last + 1)}  # fmt: skip
    covered = {row for vector in VECTORS.values() for row in vector.get("row", "").split()}
    assert rows - covered == ELSEWHERE.keys() | NOT_HERE
    assert set(ELSEWHERE.values()) <= VECTORS.keys()


def test_a_vector_that_is_wrong_is_noticed() -> None:
    """The comparison itself: each way in which a tree can differ from a vector."""
    entries: list[Data] = [
        {"type": "file", "name": "d/a", "data": "1", "xattrs": {"user.x": "y"}},
        {"type": "hardlink", "name": "b", "linkname": "d/a"},
        {"type": "file", "name": "c", "data": "1"},
    ]
    tree = model.flattened([entries])
    right: Data = {
        "expect": {"d": {}, "d/a": {"data": "1", "mode": "0644"}, "b": {"same_inode_as": "d/a"}, "c": {"uid": 0}},
        "expect_absent": ["e"],
        "complete": True,
    }
    assert not mismatches(right, tree)
    wrong: list[Data] = [
        {"d/a": {"data": "2"}}, {"d/a": {"mode": "0600"}}, {"d/a": {"xattrs": {}}}, {"d/a": {"mtime": 5}},
        {"d/a": {"type": "dir"}}, {"e": {}}, {"c": {"same_inode_as": "d/a"}}, {"b": {}}, {"c": {"devmajor": 1}},
    ]  # fmt: skip
    for each in wrong:
        assert mismatches({**right, "expect": right["expect"] | each}, tree), each
    assert mismatches({**right, "expect": {"d": {}, "d/a": {}, "b": {"same_inode_as": "d/a"}}}, tree), "c is extra"
    assert mismatches({**right, "expect_absent": ["c"]}, tree)
    assert mismatches({**right, "root": {"mode": "0700"}}, tree)


def test_a_deep_path() -> None:
    name = "d/" * USUAL.path_depth + "f"
    shown = carefully(layers_of([[file(name, "deep")], [file("d/" * (USUAL.path_depth - 1) + "g", "less")]]))
    assert [entry.path.count(b"/") for entry, _ in shown] == [
        USUAL.path_depth - 1,
        USUAL.path_depth,
        *range(USUAL.path_depth - 1, -1, -1),
        0,
    ]
    with pytest.raises(InputError, match=f"a path of more than {USUAL.path_depth} components"):
        carefully(layers_of([[file("d/" + name)]]))


def counted(layers: list[Layer], opened: list[int]) -> list[Layer]:
    """Return layers that write down their number when they are opened."""

    def again(layer: Layer) -> Layer:
        def source() -> Iterator[bytes]:
            opened.append(layer.number)
            yield from layer.source()

        return replace(layer, source=source)

    return [again(layer) for layer in layers]


def test_layers_are_read_once_topmost_first() -> None:
    opened: list[int] = []
    stack = [[file("a")], [link("b", "a"), file("c")], [file("a")], [file(".wh.c")]]
    optimistically(counted(layers_of(stack), opened))
    assert opened == [4, 3, 2, 1]


def test_a_layer_that_needs_care_is_read_once_more_and_what_is_above_it_again() -> None:
    opened: list[int] = []
    optimistically(counted(layers_of([[file("a")], [file("b", "1"), file("b", "2")], [file("c")]]), opened))
    assert opened == [3, 2, 3, 2, 2, 1]


def test_with_care_each_layer_is_read_twice() -> None:
    opened: list[int] = []
    carefully(counted(layers_of([[file("a")], [file("b")]]), opened))
    assert opened == [2, 2, 1, 1]


@pytest.mark.parametrize(
    "entries",
    [
        [file("a"), link("a", "a")],
        [{"type": "dir", "name": "d"}, file("d/x"), {"type": "dir", "name": "d", "mode": "0700"}],
        [file("a"), file(".wh.a"), file(".wh..wh..opq")],
        [link("b", "a"), file("a")],
    ],
    ids=["link-to-itself", "directory-again", "markers-after", "forward-link"],
)
def test_what_needs_no_care(entries: list[Data]) -> None:
    """Nothing that has gone out gives way here, though names come twice."""
    assert tree_of(carefully(layers_of([entries]), careful=()))


@pytest.mark.parametrize(
    ("entries", "hidden"),
    [
        ([file("a", "1"), file("a", "2")], False),
        ([file("a", "1"), {"type": "dir", "name": "a"}], False),
        ([file("d/a", "1"), file("d", "2")], False),
        ([file("a", "1"), file("a/b", "2")], False),
        ([file("a", "1"), {"type": "char", "name": "a"}], False),
        ([file("a", "1"), link("b", "a"), file("b", "2")], False),
        ([link("b", "a"), file("b", "2"), file("a", "1")], False),
        ([file("x", "1"), file("x", "2")], True),
    ],
    ids=["file", "directory", "above", "below", "overlay-whiteout", "link", "waiting-link", "hidden"],
)
def test_superseded_is_raised_for_what_has_gone_out_only(entries: list[Data], hidden: bool) -> None:
    layers = layers_of([entries, [file("x")]])
    if hidden:
        carefully(layers, careful=())
        return
    with pytest.raises(Superseded) as raised:
        carefully(layers, careful=())
    assert raised.value.layer == 1
    assert carefully(layers, careful={1}) == carefully(layers)


@pytest.mark.parametrize("name", ODD)
def test_what_is_odd_is_told_once(name: str) -> None:
    check_warnings(name)


def test_starting_over_tells_nothing_twice() -> None:
    stack = [[file("a"), file("a/b"), file("c", "1"), file("c", "2")], [file("d", "1"), file("d", "2")]]
    assert [line.partition(":")[0] for line in warnings_of(stack)] == ["layer 1"]


def test_errors_name_the_layer() -> None:
    layers = layers_of([[file("a")], [file("../b")], [file("c")]])
    with pytest.raises(InputError, match=f"^{re.escape(layers[1].name)}: entry '../b': the name climbs out"):
        carefully(layers)


def test_contents_may_be_left_unread() -> None:
    """Who wants only names takes no content, and still gets every entry, hidden files turned leaders included."""
    stack = [[file("a", "A" * 3000), link("b", "a"), file("c", "C" * 2000)], [file(".wh.a"), file("d", "D" * 5000)]]
    for piece in (512, 700, 1 << 20):
        layers = layers_of(stack, piece)
        with Spool() as spool:
            assert [entry for entry, _ in flatten(layers, spool)] == [entry for entry, _ in carefully(layers)]


def test_only_hidden_contents_are_kept_and_only_while_their_layer_lasts() -> None:
    stack = [
        [file("low", "x" * 40)],
        [file("hidden", "h" * 30), file("shown", "s" * 5000), file("hidden2", "i" * 20), file("end", "")],
        [file("hidden", "n"), file(".wh.hidden2")],
    ]
    with Spool() as spool:
        kept = {entry.path: spool.end for entry, _ in flatten(layers_of(stack), spool, careful=())}
    assert kept == {b"hidden": 0, b"shown": 30, b"end": 50, b"low": 0, b"": 0}


def test_excluded_leader() -> None:
    """A file left out may be what a link that stays names."""
    layers = layers_of([[file("d/a", "A"), link("b", "d/a"), link("d/c", "b")]])
    for careful in (range(9), ()):
        shown = carefully(layers, {b"d"}.__contains__, careful)
        assert [(entry.path, data) for entry, data in shown] == [(b"b", b"A"), (b"", b"")]


@pytest.mark.parametrize("name", ["more-hl-behind-lower-symlink", "more-hl-behind-lower-symlink-two-down"])
def test_the_model_has_the_exception(name: str) -> None:
    """The one case that the semantics would accept and we do not: model and flattener say the same of it."""
    assert "symbolic link" in VECTORS[name]["match"]
    with pytest.raises(LayerError, match="behind a symbolic link of a lower layer"):
        model.flattened(VECTORS[name]["layers"])


@pytest.mark.parametrize("name", [b"d/a\0b", b"a\0b", b"d\0/a"])
def test_a_name_with_a_nul_is_refused_wherever_it_comes_from(name: bytes) -> None:
    """No archive that is read here holds one; what else makes entries may."""
    tree = LayerTree(lambda *_: None, lambda _: None, lambda *_: None)
    tree.take(0, Entry(b"d/first", Kind.FILE, 0o644, 0, 0, 0))
    with pytest.raises(LayerError, match="NUL"):
        tree.take(1, Entry(name, Kind.FILE, 0o644, 0, 0, 0))
