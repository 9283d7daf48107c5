"""What Concourse's S3 resource takes for a version, finds in a key, and takes for the latest.

The rules are those of s3-resource (versions/versions.go, check/command.go) and of the library that it parses and
compares with, semi-semantic (version/version.go, version_segment.go).
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from ocirootfs.errors import UsageError, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ocirootfs import goregexp

_VERSION = re.compile(r"([0-9A-Za-z_.]+)(?:-([0-9A-Za-z_.-]+))?(?:\+([0-9A-Za-z_.-]+))?", re.ASCII)
_LARGEST = 2**63 - 1
_SUFFIX = re.compile(r"\.tgz|\.tar\.gz|\.tar")
_NAMED_BEFORE = re.compile(r"(?P<name>.*?[-_])(?P<version>v?[0-9].*)")
_SPECIAL = re.compile(r"[\\.+*?()\[\]{}^$|]")
_TOLD = 5  # keys of a kind that are named; a bucket may hold millions


def fault(version: str) -> str | None:
    """Say why Concourse cannot use `version`: one such key in a bucket ends the check of all of them in a panic."""
    shown = printable(version, 80)
    if not version:
        return "the version is empty"
    match = _VERSION.fullmatch(version)
    if not match:
        return f"'{shown}' has characters that a version cannot have"
    components = [component for segment in match.groups() if segment for component in segment.split(".")]
    if not all(components):
        return f"'{shown}' has an empty component"
    if any(_is_number(component) and int(component[:40]) > _LARGEST for component in components):
        return f"'{shown}' has a number over {_LARGEST}"
    return None


def _is_number(component: str) -> bool:
    """Tell a number from a word, which a leading zero makes of it."""
    return component.isdecimal() and (component == "0" or component[0] != "0")


_Component: TypeAlias = tuple[int, int, str]
_Components: TypeAlias = tuple[_Component, ...]


class Order(NamedTuple):
    """Where a version stands among others; equal ones are in no order that could be relied on.

    A number comes before any word, a missing component counts as 0, and what follows a dash (a pre-release) comes
    before its absence, what follows a plus (a post-release) after that.
    """

    release: _Components
    pre: tuple[bool, _Components]
    post: tuple[bool, _Components]


def order(version: str) -> Order:
    """Return the place of a version that has no `fault`."""
    match = _VERSION.fullmatch(version)
    if match is None:
        raise ValueError(version)
    release, pre, post = match.groups()
    return Order(_components(release), (pre is None, _components(pre)), (post is not None, _components(post)))


def _components(segment: str | None) -> _Components:
    found = [(0, int(part), "") if _is_number(part) else (1, 0, part) for part in segment.split(".")] if segment else []
    while found and found[-1] == (0, 0, ""):
        found.pop()
    return tuple(found)


def reason(lower: str, higher: str) -> str:
    """Say why `higher` comes after `lower`; "" where that is what everybody expects."""
    low, high = order(lower), order(higher)
    if low.release == high.release:
        return "what follows a '-' comes before the version without it" if low.pre != high.pre and "-" in lower else ""
    pairs = zip_longest(low.release, high.release, fillvalue=(0, 0, ""))
    before, after = next(pair for pair in pairs if pair[0] != pair[1])
    if before[0] == after[0]:
        return "both are words, which are compared letter by letter" if before[0] else ""
    if after[2].isdecimal():
        return f"'{after[2]}' has a leading zero, which makes it a word, and a word comes after every number"
    return f"'{after[2]}' is a word, and a word comes after every number"


class Folder(NamedTuple):
    """What is directly below a prefix: a key, or with `has_more` the prefix of several."""

    name: str
    has_more: bool


def _compiled(text: str) -> goregexp.Regexp:
    from ocirootfs import goregexp  # noqa: PLC0415  # most archives are made without a word of a regexp

    return goregexp.compiled(text)


@dataclass(frozen=True, slots=True)
class KeyRegexp:
    """A `regexp:` of the S3 resource."""

    regexp: str
    _whole: goregexp.Regexp

    @classmethod
    def parse(cls, text: str) -> KeyRegexp:
        """Compile it; UsageError for what Go refuses, and for one in which the resource would find no version."""
        whole = _compiled(text)
        if len(whole.names) < 2:
            raise UsageError(
                f"'{printable(text, 100)}' has no group, so that no version is found", hint="name-(.*).tgz"
            )
        for section in text.split("/"):
            try:
                _compiled(section)
            except UsageError:
                raise UsageError(
                    f"'{printable(text, 100)}' has a group or class with a '/' in it, where the resource cuts it"
                ) from None
        return cls(text, whole)

    def version(self, key: str) -> str | None:
        """Return what is taken for the version of a key, which the regexp need not match from end to end here."""
        match = self._whole.search(key)
        if match is None:
            return None
        named = self._whole.names.index("version") if "version" in self._whole.names else 1
        return match.groups[named if len(match.groups) > 2 else 1] or ""

    def lists(self, key: str) -> bool:
        """Tell whether the resource's check would find a key, in a bucket that holds it."""

        def below(prefix: str) -> Iterator[Folder]:
            if key.startswith(prefix):
                name, slash, _ = key[len(prefix) :].partition("/")
                yield Folder(prefix + name + slash, bool(slash))

        return any(True for _ in self.keys(below))

    def keys(self, below: Callable[[str], Iterable[Folder]]) -> Iterator[str]:
        """Yield the keys that check finds: it goes down folder by folder, matching each part of the regexp by itself.

        `below` lists what is directly below a prefix. As there, a prefix stands in the next part's regexp as it is.
        """
        sections = self.regexp.split("/")
        queue = deque([("", 0)])
        while queue:
            prefix, depth = queue.popleft()
            is_leaf = depth == len(sections) - 1
            if not is_leaf and not _SPECIAL.search(sections[depth]):
                queue.append((f"{prefix}{sections[depth]}/", depth + 1))
                continue
            wanted = _compiled(f"^{prefix}{sections[depth]}{'' if is_leaf else '/'}$")
            for found in below(prefix):
                if found.has_more == is_leaf or wanted.search(found.name) is None:
                    continue
                if is_leaf:
                    yield found.name
                else:
                    queue.append((found.name, depth + 1))


