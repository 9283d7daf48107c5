"""Whom TLS trusts: the system's authorities, and those that the caller and certs.d add; and to whom we show who we are.

Each host has a context of its own, so that a client's certificate, a host's own authority, and above all the wish to
check nothing hold for that host alone (CVE-2024-35195).
"""

from __future__ import annotations

import ssl
import threading
from typing import TYPE_CHECKING

from ocirootfs.errors import UsageError, printable
from ocirootfs.registry.certsd import HostCertificates, host_certificates

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path


class Trust:
    """Makes the TLS context of each host, `host[:port]`, once. Safe for threads.

    `insecure` checks nothing, at any host or at those named, with or without a port. `ca_file` is trusted at every
    host; `directories` are certs.d directories. UsageError if a file cannot be used. `common` is the context of hosts
    of which nothing particular is known.
    """

    def __init__(
        self,
        *,
        insecure: bool | Collection[str] = False,
        ca_file: Path | str | None = None,
        directories: Sequence[Path] = (),
    ) -> None:
        self._insecure = insecure if isinstance(insecure, bool) else frozenset(host.lower() for host in insecure)
        self._ca_file = ca_file
        self._directories = directories
        self._lock = threading.Lock()
        self.common = tls(insecure=False, ca_file=ca_file)
        self._contexts: dict[str, ssl.SSLContext] = {}

    def is_insecure(self, host: str) -> bool:
        """Tell whether the certificate of `host[:port]` is not to be checked."""
        if isinstance(self._insecure, bool):
            return self._insecure
        name, colon, port = host.rpartition(":")
        return host in self._insecure or (bool(colon) and port.isdecimal() and name in self._insecure)

    def context(self, host: str) -> ssl.SSLContext:
        """Return the context for connections to `host[:port]`."""
        with self._lock:
            if host not in self._contexts:
                self._contexts[host] = self._made(host)
            return self._contexts[host]

    def _made(self, host: str) -> ssl.SSLContext:
        found = host_certificates(host, self._directories)
        if found == HostCertificates() and not self.is_insecure(host):
            return self.common
        context = tls(insecure=self.is_insecure(host), ca_file=self._ca_file)
        for path in found.authorities:
            _load_authority(context, path)
        for certificate, key in found.pairs:
            _load_pair(context, certificate, key)
        return context


def tls(*, insecure: bool, ca_file: Path | str | None) -> ssl.SSLContext:
    """Return a context with the system's store (SSL_CERT_FILE, SSL_CERT_DIR) and the certificates of `ca_file`.

    `insecure` checks nothing. UsageError if `ca_file` cannot be used.
    """
    context = ssl.create_default_context()
    # As Go, and so docker, has it, whatever the interpreter's own default (which 3.13 changed): any certificate of the
    # store is an anchor, and an authority of one's own need not have every extension that RFC 5280 asks for.
    context.verify_flags = (context.verify_flags | ssl.VERIFY_X509_PARTIAL_CHAIN) & ~ssl.VERIFY_X509_STRICT
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if ca_file:
        _load_authority(context, ca_file)
    return context


def _load_authority(context: ssl.SSLContext, path: Path | str) -> None:
    try:
        context.load_verify_locations(str(path))
    except OSError as error:
        reason = "it holds no certificate" if isinstance(error, ssl.SSLError) else error.strerror
        raise UsageError(f"cannot use the CA file {printable(str(path))}: {reason}") from None


def _load_pair(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    def no_password() -> str:  # else OpenSSL asks at the terminal
        raise ValueError

    try:
        context.load_cert_chain(certificate, key, no_password)
    except (OSError, ValueError) as error:
        # ssl.SSLError is both, and speaks of the library's file and line.
        reason = "it is no unencrypted PEM pair" if isinstance(error, ValueError | ssl.SSLError) else error.strerror
        raise UsageError(f"cannot use the client certificate {printable(str(certificate))}: {reason}") from None
