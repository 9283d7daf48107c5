"""Strict JSON: what is refused that Python would read."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocirootfs.errors import InputError, printable
from ocirootfs.limits import USUAL
from ocirootfs.strictjson import Json, as_list, as_object, as_string_map, as_strings, load

REFUSED = {
    "empty": (b"", "Expecting value"),
    "cut": (b'{"a": 1', "Expecting"),
    "two documents": (b"{} {}", "Extra data"),
    "duplicate name": (b'{"a": 1, "a": 1}', "the name 'a' stands twice"),
    "duplicate by escape": (b'{"a": 1, "\\u0061": 2}', "stands twice"),
    "duplicate inside": (b'[{"x": {"b": 1, "b": 2}}]', "the name 'b' stands twice"),
    "NaN": (b"[NaN]", "NaN is not"),
    "infinity": (b"[-Infinity]", "Infinity is not"),
    "infinite by exponent": (b"[1e999]", "out of range"),
    "latin-1": (b'["\xe9"]', "byte 2 is not UTF-8"),
    "UTF-16": ('{"a": 1}'.encode("utf-16"), "not UTF-8"),
    "half a surrogate pair": (b'["\\ud800"]', "surrogate"),
    "half a surrogate pair in a name": (b'{"\\udfff": 1}', "surrogate"),
    "one level too deep": (b"[" * (USUAL.json_depth + 2) + b"]" * (USUAL.json_depth + 2), "deeper than 64"),
    "very deep": (b"[" * 100_000, "deeper than 64"),
    "very deep objects": (b'{"a":' * 100_000, "deeper than 64"),
    "5,000 digits": (b"[" + b"1" * 5000 + b"]", "digits"),
    "control character": (b'["\x00"]', "control character"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    raw, says = REFUSED[name]

    with pytest.raises(InputError, match=r"^a manifest: not valid JSON: ") as caught:
        load(raw, "a manifest")

    assert says in str(caught.value)


def test_accepted() -> None:
    raw = b'\xef\xbb\xbf {"a": [1, 2.5, null, true, "\\ud83d\\ude00", 123456789012345678901234567890]} \n'

    assert load(raw, "x") == {"a": [1, 2.5, None, True, "😀", 123456789012345678901234567890]}
    assert load(b"[" * USUAL.json_depth + b"]" * USUAL.json_depth, "x")


def test_a_web_page_is_named_as_such() -> None:
    with pytest.raises(InputError, match=r"it starts with '<html><head>\\x1b") as caught:
        load(b"\n <html><head>\x1b[31m" + b"x" * 1000, "the manifest")

    assert "proxy" in (caught.value.hint or "")
    assert len(str(caught.value)) < 120


def test_what_is_not_html_is_not_shown() -> None:
    with pytest.raises(InputError) as caught:
        load(b"s3cret password", "auth.json")

    assert "s3cret" not in str(caught.value)


def test_null_is_an_empty_list_as_go_writes_it() -> None:
    assert as_list(None, "x") == []
    assert as_strings(None, "x") == ()
    assert as_string_map({"a": None}, "x") == {"a": ""}


def test_the_wrong_kind_is_named() -> None:
    with pytest.raises(InputError, match=r"^m: layers: expected an array, got an object$"):
        as_list({}, "m: layers")
    with pytest.raises(InputError, match=r"^m: expected an object, got null$"):
        as_object(None, "m")
    with pytest.raises(InputError, match=r"^m\[1\]: expected a string, got a boolean$"):
        as_strings(["a", True], "m")


@settings(deadline=None)
@given(st.binary() | st.text().map(str.encode) | st.text(alphabet='[]{}",:0e.-tnul\\d8', max_size=40).map(str.encode))
def test_any_bytes_are_json_or_an_input_error(raw: bytes) -> None:
    try:
        value = load(raw, "x")
    except InputError:
        return
    assert load(json.dumps(value).encode(), "x") == value


@pytest.mark.parametrize("key", ["Layers", "LAYERS", "layer\u017f"])
def test_a_key_that_others_read_as_another(key: str) -> None:
    """Go's decoder does not mind the case, so that the last of the two is what docker reads (cf. CVE-2021-41190)."""
    value: Json = {"layers": [], key: []}
    with pytest.raises(InputError, match=rf"^x: '{printable(key)}' is read as 'layers' by other programs"):
        as_object(value, "x", ("layers", "config"))
    assert as_object(value, "x") is value
    assert as_object({"layer": 1, "layers": 2}, "x", ("layers",))
