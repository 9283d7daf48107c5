"""Layers fetched ahead: the order and the bytes stay, the connections overlap, and bounds are kept."""

from __future__ import annotations

import io
import random
import re
import tempfile
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

import ocirootfs
from ocirootfs.digest import Digest
from ocirootfs.errors import DigestError, NotFoundError, OcirootfsError, TemporaryError
from ocirootfs.image import Layer
from ocirootfs.manifest import parse_config
from ocirootfs.prefetch import IN_MEMORY, prefetched
from ocirootfs.registry import Registry
from ocirootfs.registry.credentials import anonymous
from tests.servers.registry import FakeRegistry, Fault, digest_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LAYERS = [random.Random(seed).randbytes(300_000 + seed) for seed in range(6)]
_CONFIG = b'{"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}'


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with FakeRegistry() as found:
        yield found


def client(jobs: int, **options: object) -> Registry:
    return Registry(credentials=anonymous, jobs=jobs, sleep=lambda _: None, **options)  # type: ignore[arg-type]


def fetched(fake: FakeRegistry, jobs: int, tmpdir: str | None = None) -> bytes:
    out = io.BytesIO()
    with client(jobs) as registry, ocirootfs.open(str(fake.reference("a/b", "1")), registry=registry) as found:
        ocirootfs.fetch(found, out, tmpdir=tmpdir)
    return out.getvalue()


def test_connections_overlap_as_many_as_jobs(fake: FakeRegistry) -> None:
    """Nobody passes the barrier before three layers are asked for at a time; with fewer it breaks."""
    fake.add_image(layers=LAYERS)
    barrier = threading.Barrier(3, timeout=20)
    of_layers = {digest_of(layer) for layer in LAYERS}
    fake.before_blob = lambda digest: barrier.wait() if digest in of_layers else None

    archive = fetched(fake, 3)

    assert [archive.index(layer) for layer in LAYERS] == sorted(
        (archive.index(layer) for layer in LAYERS), reverse=True
    )


def test_never_more_connections_than_jobs(fake: FakeRegistry) -> None:
    fake.add_image(layers=LAYERS)
    lock, now, most = threading.Lock(), [0], [0]

    def count(_: str) -> None:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.02)
        with lock:
            now[0] -= 1

    fake.before_blob = count
    fetched(fake, 2)
    assert most[0] <= 2


def test_the_bytes_do_not_depend_on_jobs(fake: FakeRegistry) -> None:
    fake.add_image(layers=[*LAYERS, LAYERS[0]])
    one = fetched(fake, 1)
    before = len(fake.seen(path="blobs"))
    assert fetched(fake, 4) == one
    assert len(fake.seen(path="blobs")) == 2 * before  # nothing is fetched twice, or that nobody reads


def test_pack_fetches_ahead(fake: FakeRegistry, tmp_path: Path) -> None:
    empty = [bytes(1024 * (seed + 2)) for seed in range(3)]
    reference = fake.add_image(layers=empty)
    barrier = threading.Barrier(3, timeout=20)
    of_layers = {digest_of(layer) for layer in empty}
    fake.before_blob = lambda digest: barrier.wait() if digest in of_layers else None
    with client(3) as registry, ocirootfs.open(str(reference), registry=registry) as found:
        ocirootfs.pack(found, tmp_path / "x.tgz")


def test_one_job_needs_no_disk_and_no_thread(fake: FakeRegistry, tmp_path: Path) -> None:
    fake.add_image(layers=LAYERS)
    threads: set[str] = set()
    fake.before_blob = lambda _: threads.update(thread.name for thread in threading.enumerate())
    assert LAYERS[0] in fetched(fake, 1, tmpdir=str(tmp_path / "not there"))
    assert "prefetch" not in threads


def test_without_disk_it_works_within_memory(fake: FakeRegistry, tmp_path: Path) -> None:
    fake.add_image(layers=LAYERS)
    assert fetched(fake, 3, tmpdir=str(tmp_path / "not there")) == fetched(fake, 1)


