"""Where the blobs of an image lie: in a directory, in a tar file, or in a tar stream that passes once.

All three are asked by name and answer with bytes. Names are paths inside the layout; what an archive calls its members
is somebody's word, so nothing is ever extracted: members are looked up by canonical name and read. A stream is read on
until the name that was asked for comes by. What comes by before it is kept in a spool, so that any order of members
works; in the order that `archive.writer` writes nothing is kept but a few small documents.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ocirootfs.compression import decompressed
from ocirootfs.entry import Kind, canonical, folded
from ocirootfs.errors import InputError, LayerError, LocalError, TruncatedError, printable
from ocirootfs.limits import USUAL, Limits, raising
from ocirootfs.tar import reader

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ocirootfs.entry import Body, Entry, Piece
    from ocirootfs.spool import Kept, Spool

_CHUNK = 1 << 19  # bytes; half of that cost `unpack` 4 % in handing over
_LINKS = 8  # links to links that old archives of `docker save` hold, with room to spare


class Members(Protocol):
    """Named blobs."""

    what: str
    """What errors call the whole."""
    limits: Limits
    """What bounds the reading of it, and of an image that is found in it."""

    def size(self, name: str) -> int | None:
        """Return the size in bytes of a blob, None if there is none of that name."""

    def open(self, name: str) -> Iterator[bytes]:
        """Yield a blob's bytes, from byte 0; InputError if there is none of that name."""

    def finish(self) -> None:
        """Prove that the whole has come to its end."""


def document(members: Members, name: str) -> bytes | None:
    """Return a small blob, at most as large as a document may be; None if there is none."""
    size = members.size(name)
    if size is None:
        return None
    if size > members.limits.document:
        text = f"{members.what}: {printable(name)} is larger than {members.limits.document} bytes"
        raise InputError(text, hint=raising("document"))
    return b"".join(members.open(name))


def _absent(what: str, name: str) -> InputError:
    return InputError(f"{what}: '{printable(name)}' is not in it")


_DOCUMENTS = frozenset(["oci-layout", "index.json", "manifest.json"])


def _once(what: str, name: str, seen: set[str]) -> None:
    """Refuse a second document of one name: tools would see two different images. Blobs prove themselves."""
    if name in _DOCUMENTS:
        if name in seen:
            raise InputError(f"{what}: '{name}' is in it twice")
        seen.add(name)


_ABSENT = frozenset([errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG])


def _refused(what: str, name: str, error: OSError) -> LocalError:
    return LocalError(f"{what}: cannot read '{printable(name)}': {error.strerror}")


