"""How many cores a process may use, by files such as the kernel's."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from ocirootfs.cores import cores

if TYPE_CHECKING:
    from pathlib import Path

PRESENT = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

GROUPS = {
    "no limit": ("0::/\n", {"cpu.max": "max 100000\n"}, PRESENT),
    "one core": ("0::/\n", {"cpu.max": "100000 100000\n"}, 1),
    "half a core": ("0::/a/b\n", {"a/b/cpu.max": "50000 100000\n"}, 1),
    "a parent's limit": ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "100000 100000\n"}, 1),
    "more than there is": ("0::/\n", {"cpu.max": "9900000 100000\n"}, PRESENT),
    "own group seen as the root": ("0::/docker/abc\n", {"cpu.max": "100000 100000\n"}, 1),
    "version 1": (
        "4:memory:/x\n3:cpu,cpuacct:/x\n",
        {"cpu/x/cpu.cfs_quota_us": "100000\n", "cpu/x/cpu.cfs_period_us": "100000\n"},
        1,
    ),
    "version 1, no limit": (
        "3:cpu,cpuacct:/x\n",
        {"cpu/x/cpu.cfs_quota_us": "-1\n", "cpu/x/cpu.cfs_period_us": "100000\n"},
        PRESENT,
    ),
    "another controller's file": ("3:cpuset:/\n", {"cpu/cpu.cfs_quota_us": "1\n"}, PRESENT),
    "nonsense": ("0\n:::\n0::/../..\n", {"cpu.max": "a b c\n"}, PRESENT),
    "a period of nothing": ("0::/\n", {"cpu.max": "100000 0\n"}, PRESENT),
    "nothing": ("", {}, PRESENT),
}


@pytest.mark.parametrize("name", GROUPS)
def test_cores(name: str, tmp_path: Path) -> None:
    listed, files, expected = GROUPS[name]
    root = tmp_path / "cgroup"
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    (tmp_path / "proc").write_text(listed)
    assert cores(str(tmp_path / "proc"), str(root)) == expected


def test_two_cores_of_many(tmp_path: Path) -> None:
    (tmp_path / "proc").write_text("0::/\n")
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    assert cores(str(tmp_path / "proc"), str(tmp_path)) == min(2, PRESENT)


def test_no_control_groups(tmp_path: Path) -> None:
    assert cores(str(tmp_path / "absent"), str(tmp_path)) == PRESENT
