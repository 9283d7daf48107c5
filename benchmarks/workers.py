"""What more workers gain, and more images at a time in one: a list of images, from a registry that limits each client.

    python -m benchmarks.workers [--images 16] [--size 8] [--rate 4] [--files 0]

Workers are processes of `ocirootfs mirror`, one image and one connection at a time each, as the tasks of a pipeline
are; each has its part of the list. Beside them, one process that has all of it, with `--jobs`. Registry and bucket are
the tests' own, on 127.0.0.1 and in this process, so that they take their part of the machine, too; `--rate` is MiB/s of
each connection to the registry, 0 for no limit. With `--files` a layer is so many small files instead of a large one,
which is work for the interpreter.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.commands import OCIROOTFS, environment
from tests.layers import OCI_MANIFEST, build
from tests.servers.faulty_s3 import BUCKET, faulty_s3
from tests.servers.registry import FakeRegistry

if TYPE_CHECKING:
    from collections.abc import Sequence

_MIB = 1 << 20


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--images", type=int, default=16)
    words.add_argument("--size", type=int, default=8, help="MiB an image")
    words.add_argument("--rate", type=float, default=4, help="MiB/s a connection, 0: no limit")
    words.add_argument("--files", type=int, default=0, help="small files an image, instead of one large one")
    chosen = words.parse_args()
    with FakeRegistry() as registry, tempfile.TemporaryDirectory() as folder:
        references = _serve(registry, chosen)
        registry.rate = int(chosen.rate * _MIB) or None
        total = chosen.images * chosen.size
        print(
            f"{chosen.images} images of {chosen.size} MiB, {chosen.rate:g} MiB/s a connection, {os.cpu_count()} cores"
        )
        for kind in ("workers", "--jobs"):
            first = None
            for count in (1, 2, 4):
                seconds = _measured(references, count, kind, Path(folder))
                first = first or seconds
                print(
                    f"  {kind:8}{count}: {seconds:6.2f} s {total / seconds:7.1f} MiB/s {first / seconds:5.2f} times",
                    flush=True,
                )


def _serve(registry: FakeRegistry, chosen: argparse.Namespace) -> list[str]:
    found = []
    for number in range(chosen.images):
        image = build([{"wrap": "none", "entries": _entries(number, chosen.size * _MIB, chosen.files)}])
        found.append(str(registry.add(f"w/app{number}", "1", image.manifest, OCI_MANIFEST, image.blobs)))
    return found


def _entries(number: int, size: int, files: int) -> list[dict[str, Any]]:
    random_ = random.Random(number)
    if not files:
        return [{"type": "file", "name": "blob", "data": random_.randbytes(size // 2).hex()}]
    return [
        {"type": "file", "name": f"d{n % 50}/{n}", "data": random_.randbytes(size // files // 2).hex()}
        for n in range(files)
    ]


def _measured(references: Sequence[str], count: int, kind: str, folder: Path) -> float:
    """Run a list from nothing, and return the seconds that it took."""
    parts = [references[start::count] for start in range(count)] if kind == "workers" else [references]
    jobs = 1 if kind == "workers" else count
    lists = [folder / f"{kind}-{count}-{number}.yml" for number in range(len(parts))]
    for path, part in zip(lists, parts, strict=True):
        images = "".join(f"  - {reference}\n" for reference in part)
        path.write_text(f"defaults: {{to: 's3://{BUCKET}/m/{{name}}.tgz'}}\nimages:\n{images}")
    with faulty_s3(discard=True) as store:
        options = ["-q", "--no-creds", "--layer-jobs", "1", "--jobs", str(jobs), "--endpoint-url", store.url]
        secrets = environment(AWS_ACCESS_KEY_ID="x", AWS_SECRET_ACCESS_KEY="x", AWS_EC2_METADATA_DISABLED="true")
        begun = time.monotonic()
        running = [
            subprocess.Popen(
                [*OCIROOTFS, "mirror", str(path), *options], stdout=subprocess.DEVNULL, stderr=sys.stderr, env=secrets
            )
            for path in lists
        ]
        if any([process.wait() for process in running]):  # noqa: C419  # all are waited for
            sys.exit("a worker failed")
        seconds = time.monotonic() - begun
        if len(store.objects) != len(references):
            sys.exit(f"{len(store.objects)} objects of {len(references)}")
        return seconds


if __name__ == "__main__":
    main()
