"""docs/recipes.md, followed to the letter: each block, in a shell, with a busybox for an image."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import pytest

from tests.commands import environment
from tests.layers import build

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.layers import Data

    Find: TypeAlias = Callable[[str], Path]

PAGE = Path(__file__).parent.parent / "docs" / "recipes.md"
EVERYWHERE = f"/usr/sbin:/sbin:{os.environ.get('PATH', os.defpath)}"
# Stand-ins: this very ocirootfs, and a sudo that asks nobody.
PROGRAMS = {"ocirootfs": f'exec {sys.executable} -m ocirootfs "$@"', "sudo": 'exec "$@"'}

pytestmark = pytest.mark.real


def blocks() -> dict[str, str]:
    """Return what is to be run, by heading."""
    found = {}
    for section in re.split(r"^## ", PAGE.read_text("utf-8"), flags=re.MULTILINE)[1:]:
        title, _, text = section.partition("\n")
        found[title] = "".join(re.findall(r"^```(?:sh|bash)\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    return found


def _root(printed: str, here: Path) -> None:
    assert printed.split() == ["root/", "0", "bin", "etc", "home", "tmp"]


def _machine(printed: str, here: Path) -> None:
    assert printed == "machine/\n"
    assert ((here / "machine/home/me/notes").stat().st_uid, (here / "machine/etc/passwd").stat().st_uid) == (1000, 0)


def _ext4(printed: str, here: Path) -> None:
    def asked(request: str) -> str:
        command = ["debugfs", "-R", request, "root.ext4"]
        return subprocess.run(command, cwd=here, capture_output=True, text=True, check=True, env=_path()).stdout

    assert asked("cat /etc/passwd") == PASSWD
    notes = asked("stat /home/me/notes")
    assert re.search(r"Mode: +0640.*User: +1000 +Group: +1000", notes, re.DOTALL), notes
    busybox = asked("stat /bin/busybox")
    assert re.search(r"Type: regular +Mode: +0755", busybox), busybox
    assert re.search(r'Fast link dest: "busybox"', asked("stat /bin/sh"))


def _squashfs(printed: str, here: Path) -> None:
    command = ["unsquashfs", "-lln", "root.squashfs"]
    listed = subprocess.run(command, cwd=here, capture_output=True, text=True, check=True, env=_path()).stdout
    lines = {line.split()[5]: line.split() for line in listed.splitlines() if line.startswith(("-", "d", "l", "c"))}
    assert lines["squashfs-root/home/me/notes"][:3] == ["-rw-r-----", "1000/1000", "6"]
    assert lines["squashfs-root/bin/sh"][6:] == ["->", "busybox"]
    assert lines["squashfs-root/bin/busybox"][:2] == ["-rwxr-xr-x", "0/0"]


def _wsl(printed: str, here: Path) -> None:
    archive, *names = printed.splitlines()
    assert archive == "wsl.tar.gz"
    assert sorted(names) == sorted([*(entry["name"] for entry in _entries("", "0640")), "home/", "etc/"])


def _incus(printed: str, here: Path) -> None:
    assert printed == "rootfs.tar.gz\n"
    read = subprocess.run(["tar", "-xzOf", "metadata.tar.gz"], cwd=here, capture_output=True, text=True, check=True)
    assert re.fullmatch(r"architecture: \w+\ncreation_date: \d{10}\n", read.stdout)


def _difference(printed: str, here: Path) -> None:
    assert re.search(r"^< -rw-r-----.* home/me/notes$", printed, re.MULTILINE), printed
    assert re.search(r"^> -rw-------.* home/me/notes$", printed, re.MULTILINE), printed
    assert "etc/passwd" not in printed
    assert re.search(r'^>.*"LANG=C"', printed, re.MULTILINE), printed


def _contents(printed: str, here: Path) -> None:
    assert printed.splitlines()[-4:] == ["1c1", "< notes", "---", "> other notes"], printed


@dataclass(frozen=True)
class Recipe:
    """What it takes, and how to see that it worked."""

    check: Callable[[str, Path], None]
    programs: tuple[str, ...] = ()


RECIPES = {
    "A chroot": Recipe(_root, ("chroot",)),
    "A chroot, without root": Recipe(_root, ("chroot", "unshare")),
    "systemd-nspawn": Recipe(_machine),
    "An ext4 file system, for a microVM": Recipe(_ext4, ("mke2fs", "debugfs")),
    "An ext4 file system, without root and without a directory": Recipe(_ext4, ("mke2fs", "debugfs")),
    "A squashfs": Recipe(_squashfs, ("sqfstar", "unsquashfs")),
    "A squashfs, with squashfs-tools-ng": Recipe(_squashfs, ("tar2sqfs", "unsquashfs")),
    "A squashfs, with mksquashfs": Recipe(_squashfs, ("mksquashfs", "unsquashfs")),
    "WSL": Recipe(_wsl, ("bsdtar",)),
    "LXC and Incus": Recipe(_incus),
    "What differs between two images": Recipe(_difference),
    "What differs between two images, in their contents": Recipe(_contents),
}
PASSWD = "root:x:0:0::/:/bin/sh\nme:x:1000:1000::/home/me:/bin/sh\n"


def _entries(notes: str, mode: str) -> list[Data]:
    busybox = shutil.which("busybox", path=EVERYWHERE) or ""
    body = base64.b64encode(Path(busybox).read_bytes()) if busybox else b""
    return [
        {"type": "dir", "name": "bin/"},
        {"type": "file", "name": "bin/busybox", "mode": "0755", "body_b64": body},
        *({"type": "symlink", "name": f"bin/{name}", "linkname": "busybox"} for name in ("sh", "id", "ls")),
        {"type": "file", "name": "etc/passwd", "data": PASSWD},
        {"type": "dir", "name": "home/me/", "uid": 1000, "gid": 1000},
        {"type": "file", "name": "home/me/notes", "mode": mode, "uid": 1000, "gid": 1000, "data": notes},
        {"type": "dir", "name": "tmp/", "mode": "1777"},
    ]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The images that the page's variables name."""
    folder = tmp_path_factory.mktemp("images")
    old = build([{"entries": _entries("notes\n", "0640")}])
    new = build([{"entries": _entries("other notes\n", "0600")}], config={"config": {"Env": ["LANG=C"]}})
    found = {"OLD": f"oci:{old.layout(folder / 'old')}", "NEW": f"oci:{new.layout(folder / 'new')}"}
    return {**found, "IMAGE": found["OLD"]}


