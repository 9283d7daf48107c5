"""`ocirootfs ls`."""

from __future__ import annotations

import base64
import json
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from ocirootfs.cli import console, options
from ocirootfs.cli.progress import bar
from ocirootfs.entry import Entry, Kind
from ocirootfs.errors import UsageError
from ocirootfs.listing import content, listing, place

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from ocirootfs.image import Image

_EXAMPLES = """\
Symbolic links are not followed; --extract says where one leads. It downloads
layers from the top down to the one that has the file, and prints that once the
layer has proved to be what its digest says.

examples:
  ocirootfs ls ubuntu:17.04 etc
  ocirootfs ls -l oci:build usr/bin
  ocirootfs ls alpine --extract etc/os-release
  ocirootfs ls alpine:3.20 --json | jq -r 'select(.size > 1e6) | .path'
"""
_LETTERS = {
    Kind.FILE: "-", Kind.HARDLINK: "h", Kind.SYMLINK: "l", Kind.CHAR: "c", Kind.BLOCK: "b", Kind.DIRECTORY: "d",
    Kind.FIFO: "p",
}  # fmt: skip
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def add_to(words: argparse.ArgumentParser) -> None:
    """Add what the verb says of itself, and its options."""
    words.description = "List the files of a flattened image, sorted by path; or print one."
    words.epilog = _EXAMPLES
    options.add_source(words)
    words.add_argument("path", metavar="PATH", nargs="?", default="", help="list what is there and below")
    form = words.add_mutually_exclusive_group()
    form.add_argument("-l", dest="long", action="store_true", help="mode, owner/group, size, time in UTC; links: h, l")
    form.add_argument("--json", action="store_true", help="one object a line")
    form.add_argument("--extract", metavar="PATH", help="print the content of one file, hard links followed")
    options.add_tmpdir(words)
    options.add_registry(words)
    options.add_limits(words)
    options.add_common(words)
    words.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> None:
    """List an image, or print a file of it."""
    options.check_standard_input(chosen, "ocirootfs ls ubuntu:17.04")
    if chosen.extract is not None and chosen.path:
        raise UsageError("PATH is where a listing begins, and --extract lists nothing")
    place(chosen.path if chosen.extract is None else chosen.extract)
    with options.opened(chosen.source, chosen, chosen.image) as image:
        if chosen.extract is None:
            _list(image, chosen)
        else:
            with content(image, chosen.extract, tmpdir=chosen.tmpdir) as pieces:
                _print(pieces)


def _list(image: Image, chosen: argparse.Namespace) -> None:
    with bar([image], image.layers, quiet=chosen.quiet, how=options.progress(chosen)) as progress:
        entries = listing(image, chosen.path, tmpdir=chosen.tmpdir, progress=progress)
    plain = _shown if sys.stdout.isatty() else _name
    line = as_json if chosen.json else as_line if chosen.long else plain
    sys.stdout.buffer.writelines(line(entry) + b"\n" for entry in entries)
    sys.stdout.buffer.flush()


def _print(pieces: Iterable[bytes]) -> None:
    """Write a file's bytes; a terminal gets what it would take for commands escaped."""
    if sys.stdout.isatty():
        text = b"".join(pieces).decode("utf-8", "surrogateescape")
        for line in text.splitlines(keepends=False):
            print("\t".join(console.escaped(part) for part in line.split("\t")))
        return
    for piece in pieces:
        sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()


def _name(entry: Entry) -> bytes:
    """Return the path as tar lists it: a directory with a slash, the root as `./`."""
    return (entry.path or b".") + b"/" if entry.kind is Kind.DIRECTORY else entry.path


def _shown(entry: Entry) -> bytes:
    return _escaped(_name(entry))


def as_line(entry: Entry) -> bytes:
    """Return one line as `tar tv` writes it, with control characters escaped."""
    owner = f"{entry.uid}/{entry.gid}"
    size = ",".join(map(str, entry.device)) if entry.kind in (Kind.CHAR, Kind.BLOCK) else str(entry.size)
    facts = f"{_LETTERS[entry.kind]}{_bits(entry.mode)} {owner:<11} {size:>10} {_moment(entry.mtime)} "
    arrow = {Kind.SYMLINK: b" -> ", Kind.HARDLINK: b" link to "}.get(entry.kind)
    return facts.encode() + _shown(entry) + (arrow + _escaped(entry.link) if arrow else b"")


def as_json(entry: Entry) -> bytes:
    """Return one object; bytes of a name that are no UTF-8 are lone surrogates, as Python's surrogateescape has them.

    `mtime_ns` counts nanoseconds since 1970, extended attributes are in base64.
    """
    facts: dict[str, object] = {
        "path": _text(entry.path),
        "type": entry.kind.name.lower(),
        "mode": f"{entry.mode:04o}",
        "uid": entry.uid,
        "gid": entry.gid,
        "size": entry.size,
        "mtime_ns": entry.mtime,
    }
    if entry.kind in (Kind.SYMLINK, Kind.HARDLINK):
        facts["link"] = _text(entry.link)
    if entry.kind in (Kind.CHAR, Kind.BLOCK):
        facts["device"] = list(entry.device)
    if entry.xattrs:
        facts["xattrs"] = {_text(name): base64.b64encode(value).decode() for name, value in entry.xattrs}
    return json.dumps(facts).encode()


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _escaped(name: bytes) -> bytes:
    return console.escaped(name).encode("utf-8", "backslashreplace")


def _bits(mode: int) -> str:
    """Write permission bits as ls does: `rwsr-x--t`."""
    letters = [letter if mode >> (8 - at) & 1 else "-" for at, letter in enumerate("rwxrwxrwx")]
    for bit, at, letter in ((0o4000, 2, "s"), (0o2000, 5, "s"), (0o1000, 8, "t")):
        if mode & bit:
            letters[at] = letter if letters[at] == "x" else letter.upper()
    return "".join(letters)


def _moment(mtime: int) -> str:
    """Write a time in UTC, or its seconds where no calendar reaches."""
    seconds = mtime // 1_000_000_000
    try:
        return f"{_EPOCH + timedelta(seconds=seconds):%Y-%m-%d %H:%M:%S}"
    except OverflowError:
        return f"{seconds:>19}"
