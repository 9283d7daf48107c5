"""The strict reader: what every writer of tar writes is read exactly, and everything else is refused.

The archives are tarfile's, GNU tar's, and blocks put together here by hand, never our own writer's.
"""

from __future__ import annotations

import io
import itertools
import json
import struct
import subprocess
import tarfile
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ocirootfs.entry import Entry, Kind
from ocirootfs.errors import LayerError, TruncatedError
from ocirootfs.limits import USUAL, Limits
from ocirootfs.tar import header, pax, reader
from tests.layers import FIXTURES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

DATA: dict[str, Any] = json.loads((FIXTURES / "tar.json").read_text())
END = bytes(1024)
NANO = 10**9

FORMATS = {"gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT, "ustar": tarfile.USTAR_FORMAT}


def octal(value: int, width: int) -> bytes:
    return b"%0*o\0" % (width - 1, value)


def block(name: bytes = b"f", type_: bytes = b"0", **fields: bytes) -> bytes:
    """Return a header block, GNU's if not told otherwise; `tail` begins where the prefix does."""
    parts = {
        "name": name,
        "mode": octal(0o644, 8),
        "uid": octal(0, 8),
        "gid": octal(0, 8),
        "size": octal(0, 12),
        "mtime": octal(0, 12),
        "link": b"",
        "magic": b"ustar  \0",
        "tail": b"",
    }
    assert set(fields) <= set(parts)
    parts |= fields
    form = "100s 8s 8s 8s 12s 12s 8s c 100s 8s 80x 167s"
    values = [parts[key] for key in ("name", "mode", "uid", "gid", "size", "mtime")]
    made = struct.pack(form, *values, b" " * 8, type_, parts["link"], parts["magic"], parts["tail"])
    return checksummed(made)


def checksummed(made: bytes) -> bytes:
    made = made[:148] + b" " * 8 + made[156:]
    return made[:148] + b"%06o\0 " % sum(made) + made[156:]


def padded(body: bytes) -> bytes:
    return body + bytes(-len(body) % 512)


def file(name: bytes = b"f", body: bytes = b"", **fields: bytes) -> bytes:
    return block(name, size=octal(len(body), 12), **fields) + padded(body)


def extension(kind: bytes, body: bytes) -> bytes:
    magic = b"ustar  \0" if kind in (b"L", b"K") else b"ustar\x0000"
    return block(b"extension", kind, size=octal(len(body), 12), magic=magic) + padded(body)


def record(key: bytes, value: bytes) -> bytes:
    rest = len(key) + len(value) + 3
    length = next(n for n in range(rest, rest + 9) if n == rest + len(str(n)))
    return b"%d %b=%b\n" % (length, key, value)


def pax_records(**records: str) -> bytes:
    return extension(b"x", b"".join(record(key.encode(), value.encode()) for key, value in records.items()))


def chunked(data: bytes, sizes: Iterable[int]) -> Iterator[bytes]:
    """Cut `data` into chunks of the given sizes, over and over; 0 makes an empty chunk."""
    at = 0
    for size in itertools.cycle(sizes):
        yield data[at : at + size]
        at += size
        if at >= len(data):
            return


Read = list[tuple[Entry, bytes]]


def read(data: bytes, sizes: Iterable[int] = (1 << 20,), *, end_required: bool = False) -> Read:
    return [(e, b"".join(body)) for e, body in reader.read(chunked(data, sizes), end_required=end_required)]


def only(data: bytes) -> Entry:
    ((entry, _),) = read(data)
    return entry


def refused(data: bytes, words: str, *, end_required: bool = False) -> LayerError:
    with pytest.raises(LayerError, match=words) as caught:
        read(data, end_required=end_required)
    return caught.value


# Every type, every format, against tarfile and GNU tar.


def members() -> list[tuple[tarfile.TarInfo, bytes]]:
    """Return one of each type, with what a plain ustar header can say."""
    made: list[tuple[tarfile.TarInfo, bytes]] = []

    def add(name: str, type_: bytes, body: bytes = b"", **fields: Any) -> None:
        info = tarfile.TarInfo(name)
        info.type, info.size, info.mode, info.mtime = type_, len(body), 0o644, 1_600_000_000
        info.uname = info.gname = "nobody"
        for key, value in fields.items():
            setattr(info, key, value)
        made.append((info, body))

    add("dir", tarfile.DIRTYPE, mode=0o1777, uid=1, gid=2)
    add("dir/empty", tarfile.REGTYPE)
    add("dir/file", tarfile.REGTYPE, b"content", mode=0o4755, uid=0o7777777, gid=0o7777777)
    add("old", tarfile.AREGTYPE, b"v7")
    add("contiguous", tarfile.CONTTYPE, b"c" * 512)
    add("link", tarfile.LNKTYPE, linkname="dir/file", mode=0)
    add("symlink", tarfile.SYMTYPE, linkname="../a/./b//", mode=0o777)
    add("char", tarfile.CHRTYPE, devmajor=1, devminor=3)
    add("block", tarfile.BLKTYPE, devmajor=4095, devminor=1048575)
    add("fifo", tarfile.FIFOTYPE, mtime=0)
    add("big", tarfile.REGTYPE, bytes(range(256)) * 600)
    add("n" * 100, tarfile.REGTYPE, b"exactly a hundred")
    return made


KINDS = {
    tarfile.REGTYPE: Kind.FILE,
    tarfile.AREGTYPE: Kind.FILE,
    tarfile.CONTTYPE: Kind.FILE,
    tarfile.LNKTYPE: Kind.HARDLINK,
    tarfile.SYMTYPE: Kind.SYMLINK,
    tarfile.CHRTYPE: Kind.CHAR,
    tarfile.BLKTYPE: Kind.BLOCK,
    tarfile.DIRTYPE: Kind.DIRECTORY,
    tarfile.FIFOTYPE: Kind.FIFO,
}


def expected(info: tarfile.TarInfo, body: bytes) -> tuple[Entry, bytes]:
    kind = KINDS[info.type]
    return Entry(
        info.name.encode("utf-8", "surrogateescape") + (b"/" if info.isdir() else b""),
        kind,
        info.mode,
        info.uid,
        info.gid,
        int(info.mtime) * NANO,
        len(body),
        info.linkname.encode("utf-8", "surrogateescape"),
        (info.devmajor, info.devminor) if kind in (Kind.CHAR, Kind.BLOCK) else (0, 0),
    ), body


def archive(infos: list[tuple[tarfile.TarInfo, bytes]], form: str, *, end: bool = True) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=FORMATS[form], errors="surrogateescape", encoding="utf-8") as tar:
        for info, body in infos:
            tar.addfile(info, io.BytesIO(body))
        written = tar.offset
    return made.getvalue()[: None if end else written]