def _path() -> dict[str, str]:
    return environment(PATH=EVERYWHERE, LC_ALL="C")


def _require(title: str, block: str, real: Find, has_root: bool) -> None:
    """Skip what cannot be run here, or fail where everything has to be."""
    for program in ("busybox", *RECIPES[title].programs):
        if shutil.which(program, path=EVERYWHERE) is None:
            real(program)
    if "sudo" in block and not has_root:
        pytest.skip("it takes root")
    if "unshare" in block and subprocess.run(["unshare", "--user", "--map-root-user", "true"], check=False).returncode:
        pytest.skip("no user namespaces here")
    if "mke2fs" in block and "-d -" in block and _mke2fs() < (1, 47, 1):
        pytest.skip("mke2fs is older than 1.47.1")


def _mke2fs() -> tuple[int, ...]:
    said = subprocess.run(["mke2fs", "-V"], capture_output=True, text=True, check=True, env=_path()).stderr
    return tuple(map(int, re.findall(r"\d+", said.partition("(")[0])[1:]))


@pytest.mark.parametrize("title", RECIPES)
def test_a_recipe(title: str, images: dict[str, str], tmp_path: Path, real: Find) -> None:
    block = blocks()[title]
    _require(title, block, real, has_root=os.geteuid() == 0)
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in PROGRAMS.items():
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    here = tmp_path / "here"
    here.mkdir()
    env = {**_path(), **images, "PATH": f"{programs}:{EVERYWHERE}"}

    command = ["/bin/bash", "-euo", "pipefail", "-c", block]
    ran = subprocess.run(command, cwd=here, env=env, capture_output=True, text=True, timeout=60, check=False)

    assert ran.returncode == 0, ran
    assert "error" not in ran.stderr, ran
    RECIPES[title].check(ran.stdout, here)


def test_every_recipe_is_here_and_says_why_what_is_not_run() -> None:
    assert set(blocks()) == set(RECIPES)
    assert all(blocks().values())
    text = PAGE.read_text("utf-8")
    skipped = len(re.findall(r"^```(?:sh not-run|powershell)$", text, re.MULTILINE))
    assert len(re.findall(r"^Not run, because ", text, re.MULTILINE)) == skipped == 3
