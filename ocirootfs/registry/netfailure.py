"""Why a connection failed, in a sentence, and whether it is worth another try.

HTTP libraries nest the reason several levels deep and print the URL with its signature; here the reason is dug out
and the rest is left behind.
"""

from __future__ import annotations

import errno
import socket
import ssl
from typing import TYPE_CHECKING

from ocirootfs.errors import OcirootfsError, TemporaryError, UsageError, printable
from ocirootfs.registry.origin import Origin, redacted

if TYPE_CHECKING:
    from collections.abc import Iterator

# OpenSSL's words for a peer that answers in plain HTTP.
_PLAIN = frozenset(["WRONG_VERSION_NUMBER", "HTTP_REQUEST"])
# How a connection ends of which nothing came. Python 3.11.2, Debian 12's, takes the end for a TLS peer's goodbye.
_WORDLESS = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionResetError, TimeoutError)


class BrokenError(TemporaryError):
    """The connection failed in a way that the next attempt may not."""


def translated(error: BaseException, url: str) -> OcirootfsError:
    """Say in a sentence what a failed request to `url` died of: BrokenError where another attempt makes sense."""
    host = named(url)
    for cause in _causes(error):
        found = _translated(cause, host)
        if found:
            return found
    if type(error) is OSError:  # requests: REQUESTS_CA_BUNDLE points nowhere
        return UsageError(printable(str(error)))
    return BrokenError(f"the connection to {host} broke ({type(error).__name__})")


def is_plain(error: BaseException) -> bool:
    """Tell whether a failed https request means that there is no TLS: nothing listens, or what does speaks HTTP."""
    return any(
        isinstance(cause, ConnectionRefusedError) or (isinstance(cause, ssl.SSLError) and cause.reason in _PLAIN)
        for cause in _causes(error)
    )


def is_unreached(error: BaseException) -> bool:
    """Tell whether nobody was there to ask: no such name, no way, or no connection."""
    kinds = {"ConnectTimeoutError", "ConnectTimeout", "ProxyError"}  # requests' and urllib3's
    return any(
        isinstance(cause, socket.gaierror | ConnectionRefusedError)
        or type(cause).__name__ in kinds
        or (isinstance(cause, OSError) and cause.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH))
        for cause in _causes(error)
    )


def is_wordless(error: BaseException) -> bool:
    """Tell whether the other side said nothing at all before it hung up, or time was over."""
    return any(isinstance(cause, _WORDLESS) for cause in _causes(error))


def named(url: str) -> str:
    """Return `host[:port]` of a URL for messages."""
    try:
        return str(Origin.of(url))
    except TemporaryError:
        return redacted(url)


def _translated(cause: BaseException, host: str) -> OcirootfsError | None:
    if type(cause).__name__ == "ProxyError":  # requests' and urllib3's; only the transport imports them
        reason = "it wants authentication (407)" if "407" in str(cause) else "it cannot be reached or refuses"
        return TemporaryError(f"no way to {host} through the proxy: {reason}", hint="see HTTPS_PROXY and NO_PROXY")
    if isinstance(cause, ssl.SSLCertVerificationError):
        reason, hint = printable(cause.verify_message), "see --ca-file and certs.d"
        return TemporaryError(f"the TLS certificate of {host} is not trusted: {reason}", hint=hint)
    if isinstance(cause, ssl.SSLError):
        return _tls_failure(cause, host)
    if isinstance(cause, socket.gaierror):
        kind = BrokenError if cause.errno == socket.EAI_AGAIN else TemporaryError
        return kind(f"cannot resolve host '{host}'", hint="is the name spelled right, or a proxy needed?")
    if isinstance(cause, TimeoutError):
        return BrokenError(f"{host} does not answer in time")
    if isinstance(cause, OSError) and cause.errno:
        return BrokenError(f"the connection to {host} failed: {(cause.strerror or '').lower()}")
    return None


def _tls_failure(cause: ssl.SSLError, host: str) -> TemporaryError:
    if cause.reason in _PLAIN:
        hint = "add --plain-http if that registry has no TLS"
        return TemporaryError(f"{host} answered plain HTTP to an HTTPS request", hint=hint)
    if cause.reason and "CERTIFICATE_REQUIRED" in cause.reason:
        hint = f"put client.cert and client.key into ~/.config/containers/certs.d/{host}/"
        return TemporaryError(f"{host} wants a client certificate", hint=hint)
    hint = "it may want a client certificate: see certs.d"  # its alert is lost with the connection, at times
    return BrokenError(f"TLS with {host} failed: {printable(cause.reason or 'the connection ended')}", hint=hint)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield `error` and what it wraps; requests and urllib3 nest in their arguments as well as by `raise`."""
    pending, seen = [error], set[int]()
    while pending:
        found = pending.pop(0)
        if id(found) in seen:
            continue
        seen.add(id(found))
        yield found
        inner = (*found.args, getattr(found, "reason", None), found.__cause__, found.__context__)
        pending.extend(item for item in inner if isinstance(item, BaseException))
