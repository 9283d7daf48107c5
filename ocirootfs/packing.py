"""Packing: an image in, one archive at its destination, or nothing there at all."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from ocirootfs.bundle import Layout, Report, bundle
from ocirootfs.cores import cores
from ocirootfs.destination import Standing
from ocirootfs.digest import Digest
from ocirootfs.errors import UsageError
from ocirootfs.expansion import EXPANDED, bounded, bounded_archive
from ocirootfs.flattening import ALWAYS, Superseded, more_careful
from ocirootfs.gzip import DEFAULT_LEVEL, GzipWriter, threads_for
from ocirootfs.image import watched
from ocirootfs.prefetch import prefetched, prefetched_image
from ocirootfs.replay import replayable
from ocirootfs.resourcetype import archive
from ocirootfs.spool import Spool

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Mapping

    from ocirootfs.destination import Destination, Stored
    from ocirootfs.entry import Piece
    from ocirootfs.image import Image, Progress

Compression: TypeAlias = Literal["gzip", "none"]

_FORMAT = 1  # of the archives: raised when the same image and options give others, so that these are made anew
_BLOCK = 1 << 19  # bytes handed to a destination at a time when nothing compresses them
_INNER_MEMORY = 8 << 20  # bytes of an archive in an archive that are not worth a file
_GZIP_SUFFIXES = (".tgz", ".tar.gz")
# What Concourse's S3 resource recognises by content is gzip, bzip2, zip and tar; a name that says otherwise misleads.
_OTHER_SUFFIXES = (".zst", ".xz", ".bz2", ".zip", ".tbz2", ".txz", ".tzst")


@dataclass(frozen=True, slots=True)
class Packed:
    """An archive that has been published: where, from what, and what could not go in.

    If it was `skipped`, it was there before and has been left as it is; then `report` is empty. `digest` is that of the
    image's manifest, None for an archive that has none; `stored` has the archive's own size in bytes, and its SHA-256.

    >>> with ocirootfs.open("oci:tests/fixtures/zones") as image:
    ...     packed = ocirootfs.pack(image, io.BytesIO(), compress="none")
    >>> packed.stored.location, packed.stored.size % 512, packed.digest == image.digest
    ('-', 0, True)
    """

    stored: Stored
    digest: Digest | None
    report: Report
    skipped: bool = False


def pack(  # noqa: PLR0913  # options, by keyword
    image: Image,
    destination: Destination,
    *,
    layout: Layout | None = None,
    compress: Compression = "gzip",
    level: int = DEFAULT_LEVEL,
    threads: int | None = None,
    tmpdir: str | None = None,
    max_expanded: int = EXPANDED,
    progress: Progress | None = None,
) -> Packed:
    """Flatten `image` into an archive and publish it at `destination`.

    The bytes depend on the image, the layout and the compression alone, not on `threads` (by default as many as cores;
    see `gzip.threads_for`).
    `tmpdir` is where temporary files are made when memory does not do; `progress` hears of each chunk of a layer as it
    is read. An image that expands to more than `max_expanded` bytes is an InputError (see `expansion`). Published is
    only after every layer has proved to be what its digests say and the source has proved complete; on any exception,
    KeyboardInterrupt included, the destination is aborted and the exception goes on.
    A destination that holds it already (`destination.Standing`) is left alone, before any layer is read.
    """
    layout = layout or Layout()
    try:
        if isinstance(destination, Standing) and (kept := destination.standing()) is not None:
            image.finish()  # a writer at the other end of a pipe is not to fail
            destination.abort()
            return Packed(kept, image.digest, Report(), skipped=True)
        with (
            Spool(tmpdir, memory=16 << 20) as layers,
            Spool(tmpdir) as hidden,
            prefetched(image.layers[::-1], [image], tmpdir) as ahead,
        ):
            source = _readable_again(prefetched_image(image, ahead), destination, layers, tmpdir)
            source = bounded(source, max_expanded)
            if progress is not None:
                source = watched(source, progress)
            threads = threads or threads_for(level, cores())
            encode = _encoder(compress, level, threads, max_expanded)
            if layout.kind == "resource-type":
                inner = _encoder("gzip", level, threads, max_expanded)
                outer = _encoder("none", level, 1, max_expanded)
                encode = _wrapped(layout.resource.document(image), inner, outer, tmpdir)
            report = _write(source, destination, layout, hidden, encode)
        return Packed(destination.commit(), image.digest, report)
    except BaseException:
        destination.abort()
        raise


def _readable_again(image: Image, destination: Destination, spool: Spool, tmpdir: str | None) -> Image:
    """Keep layers where a second reading may be needed and is not to be had for nothing."""
    if not destination.restartable:
        return readable_twice(image, spool, tmpdir)
    return replayable(image, spool, tmpdir) if image.again == "never" else image


def readable_twice(image: Image, spool: Spool, tmpdir: str | None) -> Image:
    """Return the image with layers that can be read twice: once for what they hold, and once more to write that."""
    return image if image.again == "free" else replayable(image, spool, tmpdir, readings=2)


_Encoder: TypeAlias = "Callable[[Iterable[Piece], _Sink], None]"


class _Sink(Protocol):
    """What takes an archive's bytes; the caller may reuse them afterwards."""

    def write(self, data: bytes, /) -> None: ...


