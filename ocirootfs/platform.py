"""Platforms: what an image runs on, how that is spelled, and which of several offers serves best.

The spellings and the order of variants are containerd's (github.com/containerd/platforms, database.go and
compare.go). Unlike containerd, a rootfs for another instruction set (386 for amd64, arm for arm64) is never an
answer: whoever wants one says so.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from ocirootfs.errors import UsageError, printable

_WORD = re.compile(r"[A-Za-z0-9_.-]+", re.ASCII)
_LEVEL = re.compile(r"v?(\d{1,3})(?:\.(\d{1,3}))?", re.ASCII)

_OS = {"macos": "darwin"}
_ARCHITECTURE = {
    "x86_64": "amd64",
    "x86-64": "amd64",
    "aarch64": "arm64",
    "i386": "386",
    "i486": "386",
    "i586": "386",
    "i686": "386",
    "loongarch64": "loong64",
}
# Spellings that carry the variant in the architecture; the last four are what uname says.
_WITH_VARIANT = {
    "armhf": "v7",
    "armel": "v6",
    "armv5tel": "v5",
    "armv6l": "v6",
    "armv7l": "v7",
    "armv8l": "v8",
}
_KNOWN = frozenset(["386", "amd64", "arm", "arm64", "loong64", "mips64le", "ppc64le", "riscv64", "s390x"])
# The level that an architecture without a variant stands for.
_BASELINE = {"amd64": (1, 0), "arm": (7, 0), "arm64": (8, 0)}


@dataclass(frozen=True, slots=True)
class Platform:
    """`os/architecture[/variant]` in Go's words. Values come from `of` and `parse`, which normalise.

    >>> str(ocirootfs.Platform.parse("linux/aarch64")), str(ocirootfs.Platform.parse("armhf"))
    ('linux/arm64', 'linux/arm/v7')
    """

    os: str
    architecture: str
    variant: str = ""
    os_version: str = ""

    @classmethod
    def of(cls, os: str, architecture: str, variant: str = "", os_version: str = "") -> Platform:
        """Normalise what an index, a config or a kernel calls a platform."""
        os, architecture, variant = os.lower(), architecture.lower(), variant.lower()
        if architecture in _WITH_VARIANT:
            architecture, variant = "arm", _WITH_VARIANT[architecture]
        architecture = _ARCHITECTURE.get(architecture, architecture)
        return cls(_OS.get(os, os), architecture, _variant(architecture, variant), os_version)

    @classmethod
    def parse(cls, text: str) -> Platform:
        """Read `linux/arm64/v8`, or a bare `arm64`, which means linux; UsageError for anything else."""
        words = text.split("/")
        if len(words) > 3 or not all(_WORD.fullmatch(word) for word in words):
            raise _not_a_platform(text)
        if len(words) > 1:
            return cls.of(*words)
        alone = cls.of("linux", text)
        if alone.architecture not in _KNOWN:  # `linux`, or a typing error
            raise _not_a_platform(text)
        return alone

    @classmethod
    def default(cls, machine: str | None = None) -> Platform:
        """Linux on this machine: a rootfs runs in a container, whatever the host calls itself."""
        return cls.of("linux", machine or os.uname().machine)

    def __str__(self) -> str:
        # arm without a variant was read as v7, and is worth saying; the other baselines are empty.
        words = [self.os, self.architecture, *([self.variant] if self.variant else [])]
        return printable("/".join(words), 80)


def rank(wanted: Platform, offered: Platform) -> tuple[int, ...] | None:
    """How well `offered` serves `wanted`: the smallest tuple serves best, None not at all.

    The exact variant, then lower ones from the highest down, then none; a wanted platform without a variant takes
    in the end any, from the lowest up, since nothing is known of the machine. `os_version` counts only if wanted.
    """
    if (wanted.os, wanted.architecture) != (offered.os, offered.architecture):
        return None
    if wanted.os_version and wanted.os_version != offered.os_version:
        return None
    if wanted.variant == offered.variant:
        return (0,)
    ours, theirs = _level(wanted), _level(offered)
    if ours and theirs and theirs < ours:
        return (1, -theirs[0], -theirs[1])
    if not offered.variant:
        return (2,)
    if not wanted.variant:
        return (3, *(theirs or (999,)))
    return None


def _variant(architecture: str, variant: str) -> str:
    """Spell a variant `v7` or `v8.1`; the baseline of amd64 and arm64 is the empty string, arm's is v7."""
    match = _LEVEL.fullmatch(variant)
    if match:
        minor = int(match[2] or 0)
        variant = f"v{int(match[1])}" + (f".{minor}" if minor else "")
    if architecture == "arm":
        return variant or "v7"
    baseline = {"amd64": "v1", "arm64": "v8"}.get(architecture)
    return "" if variant == baseline else variant


def _level(platform: Platform) -> tuple[int, int] | None:
    if not platform.variant:
        return _BASELINE.get(platform.architecture)
    match = _LEVEL.fullmatch(platform.variant)
    return (int(match[1]), int(match[2] or 0)) if match else None


def _not_a_platform(text: str) -> UsageError:
    return UsageError(
        f"invalid platform '{printable(text, 60)}'",
        hint="write os/architecture[/variant], for example linux/arm64 or linux/arm/v7",
    )
