"""Versions as the S3 resource finds and orders them, against what Go's own code answered."""

from __future__ import annotations

import itertools
import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from ocirootfs import versions
from ocirootfs.cli import latest
from ocirootfs.errors import UsageError
from ocirootfs.goregexp import compiled
from ocirootfs.s3.reading import below
from ocirootfs.s3.url import S3Options, S3Url
from ocirootfs.versions import Folder, KeyRegexp
from tests import make_fixtures
from tests.commands import Ran, run_here
from tests.layers import FIXTURES
from tests.servers.raw import answering

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers.moto import S3Endpoint

GO: Any = json.loads((FIXTURES / "consumer.json").read_text())


# Regular expressions


@pytest.mark.parametrize(("pattern", "text", "expected"), GO["regexps"])
def test_a_pattern_finds_what_go_finds(pattern: str, text: str, expected: Any) -> None:
    if expected == "error":
        with pytest.raises(UsageError, match="no regular expression of Go's"):
            compiled(pattern)
        return
    match = compiled(pattern).search(text)
    assert (match and list(match.groups)) == expected


@pytest.mark.parametrize("pattern", ["(a*)*b", "(a+)+$x", "(a|a)*b", "(.*)(.*)(.*)(.*)(.*)x", "(a?){500}b"])
def test_no_pattern_takes_long(pattern: str) -> None:
    """Python's `re` takes years for the first three."""
    began = time.monotonic()
    assert compiled(pattern).search("a" * 60) is None
    assert time.monotonic() - began < 5


def test_what_go_has_and_is_not_known_here() -> None:
    with pytest.raises(UsageError, match="classes of Unicode"):
        compiled(r"\pL")
    with pytest.raises(UsageError, match="longer than 1000"):
        compiled("a" * 1001)
    assert compiled("(" * 100 + "a" + ")" * 100).search("a")
    with pytest.raises(UsageError, match="more than 100 groups within one another"):
        compiled("(" * 200 + "a" + ")" * 200)


# Order


@pytest.mark.parametrize(("lower", "higher"), list(itertools.pairwise(GO["versions"])), ids=lambda group: group[0])
def test_the_order(lower: list[str], higher: list[str]) -> None:
    assert max(map(versions.order, lower)) < min(map(versions.order, higher))


def test_versions_that_are_equal() -> None:
    assert all(len(set(map(versions.order, group))) == 1 for group in GO["versions"])
    assert all(versions.fault(version) is None for group in GO["versions"] for version in group)


@pytest.mark.parametrize("version", GO["invalid"])
def test_versions_that_are_none(version: str) -> None:
    assert versions.fault(version)


@pytest.mark.parametrize(
    ("lower", "higher", "said"),
    [
        ("17.10", "17.04", "'04' has a leading zero"),
        ("1000", "0999", "'0999' has a leading zero"),
        ("v10.0", "v9.0", "letter by letter"),
        ("2.0", "latest", "'latest' is a word"),
        ("1-a", "1", "before the version without it"),
        ("3.9", "3.10", ""),
        ("1", "1+a", ""),
        ("1.0", "1.0.a", "'a' is a word"),
    ],
)
def test_why(lower: str, higher: str, said: str) -> None:
    assert versions.order(lower) < versions.order(higher)
    why = versions.reason(lower, higher)
    assert said in why
    assert bool(said) == bool(why)


# Keys

UBUNTU = "ubuntu/ubuntu-(.*).tgz"
KEYS = [
    (UBUNTU, "ubuntu/ubuntu-17.04.tgz", "17.04"),
    (UBUNTU, "ubuntu/ubuntu-17.04_tgz", "17.04"),
    (UBUNTU, "ubuntu/ubuntu-core-17.04.tgz", "core-17.04"),
    (UBUNTU, "ubuntu/ubuntu-17.04.tgz.sha256", None),
    (UBUNTU, "ubuntu/old/ubuntu-17.04.tgz", None),
    (UBUNTU, "my/ubuntu/ubuntu-17.04.tgz", None),
    (UBUNTU, "ubuntu/ubuntu-a/b.tgz", None),
    ("a-(.*)-(.*).tgz", "a-1-sha256:2.tgz", "1"),
    ("a-(?P<arch>.*)-(?P<version>.*).tgz", "a-arm-2.tgz", "2"),
    ("a-(?P<arch>.*).tgz", "a-arm.tgz", "arm"),
    (r"(?:x|a)-(\d+)\.tgz", "a-2.tgz", "2"),
    ("a-(.*?)", "a-12", ""),  # found from end to end by check, and then only as far as it must
    ("v[0-9]+/a-(.*).tgz", "v12/a-2.tgz", "2"),
    ("v[0-9]+/a-(.*).tgz", "v12/b/a-2.tgz", None),
    ("(.*)", "a", "a"),
]


