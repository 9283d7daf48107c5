"""OpenStack Swift with its S3 API, all four servers on free ports of 127.0.0.1.

Needs `pip install swift` (or Debian's swift-proxy, -account, -container, -object), no root. Unlike moto it checks
signatures, digests, part sizes and part ETags. The keys are `test:tester` and `testing`.
"""

from __future__ import annotations

import os
import pwd
import socket
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEY = "test:tester"
SECRET = "testing"

_START_SECONDS = 40
_STORES = ("account", "container", "object")

_SWIFT_CONF = """\
[swift-hash]
swift_hash_path_suffix = s
swift_hash_path_prefix = p
[storage-policy:0]
name = Policy-0
default = yes
[swift-constraints]
max_header_size = 16384
"""

_COMMON = """\
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
swift_dir = {folder}
log_address = {folder}/no-syslog
"""

_STORE_CONF = """\
devices = {folder}/srv
mount_check = false
disable_fallocate = true
recon_cache_path = {folder}/recon
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
"""

_FILTERS = (
    "catch_errors gatekeeper healthcheck proxy-logging cache s3api tempauth copy slo dlo versioned_writes "
    "symlink proxy-logging"
)

_PROXY_CONF = f"""\
[pipeline:main]
pipeline = {_FILTERS} proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
allow_account_management = true
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:1
[filter:s3api]
use = egg:swift#s3api
allow_multipart_uploads = true
check_bucket_owner = false
location = us-east-1
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = {SECRET} .admin .reseller_admin
[filter:proxy-logging]
use = egg:swift#proxy_logging
""" + "".join(
    f"[filter:{name}]\nuse = egg:swift#{name}\n"
    for name in ("catch_errors", "gatekeeper", "healthcheck", "copy", "slo", "dlo", "symlink", "versioned_writes")
)

# One process for the three rings: swift-ring-builder takes nine, each with Python's start.
_RINGS = """\
import sys
from swift.common.ring import RingBuilder
for kind, port in zip(("account", "container", "object"), map(int, sys.argv[1:])):
    builder = RingBuilder(4, 1, 1)
    builder.add_dev({"id": 0, "region": 1, "zone": 1, "ip": "127.0.0.1", "port": port, "device": "d1",
                     "replication_ip": "127.0.0.1", "replication_port": port, "weight": 1, "meta": ""})
    builder.rebalance()
    builder.get_ring().save(kind + ".ring.gz")
"""


@contextmanager
def swift_server(proxy_program: Path, folder: Path) -> Iterator[str]:
    """Run Swift in `folder` (whose file system has user xattrs); gives the URL of its S3 API."""
    ports = _free_ports(4)
    _configure(folder, ports)
    _make_rings(proxy_program, folder, ports[1:])
    with ExitStack() as stack:
        processes = [
            stack.enter_context(_running(proxy_program.with_name(f"swift-{kind}-server"), kind, folder))
            for kind in (*_STORES, "proxy")
        ]
        url = f"http://127.0.0.1:{ports[0]}"
        for port in ports:  # the proxy answers before the stores do
            _wait(f"http://127.0.0.1:{port}/healthcheck", processes, folder)
        yield url


def _configure(folder: Path, ports: list[int]) -> None:
    for name in ("srv/d1", "recon"):
        (folder / name).mkdir(parents=True)
    (folder / "swift.conf").write_text(_SWIFT_CONF)
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # only read by a server that is root
        user = "nobody"
    for kind, port in zip(("proxy", *_STORES), ports, strict=True):
        rest = _PROXY_CONF if kind == "proxy" else _STORE_CONF.format(folder=folder, kind=kind)
        common = _COMMON.format(port=port, user=user, folder=folder)
        (folder / f"{kind}-server.conf").write_text(common + rest)


def _make_rings(program: Path, folder: Path, ports: list[int]) -> None:
    with program.open() as script:
        python = script.readline().removeprefix("#!").split()
    subprocess.run(
        [*python, "-c", _RINGS, *map(str, ports)], cwd=folder, env=_environment(folder), check=True, timeout=60
    )


@contextmanager
def _running(program: Path, kind: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / f"{kind}.log").open("wb") as log:
        process = subprocess.Popen(
            [program, f"{kind}-server.conf", "-v"],
            cwd=folder,
            env=_environment(folder),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(3)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)


def _environment(folder: Path) -> dict[str, str]:
    return os.environ | {"SWIFT_DIR": str(folder), "PYTHONWARNINGS": "ignore"}


def _wait(url: str, processes: list[subprocess.Popen[bytes]], folder: Path) -> None:
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end and all(process.poll() is None for process in processes):
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except urllib.error.HTTPError as error:  # an answer is an answer
            error.close()
            return
        except OSError:
            pass
        time.sleep(0.05)
    logs = "\n".join(path.read_text(errors="replace")[-2000:] for path in sorted(folder.glob("*.log")))
    raise RuntimeError(f"Swift did not start:\n{logs}")


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [found.getsockname()[1] for found in sockets]
