"""Decompressing: every codec, in every arrangement, and what is broken in every place."""

from __future__ import annotations

import binascii
import bz2
import gzip
import io
import itertools
import lzma
import random
import tarfile
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from ocirootfs.compression import PIECE, decompressed, is_compressed
from ocirootfs.errors import InputError, TruncatedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True).compress(data)


def gzip_named(data: bytes) -> bytes:
    """Compress as `gzip FILE` does, with a name and a time."""
    out = io.BytesIO()
    with gzip.GzipFile("name", "wb", fileobj=out, mtime=1) as file:
        file.write(data)
    return out.getvalue()


CODECS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "gzip with a name": gzip_named,
    "zstd": zstd,
    "zstd without checksum": zstandard.compress,
    "xz": lambda data: lzma.compress(data, preset=0),
    "bzip2": lambda data: bz2.compress(data, 1),
}
MAGIC_LENGTH = {"gzip": 2, "gzip with a name": 2, "zstd": 4, "zstd without checksum": 4, "xz": 6, "bzip2": 6}
SKIPPABLE = b"\x50\x2a\x4d\x18" + (7).to_bytes(4, "little") + b"skipped"
# Enough to compress a little, not much: 3000 bytes become some 1500.
TEXT = bytes(random.Random(7).choices(b"abcdefghij \n", k=3000))
EVERY_CODEC = pytest.mark.parametrize("codec", CODECS)


def plain(data: bytes, sizes: Iterable[int] = (1 << 20,)) -> bytes:
    return b"".join(decompressed(chunked(data, sizes), "the stream"))


def chunked(data: bytes, sizes: Iterable[int]) -> Iterator[bytes]:
    at = 0
    for size in itertools.cycle(sizes):
        yield data[at : at + size]
        at += size
        if at >= len(data):
            return


SIZES = st.lists(st.integers(0, 700), min_size=1, max_size=5).filter(any)
DATA = st.binary(max_size=300) | st.builds(lambda data, n: data * n, st.binary(max_size=20), st.integers(0, 400))


@EVERY_CODEC
@given(parts=st.lists(DATA, min_size=1, max_size=4), sizes=SIZES)
@settings(deadline=None, max_examples=40)
def test_streams_in_a_row_in_any_chunks(codec: str, parts: list[bytes], sizes: list[int]) -> None:
    assert plain(b"".join(map(CODECS[codec], parts)), sizes) == b"".join(parts)


@given(DATA, SIZES)
@settings(deadline=None, max_examples=40)
def test_what_is_not_compressed_passes_through(data: bytes, sizes: list[int]) -> None:
    if not is_compressed(data[:6]):
        assert plain(data, sizes) == data


@EVERY_CODEC
def test_chunks_of_one_byte(codec: str) -> None:
    assert plain(CODECS[codec](TEXT), [1]) == TEXT


@EVERY_CODEC
def test_more_than_one_piece(codec: str) -> None:
    data = random.Random(1).randbytes(PIECE) + bytes(2 * PIECE) + b"end"
    assert plain(CODECS[codec](data), [1 << 16]) == data


def test_nothing() -> None:
    assert list(decompressed([], "x")) == []
    assert list(decompressed([b"", b""], "x")) == []


@given(st.lists(st.sampled_from([SKIPPABLE, zstd(b"one"), zstandard.compress(b"two")]), min_size=1, max_size=5), SIZES)
@settings(deadline=None, max_examples=40)
def test_skippable_frames_anywhere(frames: list[bytes], sizes: list[int]) -> None:
    words = {zstd(b"one"): b"one", zstandard.compress(b"two"): b"two"}
    assert plain(b"".join(frames), sizes) == b"".join(words.get(frame, b"") for frame in frames)


@pytest.mark.parametrize("low", range(0x50, 0x60))
def test_every_skippable_magic(low: int) -> None:
    frame = bytes([low]) + SKIPPABLE[1:]
    assert is_compressed(frame)
    assert plain(frame + zstd(TEXT) + frame) == TEXT


@pytest.mark.parametrize("cut", range(4, len(SKIPPABLE)))
def test_a_skippable_frame_that_is_cut(cut: int) -> None:
    with pytest.raises(TruncatedError, match="the stream: the zstd stream is cut short"):
        plain(SKIPPABLE[:cut])
    with pytest.raises(TruncatedError):
        plain(zstd(TEXT) + SKIPPABLE[:cut])


@pytest.mark.parametrize("codec", ["gzip", "xz", "bzip2"])
@pytest.mark.parametrize("zeros", [4, 512, 3000])
@given(sizes=SIZES)
@settings(deadline=None, max_examples=15)
def test_zeros_after_a_stream_are_padding(codec: str, zeros: int, sizes: list[int]) -> None:
    stream = CODECS[codec](TEXT)
    assert plain(stream + bytes(zeros), sizes) == TEXT
    assert plain((stream + bytes(zeros)) * 2, sizes) == TEXT * 2


