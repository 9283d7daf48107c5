"""What the options of a bucket send, and what they leave alone."""

from __future__ import annotations

import json
import os
import random
import re
import socket
import subprocess
import sys
import textwrap
import time
import traceback
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from ocirootfs.cli import parser
from ocirootfs.cli.bucket import s3_options
from ocirootfs.cli.result import endpoint
from ocirootfs.errors import AuthError, LocalError, OcirootfsError, TemporaryError, UsageError
from ocirootfs.s3.client import ExistsError, ForbiddenError, NoStoreError, make_client
from ocirootfs.s3.destination import S3Destination
from ocirootfs.s3.stamp import is_same, stamp
from ocirootfs.s3.url import S3Options, S3Url
from tests.commands import environment, run
from tests.policies import policy, without
from tests.servers.faulty_s3 import BUCKET, State, faulty_s3

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.servers.moto import S3Endpoint

MIB = 1024**2
DATA = random.Random(7).randbytes(11 * MIB)  # parts of 5, 5 and 1 MiB
SMALL = DATA[:1000]
ROLE = "arn:aws:iam::123456789012:role/uploader"
_FREE = 7  # requests before the policies count: a bucket, and two users with three each
both = pytest.mark.parametrize("data", [SMALL, DATA], ids=["put", "multipart"])


@pytest.fixture
def faulty() -> Iterator[State]:
    with faulty_s3() as state:
        yield state


def store(options: S3Options, data: bytes, *, stamped: dict[str, str] | None = None, bucket: str = BUCKET) -> None:
    target = S3Destination(S3Url(bucket, "a.tgz"), options, stamp=stamped)
    try:
        target.write(data)
        target.commit()
    finally:
        target.abort()


# What the command line says, and what the store hears

SAID = {
    ("--sse",): {"x-amz-server-side-encryption": "AES256"},
    ("--sse", "aws:kms", "--sse-kms-key-id", "key-1"): {
        "x-amz-server-side-encryption": "aws:kms",
        "x-amz-server-side-encryption-aws-kms-key-id": "key-1",
    },
    ("--acl", "bucket-owner-full-control"): {"x-amz-acl": "bucket-owner-full-control"},
    ("--storage-class", "STANDARD_IA"): {"x-amz-storage-class": "STANDARD_IA"},
    ("--s3-tag", "team=c i", "--s3-tag", "a=b&c=d"): {"x-amz-tagging": "team=c+i&a=b%26c%3Dd"},
    ("--s3-metadata", "colour=red=blue"): {"x-amz-meta-colour": "red=blue"},
    ("--content-type", "application/x-gtar"): {"content-type": "application/x-gtar"},
}


@both
@pytest.mark.parametrize("words", SAID)
def test_what_is_said_of_the_object(words: tuple[str, ...], data: bytes, faulty: State) -> None:
    chosen = parser().parse_args(["pack", "-", "--endpoint-url", faulty.url, "--part-size", "5MiB", *words])
    store(s3_options(chosen, "gzip"), data)
    begun = faulty.requests[0]
    assert begun.operation in ("PutObject", "CreateMultipartUpload")
    expected = {"content-type": "application/gzip"} | SAID[words]
    assert {name: value for name, value in begun.headers.items() if name in expected} == expected
    unasked = {"x-amz-acl", "x-amz-storage-class", "x-amz-tagging", "x-amz-server-side-encryption"} - set(expected)
    assert not unasked & set(begun.headers)


@both
def test_every_request_names_the_owner_that_is_expected(data: bytes, faulty: State) -> None:
    options = S3Options(
        endpoint_url=faulty.url, part_size=5 * MIB, expected_bucket_owner="123456789012", if_exists="fail"
    )
    store(options, data)
    faulty.fail("UploadPart", "AccessDenied", status=403)
    with pytest.raises((AuthError, ExistsError)):
        store(options, DATA)
    operations = {request.operation for request in faulty.requests}
    assert {"HeadObject", "CreateMultipartUpload", "UploadPart", "AbortMultipartUpload"} <= operations
    assert all(request.headers.get("x-amz-expected-bucket-owner") == "123456789012" for request in faulty.requests), (
        faulty.operations()
    )


