"""How many cores this process may use: those of its affinity, and no more than its control group pays for.

A CI container on a machine of 64 cores may be allowed two, by a CPU quota that no count of cores shows: threads beyond
it are stopped in the middle of their work. Sources: the kernel's cgroup-v2.rst ("cpu.max") and sched-bwc.rst (quota and
period), cgroups(7) ("/proc/pid/cgroup").
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_PROC = Path("/proc/self/cgroup")
_ROOT = Path("/sys/fs/cgroup")


def cores(proc: Path = _PROC, root: Path = _ROOT) -> int:
    """Return the number, 1 at least; half a core of quota counts as one.

    `proc` lists the process's control groups, whose files are below `root`.
    """
    present = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([present, *(math.ceil(quota) for quota in _quotas(proc, root))]))


def _quotas(proc: Path, root: Path) -> Iterator[float]:
    """Yield the quotas, in cores, of the process's control groups and of those above them."""
    for line in _read(proc).splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:  # version 2
            for group in _upward(root, path):
                yield from _quota(*_read(group / "cpu.max").split())
        elif "cpu" in controllers.split(","):
            for group in _upward(root / "cpu", path):
                yield from _quota(_read(group / "cpu.cfs_quota_us"), _read(group / "cpu.cfs_period_us"))


def _upward(root: Path, path: str) -> Iterator[Path]:
    """Yield the folder of a control group and of all above it; a container may see its own group as the root."""
    group = root / path.strip().lstrip("/")
    yield group
    while group != root and root in group.parents:
        group = group.parent
        yield group


def _quota(quota: str = "", period: str = "", *_: str) -> Iterator[float]:
    """Yield a quota that is one: `max`, -1 and what cannot be read are none."""
    if quota.strip().isdecimal() and period.strip().isdecimal() and int(period) > 0:
        yield int(quota) / int(period)


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
