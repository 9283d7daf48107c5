"""The cache of blobs: hits are proved, misses resumed, nothing wrong gets in, and no process holds another up."""

from __future__ import annotations

import fcntl
import os
import random
import re
import signal
import stat
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from ocirootfs.digest import Descriptor, Digest, verified
from ocirootfs.errors import DigestError, OcirootfsError, TemporaryError
from ocirootfs.registry import Registry
from ocirootfs.registry.cache import BlobCache
from ocirootfs.registry.credentials import anonymous
from tests.commands import OCIROOTFS, environment, finished, run, started
from tests.servers.registry import FakeRegistry, Fault, descriptor, digest_of, image, index

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

BLOB = random.Random(7).randbytes((3 << 20) + 17)
DIGEST = Digest.of(BLOB)
FOUND = Descriptor("x", DIGEST, len(BLOB))
STEP = 100_000


class Source:
    """A download of BLOB that notes where it began, and may break off or be wrong."""

    def __init__(self, *, data: bytes = BLOB, breaks: int | None = None) -> None:
        self.data, self.breaks = data, breaks
        self.starts: list[int] = []

    def __call__(self, start: int) -> Iterator[bytes]:
        self.starts.append(start)
        for at in range(start, len(self.data), STEP):
            if self.breaks is not None and at >= self.breaks:
                raise TemporaryError("broken off")
            yield self.data[at : at + STEP]


def cache(folder: Path, **options: Any) -> BlobCache:
    return BlobCache(folder, **options)


def read(folder: Path, source: Source, found: Descriptor = FOUND, **options: Any) -> bytes:
    chunks = cache(folder, **options).read(found, source, "the blob")
    return b"".join(verified(chunks, found.digest, found.size, "the blob"))


def place(folder: Path, digest: Digest = DIGEST) -> Path:
    return folder / "blobs" / digest.algorithm / digest.hex


def partial(folder: Path) -> Path:
    return folder / "partial" / f"sha256-{DIGEST.hex}.partial"


def test_a_miss_and_a_hit(tmp_path: Path) -> None:
    source, folder = Source(), tmp_path / "deep" / "cache"
    assert read(folder, source) == read(folder, source) == BLOB
    assert source.starts == [0]
    assert place(folder).read_bytes() == BLOB
    assert list((folder / "partial").iterdir()) == []


def test_it_is_an_oci_layout_for_its_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    read(folder, Source())
    assert (folder / "oci-layout").read_text() == '{"imageLayoutVersion":"1.0.0"}'
    assert '"manifests":[]' in (folder / "index.json").read_text()
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (folder, folder / "blobs", folder / "partial")}
    assert set(modes.values()) == {0o700}
    assert stat.S_IMODE(place(folder).stat().st_mode) == 0o600


@pytest.mark.parametrize("at", [STEP, 2 * STEP, 30 * STEP])
def test_what_has_arrived_is_not_asked_for_again(tmp_path: Path, at: int) -> None:
    broken, whole = Source(breaks=at), Source()
    with pytest.raises(TemporaryError):
        read(tmp_path, broken)
    assert not place(tmp_path).exists()
    assert read(tmp_path, whole) == BLOB
    assert whole.starts == [at]
    assert place(tmp_path).read_bytes() == BLOB


def test_an_early_end_keeps_what_came(tmp_path: Path) -> None:
    chunks = cache(tmp_path).read(FOUND, Source(), "the blob")
    next(chunks)
    chunks.close()  # type: ignore[attr-defined]  # a generator
    assert 0 < partial(tmp_path).stat().st_size < len(BLOB)
    assert not place(tmp_path).exists()


# Nothing wrong gets in, or out


def altered(data: bytes, at: int = -1) -> bytes:
    found = bytearray(data)
    found[at] ^= 1
    return bytes(found)


def test_wrong_bytes_are_not_kept(tmp_path: Path) -> None:
    with pytest.raises(DigestError):
        read(tmp_path, Source(data=altered(BLOB)))
    assert not place(tmp_path).exists()
    assert read(tmp_path, source := Source()) == BLOB
    assert source.starts == [0]


def test_a_partial_that_was_damaged(tmp_path: Path) -> None:
    with pytest.raises(TemporaryError):
        read(tmp_path, Source(breaks=5 * STEP))
    partial(tmp_path).write_bytes(altered(partial(tmp_path).read_bytes(), 10))
    with pytest.raises(DigestError, match="copy was removed"):
        read(tmp_path, Source())
    assert read(tmp_path, Source()) == BLOB


