"""Checking: what Concourse will make of an archive, step by step as the S3 resource, the worker and the task go.

One pass over a stream, and nothing on disk: what stays in memory is one byte string a path, as in flattening, and the
three small files that Concourse reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ocirootfs import versions
from ocirootfs.consumer import document, sniff, suffix
from ocirootfs.consumer.dialect import Kind, Tree
from ocirootfs.consumer.finding import Finding, Findings, Severity
from ocirootfs.consumer.stream import Stream, bunzipped, gunzipped, members
from ocirootfs.consumer.user import Ids, resolve
from ocirootfs.errors import InputError, TruncatedError
from ocirootfs.tar import header

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ocirootfs.consumer.stream import Member
    from ocirootfs.versions import KeyRegexp

ENTRIES = 20_000_000
"""Entries that are looked at; the largest images that people build have a million."""
_METADATA, _PASSWD, _GROUP = b"metadata.json", b"rootfs/etc/passwd", b"rootfs/etc/group"
_KEPT = {_METADATA: 1 << 20, _PASSWD: 4 << 20, _GROUP: 4 << 20}  # bytes; others have a few hundred lines


@dataclass(frozen=True, slots=True)
class Checked:
    """What will become of an archive; sizes are bytes.

    `compressed` is what was read, `expanded` the tar in it, `files` what its regular files hold together, `entries` how
    many it has; none counts what lies behind the place that ends the unpacking. `user` is whom a task runs as, None if
    no container starts; `version` what the resource takes for the version, None without a regexp or a match.

    >>> with ocirootfs.open("oci:tests/fixtures/zones") as image:
    ...     packed = ocirootfs.pack(image, "zones-1.tgz")
    >>> checked = ocirootfs.check("zones-1.tgz")
    >>> checked.starts, checked.compressed == packed.stored.size, checked.entries > packed.report.entries
    (True, True, True)
    """

    findings: tuple[Finding, ...]
    compressed: int
    expanded: int
    files: int
    entries: int
    user: Ids | None
    version: str | None

    @property
    def starts(self) -> bool:
        """Whether a task starts from it, whichever of the tools unpack it."""
        return all(finding.severity is not Severity.BREAKS for finding in self.findings)

    @property
    def peak(self) -> int:
        """Bytes that the worker's disk needs for a time: the tar beside what it was unpacked from, or into."""
        return self.expanded + max(self.compressed if self.compressed != self.expanded else 0, self.files)


def check(
    chunks: Iterable[bytes],
    name: str | None,
    *,
    key: str | None = None,
    regexp: KeyRegexp | None = None,
    entries: int = ENTRIES,
) -> Checked:
    """Read an archive as Concourse would.

    `name` is the last part of its key, by which gunzip goes, None if it is not known; `regexp` and the whole `key` (by
    default `name`) are for the version; at most `entries` are looked at. Of what does not reach a tar only the
    beginning is read. Raises what `chunks` raise.
    """
    findings = Findings()
    version = None
    if regexp is not None and (key or name):
        version = regexp.version(key or name or "")
        if why := versions.refusal(regexp, key or name or ""):
            findings.add("version", key or name or "", why)
    reading = _Reading(findings, name, entries)
    reading.run(chunks)
    user = None if "user-type" in findings or "user-unknown" in findings else reading.user
    return Checked(
        findings.result(), reading.compressed, reading.expanded, reading.files, reading.entries, user, version
    )


