"""A registry of our own whose faults are scripted, and which remembers every request.

Three origins on 127.0.0.1: the registry, its token server, and a CDN that it may redirect blobs to.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import struct
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qs, urlsplit

from ocirootfs.manifest import DOCKER_CONFIG, DOCKER_LAYER, DOCKER_MANIFEST, OCI_INDEX
from ocirootfs.reference import Reference

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping, Sequence

USER, PASSWORD = "tester", "s3cret-päss"
IDENTITY_TOKEN = "identity-0123"


@dataclass
class Fault:
    """What goes wrong with the next `times` requests to `server` whose path matches `path`, after `skip` good ones.

    `status` answers with that and `headers` and `body`; else the good answer is sent, changed: `headers` added (None
    removes one), only `cut` bytes of the body, then the connection closed (`reset`: by RST), `extra` bytes after it,
    `unsized` without Content-Length, `altered` with the last byte changed, Range ignored with `whole`; `chunked` in one
    chunk, `drip` in pieces of so many bytes, and after a cut with `stall` silence, until the client hangs up.
    """

    path: str
    server: str = "registry"
    times: int = 1
    skip: int = 0
    status: int | None = None
    headers: Mapping[str, str | None] = field(default_factory=dict)
    body: bytes = b""
    cut: int | None = None
    reset: bool = False
    extra: bytes = b""
    unsized: bool = False
    altered: bool = False
    whole: bool = False
    chunked: bool = False
    drip: int = 0
    stall: bool = False


@dataclass(frozen=True)
class Recorded:
    """One request, as it arrived at `server`: registry, token or cdn."""

    server: str
    method: str
    path: str
    headers: Mapping[str, str]
    form: Mapping[str, str]
    shown: str = ""  # the name in the client's certificate

    @property
    def query(self) -> dict[str, str]:
        return {name: values[-1] for name, values in parse_qs(urlsplit(self.path).query).items()}


@dataclass(frozen=True)
class Stored:
    body: bytes
    media_type: str


def digest_of(data: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def descriptor(data: bytes, media_type: str, **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data), **more}


def image(
    layers: Sequence[bytes] = (b"layer one", b"layer two"),
    *,
    architecture: str = "amd64",
    variant: str = "",
    config: Mapping[str, Any] | None = None,
) -> tuple[bytes, dict[str, bytes]]:
    """Make an image of `layers`, which are stored as they are: its manifest, and its blobs by digest."""
    document = {
        "architecture": architecture,
        "os": "linux",
        **({"variant": variant} if variant else {}),
        "config": config or {},
        "rootfs": {"type": "layers", "diff_ids": [digest_of(layer) for layer in layers]},
    }
    raw = json.dumps(document).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST,
        "config": descriptor(raw, DOCKER_CONFIG),
        "layers": [descriptor(layer, DOCKER_LAYER) for layer in layers],
    }
    return json.dumps(manifest).encode(), {digest_of(blob): blob for blob in (raw, *layers)}


def index(entries: Sequence[Mapping[str, Any]], **more: Any) -> bytes:
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(entries), **more}).encode()


class FakeRegistry:
    """Serves what is `add`ed, in a context; `auth` is None, "basic" or "bearer" (with a token server of its own).

    `anonymous` gives tokens to everyone. `redirect` sends blobs to the CDN. `faults` may be added to at any time;
    `requests` has all that came. `expires_in` is what tokens claim, `revoke` ends them. `before_any` is called before a
    request is answered, `before_blob` with the digest before a blob is; `rate` limits each connection's blobs, bytes a
    second.
    """

    def __init__(
        self,
        *,
        auth: str | None = None,
        anonymous: bool = False,
        redirect: bool = False,
        expires_in: int | None = 300,
        oauth2: bool = True,
        tls: ssl.SSLContext | None = None,
        login: tuple[str, str] = (USER, PASSWORD),
    ) -> None:
        self.login = login
        self.signature = "signed-secret"  # of the CDN's URLs
        self.token_mark = ""  # at the end of every token
        self.granted: dict[str, Any] = {}  # what token answers hold besides
        self.refresh_tokens = {IDENTITY_TOKEN}
        self.auth, self.anonymous, self.redirect = auth, anonymous, redirect
        self.expires_in, self.oauth2 = expires_in, oauth2
        self.faults: list[Fault] = []
        self.requests: list[Recorded] = []
        self.realm: str | None = None  # None: the token server's own
        self.challenge: list[str] | None = None  # None: as `auth` says
        self.before_any: Callable[[], object] = lambda: None
        self.before_blob: Callable[[str], object] = lambda _: None
        self.rate: int | None = None
        self._manifests: dict[tuple[str, str], Stored] = {}
        self._blobs: dict[str, bytes] = {}
        self._tokens: set[str] = set()
        self._tls = tls
        self._lock = threading.Lock()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self.host = self._start("registry", tls=self._tls)
        self.cdn = self._start("cdn", tls=self._tls)
        self.token = self._start("token", tls=self._tls)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def add(
        self,
        repository: str,
        tag: str,
        manifest: bytes,
        media_type: str = DOCKER_MANIFEST,
        blobs: Mapping[str, bytes] | None = None,
    ) -> Reference:
        """Serve a manifest under a tag and its digest, and blobs by theirs; gives the reference."""
        stored = Stored(manifest, media_type)
        for name in (tag, digest_of(manifest), digest_of(manifest, "sha512")):
            self._manifests[repository, name] = stored
        self._blobs.update(blobs or {})
        return self.reference(repository, tag)

    def add_image(self, repository: str = "a/b", tag: str = "1", **options: Any) -> Reference:
        """Make an image with `image` and serve it."""
        manifest, blobs = image(**options)
        return self.add(repository, tag, manifest, blobs=blobs)

    def reference(self, repository: str, tag: str) -> Reference:
        return Reference.parse(f"{self.host}/{repository}:{tag}")

    def revoke(self) -> None:
        """Forget all tokens that were given out."""
        self._tokens.clear()

    def seen(self, server: str = "registry", path: str = "") -> list[Recorded]:
        """Return the requests to `server` whose path matches the pattern."""
        return [found for found in self.requests if found.server == server and re.search(path, found.path)]

    def _start(self, role: str, *, tls: ssl.SSLContext | None) -> str:
        server = _Server(("127.0.0.1", 0), partial(_Handler, self, role))
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.005,), daemon=True)
        thread.start()
        self._stack.callback(server.server_close)
        self._stack.callback(thread.join)
        self._stack.callback(server.shutdown)
        return f"127.0.0.1:{server.server_address[1]}"

    @property
    def scheme(self) -> str:
        return "https" if self._tls else "http"


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that hang up or do not trust us: tests make them."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 10
    wbufsize = -1  # headers and body in one packet: no waiting for the client's delayed ACK
    disable_nagle_algorithm = True

    def __init__(self, fake: FakeRegistry, role: str, *args: Any) -> None:
        self.fake, self.role = fake, role
        self.fault: Fault | None = None
        self.challenges: list[str] = []
        super().__init__(*args)

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self._record({})
        if self._fault_answers():
            return
        getattr(self, f"_{self.role}")(urlsplit(self.path).path)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
        form = {name: values[-1] for name, values in parse_qs(body).items()}
        self._record(form)
        if self._fault_answers():
            return
        if not self.fake.oauth2:
            self._reply(404, b"no such thing")
        elif form.get("refresh_token") in self.fake.refresh_tokens:
            self._grant(form["scope"], "access_token")
        else:
            self._reply(401, b'{"error": "invalid_grant"}')

    def _record(self, form: Mapping[str, str]) -> None:
        found = Recorded(self.role, self.command, self.path, dict(self.headers.items()), form, self._shown())
        with self.fake._lock:
            self.fake.requests.append(found)
            self.fault = self._next_fault()
        self.fake.before_any()

    def _shown(self) -> str:
        certificate: dict[str, Any] = getattr(self.connection, "getpeercert", dict)() or {}
        names: dict[str, str] = {key: value for part in certificate.get("subject", ()) for key, value in part}
        return names.get("commonName", "")

    def _next_fault(self) -> Fault | None:
        for fault in self.fake.faults:
            if fault.server != self.role or fault.times < 1 or not re.search(fault.path, self.path):
                continue
            if fault.skip > 0:
                fault.skip -= 1
                continue
            fault.times -= 1
            return fault
        return None

    def _fault_answers(self) -> bool:
        if self.fault is None or self.fault.status is None:
            return False
        status, body = self.fault.status, self.fault.body
        self._reply(status, body, {})
        return True

    # The registry

    def _registry(self, path: str) -> None:
        repository = (re.findall(r"^/v2/(.+)/(?:manifests|blobs)/", path) or [""])[0]
        if not self._allowed(repository):
            self._challenge(repository)
        elif path == "/v2/":
            self._reply(200, b"{}")
        elif match := re.fullmatch(r"/v2/(.+)/manifests/(.+)", path):
            self._manifest(match[1], match[2])
        elif match := re.fullmatch(r"/v2/(.+)/blobs/(.+)", path):
            self._blob(match[2])
        else:
            self._reply(404, b"404 page not found\n")

    def _manifest(self, repository: str, name: str) -> None:
        stored = self.fake._manifests.get((repository, name))
        if stored is None:
            self._reply(404, _error("MANIFEST_UNKNOWN", "manifest unknown"))
            return
        self._reply(200, stored.body, {"Content-Type": stored.media_type, "Docker-Content-Digest": "sha256:lies"})

    def _blob(self, digest: str) -> None:
        if digest not in self.fake._blobs:
            self._reply(404, _error("BLOB_UNKNOWN", "blob unknown to registry"))
        elif self.fake.redirect:
            url = f"{self.fake.scheme}://{self.fake.cdn}/{digest}?X-Amz-Signature={self.fake.signature}"
            self._reply(307, b"x" * 70_000, {"Location": url})
        else:
            self._ranged(self.fake._blobs[digest])

    def _cdn(self, path: str) -> None:
        self._ranged(self.fake._blobs[path.removeprefix("/")])

    def _ranged(self, blob: bytes) -> None:
        self.fake.before_blob(digest_of(blob))
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if not wanted or (self.fault and self.fault.whole):
            self._reply(200, blob, {"Content-Type": "application/octet-stream"})
            return
        first, last = int(wanted[1]), int(wanted[2])
        headers = {"Content-Range": f"bytes {first}-{last}/{len(blob)}"}
        self._reply(206, blob[first : last + 1], headers)

    def _allowed(self, repository: str) -> bool:
        sent = self.headers.get("Authorization", "")
        if self.fake.auth == "basic":
            return sent == _basic(*self.fake.login)
        return self.fake.auth is None or sent.removeprefix("Bearer ") in {
            token for token in self.fake._tokens if token.startswith((f"repository:{repository}:pull", "any:"))
        }

    def _challenge(self, repository: str) -> None:
        realm = self.fake.realm or f"{self.fake.scheme}://{self.fake.token}/token?kept=1"
        scope = f'scope="repository:{repository}:pull,push"'
        bearer = f'Bearer realm="{realm}",service="the fake registry",{scope}'
        lines = ['Basic realm="fake, registry"'] if self.fake.auth == "basic" else [bearer]
        self.challenges = lines if self.fake.challenge is None else self.fake.challenge
        self._reply(401, _error("UNAUTHORIZED", "authentication required"))

    # The token server

    def _token(self, _path: str) -> None:
        query = {name: values[-1] for name, values in parse_qs(urlsplit(self.path).query).items()}
        sent = self.headers.get("Authorization")
        if sent == _basic(*self.fake.login) or (sent is None and self.fake.anonymous):
            self._grant(query["scope"], "token")
        else:
            self._reply(401, _error("UNAUTHORIZED", "incorrect username or password"))

    def _grant(self, scope: str, name: str) -> None:
        with self.fake._lock:
            token = f"{scope}/{len(self.fake._tokens)}-{len(self.fake.requests)}{self.fake.token_mark}"
            self.fake._tokens.add(token)
        expiry = {} if self.fake.expires_in is None else {"expires_in": self.fake.expires_in}
        self._reply(200, json.dumps({name: token, **expiry, **self.fake.granted}).encode())

    # Answers

    def _reply(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        fault = self.fault or Fault("")
        if fault.altered and body:
            body = body[:-1] + bytes([body[-1] ^ 1])
        merged: dict[str, str | None] = {"Content-Length": str(len(body)), **(headers or {}), **fault.headers}
        self.send_response(status)
        for name, value in merged.items():
            if value is not None and not (fault.unsized and name == "Content-Length"):
                self.send_header(name, value)
        for challenge in self.challenges:
            self.send_header("WWW-Authenticate", challenge)
        self.challenges = []
        self.close_connection = fault.unsized or fault.cut is not None or bool(fault.extra)
        self.end_headers()
        if fault.chunked:
            body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        self._send(body[: fault.cut] + fault.extra, fault.drip)
        if fault.stall:
            self.wfile.flush()
            self.connection.recv(1)  # nothing comes but the end
        if fault.reset:
            self.wfile.flush()
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def _send(self, body: bytes, drip: int) -> None:
        if drip:
            step, pause = drip, 0.002
        elif self.fake.rate and len(body) > 1 << 16:
            step, pause = self.fake.rate // 50, 0.02
        else:
            self.wfile.write(body)
            return
        for at in range(0, len(body), step):
            self.wfile.write(body[at : at + step])
            self.wfile.flush()
            time.sleep(pause)


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode("utf-8", "surrogateescape")).decode()


def _error(code: str, message: str) -> bytes:
    return json.dumps({"errors": [{"code": code, "message": message, "detail": {"Tag": "x"}}]}).encode()