def test_a_partial_that_is_too_long(tmp_path: Path) -> None:
    cache(tmp_path)
    partial(tmp_path).write_bytes(bytes(len(BLOB) + 1))
    assert read(tmp_path, Source()) == BLOB


def test_a_damaged_blob_says_so_and_is_gone(tmp_path: Path) -> None:
    """Its first MiB was passed on before the end proved it wrong."""
    read(tmp_path, Source())
    place(tmp_path).write_bytes(altered(BLOB))
    with pytest.raises(DigestError, match="the cache's copy was removed") as caught:
        read(tmp_path, Source())
    assert caught.value.exit_code == 6
    assert not place(tmp_path).exists()
    assert read(tmp_path, Source()) == BLOB


def test_a_damaged_blob_of_which_nothing_was_passed_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    small = BLOB[:1000]
    found = Descriptor("x", Digest.of(small), len(small))
    read(tmp_path, Source(data=small), found)
    place(tmp_path, found.digest).write_bytes(altered(small))
    source = Source(data=small)
    assert read(tmp_path, source, found) == small
    assert source.starts == [0]
    assert "downloading it anew" in caplog.text
    assert place(tmp_path, found.digest).read_bytes() == small


def cut(path: Path) -> None:
    path.write_bytes(BLOB[:-1])


def linked(path: Path) -> None:
    path.unlink()
    (path.parent / "elsewhere").write_bytes(BLOB)
    path.symlink_to(path.parent / "elsewhere")


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("plant", [cut, linked, fifo])
def test_what_is_no_whole_file_is_downloaded_anew(tmp_path: Path, plant: Callable[[Path], None]) -> None:
    read(tmp_path, Source())
    plant(place(tmp_path))
    assert read(tmp_path, source := Source()) == BLOB
    assert source.starts == [0]
    assert place(tmp_path).is_file()
    assert not place(tmp_path).is_symlink()


def test_a_link_planted_for_a_partial_is_not_followed(tmp_path: Path) -> None:
    cache(tmp_path)
    (tmp_path / "precious").write_bytes(b"precious")
    partial(tmp_path).symlink_to(tmp_path / "precious")
    assert read(tmp_path, Source()) == BLOB
    assert (tmp_path / "precious").read_bytes() == b"precious"


# A cache that cannot be used


