"""What an image would be as a directory, without making one: a list of its entries, or one file's content.

A listing needs every layer. One file does not: layers are read topmost first, and once the entry of a path has been
met, no lower layer can change it. Its layer is still read to the end before anything is given away, because only
there have the digests been compared.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from operator import attrgetter
from typing import TYPE_CHECKING

from ocirootfs.entry import Entry, Kind, canonical, folded
from ocirootfs.errors import LayerError, NotFoundError, UsageError, printable
from ocirootfs.expansion import EXPANDED, bounded
from ocirootfs.flattening import Superseded, flatten, more_careful
from ocirootfs.image import watched
from ocirootfs.prefetch import prefetched, prefetched_image
from ocirootfs.replay import replayable
from ocirootfs.spool import Kept, Spool

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Sequence

    from ocirootfs.entry import Piece
    from ocirootfs.image import Image, Layer, Progress

_IN_MEMORY = 16 << 20  # bytes of compressed layers


def listing(
    image: Image, path: str = "", *, tmpdir: str | None = None, progress: Progress | None = None
) -> list[Entry]:
    """Return the entries of the flattened image at `path` and below, sorted by path; that of the root is `b""`.

    They are proved, as every layer is read to its end. NotFoundError if there is nothing at `path`, which is taken
    literally: symbolic links are not followed. Room: that of the entries.
    """
    wanted = place(path)
    with (
        Spool(tmpdir, memory=_IN_MEMORY) as layers,
        prefetched(image.layers[::-1], [image], tmpdir) as ahead,
    ):
        source = bounded(_readable_again(prefetched_image(image, ahead), layers, tmpdir), EXPANDED)
        found = _entries(source if progress is None else watched(source, progress), wanted)
        image.finish()
    if not found:
        raise NotFoundError(f"the image has no '{printable(wanted)}'")
    return found


def _entries(image: Image, wanted: bytes) -> list[Entry]:
    below = wanted + b"/" if wanted else b""
    careful: Container[int] = frozenset()
    with _Nowhere() as hidden:
        while True:
            try:
                visible = flatten(image.layers, hidden, careful=careful, limits=image.limits)
                found = [entry for entry, _ in visible if entry.path == wanted or entry.path.startswith(below)]
            except Superseded as again:
                hidden.clear()
                careful = more_careful(careful, again)
            else:
                return sorted(found, key=attrgetter("path"))


@contextmanager
def content(image: Image, path: str, *, tmpdir: str | None = None) -> Iterator[Iterable[bytes]]:
    """Give the content of the regular file at `path`, proved, for as long as the context lasts.

    Hard links are followed, symbolic ones are not: NotFoundError says where one leads, as it does for what is not there
    or is no file. Layers below the one that has the file are not read, unless the image comes from a stream, which
    is read to its end.
    """
    wanted = place(path)
    with Spool(tmpdir, memory=_IN_MEMORY) as layers, Spool(tmpdir) as hidden, Spool(tmpdir) as kept:
        source = bounded(_readable_again(image, layers, tmpdir), EXPANDED)
        run = _Search(source, hidden, kept).run(wanted)
        image.finish()
        yield kept.read(run)


class _Search:
    """Looks for one file, starting over where a hard link names another or a layer needs care."""

    def __init__(self, image: Image, hidden: Spool, kept: Spool) -> None:
        self._image = image
        self._hidden = hidden
        self._kept = kept
        self._careful: Container[int] = frozenset()

    def run(self, wanted: bytes) -> Kept:
        """Keep the content of the file at `wanted`."""
        sought = wanted
        while True:
            self._hidden.clear()
            self._kept.clear()
            try:
                entry, run = self._meet(sought)
            except Superseded as again:
                self._careful = more_careful(self._careful, again)
                continue
            if entry is None:
                raise NotFoundError(f"the image has no '{printable(wanted)}'")
            if entry.kind is Kind.HARDLINK:
                sought = entry.link
            elif entry.kind is Kind.FILE:
                return run
            else:
                raise _no_file(wanted, entry)

    def _meet(self, wanted: bytes) -> tuple[Entry | None, Kept]:
        """Return the entry at `wanted`, or a symbolic link on the way there, and where its content is kept."""
        parents = {wanted[:at] for at, byte in enumerate(wanted) if byte == 0x2F}
        found: Entry | None = None
        run = Kept(0, 0)
        layers = _until(self._image.layers, lambda: found is not None)
        try:
            for entry, body in flatten(layers, self._hidden, careful=self._careful, limits=self._image.limits):
                if entry.path == wanted or (entry.kind is Kind.SYMLINK and entry.path in parents):
                    found, run = entry, self._kept.keep(body)
        except _EnoughError:
            pass
        return found, run


class _EnoughError(Exception):
    """What was looked for has been found, in a layer that has been read to its end."""


def _until(layers: Sequence[Layer], is_enough: Callable[[], bool]) -> tuple[Layer, ...]:
    """Return layers that are not read when `is_enough`."""

    def guarded(layer: Layer) -> Layer:
        def source() -> Iterable[bytes]:
            if is_enough():
                raise _EnoughError
            return layer.source()

        return replace(layer, source=source)

    return tuple(map(guarded, layers))


def _no_file(wanted: bytes, entry: Entry) -> NotFoundError:
    if entry.kind is not Kind.SYMLINK:
        return NotFoundError(f"'{printable(wanted) or '/'}' is no file but a {entry.kind.value}")
    what = f"'{printable(entry.path)}' is a symbolic link to '{printable(entry.link)}'"
    inside = b"" if entry.link.startswith(b"/") else entry.path.rpartition(b"/")[0]
    target = b"/".join(folded(b"/".join([inside, entry.link, wanted[len(entry.path) :]]), clamp=True))
    return NotFoundError(f"{what}, which is not followed", hint=f"within the image that is '{printable(target)}'")


def place(path: str) -> bytes:
    """Return the canonical path that somebody means by `/etc/passwd`, `./etc/passwd` or `etc/passwd`."""
    try:
        return canonical(path.encode("utf-8", "surrogateescape"))
    except LayerError as error:
        raise UsageError(f"'{printable(path)}' is no path in an image: {error.message}") from None


def _readable_again(image: Image, spool: Spool, tmpdir: str | None) -> Image:
    """Keep layers that could not be read again if one of them turned out to need care."""
    return replayable(image, spool, tmpdir) if image.again == "never" else image


class _Nowhere(Spool):
    """A spool for contents that nobody will ask for."""

    def append(self, piece: Piece) -> None:
        """Count the piece and forget it."""
        self._end += len(piece)

    def clear(self) -> None:
        """Start counting again."""
        self._end = 0
