"""The writer: what it writes, our reader, tarfile, GNU tar and busybox all read the same way."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ocirootfs.entry import Entry, Kind
from ocirootfs.tar import reader, writer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NANO = 10**9
LINKS = (Kind.HARDLINK, Kind.SYMLINK)
NODES = (Kind.CHAR, Kind.BLOCK)
LENGTHS = [1, 50, 79, 80, 81, 98, 99, 100, 101, 102, 155, 156, 255, 256, 300, 511, 512, 513, 5000]

TYPES = {
    Kind.FILE: tarfile.REGTYPE,
    Kind.HARDLINK: tarfile.LNKTYPE,
    Kind.SYMLINK: tarfile.SYMTYPE,
    Kind.CHAR: tarfile.CHRTYPE,
    Kind.BLOCK: tarfile.BLKTYPE,
    Kind.DIRECTORY: tarfile.DIRTYPE,
    Kind.FIFO: tarfile.FIFOTYPE,
}


def name_of(length: int, pattern: bytes) -> bytes:
    """Return a canonical path of so many bytes."""
    made = (pattern * length)[:length]
    return made[:-1] + b"z" if made.endswith(b"/") else made


PATHS = st.builds(
    name_of,
    st.sampled_from(LENGTHS) | st.integers(1, 300),
    st.sampled_from([b"n", b"dir/", b"\xff", "é".encode(), b"a b\n", b"\\", b"=5 path=x\n", b"\x1b["]),
)
XATTRS = st.dictionaries(
    st.sampled_from([b"user.a", b"user.b", b"security.capability"]), st.binary(max_size=30), max_size=3
)


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    kind = draw(st.sampled_from(list(Kind)))
    return Entry(
        draw(PATHS),
        kind,
        draw(st.integers(0, 0o7777)),
        draw(st.integers(0, 2**32 - 2) | st.sampled_from([0o7777777, 0o7777777 + 1])),
        draw(st.integers(0, 2**32 - 2)),
        draw(st.integers(-(2**40) * NANO, 2**40 * NANO) | st.sampled_from([0, -1, 1, NANO, -NANO, -NANO - 1])),
        draw(st.integers(0, 2**63 - 1) | st.sampled_from([8**11 - 1, 8**11])) if kind is Kind.FILE else 0,
        draw(PATHS) if kind in LINKS else b"",
        (draw(st.integers(0, 4095)), draw(st.integers(0, 1048575))) if kind in NODES else (0, 0),
        tuple(sorted(draw(XATTRS).items())),
    )


def shown(entry: Entry) -> Entry:
    """Return what a reader sees of an entry that is written faithfully."""
    return entry._replace(path=entry.path + b"/") if entry.kind is Kind.DIRECTORY else entry


def plain(entry: Entry) -> Entry:
    """Return what is left of an entry in the dialect that has neither attributes nor fractions of a second."""
    return entry._replace(mtime=entry.mtime // NANO * NANO, xattrs=())


def first(data: bytes) -> Entry:
    """Read the entry of some header blocks, without its content."""
    entry, _ = next(reader.read([data]))
    return entry


def blocks(data: bytes) -> list[bytes]:
    """Return the header blocks in some header blocks, leaving out the bodies of extensions."""
    found = []
    at = 0
    while at < len(data):
        block = data[at : at + 512]
        found.append(block)
        size = int(block[124:135], 8) if block[156:157] in (b"x", b"g", b"L", b"K") else 0
        at += 512 + size + -size % 512
    return found


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("kind", [Kind.FILE, Kind.DIRECTORY, Kind.SYMLINK])
@pytest.mark.parametrize("xattrs", [(), ((b"user.a", b""),)])
def test_every_length(length: int, kind: Kind, xattrs: tuple[tuple[bytes, bytes], ...]) -> None:
    """Long names end with a NUL in GNU's records, as GNU tar writes them."""
    link = name_of(length, b"t/") if kind is Kind.SYMLINK else b""
    entry = Entry(name_of(length, b"n"), kind, 0o644, 0, 0, 0, link=link, xattrs=xattrs)
    made = writer.pax_header(entry)
    assert first(made) == shown(entry)
    name = shown(entry).path
    if len(name) > 100:
        assert (name + b"\0" in made) is (not xattrs)


