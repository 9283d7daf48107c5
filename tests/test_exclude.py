"""Excluding: what a pattern leaves out, and what it must not touch."""

from __future__ import annotations

import json
import os
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocirootfs.errors import UsageError
from ocirootfs.exclude import excluder
from tests.layers import FIXTURES, raw_bytes

DATA: dict[str, Any] = json.loads((FIXTURES / "exclude.json").read_text())


def excluded(patterns: list[str], path: bytes) -> bool:
    test = excluder(patterns)
    assert test is not None
    return test(path)


@pytest.mark.parametrize(("patterns", "out", "kept"), DATA["patterns"], ids=[str(row[0]) for row in DATA["patterns"]])
def test_patterns(patterns: list[str], out: list[str], kept: list[str]) -> None:
    assert [path for path in out if not excluded(patterns, raw_bytes(path))] == []
    assert [path for path in kept if excluded(patterns, raw_bytes(path))] == []


@pytest.mark.parametrize("pattern", [row[0] for row in DATA["bad"]])
def test_patterns_that_name_no_path(pattern: str) -> None:
    with pytest.raises(UsageError, match="names no path inside the image"):
        excluder(["a", pattern])


@pytest.mark.parametrize("pattern", ["*", "**", "**/*"])
def test_the_root_is_never_excluded(pattern: str) -> None:
    assert not excluded([pattern], b"")


def test_nothing_to_exclude() -> None:
    assert excluder([]) is None


@pytest.mark.parametrize("pattern", ["caf?", "caf[é]", "caf[!e]"])
def test_one_character_of_a_class(pattern: str) -> None:
    assert excluded([pattern], "café".encode())


def test_a_class_of_raw_bytes() -> None:
    assert excluded(["[\udcff-\ue000]"], b"\xff")
    assert not excluded(["[z-a]"], b"m")


def model(glob: list[str], names: list[str]) -> bool:
    """Match as the words say: `**` is any number of components, `*` is one."""
    if not glob:
        return not names
    if glob[0] == "**":
        rest = glob[1:]
        if not rest:  # what is below
            return bool(names)
        return any(model(rest, names[start:]) for start in range(len(names) + 1))
    return bool(names) and glob[0] in ("*", names[0]) and model(glob[1:], names[1:])


WORDS = st.sampled_from(["a", "b", "c"])


@given(st.lists(WORDS | st.sampled_from(["*", "**"]), min_size=1, max_size=6), st.lists(WORDS, min_size=1, max_size=7))
def test_stars_are_the_model(glob: list[str], names: list[str]) -> None:
    assert excluded(["/".join(glob)], "/".join(names).encode()) == model(glob, names)


@given(st.binary(min_size=1, max_size=20).filter(lambda raw: b"/" not in raw and b"\0" not in raw))
def test_a_name_without_specials_matches_itself_alone(raw: bytes) -> None:
    if raw in (b".", b"..") or set(raw) & set(b"*?["):
        return
    assert excluded([os.fsdecode(raw)], raw)
    assert not excluded([os.fsdecode(raw)], raw + b"x")


def test_no_pattern_takes_long() -> None:
    """A pattern of many stars is matched in polynomial time."""
    started = time.perf_counter()
    assert not excluded(["*a" * 30 + "b"], b"a" * 255)
    assert not excluded(["**/a/" * 30 + "b"], b"/".join([b"a"] * 1000))
    assert time.perf_counter() - started < 5
