from __future__ import annotations

import hashlib
import logging
import os
import random
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ocirootfs.errors import (
    AuthError,
    DestinationError,
    InputError,
    NotFoundError,
    OcirootfsError,
    TemporaryError,
    UsageError,
)
from ocirootfs.s3.client import ExistsError, NoStoreError, head, make_client
from ocirootfs.s3.destination import S3Destination, _etag_md5
from ocirootfs.s3.leftovers import Folder, strangers
from ocirootfs.s3.reading import below, content
from ocirootfs.s3.url import S3Options, S3Url
from tests.races import assert_only_the_first_is_stored
from tests.servers.certificate import authority
from tests.servers.faulty_s3 import BUCKET, State, StoredObject, faulty_s3

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_s3 import S3Client

    from ocirootfs.destination import Destination
    from tests.servers.moto import S3Endpoint

MIB = 1024**2
DATA = random.Random(4).randbytes(16 * MIB)  # parts of 5, 5, 5 and 1 MiB
SMALL = DATA[:1000]
ROOT = Path(__file__).parent.parent


def options(endpoint: str, **more: Any) -> S3Options:
    return S3Options(endpoint_url=endpoint, part_size=5 * MIB, **more)


def upload(destination: Destination, data: bytes = DATA) -> None:
    view = memoryview(data)
    while view:
        destination.write(view[:300_000])
        view = view[300_000:]


def finish(destination: Destination, data: bytes) -> None:
    upload(destination, data)
    destination.commit()


# --- against moto


@pytest.fixture
def destination(s3: S3Endpoint) -> Destination:
    return S3Destination(S3Url(s3.bucket, "dir/a.tgz"), options(s3.endpoint))


@pytest.mark.parametrize("size", [0, 1, 5 * MIB - 1, 5 * MIB, 5 * MIB + 1, len(DATA)])
def test_an_object_appears_at_commit_and_not_before(s3: S3Endpoint, destination: Destination, size: int) -> None:
    data = DATA[:size]
    upload(destination, data)
    assert s3.keys() == []
    stored = destination.commit()
    assert s3.keys() == ["dir/a.tgz"]
    assert s3.body("dir/a.tgz") == data
    assert s3.uploads() == []
    assert stored.location == f"s3://{s3.bucket}/dir/a.tgz"
    assert stored.size == size
    assert stored.sha256 == hashlib.sha256(data).hexdigest()
    assert f'"{stored.etag}"' == s3.client.head_object(Bucket=s3.bucket, Key="dir/a.tgz")["ETag"]
    destination.abort()
    assert s3.keys() == ["dir/a.tgz"]


def test_what_is_said_of_the_object(s3: S3Endpoint) -> None:
    for data in (SMALL, DATA):
        destination = S3Destination(S3Url(s3.bucket, "a"), options(s3.endpoint, metadata={"colour": "x"}))
        upload(destination, data)
        destination.commit()
        found = s3.client.head_object(Bucket=s3.bucket, Key="a")
        assert found["ContentType"] == "application/gzip"
        assert found["Metadata"]["colour"] == "x"
        assert "ContentEncoding" not in found


@pytest.mark.parametrize("size", [1000, len(DATA)])
def test_abort_leaves_nothing_and_can_be_repeated(s3: S3Endpoint, destination: Destination, size: int) -> None:
    upload(destination, DATA[:size])
    destination.abort()
    destination.abort()
    assert (s3.keys(), s3.uploads()) == ([], [])


@pytest.mark.parametrize("size", [1000, len(DATA)])
def test_restart_forgets(s3: S3Endpoint, destination: Destination, size: int) -> None:
    upload(destination, DATA[:size])
    destination.restart()
    upload(destination, DATA[::-1])
    assert destination.commit().sha256 == hashlib.sha256(DATA[::-1]).hexdigest()
    assert s3.body("dir/a.tgz") == DATA[::-1]
    assert s3.uploads() == []


@pytest.mark.parametrize("data", [SMALL, DATA], ids=["put", "multipart"])
def test_an_existing_object_is_kept_if_asked(s3: S3Endpoint, data: bytes) -> None:
    assert_only_the_first_is_stored(s3, data)


