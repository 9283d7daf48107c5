"""HTTP for the registry: one request and one answer, with everything between them decided here.

requests is used for its connections, proxies and certificates only. It would follow redirects by reading their whole
bodies, replace our Authorization by one of ~/.netrc, hand that to the redirect's target, and undo Content-Encoding
under a digest; so each hop is a call of its own, with credentials for the exact origin or none.
"""

from __future__ import annotations

import contextlib
import http.client
import importlib.metadata
import logging
import random
import time
from dataclasses import dataclass, field, replace
from itertools import count
from typing import TYPE_CHECKING, Any

import requests
import requests.auth
import requests.utils
import urllib3

from ocirootfs.errors import InputError, OcirootfsError, TemporaryError, printable
from ocirootfs.limits import USUAL, raising
from ocirootfs.registry.complaint import complaint
from ocirootfs.registry.connections import Adapter
from ocirootfs.registry.netfailure import BrokenError, is_plain, is_wordless, named, translated
from ocirootfs.registry.origin import Origin, is_loopback, next_hop, redacted, resolves_locally
from ocirootfs.registry.pace import paced
from ocirootfs.registry.retry import RETRIED_STATUSES, RetryPolicy, retry_after
from ocirootfs.registry.trust import Trust
from ocirootfs.registry.warnheader import warnings

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from pathlib import Path

log = logging.getLogger("ocirootfs.registry")

# read1 hands over what has arrived: with read(), urllib3 throws a full block's worth away when a connection breaks.
BLOCK = 256 << 10
_ERROR_LIMIT = 64 << 10
_CONNECT_TIMEOUT = 10.0
_PROBE_TIMEOUT = 5.0
_WARNINGS = 20
_PATIENCE = RetryPolicy()
_REDIRECTS = frozenset([301, 302, 303, 307, 308])
_FAILURES = (requests.RequestException, urllib3.exceptions.HTTPError, http.client.HTTPException, OSError)


