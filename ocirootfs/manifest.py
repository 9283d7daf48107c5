"""Manifests, indexes and configs: the JSON documents that make up an image.

Sources: OCI image-spec, manifest.md, image-index.md, config.md, descriptor.md; Docker's image manifest version 2,
schema 2, which has the same members under other media types. What an attacker could have two programs read
differently is refused (CVE-2021-41190: one digest, an index to one and an image to the other).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections import deque
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from ocirootfs import strictjson
from ocirootfs.digest import Descriptor, Digest, verified
from ocirootfs.errors import ArtifactError, InputError, NotFoundError, printable
from ocirootfs.limits import USUAL, Limits, raising
from ocirootfs.platform import Platform, rank
from ocirootfs.strictjson import as_list, as_object, as_string, as_string_map, as_strings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ocirootfs.strictjson import Json

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
MANIFEST_TYPES = (OCI_INDEX, DOCKER_LIST, OCI_MANIFEST, DOCKER_MANIFEST)

_INDEX_TYPES = frozenset([OCI_INDEX, DOCKER_LIST])
_IMAGE_TYPES = frozenset([OCI_MANIFEST, DOCKER_MANIFEST])
_SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+"
# Some builders leave the config's type vague; the config itself is checked when it is read.
_CONFIG_TYPES = frozenset([OCI_CONFIG, DOCKER_CONFIG, "", "application/octet-stream"])
_LAYER_TYPE = re.compile(r".*[./+-]tar(?:[.+-](?:gzip|zstd|bzip2|xz))?", re.ASCII)
_ATTESTATION = "vnd.docker.reference.type"
_SIZE_LIMIT = 1 << 63

# What is read of each kind of object.
_PLATFORM = ("os", "architecture", "variant", "os.version")
_DESCRIPTOR = ("mediaType", "digest", "size", "platform", "annotations", "artifactType", "urls", "data")
_MANIFEST = (
    "schemaVersion", "mediaType", "artifactType", "config", "layers", "manifests", "blobs", "annotations", "fsLayers",
)  # fmt: skip
_CONFIG = (*_PLATFORM, "created", "config", "rootfs")
_CONTAINER = ("Env", "User", "Entrypoint", "Cmd", "Labels")


@dataclass(frozen=True)
class Manifest:
    """An image manifest. `raw` is what its digest covers; `layers` run from the bottom to the top."""

    raw: bytes = field(repr=False)
    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def digest(self) -> Digest:
        """The sha256 of `raw`: the image's name."""
        return Digest.of(self.raw)


@dataclass(frozen=True)
class Index:
    """An image index or a Docker manifest list: one manifest a platform, or more, or other things."""

    raw: bytes = field(repr=False)
    media_type: str
    manifests: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def digest(self) -> Digest:
        """The sha256 of `raw`."""
        return Digest.of(self.raw)


@dataclass(frozen=True, slots=True)
class Config:
    """An image's configuration; `diff_ids` run from the bottom to the top.

    `entrypoint` and `cmd` are None where the image sets none, which is not the same as empty.
    """

    raw: bytes = field(repr=False)
    platform: Platform
    created: str | None
    env: tuple[str, ...]
    user: str
    entrypoint: tuple[str, ...] | None
    cmd: tuple[str, ...] | None
    labels: Mapping[str, str]
    diff_ids: tuple[Digest, ...]


def parse_manifest(raw: bytes, media_type: str | None, what: str, limits: Limits = USUAL) -> Manifest | Index:
    """Read a manifest or an index, whichever `raw` is; `what` names it in errors.

    `media_type` is what the server or the descriptor said. The document's own `mediaType` comes first, then that,
    then its structure; if they disagree about manifest or index it is an InputError, as are Docker's schema 1 and
    artifacts that are no images.
    """
    if len(raw) > limits.document:
        raise InputError(f"{what}: larger than {limits.document} bytes", hint=raising("document"))
    document = as_object(strictjson.load(raw, what, limits.json_depth), what, _MANIFEST)
    own = as_string(document.get("mediaType"), f"{what}: mediaType")
    said = (media_type or "").partition(";")[0].strip().lower()
    _refuse_schema1(document, own or said, what)
    kind = _structure(document, what)
    for claimed in (own, said):
        if _kind(claimed) not in {kind, None}:
            raise InputError(f"{what}: an {kind} that calls itself {printable(claimed, 80)}")
    if own and _kind(own) is None:
        raise _not_an_image(own, what)
    known = own or (said if _kind(said) else "")
    annotations = as_string_map(document.get("annotations"), f"{what}: annotations")
    if kind == "index":
        return Index(raw, known or OCI_INDEX, _descriptors(document, "manifests", what, limits), annotations)
    config, layers = _parts(document, what, limits)
    return Manifest(raw, known or OCI_MANIFEST, config, layers, annotations)


