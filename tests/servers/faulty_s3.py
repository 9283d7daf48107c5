"""An S3 of our own whose faults are scripted, and which remembers every request.

Speaks path-style CreateMultipartUpload, UploadPart, CompleteMultipartUpload, AbortMultipartUpload, PutObject,
HeadObject, GetObject, DeleteObject, ListObjectsV2 and ListMultipartUploads; does not check signatures.
"""

from __future__ import annotations

import hashlib
import re
import socket
import struct
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

BUCKET = "bucket"
ELSEWHERE = "https://127.0.0.1:1/login?session=secret"
_CRC = "x-amz-checksum-crc32"
_WRONG_ETAG = '"0123456789abcdef0123456789abcdef"'


@dataclass
class Fault:
    """What goes wrong with the next `times` requests of one kind (of one `part`, if given).

    `what` is an S3 error code with its HTTP status, or one of
    reset          the connection is reset in the middle of the body
    lost           the request is carried out, its answer is not sent
    ok-error       200, with an error in the body
    wrong-etag     the answer bears another ETag
    altered        other bytes than were sent are stored, and the ETag shows it
    no-etag        the request is carried out, its answer bears no ETag
    page           200 with a web page, as a console or a portal answers whatever it is asked
    nothing        200 with no body
    away           301 to `ELSEWHERE`, as a server answers that wants TLS, or a login
    wrong-crc      the answer to a GET bears the checksum of other bytes
    no-length      the answer to a HEAD does not say how long the object is
    undated        uploads are listed without the time at which they began
    no-token       there is more to list, and no token to ask for it
    same-token     there is always more to list, by the same token
    stall          the request is read, then nothing happens until `released` is set
    """

    operation: str
    what: str
    status: int = 500
    part: int | None = None
    times: int = 1_000_000
    released: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True)
class Request:
    """One request, as it arrived."""

    operation: str
    key: str
    query: dict[str, str]
    headers: dict[str, str]


@dataclass(frozen=True)
class StoredObject:
    """One object: `size` and `etag` are all that is kept of one that is discarded."""

    body: bytes
    size: int
    etag: str
    headers: dict[str, str]


@dataclass
class Upload:
    """A multipart upload under way."""

    key: str
    headers: dict[str, str]
    parts: dict[int, StoredObject] = field(default_factory=dict)
    checksums: int = 0


class State:
    """What the service knows; `lock` guards all of it."""

    def __init__(self, *, discard: bool = False) -> None:
        self.lock = threading.Lock()
        self.discard = discard
        self.requests: list[Request] = []
        self.objects: dict[str, StoredObject] = {}
        self.uploads: dict[str, Upload] = {}
        self.faults: list[Fault] = []
        self.arrived: dict[str, threading.Event] = {}
        self.url = ""
        self.server_header = ""
        self.ahead = 0.0  # seconds that its clock is ahead of the machine's; refuses what is 15 minutes off
        self._count = 0

    def fail(self, operation: str, what: str, **more: Any) -> Fault:
        """Add a fault."""
        fault = Fault(operation, what, **more)
        self.faults.append(fault)
        return fault

    def operations(self) -> list[str]:
        """List the operations asked for, in order."""
        with self.lock:
            return [request.operation for request in self.requests]

    def event(self, operation: str) -> threading.Event:
        """Return what is set as soon as such a request has been read."""
        with self.lock:
            return self.arrived.setdefault(operation, threading.Event())

    def take_fault(self, request: Request) -> Fault | None:
        """Record `request`, return what is to go wrong with it."""
        part = int(request.query.get("partNumber", "0"))
        with self.lock:
            self.requests.append(request)
            for fault in self.faults:
                if fault.operation == request.operation and fault.times and fault.part in (None, part):
                    fault.times -= 1
                    return fault
        return None

    def new_id(self) -> str:
        """Return an upload id that a shell would trip over."""
        self._count += 1
        return f"id-{self._count}~a b"


