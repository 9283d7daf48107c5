"""The gzip writer: the same bytes however many threads, and what every gunzip accepts."""

from __future__ import annotations

import functools
import gzip
import hashlib
import itertools
import random
import subprocess
import threading
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from zlib_ng import zlib_ng

from ocirootfs.gzip import BLOCK, DEFAULT_LEVEL, LEVELS, GzipWriter, threads_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ocirootfs.entry import Piece

BYTES = {"2.3.3": "e583bffb3ad10c2fe60c2f077e8316837c6abd4c4d413869db847093a1773913"}
"""By the version of zlib-ng, the SHA-256 of all SIZES at the default level, one after the other."""

SIZES = [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 3 * BLOCK + 4321]


@functools.cache
def content(size: int) -> bytes:
    """Return data of so many bytes that compresses about as well as programs do."""
    dice = random.Random(size)
    words = [dice.randbytes(dice.randrange(2, 30)) for _ in range(2000)]
    made = b"".join(dice.choices(words, k=size // 8 + 1))
    return made[:size]


def pieces(data: bytes, cuts: Iterable[int]) -> list[Piece]:
    """Cut `data` at some places, into bytes and memoryviews by turns."""
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    made = [data[start:end] for start, end in itertools.pairwise(edges)]
    return [memoryview(piece) if place % 2 else piece for place, piece in enumerate(made)]


def compressed(data: Iterable[Piece], *, threads: int = 1, **options: int) -> bytes:
    out: list[bytes] = []
    with GzipWriter(out.append, threads=threads, **options) as writer:
        for piece in data:
            writer.write(piece)
        writer.close()
    return b"".join(out)


@functools.cache
def alone(size: int) -> bytes:
    return compressed([content(size)])


def no_threads_left() -> bool:
    return not [thread for thread in threading.enumerate() if thread.name.startswith("deflate")]


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("size", SIZES)
def test_the_number_of_threads_does_not_matter(threads: int, size: int) -> None:
    assert compressed([content(size)], threads=threads) == alone(size)
    assert gzip.decompress(alone(size)) == content(size)
    assert no_threads_left()


@given(st.sampled_from([1, 2, 3, 8]), st.sampled_from(SIZES), st.lists(st.integers(0, 4 * BLOCK), max_size=12))
@settings(deadline=None, max_examples=25)
def test_the_cut_of_the_input_does_not_matter(threads: int, size: int, cuts: list[int]) -> None:
    assert compressed(pieces(content(size), cuts), threads=threads) == alone(size)


@given(st.binary(max_size=2000), st.integers(1, 9))
@settings(deadline=None)
def test_anything_comes_back(data: bytes, level: int) -> None:
    assert gzip.decompress(compressed([data], level=level)) == data


def test_many_small_pieces() -> None:
    data = content(BLOCK + 1)
    small = [data[at : at + 512] for at in range(0, len(data), 512)]
    assert compressed(small, threads=2) == alone(BLOCK + 1)


def test_nothing_is_a_header_and_an_end() -> None:
    assert compressed([]) == compressed([b""]) == b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + b"\x03\0" + bytes(8)


@pytest.mark.parametrize("size", SIZES)
def test_one_member_without_time_or_name(size: int) -> None:
    """RFC 1952: magic, deflate, no flags, MTIME 0, no extra flags, unknown system; CRC and length at the end."""
    made = alone(size)
    assert made[:10] == b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
    stream = zlib.decompressobj(31)
    assert stream.decompress(made) == content(size)
    assert stream.eof
    assert stream.unused_data == b""
    assert made[-8:] == zlib.crc32(content(size)).to_bytes(4, "little") + size.to_bytes(4, "little")


@pytest.mark.real
@pytest.mark.parametrize("command", [["gzip", "-dc"], ["busybox", "gunzip", "-c"], ["pigz", "-dc"]])
@pytest.mark.parametrize("size", SIZES)
def test_other_programs_accept_it(command: list[str], size: int, real: Callable[[str], Path]) -> None:
    done = subprocess.run([real(command[0]), *command[1:]], input=alone(size), capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (content(size), b"")


@pytest.mark.real
def test_gzip_tests_it(tmp_path: Path, real: Callable[[str], Path]) -> None:
    (tmp_path / "f.gz").write_bytes(alone(BLOCK + 1))
    listed = subprocess.run([real("gzip"), "-tv", tmp_path / "f.gz"], capture_output=True, check=True)
    assert listed.stderr.rstrip().endswith(b"OK")


def test_blocks_are_primed_with_what_is_before_them() -> None:
    """Data that repeats every 20,000 bytes costs its 20,000 bytes once, not once a block."""
    data = random.Random(1).randbytes(20_000) * (4 * BLOCK // 20_000)
    assert len(compressed([data], threads=2)) < 70_000


def test_levels() -> None:
    """Each is smaller than the one before, or as small but for a hundredth; the last is as small as `gzip -9`."""
    data = content(3 * BLOCK + 4321) + Path(__file__).read_bytes() * 3
    sizes = [len(compressed([data], level=level)) for level in LEVELS]
    assert all(better < worse * 1.01 for worse, better in itertools.pairwise(sizes))
    assert sizes[0] > sizes[DEFAULT_LEVEL - 1] > sizes[-1]
    assert sizes[-1] < len(gzip.compress(data, 9)) * 1.005


@pytest.mark.parametrize("level", LEVELS)
def test_no_level_depends_on_threads(level: int) -> None:
    data = [content(3 * BLOCK + 4321)]
    assert compressed(data, level=level) == compressed(data, level=level, threads=3)


def test_the_bytes_of_the_default_level() -> None:
    """The same everywhere: what a release of zlib-ng makes of this is known."""
    expected = BYTES.get(str(zlib_ng.ZLIBNG_VERSION))
    if expected is None:
        pytest.skip(f"nobody has written down what zlib-ng {zlib_ng.ZLIBNG_VERSION} makes")
    assert hashlib.sha256(b"".join(map(alone, SIZES))).hexdigest() == expected


@pytest.mark.parametrize("threads", [1, 3])
def test_few_blocks_are_in_flight(threads: int) -> None:
    """A writer that is not closed has handed out all but the last few blocks, so memory stays bounded."""
    noise = [random.Random(seed).randbytes(BLOCK) for seed in range(12)]
    out: list[int] = []
    with GzipWriter(lambda piece: out.append(len(piece)), threads=threads) as writer:
        for block in noise:
            writer.write(block)
        assert sum(out) >= (12 - threads - 2) * BLOCK
    assert no_threads_left()


def test_a_writer_that_is_dropped_leaves_no_end() -> None:
    out: list[bytes] = []
    with GzipWriter(out.append) as writer:
        for _ in range(6):
            writer.write(content(BLOCK))
    assert no_threads_left()
    with pytest.raises(EOFError):
        gzip.decompress(b"".join(out))


class FullError(Exception):
    """What the sink of these tests raises."""


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("room", [0, 10, BLOCK, 4 * BLOCK])
def test_a_sink_that_raises_ends_the_threads(room: int, threads: int) -> None:
    written = 0

    def sink(piece: bytes) -> None:
        nonlocal written
        written += len(piece)
        if written > room:
            raise FullError

    def run() -> None:
        with GzipWriter(sink, threads=threads) as writer:
            for seed in range(20):
                writer.write(random.Random(seed).randbytes(BLOCK))
            writer.close()

    with pytest.raises(FullError):
        run()
    assert no_threads_left()


def test_a_reader_that_raises_ends_the_threads() -> None:
    def source() -> Iterable[bytes]:
        yield content(BLOCK)
        yield content(BLOCK)
        raise FullError

    with pytest.raises(FullError):
        compressed(source(), threads=3)
    assert no_threads_left()


@pytest.mark.parametrize(("level", "found"), [(1, 3), (2, 3), (3, 5), (4, 5), (9, 5)])
def test_the_fastest_levels_take_half_of_the_cores(level: int, found: int) -> None:
    assert threads_for(level, 5) == found
    assert threads_for(level, 1) == 1