@given(garbage=st.binary(min_size=1, max_size=50).filter(lambda data: data.lstrip(b"\0")[:1] != b"\x1f"), sizes=SIZES)
@settings(deadline=None, max_examples=40)
def test_garbage_after_gzip_is_ignored_and_read(garbage: bytes, sizes: list[int]) -> None:
    chunks = chunked(CODECS["gzip"](TEXT) + garbage, sizes)
    assert b"".join(decompressed(chunks, "x")) == TEXT
    assert list(chunks) == [], "whoever hashes the chunks must see them all"


def test_garbage_after_gzip_that_begins_like_a_member() -> None:
    assert plain(CODECS["gzip"](TEXT) + b"\x1fgarbage") == TEXT


@pytest.mark.parametrize("cut", range(1, 4))
def test_garbage_after_gzip_that_begins_like_half_a_member(cut: int) -> None:
    """Its first byte is that of a member: whether it comes alone makes no difference."""
    packed = gzip.compress(b"x", mtime=0)
    data = packed + b"\x1fno member"
    assert b"".join(decompressed([data[: len(packed) + cut], data[len(packed) + cut :]], "it")) == b"x"
    with pytest.raises(TruncatedError):
        b"".join(decompressed([packed, b"\0", b"\x1f"], "it"))


@pytest.mark.parametrize("codec", ["zstd", "xz", "bzip2"])
def test_garbage_after_the_others_is_refused(codec: str) -> None:
    with pytest.raises(InputError, match=r"corrupt|cut short"):
        plain(CODECS[codec](TEXT) + b"garbage")


@EVERY_CODEC
def test_a_cut_at_every_byte(codec: str) -> None:
    stream = CODECS[codec](TEXT)
    for cut in range(MAGIC_LENGTH[codec], len(stream)):
        with pytest.raises(TruncatedError, match=r"^the stream: the [a-z0-9]+ stream is cut short"):
            plain(stream[:cut])


@EVERY_CODEC
def test_a_cut_in_the_second_stream(codec: str) -> None:
    first, second = CODECS[codec](TEXT), CODECS[codec](TEXT[:100])
    for cut in range(1, len(second)):
        with pytest.raises(TruncatedError):
            plain(first + second[:cut])


@pytest.mark.parametrize("codec", ["gzip", "gzip with a name", "zstd", "xz", "bzip2"])
@given(data=st.data())
@settings(deadline=None, max_examples=60)
def test_a_flipped_bit_is_found_or_harmless(codec: str, data: st.DataObject) -> None:
    stream = bytearray(CODECS[codec](TEXT))
    at = data.draw(st.integers(MAGIC_LENGTH[codec], len(stream) - 1))
    stream[at] ^= 1 << data.draw(st.integers(0, 7))
    try:
        got = plain(bytes(stream), [500])
    except InputError:
        return
    assert got == TEXT


@pytest.mark.parametrize("place", [-1, -4, -5, -8])
def test_gzip_checks_sum_and_length(place: int) -> None:
    stream = bytearray(CODECS["gzip"](TEXT))
    stream[place] ^= 1
    with pytest.raises(InputError, match=r"^the stream: the gzip stream is corrupt \(.*checksum.*\)$"):
        plain(bytes(stream))


def test_zstd_checks_its_sum() -> None:
    stream = bytearray(zstd(TEXT))
    stream[-1] ^= 1
    with pytest.raises(InputError, match="the zstd stream is corrupt"):
        plain(bytes(stream))


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_zstd_checks_the_size_that_a_frame_says(size: int) -> None:
    """An empty frame that says 29,272 bytes; libzstd notices only if it is given all of it at once."""
    stream = b"\x28\xb5\x2f\xfd\x60\x58\x71\x04\0\0\1\0\0"
    with pytest.raises(InputError, match="the zstd stream is corrupt"):
        b"".join(decompressed((stream[at : at + size] for at in range(0, len(stream), size)), "the stream"))


def zstd_frame(window: int) -> bytes:
    """Return a frame by hand (RFC 8878): no flags, a window descriptor, one raw block `abc`."""
    return b"\x28\xb5\x2f\xfd\x00" + bytes([window]) + (1 | 3 << 3).to_bytes(3, "little") + b"abc"


