"""Mirrors: asked first, believed no further than a digest reaches, and never told another's credentials."""

from __future__ import annotations

import base64
import json
import logging
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocirootfs.errors import DigestError, InputError, NotFoundError, TemporaryError, UsageError
from ocirootfs.limits import USUAL, Limits
from ocirootfs.platform import Platform
from ocirootfs.reference import Reference
from ocirootfs.registry import Registry
from ocirootfs.registry.credentials import Credentials, Keychain, anonymous
from ocirootfs.registry.mirror import Mirror
from tests.commands import environment, run
from tests.servers.certificate import Authority
from tests.servers.proxy import Proxy
from tests.servers.registry import PASSWORD, USER, FakeRegistry, Fault, digest_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

AMD64 = Platform.parse("amd64")
ME = Credentials(USER, PASSWORD)


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "DOCKER_AUTH_CONFIG"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    caplog.set_level(logging.WARNING, logger="ocirootfs")


@pytest.fixture
def origin() -> Iterator[FakeRegistry]:
    with FakeRegistry() as fake:
        yield fake


@pytest.fixture
def mirror() -> Iterator[FakeRegistry]:
    with FakeRegistry() as fake:
        yield fake


def pull(origin: FakeRegistry, mirror: FakeRegistry | str, reference: Reference, **options: Any) -> list[bytes]:
    """Pull an image of `origin` with a mirror."""
    where = mirror if isinstance(mirror, str) else f"http://{mirror.host}/cache"
    options = {"credentials": anonymous, "retries": 2, **options}
    with Registry(mirrors=[f"{origin.host}={where}"], sleep=lambda _: None, timeout=20, **options) as registry:
        return [b"".join(layer.blob()) for layer in registry.open(reference, AMD64).layers]


def warned(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "mirror" in record.getMessage()]