@pytest.mark.parametrize("form", FORMATS)
def test_every_type(form: str) -> None:
    infos = members()
    assert read(archive(infos, form), end_required=True) == [expected(info, body) for info, body in infos]


def test_every_type_of_v7() -> None:
    """V7 headers have no magic, and whatever stands behind the link name means nothing."""
    fields = {"magic": b"", "tail": b"\xff" * 167}
    data = (
        file(b"file", b"content", **fields)
        + block(b"dir/", b"\0", **fields)
        + block(b"hard", b"1", link=b"file", **fields)
        + block(b"sym", b"2", link=b"t", **fields)
    )
    assert [(e.path, e.kind, e.size, e.link) for e, _ in read(data)] == [
        (b"file", Kind.FILE, 7, b""),
        (b"dir/", Kind.DIRECTORY, 0, b""),
        (b"hard", Kind.HARDLINK, 0, b"file"),
        (b"sym", Kind.SYMLINK, 0, b"t"),
    ]


@pytest.mark.real
@pytest.mark.parametrize("form", ["v7", "oldgnu", "gnu", "ustar", "pax"])
def test_what_gnu_tar_writes(form: str, tmp_path: Path, real: Callable[[str], Path]) -> None:
    tree = tmp_path / "t"
    (tree / "d").mkdir(parents=True)
    (tree / "d" / "file").write_bytes(b"content")
    (tree / "d" / ("n" * 90)).write_bytes(b"long")
    (tree / "link").hardlink_to(tree / "d" / "file")
    (tree / "symlink").symlink_to("d/file")
    output = [str(real("tar")), f"--format={form}", "--sort=name", "--mtime=@1234567890", "--owner=:7", "--group=:8"]
    data = subprocess.check_output([*output, "-C", str(tmp_path), "-cf", "-", "t"])

    found = read(data, end_required=True)
    assert [(e.path, e.kind, body) for e, body in found] == [
        (b"t/", Kind.DIRECTORY, b""),
        (b"t/d/", Kind.DIRECTORY, b""),
        (b"t/d/file", Kind.FILE, b"content"),
        (b"t/d/" + b"n" * 90, Kind.FILE, b"long"),
        (b"t/link", Kind.HARDLINK, b""),
        (b"t/symlink", Kind.SYMLINK, b""),
    ]
    assert [e.link for e, _ in found[-2:]] == [b"t/d/file", b"d/file"]
    assert {(e.uid, e.gid, e.mtime) for e, _ in found} == {(7, 8, 1234567890 * NANO)}


@pytest.mark.parametrize("form", FORMATS)
@given(sizes=st.lists(st.integers(0, 1300), min_size=1, max_size=6).filter(any))
@settings(deadline=None, max_examples=25)
def test_chunks_do_not_matter(form: str, sizes: list[int]) -> None:
    infos = [*members(), (tarfile.TarInfo("l/" * 99), b"")] if form != "ustar" else members()
    data = archive(infos, form)
    assert read(data, sizes, end_required=True) == read(data, end_required=True)


def test_chunks_of_one_byte() -> None:
    data = sparse_gnu(SPARSE_BODY, 30) + file(b"after", b"x" * 700) + END
    assert read(data, [1]) == read(data)


@given(sizes=st.lists(st.integers(50, 2000), min_size=1, max_size=4), wanted=st.lists(st.integers(0, 3), min_size=14))
@settings(deadline=None, max_examples=40)
def test_a_body_may_be_left_anywhere(sizes: list[int], wanted: list[int]) -> None:
    """Entries are the same whether their bodies are read, left half way or not begun."""
    data = archive(members(), "pax", end=False) + sparse_gnu(SPARSE_BODY, 3) + file(b"after", b"y" * 3000) + END
    whole = read(data)
    found = []
    for (entry, body), pieces in zip(reader.read(chunked(data, sizes)), wanted, strict=False):
        got = b"".join(itertools.islice(body, pieces))
        found.append(entry)
        assert whole[len(found) - 1][1].startswith(got)
    assert found == [entry for entry, _ in whole][: len(found)]


# Names.


@pytest.mark.parametrize("length", [99, 100, 101, 155, 156, 255, 256, 300, 5000])
@pytest.mark.parametrize("form", ["gnu", "pax"])
@pytest.mark.parametrize("name", ["n", "é", "\udcff", "ab/"])
def test_long_names(form: str, length: int, name: str) -> None:
    text = (name * length)[:length].rstrip("/")
    info = tarfile.TarInfo(text)
    link = tarfile.TarInfo("link")
    link.type, link.linkname = tarfile.LNKTYPE, text
    raw = text.encode("utf-8", "surrogateescape")
    assert [(e.path, e.link) for e, _ in read(archive([(info, b""), (link, b"")], form))] == [
        (raw, b""),
        (b"link", raw),
    ]


def test_ustar_prefix() -> None:
    info = tarfile.TarInfo("p" * 155 + "/" + "n" * 100)
    assert only(archive([(info, b"")], "ustar")).path == info.name.encode()


@pytest.mark.parametrize(
    ("magic", "tail", "path"),
    [
        (b"ustar\x0000", b"usr/lib", b"usr/lib/f"),
        (b"ustar\x0000", octal(1234567890, 12) * 2, octal(1234567890, 12)[:-1] + b"/f"),
        (b"ustar  \0", b"usr/lib", b"usr/lib/f"),  # Go before 1.8 (golang/go#12594)
        (b"ustar  \0", b"1234", b"f"),
        (b"ustar  \0", octal(1234567890, 12) * 2, b"f"),  # GNU's access and change time
        (b"ustar  \0", octal(1234567890, 12), b"f"),
        (b"ustar  \0", b"\x80" + bytes(11) + b"\xff" * 12, b"f"),
        (b"ustar  \0", "été".encode(), "été/f".encode()),
        (b"ustar  \0", b"\xff\xfe", b"f"),  # Go reads it as a number, too
        (b"", b"usr/lib", b"f"),
    ],
)
def test_prefix_or_times(magic: bytes, tail: bytes, path: bytes) -> None:
    assert only(block(magic=magic, tail=tail)).path == path


