"""What flattening needs: memory for the paths alone, and room on disk that may run out."""

from __future__ import annotations

import base64
import subprocess
import sys
import tarfile
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

import ocirootfs
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
    assert (ran.status, "extended attributes and long names of more than 67108864 bytes" in ran.err) == (6, True), ran
    assert not (tmp_path / "a.tgz").exists()


@pytest.mark.parametrize(
    "entry",
    [
        {"type": "dir", "name": "{}", "fmt": "gnu"},
        {"type": "file", "name": "{}", "fmt": "gnu"},
        {"type": "symlink", "name": "short-{}", "fmt": "gnu", "linkname": "{}"},
    ],
    ids=["directory", "file", "target"],
)
def test_names_that_no_file_system_takes_are_bounded(tmp_path: Path, entry: Data) -> None:
    """A thousand of 64,000 bytes are 130 KB of gzip, and stay in memory to the end."""
    names = [f"{number:08}" for number in range(1100)]
    long = [{key: value.format(name + "x" * 64_000 if value == "{}" else name) for key, value in entry.items()}
            for name in names]  # fmt: skip
    source = build([{"entries": long}]).layout(tmp_path / "layout")
    with started("ls", f"oci:{source}") as process:
        ran = finished(process)
    assert (ran.status, "extended attributes and long names of more than 67108864 bytes" in ran.err) == (6, True), ran


def test_a_chain_of_links_that_wait_is_gone_through_once(tmp_path: Path) -> None:
    """Ten thousand took ten seconds, each moving the names of all before it one step on."""
    chain: list[Data] = [{"type": "hardlink", "name": f"l{n}", "linkname": f"l{n + 1}"} for n in range(10_000)]
    entries = [*chain, {"type": "file", "name": "l10000", "data": "x"}]
    source = build([{"entries": entries}]).layout(tmp_path / "layout")
    began = time.monotonic()
    with started("pack", f"oci:{source}", "-o", str(tmp_path / "a.tar"), "--layout", "rootfs") as process:
        finished(process).ok  # noqa: B018
    assert time.monotonic() - began < 5
    with tarfile.open(tmp_path / "a.tar") as found:
        links = {member.name: member.linkname for member in found if member.islnk()}
    assert links == {f"l{n}": "l10000" for n in range(10_000)}


def test_parents_of_deep_paths_cost_no_more_than_their_length(tmp_path: Path) -> None:
    """A symbolic link given after another makes the next path be looked up from the top: 40 ms each, at this depth."""
    deep = "/".join(["a"] * 2000)
    entries: list[Data] = [{"type": "symlink", "name": "m", "linkname": "k"}, {"type": "file", "name": "m/x"}]
    for number in range(250):
        entries.append({"type": "symlink", "name": f"s{number}", "linkname": "q"})
        entries.append({"type": "file", "name": f"{deep}/f{number}", "fmt": "gnu"})
    source = build([{"entries": entries}]).layout(tmp_path / "layout")
    began = time.monotonic()
    with started("pack", f"oci:{source}", "-o", str(tmp_path / "a.tgz")) as process:
        finished(process).ok  # noqa: B018
    assert time.monotonic() - began < 6


def test_layers_that_need_care_do_not_start_everything_over_each(tmp_path: Path) -> None:
    """Each layer gives a name twice: what was shown has to be taken back, but not once a layer."""
    layers: list[Data] = [
        {"entries": [{"type": "file", "name": f"x{n}", "data": "1"}, {"type": "file", "name": f"big{n}", "data": "b"},
                     {"type": "file", "name": f"x{n}", "data": "2"}]} for n in range(12)
    ]  # fmt: skip
    source = build(layers).layout(tmp_path / "layout")
    read: Counter[int] = Counter()
    with ocirootfs.open(f"oci:{source}") as image:
        ocirootfs.pack(
            image,
            str(tmp_path / "a.tar"),
            layout=ocirootfs.Layout("rootfs"),
            compress="none",
            progress=lambda layer, _: read.update([layer.number]),
        )
    assert max(read.values()) <= 9, read  # once, then twice in each of four goes
    with tarfile.open(tmp_path / "a.tar") as found:
        contents = {name: found.extractfile(name).read() for name in found.getnames() if name.startswith("x")}  # type: ignore[union-attr]
    assert contents == {f"x{n}": b"2" for n in range(12)}


def test_a_hidden_sparse_file_takes_no_more_room_than_it_has_data(tmp_path: Path) -> None:
    """Two kilobytes that stand for three gigabytes, which the layer above replaces; nobody asks for them."""
    lower = tar([(sparse("f", 3 << 30), b"data"), (sparse("linked", 1 << 20), b"more")])
    lower_link = {"type": "hardlink", "name": "kept", "linkname": "linked"}
    upper: list[Data] = [{"type": "file", "name": "f", "data": "new"}, {"type": "file", "name": "linked", "data": "n"}]
    stack: list[Data] = [{"bytes_b64": base64.b64encode(lower).decode()}, {"entries": [*upper]}]
    linked = [stack[0], {"entries": [lower_link]}, {"entries": upper}]
    for number, layers in enumerate((stack, linked)):
        source = build(layers).layout(tmp_path / f"layout{number}")
        target = tmp_path / f"{number}.tar"
        words = ["pack", f"oci:{source}", "-o", str(target), "--layout", "rootfs", "--max-expanded", "4MiB"]
        with started(*words, "--tmpdir", str(tmp_path / "none")) as process:  # no file can be made there
            finished(process).ok  # noqa: B018
        with tarfile.open(target) as found:
            content = {name: found.extractfile(name).read() for name in found.getnames() if name}  # type: ignore[union-attr]
    assert content == {"f": b"new", "linked": b"n", "kept": b"more" + bytes((1 << 20) - 4)}


def sparse(name: str, size: int) -> tarfile.TarInfo:
    """A sparse file whose data comes first and is followed by nothing."""
    info = tarfile.TarInfo(name)
    info.size = size
    return info


def tar(members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    """Sparse entries in GNU's old form, which tarfile reads and does not write."""
    pieces = []
    for info, data in members:
        size, info.type, info.size = info.size, b"S", len(data)
        block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
        block[386:410] = b"%011o\0%011o\0" % (0, len(data))
        block[483:495] = b"%011o\0" % size
        block[148:156] = b" " * 8
        block[148:156] = b"%06o\0 " % sum(block)
        pieces.append(bytes(block) + data + bytes(-len(data) % 512))
    return b"".join(pieces) + bytes(1024)
