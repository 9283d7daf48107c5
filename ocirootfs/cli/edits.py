"""Options that change what an archive says of its image."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from ocirootfs.cli.options import text
from ocirootfs.edits import Edits, command
from ocirootfs.errors import LocalError, UsageError, printable

if TYPE_CHECKING:
    import argparse

_LATEST = 2**63 // 10**9  # seconds that are nanoseconds in 64 bits


def add_to(words: argparse.ArgumentParser) -> None:
    """Add the options."""
    group = words.add_argument_group(
        "metadata (what metadata.json and labels.json say, instead of what the image does)"
    )
    group.add_argument("--env", type=text, metavar="K=V", action="append", default=[], help="set a variable (repeat)")
    group.add_argument(
        "--unset-env", type=text, metavar="K", action="append", default=[], help="leave a variable out (repeat)"
    )
    group.add_argument("--user", type=text, metavar="USER[:GROUP]", help="who runs in it")
    group.add_argument("--entrypoint", metavar="JSON", help="""such as '["/bin/sh", "-c"]'; null: none""")
    group.add_argument("--cmd", metavar="JSON", help="the same for the command")
    group.add_argument("--label", type=text, metavar="K=V", action="append", default=[], help="set a label (repeat)")
    group.add_argument(
        "--metadata", metavar="FILE", help="a metadata.json: what is in it replaces the image's, before the others"
    )
    group.add_argument(
        "--source-date-epoch",
        metavar="N",
        help="no file is younger than this, in seconds since 1970 (SOURCE_DATE_EPOCH)",
    )


def edits_of(chosen: argparse.Namespace) -> Edits:
    """Return the changes that the options describe; UsageError for those that make no sense."""
    base = Edits() if chosen.metadata is None else Edits.of_metadata(_content(chosen.metadata), chosen.metadata)
    found = replace(base, env=tuple(chosen.env), unset_env=tuple(chosen.unset_env), labels=_labels(chosen.label))
    if chosen.user is not None:
        found = replace(found, user=chosen.user)
    if chosen.entrypoint is not None:
        found = replace(found, entrypoint=command(chosen.entrypoint, "--entrypoint"))
    if chosen.cmd is not None:
        found = replace(found, cmd=command(chosen.cmd, "--cmd"))
    if found and chosen.layout != "concourse":
        raise UsageError(f"--layout {chosen.layout} has no metadata.json that could be changed")
    return found


def latest_of(chosen: argparse.Namespace) -> int | None:
    """Return the latest time that a file may have, in seconds since 1970; None if nobody set one."""
    text = chosen.source_date_epoch
    name = "--source-date-epoch"
    if text is None:
        text, name = os.environ.get("SOURCE_DATE_EPOCH") or None, "SOURCE_DATE_EPOCH"
    if text is None:
        return None
    digits = text.lstrip("0") or text[:1]
    if not (digits.isascii() and digits.isdecimal() and len(digits) < 20 and int(digits) < _LATEST):
        raise UsageError(f"{name} '{printable(text, 40)}' is not a number of seconds since 1970")
    return int(digits)


def _content(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise LocalError(f"cannot read '{printable(path)}': {error.strerror}") from error


def _labels(texts: list[str]) -> tuple[tuple[str, str], ...]:
    pairs = [text.partition("=") for text in texts]
    for name, equals, _ in pairs:
        if not name or not equals:
            raise UsageError(f"--label '{printable(name, 60)}' is not of the form K=V")
    return tuple((name, value) for name, _, value in pairs)