@pytest.mark.parametrize(("regexp", "key", "version"), KEYS)
def test_what_check_finds_in_a_key(regexp: str, key: str, version: str | None) -> None:
    found = KeyRegexp.parse(regexp)
    assert found.lists(key) == (version is not None)
    if version is not None:
        assert found.version(key) == version


@pytest.mark.parametrize(
    "folder", ["", "a/", "a.b/c-d/", "a+b/", "x/a(b)/", "a[b/c]d/", "a(b/", "a*/{c}/", "a?b/", "^/"]
)
def test_the_regexp_that_is_recommended_finds_the_key(folder: str) -> None:
    """The resource puts a folder as it is into the next part's regexp, which no escape survives."""
    key = f"{folder}app-1.2.tgz"
    found = versions.pattern(key)
    assert (found is not None) == (not set("+([*?^") & set(folder))
    assert found is None or (KeyRegexp.parse(found.regexp).lists(key), found.version) == (True, "1.2")


@pytest.mark.parametrize("regexp", ["a.tgz", "(", "a(b/c).tgz", "a[b/]c(.*)", "(?=a)(b)", "(a)\\1"])
def test_what_is_no_regexp_for_the_resource(regexp: str) -> None:
    with pytest.raises(UsageError):
        KeyRegexp.parse(regexp)


def test_folders_that_are_looked_into() -> None:
    """Parts without a special character are gone down to unseen; the others are listed."""
    asked = []

    def below(prefix: str) -> Iterator[Folder]:
        asked.append(prefix)
        yield from {"x/": [Folder("x/v1/", True), Folder("x/v2/", True), Folder("x/w/", True)]}.get(
            prefix, [Folder(f"{prefix}a-1", False), Folder(f"{prefix}a-2/", True)]
        )

    assert list(KeyRegexp.parse("x/v(.)/a-.").keys(below)) == ["x/v1/a-1", "x/v2/a-1"]
    assert asked == ["x/", "x/v1/", "x/v2/"]


def test_the_outlook() -> None:
    regexp = KeyRegexp.parse("(.*).tgz")
    keys = ["1.0.tgz", "17.10.tgz", "17.04.tgz", "1..2.tgz", "17.04.0.tgz", "a~b.tgz", "17.04.tgz"]
    found = versions.outlook(regexp, keys)
    assert found.latest == ("17.04.tgz", "17.04.0.tgz")
    assert [key for key, _ in found.broken] == ["1..2.tgz", "a~b.tgz"]


@pytest.mark.parametrize(("regexp", "key"), [(UBUNTU, "ubuntu/ubuntu-17.10.tgz"), ("(a+b)-x(.*)", "aab-x2")])
def test_a_regexp_for_one_key_alone(regexp: str, key: str) -> None:
    one = KeyRegexp.parse(versions.alone(KeyRegexp.parse(regexp), key))
    assert one.lists(key)
    assert not one.lists(key.replace("1", "11").replace("2", "22"))
    assert one.version(key) == KeyRegexp.parse(regexp).version(key)


# pack --check-regexp


@pytest.fixture
def bucket(s3: S3Endpoint) -> S3Endpoint:
    for key in ("ubuntu/ubuntu-17.04.tgz", "ubuntu/readme.txt", "ubuntu/old/ubuntu-99.tgz"):
        s3.client.put_object(Bucket=s3.bucket, Key=key, Body=b"")
    return s3


def pack(bucket: S3Endpoint, to: str, regexp: str = UBUNTU, *more: str) -> Ran:
    at = ("-o", f"s3://{bucket.bucket}/{to}", "--endpoint-url", bucket.endpoint)
    return run_here("pack", f"oci:{make_fixtures.ZONES}", *at, "--check-regexp", regexp, *more)


