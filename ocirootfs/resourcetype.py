"""Base resource types: what a Concourse worker has in each directory of its resource types.

    resource_metadata.json   type, version, privileged, unique_version_history
    rootfs.tgz               the files, at the root of the tar

The worker imports the second as root with `tar --numeric-owner -xz`; env and user count for nothing there (concourse,
worker/workercmd/worker_linux.go and docs/install/running-worker). Both stand at the top of one plain tar: `tar -xf` in
the type's directory is all it takes. A tar member's size comes before it, so `rootfs.tgz` waits in an unnamed temporary
file until it is whole; what is compressed once is not compressed again around it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ocirootfs.entry import Entry, Kind
from ocirootfs.errors import UsageError, is_text
from ocirootfs.tar import writer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ocirootfs.entry import Piece
    from ocirootfs.image import Image
    from ocirootfs.spool import Spool

_VERSION = "org.opencontainers.image.version"


@dataclass(frozen=True, slots=True)
class ResourceType:
    """What a worker says of a resource type.

    `type` None is the image's name without `-resource` at its end; `version` None is what the image's label
    `org.opencontainers.image.version` says, or else its tag, or else its digest. `privileged` types run as the worker's
    root. With `unique_version_history` each resource has versions of its own, whatever others have the same source.

    >>> resource = ocirootfs.ResourceType("zones", "1.0", privileged=True)
    >>> with ocirootfs.open("oci:tests/fixtures/zones") as image:
    ...     json.loads(resource.document(image))["privileged"]
    True
    """

    type: str | None = None
    version: str | None = None
    privileged: bool = False
    unique_version_history: bool = False

    def __post_init__(self) -> None:
        if "" in (self.type, self.version):
            raise UsageError("the type and the version of a resource type cannot be empty")
        if not is_text(f"{self.type}{self.version}"):
            raise UsageError("the type and the version of a resource type are UTF-8")

    def document(self, image: Image) -> bytes:
        """Return `resource_metadata.json`; UsageError for an image that has no name where none is given."""
        return (
            json.dumps(
                {
                    "type": self.type or _type(image),
                    "version": self.version or _version(image),
                    "privileged": self.privileged,
                    "unique_version_history": self.unique_version_history,
                },
                separators=(",", ":"),
            ).encode()
            + b"\n"
        )


def _type(image: Image) -> str:
    if image.reference is None:
        raise UsageError("this image has no name that the resource type could have", hint="--resource-type NAME")
    return image.reference.name.removesuffix("-resource") or image.reference.name


def _version(image: Image) -> str:
    reference = image.reference
    found = image.config.labels.get(_VERSION) or (reference.tag if reference else None) or image.digest
    if not found:
        raise UsageError("this image has no version that the resource type could have", hint="--resource-version TEXT")
    return str(found)


def archive(document: bytes, rootfs: Spool) -> Iterator[Piece]:
    """Yield the tar of both files; `rootfs` holds `rootfs.tgz`."""
    for name, size, content in (
        (b"resource_metadata.json", len(document), iter((document,))),
        (b"rootfs.tgz", rootfs.end, rootfs.read(rootfs.since(0))),
    ):
        yield writer.gnu_header(Entry(name, Kind.FILE, 0o644, 0, 0, 0, size))
        yield from content
        yield writer.file_padding(size)
    yield writer.END