@given(entries(), st.sampled_from([b"rootfs/", b"", b"p" * 99 + b"/"]))
@settings(deadline=None, max_examples=80)
def test_a_prefix_is_for_paths_and_what_hard_links_name(entry: Entry, prefix: bytes) -> None:
    link = prefix + entry.link if entry.kind is Kind.HARDLINK else entry.link
    moved = entry._replace(path=prefix + entry.path, link=link)
    assert writer.gnu_header(entry, prefix) == writer.gnu_header(moved)


def test_the_root_below_a_prefix() -> None:
    assert first(writer.gnu_header(Entry(b"", Kind.DIRECTORY, 0o755, 0, 0, 0), b"rootfs/")).path == b"rootfs/"


@given(entries())
@settings(deadline=None, max_examples=80)
def test_gnu_header_is_read_back(entry: Entry) -> None:
    assert first(writer.gnu_header(entry)) == shown(plain(entry))


@given(entries())
@settings(deadline=None, max_examples=80)
def test_pax_header_is_read_back_whole(entry: Entry) -> None:
    assert first(writer.pax_header(entry)) == shown(entry)


@given(entries())
@settings(deadline=None, max_examples=80)
def test_pax_only_where_it_is_needed(entry: Entry) -> None:
    types = [block[156:157] for block in blocks(writer.pax_header(entry))]
    if entry.xattrs or entry.mtime % NANO:
        assert types == [b"x", TYPES[entry.kind]]
    else:
        assert writer.pax_header(entry) == writer.gnu_header(entry)
    assert writer.pax_header(plain(entry)) == writer.gnu_header(entry)


@given(entries())
@settings(deadline=None, max_examples=80)
def test_what_gnu_headers_are_made_of(entry: Entry) -> None:
    """No PAX, no prefix, no names of users; long names alone have an extension; every block has GNU's magic."""
    made = blocks(writer.gnu_header(entry))
    name = shown(entry).path
    long = [b"K"] * (len(entry.link) > 100) + [b"L"] * (len(name) > 100)
    assert [block[156:157] for block in made] == [*long, TYPES[entry.kind]]
    assert {block[257:265] for block in made} == {b"ustar  \0"}
    assert {block[265:329] for block in made} == {bytes(64)}
    assert {block[345:] for block in made} == {bytes(167)}
    assert all(int(block[148:154], 8) == sum(block[:148] + b" " * 8 + block[156:]) for block in made)


@given(entries())
@settings(deadline=None, max_examples=40)
def test_no_names_of_users_in_pax_headers(entry: Entry) -> None:
    made = writer.pax_header(entry)
    assert {block[265:329] for block in blocks(made)} == {bytes(64)}
    assert len(made) % 512 == 0


def by_tarfile(data: bytes) -> tarfile.TarInfo:
    with tarfile.open(fileobj=io.BytesIO(data), mode="r|", encoding="utf-8", errors="surrogateescape") as archive:
        found = archive.next()
    assert found is not None
    return found


def raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


@given(entries())
@example(Entry(b"f", Kind.FILE, 0o644, 0, 0, -1))
@settings(deadline=None, max_examples=80)
def test_tarfile_reads_both_the_same(entry: Entry) -> None:
    small = entry._replace(size=0)
    for info, seen in (
        (by_tarfile(writer.gnu_header(small)), plain(small)),
        (by_tarfile(writer.pax_header(small)), small),
    ):
        assert (raw(info.name), info.type, raw(info.linkname)) == (seen.path, TYPES[seen.kind], seen.link)
        assert (info.mode, info.uid, info.gid, info.uname, info.gname) == (seen.mode, seen.uid, seen.gid, "", "")
        assert Decimal(info.pax_headers.get("mtime", str(info.mtime))) * NANO == seen.mtime
        found = {key.removeprefix("SCHILY.xattr."): value for key, value in info.pax_headers.items() if "xattr" in key}
        assert {raw(key): raw(value) for key, value in found.items()} == dict(seen.xattrs)
        if seen.kind in NODES:
            assert (info.devmajor, info.devminor) == seen.device


