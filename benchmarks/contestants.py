"""Who gets from the layers to an archive: ourselves, what recompresses without looking, and what people do instead."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from hashlib import file_digest, sha256
from typing import TYPE_CHECKING

from benchmarks import images, measure

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.images import Built
    from benchmarks.measure import Cost

SCRATCH = images.CACHE / "output"
OURS, FAST, GZIP, PIGZ = "ocirootfs pack", "ocirootfs pack --fast", "gzip -dc \\| gzip -6", "pigz -dc \\| pigz -6"


@dataclass
class Contestant:
    """One way, and what it has cost so far.

    `commands` are a pipeline that writes `output`, or to standard output if it does not `writes_itself`. `flattens` is
    for those that make the image's tree; the others take the layers as bytes, and so do less.
    """

    name: str
    commands: list[list[str]]
    output: Path
    writes_itself: bool = False
    flattens: bool = True
    costs: list[Cost] = field(default_factory=list)
    sizes: set[int] = field(default_factory=set)
    digests: set[str] = field(default_factory=set)

    def run(self) -> None:
        """Run it once more, from nothing."""
        shutil.rmtree(SCRATCH / "bundle", ignore_errors=True)
        self.output.unlink(missing_ok=True)
        self.costs.append(measure.run(self.commands, None if self.writes_itself else self.output))
        self.sizes.add(self.output.stat().st_size)
        with self.output.open("rb") as file:
            self.digests.add(file_digest(file, "sha256").hexdigest())

    def walls(self) -> list[float]:
        """Return the seconds of each round."""
        return [cost.wall for cost in self.costs]


def contestants(built: Built) -> tuple[list[Contestant], list[str]]:
    """Return who runs, ourselves first, and which programs are absent (or cannot work here)."""
    found = [_ours(built, OURS), _ours(built, FAST, "--fast")]
    absent = []
    for contestant, programs in _others(built):
        missing = [program for program in programs if not shutil.which(program)]
        if contestant.flattens and os.geteuid() != 0:
            missing.append(f"root for {programs[0]}")
        absent += missing
        if not missing:
            found.append(contestant)
    return found, sorted(set(absent))


def _ours(built: Built, name: str, *options: str) -> Contestant:
    output = SCRATCH / f"ours{len(options)}.tgz"
    command = [sys.executable, "-m", "ocirootfs", "pack", "-q", *options, f"oci:{built.layout}", "-o", str(output)]
    return Contestant(name, [command], output, writes_itself=True)


def _others(built: Built) -> list[tuple[Contestant, list[str]]]:
    blobs = [str(blob) for blob in built.blobs]
    cores = measure.cores()
    bundle, layout = SCRATCH / "bundle", f"{built.layout.resolve()}:{built.tag}"
    unpack = f"umoci unpack --image {layout} {bundle} >/dev/null && "
    return [
        (_bytes(GZIP, [["gzip", "-dc", *blobs], ["gzip", "-6"]]), ["gzip"]),
        (_bytes(PIGZ, [["pigz", "-dc", *blobs], ["pigz", f"-p{cores}", "-6"]]), ["pigz"]),
        (_bytes("igzip -dc \\| igzip -1", [["igzip", "-dc", *blobs], ["igzip", "-1"]]), ["igzip"]),
        (_shell("umoci unpack, tar, gzip -6", unpack + f"tar -C {bundle}/rootfs -cf - . | gzip -6"), ["umoci", "tar"]),
        (
            _shell("umoci unpack, bsdtar, pigz -6", unpack + f"bsdtar -C {bundle}/rootfs -cf - . | pigz -p{cores} -6"),
            ["umoci", "bsdtar", "pigz"],
        ),
        (
            _shell(
                "skopeo copy, crane export, gzip -6",
                f"skopeo copy -q oci:{layout} docker-archive:{bundle}.tar:a/b:1 && "
                f"crane export - - <{bundle}.tar | gzip -6 && rm {bundle}.tar",
            ),
            ["skopeo", "crane"],
        ),
        (
            _shell(
                "buildah mount, tar, gzip -6",
                'export STORAGE_DRIVER=overlay; b() { buildah --root $0/s --runroot $0/r "$@"; }; '
                f"c=$(b from -q oci:{layout}) && tar -C $(b mount $c) -cf - . | gzip -6; b rm -a >&2; b rmi -a >&2",
            ),
            ["buildah", "tar"],
        ),
    ]


def _bytes(name: str, commands: list[list[str]]) -> Contestant:
    return Contestant(name, commands, _output(name), flattens=False)


def _shell(name: str, script: str) -> Contestant:
    return Contestant(name, [["sh", "-ec", script, str(SCRATCH / "bundle")]], _output(name))


def _output(name: str) -> Path:
    return SCRATCH / (sha256(name.encode()).hexdigest()[:8] + ".gz")


def gzipped_size(archive: Path) -> int:
    """Return what `gzip -6` makes of the same tar: the archive lacks what the image hides, so layers tell little."""
    again = SCRATCH / "again.gz"
    measure.run([["gzip", "-dc", str(archive)], ["gzip", "-6"]], again)
    return again.stat().st_size


def tar_digest(archive: Path) -> str:
    """Return the digest of the tar that a `.tgz` holds."""
    with subprocess.Popen(["gzip", "-dc", str(archive)], stdout=subprocess.PIPE) as process:
        if process.stdout is None:
            raise RuntimeError
        return file_digest(process.stdout, "sha256").hexdigest()  # type: ignore[arg-type]  # a pipe reads into, too
