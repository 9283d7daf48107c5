"""WWW-Authenticate: the challenges by which a server says what it wants to see.

Sources: RFC 9110 section 11.6.1 (a list of challenges, each a scheme and a list of parameters, both parted by commas);
github.com/distribution/distribution, docs/content/spec/auth (realm, service, scope). Unquoted values that are no
tokens (`realm=https://a/b`) are read as they are meant.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ocirootfs.errors import AuthError, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_SCHEME = re.compile(rf"({_WORD})(?=[ \t,]|$)", re.ASCII)
_NAME = re.compile(rf"({_WORD})[ \t]*=[ \t]*(?!=)", re.ASCII)
_TOKEN68 = re.compile(r"[A-Za-z0-9._~+/-]+=*(?=[ \t]*(?:,|$))", re.ASCII)
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_BARE = re.compile(r'[^\s,"]*')
_SEPARATOR = re.compile(r"[ \t]*(?:,[ \t]*)+|[ \t]*$")
_SPACE = re.compile(r"[ \t,]*")
_HEADER_LIMIT = 8192


@dataclass(frozen=True, slots=True)
class Challenge:
    """One challenge: the scheme in lower case, and its parameters by lower-case names."""

    scheme: str
    parameters: Mapping[str, str]


def parse_challenges(headers: Iterable[str]) -> tuple[Challenge, ...]:
    """Read all WWW-Authenticate lines of one response, in order.

    What was understood before a malformed part counts; AuthError if that is nothing and there was a header.
    """
    lines = tuple(headers)
    found = tuple(challenge for line in lines for challenge in _parse(line[:_HEADER_LIMIT]))
    if any(lines) and not found:
        shown = printable(", ".join(lines))
        raise AuthError(f"the registry asks for authentication in words that make no sense: '{shown}'")
    return found


def _parse(line: str) -> list[Challenge]:
    found: list[Challenge] = []
    position = _end(_SPACE, line, 0)
    while match := _SCHEME.match(line, position):
        parameters, end, whole = _parameters(line, _end(_SPACE, line, match.end()))
        if whole or "realm" in parameters:
            found.append(Challenge(match[1].lower(), parameters))
        if not whole:
            break
        position = _end(_SPACE, line, end)
    return found


def _parameters(line: str, position: int) -> tuple[dict[str, str], int, bool]:
    """Read the parameters of one challenge: them, where they end, and whether they end well."""
    parameters: dict[str, str] = {}
    token68 = _TOKEN68.match(line, position)
    if token68 and not _NAME.match(line, position) and not _SCHEME.match(line, position):
        return {}, token68.end(), True
    while match := _NAME.match(line, position):
        value = _QUOTED.match(line, match.end())
        bare = _BARE.match(line, match.end())
        if value:
            text, position = re.sub(r"\\(.)", r"\1", value[1], flags=re.DOTALL), value.end()
        elif bare and not line.startswith('"', match.end()):
            text, position = bare[0], bare.end()
        else:  # the quote never closes
            return parameters, position, False
        parameters.setdefault(match[1].lower(), text)
        separator = _SEPARATOR.match(line, position)
        if not separator:
            return parameters, position, False
        position = separator.end()
    return parameters, position, True


def _end(pattern: re.Pattern[str], line: str, position: int) -> int:
    match = pattern.match(line, position)
    return match.end() if match else position
