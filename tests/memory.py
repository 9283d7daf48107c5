"""A limit on a command's memory, set by the kernel, and what the kernel says that it took."""

from __future__ import annotations

import contextlib
import os
import sys
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_ROOT = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Limit:
    """What runs a command within the limit."""

    kind: str
    prefix: Sequence[str]


def high_water(pid: int) -> int:
    """Return a process's peak of resident memory so far, in bytes.

    wait4 counts the memory of the process that forked, too, and a cgroup the cache of the files that are written.
    """
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")) * 1024


@contextmanager
def limited(size: int) -> Iterator[Limit]:
    """Make a memory cgroup of `size` bytes where this machine lets us, else a limit on the heap (RLIMIT_DATA)."""
    for kind, parent, settings in (
        ("cgroup v2", _ROOT, {"memory.max": size, "memory.swap.max": 0}),
        ("cgroup v1", _ROOT / "memory", {"memory.limit_in_bytes": size}),
    ):
        group = parent / f"ocirootfs-{uuid.uuid4().hex}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            if _set(group, settings):
                yield Limit(kind, ("sh", "-c", f'echo $$ >{group}/cgroup.procs; exec "$@"', "sh"))
                return
        finally:
            with contextlib.suppress(OSError):
                group.rmdir()
    script = (
        "import os, resource, sys; resource.setrlimit(resource.RLIMIT_DATA, (int(sys.argv[1]),) * 2); "
        "os.execvp(sys.argv[2], sys.argv[2:])"
    )
    yield Limit("RLIMIT_DATA", (sys.executable, "-c", script, str(size)))


def _set(group: Path, settings: dict[str, int]) -> bool:
    try:
        for name, value in settings.items():
            # Without O_CREAT: where there is no such setting, none is to be made.
            with os.fdopen(os.open(group / name, os.O_WRONLY), "w") as setting:
                setting.write(str(value))
    except OSError:
        return False
    return True