def test_an_error_surfaces_at_its_layer(fake: FakeRegistry) -> None:
    """The lowest layer is missing; what stands above it is read before anybody hears of that."""
    reference = fake.add_image(layers=LAYERS)
    del fake._blobs[digest_of(LAYERS[0])]
    with (
        client(6) as registry,
        ocirootfs.open(str(reference), registry=registry) as found,
        prefetched(found.layers[::-1], [found]) as ahead,
    ):
        layers = [ahead(layer) for layer in reversed(found.layers)]
        assert [b"".join(layer.blob()) for layer in layers[:-1]] == LAYERS[:0:-1]
        with pytest.raises(NotFoundError, match=digest_of(LAYERS[0])):
            b"".join(layers[-1].blob())


def test_a_wrong_digest_is_asked_for_again_if_nobody_has_read_of_it(
    fake: FakeRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    reference = fake.add_image(layers=LAYERS[:2])
    bottom = re.escape(digest_of(LAYERS[0]))
    fake.faults = [Fault(bottom, altered=True)]
    with (
        client(2) as registry,
        ocirootfs.open(str(reference), registry=registry) as found,
        prefetched(found.layers[::-1], [found]) as ahead,
    ):
        top, low = ahead(found.layers[1]), ahead(found.layers[0])
        stream = top.blob()
        first = next(stream)
        wait_for(lambda: len(fake.seen(path=bottom)) == 2)
        assert first + b"".join(stream) == LAYERS[1]
        assert b"".join(low.blob()) == LAYERS[0]
    assert "downloading it once more" in caplog.text


def test_a_wrong_digest_that_stays(fake: FakeRegistry) -> None:
    fake.add_image(layers=LAYERS[:2])
    fake.faults = [Fault(re.escape(digest_of(LAYERS[0])), altered=True, times=99)]
    with pytest.raises(DigestError):
        fetched(fake, 2)
    assert len(fake.seen(path=digest_of(LAYERS[0]))) <= 2


def test_closing_early_stops_at_once(fake: FakeRegistry) -> None:
    reference = fake.add_image(layers=LAYERS)
    fake.faults = [Fault(re.escape(digest_of(layer)), cut=1000, stall=True) for layer in LAYERS[:-1]]
    with client(4, timeout=60) as registry, ocirootfs.open(str(reference), registry=registry) as found:
        start = time.monotonic()
        with prefetched(found.layers[::-1], [found]) as ahead:
            b"".join(ahead(found.layers[-1]).blob())
            wait_for(lambda: len(fake.seen(path="blobs")) >= 4)
        assert time.monotonic() - start < 10
        wait_for(lambda: not running())


def test_a_reader_who_leaves_a_layer_half_read(fake: FakeRegistry) -> None:
    reference = fake.add_image(layers=LAYERS)
    with (
        client(3) as registry,
        ocirootfs.open(str(reference), registry=registry) as found,
        prefetched(found.layers[::-1], [found]) as ahead,
    ):
        half = ahead(found.layers[-1]).blob()
        next(half)
        half.close()  # type: ignore[attr-defined]  # a generator
        assert [b"".join(ahead(layer).blob()) for layer in found.layers[:-1]] == LAYERS[:-1]
        assert b"".join(ahead(found.layers[-1]).blob()) == LAYERS[-1]  # again, from its source


# Bounds, with layers whose source is here


def wait_for(truth: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not truth():
        assert time.monotonic() < end
        time.sleep(0.005)


def running() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "prefetch"]


def local(number: int, size: int, given: list[int]) -> Layer:
    piece = bytes([number]) * (1 << 18)

    def source() -> Iterator[bytes]:
        for _ in range(size // len(piece)):
            given[number] += len(piece)
            yield piece

    return Layer(
        number, Digest.of(piece * (size // len(piece))), size, Digest.of(piece * (size // len(piece))), "", source
    )


def an_image(layers: list[Layer], jobs: int) -> ocirootfs.Image:
    return ocirootfs.Image(parse_config(_CONFIG, "config"), tuple(layers), jobs=jobs)


def test_memory_is_bounded_and_the_reader_never_starves(tmp_path: Path) -> None:
    """Two layers of 40 MiB, no disk: what is ahead stops at the bound, and goes on as it is read."""
    size, given = 40 << 20, [0] * 3
    layers = [local(number, size, given) for number in range(3)]
    found = an_image(layers, 3)
    with prefetched(layers, [found], str(tmp_path / "not there")) as ahead:
        first = ahead(layers[0]).blob()
        read = len(next(first))
        wait_for(lambda: sum(given) >= IN_MEMORY)
        time.sleep(0.05)
        assert sum(given) <= read + IN_MEMORY + 3 * (1 << 20)
        assert read + sum(map(len, first)) == size
        for layer in layers[1:]:
            assert sum(map(len, ahead(layer).blob())) == size


def test_the_rest_goes_to_the_disk_and_is_given_back(tmp_path: Path) -> None:
    size, given = 40 << 20, [0] * 2
    layers = [local(number, size, given) for number in range(2)]
    with prefetched(layers, [an_image(layers, 2)], str(tmp_path)) as ahead:
        first = ahead(layers[0]).blob()
        next(first)
        wait_for(lambda: given[1] == size)
        assert sum(map(len, first)) + (1 << 18) == size
        assert b"".join(ahead(layers[1]).blob()) == bytes([1]) * size
    assert list(tmp_path.iterdir()) == []


def test_layers_in_any_order() -> None:
    given = [0] * 5
    layers = [local(number, 1 << 20, given) for number in range(5)]
    for seed in range(10):
        order = random.Random(seed).sample(range(5), 5)
        with prefetched(layers, [an_image(layers, 2)]) as ahead:
            assert [sum(map(len, ahead(layers[number]).blob())) for number in order] == [1 << 20] * 5


def test_a_source_that_fails_is_heard_of_once_it_is_read() -> None:
    given = [0] * 2
    layers = [local(number, 1 << 20, given) for number in range(2)]

    def source() -> Iterator[bytes]:
        yield bytes([1]) * 10
        raise TemporaryError("gone")

    layers[1] = replace(layers[1], source=source)
    with prefetched(layers, [an_image(layers, 2)]) as ahead:
        assert sum(map(len, ahead(layers[0]).blob())) == 1 << 20
        stream = ahead(layers[1]).blob()
        assert next(stream) == bytes([1]) * 10
        with pytest.raises(OcirootfsError, match="gone"):
            next(stream)


def test_bytes_that_come_singly_take_no_more_memory() -> None:
    """A registry may send each by itself; an object apiece was thirty times their size."""
    singles = [local(number, 1 << 18, [0, 0]) for number in range(2)]
    content = random.Random(1).randbytes(1 << 18)

    def source() -> Iterator[bytes]:
        for at in range(0, len(content), 2):
            yield content[at : at + 2]

    digest = Digest.of(content)
    singles[1] = Layer(2, digest, len(content), digest, "", source)
    with prefetched(singles, [an_image(singles, 2)]) as ahead:
        first = ahead(singles[0]).blob()
        next(first)
        chunks = list(ahead(singles[1]).source())
    assert b"".join(chunks) == content
    assert len(chunks) <= 5


def test_the_temporary_files_have_no_names(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(dir=tmp_path) as folder:
        given = [0] * 2
        layers = [local(number, 40 << 20, given) for number in range(2)]
        with prefetched(layers, [an_image(layers, 2)], folder) as ahead:
            next(ahead(layers[0]).blob())
            wait_for(lambda: given[1] >= 33 << 20)
            assert list(tmp_path.glob("*/*")) == []
