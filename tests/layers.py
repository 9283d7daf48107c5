"""Building layers and images for the tests from plain data, with the standard library's tarfile.

The entries' schema is that of tests/fixtures/flatten.json, which describes itself.
"""

from __future__ import annotations

import base64
import bz2
import gzip
import hashlib
import json
import lzma
import tarfile
from pathlib import Path
from typing import Any

import zstandard

Data = dict[str, Any]
FIXTURES = Path(__file__).parent / "fixtures"

_TYPES = {
    "file": tarfile.REGTYPE,
    "dir": tarfile.DIRTYPE,
    "symlink": tarfile.SYMTYPE,
    "hardlink": tarfile.LNKTYPE,
    "char": tarfile.CHRTYPE,
    "block": tarfile.BLKTYPE,
    "fifo": tarfile.FIFOTYPE,
}
_MODES = {"dir": "0755", "symlink": "0777"}
_FORMATS: dict[str, Any] = {"pax": tarfile.PAX_FORMAT, "gnu": tarfile.GNU_FORMAT, "ustar": tarfile.USTAR_FORMAT}


def raw_bytes(text: str) -> bytes:
    """Encode text of a vector: lone surrogates stand for raw bytes."""
    return text.encode("utf-8", "surrogateescape")


def _info(entry: Data) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(entry["name"])
    info.type = _TYPES[entry["type"]]
    info.mode = int(entry.get("mode", _MODES.get(entry["type"], "0644")), 8)
    info.uid, info.gid = entry.get("uid", 0), entry.get("gid", 0)
    info.uname, info.gname = entry.get("uname", ""), entry.get("gname", "")
    info.linkname = entry.get("linkname", "")
    info.devmajor, info.devminor = entry.get("devmajor", 0), entry.get("devminor", 0)
    mtime = entry.get("mtime", 1600000000)
    records = dict(entry.get("pax", {}))
    if isinstance(mtime, str):
        records["mtime"] = mtime
        mtime = int(float(mtime))
    info.mtime = mtime
    for name, value in entry.get("xattrs", {}).items():
        records[f"SCHILY.xattr.{name}"] = value
    info.pax_headers = records
    body = base64.b64decode(entry["body_b64"]) if "body_b64" in entry else raw_bytes(entry.get("data", ""))
    info.size = entry.get("size", len(body) if entry["type"] == "file" else 0)
    return info, body


def entry_bytes(entry: Data) -> bytes:
    """Return one entry's blocks."""
    if entry["type"] == "raw":
        return base64.b64decode(entry["b64"])
    info, body = _info(entry)
    form = entry.get("fmt", "pax")
    head = info.tobuf(_FORMATS[form], "utf-8", "surrogateescape")
    if "typeflag" in entry:
        block = bytearray(head[-512:])
        block[156:157] = entry["typeflag"].encode()
        block[148:156] = b"        "
        block[148:156] = b"%06o\0 " % sum(block)
        head = head[:-512] + bytes(block)
    return head + body + bytes(-len(body) % 512)


def layer_bytes(entries: list[Data], eof: str = "blocks") -> bytes:
    """Return a layer's tar stream."""
    end = {"none": b"", "blocks": bytes(1024), "garbage": bytes(1024) + b"garbage" * 100}[eof]
    return b"".join(map(entry_bytes, entries)) + end


def wrapped(plain: bytes, wrap: str) -> bytes:
    """Compress a layer."""
    half = len(plain) // 2
    match wrap:
        case "none":
            return plain
        case "gzip":
            return gzip.compress(plain, mtime=0)
        case "gzip-multi":
            return gzip.compress(plain[:half], mtime=0) + gzip.compress(plain[half:], mtime=0)
        case "zstd":
            return zstandard.compress(plain)
        case "xz":
            return lzma.compress(plain)
        case "bzip2":
            return bz2.compress(plain)
    raise ValueError(wrap)


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Built:
    """An image as its parts: what a registry or a layout holds."""

    def __init__(self, manifest: bytes, blobs: dict[str, bytes], media_type: str) -> None:
        self.manifest = manifest
        self.blobs = blobs
        self.media_type = media_type

    @property
    def digest(self) -> str:
        return sha256(self.manifest)

    def layout(self, directory: Path, tag: str = "latest") -> Path:
        """Write it as an OCI image layout."""
        blobs = directory / "blobs" / "sha256"
        blobs.mkdir(parents=True)
        for digest, data in {**self.blobs, self.digest: self.manifest}.items():
            (blobs / digest.partition(":")[2]).write_bytes(data)
        (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        descriptor = {
            "mediaType": self.media_type,
            "digest": self.digest,
            "size": len(self.manifest),
            "annotations": {"org.opencontainers.image.ref.name": tag},
        }
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [descriptor]}
        (directory / "index.json").write_text(json.dumps(index))
        return directory


OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
_SUFFIX = {"none": "", "gzip": "+gzip", "gzip-multi": "+gzip", "zstd": "+zstd", "xz": "", "bzip2": ""}


def build(layers: list[Data], *, config: Data | None = None, diff_ids: int | None = None) -> Built:
    """Build an image of layers in the schema of the `pipeline` vectors: `entries` or `bytes_b64`, and what is wrong."""
    blobs: dict[str, bytes] = {}
    descriptors, ids = [], []
    for layer in layers:
        plain = (
            base64.b64decode(layer["bytes_b64"])
            if "bytes_b64" in layer
            else layer_bytes(layer["entries"], layer.get("eof", "blocks"))
        )
        wrap = layer.get("wrap", "gzip")
        blob = wrapped(plain, wrap) if plain or wrap != "none" else b""
        if "flip_wrapped" in layer:
            flipped = bytearray(blob)
            flipped[layer["flip_wrapped"]] ^= 0x55
            blob = bytes(flipped)
        blob = blob[: layer.get("truncate_wrapped")] + raw_bytes(layer.get("trailing", ""))
        digest = layer.get("digest", sha256(blob))
        blobs[digest] = blob
        size = len(blob) + layer.get("size_delta", 0)
        descriptors.append(
            {"mediaType": layer.get("media_type", OCI_LAYER + _SUFFIX[wrap]), "digest": digest, "size": size}
        )
        ids.append(layer.get("diff_id", sha256(plain)))
    document = {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": ids[:diff_ids]},
        **(config or {}),
    }
    config_bytes = json.dumps(document).encode()
    blobs[sha256(config_bytes)] = config_bytes
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": OCI_CONFIG, "digest": sha256(config_bytes), "size": len(config_bytes)},
        "layers": descriptors,
    }
    return Built(json.dumps(manifest).encode(), blobs, OCI_MANIFEST)
