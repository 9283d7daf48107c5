"""Hostile layers: each attack is contained, in the archive and on disk, and what only looks odd is not refused.

The vectors are data (`fixtures/attacks.json`). On disk they run as a user without rights, in a directory between
canaries that the layers' names aim at; everything around is compared before and after each, times and link counts
included.
"""

from __future__ import annotations

import io
import json
import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests import ondisk
from tests.commands import Ran, run_here
from tests.layers import FIXTURES, Data, build
from tests.trees import read_tree

if TYPE_CHECKING:
    from collections.abc import Iterator

VECTORS: list[Data] = json.loads((FIXTURES / "attacks.json").read_text())["vectors"]
BENIGN = [vector for vector in VECTORS if vector["expect"] == "accept"]
SECRET = "not for the image"
ROOT = "ROOT"

# Names that a stream can carry and a file system cannot are this machine's failure (8), not the image's.
TOO_LONG_FOR_A_DISK = {"name-component-256"}


@pytest.fixture
def sandbox() -> Iterator[Path]:
    """Where the tree is made, among canaries: a directory outside, neighbours, and what the process stands in."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        yield place
        for path in place.glob(f"*/{ROOT}"):
            ondisk.read(path)  # makes it readable, and so removable


def _canaries(place: Path) -> None:
    for path in ("outside/hello", "victim/hello", f"{ROOT}-evil/secret", "cwd/cwdsecret"):
        (place / path).parent.mkdir()
        (place / path).write_text(SECRET)
        (place / path).chmod(0o600)


def around(*, there: bool) -> list[str]:
    """Return the names in a vector's place: nothing is left of a tree that is not there."""
    return sorted([*([ROOT] if there else []), f"{ROOT}-evil", "cwd", "image", "outside", "victim"])


def _layout(vector: Data, target: Path, outside: Path) -> str:
    """Build a vector's image; the places that its names aim at are known by now."""
    text = json.dumps(vector["layers"]).replace("{OUTSIDE}", str(outside)).replace("{ROOTNAME}", ROOT)
    return f"oci:{build(json.loads(text)).layout(target)}"


def _on_disk(vectors: list[Data], sandbox: Path, *arguments: str) -> list[tuple[Ran, bool]]:
    jobs = []
    for vector in vectors:
        place = sandbox / vector["name"]
        place.mkdir()
        _canaries(place)
        jobs.append(
            {
                "in": str(place / "cwd"),
                "arguments": ["unpack", _layout(vector, place / "image", place / "outside"), f"../{ROOT}", *arguments],
                "watched": [str(place)],
                "besides": [ROOT],
            }
        )
    return ondisk.run_as(ondisk.NOBODY, sandbox, jobs)


@pytest.mark.parametrize("layout", ["rootfs", "concourse"])
def test_on_disk(layout: str, sandbox: Path) -> None:
    results = _on_disk(VECTORS, sandbox, "--layout", layout, "--xattrs")
    wrong: list[str] = []
    for vector, (ran, is_untouched) in zip(VECTORS, results, strict=True):
        place = sandbox / vector["name"]
        inside = place / ROOT / "rootfs" if layout == "concourse" else place / ROOT
        complaints = _complaints(vector, ran, inside)
        if not is_untouched or sorted(path.name for path in place.iterdir()) != around(there=not ran.status):
            complaints.append("something outside has changed")
        wrong += [f"{vector['name']}: {complaint}: {ran}" for complaint in complaints]
    _print("on disk", layout, wrong)
    assert not wrong


def _complaints(vector: Data, ran: Ran, inside: Path) -> list[str]:
    """Return what is not as it must be of one vector that was unpacked into `inside`."""
    found = _refusal(ran, vector["expect"], 8 if vector["name"] in TOO_LONG_FOR_A_DISK else 6)
    if ran.status:
        return found
    tree = ondisk.read(inside)
    names = {path: _described(node.type, node.linkname, node.data) for path, node in tree.items()}
    found += _tree_complaints(vector, names)
    for path, node in tree.items():
        if node.type in ("char", "block") or node.xattrs or (node.type == "file" and node.mode & 0o6000):
            found.append(f"{path!r} is {node}")
    return found


