"""An archive into a bucket: all of it, or nothing, from a stream whose length nobody knows.

A stream that never fills a part is one PutObject at `commit`. Otherwise the first full part creates a multipart
upload, parts go out side by side, and nothing is visible in the bucket before CompleteMultipartUpload. boto3's own
`upload_fileobj` cannot do this: it completes at end of file, whatever the reason for it.

Every way out but a commit aborts the upload, because S3 keeps the parts of an unfinished one, and charges for them,
until somebody does (Amazon S3 User Guide, "Aborting a multipart upload"). If even that fails, the log says how to.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import secrets
import shlex
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import IO, TYPE_CHECKING, Any, cast

from ocirootfs.destination import Stored, Tally
from ocirootfs.errors import DestinationError, OcirootfsError, TemporaryError, UsageError, printable
from ocirootfs.s3.client import (
    ExistsError,
    ForbiddenError,
    NoStoreError,
    S3Object,
    UnknownHeaderError,
    head,
    make_client,
    translated,
)
from ocirootfs.s3.parts import PartBody, Parts
from ocirootfs.s3.stamp import is_same
from ocirootfs.s3.url import bare

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

    from ocirootfs.s3.url import S3Options, S3Url

_log = logging.getLogger("ocirootfs.s3")

# How often a part goes out whose ETag shows that other bytes arrived.
_SENDS = 3
# Metadata by which we know an object again as the one that this very upload made.
_NONCE = "ocirootfs-upload"


class S3Destination:
    """The object at `url`.

    `client` is the caller's own boto3 client, which stays open; without one, `options` make one. `stamp` goes into the
    object's metadata, and is what `update` knows it again by (see `stamp.stamp`). `patience` bounds `abort` in seconds,
    parts under way included. Errors are those of `client.translated`; that of a part surfaces at the next `write` or at
    `commit`. An exception from a signal may hit anywhere: `abort` cleans up after it. If it hits while the last request
    of `commit` is under way, the object may be there: then it is the whole of it.
    """

    restartable = True

    def __init__(
        self,
        url: S3Url,
        options: S3Options,
        client: S3Client | None = None,
        *,
        stamp: Mapping[str, str] | None = None,
        patience: float = 4.0,
    ) -> None:
        if url.is_prefix:
            raise UsageError(f"{url} is a prefix: the name of the object is missing")
        self._url = url
        self._options = options
        self._owned = client is None
        self._client = make_client(options) if client is None else client
        self._stamp = stamp or {}
        self._patience = patience
        self._done = False
        self._begin()

    def _begin(self) -> None:
        self._tally = Tally()
        self._upload = _Upload(self._client, self._url, self._options, self._stamp)

    def standing(self) -> Stored | None:
        """Return what is there and is to stay so, as `if_exists` has it; None if the archive is to be written.

        One HEAD, and none where it would change nothing. Raises ExistsError under `fail`.
        """
        policy = self._options.if_exists
        if policy == "replace" or (policy == "update" and not self._stamp):
            return None
        found = self._found(policy)
        if found is None:
            return None
        if policy == "fail":
            raise ExistsError(f"{self._url} exists", hint="--if-exists skip or replace would not mind")
        if policy == "update" and not is_same(self._stamp, found.metadata):
            _log.info("%s: holds something else, and is replaced", self._url)
            return None
        return Stored(str(self._url), found.size, "", found.etag, found.version_id)

    def _found(self, policy: str) -> S3Object | None:
        try:
            return head(self._client, self._url, self._options)
        except ForbiddenError as error:
            if policy != "update":
                raise
            _log.info("%s; it is written without having looked", error)
            return None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Copy `data` into the part being filled; waits while all others are under way."""
        self._upload.parts.write(data)
        self._tally.add(data)

    def restart(self) -> None:
        """Abort what is under way and begin a new upload."""
        self._upload.abort(self._patience)
        self._begin()

    def commit(self) -> Stored:
        """Send the rest and make the object visible."""
        stored = self._tally.stored(str(self._url))
        etag, version = self._upload.publish(stored.size)
        self._done = True
        self._close()
        return replace(stored, etag=etag, version_id=version)

    def abort(self) -> None:
        """Remove the parts from the bucket, within `patience`; what could not be removed is logged as an error."""
        if not self._done:
            self._upload.abort(self._patience)
            self._close()

    def _close(self) -> None:
        if self._owned:
            self._client.close()


@dataclass(frozen=True, slots=True)
class _SentPart:
    md5: bytes
    completed: CompletedPartTypeDef


