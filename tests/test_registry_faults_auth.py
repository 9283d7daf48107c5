"""What goes wrong on the way in, or unusually: tokens, realms, warnings, and names that lead into this machine."""

from __future__ import annotations

import base64
import json
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from ocirootfs.errors import AuthError, InputError, NotFoundError, TemporaryError
from ocirootfs.manifest import DOCKER_CONFIG
from ocirootfs.platform import Platform
from ocirootfs.reference import Reference
from ocirootfs.registry import Registry
from ocirootfs.registry.credentials import Credentials, Find, Keychain, anonymous
from ocirootfs.registry.origin import Origin, resolves_locally
from ocirootfs.registry.transport import Request, Transport
from ocirootfs.registry.warnheader import warnings
from tests.commands import environment, run
from tests.servers.certificate import Authority
from tests.servers.proxy import Proxy
from tests.servers.registry import IDENTITY_TOKEN, PASSWORD, USER, FakeRegistry, Fault, descriptor, digest_of

if TYPE_CHECKING:
    from pathlib import Path

AMD64 = Platform.parse("amd64")
ME = Credentials(USER, PASSWORD)


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "DOCKER_AUTH_CONFIG"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    caplog.set_level(logging.DEBUG, logger="ocirootfs")


def pull(fake: FakeRegistry, credentials: Credentials | Find = ME, **options: Any) -> list[bytes]:
    reference = fake.add_image()
    with Registry(credentials=credentials, sleep=lambda _: None, timeout=20, **options) as registry:
        return [b"".join(layer.blob()) for layer in registry.open(reference, AMD64).layers]


LAYERS = [b"layer one", b"layer two"]


# Tokens


def test_a_refresh_token_spares_the_password() -> None:
    with FakeRegistry(auth="bearer") as fake, Registry(credentials=ME) as registry:
        fake.granted = {"refresh_token": "refresh-1"}
        fake.refresh_tokens = {"refresh-1"}
        reference = fake.add_image()
        registry.manifest(reference)
        fake.revoke()
        registry.manifest(reference)
        fake.revoke()
        fake.refresh_tokens = set()  # and where it has ended as well, the password goes on
        registry.manifest(reference)

    asked = fake.seen("token")
    assert [found.form.get("refresh_token") for found in asked] == [None, "refresh-1", "refresh-1", None]
    assert ["Authorization" in found.headers for found in asked] == [True, False, False, True]


@pytest.mark.parametrize("answer", [{"access_token": "T"}, {"token": "T"}, {"token": "T", "access_token": "U"}])
@pytest.mark.parametrize("more", [{}, {"issued_at": "2099-01-01T00:00:00Z"}, {"expires_in": "soon"}, {"expires_in": 0}])
def test_token_answers(answer: dict[str, Any], more: dict[str, Any]) -> None:
    with FakeRegistry(auth="bearer", anonymous=True) as fake:
        fake.faults = [Fault("/token", "token", status=200, body=json.dumps({**answer, **more}).encode())]
        fake._tokens.add("T")
        reference = fake.add_image()
        with Registry(credentials=anonymous) as registry, pytest.raises(AuthError):
            registry.manifest(reference)  # our fake's tokens name their repository, which T does not

    assert [found.headers.get("Authorization") for found in fake.seen()] == [None, "Bearer T"]


def test_an_identity_token_where_nobody_knows_post() -> None:
    """Azure's form: a user of zeros, and a token that is good as a password, too."""
    zeros = "00000000-0000-0000-0000-000000000000"
    entry = {"auth": base64.b64encode(f"{zeros}:".encode()).decode(), "identitytoken": IDENTITY_TOKEN}
    with FakeRegistry(auth="bearer", oauth2=False, login=(zeros, IDENTITY_TOKEN)) as fake:
        find = Keychain({"DOCKER_AUTH_CONFIG": json.dumps({"auths": {fake.host: entry}})}).find

        assert pull(fake, find) == LAYERS

    assert [found.method for found in fake.seen("token")] == ["POST", "GET"]


