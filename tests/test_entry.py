"""Names: how an archive's spelling becomes one path, and which spellings are refused."""

from __future__ import annotations

import json
import posixpath
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ocirootfs.entry import canonical, folded
from ocirootfs.errors import InputError, LayerError
from tests.layers import FIXTURES, raw_bytes

NAMES: dict[str, Any] = json.loads((FIXTURES / "names.json").read_text())

COMPONENTS = st.sampled_from([b"", b".", b"..", b"...", b"a", b"b", b".a", b"a.", b"..a", b"\xff", b"\xc3\xa9", b" "])
SPELLINGS = st.lists(COMPONENTS, max_size=8).map(b"/".join)


@pytest.mark.parametrize(("name", "path"), NAMES["canonical"])
def test_canonical(name: str, path: str | None) -> None:
    if path is not None:
        assert canonical(raw_bytes(name)) == raw_bytes(path)
        return
    with pytest.raises(LayerError) as caught:
        canonical(raw_bytes(name))
    assert caught.value.path == raw_bytes(name)
    assert isinstance(caught.value, InputError)


@pytest.mark.parametrize(("name", "path"), NAMES["resolved"])
def test_folded_at_the_root(name: str, path: str) -> None:
    assert b"/".join(folded(raw_bytes(name), clamp=True)) == raw_bytes(path)


@pytest.mark.parametrize("clamp", [True, False])
def test_a_nul_is_refused_however_it_is_folded(clamp: bool) -> None:
    with pytest.raises(LayerError, match="NUL"):
        folded(b"a\0/../b", clamp=clamp)


def test_the_error_names_the_entry_in_printable_words() -> None:
    with pytest.raises(LayerError, match=r"^entry '\.\./\\x1b\\xff': the name climbs out of the image$"):
        canonical(b"../\x1b\xff")


def model(name: bytes) -> list[bytes] | None:
    """Fold as the words of the docstring say, one component at a time; None where it climbs out."""
    path: list[bytes] = []
    for component in name.split(b"/"):
        if component == b"..":
            if not path:
                return None
            del path[-1]
        elif component not in (b"", b"."):
            path = [*path, component]
    return path


@given(SPELLINGS)
@example(b"a//")
def test_canonical_is_the_model(name: bytes) -> None:
    expected = model(name)
    if expected is None:
        with pytest.raises(LayerError):
            canonical(name)
    else:
        assert canonical(name) == b"/".join(expected)
        assert folded(name, clamp=False) == expected


@given(SPELLINGS)
def test_clamped_is_how_the_kernel_resolves_below_a_root(name: bytes) -> None:
    resolved = posixpath.normpath(b"/./" + name)  # two slashes in front would stay
    assert b"/" + b"/".join(folded(name, clamp=True)) == resolved


@given(st.binary(max_size=40))
def test_canonical_is_clean_and_stays_as_it_is(name: bytes) -> None:
    try:
        path = canonical(name)
    except LayerError:
        assert b"\0" in name or model(name) is None
        return
    assert canonical(path) == path
    assert not path or not {b"", b".", b".."} & set(path.split(b"/"))
