"""Origins: who gets a request, and so who may see a credential.

Sources: RFC 6454 (an origin is scheme, host and port, all three); distribution-spec, "Redirects" ("clients MUST NOT
forward Authorization to another host"); CVE-2018-18074, GHSA-vh4v-2xq2-g5cg (same host, other port).
"""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass
from urllib.parse import quote, urljoin, urlsplit

from ocirootfs.errors import TemporaryError, printable

_DEFAULT_PORT = {"https": 443, "http": 80}
_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))
_URL = re.compile(r"[!-\[\]-~]+")  # printable ASCII; two parsers do not agree on a backslash
_URL_LIMIT = 8192
# Cloud metadata services that are not link-local: AWS over IPv6, Alibaba.
_METADATA = frozenset(map(ipaddress.ip_address, ("fd00:ec2::254", "100.100.100.200")))


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port of a URL. Nothing that one origin is told is told to another."""

    scheme: str
    host: str  # lower case; IPv6 without brackets
    port: int

    @classmethod
    def of(cls, url: str) -> Origin:
        """Parse an absolute http or https URL without user name; TemporaryError otherwise: a server gave it."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            raise _refused(url, "it is no URL") from None
        if parts.scheme not in _DEFAULT_PORT:
            raise _refused(url, "only http and https are followed")
        if len(url) > _URL_LIMIT or not _URL.fullmatch(url) or not host:
            raise _refused(url, "it is no URL")
        if "@" in parts.netloc:
            raise _refused(url, "it holds a user name")
        return cls(parts.scheme, host, port if port is not None else _DEFAULT_PORT[parts.scheme])

    @property
    def is_local(self) -> bool:
        """Whether this is an address that only this machine and its hypervisor can reach."""
        return is_loopback(self.host) or _is_special(address(self.host))

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORT[self.scheme] else f"{host}:{self.port}"


def next_hop(url: str, location: str) -> str:
    """Return where a redirect from `url` leads, after the rules that hold for every redirect.

    Raises TemporaryError when it leads from https to http, or from elsewhere into this machine (loopback, link-local
    and so cloud metadata). Private networks are allowed: a company's registry keeps its blobs on a company's S3.
    """
    found = joined(url, _as_utf8(location))
    here, there = Origin.of(url), Origin.of(found)
    if here.scheme == "https" and there.scheme == "http":
        raise _refused(found, f"{here} redirects from https to http")
    if there.is_local and not here.is_local:
        raise _refused(found, f"{here} redirects to a local address")
    return found


def joined(url: str, other: str) -> str:
    """Resolve `other`, a URL or the end of one, against `url`; TemporaryError if it is neither."""
    try:
        return urljoin(url, quote(other, safe=_PRINTABLE))
    except ValueError:
        raise _refused(other, "it is no URL") from None


def is_loopback(host: str) -> bool:
    """Tell `localhost`, `*.localhost` (RFC 6761), 127/8 and ::1, in any spelling that the resolver understands."""
    host = host.removesuffix(".")
    found = address(host)
    return host == "localhost" or host.endswith(".localhost") or (found is not None and found.is_loopback)


def is_local_address(text: str) -> bool:
    """Tell an address that only this machine and its hypervisor can reach."""
    return _is_special(address(text))


def resolves_locally(host: str) -> bool:
    """Tell whether `host` is, or all that its name resolves to, is such an address."""
    try:
        found = {str(item[4][0]) for item in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):
        return False
    return bool(found) and all(map(is_local_address, found))


def address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the IP address that `host` spells, if it is none of DNS's; `2130706433` and `0x7f.1` are 127.0.0.1."""
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return _inet_aton(host)
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found


def redacted(url: str) -> str:
    """Return `url` without what may be secret: its user, its query (signatures, tokens) and its fragment."""
    bare = re.split(r"[?#]", url, maxsplit=1)[0]
    scheme, separator, rest = bare.partition("://")
    authority, slash, path = rest.partition("/")
    return printable(f"{scheme}{separator}{authority.rpartition('@')[2]}{slash}{path}", 200)


def _inet_aton(host: str) -> ipaddress.IPv4Address | None:
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except (OSError, UnicodeError):
        return None


def _as_utf8(location: str) -> str:
    """Undo http.client's latin-1: servers that send other than ASCII mean UTF-8."""
    try:
        return location.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return location


def _is_special(found: ipaddress.IPv4Address | ipaddress.IPv6Address | None) -> bool:
    return found is not None and (
        found.is_loopback or found.is_link_local or found.is_unspecified or found in _METADATA
    )


def _refused(url: str, reason: str) -> TemporaryError:
    return TemporaryError(f"refused to follow '{redacted(url)}': {reason}")