@pytest.mark.parametrize("auth", ["basic", "bearer"])
@pytest.mark.parametrize("channel", ["stdin", "variable"])
def test_a_password_in_no_encoding(channel: str, auth: str) -> None:
    with FakeRegistry(auth=auth, login=("me", "p\udcff")) as fake:
        words = ("inspect", str(fake.add_image()), "--platform", "amd64", "--field", "digest", "--creds", "me")
        if channel == "stdin":
            ran = run(*words, "--password-stdin", stdin=b"p\xff\n", env=environment(PYTHONUTF8="1"))
        else:
            ran = run(*words, env=environment(PYTHONUTF8="1", OCIROOTFS_PASSWORD="p\udcff"))

    assert ran.ok.out.startswith(b"sha256:")


def test_insufficient_scope_is_a_challenge_like_any() -> None:
    with FakeRegistry(auth="bearer") as fake:
        reference = fake.add_image()
        with Registry(credentials=ME) as registry:
            registry.manifest(reference)
            realm = f'realm="http://{fake.token}/token?kept=1",service="the fake registry"'
            fake.challenge = [f'Bearer {realm},scope="repository:a/b:pull,delete",error="insufficient_scope"']
            fake.revoke()
            registry.manifest(reference)

    assert [found.query["scope"] for found in fake.seen("token")] == ["repository:a/b:pull"] * 2


def test_one_answer_to_one_refusal() -> None:
    with FakeRegistry(auth="bearer") as fake:
        fake.faults = [Fault("/manifests/", status=401, times=99)]
        fake.challenge = [f'Bearer realm="http://{fake.token}/token"']

        with pytest.raises(AuthError, match="denied: 401"):
            pull(fake)

    assert len(fake.seen(path="/manifests/")) == 2


@pytest.mark.parametrize(
    ("status", "body", "kind", "says"),
    [
        (503, b"<html>", TemporaryError, "the token server: 127.0.0.1:.* answered 503"),
        (429, b"", TemporaryError, "limits the rate"),
        (404, b"nope", AuthError, "answered 404 nope"),
        (200, b"<html>portal", AuthError, "makes no sense"),
        (200, b"x" * ((1 << 20) + 1), InputError, "larger than 1048576 bytes"),
    ],
)
def test_token_servers_in_trouble(status: int, body: bytes, kind: type[Exception], says: str) -> None:
    with FakeRegistry(auth="bearer") as fake:
        fake.faults = [Fault("/token", "token", status=status, body=body, times=99)]

        with pytest.raises(kind, match=says) as caught:
            pull(fake, retries=1)

    assert PASSWORD not in f"{caught.value} {getattr(caught.value, 'hint', '')}"


# Realms


NAMES = ("registry.corp", "sso.elsewhere")


def test_a_foreign_token_server_must_be_trusted_by_name(tmp_path: Path) -> None:
    certificates = Authority(tmp_path)
    with (
        FakeRegistry(tls=certificates.server(*NAMES), auth="bearer") as fake,
        Proxy({"registry.corp:443": fake.host, "sso.elsewhere:443": fake.token}) as proxy,
    ):
        fake.realm = "https://sso.elsewhere/token"
        fake.add_image()
        options = ["fetch", "registry.corp/a/b:1", "--ca-file", str(certificates.ca_file), "-o", "-"]
        options += ["--creds", USER, "--platform", "amd64"]
        variables = environment(HTTPS_PROXY=proxy.url, NO_PROXY=None, OCIROOTFS_PASSWORD=PASSWORD)

        ran = run(*options, env=variables)
        assert ran.status == 4
        assert "hint: its token server sso.elsewhere was not told the credentials" in ran.err
        assert "--trust-realm sso.elsewhere" in ran.err
        assert [found for found in fake.seen("token") if "Authorization" in found.headers] == []

        ran = run(*options, "--trust-realm", "sso.elsewhere", env=variables)
        assert (ran.status, ran.err) == (0, "")


# Names that lead into this machine