def test_no_such_bucket(s3: S3Endpoint) -> None:
    for data in (SMALL, DATA):
        destination = S3Destination(S3Url("no-such-bucket", "a"), options(s3.endpoint))
        with pytest.raises(NotFoundError, match=r"s3://no-such-bucket/a: NoSuchBucket") as caught:
            finish(destination, data)
        destination.abort()
        assert caught.value.hint


def test_head(s3: S3Endpoint) -> None:
    url = S3Url(s3.bucket, "a")
    assert head(s3.client, url, S3Options()) is None
    s3.client.put_object(Bucket=s3.bucket, Key="a", Body=b"12345", Metadata={"k": "v"})
    found = head(s3.client, url, S3Options())
    assert found is not None
    assert (found.size, found.metadata) == (5, {"k": "v"})


def test_a_prefix_is_no_destination() -> None:
    with pytest.raises(UsageError):
        S3Destination(S3Url(BUCKET, "dir/"), S3Options())


# --- faults


@pytest.fixture
def faulty() -> Iterator[State]:
    with faulty_s3() as state:
        yield state


@pytest.fixture
def client(faulty: State) -> Iterator[S3Client]:
    client = make_client(options(faulty.url))
    yield client
    client.close()


def attempt(faulty: State, client: S3Client, data: bytes = DATA, **more: Any) -> OcirootfsError | None:
    """Upload as every caller does; returns the error."""
    settings = options(faulty.url, **more)
    destination = S3Destination(S3Url(BUCKET, "a.tgz"), settings, client, patience=2)
    try:
        upload(destination, data)
        stored = destination.commit()
    except OcirootfsError as error:
        destination.abort()
        return error
    except BaseException:
        destination.abort()
        raise
    assert faulty.objects["a.tgz"].body == data
    assert stored.size == len(data)
    return None


def assert_nothing_left(faulty: State) -> None:
    assert faulty.objects == {}
    assert faulty.uploads == {}


@pytest.mark.parametrize("what", ["InternalError", "reset"])
@pytest.mark.parametrize("operation", ["CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"])
def test_one_failure_is_overcome(faulty: State, client: S3Client, operation: str, what: str) -> None:
    faulty.fail(operation, what, times=1)
    assert attempt(faulty, client) is None
    assert faulty.uploads == {}
    assert faulty.operations().count(operation) == {"UploadPart": 5}.get(operation, 2)


@pytest.mark.parametrize(("what", "status"), [("InternalError", 500), ("SlowDown", 503), ("reset", 0)])
@pytest.mark.parametrize("operation", ["CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"])
def test_lasting_trouble_is_temporary(faulty: State, client: S3Client, operation: str, what: str, status: int) -> None:
    faulty.fail(operation, what, status=status)
    error = attempt(faulty, client)
    assert isinstance(error, TemporaryError)
    assert "s3://bucket/a.tgz" in str(error)
    assert what == "reset" or what in str(error)
    assert_nothing_left(faulty)


@pytest.mark.parametrize(("what", "status"), [("InternalError", 500), ("reset", 0)])
def test_lasting_trouble_with_a_single_put(faulty: State, client: S3Client, what: str, status: int) -> None:
    faulty.fail("PutObject", what, status=status)
    assert isinstance(attempt(faulty, client, SMALL), TemporaryError)
    assert_nothing_left(faulty)


