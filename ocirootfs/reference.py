"""References: the names by which people call images.

The grammar and Docker Hub's short forms are those of github.com/distribution/reference (regexp.go, normalize.go),
with three deliberate differences: `registry-1.docker.io` is Docker Hub too, hosts are lower-cased, and ports and
addresses must exist. Strictness is a safety rule here: what is parsed goes into a URL's path.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from ocirootfs.digest import Digest
from ocirootfs.errors import InputError, UsageError, printable

HUB = "docker.io"
HUB_HOSTS = frozenset(["docker.io", "index.docker.io", "registry-1.docker.io"])

_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_HOST = re.compile(
    rf"(?P<host>{_LABEL}(?:\.{_LABEL})*|\[(?P<ipv6>[a-fA-F0-9:.]+)\])(?::(?P<port>[0-9]{{1,5}}))?",
    re.ASCII,
)
_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*", re.ASCII)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", re.ASCII)
_IMAGE_ID = re.compile(r"[a-f0-9]{64}", re.ASCII)
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://", re.ASCII)
# All before the last @ that no digest follows; people who think of URLs write a user and a password there.
_LOGIN = re.compile(r".*@(?!(?:sha|md|blake)[0-9a-z]*:|$)", re.DOTALL)
_REPOSITORY_LIMIT = 255  # distribution/reference, NameTotalLengthMax


@dataclass(frozen=True, slots=True)
class Reference:
    """Where an image is (`registry`, `repository`) and which it is (`digest` if known, else `tag`).

    >>> reference = ocirootfs.Reference.parse("ubuntu:17.04")
    >>> str(reference), reference.familiar, reference.name
    ('docker.io/library/ubuntu:17.04', 'ubuntu', 'ubuntu')
    """

    registry: str
    repository: str
    tag: str | None = None
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read what people type: `ubuntu`, `ghcr.io/a/b:1`, `docker://x@sha256:...`; UsageError otherwise.

        Without a tag and a digest the tag is `latest`; with both, both are kept and the digest decides.
        """
        name = text.removeprefix("docker://")
        if _URL.match(name):
            raise _not_a_name(text, name)
        if (login := _LOGIN.match(name)) and ":" in login[0]:
            raise _with_password(name[login.end() :])
        if _IMAGE_ID.fullmatch(name):
            raise _invalid(text, "it is an image ID, not a name")
        registry, rest = _split_registry(name)
        rest, at, digest = rest.partition("@")
        rest, colon, tag = rest.partition(":")
        repository = _repository(text, registry, rest)
        if colon and not _TAG.fullmatch(tag):
            hint = "a digest is written behind an @" if re.match(r"sha\d+:", tag) else None
            raise _invalid(text, f"invalid tag '{printable(tag, 60)}'", hint=hint)
        if not colon and not at:
            tag = "latest"
        return cls(_host(text, registry), repository, tag or None, _digest(text, at, digest))

    def with_digest(self, digest: Digest) -> Reference:
        """Return the same name pinned to `digest`; the tag is kept for display."""
        return replace(self, digest=digest)

    @property
    def familiar(self) -> str:
        """The name as docker shows it, without tag and digest: Docker Hub's defaults are left out."""
        if self.registry != HUB:
            return f"{self.registry}/{self.repository}"
        return self.repository.removeprefix("library/")

    @property
    def name(self) -> str:
        """The last component of the repository: `ubuntu`."""
        return self.repository.rpartition("/")[2]

    @property
    def api_host(self) -> str:
        """`host[:port]` that serves the registry's API: Docker Hub's differs from its name."""
        return "registry-1.docker.io" if self.registry == HUB else self.registry

    @property
    def doubts(self) -> tuple[str, ...]:
        """What else may have been meant, for when nothing is found: without dot or port a first word is no host."""
        if self.registry != HUB:
            return ()
        first, _, rest = self.repository.removeprefix("library/").partition("/")
        if rest:
            return (f"'{first}' is taken for a user of Docker Hub: a registry has a dot or a port in its name",)
        if "." in first or first == "localhost":
            port = f":{self.tag}" if self.tag and self.tag.isdecimal() else ""
            return (f"did you mean '{first}{port}/NAME'?",)
        return ()

    @property
    def target(self) -> str:
        """What the manifest is asked for by: the digest, or the tag."""
        return str(self.digest or self.tag)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.registry}/{self.repository}{tag}{digest}"


def _split_registry(name: str) -> tuple[str, str]:
    """Part the host from the path (normalize.go, splitDockerDomain): it has a dot, a colon or a capital."""
    head, slash, rest = name.partition("/")
    if slash and ("." in head or ":" in head or head == "localhost" or head.lower() != head):
        return (HUB if head.lower() in HUB_HOSTS else head), rest
    return HUB, name


def _host(text: str, registry: str) -> str:
    match = _HOST.fullmatch(registry)
    if not match:
        raise _invalid(text, f"invalid registry host '{printable(registry, 60)}'")
    if match["port"] is not None and not 0 < int(match["port"]) < 65536:
        raise _invalid(text, f"there is no port {match['port']}")
    if match["ipv6"] is not None:
        import ipaddress  # noqa: PLC0415  # few registries are called by an address

        try:
            ipaddress.IPv6Address(match["ipv6"])
        except ValueError:
            raise _invalid(text, f"invalid IPv6 address '{printable(match['host'], 60)}'") from None
    # Of `MyHost/app` the capital alone says that there is a host: the full form must say so, too.
    return registry.lower() if re.search(r"[.:]", registry) or registry == "localhost" else registry


def _repository(text: str, registry: str, path: str) -> str:
    if path != path.lower() and _REPOSITORY.fullmatch(path.lower()):
        shown = printable(text.replace(path, path.lower(), 1))
        raise _invalid(text, "repository name must be lowercase", hint=f"did you mean '{shown}'?")
    if not path:
        raise _invalid(text, "the name of the repository is missing")
    if not _REPOSITORY.fullmatch(path):
        raise _invalid(text, f"invalid repository name '{printable(path, 60)}'")
    if registry == HUB and "/" not in path:
        path = f"library/{path}"
    if len(path) > _REPOSITORY_LIMIT:
        raise _invalid(text, f"repository name longer than {_REPOSITORY_LIMIT} characters")
    return path


def _digest(text: str, at: str, digest: str) -> Digest | None:
    if not at:
        return None
    try:
        return Digest.parse(digest)
    except InputError as error:
        raise _invalid(text, str(error)) from None


def _invalid(text: str, reason: str, *, hint: str | None = None) -> UsageError:
    return UsageError(f"invalid image reference '{printable(text, 120)}': {reason}", hint=hint)


def _not_a_name(text: str, name: str) -> UsageError:
    scheme, separator, rest = name.partition("://")
    unsigned = re.sub(r"[?#].*", "", rest, flags=re.DOTALL)
    bare = printable(_LOGIN.sub("", unsigned), 120)  # without a password, too
    where = text.removesuffix(name)
    hint = f"use '{bare}'"
    try:
        Reference.parse(bare)
    except UsageError:  # a page of a web site, say
        hint = "such as ubuntu:17.04, or registry.corp/team/app:1"
    return UsageError(f"'{where}{scheme}{separator}{bare}' is a URL, not an image reference", hint=hint)


def _with_password(bare: str) -> UsageError:
    shown = printable(bare, 120)
    return UsageError(f"invalid image reference '***@{shown}': it holds a password", hint=f"use '{shown}' and --creds")
