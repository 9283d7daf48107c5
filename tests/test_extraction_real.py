"""What is on disk after GNU tar, busybox tar and bsdtar have extracted an archive, as root and inside a user namespace.

Every owner, mode, group of hard links, symlink, content and file time must be the image's, and with GNU tar every
directory's mode and time. What the programs themselves do not restore is listed at `Program`.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

import ocirootfs
from ocirootfs.bundle import Layout, Report, bundle
from ocirootfs.image import Image
from ocirootfs.manifest import parse_config
from ocirootfs.spool import Spool
from tests import debian_image, disk, model, overlayhost
from tests.commands import run
from tests.model import Node, Tree
from tests.mutants import layers_of, vectors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.layers import Data

    Real = Callable[[str], Path]

pytestmark = [
    pytest.mark.real,
    pytest.mark.xdist_group("debian-real"),
    pytest.mark.timeout(600),  # the first run builds the Debian image
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can extract owners, and map them"),
]

_SECONDS = 120
_FIRST, _IDS = 100_000, 65_536  # what a Concourse worker's user namespace maps


_WARNING = re.compile(r"time stamp \S+ \S+ is \S+ s in the future$|implausibly old time stamp")


class Program(NamedTuple):
    """A tar, and what it cannot restore.

    Symlinks that are absolute or hold `..` are made at the very end, when the times of directories are set already:
    the time of a directory that directly holds one is that of the extraction. busybox does so with hard links, too, and
    with symlinks that have `..` in the middle of a name; and it restores neither owner nor time of any symlink.
    """

    words: tuple[str, ...]
    late: bytes
    """Matches the targets of symlinks that are made at the end."""
    keeps_symlinks: bool

    def undated(self, tree: Tree) -> set[bytes]:
        """Return the directories whose times this program does not restore."""
        groups = Counter(id(node) for node in tree.values())
        return {
            path.rpartition(b"/")[0]
            for path, node in tree.items()
            if (node.type == "symlink" and re.search(self.late, node.linkname))
            or (not self.keeps_symlinks and groups[id(node)] > 1)
        }

    def restored(self, tree: Tree, first: int = 0) -> Tree:
        """Return what of a tree is compared, its owners counted from `first`: no fractions of a second."""
        made = {id(node): self._restored(node, first) for node in tree.values()}
        return {path: made[id(node)] for path, node in tree.items()}

    def _restored(self, node: Node, first: int) -> Node:
        uid, gid, mtime = node.uid - first, node.gid - first, node.mtime // 10**9
        if node.type == "symlink" and not self.keeps_symlinks:
            uid = gid = mtime = 0
        return Node(node.type, node.mode, uid, gid, mtime, node.data, node.linkname)


PROGRAMS = {
    "tar": Program(("tar",), rb"^/|(^|/)\.\.(/|$)", keeps_symlinks=True),
    "busybox": Program(("busybox", "tar"), rb"^/|\.\.", keeps_symlinks=False),
    "bsdtar": Program(("bsdtar",), rb"(?!)", keeps_symlinks=True),
}


class Job(NamedTuple):
    """Archives in a directory, by name, and the trees that must come of them."""

    folder: Path
    wanted: dict[str, Tree]


# Extraction


@pytest.fixture(params=["root", "namespace"])
def where(request: pytest.FixtureRequest) -> str:
    where: str = request.param
    if where == "namespace" and subprocess.run(["unshare", "--user", "true"], check=False).returncode:
        pytest.skip("user namespaces are not to be had here")
    return where


@contextmanager
def extracted(job: Job, program: Sequence[str], where: str) -> Iterator[Path]:
    """Extract each archive of a job into a directory of its name, all in one process; gives where they lie."""
    with tempfile.TemporaryDirectory(prefix="extracted", dir="/tmp") as place:
        first = _FIRST if where == "namespace" else 0
        shutil.chown(place, first, first)
        script = 'echo; read -r _; cd "$1" && shift || exit; for archive; do name=${archive##*/}; name=${name%.tar}; '
        script += f'mkdir "$name" && {" ".join(program)} xf "$archive" -C "$name" || exit; done'
        archives = [str(job.folder / f"{name}.tar") for name in job.wanted]
        become = ["setpriv", f"--reuid={_FIRST}", f"--regid={_FIRST}", "--clear-groups"]
        enter = [*become, "unshare", "--user"] if where == "namespace" else []
        words = [*enter, "sh", "-c", script, "sh", place, *archives]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdout.readline()  # it is in its namespace
            if where == "namespace":
                for kind in ("uid_map", "gid_map"):
                    Path(f"/proc/{process.pid}/{kind}").write_text(f"0 {_FIRST} {_IDS}\n")
            _, err = process.communicate(b"\n", _SECONDS)
        said = [line for line in err.decode(errors="replace").splitlines() if not _WARNING.search(line)]
        assert (process.returncode, said) == (0, []), (process.returncode, said[:9])
        yield Path(place)


def check(job: Job, name: str, where: str) -> None:
    """Extract a job's archives, and demand what they should become."""
    program = PROGRAMS[name]
    shift = _FIRST if where == "namespace" else 0
    wrong = {}
    with extracted(job, program.words, where) as place:
        for each, wanted in job.wanted.items():
            found = program.restored(disk.tree(place / each / "rootfs"), shift)
            said = disk.differences(found, program.restored(wanted), undated=program.undated(wanted))
            if said:
                wrong[each] = said
    assert not wrong, wrong


