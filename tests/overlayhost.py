"""A container host in small: each layer extracted into a directory of its own, and the kernel's overlayfs over them.

It does what containerd's snapshotter and dockerd's overlay2 do, with nothing of the package: tarfile reads the layer,
plain system calls write it, `.wh.x` becomes a character device 0:0, `.wh..wh..opq` the extended attribute
`trusted.overlay.opaque`, and a parent that no entry lists takes the attributes that the layers below give it. Where
hosts fail, or do what the image specification forbids, `Deviates` says which case it is.

| code | what hosts do | why the result here is another |
| --- | --- | --- |
| X1 | a path and its whiteout in one layer: the pull fails, or lower content leaks | layer.md: only lower layers |
| X2 | an opaque marker at the root has no effect | layer.md: it hides all siblings of lower layers |
| X3 | a hard link whose target the layer does not have, or has not yet: the pull fails | layer.md: it "may fail" |
| X7 | types that Go does not know: the pull fails | harmless |
| B13 | a parent that is a file of the same layer: the pull fails | no loss |
| A2 | markers in a directory that a later entry of the layer replaces: hosts lose them | order is nothing |
| A18 | AUFS's own files show | moby#15996 |
| A21 | a hard link to a device 0:0: both names vanish | the device hides lower layers only |
| NAME | a name, a path or a time that the file system cannot hold | a tar can |
| E4 | the owner 2^32-1 means "unchanged" | it names nobody |

The attributes in a hard link's header are left out here as there (hosts set them on the inode), `trusted.` attributes
as well, and a directory listed twice has the attributes of its last entry alone.
"""

from __future__ import annotations

import errno
import io
import os
import stat
import tarfile
from contextlib import contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING

from tests import disk

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.model import Tree

FAILED_PULLS = {"X3", "X7", "B13"}
"""The deviations that end with an error on every host."""

_OPAQUE = "trusted.overlay.opaque"
_HOPS = 40
_NOBODY = 2**32 - 1
_TYPES = (
    *(tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE),
    *(tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.GNUTYPE_SPARSE),
)


class Refused(Exception):  # noqa: N818
    """No host accepts the layer."""

    at = (0, 0)
    """Which layer, from 0, and which of its entries it was."""


class Deviates(Exception):  # noqa: N818
    """Hosts do something else here than the specification: `code` says what, in the table above."""

    at = (0, 0)

    def __init__(self, code: str, path: str) -> None:
        super().__init__(code, path)
        self.code = code


def usable(folder: Path) -> str | None:
    """Try overlayfs out in an empty directory; why it cannot be used, or None."""
    try:
        layers = [[_file("d/x"), _file("y")], [_file("d/.wh..wh..opq"), _file(".wh.y")]]
        found, _ = stacked(list(map(_archive, layers)), folder)
    except OSError as error:
        return f"overlayfs cannot be mounted here: {error}"
    return None if found.keys() == {b"", b"d"} else "overlayfs does not hide what it is told to"


def _file(name: str) -> tarfile.TarInfo:
    return tarfile.TarInfo(name)


def _archive(members: Sequence[tarfile.TarInfo]) -> bytes:
    return b"".join(member.tobuf() for member in members) + bytes(1024)


def stacked(layers: Sequence[bytes], folder: Path) -> tuple[Tree, set[bytes]]:
    """Extract layers, bottom first, into an empty directory, stack and read them.

    Returns the tree, and the directories whose mtimes are when they were extracted. Raises Refused, Deviates, and
    OSError if overlayfs cannot be used.
    """
    host = _Host(folder)
    for plain in layers:
        host.apply(plain)
    with host.mounted() as top:
        tree = disk.tree(top)
    return tree, {path for path in tree if host.is_implied(path)}


