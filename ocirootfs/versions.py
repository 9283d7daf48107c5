"""What Concourse's S3 resource takes for a version, and finds in a key.

The rules are those of s3-resource (versions/versions.go) and of the library that it parses with, semi-semantic
(version/version.go).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from ocirootfs.errors import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

_VERSION = re.compile(r"[0-9A-Za-z_.]+(-[0-9A-Za-z_.-]+)?(\+[0-9A-Za-z_.-]+)?", re.ASCII)
_LARGEST = 2**63 - 1
_SUFFIX = re.compile(r"\.tgz|\.tar\.gz|\.tar")
_NAMED_BEFORE = re.compile(r"(?P<name>.*?[-_])(?P<version>v?[0-9].*)")
_SPECIAL = re.compile(r"[\\.+*?()\[\]{}^$|]")


def fault(version: str) -> str | None:
    """Say why Concourse cannot use `version`: one such key in a bucket ends the check of all of them in a panic."""
    shown = printable(version, 80)
    if not _VERSION.fullmatch(version):
        return f"'{shown}' has characters that a version cannot have"
    segments = filter(None, re.split(r"[+-]", version))
    components = [component for segment in segments for component in segment.split(".")]
    if not all(components):
        return f"'{shown}' has an empty component"
    if any(component.isdigit() and int(component) > _LARGEST for component in components):
        return f"'{shown}' has a number over {_LARGEST}"
    return None


class Pattern(NamedTuple):
    """A `regexp:` for the S3 resource, and the version that it finds with it."""

    regexp: str
    version: str


def pattern(key: str, known: Iterable[str | None] = ()) -> Pattern | None:
    """Return how the resource finds the version in `key`; None if there seems to be none in it.

    `known` are texts that are the version if the name ends in one of them; else it begins at the first digit behind a
    dash.
    """
    folder, slash, name = key.rpartition("/")
    suffix = next((found[0] for found in _SUFFIX.finditer(name) if found.end() == len(name)), "")
    stem = name.removesuffix(suffix)
    version = next((text for text in known if text and stem.endswith(text)), None)
    if version is None:
        match = _NAMED_BEFORE.fullmatch(stem)
        version = match["version"] if match else None
    if not version:
        return None
    return Pattern(f"{_literal(folder + slash + stem.removesuffix(version))}(.*){_literal(suffix)}", version)


def _literal(text: str) -> str:
    return _SPECIAL.sub(r"\\\g<0>", text)
