"""How connections are made: with a TLS context for each host, and not to everywhere.

urllib3 makes them, on requests' behalf; what a host is trusted with is `trust`'s to say. A connection to which somebody
else's word led is looked at before anything is sent over it: a name that resolves into this machine, or to its cloud's
metadata service, is refused as such an address itself is (see `origin`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import requests.adapters
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from ocirootfs.errors import TemporaryError
from ocirootfs.registry.origin import Origin, is_local_address

if TYPE_CHECKING:
    from ocirootfs.registry.trust import Trust


class Adapter(requests.adapters.HTTPAdapter):
    """Connects with the trust store of each host, through proxies as well; `guarded` never into this machine."""

    def __init__(self, trust: Trust, *, guarded: bool = False) -> None:
        self._trust, self._guarded = trust, guarded
        super().__init__(pool_maxsize=16, max_retries=0)

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        """Choose the kind of connections."""
        super().init_poolmanager(*args, **options)
        if self._guarded:
            self.poolmanager.pool_classes_by_scheme = {"http": _GuardedPool, "https": _GuardedTLSPool}

    def proxy_manager_for(self, *args: Any, **options: Any) -> Any:
        """Trust a proxy that is spoken to over TLS as much as any host."""
        return super().proxy_manager_for(*args, **options, proxy_ssl_context=self._trust.common)

    def build_connection_pool_key_attributes(self, request: Any, verify: Any, cert: Any = None) -> Any:
        """Give every connection its host's context."""
        host, pool = super().build_connection_pool_key_attributes(request, verify, cert)
        if host["scheme"] == "https":
            pool = {**pool, "ssl_context": self._trust.context(str(Origin.of(request.url)))}
        return host, pool


class _Guarded(HTTPConnection):
    def connect(self) -> None:
        super().connect()
        _refuse_local(self)


class _GuardedTLS(HTTPSConnection):
    def connect(self) -> None:
        super().connect()
        _refuse_local(self)


class _GuardedPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Guarded


class _GuardedTLSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _GuardedTLS


def _refuse_local(connection: HTTPConnection) -> None:
    peer = connection.sock.getpeername()[0] if connection.sock else ""
    if is_local_address(peer):
        connection.close()
        raise TemporaryError(f"refused to connect to '{connection.host}': its address {peer} is a local one")