class _Upload:
    """One attempt at an object: its parts and, once one of them was full, its upload id.

    All calls but the last (PutObject or CompleteMultipartUpload) are made by the threads of `parts`. So is
    CreateMultipartUpload: were it made by the writer, a signal could lose the id of an upload that exists.
    """

    def __init__(self, client: S3Client, url: S3Url, options: S3Options, stamp: Mapping[str, str]) -> None:
        self._client = client
        self._url = url
        self._options = options
        self._where: dict[str, Any] = {"Bucket": url.bucket, "Key": url.key}
        if options.expected_bucket_owner is not None:
            self._where["ExpectedBucketOwner"] = options.expected_bucket_owner
        self._nonce = secrets.token_hex(16)
        metadata = {**options.metadata, **stamp, _NONCE: self._nonce}
        self._object: dict[str, Any] = self._where | options.headers() | {"Metadata": metadata}
        self._condition: dict[str, Any] = {"IfNoneMatch": "*"} if options.if_exists == "fail" else {}
        self._id: str | None = None
        self._creating = threading.Lock()
        self._removed = False
        self.parts: Parts[_SentPart] = Parts(self._send_part, base=options.part_size, jobs=options.jobs)

    def publish(self, size: int) -> tuple[str | None, str | None]:
        """Make the object, of `size` bytes, visible; returns its ETag and version id as far as the store tells."""
        if not self.parts.started:
            body = self.parts.rest()
            md5 = body.md5()
            return self._settled(lambda: self._put(body, md5), size, md5.hex())
        sent = self.parts.finish()
        # The ETag of a multipart object: the MD5 of its parts' MD5s (undocumented, but kept by every store).
        digest = hashlib.md5(b"".join(part.md5 for part in sent), usedforsecurity=False).hexdigest()
        return self._settled(lambda: self._complete(sent, size), size, f"{digest}-{len(sent)}")

    def abort(self, seconds: float) -> None:
        """Stop the parts and remove the upload; logs how to where it cannot."""
        if self._removed:
            return
        end = time.monotonic() + seconds
        idle = False
        try:
            idle = self.parts.cancel(seconds / 2)
            self._remove(end)
            if not idle:
                # AWS: "if any part uploads are currently in progress, those part uploads might or might not
                # succeed", so "it might be necessary to abort a given multipart upload multiple times".
                self._removed = False
                idle = self.parts.cancel((end - time.monotonic()) / 2)
                self._remove(end)
        finally:  # a second signal must not silence it
            if not self._removed:
                self._report()
            if not idle:
                threading.Thread(target=self._sweep, name="ocirootfs-sweep", daemon=True).start()

    def _create(self) -> str:
        with self._creating:
            if self._id is None:
                with translated(self._url, "begin the upload of"):
                    self._id = self._client.create_multipart_upload(**self._object)["UploadId"]
                _log.debug("%s: began multipart upload %s", self._url, printable(self._id))
            return self._id

    def _send_part(self, number: int, body: PartBody) -> _SentPart:
        md5 = body.md5()
        body.require_wanted()
        where = self._where | {"UploadId": self._create(), "PartNumber": number}

        def send() -> Mapping[str, Any]:
            with translated(self._url, f"upload part {number} of"):
                return self._client.upload_part(**where, **self._content(body, md5))

        answer = self._intact(send, md5, f"part {number}")
        # An upload that was created with checksums (boto3's default on AWS) is completed with those of its parts.
        checksums = {name: value for name, value in answer.items() if name.startswith("Checksum")}
        checksums.pop("ChecksumType", None)
        with translated(self._url, f"upload part {number} of"):
            completed = {"PartNumber": number, "ETag": answer["ETag"], **checksums}
        return _SentPart(md5, cast("CompletedPartTypeDef", completed))

    def _put(self, body: PartBody, md5: bytes) -> Mapping[str, Any]:
        def send() -> Mapping[str, Any]:
            with translated(self._url, "write"):
                return self._client.put_object(**self._object, **self._content(body, md5), **self._condition)

        return self._intact(send, md5, "the object")

    def _complete(self, sent: list[_SentPart], size: int) -> Mapping[str, Any]:
        with translated(self._url, "complete"):
            return self._client.complete_multipart_upload(
                **self._where,
                **self._condition,
                UploadId=self._create(),
                MultipartUpload={"Parts": [part.completed for part in sent]},
                MpuObjectSize=size,
            )

    def _content(self, body: PartBody, md5: bytes) -> dict[str, Any]:
        """Return the body from its beginning, with the old checksum that every store verifies unless boto3 adds one."""
        body.seek(0)
        content: dict[str, Any] = {"Body": cast("IO[bytes]", body)}
        if getattr(self._client.meta.config, "request_checksum_calculation", None) == "when_required":
            content["ContentMD5"] = base64.b64encode(md5).decode()
        return content

    def _intact(self, send: Callable[[], Mapping[str, Any]], md5: bytes, what: str) -> Mapping[str, Any]:
        """Send until the ETag says that the bytes arrived as they are; DestinationError if they never do."""
        for _ in range(_SENDS):
            answer = send()
            if _etag_md5(answer) in (None, md5.hex()):
                return answer
            _log.warning("%s: the store's ETag of %s is not that of the bytes sent", self._url, what)
        raise DestinationError(
            f"{self._url}: {what} was sent {_SENDS} times and never stored as sent, by its ETag",
            hint="something between here and the store's disks alters data",
        )

    def _settled(self, publish: Callable[[], Mapping[str, Any]], size: int, etag: str) -> tuple[str | None, str | None]:
        """Call `publish`; if that fails, or names no ETag, see whether the object is there all the same.

        A store may have done it while its answer was lost: the retry then gets NoSuchUpload, or finds that the
        object that must not exist is there. An answer without an ETag may be that of a login page: S3's have one.
        """
        try:
            answer = self._conditional(publish)
        except (TemporaryError, ExistsError) as error:
            found = self._ours(size, etag)
            if found is None:
                raise
            _log.info("%s: it is stored, although: %s", self._url, error)
            return found.etag, found.version_id
        if told := answer.get("ETag", "").strip('"'):
            return told, answer.get("VersionId")
        found = self._ours(size, etag)
        if found is None:
            raise NoStoreError(
                f"cannot write {self._url}: what answers is no S3: it names no ETag, and the object cannot be seen",
                hint="check --endpoint-url",
            )
        return found.etag, found.version_id

    def _ours(self, size: int, etag: str) -> S3Object | None:
        """Return what is there if this upload made it, and if we may look."""
        with suppress(OcirootfsError):
            found = head(self._client, self._url, self._options)
            if found is not None and self._is_ours(found, size, etag):
                return found
        return None

    def _conditional(self, publish: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
        """Call `publish`, unless something is there that must not be replaced.

        The HEAD is for stores that take no notice of If-None-Match: there it leaves but a moment for a race.
        """
        if not self._condition:
            return publish()
        if head(self._client, self._url, self._options) is not None:
            raise ExistsError(f"{self._url} exists: it came while the archive was made")
        try:
            answer = publish()
        except UnknownHeaderError:
            _log.warning("%s: this store has no If-None-Match, so another upload may be replaced unseen", self._url)
            self._condition = {}
            return publish()
        if not _honours_conditions(answer["ResponseMetadata"]["HTTPHeaders"]):
            _log.warning(
                "%s: did not exist a moment before; only a store that honours If-None-Match (Ceph 16 does not) keeps"
                " two uploads from replacing each other, and this one does not say whether it does",
                self._url,
            )
        return answer

    def _is_ours(self, found: S3Object, size: int, etag: str) -> bool:
        """Tell by our nonce; where the store dropped it, by the ETag, unless the object may have been there before."""
        nonce = found.metadata.get(_NONCE)
        known = found.etag == etag and not self._condition if nonce is None else nonce == self._nonce
        return known and found.size == size

    def _remove(self, end: float) -> None:
        """Abort the multipart upload, waiting until `end`: botocore's retries alone would take a minute."""
        if self._id is None:
            self._removed = not self._creating.locked()
            return
        thread = threading.Thread(target=self._call_abort, args=(self._id,), name="ocirootfs-abort", daemon=True)
        thread.start()
        thread.join(max(0.1, end - time.monotonic()))

    def _call_abort(self, upload_id: str) -> None:
        try:
            with translated(self._url, "abort"), suppress(self._client.exceptions.NoSuchUpload):
                self._client.abort_multipart_upload(**self._where, UploadId=upload_id)
            self._removed = True
        except OcirootfsError as error:
            _log.info("%s", error)

    def _sweep(self) -> None:
        """Remove once more what a part that outlived `abort` brought in, if the process lives that long."""
        self.parts.cancel(3600)
        if self._id is not None:
            self._call_abort(self._id)

    def _report(self) -> None:
        command = ["aws", "s3api", "abort-multipart-upload", "--endpoint-url", bare(self._client.meta.endpoint_url)]
        command += ["--bucket", self._url.bucket, "--key", self._url.key, "--upload-id", self._id or "ID"]
        _log.error(
            "%s: the unfinished multipart upload %s could not be removed; its parts cost money until somebody runs: %s",
            self._url,
            printable(self._id or "(of unknown id)"),
            shlex.join(command),
        )


def _honours_conditions(headers: Mapping[str, str]) -> bool:
    """Tell, by an answer, a store known to honour If-None-Match on writes: Amazon's, and OpenStack's Swift."""
    return headers.get("server") == "AmazonS3" or "x-openstack-request-id" in headers


def _etag_md5(answer: Mapping[str, Any]) -> str | None:
    """Return the MD5 in hex that an ETag is, or None where it is something else.

    Amazon S3 API Reference, "Object": it is no MD5 under SSE-C, SSE-KMS and DSSE-KMS. Under SSE-S3 it is one at
    Amazon, where every object is so encrypted, but not in MinIO.
    """
    encryption = answer.get("ServerSideEncryption")
    server = answer["ResponseMetadata"]["HTTPHeaders"].get("server")
    if "SSECustomerAlgorithm" in answer or (encryption and (encryption != "AES256" or server != "AmazonS3")):
        return None
    etag = str(answer.get("ETag", "")).strip('"').lower()
    return etag if len(etag) == 32 and set(etag) <= set("0123456789abcdef") else None
