"""What an image, a registry or an archive may make us do: each limit, its default, and how far it can be moved.

None of them is near what people build, and each bounds something that somebody else decides: memory, time, or the depth
of a structure. A limit is checked where the thing is read, and gets there as a parameter.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, NamedTuple

from ocirootfs.errors import UsageError, printable

if TYPE_CHECKING:
    from collections.abc import Mapping


class Range(NamedTuple):
    """Between what a limit can be set; a size counts bytes, and is written with a unit."""

    least: int
    most: int
    is_size: bool = False


RANGES: Mapping[str, Range] = {
    "document": Range(1, 1 << 30, is_size=True),
    "token": Range(1, 1 << 30, is_size=True),
    "json_depth": Range(1, 500),  # Python's parser takes a level of its stack, of 1,000, for each
    "index_depth": Range(1, 100),  # so do we
    "redirects": Range(1, 1000),
    "layers": Range(1, 1_000_000),
    "manifests": Range(1, 1_000_000),
    "entries": Range(1, 1 << 40),
    "path": Range(256, 8 << 20, is_size=True),  # 256 bytes are in a plain header
    "path_depth": Range(1, 1 << 13),  # a path takes memory, and time of the kernel, with the square of its depth
    "extension": Range(1, 8 << 20, is_size=True),  # the length of a record has seven digits
    "attributes": Range(1, 1 << 40, is_size=True),
    "sparse": Range(1, 1 << 62, is_size=True),
    "window": Range(1 << 10, 1 << 31, is_size=True),  # as zstd has it
}


@dataclass(frozen=True, slots=True)
class Limits:
    """What is refused, unless somebody says that it is right. UsageError for what no limit can be.

    The limit on what an image expands to, `max_expanded`, is a parameter of `pack` and `unpack`; those on time are
    parameters of `Registry`.

    >>> limits = ocirootfs.Limits(entries=20_000_000, path=128 << 10)
    >>> with ocirootfs.open("oci:tests/fixtures/zones", limits=limits) as image:
    ...     print(image.limits.entries, image.limits.window)
    20000000 134217728
    """

    document: int = 8 << 20
    """Bytes of a manifest, index or config. Registries must take 4 MiB (distribution-spec, "Pushing Manifests")."""
    token: int = 1 << 20
    """Bytes of a token server's answer."""
    json_depth: int = 64
    """Levels of a document of JSON."""
    index_depth: int = 3
    """Indexes within an index, each in the one before; image-spec asks for one."""
    redirects: int = 10
    """Redirects on the way to one answer."""
    layers: int = 1000
    """Layers of an image; docker stops at 127."""
    manifests: int = 1000
    """Manifests that one index lists."""
    entries: int = 5_000_000
    """Entries of an image, in all layers together, with directories that none lists; and of an archive of images.
    Large layers have a million."""
    path: int = 1 << 16
    """Bytes of a name or a link's target. A tar knows no limit, and no file system takes more than 4,096 at a time."""
    path_depth: int = 4096
    """Directories that may contain one another: beyond PATH_MAX, and still bounded."""
    extension: int = 1 << 20
    """Bytes of an extension header (PAX, GNU); a name longer than that needs both limits raised."""
    attributes: int = 1 << 26
    """Bytes of extended attributes that directories and hidden entries have, of names and targets over 255 bytes, and
    of the maps of hidden sparse files, in all layers together: they are kept."""
    sparse: int = 1 << 36
    """Bytes of the file that a sparse entry stands for; a map of a hundred bytes can claim 4 EiB."""
    window: int = 1 << 27
    """Bytes of memory that zstd's window or xz's dictionary may take; `zstd --long=31` needs 2 GiB to be read."""

    def __post_init__(self) -> None:
        for name, (least, most, _) in RANGES.items():
            value = getattr(self, name)
            if not isinstance(value, int) or not least <= value <= most:
                raise UsageError(f"the limit {name} is from {least} to {most}, and not {printable(str(value), 40)}")


USUAL = Limits()
"""The limits unless somebody says otherwise."""


def names() -> tuple[str, ...]:
    """Return what the limits are called."""
    return tuple(field.name for field in fields(Limits))


def raising(name: str) -> str:
    """Return the hint for what is over a limit."""
    return f"if that is right: --limit {name}={'SIZE' if RANGES[name].is_size else 'N'}"
