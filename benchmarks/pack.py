"""`ocirootfs pack` beside what recompresses the same layers without looking into them.

    python -m benchmarks.pack [--image layered] [--rounds 5]

Every round runs each of them once, in turn, so that a busy machine is as unfair to all; ratios are medians of the
rounds' ratios. The floor is what the libraries alone take (`benchmarks.floor`), in CPU seconds over cores.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from hashlib import file_digest
from typing import TYPE_CHECKING

from benchmarks import images, measure
from ocirootfs.gzip import DEFAULT_LEVEL

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.images import Built
    from benchmarks.measure import Cost

_OURS = "ocirootfs pack"
_GZIP = "gzip -dc \\| gzip -6"
_FLOOR_STAGES = ("inflate", "hash", "deflate")
_SCRATCH = images.CACHE / "output"


@dataclass
class _Contestant:
    """One way to get from the layers to an archive, and what it has cost so far."""

    name: str
    commands: list[list[str]]
    output: Path
    writes_itself: bool = False
    costs: list[Cost] = field(default_factory=list)
    sizes: set[int] = field(default_factory=set)
    digests: set[str] = field(default_factory=set)

    def run(self) -> None:
        self.output.unlink(missing_ok=True)
        self.costs.append(measure.run(self.commands, None if self.writes_itself else self.output))
        self.sizes.add(self.output.stat().st_size)
        with self.output.open("rb") as file:
            self.digests.add(file_digest(file, "sha256").hexdigest())

    def walls(self) -> list[float]:
        return [cost.wall for cost in self.costs]


def _contestants(built: Built) -> tuple[list[_Contestant], list[str]]:
    """Return who runs, ourselves first and gzip second, and who is absent."""
    ours = _SCRATCH / "ocirootfs.tgz"
    pack = [sys.executable, "-m", "ocirootfs", "pack", "-q", f"oci:{built.layout}", "-o", str(ours)]
    blobs = [str(blob) for blob in built.blobs]
    pigz = f"pigz -dc \\| pigz -p{measure.cores()} -6"
    piped = [
        (_GZIP, [["gzip", "-dc", *blobs], ["gzip", "-6"]]),
        (pigz, [["pigz", "-dc", *blobs], ["pigz", f"-p{measure.cores()}", "-6"]]),
    ]
    found = [_Contestant(_OURS, [pack], ours, writes_itself=True)]
    absent = []
    for name, commands in piped:
        tool = commands[0][0]
        if shutil.which(tool):
            found.append(_Contestant(name, commands, _SCRATCH / f"{tool}.gz"))
        else:
            absent.append(tool)
    return found, absent


def _floor(archive: Path, built: Built) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.floor", str(DEFAULT_LEVEL), str(archive), *map(str, built.blobs)]
    seconds: dict[str, float] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return seconds


def _gzipped_size(archive: Path) -> int:
    """Return what `gzip -6` makes of the same tar: the archive lacks what the image hides, so layers tell little."""
    again = _SCRATCH / "again.gz"
    measure.run([["gzip", "-dc", str(archive)], ["gzip", "-6"]], again)
    return again.stat().st_size


def _ratios(these: Sequence[float], those: Sequence[float]) -> float:
    return statistics.median(this / that for this, that in zip(these, those, strict=True))


def _table(found: Sequence[_Contestant], reference: _Contestant) -> list[str]:
    lines = [
        f"| | wall s: median (min-max) | CPU s | peak MB | wall / {reference.name.split()[0]} | output MB |",
        "|---|---|---|---|---|---|",
    ]
    for one in found:
        cells = [
            one.name,
            measure.spread(one.walls()),
            measure.spread([cost.cpu for cost in one.costs]),
            f"{max(cost.peak for cost in one.costs) / 1024:.0f}",
            f"{_ratios(one.walls(), reference.walls()):.3f}",
            " or ".join(f"{size / 1e6:.1f}" for size in sorted(one.sizes)),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _floor_line(ours: _Contestant, floors: Sequence[dict[str, float]]) -> str:
    bounds = [sum(stages[stage] for stage in _FLOOR_STAGES) / measure.cores() for stages in floors]
    stages = ", ".join(f"{stage} {measure.spread([each[stage] for each in floors])}" for stage in floors[0])
    return (
        f"Floor F = ({' + '.join(_FLOOR_STAGES)}) / cores = {measure.spread(bounds)} s; our wall time is "
        f"{_ratios(ours.walls(), bounds):.2f} F. CPU seconds: {stages}."
    )


def _image_line(built: Built) -> str:
    entries, plain, size = (sum(getattr(layer, key) for layer in built.layers) for key in ("entries", "plain", "size"))
    return (
        f"Image `{built.name}`: {len(built.layers)} layers, {entries:,} entries, {plain / 1e6:,.0f} MB in "
        f"{size / 1e6:,.0f} MB of gzip."
    )


def _machine_line(before: str, after: str, rounds: int) -> str:
    return (
        f"Machine: {measure.machine()}, Python {platform.python_version()}; load average {before} before, "
        f"{after} after; {rounds} rounds, interleaved."
    )


def _load() -> str:
    return " ".join(f"{value:.2f}" for value in os.getloadavg())


def report(built: Built, rounds: int) -> list[str]:
    """Measure, and return what to print."""
    shutil.rmtree(_SCRATCH, ignore_errors=True)
    _SCRATCH.mkdir(parents=True)
    load_before = _load()
    found, absent = _contestants(built)
    ours = found[0]
    reference = next((one for one in found if one.name == _GZIP), ours)
    floors = []
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", file=sys.stderr)
        for one in found:
            one.run()
        floors.append(_floor(ours.output, built))
    load_after = _load()
    same = "the same bytes every round" if len(ours.digests) == 1 else f"{len(ours.digests)} DIFFERENT ARCHIVES"
    sizes = ""
    if reference is not ours:
        size, gzipped = max(ours.sizes), _gzipped_size(ours.output)
        sizes = f", {100 * (size / gzipped - 1):+.1f} % beside gzip -6 of the same tar ({gzipped / 1e6:.1f} MB)"
    shutil.rmtree(_SCRATCH)
    return [
        _image_line(built),
        "",
        *_table(found, reference),
        "",
        _floor_line(ours, floors),
        f"Our archive: {same}{sizes}.",
        *[f"Absent here: {', '.join(absent)}." for _ in absent[:1]],
        _machine_line(load_before, load_after, rounds),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pack", description=__doc__.partition("\n")[0])
    parser.add_argument("--image", choices=sorted(images.MAKERS), default="layered")
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    # In a process of its own, because what this one grows to counts for those it starts (see `measure.run`).
    subprocess.run([sys.executable, "-m", "benchmarks.images", chosen.image], check=True, stdout=sys.stderr)
    print("\n".join(report(images.build(chosen.image), chosen.rounds)))


if __name__ == "__main__":
    main()