class _Reading:
    """One pass over one archive."""

    def __init__(self, findings: Findings, name: str | None, most: int) -> None:
        self.compressed = self.expanded = self.files = self.entries = 0
        self.user: Ids | None = None
        self._findings = findings
        self._name = name
        self._most = most
        self._intermediate: str | None = name
        self._kept: dict[bytes, bytes] = {}
        self._rootfs: Member | None = None

    def run(self, chunks: Iterable[bytes]) -> None:
        """Sniff, decompress, and read what is in it."""
        head, whole = _headed(self._counted(chunks))
        kind = self._sniffed(head, "not-an-archive")
        if kind is None:
            return
        if kind == sniff.ZIP:
            self._findings.add("zip")
        elif kind == sniff.TAR:
            self._read(whole)
        else:
            self._judge_suffix(kind)
            try:
                self._read_inner(self._opened(kind, whole))
            except TruncatedError:
                self._findings.add("compressed-truncated")
            except InputError as error:
                self._findings.add("compressed-corrupt", detail=str(error))

    def _counted(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self.compressed += len(chunk)
            yield chunk

    def _opened(self, kind: str, whole: Iterator[bytes]) -> Iterator[bytes]:
        """Decompress, and read on to the end of the object whatever follows."""
        if kind == sniff.GZIP:
            yield from gunzipped(whole, lambda: self._findings.add("trailing-garbage"))
        else:
            yield from bunzipped(whole)
        for _ in whole:
            pass

    def _sniffed(self, head: bytes, otherwise: str) -> str | None:
        """Return the kind of archive to go on with; None if the resource goes no further."""
        found = sniff.sniff(head)
        archives = found & (sniff.ARCHIVES if otherwise == "not-an-archive" else {sniff.TAR})
        if not archives:
            self._findings.add(otherwise, detail=f"taken for {' or '.join(sorted(found))}" if found else "")
            return None
        if len(found) > 1:
            self._findings.add("sniffed-at-random", detail=", ".join(sorted(found)))
        return min(archives)

    def _judge_suffix(self, kind: str) -> None:
        if self._name is None:
            self._findings.add("name-unknown")
            return
        gnu, busybox = suffix.gnu(self._name, kind), suffix.busybox(self._name, kind)
        self._intermediate = gnu or busybox
        if gnu is None or busybox is None:
            code = "suffix" if gnu is None and busybox is None else "suffix-gnu" if gnu is None else "suffix-busybox"
            self._findings.add(code, self._name)

    def _read_inner(self, plain: Iterator[bytes]) -> None:
        head, whole = _headed(plain)
        if self._sniffed(head, "left-packed") is not None:
            self._read(whole)

    def _read(self, chunks: Iterable[bytes]) -> None:
        """Read the tar, then judge what is at its top."""
        taken = self._intermediate.encode("utf-8", "surrogateescape") if self._intermediate else None
        if taken in (b"rootfs", _METADATA):
            self._findings.add("name-taken", taken)
        tree = Tree(self._findings, taken)
        stream = Stream(chunks)
        try:
            for member in members(stream, self._findings.add):
                self.entries += 1
                if self.entries > self._most:
                    self._findings.add("too-many-entries", member.name)
                    break
                if cut := self._take(stream, member, tree.add(member)):
                    self._findings.add(cut, member.name)
                    break
            stream.drain()
        finally:
            self.expanded = stream.size
        tree.finish()
        self._judge_top(tree)

    def _take(self, stream: Stream, member: Member, path: bytes | None) -> str | None:
        """Keep the content of what Concourse reads, and pass over that of others; say what is cut of it."""
        size = 0 if member.kind in b"123456" else member.size
        if path in _KEPT:
            self._kept.pop(path, None)
        if path == b"rootfs":
            self._rootfs = member
        if member.kind in b"07S":
            self.files += size
        rest = size
        if path in _KEPT and member.kind in b"07":
            if size <= _KEPT[path]:
                self._kept[path] = stream.read(size)
                rest -= len(self._kept[path])
            elif path == _METADATA:
                self._findings.add("metadata-large", path)
        if not stream.skip(rest):
            return "tar-truncated"
        return None if stream.skip(header.padding(size)) else "tar-cut-padding"

    def _judge_top(self, tree: Tree) -> None:
        add = self._findings.add
        user = ""
        kind = tree.kind(_METADATA)
        if _METADATA in self._kept:
            user = document.judge(self._kept[_METADATA], self._findings)
        elif kind is None:
            add("no-metadata")
        elif tree.is_hard_link(_METADATA):
            add("metadata-linked", _METADATA)
        elif "metadata-large" not in self._findings:
            add("metadata-no-file", _METADATA)
        self._judge_rootfs(tree)
        self._judge_user(tree, user)

    def _judge_rootfs(self, tree: Tree) -> None:
        kind = tree.kind(b"rootfs")
        if kind is None:
            self._findings.add("no-rootfs")
        elif kind in (Kind.FILE, Kind.SYMLINK, Kind.LATE_SYMLINK):
            self._findings.add("rootfs-no-directory", b"rootfs")
        elif not tree.has_more_than_directories():
            self._findings.add("rootfs-empty")
        if not any(tree.kind(path) for path in (b"rootfs/bin/sh", b"rootfs/usr/bin/sh")):
            self._findings.add("no-shell")

    def _judge_user(self, tree: Tree, user: str) -> None:
        odd = [path for path in (_PASSWD, _GROUP) if path not in self._kept]
        found = resolve(user, self._kept.get(_PASSWD), self._kept.get(_GROUP))
        if isinstance(found, Ids):
            self.user = found
            self._judge_access(found)
        elif any(tree.kind(path) for path in odd) or tree.kind(b"rootfs/etc") in (Kind.SYMLINK, Kind.LATE_SYMLINK):
            self._findings.add("user-unsure", "metadata.json", f"'{user}'")
        else:
            self._findings.add("user-unknown", "metadata.json", found)
        if odd and isinstance(found, Ids) and found.uid:
            for path in odd:
                self._findings.add("passwd-odd", path)

    def _judge_access(self, user: Ids) -> None:
        """Say if a user cannot enter rootfs/, which root can."""
        if self._rootfs is None or user.uid == 0:
            return
        bit = 0o100 if user.uid == self._rootfs.uid else 0o010 if user.gid == self._rootfs.gid else 0o001
        if not self._rootfs.mode & bit:
            self._findings.add("rootfs-closed", b"rootfs", f"mode {self._rootfs.mode & 0o7777:04o}")


def _headed(chunks: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """Return the first bytes, as many as are sniffed at, and the whole."""
    head = b""
    for chunk in chunks:
        head += chunk
        if len(head) >= sniff.LENGTH:
            break

    def whole() -> Iterator[bytes]:
        if head:
            yield head
        yield from chunks

    return head, whole()