@pytest.mark.parametrize(
    ("code", "status", "kind", "hint"),
    [
        ("AccessDenied", 403, AuthError, "s3:PutObject"),
        ("InvalidAccessKeyId", 403, AuthError, "AWS_ACCESS_KEY_ID"),
        ("SignatureDoesNotMatch", 403, AuthError, "AWS_SECRET_ACCESS_KEY"),
        ("ExpiredToken", 400, AuthError, "session"),
        ("RequestTimeTooSkewed", 403, AuthError, "clock"),
        ("NoSuchBucket", 404, NotFoundError, "create the bucket"),
        ("PreconditionFailed", 412, ExistsError, "exists"),
        ("MissingContentLength", 411, DestinationError, "--s3-checksums"),
        ("QuotaExceeded", 403, DestinationError, "quota"),
        ("EntityTooLarge", 400, DestinationError, None),
        ("NoSuchUpload", 404, TemporaryError, "lifecycle"),
        ("Teapot", 418, DestinationError, None),
    ],
)
@pytest.mark.parametrize("operation", ["UploadPart", "PutObject"])
def test_refusals_are_told_apart(
    faulty: State,
    client: S3Client,
    operation: str,
    code: str,
    status: int,
    kind: type[OcirootfsError],
    hint: str | None,
) -> None:
    faulty.fail(operation, code, status=status)
    error = attempt(faulty, client, DATA if operation == "UploadPart" else SMALL)
    assert type(error) is kind
    assert f"s3://bucket/a.tgz: {code}: as scripted" in str(error)
    assert not str(error).endswith(".")
    assert hint is None or hint in str(error.hint)
    assert_nothing_left(faulty)


def test_a_failing_part_surfaces_before_the_end_of_the_stream(faulty: State, client: S3Client) -> None:
    faulty.fail("UploadPart", "AccessDenied", status=403, part=1)
    destination = S3Destination(S3Url(BUCKET, "a.tgz"), options(faulty.url), client)
    with pytest.raises(AuthError, match="cannot upload part 1 of"):
        destination.write(bytes(100 * MIB))
    destination.abort()
    assert_nothing_left(faulty)


@pytest.mark.parametrize("what", ["wrong-etag", "altered"])
def test_a_part_that_arrives_altered_is_sent_again(faulty: State, client: S3Client, what: str) -> None:
    faulty.fail("UploadPart", what, part=2, times=1)
    assert attempt(faulty, client) is None
    assert faulty.operations().count("UploadPart") == 5


@pytest.mark.parametrize("what", ["wrong-etag", "altered"])
def test_a_part_that_always_arrives_altered_is_refused(faulty: State, client: S3Client, what: str) -> None:
    faulty.fail("UploadPart", what, part=2)
    error = attempt(faulty, client)
    assert isinstance(error, DestinationError)
    assert "part 2" in str(error)
    assert_nothing_left(faulty)


@pytest.mark.parametrize("what", ["wrong-etag", "altered"])
def test_a_small_object_that_arrives_altered(faulty: State, client: S3Client, what: str) -> None:
    faulty.fail("PutObject", what, times=2)
    assert attempt(faulty, client, SMALL) is None
    faulty.fail("PutObject", what)
    assert isinstance(attempt(faulty, client, SMALL), DestinationError)


MD5 = "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(
    ("server", "answer", "md5"),
    [
        ("AmazonS3", {"ETag": f'"{MD5}"'}, MD5),
        ("AmazonS3", {"ETag": f'"{MD5}"', "ServerSideEncryption": "AES256"}, MD5),
        ("AmazonS3", {"ETag": f'"{MD5}"', "ServerSideEncryption": "aws:kms"}, None),
        ("AmazonS3", {"ETag": f'"{MD5}"', "ServerSideEncryption": "aws:kms:dsse"}, None),
        ("AmazonS3", {"ETag": f'"{MD5}"', "SSECustomerAlgorithm": "AES256"}, None),
        ("MinIO", {"ETag": f'"{MD5}"', "ServerSideEncryption": "AES256"}, None),
        ("MinIO", {"ETag": f'"{MD5.upper()}"'}, MD5),
        ("a gateway", {"ETag": MD5}, MD5),
        ("a gateway", {"ETag": f'"{MD5}-1"'}, None),
        ("a gateway", {"ETag": '"0x8D4BCC2E4835CD0"'}, None),
        ("a gateway", {}, None),
    ],
)
def test_an_etag_is_not_always_an_md5(server: str, answer: dict[str, Any], md5: str | None) -> None:
    assert _etag_md5(answer | {"ResponseMetadata": {"HTTPHeaders": {"server": server}}}) == md5


