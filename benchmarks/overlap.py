"""The pipe beside one process, and how far download, flattening, compression and upload overlap.

    python -m benchmarks.overlap [--image layers] [--rounds 5]

The registry and the store are the tests' own, on 127.0.0.1 and in this process, so they take their part of the cores.
For the second table they limit each of three connections, for the third the one that there is (`--jobs 1`,
`--s3-jobs 1`), as a link does that all have to share. Either way download and upload alone take about as long as
packing alone, and the whole is measured beside the slowest stage.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from typing import TYPE_CHECKING

from benchmarks import images, measure, pack, upload
from tests.servers.registry import FakeRegistry

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from benchmarks.images import Built
    from ocirootfs.reference import Reference

_OCIROOTFS = [sys.executable, "-m", "ocirootfs"]
_PIPE = "the pipe / one process"
_WHOLE = "the whole / the slowest stage"
_SCRATCH = images.CACHE / "overlap.tgz"


def serve(registry: FakeRegistry, built: Built) -> Reference:
    """Let the registry serve an image from its layout."""
    from ocirootfs import open as opened  # noqa: PLC0415  # after the environment is set

    with opened(f"oci:{built.layout}") as image:
        if image.manifest is None:
            raise ValueError(built.name)
        blobs = {str(layer.digest): _blob(built, str(layer.digest)) for layer in image.layers}
        config = str(image.manifest.config.digest)
        blobs[config] = _blob(built, config)
        return registry.add(built.name, "1", image.manifest.raw, image.manifest.media_type, blobs)


def _blob(built: Built, digest: str) -> bytes:
    return (built.layout / "blobs" / "sha256" / digest.partition(":")[2]).read_bytes()


def measured(ways: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Run each way once a round, in turn; returns seconds."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", file=sys.stderr)
        for name, way in ways.items():
            found[name].append(way())
    return found


def pipe(reference: str, rounds: int) -> None:
    """Compare `fetch | pack` with `pack REFERENCE`, into a file."""
    to = ["-o", str(_SCRATCH)]
    found = measured(
        {
            "pack REFERENCE": lambda: _wall([*_OCIROOTFS, "pack", "-q", reference, *to]),
            "fetch | pack": lambda: _wall([*_OCIROOTFS, "fetch", "-q", reference], [*_OCIROOTFS, "pack", "-q", *to]),
        },
        rounds,
    )
    _print(found, _PIPE, found["fetch | pack"], found["pack REFERENCE"])


def stages(registry: FakeRegistry, reference: str, built: Built, rounds: int, jobs: int) -> None:
    """Compare the whole, from a slow registry into a slow store over so many connections, with its stages alone."""
    layout = f"oci:{built.layout}"
    source = ["-q", reference, "--jobs", str(jobs)]
    target = ["-o", "s3://bucket/a.tgz", "--if-exists", "replace", "--s3-jobs", str(jobs)]
    packing = statistics.median(_wall([*_OCIROOTFS, "pack", "-q", layout, "-o", str(_SCRATCH)]) for _ in range(3))
    size = _SCRATCH.stat().st_size
    largest = max(layer.size for layer in built.layers)
    registry.rate = int(max(largest, sum(layer.size for layer in built.layers) / jobs) / packing)
    with upload.sink(size / jobs / packing) as url:
        os.environ["AWS_ENDPOINT_URL_S3"] = url
        found = measured(
            {
                "download (fetch)": lambda: _wall([*_OCIROOTFS, "fetch", *source]),
                "packing (a layout into a file)": lambda: _wall(
                    [*_OCIROOTFS, "pack", "-q", layout, "-o", str(_SCRATCH)]
                ),
                "upload": lambda: _wall(["cat", str(_SCRATCH)], [sys.executable, "-c", upload.OURS, str(jobs)]),
                "the whole": lambda: _wall([*_OCIROOTFS, "pack", *source, *target]),
            },
            rounds,
        )
    whole = found["the whole"]
    slowest = [max(walls) for walls in zip(*(found[name] for name in found if name != "the whole"), strict=True)]
    print(f"{jobs} connection{'s' if jobs > 1 else ''}, each limited:\n")
    _print(found, _WHOLE, whole, slowest)


def _wall(*commands: list[str]) -> float:
    return measure.run(commands).wall


def _print(found: Mapping[str, list[float]], what: str, these: list[float], those: list[float]) -> None:
    print("| | wall s: median (min-max) |\n|---|---|")
    for name, walls in found.items():
        print(f"| {name} | {measure.spread(walls)} |")
    print(f"\n{what}: {pack.ratio(these, those):.2f}\n", flush=True)


def main() -> None:
    words = argparse.ArgumentParser(prog="python -m benchmarks.overlap", description=__doc__.partition("\n")[0])
    words.add_argument("--image", choices=sorted([*images.MAKERS, "debian"]), default="layers")
    words.add_argument("--rounds", type=int, default=5)
    chosen = words.parse_args()
    built = pack.build(chosen.image)
    os.environ.update(AWS_ACCESS_KEY_ID="x", AWS_SECRET_ACCESS_KEY="x", AWS_DEFAULT_REGION="us-east-1")
    with FakeRegistry() as registry:
        reference = str(serve(registry, built))
        print(f"{chosen.image}: {chosen.rounds} rounds; {measure.machine()}, load {os.getloadavg()[0]:.2f} before.\n")
        pipe(reference, chosen.rounds)
        for jobs in (3, 1):
            stages(registry, reference, built, chosen.rounds, jobs)
    _SCRATCH.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