def test_gnu_long_name_beats_the_header() -> None:
    data = extension(b"L", b"l" * 200 + b"\0junk") + extension(b"K", b"k" * 200 + b"\0") + block(b"f", b"2", link=b"g")
    entry = only(data)
    assert (entry.path, entry.link) == (b"l" * 200, b"k" * 200)


def test_extensions_end_with_their_entry() -> None:
    data = (
        pax_records(path="long", mtime="1.5") + block(b"a") + extension(b"L", b"longer\0") + block(b"b") + block(b"c")
    )
    assert [(e.path, e.mtime) for e, _ in read(data)] == [(b"long", 1500000000), (b"longer", 0), (b"c", 0)]


def test_the_last_pax_record_counts_and_an_empty_one_restores() -> None:
    assert only(extension(b"x", record(b"path", b"a") + record(b"path", b"b")) + block()).path == b"b"
    assert only(extension(b"x", record(b"path", b"a") + record(b"path", b"")) + block()).path == b"f"


def test_pax_records_that_mean_nothing_here_are_dropped() -> None:
    records = pax_records(comment="x", uname="root", atime="no", charset="BINARY", hdrcharset="BINARY", GNU="?")
    assert only(records + block()) == only(block())


@pytest.mark.parametrize(
    "first",
    [
        pax_records(path="a") + extension(b"L", b"b\0"),
        extension(b"L", b"b\0") + pax_records(path="a"),
        pax_records(linkpath="a") + extension(b"K", b"b\0"),
        extension(b"K", b"b\0") + pax_records(linkpath="a"),
    ],
)
def test_two_names_for_one_entry_are_refused(first: bytes) -> None:
    refused(first + block(b"f", b"2", link=b"t"), "two extension headers name one entry")


def test_global_headers_are_ignored() -> None:
    data = extension(b"g", record(b"path", b"evil") + record(b"size", b"0") + record(b"uid", b"7") + record(b"c", b"x"))
    assert read(data + file(b"f", b"content") + file(b"g")) == read(file(b"f", b"content") + file(b"g"))


def test_trailing_slash() -> None:
    """Of a directory in V7, which knows no other way; a file of POSIX's is a file whatever its name (as in Go)."""
    assert only(block(b"d/", b"\0")).kind is Kind.DIRECTORY
    assert only(extension(b"L", b"d/\0") + block(b"d", b"\0")).kind is Kind.DIRECTORY
    assert only(pax_records(path="d/") + block(b"d", b"\0")).kind is Kind.DIRECTORY
    assert only(pax_records(path="d") + block(b"d/", b"\0")).kind is Kind.FILE
    assert only(block(b"d/", b"0")).kind is Kind.FILE
    assert only(block(b"d", b"5")).path == b"d"


def test_volume_labels_are_skipped() -> None:
    assert read(block(b"label", b"V") + file(b"f", b"x")) == read(file(b"f", b"x"))


@pytest.mark.parametrize("type_", [b"D", b"M", b"N", b"A", b"I", b"X", b"Z", b"8", b"9", b" ", b"\xff", b"\n"])
def test_unknown_types_are_refused(type_: bytes) -> None:
    error = refused(file() + block(b"odd\x1b", type_), "unknown entry type '")
    assert (error.offset, error.path) == (512, b"odd\x1b")
    assert "\x1b" not in str(error)
    assert "\n" not in str(error)


# Numbers.


@pytest.mark.parametrize(("text", "value"), DATA["numbers"])
def test_header_numbers(text: str, value: int | None) -> None:
    field = text.encode("latin-1")
    if value is not None:
        assert header.number(field) == value
        return
    with pytest.raises(LayerError, match="not a number"):
        header.number(field)


@pytest.mark.parametrize(("value", "width", "text"), DATA["widths"])
def test_header_numbers_written(value: int, width: int, text: str) -> None:
    assert header.field(value, width) == text.encode("latin-1")


@given(st.sampled_from([8, 12]), st.data())
def test_header_numbers_round_trip(width: int, data: st.DataObject) -> None:
    limit = 1 << 8 * (width - 1)
    value = data.draw(st.integers(-limit, limit - 1))
    assert header.number(header.field(value, width)) == value
    assert len(header.field(value, width)) == width


@pytest.mark.parametrize("field", ["mode", "uid", "gid", "size", "mtime"])
@pytest.mark.parametrize("text", [row[0] for row in DATA["numbers"] if row[1] is None and len(row[0]) == 8])
def test_no_field_takes_what_is_no_number(field: str, text: str) -> None:
    error = refused(file(b"ok") + block(b"f", **{field: text.encode("latin-1")}), "not a number")
    assert (error.offset, error.path) == (512, b"f")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"uid": b"\xff" * 8}, "owner -1:0 is out of range"),
        ({"gid": b"\x80" + bytes(3) + b"\xff" * 4}, "owner 0:4294967295 is out of range"),
        ({"uid": b"\x80" + b"\xff" * 7}, "is out of range"),
        ({"size": b"\xff" * 12}, "a size of -1 bytes is out of range"),
        ({"size": b"\x80" + bytes(3) + b"\x80" + bytes(7)}, "a size of 9223372036854775808 bytes is out of range"),
    ],
)
def test_numbers_out_of_range(fields: dict[str, bytes], words: str) -> None:
    refused(block(**fields), words)


@pytest.mark.parametrize(
    ("major", "minor", "ok"),
    [(0, 0, True), (4095, 1048575, True), (4096, 0, False), (0, 1048576, False), (-1, 0, False)],
)
def test_device_numbers(major: int, minor: int, ok: bool) -> None:
    data = block(b"f", b"3")
    data = checksummed(data[:329] + header.field(major, 8) + header.field(minor, 8) + bytes(167))
    if ok:
        assert only(data).device == (major, minor)
    else:
        refused(data, f"device number {major}:{minor} is out of range")


def test_owner_up_to_the_kernels_limit() -> None:
    assert only(block(uid=b"\x80" + bytes(3) + b"\xff\xff\xff\xfe")).uid == 2**32 - 2
    assert only(pax_records(uid="4294967294") + block()).uid == 2**32 - 2
    refused(pax_records(gid="4294967295") + block(), "out of range")


def test_mode_is_permissions_alone() -> None:
    assert only(block(mode=b"0104755\0")).mode == 0o4755
    assert only(block(mode=b"1007777\0")).mode == 0o7777


