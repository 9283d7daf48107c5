"""`ocirootfs fetch`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import ocirootfs
from ocirootfs.api import require_path
from ocirootfs.archive.writer import blobs
from ocirootfs.cli import options
from ocirootfs.cli.progress import bar
from ocirootfs.errors import UsageError

if TYPE_CHECKING:
    import argparse

    from ocirootfs.api import Target

_EXAMPLES = """\
examples:
  ocirootfs fetch ubuntu:17.04 | ocirootfs pack
  ocirootfs fetch --platform linux/arm64 alpine | docker load
  ocirootfs fetch ubuntu:17.04 alpine -o bundle.tar   # for pack --image alpine
"""


def add_to(words: argparse.ArgumentParser) -> None:
    """Add what the verb says of itself, and its options."""
    words.description = "Download images as one archive for ocirootfs pack, docker load, podman, skopeo."
    words.epilog = _EXAMPLES
    words.add_argument("images", metavar="IMAGE", nargs="+", help="a reference, such as ubuntu:17.04; or oci:DIR, …")
    words.add_argument(
        "-o", "--output", metavar="DEST", default="-", help="FILE, DIR/ or s3://BUCKET/KEY; default: -, standard output"
    )
    words.add_argument(
        "--all-platforms", action="store_true", help="the whole index: images for all platforms, attestations"
    )
    options.add_tmpdir(words)
    options.add_registry(words)
    options.add_limits(words)
    options.add_common(words)
    words.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> None:
    """Fetch images."""
    _check(chosen)
    target: Target = sys.stdout.buffer if chosen.output == "-" else chosen.output
    how = options.progress(chosen)
    # Behind a pipe stands a reader with a bar of its own.
    quiet = chosen.quiet or (how in ("auto", "bar") and chosen.output == "-" and not sys.stdout.seekable())
    wanted = list(dict.fromkeys(chosen.images))
    with options.several(wanted, chosen, all_platforms=chosen.all_platforms) as images:
        for text, image in zip(wanted, images, strict=True):
            if image.manifest is None:
                raise UsageError(f"'{text}' has no manifest, so it cannot be written as one")
        with bar(images, blobs(images), quiet=quiet, how=how) as progress:
            stored = ocirootfs.fetch(images, target, tmpdir=chosen.tmpdir, progress=progress)
    if stored.location != chosen.output:  # a directory was named, and the file has its default name
        print(stored.location)


def _check(chosen: argparse.Namespace) -> None:
    """Refuse what makes no sense before anything is downloaded."""
    require_path(chosen.output)
    if chosen.output == "-" and sys.stdout.isatty():
        raise UsageError(
            "refusing to write an image archive to a terminal",
            hint=f"ocirootfs fetch {chosen.images[0]} | ocirootfs pack, or -o FILE",
        )
    if "-" in chosen.images:
        raise UsageError("fetch downloads an image; standard input has one already")
    if chosen.all_platforms and chosen.platform:
        raise UsageError("--platform and --all-platforms exclude each other")
