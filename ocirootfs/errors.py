"""What can go wrong, cut by whose fault it is.

    OcirootfsError          1   a failure with no better name: please report it
    ├── UsageError          2   the caller: a bad reference, option or configuration
    ├── NotFoundError       3   no such image, tag, platform or file
    ├── AuthError           4   the registry or the bucket does not let us in
    ├── TemporaryError      5   the network, a rate limit, a server in trouble: worth another try
    ├── InputError          6   the image: truncated, altered, malformed, unsafe, or no image at all
    │   ├── TruncatedError      it ended before it was whole
    │   ├── DigestError         its bytes are not the ones that were promised
    │   └── LayerError          a layer that no container host would accept, either
    ├── DestinationError    7   the destination refuses the archive
    └── LocalError          8   this machine: disk full, permission, no such directory

The number is the exit status of the command line. Every error is one sentence without a full stop, starting with
what failed; `hint` is a second sentence that says what to do. Neither ever holds a credential or a signed URL.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from ocirootfs.digest import Digest


class OcirootfsError(Exception):
    """The base of all errors that this package raises on purpose.

    `exit_code` is the command line's exit status; `hint` says what to do, if that is known.

    >>> try:
    ...     with ocirootfs.open("Ubuntu"):
    ...         pass
    ... except ocirootfs.OcirootfsError as error:
    ...     print(type(error).__name__, error.exit_code, error.hint)
    UsageError 2 did you mean 'ubuntu'?
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(OcirootfsError):
    """The caller asked for something that makes no sense."""

    exit_code = 2


class NotFoundError(OcirootfsError):
    """The image, tag, platform, blob or file does not exist."""

    exit_code = 3


class AuthError(OcirootfsError):
    """The registry or the bucket refuses us."""

    exit_code = 4


class TemporaryError(OcirootfsError):
    """It may work later: the network, a rate limit, a server error after the retries."""

    exit_code = 5


class InputError(OcirootfsError):
    """The image is broken, unsafe, or not an image."""

    exit_code = 6


class TruncatedError(InputError):
    """The input ended before it was whole."""


class DigestError(InputError):
    """The bytes of `what` do not hash to the digest that was promised."""

    def __init__(self, what: str, *, expected: Digest, actual: Digest) -> None:
        super().__init__(f"{what}: got {actual}, expected {expected}")
        self.what = what
        self.expected = expected
        self.actual = actual


class ArtifactError(InputError):
    """What was found is whole, and no container image."""


class LayerError(InputError):
    """A layer's tar stream is malformed or unsafe.

    `offset` counts bytes of the decompressed layer up to the header in question; `path` is the entry's name
    as the layer spells it. The position in the image is added by whoever knows it.
    """

    def __init__(
        self, message: str, *, offset: int | None = None, path: bytes | None = None, hint: str | None = None
    ) -> None:
        where = [f"at byte {offset}"] if offset is not None else []
        if path is not None:
            where.append(f"entry '{printable(path)}'")
        super().__init__(f"{', '.join(where)}: {message}" if where else message, hint=hint)
        self.message = message
        self.offset = offset
        self.path = path


class DestinationError(OcirootfsError):
    """The destination refuses what we would write."""

    exit_code = 7


class LocalError(OcirootfsError):
    """This machine cannot do it: disk full, permission denied, no such directory."""

    exit_code = 8


# Bidirectional controls reorder what a terminal shows (CVE-2021-42574).
_BIDI = frozenset(range(0x202A, 0x202F)) | frozenset(range(0x2066, 0x206A))


def printable(text: str | bytes, limit: int = 200) -> str:
    """Return untrusted `text` fit for a terminal and a log.

    Names, labels and registries' messages are the image author's words: control characters (C0, C1, DEL,
    bidirectional) and undecodable bytes come out as backslash escapes, and at most `limit` characters do.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", "surrogateescape")
    shown = "".join(_escape(character) for character in text[: limit + 1])
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def is_text(text: str) -> bool:
    """Tell whether `text` can be written as UTF-8: it holds no half of a surrogate pair, and no undecodable byte."""
    return not any(0xD800 <= ord(character) <= 0xDFFF for character in text)


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that surrogateescape carried
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x20 or 0x7F <= code <= 0x9F:
        return f"\\x{code:02x}"
    if code in _BIDI or 0xD800 <= code <= 0xDFFF or code in (0x2028, 0x2029):
        return f"\\u{code:04x}"
    return character
