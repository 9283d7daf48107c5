"""Names with fields in them: `ubuntu/{name}-{version}.tgz`, filled in from the image.

A template is its user's and is taken as it is; what is filled in is the image author's, and can be no more than a part
of one path component: it has no slash, does not begin with a dot or a dash, and holds what every store, shell and
Concourse takes literally. Only a repository keeps its slashes, because its grammar has no empty component and no dots.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from string import Formatter
from typing import TYPE_CHECKING

from ocirootfs import versions
from ocirootfs.errors import UsageError, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ocirootfs.image import Image

FIELDS = (
    "{name} {repository} {registry} {tag} {digest} {digest12} {os} {arch} {variant} {created:%Y%m%d} {label:KEY} "
    "{version}"
)

_LONGEST = 128
_STRANGE = re.compile(r"[^A-Za-z0-9._+-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Naming:
    """How names are made for one image; `version_as` is the template of `{version}`."""

    image: Image
    version_as: str = "{tag}"

    def expand(self, template: str) -> str:
        """Fill in a template; UsageError for a field that there is not, or that this image has nothing for."""
        return "".join(self._piece(*part) for part in parse(template))

    def _piece(self, literal: str, field: str | None, argument: str) -> str:
        if field is None:
            return literal
        value = _PLAIN[field](self.image) if field in _PLAIN else self._with_argument(field, argument)
        if not value:
            name = f"{field}:{printable(argument, 80)}" if argument else field
            raise UsageError(f"this image has nothing to put in for '{{{name}}}'", hint=_HINTS.get(field))
        return literal + value

    def _with_argument(self, field: str, argument: str) -> str:
        if field == "version":
            return self.version()
        if field == "label":
            return _plain(self.image.config.labels.get(argument, ""))
        return _moment(self.image.config.created or "", argument)

    def version(self) -> str:
        """Return what `{version}` stands for; UsageError where Concourse could not use it."""
        if any(field == "version" for _, field, _ in parse(self.version_as)):
            raise UsageError("--version-as cannot name {version}: it says what that is")
        text = self.expand(self.version_as)
        if why := versions.fault(text):
            raise UsageError(f"Concourse would take no version from this name: {why}", hint="--version-as sets another")
        return text


def parse(template: str) -> list[tuple[str, str | None, str]]:
    """Cut a template into literal text, the field that follows (None at the end), and the field's argument.

    Doubled braces are literal ones. UsageError for what is no template.
    """
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise _wrong(template, str(error)) from None
    for _, field, argument, conversion in parts:
        if field is not None and (conversion or "{" in (argument or "") or not _is_field(field, argument or "")):
            raise _wrong(template, f"there is no field '{{{printable(field, 40)}}}' of that form")
    return [(literal, field, argument or "") for literal, field, argument, _ in parts]


def _is_field(field: str, argument: str) -> bool:
    if field == "label":
        return bool(argument)
    return field == "created" or ((field in _PLAIN or field == "version") and not argument)


def _wrong(template: str, why: str) -> UsageError:
    return UsageError(f"'{printable(template)}': {why}", hint=f"fields are {FIELDS}; a brace is written twice")


def _plain(text: str) -> str:
    """Make an untrusted text a part of one path component, or nothing."""
    return _STRANGE.sub("-", text[: 4 * _LONGEST])[:_LONGEST].lstrip(".-").rstrip("-")


def _moment(created: str, form: str) -> str:
    """Write when the image was made, in UTC, by strftime's fields (by default those of ISO 8601, without colons)."""
    from datetime import UTC, datetime  # noqa: PLC0415  # few names have a date

    try:
        moment = datetime.fromisoformat(created)
        if moment.tzinfo is not None:
            moment = moment.astimezone(UTC)
        return moment.strftime(form or "%Y%m%dT%H%M%SZ")
    except (ValueError, OverflowError):
        return ""


def _name(image: Image) -> str:
    return image.reference.name if image.reference else ""


def _digest(image: Image) -> str:
    return f"{image.digest.algorithm}-{image.digest.hex}" if image.digest else ""


_PLAIN: Mapping[str, Callable[[Image], str]] = {
    "name": _name,
    "repository": lambda image: image.reference.repository if image.reference else "",
    "registry": lambda image: _plain(image.reference.registry) if image.reference else "",
    "tag": lambda image: _plain(image.reference.tag or "") if image.reference else "",
    "digest": _digest,
    "digest12": lambda image: image.digest.hex[:12] if image.digest else "",
    "os": lambda image: _plain(image.config.platform.os),
    "arch": lambda image: _plain(image.config.platform.architecture),
    "variant": lambda image: _plain(image.config.platform.variant),
}
_HINTS = {"tag": "{digest12} tells images without a tag apart", "version": "--version-as says what it is"}
