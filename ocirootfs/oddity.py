"""What is odd about a layer and yet accepted: its reader should hear of it, once for each kind and layer.

Each is a place where container hosts differ, or where something of a layer does not reach the result. A layer may have
a million of them, so they are counted, and the first is named.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, TypeAlias

from ocirootfs.errors import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Note: TypeAlias = "Callable[[Oddity, bytes], None]"
"""Hears of an oddity and the path at which it is."""


class Oddity(Enum):
    """The kinds, and what is said of each; `{}` is the path."""

    SHADOWED = (
        "the symbolic link '{}' becomes a directory: a layer above has files in it and no entry for it; container "
        "hosts that use overlayfs do the same, others follow the link"
    )
    IN_THE_WAY = "'{}' has entries below it and is no directory: it becomes one"
    WHITEOUT_DIRECTORY = "'{}' is a directory with a whiteout's name: it and what is in it are kept"
    WHITEOUT_DEVICE = "the device 0:0 '{}' is taken for a whiteout, as overlayfs does"
    TRUSTED = "'{}' has trusted extended attributes, which are its host's own: they are dropped"


class Oddities:
    """Counts oddities by layer."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, Oddity], tuple[int, bytes]] = {}

    def within(self, layer: str) -> Note:
        """Return what to tell of the oddities of one layer, which is called `layer` in messages."""

        def note(oddity: Oddity, path: bytes) -> None:
            count, first = self._found.get((layer, oddity), (0, path))
            self._found[layer, oddity] = (count + 1, first)

        return note

    def lines(self) -> Iterator[str]:
        """Yield one line for each kind and layer, in the order in which they were met."""
        for (layer, oddity), (count, first) in self._found.items():
            more = f"; {count - 1} more like it" if count > 1 else ""
            yield f"{layer}: {oddity.value.format(printable(first))}{more}"
