"""Finding an image in an OCI image layout, be it a directory, a file or a stream (image-spec, image-layout.md)."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from ocirootfs.archive.members import StreamMembers, document
from ocirootfs.digest import Descriptor, Digest, verified
from ocirootfs.errors import (
    ArtifactError,
    InputError,
    NotFoundError,
    OcirootfsError,
    TruncatedError,
    UsageError,
    printable,
)
from ocirootfs.image import Image, Layer, assemble
from ocirootfs.limits import raising
from ocirootfs.manifest import (
    OCI_INDEX,
    Config,
    Index,
    Manifest,
    candidates,
    is_image,
    no_platform,
    parse_config,
    parse_manifest,
)
from ocirootfs.platform import Platform, rank
from ocirootfs.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ocirootfs.archive.members import Members

REF_NAME = "org.opencontainers.image.ref.name"
"""An entry's tag (image-spec), or its whole name (skopeo)."""
IMAGE_NAME = "io.containerd.image.name"
"""An entry's whole name, as containerd and docker write it."""


def blob_path(digest: Digest) -> str:
    """Return where a layout keeps a blob."""
    return f"blobs/{digest.algorithm}/{digest.hex}"


def find(members: Members, name: str | None, platform: Platform | None) -> Image | None:
    """Return the image called `name` in a layout, the only one if None; None if `members` are no layout at all.

    `platform` chooses among several images of one name, by default this machine's; an image that stands alone is taken
    as it is unless a platform is asked for. Raises InputError for a broken layout, NotFoundError for a name or platform
    that is not there, UsageError if there are several names to choose from.
    """
    raw = document(members, "index.json")
    if raw is None:
        return None
    index = parse_manifest(raw, OCI_INDEX, f"{members.what}: index.json", members.limits)
    if not isinstance(index, Index):
        raise InputError(f"{members.what}: index.json is not an index")
    entries = _named([entry for entry in index.manifests if is_image(entry)], name, members.what)
    search = _Search(members, platform)
    manifest, config, reference = search.among(entries)
    image = assemble(manifest, config, lambda found: members.open(blob_path(found.digest)), reference, members.limits)
    image = replace(image, index=search.index)
    if isinstance(members, StreamMembers):
        counts = Counter(layer.digest for layer in manifest.layers)
        members.wanted = frozenset(blob_path(layer.digest) for layer in manifest.layers)
        members.repeated = frozenset(blob_path(digest) for digest, count in counts.items() if count > 1)
        image = _streamed(image, members)
    return replace(image, finish=members.finish)


def _named(entries: Sequence[Descriptor], name: str | None, what: str) -> Sequence[Descriptor]:
    """Choose the entries of one name: the one asked for, or the one there is."""
    if not entries:
        raise InputError(f"{what}: it holds no image")
    if name is not None:
        found = [entry for entry in entries if _is_called(entry, name)]
        if not found:
            raise NotFoundError(f"{what}: it holds no image called '{printable(name)}'", hint=_holdings(entries))
        if len({_label(entry) for entry in found}) > 1:
            raise UsageError(f"{what}: several images are called '{printable(name)}'", hint=_holdings(found))
        return found
    if len({_label(entry) for entry in entries}) > 1:
        raise UsageError(f"{what}: it holds {len(entries)} images, so one must be named", hint=_holdings(entries))
    return entries


def _label(entry: Descriptor) -> str:
    return entry.annotations.get(IMAGE_NAME) or entry.annotations.get(REF_NAME) or ""


def _holdings(entries: Iterable[Descriptor]) -> str:
    return "it holds " + ", ".join(printable(_label(entry) or str(entry.digest), 80) for entry in entries)


def _is_called(entry: Descriptor, name: str) -> bool:
    labels = [entry.annotations.get(REF_NAME), entry.annotations.get(IMAGE_NAME)]
    if name in labels:
        return True
    wanted = parsed(name)
    return wanted is not None and any(label and parsed(label) == wanted for label in labels)


