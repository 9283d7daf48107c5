"""A server of raw bytes: whatever a client is told is written out by the test."""

from __future__ import annotations

import contextlib
import socket
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"


@dataclass
class Raw:
    """Where it is, and what it was sent: one item a connection, as far as it was read."""

    host: str
    answer: bytes
    drip: float
    at_once: bytes = b""
    deaf: float | None = None
    heard: list[bytes] = field(default_factory=list)
    ending: threading.Event = field(default_factory=threading.Event)

    def serve(self, connection: socket.socket) -> None:
        """Read a request and answer it."""
        with connection, contextlib.suppress(OSError):
            self.heard.append(_request(connection))
            if self.deaf is not None and not self.heard[-1].startswith(b"GET "):
                self.ending.wait(self.deaf)
                return
            connection.sendall(self.at_once if self.drip else self.answer)
            for byte in self.answer if self.drip else b"":
                connection.sendall(bytes([byte]))
                if self.ending.wait(self.drip):
                    return
            if not self.answer:
                self.ending.wait(30)

    def accept(self, listener: socket.socket) -> None:
        """Serve whoever comes, each in a thread."""
        while not self.ending.is_set():
            with contextlib.suppress(TimeoutError):
                connection, _ = listener.accept()
                threading.Thread(target=self.serve, args=(connection,), daemon=True).start()


@contextmanager
def answering(answer: bytes, *, drip: float = 0, at_once: bytes = b"", deaf: float | None = None) -> Iterator[Raw]:
    """Answer each connection's first request; nothing at all if `answer` is empty.

    With `drip` it is a byte every so many seconds, after what is `at_once`. With `deaf` a connection that begins with
    no GET, but TLS say, is closed after so many seconds, without a word.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)
        found = Raw(f"127.0.0.1:{listener.getsockname()[1]}", answer, drip, at_once, deaf)
        thread = threading.Thread(target=found.accept, args=(listener,), daemon=True)
        thread.start()
        try:
            yield found
        finally:
            found.ending.set()
            thread.join()


def _request(connection: socket.socket) -> bytes:
    """Read a request's headers, or what comes of them in half a second: a TLS greeting has no such end."""
    heard = b""
    connection.settimeout(0.5)
    with contextlib.suppress(OSError):
        while b"\r\n\r\n" not in heard and (more := connection.recv(1 << 16)):
            heard += more
    connection.settimeout(10)
    return heard