def parse_config(raw: bytes, what: str, limits: Limits = USUAL) -> Config:
    """Read an image's config blob; null stands for an empty list, as Go writes it. Raises InputError."""
    document = as_object(strictjson.load(raw, what, limits.json_depth), what, _CONFIG)
    rootfs = as_object(document.get("rootfs"), f"{what}: rootfs", ("type", "diff_ids"))
    if rootfs.get("type") != "layers":  # config.md: "MUST be set to layers"
        raise InputError(f"{what}: its rootfs is not made of layers")
    diff_ids = as_list(rootfs.get("diff_ids"), f"{what}: rootfs.diff_ids")
    container = as_object({} if document.get("config") is None else document["config"], f"{what}: config", _CONTAINER)
    return Config(
        raw=raw,
        platform=_platform(document, what) or Platform("linux", "unknown"),
        created=as_string(document.get("created"), f"{what}: created") or None,
        env=as_strings(container.get("Env"), f"{what}: config.Env"),
        user=as_string(container.get("User"), f"{what}: config.User"),
        entrypoint=_command(container.get("Entrypoint"), f"{what}: config.Entrypoint"),
        cmd=_command(container.get("Cmd"), f"{what}: config.Cmd"),
        labels=as_string_map(container.get("Labels"), f"{what}: config.Labels"),
        diff_ids=tuple(_digest(item, f"{what}: rootfs.diff_ids[{n}]") for n, item in enumerate(diff_ids)),
    )


def candidates(index: Index, platform: Platform) -> tuple[Descriptor, ...]:
    """Return the entries that may serve `platform`, best first; of equals, the first listed (image-index.md).

    Entries that do not say their platform come last: nested indexes, and images whose config must be asked.
    Attestations and artifacts are none.
    """
    ranked = []
    for entry in filter(is_image, index.manifests):
        score = rank(platform, entry.platform) if entry.platform else (9,)
        if score is not None:
            ranked.append((score, entry))
    return tuple(entry for _, entry in sorted(ranked, key=lambda pair: pair[0]))


def select(index: Index, platform: Platform, what: str) -> Descriptor:
    """Return the entry of `index` that serves `platform` best; NotFoundError, listing what there is, if none does."""
    found = candidates(index, platform)
    if not found:
        raise no_platform(index, platform, what)
    return found[0]


def no_platform(index: Index, platform: Platform, what: str, nested: Iterable[Index] = ()) -> NotFoundError:
    """Return the error that lists the platforms which `index` does have, and the `nested` ones in it."""
    entries = [entry for each in (index, *nested) for entry in filter(is_image, each.manifests)]
    there = list(dict.fromkeys(str(entry.platform) for entry in entries if entry.platform))
    if not there:
        return NotFoundError(f"{what}: no image for {platform}; the index names no platform at all")
    shown = ", ".join(there[:20]) + (", …" if len(there) > 20 else "")
    return NotFoundError(f"{what}: no image for {platform}; available: {shown}", hint="choose one with --platform")


def is_image(entry: Descriptor) -> bool:
    """Tell images and indexes from BuildKit's attestations, referrers' artifacts and media types yet to come."""
    if _ATTESTATION in entry.annotations or _kind(entry.media_type) is None:
        return False
    if entry.artifact_type and entry.artifact_type not in _CONFIG_TYPES:  # an image's is the type of its config
        return False
    return entry.platform is None or (entry.platform.os, entry.platform.architecture) != ("unknown", "unknown")


def parse_descriptor(value: Json, what: str) -> Descriptor:
    """Read a descriptor (descriptor.md), and prove `data` if it is there."""
    fields = as_object(value, what, _DESCRIPTOR)
    data = as_string(fields.get("data"), f"{what}.data") if "data" in fields else None
    platform = fields.get("platform")
    found = Descriptor(
        media_type=as_string(fields.get("mediaType"), f"{what}.mediaType"),
        digest=_digest(fields.get("digest"), f"{what}.digest"),
        size=_size(fields.get("size"), f"{what}.size"),
        platform=None if platform is None else _platform(as_object(platform, f"{what}.platform", _PLATFORM), what),
        annotations=as_string_map(fields.get("annotations"), f"{what}.annotations"),
        artifact_type=as_string(fields.get("artifactType"), f"{what}.artifactType") or None,
        urls=as_strings(fields.get("urls"), f"{what}.urls"),
        data=None if data is None else _base64(data, f"{what}.data"),
    )
    if found.data is not None:  # descriptor.md: implementations "SHOULD verify" it
        deque(verified([found.data], found.digest, found.size, f"{what}.data"), maxlen=0)
    return found