def test_a_name_that_leads_into_this_machine_is_not_followed() -> None:
    with FakeRegistry() as fake:
        subject = Transport(timeout=5)
        request = Request("GET", f"http://{fake.host}/v2/", "x", asker=Origin.of("https://registry.example.com"))
        with pytest.raises(TemporaryError, match=r"refused to connect to .*: its address 127\.0\.0\.1 is a local one"):
            subject.send(request)
        assert fake.requests == []
        # What leads there may be in this machine itself, under whatever name.
        for asker in ("http://127.0.0.1:1", "http://localhost.:1"):
            assert subject.send(replace(request, asker=Origin.of(asker), limit=10)).body == b"{}"
        subject.close()


def test_what_resolves_locally() -> None:
    assert resolves_locally("localhost")
    assert not resolves_locally("registry.invalid")
    assert not resolves_locally("203.0.113.1")


# Warnings, limits and doubts


def test_warnings_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    with FakeRegistry() as fake:
        warning = {"Warning": '299 - "this repository moves to \\"new\\" on Monday"'}
        fake.faults = [Fault("/v2/", headers=warning, times=99)]

        assert pull(fake, anonymous) == LAYERS

    told = [record.getMessage() for record in caplog.records if "Monday" in record.getMessage()]
    assert told == [f'{fake.host} says: this repository moves to "new" on Monday']


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('299 - "text"', ["text"]),
        ('299 - "a \\"b\\" c"', ['a "b" c']),
        ('299 - "red \x1b[31m"', ["red \\x1b[31m"]),
        ('  299   -  "padded"  ', ["padded"]),
        ('199 - "other code"', []),
        ('299 agent "other agent"', []),
        ("299 - unquoted", []),
        ('299 - ""', []),
        ("", []),
        ('299 - "' + "x" * 5000 + '"', []),
    ],
)
def test_warning_headers(line: str, said: list[str]) -> None:
    assert list(warnings([line])) == said


def test_a_rate_limit_says_whose() -> None:
    headers = {"ratelimit-remaining": "0;w=21600", "docker-ratelimit-source": "203.0.113.7"}
    with FakeRegistry() as fake:
        fake.faults = [Fault("/manifests/", status=429, headers=headers, times=9)]

        with pytest.raises(TemporaryError, match=r"\(0;w=21600 pulls left, counted for 203\.0\.113\.7\)") as caught:
            pull(fake, anonymous)

    assert "--mirror" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("localhost:5000", "did you mean 'localhost:5000/NAME'?"),
        ("localhost", "did you mean 'localhost/NAME'?"),
        ("foo.com:5000", "did you mean 'foo.com:5000/NAME'?"),
        ("myhost/app", "'myhost' is taken for a user of Docker Hub: a registry has a dot or a port in its name"),
        ("ubuntu:17.40", None),
        ("ghcr.io/a/b", None),
        ("localhost:5000/x", None),
    ],
)
def test_doubts(text: str, hint: str | None) -> None:
    assert Reference.parse(text).doubts == (() if hint is None else (hint,))


def test_doubts_are_told_when_nothing_is_found(tmp_path: Path) -> None:
    certificates = Authority(tmp_path)
    hub = "registry-1.docker.io"
    with (
        FakeRegistry(tls=certificates.server(hub)) as fake,
        Proxy({f"{hub}:443": fake.host}) as proxy,
    ):
        variables = environment(HTTPS_PROXY=proxy.url, NO_PROXY=None)
        ran = run("fetch", "myhost/app", "--ca-file", str(certificates.ca_file), "-o", "-", env=variables)

    assert ran.status == 3
    assert "docker.io/myhost/app:latest: not found" in ran.err
    assert "hint: 'myhost' is taken for a user of Docker Hub" in ran.err


def test_an_image_of_another_system_is_refused() -> None:
    with FakeRegistry() as fake:
        reference = fake.add_image()
        manifest = json.loads(fake._manifests["a/b", "1"].body)
        config = fake._blobs[manifest["config"]["digest"]].replace(b'"linux"', b'"windows"')
        manifest["config"] = descriptor(config, DOCKER_CONFIG)
        fake.add("a/b", "1", json.dumps(manifest).encode(), blobs={digest_of(config): config})
        with Registry(credentials=anonymous) as registry, pytest.raises(NotFoundError, match="for windows/amd64 alone"):
            registry.open(reference)
