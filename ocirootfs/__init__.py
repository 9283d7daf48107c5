"""Turn a container image into the rootfs archive that Concourse CI runs tasks from.

    import ocirootfs

    with ocirootfs.open("ubuntu:17.04") as image:
        print(image.digest, image.config.env)
        packed = ocirootfs.pack(image, "s3://images/ubuntu/ubuntu-17.04.tgz")
        print(packed.stored.location, packed.stored.size)

Nothing here prints; it logs to the logger `ocirootfs`. Errors are `OcirootfsError` and its kinds (`ocirootfs.errors`).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ocirootfs.api import check, fetch, flatten, metadata, open, pack, unpack  # noqa: A004  # ocirootfs.open, as gzip.open
    from ocirootfs.bundle import Layout, Report
    from ocirootfs.checking import Checked
    from ocirootfs.consumer.finding import Finding
    from ocirootfs.edits import Edits
    from ocirootfs.entry import Entry, Kind
    from ocirootfs.errors import OcirootfsError
    from ocirootfs.image import Image, Layer
    from ocirootfs.limits import Limits
    from ocirootfs.packing import Packed
    from ocirootfs.platform import Platform
    from ocirootfs.reference import Reference
    from ocirootfs.resourcetype import ResourceType
    from ocirootfs.s3.url import S3Options
    from ocirootfs.unpacking import Unpacked

__version__ = "0.1.0"

__all__ = [
    "Checked",
    "Edits",
    "Entry",
    "Finding",
    "Image",
    "Kind",
    "Layer",
    "Layout",
    "Limits",
    "OcirootfsError",
    "Packed",
    "Platform",
    "Reference",
    "Report",
    "ResourceType",
    "S3Options",
    "Unpacked",
    "check",
    "fetch",
    "flatten",
    "metadata",
    "open",
    "pack",
    "unpack",
]

_HOMES = {
    "Checked": "checking",
    "Edits": "edits",
    "Entry": "entry",
    "Finding": "consumer.finding",
    "Image": "image",
    "Kind": "entry",
    "Layer": "image",
    "Layout": "bundle",
    "Limits": "limits",
    "OcirootfsError": "errors",
    "Packed": "packing",
    "Platform": "platform",
    "Reference": "reference",
    "Report": "bundle",
    "ResourceType": "resourcetype",
    "S3Options": "s3.url",
    "Unpacked": "unpacking",
}


if not TYPE_CHECKING:  # the names above are all that there is

    def __getattr__(name: str) -> object:
        """Import what is asked for (PEP 562): `ocirootfs --help` needs none of it, and would wait for all."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found: object = getattr(import_module(f"{__name__}.{_HOMES.get(name, 'api')}"), name)
        globals()[name] = found
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