@pytest.mark.parametrize("kind", [b"1", b"2", b"3", b"4", b"5", b"6"])
def test_sizes_of_what_has_no_content_are_ignored(kind: bytes) -> None:
    """As in Go, libarchive, GNU tar: nothing follows, and nothing is skipped."""
    data = block(b"x", kind, size=octal(512, 12), link=b"t") + file(b"f", b"content")
    assert [(e.path, e.size) for e, _ in read(data)] == [(b"x", 0), (b"f", 7)]
    data = pax_records(size="99999") + block(b"x", kind, link=b"t") + file(b"f", b"content")
    assert [(e.path, e.size) for e, _ in read(data)] == [(b"x", 0), (b"f", 7)]


def test_sizes_of_v7_directories_are_ignored() -> None:
    data = block(b"d/", b"\0", size=octal(512, 12)) + file(b"f", b"content")
    assert [(e.path, e.kind, e.size) for e, _ in read(data)] == [(b"d/", Kind.DIRECTORY, 0), (b"f", Kind.FILE, 7)]


def test_pax_size_beats_the_header() -> None:
    """CVE-2025-62518: who takes the header's size reads the content as headers."""
    hidden = file(b"hidden")
    data = pax_records(size=str(len(hidden))) + block(b"outer") + hidden + file(b"next")
    assert [(e.path, e.size) for e, _ in read(data)] == [(b"outer", 512), (b"next", 0)]


@pytest.mark.parametrize(("text", "value"), DATA["sizes"])
def test_pax_sizes(text: str, value: int | None) -> None:
    data = extension(b"x", record(b"size", text.encode("latin-1"))) + block()
    if value is None:
        refused(data, "not a number|out of range")
        return
    entry, _ = next(reader.read([data]))
    assert entry.size == value


@pytest.mark.parametrize(("text", "value"), DATA["times"])
def test_pax_times(text: str, value: int | None) -> None:
    data = extension(b"x", record(b"mtime", text.encode("latin-1"))) + block()
    if value is None:
        refused(data, "time is not a number")
    else:
        assert only(data).mtime == value


@given(st.integers(-(10**21), 10**21))
def test_pax_times_round_trip(value: int) -> None:
    assert pax.nanoseconds(pax.seconds(value)) == value


def test_mtime_before_1970_and_after_2242() -> None:
    assert only(block(mtime=b"\xff" * 12)).mtime == -NANO
    info = tarfile.TarInfo("f")
    info.mtime = 1 << 40
    assert only(archive([(info, b"")], "gnu")).mtime == (1 << 40) * NANO
    assert only(archive([(info, b"")], "pax")).mtime == (1 << 40) * NANO


# Extended attributes and the other records of PAX headers.


def test_xattrs_are_bytes_in_order_of_name() -> None:
    records = [(b"user.b", b"a=b\n\0\xff"), (b"security.capability", b"\1\0\0\2" + bytes(16)), (b"user.a", b"")]
    data = extension(b"x", b"".join(record(b"SCHILY.xattr." + name, value) for name, value in records))
    for entry in (block(b"d", b"5"), file(b"f", b"x"), block(b"l", b"2", link=b"f")):
        assert only(data + entry).xattrs == tuple(sorted(records))
    assert only(pax_records(**{"LIBARCHIVE.xattr.user.a": "eA==", "SCHILY.acl.access": "u::rw"}) + file()).xattrs == ()


@pytest.mark.parametrize(("why", "body"), DATA["records"], ids=[row[0] for row in DATA["records"]])
def test_malformed_records(why: str, body: str) -> None:
    error = refused(file() + extension(b"x", body.encode("latin-1")) + block(), "an extended header record")
    assert error.offset == 512


def test_a_length_of_sixty_thousand_digits() -> None:
    refused(extension(b"x", b"9" * 60000 + b" path=a\n") + block(), "has no length")


@given(st.binary(max_size=60))
def test_records_are_parsed_or_refused(body: bytes) -> None:
    with suppress(LayerError):
        pax.records(body)


KEYS = st.sampled_from([b"path", b"linkpath", b"size", b"uid", b"SCHILY.xattr.user.x", b"GNU.sparse.name"])


@given(st.dictionaries(KEYS, st.binary(max_size=120).map(lambda value: value.replace(b"\0", b"0"))))
def test_records_round_trip(records: dict[bytes, bytes]) -> None:
    made = b"".join(pax.record(key, value) for key, value in records.items())
    assert made == b"".join(record(key, value) for key, value in records.items())
    assert pax.records(made) == records


# Bounds on extension headers.


@pytest.mark.parametrize("kind", [b"x", b"g", b"L", b"K"])
@pytest.mark.parametrize("size", [octal(USUAL.extension + 1, 12), b"77777777777\0", b"\xff" * 12])
def test_extension_headers_are_bounded_by_their_size_field(kind: bytes, size: bytes) -> None:
    refused(block(b"x", kind, size=size) + bytes(512), "over the limit")


def test_the_largest_extension_header() -> None:
    body = record(b"comment", b"x" * (USUAL.extension - 17))
    assert len(body) == USUAL.extension
    assert only(extension(b"x", body) + block()) == only(block())


def test_extension_headers_are_counted() -> None:
    few = extension(b"L", b"a\0") * 8
    assert only(few + block()).path == b"a"
    refused(few + extension(b"L", b"a\0") + block(), "too many extension headers")


def test_two_pax_headers_are_refused() -> None:
    """Hosts and GNU tar take the second alone, libarchive both."""
    refused(pax_records(path="a") + pax_records(uid="7") + block(), "two PAX headers before one entry")


@pytest.mark.parametrize("count", [1, 20])
def test_global_headers_count_for_nothing(count: int) -> None:
    """Wherever they stand by themselves: `git archive` writes one, hosts ignore what it says."""
    named = extension(b"g", record(b"path", b"all") + record(b"comment", b"x")) * count
    assert read(named + END) == []
    assert read(named) == []
    assert [entry.path for entry, _ in read(named + file(b"f") + named + file(b"g") + named + END)] == [b"f", b"g"]


@pytest.mark.parametrize("first", [pax_records(path="a"), extension(b"L", b"a\0"), extension(b"K", b"a\0")])
def test_a_global_header_in_between_is_refused(first: bytes) -> None:
    """Hosts forget what came before it, GNU tar and libarchive do not."""
    refused(first + extension(b"g", b"") + block(), "a global header between an entry and its extension headers")


def test_global_headers_are_entries_to_count() -> None:
    with pytest.raises(LayerError, match="more than 3 entries"):
        list(reader.read([extension(b"g", b"") * 4], limits=Limits(entries=3)))


