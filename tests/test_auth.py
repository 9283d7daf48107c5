"""Authentication: challenges, token requests, and who is never told a password."""

from __future__ import annotations

import base64
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocirootfs.errors import AuthError
from ocirootfs.reference import Reference
from ocirootfs.registry.auth import Authorizer, TokenRequest
from ocirootfs.registry.challenge import parse_challenges
from ocirootfs.registry.credentials import Credentials, Find, anonymous, fixed
from ocirootfs.registry.origin import Origin

TABLE = json.loads((Path(__file__).parent / "fixtures" / "challenges.json").read_text("utf-8"))

IMAGE = Reference.parse("registry.example.com/a/b:1")
ORIGIN = Origin.of("https://registry.example.com")
ME = fixed(Credentials("me", "s3cret"))
BASIC = "Basic bWU6czNjcmV0"
CHALLENGE = ['Bearer realm="https://auth.example.com/token?a=1",service="the registry",scope="repository:x:push,pull"']


@dataclass
class TokenServer:
    """Answers every request with `status` and `body`, and keeps them."""

    body: bytes = b'{"token": "T1"}'
    status: int = 200
    asked: list[TokenRequest] = field(default_factory=list)

    def __call__(self, request: TokenRequest) -> tuple[int, bytes]:
        self.asked.append(request)
        return self.status, self.body

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.asked[-1].url).query)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def authorizer(server: TokenServer, find: Find = ME, **options: Any) -> Authorizer:
    return Authorizer(server, find, **options)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row["why"])
def test_challenges(row: dict[str, Any]) -> None:
    if row["challenges"] is None:
        with pytest.raises(AuthError, match="make no sense"):
            parse_challenges(row["lines"])
        return
    found = [[challenge.scheme, dict(challenge.parameters)] for challenge in parse_challenges(row["lines"])]
    assert found == row["challenges"]


@settings(deadline=None)
@given(st.lists(st.text() | st.text(alphabet='Bearlm="\\, /:', max_size=40), max_size=3))
def test_any_lines_are_challenges_or_an_auth_error(lines: list[str]) -> None:
    with suppress(AuthError):
        parse_challenges(lines)


def test_a_token_by_password() -> None:
    server = TokenServer()

    assert authorizer(server).answer(ORIGIN, IMAGE, CHALLENGE, None) == "Bearer T1"

    assert server.asked[0].authorization == BASIC
    assert server.asked[0].url.startswith("https://auth.example.com/token?a=1&")
    assert server.query == {
        "a": ["1"],
        "service": ["the registry"],
        "scope": ["repository:a/b:pull"],  # never what the challenge asks for
        "client_id": ["ocirootfs"],
    }


def test_a_token_for_nobody() -> None:
    server = TokenServer(b'{"access_token": "T2", "expires_in": 300}')

    assert authorizer(server, anonymous).answer(ORIGIN, IMAGE, CHALLENGE, None) == "Bearer T2"
    assert server.asked[0].authorization is None


def test_no_service_is_no_parameter_and_a_relative_realm_is_the_registrys() -> None:
    server = TokenServer()

    authorizer(server).answer(ORIGIN, IMAGE, ['Bearer realm="/token"'], None)

    assert server.asked[0].url.startswith("https://registry.example.com/token?scope=")
    assert server.asked[0].authorization == BASIC


def test_a_service_that_is_too_long_for_a_url() -> None:
    server = TokenServer()

    with pytest.raises(AuthError, match="asks for an impossible token") as caught:
        authorizer(server).answer(ORIGIN, IMAGE, [f'Bearer realm="/token",service="{"%" * 4000}"'], None)

    assert server.asked == []
    assert len(str(caught.value)) < 500


def test_bearer_before_basic() -> None:
    server = TokenServer()

    assert authorizer(server).answer(ORIGIN, IMAGE, ['Basic realm="x"', *CHALLENGE], None) == "Bearer T1"


