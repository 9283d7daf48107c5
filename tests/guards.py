"""What keeps `unpack` inside its directory, each piece put to the test directly, and the ways to take it out.

`python -c 'from tests.guards import main; main()'` runs the checks on the package that is imported: as whoever we are,
and if that is root, once more as a user without rights. Nothing here needs pytest.
"""

from __future__ import annotations

import os
import stat
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ocirootfs.entry import Entry, Kind
from ocirootfs.errors import LocalError, UsageError
from ocirootfs.newdirectory import NewDirectory, empty
from ocirootfs.opendirectories import DIRECTORY, OpenDirectories
from ocirootfs.treewriter import Attributes, Losses, TreeWriter
from tests.mutants import Mutant

if TYPE_CHECKING:
    from collections.abc import Callable

NOBODY = 65534
TIME = 1_600_000_000_123_456_789


def entry(path: bytes, kind: Kind = Kind.FILE, mode: int = 0o644, **more: Any) -> Entry:
    return Entry(path, kind, mode, os.geteuid(), os.getegid(), TIME)._replace(**more)


class Scene:
    """A tree in the making, and what is outside it."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.root = place / "root"
        self.outside = place / "outside"
        for directory in (self.root, self.outside):
            directory.mkdir(mode=0o700)
        (self.outside / "canary").write_text("canary")
        self.descriptor = os.open(self.root, DIRECTORY)
        self.losses = Losses()

    def writer(self, *, owners: bool = False, keep_empty: bool = False) -> TreeWriter:
        return TreeWriter(self.descriptor, "root", Attributes(owners, True, keep_empty), self.losses)

    def untouched(self) -> None:
        assert [(path.name, path.read_text()) for path in self.outside.iterdir()] == [("canary", "canary")]
        assert stat.S_IMODE((self.outside / "canary").stat().st_mode) == stat.S_IMODE(0o666 & ~_umask())
        assert (self.outside / "canary").stat().st_nlink == 1
        assert (self.outside / "canary").stat().st_mtime_ns != TIME
        assert self.outside.stat().st_mtime_ns != TIME


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def refused(run: Callable[[], object]) -> str:
    """Return the message of the LocalError that `run` must end with."""
    try:
        run()
    except LocalError as error:
        return str(error)
    raise AssertionError("not refused")


def a_file_is_there(scene: Scene) -> None:
    (scene.root / "a").write_text("mine")
    message = refused(lambda: scene.writer().put(entry(b"a", size=3), [b"its"]))
    assert "takes its name for another one" in message
    assert (scene.root / "a").read_text() == "mine"


def a_symlink_is_there(scene: Scene) -> None:
    (scene.root / "a").symlink_to(scene.outside / "canary")
    (scene.root / "b").symlink_to(scene.outside / "new")
    for name in (b"a", b"b"):
        for each in (entry(name, size=3), entry(name, Kind.FIFO), entry(name, Kind.SYMLINK, link=b"x")):
            refused(lambda each=each: scene.writer().put(each, [b"its"]))  # type: ignore[misc]
        refused(lambda name=name: scene.writer().put(entry(name + b"/x", size=3), [b"its"]))  # type: ignore[misc]


def a_directory_is_there(scene: Scene) -> None:
    """As on a file system that takes `D` for `d`."""
    (scene.root / "d").mkdir()
    refused(lambda: scene.writer().put(entry(b"d/a"), ()))
    refused(lambda: scene.writer().put(entry(b"d", Kind.DIRECTORY), ()))


def a_directory_becomes_a_symlink(scene: Scene) -> None:
    with scene.writer() as writer:
        writer.put(entry(b"d/e/a"), ())
        writer._directories.close_all()
        (scene.root / "d").rename(scene.root / "was")
        (scene.root / "d").symlink_to(scene.outside)
        refused(lambda: writer.put(entry(b"d/b", size=3), [b"its"]))
        refused(lambda: writer.put(entry(b"d", Kind.DIRECTORY), ()))
        (scene.root / "was" / "e" / "a").unlink()
        (scene.root / "was" / "e").rmdir()
        (scene.root / "was" / "e").symlink_to(scene.outside)
        (scene.root / "d").unlink()
        (scene.root / "was").rename(scene.root / "d")
        refused(lambda: writer.put(entry(b"d/e/b", size=3), [b"its"]))
    scene.untouched()


def links_are_not_followed(scene: Scene) -> None:
    target = os.fsencode(scene.outside / "canary")
    with scene.writer() as writer:
        writer.put(entry(b"s", Kind.SYMLINK, 0o777, link=target), ())
        writer.put(entry(b"d/h", Kind.HARDLINK, link=b"s"), ())
        writer.put(entry(b"d/i", Kind.HARDLINK, link=b"d/h"), ())
        writer.put(entry(b"d", Kind.DIRECTORY, 0o700), ())
    names = [scene.root / name for name in ("s", "d/h", "d/i")]
    assert len({path.lstat().st_ino for path in names}) == 1
    assert {path.lstat().st_mtime_ns for path in names} == {TIME}
    assert all(path.is_symlink() for path in names)
    scene.untouched()


def a_fifo_does_not_block(scene: Scene) -> None:
    done = threading.Thread(target=lambda: scene.writer().put(entry(b"f", Kind.FIFO, 0o604), ()), daemon=True)
    done.start()
    done.join(5)
    assert not done.is_alive(), "it waits for a writer"
    status = (scene.root / "f").lstat()
    assert (stat.S_IFMT(status.st_mode), stat.S_IMODE(status.st_mode)) == (stat.S_IFIFO, 0o604)
    assert status.st_mtime_ns == TIME


def nobody_enters_until_the_end(scene: Scene) -> None:
    with scene.writer() as writer:
        writer.put(entry(b"d/e/a"), ())
        for path in ("d", "d/e"):
            assert stat.S_IMODE((scene.root / path).stat().st_mode) == 0o700
        writer.put(entry(b"d/e", Kind.DIRECTORY, 0o2755), ())
        writer.put(entry(b"d", Kind.DIRECTORY, 0o1777), ())
    for path, mode in (("d/e", 0o2755), ("d", 0o1777)):
        status = (scene.root / path).stat()
        assert (stat.S_IMODE(status.st_mode), status.st_mtime_ns) == (mode, TIME), path


def set_ids_go_with_owners(scene: Scene) -> None:
    with scene.writer() as writer:
        writer.put(entry(b"a", mode=0o6755), ())
    assert stat.S_IMODE((scene.root / "a").stat().st_mode) == 0o755
    assert scene.losses.set_ids == [b"a"]
    if os.geteuid() == 0:
        with scene.writer(owners=True) as writer:
            writer.put(entry(b"b", mode=0o6711, uid=7, gid=8, size=1), [b"b"])
        status = (scene.root / "b").stat()
        assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o6711, 7, 8)


def xattrs_of_other_tools_are_not_written(scene: Scene) -> None:
    names = (
        b"user.ours",
        b"user.overlay.opaque",
        b"user.rootlesscontainers",
        b"security.selinux",
        b"trusted.overlay.x",
    )
    with scene.writer() as writer:
        writer.put(entry(b"a", mode=0o444, xattrs=tuple((name, b"y") for name in sorted(names))), ())
    assert set(os.listxattr(scene.root / "a")) <= {"user.ours"}
    assert scene.losses.xattrs or os.listxattr(scene.root / "a") == ["user.ours"]


def directories_are_closed(scene: Scene) -> None:
    """However many there are and however deep they go, few are open at a time."""
    before = _open_files()
    directories = OpenDirectories(scene.descriptor)
    deep = b"/".join([b"d" * 200] * 100)
    assert len(deep) > 4096
    for path in (*(b"d%d" % number for number in range(200)), deep):
        directories.of(path)
        assert _open_files() <= before + 34
    assert directories.has(deep)
    directories.close_all()
    assert _open_files() == before
    empty(scene.descriptor)
    assert list(scene.root.iterdir()) == []


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208  # a list


def all_is_removed_and_nothing_else(scene: Scene) -> None:
    with scene.writer() as writer:
        for path in (b"a/b/c/d/x", b"a/b/e/y", b"z"):
            writer.put(entry(path, mode=0), ())
        writer.put(entry(b"a/b/l", Kind.SYMLINK, link=os.fsencode(scene.outside)), ())
        writer.put(entry(b"m", Kind.SYMLINK, link=b"../outside"), ())
        for path, mode in ((b"a/b/c/d", 0o555), (b"a/b/c", 0), (b"a/b/e", 0o300), (b"a/b", 0o444), (b"a", 0)):
            writer.put(entry(path, Kind.DIRECTORY, mode), ())
        writer.put(entry(b"", Kind.DIRECTORY, 0o555), ())
    empty(scene.descriptor)
    assert list(scene.root.iterdir()) == []
    assert stat.S_IMODE(scene.root.stat().st_mode) == 0o700
    scene.untouched()


def the_place_is_taken(scene: Scene) -> None:
    (scene.place / "link").symlink_to("root")
    for name in ("outside", "outside/", "link", "outside/canary", ".", ""):
        try:
            NewDirectory(f"{scene.place}/{name}" if name.strip(".") else name)
        except UsageError:
            continue
        raise AssertionError(name)
    scene.untouched()
    assert sorted(path.name for path in scene.place.iterdir()) == ["link", "outside", "root"]


def an_abort_after_the_end_is_none(scene: Scene) -> None:
    target = NewDirectory(scene.place / "new")
    part = target._part
    TreeWriter(target.descriptor, "new", Attributes(), Losses()).put(entry(b"a"), ())
    parts = [path for path in scene.place.iterdir() if path.name == part]
    assert [stat.S_IMODE(path.stat().st_mode) for path in parts] == [0o700]
    parts[0].rename(scene.place / "new")  # as when a signal comes right after that
    target.abort()
    assert (scene.place / "new" / "a").exists()


def the_replaced_keeps_its_mode(scene: Scene) -> None:
    (scene.place / "mine").mkdir()
    (scene.place / "mine").chmod(0o710)
    target = NewDirectory(scene.place / "mine")
    TreeWriter(target.descriptor, "mine", Attributes(), Losses()).put(entry(b"", Kind.DIRECTORY, 0o755), ())
    target.commit()
    assert stat.S_IMODE((scene.place / "mine").stat().st_mode) == 0o710


CHECKS = (
    a_file_is_there, a_symlink_is_there, a_directory_is_there, a_directory_becomes_a_symlink, links_are_not_followed,
    a_fifo_does_not_block, nobody_enters_until_the_end, set_ids_go_with_owners, xattrs_of_other_tools_are_not_written,
    directories_are_closed, all_is_removed_and_nothing_else, the_place_is_taken, an_abort_after_the_end_is_none,
    the_replaced_keeps_its_mode,
)  # fmt: skip


def run(check: Callable[[Scene], None]) -> None:
    with tempfile.TemporaryDirectory() as place:
        scene = Scene(Path(place))
        try:
            check(scene)
        finally:
            empty(scene.descriptor)
            os.close(scene.descriptor)


def main() -> None:
    """Run every check; any exception if one fails."""
    for check in CHECKS:
        run(check)
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        for check in CHECKS:
            run(check)


MUTANTS = [
    Mutant("a file that is there is written over", "treewriter", "os.O_CREAT | os.O_EXCL |", "os.O_CREAT |"),
    Mutant("a named pipe is waited for", "treewriter", "os.O_RDONLY | os.O_NONBLOCK |", "os.O_RDONLY |"),
    Mutant("a link in the way of a directory is followed", "opendirectories", " | os.O_NOFOLLOW", ""),
    Mutant(
        "a directory that is there is entered",
        "opendirectories",
        "        os.mkdir(name, 0o700, dir_fd=parent.descriptor)",
        "        if name not in map(os.fsencode, os.listdir(parent.descriptor)):\n"
        "            os.mkdir(name, 0o700, dir_fd=parent.descriptor)",
    ),
    Mutant("directories are open to all at once", "opendirectories", "0o700", "0o755"),
    Mutant("directories stay open", "opendirectories", "if len(self._open) > _LIMIT:", "if len(self._open) > 9999:"),
    Mutant(
        "a hard link to a symlink is one to its target",
        "treewriter",
        "dst_dir_fd=here, follow_symlinks=False",
        "dst_dir_fd=here",
    ),
    Mutant(
        "a symlink's time is its target's",
        "treewriter",
        "ns=_times(entry), dir_fd=parent, follow_symlinks=False",
        "ns=_times(entry), dir_fd=parent",
    ),
    Mutant("set-ids stay without owners", "treewriter", "mode &= ~_SET_IDS", "pass"),
    Mutant(
        "set-ids are lost to chown",
        "treewriter",
        "            os.fchmod(descriptor, mode)\n",
        "            os.fchmod(descriptor, mode)\n"
        "            os.fchown(descriptor, *((entry.uid, entry.gid) if self._owners else (-1, -1)))\n",
    ),
    Mutant("other tools' xattrs are written", "treewriter", " or name.startswith(_RESERVED)", ""),
    Mutant(
        "links are entered when all is removed", "newdirectory", "entry.is_dir(follow_symlinks=False)", "entry.is_dir()"
    ),
    Mutant("what is closed cannot be removed", "newdirectory", "os.chmod(name, 0o700, dir_fd=parent)", "pass"),
    Mutant(
        "what is read-only cannot be removed",
        "newdirectory",
        "        os.fchmod(descriptor, 0o700)\n",
        "        pass\n",
    ),
    Mutant("the root stays as it is when all is removed", "newdirectory", "os.fchmod(root, 0o700)", "pass"),
    Mutant("a directory with files is replaced", "newdirectory", "if not is_empty(descriptor):", "if False:"),
    Mutant("a link is taken for the place", "newdirectory", "if not stat.S_ISDIR(found.st_mode):", "if False:"),
    Mutant("the unfinished can be entered", "newdirectory", "os.mkdir(self._part, 0o700", "os.mkdir(self._part, 0o755"),
    Mutant(
        "what has been renamed is removed",
        "newdirectory",
        "        except FileNotFoundError:\n            return False",
        "        except FileNotFoundError:\n            return True",
    ),
    Mutant("the replaced one's mode is lost", "newdirectory", "stat.S_IMODE(replaced.st_mode)", "0o755"),
]
