"""JSON as registries mean it: I-JSON (RFC 7493), and nothing that two parsers could read differently.

A manifest is identified by the hash of its bytes, so bytes that one program reads as this image and another as
that one are an attack (CVE-2014-8179, CVE-2021-41190). Duplicate names, NaN and lone surrogates are refused.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import TYPE_CHECKING, TypeAlias, Union

from ocirootfs.errors import InputError, printable
from ocirootfs.limits import USUAL, raising

if TYPE_CHECKING:
    from collections.abc import Collection

Json: TypeAlias = Union[bool, int, float, str, "list[Json]", "dict[str, Json]", None]


def load(raw: bytes, what: str, depth: int | None = None) -> Json:
    """Parse one JSON text; `what` names it in the InputError that anything else raises.

    A byte order mark is skipped, as RFC 8259 section 8.1 allows. `depth` is `Limits.json_depth`; None, for what is the
    user's own, takes the usual one.
    """
    levels = USUAL.json_depth if depth is None else depth
    try:
        value: Json = json.loads(
            raw.decode("utf-8-sig"),
            object_pairs_hook=_object,
            parse_constant=_refuse_constant,
            parse_float=_finite,
        )
        _check(value, levels)
    except json.JSONDecodeError as error:
        reason = f"{error.msg} at line {error.lineno} column {error.colno}"
        raise _invalid(raw, what, reason) from None
    except UnicodeDecodeError as error:
        raise _invalid(raw, what, f"byte {error.start} is not UTF-8") from None
    except RecursionError:
        hint = None if depth is None else raising("json_depth")
        raise _invalid(raw, what, f"nested deeper than {levels} levels", hint) from None
    except ValueError as error:  # ours, and Python's limit on the digits of an integer
        raise _invalid(raw, what, printable(str(error))) from None
    return value


def as_object(value: Json, what: str, names: Collection[str] = ()) -> dict[str, Json]:
    """Return `value` if it is an object; InputError otherwise, or if a key is one of `names` but for its case.

    Go, and so docker, skopeo and buildah, takes such a key for the name, before or after one that is spelled right
    (encoding/json, "Unmarshal"): to them it would be another image with the same digest (cf. CVE-2021-41190).
    """
    if not isinstance(value, dict):
        raise InputError(f"{what}: expected an object, got {_kind(value)}")
    alike = {name.casefold(): name for name in names}
    for key in value:
        name = alike.get(key.casefold(), key)
        if name != key:
            raise InputError(f"{what}: '{printable(key, 60)}' is read as '{name}' by other programs, and is refused")
    return value


def as_list(value: Json, what: str) -> list[Json]:
    """Return `value` if it is an array; null, as Go writes an empty slice, is an empty one."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise InputError(f"{what}: expected an array, got {_kind(value)}")
    return value


def as_string(value: Json, what: str) -> str:
    """Return `value` if it is a string; null is the empty string."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InputError(f"{what}: expected a string, got {_kind(value)}")
    return value


def as_strings(value: Json, what: str) -> tuple[str, ...]:
    """Return an array of strings as a tuple."""
    return tuple(as_string(item, f"{what}[{n}]") for n, item in enumerate(as_list(value, what)))


def as_string_map(value: Json, what: str) -> dict[str, str]:
    """Return an object whose values are strings (labels, annotations); null is an empty one."""
    if value is None:
        return {}
    items = as_object(value, what).items()
    return {key: as_string(item, f"{what}.{printable(key, 60)}") for key, item in items}


def _object(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the name '{printable(twice, 60)}' stands twice in one object")
    return found


def _refuse_constant(name: str) -> Json:
    raise ValueError(f"{name} is not a JSON number")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"the number {printable(digits, 40)} is out of range")
    return number


def _check(value: Json, depth: int) -> None:
    """Bound the depth, as Python itself does, and refuse lone surrogates, which no UTF-8 output could carry."""
    level: list[Json] = [value]
    for _ in range(depth + 1):
        if not level:
            return
        level = [child for item in level for child in _children(item)]
    raise RecursionError


def _children(value: Json) -> list[Json]:
    if isinstance(value, dict):
        return [*value, *value.values()]
    if isinstance(value, list):
        return value
    if isinstance(value, str) and not value.isascii():
        _refuse_surrogates(value)
    return []


def _refuse_surrogates(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("a string holds half a surrogate pair") from None


def _kind(value: Json) -> str:
    names = {bool: "a boolean", str: "a string", list: "an array", dict: "an object"}
    return "null" if value is None else names.get(type(value), "a number")


def _invalid(raw: bytes, what: str, reason: str, hint: str | None = None) -> InputError:
    start = raw.lstrip(b"\xef\xbb\xbf \t\r\n")[:200]
    if not start.startswith(b"<"):
        return InputError(f"{what}: not valid JSON: {reason}", hint=hint)
    shown = printable(start.decode("utf-8", "replace"), 50)
    return InputError(
        f"{what}: not valid JSON: it starts with '{shown}'",
        hint="a captive portal or a proxy may have answered in place of the registry",
    )
