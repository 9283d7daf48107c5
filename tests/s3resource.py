"""What Concourse's S3 resource does, told by its source and by measurements of it, and with nothing of the package.

`check` lists a bucket and orders what matches; `get` downloads, sniffs, and has a `Worker`'s `gunzip` and `tar` do the
rest, in its user namespace.
"""

from __future__ import annotations

import contextlib
import fnmatch
import functools
import re
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import boto3
from botocore.config import Config

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from mypy_boto3_s3 import S3Client

    from tests.worker import Worker

_SPECIAL = set("\\*.[](){}?|^$+")
_VERSION = re.compile(r"([0-9A-Za-z_.]+)(?:-([0-9A-Za-z_.-]+))?(?:\+([0-9A-Za-z_.-]+))?", re.ASCII)
_LARGEST = 2**63 - 1


class ResourceError(Exception):
    """The resource fails, and so does the build."""


# Versions and their order


def compared(one: str, other: str) -> int:
    """Compare two versions: below 0 if `one` is older, 0 if they are the same, above if it is newer."""
    return _compared_segments(_segments(one), _segments(other))


def _segments(version: str) -> tuple[list[int | str], list[int | str] | None, list[int | str] | None]:
    found = _VERSION.fullmatch(version)
    if not found:
        raise ResourceError(f"panic: version number was not valid: {version}")
    release, pre, post = found.groups()
    return _components(release), _components(pre) if pre else None, _components(post) if post else None


def _components(segment: str) -> list[int | str]:
    """Cut a segment at its dots; a number has no leading zero, all else is a word."""
    found: list[int | str] = []
    for text in segment.split("."):
        if not text or (text.isdigit() and int(text) > _LARGEST):
            raise ResourceError(f"panic: version number was not valid: {segment}")
        found.append(int(text) if text == "0" or (text.isdigit() and not text.startswith("0")) else text)
    return found


def _compared_segments(one: tuple[Any, Any, Any], other: tuple[Any, Any, Any]) -> int:
    """Compare by release, then by pre-release, where none is newest, then by post-release, where none is oldest."""
    for mine, yours, alone in zip(one, other, (0, 1, -1), strict=True):
        if mine is None or yours is None:
            order = 0 if mine is yours else alone if mine is None else -alone
        else:
            order = _compared_components(mine, yours)
        if order:
            return order
    return 0


def _compared_components(mine: list[int | str], yours: list[int | str]) -> int:
    """Compare part by part: a missing one is 0, numbers by size, words byte by byte, and any word is above numbers."""
    for place in range(max(len(mine), len(yours))):
        one, other = (each[place] if place < len(each) else 0 for each in (mine, yours))
        ours, theirs = ((isinstance(part, str), part) for part in (one, other))
        if ours != theirs:
            return -1 if ours < theirs else 1  # words are compared with words only
    return 0


def version_in(key: str, regexp: str) -> str | None:
    """Return the version that a key has, None if it does not match: section by section, none of which spans a slash."""
    sections, parts = regexp.split("/"), key.split("/")
    if len(sections) != len(parts) or not all(map(re.fullmatch, sections, parts)):
        return None
    found = re.fullmatch(regexp, key)
    if found is None:
        return None
    return found["version"] if "version" in found.re.groupindex else found[1]


# The bucket


@contextmanager
def client(source: Mapping[str, Any]) -> Iterator[S3Client]:
    """Open a connection as a resource's source describes it."""
    style: Literal["path", "virtual"] = "path" if source.get("endpoint") and source.get("use_path_style") else "virtual"
    made = boto3.client(
        "s3",
        endpoint_url=source.get("endpoint"),
        region_name=source.get("region_name", "us-east-1"),
        aws_access_key_id=source["access_key_id"],
        aws_secret_access_key=source["secret_access_key"],
        config=Config(s3={"addressing_style": style}),
    )
    with contextlib.closing(made):
        yield made


def check(source: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return all versions, oldest first."""
    plain = []
    for section in source["regexp"].split("/")[:-1]:
        if _SPECIAL & set(section):
            break
        plain.append(section + "/")
    with client(source) as s3:
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=source["bucket"], Prefix="".join(plain))
        keys = [found["Key"] for page in pages for found in page.get("Contents", ())]
    versions = {key: version for key in keys if (version := version_in(key, source["regexp"])) is not None}
    by_version = functools.cmp_to_key(compared)
    return [{"path": key} for key in sorted(versions, key=lambda key: by_version(versions[key]))]


def latest(source: Mapping[str, Any]) -> dict[str, str]:
    """Return the newest version."""
    versions = check(source)
    if not versions:
        raise ResourceError("no versions of the resource")
    return versions[-1]


def get(
    worker: Worker, source: Mapping[str, Any], version: Mapping[str, str], params: Mapping[str, Any], place: Path
) -> None:
    """Put an object into an empty directory, unpacked if that is asked for."""
    key = version["path"]
    number = version_in(key, source["regexp"])
    if number is None:
        raise ResourceError("regex does not match provided version")
    file = place / key.rpartition("/")[2]
    with client(source) as s3, s3.get_object(Bucket=source["bucket"], Key=key)["Body"] as body, file.open("wb") as out:
        shutil.copyfileobj(body, out, 1 << 20)
    worker.give(file)
    if params.get("unpack"):
        _unpack(worker, file, place)
    endpoint = source["endpoint"].rstrip("/")
    for name, content in (
        ("url", f"{endpoint}/{source['bucket']}/{key}"),
        ("s3_uri", f"s3://{source['bucket']}/{key}"),
        ("version", number),
    ):
        (place / name).write_text(content)


def _unpack(worker: Worker, file: Path, place: Path) -> None:
    kind = _sniffed(file)
    if kind == "gzip":
        worker.command(worker.programs.gunzip, str(file))
        files = list(place.iterdir())
        if len(files) != 1:
            raise ResourceError(f"{len(files)} files found after gzip decompression; expected 1")
        file = files[0]
        kind = _sniffed(file)
        if kind is None:
            return  # it stays a file, and the build goes on
    if kind != "tar":
        raise ResourceError(f"not an archive: {file}")
    worker.command(worker.programs.tar, "xf", str(file), "-C", str(place))
    file.unlink()


def _sniffed(file: Path) -> str | None:
    with file.open("rb") as opened:
        head = opened.read(512)
    if head.startswith(b"\x1f\x8b\x08"):
        return "gzip"
    return "tar" if head[257:262] == b"ustar" else None


def put(source: Mapping[str, Any], params: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Upload the one file that a pattern matches, to the directory of the regular expression; gives the version."""
    names = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    found = [path for path in names if fnmatch.fnmatchcase(str(path.relative_to(folder)), params["file"])]
    if len(found) != 1:
        raise ResourceError(f"{len(found)} files match {params['file']}")
    key = source["regexp"].rpartition("/")[0] + "/" + found[0].name
    if version_in(key, source["regexp"]) is None:
        raise ResourceError(f"{key} does not match {source['regexp']}")
    with client(source) as s3:
        s3.upload_file(str(found[0]), source["bucket"], key)
    return {"path": key}
