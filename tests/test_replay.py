"""Reading a layer again whose source cannot be, or only at a price."""

from __future__ import annotations

import io
import itertools
import json
import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocirootfs.archive import writer
from ocirootfs.digest import Digest
from ocirootfs.errors import InputError, LocalError, TruncatedError
from ocirootfs.image import Image, Layer
from ocirootfs.manifest import parse_config
from ocirootfs.replay import IN_MEMORY, replayable
from ocirootfs.source import Source as Where
from ocirootfs.source import image_in, local_image
from ocirootfs.spool import Spool
from tests.layers import build

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ocirootfs.entry import Piece

BODIES = [b"bottom" * 1000, b"", b"middle" * 2000, b"top" * 500]


class Source:
    """A layer's source that counts how often it is asked, and can break."""

    def __init__(self, body: bytes, *, breaks_after: int | None = None) -> None:
        self._body = body
        self._breaks_after = breaks_after
        self.asked = 0

    def __call__(self) -> Iterator[bytes]:
        self.asked += 1
        for at in range(0, len(self._body), 100):
            if self._breaks_after is not None and at >= self._breaks_after:
                raise TruncatedError("the source broke")
            yield self._body[at : at + 100]


class FullSpool(Spool):
    """A spool that has room for so many bytes."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self._room = room

    def append(self, piece: Piece) -> None:
        if self.end + len(piece) > self._room:
            raise LocalError("no room")
        super().append(piece)


def image_of(sources: list[Source], bodies: list[bytes], *, size: int | None = None) -> Image:
    config = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}})
    layers = [
        Layer(number, Digest.of(body), len(body) if size is None else size, Digest.of(body), "", source)
        for number, (source, body) in enumerate(zip(sources, bodies, strict=True), 1)
    ]
    return Image(parse_config(config.encode(), "config"), tuple(layers), again="never")


def sources(bodies: list[bytes]) -> list[Source]:
    return [Source(body) for body in bodies]


def read(layer: Layer) -> bytes:
    return b"".join(layer.open())


def test_a_second_reading_is_the_first() -> None:
    made = sources(BODIES)
    with Spool() as spool:
        image = replayable(image_of(made, BODIES), spool, None)
        for _ in range(3):
            assert [read(layer) for layer in reversed(image.layers)] == BODIES[::-1]
        assert [source.asked for source in made] == [1] * 4
        assert spool.end == sum(map(len, BODIES))


READINGS = st.lists(st.tuples(st.integers(0, 2), st.none() | st.integers(0, 30)), max_size=10)


@given(READINGS, st.none() | st.integers(1, 3), st.sampled_from([0, 5000, 10_000, 1 << 20]))
@settings(deadline=None, max_examples=100)
def test_any_readings_whole_or_given_up(readings: list[tuple[int, int | None]], limit: int | None, room: int) -> None:
    """One layer after the other, some of them given up half way: each whole reading is the layer."""
    bodies = [BODIES[0], BODIES[2], BODIES[3]]
    with FullSpool(room) as spool:
        image = replayable(image_of(sources(bodies), bodies), spool, None, readings=limit)
        given_up: set[int] = set()
        for number, chunks in readings:
            if given_up - {number}:  # what was begun is gone on with first
                for other in sorted(given_up - {number}):
                    assert read(image.layers[other]) == bodies[other]
                given_up.clear()
            layer = image.layers[number]
            if chunks is None:
                assert read(layer) == bodies[number]
                given_up.discard(number)
            else:
                got = b"".join(itertools.islice(layer.open(), chunks))
                assert bodies[number].startswith(got)
                given_up.add(number)


@pytest.mark.parametrize("chunks", [0, 1, 30, 59, 60])
def test_what_was_half_read_is_read_to_its_end_once(chunks: int) -> None:
    body = b"x" * 6000
    (source,) = made = sources([body])
    with Spool() as spool:
        (layer,) = replayable(image_of(made, [body]), spool, None).layers
        for _ in itertools.islice(layer.open(), chunks):
            pass
        assert read(layer) == body
        assert read(layer) == body
        assert source.asked == 1


def test_without_room_the_source_is_asked_again() -> None:
    made = sources(BODIES)
    with FullSpool(1000) as spool:
        image = replayable(image_of(made, BODIES), spool, None)
        for _ in range(2):
            assert [read(layer) for layer in image.layers] == BODIES
        assert [source.asked for source in made] == [2, 1, 2, 2]


def test_two_first_readings_at_a_time() -> None:
    bodies = [b"a" * 1000, b"b" * 1000]
    with Spool() as spool:
        one, two = replayable(image_of(sources(bodies), bodies), spool, None).layers
        for _ in itertools.islice(one.open(), 3):
            pass
        assert read(two) == bodies[1]
        assert read(one) == bodies[0]
        assert read(two) == bodies[1]


def test_the_room_is_given_back_after_the_last_reading() -> None:
    made = sources(BODIES)
    with Spool() as spool:
        image = replayable(image_of(made, BODIES), spool, None, readings=2)
        for layer in reversed(image.layers):
            read(layer)
            assert spool.end == layer.size
            read(layer)
            assert spool.end == 0
        assert [source.asked for source in made] == [1] * 4
        assert read(image.layers[0]) == BODIES[0]
        assert made[0].asked == 2


def test_a_reading_that_was_given_up_does_not_count() -> None:
    made = sources(BODIES)
    with Spool() as spool:
        top = replayable(image_of(made, BODIES), spool, None, readings=2).layers[3]
        next(iter(top.open()))
        assert read(top) == BODIES[3]
        assert spool.end == top.size
        assert read(top) == BODIES[3]
        assert spool.end == 0
        assert made[3].asked == 1


@pytest.mark.parametrize("breaks_after", [0, 100, 2000, 5900])
def test_a_source_that_breaks_breaks_every_reading(breaks_after: int) -> None:
    """What was kept until then is never taken for the layer."""
    body = b"x" * 6000
    with Spool() as spool:
        (layer,) = replayable(image_of([Source(body, breaks_after=breaks_after)], [body]), spool, None).layers
        for _ in range(3):
            with pytest.raises(InputError):
                read(layer)


def test_what_fits_in_memory_is_always_kept() -> None:
    """Whatever the disk is like."""
    made = sources([b"x"])
    with Spool() as spool:
        image = image_of(made, [b"x"], size=IN_MEMORY)
        assert replayable(image, spool, "/nonexistent") is not image


@pytest.mark.parametrize("directory", [None, "/nonexistent"])
def test_an_image_larger_than_the_disk_is_left_alone(directory: str | None) -> None:
    with Spool() as spool:
        image = image_of(sources([b"x"]), [b"x"], size=1 << 60)
        assert replayable(image, spool, directory) is image


def test_a_disk_that_is_memory_is_no_disk() -> None:
    mounts = [line.split() for line in _mounts()]
    if not any(fields[1] == "/dev/shm" and fields[2] == "tmpfs" for fields in mounts):
        pytest.skip("/dev/shm is no tmpfs here")
    with Spool() as spool:
        image = image_of(sources([b"x"]), [b"x"], size=IN_MEMORY + 1)
        assert replayable(image, spool, "/dev/shm") is image


def _mounts() -> list[str]:
    try:
        with open("/proc/mounts", errors="replace") as file:  # noqa: PTH123
            return file.readlines()
    except FileNotFoundError:
        return []


LAYERS = [{"entries": [{"name": f"f{number}", "type": "file", "data": "x" * 3000}]} for number in range(3)]


@pytest.fixture
def archive(tmp_path: Path) -> bytes:
    """Return what `fetch` writes for an image of three layers: topmost first."""
    out: list[bytes] = []
    with local_image(Where("oci", str(build(LAYERS).layout(tmp_path / "layout"))), None) as image:
        writer.write([image], writer.blobs([image]), out.append)
    return b"".join(out)


def test_a_stream_is_read_twice_through_the_spool(archive: bytes) -> None:
    with Spool() as documents, Spool() as spool:
        image = replayable(image_in(io.BytesIO(archive), None, documents), spool, None)
        first = [read(layer) for layer in reversed(image.layers)]
        assert [read(layer) for layer in reversed(image.layers)] == first
        image.finish()


def test_a_stream_without_room_says_what_to_do(archive: bytes) -> None:
    with Spool() as documents, FullSpool(10) as spool:
        image = replayable(image_in(io.BytesIO(archive), None, documents, what="the pipe"), spool, None)
        top = image.layers[-1]
        read(top)
        with pytest.raises(LocalError, match=r"^the pipe: .* needed again, and there was no room to keep it") as caught:
            read(top)
        assert caught.value.hint is not None
        assert "--tmpdir" in caught.value.hint
        assert os.linesep not in caught.value.hint
        read(image.layers[0])
        image.finish()