def parsed(name: str) -> Reference | None:
    """Return the reference that somebody's annotation or repository tag spells, None if it is none."""
    try:
        return Reference.parse(name)
    except OcirootfsError:
        return None


def _reference(entry: Descriptor) -> Reference | None:
    """Return an entry's name, if it has one: a tag alone is none."""
    name = entry.annotations.get(IMAGE_NAME)
    tag = entry.annotations.get(REF_NAME, "")
    if name is None and (":" in tag or "/" in tag):
        name = tag
    return parsed(name) if name else None


class _Search:
    """The way from the entries of an index to one manifest and its config."""

    def __init__(self, members: Members, platform: Platform | None) -> None:
        self._members = members
        self._asked = platform
        self._wanted = platform or Platform.default()
        self.index: Index | None = None
        """The outermost index below `index.json` that the image was found in."""

    def among(self, entries: Sequence[Descriptor], depth: int = 0) -> tuple[Manifest, Config, Reference | None]:
        """Return the image that serves the platform best; one that stands alone serves any."""
        what, limits = self._members.what, self._members.limits
        index = Index(b"", OCI_INDEX, tuple(entries))
        alone = len(entries) == 1 and self._asked is None
        absent: Descriptor | None = None
        others: list[Platform] = []
        for entry in entries if alone else candidates(index, self._wanted):
            raw = self._blob(entry)
            if raw is None:
                absent = absent or entry
                continue
            try:
                found = parse_manifest(raw, entry.media_type, f"{what}: manifest {entry.digest}", limits)
            except ArtifactError:
                if alone:
                    raise
                continue
            if isinstance(found, Index):
                if depth == limits.index_depth:
                    text = f"{what}: indexes nested deeper than {limits.index_depth}"
                    raise InputError(text, hint=raising("index_depth"))
                manifest, config, reference = self.among(found.manifests, depth + 1)
                self.index = found
                return manifest, config, reference or _reference(entry)
            config = self._config(found)
            if alone or entry.platform is not None or rank(self._wanted, config.platform) is not None:
                return found, config, _reference(entry)
            others.append(config.platform)
        if absent is not None:
            text = f"{what}: its index lists {absent.digest}, which is not in it"
            raise InputError(text) if len(entries) == 1 else NotFoundError(text)
        if others:  # their entries do not say what their configs do
            there = ", ".join(str(platform) for platform in others)
            raise NotFoundError(f"{what}: no image for {self._wanted}; available: {there}")
        raise no_platform(index, self._wanted, what)

    def _blob(self, descriptor: Descriptor) -> bytes | None:
        raw = descriptor.data if descriptor.data is not None else document(self._members, blob_path(descriptor.digest))
        if raw is None:
            return None
        what = f"{self._members.what}: {descriptor.digest}"
        return b"".join(verified((raw,), descriptor.digest, descriptor.size, what))

    def _config(self, manifest: Manifest) -> Config:
        raw = self._blob(manifest.config)
        if raw is None:
            raise InputError(f"{self._members.what}: the image's config {manifest.config.digest} is not in it")
        return parse_config(raw, f"{self._members.what}: config {manifest.config.digest}", self._members.limits)


def _streamed(image: Image, members: StreamMembers) -> Image:
    """Return the image with layers that say how many have arrived when the stream breaks off."""
    total = len(image.layers)
    return replace(image, layers=tuple(_counted(layer, total, members.what) for layer in image.layers), again="never")


def _counted(layer: Layer, total: int, what: str) -> Layer:
    def source() -> Iterator[bytes]:
        try:
            yield from layer.source()
        except TruncatedError as error:
            raise TruncatedError(
                f"{what} ended after {total - layer.number} of {total} layers",
                hint="the command before the pipe failed; its message is above",
            ) from error

    return replace(layer, source=source)