def test_a_compression_has_its_content_type() -> None:
    chosen = parser().parse_args(["pack"])
    types = [s3_options(chosen, compress).content_type for compress in ("gzip", "none")]
    assert types == ["application/gzip", "application/x-tar"]


@pytest.mark.parametrize(
    "more",
    [
        {"sse_kms_key_id": "k"},
        {"sse_kms_key_id": "k", "sse": "AES256"},
        {"role_arn": ROLE, "no_sign_request": True},
        {"role_arn": "uploader"},
        {"expected_bucket_owner": "me"},
        {"retry_for": -1},
        {"retry_for": float("nan")},
        {"tags": {str(number): "x" for number in range(11)}},
        {"tags": {"": "x"}},
        {"tags": {"a": "line\nbreak"}},
        {"tags": {"a": "x" * 257}},
        {"metadata": {"OciRootFS-digest": "x"}},
        {"content_type": "a/b\r\nX: y"},
        {"storage_class": "COLD\n"},
        {"acl": "ü"},
        {"sse": "aws:kms", "sse_kms_key_id": "k\x7f"},
    ],
)
def test_what_no_store_takes(more: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        S3Options(**more)


@pytest.mark.parametrize("words", [["--s3-tag", "a"], ["--s3-metadata", "=b"]])
def test_a_pair_needs_both(words: list[str]) -> None:
    with pytest.raises(UsageError, match="KEY=VALUE"):
        s3_options(parser().parse_args(["pack", *words]), "gzip")


# An object that is there already

STAMP = stamp(image="a/b:1", digest="sha256:1", platform="linux/amd64", options="abc", version="1")


def standing(endpoint: str, bucket: str = BUCKET, stamped: dict[str, str] = STAMP, **more: Any) -> bool:
    target = S3Destination(S3Url(bucket, "a.tgz"), S3Options(endpoint_url=endpoint, **more), stamp=stamped)
    try:
        return target.standing() is not None
    finally:
        target.abort()


@both
def test_the_same_image_is_known_again(data: bytes, s3: S3Endpoint) -> None:
    where = (s3.endpoint, s3.bucket)
    assert not standing(*where)
    store(S3Options(endpoint_url=s3.endpoint, part_size=5 * MIB), data, stamped=STAMP, bucket=s3.bucket)
    assert standing(*where)
    assert standing(*where, STAMP | {"ocirootfs-version": "2", "ocirootfs-image": "another/name"})
    for fact in ("digest", "platform", "options"):
        assert not standing(*where, STAMP | {f"ocirootfs-{fact}": "other"})
        assert standing(*where, STAMP | {f"ocirootfs-{fact}": "other"}, if_exists="skip")
    assert not standing(*where, if_exists="replace")
    with pytest.raises(ExistsError, match="exists"):
        standing(*where, if_exists="fail")


def test_what_has_no_digest_is_never_the_same() -> None:
    unknown = stamp(image=None, digest=None, platform="linux/amd64", options="abc", version="1")
    assert not is_same(unknown, unknown)
    assert is_same(STAMP, STAMP)


def test_metadata_is_ascii_whatever_the_image_is_called() -> None:
    told = stamp(image="ü\n", digest=None, platform="x y", options="", version="1")
    assert (told["ocirootfs-image"], told["ocirootfs-platform"]) == ("%C3%BC%0A", "x%20y")


def test_it_takes_one_head_and_no_more(faulty: State) -> None:
    store(S3Options(endpoint_url=faulty.url), SMALL, stamped=STAMP)
    faulty.requests.clear()
    assert standing(faulty.url)
    assert faulty.operations() == ["HeadObject"]
    assert not standing(faulty.url, if_exists="replace")
    assert faulty.operations() == ["HeadObject"]


def test_who_may_not_look_replaces_and_does_nothing_else(faulty: State) -> None:
    faulty.fail("HeadObject", "AccessDenied", status=403)
    assert not standing(faulty.url)
    for choice in ("skip", "fail"):
        with pytest.raises(ForbiddenError) as caught:
            standing(faulty.url, if_exists=choice)
        assert "s3:ListBucket" in str(caught.value.hint)


@both
def test_a_store_without_if_none_match(data: bytes, faulty: State, caplog: pytest.LogCaptureFixture) -> None:
    for operation in ("PutObject", "CompleteMultipartUpload"):
        faulty.fail(operation, "NotImplemented", status=501, times=1)
    options = S3Options(endpoint_url=faulty.url, part_size=5 * MIB, if_exists="fail")
    store(options, data)
    assert "no If-None-Match" in caplog.text
    assert faulty.objects["a.tgz"].body == data
    with pytest.raises(ExistsError):
        store(options, data)
    assert faulty.uploads == {}


@both
@pytest.mark.parametrize(("server", "warned"), [("AmazonS3", False), ("Ceph Object Gateway", True), ("", True)])
def test_fail_says_where_it_may_not_be_atomic(
    data: bytes, server: str, warned: bool, faulty: State, caplog: pytest.LogCaptureFixture
) -> None:
    faulty.server_header = server
    store(S3Options(endpoint_url=faulty.url, part_size=5 * MIB, if_exists="fail"), data)
    said = [record for record in caplog.records if record.levelname == "WARNING"]
    assert bool(said) == warned
    assert not warned or "honours If-None-Match" in said[0].getMessage()


# Time


@both
@pytest.mark.parametrize("hours", [-20, -0.5, 3])
def test_a_clock_that_is_off_is_made_up_for(
    data: bytes, hours: float, faulty: State, caplog: pytest.LogCaptureFixture
) -> None:
    faulty.ahead = hours * 3600
    store(S3Options(endpoint_url=faulty.url, part_size=5 * MIB, if_exists="fail"), data)  # begins with a HEAD
    assert faulty.objects["a.tgz"].body == data
    (said,) = [record.getMessage() for record in caplog.records if "clock" in record.getMessage()]
    assert ("ahead of" if hours < 0 else "behind") in said
    first, second, *rest = faulty.operations()
    assert first == second, "what was refused is sent again"
    assert len(rest) == (1 if data == SMALL else 5), "and all else is right at once"


@pytest.mark.parametrize("days", [-40, 2])
@pytest.mark.parametrize(("choice", "operation"), [("update", "PutObject"), ("fail", "HeadObject")])
def test_a_clock_that_is_off_by_days_is_an_error(choice: Any, operation: str, days: int, faulty: State) -> None:
    faulty.ahead = days * 86400
    with pytest.raises(AuthError, match=r"RequestTimeTooSkewed|403") as caught:
        store(S3Options(endpoint_url=faulty.url, if_exists=choice), SMALL)
    assert f"clock is {'40 days ahead of' if days < 0 else '48 hours behind'} the store's" in str(caught.value.hint)
    assert faulty.operations() == [operation]


def test_a_clock_that_is_right_is_not_blamed_for_a_refusal(faulty: State, caplog: pytest.LogCaptureFixture) -> None:
    faulty.fail("HeadObject", "AccessDenied", status=403)
    with pytest.raises(AuthError):
        store(S3Options(endpoint_url=faulty.url, if_exists="fail"), SMALL)
    assert faulty.operations() == ["HeadObject"]
    assert "clock" not in caplog.text


@pytest.mark.parametrize("what", ["InternalError", "SlowDown", "reset"])
def test_retries_end_with_the_time_for_them(what: str, faulty: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "4")
    faulty.fail("PutObject", what, status=503)
    for seconds, tries in ((150, 2), (0, 1)):
        faulty.requests.clear()
        clock = count(0.0, 100.0)  # read when a request begins, and after each try
        options = S3Options(endpoint_url=faulty.url, retry_for=seconds)
        client = make_client(options, monotonic=partial(next, clock))
        target = S3Destination(S3Url(BUCKET, "a"), options, client)
        target.write(SMALL)
        with pytest.raises(TemporaryError):
            target.commit()
        target.abort()
        client.close()
        assert faulty.operations().count("PutObject") == tries


# Where it is


def name_endpoint(where: str, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if where.isupper():
        monkeypatch.setenv(where, url)
    else:
        (tmp_path / "config").write_text(f"[default]\nendpoint_url = {url}\n")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))


