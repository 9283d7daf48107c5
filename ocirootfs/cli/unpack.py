"""`ocirootfs unpack`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ocirootfs
from ocirootfs.cli import console, options
from ocirootfs.cli.progress import bar
from ocirootfs.errors import OcirootfsError, printable
from ocirootfs.exclude import excluder

if TYPE_CHECKING:
    import argparse

    from ocirootfs.image import Image
    from ocirootfs.unpacking import Unpacked

_OWNERS = {"auto": None, "yes": True, "no": False}
_EXAMPLES = """\
examples:
  ocirootfs fetch ubuntu:17.04 | ocirootfs unpack ubuntu
  ocirootfs unpack alpine:3.20 alpine --keep-empty
  sudo ocirootfs unpack oci:build rootfs --devices keep --xattrs
"""


def add_to(words: argparse.ArgumentParser) -> None:
    """Add what the verb says of itself, and its options."""
    words.description = "Flatten an image into a new directory: the whole of it, or nothing there."
    words.epilog = _EXAMPLES
    options.add_source(words)
    words.add_argument("directory", metavar="DIR", help="is made; may be there only if it is empty")
    words.add_argument(
        "--layout",
        choices=("rootfs", "concourse"),
        default="rootfs",
        help="rootfs: the files alone (default); concourse: metadata.json and rootfs/",
    )
    words.add_argument(
        "--exclude", metavar="GLOB", action="append", default=[], help="leave paths out; from the image's root (repeat)"
    )
    words.add_argument(
        "--chown",
        choices=tuple(_OWNERS),
        default="auto",
        help="give files to their owners; default: as root, and to you otherwise",
    )
    words.add_argument("--devices", choices=("drop", "keep"), default="drop", help="keep device nodes, as root")
    words.add_argument("--xattrs", action="store_true", help="write user.* attributes and file capabilities")
    words.add_argument("--keep-empty", action="store_true", help="put a .keep into empty directories, for git")
    options.add_max_expanded(words)
    options.add_tmpdir(words)
    options.add_registry(words)
    options.add_limits(words)
    options.add_common(words)
    words.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> None:
    """Unpack one image."""
    options.check_standard_input(chosen, "ocirootfs unpack ubuntu:17.04 DIR")
    excluder(chosen.exclude)  # mistakes are told before anything is downloaded
    with options.opened(chosen.source, chosen, chosen.image) as image:
        unpacked = _unpack(image, chosen)
    try:
        _report(unpacked, chosen)
        print(unpacked.location)
    except console.Interrupted as stop:
        stop.left = f"{printable(unpacked.location)} is there"
        raise


def _unpack(image: Image, chosen: argparse.Namespace) -> Unpacked:
    """Unpack, and say with an error that nothing is there."""
    try:
        with bar([image], image.layers, quiet=chosen.quiet, how=options.progress(chosen)) as progress:
            return ocirootfs.unpack(
                image,
                chosen.directory,
                layout=chosen.layout,
                exclude=chosen.exclude,
                devices=chosen.devices,
                owners=_OWNERS[chosen.chown],
                xattrs=chosen.xattrs,
                keep_empty=chosen.keep_empty,
                tmpdir=chosen.tmpdir,
                max_expanded=chosen.max_expanded,
                progress=progress,
            )
    except OcirootfsError as error:
        if f"'{chosen.directory}'" not in str(error):
            error.args = (f"{error}; nothing was written to {chosen.directory}",)
        raise


def _report(unpacked: Unpacked, chosen: argparse.Namespace) -> None:
    """Say what an image had that the directory has not."""
    if not unpacked.attributes.owners and chosen.chown == "auto":
        console.warn("all files are yours, whoever they belong to in the image; 'ocirootfs pack' keeps owners")
    losses = [
        (unpacked.report.devices, "device nodes are left out; --devices keep makes them, as root"),
        (unpacked.losses.set_ids, "files are without their setuid and setgid bits, as they are not their owners'"),
        (unpacked.losses.capabilities, "files are without their capabilities; --xattrs writes those, as root"),
        (unpacked.losses.xattrs, "files are without some of their extended attributes, which were refused"),
    ]
    for paths, what in losses:
        if paths:
            shown = paths[0].decode("utf-8", "surrogateescape")
            console.warn(f"{len(paths)} {what}: '{shown}'" + (", …" if len(paths) > 1 else ""))
