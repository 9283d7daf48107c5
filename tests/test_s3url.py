from __future__ import annotations

from typing import Any

import pytest

from ocirootfs.errors import UsageError
from ocirootfs.s3.url import S3Options, S3Url


@pytest.mark.parametrize(
    ("text", "bucket", "key", "prefix"),
    [
        ("s3://images/ubuntu/ubuntu-17.04.tgz", "images", "ubuntu/ubuntu-17.04.tgz", False),
        ("S3://images/a", "images", "a", False),
        ("s3://images/ubuntu/", "images", "ubuntu/", True),
        ("s3://images/", "images", "", True),
        ("s3://My_Old.bucket/a b+c?d#e%2e", "My_Old.bucket", "a b+c?d#e%2e", False),
        ("s3://images/ü…/x", "images", "ü…/x", False),
        ("s3://images/a..b/...", "images", "a..b/...", False),
        ("s3://images/" + "k" * 1024, "images", "k" * 1024, False),
    ],
)
def test_urls(text: str, bucket: str, key: str, *, prefix: bool) -> None:
    url = S3Url.parse(text)
    assert (url.bucket, url.key, url.is_prefix) == (bucket, key, prefix)
    assert str(url) == "s3" + text[2:]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "images/a",
        "http://images/a",
        "s3:/images/a",
        "s3://",
        "s3:///a",
        "s3://images",
        "s3://im/a",
        "s3://../a",
        "s3://a..b/a",
        "s3://-ab/a",
        "s3://user:password@host/a",
        "s3://images//a",
        "s3://images/a/../b",
        "s3://images/..",
        "s3://images/./a",
        "s3://images/a\nb",
        "s3://images/a\x7f",
        "s3://images/a\u202eb",
        "s3://images/\udcff",
        "s3://images/" + "ü" * 513,
    ],
)
def test_what_is_no_url(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        S3Url.parse(text)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "text",
    ["s3://key:hunter2@bucket/a", "s3://key:hun/ter2@bucket/a", "s3://key:hunter2@bucket", "s4://key:hunter2@b/a"],
)
def test_what_is_no_url_shows_no_password(text: str) -> None:
    with pytest.raises(UsageError, match="credentials have no place in it") as caught:
        S3Url.parse(text)
    assert "hun" not in str(caught.value)
    assert "ter2" not in str(caught.value)


def test_a_name_joins_a_prefix() -> None:
    assert str(S3Url.parse("s3://images/u/").joined("a.tgz")) == "s3://images/u/a.tgz"
    assert str(S3Url.parse("s3://images/").joined("a.tgz")) == "s3://images/a.tgz"
    for escaping in ("../x", "..", "a/../../x"):
        with pytest.raises(UsageError):
            S3Url.parse("s3://images/u/").joined(escaping)


@pytest.mark.parametrize(
    "options",
    [
        {"part_size": 5 * 1024**2 - 1},
        {"part_size": 5 * 1024**3 + 1},
        {"jobs": 0},
        {"jobs": 65},
        {"metadata": {"name": "line\nbreak"}},
        {"metadata": {"name": "ü"}},
        {"metadata": {"na me": "x"}},
        {"endpoint_url": "minio.corp:9000"},
        {"endpoint_url": "ftp://minio.corp"},
        {"endpoint_url": "http://"},
        {"endpoint_url": "http://host:port"},
        {"endpoint_url": "http://host/?x=1"},
        {"endpoint_url": "http://user:secret@host"},
    ],
)
def test_options_that_no_store_takes(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        S3Options(**options)
    assert "secret" not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize("url", ["http://127.0.0.1:9000", "https://s3.corp/", "http://[::1]:80"])
def test_endpoints(url: str) -> None:
    assert S3Options(endpoint_url=url).endpoint_url == url
