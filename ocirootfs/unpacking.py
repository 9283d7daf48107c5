"""Unpacking: an image in, one new directory with its files, or nothing there at all."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ocirootfs.bundle import Layout, Report, documents, shown
from ocirootfs.entry import Entry, Kind
from ocirootfs.expansion import EXPANDED, bounded, bounded_tree
from ocirootfs.flattening import Superseded, more_careful
from ocirootfs.image import watched
from ocirootfs.newdirectory import NewDirectory
from ocirootfs.prefetch import prefetched, prefetched_image
from ocirootfs.replay import replayable
from ocirootfs.spool import Spool
from ocirootfs.treewriter import Attributes, Losses, TreeWriter

if TYPE_CHECKING:
    import os
    from collections.abc import Container

    from ocirootfs.digest import Digest
    from ocirootfs.flattening import Visible
    from ocirootfs.image import Image, Progress

_ROOTFS = b"rootfs"
_TOP = Entry(b"", Kind.DIRECTORY, 0o755, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Unpacked:
    """A directory that is there now: where, from what, and what of the image it has not.

    `report` counts what is there and lists the devices left out, `losses` lists files without attributes they had;
    `attributes` says what was asked for.

    >>> with ocirootfs.open("oci:tests/fixtures/zones") as image:
    ...     unpacked = ocirootfs.unpack(image, "mine", owners=False)
    >>> unpacked.location, unpacked.attributes.owners, unpacked.losses.set_ids
    ('mine', False, [])
    """

    location: str
    digest: Digest | None
    attributes: Attributes
    report: Report = field(default_factory=Report)
    losses: Losses = field(default_factory=Losses)


def unpack(
    image: Image,
    directory: str | os.PathLike[str],
    *,
    layout: Layout,
    attributes: Attributes | None = None,
    tmpdir: str | None = None,
    max_expanded: int = EXPANDED,
    progress: Progress | None = None,
) -> Unpacked:
    """Flatten `image` into `directory`, which is made, and may be there only if it is empty.

    Raises InputError for an image that expands to more than `max_expanded` bytes (see `expansion`). `tmpdir` is where
    temporary files are made when memory does not do; `progress` hears of each chunk of a layer as it
    is read. The directory is renamed into its place after every layer has proved to be what its digests say and the
    source has proved complete; on any exception, KeyboardInterrupt included, all that was made is removed and the
    exception goes on. Nothing waits for the disk: after a power cut the directory may be there with files that are not.
    """
    target = NewDirectory(directory)
    try:
        with (
            Spool(tmpdir, memory=16 << 20) as layers,
            Spool(tmpdir) as hidden,
            prefetched(image.layers[::-1], [image], tmpdir) as ahead,
        ):
            source = bounded(prefetched_image(image, ahead), max_expanded)
            if source.again == "never":
                source = replayable(source, layers, tmpdir)
            if progress is not None:
                source = watched(source, progress)
            unpacked = _write(source, target, layout, attributes or Attributes(), hidden, max_expanded)
        target.commit()
    except BaseException:
        target.abort()
        raise
    return unpacked


def _write(
    image: Image, target: NewDirectory, layout: Layout, attributes: Attributes, hidden: Spool, most: int
) -> Unpacked:
    """Write the tree, starting over if a layer turns out to need care."""
    careful: Container[int] = frozenset()
    while True:
        unpacked = Unpacked(target.location, image.digest, attributes)
        try:
            with TreeWriter(target.descriptor, target.location, attributes, unpacked.losses) as writer:
                visible = bounded_tree(shown(image, layout, hidden, unpacked.report, careful), most)
                unpacked.report.entries = _arranged(image, visible, layout, writer)
        except Superseded as again:
            hidden.clear()
            target.restart()
            careful = more_careful(careful, again)
        else:
            image.finish()
            return unpacked


def _arranged(image: Image, visible: Visible, layout: Layout, writer: TreeWriter) -> int:
    """Write the image's files where the layout has them, and return how many there are."""
    if layout.kind == "rootfs":
        return writer.write(visible)
    for entry, content in documents(image, layout):
        writer.put(entry, (content,))
    count = writer.write(_below_rootfs(visible))
    writer.put(_TOP, ())
    return count


def _below_rootfs(visible: Visible) -> Visible:
    for entry, body in visible:
        path = _ROOTFS + b"/" + entry.path if entry.path else _ROOTFS
        link = _ROOTFS + b"/" + entry.link if entry.kind is Kind.HARDLINK else entry.link
        yield entry._replace(path=path, link=link), body
