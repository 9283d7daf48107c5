"""Getting in: what a registry wants to see, and the tokens that its token server gives.

Sources: github.com/distribution/distribution, docs/content/spec/auth (token.md, oauth.md, scope.md); RFC 9110
section 11. Nothing but `repository:NAME:pull` is ever asked for, whatever scope a challenge names.

A token server is where the registry says it is, which is why it is not believed blindly: it must be https unless
the registry itself is plain http, no address inside this machine unless the registry is one, and a password goes
only to the registry's host, to its sibling (auth.docker.io, gitlab.com for registry.gitlab.com), or to a host that
the caller trusts by name (GHSA-28r5-37g7-p6mp). Any other gets a request without credentials, and where that is not
enough the error says how to trust it.
"""

from __future__ import annotations

import base64
import logging
import re
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import urlencode, urlsplit, urlunsplit

from ocirootfs import strictjson
from ocirootfs.errors import AuthError, InputError, TemporaryError, printable
from ocirootfs.limits import USUAL
from ocirootfs.registry.challenge import Challenge, parse_challenges
from ocirootfs.registry.complaint import complaint
from ocirootfs.registry.credhelper import Running
from ocirootfs.registry.origin import Origin, address, is_loopback, joined, redacted
from ocirootfs.registry.siblings import are_siblings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ocirootfs.reference import Reference
    from ocirootfs.registry.credentials import Credentials, Find, Search

log = logging.getLogger("ocirootfs.registry")