def test_basic() -> None:
    server = TokenServer()
    subject = authorizer(server)

    assert subject.header(ORIGIN, IMAGE) is None
    assert subject.answer(ORIGIN, IMAGE, ['Negotiate, Basic realm="x"'], None) == BASIC
    assert subject.header(ORIGIN, IMAGE) == BASIC
    assert server.asked == []


@pytest.mark.parametrize("empty", ['Bearer service="x"', 'Bearer realm=""', "Bearer"])
def test_basic_before_a_bearer_from_nowhere(empty: str) -> None:
    assert authorizer(TokenServer()).answer(ORIGIN, IMAGE, [empty, 'Basic realm="x"'], None) == BASIC


def test_basic_takes_any_bytes() -> None:
    """As Python reads arguments, variables and standard input: what is no UTF-8 is escaped."""
    find = fixed(Credentials("me", "p\udcff"))

    header = authorizer(TokenServer(), find).answer(ORIGIN, IMAGE, ['Basic realm="x"'], None)

    assert base64.b64decode(header.removeprefix("Basic ")) == b"me:p\xff"


def test_basic_without_credentials_says_where_they_were_looked_for() -> None:
    with pytest.raises(AuthError, match="wants a user name") as caught:
        authorizer(TokenServer(), anonymous).answer(ORIGIN, IMAGE, ['Basic realm="x"'], None)

    assert caught.value.hint == "no credentials for registry.example.com in the usual places"


def test_an_identity_token_is_exchanged_by_post() -> None:
    server = TokenServer()
    find = fixed(Credentials(identity_token="refresh"))

    assert authorizer(server, find).answer(ORIGIN, IMAGE, CHALLENGE, None) == "Bearer T1"

    assert server.asked[0].form == {
        "grant_type": "refresh_token",
        "refresh_token": "refresh",
        "service": "the registry",
        "scope": "repository:a/b:pull",
        "client_id": "ocirootfs",
    }
    assert "refresh" not in repr(server.asked[0])


def test_a_server_without_post_gets_the_password() -> None:
    server = TokenServer(status=404)
    find = fixed(Credentials("me", "s3cret", identity_token="refresh"))

    with pytest.raises(AuthError):
        authorizer(server, find).answer(ORIGIN, IMAGE, CHALLENGE, None)

    assert [bool(request.form) for request in server.asked] == [True, False]
    assert server.asked[1].authorization == BASIC


def test_a_registry_token_is_used_as_it_is() -> None:
    server = TokenServer()
    find = fixed(Credentials(registry_token="raw"))

    assert authorizer(server, find).answer(ORIGIN, IMAGE, CHALLENGE, None) == "Bearer raw"
    assert server.asked == []


@pytest.mark.parametrize(
    ("expires_in", "seconds"),
    [(None, 60), (300, 300), (0, 60), (1, 60), (-5, 60), ("300", 60), (True, 60), (1e300, 86400), (10**400, 86400)],
)
def test_a_token_is_kept_for_its_lifetime(expires_in: Any, seconds: int) -> None:
    clock = Clock()
    subject = authorizer(TokenServer(json.dumps({"token": "T", "expires_in": expires_in}).encode()), clock=clock)
    subject.answer(ORIGIN, IMAGE, CHALLENGE, None)

    clock.now += seconds - 6
    assert subject.header(ORIGIN, IMAGE) == "Bearer T"
    clock.now += 2
    assert subject.header(ORIGIN, IMAGE) is None


def test_a_token_is_for_one_repository_of_one_origin() -> None:
    subject = authorizer(TokenServer())
    subject.answer(ORIGIN, IMAGE, CHALLENGE, None)

    assert subject.header(ORIGIN, Reference.parse("registry.example.com/a/c")) is None
    assert subject.header(Origin.of("https://registry.example.com:444"), IMAGE) is None
    assert subject.header(Origin.of("http://registry.example.com"), IMAGE) is None