SAMPLES = [
    *(Entry(name_of(n, b"n"), Kind.FILE, 0o644, 0, 0, 0) for n in (99, 100, 101, 255)),
    *(Entry(name_of(n, b"d"), Kind.DIRECTORY, 0o755, 0, 0, 0) for n in (98, 99, 100, 101)),
    Entry(name_of(300, b"deep/"), Kind.FILE, 0o4755, 2**32 - 2, 0o7777777 + 1, 1_600_000_000 * NANO),
    Entry(b"short", Kind.SYMLINK, 0o777, 0, 0, 0, link=name_of(101, b"t")),
    Entry(name_of(150, b"l"), Kind.SYMLINK, 0o777, 0, 0, 0, link=name_of(150, b"t/")),
    Entry(name_of(101, b"h"), Kind.HARDLINK, 0o644, 0, 0, 0, link=name_of(101, b"n")),
    Entry(b"raw\xff\xfe", Kind.FILE, 0o600, 1, 2, -NANO),
    Entry(b"old", Kind.FILE, 0o600, 1, 2, -2_000_000_000 * NANO),
    Entry(b"late", Kind.FILE, 0o600, 1, 2, 2**34 * NANO),
    Entry(b"char", Kind.CHAR, 0o666, 0, 0, 0, device=(4095, 1048575)),
    Entry(b"block", Kind.BLOCK, 0o660, 0, 6, 0, device=(8, 0)),
    Entry(b"fifo", Kind.FIFO, 0o600, 0, 0, 0),
    Entry(b"xattrs", Kind.FILE, 0o644, 0, 0, 1_500_000_000, xattrs=((b"user.a", b"\0\xff\n"), (b"user.b", b""))),
    Entry(name_of(200, b"x"), Kind.FILE, 0o644, 0, 0, 1_123_456_789, xattrs=((b"user.a", b"1"),)),
]
LETTERS = {
    Kind.FILE: "-", Kind.HARDLINK: "h", Kind.SYMLINK: "l", Kind.CHAR: "c", Kind.BLOCK: "b", Kind.DIRECTORY: "d",
    Kind.FIFO: "p",
}  # fmt: skip


@pytest.mark.real
@pytest.mark.parametrize("dialect", [writer.gnu_header, writer.pax_header])
def test_gnu_tar_lists_it(dialect: Callable[[Entry], bytes], real: Callable[[str], Path]) -> None:
    data = b"".join(map(dialect, SAMPLES)) + writer.END
    command = [str(real("tar")), "--numeric-owner", "--quoting-style=literal", "--full-time", "--utc", "-tvf", "-"]
    environment = {"LC_ALL": "C", "PATH": "/usr/bin:/bin", "TZ": "UTC"}
    done = subprocess.run(command, input=data, capture_output=True, env=environment, check=True)
    assert done.stderr == b""
    lines = done.stdout.splitlines()
    assert len(lines) == len(SAMPLES)
    for line, entry in zip(lines, SAMPLES, strict=True):
        arrow = {Kind.SYMLINK: b" -> ", Kind.HARDLINK: b" link to "}.get(entry.kind, b"") + entry.link
        assert line.endswith(b" " + shown(entry).path + arrow)
        assert line.startswith(LETTERS[entry.kind].encode())
        assert b" %d/%d " % (entry.uid, entry.gid) in line
        if entry.kind in NODES:
            assert b" %d,%d " % entry.device in line
    days = {b"raw\xff\xfe": b"1969-12-31 23:59:59", b"old": b"1906-08-16 20:26:40", b"late": b"2514-05-30 01:53:04"}
    for entry, line in zip(SAMPLES, lines, strict=True):
        assert days.get(entry.path, b"") in line


