"""What other flatteners make of the vectors: exactly what fixtures/peers.json says, no more and no less.

It backs the table in the README. A peer that is not installed, or in another version, is skipped. Our own archive takes
the same way, through GNU tar onto the disk, and must come out right.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import tarfile
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from ocirootfs.bundle import Layout
from ocirootfs.errors import InputError
from tests import disk
from tests.layers import FIXTURES, build
from tests.mutants import mismatches, vectors
from tests.test_extraction_real import packed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.layers import Data
    from tests.model import Tree

pytestmark = [
    pytest.mark.real,
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can unpack owners and device nodes"),
]

PEERS: dict[str, Any] = json.loads((FIXTURES / "peers.json").read_text())
VECTORS = [vector for vector in vectors() if vector["name"] not in PEERS["not_held"]]

_SECONDS = 20


class Failed(Exception):  # noqa: N818
    """A program did not do what it was told to: `how` is the class of error."""

    def __init__(self, how: str) -> None:
        super().__init__(how)
        self.how = how


def program(how: str, *words: str | Path, stdin: bytes = b"") -> bytes:
    ran = subprocess.run(words, input=stdin, capture_output=True, timeout=_SECONDS, check=False)
    if ran.returncode:
        raise Failed(how)
    return ran.stdout


def untar(archive: bytes, folder: Path) -> Path:
    target = folder / "rootfs"
    target.mkdir(mode=0o755)
    program("unextractable", "tar", "-xpf-", "--numeric-owner", "--xattrs", "--xattrs-include=*", f"-C{target}",
            stdin=archive)  # fmt: skip
    return target


def umoci(vector: Data, folder: Path) -> Path:
    layout = build([{"entries": entries} for entries in vector["layers"]]).layout(folder / "layout", "1")
    program("refused", "umoci", "unpack", "--image", f"{layout}:1", folder / "bundle")
    return folder / "bundle/rootfs"


def crane(vector: Data, folder: Path) -> Path:
    return untar(program("refused", "crane", "export", "-", "-", stdin=docker_archive(vector)), folder)


def docker_archive(vector: Data) -> bytes:
    """Return a vector as `docker save` would write it."""
    image = build([{"entries": entries, "wrap": "none"} for entries in vector["layers"]])
    manifest = json.loads(image.manifest)
    names = {digest: digest.partition(":")[2] for digest in image.blobs}
    listing = {
        "Config": names[manifest["config"]["digest"]],
        "RepoTags": ["vector:1"],
        "Layers": [names[layer["digest"]] for layer in manifest["layers"]],
    }
    files = {names[digest]: blob for digest, blob in image.blobs.items()}
    files["manifest.json"] = json.dumps([listing]).encode()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def ours(vector: Data, folder: Path) -> Path:
    return untar(accepted(vector), folder)


def accepted(vector: Data) -> bytes:
    """Pack a vector with the package."""
    try:
        return packed(vector["layers"], Layout("rootfs"))
    except InputError:
        raise Failed("refused") from None


def judged(run: Callable[[Data, Path], Path], vector: Data, folder: Path) -> str | None:
    """Say what a peer gets wrong: one of the classes that peers.json describes, or None."""
    folder.mkdir()
    try:
        root = run(vector, folder)
        said = _complaints(vector, contents(root))
    except Failed as failure:
        return None if vector["expect"] == "reject" else failure.how
    finally:
        shutil.rmtree(folder)
    if vector["expect"] == "reject":
        return "accepted"
    if not said:
        return None
    return "attributes" if all(_is_attribute(each) for each in said) else "wrong"


def _complaints(vector: Data, tree: Tree) -> list[str]:
    """Return what is wrong by the vector, or nothing if it is what the vector calls acceptable as well."""
    if vector["expect"] == "reject":
        return []
    others = [vector | {"expect": other["expect"], "expect_absent": []} for other in vector.get("also_acceptable", ())]
    return min(
        ([said for said in mismatches(each, tree) if not _is_choice(said)] for each in (vector, *others)), key=len
    )


def _is_choice(complaint: str) -> bool:
    """Tell of what no layer says: the attributes of the root, and the times of directories that none lists."""
    return (
        complaint.startswith("the root's ")
        or " of b''" in complaint
        or (complaint.startswith("mtime of ") and complaint.endswith(" is not 0"))
    )


def _is_attribute(complaint: str) -> bool:
    return complaint.startswith(("mode of ", "uid of ", "gid of ", "mtime of ", "xattrs of "))


def contents(root: Path) -> Tree:
    """Read a small tree, with files' contents as they are."""
    tree = disk.tree(root)
    for path, node in tree.items():
        if node.type == "file":
            with open(os.path.join(os.fsencode(root), path), "rb") as file:  # noqa: PTH118, PTH123
                node.data = file.read()
    return tree


def verdicts(run: Callable[[Data, Path], Path], folder: Path) -> dict[str, list[str]]:
    """Return the vectors that a peer gets wrong, by class."""
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda each: judged(run, each[1], folder / str(each[0])), enumerate(VECTORS)))
    wrong: dict[str, list[str]] = {}
    for vector, how in zip(VECTORS, found, strict=True):
        if how:
            wrong.setdefault(how, []).append(vector["name"])
    return {how: sorted(wrong[how]) for how in sorted(wrong)}


RUNS = {"crane": (crane, ("crane", "version")), "umoci": (umoci, ("umoci", "--version"))}


@pytest.mark.parametrize("name", RUNS)
def test_a_peer(name: str, tmp_path: Path) -> None:
    run, version = RUNS[name]
    if shutil.which(name) is None:
        pytest.skip(f"'{name}' is not installed")
    found = program("version", *version).decode().strip()
    if found != PEERS["peers"][name]["version"]:
        pytest.skip(f"this is {found}; what is known is of {PEERS['peers'][name]['version']}")
    assert verdicts(run, tmp_path) == PEERS["peers"][name]["wrong"]


def test_ourselves(tmp_path: Path) -> None:
    assert verdicts(ours, tmp_path) == {}


def test_the_lists_are_of_vectors() -> None:
    names = {vector["name"] for vector in vectors()}
    listed = {name for peer in PEERS["peers"].values() for names in peer["wrong"].values() for name in names}
    assert listed | PEERS["not_held"].keys() <= names
    assert {how for peer in PEERS["peers"].values() for how in peer["wrong"]} <= PEERS["classes"].keys()
