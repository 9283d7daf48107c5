"""How connections are made: with a TLS context for each host, and not to everywhere.

urllib3 makes them, on requests' behalf; what a host is trusted with is `trust`'s to say. A connection to which somebody
else's word led is looked at before anything is sent over it: a name that resolves into this machine, or to its cloud's
metadata service, is refused as such an address itself is (see `origin`).

A socket's timeout is one of silence. A server that drips its headers is silent never, and http.client would listen
to it for a hundred lines of 64 KiB; so there is a clock on the headers as a whole. What comes after them is `pace`'s.
Interim answers (RFC 9110 section 15.2: 103 Early Hints, say) count as part of the headers that they precede.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests.adapters
import requests.utils
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from ocirootfs.errors import TemporaryError, UsageError, printable
from ocirootfs.registry.netfailure import BrokenError
from ocirootfs.registry.origin import Origin, is_local_address

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ocirootfs.registry.trust import Trust


class Adapter(requests.adapters.HTTPAdapter):
    """Connects with the trust store of each host, through proxies as well; `guarded` never into this machine."""

    def __init__(self, trust: Trust, *, guarded: bool = False) -> None:
        self._trust, self._guarded = trust, guarded
        super().__init__(pool_maxsize=16, max_retries=0)

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        """Choose the kind of connections."""
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = _GUARDED if self._guarded else _POOLS

    def get_connection_with_tls_context(self, request: Any, verify: Any, proxies: Any = None, cert: Any = None) -> Any:
        """Find a proxy at fault that is none, before the libraries say so of the URL."""
        _check_proxy(request.url, proxies or {})
        return super().get_connection_with_tls_context(request, verify, proxies=proxies, cert=cert)

    def proxy_manager_for(self, *args: Any, **options: Any) -> Any:
        """Trust a proxy that is spoken to over TLS as much as any host."""
        manager: Any = super().proxy_manager_for(*args, **options, proxy_ssl_context=self._trust.common)
        manager.pool_classes_by_scheme = _POOLS
        return manager

    def build_connection_pool_key_attributes(self, request: Any, verify: Any, cert: Any = None) -> Any:
        """Give every connection its host's context."""
        host, pool = super().build_connection_pool_key_attributes(request, verify, cert)
        if host["scheme"] == "https":
            pool = {**pool, "ssl_context": self._trust.context(str(Origin.of(request.url)))}
        return host, pool


def _check_proxy(url: str, proxies: Mapping[str, str]) -> None:
    """Raise UsageError, which names the variable alone, if the proxy for `url` is none: its value may hold a password.

    SOCKS would need another library, and other connections than these.
    """
    proxy = requests.utils.select_proxy(url, dict(proxies))
    if not proxy:
        return
    scheme = urlsplit(url).scheme
    name = f"{scheme.upper()}_PROXY" if proxies.get(scheme) == proxy else "ALL_PROXY"
    kind, separator, _ = proxy.partition("://")
    if separator and kind.lower() not in {"http", "https"}:
        reason = f"{name} names a proxy of the kind '{printable(kind, 20)}', which is not supported"
        raise UsageError(reason, hint="proxies are http://HOST:PORT or https://HOST:PORT")
    try:
        host = urllib3.util.parse_url(proxy if separator else f"http://{proxy}").host
    except ValueError:
        host = None
    if not host:
        raise UsageError(f"{name} is no URL of a proxy", hint="proxies are http://HOST:PORT or https://HOST:PORT")


class _Response(http.client.HTTPResponse):
    def begin(self) -> None:
        """Read on to the final answer; http.client skips 100 alone. 101 is final: nobody asked for another protocol."""
        super().begin()
        while 100 <= self.status < 200 and self.status != 101:
            self.headers = None  # type: ignore[assignment]  # it has not begun yet
            super().begin()


class _Connection(HTTPConnection):
    response_class = _Response

    def getresponse(self) -> Any:
        with _in_time(self):
            return super().getresponse()


class _TLSConnection(HTTPSConnection):
    response_class = _Response

    def getresponse(self) -> Any:
        with _in_time(self):
            return super().getresponse()


class _Guarded(_Connection):
    def connect(self) -> None:
        super().connect()
        _refuse_local(self)


class _GuardedTLS(_TLSConnection):
    def connect(self) -> None:
        super().connect()
        _refuse_local(self)


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _TLSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _TLSConnection


class _GuardedPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Guarded


class _GuardedTLSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _GuardedTLS


_POOLS = {"http": _Pool, "https": _TLSPool}
_GUARDED = {"http": _GuardedPool, "https": _GuardedTLSPool}


@contextlib.contextmanager
def _in_time(connection: HTTPConnection) -> Iterator[None]:
    """Break the connection if its headers take twice the longest silence: that before them, and as much again."""
    late = threading.Event()

    def give_up() -> None:
        late.set()
        if connection.sock is not None:
            with contextlib.suppress(OSError):  # it has ended by itself
                socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)  # TLS's own would take part in the reading

    timer = threading.Timer(2 * connection.timeout, give_up) if connection.timeout else None
    if timer:
        timer.daemon = True
        try:
            timer.start()
        except RuntimeError:  # no more threads: then the silence is all that counts
            timer = None
    try:
        yield
    except Exception:
        if not late.is_set():
            raise
    finally:
        if timer:
            timer.cancel()
    if late.is_set():  # http.client may have taken the end for that of the headers
        raise BrokenError(f"{connection.host} does not come to the end of its headers")


def _refuse_local(connection: HTTPConnection) -> None:
    peer = connection.sock.getpeername()[0] if connection.sock else ""
    if is_local_address(peer):
        connection.close()
        raise TemporaryError(f"refused to connect to '{connection.host}': its address {peer} is a local one")
