"""Archives as gunzip and tar read them: on where they go on, to an end where they end.

Unlike `tar.reader`, which refuses what tools disagree about, this says what there is, so that it can be judged.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ocirootfs.errors import InputError, LayerError, TruncatedError
from ocirootfs.tar import header, pax

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_PIECE = 1 << 20
_GZIP = b"\x1f\x8b"
_EXTENSION_LIMIT = 1 << 20  # of busybox (archival/libarchive/get_header_tar.c)


def gunzipped(chunks: Iterable[bytes], trailing: Callable[[], None]) -> Iterator[bytes]:
    """Yield what a gzip stream holds; `trailing` hears of what is behind it and is no member, nor zeros to the end.

    GNU gzip takes no member behind zeros. Raises InputError for what is corrupt, TruncatedError for what is cut.
    """
    member = zlib.decompressobj(31)
    is_between = is_padding = False
    held = b""
    for chunk in chunks:
        data, held = held + chunk, b""
        while data:
            if is_between:
                is_padding = is_padding or data[0] == 0
                if is_padding and not data.strip(b"\0"):
                    break
                if len(data) < 2 and not is_padding:
                    held, data = data, b""
                    break
                if is_padding or not data.startswith(_GZIP):
                    trailing()
                    return
                member, is_between = zlib.decompressobj(31), False
            yield _inflated(member, data)
            is_between = member.eof
            data = member.unused_data if is_between else member.unconsumed_tail
    if held:
        trailing()
    while not is_between and not member.eof:
        piece = _inflated(member, b"")
        if not piece:
            raise TruncatedError("the gzip stream is cut short")
        yield piece


def _inflated(member: zlib._Decompress, data: bytes) -> bytes:
    try:
        return member.decompress(data, _PIECE)
    except zlib.error as error:
        raise InputError(f"the gzip stream is corrupt ({error})") from None


class Stream:
    """A position in a stream of chunks."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._chunk = b""
        self._at = 0
        self.size = 0
        """Bytes that have been taken."""

    def _more(self) -> bool:
        while self._at == len(self._chunk):
            chunk = next(self._chunks, None)
            if chunk is None:
                return False
            self._chunk, self._at = chunk, 0
        return True

    def read(self, size: int) -> bytes:
        """Take `size` bytes; fewer only at the end."""
        taken = self._chunk[self._at : self._at + size]
        self._at += len(taken)
        while len(taken) < size and self._more():
            more = self._chunk[self._at : self._at + size - len(taken)]
            self._at += len(more)
            taken += more
        self.size += len(taken)
        return taken

    def skip(self, size: int) -> bool:
        """Pass over `size` bytes; False if there are fewer."""
        while size and self._more():
            step = min(size, len(self._chunk) - self._at)
            self._at += step
            self.size += step
            size -= step
        return not size

    def drain(self) -> None:
        """Read the stream to its end."""
        while self._more():
            self.size += len(self._chunk) - self._at
            self._at = len(self._chunk)


@dataclass(frozen=True, slots=True)
class Member:
    """One entry as GNU tar takes it, its PAX records applied; `plain` has uid, gid, size and time of the header alone.

    `kind` is the header's type, times are seconds.
    """

    name: bytes
    kind: bytes
    mode: int
    uid: int
    gid: int
    size: int
    link: bytes
    names: tuple[bytes, bytes]
    device: tuple[int, int]
    plain: tuple[int, int, int, int]
    records: dict[bytes, bytes]


def members(stream: Stream, add: Callable[[str], None]) -> Iterator[Member]:
    """Yield each entry, its content next in the stream: whoever asks for the next has passed over that.

    `add` hears the code of what ends the tar, if that is not its end marker.
    """
    while block := stream.read(header.BLOCK):
        if block == header.ZERO_BLOCK:
            if stream.read(header.BLOCK) not in (b"", header.ZERO_BLOCK):
                add("tar-lone-zero")
            return
        try:
            member = _member(stream, block, add)
        except TruncatedError:
            add("tar-truncated" if len(block) == header.BLOCK else "tar-cut-header")
            return
        except LayerError:
            add("tar-header")
            return
        yield member
    add("tar-without-end")


def _member(stream: Stream, block: bytes, add: Callable[[str], None]) -> Member:
    """Read an entry from its first block on."""
    records: dict[bytes, bytes] = {}
    names: dict[bytes, bytes] = {}
    while (kind := _checked(block)) in (b"x", b"g", b"L", b"K"):
        size = header.number(block[124:136])
        if not 0 <= size <= _EXTENSION_LIMIT:
            add("pax-large" if kind in b"xg" else "long-name")
            _skip(stream, size)
        else:
            body = stream.read(size)
            if len(body) < size or not stream.skip(header.padding(size)):
                raise TruncatedError("inside an extension")
            if kind == b"x":
                records |= dict(pax.each(body))
            elif kind in b"LK":
                names[kind] = body.partition(b"\0")[0]
        block = stream.read(header.BLOCK)
        if not block:
            raise TruncatedError("behind an extension")
    return _described(block, records, names)


def _checked(block: bytes) -> bytes:
    """Return the type of a header that is one."""
    if len(block) < header.BLOCK:
        raise TruncatedError("inside a header")
    if not header.checksum_holds(block):
        raise LayerError("no tar header")
    return block[156:157]


def _skip(stream: Stream, size: int) -> None:
    if size < 0:
        raise LayerError("a negative size")
    if not stream.skip(size + header.padding(size)):
        raise TruncatedError("inside an extension")


def _described(block: bytes, records: dict[bytes, bytes], names: dict[bytes, bytes]) -> Member:
    fields = header.LAYOUT.unpack(block)
    name, kind, link, magic, prefix = (fields[at].partition(b"\0")[0] for at in (0, 7, 8, 9, 14))
    if prefix and magic == b"ustar" and fields[9] == header.USTAR_MAGIC:
        name = prefix + b"/" + name
    uid, gid, size, mtime = (header.number(fields[at]) for at in (2, 3, 4, 5))
    if size < 0:
        raise LayerError("a negative size")
    is_sparse = b"GNU.sparse.name" in records
    return Member(
        name=records.get(b"GNU.sparse.name") or records.get(b"path") or names.get(b"L") or name,
        kind=b"S" if is_sparse else (kind or b"0"),
        mode=header.number(fields[1]),
        uid=_number(records, b"uid", uid),
        gid=_number(records, b"gid", gid),
        size=_number(records, b"size", size),
        link=records.get(b"linkpath") or names.get(b"K") or link,
        names=(_text(records, b"uname", fields[10]), _text(records, b"gname", fields[11])),
        device=(header.number(fields[12]), header.number(fields[13])) if kind in (b"3", b"4") else (0, 0),
        plain=(uid, gid, size, mtime),
        records=records,
    )


def _number(records: dict[bytes, bytes], key: bytes, plain: int) -> int:
    return pax.integer(records[key]) if records.get(key) else plain


def _text(records: dict[bytes, bytes], key: bytes, plain: bytes) -> bytes:
    return records.get(key) or plain.partition(b"\0")[0]