def concourse(tree: Tree) -> Tree:
    """Return a tree as Concourse wants it: no device nodes, and nothing in /dev."""
    return {
        path: node for path, node in tree.items() if node.type not in ("char", "block") and not path.startswith(b"dev/")
    }


def mappable(tree: Tree) -> bool:
    return all(node.uid < _IDS and node.gid < _IDS for node in tree.values())


# Every vector


_CONFIG = parse_config(
    b'{"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}', "config"
)


def packed(stack: Sequence[Sequence[Data]], layout: Layout) -> bytes:
    """Return the archive of a stack of layers."""
    with Spool() as spool:
        image = Image(_CONFIG, tuple(layers_of(stack)))
        return b"".join(bundle(image, layout, spool, Report(), range(1, 99)))


@pytest.fixture(scope="module")
def shared() -> Iterator[Path]:
    """A directory that everybody may look into, a user namespace's root too."""
    with tempfile.TemporaryDirectory(prefix="archives", dir="/tmp") as place:
        Path(place).chmod(0o755)
        yield Path(place)


NOT_HELD = {"at-mtime-huge"}
"""What ext4 cannot hold: a time after 2446."""


@pytest.fixture(scope="module")
def of_vectors(shared: Path) -> Job:
    wanted = {}
    for vector in vectors():
        name = vector["name"]
        if vector["expect"] != "reject" and name not in NOT_HELD and all(map(model.can_read, vector["layers"])):
            wanted[name] = concourse(disk.hashed(model.flattened(vector["layers"])))
            (shared / f"{name}.tar").write_bytes(packed(vector["layers"], Layout()))
    return Job(shared, wanted)


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_vector(program: str, where: str, real: Real, of_vectors: Job) -> None:
    real(program)
    wanted = {name: tree for name, tree in of_vectors.wanted.items() if where == "root" or mappable(tree)}
    assert len(wanted) > 250
    check(Job(of_vectors.folder, wanted), program, where)


# A big tree


