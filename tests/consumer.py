"""Archives that the consumer stumbles over, and what `check` is to say of each: one vector for each trap.

Entries are those of tests/fixtures/flatten.json (see `layers.entry_bytes`), in GNU format unless they say otherwise.
"""

from __future__ import annotations

import base64
import bz2
import gzip
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.layers import Data, entry_bytes

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


def retyped(letter: bytes) -> Data:
    """Return a file's entry whose type is another."""
    block = bytearray(entry_bytes(file("rootfs/odd", "")))
    block[156:157] = letter
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return raw(bytes(block))


def without_magic(entry: Data) -> Data:
    """Return an entry as Unix V7 wrote it."""
    block = bytearray(entry_bytes(entry))
    block[257:512] = bytes(255)
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block[:512])
    return raw(bytes(block))


def header_of_gzip(data: bytes, *, mtime: bytes = bytes(4), name: bytes = b"") -> bytes:
    """Compress with a time and a name in the header."""
    plain = gzip.compress(data, mtime=0)
    flags = b"\x08" if name else b"\0"
    return plain[:3] + flags + mtime + plain[8:10] + (name + b"\0" if name else b"") + plain[10:]


PAX_SPARSE = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "rootfs/sparse",
              "GNU.sparse.realsize": "2000"}  # fmt: skip
_MAP = b"1\n0\n1\n".ljust(512, b"\0").decode() + "x"


