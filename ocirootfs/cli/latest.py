"""Whether Concourse will find a version in a key, and take it for the latest of those in its bucket."""

from __future__ import annotations

from contextlib import closing
from itertools import chain
from typing import TYPE_CHECKING

from ocirootfs import versions
from ocirootfs.cli import console
from ocirootfs.errors import AuthError, UsageError, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ocirootfs.s3.url import S3Options, S3Url
    from ocirootfs.versions import Folder, KeyRegexp, Outlook


def require(regexp: KeyRegexp, url: S3Url, options: S3Options) -> None:
    """Refuse a key in which no version would be found, and warn of all that keeps it from being the latest."""
    if why := versions.refusal(regexp, url.key):
        raise UsageError(
            f"Concourse would take no version from {url}: {why}",
            hint="--version-as and a name with {version} make another key",
        )
    try:
        _tell(regexp, url.key, _outlook(regexp, url, options))
    except AuthError as error:
        console.warn(f"whether this will be the latest version is not known: {error}")


def _outlook(regexp: KeyRegexp, url: S3Url, options: S3Options) -> Outlook:
    from ocirootfs.s3.client import make_client  # noqa: PLC0415  # boto3 takes longer to load than --help to run
    from ocirootfs.s3.reading import below  # noqa: PLC0415

    with closing(make_client(options)) as client:

        def listed(prefix: str) -> Iterator[Folder]:
            return below(url.bucket, prefix, options, client)

        return versions.outlook(regexp, chain([url.key], regexp.keys(listed)))


def _tell(regexp: KeyRegexp, key: str, found: Outlook) -> None:
    for other, why in found.broken:
        console.warn(f"'{printable(other)}' in the bucket ends Concourse's check of this regexp in a panic: {why}")
    ours = regexp.version(key) or ""
    highest = found.latest[0]
    if key not in found.latest:
        theirs = regexp.version(highest) or ""
        why = versions.reason(ours, theirs)
        console.warn(
            f"Concourse takes version {theirs} ('{printable(highest)}') for the latest, not {ours}"
            f"{f', because {why}' if why else ''}; a task gets this one by 'version: {{path: {key}}}' in its "
            f"image_resource, or by 'regexp: {versions.alone(regexp, key)}'"
        )
    elif len(found.latest) > 1:
        others = ", ".join(f"'{printable(other)}'" for other in found.latest if other != key)
        console.warn(f"version {ours} counts as much as that of {others}: which is the latest is left to chance")
