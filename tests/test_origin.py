"""Origins and redirects: what is the same origin, what is local, where a redirect may not lead."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocirootfs.errors import TemporaryError
from ocirootfs.registry.origin import Origin, is_loopback, next_hop, redacted


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("https://a.example", "https://A.EXAMPLE:443/x?y", True),
        ("http://a.example", "http://a.example:80/", True),
        ("https://[::1]", "https://[::1]:443", True),
        ("https://a.example", "http://a.example", False),
        ("https://a.example", "http://a.example:443", False),
        ("https://a.example", "https://a.example:444", False),
        ("https://a.example", "https://b.a.example", False),
        ("https://a.example", "https://a.example.", False),
    ],
)
def test_origins(one: str, other: str, *, same: bool) -> None:
    assert (Origin.of(one) == Origin.of(other)) is same


def test_the_default_port_is_not_written() -> None:
    assert str(Origin.of("https://a.example:443/x")) == "a.example"
    assert str(Origin.of("http://[::1]:5000")) == "[::1]:5000"


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://a.example/x",
        "data:,x",
        "gopher://a.example",
        "https://",
        "https:///x",
        "https://user@a.example/",
        "https://user:pw@a.example/",
        "https://a.example\\@b.example/",
        "https://a.example:99999/",
        "https://a.example:x/",
        "https://[::1/",
        "https://a.example/ b",
        "https://a.example/\r\nX: y",
        "https://a.example/é",
        "https://a.example/" + "x" * 9000,
        "",
    ],
)
def test_no_origin(url: str) -> None:
    with pytest.raises(TemporaryError, match="refused to follow"):
        Origin.of(url)


@pytest.mark.parametrize("host", ["localhost", "x.localhost", "127.0.0.1", "127.8.8.8", "::1", "2130706433", "0x7f.1"])
def test_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["localhost.example", "127.0.0.1.example", "10.0.0.1", "::2", "example", ""])
def test_not_loopback(host: str) -> None:
    assert not is_loopback(host)


HERE = "https://registry.example/v2/a/blobs/x"


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("https://cdn.example/x?sig=%2F+a", "https://cdn.example/x?sig=%2F+a"),
        ("/other?x", "https://registry.example/other?x"),
        ("y", "https://registry.example/v2/a/blobs/y"),
        ("//cdn.example/x", "https://cdn.example/x"),
        ("https://10.0.0.1:9000/bucket", "https://10.0.0.1:9000/bucket"),
        ("/caf\xc3\xa9", "https://registry.example/caf%C3%A9"),
    ],
)
def test_redirects(location: str, url: str) -> None:
    assert next_hop(HERE, location) == url


@pytest.mark.parametrize(
    ("location", "says"),
    [
        ("http://registry.example/", "from https to http"),
        ("https://127.0.0.1/", "to a local address"),
        ("https://localhost/", "to a local address"),
        ("https://localhost./", "to a local address"),
        ("https://169.254.169.254/latest/meta-data?x=s3cret", "to a local address"),
        ("https://[fd00:ec2::254]/", "to a local address"),
        ("https://100.100.100.200/", "to a local address"),
        ("https://[::ffff:169.254.169.254]/", "to a local address"),
        ("https://2852039166/", "to a local address"),
        ("https://0.0.0.0/", "to a local address"),
        ("file:///etc/passwd", "only http and https"),
        ("https://user:s3cret@cdn.example/", "holds a user name"),
        ("https://[::1", "no URL"),
    ],
)
def test_redirects_that_are_not_followed(location: str, says: str) -> None:
    with pytest.raises(TemporaryError, match=says) as caught:
        next_hop(HERE, location)

    assert "s3cret" not in str(caught.value)


def test_a_local_registry_may_lead_to_a_local_address() -> None:
    assert next_hop("http://127.0.0.1:5000/x", "http://localhost:9000/y") == "http://localhost:9000/y"


def test_redacted() -> None:
    assert redacted("https://u:p@a.example/x?X-Amz-Signature=s#t") == "https://a.example/x"


@settings(deadline=None)
@given(st.text() | st.text(alphabet="htps:/@[]1.\\?#%é \r\n", max_size=30))
def test_any_location_is_followed_or_refused(location: str) -> None:
    try:
        url = next_hop(HERE, location)
    except TemporaryError:
        return
    assert Origin.of(url).scheme == "https"
