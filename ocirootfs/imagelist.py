"""Lists of images: what `ocirootfs mirror` is to keep in a bucket, written by people as YAML.

    defaults:                       # holds for every image that does not say otherwise
      to: s3://images/{repository}/{name}-{version}.tgz
      platforms: [linux/amd64]
    images:
      - ubuntu:17.04                # only a reference
      - image: alpine:3.20
        to: s3://images/alpine/alpine-{version}-{arch}.tgz
        platforms: [linux/amd64, linux/arm64]
        exclude: [usr/share/doc]
        env: [LANG=C.UTF-8]
        group: base                 # the job of the pipeline that it belongs to

What an image says replaces what `defaults` say, value by value. An image with several platforms is several archives.
Everything that can be wrong about a list is told, with its line, before anything is asked of a registry or a bucket.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar, cast

from ocirootfs import naming, strictyaml
from ocirootfs.bundle import Layout
from ocirootfs.edits import KEEP, Command, Edits
from ocirootfs.errors import UsageError, printable
from ocirootfs.exclude import excluder
from ocirootfs.packing import compression_for
from ocirootfs.platform import Platform
from ocirootfs.reference import Reference
from ocirootfs.s3.url import S3Url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Literal, TypeAlias

    from ocirootfs.strictyaml import Value

    Kind: TypeAlias = Literal["concourse", "rootfs"]

T = TypeVar("T")

_SHARED = (
    "to", "version_as", "platforms", "exclude", "layout", "env", "unset_env", "user", "entrypoint", "cmd", "labels",
    "group",
)  # fmt: skip
_LAYOUTS = ("concourse", "rootfs")
_GROUP = re.compile(r"[a-z][a-z0-9._-]{0,99}", re.ASCII)  # Concourse's identifiers (docs/config-basics)
DEFAULT_GROUP = "mirror"


@dataclass(frozen=True, slots=True)
class Wanted:
    """One archive that is to be in a bucket.

    `to` is a template (see `naming`) of an `s3://` URL, `version_as` that of its `{version}`; `platform` None is this
    machine's. `line` is where a list asks for it, 0 if none does.
    """

    reference: Reference
    to: str
    platform: Platform | None = None
    version_as: str = "{tag}"
    layout: Layout = field(default_factory=Layout)
    group: str = DEFAULT_GROUP
    line: int = 0

    @property
    def name(self) -> str:
        """What people call it."""
        shown = self.reference.familiar + (f":{self.reference.tag}" if self.reference.tag else "")
        if self.reference.tag is None and self.reference.digest:
            shown += f"@{self.reference.digest}"
        return f"{shown} ({self.platform})" if self.platform else shown


def parse(raw: bytes, what: str, *, latest: int | None = None) -> list[Wanted]:
    """Read a list; `what` names it in the UsageError that every mistake raises.

    No file in an archive is younger than `latest`, in seconds since 1970.
    """
    document = strictyaml.load(raw, what)
    top = document.fields(("defaults", "images"))
    if "images" not in top:
        raise document.error("there are no 'images'", hint="images: [ubuntu:17.04]")
    given = top.get("defaults")
    defaults = {} if given is None or given.is_nothing else given.fields(_SHARED)
    found = [wanted for value in top["images"].values() for wanted in _images(value, defaults, latest)]
    if not found:
        raise top["images"].error("the list is empty")
    _require_different(found, what)
    return found


def _require_different(found: list[Wanted], what: str) -> None:
    seen: dict[tuple[Reference, str, Platform | None], int] = {}
    for wanted in found:
        key = wanted.reference, wanted.to, wanted.platform
        if key in seen:
            where = f"{what}, line {wanted.line}"
            raise UsageError(f"{where}: {wanted.name} goes to the same place as in line {seen[key]}")
        seen[key] = wanted.line


def _images(value: Value, defaults: Mapping[str, Value], latest: int | None) -> Iterator[Wanted]:
    """Yield what one entry asks for: an archive a platform."""
    own = {"image": value} if value.is_text else value.fields(("image", *_SHARED))
    if "image" not in own:
        raise value.error("there is no 'image' here")
    said = {**defaults, **own}
    if "to" not in said:
        raise value.error("there is no 'to', neither here nor in 'defaults'", hint="to: s3://BUCKET/{name}-{tag}.tgz")
    reference = _read(own["image"], Reference.parse)
    to = _read(said["to"], _destination)
    version_as = _read(said["version_as"], _template) if "version_as" in said else "{tag}"
    layout = _layout(value, said, latest)
    group = _read(said["group"], _group) if "group" in said else DEFAULT_GROUP
    for platform in _platforms(said):
        yield Wanted(reference, to, platform, version_as, layout, group, value.line)


def _read(value: Value, parse: Callable[[str], T]) -> T:
    """Read a text with what raises UsageError, and say where that stands."""
    text = value.text()
    try:
        return parse(text)
    except UsageError as error:
        raise value.error(str(error), hint=error.hint) from None


def _template(text: str) -> str:
    naming.parse(text)
    return text


def _destination(text: str) -> str:
    """Check a place in a bucket, whose name is plain and whose key may have fields."""
    bucket = text.removeprefix("s3://").partition("/")[0]
    if not text.startswith("s3://") or "{" in bucket:
        raise UsageError(f"'{printable(text)}' is not of the form s3://BUCKET/KEY, with fields in KEY at most")
    if S3Url.parse(text).is_prefix:
        raise UsageError(f"'{printable(text)}' names no object", hint=f"to: {printable(text)}{{name}}-{{tag}}.tgz")
    return _template(text)


def _group(text: str) -> str:
    if not _GROUP.fullmatch(text):
        raise UsageError(f"'{printable(text, 60)}' is no name for a job: a-z, 0-9, dots, dashes and underscores")
    return text


def _platforms(said: Mapping[str, Value]) -> list[Platform | None]:
    if "platforms" not in said:
        return [None]
    value = said["platforms"]
    texts = [value] if value.is_text else value.values()
    if not texts:
        raise value.error("there is no platform")
    found = [_read(text, Platform.parse) for text in texts]
    if len(set(found)) < len(found):
        raise value.error("a platform is there twice")
    return list(found)


def _layout(entry: Value, said: Mapping[str, Value], latest: int | None) -> Layout:
    """Return what the archive looks like."""
    kind = said["layout"].text() if "layout" in said else "concourse"
    if kind not in _LAYOUTS:
        raise said["layout"].error(
            f"there is no layout '{printable(kind, 40)}'", hint=f"there are {', '.join(_LAYOUTS)}"
        )
    exclude = said["exclude"].texts() if "exclude" in said else ()
    try:
        excluder(exclude)
        layout = Layout(cast("Kind", kind), exclude, latest=latest)
        compression_for(said["to"].text(), layout)
        return replace(layout, edits=_edits(said, kind))
    except UsageError as error:
        if ", line " in str(error):
            raise
        raise entry.error(str(error), hint=error.hint) from None


def _edits(said: Mapping[str, Value], kind: str) -> Edits:
    labels = said["labels"].fields() if "labels" in said else {}
    edits = Edits(
        env=_variables(said["env"]) if "env" in said else (),
        unset_env=said["unset_env"].texts() if "unset_env" in said else (),
        user=said["user"].text() if "user" in said else None,
        entrypoint=_command(said, "entrypoint"),
        cmd=_command(said, "cmd"),
        labels=tuple((name, value.text()) for name, value in labels.items()),
    )
    if edits and kind != "concourse":
        raise UsageError(f"the layout {kind} has no metadata.json that could be changed")
    return edits


def _variables(value: Value) -> tuple[str, ...]:
    """Read `NAME=VALUE` each, or names and values."""
    if value.is_list:
        return value.texts()
    return tuple(f"{name}={inner.text()}" for name, inner in value.fields().items())


def _command(said: Mapping[str, Value], name: str) -> Command:
    """Read a list of words; an empty one is none."""
    if name not in said:
        return KEEP
    return said[name].texts() or None
