"""Blobs by name in a directory, a tar file and a tar stream: the same answers from all three."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from ocirootfs.archive.members import DirectoryMembers, FileMembers, StreamMembers, document
from ocirootfs.errors import InputError, LocalError, OcirootfsError, TruncatedError
from ocirootfs.limits import USUAL
from ocirootfs.spool import Spool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from ocirootfs.archive.members import Members

FILES = {
    "index.json": b"{}",
    "blobs/sha256/aa": b"a" * 1000,
    "blobs/sha256/bb": b"",
    "blobs/sha256/cc": bytes(range(256)) * 3000,
    "caf\udce9": b"raw bytes",
    "é/x": b"utf-8",
}
KINDS = pytest.mark.parametrize("kind", ["directory", "file", "stream"])
TARS = pytest.mark.parametrize("kind", ["file", "stream"])

Member = tuple[str, bytes | tuple[bytes, str]]
"""A name, and a content or a link's type and target."""


def tar_of(members: Sequence[Member], **options: Any) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", encoding="utf-8", errors="surrogateescape", **options) as tar:
        for name, what in members:
            info = tarfile.TarInfo(name)
            if isinstance(what, tuple):
                info.type, info.linkname = what
                tar.addfile(info)
            else:
                info.size = len(what)
                tar.addfile(info, io.BytesIO(what))
    return out.getvalue()


def chunks(data: bytes, size: int = 1 << 16) -> Iterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


@contextmanager
def in_tar(kind: str, data: bytes, tmp_path: Path) -> Iterator[Members]:
    if kind == "stream":
        with Spool() as spool:
            yield StreamMembers(chunks(data), "it", spool)
    else:
        (tmp_path / "it.tar").write_bytes(data)
        with (tmp_path / "it.tar").open("rb") as file:
            yield FileMembers(file.fileno(), "it")


@contextmanager
def holding(kind: str, files: dict[str, bytes], tmp_path: Path) -> Iterator[Members]:
    """Return members of some files, wherever."""
    if kind != "directory":
        with in_tar(kind, tar_of(list(files.items())), tmp_path) as members:
            yield members
        return
    for name, content in files.items():
        path = tmp_path / "it" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    yield DirectoryMembers(str(tmp_path / "it"))


def read(members: Members, name: str) -> bytes:
    return b"".join(members.open(name))


# All three.


@KINDS
@pytest.mark.parametrize("order", [list(FILES), list(FILES)[::-1]])
def test_sizes_and_bytes(kind: str, order: list[str], tmp_path: Path) -> None:
    with holding(kind, FILES, tmp_path) as members:
        for name in order:
            assert members.size(name) == len(FILES[name])
            assert read(members, name) == FILES[name]
        members.finish()


@KINDS
@pytest.mark.parametrize("name", ["absent", "blobs", "blobs/sha256", "blobs/sha256/aa/x", "INDEX.JSON"])
def test_what_is_not_there(kind: str, name: str, tmp_path: Path) -> None:
    with holding(kind, FILES, tmp_path) as members:
        assert members.size(name) is None
        assert document(members, name) is None
        with pytest.raises(InputError, match=f"'{name}' is not in it"):
            read(members, name)
        assert read(members, "index.json") == b"{}"


@KINDS
def test_documents_are_bounded(kind: str, tmp_path: Path) -> None:
    files = {"large": bytes(USUAL.document), "too large": bytes(USUAL.document + 1)}
    with holding(kind, files, tmp_path) as members:
        assert document(members, "large") == files["large"]
        with pytest.raises(InputError, match=f"it: too large is larger than {USUAL.document} bytes$"):
            document(members, "too large")


@KINDS
def test_content_comes_in_bounded_chunks(kind: str, tmp_path: Path) -> None:
    with holding(kind, {"big": bytes(3 << 20)}, tmp_path) as members:
        assert max(map(len, members.open("big"))) <= 1 << 19


