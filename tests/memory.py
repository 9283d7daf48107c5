"""A limit on a command's memory, set and measured by the kernel."""

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
    """What runs a command within the limit, and where the kernel keeps its peak, if it does.

    What wait4 tells is no use: it counts the memory of the process that forked, too.
    """

    kind: str
    prefix: Sequence[str]
    peak_file: Path | None

    def peak(self) -> int | None:
        """Return the peak in bytes."""
        return int(self.peak_file.read_text()) if self.peak_file else None


@contextmanager
def limited(size: int) -> Iterator[Limit]:
    """Make a memory cgroup of `size` bytes where this machine lets us, else a limit on the heap (RLIMIT_DATA)."""
    for kind, parent, settings, peak in (
        ("cgroup v2", _ROOT, {"memory.max": size, "memory.swap.max": 0}, "memory.peak"),
        ("cgroup v1", _ROOT / "memory", {"memory.limit_in_bytes": size}, "memory.max_usage_in_bytes"),
    ):
        group = parent / f"ocirootfs-{uuid.uuid4().hex}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            with contextlib.suppress(OSError):
                for name, value in settings.items():
                    # Python would make a file of that name where there is no such setting.
                    with os.fdopen(os.open(group / name, os.O_WRONLY), "w") as setting:
                        setting.write(str(value))
                if (group / peak).exists():
                    yield Limit(kind, ("sh", "-c", f'echo $$ >{group}/cgroup.procs; exec "$@"', "sh"), group / peak)
                    return
        finally:
            with contextlib.suppress(OSError):
                group.rmdir()
    script = (
        "import os, resource, sys; resource.setrlimit(resource.RLIMIT_DATA, (int(sys.argv[1]),) * 2); "
        "os.execvp(sys.argv[2], sys.argv[2:])"
    )
    yield Limit("RLIMIT_DATA", (sys.executable, "-c", script, str(size)), None)