def _refusal(ran: Ran, expect: str, status: int = 6) -> list[str]:
    """Return what is wrong with the way in which a command ended."""
    if ran.status == 0:
        return ["accepted"] if expect == "reject" else []
    complaints = ["refused"] if expect == "accept" else []
    if ran.status != status:
        complaints.append(f"status {ran.status}")
    errors = [line for line in ran.err.splitlines() if not line.startswith("ocirootfs: warning: ")]
    if not re.fullmatch(r"ocirootfs: error: .+(\n  hint: .+)?", "\n".join(errors)):
        complaints.append("not one line of error")
    return complaints


def _described(kind: str, link: bytes, data: bytes) -> str:
    return (
        f"symlink:{os.fsdecode(link)}" if kind == "symlink" else f"data:{os.fsdecode(data)}" * (kind == "file") or kind
    )


def _tree_complaints(vector: Data, tree: dict[bytes, str]) -> list[str]:
    found = [f"{path!r} is a marker" for path in tree if path.rpartition(b"/")[2].startswith(b".wh.")]
    found += [f"{path!r} has what is outside" for path, facts in tree.items() if SECRET in facts]
    found += [f"{path} is there" for path in vector.get("absent", ()) if os.fsencode(path) in tree]
    for path, facts in vector.get("tree", {}).items():
        there = tree.get(os.fsencode(path), "absent")
        if there != facts and not (facts == "file" and there.startswith("data:")):
            found.append(f"{path} is {there}, not {facts}")
    return found


@pytest.mark.parametrize("layout", ["rootfs", "concourse"])
def test_in_the_archive(layout: str, tmp_path: Path) -> None:
    """The archive is canonical (each name once, nothing above the root, …), so that any extractor is safe with it."""
    wrong: list[str] = []
    for vector in VECTORS:
        place = tmp_path / vector["name"]
        place.mkdir()
        source = _layout(vector, place / "image", place / "outside")
        ran = run_here("pack", source, "-o", str(place / "a.tar"), "--layout", layout)
        complaints = _refusal(ran, "contain" if vector["modes"] == "dir" else vector["expect"])
        complaints += _archive_complaints(vector, place, "rootfs/" * (layout == "concourse"))
        wrong += [f"{vector['name']}: {complaint}: {ran}" for complaint in complaints]
    _print("in the archive", layout, wrong)
    assert not wrong


def _archive_complaints(vector: Data, place: Path, prefix: str) -> list[str]:
    found = sorted(path.name for path in place.iterdir())
    if found != ["a.tar", "image"]:
        return [] if found == ["image"] else [f"{found} is there"]
    tree = read_tree(io.BytesIO((place / "a.tar").read_bytes()), prefix)
    names = {
        os.fsencode(path): _described(node.type, os.fsencode(node.linkname), node.data) for path, node in tree.items()
    }
    return _tree_complaints(vector, names)


def _print(where: str, layout: str, wrong: list[str]) -> None:
    failed = {line.partition(":")[0] for line in wrong}
    benign = sum(vector["name"] not in failed for vector in BENIGN)
    attacks = len(VECTORS) - len(BENIGN)
    contained = attacks - len(failed) + len(BENIGN) - benign
    print(
        f"layer attacks {where}, {layout}: {contained} of {attacks} contained, "
        f"{benign} of {len(BENIGN)} benign images accepted"
    )


def test_terminal_escapes_do_not_reach_the_terminal(tmp_path: Path) -> None:
    vector = next(vector for vector in VECTORS if vector["name"] == "name-terminal-escape")
    broken = {
        **vector,
        "layers": [*vector["layers"], {"entries": [{"type": "fifo", "name": "x/\x1b[2J\u202e/../../../y"}]}],
    }
    ran = run_here("unpack", _layout(broken, tmp_path / "image", tmp_path), str(tmp_path / "tree"), "-vv")
    assert ran.status == 6
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", ran.err), ran