@pytest.mark.parametrize(
    "url",
    [
        "http://me:hunter2@127.0.0.1:9",
        "http://me:hunter2@127.0.0.1:99999",
        "http://me:hunter2@a b",
        "me:hunter2@127.0.0.1:9",
        "http://me:hunt@er2/x@127.0.0.1",
        "http://store/?token=hunter2",
        "store",
    ],
)
@pytest.mark.parametrize("where", ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "profile"])
def test_an_endpoint_is_judged_wherever_it_is_named(
    where: str, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name_endpoint(where, url, tmp_path, monkeypatch)
    with pytest.raises(UsageError, match="endpoint") as caught:
        store(S3Options(), SMALL)
    told = "".join(traceback.format_exception(caught.value))
    assert "hunt" not in told
    assert "er2" not in told


def test_an_endpoint_of_the_callers_own_client_is_shown_bare(faulty: State, caplog: pytest.LogCaptureFixture) -> None:
    faulty.fail("UploadPart", "AccessDenied", status=403)
    faulty.fail("AbortMultipartUpload", "AccessDenied", status=403)
    client = boto3.client("s3", endpoint_url=faulty.url.replace("//", "//me:hunter2@"), region_name="us-east-1")
    target = S3Destination(S3Url(BUCKET, "a"), S3Options(part_size=5 * MIB), client)
    with pytest.raises(AuthError):
        target.write(DATA + bytes(20 * MIB))
    target.abort()
    client.close()
    assert f"--endpoint-url {faulty.url} " in caplog.text
    assert "hunter2" not in caplog.text


def test_the_endpoint_that_is_shown_is_the_one_in_effect() -> None:
    named = {"AWS_ENDPOINT_URL": "http://a", "AWS_ENDPOINT_URL_S3": "http://b"}
    assert endpoint(S3Options(endpoint_url="http://c"), named) == "http://c"
    assert endpoint(S3Options(), named) == "http://b"
    assert endpoint(S3Options(), named | {"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"}) is None


# Who asks


def test_a_role_is_assumed(s3: S3Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", s3.endpoint)
    client = make_client(S3Options(endpoint_url=s3.endpoint, role_arn=ROLE))
    found: Any = client._get_credentials()  # type: ignore[attr-defined]
    assert found.method == "assume-role"
    keys = found.get_frozen_credentials()
    assert keys.access_key != "testing"
    sts = boto3.client("sts", aws_access_key_id=keys.access_key, aws_secret_access_key=keys.secret_key,
                       aws_session_token=keys.token, endpoint_url=s3.endpoint, region_name="us-east-1")  # fmt: skip
    assert sts.get_caller_identity()["Arn"] == "arn:aws:sts::123456789012:assumed-role/uploader/ocirootfs"
    sts.close()
    client.put_object(Bucket=s3.bucket, Key="a", Body=b"x")
    assert s3.keys() == ["a"]


def test_a_role_that_is_refused(faulty: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", faulty.url)
    faulty.fail("CreateMultipartUpload", "AccessDenied", status=403)  # any POST that this server does not know
    options = S3Options(endpoint_url=faulty.url, role_arn=ROLE)
    with pytest.raises(AuthError, match="cannot assume the role to write") as caught:
        store(options, SMALL)
    assert "--role-arn" in str(caught.value.hint)
    assert set(faulty.operations()) == {"CreateMultipartUpload"}


@pytest.mark.parametrize("what", ["page", "nothing"])
def test_a_role_of_what_is_no_sts(what: str, faulty: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", faulty.url)
    faulty.fail("CreateMultipartUpload", what)  # any POST that this server does not know
    with pytest.raises(NoStoreError, match="what answers is no S") as caught:
        store(S3Options(endpoint_url=faulty.url, role_arn=ROLE), SMALL)
    assert "ENDPOINT_URL" in str(caught.value.hint).upper().replace("-", "_")


def test_an_endpoint_of_sts_that_is_none_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "http://me:hunter2@a b")
    with pytest.raises(UsageError, match="Invalid endpoint") as caught:
        store(S3Options(role_arn=ROLE, endpoint_url="http://127.0.0.1:9"), SMALL)
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


def test_a_role_needs_somebody_to_assume_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(AuthError, match="no usable credentials"):
        store(S3Options(endpoint_url="http://127.0.0.1:9", role_arn=ROLE), SMALL)


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)


def configure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    (tmp_path / "config").write_text(f"[default]\n{text}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))


@pytest.mark.usefixtures("nobody")
@pytest.mark.parametrize(
    ("program", "kind", "said"),
    [
        ("echo hunter2 >&2; exit 1", AuthError, "no usable credentials were found: the credential_process failed"),
        ("echo hunter2", AuthError, "what gives credentials gave something else"),
        ("echo '[\"hunter2\"]'", AuthError, "what gives credentials gave something else"),
        (None, LocalError, "cannot set up S3: its credentials need .*: No such file"),
    ],
)
def test_a_program_that_gives_no_credentials(
    program: str | None, kind: type[OcirootfsError], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "program"
    if program is not None:
        path.write_text(f"#!/bin/sh\n{program}\n")
        path.chmod(0o700)
    configure(tmp_path, monkeypatch, f"credential_process = {path}")
    with pytest.raises(kind, match=said) as caught:
        make_client(S3Options())
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.usefixtures("nobody")
def test_a_container_that_gives_no_credentials(faulty: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{faulty.url}/?prefix=x")
    with pytest.raises(AuthError, match="no usable credentials were found: AWS_CONTAINER_CREDENTIALS_FULL_URI"):
        make_client(S3Options())  # what answers is XML


@pytest.mark.usefixtures("nobody")
def test_a_token_that_is_not_there_is_named(faulty: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", "/nonexistent/token")
    monkeypatch.setenv("AWS_ROLE_ARN", ROLE)
    with pytest.raises(LocalError, match=r"cannot write s3://.*: its credentials need '/nonexistent/token': No such"):
        store(S3Options(endpoint_url=faulty.url), SMALL)


def test_half_of_the_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(AuthError, match="AWS_SECRET_ACCESS_KEY"):
        make_client(S3Options())


def test_a_code_is_not_read_from_standard_input(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(
        f"[default]\nrole_arn={ROLE}\nsource_profile=b\n[profile b]\nrole_arn={ROLE}\nsource_profile=c\n"
        "mfa_serial=arn:aws:iam::1:mfa/x\n[profile c]\naws_access_key_id=a\naws_secret_access_key=b\n"
    )
    env = environment(AWS_CONFIG_FILE=str(config), AWS_ACCESS_KEY_ID=None, AWS_SECRET_ACCESS_KEY=None)
    words = ("check", "s3://bucket/a-1.tgz", "--endpoint-url", "http://127.0.0.1:9")
    ran = run(*words, stdin=b"123456\n", env=env, start_new_session=True)
    assert (ran.status, ran.out) == (4, b"")
    assert ran.err.startswith("ocirootfs: error: cannot set up S3: the profile's role wants an MFA code")


@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"])
@pytest.mark.parametrize("value", ["hunter2\n", " hunter2", "hun\rter2"])
def test_credentials_that_no_header_takes_are_refused_at_once(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(AuthError, match=f"cannot set up S3: {name} holds a line break") as caught:
        make_client(S3Options())
    assert "hun" not in str(caught.value)
    make_client(S3Options(no_sign_request=True)).close()


def test_credentials_that_expire_are_fetched_again(
    faulty: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A credential process whose keys last a second: each request of the upload bears those of its time."""
    process = tmp_path / "process.py"
    process.write_text(
        textwrap.dedent(f"""
        import datetime as dt, json, pathlib
        counter = pathlib.Path({str(tmp_path / "count")!r})
        counter.write_text((counter.read_text() if counter.exists() else "") + "x")
        end = dt.datetime.now(dt.timezone.utc) + dt.timedelta(seconds=1)
        print(json.dumps({{"Version": 1, "AccessKeyId": f"KEY{{len(counter.read_text())}}",
                           "SecretAccessKey": "s", "SessionToken": "t", "Expiration": end.isoformat()}}))
        """)
    )
    (tmp_path / "config").write_text(f"[default]\ncredential_process = {sys.executable} {process}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    store(S3Options(endpoint_url=faulty.url, part_size=5 * MIB), DATA)
    assert faulty.objects["a.tgz"].body == DATA
    keys = {re.findall(r"Credential=(KEY\d+)/", request.headers["authorization"])[0] for request in faulty.requests}
    assert len(keys) > 1


# The README's policy, by the policy engine of a store


@pytest.fixture(scope="module")
def strict() -> Iterator[str]:
    """Run moto in a process of its own, where it heeds policies after the first few requests."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    environment = os.environ | {"INITIAL_NO_AUTH_ACTION_COUNT": str(_FREE), "S3_IGNORE_SUBDOMAIN_BUCKETNAME": "true"}
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            end = time.monotonic() + 60
            while time.monotonic() < end:
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    time.sleep(0.05)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


@pytest.fixture(scope="module")
def users(strict: str) -> dict[str, tuple[str, str]]:
    """Make the bucket and two users by requests that are free; gives their keys."""
    settings: dict[str, Any] = {
        "endpoint_url": strict, "region_name": "us-east-1", "aws_access_key_id": "x", "aws_secret_access_key": "x",
    }  # fmt: skip
    iam, s3 = boto3.client("iam", **settings), boto3.client("s3", **settings)
    s3.create_bucket(Bucket="images")
    keys = {}
    for user, document in {"allowed": policy(), "hindered": without("s3:PutObject")}.items():
        iam.create_user(UserName=user)
        iam.put_user_policy(UserName=user, PolicyName="p", PolicyDocument=json.dumps(document))
        found = iam.create_access_key(UserName=user)["AccessKey"]
        keys[user] = (found["AccessKeyId"], found["SecretAccessKey"])
    iam.close()
    s3.close()
    return keys


def become(user: str, users: dict[str, tuple[str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in zip(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), users[user], strict=True):
        monkeypatch.setenv(name, value)


@both
def test_the_policy_is_enough(
    data: bytes, strict: str, users: dict[str, tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    become("allowed", users, monkeypatch)
    options = S3Options(endpoint_url=strict, part_size=5 * MIB, if_exists="fail")
    key = f"{len(data)}.tgz"
    target = S3Destination(S3Url("images", key), options)
    assert target.standing() is None
    target.write(data)
    assert target.commit().size == len(data)
    cut = S3Destination(S3Url("images", f"{key}.cut"), options)
    cut.write(DATA)
    cut.abort()
    client = make_client(options)
    assert client.head_object(Bucket="images", Key=key)["ContentLength"] == len(data)
    with pytest.raises(client.exceptions.ClientError, match="AccessDenied"):
        client.delete_object(Bucket="images", Key=key)
    client.close()


def test_without_the_right_to_put_nothing_is_put(
    strict: str, users: dict[str, tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    become("hindered", users, monkeypatch)
    for data in (SMALL, DATA):
        with pytest.raises(AuthError, match="AccessDenied") as caught:
            store(S3Options(endpoint_url=strict, part_size=5 * MIB), data, bucket="images")
        assert "s3:PutObject" in str(caught.value.hint)
