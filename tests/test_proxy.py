"""Proxies: a real one, which tunnels by CONNECT; who goes through it, and what it is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ocirootfs.errors import TemporaryError, UsageError
from ocirootfs.reference import Reference
from ocirootfs.registry import Registry
from ocirootfs.registry.credentials import Credentials
from tests.servers.certificate import Authority
from tests.servers.proxy import Proxy
from tests.servers.registry import PASSWORD, USER, FakeRegistry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAMES = ("registry.corp", "auth.registry.corp", "cdn.other")
LOGIN = "proxy-user:pr0xy-s3cret"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def fake(authority: Authority) -> Iterator[FakeRegistry]:
    """A registry whose names only the proxy can resolve."""
    with FakeRegistry(tls=authority.server(*NAMES), auth="bearer", redirect=True) as found:
        found.realm = "https://auth.registry.corp/token"
        yield found


def places(fake: FakeRegistry) -> dict[str, str]:
    return dict(zip((f"{name}:443" for name in NAMES), (fake.host, fake.token, fake.cdn), strict=True))


def pull(fake: FakeRegistry, authority: Authority, **options: Any) -> list[bytes]:
    fake.add_image()
    fake.cdn = "cdn.other"
    me = Credentials(USER, PASSWORD)
    with Registry(
        credentials=me, ca_file=authority.ca_file, sleep=lambda _: None, retries=0, certs_directories=(), **options
    ) as registry:
        image = registry.open(Reference.parse("registry.corp/a/b:1"))
        return [b"".join(layer.blob()) for layer in image.layers]


def test_all_goes_through_the_proxy(fake: FakeRegistry, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    with Proxy(places(fake), login=LOGIN) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://{LOGIN}@{proxy.host}")

        assert pull(fake, authority) == [b"layer one", b"layer two"]

    assert set(proxy.asked) == {f"CONNECT {name}:443" for name in NAMES}
    # The proxy's password ends at the proxy, and the registry's inside the tunnel.
    assert [found for found in fake.requests if "Proxy-Authorization" in found.headers] == []
    assert [headers for headers in proxy.headers if "Authorization" in headers] == []


def test_a_proxy_that_lets_nobody_through(
    fake: FakeRegistry, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Proxy(places(fake), login=LOGIN) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://proxy-user:wr0ng@{proxy.host}")

        with pytest.raises(TemporaryError, match=r"through the proxy: it wants authentication \(407\)") as caught:
            pull(fake, authority)

    assert "wr0ng" not in f"{caught.value} {caught.value.hint}"
    assert fake.requests == []


def test_some_hosts_are_not_the_proxys(
    fake: FakeRegistry, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Proxy(places(fake)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", "corp")

        with pytest.raises(TemporaryError, match=r"cannot resolve host 'registry\.corp'"):
            pull(fake, authority)

    assert proxy.asked == []


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "ALL_PROXY"])
@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("socks5://u:pr0xy-s3cret@127.0.0.1:1", "names a proxy of the kind 'socks5', which is not supported"),
        ("socks5h://127.0.0.1:1", "names a proxy of the kind 'socks5h', which is not supported"),
        ("ftp://x:1", "names a proxy of the kind 'ftp', which is not supported"),
        ("http://", "is no URL of a proxy"),
        ("http://u:pr0xy-s3cret@:3128", "is no URL of a proxy"),
        ("http://u:pr0xy-s3cret@[::1", "is no URL of a proxy"),
        ("http://u:pr0xy-s3cret@proxy:x", "is no URL of a proxy"),
        ("u:pr0xy-s3cret@proxy:999999", "is no URL of a proxy"),
    ],
)
def test_what_is_no_proxy(name: str, value: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)

    with Registry(retries=0, certs_directories=()) as registry, pytest.raises(UsageError) as caught:
        registry.open(Reference.parse("registry.corp/a/b:1"))

    assert str(caught.value) == f"{name} {words}"
    assert caught.value.hint == "proxies are http://HOST:PORT or https://HOST:PORT"
