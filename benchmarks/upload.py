"""Our upload of a stream beside boto3's `upload_fileobj` and `aws s3 cp -`, into a sink that forgets what it gets.

    python -m benchmarks.upload [--size 1024] [--rounds 5]

Every round runs each of them once, in turn, on the same bytes through a pipe. The `aws` command is found in PATH, or
named with --aws, because it pins versions of boto3's core and wants an environment of its own. All have their defaults.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from benchmarks import images, measure

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.measure import Cost

_MIB = 1 << 20
_PIECE = 1 << 16
# The upload alone, of standard input.
OURS = """
import sys
from ocirootfs.s3.destination import S3Destination
from ocirootfs.s3.url import S3Options, S3Url
target = S3Destination(S3Url("bucket", "ours"), S3Options(jobs=int(sys.argv[1]) if sys.argv[1:] else 3))
try:
    while block := sys.stdin.buffer.read1(1 << 19):
        target.write(block)
    target.commit()
except BaseException:
    target.abort()
    raise
"""
_BOTO3 = """
import sys, boto3
boto3.client("s3").upload_fileobj(sys.stdin.buffer, "bucket", "theirs")
"""


class _Sink(BaseHTTPRequestHandler):
    """As much of S3 as an upload needs; its ETags are no MD5s, so that nobody compares them."""

    protocol_version = "HTTP/1.1"
    server: _Server
    _buffer = bytearray(_MIB)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def do_PUT(self) -> None:
        self._drain()
        self._answer("", ETag='"sink-1"')

    def do_POST(self) -> None:
        self._drain()
        if "uploadId" in urlsplit(self.path).query:
            self._answer('<CompleteMultipartUploadResult><ETag>"sink-2"</ETag></CompleteMultipartUploadResult>')
        else:
            self._answer("<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>")

    def _drain(self) -> None:
        if self.headers.get("Expect", "").lower() == "100-continue":
            self.wfile.flush()
        left = int(self.headers.get("Content-Length", 0))
        view = memoryview(self._buffer)
        rate, begun, taken = self.server.rate, time.monotonic(), 0
        while left:
            count = self.rfile.readinto(view[: min(left, _PIECE if rate else _MIB)]) or left
            left, taken = left - count, taken + count
            if rate:
                time.sleep(max(0.0, begun + taken / rate - time.monotonic()))

    def _answer(self, text: str, **headers: str) -> None:
        self.send_response(200)
        for name, value in {"Content-Length": str(len(text)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text.encode())


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    rate: float | None = None


@contextmanager
def sink(rate: float | None = None) -> Iterator[str]:
    """Run a store that forgets what it gets, at most `rate` bytes a second on each connection; gives its URL."""
    server = _Server(("127.0.0.1", 0), _Sink)
    server.rate = rate
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


@dataclass
class _Contestant:
    name: str
    command: list[str]
    costs: list[Cost] = field(default_factory=list)


def _contestants(aws: str | None) -> list[_Contestant]:
    found = [
        _Contestant("ocirootfs", [sys.executable, "-c", OURS]),
        _Contestant("boto3 upload_fileobj", [sys.executable, "-c", _BOTO3]),
    ]
    program = aws or shutil.which("aws")
    return [*found, _Contestant("aws s3 cp -", [program, "s3", "cp", "-", "s3://bucket/aws"])] if program else found


def _stream(path: Path, megabytes: int) -> None:
    block = Random(1).randbytes(_MIB)
    with path.open("wb") as file:
        for _ in range(megabytes):
            file.write(block)


def _table(found: list[_Contestant], megabytes: int) -> Iterator[str]:
    yield "| | MB/s: median (min-max) | wall s | CPU s | peak MB |"
    yield "|---|---|---|---|---|"
    for one in found:
        speeds = [megabytes * _MIB / 1e6 / cost.wall for cost in one.costs]
        cells: list[Any] = [
            one.name,
            measure.spread(speeds, 0),
            measure.spread([cost.wall for cost in one.costs]),
            f"{statistics.median(cost.cpu for cost in one.costs):.2f}",
            f"{max(cost.peak for cost in one.costs) / 1024:.0f}",
        ]
        yield f"| {' | '.join(cells)} |"


def main() -> None:
    words = argparse.ArgumentParser(prog="python -m benchmarks.upload", description=__doc__.partition("\n")[0])
    words.add_argument("--size", type=int, default=1024, metavar="MIB")
    words.add_argument("--rounds", type=int, default=5)
    words.add_argument("--aws", metavar="PROGRAM")
    chosen = words.parse_args()
    found = _contestants(chosen.aws)
    images.CACHE.mkdir(parents=True, exist_ok=True)
    path = images.CACHE / "stream"
    _stream(path, chosen.size)
    load = os.getloadavg()[0]
    with sink() as url:
        os.environ.update(
            AWS_ENDPOINT_URL_S3=url, AWS_ACCESS_KEY_ID="x", AWS_SECRET_ACCESS_KEY="x", AWS_DEFAULT_REGION="us-east-1"
        )
        for number in range(chosen.rounds):
            print(f"round {number + 1} of {chosen.rounds}", file=sys.stderr)
            for one in found:
                one.costs.append(measure.run([["cat", str(path)], one.command]))
    path.unlink()
    print("\n".join(_table(found, chosen.size)))
    print(f"\nA stream of {chosen.size} MiB, {chosen.rounds} rounds; {measure.machine()}, load {load:.2f} before.")


if __name__ == "__main__":
    main()