class _Maker:
    """Ten thousand entries of every sort that an archive can hold, and the tree that they make."""

    def __init__(self) -> None:
        self.random = random.Random(3)
        self.entries: list[Data] = []
        self.tree: Tree = {b"": Node("dir")}

    def put(self, kind: str, name: str, **more: object) -> None:
        choose = self.random.choice
        attributes: Data = {
            "mode": choose(("0644", "0755", "0600", "0000", "0444", "4755", "2755", "6711", "1644", "7777")),
            "uid": choose((0, 1, 33, 1000, 65534)),
            "gid": choose((0, 5, 100, 65534)),
            "mtime": choose((0, 1, 86_400, 1_234_567_890, 1_600_000_000, 1_700_000_000)),
        }
        if kind == "dir":
            attributes["mode"] = choose(("0755", "0555", "0700", "0000", "1777", "2775", "3770"))
        if kind == "symlink":
            attributes["mode"] = "0777"
        entry = {"type": kind, "name": name, **attributes, **more}
        self.entries.append(entry)
        self.tree[os.fsencode(name)] = model.flattened([[{**entry, "name": "x"}]])[b"x"]

    def link(self, name: str, target: str) -> None:
        self.entries.append({"type": "hardlink", "name": name, "linkname": target})
        self.tree[os.fsencode(name)] = self.tree[os.fsencode(target)]


def big() -> _Maker:
    """Fifty directories of two hundred entries each."""
    maker = _Maker()
    targets = (
        "f1",
        "../f1",
        "/etc/passwd",
        "nowhere",
        "../../../../../up",
        ".",
        "..",
        "/",
        "l" * 300,
        "a/../b",
        "\udcfe",
    )
    for number in range(50):
        top = f"d{number}"
        maker.put("dir", top)
        for index in range(10):
            maker.put("dir", f"{top}/empty{index}")
        maker.put("dir", f"{top}/deep")
        maker.put("dir", f"{top}/deep/" + "n" * 200)
        for index in range(130):
            suffix = ("", "\udcff", "é", " ", "\n", "\\", "'", "*", "-", "x" * 90, "x" * 240)[index % 11]
            folder = (top, f"{top}/deep", f"{top}/deep/" + "n" * 200)[index % 3]
            content = "" if index % 5 == 0 else f"{number}.{index}" * (index * 7)
            maker.put("file", f"{folder}/f{index}{suffix}", data=content)
        files = [entry["name"] for entry in maker.entries[-130:]]
        for index, target in enumerate(targets):
            maker.put("symlink", f"{top}/s{index}", linkname=target)
        for index in range(2):
            maker.put("fifo", f"{top}/p{index}")
        for index in range(40):  # groups of up to twenty names, in other directories, of symlinks and fifos too
            maker.link(f"{top}/deep/h{index}", files[index // 20])
        maker.link(f"d{number}/hs", f"{top}/s{number % 11}")
        maker.link(f"d{number}/hp", f"{top}/p0")
        maker.link(f"d{number}/hf", f"d{number // 2}/f0")
    return maker


@pytest.fixture(scope="module")
def of_big(shared: Path) -> Job:
    maker = big()
    assert 9_500 < len(maker.entries) < 12_000
    (shared / "big.tar").write_bytes(packed([maker.entries], Layout()))
    return Job(shared, {"big": disk.hashed(maker.tree)})


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_big_tree(program: str, where: str, real: Real, of_big: Job) -> None:
    real(program)
    check(of_big, program, where)


# Debian


@pytest.fixture(scope="module")
def of_debian(real: Real, shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Job:
    for program in ("mmdebstrap", "podman"):
        real(program)
    layout = debian_image.layout("vfs" if overlayhost.usable(tmp_path_factory.mktemp("probe")) else "overlay")
    ran = run("pack", f"oci:{layout}:1", "-o", str(shared / "debian.tar"), "--compress", "none")
    assert ran.status == 0, ran.err
    with ocirootfs.open(f"oci:{layout}:1") as image:
        return Job(shared, {"debian": concourse(disk.flattened(image.layers))})


@pytest.mark.parametrize("program", PROGRAMS)
def test_debian(program: str, where: str, real: Real, of_debian: Job) -> None:
    real(program)
    check(of_debian, program, where)
