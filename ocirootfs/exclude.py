"""Leaving paths out: glob patterns anchored at the image's root.

An unanchored `--exclude 'dev/*'` of GNU tar also empties `usr/lib/dev`, a mistake that several image recipes share
(concourse/docker-image-resource#142). Here a pattern is matched against the whole path.
"""

from __future__ import annotations

import re
from fnmatch import translate
from typing import TYPE_CHECKING, TypeAlias

from ocirootfs.errors import UsageError, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

# One component's glob; None for `**`.
_Part: TypeAlias = re.Pattern[str] | None
_NO_PART = re.compile("(?!)")


def excluder(patterns: Iterable[str]) -> Callable[[bytes], bool] | None:
    """Return a test of canonical paths for being excluded; None if there is nothing to exclude.

    `*`, `?` and `[…]` stay within one component, `**` spans any number of them: `dev/*` empties `dev` and keeps it,
    `usr/share/doc` drops it with all inside (what is inside is the caller's to know), `**/__pycache__` is everywhere.
    """
    patterns = list(patterns)
    globs = [_parts(pattern) for pattern in patterns]
    if not globs:
        return None
    # Most patterns begin with a plain name, and most paths with another one.
    heads = tuple(_literal(pattern) for pattern in patterns)

    def excluded(path: bytes) -> bool:
        if not path or not path.startswith(heads):
            return False
        names = path.decode("utf-8", "surrogateescape").split("/")
        return any(_matches(glob, names) for glob in globs)

    return excluded


def _literal(pattern: str) -> bytes:
    """Return the first component of a pattern if it is a plain name, else what every path begins with: nothing."""
    head = next(name for name in pattern.split("/") if name not in ("", "."))
    return b"" if set(head) & set("*?[") else head.encode("utf-8", "surrogateescape")


def _parts(pattern: str) -> list[_Part]:
    names = [name for name in pattern.split("/") if name not in ("", ".")]
    if not names or ".." in names:
        raise UsageError(f"the pattern '{printable(pattern)}' names no path inside the image")
    if names[-1] == "**":
        names.append("*")  # what is below, not the directory itself
    return [None if name == "**" else _component(name) for name in names]


def _component(glob: str) -> re.Pattern[str]:
    try:
        return re.compile(translate(glob))
    except re.error as error:
        raise UsageError(f"the pattern '{printable(glob)}' makes no sense: {error}") from None


def _matches(glob: Sequence[_Part], names: Sequence[str]) -> bool:
    """Match component by component, going back to the last `**` when stuck."""
    at = name = 0
    back: tuple[int, int] | None = None
    while name < len(names):
        part = glob[at] if at < len(glob) else _NO_PART
        if part is None:
            back = at, name
            at += 1
        elif part.match(names[name]):
            at += 1
            name += 1
        elif back:
            at, name = back[0] + 1, back[1] + 1
            back = back[0], name
        else:
            return False
    return at == len(glob)
