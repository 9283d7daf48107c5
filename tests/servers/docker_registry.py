"""Debian's `docker-registry` (distribution 2.8) on a free port of 127.0.0.1; needs no root.

Unlike our own fake it is what people run: it checks digests and manifests, answers ranges, and asks for passwords, or
for tokens that it verifies.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
import os
import socket
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

USER, PASSWORD = "tester", "s3cret-päss"

_START_SECONDS = 20
_ISSUER, _SERVICE = "test-issuer", "test-registry"


@contextmanager
def docker_registry(
    program: Path,
    folder: Path,
    *,
    htpasswd: Path | None = None,
    tokens: TokenServer | None = None,
    certificate: tuple[Path, Path] | None = None,
    clients: Path | None = None,
) -> Iterator[str]:
    """Run a registry that keeps its data in `folder`; gives `127.0.0.1:PORT`.

    With the program `htpasswd` (of apache2-utils, for bcrypt) it lets nobody in but USER; with `tokens` it sends
    everybody there. With a `certificate` and its key it speaks TLS, and with `clients`, an authority's certificate, to
    nobody who does not show one of its own.
    """
    host = f"127.0.0.1:{_free_port()}"
    config = _config(host, folder / "data")
    if htpasswd:
        passwords = folder / "htpasswd"
        made = subprocess.run(
            [htpasswd, "-Bbn", "-C", "5", USER, PASSWORD], check=True, stdout=subprocess.PIPE, timeout=20
        )
        passwords.write_bytes(made.stdout)
        config["auth"] = {"htpasswd": {"realm": "basic-realm", "path": str(passwords)}}
    if tokens:
        (folder / "issuer.pem").write_bytes(tokens.certificate.public_bytes(Encoding.PEM))
        config["auth"] = {
            "token": {
                "realm": tokens.realm,
                "service": _SERVICE,
                "issuer": _ISSUER,
                "rootcertbundle": str(folder / "issuer.pem"),
            }
        }
    if certificate:
        authorities = [str(clients)] if clients else []
        own = {"certificate": str(certificate[0]), "key": str(certificate[1]), "clientcas": authorities}
        config["http"] = {"addr": host, "net": "tcp", "tls": own}
    (folder / "config.yml").write_text(json.dumps(config))  # JSON is YAML
    with (folder / "registry.log").open("wb") as log:
        process = subprocess.Popen(
            [program, "serve", folder / "config.yml"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, "OTEL_TRACES_EXPORTER": "none"},
        )
    try:
        _wait(f"{'https' if certificate else 'http'}://{host}/v2/", process, folder)
        yield host
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)


def _config(host: str, data: Path) -> dict[str, object]:
    return {
        "version": 0.1,
        "log": {"level": "info"},
        "storage": {
            "filesystem": {"rootdirectory": str(data)},
            "cache": {"blobdescriptor": "inmemory"},
            "delete": {"enabled": True},
            "maintenance": {"uploadpurging": {"enabled": False}},
        },
        "http": {"addr": host, "net": "tcp"},
    }


def _wait(url: str, process: subprocess.Popen[bytes], folder: Path) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            with opener.open(url, timeout=2):
                return
        except urllib.error.HTTPError as error:  # 401 is an answer, too
            error.close()
            return
        except urllib.error.URLError as error:
            if isinstance(error.reason, ssl.SSLError):  # and so is one that we do not trust
                return
            time.sleep(0.02)
        except OSError:
            time.sleep(0.02)
    log = (folder / "registry.log").read_text(errors="replace")
    raise RuntimeError(f"docker-registry did not start:\n{log[-2000:]}")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


class TokenServer:
    """Gives tokens that a registry accepts: to USER for whatever is asked, to anybody to pull what is in `public/`."""

    def __init__(self) -> None:
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _ISSUER)])
        now = dt.datetime.now(dt.UTC)
        self.certificate = (
            x509.CertificateBuilder(name, name, self._key.public_key(), x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=30))
            .sign(self._key, hashes.SHA256())
        )
        self.realm = ""

    def token(self, service: str, scopes: list[str], user: str) -> str:
        """Return a JWT for what `user` may do of what is asked."""
        access = []
        for scope in " ".join(scopes).split():
            kind, name, actions = scope.split(":")
            may = actions.split(",") if user else ["pull"] if name.startswith("public/") else []
            access.append({"type": kind, "name": name, "actions": may})
        now = int(time.time())
        claims = {
            "iss": _ISSUER, "sub": user, "aud": service, "iat": now, "nbf": now - 5, "exp": now + 60, "jti": str(now),
            "access": access,
        }  # fmt: skip
        chain = [base64.b64encode(self.certificate.public_bytes(Encoding.DER)).decode()]
        header = {"typ": "JWT", "alg": "RS256", "x5c": chain}
        signed = b".".join(_base64(json.dumps(part).encode()) for part in (header, claims))
        signature = self._key.sign(signed, padding.PKCS1v15(), hashes.SHA256())
        return (signed + b"." + _base64(signature)).decode()


@contextmanager
def token_server() -> Iterator[TokenServer]:
    """Run a token server on a free port of 127.0.0.1."""
    tokens = TokenServer()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_TokenHandler, tokens))
    tokens.realm = f"http://127.0.0.1:{server.server_address[1]}/token"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield tokens
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _TokenHandler(BaseHTTPRequestHandler):
    def __init__(self, tokens: TokenServer, *args: Any) -> None:
        self.tokens = tokens
        super().__init__(*args)

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        sent = self.headers.get("Authorization")
        if sent not in (None, "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()):
            self.send_error(401)
            return
        token = self.tokens.token(query["service"][0], query.get("scope", []), USER if sent else "")
        body = json.dumps({"token": token, "expires_in": 60}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _base64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
