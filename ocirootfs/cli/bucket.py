"""Options that concern a bucket; the names are those of the aws command line."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ocirootfs.cli import options
from ocirootfs.errors import UsageError, printable

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from ocirootfs.s3.url import S3Options

# Amazon S3 User Guide, "Canned ACL".
_ACLS = (
    "private",
    "public-read",
    "public-read-write",
    "authenticated-read",
    "aws-exec-read",
    "bucket-owner-read",
    "bucket-owner-full-control",
)


def add_to(words: argparse.ArgumentParser) -> None:
    """Add the options."""
    group = words.add_argument_group(
        "S3 (credentials come from boto3's usual places: AWS_ACCESS_KEY_ID, profiles, roles)"
    )
    _add_reaching(group)
    _add_uploading(group)
    _add_storing(words.add_argument_group("S3 object"))


def add_reading_to(words: argparse.ArgumentParser) -> None:
    """Add the options of what only reads."""
    group = words.add_argument_group(
        "S3 (credentials come from boto3's usual places: AWS_ACCESS_KEY_ID, profiles, roles)"
    )
    _add_reaching(group)
    group.add_argument("--ca-file", type=options.named, metavar="FILE", help="trust these certificates too (PEM)")
    group.add_argument("--insecure", action="store_true", help="do not verify TLS certificates")


def _add_reaching(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--endpoint-url", metavar="URL", help="of a store that is not AWS (also AWS_ENDPOINT_URL_S3)")
    group.add_argument("--region", metavar="NAME", help="default: AWS_REGION, the profile's, or us-east-1")
    group.add_argument("--profile", metavar="NAME", help="of boto3's configuration")
    group.add_argument("--role-arn", metavar="ARN", help="assume a role, at STS (also AWS_ENDPOINT_URL_STS)")
    group.add_argument("--no-sign-request", action="store_true", help="do not sign requests")
    group.add_argument("--expected-bucket-owner", metavar="ACCOUNT", help="refuse a bucket of any other account")
    group.add_argument("--s3-addressing", choices=("auto", "path", "virtual"), default="auto", help="default: auto")
    group.add_argument(
        "--s3-checksums",
        choices=("auto", "when-supported", "when-required"),
        default="auto",
        help="default: when-required as soon as an endpoint is given, because many stores refuse boto3's checksums",
    )
    group.add_argument(
        "--s3-retry-for",
        type=options.seconds,
        default=300,
        metavar="S",
        help="longest time to retry a request, seconds (300)",
    )


def _add_uploading(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--part-size", type=options.size, default="8MiB", metavar="SIZE", help="of a multipart upload (8MiB)"
    )
    group.add_argument("--s3-jobs", type=options.whole, default=3, metavar="N", help="parts uploaded at a time (3)")


def _add_storing(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--if-exists",
        choices=("update", "skip", "replace", "fail"),
        help="update: leave an object that holds this image with these options (default); skip: leave any; "
        "replace: do not look; fail: refuse",
    )
    group.add_argument("--content-type", metavar="TYPE", help="default: that of the compression")
    group.add_argument(
        "--sse", choices=("AES256", "aws:kms", "aws:kms:dsse"), nargs="?", const="AES256", help="encrypt at the store"
    )
    group.add_argument("--sse-kms-key-id", metavar="ID", help="with this key")
    group.add_argument("--acl", choices=_ACLS, metavar="NAME", help=f"{', '.join(_ACLS)}; default: none is sent")
    group.add_argument("--storage-class", metavar="NAME", help="default: the bucket's")
    _add_pairs(group, "--s3-metadata", "x-amz-meta-KEY")
    _add_pairs(group, "--s3-tag", "tag the object")


def _add_pairs(group: argparse._ArgumentGroup, name: str, what: str) -> None:
    group.add_argument(name, metavar="KEY=VALUE", action="append", default=[], help=f"{what} (repeat)")


def reading_options(chosen: argparse.Namespace) -> S3Options:
    """Return how to reach the bucket that the options describe."""
    from ocirootfs.s3.url import S3Options  # noqa: PLC0415  # whoever writes a file needs none

    return S3Options(
        endpoint_url=chosen.endpoint_url,
        region=chosen.region,
        profile=chosen.profile,
        role_arn=chosen.role_arn,
        no_sign_request=chosen.no_sign_request,
        expected_bucket_owner=chosen.expected_bucket_owner,
        addressing=chosen.s3_addressing,
        checksums=chosen.s3_checksums,
        ca_file=chosen.ca_file,
        insecure=chosen.insecure,
        retry_for=chosen.s3_retry_for,
    )


def s3_options(chosen: argparse.Namespace, compress: str) -> S3Options:
    """Return how to reach the bucket that the options describe, and how to store an object there."""
    return replace(
        reading_options(chosen),
        part_size=chosen.part_size,
        jobs=chosen.s3_jobs,
        content_type=chosen.content_type or ("application/gzip" if compress == "gzip" else "application/x-tar"),
        sse=chosen.sse,
        sse_kms_key_id=chosen.sse_kms_key_id,
        acl=chosen.acl,
        storage_class=chosen.storage_class,
        tags=_pairs("--s3-tag", chosen.s3_tag),
        metadata=_pairs("--s3-metadata", chosen.s3_metadata),
        if_exists=chosen.if_exists or "update",
    )


def _pairs(option: str, texts: Sequence[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts]
    for name, equals, _ in pairs:
        if not name or not equals:
            raise UsageError(f"{option} '{printable(name)}' is not of the form KEY=VALUE")
    return {name: value for name, _, value in pairs}