@pytest.mark.parametrize(("exponent", "mantissa", "ok"), [(0, 0, True), (17, 0, True), (17, 1, False), (31, 7, False)])
def test_the_window_of_zstd_is_bounded(exponent: int, mantissa: int, ok: bool) -> None:
    """2 ** 27 bytes are what `zstd --long` asks for; more must be allowed on the command line there, too."""
    frame = zstd_frame(exponent << 3 | mantissa)
    if ok:
        assert plain(frame) == b"abc"
        return
    with pytest.raises(InputError, match="asks for too much memory"):
        plain(frame)


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_a_block_of_zstd_without_bytes(size: int) -> None:
    """A compressed block of none: libzstd takes that for an end, or for corrupt if the frame comes at once."""
    assert plain(b"\x28\xb5\x2f\xfd\x80\x0d\0\0\0\0\5\0\0" + zstd(b"more"), [size]) == b"more"


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_the_window_of_zstd_counts_however_a_frame_is_cut(size: int) -> None:
    """An empty frame that asks for 176 MiB; libzstd needs none, and does not look, if it is given all of it at once."""
    stream = b"\x28\xb5\x2f\xfd\x80\x8b\0\0\0\0\1\0\0"
    with pytest.raises(InputError, match="asks for too much memory"):
        plain(stream, [size])


def test_the_dictionary_of_xz_is_bounded() -> None:
    """A block header that asks for 2 GiB, its checksum right (xz file format, 3.1 and 5.3.1)."""
    stream = bytearray(lzma.compress(TEXT))
    length = (stream[12] + 1) * 4
    block = stream[12 : 12 + length - 4]
    assert block[2:4] == b"\x21\x01"
    block[4] = 38
    stream[12 : 12 + length] = block + binascii.crc32(block).to_bytes(4, "little")
    with pytest.raises(InputError, match=r"the xz stream is corrupt .*[Mm]emory"):
        plain(bytes(stream))


@pytest.mark.parametrize("codec", ["gzip", "xz", "bzip2"])
def test_bombs_come_in_bounded_pieces(codec: str) -> None:
    bomb = CODECS[codec](bytes(24 * PIECE))
    pieces = [len(piece) for piece in decompressed([bomb], "x")]
    assert sum(pieces) == 24 * PIECE
    assert max(pieces) <= PIECE


def test_bombs_of_zstd_come_in_bounded_pieces() -> None:
    """Four bytes of zstd may stand for 128 KiB."""
    bomb = zstandard.compress(bytes(256 << 20))
    assert len(bomb) < 16 << 10
    pieces = [len(piece) for piece in decompressed([bomb], "x")]
    assert sum(pieces) == 256 << 20
    assert max(pieces) <= (64 << 20) + PIECE


def test_a_stream_in_a_stream_stays_packed() -> None:
    inner = CODECS["gzip"](TEXT)
    assert plain(zstd(inner)) == inner


@EVERY_CODEC
def test_output_comes_while_input_does(codec: str) -> None:
    """A pipe is not read to its end before the first piece."""
    noise = random.Random(3).randbytes(2 << 20)
    stream = CODECS[codec](noise)
    taken = 0

    def chunks() -> Iterator[bytes]:
        nonlocal taken
        for at in range(0, len(stream), 1 << 14):
            taken = at
            yield stream[at : at + (1 << 14)]

    assert noise.startswith(next(decompressed(chunks(), "x")))
    assert taken < len(stream) // 2


MAGICS = st.sampled_from(
    [b"", b"\x1f\x8b", b"\x1f\x8b\x08\0", b"\x28\xb5\x2f\xfd", SKIPPABLE[:4], b"\xfd7zXZ\0", b"BZh91A", b"BZh9", b"BZh"]
)


@given(MAGICS, st.binary(max_size=200), SIZES)
@settings(deadline=None, max_examples=150)
def test_anything_is_output_or_an_input_error(magic: bytes, rest: bytes, sizes: list[int]) -> None:
    data = magic + rest
    if not is_compressed(data[:6]):
        assert plain(data, sizes) == data
        return
    with suppress(InputError):
        plain(data, sizes)


def tar_of(name: str) -> bytes:
    return tarfile.TarInfo(name).tobuf(tarfile.PAX_FORMAT) + bytes(1024)


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        *((compress(b"x")[:6], True) for compress in CODECS.values()),
        *((compress(b"")[:6], True) for compress in CODECS.values()),
        (gzip.compress(TEXT), True),
        (bz2.compress(TEXT), True),
        (b"", False),
        (b"\x1f", False),
        (b"\0" * 512, False),
        (b"{}", False),
        (b"PK\3\4\0\0", False),
        (b"\x28\xb5\x2f", False),
        (b"\x4f\x2a\x4d\x18\0\0", False),
        (b"\x60\x2a\x4d\x18\0\0", False),
        (b"BZh", False),
        (b"BZh01A", False),
        (b"BZhong", False),
        (b"BZh9.t", False),
        (tar_of("f"), False),
        (tar_of("BZh9"), False),
    ],
)
def test_is_compressed(head: bytes, expected: bool) -> None:
    assert is_compressed(head) is expected


@pytest.mark.parametrize("name", ["BZh", "BZh9", "BZhistory/README", "(", "\ufffd7zXZ"])
def test_a_tar_whose_first_name_looks_like_magic(name: str) -> None:
    assert plain(tar_of(name)) == tar_of(name)
