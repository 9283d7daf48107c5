"""Where the first thread's time goes, an entry: reading headers, flattening, writing the archive's tar.

    python -m benchmarks.stages [--image many] [--rounds 5]

The layers are in memory, inflated, and nothing is deflated, so this is the Python code alone, after the digests. CPU
seconds of one thread, the least of the rounds; each line has what the one before it has, and more.
"""

from __future__ import annotations

import argparse
import gc
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import ocirootfs
from benchmarks import images, pack
from ocirootfs.bundle import Layout, Report, bundle
from ocirootfs.flattening import flatten
from ocirootfs.spool import Spool
from ocirootfs.tar import reader

if TYPE_CHECKING:
    from collections.abc import Callable

    from ocirootfs.image import Image, Layer


def in_memory(layer: Layer) -> Layer:
    """Return the layer as if it were stored inflated, in memory."""
    plain = list(layer.open())
    return replace(layer, digest=None, size=0, source=lambda: plain)


def cost(stage: Callable[[], int], rounds: int) -> tuple[float, int]:
    """Return the CPU seconds of a stage, the least of some rounds, and how many entries it saw."""
    least, count = float("inf"), 0
    for _ in range(rounds):
        gc.collect()
        begun = time.thread_time()
        count = stage()
        least = min(least, time.thread_time() - begun)
    return least, count


def stages(image: Image) -> dict[str, Callable[[], int]]:
    """Return the stages, each a run over the whole image that returns how many entries there were."""

    def inflated() -> int:
        for layer in image.layers:
            for _ in layer.open():
                pass
        return 0

    def read() -> int:
        return sum(1 for layer in image.layers for _ in reader.read(layer.open()))

    def flattened() -> int:
        with Spool() as spool:
            return sum(1 for _ in flatten(image.layers, spool, careful=()))

    def bundled() -> int:
        report = Report()
        with Spool() as spool:
            for _ in bundle(image, Layout(), spool, report, ()):
                pass
        return report.entries

    return {"passing and hashing": inflated, "reading headers": read, "flattening": flattened, "writing tar": bundled}


def main() -> None:
    words = argparse.ArgumentParser(prog="python -m benchmarks.stages", description=__doc__.partition("\n")[0])
    words.add_argument("--image", choices=sorted([*images.MAKERS, "debian"]), default="many")
    words.add_argument("--rounds", type=int, default=5)
    chosen = words.parse_args()
    built = pack.build(chosen.image)
    entries = sum(layer.entries for layer in built.layers)
    with ocirootfs.open(f"oci:{built.layout}") as found:
        image = replace(found, layers=tuple(map(in_memory, found.layers)))
    before = 0.0
    print("| | CPU s | more, µs an entry |\n|---|---|---|")
    for name, stage in stages(image).items():
        seconds, _ = cost(stage, chosen.rounds)
        print(f"| {name} | {seconds:.3f} | {(seconds - before) / entries * 1e6:.1f} |")
        before = seconds


if __name__ == "__main__":
    main()