def test_what_another_thread_has_renewed_is_not_renewed_again() -> None:
    server = TokenServer()
    subject = authorizer(server)
    subject.answer(ORIGIN, IMAGE, CHALLENGE, None)

    assert subject.answer(ORIGIN, IMAGE, CHALLENGE, "Bearer T0") == "Bearer T1"
    assert len(server.asked) == 1
    subject.answer(ORIGIN, IMAGE, CHALLENGE, "Bearer T1")
    assert len(server.asked) == 2


def test_nobody_waits_for_another_registrys_token_server() -> None:
    asked, go = threading.Event(), threading.Event()

    def exchange(request: TokenRequest) -> tuple[int, bytes]:
        if "slow.example" in request.url:
            asked.set()
            go.wait(20)
        return 200, b'{"token": "T1"}'

    subject = Authorizer(exchange, ME)
    slow = Origin.of("https://slow.example")

    def wait() -> str:
        return subject.answer(slow, Reference.parse("slow.example/a/b"), ['Bearer realm="/token"'], None)

    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(wait)
        assert asked.wait(10)
        try:
            other = pool.submit(subject.answer, ORIGIN, IMAGE, CHALLENGE, None)
            assert other.result(5) == "Bearer T1"
            assert pool.submit(subject.header, slow, IMAGE).result(5) is None
        finally:
            go.set()
        assert waiting.result(10) == "Bearer T1"


REALMS = [  # registry, realm, and what becomes of it: refused, anonymous, or with the password
    ("https://registry.example.com", "https://registry.example.com/token", "password"),
    ("https://registry.example.com", "https://REGISTRY.example.com:444/token", "password"),
    ("https://registry-1.docker.io", "https://auth.docker.io/token", "password"),
    ("https://registry.gitlab.com", "https://gitlab.com/jwt/auth", "password"),
    ("https://registry.corp.co.uk", "https://sso.corp.co.uk/", "password"),
    ("https://trusting.example", "https://trusted.other/token", "password"),
    ("https://127.0.0.1:5000", "https://127.0.0.1:5001/token", "password"),
    ("http://127.0.0.1:5000", "http://127.0.0.1:5001/token", "password"),
    ("https://127.0.0.1:5000", "http://127.0.0.1:5001/token", "password"),
    ("http://127.0.0.1:5000", "http://localhost:5001/token", "anonymous"),
    ("https://10.0.0.5", "http://10.0.0.5/token", "refused"),
    ("https://registry.example.com", "https://evil.com/token", "anonymous"),
    ("https://registry.corp.co.uk", "https://evil.co.uk/", "anonymous"),
    ("https://registry.example.com", "https://example.com.evil.com/", "anonymous"),
    ("https://203.0.113.5", "https://203.0.113.6/", "anonymous"),
    ("https://203.0.113.5", "https://198.51.113.5/", "anonymous"),
    ("https://10.0.0.5", "https://10.0.0.6/token", "anonymous"),
    ("https://com", "https://com.com/", "anonymous"),
    ("https://registry.example.com", "http://registry.example.com/token", "refused"),
    ("https://registry.example.com", "https://169.254.169.254/latest", "refused"),
    ("https://registry.example.com", "https://127.0.0.1/token", "refused"),
    ("https://registry.example.com", "https://2130706433/token", "refused"),
    ("https://registry.example.com", "https://0x7f.1/token", "refused"),
    ("https://registry.example.com", "https://localhost/token", "refused"),
    ("https://registry.example.com", "https://[::1]/token", "refused"),
    ("https://registry.example.com", "https://[::ffff:127.0.0.1]/token", "refused"),
    ("https://registry.example.com", "https://0.0.0.0/token", "refused"),
    ("https://registry.example.com", "https://10.0.0.1/token", "refused"),
    ("https://10.0.0.5", "https://169.254.169.254/token", "refused"),
    ("https://registry.example.com", "file:///etc/passwd", "refused"),
    ("https://registry.example.com", "https://user:pw@registry.example.com/", "refused"),
    ("https://registry.example.com", "https://evil.com\\\\@registry.example.com/", "refused"),
    ("https://registry.example.com", "https://[::1/", "refused"),
    ("https://registry.example.com", "", "refused"),
]


