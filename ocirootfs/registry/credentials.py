"""Whose name and password a registry is told: where docker, podman and CI systems leave them.

The order is that of containers-auth.json(5) and of the docker command line (cli/config/configfile), merged:
an explicit answer; `--authfile`, then alone; $DOCKER_AUTH_CONFIG; $REGISTRY_AUTH_FILE, which replaces the rest;
podman's auth.json; docker's config.json; .dockercfg; and for a registry of Amazon's, AWS itself.
"""

from __future__ import annotations

import base64
import binascii
import logging
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from ocirootfs import strictjson
from ocirootfs.errors import AuthError, InputError, UsageError, printable
from ocirootfs.reference import HUB, HUB_HOSTS
from ocirootfs.registry import credhelper
from ocirootfs.strictjson import Json, as_object, as_string, as_string_map

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from ocirootfs.reference import Reference

log = logging.getLogger("ocirootfs.registry")

# Docker Hub's name in docker's files, and what its helpers are asked for.
_HUB_KEY = "https://index.docker.io/v1/"
# What a helper calls the user when its secret is an OAuth2 refresh token.
_TOKEN_USER = "<token>"  # noqa: S105
_FILE_LIMIT = 1 << 20
# Whoever else has such a name is told apart by `ecr`.
_LIKE_ECR = re.compile(r"[0-9]{12}\.dkr[.-]ecr[.-]", re.ASCII)


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user's name and password, or one of the two kinds of token. `source` says where they were found."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)  # OAuth2: to be exchanged for a bearer token
    registry_token: str = field(default="", repr=False)  # a bearer token as it is
    source: str = "the caller"


@dataclass(frozen=True, slots=True)
class Search:
    """What a search found, where it looked, and what went wrong on the way without ending it."""

    credentials: Credentials | None
    places: tuple[str, ...] = ()
    troubles: tuple[str, ...] = ()


# Called from any thread, and from several at a time for different repositories.
Find: TypeAlias = "Callable[[Reference], Search]"


def anonymous(_reference: Reference) -> Search:
    """Find nothing, whatever there is."""
    return Search(None)


def fixed(credentials: Credentials, *, but: Collection[str] = (), otherwise: Find = anonymous) -> Find:
    """Return a search that finds `credentials` for every registry `but` these, which `otherwise` is asked about."""

    def find(reference: Reference) -> Search:
        return otherwise(reference) if reference.registry in but else Search(credentials, (credentials.source,))

    return find


class Keychain:
    """Searches the usual places. `environ` decides them all: without HOME, those below it are left out."""

    def __init__(self, environ: Mapping[str, str] | None = None, *, authfile: Path | str | None = None) -> None:
        self._environ = os.environ if environ is None else environ
        self._authfile = None if authfile is None else Path(authfile)

    def find(self, reference: Reference) -> Search:
        """Return the credentials for `reference`; an unreadable file that was asked for by name is a UsageError.

        AuthError and TemporaryError come from AWS, which is asked where nothing else was found (see `ecr`).
        """
        places: list[str] = []
        troubles: list[str] = []
        for name, document in self._documents(troubles):
            places.append(name)
            try:
                found = _lookup(document, reference, name, self._environ, troubles)
            except InputError as error:
                troubles.append(str(error))
                continue
            if found:
                log.debug("credentials for %s from %s", reference.registry, name)
                return Search(found, tuple(places), tuple(troubles))
        for trouble in troubles:
            log.warning("%s", trouble)
        return Search(_from_aws(reference), tuple(places), tuple(troubles))

    def _documents(self, troubles: list[str]) -> Iterator[tuple[str, dict[str, Json]]]:
        """Yield what the places hold, by their names, in order."""
        text = self._environ.get("DOCKER_AUTH_CONFIG")
        if self._authfile is None and text:
            raw = os.fsencode(text)
            yield "DOCKER_AUTH_CONFIG", _demanded(lambda: _parsed(raw, "DOCKER_AUTH_CONFIG"))
        chosen = self._authfile or self._environ.get("REGISTRY_AUTH_FILE")
        if chosen:
            path = Path(chosen)
            if self._authfile or path.exists():
                yield str(path), _demanded(lambda: _read(path))
            return
        for path in self._usual_files():
            try:
                document = _read(path)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except (OSError, InputError) as error:
                troubles.append(_unreadable(path, error))
                continue
            yield str(path), {"auths": document} if path.name == ".dockercfg" else document

    def _usual_files(self) -> Iterator[Path]:
        home = self._environ.get("HOME")
        run = self._environ.get("XDG_RUNTIME_DIR") or f"/run/containers/{os.getuid()}"
        yield Path(run, "containers/auth.json" if self._environ.get("XDG_RUNTIME_DIR") else "auth.json")
        config = self._environ.get("XDG_CONFIG_HOME") or (home and f"{home}/.config")
        if config:
            yield Path(config, "containers/auth.json")
        docker = self._environ.get("DOCKER_CONFIG") or (home and f"{home}/.docker")
        if docker:
            yield Path(docker, "config.json")
        if home:
            yield Path(home, ".dockercfg")


