"""How many cores this process may use: those of its affinity, and no more than its control group pays for.

A CI container on a machine of 64 cores may be allowed two, by a CPU quota that no count of cores shows: threads beyond
it are stopped in the middle of their work. Sources: the kernel's cgroup-v2.rst ("cpu.max") and sched-bwc.rst (quota and
period), cgroups(7) ("/proc/pid/cgroup").
"""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_PROC = "/proc/self/cgroup"
_ROOT = "/sys/fs/cgroup"


def cores(proc: str = _PROC, root: str = _ROOT) -> int:
    """Return the number, 1 at least; half a core of quota counts as one.

    `proc` lists the process's control groups, whose files are below `root`.
    """
    present = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([present, *(math.ceil(quota) for quota in _quotas(proc, root))]))


def _quotas(proc: str, root: str) -> Iterator[float]:
    """Yield the quotas, in cores, of the process's control groups and of those above them."""
    for line in _read(proc).splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:  # version 2
            for group in _upward(root, path):
                yield from _quota(*_read(f"{group}/cpu.max").split())
        elif "cpu" in controllers.split(","):
            for group in _upward(f"{root}/cpu", path):
                yield from _quota(_read(f"{group}/cpu.cfs_quota_us"), _read(f"{group}/cpu.cfs_period_us"))


def _upward(root: str, path: str) -> Iterator[str]:
    """Yield the folder of a control group and of all above it; a container may see its own group as the root."""
    parts = [part for part in path.strip().split("/") if part]
    for depth in range(len(parts), -1, -1):
        yield "/".join((root, *parts[:depth]))


def _quota(quota: str = "", period: str = "", *_: str) -> Iterator[float]:
    """Yield a quota that is one: `max`, -1 and what cannot be read are none."""
    if quota.strip().isdecimal() and period.strip().isdecimal() and int(period) > 0:
        yield int(quota) / int(period)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
