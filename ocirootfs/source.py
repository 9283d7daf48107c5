"""Where an image is taken from: what people write for it, and opening that.

-                         an archive on standard input
ubuntu:17.04              a registry (also `docker://ubuntu:17.04`)
oci:DIR[:NAME]            an OCI image layout
oci-archive:FILE[:NAME]   the same in a tar file
docker-archive:FILE[:NAME]   what `docker save` writes
./image.tar, /path/to/x   a path, told apart by content
"""

from __future__ import annotations

import io
import os
import select
import stat
import sys
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import IO, TYPE_CHECKING, BinaryIO, Literal

from ocirootfs.archive import dockersave, ocilayout
from ocirootfs.archive.members import DirectoryMembers, FileMembers, StreamMembers
from ocirootfs.compression import is_compressed
from ocirootfs.errors import InputError, LocalError, NotFoundError, UsageError, printable
from ocirootfs.limits import USUAL, Limits
from ocirootfs.reference import Reference
from ocirootfs.spool import Spool

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ocirootfs.archive.members import Members
    from ocirootfs.image import Image
    from ocirootfs.platform import Platform

_CHUNK = 1 << 18
_GLANCE = 200  # milliseconds
_SPOOL_MEMORY = 8 << 20
_SUFFIXES = (".tar", ".tar.gz", ".tgz")
_TRANSPORTS = ("oci", "oci-archive", "docker-archive")


@dataclass(frozen=True, slots=True)
class Source:
    """What a SOURCE says: how to get there, where it is, and what the image is called there."""

    transport: Literal["stdin", "registry", "oci", "oci-archive", "docker-archive", "path"]
    path: str = ""
    name: str | None = None
    reference: Reference | None = None

    @classmethod
    def parse(cls, text: str) -> Source:
        """Read a SOURCE. A word that is also a file here is an image's name, unless it has a slash or such a suffix."""
        if text == "-":
            return cls("stdin")
        transport, colon, rest = text.partition(":")
        if colon and transport in _TRANSPORTS:
            path, colon, name = rest.partition(":")
            if not path:
                raise UsageError(f"'{printable(text)}' names no path")
            return cls(transport, path, name if colon and name else None)  # type: ignore[arg-type]  # checked above
        if text.startswith(("/", "./", "../")) or text.endswith(_SUFFIXES) or ("/" in text and os.path.exists(text)):
            return cls("path", text)
        return cls("registry", reference=Reference.parse(text))

    def called(self, name: str) -> Source:
        """Return the source of the image called `name` in it; UsageError where there is nothing to choose from."""
        if self.reference is not None:
            raise UsageError(f"--image chooses from an archive, and '{self.reference}' is in a registry")
        if self.name not in {None, name}:
            raise UsageError(f"two names for one image: '{printable(self.name or '')}' and '{printable(name)}'")
        return replace(self, name=name)


@contextmanager
def local_image(
    source: Source, platform: Platform | None, tmpdir: str | None = None, limits: Limits = USUAL
) -> Iterator[Image]:
    """Open an image that is no registry's, for as long as the context lasts, to be read within `limits`.

    `platform` None takes an image that stands alone, and this machine's among several. Raises InputError for what is no
    image, NotFoundError for what is not there, UsageError for what is there several times.
    """
    with Spool(tmpdir, memory=_SPOOL_MEMORY) as spool:
        if source.transport == "stdin":
            yield _found(_from_file(sys.stdin.buffer, "standard input", spool, limits), source, platform)
        elif source.transport == "oci" or os.path.isdir(source.path):
            yield _found(_directory(source.path, limits), source, platform)
        else:
            with _opened(source.path) as file:
                yield _found(_from_file(file, printable(source.path), spool, limits), source, platform)


def image_in(
    file: BinaryIO,
    platform: Platform | None,
    spool: Spool,
    *,
    what: str = "the archive",
    name: str | None = None,
    limits: Limits = USUAL,
) -> Image:
    """Return the image of an archive in a binary file, which is read in place if it is seekable; `what` names it."""
    return _found(_from_file(file, what, spool, limits), Source("path", name=name), platform)


def _found(members: Members, source: Source, platform: Platform | None) -> Image:
    if source.transport == "docker-archive":
        image = dockersave.find(members, source.name, platform) or ocilayout.find(members, source.name, platform)
    else:
        image = ocilayout.find(members, source.name, platform) or dockersave.find(members, source.name, platform)
    if image is None:
        raise InputError(
            f"{members.what} is not an image: it has neither index.json nor manifest.json",
            hint="a file system tar, as `docker export` writes it, has lost the configuration: use `docker save`",
        )
    return replace(image, again="never") if isinstance(members, StreamMembers) else image


def _directory(path: str, limits: Limits) -> DirectoryMembers:
    try:
        is_there = stat.S_ISDIR(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        is_there = False
    except OSError as error:
        raise LocalError(f"cannot read '{printable(path)}': {error.strerror}") from error
    if not is_there:
        raise NotFoundError(f"there is no directory '{printable(path)}'")
    return DirectoryMembers(path, limits)


@contextmanager
def _opened(path: str) -> Iterator[BinaryIO]:
    try:
        file = open(path, "rb", buffering=0)  # noqa: SIM115  # closed below
    except FileNotFoundError:
        raise NotFoundError(f"there is no file '{printable(path)}'") from None
    except OSError as error:
        raise LocalError(f"cannot read '{printable(path)}': {error.strerror}") from error
    with file:
        yield file


def _from_file(file: IO[bytes], what: str, spool: Spool, limits: Limits) -> Members:
    """Read in place what can be, and the rest as it passes."""
    descriptor = _descriptor(file)
    if descriptor is not None and stat.S_ISREG(os.fstat(descriptor).st_mode) and not file.tell():
        head = os.pread(descriptor, 8, 0)
        if head and not is_compressed(head):
            return FileMembers(file.fileno(), what, limits)
    return StreamMembers(_chunks(file), what, spool, limits)


def _descriptor(file: IO[bytes]) -> int | None:
    try:
        return file.fileno()
    except OSError:  # io.UnsupportedOperation: a file in memory
        return None


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    """Read what is there, up to a chunk at a time; a pipe gives less, and waiting for more would only delay."""
    read = getattr(file, "read1", file.read)
    raw = file.raw if isinstance(file, io.BufferedReader) else file
    try:
        while chunk := read(_CHUNK):
            yield chunk
            if isinstance(raw, io.FileIO):  # what it had buffered has been read by now
                _wait_for(raw.fileno())
    except OSError as error:
        raise LocalError(f"cannot read: {error.strerror}") from error


def _wait_for(descriptor: int) -> None:
    """Wait until there is something to read, or nothing more.

    Python runs the handler of a signal between two steps. One that comes just before read(2) begins, or in another
    thread, would be noticed when that returns: never, if whoever writes the pipe has stopped.
    """
    readable = select.poll()
    readable.register(descriptor, select.POLLIN)
    while not readable.poll(_GLANCE):
        pass
