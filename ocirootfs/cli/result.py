"""What a pack has come to, for people and for programs."""

from __future__ import annotations

import json
import logging
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ocirootfs import versions
from ocirootfs.api import require_path
from ocirootfs.destination import FileDestination
from ocirootfs.errors import UsageError, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from ocirootfs.bundle import Report
    from ocirootfs.image import Image
    from ocirootfs.packing import Packed
    from ocirootfs.s3.url import S3Options, S3Url


@contextmanager
def kept_in(path: str | None) -> Iterator[Callable[[str], None]]:
    """Give what writes a result into a file, which is opened at once and there only if all went well."""
    if path is None:
        yield lambda _: None
        return
    if path in ("", "-") or path.startswith("s3:"):
        raise UsageError(f"--result '{printable(path)}' names no file", hint="a path; --json prints the same")
    require_path(path)
    destination = FileDestination(path)
    try:
        yield lambda text: destination.write(f"{text}\n".encode())
        destination.commit()
    except BaseException:
        destination.abort()
        raise


@contextmanager
def warnings_heard() -> Iterator[Mapping[str, None]]:
    """Give what is warned of from now on, each warning once, in order."""
    heard: dict[str, None] = {}
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: heard.update({printable(record.getMessage(), 1000): None})  # type: ignore[method-assign]
    logger = logging.getLogger("ocirootfs")
    logger.addHandler(handler)
    try:
        yield heard
    finally:
        logger.removeHandler(handler)


def as_json(image: Image, packed: Packed, known: Sequence[str], warnings: Iterable[str]) -> str:
    """Return the result as one line of JSON; `known` are texts that may be the version in a key."""
    return json.dumps({**facts(image, packed, known), "warnings": list(warnings)})


def facts(image: Image, packed: Packed, known: Sequence[str]) -> dict[str, object]:
    """Return what is known of an archive, by name."""
    stored, report = packed.stored, packed.report
    found = _pattern(stored.location, known)
    return {
        "image": str(image.reference) if image.reference else None,
        "digest": str(packed.digest) if packed.digest else None,
        "platform": str(image.config.platform),
        "destination": stored.location,
        "size": stored.size,
        "sha256": stored.sha256 or None,
        "etag": stored.etag,
        "version_id": stored.version_id,
        "concourse_version": found.version if found else None,
        "layers": len(image.layers),
        "layers_size": sum(layer.size for layer in image.layers),
        "entries": report.entries,
        "skipped": packed.skipped,
        "devices": _texts(report.devices),
        "capabilities": _texts(report.capabilities),
        "high_ids": _texts(report.high_ids),
    }


def _texts(paths: Sequence[bytes]) -> list[str]:
    return [path.decode("utf-8", "backslashreplace") for path in paths]


def losses(report: Report) -> str:
    """Say what an image had that its archive has not, or that its reader may not have; nothing if all is there."""
    found = (
        ("device nodes left out", report.devices),
        ("files that lose their capabilities, which no reader of this layout restores", report.capabilities),
        ("entries of an id over 65534, which some workers cannot map", report.high_ids),
    )
    return "; ".join(f"{what}: {len(paths)} ({_first(paths)})" for what, paths in found if paths)


def _first(paths: Sequence[bytes]) -> str:
    return f"'{printable(paths[0], 80)}'" + (", …" if len(paths) > 1 else "")


def concourse_line(location: str, known: Sequence[str]) -> tuple[str, str | None]:
    """Say which version Concourse will see of an object, and what is wrong with that, if anything is."""
    found = _pattern(location, known)
    if found is None:
        return f"Concourse sees no version in this name: use 'versioned_file: {url(location).key}'", None
    return f"Concourse sees version {found.version} with 'regexp: {found.regexp}'", versions.fault(found.version)


def image_resource(location: str, options: S3Options, known: Sequence[str]) -> str:
    """Return the YAML that makes a Concourse task run in the archive."""
    place = url(location)
    found = _pattern(location, known)
    source = {
        "bucket": place.bucket,
        "regexp" if found else "versioned_file": found.regexp if found else place.key,
        "endpoint": endpoint(options, os.environ),
        "region_name": options.region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"),
        "access_key_id": "((s3.key))",
        "secret_access_key": "((s3.secret))",
    }
    lines = [f"    {name}: {_scalar(value)}" for name, value in source.items() if value]
    if source["endpoint"] and options.addressing != "virtual":
        lines.append("    use_path_style: true")  # the resource would look for the bucket in the host's name
    return "\n".join(["image_resource:", "  type: s3", "  source:", *lines, "  params: {unpack: true}"])


def endpoint(options: S3Options, environment: Mapping[str, str]) -> str | None:
    """Return the URL of a store that is not AWS, if the options or boto3's variables name one."""
    if options.endpoint_url or environment.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true":
        return options.endpoint_url
    return environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL") or None


def _scalar(text: str) -> str:
    """Quote what YAML would not take for a plain string: single quotes, in which nothing but they is special."""
    return "'" + text.replace("'", "''") + "'"


def _pattern(location: str, known: Sequence[str]) -> versions.Pattern | None:
    return versions.pattern(url(location).key, known) if location.startswith("s3://") else None


def url(location: str) -> S3Url:
    """Return the parts of an object's URL; UsageError if it is none."""
    from ocirootfs.s3.url import S3Url  # noqa: PLC0415  # whoever writes a file needs none

    return S3Url.parse(location)