def parts(raw: bytes, what: str, limits: Limits = USUAL) -> tuple[Descriptor, ...]:
    """Return all blobs that a manifest of any kind refers to: its config and its layers, or its blobs."""
    document = as_object(strictjson.load(raw, what, limits.json_depth), what, _MANIFEST)
    config = [] if document.get("config") is None else [parse_descriptor(document["config"], f"{what}: config")]
    return (*config, *_descriptors(document, "layers", what, limits), *_descriptors(document, "blobs", what, limits))


def _parts(document: dict[str, Json], what: str, limits: Limits) -> tuple[Descriptor, tuple[Descriptor, ...]]:
    """Read an image's config and layers, and refuse what only looks like an image."""
    config = parse_descriptor(document.get("config"), f"{what}: config")
    artifact = as_string(document.get("artifactType"), f"{what}: artifactType")
    if config.media_type not in _CONFIG_TYPES:
        raise _not_an_image(artifact or config.media_type, what)
    layers = _descriptors(document, "layers", what, limits)
    for number, layer in enumerate(layers, 1):
        if layer.media_type.endswith("+encrypted"):
            raise InputError(f"{what}: layer {number} is encrypted")
        if not _LAYER_TYPE.fullmatch(layer.media_type):
            raise _not_an_image(layer.media_type, what)
    if config.size > limits.document:
        raise InputError(f"{what}: the config is larger than {limits.document} bytes", hint=raising("document"))
    return config, layers


def _descriptors(document: dict[str, Json], name: str, what: str, limits: Limits) -> tuple[Descriptor, ...]:
    items = as_list(document.get(name), f"{what}: {name}")
    require_few(items, name, what, limits)
    found = tuple(parse_descriptor(item, f"{what}: {name}[{n}]") for n, item in enumerate(items))
    sizes: dict[Digest, int] = {}
    for entry in found:
        if sizes.setdefault(entry.digest, entry.size) != entry.size:
            raise InputError(f"{what}: {entry.digest} is listed with two sizes")
    return found


def require_few(items: list[Json], name: str, what: str, limits: Limits) -> None:
    """Refuse a list of more layers, blobs or manifests than a document may have."""
    limit = "manifests" if name == "manifests" else "layers"
    most: int = getattr(limits, limit)
    if len(items) > most:
        raise InputError(f"{what}: {name} has more than {most} entries", hint=raising(limit))


def _structure(document: dict[str, Json], what: str) -> str:
    image = any(document.get(name) is not None for name in ("config", "layers"))
    index = document.get("manifests") is not None
    if image and index:
        raise InputError(f"{what}: it could be read as an image and as an index, which is refused")
    if image or _kind(as_string(document.get("mediaType"), what)) == "image":
        return "image"
    if index or "manifests" in document:
        return "index"
    raise InputError(f"{what}: neither an image manifest nor an index")


def _kind(media_type: str) -> str | None:
    if media_type in _INDEX_TYPES:
        return "index"
    return "image" if media_type in _IMAGE_TYPES else None


def _refuse_schema1(document: dict[str, Json], media_type: str, what: str) -> None:
    version = document.get("schemaVersion")
    if "fsLayers" in document or version == 1 or media_type.startswith(_SCHEMA1):
        raise InputError(
            f"{what}: the image is in Docker's obsolete schema 1 format",
            hint="convert it: skopeo copy --format v2s2 docker://OLD docker://NEW",
        )
    if version != 2 or isinstance(version, bool | float):
        raise InputError(f"{what}: not a manifest: its schemaVersion is not 2")


def _not_an_image(media_type: str, what: str) -> ArtifactError:
    return ArtifactError(f"{what}: not a container image but an artifact of type '{printable(media_type, 100)}'")


def _platform(fields: dict[str, Json], what: str) -> Platform | None:
    os, architecture, variant, version = (as_string(fields.get(name), f"{what}: {name}") for name in _PLATFORM)
    if not architecture:
        return None
    return Platform.of(os or "linux", architecture, variant, version)


def _command(value: Json, what: str) -> tuple[str, ...] | None:
    if value is None:
        return None
    if isinstance(value, str):  # docker's strslice reads a bare string as a list of one
        return (value,)
    return as_strings(value, what)


def _digest(value: Json, what: str) -> Digest:
    try:
        return Digest.parse(value)
    except InputError as error:
        raise InputError(f"{what}: {error}") from None


def _size(value: Json, what: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _SIZE_LIMIT:
        raise InputError(f"{what}: not a size in bytes")
    return value


def _base64(text: str, what: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InputError(f"{what}: not base64") from None
