"""Stacks of layers whose bytes are anybody's, with digests that fit: a canonical tree, or an error."""

from __future__ import annotations

from itertools import islice

from ocirootfs.digest import Digest
from ocirootfs.entry import Kind
from ocirootfs.flattening import flatten
from ocirootfs.image import Layer
from ocirootfs.spool import Spool
from tests.fuzz import seeds
from tests.fuzz.target import outcome
from tests.layers import layer_bytes

_SEPARATOR = b"\xfe" * 8  # which no tar header begins with
SEEDS = sorted(
    {
        _SEPARATOR.join(layer_bytes(layer) for layer in vector["layers"])
        for vector in seeds.VECTORS
        if all(isinstance(layer, list) for layer in vector["layers"])
    },
    key=lambda data: (len(data), data),
)[:250]
_CONTENT = 1 << 16


def _layer(number: int, plain: bytes) -> Layer:
    digest = Digest.of(plain)
    return Layer(number, digest, len(plain), digest, "", lambda: (plain,))


def check(data: bytes) -> None:
    """Flatten it."""
    layers = [_layer(number, plain) for number, plain in enumerate(data.split(_SEPARATOR)[:8], 1)]
    outcome(_flatten, layers)


def _flatten(layers: list[Layer]) -> None:
    kinds: dict[bytes, Kind] = {}
    with Spool() as spool:
        for entry, body in flatten(layers, spool):
            for _ in islice(body, _CONTENT):
                pass
            assert entry.path not in kinds, "a path twice"
            if entry.path or entry.kind is not Kind.DIRECTORY:
                parts = entry.path.split(b"/")
                assert not {b"", b".", b".."} & set(parts), entry.path
                assert not parts[-1].startswith(b".wh.") or entry.kind is Kind.DIRECTORY, entry.path
            if entry.kind is Kind.HARDLINK:
                assert kinds.get(entry.link, Kind.DIRECTORY) is not Kind.DIRECTORY, "a link to nothing"
            kinds[entry.path] = entry.kind
    for path in kinds:
        parent = path.rpartition(b"/")[0]
        if path and kinds.get(parent) is not Kind.DIRECTORY:
            raise AssertionError(f"{path!r} is in no directory")