# Directories.


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_bytes(b"secret")
    directory = tmp_path / "layout"
    directory.mkdir()
    (directory / "file").write_bytes(b"file")
    return directory


@pytest.mark.parametrize("target", ["file", "../secret", "absent"])
def test_symlinks_in_a_directory_are_not_followed(target: str, layout: Path) -> None:
    (layout / "link").symlink_to(target)
    members = DirectoryMembers(str(layout))
    assert members.size("link") is None
    with pytest.raises(InputError):
        read(members, "link")


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_is_no_file_in_a_directory(make: Callable[[Path], None], layout: Path) -> None:
    make(layout / "odd")
    members = DirectoryMembers(str(layout))
    assert members.size("odd") is None
    with pytest.raises(InputError):
        read(members, "odd")


@pytest.mark.parametrize("name", ["../secret", "blobs/secret", "absolute"])
def test_a_directory_is_not_left(name: str, layout: Path) -> None:
    """Names come from manifest.json, which is anybody's word."""
    (layout / "blobs").symlink_to("..")
    members = DirectoryMembers(str(layout))
    assert members.size(str(layout.parent / "secret") if name == "absolute" else name) is None


@pytest.mark.parametrize("name", ["a\0b", "n" * 256, "loop/x"])
def test_impossible_names_in_a_directory(name: str, layout: Path) -> None:
    (layout / "loop").symlink_to("loop")
    assert DirectoryMembers(str(layout)).size(name) is None


# Tar files and streams.


@TARS
@pytest.mark.parametrize("spelled", ["./a/b", "/a/b", "a//b", "a/./b", "x/../a/b", ".//a/b"])
def test_members_are_found_by_canonical_name(kind: str, spelled: str, tmp_path: Path) -> None:
    with in_tar(kind, tar_of([(spelled, b"found")]), tmp_path) as members:
        assert read(members, "a/b") == b"found"


@TARS
def test_members_outside_are_refused(kind: str, tmp_path: Path) -> None:
    data = tar_of([("a", b"a"), ("../b", b"b")])

    def ask() -> None:
        with in_tar(kind, data, tmp_path) as members:
            members.size("b")

    with pytest.raises(InputError, match="climbs out"):
        ask()


LINKS: list[Member] = [
    ("1/layer.tar", b"one"),
    ("2/layer.tar", (tarfile.SYMTYPE, "../1/layer.tar")),
    ("3/layer.tar", (tarfile.LNKTYPE, "1/layer.tar")),
    ("4/layer.tar", (tarfile.SYMTYPE, "/2/layer.tar")),
    ("5/layer.tar", (tarfile.LNKTYPE, "./4//layer.tar")),
    ("6/layer.tar", (tarfile.SYMTYPE, "../../../../1/layer.tar")),
    ("dangling", (tarfile.SYMTYPE, "absent")),
    ("self", (tarfile.SYMTYPE, "self")),
    ("tick", (tarfile.SYMTYPE, "tock")),
    ("tock", (tarfile.SYMTYPE, "tick")),
    ("dir", (tarfile.DIRTYPE, "")),
    ("fifo", (tarfile.FIFOTYPE, "")),
    ("to dir", (tarfile.SYMTYPE, "dir")),
]


@TARS
@pytest.mark.parametrize("order", [LINKS, LINKS[::-1]])
def test_links_between_members(kind: str, order: list[Member], tmp_path: Path) -> None:
    with in_tar(kind, tar_of(order), tmp_path) as members:
        assert members.size("6/layer.tar") == 3  # so that nothing passes by
        assert members.size("absent") is None
        for number in range(1, 7):
            assert read(members, f"{number}/layer.tar") == b"one"
        for name in ("dangling", "self", "tick", "tock", "dir", "fifo", "to dir"):
            assert members.size(name) is None
            with pytest.raises(InputError):
                read(members, name)


