"""Digests and descriptors: how the field names bytes.

Sources: OCI image-spec, descriptor.md ("Digests", "Properties").
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ocirootfs.errors import DigestError, InputError, TruncatedError, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ocirootfs.platform import Platform

# Registered algorithms that hashlib has everywhere, with the length of their hex form (descriptor.md).
_HEX_LENGTH = {"sha256": 64, "sha384": 96, "sha512": 128}
_HEX = re.compile(r"[a-f0-9]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Digest:
    """`algorithm:hex`, checked, so that it may stand in a URL and in a file name."""

    algorithm: str
    hex: str

    @classmethod
    def parse(cls, text: object) -> Digest:
        """Read `sha256:<64 lower-case hex>` (or sha384, sha512); anything else is an InputError."""
        algorithm, colon, encoded = text.partition(":") if isinstance(text, str) else ("", "", "")
        length = _HEX_LENGTH.get(algorithm)
        if colon and length is None and re.fullmatch(r"[a-z0-9]+(?:[+._-][a-z0-9]+)*", algorithm):
            raise InputError(f"digest algorithm '{printable(algorithm, 40)}' is not supported")
        if length is None or len(encoded) != length or not _HEX.fullmatch(encoded):
            raise InputError(f"'{printable(str(text), 80)}' is not a digest")
        return cls(algorithm, encoded)

    @classmethod
    def of(cls, data: bytes | memoryview, algorithm: str = "sha256") -> Digest:
        """Hash `data`."""
        return cls(algorithm, hashlib.new(algorithm, data).hexdigest())

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What a manifest or an index says of one blob: its type, its digest and its size in bytes."""

    media_type: str
    digest: Digest
    size: int
    platform: Platform | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)
    artifact_type: str | None = None
    urls: tuple[str, ...] = ()
    data: bytes | None = None


def verified(chunks: Iterable[bytes], digest: Digest, size: int | None, what: str) -> Iterator[bytes]:
    """Pass `chunks` through and prove, once they end, that they are `size` bytes that hash to `digest`.

    The bytes are not to be trusted before the iterator ends. Raises TruncatedError when they are fewer, InputError
    as soon as they are more, DigestError when they are others. `size` None leaves the length unchecked.
    """
    hasher: Any = hashlib.new(digest.algorithm)
    count = 0
    for chunk in chunks:
        count += len(chunk)
        if size is not None and count > size:
            raise InputError(f"{what}: more than the {size} bytes announced")
        hasher.update(chunk)
        yield chunk
    if size is not None and count < size:
        raise TruncatedError(f"{what}: ended after {count} of {size} bytes")
    actual = Digest(digest.algorithm, hasher.hexdigest())
    if actual != digest:
        raise DigestError(what, expected=digest, actual=actual)
