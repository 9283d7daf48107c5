"""What is found out about an archive: codes that stay, and what each means."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from ocirootfs.errors import printable

_PLACES = 3  # entries that are named for one finding; the others are counted


class Outcome(StrEnum):
    """How a tool fares: it ends well, it ends well with another result than the other tool, or it fails."""

    WORKS = "works"
    DIFFERS = "differs"
    FAILS = "fails"


class Severity(StrEnum):
    """`breaks`: no task starts, with one of the tools at least; `differs`: one does, not everywhere the same."""

    BREAKS = "breaks"
    DIFFERS = "differs"
    NOTE = "note"


class Rule(NamedTuple):
    """What one code means; `gnu` is GNU tar, gunzip and bunzip2, `busybox` is busybox's."""

    gnu: Outcome
    busybox: Outcome
    what: str
    hint: str = ""

    @property
    def severity(self) -> Severity:
        """How bad it is, which follows from how both tools fare."""
        if Outcome.FAILS in (self.gnu, self.busybox):
            return Severity.BREAKS
        return Severity.DIFFERS if Outcome.DIFFERS in (self.gnu, self.busybox) else Severity.NOTE


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found, in `count` places, of which `where` names the first; `detail` is what is special.

    >>> [finding.code for finding in ocirootfs.check(io.BytesIO(b"no archive")).findings][0]
    'not-an-archive'
    """

    code: str
    rule: Rule
    detail: str
    where: tuple[str, ...]
    count: int

    @property
    def severity(self) -> Severity:
        """How bad it is."""
        return self.rule.severity

    @property
    def what(self) -> str:
        """What was found, as a sentence without a full stop."""
        return f"{self.rule.what}{': ' + self.detail if self.detail else ''}"


class Findings:
    """Gathers findings, each code once, however often it is met."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[str, list[str], int]] = {}

    def add(self, code: str, where: bytes | str = b"", detail: str = "") -> None:
        """Note one; `code` is one of `RULES`. The detail that counts is the first."""
        first, places, count = self._found.get(code, (printable(detail), [], 0))
        if where and len(places) < _PLACES:
            places.append(printable(where, 400))
        self._found[code] = (first, places, count + 1)

    def __contains__(self, code: str) -> bool:
        return code in self._found

    def result(self) -> tuple[Finding, ...]:
        """Return what was found, the worst first, in the order in which it was met."""
        found = [Finding(code, RULES[code], detail, tuple(places), count)
                 for code, (detail, places, count) in self._found.items()]  # fmt: skip
        return tuple(sorted(found, key=lambda finding: list(Severity).index(finding.severity)))


_WORKS, _DIFFERS, _FAILS = Outcome.WORKS, Outcome.DIFFERS, Outcome.FAILS
_PACK = "the archives that ocirootfs pack makes are right in this"