@pytest.mark.parametrize(("registry", "realm", "outcome"), REALMS)
def test_realms(registry: str, realm: str, outcome: str) -> None:
    server = TokenServer()
    subject = authorizer(server, trusted_realms=["Trusted.Other"])
    challenge = [f'Bearer realm="{realm}"']

    if outcome == "refused":
        with pytest.raises(AuthError):
            subject.answer(Origin.of(registry), IMAGE, challenge, None)
        assert server.asked == []
    else:
        subject.answer(Origin.of(registry), IMAGE, challenge, None)
        assert server.asked[0].authorization == (BASIC if outcome == "password" else None)


@pytest.mark.parametrize(
    ("challenges", "says"),
    [
        ([], "does not say how"),
        (["Negotiate", "Digest realm=x"], "asks for negotiate, digest authentication; only Basic and Bearer"),
        (['Bearer service="x"'], "does not say from where"),
    ],
)
def test_challenges_without_an_answer(challenges: list[str], says: str) -> None:
    with pytest.raises(AuthError, match=says):
        authorizer(TokenServer()).answer(ORIGIN, IMAGE, challenges, None)


@pytest.mark.parametrize("status", [201, 203])
def test_a_token_is_a_token_whatever_the_answer_is_called(status: int) -> None:
    server = TokenServer(b'{"token": "T1", "refresh_token": "R1"}', status)
    subject = authorizer(server)

    assert subject.answer(ORIGIN, IMAGE, CHALLENGE, None) == "Bearer T1"
    assert subject.answer(ORIGIN, IMAGE, CHALLENGE, "Bearer T1") == "Bearer T1"
    assert [bool(request.form) for request in server.asked] == [False, True]


@pytest.mark.parametrize("status", [302, 304, 399])
def test_what_is_no_error_is_not_shown(status: int) -> None:
    with pytest.raises(AuthError, match=f"answered {status}$"):
        authorizer(TokenServer(b'{"token": "t0ken"}', status)).answer(ORIGIN, IMAGE, CHALLENGE, None)


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (
            401,
            b'{"details": "incorrect username or password"}',
            "rejects the credentials for registry.example.com: 401 in",
        ),
        (403, b"", "rejects the credentials"),
        (400, b'{"error": "invalid_scope"}', "answered 400 invalid_scope"),
        (200, b"<html>login</html>", "makes no sense: its answer: not valid JSON: it starts with '<html>login"),
        (200, b"{}", "gives no token"),
        (200, b'{"token": 1}', "gives no token"),
        (200, b'{"token": "a\\r\\nX-Evil: 1"}', "is no token"),
        (200, b'{"token": "caf\\u00e9"}', "is no token"),
        (200, b"[]", "expected an object"),
    ],
)
def test_token_servers_that_refuse_or_make_no_sense(status: int, body: bytes, says: str) -> None:
    with pytest.raises(AuthError, match=says) as caught:
        authorizer(TokenServer(body, status)).answer(ORIGIN, IMAGE, CHALLENGE, None)

    assert "a=1" not in str(caught.value)
    assert "s3cret" not in f"{caught.value} {caught.value.hint}"


def test_refused_without_credentials_has_both_causes() -> None:
    with pytest.raises(AuthError, match="it does not exist or needs a login"):
        authorizer(TokenServer(b"", 401), anonymous).answer(ORIGIN, IMAGE, CHALLENGE, None)


@settings(deadline=None)
@given(st.binary(max_size=80) | st.text(alphabet='{}":token,12aexpirsn_', max_size=40).map(str.encode))
def test_any_answer_is_a_token_or_an_auth_error(body: bytes) -> None:
    try:
        header = authorizer(TokenServer(body)).answer(ORIGIN, IMAGE, CHALLENGE, None)
    except AuthError:
        return
    assert header.isascii()
