"""What an object's metadata says of the image that it was made of, so that the next run knows it again."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Mapping

_PREFIX = "ocirootfs-"
# What decides an archive's bytes. The image's name is told for people, and the tool's version for those who debug.
_DECIDING = ("digest", "platform", "options")


def stamp(*, image: object, digest: object, platform: object, options: str, version: str) -> dict[str, str]:
    """Return the metadata of an object; what is None is left out.

    `options` is a fingerprint of all that shapes the archive but the image. Values are percent-encoded: those of
    headers are ASCII, and an image's words are not.
    """
    facts = {"image": image, "digest": digest, "platform": platform, "options": options, "version": version}
    return {_PREFIX + name: quote(str(fact), safe="/:@") for name, fact in facts.items() if fact is not None}


def is_same(wanted: Mapping[str, str], found: Mapping[str, str]) -> bool:
    """Tell whether the object with the metadata `found` holds what an upload with the stamp `wanted` would."""
    return all(wanted.get(_PREFIX + name) == found.get(_PREFIX + name) is not None for name in _DECIDING)


def is_stamped(found: Mapping[str, str]) -> bool:
    """Tell whether an object with the metadata `found` was made by this program."""
    return all(_PREFIX + name in found for name in _DECIDING)
