"""A Concourse worker in small: volumes, images and containers, as unprivileged as the real one's.

Everything runs in a user namespace that has the worker's own mapping, container root being the host's highest id, with
programs of the operating system alone: util-linux's `unshare`, `mount` and `setpriv`, and a real `tar` and `gunzip`.
Where a machine has no user namespaces, its root takes their place, in a mount namespace.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_SECONDS = 60
_SYSTEM = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
_DEVICES = ("null", "zero", "full", "random", "urandom")


class ContainerError(Exception):
    """No container, or what ran in it failed."""


class Programs(NamedTuple):
    """The words that start them."""

    tar: tuple[str, ...]
    gunzip: tuple[str, ...]


PROGRAMS = {
    "gnu": Programs(("tar",), ("gunzip",)),
    "busybox": Programs(("busybox", "tar"), ("busybox", "gunzip")),
}


# User namespaces


class Ids(NamedTuple):
    """How a worker maps its containers' ids: root to `root`, and the others to themselves."""

    root: int

    @property
    def lines(self) -> str:
        return f"0 {self.root} 1\n1 1 {self.root - 1}\n"


def ids_here() -> Ids | None:
    """Return the mapping that this machine allows; None where there are no user namespaces."""
    if subprocess.run(["unshare", "--user", "true"], check=False, capture_output=True).returncode:
        return None
    ends = []
    for kind in ("uid_map", "gid_map"):
        rows = [list(map(int, line.split())) for line in Path("/proc/self", kind).read_text().splitlines()]
        ends.append(max(inside + count for inside, _, count in rows))
    return Ids(min(ends) - 1)


def has_mount_namespaces() -> bool:
    return subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode == 0


# What a container of an image is started with


class Image(NamedTuple):
    """A directory with `metadata.json` and `rootfs/`."""

    place: Path

    @property
    def rootfs(self) -> Path:
        return self.place / "rootfs"

    def metadata(self) -> dict[str, Any]:
        """Read `metadata.json` as Concourse does, which takes nothing but a regular file."""
        file = self.place / "metadata.json"
        if file.is_symlink() or not file.is_file():
            raise ContainerError("stream image metadata file: file not found. Is the image in rootfs format?")
        found: dict[str, Any] = json.loads(file.read_bytes())
        for key in ("env", "entrypoint", "cmd"):
            value = found.get(key)
            if value is not None and not (isinstance(value, list) and all(isinstance(text, str) for text in value)):
                raise ContainerError(f"malformed image metadata: {key}")
        if not isinstance(found.get("user", ""), str):
            raise ContainerError("malformed image metadata: user")
        return found

    def lines(self, name: str) -> list[list[str]]:
        """Return the columns of /etc/passwd or /etc/group."""
        file = self.rootfs / "etc" / name
        if file.is_symlink() or not file.is_file():
            return []
        return [line.split(":") for line in file.read_text().splitlines() if line.strip()]


class User(NamedTuple):
    uid: int
    gid: int
    home: str


def user_of(image: Image, name: str) -> User:
    """Look a user up: `name`, `uid`, `name:group`, `uid:gid`; no user is root, who need not be listed."""
    who, _, group = name.partition(":")
    passwd = image.lines("passwd")
    row = next((row for row in passwd if who in (row[0], row[2])), None) if who else None
    if row is not None:
        uid, gid = int(row[2]), int(row[3])
    elif who in ("", "root") or who.isdigit():
        uid, gid = int(who) if who.isdigit() else 0, 0
    else:
        raise ContainerError(f"unable to find user {who}: no matching entries in passwd file")
    if group:
        gid = _group(image, group)
    home = next((row[5] for row in passwd if row[2] == str(uid)), "/")
    return User(uid, gid, home)


def _group(image: Image, group: str) -> int:
    row = next((row for row in image.lines("group") if group in (row[0], row[2])), None)
    if row is None and not group.isdigit():
        raise ContainerError(f"unable to find group {group}: no matching entries in group file")
    return int(row[2] if row else group)


def environment(image: Image, user: User, params: Mapping[str, str], name: str) -> dict[str, str]:
    """Return what a process finds: the image's variables, the task's, USER, and what is never missing."""
    found = {}
    for text in image.metadata().get("env") or ():
        key, equals, value = text.partition("=")
        if not key or not equals or "\0" in text:
            raise ContainerError(f"invalid environment variable: {text!r}")
        found[key] = value
    found |= params
    if name:
        found["USER"] = name
    system = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" if user.uid == 0 else ""
    found.setdefault("PATH", system or "/usr/local/bin:/usr/bin:/bin")
    if not found.get("HOME"):
        found["HOME"] = user.home
    return found


def command_of(image: Image, run: Mapping[str, Any]) -> list[str]:
    """Return what a task runs: its path, or else the image's entrypoint and command; its arguments come last."""
    arguments = list(run.get("args", ()))
    if run.get("path"):
        return [run["path"], *arguments]
    metadata = image.metadata()
    words = [*(metadata.get("entrypoint") or ()), *(metadata.get("cmd") or ())]
    if not words:
        raise ContainerError("No executable defined for task")
    return [*words, *arguments]


