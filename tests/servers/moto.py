"""An S3 endpoint within this process: quick, and lenient (it accepts any secret and any checksum)."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from moto.server import ThreadedMotoServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_s3 import S3Client


@dataclass(frozen=True)
class S3Endpoint:
    """Where a test's bucket is, and a plain boto3 client to look into it with."""

    endpoint: str
    client: S3Client
    bucket: str

    def keys(self) -> list[str]:
        """List the objects."""
        return [found["Key"] for found in self.client.list_objects_v2(Bucket=self.bucket).get("Contents", [])]

    def uploads(self) -> list[str]:
        """List the keys that multipart uploads are under way for."""
        found = self.client.list_multipart_uploads(Bucket=self.bucket).get("Uploads", [])
        return [upload["Key"] for upload in found]

    def body(self, key: str) -> bytes:
        """Download an object."""
        with self.client.get_object(Bucket=self.bucket, Key=key)["Body"] as stream:
            return stream.read()


@contextmanager
def endpoint(url: str, bucket: str, *, key: str = "testing", secret: str = "testing") -> Iterator[S3Endpoint]:
    """Make `bucket` at the S3 service behind `url`."""
    client = boto3.client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        config=Config(retries={"total_max_attempts": 6, "mode": "standard"}),
    )
    try:
        client.create_bucket(Bucket=bucket)
        yield S3Endpoint(url, client, bucket)
    finally:
        client.close()


@contextmanager
def moto_server() -> Iterator[str]:
    """Run moto on a free port of 127.0.0.1; gives its URL."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()
