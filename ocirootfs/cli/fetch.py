"""`ocirootfs fetch`."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

import ocirootfs
from ocirootfs.cli import options
from ocirootfs.cli.progress import bar
from ocirootfs.errors import UsageError

if TYPE_CHECKING:
    from ocirootfs.api import Target

_EXAMPLES = """\
examples:
  ocirootfs fetch ubuntu:17.04 | ocirootfs pack
  ocirootfs fetch --platform linux/arm64 alpine -o alpine.tar && docker load -i alpine.tar
"""


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb and its options."""
    words = verbs.add_parser(
        "fetch",
        help="download an image as one archive",
        description="Download an image as one archive, which ocirootfs pack, docker load, podman load and skopeo read.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    words.add_argument("image", metavar="IMAGE", help="a reference, such as ubuntu:17.04; or oci:DIR, …")
    words.add_argument("-o", "--output", metavar="FILE", default="-", help="default: -, standard output")
    options.add_registry(words)
    options.add_common(words)
    words.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> None:
    """Fetch one image."""
    if chosen.output == "-" and sys.stdout.isatty():
        raise UsageError(
            "refusing to write an image archive to a terminal",
            hint=f"ocirootfs fetch {chosen.image} | ocirootfs pack, or -o FILE",
        )
    if chosen.image == "-":
        raise UsageError("fetch downloads an image; standard input has one already")
    target: Target = sys.stdout.buffer if chosen.output == "-" else chosen.output
    # Behind a pipe stands a reader with a bar of its own.
    quiet = chosen.quiet or (chosen.output == "-" and not sys.stdout.seekable())
    with options.opened(chosen.image, chosen) as image:
        if image.manifest is None:
            raise UsageError(f"'{chosen.image}' has no manifest, so it cannot be written as one")
        with bar(image, quiet=quiet) as progress:
            ocirootfs.fetch(image, target, progress=progress)