def _lookup(
    document: dict[str, Json], reference: Reference, name: str, environ: Mapping[str, str], troubles: list[str]
) -> Credentials | None:
    """Search one file as docker does: the helper for this host, else the general one, then what is written there."""
    helpers = as_string_map(document.get("credHelpers"), f"{name}: credHelpers")
    hosts = HUB_HOSTS if reference.registry == HUB else {reference.registry.lower()}
    own = next((helper for key, helper in helpers.items() if _host(key) in hosts), "")
    helper = own or as_string(document.get("credsStore"), f"{name}: credsStore")
    if helper:
        try:
            found = _from_helper(helper, reference, name, environ)
        except AuthError as error:
            advice = f" ({error.hint})" if error.hint else ""
            troubles.append(f"{error}, which {name} names{advice}")
        else:
            if found:
                return found
    auths = document.get("auths")
    return None if auths is None else _from_auths(as_object(auths, f"{name}: auths"), reference, name, troubles)


def _from_helper(helper: str, reference: Reference, name: str, environ: Mapping[str, str]) -> Credentials | None:
    server = _HUB_KEY if reference.registry == HUB else reference.registry
    answer = credhelper.ask(helper, server, environ)
    if answer is None or not answer[1]:
        return None
    username, secret = answer
    source = f"docker-credential-{helper} ({name})"
    if username == _TOKEN_USER:
        return Credentials(identity_token=secret, source=source)
    return Credentials(username, secret, source=source)


def _from_aws(reference: Reference) -> Credentials | None:
    if not _LIKE_ECR.match(reference.registry):
        return None
    from ocirootfs.registry import ecr  # noqa: PLC0415  # boto3 takes long to load

    answer = ecr.ask(reference.registry)
    return Credentials(*answer, source="AWS") if answer else None


def _from_auths(auths: dict[str, Json], reference: Reference, name: str, troubles: list[str]) -> Credentials | None:
    for key in _keys(auths, reference):
        try:
            found = _entry(as_object(auths[key], "entry"), name)
        except (InputError, ValueError):  # without the cause, which may quote the secret
            troubles.append(f"{name}: the entry for '{printable(key, 80)}' is malformed")
            continue
        if found:
            return found
    return None


def _keys(auths: dict[str, Json], reference: Reference) -> Iterator[str]:
    """Yield the keys that speak of `reference`: namespaces from the longest, the host, then its other spellings."""
    hosts = HUB_HOSTS if reference.registry == HUB else {reference.registry.lower()}
    parts = reference.repository.split("/")
    for length in range(len(parts), 0, -1):
        for host in sorted(hosts):
            key = "/".join((host, *parts[:length]))
            if key in auths:
                yield key
    if reference.registry in auths:
        yield reference.registry
    for key in auths:
        if key != reference.registry and _host(key) in hosts:
            yield key


def _host(key: str) -> str:
    """Reduce `https://Host/v1/` to the host; a key without scheme may be a namespace and keeps its path."""
    key = key.lower()
    for scheme in ("https://", "http://"):
        if key.startswith(scheme):
            return key.removeprefix(scheme).partition("/")[0]
    return key.rstrip("/")


def _entry(entry: dict[str, Json], source: str) -> Credentials | None:
    """Read one entry; `{}`, which docker leaves behind for a helper, is none. ValueError if malformed."""
    username, password = as_string(entry.get("username"), ""), as_string(entry.get("password"), "")
    auth = as_string(entry.get("auth"), "")
    if auth:
        username, password = _decoded(auth)
    identity = as_string(entry.get("identitytoken"), "")
    registry = as_string(entry.get("registrytoken"), "")
    if not (identity or registry or (username and password)):
        return None
    return Credentials(username, password, identity, registry, source)


def _decoded(auth: str) -> tuple[str, str]:
    """Decode `auth`: base64, padded or not, of `user:password`, the password perhaps with NULs after it."""
    try:
        raw = base64.b64decode(auth.strip() + "=" * (-len(auth.strip()) % 4), validate=True)
    except binascii.Error:
        raise ValueError from None
    username, colon, password = raw.decode("utf-8", "surrogateescape").partition(":")
    if not username or not colon:
        raise ValueError
    return username, password.rstrip("\0")


def _demanded(read: Callable[[], dict[str, Json]]) -> dict[str, Json]:
    """Read what the caller named: that it cannot be used is the caller's error."""
    try:
        return read()
    except OSError as error:
        name = printable(str(error.filename))
        raise UsageError(f"cannot read the auth file {name}: {(error.strerror or 'error').lower()}") from None
    except InputError as error:
        raise UsageError(f"cannot use the credentials in {error}") from None


def _unreadable(path: Path, error: OSError | InputError) -> str:
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return f"{printable(str(path))} is left out: {reason}"


def _read(path: Path) -> dict[str, Json]:
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_mode & 0o077:
            log.info("%s can be read by others: chmod 600 would keep it", printable(str(path)))
        raw = file.read(_FILE_LIMIT + 1)
    if len(raw) > _FILE_LIMIT:
        raise InputError(f"{printable(str(path))}: larger than {_FILE_LIMIT} bytes")
    return _parsed(raw, printable(str(path)))


def _parsed(raw: bytes, name: str) -> dict[str, Json]:
    return as_object(strictjson.load(raw, name), name)