def test_complete_that_answers_200_with_an_error(faulty: State, client: S3Client) -> None:
    faulty.fail("CompleteMultipartUpload", "ok-error", times=1)
    assert attempt(faulty, client) is None
    faulty.objects.clear()
    faulty.fail("CompleteMultipartUpload", "ok-error")
    assert isinstance(attempt(faulty, client), TemporaryError)
    assert_nothing_left(faulty)


@pytest.mark.parametrize("if_none_match", [False, True])
@pytest.mark.parametrize("data", [SMALL, DATA], ids=["put", "multipart"])
def test_a_lost_answer_to_the_last_request_is_no_failure(
    faulty: State, client: S3Client, data: bytes, *, if_none_match: bool
) -> None:
    faulty.fail("PutObject", "lost", times=1)
    faulty.fail("CompleteMultipartUpload", "lost", times=1)
    assert attempt(faulty, client, data, if_exists="fail" if if_none_match else "replace") is None
    assert faulty.uploads == {}


@pytest.mark.parametrize("what", ["page", "nothing"])
@pytest.mark.parametrize("data", [SMALL, DATA], ids=["put", "multipart"])
def test_an_answer_without_an_etag_is_not_believed(faulty: State, client: S3Client, data: bytes, what: str) -> None:
    faulty.fail("PutObject", what)
    faulty.fail("CompleteMultipartUpload", what)
    error = attempt(faulty, client, data)
    assert isinstance(error, DestinationError)
    assert "is no S3" in str(error)
    assert "--endpoint-url" in str(error.hint)
    assert_nothing_left(faulty)


@pytest.mark.parametrize(
    ("operation", "what", "lacking"),
    [
        ("HeadObject", "no-length", "ContentLength"),
        ("CreateMultipartUpload", "page", "UploadId"),
        ("CreateMultipartUpload", "nothing", "UploadId"),
        ("UploadPart", "no-etag", "ETag"),
    ],
)
def test_what_lacks_what_an_answer_must_have_is_no_s3(
    faulty: State, client: S3Client, operation: str, what: str, lacking: str
) -> None:
    faulty.fail(operation, what)
    error = attempt(faulty, client, if_exists="fail")
    assert type(error) is NoStoreError
    assert str(error).endswith(f"what answers is no S3: its answer has no {lacking}")
    assert "--endpoint-url" in str(error.hint)
    assert_nothing_left(faulty)


@pytest.mark.parametrize(("operation", "requests"), [("PutObject", 1), ("CreateMultipartUpload", 3)])
def test_a_redirect_that_is_not_s3s_is_told_at_once(
    faulty: State, client: S3Client, operation: str, requests: int
) -> None:
    """Servers redirect to TLS or to a login; botocore would take it for the bucket's region, and ask on and on."""
    faulty.fail(operation, "away")
    error = attempt(faulty, client, SMALL if operation == "PutObject" else DATA)
    assert type(error) is DestinationError
    assert str(error).endswith("s3://bucket/a.tgz: the store redirects to https://127.0.0.1:1")
    assert faulty.operations().count(operation) <= requests  # one of each part's sender
    assert_nothing_left(faulty)


def test_a_look_that_is_redirected(faulty: State, client: S3Client) -> None:
    faulty.fail("HeadObject", "away")
    with pytest.raises(DestinationError, match=r"a\.tgz: the store redirects to https://127\.0\.0\.1:1$"):
        head(client, S3Url(BUCKET, "a.tgz"), S3Options())
    assert faulty.operations() == ["HeadObject"]


def test_why_a_look_was_refused_is_found_out(faulty: State, client: S3Client) -> None:
    """S3 answers a HEAD with 400, and nothing more, where the session has ended (boto issue 2916)."""
    faulty.fail("HeadObject", "ExpiredToken", status=400)
    faulty.fail("GetObject", "ExpiredToken", status=400)
    with pytest.raises(AuthError, match=r"cannot look at s3://bucket/a\.tgz: ExpiredToken") as caught:
        head(client, S3Url(BUCKET, "a.tgz"), S3Options())
    assert "new credentials" in str(caught.value.hint)


