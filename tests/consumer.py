"""Archives that the consumer stumbles over, and what `check` is to say of each: one vector for each trap.

Entries are those of tests/fixtures/flatten.json (see `layers.entry_bytes`), in GNU format unless they say otherwise.
"""

from __future__ import annotations

import base64
import bz2
import gzip
import json
import lzma
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import zstandard

from ocirootfs.tar import pax
from tests.layers import Data, entry_bytes, raw_bytes

if TYPE_CHECKING:
    from collections.abc import Callable


def directory(name: str, **more: object) -> Data:
    return {"name": name, "type": "dir", "fmt": "gnu", **more}


def file(name: str, data: str = "x", **more: object) -> Data:
    return {"name": name, "type": "file", "data": data, "fmt": "gnu", **more}


def link(name: str, to: str, kind: str = "hardlink", **more: object) -> Data:
    return {"name": name, "type": kind, "linkname": to, "fmt": "gnu", **more}


def symlink(name: str, to: str, **more: object) -> Data:
    return link(name, to, "symlink", **more)


def device(kind: str, major: int, minor: int) -> Data:
    return {"name": "rootfs/dev/node", "type": kind, "devmajor": major, "devminor": minor, "fmt": "gnu"}


def raw(data: bytes) -> Data:
    return {"type": "raw", "b64": base64.b64encode(data).decode()}


def metadata(text: str | None = None, **settings: object) -> Data:
    return file("metadata.json", json.dumps(settings) if text is None else text)


_TYPE = 156  # where a header says what it is of
PLAIN: dict[str, Any] = {"env": ["PATH=/bin"], "user": "", "entrypoint": None, "cmd": ["sh"]}
META = metadata(**PLAIN)
ROOT = [directory("rootfs/"), directory("rootfs/bin/"), directory("rootfs/dev/"), file("rootfs/bin/sh", mode="0755")]
PASSWD = "root:x:0:0::/root:/bin/sh\nalex:x:1000:1001::/:/bin/sh\n"
GROUP = "root:x:0:\nstaff:x:50:\n"
ACCOUNTS = [directory("rootfs/etc/"), file("rootfs/etc/passwd", PASSWD), file("rootfs/etc/group", GROUP)]


def tar(entries: list[Data], end: bytes = bytes(1024)) -> bytes:
    return b"".join(map(entry_bytes, entries)) + end


def packed(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


@dataclass(frozen=True)
class Vector:
    """An archive called `called`, and the codes of what breaks it or differs, and of what is worth a note."""

    name: str
    codes: frozenset[str] = frozenset()
    entries: list[Data] = field(default_factory=list)
    """Behind those of a plain archive."""
    base: list[Data] | None = None
    """Instead of those of a plain archive."""
    called: str = "image.tgz"
    end: bytes = bytes(1024)
    wrap: Callable[[bytes], bytes] = packed
    notes: frozenset[str] = frozenset()
    replayed: bool = True
    """Whether it is the tools that the claim is about, not the worker, the task or the resource's own code."""

    @property
    def archive(self) -> bytes:
        base = [META, *ROOT] if self.base is None else self.base
        return self.wrap(tar([*base, *self.entries], self.end))


def of(name: str, codes: str = "", *entries: Data, notes: str = "", **more: object) -> Vector:
    return Vector(name, frozenset(codes.split()), list(entries), notes=frozenset(notes.split()), **more)  # type: ignore[arg-type]


def said(name: str, codes: str = "", document: Data | None = None, *, notes: str = "", accounts: bool = True,
         extra: tuple[Data, ...] = (), **settings: Any) -> Vector:  # fmt: skip
    """Make a vector of what metadata.json says."""
    document = document or metadata(**{**PLAIN, **settings})
    base = [document, *ROOT, *(ACCOUNTS if accounts else ()), *extra]
    return of(name, codes, base=base, replayed=False, notes=notes)


def patched(entry: Data, at: int, data: bytes) -> Data:
    """Return an entry with other bytes in its first header, whose checksum holds."""
    block = bytearray(entry_bytes(entry))
    block[at : at + len(data)] = data
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block[:512])
    return raw(bytes(block))


def retyped(letter: bytes) -> Data:
    """Return a file's entry whose type is another."""
    return patched(file("rootfs/odd", ""), _TYPE, letter)


def without_magic(entry: Data) -> Data:
    """Return an entry as Unix V7 wrote it."""
    return patched(entry, 257, bytes(255))


def extension(body: bytes, letter: bytes = b"x") -> Data:
    """Return a PAX header for the next entry, or for all with `g`."""
    head = patched({**file("pax_header", "", fmt="ustar"), "size": len(body)}, _TYPE, letter)
    return raw(entry_bytes(head) + body + bytes(-len(body) % 512))


def records(letter: bytes = b"x", /, **said: str) -> Data:
    return extension(b"".join(pax.record(key.encode(), raw_bytes(value)) for key, value in said.items()), letter)


