"""Whether our archive and `umoci unpack` make the same tree: what is fast must be right as well."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from hashlib import file_digest
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.contestants import SCRATCH

if TYPE_CHECKING:
    from benchmarks.images import Built


def agreement(archive: Path, built: Built) -> str:
    """Say in a sentence how the two compare; ValueError if they differ."""
    if os.geteuid() != 0 or not shutil.which("umoci"):
        return "Not compared with umoci, which is absent or not run as root."
    theirs, ours = SCRATCH / "theirs", SCRATCH / "ours"
    ours.mkdir()
    subprocess.run(
        ["umoci", "unpack", "--image", f"{built.layout.resolve()}:{built.tag}", str(theirs)],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    subprocess.run(["tar", "-C", str(ours), "-xpzf", str(archive)], check=True)
    wanted, found = _listing(theirs / "rootfs"), _listing(ours / "rootfs")
    if wanted != found:
        differing = sorted(path for path in wanted.keys() | found.keys() if wanted.get(path) != found.get(path))
        raise ValueError(f"{len(differing)} paths differ, such as {differing[0]}")
    for tree in (theirs, ours):
        shutil.rmtree(tree)
    return f"The same tree as `umoci unpack` makes: {len(found):,} paths, compared one by one."


def _listing(root: Path) -> dict[str, tuple[object, ...]]:
    """Return type, mode, owner, link group, and content of all that a task sees; its /dev is not the image's."""
    found: dict[str, tuple[object, ...]] = {}
    groups: dict[int, str] = {}
    for folder, directories, files in os.walk(root):
        for name in sorted(directories + files):
            path = Path(folder, name)
            known = str(path.relative_to(root))
            facts = path.lstat()
            if known.startswith("dev/") or stat.S_ISCHR(facts.st_mode) or stat.S_ISBLK(facts.st_mode):
                continue
            group = groups.setdefault(facts.st_ino, known)
            found[known] = (facts.st_mode, facts.st_uid, facts.st_gid, group, _content(path, facts.st_mode))
    return found


def _content(path: Path, mode: int) -> str:
    if stat.S_ISLNK(mode):
        return str(path.readlink())
    if not stat.S_ISREG(mode):
        return ""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