def _write(image: Image, destination: Destination, layout: Layout, spool: Spool, encode: _Encoder) -> Report:
    """Write the archive, starting over if a layer turns out to need care."""
    careful: Container[int] = frozenset() if destination.restartable else ALWAYS
    while True:
        report = Report()
        try:
            encode(bundle(image, layout, spool, report, careful), destination)
        except Superseded as again:
            spool.clear()
            destination.restart()
            careful = more_careful(careful, again)
        else:
            image.finish()
            return report


def _encoder(compress: Compression, level: int, threads: int, most: int) -> _Encoder:
    """Return what turns tar pieces, `most` bytes of them, into the bytes of the archive."""

    def gzipped(pieces: Iterable[Piece], destination: _Sink) -> None:
        with GzipWriter(destination.write, level=level, threads=threads) as writer:
            for piece in bounded_archive(pieces, most):
                writer.write(piece)
            writer.close()

    def plain(pieces: Iterable[Piece], destination: _Sink) -> None:
        _plain(bounded_archive(pieces, most), destination)

    return gzipped if compress == "gzip" else plain


def _wrapped(document: bytes, inner: _Encoder, outer: _Encoder, tmpdir: str | None) -> _Encoder:
    """Return what turns the pieces of a resource type's files into its archive."""

    def wrapped(pieces: Iterable[Piece], destination: _Sink) -> None:
        with Spool(tmpdir, memory=_INNER_MEMORY) as rootfs:
            inner(pieces, _SpoolSink(rootfs))
            outer(archive(document, rootfs), destination)

    return wrapped


class _SpoolSink:
    """Writes into a spool."""

    def __init__(self, spool: Spool) -> None:
        self.write = spool.append


def _plain(pieces: Iterable[Piece], destination: _Sink) -> None:
    """Write the pieces as they are, many at a time."""
    waiting: list[Piece] = []
    size = 0
    for piece in pieces:
        waiting.append(piece)
        size += len(piece)
        if size >= _BLOCK:
            destination.write(b"".join(waiting))
            waiting, size = [], 0
    destination.write(b"".join(waiting))


def fingerprint(image: Image, layout: Layout, compress: Compression, level: int, stored: Mapping[str, str]) -> str:
    """Return what changes with all that shapes an archive, but for the image's digest and platform.

    That includes the image's name, which the archive holds. `stored` is how the archive is kept where it goes.
    """
    name = [image.reference.familiar, image.reference.tag] if image.reference else None
    compression = [compress, level] if "gzip" in (compress, _inner(layout)) else [compress]
    # repr() has every field of the layout, those to come included.
    facts = json.dumps([_FORMAT, name, repr(layout), compression, sorted(stored.items())])
    return Digest.of(facts.encode()).hex[:16]


def _inner(layout: Layout) -> Compression:
    """Return how an archive inside the archive is compressed, if there is one."""
    return "gzip" if layout.kind == "resource-type" else "none"


def compression_for(name: str, layout: Layout, *, asked: Compression | None = None) -> Compression:
    """Return the compression of an archive called `name` (`-` for a stream), unless it is `asked` for.

    Raises UsageError where Concourse's S3 resource would not unpack the result: it runs `gunzip`, which goes by the
    name, and reads neither xz nor zstd (s3-resource, in/archive.go).
    """
    if name.endswith(_OTHER_SUFFIXES):
        raise UsageError(
            f"'{name}' has the suffix of a format that is not written", hint="name it .tgz, .tar.gz or .tar"
        )
    if layout.kind == "resource-type" and (asked == "gzip" or name.endswith(_GZIP_SUFFIXES)):
        raise UsageError(
            "a resource type's files are compressed already, and the tar around them is not", hint="name it .tar"
        )
    implied: Compression = "gzip" if name.endswith(_GZIP_SUFFIXES) or layout.kind == "concourse" else "none"
    if name.endswith(".tar"):
        implied = "none"
    chosen = asked or implied
    if layout.kind == "concourse" and chosen == "gzip" and _breaks_gunzip(name):
        raise UsageError(
            f"Concourse would not unpack '{name}': gunzip goes by the name's suffix", hint="name it .tgz or .tar.gz"
        )
    return chosen


def _breaks_gunzip(name: str) -> bool:
    return name.endswith(".tar") or (name.startswith("s3://") and not name.endswith(_GZIP_SUFFIXES))


def default_name(image: Image, compress: Compression, *, fallback: str = "image") -> str:
    """Return what an archive is called when nobody says: `ubuntu-17.04.tgz`.

    An image without a tag is told apart by twelve digits of its digest, one without a name is called `fallback`.
    """
    reference = image.reference
    parts = [reference.name if reference else fallback]
    if reference and reference.tag:
        parts.append(reference.tag)
    elif image.digest:
        parts.append(image.digest.hex[:12])
    return "-".join(parts) + (".tgz" if compress == "gzip" else ".tar")
