"""What a server says went wrong, made fit for one line.

Source: distribution-spec, "Error Codes": `{"errors": [{"code", "message", "detail"}]}`, all of it optional, and "the
body MAY be in any format". Servers label it as they like, so it is read as JSON whatever its media type says.
"""

from __future__ import annotations

import re

from ocirootfs import strictjson
from ocirootfs.errors import InputError, printable

_LIMIT = 200
_S3_ERROR = re.compile(r"<Code>([^<]{1,80})</Code>\s*<Message>([^<]{1,300})</Message>")


def complaint(body: bytes) -> str:
    """Return the first error of a response body as `CODE: message`, or the start of its text; "" if it is empty."""
    try:
        said = _from_json(strictjson.load(body, "error"))
    except InputError:
        said = ""
    return printable(" ".join((said or _from_text(body)).split()), _LIMIT)


def _from_json(document: strictjson.Json) -> str:
    if not isinstance(document, dict):
        return ""
    first = document.get("errors")
    if isinstance(first, list) and first:
        first = first[0]
    for found in (first, document.get("error"), document):
        if isinstance(found, str):
            return _joined(found, document.get("error_description"))
        if isinstance(found, dict) and (said := _joined(found.get("code"), found.get("message"))):
            return said
    return _joined(document.get("details"), None)


def _joined(code: strictjson.Json, message: strictjson.Json) -> str:
    words = [str(word) for word in (code, message) if isinstance(word, str | int) and str(word)]
    return ": ".join(words)


def _from_text(body: bytes) -> str:
    text = body.decode("utf-8", "replace")
    match = _S3_ERROR.search(text)
    if match:
        return f"{match[1]}: {match[2]}"
    return "" if text.lstrip()[:1] == "<" else text[: _LIMIT + 1]
