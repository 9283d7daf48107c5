"""The S3 destination against a server that checks what it is told: OpenStack Swift's S3 API."""

from __future__ import annotations

import hashlib
import random
import time
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from ocirootfs.errors import AuthError, NotFoundError, TemporaryError
from ocirootfs.s3.client import head
from ocirootfs.s3.destination import S3Destination
from ocirootfs.s3.url import S3Options, S3Url
from tests.races import assert_only_the_first_is_stored
from tests.servers import swift
from tests.servers.moto import S3Endpoint, endpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("swift")]

MIB = 1024**2
DATA = random.Random(5).randbytes(12 * MIB)  # parts of 5, 5 and 2 MiB
SMALL = DATA[:1000]


@pytest.fixture(scope="module")
def _swift(real: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    program = real("swift-proxy-server")
    with swift.swift_server(program, tmp_path_factory.mktemp("swift")) as url:
        yield url


@pytest.fixture
def bucket(_swift: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Endpoint]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", swift.KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", swift.SECRET)
    with endpoint(_swift, f"bucket-{uuid.uuid4().hex}", key=swift.KEY, secret=swift.SECRET) as found:
        yield found


def destination(bucket: S3Endpoint, key: str = "dir/a.tgz", **more: Any) -> S3Destination:
    options = S3Options(endpoint_url=bucket.endpoint, part_size=5 * MIB, **more)
    return S3Destination(S3Url(bucket.bucket, key), options)


def finish(target: S3Destination, data: bytes) -> None:
    target.write(data)
    target.commit()


@pytest.mark.parametrize("checksums", ["auto", "when-supported"])
@pytest.mark.parametrize("data", [SMALL, DATA], ids=["put", "multipart"])
def test_an_archive_arrives(bucket: S3Endpoint, data: bytes, checksums: str) -> None:
    target = destination(bucket, checksums=checksums, metadata={"colour": "sha256:0"})
    target.write(data)
    assert bucket.keys() == []
    stored = target.commit()
    assert (stored.size, stored.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert bucket.body("dir/a.tgz") == data
    found = head(bucket.client, S3Url(bucket.bucket, "dir/a.tgz"), S3Options())
    assert found is not None
    assert (found.size, found.etag) == (len(data), stored.etag)
    assert found.metadata["colour"] == "sha256:0"
    assert bucket.uploads() == []


@pytest.mark.parametrize("end", ["abort", "restart"])
def test_a_cut_leaves_no_object_and_no_upload(bucket: S3Endpoint, end: str) -> None:
    target = destination(bucket)
    target.write(DATA)
    getattr(target, end)()
    assert (bucket.keys(), bucket.uploads()) == ([], [])
    target.abort()


@pytest.mark.parametrize("data", [SMALL, DATA], ids=["put", "multipart"])
def test_a_wrong_secret(bucket: S3Endpoint, data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret")
    target = destination(bucket)
    with pytest.raises(AuthError, match="SignatureDoesNotMatch") as caught:
        finish(target, data)
    target.abort()
    assert "wrong-secret" not in f"{caught.value} {caught.value.hint}"
    assert (bucket.keys(), bucket.uploads()) == ([], [])


def test_no_such_bucket(bucket: S3Endpoint) -> None:
    target = S3Destination(S3Url("no-such-bucket", "a"), S3Options(endpoint_url=bucket.endpoint))
    target.write(SMALL)
    with pytest.raises(NotFoundError, match="NoSuchBucket"):
        target.commit()
    target.abort()


def test_an_upload_that_somebody_removed(bucket: S3Endpoint) -> None:
    target = destination(bucket, jobs=1)
    target.write(DATA[: 5 * MIB])
    end = time.monotonic() + 20
    while not (uploads := bucket.client.list_multipart_uploads(Bucket=bucket.bucket).get("Uploads", [])):
        assert time.monotonic() < end
    bucket.client.abort_multipart_upload(Bucket=bucket.bucket, Key="dir/a.tgz", UploadId=uploads[0]["UploadId"])
    with pytest.raises(TemporaryError, match="NoSuchUpload"):
        finish(target, DATA[5 * MIB :])
    target.abort()
    assert (bucket.keys(), bucket.uploads()) == ([], [])


@pytest.mark.parametrize("data", [SMALL, DATA], ids=["put", "multipart"])
def test_an_existing_object_is_kept_if_asked(bucket: S3Endpoint, data: bytes) -> None:
    assert_only_the_first_is_stored(bucket, data)
