"""Whether cost grows in proportion: twice the bytes, and twice the entries, beside what they are twice of.

    python -m benchmarks.growth [--rounds 3] [--full]

Images of one plain layer, made for the occasion: a few large files, and many small ones. `--full` goes on to 10 GiB and
to a million entries, which takes as much disk.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import statistics
import sys
from typing import TYPE_CHECKING

from benchmarks import images, measure
from ocirootfs.entry import Entry, Kind
from ocirootfs.tar.writer import END, file_padding, gnu_header

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_GIB = 1 << 30
_LARGE = 256 << 20
_SMALL = 2000


def entries(size: int, count: int) -> Iterator[tuple[Entry, bytes]]:
    """Yield `count` small files if that is not 0, else large ones, `size` bytes in all, and pieces of their content."""
    draws = random.Random(1)
    blocks = [draws.randbytes(1 << 15).hex().encode() * 16 for _ in range(8)]  # 1 MiB each, half of it after gzip
    if count:
        for number in range(count):
            start = draws.randrange(1 << 19)
            name = f"usr/lib/package-{number // 40}/file-{number:07}.js".encode()
            yield Entry(name, Kind.FILE, 0o644, 0, 0, number, _SMALL), blocks[number % 8][start : start + _SMALL]
        return
    for number in range(size // _LARGE):
        yield Entry(f"data/{number:04}".encode(), Kind.FILE, 0o644, 0, 0, number, _LARGE), blocks[number % 8]


def build(directory: Path, size: int, count: int) -> None:
    """Write an OCI layout."""
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    hasher, total = hashlib.sha256(), 0
    with (blobs / "layer").open("wb") as file:

        def write(data: bytes) -> None:
            nonlocal total
            hasher.update(data)
            total += len(data)
            file.write(data)

        for entry, content in entries(size, count):
            write(gnu_header(entry))
            for _ in range(entry.size // len(content)):
                write(content)
            write(file_padding(entry.size))
        write(END)
    layer = hasher.hexdigest()
    (blobs / "layer").rename(blobs / layer)
    oci = "application/vnd.oci.image"
    config = _blob(
        blobs, {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer}"]}}
    )
    descriptor = {"mediaType": f"{oci}.layer.v1.tar", "digest": f"sha256:{layer}", "size": total}
    manifest = {"schemaVersion": 2, "mediaType": f"{oci}.manifest.v1+json", "layers": [descriptor]}
    found = _blob(blobs, manifest | {"config": {"mediaType": f"{oci}.config.v1+json", **config}})
    index = {"schemaVersion": 2, "manifests": [{"mediaType": f"{oci}.manifest.v1+json", **found}]}
    (directory / "index.json").write_text(json.dumps(index))
    (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


def _blob(blobs: Path, document: object) -> dict[str, object]:
    data = json.dumps(document).encode()
    digest = hashlib.sha256(data).hexdigest()
    (blobs / digest).write_bytes(data)
    return {"digest": f"sha256:{digest}", "size": len(data)}


def measured(size: int, count: int, rounds: int) -> list[measure.Cost]:
    """Pack an image so often, and forget it."""
    directory = images.CACHE / "growth"
    shutil.rmtree(directory, ignore_errors=True)
    build(directory, size, count)
    output = images.CACHE / "growth.tgz"
    command = [sys.executable, "-m", "ocirootfs", "pack", "-q", f"oci:{directory}", "-o", str(output)]
    costs = [measure.run([command]) for _ in range(rounds)]
    shutil.rmtree(directory)
    output.unlink()
    return costs


def main() -> None:
    words = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__.partition("\n")[0])
    words.add_argument("--rounds", type=int, default=3)
    words.add_argument("--full", action="store_true", help="up to 10 GiB, and up to a million entries")
    chosen = words.parse_args()
    print(f"{chosen.rounds} rounds; {measure.machine()}, load {os.getloadavg()[0]:.2f} before.\n")
    print("| | wall s | CPU s | peak MB | wall, a GiB or 100,000 entries |\n|---|---|---|---|---|")
    for size in [1, 2, *([10] if chosen.full else [])]:
        _row(f"{size} GiB in files of 256 MiB", measured(size * _GIB, 0, chosen.rounds), size)
    for count in [125_000, 250_000, *([1_000_000] if chosen.full else [])]:
        _row(f"{count:,} files of {_SMALL:,} bytes", measured(0, count, chosen.rounds), count / 100_000)


def _row(name: str, costs: list[measure.Cost], units: float) -> None:
    walls = [cost.wall for cost in costs]
    peak = max(cost.peak for cost in costs) / 1024
    cpu = measure.spread([cost.cpu for cost in costs])
    print(
        f"| {name} | {measure.spread(walls)} | {cpu} | {peak:.0f} | {statistics.median(walls) / units:.2f} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