class DirectoryMembers:
    """The files below a directory. A layout may come from anybody: what leads out of it or is a symlink is not read."""

    def __init__(self, path: str, limits: Limits = USUAL) -> None:
        self.what = printable(path)
        self.limits = limits
        self._root = path

    def size(self, name: str) -> int | None:
        """Return the size of a file."""
        if (
            "\0" in name
            or not name
            or folded(name.encode("utf-8", "surrogateescape"), clamp=True)
            != [part.encode("utf-8", "surrogateescape") for part in name.split("/")]
        ):
            return None
        try:
            *above, path = self._ways(name)
            if any(os.path.islink(directory) for directory in above):
                return None
            found = os.lstat(path)
        except OSError as error:
            if error.errno in _ABSENT:
                return None
            raise _refused(self.what, name, error) from error
        return found.st_size if stat.S_ISREG(found.st_mode) else None

    def open(self, name: str) -> Iterator[bytes]:
        """Read a file."""
        if self.size(name) is None:
            raise _absent(self.what, name)
        try:
            descriptor = os.open(os.path.join(self._root, name), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise _refused(self.what, name, error) from error
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            while chunk := file.read(_CHUNK):
                yield chunk

    def _ways(self, name: str) -> Iterator[str]:
        """Yield the path of each directory that leads to a file, from the top, and the file's."""
        path = self._root
        for part in name.split("/"):
            path = os.path.join(path, part)
            yield path

    def finish(self) -> None:
        """Nothing is left to prove of a directory."""


class FileMembers:
    """The members of a seekable, uncompressed tar file, read in place. The descriptor stays the caller's to close."""

    def __init__(self, descriptor: int, what: str, limits: Limits = USUAL) -> None:
        self.what = what
        self.limits = limits
        self._descriptor = descriptor
        self._members: dict[str, _Extent] = {}
        self._documents: set[str] = set()
        self._links: dict[str, str] = {}
        self._at = 0
        try:
            for entry, offset in reader.index(self._sequence(), self._seek, limits=limits):
                self._add(entry, offset)
        except LayerError as error:
            raise _unreadable(what, error, begun=bool(self._members)) from None
        except TruncatedError as error:
            if not self._members:
                raise _unreadable(what, LayerError(str(error)), begun=False) from None
            raise TruncatedError(f"{what}: {error}") from None

    def _add(self, entry: Entry, offset: int | None) -> None:
        name = _name(entry)
        if entry.kind is Kind.FILE:
            _once(self.what, name, self._documents)
            if offset is None:
                raise InputError(
                    f"{self.what}: '{printable(name)}' is sparse, and cannot be read in place",
                    hint="pipe the archive into ocirootfs instead",
                )
            self._members[name] = _Extent(offset, entry.size)
        elif entry.link:
            self._links[name] = _link(entry)

    def _sequence(self) -> Iterator[bytes]:
        """Yield the file from wherever `_seek` puts it; small pieces, for most of it is jumped over."""
        while chunk := os.pread(self._descriptor, 1 << 14, self._at):
            self._at += len(chunk)
            yield chunk

    def _seek(self, offset: int) -> None:
        self._at = offset

    def _find(self, name: str) -> _Extent | None:
        return self._members.get(_followed(name, self._links))

    def size(self, name: str) -> int | None:
        """Return the size of a member; a link's is that of what it leads to."""
        extent = self._find(name)
        return None if extent is None else extent.size

    def open(self, name: str) -> Iterator[bytes]:
        """Read a member."""
        extent = self._find(name)
        if extent is None:
            raise _absent(self.what, name)
        at, end = extent.offset, extent.offset + extent.size
        while at < end:
            chunk = os.pread(self._descriptor, min(_CHUNK, end - at), at)
            if not chunk:
                raise TruncatedError(f"{self.what}: the file has become shorter")
            at += len(chunk)
            yield chunk

    def finish(self) -> None:
        """Nothing is left to prove: the end marker was seen when the file was indexed."""


class _Extent(NamedTuple):
    offset: int
    size: int


class StreamMembers:
    """The members of a tar stream, plain or compressed, in whatever order they come.

    A member that is asked for when it is the next one passes through without being kept, and cannot be asked for again
    (see `replay` for that); any other is kept in the spool.
    """

    def __init__(self, chunks: Iterable[bytes], what: str, spool: Spool, limits: Limits = USUAL) -> None:
        self.what = what
        self.limits = limits
        self._spool = spool
        self._begun = False
        plain = decompressed(self._noticed(chunks), what, limits.window)
        self._entries = reader.read(plain, end_required=True, limits=limits)
        self._kept: dict[str, Kept] = {}
        self._links: dict[str, str] = {}
        self._next: tuple[str, Entry, Body] | None = None
        self._passed: set[str] = set()
        self._documents: set[str] = set()
        self.repeated: frozenset[str] = frozenset()
        """Members that will be asked for more than once: they are kept even when they could pass through."""
        self.wanted: frozenset[str] | None = None
        """The only members that will be asked for from now on, if that is known: the others are not kept."""
        self._count = 0
        self._ended = False

    def _noticed(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self._begun = True
            yield chunk

    def size(self, name: str) -> int | None:
        """Return the size of a member, reading on until it has come by."""
        while not self._known(name) and self._advance():
            pass
        name = _followed(name, self._links)
        if self._next and self._next[0] == name:
            return self._next[1].size
        kept = self._kept.get(name)
        return None if kept is None else kept.size

    def open(self, name: str) -> Iterator[bytes]:
        """Read a member: from the stream if it is the next one, from the spool if it has come by."""
        if self.size(name) is None:
            if name in self._passed:
                raise LocalError(
                    f"{self.what}: '{printable(name)}' is needed again, and there was no room to keep it",
                    hint="point TMPDIR or --tmpdir to a disk with room, or write the image to a file first: "
                    "ocirootfs fetch IMAGE -o image.tar",
                )
            raise _absent(self.what, name)
        name = _followed(name, self._links)
        if name in self.repeated and name not in self._kept:
            self._advance()
        if self._next and self._next[0] == name:
            _, _, body = self._next
            self._next = None
            self._passed.add(name)
            yield from map(bytes, self._arriving(body))
        else:
            yield from self._spool.read(self._kept[name])

    def _arriving(self, body: Body) -> Iterator[Piece]:
        """Pass a member's content through; the stream may break off in it."""
        try:
            yield from body
        except TruncatedError as error:
            raise self._cut(error) from None

    def _cut(self, error: TruncatedError) -> TruncatedError:
        text = f"{self.what}: {error}" if self._begun else f"{self.what} is empty"
        return TruncatedError(text, hint="the command before the pipe failed; its message is above")

    def _known(self, name: str) -> bool:
        name = _followed(name, self._links)
        return name in self._kept or name in self._passed or (self._next is not None and self._next[0] == name)

    def _advance(self) -> bool:
        """Keep the next member and look at the one after it; False at the end of the stream."""
        if self._next:
            name, _, body = self._next
            if self.wanted is None or name in self.wanted:
                self._kept[name] = self._spool.keep(self._arriving(body))
            self._next = None
        member = self._step()
        if member is None:
            return False
        entry, body = member
        name = _name(entry)
        if entry.kind is Kind.FILE:
            _once(self.what, name, self._documents)
            self._next = name, entry, body
        elif entry.link:
            self._links[name] = _link(entry)
        return True

    def _step(self) -> tuple[Entry, Body] | None:
        """Go on to the next member; None at the proper end of the stream."""
        try:
            member = next(self._entries, None)
        except LayerError as error:
            raise _unreadable(self.what, error, begun=bool(self._count)) from None
        except TruncatedError as error:
            if self._begun and not self._count:
                raise _unreadable(self.what, LayerError(str(error)), begun=False) from None
            raise self._cut(error) from None
        self._ended = member is None
        self._count += 1
        return member

    def finish(self) -> None:
        """Read to the end of the stream, which must have the end marker of a tar archive."""
        self._next = None
        while not self._ended:
            member = self._step()
            if member is not None:
                _once(self.what, _name(member[0]), self._documents)


def _unreadable(what: str, error: LayerError, *, begun: bool) -> InputError:
    if begun or error.hint:
        return InputError(f"{what}: the archive is broken {error}", hint=error.hint)
    return InputError(
        f"{what} is not an image archive: it is no tar at all",
        hint="ocirootfs reads what `ocirootfs fetch`, `docker save`, `podman save` and `skopeo copy` write",
    )


def _name(entry: Entry) -> str:
    return canonical(entry.path).decode("utf-8", "surrogateescape")


def _link(entry: Entry) -> str:
    """Return the member that a link names: a hard link from the top, a symlink from beside it."""
    target = entry.link
    if entry.kind is Kind.SYMLINK and not target.startswith(b"/"):
        target = canonical(entry.path).rpartition(b"/")[0] + b"/" + target
    return b"/".join(folded(target, clamp=True)).decode("utf-8", "surrogateescape")


def _followed(name: str, links: dict[str, str]) -> str:
    for _ in range(_LINKS):
        if name not in links:
            break
        name = links[name]
    return name
