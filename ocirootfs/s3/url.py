"""Where in S3, and how: what a caller says about a bucket. No boto3 here, so that saying it costs nothing.

Sources: Amazon S3 User Guide, "General purpose bucket naming rules", "Naming Amazon S3 objects", "Amazon S3
multipart upload limits", "Editing object metadata", "Categorizing your objects using tags".
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias
from urllib.parse import urlencode, urlsplit

from ocirootfs.errors import UsageError, printable
from ocirootfs.s3.parts import MAX_PART_SIZE, MIN_PART_SIZE

if TYPE_CHECKING:
    from collections.abc import Mapping

# Wider than AWS's rule for new buckets, because old buckets and other stores have capitals and underscores.
_BUCKET = re.compile(r"(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]", re.ASCII)
_KEY_BYTES = 1024
_METADATA_NAME = re.compile(r"[A-Za-z0-9-]+", re.ASCII)
_HEADER_VALUE = re.compile(r"[\x20-\x7e]*")
_OWN_METADATA = "ocirootfs-"
_TAGS, _TAG_NAME, _TAG_VALUE = 10, 128, 256
_ACCOUNT = re.compile(r"[0-9]{12}", re.ASCII)
_WHERE_CREDENTIALS_BELONG = "use AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
_ROLE = re.compile(r"arn:[\x21-\x7e]{16,2044}")

IfExists: TypeAlias = Literal["update", "skip", "replace", "fail"]


@dataclass(frozen=True, slots=True)
class S3Url:
    """`s3://bucket/key`; a key that is empty or ends in `/` is a prefix, under which a name is still to come."""

    bucket: str
    key: str

    @classmethod
    def parse(cls, text: str) -> S3Url:
        """Read `s3://bucket/key`; UsageError says what is wrong with anything else."""
        scheme, separator, rest = text.partition("://")
        bucket, slash, key = rest.partition("/")
        shown = printable(text)
        if "@" in rest and not _BUCKET.fullmatch(bucket):
            shown = f"{printable(scheme)}://…@{printable(rest.rpartition('@')[2])}"
            raise UsageError(f"'{shown}': credentials have no place in it", hint=_WHERE_CREDENTIALS_BELONG)
        if not separator or scheme.lower() != "s3":
            raise UsageError(f"'{shown}' is not of the form s3://BUCKET/KEY")
        if not _BUCKET.fullmatch(bucket):
            raise UsageError(f"'{shown}': '{printable(bucket, 80)}' is not the name of a bucket")
        if not slash:
            raise UsageError(
                f"'{shown}' names a bucket but no key",
                hint=f"s3://{bucket}/KEY, or s3://{bucket}/ to put an archive there under its default name",
            )
        if fault := _key_fault(key):
            raise UsageError(f"'{shown}': the key {fault}")
        return cls(bucket, key)

    @property
    def is_prefix(self) -> bool:
        """Whether a name has to be joined before there is an object."""
        return not self.key or self.key.endswith("/")

    def joined(self, name: str) -> S3Url:
        """Return the URL of `name` below this prefix; UsageError as for `parse`."""
        return S3Url.parse(f"{self}{name}")

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


def _key_fault(key: str) -> str | None:
    """Say why `key` is not one that every store, proxy and shell takes for the same object."""
    if printable(key, len(key) + 1) != key:
        return "holds a control character or one that is not text"
    if len(key.encode()) > _KEY_BYTES:
        return f"is longer than {_KEY_BYTES} bytes"
    if key.startswith("/"):
        return "begins with a slash"
    if {".", ".."} & set(key.split("/")):
        return "holds '.' or '..' as a path component"
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Options:
    """How to reach a bucket and how to store an object; what is left out comes from boto3's environment and profile.

    `part_size` (bytes) and `jobs` (parts under way at once) bound the memory: `(jobs + 1) * part_size` until the
    archive exceeds 900 parts, see `parts.part_size`. `retry_for` is how many seconds after its first try a failing
    request may still be tried again. `role_arn` is assumed through STS. `expected_bucket_owner` is an account: requests
    to a bucket of another one are refused. `metadata` becomes `x-amz-meta-…` headers.

    `if_exists` says what becomes of an object that is there: `update` leaves it if it holds this very image with these
    options, `skip` whatever it is, `replace` does not look, `fail` refuses, atomically where the store honours
    If-None-Match. Raises UsageError for values that no store takes.

    >>> ocirootfs.S3Options(endpoint_url="https://minio.corp:9000", part_size=16 << 20, if_exists="skip").jobs
    3
    """

    endpoint_url: str | None = None
    region: str | None = None
    profile: str | None = None
    role_arn: str | None = None
    no_sign_request: bool = False
    expected_bucket_owner: str | None = None
    addressing: Literal["auto", "path", "virtual"] = "auto"
    checksums: Literal["auto", "when-supported", "when-required"] = "auto"
    ca_file: str | None = None
    insecure: bool = False
    part_size: int = 8 * 1024 * 1024
    jobs: int = 3
    retry_for: float = 300.0
    content_type: str = "application/gzip"
    sse: Literal["AES256", "aws:kms", "aws:kms:dsse"] | None = None
    sse_kms_key_id: str | None = None
    acl: str | None = None
    storage_class: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    if_exists: IfExists = "update"

    def __post_init__(self) -> None:
        if not MIN_PART_SIZE <= self.part_size <= MAX_PART_SIZE:
            raise UsageError(f"a part size of {self.part_size} bytes is outside of S3's limits, 5 MiB to 5 GiB")
        if not 1 <= self.jobs <= 64:
            raise UsageError(f"{self.jobs} parts at once: use 1 to 64")
        if not 0 <= self.retry_for < float("inf"):
            raise UsageError("the time for retries is not a number of seconds")
        if self.endpoint_url is not None:
            require_endpoint(self.endpoint_url)
        self._require_account()
        if self.sse_kms_key_id is not None and self.sse not in ("aws:kms", "aws:kms:dsse"):
            raise UsageError("a KMS key needs encryption with KMS", hint="add --sse aws:kms")
        for name in ("content_type", "acl", "storage_class", "sse_kms_key_id"):
            _require_plain(name, getattr(self, name))
        _require_tags(self.tags)
        _require_metadata(self.metadata)

    def _require_account(self) -> None:
        if self.role_arn is not None and self.no_sign_request:
            raise UsageError("requests that are not signed cannot be made in a role")
        if self.role_arn is not None and not _ROLE.fullmatch(self.role_arn):
            raise UsageError(f"'{printable(self.role_arn, 80)}' is not the ARN of a role")
        if self.expected_bucket_owner is not None and not _ACCOUNT.fullmatch(self.expected_bucket_owner):
            raise UsageError(f"'{printable(self.expected_bucket_owner, 80)}' is not the number of an account")

    def headers(self) -> dict[str, str]:
        """Return what is said of the object besides its metadata, by the names of boto3's parameters."""
        said = {
            "ContentType": self.content_type,
            "ServerSideEncryption": self.sse,
            "SSEKMSKeyId": self.sse_kms_key_id,
            "ACL": self.acl,
            "StorageClass": self.storage_class,
            "Tagging": urlencode(self.tags),
        }
        return {name: value for name, value in said.items() if value}


