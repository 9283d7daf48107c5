"""Platforms: spellings, and which of several offers is taken."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocirootfs.errors import UsageError
from ocirootfs.platform import Platform, rank

SPELLINGS = [
    ("linux/amd64", "linux/amd64"),
    ("linux/x86_64", "linux/amd64"),
    ("linux/x86-64", "linux/amd64"),
    ("linux/amd64/v1", "linux/amd64"),
    ("linux/amd64/v2", "linux/amd64/v2"),
    ("LINUX/AMD64", "linux/amd64"),
    ("linux/aarch64", "linux/arm64"),
    ("linux/arm64/v8", "linux/arm64"),
    ("linux/arm64/8", "linux/arm64"),
    ("linux/arm64/v8.0", "linux/arm64"),
    ("linux/arm64/9.0", "linux/arm64/v9"),
    ("linux/arm64/v8.1", "linux/arm64/v8.1"),
    ("linux/arm", "linux/arm/v7"),
    ("linux/arm/7", "linux/arm/v7"),
    ("linux/arm/5", "linux/arm/v5"),
    ("linux/armhf", "linux/arm/v7"),
    ("linux/armel", "linux/arm/v6"),
    ("linux/i386", "linux/386"),
    ("macos/arm64", "darwin/arm64"),
    ("windows/amd64", "windows/amd64"),
    ("arm64", "linux/arm64"),
    ("x86_64", "linux/amd64"),
    ("armv7l", "linux/arm/v7"),
    ("riscv64", "linux/riscv64"),
]
# What is wanted, the offers as an index may list them, and those that serve it, best first.
CHOICES = [
    ("linux/amd64", ["linux/arm64", "linux/amd64", "linux/386"], ["linux/amd64"]),
    ("linux/amd64/v3", ["linux/amd64", "linux/amd64/v2", "linux/amd64/v4"], ["linux/amd64/v2", "linux/amd64"]),
    ("linux/amd64", ["linux/amd64/v3", "linux/amd64/v2"], ["linux/amd64/v2", "linux/amd64/v3"]),
    ("linux/arm/v7", ["linux/arm/v5", "linux/arm/v6", "linux/arm/v8"], ["linux/arm/v6", "linux/arm/v5"]),
    ("linux/arm/v6", ["linux/arm/v7", "linux/arm/v5"], ["linux/arm/v5"]),
    ("linux/arm64", ["linux/arm64/v9", "linux/arm64/v8", "linux/arm/v7"], ["linux/arm64", "linux/arm64/v9"]),
    ("linux/arm64/v9", ["linux/arm64", "linux/arm64/v8.2"], ["linux/arm64/v8.2", "linux/arm64"]),
    ("linux/ppc64le/power9", ["linux/ppc64le"], ["linux/ppc64le"]),
    ("linux/amd64", ["windows/amd64", "linux/arm64"], []),
    ("linux/amd64", ["linux/386"], []),
    ("linux/arm64", ["linux/arm/v7"], []),
]


@pytest.mark.parametrize(("text", "normal"), SPELLINGS)
def test_spellings(text: str, normal: str) -> None:
    assert str(Platform.parse(text)) == normal
    assert Platform.parse(normal) == Platform.parse(text)


@pytest.mark.parametrize("text", ["", "linux", "/", "linux/", "a/b/c/d", "linux\\arm", "linux/a b", "amd46", "linux/é"])
def test_refused(text: str) -> None:
    with pytest.raises(UsageError, match="invalid platform"):
        Platform.parse(text)


@pytest.mark.parametrize(
    ("machine", "normal"),
    [("x86_64", "linux/amd64"), ("aarch64", "linux/arm64"), ("armv6l", "linux/arm/v6"), ("i686", "linux/386")],
)
def test_the_default_is_linux_on_this_machine(machine: str, normal: str) -> None:
    assert str(Platform.default(machine)) == normal
    assert Platform.default().os == "linux"


@pytest.mark.parametrize(("wanted", "offers", "best_first"), CHOICES)
def test_choice(wanted: str, offers: list[str], best_first: list[str]) -> None:
    ranked = [(rank(Platform.parse(wanted), Platform.parse(offer)), offer) for offer in offers]

    fitting = sorted((score, offer) for score, offer in ranked if score is not None)
    assert [str(Platform.parse(offer)) for _, offer in fitting] == best_first


def test_the_version_of_windows_counts_only_if_wanted() -> None:
    old = Platform.of("windows", "amd64", os_version="10.0.14393")

    assert rank(Platform.parse("windows/amd64"), old) == (0,)
    assert rank(Platform.of("windows", "amd64", os_version="10.0.20348"), old) is None


@settings(deadline=None)
@given(st.text() | st.text(alphabet="linuxarmv/678.", max_size=20))
def test_any_text_is_a_platform_or_a_usage_error(text: str) -> None:
    try:
        found = Platform.parse(text)
    except UsageError:
        return
    assert rank(found, found) == (0,)
