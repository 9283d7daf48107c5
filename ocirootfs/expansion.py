"""How much an image may expand to.

A few kilobytes decompress to terabytes, and a ratio cannot tell such a layer from an honest one: a layer of zeros
reaches gzip's 1029:1. So the limit is absolute, and counts twice: what the layers decompress to, whether it is visible
or not, and what the archive comes to before it is compressed, or the files of a directory, for sparse entries grow
only there.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ocirootfs.errors import InputError
from ocirootfs.image import Layer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ocirootfs.entry import Piece
    from ocirootfs.flattening import Visible
    from ocirootfs.image import Image

EXPANDED = 256 << 30
"""Bytes that an image may expand to unless somebody says otherwise: several times the largest that people build."""


def bounded(image: Image, most: int) -> Image:
    """Return the image with layers that raise InputError once all that they decompress to is more than `most` bytes.

    What is read again counts once.
    """
    budget = _Budget(most)
    return replace(image, layers=tuple(_bounded(layer, budget) for layer in image.layers))


def bounded_archive(pieces: Iterable[Piece], most: int) -> Iterator[Piece]:
    """Pass the pieces of an archive through; InputError once they are more than `most` bytes."""
    count = 0
    for piece in pieces:
        count += len(piece)
        if count > most:
            raise _too_much("the archive", most)
        yield piece


def bounded_tree(visible: Visible, most: int) -> Visible:
    """Pass visible entries through; InputError before the one with which their files come to more than `most` bytes.

    Sparse files count as long as they are: layers are short of those.
    """
    count = 0
    for member in visible:
        count += member[0].size
        if count > most:
            raise _too_much("the tree", most)
        yield member


class _Budget:
    """What is left for the layers of one image, by how far each has been read."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._left = most
        self._read: dict[int, int] = {}

    def take(self, layer: Layer, position: int) -> None:
        """Count that a layer has been read up to `position`."""
        fresh = position - self._read.get(layer.number, 0)
        if fresh > 0:
            self._read[layer.number] = position
            self._left -= fresh
            if self._left < 0:
                raise _too_much(layer.name, self.most)


@dataclass(frozen=True)
class _BoundedLayer(Layer):
    budget: _Budget = field(kw_only=True)

    def open(self) -> Iterator[bytes]:
        position = 0
        for chunk in super().open():
            position += len(chunk)
            self.budget.take(self, position)
            yield chunk


def _bounded(layer: Layer, budget: _Budget) -> Layer:
    return _BoundedLayer(
        layer.number,
        layer.diff_id,
        layer.size,
        layer.digest,
        layer.media_type,
        layer.source,
        layer.window,
        budget=budget,
    )


def _too_much(what: str, most: int) -> InputError:
    return InputError(
        f"{what}: the image expands to more than {most} bytes", hint="if that is right: --max-expanded SIZE"
    )
