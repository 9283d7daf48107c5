"""Ceph's S3 gateway over TLS, with a monitor and one store in memory, all on free ports of 127.0.0.1.

Needs Debian's radosgw, ceph-mon, ceph-osd and ceph-common; no root, and no systemd. Over TLS it refuses boto3's default
checksums with 411, as many stores in air-gapped places do.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
import uuid
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROGRAMS = ("radosgw", "radosgw-admin", "ceph-mon", "ceph-osd", "ceph", "ceph-authtool", "monmaptool")
KEY = "testkey"
SECRET = "testsecret"
# Somebody who may do nothing but what a bucket's policy says.
LIMITED = "limited"
LIMITED_KEY = "limitedkey"

_SECONDS = 90

_CONF = """\
[global]
fsid = {fsid}
monmap = {folder}/monmap
mon initial members = a
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
keyring = {folder}/keyring
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon warn on pool no redundancy = false
mon data avail warn = 1
mon data avail crit = 1
mon osd full ratio = .99
run dir = {folder}
pid file = {folder}/$name.pid
admin socket = {folder}/$name.asok
log file = {folder}/$name.log
ms bind msgr2 = false
public addr = 127.0.0.1
cluster addr = 127.0.0.1
heartbeat addr = 127.0.0.1
setuser match path =
[mon.a]
mon data = {folder}/mon
mon addr = 127.0.0.1:{monitor}
[osd.0]
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = 2147483648
osd max object name len = 256
osd max object namespace len = 64
[client.rgw]
rgw frontends = beast ssl_endpoint=127.0.0.1:{gateway} ssl_certificate={certificate}
rgw enable apis = s3, admin, sts
rgw thread pool size = 32
rgw dns name = localhost
"""


@contextmanager
def ceph_server(folder: Path, certificate: Path) -> Iterator[str]:
    """Run Ceph in `folder`; `certificate` is a PEM file for localhost with its key. Gives the URL of the gateway."""
    monitor, gateway = _free_ports(2)
    fsid = str(uuid.uuid4())
    ports = {"monitor": monitor, "gateway": gateway}
    conf = folder / "ceph.conf"
    conf.write_text(_CONF.format(fsid=fsid, folder=folder, certificate=certificate, **ports))
    for name in ("mon", "osd"):
        (folder / name).mkdir()
    _make_keys(folder)
    monmap = ["--create", "--fsid", fsid, "--addv", "a", f"[v1:127.0.0.1:{monitor}]", str(folder / "monmap")]
    _call("monmaptool", *monmap)
    with ExitStack() as stack:
        _call(
            "ceph-mon", "-c", conf, "--mkfs", "-i", "a", "--monmap", folder / "monmap", "--keyring", folder / "keyring"
        )
        stack.enter_context(_running(folder, "ceph-mon", "-c", conf, "-i", "a", "-f"))
        store = str(uuid.uuid4())
        _call("ceph", "-c", conf, "--connect-timeout", _SECONDS, "osd", "new", store, "0")
        _call("ceph-osd", "-c", conf, "-i", "0", "--mkfs", "--osd-uuid", store)
        stack.enter_context(_running(folder, "ceph-osd", "-c", conf, "-i", "0", "-f"))
        process = stack.enter_context(_running(folder, "radosgw", "-c", conf, "-n", "client.rgw", "-f"))
        _wait(gateway, process, folder)
        for user, key in (("tester", KEY), (LIMITED, LIMITED_KEY)):
            words = ["--uid", user, "--display-name", user, "--access-key", key, "--secret-key", SECRET]
            _call("radosgw-admin", "-c", conf, "-n", "client.rgw", "user", "create", *words)
        yield f"https://localhost:{gateway}"


def _make_keys(folder: Path) -> None:
    keyring = folder / "keyring"
    _call("ceph-authtool", "--create-keyring", keyring, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
    for name in ("client.admin", "osd.0", "client.rgw"):
        capabilities = [word for kind in ("mon", "osd", "mgr") for word in ("--cap", kind, "allow *")]
        _call("ceph-authtool", keyring, "--gen-key", "-n", name, *capabilities)


def _call(program: str, *words: object) -> None:
    ran = subprocess.run([program, *map(str, words)], check=False, timeout=_SECONDS, capture_output=True, text=True)
    if ran.returncode:
        raise RuntimeError(f"{program} {words}: {ran.stderr[-2000:]}")


@contextmanager
def _running(folder: Path, program: str, *words: object) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / f"{program}.out").open("wb") as log:
        process = subprocess.Popen(
            [program, *map(str, words)], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=dict(os.environ)
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)


def _wait(port: int, process: subprocess.Popen[bytes], folder: Path) -> None:
    end = time.monotonic() + _SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 2).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    logs = "\n".join(path.read_text(errors="replace")[-2000:] for path in sorted(folder.glob("*.out")))
    raise RuntimeError(f"Ceph did not start:\n{logs}")


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [found.getsockname()[1] for found in sockets]