@TARS
def test_chains_of_links_end(kind: str, tmp_path: Path) -> None:
    chain: list[Member] = [("0", b"end")]
    chain += [(str(number), (tarfile.SYMTYPE, str(number - 1))) for number in range(1, 100)]
    with in_tar(kind, tar_of(chain), tmp_path) as members:
        assert members.size("8") == 3
        assert members.size("99") is None


@TARS
def test_a_name_twice_is_the_last(kind: str, tmp_path: Path) -> None:
    data = tar_of([("a", b"first"), ("other", b""), ("a", b"second"), ("z", b"")])
    with in_tar(kind, data, tmp_path) as members:
        assert members.size("z") == 0
        assert read(members, "a") == b"second"


@TARS
@pytest.mark.parametrize("name", ["oci-layout", "index.json", "manifest.json"])
def test_a_document_twice_is_refused(kind: str, name: str, tmp_path: Path) -> None:
    """Tools take the first or the last of two, and so see two images."""
    data = tar_of([(name, b"{}"), ("other", b""), (name, b"[]")])
    with pytest.raises(InputError, match=f"'{name}' is in it twice"), in_tar(kind, data, tmp_path) as members:
        members.finish()


def sparse_member() -> bytes:
    info = tarfile.TarInfo("sparse")
    info.size, info.pax_headers = 3, {"GNU.sparse.size": "1000", "GNU.sparse.map": "500,3"}
    return info.tobuf(tarfile.PAX_FORMAT) + b"abc".ljust(512, b"\0") + tar_of([])


def test_a_sparse_member_of_a_stream_is_expanded(tmp_path: Path) -> None:
    with in_tar("stream", sparse_member(), tmp_path) as members:
        assert read(members, "sparse") == bytes(500) + b"abc" + bytes(497)


def test_a_sparse_member_of_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is sparse"), in_tar("file", sparse_member(), tmp_path):
        pass


TINY = {"a": b"1" * 600, "b": b"", "c": b"3", "d": b"4" * 3000}


@given(st.permutations(list(TINY)), st.permutations(list(TINY)), st.integers(1, 2000), st.data())
@settings(deadline=None, max_examples=60)
def test_a_stream_in_any_order_asked_in_any_order(
    there: list[str], asked: list[str], size: int, data: st.DataObject
) -> None:
    archive = tar_of([(name, TINY[name]) for name in there])
    with Spool() as spool:
        members = StreamMembers(chunks(archive, size), "it", spool)
        for name in asked:
            if data.draw(st.booleans()):
                assert members.size(name) == len(TINY[name])
            if data.draw(st.booleans()):  # somebody who gives up half way
                next(iter(members.open(asked[-1])), None)
                break
            assert read(members, name) == TINY[name]
        members.finish()


def test_a_stream_in_the_order_that_is_asked_keeps_nothing() -> None:
    with Spool() as spool:
        members = StreamMembers(chunks(tar_of(list(FILES.items()))), "it", spool)
        for name, content in FILES.items():
            assert read(members, name) == content
        members.finish()
        assert spool.end == 0


def test_a_member_that_was_kept_can_be_asked_for_again() -> None:
    with Spool() as spool:
        members = StreamMembers(chunks(tar_of(list(TINY.items()))), "it", spool)
        members.size("d")
        for _ in range(2):
            assert read(members, "a") == TINY["a"]
        assert read(members, "d") == TINY["d"]
        with pytest.raises(LocalError, match="'d' is needed again"):
            read(members, "d")


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress, lzma.compress, bz2.compress])
def test_a_compressed_stream(pack: Callable[[bytes], bytes]) -> None:
    packed = pack(tar_of(list(FILES.items())))
    with Spool() as spool:
        members = StreamMembers(chunks(packed, 100), "it", spool)
        assert read(members, "é/x") == b"utf-8"
        assert read(members, "index.json") == b"{}"
        members.finish()
    with Spool() as spool, pytest.raises(TruncatedError):
        StreamMembers(chunks(packed[:-1]), "it", spool).finish()