def test_the_latest_version(bucket: S3Endpoint) -> None:
    ran = pack(bucket, "ubuntu/ubuntu-17.05.tgz")
    assert (ran.status, "warning" in ran.err) == (0, False), ran.err


def test_a_version_that_will_not_be_the_latest(bucket: S3Endpoint) -> None:
    ran = pack(bucket, "ubuntu/ubuntu-17.10.tgz")
    assert ran.status == 0
    assert "version 17.04 ('ubuntu/ubuntu-17.04.tgz') for the latest, not 17.10" in ran.err
    assert "'04' has a leading zero" in ran.err
    assert "version: {path: ubuntu/ubuntu-17.10.tgz}" in ran.err
    assert r"regexp: ubuntu/ubuntu-(17\.10)\.tgz" in ran.err


def test_versions_that_count_the_same(bucket: S3Endpoint) -> None:
    ran = pack(bucket, "ubuntu/ubuntu-17.04.0.tgz")
    assert (ran.status, "left to chance" in ran.err) == (0, True)


def test_what_breaks_the_bucket_is_named(bucket: S3Endpoint) -> None:
    bucket.client.put_object(Bucket=bucket.bucket, Key="ubuntu/ubuntu-1..2.tgz", Body=b"")
    ran = pack(bucket, "ubuntu/ubuntu-18.05.tgz")
    assert (ran.status, "'ubuntu/ubuntu-1..2.tgz' in the bucket ends Concourse's check" in ran.err) == (0, True)


@pytest.mark.parametrize(
    ("to", "regexp", "said"),
    [
        ("other/ubuntu-1.tgz", UBUNTU, "does not match"),
        ("ubuntu/ubuntu-1:2.tgz", UBUNTU, "characters that a version cannot have"),
        ("ubuntu/ubuntu-{os}..1.tgz", UBUNTU, "empty component"),
        ("ubuntu/ubuntu-1.tgz", "ubuntu/(?=a)(.*)", "no regular expression of Go's"),
        ("ubuntu/ubuntu-1.tgz", "ubuntu/.*", "has no group"),
    ],
)
def test_a_key_that_is_refused(to: str, regexp: str, said: str, bucket: S3Endpoint) -> None:
    before = bucket.keys()
    ran = pack(bucket, to, regexp)
    assert (ran.status, said in ran.err) == (2, True), ran.err
    assert bucket.keys() == before


def test_a_name_that_is_known_is_refused_before_the_image_is_asked_for(bucket: S3Endpoint) -> None:
    ran = run_here("pack", "oci:nowhere", "-o", f"s3://{bucket.bucket}/x.tgz", "--check-regexp", UBUNTU)
    assert (ran.status, "does not match" in ran.err) == (2, True), ran.err


def test_it_is_for_a_bucket() -> None:
    ran = run_here("pack", f"oci:{make_fixtures.ZONES}", "-o", "x.tgz", "--check-regexp", UBUNTU)
    assert (ran.status, "--check-regexp is for a bucket" in ran.err) == (2, True)


def test_who_may_not_list_is_warned(caplog: pytest.LogCaptureFixture) -> None:
    body = b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>"
    head = b"HTTP/1.1 403 Forbidden\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body)
    with answering(head + body) as store:
        options = S3Options(endpoint_url=f"http://{store.host}")
        latest.require(KeyRegexp.parse(UBUNTU), S3Url("images", "ubuntu/ubuntu-1.tgz"), options)
    assert "is not known: cannot list s3://images/ubuntu/: AccessDenied" in caplog.text


def test_pages(bucket: S3Endpoint) -> None:
    pages = [list(below(bucket.bucket, "ubuntu/", S3Options(), bucket.client, page=size)) for size in (1, 2, 1000)]
    assert pages[0] == pages[1]
    assert sorted(pages[0]) == sorted(pages[2])
    assert sorted(pages[2]) == [
        Folder("ubuntu/old/", True),
        Folder("ubuntu/readme.txt", False),
        Folder("ubuntu/ubuntu-17.04.tgz", False),
    ]
