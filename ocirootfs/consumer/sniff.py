"""What the S3 resource takes a file for, by its first 512 bytes.

It asks h2non/filetype v1.1.3 (in/archive.go), which tries kinds of files group by group, archives last, and within a
group in the random order of a Go map. So there may be several answers, of which each run gives one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

LENGTH = 512
"""How many bytes are looked at."""
GZIP, TAR, ZIP, BZIP2 = "gz", "tar", "zip", "bz2"
ARCHIVES = frozenset([GZIP, TAR, ZIP, BZIP2])
"""What the resource unpacks."""


def sniff(head: bytes) -> frozenset[str]:
    """Return what a file that begins with `head` may be taken for, by the suffixes of the kinds; empty for nothing."""
    head = head[:LENGTH]
    for group in _GROUPS:
        if found := frozenset(kind for kind, is_one in group.items() if is_one(head)):
            return found
    return frozenset()


def _at(pattern: bytes) -> Callable[[bytes], bool]:
    """Tell by a pattern that matches from the first byte, and has as many as the kind needs."""
    compiled = re.compile(pattern, re.DOTALL)
    return lambda head: compiled.match(head) is not None


def _is_matroska(name: bytes) -> Callable[[bytes], bool]:
    def is_one(head: bytes) -> bool:
        at = head.find(name)
        return head.startswith(b"\x1aE\xdf\xa3") and at >= 3 and head[at - 3 : at - 1] == b"\x42\x82"

    return is_one


def _is_heif(head: bytes) -> bool:
    length = int.from_bytes(head[:4], "big")
    if len(head) < 17 or head[4:8] != b"ftyp" or length > len(head):
        return False
    brands = [head[at : at + 4] for at in range(16, length, 4)]
    return head[8:12] == b"heic" or (head[8:12] in (b"mif1", b"msf1") and b"heic" in brands)


def _is_zstd(head: bytes) -> bool:
    """Tell a zstd frame, skippable ones before it passed over (RFC 8878, 3.1.2)."""
    while len(head) >= 8 and head[1:4] == b"\x2a\x4d\x18" and 0x50 <= head[0] <= 0x5F:
        size = 8 + int.from_bytes(head[4:8], "little")
        if size > len(head):
            return False
        head = head[size:]
    return head.startswith(b"\x28\xb5\x2f\xfd")


def _is_office(head: bytes) -> bool:
    """Tell a document of Office by its first entry; what needs more than 512 bytes is a zip all the same."""
    return re.match(rb"PK\x03\x04.{26}(word|ppt|xl)/", head, re.DOTALL) is not None


_MP4 = b"avc1|dash|iso[2-6m]|mmp4|mp4[12v]|mp71|MSNV|NDAS|ND[SX][CHMPS]|NSDC|F4[VP] "

_GROUPS: tuple[dict[str, Callable[[bytes], bool]], ...] = (
    {
        "wasm": _at(rb"\x00asm\x01\x00\x00\x00"),
        "dex": _at(rb"dex\n.{32}\x70"),
        "dey": _at(rb"dey\n.{36}dex\n.{32}\x70.{24}"),
    },
    {
        "jpg": _at(rb"\xff\xd8\xff"),
        "jp2": _at(rb"\x00\x00\x00\x0cjP  \r\n\x87\n\x00"),
        "png": _at(rb"\x89PNG"),
        "gif": _at(rb"GIF"),
        "webp": _at(rb".{8}WEBP"),
        "cr2": _at(rb"(?:II\x2a\x00|MM\x00\x2a).{4}CR\x02"),
        "tif": _at(rb"(?:II\x2a\x00|MM\x00\x2a).{4}(?!CR\x02).{3}"),
        "bmp": _at(rb"BM"),
        "jxr": _at(rb"II\xbc"),
        "psd": _at(rb"8BPS"),
        "ico": _at(rb"\x00\x00\x01\x00"),
        "heif": _is_heif,
        "dwg": _at(rb"AC10"),
    },
    {
        "mp4": _at(rb".{4}ftyp(?:" + _MP4 + rb")"),
        "m4v": _at(rb".{4}ftypM4V"),
        "mkv": _is_matroska(b"matroska"),
        "webm": _is_matroska(b"webm"),
        "mov": _at(rb"\x00\x00\x00\x14ftyp.{8}|.{4}(?:moov|mdat).{8}|.{12}mdat"),
        "avi": _at(rb"RIFF.{4}AVI"),
        "wmv": _at(rb"0&\xb2u\x8ef\xcf\x11\xa6\xd9"),
        "mpg": _at(rb"\x00\x00\x01[\xb0-\xbf]"),
        "flv": _at(rb"FLV\x01"),
        "3gp": _at(rb".{4}ftyp3gp"),
    },
    {
        "mid": _at(rb"MThd"),
        "mp3": _at(rb"ID3|\xff\xfb."),
        "m4a": _at(rb".{4}ftypM4A|M4A .{7}"),
        "ogg": _at(rb"OggS"),
        "flac": _at(rb"fLaC"),
        "wav": _at(rb"RIFF.{4}WAVE"),
        "amr": _at(rb"#!AMR\n.{6}"),
        "aac": _at(rb"\xff[\xf1\xf9]"),
        "aiff": _at(rb"FORM.{4}AIFF"),
    },
    {
        "woff": _at(rb"wOFF\x00\x01\x00\x00"),
        "woff2": _at(rb"wOF2\x00\x01\x00\x00"),
        "ttf": _at(rb"\x00\x01\x00\x00\x00"),
        "otf": _at(rb"OTTO\x00"),
    },
    {"doc": _at(rb"\xd0\xcf\x11\xe0"), "docx": _is_office},
    {
        "epub": _at(rb"PK\x03\x04mimetypeapplication/epub\+zip"),
        ZIP: _at(rb"PK[\x03\x05\x07][\x04\x06\x08]"),
        TAR: _at(rb".{257}ustar"),
        "rar": _at(rb"Rar!\x1a\x07[\x00\x01]"),
        GZIP: _at(rb"\x1f\x8b\x08"),
        BZIP2: _at(rb"BZh"),
        "7z": _at(rb"7z\xbc\xaf\x27\x1c"),
        "xz": _at(rb"\xfd7zXZ\x00"),
        "zst": _is_zstd,
        "pdf": _at(rb"%PDF"),
        "exe": _at(rb"MZ"),
        "swf": _at(rb"[CF]WS"),
        "rtf": _at(rb"\{\\rtf"),
        "eot": _at(rb".{8}(?:\x02\x00\x01|\x01\x00\x00|\x02\x00\x02).{23}LP"),
        "ps": _at(rb"%!"),
        "sqlite": _at(rb"SQLi"),
        "nes": _at(rb"NES\x1a"),
        "crx": _at(rb"Cr24"),
        "cab": _at(rb"MSCF|ISc\("),
        "deb": _at(rb"!<arch>\ndebian-binary"),
        "ar": _at(rb"!<arch>"),
        "Z": _at(rb"\x1f[\xa0\x9d]"),
        "lz": _at(rb"LZIP"),
        "rpm": _at(rb"\xed\xab\xee\xdb.{93}"),
        "elf": _at(rb"\x7fELF.{49}"),
        "dcm": _at(rb".{128}DICM"),
        "macho": _at(rb"\xfe\xed\xfa[\xcf\xce]|\xbe\xba\xfe\xca|[\xcf\xce]\xfa\xed\xfe|\xca\xfe\xba\xbe"),
    },
)