@dataclass(frozen=True, slots=True)
class Request:
    """One request. `what` names the matter in messages; `authorization` is for the origin of `url` alone.

    With a `limit` the body of a good answer is read at once, and may have that many bytes; `larger` is the hint if it
    has more. `asker` is the origin on whose word `url` is asked, if it is another's. `retries` is for a place that has
    an alternative.
    """

    method: str
    url: str
    what: str
    authorization: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)
    form: Mapping[str, str] | None = field(default=None, repr=False)
    limit: int | None = None
    larger: str | None = None
    asker: Origin | None = None
    retries: int | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A response whose headers have come. It holds a connection until `close`, unless the body is in `body`."""

    status: int
    url: str
    redirected: bool  # to another origin, whose challenges are not to be answered
    headers: Mapping[str, str]
    challenges: tuple[str, ...]
    body: bytes
    response: requests.Response = field(repr=False)

    def chunks(self) -> Iterator[bytes]:
        """Yield the body as sent, in pieces of at most 256 KiB as they arrive; BrokenError when it breaks.

        A body without Content-Length that is cut ends like a whole one: the caller knows the size.
        """
        try:
            while chunk := self.response.raw.read1(BLOCK, decode_content=False):
                yield chunk
        except _FAILURES as error:
            raise translated(error, self.url) from error

    def close(self) -> None:
        """Drop the connection, with whatever is still to come."""
        self.response.close()

    def wake(self) -> None:
        """End the wait of another thread that reads `chunks`, as if the connection had broken."""
        with contextlib.suppress(AttributeError, RuntimeError, ValueError, OSError):  # it has ended by itself
            self.response.raw.shutdown()

    @property
    def complaint(self) -> str:
        """The status, and what the server says about it."""
        said = complaint(self.body)
        return f"{self.status} {said}" if said else str(self.status)

    def __enter__(self) -> Answer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Transport:
    """Sends requests; every failure comes out as an OcirootfsError without secrets.

    `timeout` is the longest silence in seconds. `insecure` accepts any certificate, of all hosts or of those named;
    `ca_file` adds authorities to the system's; both and the environment's proxies (HTTPS_PROXY, NO_PROXY) hold for a
    given `session` too, whose adapters are left as they are: `certs_directories` (see `certsd`) are not looked into
    then, and its connections are not looked at. `redirects` are the most on the way to one answer. `sleep`, `clock`
    (Unix time), `monotonic` and `jitter` (0 to 1) are for tests.
    """

    def __init__(  # noqa: PLR0913 - as of its caller, the client
        self,
        session: requests.Session | None = None,
        *,
        insecure: bool | Collection[str] = False,
        ca_file: Path | str | None = None,
        certs_directories: Sequence[Path] = (),
        timeout: float = 60.0,
        policy: RetryPolicy = _PATIENCE,
        redirects: int = USUAL.redirects,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._trust = Trust(insecure=insecure, ca_file=ca_file, directories=certs_directories)
        self._verify = str(ca_file) if session and ca_file else None
        self._guarded = None if session else Adapter(self._trust, guarded=True)
        self._session = session or _session(self._trust)
        self._local: dict[str, bool] = {}  # by host
        self._told: set[str] = set()
        self._timeout = (min(_CONNECT_TIMEOUT, timeout), timeout)
        self._policy = policy
        self._redirects = redirects
        self._sleep, self._clock, self._monotonic, self._jitter = sleep, clock, monotonic, jitter
        self._agent = _user_agent()

    def send(self, request: Request) -> Answer:
        """Send `request` until the answer is one that a repetition would not change, and return it, errors too.

        The bodies of errors are in `Answer.body`, as those of good answers are if `limit` is set; InputError if one
        is larger than that. Raises TemporaryError when patience ends.
        """
        demanded = 0.0  # seconds of patience that servers have had
        for attempt in count(1):
            wait, whom = self._policy.delay(attempt, self._jitter()), ""
            try:
                answer = self._once(request)
            except BrokenError as error:
                problem: TemporaryError = error
            else:
                if answer.status not in RETRIED_STATUSES:
                    self._tell(answer)
                    return answer
                problem = _overloaded(answer, request.what)
                asked = self._demanded(answer, attempt)
                if asked is not None:
                    demanded, wait = demanded + asked, asked
                    whom = f" for {named(answer.url)}, which asks for it"
            retries = self._policy.retries if request.retries is None else min(request.retries, self._policy.retries)
            if attempt > retries or not self._policy.accepts(demanded):
                raise TemporaryError(str(problem), hint=problem.hint) from problem
            log.warning("%s; waiting %.1f s%s (%d/%d)", problem, wait, whom, attempt, retries)
            self._sleep(wait)
        raise AssertionError  # count() does not end

    def close(self) -> None:
        """Close the connections, unless the session is the caller's."""
        if self._guarded:
            self._session.close()
            self._guarded.close()

    def pause(self, attempt: int) -> None:
        """Sleep as long as repetition number `attempt` is due."""
        self._sleep(self._policy.delay(attempt, self._jitter()))

    def speaks_https(self, host: str) -> bool:
        """Find out whether `host[:port]` has TLS; for loopback only, where plain HTTP is no loss."""
        try:
            self._probe(f"https://{host}/v2/")
        except _FAILURES as error:
            return not (is_plain(error) or (is_wordless(error) and self._speaks_http(host)))
        return True

    def _speaks_http(self, host: str) -> bool:
        """Ask one who does not react to TLS: 400 is how servers that have TLS tell those who do not speak it."""
        try:
            return self._probe(f"http://{host}/v2/") != 400
        except (TemporaryError, *_FAILURES):
            return False

    def _probe(self, url: str) -> int:
        short = (min(_PROBE_TIMEOUT, self._timeout[0]), min(_PROBE_TIMEOUT, self._timeout[1]))
        with contextlib.closing(self._call(Request("GET", url, url), url, short)) as response:
            return response.status_code

    def _once(self, request: Request) -> Answer:
        """Follow redirects to the answer, without patience."""
        url = request.url
        for _ in range(self._redirects + 1):
            try:
                response = self._call(request, url)
            except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema):
                raise TemporaryError(f"{request.what}: cannot send a request to '{redacted(url)}'") from None
            except _FAILURES as error:
                raise translated(error, url) from error
            log.debug("%s %s: %d", request.method, redacted(url), response.status_code)
            location = response.headers.get("Location")
            if response.status_code not in _REDIRECTS or not location:
                return self._answer(request, response, url)
            response.close()  # its body is never read: it may be endless
            if request.form is not None:
                raise TemporaryError(f"{request.what}: {Origin.of(url)} redirects a request that holds a secret")
            url = next_hop(url, location)
            log.debug("%s: redirected to %s", request.what, redacted(url))
        text = f"{request.what}: {Origin.of(request.url)} redirected more than {self._redirects} times"
        raise TemporaryError(text, hint=raising("redirects"))

    def _answer(self, request: Request, response: requests.Response, url: str) -> Answer:
        """Read what is to be read of the body: all of a document, the beginning of an error."""
        challenges = tuple(response.raw.headers.getlist("WWW-Authenticate"))
        redirected = Origin.of(url) != Origin.of(request.url)
        answer = Answer(response.status_code, url, redirected, response.headers, challenges, b"", response)
        good = response.status_code < 300
        if good and request.limit is None:
            return answer
        chunks = paced(answer.chunks(), self._timeout[1], self._monotonic, named(url))
        with answer:
            body = _bounded(chunks, answer, request) if good else _start(chunks)
        if good and (coded := encoding(answer.headers)) and not _is_text(body):
            text = f"{request.what}: {named(url)} sent it encoded as '{coded}', which it was not asked for"
            raise InputError(text, hint="is there a proxy on the way that compresses?")
        return replace(answer, body=body)

    def _call(self, request: Request, url: str, timeout: tuple[float, float] | None = None) -> requests.Response:
        own = Origin.of(url) == Origin.of(request.url)
        headers: dict[str, Any] = {
            "User-Agent": self._agent,
            "Accept-Encoding": "identity",  # a digest is over the bytes as stored
            **request.headers,
            "Authorization": request.authorization if own else None,  # None: not even the session's own
        }
        prepared = self._session.prepare_request(
            requests.Request(request.method, url, headers=headers, data=request.form, auth=_AsWritten(url))
        )
        verify: Any = False if self._trust.is_insecure(str(Origin.of(url))) else self._verify
        settings: Any = self._session.merge_environment_settings(url, {}, stream=True, verify=verify, cert=None)
        if is_loopback(Origin.of(url).host):  # as Go, and so docker, has it: a proxy's loopback is another
            settings["proxies"] = {}
        led = self._is_led_astray(request, url, settings["proxies"])
        adapter = self._guarded if led and self._guarded else self._session.get_adapter(url)
        # Not Session.send: even without allow_redirects that reads a redirect's body to its end, into memory.
        return adapter.send(prepared, timeout=timeout or self._timeout, **settings)

    def _is_led_astray(self, request: Request, url: str, proxies: Mapping[str, str]) -> bool:
        """Tell whether another's word leads to `url`, who has no business in this machine; a proxy is elsewhere."""
        asker = request.asker or Origin.of(request.url)
        if Origin.of(url) == asker or requests.utils.select_proxy(url, dict(proxies)):
            return False
        if asker.host not in self._local:
            self._local[asker.host] = asker.is_local or resolves_locally(asker.host)
        return not self._local[asker.host]

    def _tell(self, answer: Answer) -> None:
        """Log what the registry wants to be known, once."""
        for text in () if answer.redirected else warnings(answer.response.raw.headers.getlist("Warning")):
            line = f"{named(answer.url)} says: {text}"
            if line not in self._told and len(self._told) < _WARNINGS:
                self._told.add(line)
                log.warning("%s", line)

    def _demanded(self, answer: Answer, attempt: int) -> float | None:
        """Return the seconds that the server asks us to wait; infinity when waiting is known to be useless."""
        wanted = retry_after(answer.headers.get("Retry-After"), self._clock())
        if answer.status != 429 or wanted is not None:
            return wanted
        # Docker Hub's window is six hours: an exhausted one is not outlasted by a few attempts.
        exhausted = answer.headers.get("ratelimit-remaining", "").partition(";")[0].strip() == "0"
        return float("inf") if exhausted or attempt > 2 else None