def test_what_a_mirror_has_is_the_mirrors(
    origin: FakeRegistry, mirror: FakeRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    mirror.add_image("cache/a/b")

    assert pull(origin, mirror, origin.reference("a/b", "1")) == [b"layer one", b"layer two"]

    assert origin.requests == []
    assert warned(caplog) == []
    assert {found.path.partition("/manifests")[0].partition("/blobs")[0] for found in mirror.requests} == {
        "/v2/cache/a/b"
    }


FAULTS = [
    Fault("/manifests/", status=404, times=99),
    Fault("/manifests/", status=400, times=99),
    Fault("/manifests/", status=403, times=99),
    Fault("/manifests/", status=503, times=99),
    Fault("/manifests/", status=429, headers={"Retry-After": "3600"}, times=99),
    Fault("/manifests/", status=200, body=b"<html>", times=99),
    Fault("/blobs/", status=404, times=99),
    Fault("/blobs/", status=500, times=99, skip=1),
    Fault("/blobs/", altered=True),
    Fault("/blobs/", status=200, body=b"<html>sign in</html>", times=99),
    Fault("/blobs/", status=200, body=b"<html>sign in</html>", times=99, skip=1),
    Fault("/blobs/", cut=2, times=99),
    Fault("/blobs/", cut=2, times=99, skip=1),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.path} {fault.status} {fault.skip}")
def test_what_it_fails_at_the_registry_does(
    origin: FakeRegistry, mirror: FakeRegistry, caplog: pytest.LogCaptureFixture, fault: Fault
) -> None:
    mirror.add_image("cache/a/b")
    mirror.faults = [Fault(**{name: getattr(fault, name) for name in fault.__dataclass_fields__})]

    assert pull(origin, mirror, origin.add_image()) == [b"layer one", b"layer two"]

    assert len(origin.requests) > 0
    if fault.cut is None:
        assert len(warned(caplog)) == 1
        assert warned(caplog)[0].startswith(f"the mirror {mirror.host} fails, asking {origin.host}: ")


def test_a_page_in_place_of_the_rest(origin: FakeRegistry, mirror: FakeRegistry) -> None:
    mirror.add_image("cache/a/b")
    page = Fault("/blobs/", status=200, body=b"<html>sign in</html>", skip=1)
    mirror.faults = [Fault("/blobs/", cut=2, skip=1), page]

    assert pull(origin, mirror, origin.add_image()) == [b"layer one", b"layer two"]

    assert [found.headers["Range"] for found in origin.seen(path="/blobs/") if "Range" in found.headers] == [
        "bytes=2-8"
    ]


def test_a_mirror_that_is_dead(origin: FakeRegistry, caplog: pytest.LogCaptureFixture) -> None:
    slept: list[float] = []
    with Registry(
        credentials=anonymous, mirrors=[f"{origin.host}=http://127.0.0.1:1"], sleep=slept.append, timeout=20
    ) as registry:
        registry.open(origin.add_image(), AMD64)

    assert len(warned(caplog)) == 1
    assert len(slept) == 1  # and not the five times that a registry alone is worth


def test_several_mirrors_in_their_order(origin: FakeRegistry, mirror: FakeRegistry) -> None:
    mirror.add_image("a/b")
    mirrors = [f"{origin.host}=http://127.0.0.1:1", f"{origin.host}=http://{mirror.host}"]
    with Registry(credentials=anonymous, mirrors=mirrors, sleep=lambda _: None, retries=0) as registry:
        registry.open(origin.reference("a/b", "1"), AMD64)

    assert origin.requests == []


def test_a_pinned_image_is_what_it_says(
    origin: FakeRegistry, mirror: FakeRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    reference = origin.add_image()
    pinned = Reference.parse(f"{reference}@{digest_of(origin._manifests['a/b', '1'].body)}")
    mirror.add_image("cache/a/b", layers=[b"other"])
    mirror._manifests["cache/a/b", str(pinned.digest)] = mirror._manifests["cache/a/b", "1"]

    assert pull(origin, mirror, pinned) == [b"layer one", b"layer two"]
    assert "expected sha256:" in warned(caplog)[0]


def test_an_altered_layer_is_an_error_that_names_the_mirror(origin: FakeRegistry, mirror: FakeRegistry) -> None:
    mirror.add_image("cache/a/b")
    mirror.faults = [Fault("/blobs/", altered=True, skip=1)]

    with pytest.raises(DigestError, match=f"from {mirror.host}: got"):
        pull(origin, mirror, origin.add_image())


def test_a_tag_is_what_the_mirror_says(origin: FakeRegistry, mirror: FakeRegistry) -> None:
    mirror.add_image("cache/a/b", layers=[b"newer"])

    assert pull(origin, mirror, origin.add_image()) == [b"newer"]


def test_a_page_of_another_length_is_no_layer(
    origin: FakeRegistry, mirror: FakeRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    """It says so before the first byte, and so the registry can still be asked."""
    reference = origin.add_image()
    mirror.add_image("cache/a/b")
    wanted = pull(origin, mirror, reference)
    mirror.faults = [Fault("/blobs/", status=200, body=b"<html>login</html>", times=99)]
    assert pull(origin, mirror, reference) == wanted
    assert len(origin.seen(path="/blobs/")) == 3
    assert len(warned(caplog)) >= 1


@pytest.mark.parametrize("limit", [None, 1])
def test_where_nobody_gets_to_the_registry_a_mirrors_word_counts(limit: int | None, mirror: FakeRegistry) -> None:
    """As behind a wall: what the mirror has not, or has in excess, no later try will bring."""
    if limit:
        mirror.add_image("cache/a/b", layers=[b"\0" * 1024] * 2)
    limits = Limits(layers=limit) if limit else USUAL
    with (
        Registry(
            mirrors=[f"127.0.0.1:1=http://{mirror.host}/cache"],
            credentials=anonymous,
            retries=0,
            plain_http=True,
            limits=limits,
        ) as registry,
        pytest.raises(InputError if limit else NotFoundError) as caught,
    ):
        registry.open(Reference.parse("127.0.0.1:1/a/b:1"), AMD64)
    assert "a mirror says so, and nobody gets to 127.0.0.1:1" in (caught.value.hint or "")


def test_where_the_registry_is_busy_that_is_what_counts(origin: FakeRegistry, mirror: FakeRegistry) -> None:
    reference = origin.add_image()
    origin.faults = [Fault("/manifests/", status=503, times=99)]
    with pytest.raises(TemporaryError, match="503"):
        pull(origin, mirror, reference)


def test_where_nobody_has_it_the_error_is_the_registrys(origin: FakeRegistry, mirror: FakeRegistry) -> None:
    with pytest.raises(NotFoundError, match=f"^{origin.host}/a/b:1: not found"):
        pull(origin, mirror, origin.reference("a/b", "1"))


def test_each_is_told_its_own_credentials() -> None:
    with FakeRegistry(auth="basic") as origin, FakeRegistry(auth="basic", login=("mirror-user", "m")) as mirror:
        reference = origin.add_image()
        mirror.add_image("cache/a/b")
        mirror.faults = [Fault("/blobs/", status=404, skip=2)]  # for the last layer, the registry itself is asked
        auths = {
            origin.host: {"auth": base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()},
            mirror.host: {"auth": base64.b64encode(b"mirror-user:m").decode()},
        }
        find = Keychain({"DOCKER_AUTH_CONFIG": json.dumps({"auths": auths})}).find

        assert pull(origin, mirror, reference, credentials=find) == [b"layer one", b"layer two"]

    for fake in (origin, mirror):
        sent = {found.headers.get("Authorization") for found in fake.requests}
        assert sent <= {None, f"Basic {auths[fake.host]['auth']}"}
        assert len(sent) == 2


def test_given_credentials_are_no_mirrors(origin: FakeRegistry, mirror: FakeRegistry) -> None:
    for fake in (origin, mirror):
        fake.auth = "basic"
    mirror.add_image("cache/a/b")

    assert pull(origin, mirror, origin.add_image(), credentials=ME) == [b"layer one", b"layer two"]

    assert [found for found in mirror.requests if "Authorization" in found.headers] == []


PARSED = [
    ("https://mirror.corp", ("docker.io", "mirror.corp", "", "https")),
    ("https://mirror.corp/", ("docker.io", "mirror.corp", "", "https")),
    ("http://mirror.corp:5000/hub/cache/", ("docker.io", "mirror.corp:5000", "hub/cache/", "http")),
    ("mirror.corp/hub", ("docker.io", "mirror.corp", "hub/", "")),
    ("docker.io=mirror.corp", ("docker.io", "mirror.corp", "", "")),
    ("ghcr.io=https://mirror.corp/gh", ("ghcr.io", "mirror.corp", "gh/", "https")),
    ("Hub=https://x.y/", ("Hub", "x.y", "", "https")),  # the capital makes it a host
    ("localhost:5000=[::1]:5001", ("localhost:5000", "[::1]:5001", "", "")),
]


@pytest.mark.parametrize(("text", "wanted"), PARSED)
def test_what_people_write(text: str, wanted: tuple[str, str, str, str]) -> None:
    assert Mirror.parse(text) == Mirror(*wanted)


@pytest.mark.parametrize(
    "text",
    [
        "", "=", "https://", "mirror", "ftp://x.y", "https://user:s3cret@x.y", "ghcr.io=https://u:a@s3cret/@x.y/hub",
        "u:s3cret@x.y", "https://x.y?z", "https://x.y/A",
        "https://x.y/../z", "ghcr.io=ghcr.io", "docker.io", "a b=https://x.y", "x.y:99999",
    ],
)  # fmt: skip
def test_what_is_no_mirror(text: str) -> None:
    with pytest.raises(UsageError, match="invalid mirror") as caught:
        Mirror.parse(text)
    assert "HOST" in (caught.value.hint or "")
    assert "s3cret" not in str(caught.value)


@settings(deadline=None)
@given(st.text() | st.text(alphabet="ax.:/=@[]-1", max_size=30))
def test_any_text_is_a_mirror_or_a_usage_error(text: str) -> None:
    try:
        found = Mirror.parse(text)
    except UsageError:
        return
    place = found.place_of(Reference.parse("a/b:1"))
    assert Reference.parse(str(place)) == place


def test_docker_hubs_own(tmp_path: Path) -> None:
    """From the command line, by their names: the mirror first, and Docker Hub for what it has not."""
    certificates = Authority(tmp_path)
    names = ("registry-1.docker.io", "auth.docker.io", "mirror.corp")
    with (
        FakeRegistry(tls=certificates.server(*names), auth="bearer", anonymous=True) as hub,
        FakeRegistry(tls=certificates.server(*names)) as mirror,
        Proxy({f"{names[0]}:443": hub.host, f"{names[1]}:443": hub.token, "mirror.corp:443": mirror.host}) as proxy,
    ):
        hub.realm = "https://auth.docker.io/token"
        hub.add_image("library/ubuntu", "17.04")
        mirror.add_image("hub/library/alpine", "3")
        variables = environment(
            HTTPS_PROXY=proxy.url, OCIROOTFS_MIRRORS="https://mirror.corp/hub", HOME=str(tmp_path), NO_PROXY=None
        )
        options = ("--platform=amd64", "--ca-file", str(certificates.ca_file), "-o", "-")

        ran = run("fetch", "alpine:3", *options, env=variables)
        assert (ran.status, ran.err) == (0, "")
        assert hub.requests == []
        ran = run("fetch", "ubuntu:17.04", *options, env=variables)
        assert ran.status == 0
        assert ran.err.count("the mirror mirror.corp fails, asking docker.io: ") == 1