CLIENT_ID = "ocirootfs"
_LIFETIME = 60.0  # seconds: token.md's default, and the least that is believed
_LONGEST = 86400.0
_EARLY = 5.0  # seconds before its end that a token is renewed
_VISIBLE = re.compile(r"[!-~]+", re.ASCII)
# Answers to a POST of servers that know only GET (oauth.md names 404).
_NO_POST = frozenset([400, 401, 404, 405])


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A request to a token server, on the word of `registry`: a GET, or a POST of `form`."""

    url: str
    registry: Origin
    authorization: str | None = field(default=None, repr=False)
    form: Mapping[str, str] | None = field(default=None, repr=False)


# Sends a request and returns the answer's status and body, of which `Limits.token` bytes at most.
Exchange: TypeAlias = "Callable[[TokenRequest], tuple[int, bytes]]"


@dataclass(frozen=True, slots=True)
class _Pass:
    header: str = field(repr=False)
    expires: float  # by the monotonic clock


@dataclass(frozen=True, slots=True)
class _Given:
    token: str = field(repr=False)
    lifetime: float  # seconds
    refresh: str = field(repr=False)  # "" for none


class Authorizer:
    """Knows the Authorization header for each repository, and renews it.

    Safe for threads: several that want the same ask once, those that want something else do not wait for them. So
    `find` is called from several threads at a time, and never twice for the same repository.
    """

    def __init__(
        self,
        exchange: Exchange,
        find: Find,
        *,
        trusted_realms: Sequence[str] = (),
        json_depth: int = USUAL.json_depth,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._json_depth = json_depth
        self._exchange = exchange
        self._find = find
        self._trusted = frozenset(host.lower() for host in trusted_realms)
        self._clock = clock
        self._helpers = Running()
        self._lock = threading.Lock()  # held for a moment; the dicts below are safe by themselves
        self._turns: dict[tuple[object, str], threading.Lock] = {}
        self._passes: dict[tuple[Origin, str], _Pass] = {}
        self._searches: dict[tuple[str, str], Search] = {}
        self._refreshing: dict[tuple[Origin, str, str], str] = {}  # by registry, realm and service
        self._withheld: dict[str, str] = {}  # by registry: the token server that was not told the credentials

    def close(self) -> None:
        """End the credential helpers that other threads wait for; no other is asked."""
        self._helpers.stop()

    def header(self, origin: Origin, reference: Reference) -> str | None:
        """Return the Authorization that served last for this repository, None before the first challenge."""
        known = self._passes.get((origin, reference.repository))
        return known.header if known and self._clock() < known.expires else None

    def answer(self, origin: Origin, reference: Reference, challenges: Sequence[str], stale: str | None) -> str:
        """Answer a 401's WWW-Authenticate lines with a new Authorization header; AuthError if there is none.

        `stale` is the header that was refused: if another thread has renewed it since, theirs is returned.
        """
        with self._turn(origin, reference):
            known = self.header(origin, reference)
            if known and known != stale:
                return known
            if (origin, reference.repository) in self._passes:
                self._forget(reference)
            found = _preferred(parse_challenges(challenges), origin)
            if found.scheme == "bearer":
                new = self._bearer(origin, reference, found)
            else:
                new = _Pass(self._basic(origin, reference), float("inf"))
            self._passes[origin, reference.repository] = new
            return new.header

    def search(self, reference: Reference) -> Search:
        """Return the credentials for `reference`, searched for once as long as they serve."""
        key = (reference.registry, reference.repository)
        with self._turn(reference.registry, reference):
            if key not in self._searches:
                with self._helpers.watching():
                    self._searches[key] = self._find(reference)
            return self._searches[key]

    def _turn(self, whom: Origin | str, reference: Reference) -> threading.Lock:
        """Return what to hold while `whom` is asked about a repository: a registry, or the user about a registry."""
        with self._lock:
            return self._turns.setdefault((whom, reference.repository), threading.Lock())

    def _forget(self, reference: Reference) -> None:
        """Search anew next time: passwords that helpers and clouds give end, and what they say now may be another."""
        key = (reference.registry, reference.repository)
        with self._turn(reference.registry, reference):
            if key in self._searches and self._searches[key].credentials:
                del self._searches[key]

    def advice(self, reference: Reference, *, is_told: bool = True) -> str:
        """Return the hint for a refusal: what was tried, where credentials were looked for, what failed there.

        `is_told` says whether the registry has seen the credentials, if there are any.
        """
        search = self.search(reference)
        host = self._withheld.get(reference.registry)
        if host:
            return f"its token server {host} was not told the credentials; if that is right: --trust-realm {host}"
        if search.credentials:
            user = f"user '{printable(search.credentials.username, 60)}'" if search.credentials.username else "a token"
            tried = "tried as" if is_told else "not tried, as it is not asked for:"
            said = f"{tried} {user} from {search.credentials.source}"
        else:
            said = f"no credentials for {reference.registry} in {', '.join(search.places) or 'the usual places'}"
        return "; ".join((said, *search.troubles, *reference.doubts))

    def _basic(self, origin: Origin, reference: Reference) -> str:
        search = self.search(reference)
        if not search.credentials or not search.credentials.username:
            raise AuthError(f"{origin} wants a user name and a password", hint=self.advice(reference, is_told=False))
        return _basic(search.credentials)

    def _bearer(self, origin: Origin, reference: Reference, challenge: Challenge) -> _Pass:
        search = self.search(reference)
        credentials = search.credentials
        if credentials and credentials.registry_token:
            return _Pass(_as_bearer(credentials.registry_token, "the registry token"), float("inf"))
        realm = _realm(challenge, origin)
        if credentials and not self._trusts(realm, origin):
            log.warning("%s is not trusted with the credentials for %s", Origin.of(realm), origin)
            self._withheld[reference.registry] = Origin.of(realm).host
            credentials = None
        parameters = _parameters(challenge, reference)
        key = (origin, realm, parameters.get("service", ""))
        started = self._clock()
        status, body = self._again(key, parameters) or self._ask(realm, origin, parameters, credentials)
        if not _is_good(status):
            raise self._denied(realm, status, body, reference, credentials)
        given = _token(body, realm, self._json_depth)
        if given.refresh:
            self._refreshing[key] = given.refresh
        return _Pass(_as_bearer(given.token, redacted(realm)), started + given.lifetime - _EARLY)

    def _again(self, key: tuple[Origin, str, str], parameters: Mapping[str, str]) -> tuple[int, bytes] | None:
        """Use the refresh token that this server gave with its last token, once: None if it has none that is good."""
        refresh = self._refreshing.pop(key, None)
        if refresh is None:
            return None
        answer = self._exchange(TokenRequest(key[1], key[0], form=_refreshing(refresh, parameters)))
        if not _is_good(answer[0]):
            return None
        self._refreshing[key] = refresh  # good until the answer brings another
        return answer

    def _ask(
        self, realm: str, origin: Origin, parameters: Mapping[str, str], credentials: Credentials | None
    ) -> tuple[int, bytes]:
        if credentials and credentials.identity_token:
            form = _refreshing(credentials.identity_token, parameters)
            status, body = self._exchange(TokenRequest(realm, origin, form=form))
            if status not in _NO_POST or not credentials.username:
                return status, body
        secret = _basic(credentials) if credentials and credentials.username else None
        url = _with_query(realm, parameters)
        try:
            Origin.of(url)
        except TemporaryError as error:  # it was one without the query: that is too long
            raise AuthError(f"{origin} asks for an impossible token: {error}") from None
        return self._exchange(TokenRequest(url, origin, secret))

    def _denied(
        self, realm: str, status: int, body: bytes, reference: Reference, credentials: Credentials | None
    ) -> AuthError:
        # Only an error's body is shown: any other may hold a token.
        said = f"{status} {complaint(body)}".strip() if status >= 400 else str(status)
        if status in {401, 403} and credentials:
            message = f"the token server {redacted(realm)} rejects the credentials for {reference.registry}: {said}"
        elif status in {401, 403}:
            message = f"access to {reference} denied: it does not exist or needs a login ({said})"
        else:
            message = f"the token server {redacted(realm)} answered {said}"
        return AuthError(message, hint=self.advice(reference))

    def _trusts(self, realm: str, origin: Origin) -> bool:
        host = Origin.of(realm).host
        return host == origin.host or host in self._trusted or are_siblings(host, origin.host)


def _preferred(challenges: Sequence[Challenge], origin: Origin) -> Challenge:
    """Choose Bearer over Basic: it is the narrower right, and the one that anonymous users can get.

    One that does not say from where comes last, as nobody can answer it.
    """
    bearer = [challenge for challenge in challenges if challenge.scheme == "bearer"]
    placed = [challenge for challenge in bearer if challenge.parameters.get("realm")]
    basic = [challenge for challenge in challenges if challenge.scheme == "basic"]
    if known := placed or basic or bearer:
        return known[0]
    if not challenges:
        raise AuthError(f"{origin} refuses access and does not say how to get it")
    asked = ", ".join(printable(challenge.scheme, 20) for challenge in challenges[:5])
    raise AuthError(f"{origin} asks for {asked} authentication; only Basic and Bearer are supported")


def _realm(challenge: Challenge, origin: Origin) -> str:
    """Return the token server's URL if it may be asked at all."""
    realm = challenge.parameters.get("realm", "")
    if not realm:
        raise AuthError(f"{origin} wants a token, but does not say from where")
    try:
        url = joined(f"{origin.scheme}://{origin}/", realm)
        there = Origin.of(url)
    except TemporaryError as error:
        raise AuthError(f"{origin} names an impossible token server: {error}") from None
    within = is_loopback(there.host) and is_loopback(origin.host)  # where plain HTTP is no loss
    if there.scheme == "http" and origin.scheme != "http" and not within:
        raise AuthError(f"{origin} names a token server without TLS, {redacted(url)}, which is refused")
    # A company's registry may have its token server in the company's network, no other registry may.
    if not origin.is_local and (there.is_local or (_is_private(there) and not _is_private(origin))):
        raise AuthError(f"{origin} names a token server at a private address, {redacted(url)}, which is refused")
    return url