def test_a_look_that_is_refused_for_no_reason(faulty: State, client: S3Client) -> None:
    faulty.fail("HeadObject", "Odd", status=400)
    faulty.objects["a.tgz"] = StoredObject(b"x", 1, '"e"', {})
    with pytest.raises(DestinationError, match=r"^cannot look at s3://bucket/a\.tgz: 400: Bad Request$"):
        head(client, S3Url(BUCKET, "a.tgz"), S3Options())


@pytest.mark.parametrize("by", ["option", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"])
@pytest.mark.parametrize(("content", "why"), [(None, "No such file"), (b"junk", "it holds no certificate")])
def test_a_file_of_authorities_that_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str, content: bytes | None, why: str
) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    more = {"ca_file": str(path)} if by == "option" else {}
    for name in ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    if by != "option":
        monkeypatch.setenv(by, str(path))
    with pytest.raises(UsageError, match=rf"cannot use the CA file .*ca\.pem: {why}"):
        make_client(options("https://127.0.0.1:1", **more))
    if by != "option":
        make_client(options("http://127.0.0.1:1")).close()  # which has no use for it
    make_client(options("https://127.0.0.1:1", insecure=True)).close()


@pytest.mark.parametrize("what", ["no-token", "same-token"])
def test_a_listing_without_an_end(faulty: State, client: S3Client, what: str) -> None:
    faulty.fail("ListObjectsV2", what)
    with pytest.raises(NoStoreError, match=r"cannot list s3://bucket/f/: what answers is no S3"):
        list(below(BUCKET, "f/", S3Options(), client))
    with pytest.raises(NoStoreError, match=r"cannot list s3://bucket/f/: what answers is no S3"):
        list(strangers(client, Folder(BUCKET, "f/"), (), S3Options()))
    assert len(faulty.requests) <= 4


@pytest.mark.parametrize("data", [SMALL, DATA], ids=["put", "multipart"])
def test_an_object_that_is_there_needs_no_etag_in_the_answer(faulty: State, client: S3Client, data: bytes) -> None:
    faulty.fail("PutObject", "no-etag")
    faulty.fail("CompleteMultipartUpload", "no-etag")
    assert attempt(faulty, client, data) is None
    assert faulty.operations()[-1] == "HeadObject"


def test_a_page_that_answers_everything_stores_nothing(faulty: State) -> None:
    for operation in ("HeadObject", "PutObject"):
        faulty.fail(operation, "page")
    target = S3Destination(S3Url(BUCKET, "a.tgz"), options(faulty.url), stamp={"ocirootfs-digest": "x"})
    assert target.standing() is None
    with pytest.raises(DestinationError, match="is no S3"):
        finish(target, SMALL)
    target.abort()


def test_a_lost_answer_and_somebody_elses_object(faulty: State, client: S3Client) -> None:
    assert attempt(faulty, client, DATA[::-1]) is None
    before = dict(faulty.objects)
    faulty.fail("CompleteMultipartUpload", "NoSuchUpload", status=404)
    assert isinstance(attempt(faulty, client), TemporaryError)
    assert faulty.objects == before
    assert faulty.uploads == {}


def test_an_equal_object_of_somebody_else_does_not_make_a_refusal_a_success(faulty: State, client: S3Client) -> None:
    for data in (SMALL, DATA):
        assert attempt(faulty, client, data) is None
        assert isinstance(attempt(faulty, client, data, if_exists="fail"), ExistsError)
    assert faulty.uploads == {}


def test_an_abort_that_is_refused_is_told_with_the_way_out(
    faulty: State, client: S3Client, caplog: pytest.LogCaptureFixture
) -> None:
    faulty.fail("UploadPart", "AccessDenied", status=403)
    faulty.fail("AbortMultipartUpload", "AccessDenied", status=403)
    assert isinstance(attempt(faulty, client), AuthError)
    told = [record.message for record in caplog.records if record.levelno == logging.ERROR]
    assert len(told) == 1
    assert told[0].endswith(
        f"aws s3api abort-multipart-upload --endpoint-url {faulty.url} --bucket bucket --key a.tgz "
        "--upload-id 'id-1~a b'"
    )


def test_abort_does_not_wait_for_a_store_that_hangs(
    faulty: State, client: S3Client, caplog: pytest.LogCaptureFixture
) -> None:
    fault = faulty.fail("UploadPart", "stall")
    destination = S3Destination(S3Url(BUCKET, "a.tgz"), options(faulty.url), client, patience=0.4)
    upload(destination)
    assert faulty.event("UploadPart").wait(10)
    begin = time.monotonic()
    destination.abort()
    assert time.monotonic() - begin < 2
    assert faulty.uploads == {}
    assert not [record for record in caplog.records if record.levelno == logging.ERROR]
    fault.released.set()
    join_threads()


def test_an_upload_whose_beginning_hangs_is_removed_when_it_is_known(
    faulty: State, client: S3Client, caplog: pytest.LogCaptureFixture
) -> None:
    fault = faulty.fail("CreateMultipartUpload", "stall")
    destination = S3Destination(S3Url(BUCKET, "a.tgz"), options(faulty.url), client, patience=0.4)
    upload(destination)
    assert faulty.event("CreateMultipartUpload").wait(10)
    destination.abort()
    assert "of unknown id" in caplog.text
    fault.released.set()
    join_threads()
    assert faulty.uploads == {}
    assert "UploadPart" not in faulty.operations()


def join_threads() -> None:
    for thread in threading.enumerate():
        if thread.name.startswith("ocirootfs"):
            thread.join(10)
            assert not thread.is_alive()


def test_a_client_of_the_callers_own_is_used_and_stays_open(faulty: State, client: S3Client) -> None:
    for _ in range(2):
        assert attempt(faulty, client, SMALL) is None


def test_parts_bear_a_checksum_that_the_store_verifies(faulty: State, client: S3Client) -> None:
    assert attempt(faulty, client) is None
    sent = [request.headers for request in faulty.requests if request.operation == "UploadPart"]
    assert all("content-md5" in headers for headers in sent)
    assert not any(name.startswith("x-amz-checksum") for headers in sent for name in headers)
    assert not any("x-amz-acl" in request.headers for request in faulty.requests)
    last = faulty.requests[-1]
    assert (last.operation, last.headers["x-amz-mp-object-size"]) == ("CompleteMultipartUpload", str(len(DATA)))


def test_boto3s_own_checksums_are_given_again_at_the_end(faulty: State) -> None:
    client = make_client(options(faulty.url, checksums="when-supported"))
    assert attempt(faulty, client) is None
    client.close()
    sent = [request.headers for request in faulty.requests if request.operation == "UploadPart"]
    assert all("x-amz-checksum-crc32" in headers and "content-md5" not in headers for headers in sent)


@pytest.mark.parametrize("what", ["AccessDenied", "InternalError", "reset", "wrong-etag"])
def test_no_secret_is_told(
    faulty: State, what: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "ocirootfs")
    secrets = {name: f"planted-{name}" for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")}
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    faulty.fail("UploadPart", what, status=403)
    faulty.fail("AbortMultipartUpload", "AccessDenied", status=403)
    client = make_client(options(faulty.url))
    error = attempt(faulty, client)
    client.close()
    assert error is not None
    told = f"{error} {error.hint} " + " ".join(record.getMessage() for record in caplog.records)
    assert "could not be removed" in told
    assert "planted" not in told
    assert "Signature" not in told


def test_no_credentials(faulty: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    destination = S3Destination(S3Url(BUCKET, "a"), options(faulty.url))
    with pytest.raises(AuthError, match="no usable credentials") as caught:
        destination.commit()
    destination.abort()
    assert "--no-sign-request" in str(caught.value.hint)
    anonymous = S3Destination(S3Url(BUCKET, "a"), options(faulty.url, no_sign_request=True))
    anonymous.commit()
    assert "authorization" not in faulty.requests[-1].headers


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9", "http://[::1]:9"])
def test_nobody_listens(endpoint: str) -> None:
    destination = S3Destination(S3Url(BUCKET, "a"), options(endpoint, retry_for=0))
    with pytest.raises(TemporaryError, match=re.escape(f"write s3://bucket/a at {endpoint}: ")) as caught:
        destination.commit()
    assert "--endpoint-url" in str(caught.value.hint)
    destination.abort()


def test_bytes_that_are_not_those_of_their_checksum(faulty: State) -> None:
    client = make_client(options(faulty.url, checksums="when-supported"))
    assert attempt(faulty, client, b"x" * 1000) is None
    url = S3Url(BUCKET, "a.tgz")
    assert b"".join(content(url, S3Options(), client)) == b"x" * 1000
    faulty.fail("GetObject", "wrong-crc")
    with pytest.raises(InputError, match=r"cannot read s3://bucket/a\.tgz: its bytes are not those"):
        list(content(url, S3Options(), client))
    client.close()


# --- TLS


def test_an_endpoint_without_tls_is_told_at_once(faulty: State) -> None:
    endpoint = faulty.url.replace("http:", "https:")
    begin = time.monotonic()
    with pytest.raises(TemporaryError, match=f"at {endpoint}: plain HTTP was the answer to an HTTPS") as caught:
        finish(S3Destination(S3Url(BUCKET, "a"), options(endpoint)), SMALL)
    assert "http://" in str(caught.value.hint)
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize("checksums", ["when-supported", "when-required"])
def test_over_tls_with_and_without_trailing_checksums(tmp_path: Path, checksums: Any) -> None:
    server, ca_file = authority(tmp_path)
    with faulty_s3(tls=server) as state:
        client = make_client(options(state.url, checksums=checksums, ca_file=str(ca_file)))
        assert attempt(state, client) is None
        assert attempt(state, client, SMALL) is None
        client.close()
        trailers = [
            "x-amz-trailer" in request.headers for request in state.requests if request.operation == "UploadPart"
        ]
        assert trailers == [checksums == "when-supported"] * 4


def test_an_unknown_certificate_is_not_tried_ten_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_MAX_ATTEMPTS")
    server, _ = authority(tmp_path)
    begin = time.monotonic()
    with faulty_s3(tls=server) as state:
        destination = S3Destination(S3Url(BUCKET, "a"), options(state.url))
        with pytest.raises(TemporaryError, match="certificate is not trusted: ") as caught:
            destination.commit()
        destination.abort()
    assert time.monotonic() - begin < 5
    assert "--ca-file" in str(caught.value.hint)


# --- the client


def checksums_of(client: S3Client) -> set[str]:
    config: Any = client.meta.config
    return {config.request_checksum_calculation, config.response_checksum_validation}


def test_checksums_are_boto3s_own_at_amazon() -> None:
    assert checksums_of(make_client(S3Options())) == {"when_supported"}


@pytest.mark.parametrize("where", ["option", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "profile", "services"])
def test_checksums_are_left_out_where_an_endpoint_is_given(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = "http://minio.corp:9000"
    profiles = {
        "profile": f"[default]\nendpoint_url = {endpoint}\n",
        "services": f"[default]\nservices = s\n[services s]\ns3 =\n  endpoint_url = {endpoint}\n",
    }
    (tmp_path / "config").write_text(profiles.get(where, ""))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    if where.startswith("AWS"):
        monkeypatch.setenv(where, endpoint)
    client = make_client(S3Options(endpoint_url=endpoint if where == "option" else None))
    assert client.meta.endpoint_url == endpoint
    assert checksums_of(client) == {"when_required"}


def test_who_asks_for_checksums_gets_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = "http://minio.corp:9000"
    assert checksums_of(make_client(S3Options(endpoint_url=endpoint, checksums="when-supported"))) == {"when_supported"}
    assert checksums_of(make_client(S3Options(checksums="when-required"))) == {"when_required"}
    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_supported")
    config: Any = make_client(S3Options(endpoint_url=endpoint)).meta.config
    assert config.request_checksum_calculation == "when_supported"
    assert config.response_checksum_validation == "when_required"
    monkeypatch.delenv("AWS_REQUEST_CHECKSUM_CALCULATION")
    (tmp_path / "config").write_text("[default]\nrequest_checksum_calculation = when_supported\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    config = make_client(S3Options(endpoint_url=endpoint)).meta.config
    assert config.request_checksum_calculation == "when_supported"


@pytest.mark.parametrize(
    ("option", "environment", "expected"),
    [
        (None, {}, "us-east-1"),
        (None, {"AWS_DEFAULT_REGION": "eu-west-1"}, "eu-west-1"),
        (None, {"AWS_DEFAULT_REGION": "eu-west-1", "AWS_REGION": "eu-west-2"}, "eu-west-2"),
        ("eu-west-3", {"AWS_REGION": "eu-west-2"}, "eu-west-3"),
    ],
)
def test_the_region(
    option: str | None, environment: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert make_client(S3Options(region=option)).meta.region_name == expected


def test_retries_are_ten_unless_the_environment_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    config: Any = make_client(S3Options()).meta.config
    assert config.retries == {"total_max_attempts": 2, "mode": "standard"}
    monkeypatch.delenv("AWS_MAX_ATTEMPTS")
    monkeypatch.setenv("AWS_RETRY_MODE", "adaptive")
    config = make_client(S3Options()).meta.config
    assert config.retries == {"total_max_attempts": 10, "mode": "adaptive"}


@pytest.mark.parametrize(("style", "path"), [("auto", True), ("path", True), ("virtual", False)])
def test_addressing(style: Any, *, path: bool) -> None:
    client = make_client(S3Options(endpoint_url="http://minio.corp:9000", addressing=style))
    url = client.generate_presigned_url("get_object", Params={"Bucket": "images", "Key": "k"})
    assert url.startswith("http://minio.corp:9000/images/k" if path else "http://images.minio.corp:9000/k")


def test_an_unknown_profile_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="nobody"):
        make_client(S3Options(profile="nobody"))


# --- a process of its own

SCRIPT = """
    import re, signal, sys
    from ocirootfs.s3.destination import S3Destination
    from ocirootfs.s3.url import S3Options, S3Url

    def peak():  # KiB; ru_maxrss would count the parent's memory before exec
        return int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1])

    def die(number, frame):
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, die)
    endpoint, megabytes = sys.argv[1], int(sys.argv[2])
    destination = S3Destination(S3Url("bucket", "a.tgz"), S3Options(endpoint_url=endpoint, jobs=3))
    block = bytes(range(256)) * 4096
    before = peak()
    try:
        for _ in range(megabytes):
            destination.write(block)
        destination.commit()
    except BaseException:
        destination.abort()
        raise
    print(peak() - before, before)
"""


def command(state: State, megabytes: int) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(SCRIPT), state.url, str(megabytes)]


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT)}


def test_memory_is_bounded_by_the_parts() -> None:
    with faulty_s3(discard=True) as state:
        result = subprocess.run(
            command(state, 300), env=environment(), capture_output=True, text=True, timeout=100, check=True
        )
        assert state.objects["a.tgz"].size == 300 * MIB
    growth, _ = map(int, result.stdout.split())
    # Three parts of 8 MiB under way and one being filled, and some for connections and botocore's models.
    assert growth < (4 * 8 + 16) * 1024, f"grew by {growth} KiB"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    ("operation", "megabytes"),
    [("CreateMultipartUpload", 10_000), ("UploadPart", 10_000), ("CompleteMultipartUpload", 20)],
)
def test_a_signal_in_the_middle_leaves_nothing(number: int, operation: str, megabytes: int) -> None:
    with faulty_s3(discard=True) as state:
        fault = state.fail(operation, "stall")
        process = subprocess.Popen(command(state, megabytes), env=environment(), stderr=subprocess.PIPE)
        assert state.event(operation).wait(60)
        begin = time.monotonic()
        process.send_signal(number)
        if operation == "CreateMultipartUpload":  # until then nobody can know what to abort
            fault.released.set()
        _, stderr = process.communicate(timeout=60)
        assert time.monotonic() - begin < 5
        assert process.returncode == {signal.SIGTERM: 143}.get(signal.Signals(number), -signal.SIGINT)
        assert b"could not be removed" not in stderr
        assert_nothing_left(state)
