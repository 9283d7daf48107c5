"""The progress bar."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ocirootfs.image import Image, Layer, Progress

_WIDTH = 100  # Concourse gives its tasks a terminal of 500 columns


@contextlib.contextmanager
def bar(images: Sequence[Image], layers: Iterable[Layer], *, quiet: bool) -> Iterator[Progress | None]:
    """Show how much of the images' layers has been read, on a terminal; nothing anywhere else, and None then."""
    if quiet or not sys.stderr.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        yield None
        return
    from tqdm import tqdm  # noqa: PLC0415  # only who sees a bar waits for it

    width = min(shutil.get_terminal_size().columns, _WIDTH)
    total = sum(layer.size for layer in layers)
    with tqdm(
        total=total,
        desc=_name(images),
        unit="B",
        unit_scale=True,
        unit_divisor=1024,
        ncols=width,
        mininterval=0.5,
        file=sys.stderr,
    ) as shown:

        def progress(_layer: Layer, size: int) -> None:
            shown.update(size)

        yield progress


def _name(images: Sequence[Image]) -> str:
    reference = images[0].reference
    if len(images) > 1:
        return f"{len(images)} images"
    return f"{reference.name}:{reference.tag or ''}"[:40].rstrip(":") if reference else "image"