def _unix(amazon_date: str) -> float:
    return datetime.strptime(amazon_date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _etag(body: StoredObject, what: str) -> dict[str, str]:
    if what == "no-etag":
        return {}
    return {"ETag": _WRONG_ETAG if what == "wrong-etag" else f'"{body.etag}"'}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    state: State

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients that go away are what is being tested."""


class _ResetError(Exception):
    """The connection is to be reset."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""

    def date_time_string(self, timestamp: float | None = None) -> str:
        return super().date_time_string(time.time() + self.server.state.ahead)

    def version_string(self) -> str:
        return self.server.state.server_header

    def do_PUT(self) -> None:
        self._serve("UploadPart" if "partNumber" in self._query() else "PutObject")

    def do_POST(self) -> None:
        self._serve("CompleteMultipartUpload" if "uploadId" in self._query() else "CreateMultipartUpload")

    def do_DELETE(self) -> None:
        self._serve("AbortMultipartUpload" if "uploadId" in self._query() else "DeleteObject")

    def do_HEAD(self) -> None:
        self._serve("HeadObject")

    def do_GET(self) -> None:
        query = self._query()
        listing = "ListMultipartUploads" if "uploads" in query else "ListObjectsV2"
        self._serve(listing if {"uploads", "prefix"} & set(query) else "GetObject")

    def _query(self) -> dict[str, str]:
        query = parse_qs(urlsplit(self.path).query, keep_blank_values=True)
        return {name: values[0] for name, values in query.items()}

    def _serve(self, operation: str) -> None:
        path = unquote(urlsplit(self.path).path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(operation, path.partition(f"/{BUCKET}/")[2], self._query(), headers)
        fault = self.server.state.take_fault(request)
        what = fault.what if fault else ""
        signed = headers.get("x-amz-date")
        skewed = signed is not None and abs(_unix(signed) - time.time() - self.server.state.ahead) > 900
        try:
            body = self._body(cut=what == "reset")
            if what == "altered":
                body = StoredObject(b"x" * body.size, body.size, "0" * 32, {})
            self.server.state.event(operation).set()
            if skewed:
                self._error(403, "RequestTimeTooSkewed")
                return
            if fault and what == "stall":
                fault.released.wait(30)
            if fault and re.match("[A-Z]", what):
                self._error(fault.status, what)
                return
            if what in ("page", "nothing"):
                self._answer(200, "<html>Welcome</html>" if what == "page" else "")
                return
            if what == "away":
                self._answer(301, "" if self.command == "HEAD" else "<html>moved</html>", Location=ELSEWHERE)
                return
            getattr(self, f"_{operation}")(request, body, what)
        except _ResetError:
            # SO_LINGER with zero seconds turns the close into a reset.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True

    def _body(self, *, cut: bool) -> StoredObject:
        """Read the body, keeping it unless it is to be discarded; aws-chunked trailers are taken apart."""
        chunks: list[bytes] = []
        size, md5 = 0, hashlib.md5()
        for chunk in self._chunks():
            size += len(chunk)
            md5.update(chunk)
            if not self.server.state.discard or self.command != "PUT":
                chunks.append(chunk)
            if cut:
                break
        if cut:
            raise _ResetError
        return StoredObject(b"".join(chunks), size, md5.hexdigest(), {})

    def _chunks(self) -> Iterator[bytes]:
        if self.headers.get("Transfer-Encoding") != "chunked":
            yield from self._read(int(self.headers.get("Content-Length", 0)))
            return
        # HTTP's chunks hold the chunks of aws-chunked, which end with the trailing checksum.
        outer = b"".join(b"".join(self._read(size)) for size in self._chunk_sizes())
        while True:
            line, _, outer = outer.partition(b"\r\n")
            size = int(line.partition(b";")[0], 16)
            if not size:
                break
            yield outer[:size]
            outer = outer[size + 2 :]

    def _chunk_sizes(self) -> Iterator[int]:
        while size := int(self.rfile.readline(), 16):
            yield size
            self.rfile.readline()
        self.rfile.readline()

    def _read(self, size: int) -> Iterator[bytes]:
        while size:
            chunk = self.rfile.read(min(size, 1 << 18))
            if not chunk:
                raise _ResetError
            size -= len(chunk)
            yield chunk

    def _answer(self, status: int, body: str = "", **headers: str) -> None:
        data = body.encode()
        self.send_response(status)
        for name, value in headers.items():
            if value:
                self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _error(self, status: int, code: str) -> None:
        body = f"<Error><Code>{code}</Code><Message>as scripted.</Message></Error>"
        self._answer(status, "" if self.command == "HEAD" else body)

    def _CreateMultipartUpload(self, request: Request, body: StoredObject, what: str) -> None:
        state = self.server.state
        with state.lock:
            upload_id = state.new_id()
            state.uploads[upload_id] = Upload(request.key, request.headers)
        self._answer(
            200,
            f"<InitiateMultipartUploadResult><UploadId>{upload_id}</UploadId></InitiateMultipartUploadResult>",
        )

    def _UploadPart(self, request: Request, body: StoredObject, what: str) -> None:
        state = self.server.state
        with state.lock:
            upload = state.uploads.get(request.query["uploadId"])
            if upload is not None:
                upload.parts[int(request.query["partNumber"])] = body
        if upload is None:
            self._error(404, "NoSuchUpload")
        elif what == "lost":
            raise _ResetError
        else:
            # As at Amazon, a checksum in a header comes back, and is wanted again at the end.
            crc = {name: value for name, value in request.headers.items() if name == _CRC}
            upload.checksums += len(crc)
            self._answer(200, **_etag(body, what), **crc)

    def _CompleteMultipartUpload(self, request: Request, body: StoredObject, what: str) -> None:
        state = self.server.state
        listed = [int(number) for number in re.findall(rb"<PartNumber>(\d+)<", body.body)]
        if what == "ok-error":
            self._answer(200, "<Error><Code>InternalError</Code><Message>as scripted.</Message></Error>")
            return
        with state.lock:
            upload = state.uploads.get(request.query["uploadId"])
            if upload is None:
                self._error(404, "NoSuchUpload")
                return
            if request.headers.get("if-none-match") == "*" and request.key in state.objects:
                self._error(412, "PreconditionFailed")
                return
            if upload.checksums != body.body.count(b"<ChecksumCRC32>"):
                self._error(400, "InvalidRequest")
                return
            parts = [upload.parts[number] for number in listed]
            digest = hashlib.md5(b"".join(bytes.fromhex(part.etag) for part in parts)).hexdigest()
            whole = b"".join(part.body for part in parts)
            etag = f"{digest}-{len(parts)}"
            state.objects[request.key] = StoredObject(whole, sum(part.size for part in parts), etag, upload.headers)
            del state.uploads[request.query["uploadId"]]
        if what == "lost":
            raise _ResetError
        self._answer(
            200,
            "<CompleteMultipartUploadResult/>"
            if what == "no-etag"
            else f'<CompleteMultipartUploadResult><ETag>"{etag}"</ETag></CompleteMultipartUploadResult>',
            x_amz_version_id="v1",
        )

    def _AbortMultipartUpload(self, request: Request, body: StoredObject, what: str) -> None:
        state = self.server.state
        with state.lock:
            upload = state.uploads.pop(request.query["uploadId"], None)
        if upload is None:
            self._error(404, "NoSuchUpload")
        else:
            self._answer(204)

    def _PutObject(self, request: Request, body: StoredObject, what: str) -> None:
        state = self.server.state
        with state.lock:
            if request.headers.get("if-none-match") == "*" and request.key in state.objects:
                self._error(412, "PreconditionFailed")
                return
            state.objects[request.key] = StoredObject(body.body, body.size, body.etag, request.headers)
        if what == "lost":
            raise _ResetError
        self._answer(200, **_etag(body, what))

    def _HeadObject(self, request: Request, body: StoredObject, what: str) -> None:
        found = self.server.state.objects.get(request.key)
        if what == "no-length":
            self._answer(200, Content_Length="", Transfer_Encoding="chunked")
            return
        if found is None:
            self._answer(404)
            return
        metadata = {name: value for name, value in found.headers.items() if name.startswith("x-amz-meta-")}
        self._answer(200, ETag=f'"{found.etag}"', Content_Length=str(found.size), **metadata)

    def _GetObject(self, request: Request, body: StoredObject, what: str) -> None:
        found = self.server.state.objects.get(request.key)
        if found is None:
            self._error(404, "NoSuchKey")
            return
        self._answer(200, found.body.decode("ascii"), **({_CRC: "AAAAAA=="} if what == "wrong-crc" else {}))

    def _DeleteObject(self, request: Request, body: StoredObject, what: str) -> None:
        self.server.state.objects.pop(request.key, None)
        self._answer(204)

    def _ListObjectsV2(self, request: Request, body: StoredObject, what: str) -> None:
        keys = [key for key in self.server.state.objects if key.startswith(request.query["prefix"])]
        listed = "".join(f"<Contents><Key>{key}</Key></Contents>" for key in sorted(keys))
        if what in ("no-token", "same-token"):
            token = "<NextContinuationToken>t</NextContinuationToken>" if what == "same-token" else ""
            listed += f"<IsTruncated>true</IsTruncated>{token}"
        self._answer(200, f"<ListBucketResult>{listed}</ListBucketResult>")

    def _ListMultipartUploads(self, request: Request, body: StoredObject, what: str) -> None:
        begun = "" if what == "undated" else "<Initiated>2010-01-01T00:00:00.000Z</Initiated>"
        with self.server.state.lock:
            listed = "".join(
                f"<Upload><Key>{upload.key}</Key><UploadId>{upload_id}</UploadId>{begun}</Upload>"
                for upload_id, upload in self.server.state.uploads.items()
            )
        self._answer(200, f"<ListMultipartUploadsResult>{listed}</ListMultipartUploadsResult>")


@contextmanager
def faulty_s3(*, discard: bool = False, tls: ssl.SSLContext | None = None) -> Iterator[State]:
    """Run the service on a free port of 127.0.0.1; `discard` forgets bodies."""
    state = State(discard=discard)
    server = _Server(("127.0.0.1", 0), _Handler)
    server.state = state
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    port = server.server_address[1]
    state.url = f"https://localhost:{port}" if tls else f"http://127.0.0.1:{port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        for fault in state.faults:
            fault.released.set()
        server.shutdown()
        server.server_close()
        thread.join()
