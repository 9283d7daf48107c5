"""Warning headers: what a registry wants people to know, such as that a repository will go.

Source: distribution-spec, "Warnings": `Warning: 299 - "text"`, to be shown and never acted upon; whatever has another
code or another agent is no registry's.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ocirootfs.errors import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_LIMIT = 4096  # bytes of one header, by the specification
_WARNING = re.compile(r'299[ \t]+-[ \t]+"((?:[^"\\]|\\.)*)"', re.DOTALL)


def warnings(lines: Iterable[str]) -> Iterator[str]:
    """Yield the texts of Warning headers, fit for a log."""
    for line in lines:
        match = _WARNING.fullmatch(line[:_LIMIT].strip())
        text = re.sub(r"\\(.)", r"\1", match[1], flags=re.DOTALL).strip() if match else ""
        if text:
            yield printable(text, 400)
