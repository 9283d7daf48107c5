"""The main job on an image that comes with the tests: registry -> `fetch | pack` -> bucket. Needs no network.

    python -m tests.demo

Registry and bucket are servers within this process, on free ports of 127.0.0.1; the commands are real processes. The
exit status is 0 only if every step went as it should.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import shlex
import subprocess
import sys
import tarfile
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from stat import filemode
from typing import TYPE_CHECKING

from tests.make_fixtures import TAG, load
from tests.servers.moto import S3Endpoint, endpoint, moto_server
from tests.servers.registry import FakeRegistry

if TYPE_CHECKING:
    from collections.abc import Iterator

_KEY = f"zones/zones-{TAG}.tgz"
_SECONDS = 60


class WrongError(Exception):
    """Something is not as it should be."""


def main() -> int:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # the bucket's server would report every request
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1"
    try:
        with _servers() as (reference, bucket):
            _demonstrate(reference, bucket)
    except (WrongError, subprocess.TimeoutExpired) as error:
        print(f"\nThe demonstration failed: {error}", file=sys.stderr)
        return 1
    return 0


@contextmanager
def _servers() -> Iterator[tuple[str, S3Endpoint]]:
    with FakeRegistry() as registry, moto_server() as url, endpoint(url, "images") as bucket:
        image = load()
        reference = registry.add("zones", TAG, image.manifest, image.media_type, image.blobs)
        print(f"A registry on {registry.host} serves zones:{TAG}, {len(image.blobs) - 1} layers; a bucket is at {url}.")
        yield str(reference), bucket


def _demonstrate(reference: str, bucket: S3Endpoint) -> None:
    url = f"s3://{bucket.bucket}/{_KEY}"
    print("\nThe image, through a pipe, into the bucket:")
    _run(["fetch", reference], ["pack", "-o", url], environment={"AWS_ENDPOINT_URL_S3": bucket.endpoint})
    print("\nThe same in one process, into a file here:")
    name = _run(["pack", reference]).strip()

    archive = Path(name).read_bytes()
    digests = {url: _sha256(bucket.body(_KEY)), name: _sha256(archive)}
    print("\nBoth are the same, byte for byte:")
    for where, digest in digests.items():
        print(f"  {digest}  {where}")
    _require(len(set(digests.values())) == 1, "they differ")

    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        print(f"\nWhat is in {name}:")
        for member in files:
            print(f"  {_line(member)}")
        metadata = _read(files, "metadata.json")
        print(f"\nIts metadata.json, from which Concourse learns how to run a task:\n{metadata.decode()}")
        _check(files, json.loads(metadata))
    print(f"The archive is {Path(name).resolve()}, {len(archive)} bytes.")


def _line(member: tarfile.TarInfo) -> str:
    """Show an entry as `tar tv` does."""
    link = f" link to {member.linkname}" if member.islnk() else f" -> {member.linkname}" if member.issym() else ""
    kind = "d" if member.isdir() else "h" if member.islnk() else "l" if member.issym() else "-"
    when = datetime.fromtimestamp(member.mtime, UTC)
    owner = f"{member.uid}/{member.gid}"
    return f"{kind}{filemode(member.mode)[1:]} {owner:9} {member.size:6} {when:%Y-%m-%d %H:%M} {member.name}{link}"


def _check(files: tarfile.TarFile, metadata: dict[str, object]) -> None:
    """See that what the image's upper layers do to the lower ones has been done."""
    names = files.getnames()
    _require(set(metadata) == {"env", "user", "entrypoint", "cmd"}, f"metadata.json has the keys {sorted(metadata)}")
    _require(metadata["user"] == "zones", "the user is lost")
    zones = "rootfs/usr/share/zoneinfo"
    for removed in (f"{zones}/Etc/UTC", f"{zones}/Asia/Tokyo", "rootfs/var/old", "rootfs/var/cache/zones/by-country"):
        _require(removed not in names, f"{removed} was removed in the image, and is in the archive")
    for link in ("UTC", "Zulu", "Universal", "Etc/Zulu"):
        _require(_read(files, f"{zones}/{link}").startswith(b"TZif"), f"{link} has lost its content")
    _require(not any(".wh." in name for name in names), "a whiteout is in the archive")
    _require(not any(name.startswith("rootfs/dev/") for name in names), "a device node is in the archive")


def _run(*commands: list[str], environment: dict[str, str] | None = None) -> str:
    """Run ocirootfs once, or several times in a pipe, and return what the last one prints; all must succeed."""
    shown = " | ".join(shlex.join(["ocirootfs", *command]) for command in commands)
    print(f"  $ {shown}", flush=True)
    variables = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", **(environment or {})}
    running: list[subprocess.Popen[bytes]] = []
    for command in commands:
        process = subprocess.Popen(
            [sys.executable, "-m", "ocirootfs", *command],
            stdin=running[-1].stdout if running else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env=_inherited() | variables,
        )
        if running and running[-1].stdout:
            running[-1].stdout.close()  # its reader has it now, and is the only one to keep it alive
        running.append(process)
    try:
        output = running[-1].communicate(timeout=_SECONDS)[0].decode()
        statuses = [process.wait(_SECONDS) for process in running]
    finally:
        for process in running:
            process.kill()
            process.wait()
    print(f"  {output}", end="", flush=True)
    _require(not any(statuses), f"the exit statuses of {shown} are {statuses}")
    return output


def _inherited() -> dict[str, str]:
    """Return the environment without what would send the commands elsewhere."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "OCIROOTFS_"))}


def _read(files: tarfile.TarFile, name: str) -> bytes:
    try:
        file = files.extractfile(name)
    except KeyError:
        file = None
    if file is None:
        raise WrongError(f"there is no {name} in the archive")
    return file.read()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _require(truth: bool, otherwise: str) -> None:
    if not truth:
        raise WrongError(otherwise)


if __name__ == "__main__":
    sys.exit(main())
