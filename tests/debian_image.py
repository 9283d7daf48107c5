"""A Debian image of eight layers, made as people make them: real packages, real apt-get and dpkg, podman's overlay.

    python -m tests.debian_image DIRECTORY

Needs root, mmdebstrap and podman, and the sources that the machine itself installs packages from. mmdebstrap makes the
base; each further layer is what one command changed, as the kernel's overlayfs recorded it. Takes a minute or two.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SECONDS = 240
_APT = "DEBIAN_FRONTEND=noninteractive apt-get -q -y -o APT::Sandbox::User=root"
_INSTALL = f"{_APT} --no-install-recommends install"

STEPS = {
    "setuid and setgid programs, a capability, symlinks of every kind": [
        f"{_APT} update",
        f"{_INSTALL} git iputils-ping openssh-client cron libcap2-bin less",
    ],
    "one name of a hard link changes, so that overlayfs breaks it up and the other keeps the old mode": [
        "chmod 4755 /usr/bin/perl",
        "chmod 0700 /usr/share/perl",
        "touch -d 2001-02-03T04:05:06.789 /etc/hostname",
    ],
    "removals: whiteouts of files and of whole directories, while configuration stays": [
        f"{_APT} remove git cron",
        f"{_APT} autoremove",
    ],
    "a purge, an upgrade, and two packages whose files are all replaced": [
        f"{_APT} purge cron",
        f"{_APT} upgrade",
        f"{_INSTALL} --reinstall perl-base passwd",
        "rm -rf /var/lib/apt/lists",
    ],
    "directories made anew, which overlayfs marks opaque, and one type of file in place of another": [
        "rm -rf /usr/share/doc /usr/share/man /var/log /usr/share/locale /usr/share/info /usr/bin/which",
        "mkdir -m 1777 /usr/share/doc",
        "echo new >/usr/share/doc/readme",
        "mkdir -p /usr/share/man/man1 /var/log",
        "ln -s doc /usr/share/locale",
        "mkdir /usr/bin/which",
        "echo x >/usr/bin/which/x",
        "mkfifo -m 0622 /usr/share/info",
        "mv /usr/share/bash-completion /usr/share/moved",
    ],
    "what a volume of data holds: owners, modes, links, odd names, sparse contents": [
        "mkdir -p -m 2775 /srv/data/deep",
        "cd /srv/data",
        "chown 1000:33 . deep",
        "cp -a /bin/ls one",
        "ln one two",
        "ln one deep/three",
        "ln two /usr/lib/four",
        "ln -s ../../../../../../etc/passwd up",
        "ln -s /nowhere dangling",
        "ln dangling deep/dangling-too",
        "truncate -s 8M sparse",
        "echo end >>sparse",
        "chown 65534:65534 sparse",
        'touch "$(printf "not\\377utf-8\\nname")"',
        "mkdir -m 0000 closed",
        "mkdir -m 0555 closed/inside",
        "setcap cap_net_bind_service=ep one",
    ],
    "a file with links and a capability loses one name, and a directory with another is made anew": [
        "rm /srv/data/one",
        "echo again >/srv/data/one",
        "rm -rf /srv/data/deep",
        "mkdir /srv/data/deep",
        "chmod 0711 /srv/data",
        "ln /srv/data/two /srv/data/deep/late",
    ],
}
"""What each layer above the base is for, and made by."""

LAYERS = len(STEPS) + 1


def layout(driver: str = "overlay", steps: Mapping[str, Sequence[str]] = STEPS) -> Path:
    """Return the image of some steps as an OCI layout with the tag `1`: built once, and kept in the user's cache."""
    key = hashlib.sha256(Path(__file__).read_bytes() + json.dumps(steps).encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ocirootfs-tests"
    place = cache / f"debian-{driver}-{key}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # not twice at a time
        return _layout(place, driver, steps)


def _layout(place: Path, driver: str, steps: Mapping[str, Sequence[str]]) -> Path:
    if not (place / "index.json").exists():
        with tempfile.TemporaryDirectory(prefix="building-", dir=place.parent) as workshop:
            made = build(Path(workshop), driver, steps)
            shutil.rmtree(place, ignore_errors=True)
            made.rename(place)  # all or nothing
    return place


def build(workshop: Path, driver: str = "overlay", steps: Mapping[str, Sequence[str]] = STEPS) -> Path:
    """Build the image in an empty directory, and return its OCI layout there. `driver` is podman's storage driver."""
    context = workshop / "context"
    context.mkdir()
    _base(workshop / "apt", context / "base.tar")
    (context / "Containerfile").write_text(
        "\n".join(["FROM scratch", "ADD base.tar /", *map(_run, steps.values())]) + "\n"
    )
    with tempfile.TemporaryDirectory(prefix="podman", dir="/tmp") as run:  # whose path podman wants short
        podman = ["podman", f"--root={workshop}/storage", f"--runroot={run}", f"--storage-driver={driver}",
                  "--cgroup-manager=cgroupfs"]  # fmt: skip
        options = ["--isolation=chroot", "--network=host", "--layers", "--format=oci", "--quiet", "--tag=debian:1"]
        try:
            _program(*podman, "build", *options, str(context))
            _program(*podman, "push", "--quiet", "debian:1", f"oci:{workshop}/layout:1")
        finally:
            subprocess.run([*podman, "rmi", "--all", "--force"], capture_output=True, timeout=_SECONDS, check=False)
    return workshop / "layout"


def _run(commands: Sequence[str]) -> str:
    return "RUN " + json.dumps(["/bin/sh", "-ec", "\n".join(commands)])


def _base(folder: Path, archive: Path) -> None:
    """Make the smallest Debian that has apt-get."""
    release = dict(re.findall(r'^(\w+)="?([^"\n]*)', Path("/etc/os-release").read_text(), re.MULTILINE))
    codename = release["VERSION_CODENAME"]
    sources = _sources(folder, codename)
    _program("mmdebstrap", "--quiet", "--variant=apt", codename, str(archive), *sources)


class _Kind(NamedTuple):
    """A way to write sources down: the end of the file's name, what parts entries, and where the suite stands."""

    suffix: str
    between: str
    suite: str


_KINDS = [
    _Kind(".list", "\n", r"^deb\s+(?:\[[^]]*\]\s*)?\S+\s+{}\S*\s"),
    _Kind(".sources", "\n\n", r"(?m)^Suites:\s*{}(?:[-/\s]|$)"),
]


def _sources(folder: Path, codename: str) -> list[str]:
    """Copy those of the machine's sources that are the distribution's own."""
    folder.mkdir()
    etc = Path("/etc/apt")
    found = []
    for kind in _KINDS:
        files = sorted([*etc.glob(f"sources{kind.suffix}"), *etc.glob(f"sources.list.d/*{kind.suffix}")])
        entries = [entry for file in files for entry in re.split(kind.between + r"+", file.read_text())]
        own = [entry for entry in entries if re.search(kind.suite.format(codename), entry)]
        if own:
            copy = folder / f"own{kind.suffix}"
            copy.write_text(kind.between.join(own) + "\n")
            found.append(str(copy))
    return found


def _program(*words: str) -> None:
    ran = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS, check=False)
    if ran.returncode:
        said = (ran.stdout[-2000:] + ran.stderr[-2000:]).decode(errors="replace")
        raise RuntimeError(f"{words[0]} failed with status {ran.returncode}: {said}")


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True)
    print(build(target))