def test_finish_reads_to_the_end() -> None:
    left = chunks(tar_of(list(FILES.items())) + b"rest" * 1000, 512)
    with Spool() as spool:
        StreamMembers(left, "it", spool).finish()
    assert list(left) == []


@TARS
@pytest.mark.parametrize("end", [0, 1, 511, 512, 513, 1023])
def test_an_archive_without_its_end(kind: str, end: int, tmp_path: Path) -> None:
    data = tar_of([("a", b"x" * 512)])[: 1024 + end]

    def run() -> None:
        with in_tar(kind, data, tmp_path) as members:
            assert read(members, "a") == b"x" * 512
            members.finish()

    with pytest.raises(TruncatedError, match=r"^it: the tar "):
        run()


@TARS
@pytest.mark.parametrize("data", [b"text", b"text" * 1000, b"{}\n", b"\x7fELF" + bytes(2000), bytes(511)])
def test_what_is_no_tar(kind: str, data: bytes, tmp_path: Path) -> None:
    def ask() -> None:
        with in_tar(kind, data, tmp_path) as members:
            members.size("index.json")

    with pytest.raises(InputError, match=r"^it is not an image archive: it is no tar at all$") as caught:
        ask()
    assert caught.value.hint is not None
    assert "docker save" in caught.value.hint


@TARS
def test_what_stops_being_a_tar(kind: str, tmp_path: Path) -> None:
    data = tar_of([("a", b"a")])[:1024] + b"garbage!" * 64

    def ask() -> None:
        with in_tar(kind, data, tmp_path) as members:
            members.size("z")

    with pytest.raises(InputError, match=r"^it: the archive is broken .*its checksum is wrong$"):
        ask()


def test_an_empty_stream() -> None:
    with Spool() as spool, pytest.raises(TruncatedError, match=r"^it is empty$") as caught:
        StreamMembers([], "it", spool).size("a")
    assert caught.value.hint == "the command before the pipe failed; its message is above"


def test_a_file_that_becomes_shorter(tmp_path: Path) -> None:
    path = tmp_path / "it.tar"
    path.write_bytes(tar_of([("a", b"x" * (1 << 20))]))
    with path.open("rb") as file:
        members = FileMembers(file.fileno(), "it")
        pieces = members.open("a")
        next(pieces)
        os.truncate(path, 1 << 18)
        with pytest.raises(TruncatedError, match="the file has become shorter"):
            list(pieces)


def test_a_large_file_is_indexed_without_being_read(tmp_path: Path) -> None:
    """A hole of a terabyte is jumped over."""
    path = tmp_path / "it.tar"
    info = tarfile.TarInfo("big")
    info.size = 1 << 40
    with path.open("wb") as file:
        file.write(info.tobuf(tarfile.GNU_FORMAT))
        file.seek(info.size, os.SEEK_CUR)
        file.write(tar_of([("last", b"last")]))
    with path.open("rb") as file:
        members = FileMembers(file.fileno(), "it")
        assert read(members, "last") == b"last"
        assert members.size("big") == 1 << 40
        assert next(iter(members.open("big"))).strip(b"\0") == b""


@TARS
@given(flips=st.lists(st.tuples(st.integers(0, 6143), st.integers(1, 255)), max_size=3), cut=st.integers(0, 6144))
@settings(deadline=None, max_examples=60)
def test_a_damaged_archive_is_read_or_refused(
    kind: str, flips: list[tuple[int, int]], cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    data = bytearray(tar_of([*TINY.items(), *LINKS[:3]])[:6144])
    for at, bits in flips:
        data[at] ^= bits
    with suppress(OcirootfsError), in_tar(kind, bytes(data[:cut]), tmp_path_factory.getbasetemp()) as members:
        for name in [*TINY, "2/layer.tar"]:
            if members.size(name) is not None:
                read(members, name)
        members.finish()