@pytest.mark.real
@pytest.mark.parametrize("mtime", [0, -1, -NANO - 1, -1_500_000_000, 1_600_000_000_123_456_789, 2**33 * NANO])
def test_gnu_tar_restores_times(mtime: int, tmp_path: Path, real: Callable[[str], Path]) -> None:
    """Exactly from PAX, the second before from plain headers."""
    exact, rough = (Entry(name, Kind.FILE, 0o644, 0, 0, mtime) for name in (b"exact", b"rough"))
    data = writer.pax_header(exact) + writer.gnu_header(rough) + writer.END
    subprocess.run([real("tar"), "--no-same-owner", "-C", tmp_path, "-xf", "-"], input=data, check=True)
    assert (tmp_path / "exact").stat().st_mtime_ns == mtime
    assert (tmp_path / "rough").stat().st_mtime_ns == mtime // NANO * NANO


@pytest.mark.real
@pytest.mark.parametrize("dialect", [writer.gnu_header, writer.pax_header])
def test_busybox_lists_it(dialect: Callable[[Entry], bytes], real: Callable[[str], Path]) -> None:
    data = b"".join(map(dialect, SAMPLES)) + writer.END
    listed = subprocess.run([real("busybox"), "tar", "-tf", "-"], input=data, stdout=subprocess.PIPE, check=True).stdout
    # busybox shows bytes that its locale does not have as question marks.
    names = [shown(entry).path.replace(b"\xff", b"?").replace(b"\xfe", b"?") for entry in SAMPLES]
    assert listed.replace(b"\xff", b"?").replace(b"\xfe", b"?").splitlines() == names


@pytest.mark.real
def test_gnu_tar_reads_a_size_above_eight_gigabytes(real: Callable[[str], Path]) -> None:
    data = writer.gnu_header(Entry(b"big", Kind.FILE, 0o644, 0, 0, 0, 8**11))
    done = subprocess.run(
        [real("tar"), "-tvf", "-"], input=data, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False
    )
    assert b" 8589934592 " in done.stdout


@pytest.mark.real
@pytest.mark.parametrize("where", ["path", "link"])
def test_bsdtar_takes_long_names_of_any_bytes(where: str, tmp_path: Path, real: Callable[[str], Path]) -> None:
    """It takes a PAX name for UTF-8, and fails where that is none, unless `hdrcharset` says so (pax, "hdrcharset")."""
    long = b"caf\xe9-" + b"n" * 120
    path, kind, link = (long, Kind.FILE, b"") if where == "path" else (b"a", Kind.SYMLINK, long)
    header = writer.pax_header(Entry(path, kind, 0o644, 0, 0, 1_500_000_000, 0, link))
    (tmp_path / "a.tar").write_bytes(header + writer.END)
    subprocess.run([real("bsdtar"), "-xf", "a.tar"], cwd=tmp_path, check=True, timeout=60, capture_output=True)
    (found,) = (each for each in tmp_path.iterdir() if each.name != "a.tar")
    assert os.fsencode(found.name) == path
    assert where == "path" or os.fsencode(found.readlink()) == long
    utf8 = writer.pax_header(Entry("é".encode() * 60, Kind.FILE, 0o644, 0, 0, 1_500_000_000, 0))
    assert (b"hdrcharset" in header, b"hdrcharset" in utf8) == (True, False)


def test_a_whole_archive() -> None:
    bodies = {Kind.FILE: b"content" * 100}
    made = b""
    for entry in SAMPLES:
        body = bodies.get(entry.kind, b"")
        made += writer.pax_header(entry._replace(size=len(body))) + body + writer.file_padding(len(body))
    read = [(entry, b"".join(body)) for entry, body in reader.read([made + writer.END], end_required=True)]
    assert [(e._replace(size=0), body) for e, body in read] == [(shown(e), bodies.get(e.kind, b"")) for e in SAMPLES]


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 8**11])
def test_padding(size: int) -> None:
    padding = writer.file_padding(size)
    assert (size + len(padding)) % 512 == 0
    assert len(padding) < 512
    assert not padding.strip(b"\0")