def test_a_directory_that_cannot_be(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_bytes(b"")
    subject = cache(tmp_path / "file" / "cache")
    for _ in range(2):
        assert b"".join(subject.read(FOUND, Source(), "the blob")) == BLOB
    assert caplog.text.count("going on without") == 1


_FULL = """\
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
from ocirootfs.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_a_full_disk(tmp_path: Path) -> None:
    """No file may grow beyond a MiB; the image has three, and goes to a pipe."""
    with FakeRegistry() as fake:
        reference = fake.add_image(layers=[BLOB])
        command = [sys.executable, "-c", _FULL]
        ran = run("fetch", str(reference), "--no-creds", "--cache-dir", str(tmp_path / "c"), command=command)
    assert ran.status == 0
    assert BLOB in ran.out
    assert ran.err.count("going on without") == 1
    assert not place(tmp_path / "c").exists()


# Several processes


def test_who_fills_a_blob_is_waited_for(tmp_path: Path) -> None:
    """The other one finishes while we sleep."""
    cache(tmp_path)
    partial(tmp_path).write_bytes(b"")
    with partial(tmp_path).open("r+b") as other:
        fcntl.flock(other, fcntl.LOCK_EX)

        def sleep(_: float) -> None:
            other.write(BLOB)
            other.flush()
            place(tmp_path).parent.mkdir()
            partial(tmp_path).rename(place(tmp_path))
            fcntl.flock(other, fcntl.LOCK_UN)

        source = Source()
        assert read(tmp_path, source, sleep=sleep) == BLOB
    assert source.starts == []


def test_who_makes_no_progress_is_not_waited_for(tmp_path: Path) -> None:
    cache(tmp_path)
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    with partial(tmp_path).open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        source = Source()
        assert read(tmp_path, source, sleep=sleep, monotonic=lambda: now[0]) == BLOB
    assert source.starts == [0]
    assert 10 <= now[0] < 11
    assert not place(tmp_path).exists()


def test_a_process_that_is_killed_leaves_what_the_next_one_goes_on_with(tmp_path: Path) -> None:
    """One of two processes that fill one cache is killed; the other one gets the image, and no byte twice."""
    with FakeRegistry() as fake:
        reference = fake.add_image(layers=[BLOB])
        fake.rate = 2_000_000
        folder = tmp_path / "cache"
        arguments = ["fetch", str(reference), "--no-creds", "--jobs", "1", "--cache-dir", str(folder)]
        with started(*arguments, "-o", str(tmp_path / "1.tar")) as first:
            wait_for(lambda: partial(folder).exists() and partial(folder).stat().st_size > 300_000)
            with started(*arguments, "-o", str(tmp_path / "2.tar")) as second:
                time.sleep(0.3)
                first.send_signal(signal.SIGKILL)
                first.wait(10)
                ran = finished(second)
        requests = [found.headers.get("Range") for found in fake.seen(path=digest_of(BLOB))]
    assert ran.status == 0, ran
    assert BLOB in (tmp_path / "2.tar").read_bytes()
    assert place(folder).read_bytes() == BLOB
    assert list((folder / "partial").iterdir()) == []
    assert requests[0] is None
    assert [wanted is not None for wanted in requests[1:]] == [True]


def test_many_processes_of_which_some_are_killed(tmp_path: Path) -> None:
    with FakeRegistry() as fake:
        layers = [random.Random(seed).randbytes(400_000) for seed in range(3)]
        reference = fake.add_image(layers=layers)
        fake.rate = 1_500_000
        arguments = ["fetch", str(reference), "--no-creds", "--cache-dir", str(tmp_path / "cache"), "-o"]
        draws = random.Random(5)
        running = [
            subprocess.Popen([*OCIROOTFS, *arguments, str(tmp_path / f"{n}.tar")], env=environment()) for n in range(5)
        ]
        try:
            time.sleep(0.5)
            for process in running[:3]:
                time.sleep(draws.uniform(0, 0.2))
                process.kill()
            assert [process.wait(60) for process in running[3:]] == [0, 0]
        finally:
            for process in running:
                process.kill()
                process.wait()
    for number in (3, 4):
        archive = (tmp_path / f"{number}.tar").read_bytes()
        assert all(layer in archive for layer in layers)
    for path in (tmp_path / "cache" / "blobs" / "sha256").iterdir():
        assert digest_of(path.read_bytes()) == f"sha256:{path.name}"


def wait_for(truth: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not truth():
        assert time.monotonic() < end
        time.sleep(0.005)


# The registry with a cache


@pytest.mark.parametrize("jobs", [1, 3])
def test_tags_are_asked_and_blobs_are_not(tmp_path: Path, jobs: int) -> None:
    with FakeRegistry() as fake:
        manifest, blobs = image(layers=[b"one", b"two"])
        listed = index([descriptor(manifest, "application/vnd.docker.distribution.manifest.v2+json",
                                   platform={"os": "linux", "architecture": "amd64"})])  # fmt: skip
        fake.add("a/b", "unused", manifest, blobs=blobs)
        reference = fake.add("a/b", "1", listed, "application/vnd.oci.image.index.v1+json")
        for _ in range(2):
            with Registry(credentials=anonymous, cache_dir=tmp_path, jobs=jobs) as registry:
                found = registry.open(reference)
                assert [b"".join(layer.blob()) for layer in found.layers] == [b"one", b"two"]
        asked = [re.sub(r".*/", "", each.path) for each in fake.requests]
    assert asked.count("1") == 2
    assert [count for name in set(asked) - {"1"} if (count := asked.count(name)) > 1] == []


def test_a_resumed_blob_has_a_closed_range(tmp_path: Path) -> None:
    with FakeRegistry() as fake:
        reference = fake.add_image(layers=[BLOB])
        fake.faults = [Fault(digest_of(BLOB), cut=200_000), Fault(digest_of(BLOB), status=404)]
        for _ in range(2):
            with Registry(credentials=anonymous, cache_dir=tmp_path, sleep=lambda _: None) as registry:
                layer = registry.open(reference).layers[0]
                try:
                    assert b"".join(layer.blob()) == BLOB
                except OcirootfsError:
                    assert partial(tmp_path).stat().st_size == 200_000
        asked = [found.headers.get("Range") for found in fake.seen(path=digest_of(BLOB))]
    assert asked == [None, *[f"bytes=200000-{len(BLOB) - 1}"] * 2]


def test_the_variable(tmp_path: Path) -> None:
    with FakeRegistry() as fake:
        reference = fake.add_image(layers=[BLOB])
        for directory in (None, "", str(tmp_path / "c")):
            run("fetch", str(reference), "--no-creds", env=environment(OCIROOTFS_CACHE_DIR=directory)).ok  # noqa: B018
    assert place(tmp_path / "c").read_bytes() == BLOB
    assert not (tmp_path / "blobs").exists()
