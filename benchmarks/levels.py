"""What each level of gzip costs and gives, on the tar of one image, beside the command gzip.

    python -m benchmarks.levels [--image layers] [--rounds 3]

The tar is in memory and the result goes nowhere, so this is deflate on all cores and nothing else.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import ocirootfs
from benchmarks import images, measure, pack
from ocirootfs.gzip import DEFAULT_LEVEL, LEVELS, GzipWriter

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.images import Built

_PIECE = 1 << 20


@dataclass
class _Measured:
    walls: list[float] = field(default_factory=list)
    cpus: list[float] = field(default_factory=list)
    size: int = 0


def tar_of(built: Built) -> bytes:
    """Return the tar that `pack` compresses."""
    path = images.CACHE / "levels.tar"
    with ocirootfs.open(f"oci:{built.layout}") as image:
        ocirootfs.pack(image, path, compress="none")
    data = path.read_bytes()
    path.unlink()
    return data


def ours(data: bytes, level: int, found: _Measured) -> None:
    """Compress once more."""
    sizes: list[int] = []
    wall, cpu = time.perf_counter(), time.process_time()
    with GzipWriter(lambda block: sizes.append(len(block)), level=level, threads=measure.cores()) as writer:
        for at in range(0, len(data), _PIECE):
            writer.write(memoryview(data)[at : at + _PIECE])
        writer.close()
    found.walls.append(time.perf_counter() - wall)
    found.cpus.append(time.process_time() - cpu)
    found.size = sum(sizes)


def theirs(path: Path, level: int, found: _Measured) -> None:
    """Let the command gzip do it once more."""
    output = path.with_suffix(".gz")
    cost = measure.run([["gzip", f"-{level}", "-c", str(path)]], output)
    found.walls.append(cost.wall)
    found.cpus.append(cost.cpu)
    found.size = output.stat().st_size
    output.unlink()


def main() -> None:
    words = argparse.ArgumentParser(prog="python -m benchmarks.levels", description=__doc__.partition("\n")[0])
    words.add_argument("--image", choices=sorted([*images.MAKERS, "debian"]), default="layers")
    words.add_argument("--rounds", type=int, default=3)
    chosen = words.parse_args()
    data = tar_of(pack.build(chosen.image))
    path = images.CACHE / "levels.tar"
    path.write_bytes(data)
    found = {level: _Measured() for level in LEVELS}
    gzips = {level: _Measured() for level in (6, 9)}
    for _ in range(chosen.rounds):
        for level, one in found.items():
            ours(data, level, one)
        for level, one in gzips.items():
            theirs(path, level, one)
    path.unlink()
    base = gzips[6]
    print(f"{chosen.image}: a tar of {len(data) / 1e6:.0f} MB, {chosen.rounds} rounds; {measure.machine()}, ", end="")
    print(
        f"load {os.getloadavg()[0]:.2f}; {subprocess.check_output(['gzip', '--version'], text=True).splitlines()[0]}.\n"
    )
    print("| | wall s | CPU s | MB/s of CPU | size beside gzip -6 |\n|---|---|---|---|---|")
    for name, one in [(f"level {n}", m) for n, m in found.items()] + [(f"gzip -{n}", m) for n, m in gzips.items()]:
        cpu = statistics.median(one.cpus)
        note = " (default)" if name == f"level {DEFAULT_LEVEL}" else ""
        print(
            f"| {name}{note} | {measure.spread(one.walls)} | {measure.spread(one.cpus)} | {len(data) / 1e6 / cpu:.0f} "
            f"| {100 * (one.size / base.size - 1):+.1f} % |"
        )


if __name__ == "__main__":
    main()