def _require_plain(name: str, value: str | None) -> None:
    if value is not None and not _HEADER_VALUE.fullmatch(value):
        raise UsageError(f"the {name.replace('_', ' ')} '{printable(value, 80)}' is not plain ASCII text")


def _require_tags(tags: Mapping[str, str]) -> None:
    if len(tags) > _TAGS:
        raise UsageError(f"{len(tags)} tags: an object takes {_TAGS}")
    for name, value in tags.items():
        if not 1 <= len(name) <= _TAG_NAME or len(value) > _TAG_VALUE or not (name + value).isprintable():
            raise UsageError(f"'{printable(name, 80)}' is no tag that S3 takes")


def _require_metadata(metadata: Mapping[str, str]) -> None:
    for name, value in metadata.items():
        if not (_METADATA_NAME.fullmatch(name) and _HEADER_VALUE.fullmatch(value)):
            raise UsageError(
                f"object metadata '{printable(name, 80)}' is not plain ASCII text",
                hint="encode the value, for instance as in a URL",
            )
        if name.lower().startswith(_OWN_METADATA):
            raise UsageError(f"object metadata '{name}': names that begin with '{_OWN_METADATA}' are taken")


def bare(endpoint: str) -> str:
    """Return an endpoint's URL without a user and a password."""
    scheme, separator, rest = endpoint.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{path}"


def require_endpoint(text: str) -> None:
    """Refuse an endpoint that boto3 would misread; one with credentials in it would end up in logs."""
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        usable = False
    if not usable or parts.query or parts.fragment:
        raise UsageError("the endpoint URL is not of the form http[s]://HOST[:PORT]")
    if "@" in parts.netloc:
        raise UsageError("the endpoint URL holds credentials", hint=_WHERE_CREDENTIALS_BELONG)
