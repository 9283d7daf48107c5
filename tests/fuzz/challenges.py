"""WWW-Authenticate, and the answers of token servers and registries in trouble."""

from __future__ import annotations

import json

from ocirootfs.reference import Reference
from ocirootfs.registry.auth import Authorizer, TokenRequest
from ocirootfs.registry.challenge import parse_challenges
from ocirootfs.registry.complaint import complaint
from ocirootfs.registry.credentials import Credentials, fixed
from ocirootfs.registry.origin import Origin
from ocirootfs.registry.warnheader import warnings
from tests.fuzz import seeds
from tests.fuzz.target import outcome
from tests.layers import FIXTURES

_FIXTURE = json.loads((FIXTURES / "challenges.json").read_text())


def _texts(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for child in children for text in _texts(child)]


_BEARER = 'Bearer realm="https://auth.example.com/token",service="x",scope="repository:a/b:pull"'
SEEDS = [
    *sorted({text.encode("latin-1", "replace") for text in _texts(_FIXTURE)}),
    _BEARER.encode(),
    b'299 - "x"',
    b'Bearer realm=https://a/b,service="' + b"%" * 4000 + b'"',
    *seeds.documents()[-2:],
]
_ORIGIN = Origin.of("https://registry.example.com")
_IMAGE = Reference.parse("registry.example.com/a/b")
_SECRET = "dG9wLXNlY3JldA"


def check(data: bytes) -> None:
    """Parse it, and answer it; a password goes to nobody but the registry's kin."""
    text = data.decode("latin-1")
    lines = [line for line in text.split("\n") if line][:20]
    outcome(parse_challenges, lines)
    asked: list[TokenRequest] = []

    def exchange(request: TokenRequest) -> tuple[int, bytes]:
        asked.append(request)
        return 200, b'{"token": "t"}'

    subject = Authorizer(exchange, fixed(Credentials("me", _SECRET)))
    outcome(subject.answer, _ORIGIN, _IMAGE, lines, None)
    for request in asked:
        there = Origin.of(request.url)
        assert request.authorization is None or there.host.endswith("example.com"), request.url
        assert there.scheme == "https"
        assert not there.is_local
    said = complaint(data)
    assert said.isprintable() or not any(ord(character) < 0x20 for character in said)
    assert len(said) <= 200
    list(warnings(lines))
    token = Authorizer(lambda _: (200, data), fixed(Credentials("me", _SECRET)))
    header = outcome(token.answer, _ORIGIN, _IMAGE, [_BEARER], None)
    assert not isinstance(header, str) or ("\n" not in header and "\r" not in header)