@pytest.mark.parametrize("kind", [b"L", b"K"])
@pytest.mark.parametrize("body", [b"", b"\0", b"\0a\0"])
def test_an_empty_long_name_is_refused(kind: bytes, body: bytes) -> None:
    """Hosts take the header's name, GNU tar the directory, libarchive none."""
    refused(extension(kind, body) + block(b"f", b"2", link=b"t"), "an empty long name")


@pytest.mark.parametrize("field", ["mode", "uid", "gid", "size", "mtime"])
@pytest.mark.parametrize("value", [b"\00001000\0", b" \0000100\0", b"\0\0\0\0\0\01\0"])
def test_a_number_behind_a_nul_is_refused(field: str, value: bytes) -> None:
    """Hosts skip the NUL, libarchive ends there: what follows would be content to the ones, headers to the others."""
    width = 12 if field in ("size", "mtime") else 8
    inner = file(b"smuggled")
    refused(block(**{field: value[:width].ljust(width, b"\0")}) + inner, "a header field has a NUL before its number")


def test_a_nul_in_a_record_that_is_no_name() -> None:
    records = record(b"VENDOR.x", b"a\0b") + record(b"RHT.security.selinux", b"u:r\0")
    assert only(extension(b"x", records) + block()) == only(block())
    for key in (b"path", b"linkpath", b"uname", b"gname"):
        refused(extension(b"x", record(key, b"a\0b")) + block(), "holds a NUL")


def test_the_prefix_of_star_is_shorter() -> None:
    """131 bytes, and times behind it; the last four bytes tell."""
    times = b"14000000000 14000000001 "
    header = block(b"f", magic=b"ustar\x0000", tail=b"p" * 131 + times + bytes(8) + b"tar\0")
    assert only(header).path == b"p" * 131 + b"/f"


def test_v7_has_no_prefix() -> None:
    assert only(block(b"f", magic=b"ustar  x", tail=b"p")).path == b"f"


@pytest.mark.parametrize("end", [b"", bytes(512), END])
def test_an_extension_header_without_an_entry(end: bytes) -> None:
    with pytest.raises(TruncatedError, match="after an extension header"):
        read(pax_records(path="a") + end)


# The end, and what is not there.


@pytest.mark.parametrize("end", [b"", bytes(512), END, bytes(10240), END + b"garbage", END + file(b"not read")])
def test_the_end_of_a_layer(end: bytes) -> None:
    assert read(file(b"f", b"x") + end) == read(file(b"f", b"x"))


@pytest.mark.parametrize("end", [END, bytes(10240), END + b"garbage"])
def test_the_end_when_it_is_required(end: bytes) -> None:
    assert len(read(file(b"f", b"x") + end, end_required=True)) == 1


@pytest.mark.parametrize("end", [b"", bytes(512)])
def test_no_end_when_it_is_required(end: bytes) -> None:
    with pytest.raises(TruncatedError, match="at byte 1024 without its end marker"):
        read(file(b"f", b"x") + end, end_required=True)


@pytest.mark.parametrize("data", [b"", END])
def test_no_entries(data: bytes) -> None:
    assert read(data) == []


def test_what_follows_the_end_is_drained() -> None:
    """The digest counts it, so whoever hashes the chunks must see it."""
    chunks = iter([file(b"f", b"x"), END, b"a" * 100, b"", b"b" * 1000])
    assert len(list(reader.read(chunks))) == 1
    assert list(chunks) == []


@pytest.mark.parametrize("rest", [file(b"more"), b"garbage" * 100])
def test_a_lone_zero_block_is_refused(rest: bytes) -> None:
    assert refused(file() + bytes(512) + rest, "a lone zero block, then more").offset == 512


@pytest.mark.parametrize("cut", [1, 100, 511])
def test_cut_in_the_end_marker(cut: int) -> None:
    with pytest.raises(TruncatedError, match="inside its end marker"):
        read(file() + bytes(512 + cut))


@pytest.mark.parametrize("place", [0, 1, 3])
def test_a_bad_checksum_is_refused(place: int) -> None:
    bad = bytearray(file(b"bad"))
    bad[0] ^= 1
    assert refused(file() * place + bytes(bad) + file() + END, "its checksum is wrong").offset == 512 * place


def test_garbage_is_no_tar() -> None:
    refused(b"{}" + bytes(510), "no tar header")
    refused(b"\xff" * 512, "no tar header")
    with pytest.raises(TruncatedError, match="inside a header"):
        read(b"not a tar")


def test_checksums_of_ancient_writers() -> None:
    """Sums of signed bytes, and every way of ending the field."""
    made = block(b"\xff\xfe\x80")
    signed = sum(struct.unpack("512b", made[:148] + b" " * 8 + made[156:]))
    unsigned = sum(made[:148] + b" " * 8 + made[156:])
    assert signed != unsigned
    fields = [b"%06o\0 ", b"%06o \0", b"%06o\0\0", b"%7o\0", b"%06o  ", b"%7o ", b"%08o"]
    for form in fields:
        for value in (signed, unsigned):
            assert only(made[:148] + form % value + made[156:]).path == b"\xff\xfe\x80"
        refused(made[:148] + form % (unsigned + 1) + made[156:], "checksum")
    refused(made[:148] + b"+%06o " % unsigned + made[156:], "checksum")


@given(st.binary(min_size=512, max_size=512))
def test_the_fast_sum_is_the_sum(data: bytes) -> None:
    assert header.byte_sum(data) == sum(data)
    assert header.byte_sum(bytes(256) + b"\xff" * 256) == 255 * 256
    assert header.byte_sum(bytes(255) + b"\xff" * 257) == 255 * 257
    assert header.byte_sum(b"\xff" * 512) == 255 * 512


def test_a_cut_anywhere_is_noticed() -> None:
    """At every byte: the entries so far, then an error, unless the cut is where an entry ends."""
    parts = [
        file(b"a", b"x" * 600),
        pax_records(path="b") + block(b"b", b"5"),
        sparse_gnu(SPARSE_BODY, 5),
        extension(b"L", b"c\0") + file(b"c", b"z" * 100),
    ]
    data = b"".join(parts)
    whole = read(data)
    ends = {0, *itertools.accumulate(map(len, parts))}
    for cut in range(len(data)):
        if cut in ends:
            assert read(data[:cut]) == whole[: len(read(data[:cut]))]
            with pytest.raises(TruncatedError, match="without its end marker"):
                read(data[:cut], end_required=True)
        else:
            with pytest.raises(TruncatedError):
                read(data[:cut])


