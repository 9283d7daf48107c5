"""The least that packing can cost: inflating and hashing the layers, deflating the archive, each alone.

    python -m benchmarks.floor LEVEL ARCHIVE BLOB...

prints CPU seconds as JSON. The same libraries, one thread, nothing in between.
"""

from __future__ import annotations

import json
import sys
import time
import zlib
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isal import igzip_lib
from zlib_ng import zlib_ng

from ocirootfs.gzip import BLOCK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_READ = 1 << 18
_PIECE = 1 << 20


class _Clock:
    """CPU seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def timed(self, stage: str, call: Callable[..., Any], *arguments: object) -> Any:
        begun = time.process_time()
        result = call(*arguments)
        self.seconds[stage] = self.seconds.get(stage, 0) + time.process_time() - begun
        return result


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_READ):
            yield chunk


def _inflated(path: Path, clock: _Clock, stage: str) -> Iterator[bytes]:
    member: Any = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
    for chunk in _chunks(path):
        data = chunk
        while data or not (member.needs_input or member.eof):
            yield clock.timed(stage, member.decompress, data, _PIECE)
            data = b""


def measure(level: int, archive: Path, blobs: list[Path]) -> dict[str, float]:
    """Return the CPU seconds of each stage."""
    clock = _Clock()
    for blob in blobs:
        blob_hash = sha256()
        for chunk in _chunks(blob):
            clock.timed("hash", blob_hash.update, chunk)
        plain_hash = sha256()
        for piece in _inflated(blob, clock, "inflate"):
            clock.timed("hash plain", plain_hash.update, piece)
    deflate: Any = zlib_ng.compressobj(level, zlib.DEFLATED, -15)
    held = b""
    for piece in _inflated(archive, clock, "inflate archive"):
        held += piece
        while len(held) >= BLOCK:
            clock.timed("deflate", deflate.compress, held[:BLOCK])
            held = held[BLOCK:]
    clock.timed("deflate", deflate.compress, held)
    clock.timed("deflate", deflate.flush)
    return clock.seconds


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]), Path(sys.argv[2]), [Path(name) for name in sys.argv[3:]])))
