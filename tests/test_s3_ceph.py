"""The S3 destination against Ceph over TLS, the slower lane: it refuses boto3's default checksums.

Runs if OCIROOTFS_REQUIRE_CEPH=1, and fails where Ceph is not installed then.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from ocirootfs.errors import AuthError, DestinationError, TemporaryError
from ocirootfs.s3.client import ExistsError
from ocirootfs.s3.destination import S3Destination
from ocirootfs.s3.url import S3Options, S3Url
from tests.policies import policy, without
from tests.servers import ceph
from tests.servers.certificate import authority
from tests.servers.moto import S3Endpoint, endpoint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.xdist_group("ceph"), pytest.mark.timeout(300)]

MIB = 1024**2
DATA = random.Random(6).randbytes(12 * MIB)  # parts of 5, 5 and 2 MiB
SMALL = DATA[:1000]


class Gateway(NamedTuple):
    url: str
    ca_file: str


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    missing = [program for program in ceph.PROGRAMS if shutil.which(program) is None]
    if os.environ.get("OCIROOTFS_REQUIRE_CEPH") != "1":
        pytest.skip("the slower lane: OCIROOTFS_REQUIRE_CEPH=1")
    if missing:
        pytest.fail(f"not installed: {missing}")
    folder: Path = tmp_path_factory.mktemp("ceph")
    _, ca_file = authority(folder)
    both = folder / "both.pem"
    both.write_bytes((folder / "key.pem").read_bytes() + ca_file.read_bytes())
    with ceph.ceph_server(folder, both) as url:
        yield Gateway(url, str(ca_file))


@pytest.fixture
def bucket(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Endpoint]:
    monkeypatch.setenv("AWS_CA_BUNDLE", gateway.ca_file)
    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
    with endpoint(gateway.url, f"bucket-{uuid.uuid4().hex}", key=ceph.KEY, secret=ceph.SECRET) as found:
        monkeypatch.delenv("AWS_CA_BUNDLE")
        monkeypatch.delenv("AWS_REQUEST_CHECKSUM_CALCULATION")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", ceph.KEY)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", ceph.SECRET)
        yield found


@pytest.fixture
def destination(bucket: S3Endpoint, gateway: Gateway) -> Any:
    def make(**more: Any) -> S3Destination:
        options = S3Options(endpoint_url=bucket.endpoint, part_size=5 * MIB, ca_file=gateway.ca_file, **more)
        return S3Destination(S3Url(bucket.bucket, "dir/a.tgz"), options)

    return make


def finish(target: S3Destination, data: bytes) -> None:
    try:
        target.write(data)
        target.commit()
    finally:
        target.abort()


@pytest.mark.parametrize("data", [SMALL, DATA], ids=["put", "multipart"])
def test_an_archive_arrives(bucket: S3Endpoint, destination: Any, data: bytes) -> None:
    target = destination(metadata={"colour": "red"}, tags={"team": "ci"}, acl="private")
    target.write(data)
    assert bucket.keys() == []
    stored = target.commit()
    assert (stored.size, stored.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert bucket.body("dir/a.tgz") == data
    found = bucket.client.head_object(Bucket=bucket.bucket, Key="dir/a.tgz")
    assert (found["Metadata"]["colour"], found["ContentType"]) == ("red", "application/gzip")
    tags = bucket.client.get_object_tagging(Bucket=bucket.bucket, Key="dir/a.tgz").get("TagSet")
    assert tags == ([{"Key": "team", "Value": "ci"}] if data is SMALL else None)  # Ceph 16 forgets those of parts
    assert bucket.uploads() == []


@pytest.mark.parametrize("data", [SMALL, DATA], ids=["put", "multipart"])
def test_the_checksums_that_boto3_sends_by_default_are_refused(
    bucket: S3Endpoint, destination: Any, data: bytes
) -> None:
    with pytest.raises(DestinationError, match="MissingContentLength") as caught:
        finish(destination(checksums="when-supported"), data)
    assert "--s3-checksums when-required" in str(caught.value.hint)
    assert (bucket.keys(), bucket.uploads()) == ([], [])


@pytest.mark.parametrize("end", ["abort", "restart"])
def test_a_cut_leaves_no_object_and_no_upload(bucket: S3Endpoint, destination: Any, end: str) -> None:
    target = destination()
    target.write(DATA)
    getattr(target, end)()
    assert (bucket.keys(), bucket.uploads()) == ([], [])
    target.abort()


def test_what_is_there_is_left_alone(bucket: S3Endpoint, destination: Any) -> None:
    finish(destination(), SMALL)
    for choice, expected in (("skip", True), ("replace", False)):
        target = destination(if_exists=choice)
        assert (target.standing() is not None) is expected
        target.abort()
    with pytest.raises(ExistsError):
        destination(if_exists="fail").standing()
    with pytest.raises(ExistsError):  # by a look: this store ignores If-None-Match
        finish(destination(if_exists="fail"), DATA)


def test_a_wrong_secret(bucket: S3Endpoint, destination: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(AuthError, match="SignatureDoesNotMatch"):
        finish(destination(), DATA)
    assert (bucket.keys(), bucket.uploads()) == ([], [])


def test_an_unknown_authority(bucket: S3Endpoint, destination: Any) -> None:
    target = S3Destination(S3Url(bucket.bucket, "a"), S3Options(endpoint_url=bucket.endpoint))
    with pytest.raises(TemporaryError, match="certificate is not trusted"):
        finish(target, SMALL)
    insecure = S3Options(endpoint_url=bucket.endpoint, insecure=True)
    with pytest.warns(match="Unverified HTTPS request"):
        finish(S3Destination(S3Url(bucket.bucket, "a"), insecure), SMALL)


# The README's policy, by this store's own policy engine


def allow(bucket: S3Endpoint, document: dict[str, Any]) -> None:
    for statement in document["Statement"]:
        statement["Principal"] = {"AWS": [f"arn:aws:iam:::user/{ceph.LIMITED}"]}
    text = json.dumps(document).replace(":::images", f":::{bucket.bucket}")
    bucket.client.put_bucket_policy(Bucket=bucket.bucket, Policy=text)


@pytest.mark.parametrize("data", [SMALL, DATA], ids=["put", "multipart"])
def test_the_policy_is_enough(
    bucket: S3Endpoint, destination: Any, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    allow(bucket, policy())
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ceph.LIMITED_KEY)
    target = destination(if_exists="skip")
    assert target.standing() is None
    finish(target, data)
    assert bucket.keys() == ["dir/a.tgz"]
    found = destination(if_exists="skip").standing()  # the bucket's owner may not read what somebody else put
    assert found is not None
    assert found.size == len(data)
    target = destination()
    target.write(DATA)
    target.abort()
    assert bucket.uploads() == []


def test_without_the_right_to_put_nothing_is_put(
    bucket: S3Endpoint, destination: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    allow(bucket, without("s3:PutObject"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ceph.LIMITED_KEY)
    with pytest.raises(AuthError, match="AccessDenied"):
        finish(destination(), DATA)
    assert (bucket.keys(), bucket.uploads()) == ([], [])
