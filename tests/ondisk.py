"""Directories of files, as `unpack` makes them: read back, compared, and made by a user without rights.

    python -m tests.ondisk JOBS UID

runs each job of a JSON file as that user, and writes what came of them to standard output. A job has the `arguments` of
the command line, the directory to be `in`, the file to read from as `stdin`, what is to be `watched` (all in there, but
names that are `besides`), and a directory to be `shut`.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.commands import Ran, environment, run_here
from tests.layers import FIXTURES
from tests.model import Node, Tree

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_ROOT = Path(__file__).parent.parent
_TYPES = {
    stat.S_IFREG: "file", stat.S_IFDIR: "dir", stat.S_IFLNK: "symlink", stat.S_IFIFO: "fifo", stat.S_IFCHR: "char",
    stat.S_IFBLK: "block",
}  # fmt: skip
_ENTER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
NOBODY = 65534


def read(root: Path) -> Tree:
    """Return what is in a directory; hard links are one node. What its owner may not read is made readable first."""
    parent = os.open(root.parent, _ENTER)
    tree: Tree = {}
    try:
        _read(parent, root.name, b"", tree, {})
    finally:
        os.close(parent)
    return tree


def _read(parent: int, name: str, path: bytes, tree: Tree, nodes: dict[int, Node]) -> None:
    status = os.stat(name, dir_fd=parent, follow_symlinks=False)
    node = nodes.get(status.st_ino) or _node(status)
    tree[path] = nodes[status.st_ino] = node
    if node.type == "symlink":
        node.linkname = os.fsencode(os.readlink(name, dir_fd=parent))
    if node.type not in ("file", "dir"):
        return
    if os.geteuid():
        os.chmod(name, 0o700, dir_fd=parent)
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=parent)
    try:
        node.xattrs = tuple(
            sorted((os.fsencode(key), os.getxattr(descriptor, key)) for key in os.listxattr(descriptor))
        )
        if node.type == "file":
            node.data = b"".join(iter(lambda: os.read(descriptor, 1 << 20), b""))
            return
        for inner in os.listdir(descriptor):  # noqa: PTH208  # a descriptor
            _read(descriptor, inner, path + b"/" * bool(path) + os.fsencode(inner), tree, nodes)
    finally:
        os.close(descriptor)


def _node(status: os.stat_result) -> Node:
    kind = _TYPES[stat.S_IFMT(status.st_mode)]
    device = (os.major(status.st_rdev), os.minor(status.st_rdev)) if kind in ("char", "block") else (0, 0)
    mode = stat.S_IMODE(status.st_mode)
    return Node(kind, mode, status.st_uid, status.st_gid, status.st_mtime_ns, device=device)


def snapshot(place: Path, *, besides: Sequence[str] = ()) -> dict[str, tuple[object, ...]]:
    """Return all that a change below `place` would change, times and link counts included."""
    return {str(path): _facts(path) for path in _below(place, besides)}


def _below(place: Path, besides: Sequence[str]) -> Iterator[Path]:
    for path in sorted(place.iterdir()):
        if path.name not in besides:
            yield path
            if path.is_dir() and not path.is_symlink():
                yield from _below(path, ())


def _facts(path: Path) -> tuple[object, ...]:
    status = path.lstat()
    content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
    return (
        status.st_mode, status.st_uid, status.st_gid, status.st_nlink, status.st_ino, status.st_mtime_ns,
        status.st_ctime_ns, status.st_size, content,
    )  # fmt: skip


def run_as(user: int, place: Path, jobs: Sequence[dict[str, Any]]) -> list[tuple[Ran, bool]]:
    """Run jobs as `user`, in one process; return how each ended, and whether what was watched has stayed as it was.

    `place` becomes the user's. Without root everything is run as whoever we are.
    """
    document = place / "jobs.json"
    document.write_text(json.dumps(jobs))
    if os.geteuid() == 0:
        for path in (place, *place.rglob("*")):
            os.chown(path, user, user, follow_symlinks=False)
    command = [sys.executable, "-m", "tests.ondisk", str(document), str(user)]
    done = subprocess.run(
        command, cwd=_ROOT, env=environment(), stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, timeout=100, check=True
    )
    return [(Ran(status, b"", err), same) for status, err, same in json.loads(done.stdout)]


def main(document: str, user: str) -> None:
    jobs = json.loads(Path(document).read_text())
    run_here("pack", f"oci:{FIXTURES / 'zones'}", "-o", "-")  # load what is loaded late, while we may
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(int(user), int(user), int(user))
        os.setresuid(int(user), int(user), int(user))
    json.dump([_done(job) for job in jobs], sys.stdout)


def _done(job: dict[str, Any]) -> tuple[int, str, bool]:
    os.chdir(job["in"])
    watched = [Path(place) for place in job.get("watched", ())]
    besides = job.get("besides", ())
    before = [snapshot(place, besides=besides) for place in watched]
    if "shut" in job:
        Path(job["shut"]).chmod(0o500)
    ran = run_here(*job["arguments"], stdin=Path(job.get("stdin", os.devnull)).read_bytes())
    return ran.status, ran.err, before == [snapshot(place, besides=besides) for place in watched]


if __name__ == "__main__":
    main(*sys.argv[1:])
