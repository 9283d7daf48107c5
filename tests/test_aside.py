"""Work in a thread of its own: the same as without, whatever happens, and nothing left behind."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocirootfs.aside import aside
from tests.commands import environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

CHUNKS = [bytes([number]) * 7 for number in range(100)]


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())  # one that another test left may end meanwhile
    yield
    assert set(threading.enumerate()) <= before


def shuffled(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Cut the stream anew: some chunks give nothing, others many pieces."""
    held = b""
    for chunk in chunks:
        held += chunk
        while len(held) > 20:
            yield held[:5]
            held = held[5:]
    yield held


@given(st.lists(st.binary(max_size=60), max_size=40))
def test_the_same_as_without(chunks: list[bytes]) -> None:
    assert list(aside(chunks, shuffled)) == list(shuffled(chunks))


def test_who_does_what() -> None:
    def source() -> Iterator[bytes]:
        for chunk in CHUNKS:
            assert threading.current_thread() is threading.main_thread()
            yield chunk

    def work(chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            assert threading.current_thread() is not threading.main_thread()
            yield chunk

    assert list(aside(source(), work)) == CHUNKS


def gather(pieces: Iterator[bytes], found: list[bytes]) -> None:
    """Add the pieces to `found`, those before an error included."""
    for piece in pieces:
        found.append(piece)  # noqa: PERF402


def broken(at: int) -> Iterator[bytes]:
    yield from CHUNKS[:at]
    raise ConnectionError(at)


@pytest.mark.parametrize("at", [0, 1, 5, 50])
def test_an_error_of_the_source_comes_after_what_was_before_it(at: int) -> None:
    found: list[bytes] = []
    with pytest.raises(ConnectionError):
        gather(aside(broken(at), lambda chunks: chunks), found)
    assert found == CHUNKS[:at]


def test_the_work_may_settle_an_error_of_the_source() -> None:
    def work(chunks: Iterator[bytes]) -> Iterator[bytes]:
        try:
            yield from chunks
        except ConnectionError:
            yield b"settled"

    assert list(aside(broken(3), work)) == [*CHUNKS[:3], b"settled"]


@pytest.mark.parametrize("at", [0, 1, 5, 50])
def test_an_error_of_the_work(at: int) -> None:
    def work(chunks: Iterator[bytes]) -> Iterator[bytes]:
        for number, chunk in enumerate(chunks):
            if number == at:
                raise ValueError(at)
            yield chunk

    found: list[bytes] = []
    with pytest.raises(ValueError, match=str(at)):
        gather(aside(CHUNKS, work), found)
    assert found == CHUNKS[:at]


def test_a_signal_is_the_callers_at_once() -> None:
    def source() -> Iterator[bytes]:
        yield CHUNKS[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(aside(source(), lambda chunks: chunks))


@pytest.mark.parametrize("taken", [0, 1, 3, 50, 100])
def test_who_has_seen_enough(taken: int) -> None:
    """The work is ended wherever it is: before a chunk, after one, with pieces that nobody takes."""
    for work in (shuffled, _many_from_each, _nothing_for_long):
        pieces = aside(CHUNKS, work)
        for _ in range(taken):
            next(pieces, None)
        pieces.close()  # type: ignore[attr-defined]  # it is a generator


def _many_from_each(chunks: Iterator[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        yield from [chunk] * 50


def _nothing_for_long(chunks: Iterator[bytes]) -> Iterator[bytes]:
    yield b"".join(chunks)


def test_work_is_ended_by_an_exception_that_it_cannot_settle() -> None:
    ended: list[str] = []

    def work(chunks: Iterator[bytes]) -> Iterator[bytes]:
        try:
            yield from chunks
        except Exception:  # noqa: BLE001  # pragma: no cover
            ended.append("settled")
        finally:
            ended.append("over")

    pieces = aside(CHUNKS, work)
    next(pieces)
    pieces.close()  # type: ignore[attr-defined]
    assert ended == ["over"]


@pytest.mark.parametrize("work", [lambda chunks: chunks, _many_from_each], ids=["as it is", "fifty-fold"])
def test_little_is_read_ahead(work: Callable[[Iterator[bytes]], Iterator[bytes]]) -> None:
    given_out = 0

    def source() -> Iterator[bytes]:
        nonlocal given_out
        for chunk in CHUNKS:
            given_out += 1
            yield chunk

    for number, _ in enumerate(aside(source(), work), 1):
        assert given_out <= number + 9  # four chunks before the work, one in it, three pieces and one after it


NO_THREADS = """
import threading
threading.stack_size(1 << 46)  # more than there is address space
from ocirootfs.aside import aside
print(list(aside([b"a", b"b"], lambda chunks: (chunk * 2 for chunk in chunks))))
"""


def test_without_a_thread() -> None:
    done = subprocess.run(
        [sys.executable, "-c", NO_THREADS], env=environment(), capture_output=True, text=True, check=False, timeout=30
    )
    assert (done.returncode, done.stdout) == (0, "[b'aa', b'bb']\n"), done.stderr
