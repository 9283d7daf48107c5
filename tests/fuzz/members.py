"""An archive of an image, as a pipe brings it: the image with its layers proved, or an error."""

from __future__ import annotations

import io
import tarfile
from typing import Any

from ocirootfs.digest import Digest
from ocirootfs.source import image_in
from ocirootfs.spool import Spool
from tests.fuzz.target import outcome
from tests.layers import build

_IMAGE = build([{"entries": [{"type": "file", "name": "a", "data": "x"}], "wrap": wrap} for wrap in ("none", "gzip")])


def _archive(names: list[str], form: int) -> bytes:
    files = {
        "oci-layout": b'{"imageLayoutVersion": "1.0.0"}',
        "index.json": b'{"schemaVersion": 2, "manifests": [{"mediaType": "%b", "digest": "%b", "size": %d}]}'
        % (_IMAGE.media_type.encode(), _IMAGE.digest.encode(), len(_IMAGE.manifest)),
        "blobs": b"",
    }
    blobs = {**_IMAGE.blobs, _IMAGE.digest: _IMAGE.manifest}
    files |= {f"blobs/sha256/{digest.partition(':')[2]}": blob for digest, blob in blobs.items()}
    with io.BytesIO() as made:
        with tarfile.open(fileobj=made, mode="w", format=form) as archive:
            for name in names or files:
                info = tarfile.TarInfo(name)
                info.size = len(files[name])
                archive.addfile(info, io.BytesIO(files[name]))
        return made.getvalue()[:-8192]


SEEDS = [_archive([], tarfile.PAX_FORMAT), _archive([], tarfile.GNU_FORMAT), _archive(["index.json"], 1)]


class _Pipe(io.RawIOBase):
    """Bytes that pass once."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._data.readinto(memoryview(buffer)[:1000])


def _read(data: bytes) -> list[bool]:
    with Spool() as spool:
        image = image_in(_Pipe(data), None, spool)  # type: ignore[arg-type]  # raw is binary enough
        proved = [Digest.of(b"".join(layer.open()), layer.diff_id.algorithm) == layer.diff_id for layer in image.layers]
        image.finish()
        return proved


def check(data: bytes) -> None:
    """Read it all: what comes of a layer is what the config says."""
    found = outcome(_read, data)
    assert isinstance(found, type) or all(found)
