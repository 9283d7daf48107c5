"""Archives as gunzip and tar read them: on where they go on, to an end where they end.

Unlike `tar.reader`, which refuses what tools disagree about, this says what there is, so that it can be judged.
"""

from __future__ import annotations

import bz2
import re
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ocirootfs.errors import InputError, LayerError, TruncatedError
from ocirootfs.tar import header, pax

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_PIECE = 1 << 20
_GZIP = b"\x1f\x8b"
_BZIP2 = b"BZh"
_IS_EXTENDED, _GOES_ON = 482, 504  # flags of GNU's sparse headers: another block of the map follows
_BLANK = frozenset([b" " * 8, b" " * 12])  # which GNU tar does not take for a number
_RECORD = re.compile(rb"([0-9]{1,20})[ \t]+")
_VALUES = dict.fromkeys((b"uid", b"gid", b"size"), re.compile(rb"[0-9]{1,20}"))
_VALUES[b"mtime"] = re.compile(rb"-?[0-9]{1,20}(\.[0-9]*)?")
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


def bunzipped(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield what one or several bzip2 streams hold; what is behind them is ignored, as both programs ignore it.

    Raises InputError for what is corrupt, TruncatedError for what is cut.
    """
    stream = bz2.BZ2Decompressor()
    held = b""
    for chunk in chunks:
        data, held = held + chunk, b""
        while data or not (stream.needs_input or stream.eof):
            if stream.eof:
                if len(data) < len(_BZIP2) and _BZIP2.startswith(data):
                    held, data = data, b""
                    break
                if not data.startswith(_BZIP2):
                    return
                stream = bz2.BZ2Decompressor()
            try:
                yield stream.decompress(data, _PIECE)
            except OSError as error:
                raise InputError(f"the bzip2 stream is corrupt ({error})") from None
            data = stream.unused_data
    if not stream.eof:
        raise TruncatedError("the bzip2 stream is cut short")


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

    `kind` is the header's type, times are seconds. `oddities` are codes of what is odd about the header itself.
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
    oddities: tuple[str, ...]


class _EndError(Exception):
    """The tar ends here, and what the code says of it, if anything."""

    def __init__(self, code: str | None) -> None:
        super().__init__(code)
        self.code = code


def members(stream: Stream, add: Callable[[str], None]) -> Iterator[Member]:
    """Yield each entry, its content next in the stream: whoever asks for the next has passed over that.

    `add` hears the code of what ends the tar, if that is not its end marker.
    """
    headers = _Headers(stream, add)
    try:
        while block := stream.read(header.BLOCK):
            if block == header.ZERO_BLOCK:
                if stream.read(header.BLOCK) not in (b"", header.ZERO_BLOCK):
                    add("tar-lone-zero")
                return
            yield headers.member(block)
    except _EndError as end:
        if end.code:
            add(end.code)
    except LayerError:
        add("tar-header")
    else:
        add("tar-without-end")


class _Headers:
    """The headers of a tar, one after the other, and what global ones say of those behind them."""

    def __init__(self, stream: Stream, add: Callable[[str], None]) -> None:
        self._stream = stream
        self._add = add
        self._global: dict[bytes, bytes] = {}

    def member(self, block: bytes) -> Member:
        """Read an entry from its first block on."""
        records: dict[bytes, bytes] = {}
        names: dict[bytes, bytes] = {}
        while (kind := _checked(block)) in (b"x", b"g", b"L", b"K"):
            body = self._extension(kind, header.number(block[124:136]))
            if kind == b"x":
                records |= self._records(body)
            elif kind == b"g":
                self._global |= self._records(body)
            else:
                names[kind] = body.partition(b"\0")[0]
            block = self._stream.read(header.BLOCK)
            if not block:
                raise _EndError("tar-without-end")
            if block == header.ZERO_BLOCK:
                raise _EndError("long-name-alone" if names else None)
        if self._global:
            records = self._global | records
            if self._global.keys() & {b"path", b"linkpath"}:
                self._add("pax-global")
        found = _described(block, records, names)
        if kind == b"S" and block[_IS_EXTENDED]:
            self._pass_map()
        return found

    def _extension(self, kind: bytes, size: int) -> bytes:
        """Return what an extension holds; nothing for one that is too long."""
        if size < 0:
            raise LayerError("a negative size")
        body = b""
        if size > _EXTENSION_LIMIT:
            self._add("pax-large" if kind in b"xg" else "long-name")
        else:
            body = self._stream.read(size)
        if not self._stream.skip(size - len(body) + header.padding(size)):
            raise _EndError("tar-truncated")
        return body

    def _records(self, body: bytes) -> dict[bytes, bytes]:
        """Read the records of a PAX header as GNU tar does, up to what it cannot read."""
        found: dict[bytes, bytes] = {}
        while body:
            match = _RECORD.match(body)
            record = body[: int(match[1])] if match else b""
            key, equals, value = record[match.end() : -1].partition(b"=") if match else (b"", b"", b"")
            if not equals or len(record) < int(match[1] if match else 0) or not record.endswith(b"\n"):
                self._add("pax-malformed")
                break
            body = body[len(record) :]
            if key in _VALUES and not _VALUES[key].fullmatch(value):
                self._add("pax-malformed")
            else:
                found[key] = value
        return found

    def _pass_map(self) -> None:
        """Pass over what of a sparse file's map the header had no room for."""
        while True:
            block = self._stream.read(header.BLOCK)
            if len(block) < header.BLOCK:
                raise _EndError("tar-truncated")
            if not block[_GOES_ON]:
                return


def _checked(block: bytes) -> bytes:
    """Return the type of a header that is one."""
    if len(block) < header.BLOCK:
        raise _EndError("tar-cut-header")
    if not header.checksum_holds(block):
        raise LayerError("no tar header")
    return block[156:157]


def _described(block: bytes, records: dict[bytes, bytes], names: dict[bytes, bytes]) -> Member:
    fields = header.LAYOUT.unpack(block)
    name, kind, link, prefix = (fields[at].partition(b"\0")[0] for at in (0, 7, 8, 14))
    oddities = []
    if not fields[9].startswith(b"ustar"):
        oddities.append("before-posix")
    elif prefix and fields[9] == header.USTAR_MAGIC:
        name = prefix + b"/" + name
    elif prefix and not {b"path"} & records.keys() and b"L" not in names:
        oddities.append("gnu-prefix")
    if not _BLANK.isdisjoint(fields[1:6]):
        oddities.append("number-blank")
    uid, gid, size, mtime = (header.number(fields[at]) for at in (2, 3, 4, 5))
    if size < 0:
        raise LayerError("a negative size")
    is_sparse = bool(records) and any(key.startswith(pax.SPARSE) for key in records)
    return Member(
        name=records.get(b"GNU.sparse.name") or records.get(b"path", names.get(b"L") or name),
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
        oddities=tuple(oddities),
    )


def _number(records: dict[bytes, bytes], key: bytes, plain: int) -> int:
    return pax.integer(records[key]) if records.get(key) else plain


def _text(records: dict[bytes, bytes], key: bytes, plain: bytes) -> bytes:
    return records.get(key) or plain.partition(b"\0")[0]