class _AsWritten(requests.auth.AuthBase):
    """Leaves Authorization alone; without any `auth`, requests would look into ~/.netrc.

    And the URL: requests writes `~` for `%7E`, and a signature may be over what was written. (urllib3 still makes
    `%2F` of `%2f`, and `%25` of each `%` if one of them is no escape.) Unless more was done to it, for a session's
    `params` say.
    """

    def __init__(self, url: str) -> None:
        self._url = url

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if request.url == requests.Request("GET", self._url).prepare().url:
            request.url = self._url
        return request


def encoding(headers: Mapping[str, str]) -> str:
    """Return the Content-Encoding that an answer claims to have, "" for none; some claim it of a layer's own gzip."""
    claimed = headers.get("Content-Encoding", "").strip()
    return "" if claimed.lower() == "identity" else printable(claimed, 40)


def _is_text(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def _bounded(chunks: Iterator[bytes], answer: Answer, request: Request) -> bytes:
    body, limit = bytearray(), request.limit or 0
    for chunk in chunks:
        body += chunk
        if len(body) > limit:
            text = f"{request.what}: the answer of {named(answer.url)} is larger than {limit} bytes"
            raise InputError(text, hint=request.larger)
    return bytes(body)


def _start(chunks: Iterator[bytes]) -> bytes:
    """Read an error's body as far as it is of interest; that it breaks as well is not."""
    body = bytearray()
    try:
        for chunk in chunks:
            body += chunk
            if len(body) > _ERROR_LIMIT:
                break
    except OcirootfsError as error:
        log.debug("the error message is cut: %s", error)
    return bytes(body[:_ERROR_LIMIT])


def _overloaded(answer: Answer, what: str) -> TemporaryError:
    host = named(answer.url)
    wanted = answer.headers.get("Retry-After")
    later = f"; retry after {printable(wanted, 40)}" + (" s" if wanted.isdigit() else "") if wanted else ""
    if answer.status != 429:
        return TemporaryError(f"{what}: {host} answered {answer.complaint}{later}")
    facts = (("ratelimit-remaining", "{} pulls left"), ("docker-ratelimit-source", "counted for {}"))
    known = [words.format(printable(answer.headers[name], 45)) for name, words in facts if name in answer.headers]
    left = f" ({', '.join(known)})" if known else ""
    hint = "log in, which raises the limit; use --mirror; or try again later"
    return TemporaryError(f"{what}: {host} limits the rate of pulls{left}: {answer.complaint}{later}", hint=hint)


def _session(trust: Trust) -> requests.Session:
    session = requests.Session()
    for scheme in ("https://", "http://"):
        session.mount(scheme, Adapter(trust))
    return session


def _user_agent() -> str:
    try:
        version = importlib.metadata.version("ocirootfs")
    except importlib.metadata.PackageNotFoundError:
        version = "0"
    return f"ocirootfs/{version} python-requests/{requests.__version__}"