def header_of_gzip(data: bytes, *, mtime: bytes = bytes(4), name: bytes = b"") -> bytes:
    """Compress with a time and a name in the header."""
    plain = gzip.compress(data, mtime=0)
    flags = b"\x08" if name else b"\0"
    return plain[:3] + flags + mtime + plain[8:10] + (name + b"\0" if name else b"") + plain[10:]


PAX_SPARSE = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "rootfs/sparse",
              "GNU.sparse.realsize": "2000"}  # fmt: skip
_MAP = b"1\n0\n1\n".ljust(512, b"\0").decode() + "x"


def gnu_sparse(*, goes_on: bool = False) -> Data:
    """Return a file of GNU's sparse kind, whose map needs another block if it `goes_on`."""
    block = bytearray(entry_bytes(file("rootfs/sparse", "x"))[:512])
    parts = ["0 1", "1000 0", "1000 0", "1000 0"][: 4 if goes_on else 1]
    block[386 : 386 + 24 * len(parts)] = b"".join(b"%011d\0" % int(number) for part in parts for number in part.split())
    block[483:495] = b"00000001000\0"
    more = bytes(512) if goes_on else b""
    head = patched(raw(bytes(block)), 482, b"\1" if goes_on else b"\0")
    return raw(entry_bytes(patched(head, _TYPE, b"S")) + more + b"x".ljust(512, b"\0"))


def sparse_00() -> Data:
    """Return what `tar --sparse-version=0.0` makes of a block in the middle: the map repeats two records."""
    said = [
        ("size", "2048"), ("numblocks", "2"), ("offset", "512"), ("numbytes", "512"),
        ("offset", "2048"), ("numbytes", "0"),
    ]  # fmt: skip
    body = b"".join(pax.record(f"GNU.sparse.{key}".encode(), value.encode()) for key, value in said)
    return raw(entry_bytes(extension(body)) + entry_bytes(file("rootfs/sparse", "x" * 512, fmt="ustar")))


def pax_size() -> Data:
    whole = entry_bytes(file("rootfs/sized", "", fmt="pax", pax={"size": "700"}))
    return raw(whole + b"y" * 700 + bytes(-700 % 512))


XATTR = {"SCHILY.xattr.user.foo": "1"}
CAPABILITY = {"SCHILY.xattr.security.capability": "\x01\x02"}

