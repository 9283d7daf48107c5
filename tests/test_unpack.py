"""`unpack`: the right tree on disk, whoever runs it; nothing anywhere else; and nothing at all when anything is amiss."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import ocirootfs
from ocirootfs.bundle import Layout
from ocirootfs.treewriter import Attributes
from tests import ondisk, make_fixtures, model
from tests.commands import OCIROOTFS, environment, finished, run, run_here, started
from tests.layers import Data, build
from tests.mutants import file, layers_of, link, mismatches, symlink, vectors

if TYPE_CHECKING:
    from collections.abc import Iterator

ZONES = f"oci:{make_fixtures.ZONES}"
ACCEPTED = [vector for vector in vectors() if vector["expect"] != "reject"]
REJECTED = [vector for vector in vectors() if vector["expect"] == "reject"]
IS_ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not IS_ROOT, reason="owners and devices take root")
MINE = "all files are yours, whoever they belong to in the image; 'ocirootfs pack' keeps owners"

# No file system that is usual on Linux holds these.
_TOO_LONG = {"more-component-over-255"}


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that a user without rights can reach, which pytest's own are not."""
    found = Path(tempfile.mkdtemp())
    yield found
    _removed(found)


def _removed(tree: Path) -> None:
    for directory, _, _ in os.walk(tree):
        Path(directory).chmod(0o700)
        for path in Path(directory).iterdir():
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o700)
    shutil.rmtree(tree)


def layout(target: Path, *stack: list[Data]) -> str:
    return f"oci:{build([{'entries': entries, 'wrap': 'none'} for entries in stack]).layout(target)}"


def listed(place: Path) -> list[str]:
    return sorted(found.name for found in place.iterdir())


# The tree


def wanted(vector: Data, *, owners: bool, devices: bool = False, xattrs: bool = False) -> Data:
    """Take away what a directory has not: devices and what is linked to them, xattrs, and as nobody what takes root."""
    expected: dict[str, Data] = vector["expect"]
    dropped = {path for path, facts in expected.items() if facts.get("type") in ("char", "block") and not devices}
    dropped |= {path for path, facts in expected.items() if facts.get("same_inode_as") in dropped}
    kept = {path: dict(facts) for path, facts in expected.items() if path not in dropped}
    kinds = {path: kept[facts.get("same_inode_as", path)].get("type", "file") for path, facts in kept.items()}
    for path, facts in kept.items():
        if not xattrs:
            facts.pop("xattrs", None)
        if kinds[path] == "symlink":
            facts.pop("mode", None)  # a symlink has none on Linux
        if not owners:
            facts.pop("uid", None)
            facts.pop("gid", None)
            if "mode" in facts and kinds[path] == "file":
                facts["mode"] = oct(int(facts["mode"], 8) & ~0o6000)[2:]
    root = vector.get("root", {})
    return {**vector, "expect": kept, "root": {key: root[key] for key in root if owners or key not in ("uid", "gid")}}


def test_vectors_as_nobody(place: Path) -> None:
    """All in one process: what a user without rights makes of every vector."""
    jobs = []
    for vector in ACCEPTED + REJECTED:
        where = place / vector["name"]
        where.mkdir()
        jobs.append({"in": str(where), "arguments": ["unpack", layout(where / "layout", *vector["layers"]), "tree"]})
    results = ondisk.run_as(disk.NOBODY, place, jobs)
    wrong: list[str] = []
    for vector, (ran, _) in zip(ACCEPTED + REJECTED, results, strict=True):
        where = place / vector["name"]
        if vector["expect"] == "reject":
            right = ran.status == 6 and listed(where) == ["layout"]
            wrong += [] if right else [f"{vector['name']}: {ran}"]
        elif ran.status:
            wrong.append(f"{vector['name']}: {ran}")
        else:
            wrong += [
                f"{vector['name']}: {each}" for each in _differences(where / "tree", wanted(vector, owners=False))
            ]
    assert not wrong
    assert sum(MINE in ran.err for ran, _ in results) == len(ACCEPTED)


def _differences(tree: Path, vector: Data) -> list[str]:
    return mismatches(vector, ondisk.read(tree))


@needs_root
@pytest.mark.parametrize("vector", ACCEPTED, ids=lambda vector: vector["name"])
def test_vectors_as_root(vector: Data, tmp_path: Path) -> None:
    source = layout(tmp_path / "layout", *vector["layers"])
    ran = run_here("unpack", source, str(tmp_path / "tree"), "--devices", "keep")
    assert ran.status == 0, ran
    assert not _differences(tmp_path / "tree", wanted(vector, owners=True, devices=True))
    assert listed(tmp_path) == ["layout", "tree"]


def test_the_whole_of_a_real_tree(tmp_path: Path) -> None:
    """Every attribute of every path, against what the library says is visible."""
    ran = run_here("unpack", ZONES, str(tmp_path / "tree"), "--chown", "no", "-q").ok
    assert ran.out.decode() == f"{tmp_path}/tree\n"
    found = ondisk.read(tmp_path / "tree")
    with ocirootfs.open(ZONES) as image:
        shown = {entry.path: (entry, b"".join(body)) for entry, body in ocirootfs.flatten(image)}
    kinds = {"char", "block"}
    assert set(found) == {path for path, (entry, _) in shown.items() if entry.kind.name.lower() not in kinds}
    for path, node in found.items():
        entry, data = shown[path]
        assert node.mtime == entry.mtime, path
        if entry.link and node.type == "file":
            assert node is found[entry.link]
        elif node.type != "symlink":
            assert (node.mode, node.data) == (entry.mode, data), path
