"""What fetching layers ahead gains against a registry that limits each connection.

    python -m benchmarks.prefetch [--rate MIB] [--layers N] [--size MIB]

The registry is the tests' own, on 127.0.0.1; the image goes to a temporary file.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from pathlib import Path

import ocirootfs
from ocirootfs.registry import Registry
from ocirootfs.registry.credentials import anonymous
from tests.servers.registry import FakeRegistry


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--rate", type=float, default=4, help="MiB/s a connection")
    words.add_argument("--layers", type=int, default=6)
    words.add_argument("--size", type=int, default=8, help="MiB a layer")
    chosen = words.parse_args()
    with FakeRegistry() as fake, tempfile.TemporaryDirectory() as folder:
        layers = [random.Random(seed).randbytes(chosen.size << 20) for seed in range(chosen.layers)]
        reference = str(fake.add_image(layers=layers))
        fake.rate = int(chosen.rate * (1 << 20))
        print(f"{chosen.layers} layers of {chosen.size} MiB, {chosen.rate} MiB/s a connection")
        for jobs in (1, 2, 3, 6):
            seconds = measured(reference, jobs, Path(folder) / "x.tar")
            print(f"  --jobs {jobs}: {seconds:6.2f} s, {chosen.layers * chosen.size / seconds:6.1f} MiB/s")


def measured(reference: str, jobs: int, target: Path) -> float:
    start = time.monotonic()
    with (
        Registry(credentials=anonymous, jobs=jobs) as client,
        ocirootfs.open(reference, registry=client) as image,
    ):
        ocirootfs.fetch(image, target)
    return time.monotonic() - start


if __name__ == "__main__":
    main()
