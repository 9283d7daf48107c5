"""A registry: images by reference, manifests and blobs by digest.

Sources: OCI distribution-spec, "Pull"; RFC 9110 section 14 (ranges). Nothing is believed that a digest or a size can
prove; blobs are proved by their reader (`digest.verified`), manifests and configs here.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import time
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, TypeVar

from ocirootfs.digest import Descriptor, Digest, verified
from ocirootfs.errors import (
    ArtifactError,
    AuthError,
    DigestError,
    InputError,
    NotFoundError,
    OcirootfsError,
    TemporaryError,
)
from ocirootfs.image import Image, assemble
from ocirootfs.limits import USUAL, Limits, raising
from ocirootfs.manifest import (
    MANIFEST_TYPES,
    Config,
    Index,
    Manifest,
    candidates,
    is_image,
    no_platform,
    parse_config,
    parse_manifest,
)
from ocirootfs.platform import Platform, rank
from ocirootfs.registry.auth import Authorizer, TokenRequest
from ocirootfs.registry.blob import BlobReader, require_size
from ocirootfs.registry.cache import BlobCache
from ocirootfs.registry.certsd import usual_directories
from ocirootfs.registry.credentials import Credentials, Find, Keychain, fixed
from ocirootfs.registry.family import Gatherer, best
from ocirootfs.registry.interrupt import Interrupt
from ocirootfs.registry.mirror import Mirror, Mirrors
from ocirootfs.registry.netfailure import BrokenError, named
from ocirootfs.registry.origin import Origin, is_loopback, next_hop
from ocirootfs.registry.retry import RetryPolicy
from ocirootfs.registry.transport import Answer, Request, Transport

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    import requests

    from ocirootfs.reference import Reference

_Read = TypeVar("_Read")

log = logging.getLogger("ocirootfs.registry")

# Without every one of these, docker-registry 2.8 converts to schema 1 or answers 404 (content negotiation).
_ACCEPT = ", ".join(MANIFEST_TYPES)
_MIRROR_RETRIES = 1
_EXPIRED = re.compile(r"\bExpiredToken\b|\bhas expired\b")
_TRIES = 16  # entries without a platform whose config is asked


class Registry:
    """Pulls images. One object for any number of images and registries; it keeps connections and tokens.

    `session` is a requests.Session of the caller's, for its proxies, adapters and headers; the caller closes it.
    `credentials` are those for any registry, or a search for them: `Keychain().find`, which looks into the usual
    places, is the default, `credentials.anonymous` finds none. Mirrors are never told credentials that were given,
    only what a search finds for their own host. `trusted_realms` are token servers, by host, that a foreign registry
    may have (see `auth`). Plain HTTP is spoken to loopback hosts that have no TLS, to mirrors whose URL says so, and to
    every host with `plain_http`. `insecure` checks no certificate, or not those of the hosts named; `certs_directories`
    are looked into for certificates of each host, by default the usual ones (see `certsd`). `timeout` and `max_wait`
    are seconds: the longest silence (less than 1 KiB/s for as long is one), and the longest wait that a server may
    demand. `cache_dir` keeps blobs, and manifests asked for by digest, from one run to the next (see `registry.cache`);
    tags are always asked. `jobs` layers of an image are downloaded at a time by what reads it whole (see `prefetch`).
    With `allow_foreign` layers that a registry leaves to other servers (`urls`) are fetched there, without credentials.
    `limits` bound what is read of a registry, and of its images later on.
    """

    def __init__(  # noqa: PLR0913 - each is a choice of its own, and has a default
        self,
        session: requests.Session | None = None,
        *,
        credentials: Credentials | Find | None = None,
        plain_http: bool = False,
        insecure: bool | Collection[str] = False,
        ca_file: Path | str | None = None,
        certs_directories: Sequence[Path] | None = None,
        mirrors: Sequence[Mirror | str] = (),
        timeout: float = 60.0,
        retries: int = 5,
        max_wait: float = 60.0,
        jobs: int = 3,
        cache_dir: Path | str | None = None,
        allow_foreign: bool = False,
        trusted_realms: Sequence[str] = (),
        limits: Limits = USUAL,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._retries, self._timeout, self._monotonic = retries, timeout, monotonic
        self._jobs = jobs
        self.limits = limits
        self._cache = BlobCache(cache_dir, sleep=sleep, monotonic=monotonic) if cache_dir else None
        self._allow_foreign = allow_foreign
        policy = RetryPolicy(retries, max_wait)
        self._transport = Transport(
            session,
            insecure=insecure,
            ca_file=ca_file,
            certs_directories=usual_directories(os.environ) if certs_directories is None else certs_directories,
            timeout=timeout,
            policy=policy,
            redirects=limits.redirects,
            sleep=sleep,
        )
        parsed = [Mirror.parse(mirror) if isinstance(mirror, str) else mirror for mirror in mirrors]
        self._mirrors = Mirrors(parsed)
        find = _search(credentials, parsed)
        self._authorizer = Authorizer(
            self._exchange, find, trusted_realms=trusted_realms, json_depth=limits.json_depth, clock=monotonic
        )
        self._plain_http = plain_http
        self._origins = {m.host: Origin.of(f"{m.scheme}://{m.host}") for m in parsed if m.scheme}

    def close(self) -> None:
        """Close the connections; iterators of blobs end with an error, and so do searches for credentials."""
        self._authorizer.close()
        self._transport.close()

    def __enter__(self) -> Registry:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self, reference: Reference, platform: Platform | None = None, *, all_platforms: bool = False) -> Image:
        """Return the image that `reference` names, for `platform` or else for linux on this machine.

        Its layers are downloaded when they are read. With `all_platforms` it comes with its `family`, everything that
        the index lists, and may be for another platform if there is none for this one. Raises NotFoundError, also if
        there is none for the platform; AuthError, TemporaryError, and InputError for what is no image.
        """
        wanted = platform or Platform.default()
        found = self.manifest(reference)
        if isinstance(found, Index):
            if all_platforms:
                return replace(self._with_family(reference, found, wanted), index=found)
            return replace(self._image(reference, *self._choose(reference, found, wanted)), index=found)
        config = self._config(reference, found)
        _check_platform(reference, config, wanted, explicit=platform is not None)
        return self._image(reference, found, config)

    def _image(
        self, reference: Reference, manifest: Manifest, config: Config, interrupt: Interrupt | None = None
    ) -> Image:
        interrupt = interrupt or Interrupt()
        image = assemble(
            manifest, config, lambda layer: self._stored(reference, layer, interrupt), reference, self.limits
        )
        cached = self._cache is not None and all(map(self._cache.has, manifest.layers))
        return replace(image, again="costly", jobs=1 if cached else self._jobs, interrupt=interrupt.stop)

    def manifest(self, reference: Reference, entry: Descriptor | None = None) -> Manifest | Index:
        """Fetch the manifest or index that `reference` names, or the one that `entry` of its index describes.

        A digest, the reference's or the entry's, is checked. Docker-Content-Digest is not believed.
        """

        def read(place: Reference) -> Manifest | Index:
            return parse_manifest(*self._manifest_bytes(place, reference, entry), self.limits)

        return self._mirrors.first(reference, read)

    def _manifest_bytes(
        self, place: Reference, reference: Reference, entry: Descriptor | None
    ) -> tuple[bytes, str | None, str]:
        """Fetch a manifest of any kind: the bytes, what type they are said to be, and what errors call it."""
        pinned = reference.with_digest(entry.digest) if entry else reference
        what = str(pinned)
        most = self.limits.document
        kept = self._cache.document(pinned.digest, most) if self._cache and pinned.digest else None
        if kept is not None:
            return kept, entry.media_type if entry else None, what
        url = f"{self._base(place)}/manifests/{pinned.target}"
        few = _MIRROR_RETRIES if place != reference else None

        def ask() -> Answer:
            answer = self._get(place, url, what, {"Accept": _ACCEPT}, limit=most, retries=few)
            if answer.status == 200 and pinned.digest:
                _demand_digest(answer.body, pinned.digest, f"the manifest of {what}")
            return answer

        answer = _once_more(ask)
        if answer.status == 404 and entry:
            where = f"{entry.digest} for {entry.platform}" if entry.platform else str(entry.digest)
            raise NotFoundError(f"{reference}: the index lists {where}, but the registry does not have it")
        guess = "is it in another repository, or removed?" if pinned.digest else "is the tag spelled right?"
        _demand_success(answer, what, hint="; ".join(reference.doubts) or guess)
        if pinned.digest and self._cache:
            self._cache.keep(pinned.digest, answer.body)
        media_type = entry.media_type if entry else answer.headers.get("Content-Type")
        return answer.body, media_type, what

    def blob(self, reference: Reference, descriptor: Descriptor) -> Iterator[bytes]:
        """Yield the bytes of a blob of `reference`, as stored, exactly `descriptor.size` of them.

        A broken connection is resumed where it broke. The digest is the caller's to check. Raises NotFoundError,
        AuthError, TemporaryError, or InputError if the registry has another number of bytes.
        """
        return self._stored(reference, descriptor, Interrupt())

    def _stored(self, reference: Reference, descriptor: Descriptor, interrupt: Interrupt) -> Iterator[bytes]:
        what = f"blob {descriptor.digest} of {reference}"
        if self._cache is None:
            return self._download(reference, descriptor, what, 0, interrupt)
        return self._cache.read(descriptor, lambda at: self._download(reference, descriptor, what, at, interrupt), what)

    def _download(
        self, reference: Reference, descriptor: Descriptor, what: str, start: int, interrupt: Interrupt
    ) -> Iterator[bytes]:
        """Yield a blob from byte `start` on, from a mirror, the registry or, if that leaves it to others, from them."""
        connections, served = count(1), set[str]()

        def ask(place: Reference, headers: Mapping[str, str]) -> Answer:
            url = f"{self._base(place)}/blobs/{descriptor.digest}"
            answer = self._get(place, url, what, headers, retries=_MIRROR_RETRIES if place != reference else None)
            if answer.status == 404 and not answer.redirected and descriptor.urls and place == reference:
                answer = self._foreign(url, descriptor, what, headers)
            if answer.redirected and answer.status in {404, 410} and "Range" in headers:
                raise BrokenError(f"{named(answer.url)}, where the registry keeps it, says {answer.complaint}")
            if answer.status != 416 or "Range" not in headers:  # the reader knows what to do without ranges
                _demand_success(answer, what)
            if place != reference:  # while another can still be asked
                try:
                    require_size(answer, descriptor.size, what)
                except InputError:
                    answer.close()
                    raise
            served.add(place.registry)
            return answer

        def fetch(headers: Mapping[str, str]) -> Answer:
            if next(connections) > 1 + _MIRROR_RETRIES:  # what a mirror keeps losing, the registry may bring
                return ask(reference, headers)
            return self._mirrors.first(reference, lambda place: ask(place, headers))

        reader = BlobReader(
            fetch,
            self._transport.pause,
            self._retries,
            window=self._timeout,
            clock=self._monotonic,
            interrupt=interrupt,
        )
        stored = reader.read(descriptor.size, what, start)
        # The end of a blob alone cannot be proved here; who has the beginning, the cache, proves the whole.
        return stored if start else self._mirrors.proved(stored, reference, descriptor, served)

    def _foreign(self, url: str, descriptor: Descriptor, what: str, headers: Mapping[str, str]) -> Answer:
        """Ask the servers that a descriptor's `urls` name, as nobody; the rules are those of redirects from `url`.

        Sources: image-spec, descriptor.md ("urls"); CVE-2020-15157, where the credentials went along.
        """
        hosts = ", ".join(dict.fromkeys(map(named, descriptor.urls)))
        if not self._allow_foreign:
            message = f"{what}: a foreign layer, which the registry does not have but leaves to {hosts}"
            raise NotFoundError(message, hint="--allow-foreign downloads it from there, without credentials")
        complaint = ""
        for other in descriptor.urls:
            try:
                to = next_hop(url, other)
                answer = self._transport.send(Request("GET", to, what, None, headers, asker=Origin.of(url)))
            except TemporaryError as error:
                complaint = str(error)
                continue
            if answer.status in {200, 206, 416}:
                return answer
            complaint = answer.complaint
            answer.close()
        raise TemporaryError(f"{what}: neither the registry nor {hosts} has this foreign layer: {complaint}")

    def _with_family(self, reference: Reference, index: Index, wanted: Platform) -> Image:
        """Return the image that serves a platform best, or the first, with all that the index lists."""
        interrupt = Interrupt()

        def image(manifest: Manifest) -> Image:
            return self._image(reference, manifest, self._config(reference, manifest), interrupt)

        def document(entry: Descriptor) -> tuple[bytes, str | None, str]:
            return self._mirrors.first(reference, lambda place: self._manifest_bytes(place, reference, entry))

        gatherer = Gatherer(
            document,
            image,
            lambda part: self._stored(reference, part, interrupt),
            self.limits,
        )
        family = gatherer.gather(index, str(reference))
        return replace(best(family, wanted), family=family)

    def _choose(self, reference: Reference, index: Index, wanted: Platform) -> tuple[Manifest, Config]:
        """Find the image for a platform in an index, asking the configs of those that do not say theirs."""
        artifacts: list[ArtifactError] = []
        nested: list[Index] = []
        for manifest, certain in self._offers(reference, index, wanted, self.limits.index_depth, artifacts, nested):
            config = self._config(reference, manifest)
            if rank(wanted, config.platform) is not None:
                return manifest, config
            if certain:
                log.warning("%s: its config is for %s, not %s", reference, config.platform, wanted)
                return manifest, config
        if artifacts and not any(entry.platform for entry in filter(is_image, index.manifests)):
            raise artifacts[0]  # it is a list of them
        raise no_platform(index, wanted, str(reference), nested)

    def _offers(
        self,
        reference: Reference,
        index: Index,
        wanted: Platform,
        depth: int,
        artifacts: list[ArtifactError],
        nested: list[Index],
    ) -> Iterator[tuple[Manifest, bool]]:
        """Yield the manifests that may serve, best first, and whether the index itself says that they do.

        What proves to be an artifact goes to `artifacts`, and an index to `nested`.
        """
        for entry in candidates(index, wanted)[:_TRIES]:
            try:
                found = self.manifest(reference, entry)
            except ArtifactError as error:
                artifacts.append(error)
                continue
            if isinstance(found, Manifest):
                yield found, entry.platform is not None
            elif depth == 0:
                text = f"{reference}: indexes within indexes, more than {self.limits.index_depth} deep"
                raise InputError(text, hint=raising("index_depth"))
            else:
                nested.append(found)
                yield from self._offers(reference, found, wanted, depth - 1, artifacts, nested)

    def _config(self, reference: Reference, manifest: Manifest) -> Config:
        descriptor, what = manifest.config, f"the config of {reference}"

        def read(_place: Reference) -> bytes:
            stored = self.blob(reference, descriptor) if descriptor.data is None else (descriptor.data,)
            return b"".join(verified(stored, descriptor.digest, descriptor.size, what))

        return parse_config(_once_more(lambda: self._mirrors.first(reference, read)), what, self.limits)

    def _base(self, reference: Reference) -> str:
        origin = self._origin(reference.api_host)
        return f"{origin.scheme}://{origin}/v2/{reference.repository}"

    def _origin(self, host: str) -> Origin:
        """Decide between https and http: http only if told to, or to a loopback host that has no TLS."""
        if host not in self._origins:
            secure = Origin.of(f"https://{host}")
            plain = self._plain_http or (is_loopback(secure.host) and not self._transport.speaks_https(host))
            self._origins[host] = Origin.of(f"http://{host}") if plain else secure
        return self._origins[host]

    def _get(
        self,
        reference: Reference,
        url: str,
        what: str,
        headers: Mapping[str, str],
        limit: int | None = None,
        retries: int | None = None,
    ) -> Answer:
        """Send a GET, and once more with a new Authorization if the registry (not a redirect's target) wants one."""
        origin = self._origin(reference.api_host)
        authorization = self._authorizer.header(origin, reference)
        larger = raising("document") if limit else None
        request = Request("GET", url, what, authorization, headers, limit=limit, larger=larger, retries=retries)
        answer = self._transport.send(request)
        challenges = self._challenges(origin, reference, answer, authorization)
        if challenges is not None:
            authorization = self._authorizer.answer(origin, reference, challenges, authorization)
            answer = self._transport.send(replace(request, authorization=authorization))
        if answer.status in {401, 403} or _has_expired(answer):
            raise self._refused(reference, answer, what, is_told=authorization is not None)
        return answer

    def _challenges(
        self, origin: Origin, reference: Reference, answer: Answer, authorization: str | None
    ) -> tuple[str, ...] | None:
        """Return what is to be answered before asking once more, None if that is of no use."""
        if answer.redirected:
            return None
        if answer.status == 401:
            return answer.challenges or self._ping(origin)
        # Some registries deny or hide from nobody in particular what they have, and say at their root how to get in.
        if answer.status in {403, 404} and not authorization and self._authorizer.search(reference).credentials:
            return self._ping(origin) or None
        return None

    def _ping(self, origin: Origin) -> tuple[str, ...]:
        """Ask for the challenge at the API's root: some registries give it nowhere else."""
        answer = self._transport.send(
            Request("GET", f"{origin.scheme}://{origin}/v2/", str(origin), limit=self.limits.document)
        )
        return () if answer.redirected else answer.challenges

    def _exchange(self, request: TokenRequest) -> tuple[int, bytes]:
        method, what = "POST" if request.form else "GET", "the token server"
        answer = self._transport.send(
            Request(
                method,
                request.url,
                what,
                request.authorization,
                form=request.form,
                limit=self.limits.token,
                larger=raising("token"),
                asker=request.registry,
            )
        )
        return answer.status, answer.body

    def _refused(self, reference: Reference, answer: Answer, what: str, *, is_told: bool) -> OcirootfsError:
        if answer.redirected:  # a signed URL that is no longer valid, or a clock that is wrong: not our credentials
            text = f"{what}: {named(answer.url)}, where the registry keeps it, says {answer.complaint}"
            if answer.status == 401:
                return AuthError(text, hint="no credential follows a redirect: is that a registry to be named itself?")
            return BrokenError(text)
        if is_told and self._authorizer.search(reference).credentials:
            message = f"access to {reference} denied: {answer.complaint}"
        else:
            message = f"access to {reference} denied: it does not exist or needs a login ({answer.complaint})"
        return AuthError(message, hint=self._authorizer.advice(reference, is_told=is_told))


def _search(credentials: Credentials | Find | None, mirrors: Sequence[Mirror]) -> Find:
    usual = Keychain().find
    if isinstance(credentials, Credentials):
        return fixed(credentials, but={mirror.host for mirror in mirrors}, otherwise=usual)
    return credentials or usual


def _demand_digest(body: bytes, digest: Digest, what: str) -> None:
    actual = Digest.of(body, digest.algorithm)
    if actual != digest:
        raise DigestError(what, expected=digest, actual=actual)


def _once_more(read: Callable[[], _Read]) -> _Read:
    """Read a document, and once more if its bytes are not those promised: a proxy may have kept a broken copy."""
    with contextlib.suppress(DigestError):
        return read()
    return read()


def _has_expired(answer: Answer) -> bool:
    """Tell whether a signed URL was too old; S3 and its like say so with 400, if it is the token that was."""
    return answer.redirected and answer.status == 400 and bool(_EXPIRED.search(answer.complaint))


def _demand_success(answer: Answer, what: str, hint: str | None = None) -> None:
    if answer.status == 404 or (answer.status == 410 and not answer.redirected):
        raise NotFoundError(f"{what}: not found ({answer.complaint})", hint=hint)
    if answer.status == 451:
        raise NotFoundError(f"{what}: {named(answer.url)} withholds it for legal reasons ({answer.complaint})")
    if answer.status == 406 and not answer.redirected:
        text = f"{what}: {named(answer.url)} has it in no form that was asked for ({answer.complaint})"
        raise InputError(text, hint="asked for are manifests and indexes of Docker and OCI")
    if answer.status not in {200, 206}:
        answer.close()
        wants_tls = "it may want HTTPS" if answer.status == 400 and answer.url.startswith("http:") else None
        raise _refused(answer)(f"{what}: {named(answer.url)} answered {answer.complaint}", hint=wants_tls)


def _refused(answer: Answer) -> type[OcirootfsError]:
    """Tell whose fault an answer is that says no to something that registries do not say no to."""
    if answer.status == 402:  # so many pulls, or so much traffic, are paid for
        return AuthError
    if answer.redirected or answer.status >= 500:  # the next signed URL may be a better one
        return TemporaryError
    return InputError if answer.status >= 400 else TemporaryError


def _check_platform(reference: Reference, config: Config, wanted: Platform, *, explicit: bool) -> None:
    """Compare an image that comes alone with what is wanted: a warning unless somebody asked for that platform."""
    if rank(wanted, config.platform) is not None or config.platform.architecture == "unknown":
        return
    if explicit or config.platform.os != wanted.os:
        raise NotFoundError(f"{reference}: no image for {wanted}; it is for {config.platform} alone")
    log.warning("%s is for %s, not for this machine's %s", reference, config.platform, wanted)
