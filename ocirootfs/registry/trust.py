"""Whom TLS trusts: the system's authorities, and those that the caller adds."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from ocirootfs.errors import UsageError, printable

if TYPE_CHECKING:
    from pathlib import Path


def tls(*, insecure: bool, ca_file: Path | str | None) -> ssl.SSLContext:
    """Return a context with the system's store (SSL_CERT_FILE, SSL_CERT_DIR) and the certificates of `ca_file`.

    `insecure` checks nothing. UsageError if `ca_file` cannot be used.
    """
    context = ssl.create_default_context()
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if ca_file:
        try:
            context.load_verify_locations(str(ca_file))
        except OSError as error:  # ssl.SSLError is one: no certificate in there
            reason = error.strerror or "it holds no certificate"
            raise UsageError(f"cannot use the CA file {printable(str(ca_file))}: {reason}") from None
    return context
