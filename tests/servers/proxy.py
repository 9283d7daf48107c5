"""An HTTP proxy that tunnels by CONNECT, and knows where some names are that no resolver does.

With it a test pulls from `registry-1.docker.io` or a registry of Amazon's, by its name and over TLS, without leaving
this machine.
"""

from __future__ import annotations

import base64
import contextlib
import socket
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping


class Proxy:
    """Listens at `url` in a context. `places` says where `HOST:PORT` is; `login` is who may pass, `user:password`.

    `asked` has what came: method and target, and `headers` the headers of each.
    """

    def __init__(self, places: Mapping[str, str] | None = None, *, login: str | None = None) -> None:
        self.places = dict(places or {})
        self.login = login
        self.asked: list[str] = []
        self.headers: list[dict[str, str]] = []

    def __enter__(self) -> Self:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.005,), daemon=True)
        self._thread.start()
        self.host = f"127.0.0.1:{self._server.server_address[1]}"
        self.url = f"http://{self.host}"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    timeout = 10

    def __init__(self, owner: Proxy, *args: Any) -> None:
        self.owner = owner
        super().__init__(*args)

    def log_message(self, *args: object) -> None:
        pass

    def do_CONNECT(self) -> None:
        self.owner.asked.append(f"CONNECT {self.path}")
        self.owner.headers.append(dict(self.headers.items()))
        wanted = self.owner.login and "Basic " + base64.b64encode(self.owner.login.encode()).decode()
        if wanted and self.headers.get("Proxy-Authorization") != wanted:
            self.send_response(407)
            self.send_header("Proxy-Authenticate", "Basic realm=proxy")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        host, _, port = self.owner.places.get(self.path, self.path).rpartition(":")
        try:
            there = socket.create_connection((host, int(port)), timeout=10)
        except OSError:
            self.send_error(502)
            return
        with there:
            self.send_response(200)
            self.end_headers()
            back = threading.Thread(target=_copy, args=(there, self.connection), daemon=True)
            back.start()
            _copy(self.connection, there)
            back.join()
        self.close_connection = True


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
