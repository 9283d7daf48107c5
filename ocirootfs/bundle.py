"""The archive: a flattened image as a tar stream, in the layout that its reader wants.

`concourse` is what Concourse's S3 resource unpacks and a task runs in: `metadata.json` first (the resource sniffs the
first bytes of the tar, and some names look like other file types), the files beside it, then the image below `rootfs/`.
It has no device nodes (they cannot be made in a user namespace, and GNU tar then fails the whole get) and nothing below
the top-level `dev`, where the container gets its own. `rootfs` is the files alone, at the top, with everything that tar
can say of them. `resource-type` is what `concourse` has of the files, at the top; `resourcetype` wraps it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from ocirootfs.edits import Edits
from ocirootfs.entry import Entry, Kind
from ocirootfs.exclude import excluder
from ocirootfs.flattening import flatten
from ocirootfs.metadatajson import companions, metadata_json
from ocirootfs.resourcetype import ResourceType
from ocirootfs.tar import writer

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from ocirootfs.entry import Piece
    from ocirootfs.flattening import Visible
    from ocirootfs.image import Image
    from ocirootfs.spool import Spool

_PREFIX = b"rootfs/"
_CAPABILITY = b"security.capability"
_LEFT_OUT = frozenset([Kind.CHAR, Kind.BLOCK, Kind.HARDLINK])  # a link only if what it names is
_SMALL = 1 << 15  # bytes of the files that go out in one piece with their headers
_HEADER = 512  # bytes of a header, at least
_HIGHEST_ID = 65534  # what a worker inside a user namespace of 65,536 ids can map


@dataclass(frozen=True, slots=True)
class Layout:
    """What an archive looks like.

    `devices` None means what the layout is used with: kept for `rootfs`, dropped else. `exclude` holds glob patterns
    anchored at the image's root (`exclude.excluder`). `edits` change what `concourse` says of the image, `resource` is
    what `resource-type` does. No entry is younger than `latest`, in seconds since 1970 (SOURCE_DATE_EPOCH of
    reproducible-builds.org).

    >>> ocirootfs.Layout("rootfs", exclude=("usr/share/doc", "**/*.pyc")).keeps_devices
    True
    """

    kind: Literal["concourse", "rootfs", "resource-type"] = "concourse"
    exclude: tuple[str, ...] = ()
    devices: Literal["drop", "keep"] | None = None
    edits: Edits = field(default_factory=Edits)
    latest: int | None = None
    resource: ResourceType = field(default_factory=ResourceType)

    @property
    def keeps_devices(self) -> bool:
        """Whether device nodes go into the archive."""
        return self.devices == "keep" or (self.devices is None and self.kind == "rootfs")


@dataclass(slots=True)
class Report:
    """What went into an archive and what could not: filled while the archive is made.

    Paths are canonical, as in `Entry`, in the order in which they went by.

    >>> with ocirootfs.open("oci:tests/fixtures/zones") as image:
    ...     report = ocirootfs.unpack(image, "all", owners=False).report
    >>> report.entries, report.devices
    (41, [b'dev/null'])
    """

    entries: int = 0
    devices: list[bytes] = field(default_factory=list)
    """Paths of device nodes left out."""
    capabilities: list[bytes] = field(default_factory=list)
    """Paths of files whose capabilities are lost, because no reader of this layout restores them."""
    high_ids: list[bytes] = field(default_factory=list)
    """Paths whose owner or group is over 65534, which some Concourse workers cannot map."""


def bundle(image: Image, layout: Layout, spool: Spool, report: Report, careful: Container[int]) -> Iterator[Piece]:
    """Yield the tar stream, up to and with its end marker; the bytes depend on the image and the layout alone.

    Contents are slices of read buffers, so each piece is to be used before the next is asked for, or kept alive. Raises
    what `flatten` raises.
    """
    visible = shown(image, layout, spool, report, careful)
    if layout.kind == "concourse":
        for entry, content in documents(image, layout):
            yield writer.gnu_header(entry)
            yield content
            yield writer.file_padding(entry.size)
        yield from _concourse(visible, report, _PREFIX)
    elif layout.kind == "resource-type":
        yield from _concourse(_without_root(visible), report, b"")
    else:
        yield from _rootfs(visible, report)
    yield writer.END


def shown(image: Image, layout: Layout, spool: Spool, report: Report, careful: Container[int]) -> Visible:
    """Yield what a layout has of an image's files, in the order of `flatten`; what it leaves out goes to the report."""
    exclude = layout.exclude + (("dev/*",) if layout.kind != "rootfs" else ())
    visible = flatten(image.layers, spool, excluded=excluder(exclude), careful=careful, limits=image.limits)
    if not layout.keeps_devices:
        visible = _without_devices(visible, report)
    return visible if layout.latest is None else _clamped(visible, layout.latest * 1_000_000_000)


def documents(image: Image, layout: Layout) -> Iterator[tuple[Entry, bytes]]:
    """Yield the files that the `concourse` layout has beside `rootfs/`, `metadata.json` first, and their content."""
    config = layout.edits.apply(image.config)
    yield _document(b"metadata.json", metadata_json(config))
    for name, content in companions(config, image.digest, image.reference):
        yield _document(name, content)


def _document(name: bytes, content: bytes) -> tuple[Entry, bytes]:
    return Entry(name, Kind.FILE, 0o644, 0, 0, 0, len(content)), content


def _without_devices(visible: Visible, report: Report) -> Visible:
    """Drop device nodes, and links to them."""
    dropped: set[bytes] = set()
    for member in visible:
        entry = member[0]
        kind = entry.kind
        if kind in _LEFT_OUT and (kind is not Kind.HARDLINK or entry.link in dropped):
            dropped.add(entry.path)
            report.devices.append(entry.path)
        else:
            yield member


def _clamped(visible: Visible, latest: int) -> Visible:
    """Make nothing younger than `latest`, in nanoseconds."""
    for entry, body in visible:
        yield (entry._replace(mtime=latest) if entry.mtime > latest else entry), body


def _without_root(visible: Visible) -> Visible:
    """Drop the root: a `./` entry would set mode and owner of whatever directory it is unpacked into."""
    return (member for member in visible if member[0].path)


def _concourse(visible: Visible, report: Report, prefix: bytes) -> Iterator[Piece]:
    """Yield few and large pieces: each costs more than the copying of a small file."""
    header, padding = writer.gnu_header, writer.file_padding
    parts: list[Piece] = []
    room = _SMALL
    for entry, body in visible:
        size = entry.size
        parts.append(header(entry, prefix))
        if size > _SMALL:
            yield b"".join(parts)
            yield from body
            parts, room = [padding(size)], _SMALL
        else:
            if size:
                parts += body
                parts.append(padding(size))
            room -= size + _HEADER
            if room <= 0:
                yield b"".join(parts)
                parts, room = [], _SMALL
        report.entries += 1
        if entry.uid > _HIGHEST_ID or entry.gid > _HIGHEST_ID:
            report.high_ids.append(entry.path)
        if entry.xattrs and any(name == _CAPABILITY for name, _ in entry.xattrs):
            report.capabilities.append(entry.path)
    yield b"".join(parts)


def _rootfs(visible: Visible, report: Report) -> Iterator[Piece]:
    for entry, body in _without_root(visible):
        report.entries += 1
        yield writer.pax_header(entry)
        if entry.size:
            yield from body
            yield writer.file_padding(entry.size)
