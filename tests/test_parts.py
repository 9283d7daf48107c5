from __future__ import annotations

import random
import signal
import threading
from itertools import accumulate

import pytest

from ocirootfs.errors import LocalError
from ocirootfs.s3.parts import (
    MAX_PART_SIZE,
    MAX_PARTS,
    MIN_PART_SIZE,
    PartBody,
    PartCancelledError,
    Parts,
    part_size,
)

MIB = 1024**2
TIB = 1024**4


# --- the size of parts


@pytest.mark.parametrize("base", [MIN_PART_SIZE, 8 * MIB, 16 * MIB, 100 * MIB, MAX_PART_SIZE])
def test_neither_ten_thousand_parts_nor_five_tebibytes_are_hit(base: int) -> None:
    sizes = [part_size(number, base) for number in range(1, MAX_PARTS + 1)]
    assert sum(sizes) > 5 * TIB
    assert sizes[0] == base
    assert sizes == sorted(sizes)
    assert max(sizes) <= MAX_PART_SIZE


def test_common_archives_keep_the_small_size() -> None:
    totals = list(accumulate(part_size(number, 8 * MIB) for number in range(1, MAX_PARTS + 1)))
    assert totals[899] == 900 * 8 * MIB
    # What a buffer costs at a given length of the stream; the README's table.
    sizes = {
        gib: part_size(next(number for number, total in enumerate(totals, 1) if total >= gib * 1024**3), 8 * MIB)
        for gib in (7, 20, 100, 1024)
    }
    assert sizes == {7: 8 * MIB, 20: 16 * MIB, 100: 64 * MIB, 1024: 1024 * MIB}


# --- a part's body


def body(data: bytes) -> PartBody:
    return PartBody(memoryview(data), threading.Event())


def test_a_body_is_a_file_that_can_be_read_again() -> None:
    part = body(b"0123456789")
    assert len(part) == 10
    assert bytes(part.read(4)) == b"0123"
    assert part.tell() == 4
    assert bytes(part.read()) == b"456789"
    assert bytes(part.read(4)) == b""
    assert part.seek(2) == 2
    assert part.seek(1, 1) == 3
    assert part.seek(-3, 2) == 7
    assert bytes(part.read(None)) == b"789"
    assert part.md5().hex() == "781e5e245d69b566979b86e28d23f2c7"


def test_a_body_ends_as_the_sentinel_of_iter_expects() -> None:
    part = body(b"0123456789")
    assert b"".join(iter(lambda: part.read(3), b"")) == b"0123456789"


# --- parts


class Store:
    """Remembers what was sent; `gate` can hold every part up."""

    def __init__(self) -> None:
        self.sent: dict[int, bytes] = {}
        self.gate = threading.Event()
        self.gate.set()
        self.arrived = threading.Semaphore(0)

    def send(self, number: int, part: PartBody) -> str:
        self.arrived.release()
        assert self.gate.wait(10)
        self.sent[number] = bytes(part.read())
        return f"etag-{number}"


def test_parts_are_full_whatever_the_writes_are() -> None:
    store, data = Store(), random.Random(1).randbytes(10_500)
    parts = Parts(store.send, base=1000, jobs=3)
    rest, draw = memoryview(data), random.Random(2)
    while rest:
        size = draw.randint(0, 2500)
        piece = bytearray(rest[:size])
        parts.write(piece)
        piece[:] = bytes(len(piece))  # the writer may reuse its buffer
        rest = rest[size:]
    assert parts.finish() == [f"etag-{number}" for number in range(1, 12)]
    assert {number: len(part) for number, part in store.sent.items()} == dict.fromkeys(range(1, 11), 1000) | {11: 500}
    assert b"".join(store.sent[number] for number in range(1, 12)) == data


def test_nothing_is_sent_before_a_part_is_full() -> None:
    store = Store()
    parts = Parts(store.send, base=1000, jobs=2)
    parts.write(b"x" * 999)
    before = parts.started
    assert bytes(parts.rest().read()) == b"x" * 999
    parts.write(b"x")
    assert (before, parts.started) == (False, True)
    assert parts.finish() == ["etag-1"]


def test_the_writer_waits_when_all_buffers_are_in_use() -> None:
    store = Store()
    store.gate.clear()
    parts = Parts(store.send, base=1000, jobs=2)
    writer = threading.Thread(target=parts.write, args=(b"x" * 10_000,), daemon=True)
    writer.start()
    for _ in range(2):
        assert store.arrived.acquire(timeout=10)
    writer.join(0.1)
    assert writer.is_alive()
    assert not store.arrived.acquire(blocking=False), "more parts under way than jobs"
    store.gate.set()
    writer.join(10)
    assert not writer.is_alive()
    assert len(parts.finish()) == 10


def test_a_failing_part_surfaces_at_a_write_and_at_finish() -> None:
    def send(number: int, part: PartBody) -> None:
        raise LocalError(f"part {number}")

    parts = Parts(send, base=10, jobs=2)
    with pytest.raises(LocalError, match="part 1"):
        parts.write(b"x" * 1000)
    with pytest.raises(LocalError, match="part 1"):
        parts.finish()
    assert parts.cancel(5)


def test_after_a_failure_no_further_part_is_begun() -> None:
    begun, gate = [], threading.Event()

    def send(number: int, part: PartBody) -> None:
        begun.append(number)
        assert gate.wait(10)
        raise LocalError("no")

    parts = Parts(send, base=10, jobs=1)
    parts.write(b"x" * 20)  # the second part waits for the thread
    gate.set()
    with pytest.raises(LocalError):
        parts.finish()
    assert begun == [1]


def test_cancel_stops_a_part_at_its_next_read_and_the_rest_before_it() -> None:
    store = Store()
    store.gate.clear()
    parts = Parts(store.send, base=10, jobs=1)
    parts.write(b"x" * 20)
    assert store.arrived.acquire(timeout=10)
    assert not parts.cancel(0.01)
    store.gate.set()
    assert parts.cancel(10)
    assert store.sent == {}


def test_cancel_waits_for_a_part_whose_thread_was_being_started_when_a_signal_came() -> None:
    """The signal's exception leaves `Thread.start` while the thread runs: nobody was told of it, yet it sends."""
    arrived, gate = threading.Event(), threading.Event()

    def send(number: int, part: PartBody) -> None:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
        arrived.set()
        assert gate.wait(10)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    parts = Parts(send, base=10, jobs=1)
    before = signal.signal(signal.SIGUSR1, stop)
    try:
        with pytest.raises(KeyboardInterrupt):
            parts.write(b"x" * 1000)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert arrived.wait(10)
    assert not parts.cancel(0.05)
    gate.set()
    assert parts.cancel(10)


def test_a_cancelled_part_is_no_exception_that_botocore_would_retry() -> None:
    assert not issubclass(PartCancelledError, Exception)


def test_a_wrong_program_fails_loudly_instead_of_hanging() -> None:
    def send(number: int, part: PartBody) -> None:
        raise KeyError(number)

    parts = Parts(send, base=10, jobs=1)
    with pytest.raises(KeyError):
        parts.write(b"x" * 100)
    assert parts.cancel(5)
