"""Flattening against the kernel's overlayfs: every vector, and histories at random, stacked by `overlayhost`."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import shutil
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from ocirootfs.errors import InputError
from tests import disk, model, overlayhost
from tests.histories import history
from tests.layers import FIXTURES, layer_bytes
from tests.mutants import layers_of, vectors

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.layers import Data

pytestmark = [
    pytest.mark.real,
    pytest.mark.xdist_group("overlay-real"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount overlayfs"),
]
_CAPABILITY = "security.capability"
VECTORS = {vector["name"]: vector for vector in vectors()}

DEVIATIONS = {
    name: code
    for code, names in json.loads((FIXTURES / "overlay.json").read_text())["deviations"].items()
    for name in names
}
"""The vectors on which hosts are no judges, and why: the codes are those of `overlayhost`."""

HISTORIES, RAW = 500, 200

UNREADABLE = {
    "more-adv-type-X": "tarfile takes the header's content for PAX records",
    "more-pax-global": "tarfile applies global headers to entries",
    "nm-gnu-atime-not-prefix": "tarfile takes the time in a GNU header for the prefix of the name",
}
"""What the host in small reads wrong, because tarfile does."""

CAPABILITY = "\1\0\0\2\x00\x04" + "\0" * 14
"""cap_net_bind_service=ep, as the kernel stores it; the vectors' and histories' own are none that it would take."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory on a file system that carries overlayfs, which need not be so in a container."""
    folder = tmp_path_factory.mktemp("overlay")
    reason = overlayhost.usable(tmp_path_factory.mktemp("probe"))
    if reason:
        pytest.skip(reason)
    return folder


_numbers = itertools.count()


def compared(stack: Sequence[Sequence[Data]], place: Path) -> str:
    """Flatten and stack, and demand the same tree: `equal`. Or `refused` by both, or how hosts deviate."""
    folder = place / str(next(_numbers))
    folder.mkdir()
    try:
        return _compared([list(map(_capable, entries)) for entries in stack], folder)
    finally:
        shutil.rmtree(folder)


def _compared(stack: Sequence[Sequence[Data]], folder: Path) -> str:
    ours = None
    with contextlib.suppress(InputError):
        ours = disk.flattened(layers_of(stack))
    try:
        theirs, undated = overlayhost.stacked([layer_bytes(list(entries)) for entries in stack], folder)
    except overlayhost.Deviates as deviation:
        return "refused" if ours is None and deviation.code in overlayhost.FAILED_PULLS else deviation.code
    except overlayhost.Refused:
        assert ours is None, "we accept what no host does"
        return "refused"
    if ours is None:
        return "accepted"
    assert disk.differences(_held(ours), theirs, undated=undated) == {}
    return "equal"


def _capable(entry: Data) -> Data:
    names = entry.get("xattrs", ())
    return {**entry, "xattrs": entry["xattrs"] | {_CAPABILITY: CAPABILITY}} if _CAPABILITY in names else entry


def _held(tree: model.Tree) -> model.Tree:
    """Return what of a tree is compared: `user.` attributes, for files and directories alone, and capabilities."""
    for node in tree.values():
        plain = node.type in ("file", "dir")
        node.xattrs = tuple(
            (name, value)
            for name, value in node.xattrs
            if name == _CAPABILITY.encode() or (plain and name.startswith(b"user."))
        )
    return tree


@pytest.mark.parametrize("name", sorted(VECTORS.keys() - UNREADABLE.keys()))
def test_vector(name: str, place: Path) -> None:
    found = compared(VECTORS[name]["layers"], place)
    assert found == DEVIATIONS.get(name, "refused" if VECTORS[name]["expect"] == "reject" else "equal")


def test_the_lists_are_of_vectors() -> None:
    assert DEVIATIONS.keys() | UNREADABLE.keys() <= VECTORS.keys()


def test_histories(place: Path) -> None:
    """The layers of histories, stacked by the kernel, are what flattening makes of them."""
    found: Counter[str] = Counter()

    for seed in range(HISTORIES):
        layers, _ = history(random.Random(seed).choice, doubles=seed % 4 == 3)
        found[compared(layers, place)] += 1
    assert found["accepted"] == 0
    assert found["equal"] > HISTORIES // 4, found


def test_raw_layers(place: Path) -> None:
    """And so with entries that no history explains, those left out that hosts do not take for what they are."""
    found: Counter[str] = Counter()
    for seed in range(RAW):
        stack = model.random_stack(random.Random(seed).choice)
        found[compared(_acceptable(stack, place), place)] += 1
    assert found == {"equal": RAW}


def _acceptable(stack: list[list[Data]], place: Path) -> list[list[Data]]:
    """Leave out one entry after the other that a host refuses, or understands in a way of its own."""
    while True:
        folder = place / str(next(_numbers))
        folder.mkdir()
        try:
            overlayhost.stacked([layer_bytes([_capable(entry) for entry in entries]) for entries in stack], folder)
        except (overlayhost.Refused, overlayhost.Deviates) as error:
            layer, index = error.at
            stack = [list(entries) for entries in stack]
            del stack[layer][index]
        else:
            return stack
        finally:
            shutil.rmtree(folder)