# The worker


class Worker:
    """Runs commands as its containers' root, and processes in images. Everybody may enter its directories."""

    def __init__(self, place: Path, programs: Programs, ids: Ids | None) -> None:
        self._place = place
        self.programs = programs
        self._ids = ids
        self.volumes: list[Path] = []

    def volume(self) -> Path:
        """Make an empty directory that belongs to the containers' root."""
        place = self._place / f"volume-{len(self.volumes)}"
        place.mkdir()
        self.give(place)
        self.volumes.append(place)
        return place

    def give(self, path: Path) -> None:
        """Make a file or a directory, with all in it, the containers' root's."""
        root = self._ids.root if self._ids else 0
        for each in (path, *path.rglob("*")):
            os.chown(each, root, root, follow_symlinks=False)

    def command(self, program: Sequence[str], *arguments: str) -> None:
        """Run a program of the machine's; ContainerError if it fails."""
        done = self._inside('exec "$@"', [*program, *arguments])
        if done.returncode:
            said = done.stderr.decode(errors="replace")
            raise ContainerError(f"{program}: exit status {done.returncode}: {said[:1000]}")

    def run(
        self,
        image: Image,
        command: Sequence[str],
        *,
        params: Mapping[str, str] | None = None,
        mounts: Mapping[str, Path] | None = None,
        cwd: str = "/tmp/build",
        user: str | None = None,
        stdin: bytes = b"",
    ) -> str:
        """Run a process in an image's files and return its output; `mounts` are directories by where they appear.

        ContainerError if it cannot be started or fails. What it writes outside its mounts stays in the image.
        """
        name = image.metadata().get("user", "") if user is None else user
        who = user_of(image, name)
        variables = environment(image, who, params or {}, name)
        binds = [text for where, place in (mounts or {}).items() for text in (str(place), where)]
        enter = ["env", "-i", *(f"{key}={value}" for key, value in variables.items())]
        # unshare changes the root, the directory and the user, and only then looks for the program, in the new PATH.
        enter += ["/usr/bin/unshare", "--root", str(image.rootfs), "--wd", cwd]
        enter += ["--setgid", str(who.gid), "--setuid", str(who.uid), "--", *command]
        done = self._inside(_CONTAINER, [str(image.rootfs), cwd, str(len(binds) // 2), *binds, *enter], stdin)
        out = done.stdout.decode(errors="replace")
        if done.returncode:
            said = done.stderr.decode(errors="replace")
            raise ContainerError(f"{list(command)}: exit status {done.returncode}: {said[-1000:]}{out[-1000:]}")
        return out

    def _inside(self, script: str, words: Sequence[str], stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Run a script as the containers' root, which is in its namespaces, and mapped, when the script begins."""
        become = []
        if self._ids:
            root = self._ids.root
            become = ["setpriv", f"--reuid={root}", f"--regid={root}", "--clear-groups"]
        spaces = ["--mount", *(["--user"] if self._ids else [])]
        # A shell that came before the mapping has no rights; the next one has.
        wait = 'echo; read -r _; exec sh -euc "$@"'
        whole = [*become, "unshare", *spaces, "sh", "-c", wait, "sh", script, "sh", *words]
        pipe = subprocess.PIPE
        with subprocess.Popen(whole, stdin=pipe, stdout=pipe, stderr=pipe, env=_SYSTEM, cwd="/") as process:
            try:
                assert process.stdin is not None
                assert process.stdout is not None
                process.stdout.readline()
                if self._ids:
                    for kind in ("uid_map", "gid_map"):
                        Path(f"/proc/{process.pid}/{kind}").write_text(self._ids.lines)
                out, err = process.communicate(b"\n" + stdin, _SECONDS)
            finally:
                process.kill()
        return subprocess.CompletedProcess(whole, process.returncode, out, err)


# What a container is made of: devices of its own, and the mounts, which may have to be made. Then the process.
_CONTAINER = f"""\
root=$1 cwd=$2 mounts=$3
shift 3
mkdir -p "$root/dev" "$root/proc" "$root$cwd"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in {" ".join(_DEVICES)}; do
  : > "$root/dev/$device"
  mount --bind "/dev/$device" "$root/dev/$device"
done
mount --rbind /proc "$root/proc"
while [ "$mounts" -gt 0 ]; do
  mkdir -p "$root$2"
  mount --bind "$1" "$root$2"
  shift 2
  mounts=$((mounts - 1))
done
exec "$@"
"""


@contextmanager
def worker(programs: Programs, ids: Ids | None) -> Iterator[Worker]:
    """Give a worker whose volumes end with it."""
    with tempfile.TemporaryDirectory(prefix="worker", dir="/tmp") as place:
        Path(place).chmod(0o755)
        yield Worker(Path(place), programs, ids)
