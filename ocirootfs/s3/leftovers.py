"""What is in a bucket and should not be any more: objects that nobody lists, and uploads that nobody ends.

Sources: Amazon S3 API Reference, ListObjectsV2, ListMultipartUploads.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ocirootfs.errors import AuthError, UsageError
from ocirootfs.s3.client import endless, head, translated
from ocirootfs.s3.stamp import is_stamped
from ocirootfs.s3.url import S3Url

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Sequence
    from datetime import datetime

    from mypy_boto3_s3 import S3Client

    from ocirootfs.s3.url import S3Options


@dataclass(frozen=True, slots=True)
class Folder:
    """Keys of a bucket that begin with `prefix`, `depth` folders further down, or deeper if they may be."""

    bucket: str
    prefix: str
    depth: int = 0
    or_deeper: bool = True

    @classmethod
    def of(cls, template: Sequence[tuple[str, str | None]]) -> Folder:
        """Return the folder of a template's URLs, cut into literal text and the field that follows.

        No field but the repository has a slash in it (see `naming`). UsageError for a bucket's root.
        """
        bucket, _, key = template[0][0].removeprefix("s3://").partition("/")
        folder, slash, _ = key.rpartition("/")
        if not folder or not slash:
            raise UsageError(
                f"'s3://{bucket}/' itself is the folder of an image in the list, and may hold others' objects",
                hint=f"begin its 'to' with a folder of the list's own: s3://{bucket}/FOLDER/…",
            )
        depth = sum(literal.count("/") for literal, _ in template[1:])
        return cls(bucket, f"{folder}/", depth, any(field == "repository" for _, field in template))

    def holds(self, key: str) -> bool:
        """Tell whether a key that begins with the prefix is one that the template may give."""
        depth = key.count("/", len(self.prefix))
        return depth == self.depth or (self.or_deeper and depth > self.depth)

    @property
    def where(self) -> dict[str, Any]:
        """What boto3 calls it."""
        return {"Bucket": self.bucket, "Prefix": self.prefix}

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}"


def strangers(client: S3Client, folder: Folder, known: Container[str], options: S3Options) -> Iterator[S3Url]:
    """Yield the objects in a folder that this program made (see `stamp`), and whose URLs are not `known`."""
    for found in _listed(client, "list_objects_v2", "Contents", folder, options):
        url = S3Url(folder.bucket, found["Key"])
        if str(url) in known or not folder.holds(url.key):
            continue
        held = head(client, url, options)
        if held is not None and is_stamped(held.metadata):
            yield url


def remove(client: S3Client, url: S3Url, options: S3Options) -> None:
    """Delete an object; in a bucket with versions it can be brought back."""
    with _needing("s3:DeleteObject"), translated(url, "delete"):
        client.delete_object(Bucket=url.bucket, Key=url.key, **_owner(options))


def abort_uploads(client: S3Client, folder: Folder, known: Container[str], before: datetime, options: S3Options) -> int:
    """Abort the uploads to `known` URLs in a folder that began `before` then; return how many."""
    count = 0
    for found in _listed(client, "list_multipart_uploads", "Uploads", folder, options):
        url = S3Url(folder.bucket, found["Key"])
        begun = found.get("Initiated")  # a store that does not say has none that are known to be old
        if str(url) in known and begun is not None and begun <= before:
            # Whoever made it may have ended it since.
            with translated(url, "abort an old upload of"), suppress(client.exceptions.NoSuchUpload):
                client.abort_multipart_upload(
                    Bucket=url.bucket, Key=url.key, UploadId=found["UploadId"], **_owner(options)
                )
                count += 1
    return count


def _listed(client: S3Client, operation: Any, name: str, folder: Folder, options: S3Options) -> Iterator[Any]:
    right = "s3:ListBucket" if operation == "list_objects_v2" else "s3:ListBucketMultipartUploads"
    url = S3Url(folder.bucket, folder.prefix)
    with _needing(right), translated(url, "list"):
        pages = list(client.get_paginator(operation).paginate(**folder.where, **_owner(options)))
    if pages[-1].get("IsTruncated"):
        raise endless(url)
    for page in pages:
        yield from (found for found in page.get(name, ()) if "Key" in found)


@contextmanager
def _needing(right: str) -> Iterator[None]:
    """Say what a refusal is about."""
    try:
        yield
    except AuthError as error:
        error.hint = f"the credentials need {right}"
        raise


def _owner(options: S3Options) -> dict[str, Any]:
    owner = options.expected_bucket_owner
    return {} if owner is None else {"ExpectedBucketOwner": owner}