def test_errors_name_the_place() -> None:
    data = file(b"first", b"x" * 5000) + block(b"caf\xe9", uid=b"8\0\0\0\0\0\0\0")
    error = refused(data, r"^at byte 5632, entry 'caf\\xe9': a header field is not a number$")
    assert (error.offset, error.path) == (5632, b"caf\xe9")


# Sparse files.

SPARSE_BODY = b"".join(bytes([65 + n]) * 512 + bytes(512) for n in range(40)) + bytes(30_000)


def segments(count: int) -> list[tuple[int, int]]:
    """Return the map of the first `count` pieces of SPARSE_BODY, as GNU tar ends it: with an empty one at the end."""
    return [(1024 * n, 512) for n in range(count)] + [(len(SPARSE_BODY), 0)]


def sparse_body(count: int) -> bytes:
    return (SPARSE_BODY[: 1024 * count]).ljust(len(SPARSE_BODY), b"\0")


def sparse_data(count: int) -> bytes:
    return b"".join(SPARSE_BODY[offset : offset + length] for offset, length in segments(count))


def sparse_gnu(body: bytes, count: int, **changes: Any) -> bytes:
    """Return an entry of type S: four pairs in the header, twenty-one in each block that follows."""
    pairs = [octal(offset, 12) + octal(length, 12) for offset, length in changes.get("map", segments(count))]
    data = changes.get("data", sparse_data(count))
    first, rest = pairs[:4], pairs[4:]
    more = [rest[at : at + 21] for at in range(0, len(rest), 21)]
    tail = (
        bytes(41)
        + b"".join(first).ljust(96, b"\0")
        + bytes([bool(more)])
        + header.field(changes.get("size", len(body)), 12)
    )
    made = block(b"sparse", b"S", size=octal(len(data), 12), tail=tail)
    for place, group in enumerate(more):
        made += b"".join(group).ljust(504, b"\0") + bytes([place < len(more) - 1]) + bytes(7)
    return made + padded(data)


def sparse_00(count: int) -> bytes:
    records = [(b"size", b"%d" % len(SPARSE_BODY)), (b"numblocks", b"%d" % (count + 1))]
    for offset, length in segments(count):
        records += [(b"offset", b"%d" % offset), (b"numbytes", b"%d" % length)]
    made = extension(b"x", b"".join(record(b"GNU.sparse." + key, value) for key, value in records))
    return made + file(b"sparse", sparse_data(count))


def sparse_01(count: int, **changes: str) -> bytes:
    numbers = [str(number) for pair in segments(count) for number in pair]
    records = {"size": str(len(SPARSE_BODY)), "numblocks": str(count + 1), "name": "sparse", "map": ",".join(numbers)}
    records |= changes
    made = pax_records(**{f"GNU.sparse.{key}": value for key, value in records.items()})
    return made + file(b"GNUSparseFile.1/sparse", sparse_data(count))


def sparse_10(count: int, **changes: Any) -> bytes:
    lines = [count + 1, *(number for pair in segments(count) for number in pair)]
    text: bytes = changes.get("map", b"".join(b"%d\n" % line for line in lines))
    records = {"major": "1", "minor": "0", "name": "sparse", "realsize": str(changes.get("size", len(SPARSE_BODY)))}
    made = pax_records(**{f"GNU.sparse.{key}": value for key, value in records.items()})
    return made + file(b"GNUSparseFile.1/sparse", padded(text) + sparse_data(count))


@pytest.mark.parametrize("count", [0, 1, 3, 4, 24, 25, 40])
@pytest.mark.parametrize("form", ["gnu", "0.0", "0.1", "1.0"])
def test_sparse_files_are_expanded(form: str, count: int) -> None:
    made = {"0.0": sparse_00, "0.1": sparse_01, "1.0": sparse_10}.get(form, lambda n: sparse_gnu(SPARSE_BODY, n))(count)
    (sparse_file, body), (after, _) = read(made + file(b"after") + END, end_required=True)
    assert (sparse_file.path, sparse_file.kind, sparse_file.size) == (b"sparse", Kind.FILE, len(SPARSE_BODY))
    assert body == sparse_body(count)
    assert after.path == b"after"


@pytest.mark.real
@pytest.mark.parametrize("form", ["gnu", "0.0", "0.1", "1.0"])
@pytest.mark.parametrize("body", [SPARSE_BODY, bytes(100_000), bytes(70_000) + b"x", b"x" + bytes(70_000) + b"y" * 999])
def test_sparse_files_of_gnu_tar(form: str, body: bytes, tmp_path: Path, real: Callable[[str], Path]) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        for at in range(0, len(body), 512):
            if body[at : at + 512].strip(b"\0"):
                file.seek(at)
                file.write(body[at : at + 512])
        file.truncate(len(body))
    if (tmp_path / "sparse").stat().st_blocks * 512 >= len(body):
        pytest.skip("this file system has no holes, and GNU tar looks for zeros only where there are some")
    (tmp_path / "other").write_bytes(b"other")
    how = ["--format=gnu"] if form == "gnu" else ["--format=pax", f"--sparse-version={form}"]
    command = [
        str(real("tar")),
        "--sparse",
        "--hole-detection=raw",
        *how,
        "-C",
        str(tmp_path),
        "-cf",
        "-",
        "sparse",
        "other",
    ]
    data = subprocess.check_output(command)
    assert len(data) < len(body) + 10240
    (entry, found), (other, _) = read(data, [700], end_required=True)
    assert (entry.path, entry.size, found, other.path) == (b"sparse", len(body), body, b"other")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (sparse_gnu(b"", 2, size=1 << 37), "over the limit"),
        (sparse_gnu(b"", 2, size=1000), "does not fit"),
        (sparse_gnu(SPARSE_BODY, 2, data=b"x" * 1025), "does not fit"),
        (sparse_gnu(SPARSE_BODY, 2, data=b"x" * 1023), "does not fit"),
        (sparse_gnu(SPARSE_BODY, 2, map=[(512, 512), (0, 512)]), "not in order"),
        (sparse_gnu(SPARSE_BODY, 2, map=[(0, 513), (512, 511)]), "not in order"),
        (sparse_gnu(SPARSE_BODY, 2, map=[(len(SPARSE_BODY) - 1, 1024)]), "does not fit"),
        (sparse_01(2, size=str(1 << 62)), "over the limit"),
        (sparse_01(2, size="-1"), "not a number"),
        (sparse_01(2, map="0,512,1024"), "does not fit"),
        (sparse_01(2, map="0,512,1024,-512"), "not a number"),
        (sparse_01(2, map="0,512,1024,1_0"), "not a number"),
        (sparse_01(2, map=""), "does not fit"),
        (sparse_10(2, size=1 << 62), "over the limit"),
        (sparse_10(2, map=b"x\n"), "not a number"),
        (sparse_10(2, map=b"2\n0\n512\n1024\n-512\n"), "not a number"),
        (sparse_10(2, map=b"2\n0\n512\n100\n512\n"), "not in order"),
        (sparse_10(2, map=b"1" * 30 + b"\n"), "not a number"),
    ],
)
def test_sparse_maps_that_lie(data: bytes, words: str) -> None:
    refused(data + END, words)


