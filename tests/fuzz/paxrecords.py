"""The body of a PAX header, alone and before an entry."""

from __future__ import annotations

from ocirootfs.tar import header, pax, reader
from tests.fuzz.target import outcome

SEEDS = [
    b"".join(pax.record(key, value) for key, value in records)
    for records in (
        [(b"path", b"a/b"), (b"size", b"1"), (b"mtime", b"1.5")],
        [(b"linkpath", b"x" * 200), (b"uid", b"4294967294"), (b"gid", b"0")],
        [(b"SCHILY.xattr.user.a", b"\0\n=\xff"), (b"SCHILY.xattr.security.capability", b"x" * 20)],
        [(b"GNU.sparse.offset", b"0"), (b"GNU.sparse.numbytes", b"1"), (b"GNU.sparse.size", b"9")],
        [(b"mtime", b"-0.000000001")],
    )
]
_ENTRY = header.sealed(
    header.LAYOUT.pack(
        b"f", b"644", b"0", b"0", b"1", b"0", b" " * 8, b"0", b"", header.USTAR_MAGIC, b"", b"", b"", b"", b""
    )
)  # fmt: skip


def _extension(size: int) -> bytes:
    return header.sealed(
        header.LAYOUT.pack(
            b"x", b"0", b"0", b"0", header.field(size, 12), b"0", b" " * 8, b"x", b"", header.USTAR_MAGIC, b"", b"",
            b"", b"", b"",
        )
    )  # fmt: skip


def _read(data: bytes) -> None:
    stream = _extension(len(data)) + data + bytes(header.padding(len(data))) + _ENTRY + b"z" + bytes(511 + 1024)
    for entry, body in reader.read([stream]):
        assert 0 <= entry.uid < 2**32, entry
        for number, _ in enumerate(body):
            if number > 64:
                break


def check(data: bytes) -> None:
    """Parse it, and read an entry that it describes."""
    outcome(pax.records, data)
    outcome(_read, data)
