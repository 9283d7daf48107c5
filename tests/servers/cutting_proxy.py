"""A TCP proxy that cuts every connection after a random number of bytes, by FIN or by RST."""

from __future__ import annotations

import contextlib
import fcntl
import random
import socket
import struct
import termios
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_BLOCK = 64 << 10
_SECONDS = 20


class CuttingProxy:
    """Forwards to `target` (`host:port`); `sent` counts the bytes that went to clients, `cuts` what was cut."""

    def __init__(self, target: str, least: int, most: int, seed: int) -> None:
        host, _, port = target.rpartition(":")
        self._target = host, int(port)
        self._range = least, most
        self._draws = random.Random(seed)
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.sent = self.cuts = 0

    def serve(self) -> None:
        with contextlib.suppress(OSError):  # closed: the end
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._connection, args=(client,), daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _connection(self, client: socket.socket) -> None:
        with self._lock:
            left, by_reset = self._draws.randint(*self._range), self._draws.random() < 0.5
        with client, contextlib.suppress(OSError), socket.create_connection(self._target, _SECONDS) as server:
            forward = threading.Thread(target=_forward, args=(client, server), daemon=True)
            forward.start()
            while left and (data := server.recv(min(_BLOCK, left))):
                client.sendall(data)
                left -= len(data)
                with self._lock:
                    self.sent += len(data)
            if not left:
                with self._lock:
                    self.cuts += 1
            if by_reset:
                _drain(client)  # a reset throws away what has not arrived, and it would be counted as sent
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.shutdown(socket.SHUT_RD)  # wakes the other thread, without which no close reaches the client
            forward.join()


def _drain(connection: socket.socket) -> None:
    """Wait until all bytes have arrived at the other side (tcp(7), SIOCOUTQ), for two seconds at most."""
    end = time.monotonic() + 2
    while struct.unpack("i", fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4)))[0] and time.monotonic() < end:
        time.sleep(0.001)


def _forward(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(_BLOCK):
            target.sendall(data)


@contextmanager
def cutting_proxy(target: str, *, least: int, most: int, seed: int) -> Iterator[CuttingProxy]:
    """Run one on a free port of 127.0.0.1."""
    proxy = CuttingProxy(target, least, most, seed)
    thread = threading.Thread(target=proxy.serve, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.close()
        thread.join()