def test_sparse_files_up_to_the_limit_are_not_held() -> None:
    """A hundred bytes may stand for 64 GiB; they come in pieces, and may be left."""
    data = sparse_01(0, size=str(USUAL.sparse)) + file(b"after") + END
    stream = reader.read([data])
    entry, body = next(stream)
    assert entry.size == USUAL.sparse
    assert max(map(len, itertools.islice(body, 100))) <= 1 << 16
    assert [e.path for e, _ in stream] == [b"after"]


def test_sparse_maps_are_bounded() -> None:
    endless = bytes(504) + b"\1" + bytes(7)
    refused(sparse_gnu(SPARSE_BODY, 30)[:1024] + endless * 3000, "a sparse map is too long")
    refused(sparse_10(1, map=b"9999999\n" + b"0\n" * (1 << 20)), "a sparse map is too long")


@pytest.mark.parametrize(
    "data", [sparse_01(2, major="2"), sparse_00(2).replace(b"GNU.sparse.size", b"GNU.sparse.Size")]
)
def test_sparse_versions_that_tools_disagree_about(data: bytes) -> None:
    refused(data + END, "sparse")


@pytest.mark.parametrize("count", [b"1000000000", b"9" * 20])
def test_a_sparse_map_that_claims_more_than_there_is(count: bytes) -> None:
    with pytest.raises(TruncatedError, match="inside an entry"):
        read(sparse_10(2, map=count + b"\n" + b"0\n" * 200))


# The index.


def indexed(data: bytes, step: int) -> tuple[list[tuple[Entry, int | None]], int]:
    """Index `data` as a file that is read `step` bytes at a time; return the entries and how many bytes were read."""
    at = got = 0

    def chunks() -> Iterator[bytes]:
        nonlocal at, got
        while chunk := data[at : at + step]:
            at += len(chunk)
            got += len(chunk)
            yield chunk

    def seek(offset: int) -> None:
        nonlocal at
        at = offset

    return list(reader.index(chunks(), seek)), got


@given(step=st.integers(1, 3000) | st.just(1 << 20))
@settings(deadline=None, max_examples=40)
def test_index(step: int) -> None:
    infos = [*members(), (tarfile.TarInfo("l" * 300), b"long")]
    data = archive(infos, "gnu")
    found, _ = indexed(data, step)
    assert [entry for entry, _ in found] == [entry for entry, _ in read(data)]
    for (entry, offset), (_, body) in zip(found, read(data), strict=True):
        assert offset is not None
        assert data[offset : offset + entry.size] == body


def test_index_does_not_read_content() -> None:
    data = file(b"big", bytes(1 << 22)) + file(b"small", b"x") + END
    found, got = indexed(data, 1 << 12)
    assert [(entry.path, offset) for entry, offset in found] == [(b"big", 512), (b"small", 1024 + (1 << 22))]
    assert got <= 3 << 12


@pytest.mark.parametrize("cut", [0, 300, 512, 700, 1024, 1030, 1536, 2048, 2500])
def test_index_of_a_file_that_was_cut(cut: int) -> None:
    data = file(b"a", b"x") + file(b"b", b"y") + END
    assert len(indexed(data, 700)[0]) == 2
    with pytest.raises(TruncatedError):
        indexed(data[:cut], 700)


@pytest.mark.parametrize("data", [bytes(512) + file(), b"text" * 200, block(b"a", b"Z")])
def test_index_refuses_what_read_refuses(data: bytes) -> None:
    with pytest.raises(LayerError):
        indexed(data, 700)


def test_index_of_a_sparse_file_gives_no_offset() -> None:
    ((entry, offset),) = indexed(sparse_10(2) + END, 1 << 20)[0]
    assert (entry.kind, offset) == (Kind.FILE, None)


# Anything at all.


def survives(data: bytes, sizes: Iterable[int] = (1 << 20,), *, end_required: bool = False) -> None:
    """Read `data` to its end or to a LayerError or TruncatedError; any other exception is the test's failure.

    Of each body a little is read: a sparse one may be honest about its 64 GiB.
    """
    with suppress(LayerError, TruncatedError):
        for entry, body in reader.read(chunked(data, sizes), end_required=end_required):
            got = sum(map(len, itertools.islice(body, 20)))
            assert got <= entry.size
            assert 0 <= entry.mode <= 0o7777
            assert b"\0" not in entry.path
    with suppress(LayerError, TruncatedError):
        indexed(data, 1000)


def test_arbitrary_chunks_of_nothing() -> None:
    survives(b"", [1])


@given(st.binary(max_size=3000), st.integers(1, 600))
@settings(deadline=None, max_examples=60)
def test_arbitrary_bytes(data: bytes, size: int) -> None:
    survives(data, [size])


FUZZED = (
    archive([pair for pair in members() if pair[0].name != "big"], "pax", end=False)
    + pax_records(path="b", mtime="1.5", size="5", uid="7", **{"SCHILY.xattr.user.x": "y"})
    + file(b"b", b"12345")
    + extension(b"L", b"c\0")
    + sparse_gnu(SPARSE_BODY, 30)
    + sparse_00(3)
    + sparse_01(3)
    + sparse_10(3)
    + END
)
BITS = st.lists(st.tuples(st.integers(0, len(FUZZED) - 1), st.integers(1, 255)), max_size=4)


@given(BITS, st.none() | st.integers(0, len(FUZZED)), st.booleans(), st.integers(100, 5000))
@settings(deadline=None, max_examples=120)
def test_a_valid_archive_with_bits_flipped(
    flips: list[tuple[int, int]], cut: int | None, sums: bool, size: int
) -> None:
    """With `sums`, the checksum of each damaged block is put right, so that the damage gets further."""
    data = bytearray(FUZZED)
    for at, bits in flips:
        data[at] ^= bits
        start = at - at % 512
        if sums and FUZZED[start + 257 : start + 262] == b"ustar":
            data[start : start + 512] = checksummed(bytes(data[start : start + 512]))
    survives(bytes(data[:cut]), [size], end_required=cut is None)