def _is_private(origin: Origin) -> bool:
    found = address(origin.host)
    return found is not None and found.is_private


def _parameters(challenge: Challenge, reference: Reference) -> dict[str, str]:
    service = challenge.parameters.get("service", "")
    scope = f"repository:{reference.repository}:pull"
    return {**({"service": service} if service else {}), "scope": scope, "client_id": CLIENT_ID}


def _is_good(status: int) -> bool:
    """Tell an answer with a token. It should be a 200, but some server answers a POST with 201, some proxy with 203."""
    return 200 <= status < 300


def _with_query(url: str, parameters: Mapping[str, str]) -> str:
    parts = urlsplit(url)
    query = "&".join(filter(None, (parts.query, urlencode(parameters))))
    return urlunsplit((parts.scheme, parts.netloc, parts.path, query, ""))


def _refreshing(token: str, parameters: Mapping[str, str]) -> dict[str, str]:
    return {"grant_type": "refresh_token", "refresh_token": token, **parameters}


def _token(body: bytes, realm: str, depth: int) -> _Given:
    """Read a token server's answer. `issued_at` is not believed: clocks differ, durations do not."""
    try:
        fields = strictjson.as_object(strictjson.load(body, "its answer", depth), "its answer")
        token = fields.get("token") or fields.get("access_token")
    except InputError as error:
        raise AuthError(f"the token server {redacted(realm)} makes no sense: {error}", hint=error.hint) from None
    if not isinstance(token, str) or not token:
        raise AuthError(f"the token server {redacted(realm)} gives no token")
    refresh = fields.get("refresh_token")
    return _Given(token, _lifetime(fields.get("expires_in")), refresh if isinstance(refresh, str) else "")


def _lifetime(value: strictjson.Json) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return _LIFETIME
    return float(min(max(value, _LIFETIME), _LONGEST))


def _basic(credentials: Credentials) -> str:
    # A server that knows no POST takes an identity token in place of the password (Azure's tokens are made for both).
    pair = f"{credentials.username}:{credentials.password or credentials.identity_token}"
    # Bytes that are no UTF-8, of an argument or of standard input, are sent as they came.
    return "Basic " + base64.b64encode(pair.encode("utf-8", "surrogateescape")).decode("ascii")


def _as_bearer(token: str, source: str) -> str:
    if not _VISIBLE.fullmatch(token):  # it would split the header
        raise AuthError(f"{source} is no token: it holds characters that no header may")
    return f"Bearer {token}"
