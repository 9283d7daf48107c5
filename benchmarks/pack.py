"""`ocirootfs pack` beside what recompresses the same layers, and beside what else makes such an archive.

    python -m benchmarks.pack [--image debian --image many ...] [--rounds 5] [--tree-rounds 5] [--write]

Every round runs each of them once, in turn, so that a busy machine is as unfair to all; ratios are medians of the
rounds' ratios. Others that make the tree take minutes, so they can be left out of later rounds (`--tree-rounds`). The
floor F is what the libraries alone take (`benchmarks.floor`), in CPU seconds over cores. `--write` replaces RESULTS.md,
RESULTS.json and results.svg beside this file.
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
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import chart, debian, images, measure
from benchmarks.agreement import agreement
from benchmarks.contestants import FAST, GZIP, OURS, SCRATCH, Contestant, contestants, gzipped_size, tar_digest
from ocirootfs.gzip import DEFAULT_LEVEL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.images import Built

HERE = Path(__file__).parent
_STAGES = ("inflate", "hash", "deflate")
_STANDARD = ["many", "large", "layers", "debian", "tiny"]


def _floor(archive: Path, built: Built) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.floor", str(DEFAULT_LEVEL), str(archive), *map(str, built.blobs)]
    seconds: dict[str, float] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return seconds


def ratio(these: Sequence[float], those: Sequence[float]) -> float:
    """Return the median of the ratios of the rounds that `these` took part in, the first ones."""
    return statistics.median(this / that for this, that in zip(these, those[: len(these)], strict=True))


def _table(found: Sequence[Contestant], reference: Contestant, gzipped: int) -> list[str]:
    lines = [
        "| | wall s: median (min-max) | CPU s | peak MB | wall / gzip | output MB | makes the tree |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in found:
        cells = [
            one.name,
            measure.spread(one.walls()),
            measure.spread([cost.cpu for cost in one.costs]),
            f"{max(cost.peak for cost in one.costs) / 1024:.0f}",
            f"{ratio(one.walls(), reference.walls()):.3f}",
            _size(one, gzipped),
            "yes" if one.flattens else "no",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _size(one: Contestant, gzipped: int) -> str:
    size = max(one.sizes)
    return f"{size / 1e6:.1f}" + (f" ({100 * (size / gzipped - 1):+.1f} %)" if one.flattens else "")


def _floor_line(ours: Contestant, floors: Sequence[dict[str, float]]) -> str:
    stages = ", ".join(f"{stage} {measure.spread([each[stage] for each in floors])}" for stage in floors[0])
    bounds = _bounds(floors)
    return (
        f"Floor F = ({' + '.join(_STAGES)}) / cores = {measure.spread(bounds)} s; our wall time is "
        f"**{ratio(ours.walls(), bounds):.2f} F**. CPU seconds: {stages}."
    )


def _bounds(floors: Sequence[dict[str, float]]) -> list[float]:
    return [sum(stages[stage] for stage in _STAGES) / measure.cores() for stages in floors]


def _image_line(built: Built) -> str:
    entries, plain, size = (sum(getattr(layer, key) for layer in built.layers) for key in ("entries", "plain", "size"))
    return f"{len(built.layers)} layers, {entries:,} entries, {plain / 1e6:,.0f} MB in {size / 1e6:,.0f} MB of gzip."


def _load() -> str:
    return " ".join(f"{value:.2f}" for value in os.getloadavg())


def measured(built: Built, rounds: int, tree_rounds: int | None = None) -> tuple[list[str], dict[str, Any]]:
    """Measure one image; return what to print, and the figures that a later run is compared with."""
    shutil.rmtree(SCRATCH, ignore_errors=True)
    SCRATCH.mkdir(parents=True)
    before = _load()
    found, absent = contestants(built)
    by_name = {one.name: one for one in found}
    ours, fast = by_name[OURS], by_name[FAST]
    floors = []
    for number in range(rounds):
        print(f"{built.name}: round {number + 1} of {rounds}", file=sys.stderr)
        for one in found:
            is_peer = one.flattens and one not in (ours, fast)
            if not is_peer or number < (rounds if tree_rounds is None else tree_rounds):
                one.run()
        floors.append(_floor(ours.output, built))
    after = _load()
    idle = [one for one in found if not one.sizes]
    found = [one for one in found if one.sizes]
    failed = [one for one in found if max(one.sizes) < min(ours.sizes) // 4]
    found = [one for one in found if one not in failed]
    absent += [f"what was not asked for: {one.name}" for one in idle]
    absent += [f"what failed: {one.name}" for one in failed]
    gzipped = gzipped_size(ours.output)
    same = "the same bytes every round" if len(ours.digests) == 1 else f"{len(ours.digests)} DIFFERENT ARCHIVES"
    if tar_digest(ours.output) != tar_digest(fast.output):
        raise ValueError("--fast holds another tar")
    agreed = agreement(ours.output, built)
    shutil.rmtree(SCRATCH)
    lines = [
        f"## {built.name}",
        "",
        _image_line(built),
        "",
        *_table(found, by_name.get(GZIP, ours), gzipped),
        "",
        _floor_line(ours, floors),
        "",
        f"Our archive: {same}; percentages are beside `gzip -6` of the same tar ({gzipped / 1e6:.1f} MB). {agreed}",
        f"Load average {before} before, {after} after.",
        *[f"Absent here: {', '.join(absent)}." for _ in absent[:1]],
        "",
    ]
    reference = by_name.get(GZIP, ours).walls()
    figures = {one.name: round(ratio(one.walls(), reference), 4) for one in found}
    floor = round(ratio(ours.walls(), _bounds(floors)), 3)
    return lines, {"ratios": figures, "floor": floor, "size": round(max(ours.sizes) / gzipped, 4)}


def machine(rounds: int, tree_rounds: int | None = None) -> str:
    """Describe where and how this ran."""
    fewer = "" if tree_rounds is None else f" (others that make the tree: the first {tree_rounds})"
    return (
        f"{measure.machine()}, Linux {platform.release()}, Python {platform.python_version()}; {rounds} rounds{fewer}, "
        "interleaved, the files in the page cache."
    )


def build(name: str) -> Built:
    """Make an image, or take it from the cache."""
    if name == "debian":
        return debian.build()
    # In a process of its own, because what this one grows to counts for those it starts (see `measure.run`).
    subprocess.run([sys.executable, "-m", "benchmarks.images", name], check=True, stdout=sys.stderr)
    return images.build(name)


def write(lines: Sequence[str], figures: dict[str, Any]) -> None:
    """Replace the committed results."""
    (HERE / "RESULTS.md").write_text("\n".join(lines))
    (HERE / "RESULTS.json").write_text(json.dumps(figures, indent=1) + "\n")
    (HERE / "results.svg").write_text(chart.svg(figures))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pack", description=__doc__.partition("\n")[0])
    parser.add_argument("--image", choices=sorted([*images.MAKERS, "debian"]), action="append")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--tree-rounds", type=int, metavar="N", help="rounds that others who make the tree take part in"
    )
    parser.add_argument("--write", action="store_true", help="replace the committed results")
    chosen = parser.parse_args()
    lines = ["# Results of `python -m benchmarks.pack`", "", machine(chosen.rounds, chosen.tree_rounds), ""]
    figures = {}
    for name in chosen.image or _STANDARD:
        section, figures[name] = measured(build(name), chosen.rounds, chosen.tree_rounds)
        print("\n".join(section), flush=True)
        lines += section
    if chosen.write:
        write(lines, figures)


if __name__ == "__main__":
    main()