class Outlook(NamedTuple):
    """What check makes of the keys in a bucket.

    `latest` has the key of the latest version, and those of versions equal to it; `broken` the first keys that end
    check in a panic, with the reason.
    """

    latest: tuple[str, ...]
    broken: tuple[tuple[str, str], ...]


def outlook(regexp: KeyRegexp, keys: Iterable[str]) -> Outlook:
    """Sort the keys that check finds, as far as its result depends on that."""
    latest: list[str] = []
    broken: dict[str, str] = {}
    highest: Order | None = None
    for key in keys:
        version = regexp.version(key)
        if version is None or key in latest:
            continue
        if why := fault(version):
            if len(broken) < _TOLD:
                broken[key] = why
            continue
        place = order(version)
        if highest is None or place > highest:
            latest, highest = [key], place
        elif place == highest and len(latest) < _TOLD:
            latest.append(key)
    return Outlook(tuple(latest), tuple(broken.items()))


def refusal(regexp: KeyRegexp, key: str) -> str | None:
    """Say why the resource would not take a version from `key`; None if it would."""
    if not regexp.lists(key):
        return f"'{printable(key)}' does not match the regexp from end to end, and no check would find it"
    version = regexp.version(key)
    if version is None:
        return f"the regexp finds no version in '{printable(key)}'"
    if why := fault(version):
        return f"{why}: it would end the check of the whole bucket in a panic"
    return None


def alone(regexp: KeyRegexp, key: str) -> str:
    """Return a regexp that finds this version and no other."""
    before, _, after = key.rpartition(regexp.version(key) or key)
    return f"{_literal(before)}({_literal(key[len(before) : len(key) - len(after)])}){_literal(after)}"


class Pattern(NamedTuple):
    """A `regexp:` for the S3 resource, and the version that it finds with it."""

    regexp: str
    version: str


def pattern(key: str, known: Iterable[str | None] = ()) -> Pattern | None:
    """Return how the resource finds the version in `key`; None if there seems to be none in it.

    `known` are texts that are the version if the name ends in one of them; else it begins at the first digit behind a
    dash.
    """
    folder, slash, name = key.rpartition("/")
    suffix = next((found[0] for found in _SUFFIX.finditer(name) if found.end() == len(name)), "")
    stem = name.removesuffix(suffix)
    version = next((text for text in known if text and stem.endswith(text)), None)
    if version is None:
        match = _NAMED_BEFORE.fullmatch(stem)
        version = match["version"] if match else None
    if not version:
        return None
    found = Pattern(f"{_literal(folder + slash + stem.removesuffix(version))}(.*){_literal(suffix)}", version)
    return found if not _SPECIAL.search(folder) or _is_listed(found.regexp, key) else None


def _is_listed(regexp: str, key: str) -> bool:
    """Tell whether check finds a key: its folders stand in the next part's regexp as they are."""
    try:
        return KeyRegexp.parse(regexp).lists(key)
    except UsageError:
        return False


def _literal(text: str) -> str:
    return _SPECIAL.sub(r"\\\g<0>", text)