def gnu_sparse() -> Data:
    block = bytearray(entry_bytes(file("rootfs/sparse", "x"))[:512])
    block[156:157] = b"S"
    block[386:410] = b"00000000000\x0000000000001\0"
    block[483:495] = b"00000001000\0"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return raw(bytes(block) + b"x".ljust(512, b"\0"))


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
    of("v7", "left-packed", base=[without_magic(META), *ROOT], replayed=False),
    of("v7-tar", "not-an-archive", base=[without_magic(META), *ROOT], called="i.tar", wrap=bytes, replayed=False),
    of("dot-names", base=[directory("./", mode="0700"), {**META, "name": "./metadata.json"},
                          *({**entry, "name": "./" + entry["name"]} for entry in ROOT)], notes="root-entry"),
    of("absolute", "", file("/rootfs/abs"), notes="absolute-name"),
    of("dotdot", "dotdot-name", file("rootfs/../../evil")),
    of("id-in-header", "", file("rootfs/a", uid=3000000), notes="id-high"),
    of("id-in-pax", "pax-owner", file("rootfs/a", fmt="pax", uid=3000000), notes="id-high"),
    of("id-of-nobody", "id-unmappable", file("rootfs/a", uid=4294967294), notes=""),
    of("owner-name", "owner-names", file("rootfs/a", uid=77, uname="daemon")),
    of("owner-root", "", file("rootfs/a", uname="root", gname="root")),
    of("char", "device", device("char", 1, 3), notes="below-mounts"),
    of("block", "device", device("block", 8, 0), notes="below-mounts"),
    of("char-zero", "", device("char", 0, 0), notes="below-mounts device-zero"),
    of("fifo", "", {"name": "rootfs/fifo", "type": "fifo", "fmt": "gnu"}),
    of("modes", "", file("rootfs/su", mode="4755"), file("rootfs/sg", mode="2755", gid=42),
       directory("rootfs/t", mode="1777")),
    of("hardlink", "", file("rootfs/a"), link("rootfs/b", "rootfs/a")),
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
    of("hardlink-to-fifo", "", {"name": "rootfs/a", "type": "fifo", "fmt": "gnu"}, link("rootfs/b", "rootfs/a")),
    of("hardlink-to-directory", "link-dangling", link("rootfs/b", "rootfs/bin")),
    of("symlinks", "", symlink("rootfs/a", "/no"), symlink("rootfs/b", "../no"), symlink("rootfs/c", "no", uid=7)),
    of("through-relative", "", symlink("rootfs/lib", "bin"), file("rootfs/lib/f"), notes="through-symlink"),
    of("through-absolute", "through-late-symlink", symlink("rootfs/lib", "/bin"), file("rootfs/lib/f")),
    of("through-dotdot", "through-late-symlink", symlink("rootfs/lib", "../rootfs/bin"), file("rootfs/lib/f")),
    of("through-file", "through-file", file("rootfs/lib"), file("rootfs/lib/f")),
    of("xattr", "", file("rootfs/a", fmt="pax", pax=XATTR), notes="xattrs-lost"),
    of("capability", "", file("rootfs/a", fmt="pax", pax=CAPABILITY), notes="capabilities-lost"),
    of("xattr-libarchive", "", file("rootfs/a", fmt="pax", pax={"LIBARCHIVE.xattr.user.foo": "MQ=="}),
       notes="xattrs-lost"),
    of("sparse-gnu", "sparse", gnu_sparse()),
    of("sparse-pax", "sparse-pax", file("GNUSparseFile.1/sparse", _MAP, fmt="pax", pax=PAX_SPARSE)),
    of("pax-size", "pax-size", pax_size()),
    of("long-names", "", file("rootfs/" + "n" * 200 + "/" + "m" * 90), symlink("rootfs/l", "x" * 150),
       notes="parents-missing"),
    of("long-names-pax", "", file("rootfs/" + "n" * 200 + "/" + "m" * 90, fmt="pax"), notes="parents-missing"),
    of("too-long", "long-name", file("rootfs/" + "n" * 256)),
    of("path-too-long", "long-name", file("rootfs/" + "/".join(["d" * 200] * 21))),
    of("raw-names", "", file("rootfs/ünï"), file("rootfs/\udcff\udcfe")),
    of("charset", "", file("rootfs/\udcff", fmt="pax", pax={"hdrcharset": "BINARY"}), notes="pax-charset"),
    of("times", "", file("rootfs/a", mtime=0), file("rootfs/b", mtime=4102444800), file("rootfs/c", mtime=9000000000)),
    of("times-pax", "pax-time", file("rootfs/c", fmt="pax", mtime=9000000000)),
    of("fractions-pax", "", file("rootfs/c", fmt="pax", mtime="1600000000.5")),
    of("global-header", "", base=[raw(entry_bytes({**META, "fmt": "pax"})), *ROOT]),
    of("unknown-type", "unknown-type", retyped(b"Z")),
    of("volume-label", "", retyped(b"V")),
    of("contiguous", "", retyped(b"7")),
    of("duplicate", "", file("rootfs/a", "1"), file("rootfs/a", "2"), notes="duplicate"),
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
    of("directories-last", base=[META, ROOT[3], ROOT[1], ROOT[2], ROOT[0]]),
    # The streams
    of("two-members", wrap=lambda data: packed(data[:700]) + packed(data[700:])),
    of("zeros-behind", wrap=lambda data: packed(data) + bytes(700)),
    of("garbage-behind", "trailing-garbage", wrap=lambda data: packed(data) + b"garbage"),
    of("garbage-behind-zeros", "trailing-garbage", wrap=lambda data: packed(data) + bytes(7) + b"garbage"),
    of("gzip-cut", "compressed-truncated", wrap=lambda data: packed(data)[:-9]),
    of("gzip-altered", "compressed-corrupt", wrap=lambda data: packed(data)[:-8] + bytes(8)),
    of("gzip-name", wrap=lambda data: header_of_gzip(data, name=b"other-name.tar")),
    of("tar-without-end", end=b"", notes="tar-without-end"),
    of("tar-cut", "tar-truncated", file("rootfs/big", "z" * 3000), end=b"", wrap=lambda data: packed(data[:-1024])),
    of("tar-cut-in-header", "tar-cut-header", file("rootfs/big", ""), end=b"", wrap=lambda data: packed(data[:-100])),
    of("bad-header", "tar-header", raw(b"\1" * 512), file("rootfs/a")),
    of("lone-zero", "tar-lone-zero", raw(bytes(512)), file("rootfs/a")),
    of("bzip2", called="image.tar.bz2", wrap=bz2.compress),
    of("xz-by-name", "not-an-archive", wrap=lambda data: b"\xfd7zXZ\0" + data, called="image.tar.xz", replayed=False),
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
            ("digest", ""), ("tag", ""), ("labels.json", ""), ("repository", ""),
        ]
    ),
    of("gzip-in-gzip", "left-packed", wrap=lambda data: packed(packed(data)), replayed=False),
    # Names
    *(
        of(f"called-{called}", code, called=called)
        for called, code in [
            ("x.tar.gz", ""), ("x.TGZ", "suffix-busybox"), ("x.taz", "suffix-busybox"), ("x", "suffix"),
            ("x.tar", "suffix"), ("x-gz", "suffix-busybox"), ("x.GZ", "suffix-busybox"),
        ]
    ),
    of("called-tgz", "suffix-gnu", called=".tgz"),
    of("tar-called-tgz", wrap=bytes),
    of("called-tbz2", "suffix-busybox", wrap=bz2.compress, called="x.tbz2"),
    of("called-as-an-entry", "", file("image.tar"), notes="name-lost", replayed=False),
    of("called-rootfs", "name-taken", called="rootfs.gz", replayed=False),
    of("called-metadata", "name-taken", called="metadata.json.gz", replayed=False),
    # What lies at the top
    of("wrapped", "no-metadata no-rootfs", base=[{**META, "name": "img/metadata.json"},
       *({**entry, "name": "img/" + entry["name"]} for entry in ROOT)], notes="parents-missing no-shell"),
    of("no-metadata", "no-metadata", base=ROOT, replayed=False),
    of("metadata-symlink", "metadata-no-file", base=[symlink("metadata.json", "m"), *ROOT], replayed=False),
    of("no-rootfs", "no-rootfs", base=[META], replayed=False, notes="no-shell"),
    of("rootfs-symlink", "rootfs-no-directory", base=[META, symlink("rootfs", "r")], replayed=False, notes="no-shell"),
    of("rootfs-empty", "rootfs-empty", base=[META, ROOT[0]], replayed=False, notes="no-shell"),
    of("overwritten", "", file("version"), file("url"), directory("more/"), notes="overwritten"),
    of("no-shell", "", base=[META, ROOT[0], file("rootfs/app")], notes="no-shell"),
    of("nothing-but-an-end", "left-packed", base=[], replayed=False),
    # What metadata.json says
    said("metadata-empty", "metadata-json", file("metadata.json", "")),
    said("metadata-bom", "metadata-json", file("metadata.json", "\ufeff{}")),
    said("metadata-list", "metadata-json", file("metadata.json", "[]")),
    said("metadata-null", "", file("metadata.json", "null"), notes="no-command"),
    said("metadata-object", "", file("metadata.json", "{}"), notes="no-command"),
    said("metadata-cut", "metadata-json", file("metadata.json", '{"env": [')),
    said("metadata-trailing", "metadata-trailing", file("metadata.json", '{"cmd":["x"]} x')),
    said("metadata-twice-in-it", "", file("metadata.json", '{"user":1,"USER":"root","Cmd":["x"]}'.replace("1", '"0"'))),
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
    said("user-number", "user-type", user=1000),
    said("entrypoint-text", "command-type", entrypoint="sh"),
    said("cmd-number", "command-type", cmd=[1]),
    said("no-command", "", cmd=None, notes="no-command"),
    *(said(f"user-{user}", "", user=user) for user in
      ["root", "alex", "1000", "4242", "1000:1000", "4242:4343", "alex:staff", "alex:50", "1000:staff", ":staff"]),
    *(said(f"user-{user}", "user-unknown", user=user) for user in
      ["nobody", "alex:nogrp", "-1", "2147483648", "1:2147483648", "99999999999999999999"]),
    *(said(f"nobody-knows-{user}", code, accounts=False, user=user, notes=notes) for user, code, notes in
      [("root", "", ""), ("alex", "user-unknown", ""), ("1000", "", "passwd-odd"), ("1000:staff", "user-unknown", ""),
       ("1000:1000", "", "passwd-odd"), (":staff", "user-unknown", "")]),
    said("passwd-symlink", "user-unsure", accounts=False, user="alex",
         extra=(directory("rootfs/etc/"), symlink("rootfs/etc/passwd", "other"), ACCOUNTS[2])),
    said("rootfs-closed", "rootfs-closed", user="1000", extra=(directory("rootfs/", mode="0700"),)),
]  # fmt: skip
