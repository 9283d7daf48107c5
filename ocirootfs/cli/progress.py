"""The progress bar."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ocirootfs.image import Image, Layer, Progress

_WIDTH = 100  # Concourse gives its tasks a terminal of 500 columns


@contextlib.contextmanager
def bar(image: Image, *, quiet: bool) -> Iterator[Progress | None]:
    """Show how much of an image's layers has been read, on a terminal; nothing anywhere else, and None then."""
    if quiet or not sys.stderr.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        yield None
        return
    from tqdm import tqdm  # noqa: PLC0415  # only who sees a bar waits for it

    width = min(shutil.get_terminal_size().columns, _WIDTH)
    name = f"{image.reference.name}:{image.reference.tag or ''}"[:40].rstrip(":") if image.reference else "image"
    total = sum(layer.size for layer in image.layers)
    with tqdm(
        total=total,
        desc=name,
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
