"""`ocirootfs unpack` beside `tar xf` of the same tree.

    python -m benchmarks.unpack [--image layered] [--rounds 5] [--scratch DIR]

tar has the easier task: the tree is flat already, and plain in `tar xf`. Every round runs each once, in turn, so
that a busy machine is as unfair to all; ratios are medians of the rounds' ratios. A scratch directory in memory leaves
the disk out of it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import images, measure

if TYPE_CHECKING:
    from benchmarks.images import Built
    from benchmarks.measure import Cost


@dataclass
class _Contestant:
    name: str
    command: list[str]
    tree: Path
    makes_tree: bool = False
    costs: list[Cost] = field(default_factory=list)

    def run(self) -> None:
        shutil.rmtree(self.tree, ignore_errors=True)
        if not self.makes_tree:
            self.tree.mkdir()
        self.costs.append(measure.run([self.command]))

    def line(self, reference: _Contestant) -> str:
        """Write a row of the table, with ratios to the reference."""
        walls, cpus = [cost.wall for cost in self.costs], [cost.cpu for cost in self.costs]
        ratios = [
            statistics.median(mine / theirs for mine, theirs in zip(ours, others, strict=True))
            for ours, others in (
                (walls, [cost.wall for cost in reference.costs]),
                (cpus, [cost.cpu for cost in reference.costs]),
            )
        ]
        peak = max(cost.peak for cost in self.costs) / 1024
        return (
            f"| {self.name} | {measure.spread(walls)} | {ratios[0]:.2f} | {measure.spread(cpus)} | {ratios[1]:.2f} "
            f"| {peak:.0f} |"
        )


def _contestants(built: Built, scratch: Path) -> list[_Contestant]:
    plain, gzipped, tree = (scratch / name for name in ("tree.tar", "tree.tgz", "tree"))
    source = f"oci:{built.layout}"
    for archive in (plain, gzipped):
        pack = [sys.executable, "-m", "ocirootfs", "pack", "-q", source, "--layout", "rootfs", "--devices", "drop"]
        measure.run([[*pack, "-o", str(archive)]])
    return [
        _Contestant("tar xf", ["tar", "xf", str(plain), "-C", str(tree)], tree),
        _Contestant("tar xzf", ["tar", "xzf", str(gzipped), "-C", str(tree)], tree),
        _Contestant(
            "ocirootfs unpack",
            [sys.executable, "-m", "ocirootfs", "unpack", "-q", source, str(tree)],
            tree,
            makes_tree=True,
        ),
    ]


def report(built: Built, rounds: int, scratch: Path) -> list[str]:
    """Measure, and return the lines that say what came out."""
    contestants = _contestants(built, scratch)
    for _ in range(rounds):
        for each in contestants:
            each.run()
    count = _count(contestants[0].tree)
    return [
        f"{built.name}: {count:,} paths; {measure.machine()}; load {os.getloadavg()[0]:.1f}; {rounds} rounds",
        "",
        "| | wall s | ratio | CPU s | ratio | peak MiB |",
        "| --- | --- | --- | --- | --- | --- |",
        *(each.line(contestants[0]) for each in contestants),
    ]


def _count(tree: Path) -> int:
    return sum(len(directories) + len(files) for _, directories, files in os.walk(tree))


def main() -> None:
    words = argparse.ArgumentParser(prog="python -m benchmarks.unpack", description="Measure unpack beside tar.")
    words.add_argument("--image", choices=[*images.MAKERS], default="layered")
    words.add_argument("--rounds", type=int, default=5)
    words.add_argument("--scratch", metavar="DIR", help="where to unpack; default: TMPDIR or /tmp")
    chosen = words.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.scratch) as scratch:
        print("\n".join(report(images.build(chosen.image), chosen.rounds, Path(scratch))))


if __name__ == "__main__":
    main()
