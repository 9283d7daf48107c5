"""Running a pipeline of processes and reading off what it cost."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_SAMPLING = 0.01  # seconds between looks at the memory of running processes


@dataclass(frozen=True)
class Cost:
    """Of one run: seconds, and the peak memory of the largest process in KiB."""

    wall: float
    cpu: float
    peak: int


def run(commands: Sequence[Sequence[str]], output: Path | None = None) -> Cost:
    """Run commands as a pipeline that ends in `output`; CalledProcessError if any of them fails."""
    with ExitStack() as stack:
        sink = stack.enter_context((output or Path(os.devnull)).open("wb"))
        begun = time.perf_counter()
        processes = _started(commands, sink, stack)
        sampler = _Sampler([process.pid for process in processes])
        ended = [os.wait4(process.pid, 0) for process in processes]
        wall = time.perf_counter() - begun
        sampler.stop()
    for process, command, (_, status, _) in zip(processes, commands, ended, strict=True):
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command)
    # A process begins with the peak of the one that started it, so one that stays below this one's is not told apart
    # by ru_maxrss (macOS counts it in bytes); what the sampler saw is the truth then, but for its last moments.
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    counted = [usage.ru_maxrss for _, _, usage in ended if usage.ru_maxrss > own]
    return Cost(
        wall=wall,
        cpu=sum(usage.ru_utime + usage.ru_stime for _, _, usage in ended),
        peak=max(counted or sampler.peaks.values()),
    )


def _started(commands: Sequence[Sequence[str]], sink: IO[bytes], stack: ExitStack) -> list[subprocess.Popen[bytes]]:
    processes: list[subprocess.Popen[bytes]] = []
    for command in commands:
        last = len(processes) == len(commands) - 1
        process = subprocess.Popen(
            command,
            stdin=processes[-1].stdout if processes else subprocess.DEVNULL,
            stdout=sink if last else subprocess.PIPE,
        )
        if processes and processes[-1].stdout:
            processes[-1].stdout.close()  # the next one's now
        if process.stdout:
            stack.enter_context(process.stdout)
        processes.append(process)
    return processes


class _Sampler:
    """Watches the peak memory of processes while they run."""

    def __init__(self, pids: Sequence[int]) -> None:
        self.peaks = dict.fromkeys(pids, 0)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        while not self._over.wait(_SAMPLING):
            for pid in self.peaks:
                self.peaks[pid] = max(self.peaks[pid], _peak(pid))

    def stop(self) -> None:
        self._over.set()
        self._thread.join()


def _peak(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    lines = (line.split() for line in status.splitlines())
    return next((int(words[1]) for words in lines if words[0] == "VmHWM:"), 0)


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Write a median with its range."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def machine() -> str:
    """Describe the machine, but for how busy it is."""
    model = "unknown processor"
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = (line.partition(":") for line in cpuinfo.read_text().splitlines())
        model = next((value.strip() for key, _, value in lines if key.strip() == "model name"), model)
    return f"{cores()} cores, {model}"


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
