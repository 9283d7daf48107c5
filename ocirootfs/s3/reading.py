"""What is in a bucket: one object as a stream, and the names below a prefix."""

from __future__ import annotations

from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from ocirootfs.s3.client import endless, make_client, translated
from ocirootfs.s3.url import S3Url
from ocirootfs.versions import Folder

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from mypy_boto3_s3 import S3Client

    from ocirootfs.s3.url import S3Options

_CHUNK = 1 << 18


def content(url: S3Url, options: S3Options, client: S3Client | None = None) -> Generator[bytes]:
    """Yield an object's bytes as they arrive.

    Raises the errors of `client.translated`: NotFoundError where there is none, TemporaryError for a body that is cut.
    """
    with (
        _client(options, client) as ours,
        translated(url, "read", needs="s3:GetObject for this key"),
        closing(ours.get_object(Bucket=url.bucket, Key=url.key, **_owner(options))["Body"]) as body,
    ):
        while chunk := body.read(_CHUNK):
            yield chunk


def below(bucket: str, prefix: str, options: S3Options, client: S3Client, *, page: int = 1000) -> Iterator[Folder]:
    """Yield what is directly below a prefix, `page` names a request.

    Raises the errors of `client.translated`, and NoStoreError for a listing without an end.
    """
    url = S3Url(bucket, prefix)
    more: dict[str, Any] = {**_owner(options), "MaxKeys": page}
    asked: set[str] = set()
    while True:
        with translated(url, "list", needs="s3:ListBucket for this bucket"):
            answer = client.list_objects_v2(Bucket=bucket, Prefix=prefix, Delimiter="/", **more)
            found = [Folder(each["Prefix"], has_more=True) for each in answer.get("CommonPrefixes", [])]
            found += [Folder(each["Key"], has_more=False) for each in answer.get("Contents", [])]
            token = answer["NextContinuationToken"] if answer.get("IsTruncated") else None
        yield from found
        if token is None:
            return
        if token in asked:
            raise endless(url)
        asked.add(token)
        more["ContinuationToken"] = token


@contextmanager
def _client(options: S3Options, client: S3Client | None) -> Iterator[S3Client]:
    if client is not None:
        yield client
        return
    with closing(make_client(options)) as ours:
        yield ours


def _owner(options: S3Options) -> dict[str, Any]:
    return {} if options.expected_bucket_owner is None else {"ExpectedBucketOwner": options.expected_bucket_owner}