class _Host:
    """The layers of one image, each in a directory named by its number; 0 is empty, for overlayfs wants two."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._implied: list[set[bytes]] = [set()]
        (folder / "0").mkdir()
        (folder / "mount").mkdir()

    def apply(self, plain: bytes) -> None:
        number = len(self._implied)
        (self._folder / str(number)).mkdir(mode=0o755)
        with self.mounted() as below:
            layer = _Layer(self._folder / str(number), below, is_base=number == 1)
            layer.extract(plain, number - 1)
        self._implied.append(layer.implied)

    @contextmanager
    def mounted(self) -> Iterator[Path]:
        target = self._folder / "mount"
        numbers = [str(number) for number in range(len(self._implied))]
        if len(numbers) == 1:  # there is nothing yet
            yield self._folder / "0"
            return
        disk.mount_overlay(numbers[::-1], self._folder, target)
        try:
            yield target
        finally:
            disk.unmount(target)

    def is_implied(self, path: bytes) -> bool:
        """Tell whether the topmost layer that has a directory does not list it."""
        for number in range(len(self._implied) - 1, 0, -1):
            if os.path.lexists(os.path.join(os.fsencode(self._folder), b"%d" % number, path)):  # noqa: PTH118
                return path in self._implied[number]
        return True


class _Layer:
    """One layer on its way into its directory."""

    def __init__(self, root: Path, below: Path, *, is_base: bool) -> None:
        self._root = os.fsencode(root)
        self._below = os.fsencode(below)
        self._is_base = is_base
        self.implied: set[bytes] = {b""}
        self._times: dict[bytes, int] = {}

    def extract(self, plain: bytes, number: int) -> None:
        with tarfile.open(
            fileobj=io.BytesIO(plain), mode="r:", encoding="utf-8", errors="surrogateescape", ignore_zeros=False
        ) as archive:
            for index, member in enumerate(archive):
                try:
                    self._take(archive, member)
                except (Refused, Deviates) as error:
                    error.at = number, index
                    raise
        for path in self.implied - {b""}:
            self._inherit(path)
        for path, nanoseconds in self._times.items():
            self._date(path, nanoseconds)

    def _take(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        try:
            self._apply(archive, member)
        except OSError as error:
            if error.errno in (errno.ENAMETOOLONG, errno.EOVERFLOW, errno.EINVAL):
                raise Deviates("NAME", member.name) from error
            raise

    def _apply(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        if member.type not in _TYPES:
            raise Deviates("X7", member.name)
        if "\0" in member.name + member.linkname or member.devmajor >= 1 << 12 or member.devminor >= 1 << 20:
            raise Refused(member.name)
        if not (0 <= member.uid < _NOBODY and 0 <= member.gid < _NOBODY):
            raise Deviates("E4", member.name)
        parts = _folded(os.fsencode(member.name))
        if not parts:
            if not member.isdir() and member.name:
                raise Refused(member.name)
            return
        above = self._followed(parts[:-1])
        if above and above[0].startswith(b".wh..wh."):
            raise Deviates("A18", member.name)
        parent = b"/".join(above)
        self._imply(parent, member)
        if parts[-1].startswith(b".wh."):
            self._mark(parent, parts[-1], member)
        else:
            self._put(archive, member, _joined(parent, parts[-1]))

    def _followed(self, parts: Sequence[bytes]) -> list[bytes]:
        """Resolve the symlinks of this layer among the parents of an entry, never leaving the directory."""
        done: list[bytes] = []
        todo = list(parts)
        hops = 0
        while todo:
            part = todo.pop(0)
            if part == b"..":
                del done[-1:]
            elif part not in (b"", b"."):
                target = self._link_at(b"/".join([*done, part]))
                if target is None:
                    done.append(part)
                    continue
                hops += 1
                if hops > _HOPS:
                    raise Refused(b"/".join(parts))
                done = [] if target.startswith(b"/") else done
                todo = target.split(b"/") + todo
        return done

    def _link_at(self, path: bytes) -> bytes | None:
        try:
            return os.readlink(self._real(path))  # noqa: PTH115
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            if error.errno == errno.EINVAL:  # not a symlink
                return None
            raise

    def _imply(self, parent: bytes, member: tarfile.TarInfo) -> None:
        parts = parent.split(b"/") if parent else []
        for count in range(1, len(parts) + 1):
            path = b"/".join(parts[:count])
            status = self._status(path)
            if status is None:
                os.mkdir(self._real(path), 0o755)  # noqa: PTH102
                self.implied.add(path)
            elif not stat.S_ISDIR(status.st_mode):
                raise Deviates("X1" if _is_whiteout(status) else "B13", member.name)

    def _inherit(self, path: bytes) -> None:
        """Give an implied directory what the layers below have there, as containerd does.

        What the layer itself hides by an opaque marker further up gives nothing, which is dockerd's way.
        """
        lower = os.path.join(self._below, path)  # noqa: PTH118
        parts = path.split(b"/")
        for count in range(1, len(parts) + 1):
            above = os.path.join(self._below, *parts[:count])  # noqa: PTH118
            if not os.path.isdir(above) or os.path.islink(above):  # noqa: PTH112, PTH114
                return
            if count < len(parts) and _OPAQUE in os.listxattr(self._real(b"/".join(parts[:count]))):
                return
        status = os.lstat(lower)
        os.chown(self._real(path), status.st_uid, status.st_gid)
        os.chmod(self._real(path), stat.S_IMODE(status.st_mode))  # noqa: PTH101
        for name in os.listxattr(lower):
            os.setxattr(self._real(path), name, os.getxattr(lower, name))

    def _mark(self, parent: bytes, name: bytes, member: tarfile.TarInfo) -> None:
        hidden = name[4:]
        if name == b".wh..wh..opq":
            if not parent and not self._is_base:
                raise Deviates("X2", member.name)
            os.setxattr(self._real(parent), _OPAQUE, b"y")
        elif hidden in (b"", b".", b".."):
            raise Refused(member.name)
        else:
            self._whiteout(_joined(parent, hidden), member)

    def _whiteout(self, path: bytes, member: tarfile.TarInfo) -> None:
        status = self._status(path)
        if status is None:
            os.mknod(self._real(path), stat.S_IFCHR, 0)
        elif not _is_whiteout(status):
            raise Deviates("X1", member.name)

    def _put(self, archive: tarfile.TarFile, member: tarfile.TarInfo, path: bytes) -> None:
        real = self._real(path)
        status = self._status(path)
        target = self._target(member) if member.islnk() else b""
        if member.islnk() and target == path:
            raise Deviates("X3", member.name)  # hosts remove it first, and then it is not there
        keeps = status is not None and member.isdir() and stat.S_ISDIR(status.st_mode)
        if status is not None and not keeps:
            if _is_whiteout(status) and member.isdir():
                raise Deviates("X1", member.name)
            self._remove(path)
        if member.islnk():
            self._link(target, real, member)
            return
        if not keeps:
            _make(archive, member, real)
        self.implied.discard(path)
        self._attributes(real, member)
        self._times.pop(path, None)
        if member.isdir():
            self._times[path] = _mtime(member)
        else:
            self._date(path, _mtime(member))

    def _target(self, member: tarfile.TarInfo) -> bytes:
        parts = _folded(os.fsencode(member.linkname), clamp=True)
        return b"/".join([*self._followed(parts[:-1]), *parts[-1:]])

    def _link(self, target: bytes, real: bytes, member: tarfile.TarInfo) -> None:
        status = self._status(target)
        if status is None:
            raise Deviates("X3", member.name)
        if stat.S_ISDIR(status.st_mode):
            raise Refused(member.name)
        if _is_whiteout(status):
            raise Deviates("A21", member.name)
        os.link(self._real(target), real, follow_symlinks=False)

    def _remove(self, path: bytes) -> None:
        real = self._real(path)
        status = os.lstat(real)
        if stat.S_ISDIR(status.st_mode):
            if _OPAQUE in os.listxattr(real):
                raise Deviates("A2", os.fsdecode(path))
            for name in os.listdir(real):  # noqa: PTH208
                if _is_whiteout(os.lstat(_joined(real, name))):
                    raise Deviates("A2", os.fsdecode(path))
                self._remove(_joined(path, name))
            os.rmdir(real)  # noqa: PTH106
            self.implied.discard(path)
            self._times.pop(path, None)
        else:
            os.unlink(real)  # noqa: PTH108

    def _attributes(self, real: bytes, member: tarfile.TarInfo) -> None:
        os.chown(real, member.uid, member.gid, follow_symlinks=False)
        if not member.issym():
            os.chmod(real, member.mode & 0o7777)  # noqa: PTH101
        if member.isdir():
            for name in os.listxattr(real):
                if not name.startswith("trusted."):
                    os.removexattr(real, name)
        for key, value in member.pax_headers.items():
            name = key.removeprefix("SCHILY.xattr.")
            on_plain = member.isfile() or member.isdir()
            if name != key and (name == "security.capability" or (name.startswith("user.") and on_plain)):
                os.setxattr(real, os.fsencode(name), os.fsencode(value), follow_symlinks=False)

    def _date(self, path: bytes, nanoseconds: int) -> None:
        real = self._real(path)
        os.utime(real, ns=(nanoseconds, nanoseconds), follow_symlinks=False)
        if os.lstat(real).st_mtime_ns != nanoseconds:
            raise Deviates("NAME", os.fsdecode(path))

    def _status(self, path: bytes) -> os.stat_result | None:
        try:
            return os.lstat(self._real(path))
        except FileNotFoundError:
            return None
        except NotADirectoryError:
            return None

    def _real(self, path: bytes) -> bytes:
        return self._root + b"/" + path if path else self._root


def _make(archive: tarfile.TarFile, member: tarfile.TarInfo, real: bytes) -> None:
    if member.isdir():
        os.mkdir(real)  # noqa: PTH102
    elif member.issym():
        if not member.linkname:
            raise Deviates("NAME", member.name)
        os.symlink(os.fsencode(member.linkname), real)  # noqa: PTH211
    elif member.isfile():
        body = archive.extractfile(member)
        with open(real, "xb") as file:  # noqa: PTH123
            file.write(body.read() if body else b"")
    else:
        kind = {tarfile.CHRTYPE: stat.S_IFCHR, tarfile.BLKTYPE: stat.S_IFBLK}.get(member.type, stat.S_IFIFO)
        os.mknod(real, kind | 0o600, 0 if kind == stat.S_IFIFO else os.makedev(member.devmajor, member.devminor))


def _is_whiteout(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def _mtime(member: tarfile.TarInfo) -> int:
    return int(Decimal(member.pax_headers.get("mtime", str(member.mtime))) * 10**9)


def _folded(name: bytes, *, clamp: bool = False) -> list[bytes]:
    parts: list[bytes] = []
    for part in name.split(b"/"):
        if part == b"..":
            if not parts and not clamp:
                raise Refused(name)
            parts = parts[:-1]
        elif part not in (b"", b"."):
            parts.append(part)
    return parts


def _joined(parent: bytes, name: bytes) -> bytes:
    return parent + b"/" + name if parent else name
