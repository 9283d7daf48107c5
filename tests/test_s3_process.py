"""Whole processes that upload: killed at any time, and short of memory."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
import signal
import subprocess
import tarfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from tests.commands import OCIROOTFS, environment, run_here, started
from tests.layers import build
from tests.memory import high_water, limited
from tests.servers.faulty_s3 import BUCKET, faulty_s3

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from tests.servers.moto import S3Endpoint

MIB = 1 << 20


# Killed


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An image of 24 MiB that does not compress, as `fetch` writes it."""
    body = base64.b64encode(random.Random(8).randbytes(24 * MIB))
    image = build([{"entries": [{"type": "file", "name": "a", "body_b64": body}], "wrap": "none"}])
    layout = image.layout(tmp_path_factory.mktemp("kills") / "layout")
    return run_here("fetch", f"oci:{layout}").ok.out


def feed(pipe: BinaryIO, stream: bytes, reading: threading.Event) -> None:
    """Write all but the end of a stream within about a second; the reader is at work once the pipe's buffer is full."""
    with suppress(OSError, ValueError):  # the pipe is closed, at that end or at this
        for start in range(0, len(stream) - 1024, MIB):
            pipe.write(stream[start : min(start + MIB, len(stream) - 1024)])
            reading.set()
            time.sleep(0.04)


def kill_one(stream: bytes, bucket: S3Endpoint, number: signal.Signals, seed: int) -> None:
    key = f"{number.name}-{seed}.tgz"
    words = ["-o", f"s3://{bucket.bucket}/{key}", "--endpoint-url", bucket.endpoint, "--part-size", "5MiB"]
    words += ["--progress", "none"]  # a busy machine would get to a line of it
    with started("pack", *words, bufsize=0) as process:
        assert process.stdin
        assert process.stderr
        reading = threading.Event()
        feeder = threading.Thread(target=feed, args=(process.stdin, stream, reading), daemon=True)
        feeder.start()
        assert reading.wait(60)
        time.sleep(random.Random(seed).uniform(0, 1.3))
        begun = time.monotonic()
        process.send_signal(number)
        status = process.wait(30)
        took = time.monotonic() - begun
        said = process.stderr.read().decode()
        feeder.join(30)
    assert status == 128 + number, said
    assert took < 5
    assert said == f"ocirootfs: {number.name}: stopped, and nothing was published\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("seed", range(0, 25, 5))
def test_killed_at_any_time(seed: int, number: signal.Signals, stream: bytes, s3: S3Endpoint) -> None:
    """Fifty uploads in all, five at a time."""
    with ThreadPoolExecutor(5) as pool:
        for ended in [pool.submit(kill_one, stream, s3, number, each) for each in range(seed, seed + 5)]:
            ended.result()
    assert (s3.keys(), s3.uploads()) == ([], [])


# Short of memory

LIMIT = 128 * MIB
# As the README says it: four parts, and a constant.
PEAK = (4 * 8 + 80) * MIB
BLOCKS = 2048  # of 1 MiB


@pytest.mark.timeout(400)
def test_two_gigabytes_in_128_megabytes() -> None:
    block = random.Random(9).randbytes(MIB // 2) + bytes(MIB // 2)
    with faulty_s3(discard=True) as state, limited(LIMIT) as limit:
        command = [*limit.prefix, *OCIROOTFS, "pack", "-", "-o", f"s3://{BUCKET}/a.tgz", "--endpoint-url", state.url]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()) as process:
            assert process.stdin
            assert process.stderr
            with process.stdin as pipe:
                pipe.writelines(big_image(block))
                pipe.flush()
                peak = high_water(process.pid)  # it still waits for the end of its input
            said = process.stderr.read().decode()
        assert process.returncode == 0, said
        assert state.objects["a.tgz"].size > BLOCKS * MIB / 2
        assert state.uploads == {}
    print(f"peak {peak / MIB:.1f} MiB, within a {limit.kind} of {LIMIT / MIB:.0f}")
    assert peak < PEAK


def big_image(block: bytes) -> Iterator[bytes]:
    """Yield an archive with one layer of 2 GiB, an OCI layout as `fetch` writes it."""
    head, end = header("a", BLOCKS * MIB), bytes(1024)
    hasher = hashlib.sha256(head)
    for _ in range(BLOCKS):
        hasher.update(block)
    hasher.update(end)
    size, layer = len(head) + BLOCKS * MIB + len(end), f"sha256:{hasher.hexdigest()}"
    config = document(
        {"os": "linux", "architecture": os.uname().machine, "rootfs": {"type": "layers", "diff_ids": [layer]}}
    )
    manifest = document(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": described("application/vnd.oci.image.config.v1+json", config),
            "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer, "size": size}],
        }
    )
    index = document(
        {"schemaVersion": 2, "manifests": [described("application/vnd.oci.image.manifest.v1+json", manifest)]}
    )
    for name, content in {
        "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
        "index.json": index,
        blob(manifest): manifest,
        blob(config): config,
    }.items():
        yield header(name, len(content)) + content + bytes(-len(content) % 512)
    yield header(f"blobs/sha256/{hasher.hexdigest()}", size) + head
    for _ in range(BLOCKS):
        yield block
    yield end + bytes(1024)


def document(value: Any) -> bytes:
    return json.dumps(value).encode()


def blob(content: bytes) -> str:
    return f"blobs/sha256/{hashlib.sha256(content).hexdigest()}"


def described(kind: str, content: bytes) -> dict[str, Any]:
    return {"mediaType": kind, "digest": f"sha256:{hashlib.sha256(content).hexdigest()}", "size": len(content)}


def header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.USTAR_FORMAT)