RULES: dict[str, Rule] = {
    # What the resource takes the object for, by its first 512 bytes
    "not-an-archive": Rule(_FAILS, _FAILS, "the resource says 'not an archive' by its first bytes", _PACK),
    "sniffed-at-random": Rule(_FAILS, _FAILS, "its first bytes fit several formats, of which the resource picks one "
                              "at random", "let the first entry be metadata.json or rootfs/"),
    "left-packed": Rule(_FAILS, _FAILS, "what is in the compressed file is not taken for a tar, so the resource leaves "
                        "it packed and reports success", "write GNU format, with metadata.json or rootfs/ first"),
    "zip": Rule(_DIFFERS, _FAILS, "a zip is unpacked without owners, not at all by busybox, and is not looked at here",
                _PACK),
    # Its name, by which gunzip and bunzip2 go
    "suffix": Rule(_FAILS, _FAILS, "gunzip does not know the suffix", "end the name in .tgz or .tar.gz"),
    "suffix-busybox": Rule(_WORKS, _FAILS, "busybox does not know the suffix", "end the name in .tgz or .tar.gz"),
    "suffix-gnu": Rule(_FAILS, _WORKS, "GNU gzip does not know the suffix", "end the name in .tgz or .tar.gz"),
    "name-unknown": Rule(_WORKS, _WORKS, "the name decides whether gunzip takes it, and is not known here"),
    "name-taken": Rule(_FAILS, _FAILS, "the unpacked tar is called like what is in it and is removed afterwards, the "
                       "entry with it", "give the archive another name"),
    "name-lost": Rule(_WORKS, _WORKS, "the unpacked tar is called like an entry at the top, which is lost"),
    # The compressed stream
    "compressed-corrupt": Rule(_FAILS, _FAILS, "the compressed stream is corrupt", "upload it again"),
    "compressed-truncated": Rule(_FAILS, _FAILS, "the compressed stream is cut short", "upload it again"),
    "trailing-garbage": Rule(_FAILS, _WORKS, "GNU gunzip ends with status 2 at what follows the gzip stream",
                             "remove what follows its end"),
    # The tar stream
    "tar-truncated": Rule(_FAILS, _FAILS, "the tar ends inside an entry", "make it again"),
    "tar-cut-padding": Rule(_FAILS, _WORKS, "the tar ends inside what fills up the last entry's block",
                            "make it again"),
    "tar-cut-header": Rule(_DIFFERS, _FAILS, "the tar ends inside a header, where GNU tar ends as if all were well",
                           "make it again"),
    "tar-without-end": Rule(_WORKS, _WORKS, "the tar has no end marker: both tars take it for whole even if it is not"),
    "tar-header": Rule(_FAILS, _FAILS, "no tar header where one is due", "make it again"),
    "tar-lone-zero": Rule(_DIFFERS, _WORKS, "GNU tar ends at a lone zero block, busybox goes on behind it"),
    "too-many-entries": Rule(_FAILS, _FAILS, "more entries than are looked at here"),
    "long-name": Rule(_FAILS, _FAILS, "a name that no file system takes"),
    "long-name-alone": Rule(_WORKS, _FAILS, "the tar ends behind a long name, which busybox tar takes for cut",
                            "make it again"),
    "before-posix": Rule(_WORKS, _FAILS, "busybox tar takes no header of before POSIX", "tar --format=gnu"),
    "gnu-prefix": Rule(_WORKS, _DIFFERS, "busybox tar takes the times in a GNU header for the beginning of a name",
                       "tar without --incremental"),
    "number-blank": Rule(_FAILS, _WORKS, "GNU tar takes no blanks for a number in a header", _PACK),
    "dotdot-name": Rule(_FAILS, _DIFFERS, "GNU tar refuses '..' in a name, busybox drops it", _PACK),
    "absolute-name": Rule(_WORKS, _WORKS, "the leading '/' of a name is dropped"),
    "root-entry": Rule(_WORKS, _WORKS, "an entry for the top sets owner and mode of the volume"),
    "root-no-directory": Rule(_FAILS, _FAILS, "an entry without a name, or for the top, that is no directory", _PACK),
    "directory-as-file": Rule(_WORKS, _FAILS, "busybox tar takes a file with a '/' behind its name for no directory",
                              _PACK),
    "device": Rule(_FAILS, _WORKS, "a device node cannot be made in a user namespace: GNU tar fails, busybox leaves "
                   "it out", "pack leaves devices out; a container has its own"),
    "device-zero": Rule(_WORKS, _WORKS, "device 0:0 is made, and is a whiteout where the worker stacks layers"),
    "sparse": Rule(_WORKS, _FAILS, "busybox tar does not know GNU's sparse files", "tar without --sparse"),
    "sparse-pax": Rule(_WORKS, _DIFFERS, "busybox tar writes a PAX sparse file's map and data into another file",
                       "tar without --sparse"),
    "unknown-type": Rule(_DIFFERS, _FAILS, "an entry of a type that busybox tar does not know"),
    "pax-size": Rule(_WORKS, _FAILS, "busybox tar ignores a PAX size, and loses its way", "tar --format=gnu"),
    "pax-owner": Rule(_WORKS, _DIFFERS, "busybox tar ignores a PAX owner", "tar --format=gnu"),
    "pax-time": Rule(_WORKS, _DIFFERS, "busybox tar ignores a PAX time that its header cannot hold",
                     "tar --format=gnu"),
    "pax-charset": Rule(_WORKS, _WORKS, "GNU tar warns of a PAX character set"),
    "pax-large": Rule(_WORKS, _DIFFERS, "busybox tar passes over an extended header of more than 1 MiB"),
    "pax-malformed": Rule(_FAILS, _WORKS, "GNU tar ends with status 2 at an extended header that is malformed",
                          "make it again"),
    "pax-global": Rule(_WORKS, _DIFFERS, "busybox tar ignores a name in a global extended header", "tar --format=gnu"),
    "owner-names": Rule(_DIFFERS, _DIFFERS, "an owner's name counts more than the number, and is looked up in the "
                        "S3 resource's own /etc/passwd", "tar --numeric-owner, or ocirootfs pack"),
    "id-unmappable": Rule(_FAILS, _DIFFERS, "no user namespace maps this owner: GNU tar fails, busybox gives it to "
                          "root", "change the owner in the image"),
    "id-high": Rule(_WORKS, _WORKS, "an owner over 65534, which a worker in a namespace of its own cannot map"),
    "xattrs-lost": Rule(_WORKS, _WORKS, "extended attributes are dropped"),
    "capabilities-lost": Rule(_WORKS, _WORKS, "a file loses its capabilities",
                              "start it as root, or setuid, where it needs them"),
    "link-absolute": Rule(_WORKS, _FAILS, "busybox tar finds no hard link's target that begins with '/'", _PACK),
    "link-dotdot": Rule(_WORKS, _WORKS, "what stands before the last '..' in a hard link's target is dropped"),
    "link-forward": Rule(_FAILS, _WORKS, "GNU tar fails at a hard link that comes before its target", _PACK),
    "link-dangling": Rule(_FAILS, _FAILS, "a hard link to what is not in the archive (a target begins with rootfs/, "
                          "too)", _PACK),
    "late-replaced": Rule(_WORKS, _FAILS, "busybox tar makes hard links and absolute or '..' symbolic links last, and "
                          "not where something else has come by then", _PACK),
    "late-symlink-then-directory": Rule(_FAILS, _FAILS, "no tar makes a directory where an absolute or '..' symbolic "
                                        "link is", _PACK),
    "target-replaced": Rule(_WORKS, _DIFFERS, "busybox tar makes hard links last, and so to a later file of their "
                            "target's name", _PACK),
    "symlink-empty": Rule(_FAILS, _FAILS, "a symbolic link to nothing", "no kernel makes one: build the image without"),
    "symlink-owner": Rule(_WORKS, _WORKS, "busybox tar gives symbolic links to root"),
    "through-symlink": Rule(_WORKS, _WORKS, "a name that leads through a symbolic link of the archive"),
    "through-late-symlink": Rule(_FAILS, _FAILS, "a name that leads through an absolute or '..' symbolic link, which "
                                 "tars make last", _PACK),
    "through-file": Rule(_FAILS, _FAILS, "a name that leads through what is no directory", _PACK),
    "duplicate": Rule(_WORKS, _WORKS, "a name twice, of which the last counts"),
    "file-then-directory": Rule(_WORKS, _FAILS, "busybox tar makes no directory where a file is", _PACK),
    "empty-directory-then-file": Rule(_WORKS, _FAILS, "busybox tar makes no file where a directory is", _PACK),
    "symlink-then-directory": Rule(_WORKS, _DIFFERS, "busybox tar keeps a symbolic link that GNU tar replaces by a "
                                   "directory", _PACK),
    "directory-then-file": Rule(_FAILS, _FAILS, "no tar makes a file where a directory with files is", _PACK),
    "parents-missing": Rule(_WORKS, _WORKS, "directories without an entry are made as 0755 of root, now"),
    # What lies at the top
    "no-metadata": Rule(_FAILS, _FAILS, "there is no metadata.json at the top", _PACK),
    "metadata-no-file": Rule(_FAILS, _FAILS, "metadata.json is no regular file", _PACK),
    "metadata-linked": Rule(_DIFFERS, _DIFFERS, "metadata.json is another name of a file, which is not looked at here",
                            _PACK),
    "no-rootfs": Rule(_FAILS, _FAILS, "there is no rootfs/ at the top", _PACK),
    "rootfs-no-directory": Rule(_FAILS, _FAILS, "rootfs is no directory", _PACK),
    "rootfs-empty": Rule(_FAILS, _FAILS, "rootfs/ is empty, so there is nothing to run"),
    "rootfs-closed": Rule(_DIFFERS, _DIFFERS, "rootfs/ is the container's '/', and closed to others than its owner"),
    "overwritten": Rule(_WORKS, _WORKS, "the resource overwrites this file at the top"),
    "name-reserved": Rule(_FAILS, _FAILS, "the resource writes a file of this name at the top, where a directory is",
                          "call it something else"),
    "below-mounts": Rule(_WORKS, _WORKS, "a container mounts something over this, which is never seen"),
    "no-shell": Rule(_WORKS, _WORKS, "there is no bin/sh or usr/bin/sh, so tasks that run sh fail"),
    # What metadata.json says
    "metadata-large": Rule(_FAILS, _FAILS, "metadata.json is larger than what is looked at here"),
    "metadata-json": Rule(_FAILS, _FAILS, "metadata.json is not what Concourse can decode", _PACK),
    "metadata-trailing": Rule(_DIFFERS, _DIFFERS, "something follows the object in metadata.json: a task without "
                              "run.path fails", "let nothing follow but white space"),
    "env-type": Rule(_FAILS, _FAILS, "env is not a list of strings", 'like ["NAME=value"]'),
    "env-entry": Rule(_FAILS, _FAILS, "no container starts with a variable without name, '=' or with a NUL",
                      "pack --unset-env leaves it out"),
    "user-type": Rule(_FAILS, _FAILS, "user is not a string", "a number is written in quotes"),
    "user-unknown": Rule(_FAILS, _FAILS, "no container starts as this user", "pack --user sets another"),
    "user-unsure": Rule(_DIFFERS, _DIFFERS, "whether this user is known cannot be said from the archive alone",
                        "pack --user UID:GID needs no look-up"),
    "passwd-odd": Rule(_WORKS, _WORKS, "no regular file: inputs and caches stay root's for a user that is not"),
    "command-type": Rule(_DIFFERS, _DIFFERS, "entrypoint and cmd are lists of strings or null: a task without run.path "
                         "fails", 'like ["/bin/sh"]'),
    "no-command": Rule(_WORKS, _WORKS, "neither entrypoint nor cmd: a task needs a run.path"),
    # What the key says
    "version": Rule(_FAILS, _FAILS, "the resource takes no version from this key", "pack --version-as sets another"),
}  # fmt: skip
"""What each code means, and how the tools fare with it."""
