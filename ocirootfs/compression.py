"""Decompressing what layers and archives are wrapped in, told apart by their first bytes.

The media type of a layer lies often enough that every container host sniffs instead (containers/storage, containerd and
moby alike); so does this. Output comes in pieces of bounded size however well the input compresses: an honest layer
of zeros reaches gzip's 1029:1, so a ratio tells nothing, but no single step may blow up.

A stream may hold several gzip members (`gunzip`) or zstd frames in a row, as parallel compressors write them, and
zstd's skippable frames. What follows the last gzip member is ignored, since the digests of layer and content decide in
the end. A stream that stops inside a member or frame is a TruncatedError.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from ocirootfs.errors import InputError, TruncatedError
from ocirootfs.gunzip import MAGIC, gunzip
from ocirootfs.limits import USUAL, raising

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

PIECE = 1 << 20
"""The most bytes that one piece of output holds, but for zstd (see there)."""

_ZSTD = b"\x28\xb5\x2f\xfd"
_ZSTD_SKIPPABLE = (bytes([low, 0x2A, 0x4D, 0x18]) for low in range(0x50, 0x60))
_XZ = b"\xfd7zXZ\0"
_BZIP2 = (b"BZh%d%b" % (level, start) for level in range(1, 10) for start in (b"1A", b"\x17r"))  # a block's, the end's
_MAGIC_LENGTH = 6

# A four-byte block of a zstd frame may stand for 128 KiB (RFC 8878, 3.1.1.2), and the library hands out all that an
# input holds at once; two KiB of input bound that to 64 MiB for a bomb, at the price of a fifth of the speed.
_ZSTD_INPUT = 1 << 11
_ZSTD_HEAD = 18  # bytes of the longest frame header


def decompressed(chunks: Iterable[bytes], what: str, window: int = USUAL.window) -> Iterator[bytes]:
    """Yield the plain bytes of a stream that may be gzip, zstd, xz, bzip2 or none of them.

    `what` names the stream in errors; `window` is the memory in bytes that it may ask for (`Limits.window`). Raises
    InputError for a corrupt stream and one that asks for more, TruncatedError for a cut one.
    """
    source = iter(chunks)
    head = b""
    for chunk in source:
        head += chunk
        if len(head) >= _MAGIC_LENGTH:
            break
    codec = _codec(head)
    return codec(_joined(head, source), what, window) if codec else _joined(head, source)


def is_compressed(head: bytes) -> bool:
    """Tell whether a stream that begins with `head`, six bytes or more, is one that `decompressed` would change."""
    return _codec(head) is not None


def _codec(head: bytes) -> Codec | None:
    return next((codec for magic, codec in _CODECS if head.startswith(magic)), None)


def _joined(head: bytes, rest: Iterable[bytes]) -> Iterator[bytes]:
    if head:
        yield head
    yield from rest


def _gunzip(chunks: Iterable[bytes], what: str, _window: int) -> Iterator[bytes]:
    return gunzip(chunks, what, PIECE)


def _unzstd(chunks: Iterable[bytes], what: str, window: int) -> Iterator[bytes]:
    import zstandard  # noqa: PLC0415  # layers with zstd are rare, and loading it is a tenth of a small pack

    context = zstandard.ZstdDecompressor(max_window_size=window)
    frame = context.decompressobj()
    head, made = b"", 0  # of the frame at hand
    waiting: list[bytes] = []
    size = 0
    for part in _sliced(chunks, _ZSTD_INPUT):
        data = part
        while data:
            # The first byte alone: of a frame that comes at once libzstd checks other things than of one in pieces.
            taken = data if head else data[:1]
            head = (head + taken[:_ZSTD_HEAD])[:_ZSTD_HEAD]
            try:
                piece = frame.decompress(taken)
            except zstandard.ZstdError as error:
                text = f"{what}: the zstd stream is corrupt or asks for too much memory ({error})"
                raise InputError(text, hint=_hint(error)) from None
            waiting.append(piece)
            size += len(piece)
            made += len(piece)
            data = data[len(taken) :]
            if frame.eof:
                if zstandard.frame_content_size(head) not in (-1, made):
                    raise InputError(f"{what}: the zstd stream is corrupt (a frame is not as long as it says)")
                data, frame, head, made = frame.unused_data, context.decompressobj(), b"", 0
        if size >= PIECE // 4:
            yield b"".join(waiting)
            waiting, size = [], 0
    if size:
        yield b"".join(waiting)
    if head:
        raise TruncatedError(f"{what}: the zstd stream is cut short")


def _hint(error: Exception) -> str | None:
    """Return what to do about a library's refusal: something, if it says that memory is the matter."""
    return raising("window") if "memory" in str(error).lower() else None


def _sliced(chunks: Iterable[bytes], size: int) -> Iterator[bytes]:
    for chunk in chunks:
        for at in range(0, len(chunk), size):
            yield chunk[at : at + size]


def _standard(
    chunks: Iterable[bytes], what: str, make: Callable[[], Any], name: str, corrupt: type[Exception] = OSError
) -> Iterator[bytes]:
    """Decompress with one of the standard library's decompressors, stream after stream; `corrupt` is what it raises."""
    stream = make()
    begun = False
    for chunk in chunks:
        data = chunk if begun else chunk.lstrip(b"\0")  # between streams: padding
        while data or (begun and not stream.needs_input):
            begun = True
            try:
                piece = stream.decompress(data, PIECE)
            except corrupt as error:
                raise InputError(f"{what}: the {name} stream is corrupt ({error})", hint=_hint(error)) from None
            if piece:
                yield piece
            data = b""
            if stream.eof:
                data, stream, begun = stream.unused_data.lstrip(b"\0"), make(), False
    if begun:
        raise TruncatedError(f"{what}: the {name} stream is cut short")


def _unxz(chunks: Iterable[bytes], what: str, window: int) -> Iterator[bytes]:
    import lzma  # noqa: PLC0415  # layers with xz are rare

    return _standard(chunks, what, lambda: lzma.LZMADecompressor(memlimit=window), "xz", lzma.LZMAError)


def _unbzip2(chunks: Iterable[bytes], what: str, _window: int) -> Iterator[bytes]:
    import bz2  # noqa: PLC0415  # and these no less

    return _standard(chunks, what, bz2.BZ2Decompressor, "bzip2")


Codec: TypeAlias = "Callable[[Iterable[bytes], str, int], Iterator[bytes]]"
_CODECS: tuple[tuple[bytes, Codec], ...] = (
    (MAGIC, _gunzip),
    (_ZSTD, _unzstd),
    *((magic, _unzstd) for magic in _ZSTD_SKIPPABLE),
    (_XZ, _unxz),
    *((magic, _unbzip2) for magic in _BZIP2),
)
