"""Finding an image in an archive of `docker save`, of podman or of skopeo (`docker-archive:`).

Three generations are about. Until 24, docker wrote a directory a layer, a layer that two images share as a link to the
other; skopeo and podman write flat files and such links; since 25, docker writes an OCI layout with a `manifest.json`
beside it. In all of them `manifest.json` lists the images, and the config's diff IDs are what proves the layers.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ocirootfs import strictjson
from ocirootfs.archive.members import document
from ocirootfs.archive.ocilayout import parsed
from ocirootfs.digest import Digest, verified
from ocirootfs.errors import InputError, NotFoundError, UsageError, printable
from ocirootfs.image import Image, Layer
from ocirootfs.manifest import Config, parse_config, require_few
from ocirootfs.platform import Platform, rank

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ocirootfs.archive.members import Members
    from ocirootfs.strictjson import Json

_BLOB = re.compile(r"blobs/(sha256|sha384|sha512)/([a-f0-9]+)", re.ASCII)
_CONFIG = re.compile(r"([a-f0-9]{64})\.json", re.ASCII)


def find(members: Members, name: str | None, platform: Platform | None) -> Image | None:
    """Return the image called `name` in an archive, the only one if None; None if `members` are no such archive.

    Raises InputError for a broken archive, NotFoundError for a name or platform that is not there, UsageError if
    there are several images to choose from.
    """
    raw = document(members, "manifest.json")
    if raw is None:
        return None
    what, limits = f"{members.what}: manifest.json", members.limits
    listed = strictjson.as_list(strictjson.load(raw, what, limits.json_depth), what)
    require_few(listed, "manifests", what, limits)
    images = [strictjson.as_object(each, what, ("Config", "Layers", "RepoTags")) for each in listed]
    found = _named(images, name, members.what)
    config = _config(members, strictjson.as_string(found.get("Config"), f"{what}: Config"))
    _require(platform, config, members.what)
    require_few(strictjson.as_list(found.get("Layers"), f"{what}: Layers"), "Layers", what, limits)
    paths = strictjson.as_strings(found.get("Layers"), f"{what}: Layers")
    if len(paths) != len(config.diff_ids):
        raise InputError(f"{what}: it lists {len(paths)} layers, but the config {len(config.diff_ids)} diff IDs")
    pairs = enumerate(zip(paths, config.diff_ids, strict=True), 1)
    layers = tuple(_layer(members, number, path, diff_id) for number, (path, diff_id) in pairs)
    tags = _tags(found)
    reference = parsed(name or tags[0]) if name or tags else None
    return Image(config, layers, None, reference, members.finish, limits=limits)


def _tags(image: dict[str, Json]) -> tuple[str, ...]:
    return strictjson.as_strings(image.get("RepoTags"), "manifest.json: RepoTags")


def _named(images: list[dict[str, Json]], name: str | None, what: str) -> dict[str, Json]:
    if not images:
        raise InputError(f"{what}: it holds no image")
    if name is None and len(images) == 1:
        return images[0]
    all_tags = [tag for image in images for tag in _tags(image)]
    holdings = "it holds " + (", ".join(printable(tag, 80) for tag in all_tags) or "images without names")
    if name is None:
        raise UsageError(f"{what}: it holds {len(images)} images, so one must be named", hint=holdings)
    wanted = parsed(name)
    for image in images:
        if any(tag == name or (wanted and parsed(tag) == wanted) for tag in _tags(image)):
            return image
    raise NotFoundError(f"{what}: it holds no image called '{printable(name)}'", hint=holdings)


def _config(members: Members, path: str) -> Config:
    raw = document(members, path)
    if raw is None:
        raise InputError(f"{members.what}: the image's config '{printable(path)}' is not in it")
    what = f"{members.what}: config {printable(path)}"
    named = _CONFIG.fullmatch(path)
    digest = Digest("sha256", named[1]) if named else _blob_digest(path)
    if digest is not None:
        raw = b"".join(verified((raw,), digest, None, what))
    return parse_config(raw, what, members.limits)


def _blob_digest(path: str) -> Digest | None:
    named = _BLOB.fullmatch(path)
    return Digest.parse(f"{named[1]}:{named[2]}") if named else None


def _require(platform: Platform | None, config: Config, what: str) -> None:
    if platform is not None and rank(platform, config.platform) is None:
        raise NotFoundError(f"{what}: no image for {platform}; available: {config.platform}")


def _layer(members: Members, number: int, path: str, diff_id: Digest) -> Layer:
    size = members.size(path)
    if size is None:
        raise InputError(f"{members.what}: layer {number}, '{printable(path)}', is not in it")
    return Layer(number, diff_id, size, _blob_digest(path), "", _opener(members, path), members.limits.window)


def _opener(members: Members, path: str) -> Callable[[], Iterable[bytes]]:
    return lambda: members.open(path)
