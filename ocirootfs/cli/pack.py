"""`ocirootfs pack`."""

from __future__ import annotations

import argparse
import os
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import ocirootfs
from ocirootfs.cli import console, options
from ocirootfs.cli.progress import bar
from ocirootfs.errors import OcirootfsError, UsageError
from ocirootfs.exclude import excluder
from ocirootfs.packing import compression_for, default_name
from ocirootfs.source import Source

if TYPE_CHECKING:
    from ocirootfs.api import Target
    from ocirootfs.image import Image
    from ocirootfs.packing import Compression, Packed

_EXAMPLES = """\
SOURCE is - (standard input, the default), a reference such as ubuntu:17.04, oci:DIR[:NAME],
oci-archive:FILE[:NAME], docker-archive:FILE[:NAME], or the path of one of those.

examples:
  ocirootfs fetch ubuntu:17.04 | ocirootfs pack
  ocirootfs pack ubuntu:17.04 -o s3://images/ubuntu/ubuntu-17.04.tgz
  ocirootfs pack alpine --layout rootfs -o - | mkfs.ext4 -d - alpine.ext4 256M
"""


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb and its options."""
    words = verbs.add_parser(
        "pack",
        help="flatten an image into an archive, in a file or a bucket",
        description="Flatten an image into one archive: the whole of it, or nothing there.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    words.add_argument("source", metavar="SOURCE", nargs="?", default="-", help="see below")
    words.add_argument(
        "-o", "--output", metavar="DEST", help="FILE, DIR/, s3://BUCKET/KEY, s3://BUCKET/PREFIX/ or -; ./NAME-TAG.tgz"
    )
    words.add_argument(
        "--layout",
        choices=("concourse", "rootfs"),
        default="concourse",
        help="concourse: metadata.json and rootfs/ (default); rootfs: the files alone, at the top",
    )
    words.add_argument("--compress", choices=("gzip", "none"), help="default: as DEST's suffix says, else gzip")
    words.add_argument(
        "--exclude", metavar="GLOB", action="append", default=[], help="leave paths out; from the image's root (repeat)"
    )
    words.add_argument("--devices", choices=("drop", "keep"), help="device nodes; default: drop for concourse")
    words.add_argument("--threads", type=int, metavar="N", help="that compress; default: as many as cores")
    words.add_argument("--tmpdir", metavar="DIR", help="for temporary files, if needed; default: TMPDIR or /tmp")
    options.add_registry(words)
    options.add_s3(words)
    options.add_common(words)
    words.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> None:
    """Pack one image."""
    source = Source.parse(chosen.source)
    _check_streams(source, chosen)
    layout = ocirootfs.Layout(chosen.layout, tuple(chosen.exclude), chosen.devices)
    # Mistakes are told before anything is downloaded.
    excluder(layout.exclude)
    place = _Place.of(chosen, layout)
    with options.opened(chosen.source, chosen, chosen.tmpdir) as image:
        packed = _pack(image, place.output(image, source), layout, chosen, place.compress)
    _report(packed)
    if chosen.output != "-":
        print(packed.stored.location)


def _check_streams(source: Source, chosen: argparse.Namespace) -> None:
    """Refuse what would hang, or mix an archive with text."""
    if source.transport == "stdin":
        if sys.stdin.isatty():
            raise UsageError("no SOURCE, and standard input is a terminal", hint="ocirootfs pack ubuntu:17.04")
        if chosen.password_stdin:
            raise UsageError("--password-stdin and an image on standard input exclude each other")
    if chosen.output is None and _redirected_to_archive():
        raise UsageError(
            "standard output goes to an archive, which would hold that archive's name and nothing else",
            hint="add -o - to write the archive to standard output, or name it with -o",
        )
    if chosen.output == "-" and sys.stdout.isatty():
        raise UsageError("refusing to write an archive to a terminal", hint="name it with -o FILE")
    if chosen.threads is not None and not 1 <= chosen.threads <= 256:
        raise UsageError(f"--threads {chosen.threads}: use 1 to 256")


def _redirected_to_archive() -> bool:
    """Tell whether standard output is a file that is meant to be the archive, as in `pack > x.tgz`; a log is not."""
    if not stat.S_ISREG(os.fstat(1).st_mode):
        return False
    try:
        name = Path("/proc/self/fd/1").readlink().name  # proc(5); nothing like it is portable
    except OSError:
        return False
    return name.endswith((".tgz", ".gz", ".tar"))


@dataclass(frozen=True, slots=True)
class _Place:
    """Where -o says the archive goes: a name, or a place where it gets its default one."""

    text: str
    is_inside: bool
    compress: Compression

    @classmethod
    def of(cls, chosen: argparse.Namespace, layout: ocirootfs.Layout) -> _Place:
        text = chosen.output or "./"
        if text.startswith("s3://"):
            from ocirootfs.s3.url import S3Url  # noqa: PLC0415  # only who has a bucket needs it

            is_inside = S3Url.parse(text).is_prefix
        else:
            is_inside = text.endswith("/") or (text != "-" and os.path.isdir(text))  # noqa: PTH112  # a string
        return cls(text, is_inside, compression_for("" if is_inside else text, layout, asked=chosen.compress))

    def output(self, image: Image, source: Source) -> str:
        """Return the name of the archive of `image`."""
        if not self.is_inside:
            return self.text
        stem = os.path.basename(os.path.normpath(source.path)).partition(".")[0] if source.path else ""  # noqa: PTH119
        name = default_name(image, self.compress, fallback=stem or "image")
        return os.path.join(self.text, name).removeprefix("./")  # noqa: PTH118


def _pack(
    image: Image, output: str, layout: ocirootfs.Layout, chosen: argparse.Namespace, compress: Compression
) -> Packed:
    """Pack, and say with an error that nothing is there."""
    target: Target = sys.stdout.buffer if output == "-" else output
    try:
        with bar(image, quiet=chosen.quiet) as progress:
            return ocirootfs.pack(
                image,
                target,
                layout=layout,
                compress=compress,
                threads=chosen.threads,
                tmpdir=chosen.tmpdir,
                s3_options=options.s3_options(chosen, compress) if output.startswith("s3://") else None,
                progress=progress,
            )
    except OcirootfsError as error:
        if output != "-" and output not in str(error):
            error.args = (f"{error}; nothing was written to {output}",)
        raise


def _report(packed: Packed) -> None:
    """Say what an image had that its archive has not: the reader of the archive will not."""
    report = packed.report
    losses = [
        (report.capabilities, "files lose their capabilities, which no reader of this layout restores"),
        (report.high_ids, "files belong to an id over 65534, which some workers cannot map"),
    ]
    for paths, what in losses:
        if paths:
            shown = paths[0].decode("utf-8", "surrogateescape")
            console.warn(f"{len(paths)} {what}: '{shown}'" + (", …" if len(paths) > 1 else ""))
    if report.devices:
        console.info(f"{len(report.devices)} device nodes were left out")
