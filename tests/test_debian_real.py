"""A real Debian image, entry by entry, against what umoci unpacks as root and what podman mounts with the kernel."""

from __future__ import annotations

import os
import subprocess
import tarfile
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import ocirootfs
from tests import debian_image, disk, overlayhost

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.model import Tree

    Real = Callable[[str], Path]

pytestmark = [
    pytest.mark.real,
    pytest.mark.xdist_group("debian-real"),
    pytest.mark.timeout(600),  # the first run builds the image
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can build and unpack it"),
]

_SECONDS = 120

OTHERS: dict[str, dict[bytes, str]] = {
    "umoci": {},
    "podman": {b"": "containers/storage makes the root directory 0555 and of today; no layer says anything of it"},
}
"""The paths on which another tool differs, and why ours is right."""


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Podman's storage driver: without overlayfs there are no opaque markers, and all else is the same."""
    return "vfs" if overlayhost.usable(tmp_path_factory.mktemp("probe")) else "overlay"


@pytest.fixture(scope="module")
def layout(real: Real, driver: str) -> Path:
    for program in ("mmdebstrap", "podman"):
        real(program)
    return debian_image.layout(driver)


@pytest.fixture(scope="module")
def ours(layout: Path) -> Tree:
    with ocirootfs.open(f"oci:{layout}:1") as image:
        return disk.flattened(image.layers)


def test_the_image_has_what_it_is_for(layout: Path, driver: str) -> None:
    with ocirootfs.open(f"oci:{layout}:1") as image:
        names = [layer.digest.hex for layer in image.layers if layer.digest]
    found: Counter[str] = Counter()
    for name in names:
        with tarfile.open(layout / "blobs/sha256" / name) as layer:
            for member in layer:
                base = member.name.rpartition("/")[2]
                found["opaque"] += base == ".wh..wh..opq"
                found["whiteout"] += base.startswith(".wh.") and base != ".wh..wh..opq"
                found["hard link"] += member.islnk()
                found["setuid or setgid"] += bool(member.mode & 0o6000)
                found["symlink"] += member.issym()
                found["capability"] += "SCHILY.xattr.security.capability" in member.pax_headers
    assert len(names) == debian_image.LAYERS >= 6
    least = {"whiteout": 100, "hard link": 5, "setuid or setgid": 10, "symlink": 300, "capability": 5}
    least |= {"opaque": 5} if driver == "overlay" else {}
    assert {what: found[what] for what in least if found[what] < least[what]} == {}, found


def test_umoci(real: Real, layout: Path, ours: Tree, tmp_path: Path) -> None:
    command(real("umoci"), "unpack", "--image", f"{layout}:1", tmp_path / "bundle")
    said = disk.differences(ours, disk.tree(tmp_path / "bundle/rootfs"))
    assert said.keys() <= OTHERS["umoci"].keys(), said


def test_podman(real: Real, layout: Path, ours: Tree, driver: str) -> None:
    program = str(real("podman"))
    with tempfile.TemporaryDirectory(prefix="podman", dir="/tmp") as place:  # whose path podman wants short
        storage = f"containers-storage:[{driver}@{place}/root+{place}/run]localhost/debian:1"
        options = (f"--root={place}/root", f"--runroot={place}/run", f"--storage-driver={driver}")
        podman = (program, *options, "--cgroup-manager=cgroupfs")
        try:
            command(real("skopeo"), "--insecure-policy", "copy", "--quiet", f"oci:{layout}:1", storage)
            found = disk.tree(Path(command(*podman, "image", "mount", "localhost/debian:1").strip()))
        finally:
            command(*podman, "rmi", "--all", "--force")
            disk.unmount(Path(place, "root", driver))  # which it binds to itself
    said = disk.differences(ours, found)
    assert said.keys() <= OTHERS["podman"].keys(), said


def command(program: Path | str, *arguments: str | Path) -> str:
    """Run a program that must succeed; gives its output."""
    ran = subprocess.run(
        [program, *arguments], stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS, check=False
    )
    assert ran.returncode == 0, (program, arguments, ran.stderr.decode(errors="replace"))
    return ran.stdout.decode()
