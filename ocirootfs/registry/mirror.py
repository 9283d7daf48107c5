"""Mirrors: other registries that have the same images, asked first and never relied upon.

A mirror is a registry in its own right, with a host, credentials and repositories of its own; what it serves by digest
is proved like anything else, and what a tag means is what it says. Whatever it fails at, the registry itself is asked.
"""

from __future__ import annotations

import logging
import re
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from ocirootfs.digest import verified
from ocirootfs.errors import (
    ArtifactError,
    DigestError,
    LocalError,
    OcirootfsError,
    TemporaryError,
    UsageError,
    printable,
)
from ocirootfs.reference import HUB, Reference
from ocirootfs.registry.netfailure import is_unreached

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from ocirootfs.digest import Descriptor

log = logging.getLogger("ocirootfs.registry")

_Found = TypeVar("_Found")
_PARTS = re.compile(r"(?:(?P<of>[^=/]+)=)?(?:(?P<scheme>https?)://)?(?P<host>[^/?#@]+)(?P<prefix>(?:/[^/?#]+)*)/?")


@dataclass(frozen=True, slots=True)
class Mirror:
    """`host[:port]`, below whose `prefix` (`""`, or `hub/`) are the images of `registry`; `scheme` "" is undecided."""

    registry: str
    host: str
    prefix: str = ""
    scheme: str = ""

    @classmethod
    def parse(cls, text: str) -> Mirror:
        """Read `[REGISTRY=][https://]HOST[/PREFIX]`; without REGISTRY it is Docker Hub's. UsageError otherwise."""
        if "@" in text:
            raise _no_mirror(f"***@{text.rpartition('@')[2]}", "it holds a user name")
        match = _PARTS.fullmatch(text)
        if not match:
            raise _no_mirror(text, "it is no URL of a registry")
        try:
            registry = Reference.parse(f"{match['of'] or HUB}/x").registry
            place = Reference.parse(f"{match['host']}{match['prefix']}/x")
        except UsageError as error:
            raise _no_mirror(text, str(error).rpartition(": ")[2]) from None
        if place.registry in {registry, HUB}:
            raise _no_mirror(text, "it names no other registry, which has a dot or a port in its name")
        return cls(registry, place.registry, place.repository.removesuffix("x"), match["scheme"] or "")

    def place_of(self, reference: Reference) -> Reference:
        """Return where the mirror has what `reference` names."""
        return replace(reference, registry=self.host, repository=self.prefix + reference.repository)


class Mirrors:
    """Asks mirrors in their order, then the registry. Safe for threads.

    A mirror that is in trouble is not asked again, nor one that fails at a repository for that. One warning a mirror.
    """

    def __init__(self, mirrors: Iterable[Mirror]) -> None:
        self._mirrors = tuple(mirrors)
        self._lock = threading.Lock()
        self._down: set[tuple[Mirror, str]] = set()  # with a repository, or "" for all of them
        self._warned: set[Mirror] = set()

    def first(self, reference: Reference, ask: Callable[[Reference], _Found]) -> _Found:
        """Return what `ask` finds at the first place that has it.

        The error is the registry's own, or the last mirror's that had anything to say where nobody gets to the
        registry. An ArtifactError is its reader's: what is no image at a mirror is none anywhere.
        """
        told: OcirootfsError | None = None
        for mirror in self._of(reference):
            try:
                return ask(mirror.place_of(reference))
            except (ArtifactError, UsageError, LocalError):
                raise
            except OcirootfsError as error:
                self._failed(mirror, reference, error)
                told = told if isinstance(error, TemporaryError) else error
        try:
            return ask(reference)
        except TemporaryError as error:
            if told is None or not is_unreached(error):
                raise
            asked = f"a mirror says so, and nobody gets to {reference.registry}"
            told.hint = f"{told.hint}; {asked}" if told.hint else asked
            raise told from error

    def proved(
        self, chunks: Iterator[bytes], reference: Reference, blob: Descriptor, served: Collection[str]
    ) -> Iterator[bytes]:
        """Pass a blob through, and see at its end that no mirror altered it; `served` are the hosts it came from.

        What mirrors had no part in is its reader's to prove. The DigestError names the mirror; it is not asked again.
        """
        mirrors = tuple(self._of(reference))
        if not mirrors:
            yield from chunks
            return
        try:
            yield from verified(chunks, blob.digest, None, f"blob {blob.digest}")
        except DigestError as error:
            what = f"{error.what} from {' and '.join(sorted(served))}"
            named = DigestError(what, expected=error.expected, actual=error.actual)
            for mirror in mirrors:
                if mirror.host in served:
                    self._failed(mirror, reference, named)
            raise named from None

    def _of(self, reference: Reference) -> Iterator[Mirror]:
        for mirror in self._mirrors:
            down = {(mirror, ""), (mirror, reference.repository)} & self._down
            if mirror.registry == reference.registry and not down:
                yield mirror

    def _failed(self, mirror: Mirror, reference: Reference, error: Exception) -> None:
        with self._lock:
            self._down.add((mirror, "" if isinstance(error, TemporaryError) else reference.repository))
            level = logging.DEBUG if mirror in self._warned else logging.WARNING
            self._warned.add(mirror)
        log.log(level, "the mirror %s fails, asking %s: %s", mirror.host, reference.registry, error)


def _no_mirror(text: str, reason: str) -> UsageError:
    hint = "write [REGISTRY=]https://HOST[/PREFIX], for example https://mirror.corp/hub"
    return UsageError(f"invalid mirror '{printable(text, 120)}': {reason}", hint=hint)