VECTORS = [
    # The dialect
    of("plain"),
    of("plain-tar", called="image.tar", wrap=bytes),
    of("ustar", "", file("rootfs/a", fmt="ustar")),
    of("pax", "", file("rootfs/a", fmt="pax", pax={"comment": "x"})),
    *(of(f"all-{form}-{called}", base=[{**entry, "fmt": form} for entry in (META, *ROOT)], called=called, wrap=wrap)
      for form in ("ustar", "gnu", "pax")
      for called, wrap in (("i.tgz", packed), ("i.tar.gz", packed), ("i.tar", bytes))),
    of("old-gnu", "", patched(file("rootfs/a"), 108, b"0000000\0")),
    of("star", "", patched(file("rootfs/a"), 508, b"tar\0")),
    of("v7", "left-packed", base=[without_magic(META), *ROOT], replayed=False),
    of("v7-tar", "not-an-archive", base=[without_magic(META), *ROOT], called="i.tar", wrap=bytes, replayed=False),
    of("v7-later", "before-posix", without_magic(file("rootfs/a"))),
    of("incremental", "gnu-prefix", patched(file("rootfs/a"), 345, b"14001234567")),
    of("incremental-directory", "unknown-type", {**directory("rootfs/a/"), "typeflag": "D"}, file("rootfs/a/b")),
    of("directory-typed-as-a-file", "directory-as-file", patched(file("rootfs/a/", ""), _TYPE, b"0"),
       file("rootfs/a/b")),
    of("directory-typed-as-before-posix", "directory-as-file", patched(file("rootfs/a/", ""), _TYPE, b"\0"),
       file("rootfs/a/b")),
    of("directory-with-a-size", "", patched(directory("rootfs/a"), 124, b"00000001000\0"), file("rootfs/a/b")),
    of("symlink-with-a-size", "", patched(symlink("rootfs/a", "x"), 124, b"00000001000\0"), file("rootfs/b")),
    of("hardlink-with-a-size", "", file("rootfs/a"), patched(link("rootfs/b", "rootfs/a"), 124, b"00000001000\0"),
       file("rootfs/c")),
    of("blanks-for-a-number", "number-blank", patched(file("rootfs/a"), 108, b" " * 8)),
    of("nothing-for-a-number", "", patched(file("rootfs/a"), 108, bytes(8))),
    of("letters-for-a-number", "tar-header", patched(file("rootfs/a"), 108, b"abcdefg\0")),
    of("dot-names", base=[directory("./", mode="0700"), {**META, "name": "./metadata.json"},
                          *({**entry, "name": "./" + entry["name"]} for entry in ROOT)], notes="root-entry"),
    of("dot-entry-of-another", "", directory("./", mode="0700", uid=1000, gid=1000), notes="root-entry"),
    of("file-without-a-name", "root-no-directory", patched(file("a"), 0, bytes(100))),
    of("directory-without-a-name", "", patched(directory("a"), 0, bytes(100)), notes="root-entry"),
    of("file-called-dot", "root-no-directory", file("./")),
    of("symlink-called-dot", "root-no-directory", symlink(".", "x")),
    of("name-emptied-by-pax", "root-no-directory", records(path=""), file("rootfs/a")),
    of("absolute", "", file("/rootfs/abs"), notes="absolute-name"),
    of("dotdot", "dotdot-name", file("rootfs/../../evil")),
    of("id-in-header", "", file("rootfs/a", uid=3000000), notes="id-high"),
    of("id-in-pax", "pax-owner", file("rootfs/a", fmt="pax", uid=3000000), notes="id-high"),
    of("id-of-nobody", "id-unmappable", file("rootfs/a", uid=4294967294), notes=""),
    of("group-of-nobody", "id-unmappable", file("rootfs/a", gid=4294967294), notes=""),
    of("id-of-nobody-in-a-link", "", file("rootfs/a"), link("rootfs/b", "rootfs/a", uid=4294967294)),
    of("id-highest", "", file("rootfs/a", uid=4294967293), notes="id-high", replayed=False),  # not mapped in the replay
    of("id-high", "", file("rootfs/a", gid=65535), notes="id-high"),
    of("id-not-high", "", file("rootfs/a", uid=65534, gid=65534)),
    of("id-in-pax-of-links", "", file("rootfs/a"), link("rootfs/b", "rootfs/a", fmt="pax", uid=3000000),
       symlink("rootfs/c", "a", fmt="pax", uid=3000000), notes="id-high symlink-owner"),
    of("owner-name", "owner-names", file("rootfs/a", uid=77, uname="daemon")),
    of("group-name", "owner-names", file("rootfs/a", gid=77, gname="daemon")),
    of("owner-name-in-pax", "owner-names", records(uname="daemon"), file("rootfs/a", uid=77)),
    of("owner-root", "", file("rootfs/a", uname="root", gname="root")),
    of("char", "device", device("char", 1, 3), notes="below-mounts"),
    of("block", "device", device("block", 8, 0), notes="below-mounts"),
    of("char-zero", "", device("char", 0, 0), notes="below-mounts device-zero"),
    of("fifo", "", {"name": "rootfs/fifo", "type": "fifo", "fmt": "gnu"}),
    of("modes", "", file("rootfs/su", mode="4755"), file("rootfs/sg", mode="2755", gid=42),
       file("rootfs/both", mode="6755", uid=10, gid=10), directory("rootfs/t", mode="1777"),
       directory("rootfs/g", mode="2775", gid=8)),
    of("hardlink", "", file("rootfs/a", mode="4711", uid=5, gid=6), link("rootfs/b", "rootfs/a")),
    of("hardlink-to-a-hardlink", "", file("rootfs/a"), link("rootfs/b", "rootfs/a"), link("rootfs/c", "rootfs/b")),
    of("hardlink-to-itself", "", file("rootfs/a"), link("rootfs/a", "rootfs/a"), notes="duplicate"),
    of("directory-linked-to-itself", "", link("rootfs/bin", "rootfs/bin"), notes="duplicate"),
    of("hardlink-to-itself-alone", "link-dangling", link("rootfs/a", "rootfs/a"), replayed=False),  # busybox: no word
    of("hardlink-first", "link-forward", link("rootfs/b", "rootfs/a"), file("rootfs/a")),
    of("hardlink-without-prefix", "link-dangling", file("rootfs/a"), link("rootfs/b", "a")),
    of("hardlink-absolute", "link-absolute", file("rootfs/a"), link("rootfs/b", "/rootfs/a")),
    of("hardlink-dotdot", "", file("rootfs/a"), link("rootfs/b", "rootfs/../rootfs/a"), notes="link-dotdot"),
    of("hardlink-dotdot-dangling", "link-dangling", file("rootfs/a"), link("rootfs/b", "rootfs/../a"),
       notes="link-dotdot"),
    of("hardlink-through-symlink", "", file("rootfs/bin/a"), symlink("rootfs/lib", "bin"),
       link("rootfs/b", "rootfs/lib/a")),
    of("hardlink-dot", "", file("rootfs/a"), link("rootfs/b", "./rootfs/a")),
    of("hardlink-to-symlink", "", symlink("rootfs/a", "/x"), link("rootfs/b", "rootfs/a")),
    of("hardlink-to-relative-symlink", "", symlink("rootfs/a", "x"), link("rootfs/b", "rootfs/a")),
    of("hardlink-through-absolute", "link-dangling", symlink("rootfs/lib", "/bin"), link("rootfs/b", "rootfs/lib/sh")),
    of("hardlink-to-what-was-met-through", "", symlink("rootfs/lib", "bin"), file("rootfs/lib/f"),
       link("rootfs/a", "rootfs/lib/f"), link("rootfs/b", "rootfs/bin/f"), notes="through-symlink"),
    of("hardlink-then-file", "late-replaced", file("rootfs/a"), link("rootfs/b", "rootfs/a"), file("rootfs/b", "2")),
    of("hardlink-then-symlink", "late-replaced", file("rootfs/a"), link("rootfs/b", "rootfs/a"),
       symlink("rootfs/b", "x")),
    of("hardlink-then-directory", "late-replaced", file("rootfs/a"), link("rootfs/b", "rootfs/a"),
       directory("rootfs/b")),
    of("hardlink-twice", "late-replaced", file("rootfs/a"), link("rootfs/b", "rootfs/a"), link("rootfs/b", "rootfs/a")),
    of("file-then-hardlink", "", file("rootfs/a"), file("rootfs/b", "2"), link("rootfs/b", "rootfs/a"),
       notes="duplicate"),
    of("target-then-file", "target-replaced", file("rootfs/a", "old"), link("rootfs/b", "rootfs/a"),
       file("rootfs/a", "newer")),
    of("target-then-symlink", "target-replaced", file("rootfs/a"), link("rootfs/b", "rootfs/a"),
       symlink("rootfs/a", "x")),
    of("directory-then-hardlink", "empty-directory-then-file", file("rootfs/b"), directory("rootfs/a"),
       link("rootfs/a", "rootfs/b")),
    of("hardlink-to-fifo", "", {"name": "rootfs/a", "type": "fifo", "fmt": "gnu"}, link("rootfs/b", "rootfs/a")),
    of("hardlink-to-directory", "link-dangling", link("rootfs/b", "rootfs/bin")),
    of("symlinks", "", symlink("rootfs/a", "/no"), symlink("rootfs/b", "../no"), symlink("rootfs/c", "no")),
    of("symlink-of-another", "", symlink("rootfs/a", "no", uid=7, gid=7), notes="symlink-owner"),
    of("symlink-empty", "symlink-empty", symlink("rootfs/a", "")),
    of("symlink-twice", "", symlink("rootfs/a", "x"), symlink("rootfs/a", "y"), notes="duplicate"),
    of("absolute-symlink-twice", "late-replaced", symlink("rootfs/a", "/x"), symlink("rootfs/a", "/x")),
    of("absolute-symlink-then-file", "late-replaced", symlink("rootfs/a", "/x"), file("rootfs/a")),
    of("dotdot-symlink-then-file", "late-replaced", symlink("rootfs/a", "../x"), file("rootfs/a")),
    of("absolute-symlink-then-symlink", "late-replaced", symlink("rootfs/a", "/x"), symlink("rootfs/a", "x")),
    of("absolute-symlink-then-hardlink", "late-replaced", file("rootfs/b"), symlink("rootfs/a", "/b"),
       link("rootfs/a", "rootfs/b")),
    of("absolute-symlink-then-directory", "late-symlink-then-directory", symlink("rootfs/a", "/x"),
       directory("rootfs/a")),
    of("symlink-then-absolute-symlink", "", symlink("rootfs/a", "x"), symlink("rootfs/a", "/x"), notes="duplicate"),
    of("file-then-absolute-symlink", "", file("rootfs/a"), symlink("rootfs/a", "/x"), notes="duplicate"),
    of("directory-then-absolute-symlink", "empty-directory-then-file", directory("rootfs/a"),
       symlink("rootfs/a", "/x")),
    of("through-relative", "", symlink("rootfs/lib", "bin"), file("rootfs/lib/f"), notes="through-symlink"),
    of("through-absolute", "through-late-symlink", symlink("rootfs/lib", "/bin"), file("rootfs/lib/f")),
    of("through-dotdot", "through-late-symlink", symlink("rootfs/lib", "../rootfs/bin"), file("rootfs/lib/f")),
    of("through-file", "through-file", file("rootfs/lib"), file("rootfs/lib/f")),
    of("through-two", "", symlink("rootfs/lib", "l"), symlink("rootfs/l", "bin"), file("rootfs/lib/f"),
       notes="through-symlink"),
    of("through-relative-to-absolute", "through-late-symlink", symlink("rootfs/lib", "l"), symlink("rootfs/l", "/bin"),
       file("rootfs/lib/f")),
    of("through-dangling", "through-file", symlink("rootfs/lib", "no"), file("rootfs/lib/f")),
    of("through-itself", "through-file", symlink("rootfs/lib", "lib"), file("rootfs/lib/f")),
    of("through-relative-to-file", "through-file", file("rootfs/no"), symlink("rootfs/lib", "no"),
       file("rootfs/lib/f")),
    of("through-linked-symlink", "late-replaced", symlink("rootfs/l", "bin"), link("rootfs/lib", "rootfs/l"),
       file("rootfs/lib/f"), notes="through-symlink"),
    of("through-relative-deeper", "", symlink("rootfs/lib", "bin"), file("rootfs/lib/a/b"), file("rootfs/bin/a/c"),
       notes="through-symlink parents-missing"),
    of("xattr", "", file("rootfs/a", fmt="pax", pax=XATTR), notes="xattrs-lost"),
    of("capability", "", file("rootfs/a", fmt="pax", pax=CAPABILITY), notes="capabilities-lost"),
    of("xattr-libarchive", "", file("rootfs/a", fmt="pax", pax={"LIBARCHIVE.xattr.user.foo": "MQ=="}),
       notes="xattrs-lost"),
    of("acl", "", file("rootfs/a", fmt="pax", pax={"SCHILY.acl.access": "user::rw-"}), notes="xattrs-lost"),
    of("unknown-to-gnu", "", file("rootfs/a", fmt="pax", pax={"LIBARCHIVE.creationtime": "1"})),
    of("sparse-gnu", "sparse", gnu_sparse()),
    of("sparse-gnu-with-a-long-map", "sparse", gnu_sparse(goes_on=True), file("rootfs/a")),
    of("sparse-pax-0.0", "sparse-pax", sparse_00()),
    of("sparse-pax", "sparse-pax", file("GNUSparseFile.1/sparse", _MAP, fmt="pax", pax=PAX_SPARSE)),
    of("pax-size", "pax-size", pax_size()),
    of("long-names", "", file("rootfs/" + "n" * 200 + "/" + "m" * 90), symlink("rootfs/l", "x" * 150),
       notes="parents-missing"),
    of("long-names-pax", "", file("rootfs/" + "n" * 200 + "/" + "m" * 90, fmt="pax"), notes="parents-missing"),
    of("long-link-pax", "", symlink("rootfs/l", "x" * 150, fmt="pax")),
    of("longest-name", "", file("rootfs/" + "n" * 255)),
    of("link-too-long", "long-name", symlink("rootfs/l", "x" * 4096)),
    of("too-long", "long-name", file("rootfs/" + "n" * 256)),
    of("path-too-long", "long-name", file("rootfs/" + "/".join(["d" * 200] * 21))),
    of("raw-names-pax", "", file("rootfs/ünï", fmt="pax")),
    of("odd-names", "", file("rootfs/a\\b"), file("rootfs/a\nb"), file("rootfs/a\\012b"), file("rootfs/-rf"),
       file("rootfs/ a ")),
    of("raw-names", "", file("rootfs/ünï"), file("rootfs/\udcff\udcfe")),
    of("charset", "", file("rootfs/\udcff", fmt="pax", pax={"hdrcharset": "BINARY"}), notes="pax-charset"),
    of("before-1970", "", file("rootfs/a", mtime=-86400)),
    of("before-1970-pax", "pax-time", file("rootfs/a", fmt="pax", mtime=-86400)),
    of("times-of-links-pax", "", file("rootfs/a"), link("rootfs/b", "rootfs/a", fmt="pax", mtime=9000000000),
       symlink("rootfs/c", "a", fmt="pax", mtime=9000000000)),
    of("times", "", file("rootfs/a", mtime=0), file("rootfs/b", mtime=4102444800), file("rootfs/c", mtime=9000000000)),
    of("times-pax", "pax-time", file("rootfs/c", fmt="pax", mtime=9000000000)),
    of("fractions-pax", "", file("rootfs/c", fmt="pax", mtime="1600000000.5")),
    of("global-header", "", base=[records(b"g", comment="of git archive"), META, *ROOT]),
    of("global-owner", "pax-owner", base=[records(b"g", uid="5"), META, *ROOT]),
    of("global-time", "pax-time", base=[records(b"g", mtime="1234567890"), META, *ROOT]),
    of("global-name", "pax-global", records(b"g", path="rootfs/a"), file("rootfs/b")),
    of("global-link", "pax-global", records(b"g", linkpath="x"), symlink("rootfs/b", "y")),
    of("global-owner-overridden", "", records(b"g", uid="5"), records(uid="0"), file("rootfs/a")),
    of("extension-first", "", base=[records(comment="x"), META, *ROOT]),
    of("extension-alone", "", records(comment="x")),
    of("extension-large", "pax-large", records(comment="x" * (1 << 20), path="rootfs/long"), file("rootfs/short")),
    of("extension-nearly-large", "", records(comment="x" * ((1 << 20) - 40)), file("rootfs/short")),
    of("extension-with-nul", "", records(comment="a\0b"), file("rootfs/a")),
    of("extension-of-garbage", "pax-malformed", extension(b"garbage"), file("rootfs/a")),
    of("extension-without-newline", "pax-malformed", extension(b"11 path=a/bX"), file("rootfs/a")),
    of("extension-cut-short", "pax-malformed", extension(b"99 path=a/b\n"), file("rootfs/a")),
    *(of(f"extension-with-{name}-{value}", "pax-malformed", records(**{name: value}), file("rootfs/a"))
      for name, value in [("mtime", "abc"), ("uid", "abc"), ("uid", "-1"), ("size", "")]),
    of("long-name-alone", "long-name-alone", raw(entry_bytes(file("rootfs/" + "n" * 200))[:1024])),
    of("unknown-type", "unknown-type", retyped(b"Z")),
    of("volume-label", "", retyped(b"V")),
    of("contiguous", "", retyped(b"7")),
    of("duplicate", "", file("rootfs/a", "1"), file("rootfs/a", "2"), notes="duplicate"),
    of("duplicate-metadata", base=[metadata("{"), *ROOT, META], notes="duplicate"),
    of("symlink-then-file", "", symlink("rootfs/a", "no"), file("rootfs/a"), notes="duplicate"),
    of("file-then-directory", "file-then-directory", file("rootfs/a"), directory("rootfs/a/")),
    of("directory-then-symlink", "directory-then-file", directory("rootfs/a/"), file("rootfs/a/b"),
       symlink("rootfs/a", "x")),
    of("directory-then-file", "directory-then-file", directory("rootfs/a/"), file("rootfs/a/b"), file("rootfs/a")),
    of("empty-directory-then-file", "empty-directory-then-file", directory("rootfs/a/"), file("rootfs/a")),
    of("symlink-then-directory", "symlink-then-directory", symlink("rootfs/a", "bin"), directory("rootfs/a/")),
    of("directory-twice", "", directory("rootfs/a/"), directory("rootfs/a/")),
    of("closed-directories", "", directory("rootfs/a/", mode="0555"), file("rootfs/a/b"),
       directory("rootfs/c", mode="0000"), file("rootfs/c/d")),
    of("missing-parents", "", file("rootfs/a/b/c"), notes="parents-missing"),
    of("directories-first", base=[META, ROOT[0], ROOT[1], ROOT[3], ROOT[2]]),
    of("directories-last", base=[META, ROOT[3], ROOT[1], ROOT[2], ROOT[0]]),
    # The streams
    of("two-members", wrap=lambda data: packed(data[:700]) + packed(data[700:])),
    of("zeros-behind", wrap=lambda data: packed(data) + bytes(700)),
    of("empty-member-behind", wrap=lambda data: packed(data) + packed(b"")),
    of("one-byte-behind", "trailing-garbage", wrap=lambda data: packed(data) + b"\x1f"),
    of("broken-member-behind", "compressed-corrupt", wrap=lambda data: packed(data) + b"\x1f\x8b\0garbage"),
    of("cut-member-behind", "compressed-truncated", wrap=lambda data: packed(data) + packed(b"x" * 99)[:-3]),
    of("garbage-behind", "trailing-garbage", wrap=lambda data: packed(data) + b"garbage"),
    of("garbage-behind-zeros", "trailing-garbage", wrap=lambda data: packed(data) + bytes(7) + b"garbage"),
    of("gzip-cut", "compressed-truncated", wrap=lambda data: packed(data)[:-9]),
    of("gzip-altered", "compressed-corrupt", wrap=lambda data: packed(data)[:-8] + bytes(8)),
    of("gzip-name", wrap=lambda data: header_of_gzip(data, name=b"other-name.tar")),
    of("tar-without-end", end=b"", notes="tar-without-end"),
    of("one-zero-block", end=bytes(512)),
    of("garbage-behind-the-end", wrap=lambda data: packed(data + b"garbage" * 99)),
    of("tar-behind-the-end", wrap=lambda data: packed(data + tar([file("rootfs/more")]))),
    of("tar-cut-in-padding", "tar-cut-padding", file("rootfs/a", "z" * 100), end=b"",
       wrap=lambda data: packed(data[:-100])),
    of("tar-cut-in-extension", "tar-truncated", records(comment="x" * 2000), end=b"",
       wrap=lambda data: packed(data[:-600])),
    of("tar-cut-behind-extension", "", records(comment="x"), end=b"", notes="tar-without-end"),
    of("tar-cut-in-header-behind-extension", "tar-cut-header", records(comment="x"), file("rootfs/a", ""), end=b"",
       wrap=lambda data: packed(data[:-100])),
    of("tar-cut-in-sparse-map", "tar-truncated", gnu_sparse(goes_on=True), end=b"",
       wrap=lambda data: packed(data[:-900])),
    of("tar-cut", "tar-truncated", file("rootfs/big", "z" * 3000), end=b"", wrap=lambda data: packed(data[:-1024])),
    of("tar-cut-in-header", "tar-cut-header", file("rootfs/big", ""), end=b"", wrap=lambda data: packed(data[:-100])),
    of("bad-header", "tar-header", raw(b"\1" * 512), file("rootfs/a")),
    of("lone-zero", "tar-lone-zero", raw(bytes(512)), file("rootfs/a")),
    of("bzip2", called="image.tar.bz2", wrap=bz2.compress),
    of("bzip2-garbage-behind", called="image.tar.bz2", wrap=lambda data: bz2.compress(data) + b"garbage"),
    of("bzip2-two-streams", called="image.tar.bz2",
       wrap=lambda data: bz2.compress(data[:700]) + bz2.compress(data[700:])),
    of("bzip2-cut", "compressed-truncated", called="image.tar.bz2", wrap=lambda data: bz2.compress(data)[:-9]),
    of("bzip2-altered", "compressed-corrupt", called="image.tar.bz2",
       wrap=lambda data: bz2.compress(data)[:-5] + b"54321"),
    of("bzip2-by-three-bytes", "compressed-corrupt", called="image.tar.bz2", wrap=lambda data: b"BZhello" + data),
    *(of(f"{name}-called-tgz", "not-an-archive", wrap=wrap, replayed=False)
      for name, wrap in [("xz", lzma.compress), ("zstd", zstandard.compress), ("garbage", lambda data: b"x" + data)]),
    of("xz", "not-an-archive", wrap=lzma.compress, called="image.tar.xz", replayed=False),
    of("zip", "zip", wrap=lambda data: b"PK\3\4" + data, called="image.zip", replayed=False),
    of("empty", "not-an-archive", wrap=lambda data: b"", replayed=False),
    # What the resource takes it for
    of("gzip-time-mdat", "not-an-archive", wrap=lambda data: header_of_gzip(data, mtime=b"mdat"), replayed=False),
    of("gzip-time-moov", "not-an-archive", wrap=lambda data: header_of_gzip(data, mtime=b"moov"), replayed=False),
    of("gzip-name-mdat", "not-an-archive", wrap=lambda data: header_of_gzip(data, name=b"abmdat"), replayed=False),
    *(
        of(f"first-{name}", code, base=[file(name), META, *ROOT], replayed=False)
        for name, code in [
            ("BMfoo", "left-packed"), ("GIF/", "left-packed"), ("ID3", "left-packed"), ("%!", "sniffed-at-random"),
            ("MZ", "sniffed-at-random"), ("LZIP", "sniffed-at-random"), ("CWS", "sniffed-at-random"),
            ("image.bmp", ""), ("digest", ""), ("tag", ""), ("labels.json", ""), ("repository", ""),
        ]
    ),
    of("first-rootfs", base=[*ROOT, META]),
    of("gzip-in-gzip", "left-packed", wrap=lambda data: packed(packed(data)), replayed=False),
    # Names
    *(
        of(f"called-{called}", code, called=called)
        for called, code in [
            ("x.tar.gz", ""), ("x.TGZ", "suffix-busybox"), ("x.taz", "suffix-busybox"), ("x", "suffix"),
            ("x.tar", "suffix"), ("x.tar.bz2", "suffix"), ("x.Z", ""), ("x_z", "suffix-busybox"), ("-x.tgz", ""),
            ("ünï cödé %20+x.tgz", ""), ("x-gz", "suffix-busybox"), ("x.GZ", "suffix-busybox"),
        ]
    ),
    of("called-tgz", "suffix-gnu", called=".tgz"),
    of("tar-called-tgz", wrap=bytes),
    of("tar-called-TAR", wrap=bytes, called="X.TAR"),
    of("tar-without-a-suffix", wrap=bytes, called="image"),
    of("bzip2-called-tgz", "suffix-busybox", wrap=bz2.compress),
    of("called-tbz2", "suffix-busybox", wrap=bz2.compress, called="x.tbz2"),
    of("called-as-an-entry", "", file("image.tar"), notes="name-lost", replayed=False),
    of("called-as-a-directory", "name-taken", directory("image.tar/"), file("image.tar/a"), replayed=False),
    of("called-rootfs", "name-taken", called="rootfs.gz", replayed=False),
    of("called-metadata", "name-taken", called="metadata.json.gz", replayed=False),
    # What lies at the top
    of("wrapped", "no-metadata no-rootfs", base=[{**META, "name": "img/metadata.json"},
       *({**entry, "name": "img/" + entry["name"]} for entry in ROOT)], notes="parents-missing no-shell"),
    of("no-metadata", "no-metadata", base=ROOT, replayed=False),
    of("metadata-symlink", "metadata-no-file", base=[symlink("metadata.json", "m"), *ROOT], replayed=False),
    of("metadata-directory", "metadata-no-file", base=[directory("metadata.json/"), *ROOT], replayed=False),
    of("metadata-fifo", "metadata-no-file", base=[{"name": "metadata.json", "type": "fifo"}, *ROOT], replayed=False),
    of("metadata-hardlink", "metadata-linked", base=[{**META, "name": "m"}, link("metadata.json", "m"), *ROOT]),
    of("metadata-then-symlink", "metadata-no-file", symlink("metadata.json", "m"), notes="duplicate", replayed=False),
    of("metadata-below-rootfs", "no-metadata", base=[{**META, "name": "rootfs/metadata.json"}, *ROOT], replayed=False),
    of("metadata-in-capitals", "no-metadata", base=[{**META, "name": "Metadata.json"}, *ROOT], replayed=False),
    of("metadata-last", base=[*ROOT, META]),
    of("rootfs-file", "rootfs-no-directory", base=[META, file("rootfs")], replayed=False, notes="no-shell"),
    of("no-rootfs", "no-rootfs", base=[META], replayed=False, notes="no-shell"),
    of("rootfs-symlink", "rootfs-no-directory", base=[META, symlink("rootfs", "r")], replayed=False, notes="no-shell"),
    of("rootfs-empty", "rootfs-empty", base=[META, ROOT[0]], replayed=False, notes="no-shell"),
    of("overwritten", "", file("version"), file("url"), directory("more/"), notes="overwritten"),
    *(of(f"directory-called-{name}", "name-reserved", directory(f"{name}/"), notes="overwritten", replayed=False)
      for name in ("url", "s3_uri", "version")),
    of("directory-called-tags", "", directory("tags.json/"), notes="overwritten", replayed=False),
    of("no-shell", "", base=[META, ROOT[0], file("rootfs/app")], notes="no-shell"),
    of("nothing-but-an-end", "left-packed", base=[], replayed=False),
    # What metadata.json says
    said("metadata-empty", "metadata-json", file("metadata.json", "")),
    said("metadata-bom", "metadata-json", file("metadata.json", "\ufeff{}")),
    said("metadata-utf-16", "metadata-json", file("metadata.json", "\udcff\udcfe{\0}\0")),
    said("metadata-blank", "metadata-json", file("metadata.json", " \n")),
    said("metadata-not-utf-8", "", file("metadata.json", '{"labels":"\udcff","cmd":["x"]}')),
    said("metadata-comma", "metadata-json", file("metadata.json", '{"cmd":["x"],}')),
    said("metadata-twice", "metadata-trailing", file("metadata.json", '{"cmd":["x"]}{"cmd":["y"]}')),
    said("metadata-large", "metadata-large", file("metadata.json", " " * (1 << 20) + "{}")),
    said("metadata-list", "metadata-json", file("metadata.json", "[]")),
    said("metadata-null", "", file("metadata.json", "null"), notes="no-command"),
    said("metadata-object", "", file("metadata.json", "{}"), notes="no-command"),
    said("metadata-cut", "metadata-json", file("metadata.json", '{"env": [')),
    said("metadata-trailing", "metadata-trailing", file("metadata.json", '{"cmd":["x"]} x')),
    said("user-twice", "", file("metadata.json", '{"user":"nobody","USER":"root","Cmd":["x"]}')),
    said("user-then-null", "user-unknown", file("metadata.json", '{"user":"nobody","user":null,"cmd":["x"]}')),
    said("user-number-then-text", "user-type", file("metadata.json", '{"user":1,"user":"root","cmd":["x"]}')),
    said("env-text-then-list", "env-type", file("metadata.json", '{"env":"A=1","env":["A=1"],"cmd":["x"]}')),
    said("env-then-null", "", file("metadata.json", '{"env":["A"],"env":null,"cmd":["x"]}')),
    said("keys-in-capitals", "user-unknown", file("metadata.json", '{"USER":"nobody","Cmd":["x"]}')),
    said("keys-of-others", "", more={"a": 1}),
    said("env-text", "env-type", env="A=1"),
    said("env-object", "env-type", env={"A": "1"}),
    said("env-number", "env-type", env=["A=1", 2]),
    said("env-null-entry", "env-entry", env=[None]),
    said("env-without-equals", "env-entry", env=["A=1", "FOO"]),
    said("env-without-name", "env-entry", env=["=x"]),
    said("env-with-nul", "env-entry", env=["A=\0"]),
    said("env-null", env=None),
    said("env-empty", env=[]),
    said("env-without-value", env=["A="]),
    said("env-twice", env=["A=1", "A=2"]),
    said("user-number", "user-type", user=1000),
    said("entrypoint-text", "command-type", entrypoint="sh"),
    said("cmd-text", "command-type", cmd="sh"),
    said("entrypoint-object", "command-type", entrypoint={}),
    said("cmd-number", "command-type", cmd=[1]),
    said("no-command", "", cmd=None, notes="no-command"),
    *(said(f"user-{user}", "", user=user) for user in
      ["", "root", "alex", "1000", "4242", "1000:1000", "4242:4343", "alex:staff", "alex:50", "1000:staff", ":staff",
       "0:0", "alex:", ":", "2147483647"]),
    *(said(f"user-{user}", "user-unknown", user=user) for user in
      ["nobody", "nobody:", "nobody:staff", " alex", "alex:nogrp", "-1", "2147483648", "1:2147483648",
       "99999999999999999999"]),
    *(said(f"nobody-knows-{user}", code, accounts=False, user=user, notes=notes) for user, code, notes in
      [("", "", ""), ("root", "", ""), ("0:0", "", ""), ("1000", "", "passwd-odd"), ("4242", "", "passwd-odd"),
       ("1000:1000", "", "passwd-odd"), ("4242:4343", "", "passwd-odd"),
       *((user, "user-unknown", "") for user in
         ["alex", "alex:staff", "alex:50", "1000:staff", ":staff", "alex:nogrp", "root:root", "-1", "2147483648"])]),
    said("root-unlisted", "user-unknown", accounts=False, user="root",
         extra=(directory("rootfs/etc/"), file("rootfs/etc/passwd", "alex:x:1000:1001::/:/bin/sh\n"))),
    said("passwd-symlink", "user-unsure", accounts=False, user="alex",
         extra=(directory("rootfs/etc/"), symlink("rootfs/etc/passwd", "other"), ACCOUNTS[2])),
    said("rootfs-closed", "rootfs-closed", user="1000", extra=(directory("rootfs/", mode="0700"),)),
    said("rootfs-closed-to-its-group", "rootfs-closed", user="1000:1000",
         extra=(directory("rootfs/", mode="0705", gid=1000),)),
    said("rootfs-its-users-own", "", user="1000:1000", extra=(directory("rootfs/", mode="0700", uid=1000),)),
    said("rootfs-its-groups-own", "", user="1000:1000", extra=(directory("rootfs/", mode="0750", gid=1000),)),
]  # fmt: skip
