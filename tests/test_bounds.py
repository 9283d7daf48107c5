"""What flattening needs: memory for the paths alone, and room on disk that may run out."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.commands import OCIROOTFS, environment, finished, started
from tests.layers import build

if TYPE_CHECKING:
    from pathlib import Path

    from tests.layers import Data

# A process of its own, since what another test left behind would count. One layer: what a lower one needs comes after
# what an upper one needed, much of which is free by then.
MEASURE = """
import re, sys
from ocirootfs.digest import Digest
from ocirootfs.entry import Entry, Kind
from ocirootfs.flattening import flatten
from ocirootfs.image import Layer
from ocirootfs.spool import Spool
from ocirootfs.tar.writer import END, gnu_header

paths, size = int(sys.argv[1]), int(sys.argv[2])
content = bytes(size)

def stream(number):
    for index in range(paths):
        directory = b"layer%d/usr/lib/node_modules/package-%05d" % (number, index // 20)
        if index % 20 == 0:
            yield gnu_header(Entry(directory, Kind.DIRECTORY, 0o755, 0, 0, index))
        else:
            yield gnu_header(Entry(b"%s/file-%07d.js" % (directory, index), Kind.FILE, 0o644, 0, 0, index, size))
            yield content
    yield END

class Blob:
    # The bytes and their digest do not fit into memory together with a bound on it, so they are made anew.
    def __init__(self, number):
        self.number = number
        import hashlib
        whole = hashlib.sha256()
        for piece in stream(number):
            whole.update(piece)
        self.digest = Digest("sha256", whole.hexdigest())

def peak():
    return int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1]) * 1024

blobs = [Blob(number) for number in (1,)]
layers = [
    Layer(blob.number, blob.digest, 0, None, "", lambda blob=blob: stream(blob.number)) for blob in blobs
]
before = peak()
with Spool() as spool:
    count = sum(1 for _ in flatten(layers, spool, careful=()))
print(peak() - before, count)
"""


def measured(paths: int, size: int) -> tuple[int, int]:
    """Return by how many bytes flattening so many paths raised the process's peak, and the entries it gave."""
    command = [sys.executable, "-c", MEASURE, str(paths), str(size)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment(), timeout=110)
    grown, count = map(int, done.stdout.split())
    return grown, count


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_in_proportion_to_paths() -> None:
    """Less than 400 bytes each, so that a million of them stay under 400 MB."""
    paths = 100_000
    grown, count = measured(paths, 512)
    assert count > paths
    assert grown / paths < 400


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_contents_take_no_memory() -> None:
    grown, _ = measured(200, 1 << 20)
    assert grown < 8 << 20


@pytest.fixture
def hiding(tmp_path: Path) -> str:
    """An image whose lower layer has 8 MiB that the upper one hides, as a layout."""
    lower: list[Data] = [
        {"type": "file", "name": "big", "data": "x" * (8 << 20)},
        {"type": "hardlink", "name": "still", "linkname": "big"},
    ]
    upper: list[Data] = [{"type": "file", "name": ".wh.big"}]
    layers: list[Data] = [{"entries": entries} for entries in (lower, upper)]
    return str(build(layers).layout(tmp_path / "layout"))


# Nobody needs to be root for a small disk of one's own.
SMALL_DISK = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c")


@pytest.mark.parametrize("megabytes", [2, 64])
def test_a_full_temporary_disk(megabytes: int, hiding: str, tmp_path: Path) -> None:
    room = tmp_path / "room"
    room.mkdir()
    mount = f'mount -t tmpfs -o size={megabytes}m none {room} && exec "$@"'
    if subprocess.run([*SMALL_DISK, f"mount -t tmpfs none {room}"], capture_output=True, check=False).returncode:
        pytest.skip("no mounts in a user namespace here")
    target = tmp_path / "out" / "a.tgz"
    target.parent.mkdir()
    words = ["pack", f"oci:{hiding}", "--tmpdir", str(room), "-o", str(target)]
    with started(*words, command=[*SMALL_DISK, mount, "sh", *OCIROOTFS]) as process:
        ended = finished(process)
    if megabytes == 64:
        assert (ended.status, ended.err) == (0, "")
        return
    assert ended.status == 8
    assert ended.err.startswith("ocirootfs: error: cannot keep ")
    assert f"in a temporary file in {room}: No space left on device; nothing was written to {target}" in ended.err
    assert "hint: point TMPDIR or --tmpdir to a directory with room that you may write to" in ended.err
    assert list(target.parent.iterdir()) == []


def test_links_through_long_ways_end(tmp_path: Path) -> None:
    """39 symbolic links of 64 KiB lead on from each hard link: a few kilobytes of layer, and hours of a processor."""
    ways: list[Data] = [
        {
            "type": "symlink",
            "name": f"l{n}",
            "linkname": "x/../" * 13000 + (f"l{n + 1}" if n < 38 else "."),
            "fmt": "gnu",
        }
        for n in range(39)
    ]
    links: list[Data] = [{"type": "hardlink", "name": f"h{n}", "linkname": "l0/t"} for n in range(1000)]
    entries: list[Data] = [{"type": "dir", "name": "x"}, {"type": "file", "name": "t"}, *ways, *links]
    source = build([{"entries": entries}]).layout(tmp_path / "layout")
    with started("ls", f"oci:{source}") as process:
        ran = finished(process)
    assert (ran.status, "symbolic links that lead too far" in ran.err) == (6, True), ran


@pytest.mark.parametrize("upper", [False, True])
def test_attributes_that_are_kept_are_bounded(tmp_path: Path, *, upper: bool) -> None:
    """A directory's are kept to the end, and those of what a layer above hides as long as a link may want it."""
    kind = "file" if upper else "dir"
    named: list[Data] = [
        {"type": kind, "name": f"d/{n}", "xattrs": {"user.a": "x" * 1_000_000}, "mode": "0755"} for n in range(80)
    ]
    hiding: list[Data] = [{"type": "file", "name": ".wh.d"}]
    source = build([{"entries": named}, *([{"entries": hiding}] if upper else [])]).layout(tmp_path / "layout")
    with started("pack", f"oci:{source}", "-o", str(tmp_path / "a.tgz")) as process:
        ran = finished(process)
    assert (ran.status, "extended attributes of more than 67108864 bytes" in ran.err) == (6, True), ran
    assert not (tmp_path / "a.tgz").exists()
