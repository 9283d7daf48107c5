"""Make tests/fixtures/zones, the image that the demonstration and the tests of the whole pipeline run on.

    python -m tests.make_fixtures                                     rebuild it from itself
    python -m tests.make_fixtures --zoneinfo /usr/share/zoneinfo      take the time zones from there

It is an OCI image layout of three layers (gzip, zstd, plain): compiled time zones of the tz database, which is in the
public domain, with the few files around them that a service has. Each layer does what flattening must get right:

1. the base: zones, /etc/passwd, a script, a home that is not root's, a cache, a device node, `bin -> usr/bin`;
2. replaces files, adds a set-group-ID directory, links /etc/localtime, and hard-links UTC under five names;
3. removes the first of the five (a tool that forgets its content loses the other four), one zone, a directory and the
   content of another (opaque), and puts a symlink over a file.

The same bytes come out on every machine and on every day. The zones are read from the layout that is there, so their
next release changes nothing by itself; all times are fixed; and since compressors give other bytes from version to
version, a compressed layer is kept as it lies there as long as its content is what this script makes.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import io
import json
import shutil
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import zstandard

from tests.layers import FIXTURES, OCI_LAYER, Built, Data, build, layer_bytes, sha256, wrapped

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ZONES = FIXTURES / "zones"
TAG = "1"

_SHARE = "usr/share/zoneinfo"
_KEPT = (
    "Africa/Nairobi", "America/New_York", "Asia/Kolkata", "Asia/Tokyo", "Australia/Sydney", "Etc/UTC", "Europe/Berlin",
    "Europe/London", "iso3166.tab",
)  # fmt: skip
_UTC = ("UTC", "Universal", "Zulu", "Etc/Zulu")  # beside Etc/UTC
_WRAPS = ("gzip", "zstd", "none")
_DAY = 86_400
_BORN = 1_700_006_400  # 2023-11-15, midnight

_SCRIPT = """\
#!/bin/sh
# Print the time in the zones named, or in all.
cd /usr/share/zoneinfo || exit
[ $# -gt 0 ] || set -- */*
for zone; do printf '%-20s %s\\n' "$zone" "$(TZ=$zone date)"; done
"""
_PASSWD = "root:x:0:0:root:/root:/bin/sh\nzones:x:1000:1000:Time zones:/home/zones:/bin/sh\n"
_GROUP = "root:x:0:\nstaff:x:50:zones\nzones:x:1000:\n"

_CONFIG = {
    "created": "2023-11-18T00:00:00Z",
    "author": "ocirootfs",
    "config": {
        "User": "zones",
        "Env": ["PATH=/usr/local/bin:/usr/bin:/bin", "TZDIR=/usr/share/zoneinfo", 'GREETING=It\'s a "small" wörld'],
        "Entrypoint": ["/usr/bin/zones"],
        "Cmd": ["Zulu", "Europe/Berlin"],
        "WorkingDir": "/home/zones",
        "Labels": {"org.opencontainers.image.title": "zones", "org.opencontainers.image.licenses": "Apache-2.0"},
    },
    "history": [
        {"created": "2023-11-15T00:00:00Z", "created_by": "base"},
        {"created": "2023-11-16T00:00:00Z", "created_by": "links and replacements"},
        {"created": "2023-11-17T00:00:00Z", "created_by": "USER zones", "empty_layer": True},
        {"created": "2023-11-17T00:00:00Z", "created_by": "removals"},
    ],
}


def zones_in(layout: Path) -> dict[str, bytes]:
    """Return the time zones, by name, that the bottom layer of a layout holds."""
    with tarfile.open(fileobj=io.BytesIO(_opened(layers_of(layout)[0]))) as archive:
        return {name: _content(archive, f"{_SHARE}/{name}") for name in _KEPT}


def zones_at(directory: Path) -> dict[str, bytes]:
    """Return those of an installed tz database."""
    return {name: (directory / name).read_bytes() for name in _KEPT}


def load(layout: Path = ZONES) -> Built:
    """Return the image of a layout as its parts."""
    (found,) = json.loads((layout / "index.json").read_text())["manifests"]
    blobs = {f"sha256:{path.name}": path.read_bytes() for path in sorted((layout / "blobs/sha256").iterdir())}
    return Built(blobs.pop(found["digest"]), blobs, found["mediaType"])


def make(target: Path, zones: Mapping[str, bytes], keep: Iterable[bytes] = ()) -> None:
    """Write the layout; layers that hold the same as one of `keep` are not compressed anew."""
    kept = {sha256(_opened(blob)): blob for blob in keep}
    layers = []
    for wrap, entries in zip(_WRAPS, (_base(zones), _middle(zones), _top()), strict=True):
        plain = layer_bytes(entries)
        blob = kept.get(sha256(plain)) or wrapped(plain, wrap)
        kind = OCI_LAYER + {"none": ""}.get(wrap, f"+{wrap}")
        layers.append(
            {"bytes_b64": base64.b64encode(blob), "wrap": "none", "diff_id": sha256(plain), "media_type": kind}
        )
    build(layers, config=_CONFIG).layout(target, TAG)


def _base(zones: Mapping[str, bytes]) -> list[Data]:
    directories = [
        _directory(name)
        for name in (
            "dev",
            "etc",
            "usr",
            "usr/bin",
            "usr/share",
            _SHARE,
            *_regions(zones),
            "var",
            "var/cache",
            "var/old",
        )
    ]
    return _dated(0, [
        *directories,
        {"type": "symlink", "name": "bin", "linkname": "usr/bin"},
        {"type": "char", "name": "dev/null", "mode": "0666", "devmajor": 1, "devminor": 3},
        _file("etc/passwd", _PASSWD.replace("Time zones", "")),
        _file("etc/group", _GROUP),
        _file("usr/bin/zones", _SCRIPT, mode="0755"),
        _directory("home"),
        _directory("home/zones", mode="0750", uid=1000, gid=1000),
        _file("home/zones/.profile", "umask 027\n", mode="0640", uid=1000, gid=1000),
        _directory("root", mode="0700"),
        _directory("tmp", mode="1777"),
        *(_file(f"{_SHARE}/{name}", content) for name, content in zones.items()),
        _directory("var/cache/zones", uid=1000, gid=1000),
        _file("var/cache/zones/index", "stale\n", uid=1000, gid=1000),
        _file("var/cache/zones/by-country", "stale, too\n", uid=1000, gid=1000),
        _file("var/old/notes", "removed with its directory\n"),
    ])  # fmt: skip


def _middle(zones: Mapping[str, bytes]) -> list[Data]:
    first = f"{_SHARE}/Etc/UTC"
    return _dated(1, [
        _directory("etc"),
        _file("etc/passwd", _PASSWD),
        {"type": "symlink", "name": "etc/localtime", "linkname": "/usr/share/zoneinfo/Europe/Berlin"},
        _directory("srv"),
        _directory("srv/zones", mode="2775", gid=50),
        _file("srv/zones/README", "Members of staff may add zones here.\n", mode="0664", gid=50),
        _directory(_SHARE),
        _file(first, zones["Etc/UTC"]),
        *({"type": "hardlink", "name": f"{_SHARE}/{name}", "linkname": first} for name in _UTC),
    ])  # fmt: skip


def _top() -> list[Data]:
    return _dated(2, [
        _whiteout(f"{_SHARE}/Etc", "UTC"),
        _whiteout(f"{_SHARE}/Asia", "Tokyo"),
        {"type": "symlink", "name": f"{_SHARE}/Europe/London", "linkname": "../Zulu"},
        _directory("var/cache/zones", mode="0700", uid=1000, gid=1000),
        _file("var/cache/zones/index", "fresh\n", uid=1000, gid=1000),
        _whiteout("var/cache/zones", ".wh..opq"),
        _whiteout("var", "old"),
    ])  # fmt: skip


def _regions(zones: Iterable[str]) -> list[str]:
    return sorted({f"{_SHARE}/{name.rpartition('/')[0]}" for name in zones if "/" in name})


def _directory(name: str, **more: object) -> Data:
    return {"type": "dir", "name": f"{name}/", **more}


def _file(name: str, content: str | bytes, **more: object) -> Data:
    body = content.encode() if isinstance(content, str) else content
    return {"type": "file", "name": name, "body_b64": base64.b64encode(body), **more}


def _whiteout(directory: str, name: str) -> Data:
    return {"type": "file", "name": f"{directory}/.wh.{name}", "mode": "0000"}


def _dated(day: int, entries: list[Data]) -> list[Data]:
    """Give each entry of a layer a time of its own, so that a mix-up shows."""
    return [{**entry, "mtime": _BORN + day * _DAY + 60 * place} for place, entry in enumerate(entries)]


def layers_of(layout: Path) -> list[bytes]:
    """Return the compressed layers of a layout, bottom first."""
    image = load(layout)
    return [image.blobs[layer["digest"]] for layer in json.loads(image.manifest)["layers"]]


def _opened(blob: bytes) -> bytes:
    if blob.startswith(b"\x1f\x8b"):
        return gzip.decompress(blob)
    return zstandard.decompress(blob) if blob.startswith(b"\x28\xb5\x2f\xfd") else blob


def _content(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    assert file is not None, name
    return file.read()


def main() -> None:
    words = argparse.ArgumentParser(description="Make tests/fixtures/zones.")
    words.add_argument("--zoneinfo", type=Path, metavar="DIR", help="take the time zones from there")
    chosen = words.parse_args()
    keep = layers_of(ZONES) if ZONES.exists() else []
    zones = zones_at(chosen.zoneinfo) if chosen.zoneinfo else zones_in(ZONES)
    shutil.rmtree(ZONES, ignore_errors=True)
    make(ZONES, zones, keep)
    size = sum(path.stat().st_size for path in ZONES.rglob("*") if path.is_file())
    print(f"{ZONES}: {load().digest}, {size} bytes")


if __name__ == "__main__":
    main()