SIZES = [octal(size, 12) for size in (0, 5, 512, 1 << 20)] + [b"\x80" + bytes(10) + b"\1", b"\x80" + b"\xff" * 11]
FIELD = st.sampled_from([*SIZES, b"\xff" * 12, b"", b"?"])
TYPES = st.sampled_from([bytes([code]) for code in b"\x000123456 7SVxgLKDMZ"])
TAILS = st.sampled_from([b"", b"usr", octal(0, 12) * 8, bytes(41) + octal(0, 12) + octal(5, 12) + bytes(72) + b"\1"])
TAILS_OF_S = st.binary(max_size=120).map(lambda data: bytes(41) + data)
NAMES = st.sampled_from([b"a", b"d/", b"..", b"/a", b"", b"\xff" * 100])
BLOCKS = st.builds(
    lambda name, type_, size, time_, tail, magic: block(name, type_, size=size, mtime=time_, tail=tail, magic=magic),
    NAMES, TYPES, FIELD, FIELD, TAILS | TAILS_OF_S, st.sampled_from([b"ustar  \0", b"ustar\x0000", b""]),
)  # fmt: skip
RECORDS = st.lists(
    st.tuples(
        st.sampled_from(
            [b"path", b"size", b"mtime", b"uid", b"GNU.sparse.size", b"GNU.sparse.map", b"GNU.sparse.major"]
        )
        | st.sampled_from([b"GNU.sparse.realsize", b"GNU.sparse.offset", b"GNU.sparse.numbytes", b"SCHILY.xattr.a"]),
        st.sampled_from([b"", b"0", b"1", b"5", b"512", b"0,5", b"0,1,2,3", b"-1", b"1.5", b"a"]),
    ),
    max_size=6,
).map(lambda pairs: extension(b"x", b"".join(record(*pair) for pair in pairs)))
CONTENT = st.sampled_from([bytes(512), padded(b"hello"), padded(b"1\n0\n5\n"), padded(b"3\n0\n1\n2\n1\n"), b"x" * 512])


@given(st.lists(BLOCKS | RECORDS | CONTENT, max_size=12), st.integers(0, 1100))
@settings(deadline=None, max_examples=150)
def test_any_row_of_blocks(blocks: list[bytes], cut: int) -> None:
    """Headers with right checksums in rows that make no sense."""
    data = b"".join(blocks)
    survives(data[: len(data) - cut % (len(data) + 1)], [700])


def test_no_input_takes_long() -> None:
    """The worst that was found, by the megabyte."""
    started = time.perf_counter()
    survives(sparse_10(1, map=b"99999999\n" + b"0\n" * (1 << 19)))
    survives((extension(b"x", record(b"a", b"b") * 100_000) + block()) * 2)
    survives((block(b"l" * 100, b"2", link=b"t" * 100)) * 4000)
    assert time.perf_counter() - started < 10


ODD = st.sampled_from(
    [b"", b"\0" * 8, b"+0000017", b" 0000017", b"0000017 ", b"00_00017", b"0000008\0", b"\x80\0\0\0\0\0\0\x07"]
)
FIELD = st.integers(0, 2**33).map(lambda value: octal(value, 12))


@given(
    name=st.binary(max_size=100) | st.sampled_from([b"a/b", b"a/b/", b"./a", b"f\0junk"]),
    type_=st.sampled_from([b"0", b"0", b"5", b"5", b"\0", b"1", b"2", b"7", b"x", b"9"]),
    mode=st.integers(0, 0o177777).map(lambda value: octal(value, 8)) | ODD,
    uid=st.integers(0, 2**21 - 1).map(lambda value: octal(value, 8)) | ODD | st.just(b"\xff" * 8),
    gid=st.just(octal(0, 8)) | ODD | st.just(b"\x80\0\0\0\xff\xff\xff\xff"),
    size=FIELD | ODD.map(lambda odd: odd.rjust(12, b"0")) | ODD,
    mtime=FIELD | ODD.map(lambda odd: odd.rjust(12, b"0")) | ODD,
    magic=st.sampled_from([b"ustar  \0", b"ustar\x0000", b"", b"GNUtar  "]),
    link=st.just(b"") | st.binary(max_size=100),
    tail=st.just(b"") | st.binary(max_size=167),
    flipped=st.none() | st.tuples(st.integers(0, 511), st.integers(1, 255)),
)
@example(
    name=b"f", type_=b"0", mode=octal(0o644, 8), uid=b"\x80" + b"\xff" * 7, gid=octal(0, 8),
    size=octal(0, 12), mtime=octal(0, 12), magic=b"ustar  \0", link=b"", tail=b"", flipped=None,
)  # fmt: skip
@example(
    name=b"f", type_=b"0", mode=octal(0o644, 8), uid=octal(0, 8), gid=octal(0, 8),
    size=b"+0000000005\0", mtime=octal(0, 12), magic=b"ustar  \0", link=b"", tail=b"", flipped=None,
)  # fmt: skip
@example(
    name=b"f", type_=b"0", mode=octal(0o644, 8), uid=octal(0, 8), gid=octal(0, 8),
    size=octal(0, 12), mtime=octal(0, 12), magic=b"ustar\x0000", link=b"", tail=b"prefix", flipped=None,
)  # fmt: skip
@example(
    name=b"f", type_=b"0", mode=octal(0o644, 8), uid=octal(0, 8), gid=octal(0, 8),
    size=octal(0, 12), mtime=octal(0, 12), magic=b"ustar  \0", link=b"", tail=b"", flipped=(0, 1),
)  # fmt: skip
def test_the_short_way_is_the_long_way(flipped: tuple[int, int] | None, **fields: Any) -> None:
    made = bytearray(block(**fields))
    if flipped:
        made[flipped[0]] ^= flipped[1]
    odd = bytes(made)
    short = reader._plain(odd)
    if short is not None:
        assert header.checksum_holds(odd)
        assert short == reader._entry(odd, reader._NONE)


@pytest.mark.parametrize("type_", [b"0", b"5"])
@pytest.mark.parametrize("magic", [b"ustar  \0", b"ustar\x0000"])
def test_what_most_entries_are_goes_the_short_way(type_: bytes, magic: bytes) -> None:
    fields = {"size": octal(1234, 12), "mtime": octal(1_700_000_000, 12), "uid": octal(1000, 8)}
    assert reader._plain(block(b"usr/share/doc", type_, magic=magic, **fields)) is not None
