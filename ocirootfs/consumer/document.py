"""What Concourse reads in metadata.json, as Go's encoding/json decodes it.

Two readers: that of the container takes the first JSON value, with env and user (atc/worker/gardenruntime/image.go);
that of a task without run.path takes the whole file, with entrypoint and cmd (atc/exec/task_step.go). Both match keys
without regard to case, and what they do not know does not matter. Of several values for a key the last one counts, but
each has to be of the right type, and a null leaves a text as it is.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ocirootfs.consumer.finding import Findings

_NAME = "metadata.json"
_SPACE = " \t\r\n"


def judge(raw: bytes, findings: Findings) -> str:
    """Judge the content of metadata.json, and return the user that it names; "" for none."""
    try:
        text = raw.decode(errors="replace").lstrip(_SPACE)
        value, end = json.JSONDecoder(object_pairs_hook=_Object, parse_constant=_refuse).raw_decode(text)
    except (ValueError, RecursionError) as error:
        said = "it is empty" if not raw else str(error) if isinstance(error, json.JSONDecodeError) else "no JSON"
        findings.add("metadata-json", _NAME, said)
        return ""
    if text[end:].strip(_SPACE):
        findings.add("metadata-trailing", _NAME)
    if not isinstance(value, _Object | None):
        findings.add("metadata-json", _NAME, "no object")
        return ""
    return _judge_values(value or _Object([]), findings)


def _refuse(name: str) -> object:
    raise ValueError(name)


class _Object:
    """A JSON object, with all that it says of a key."""

    def __init__(self, pairs: list[tuple[str, object]]) -> None:
        self._pairs = pairs

    def values(self, name: str) -> list[object]:
        return [value for key, value in self._pairs if key.casefold() == name]


def _judge_values(value: _Object, findings: Findings) -> str:
    variables = _texts(value.values("env"))
    if variables is None:
        findings.add("env-type", _NAME)
    for variable in variables or ():
        name, equals, _ = variable.partition("=")
        if not name or not equals or "\0" in variable:
            findings.add("env-entry", _NAME, f"'{name}'")
    commands = [_texts(value.values("entrypoint")), _texts(value.values("cmd"))]
    if None in commands:
        findings.add("command-type", _NAME)
    elif not any(commands):
        findings.add("no-command", _NAME)
    users = value.values("user")
    if not all(isinstance(user, str | None) for user in users):
        findings.add("user-type", _NAME)
        return ""
    return next((user for user in reversed(users) if isinstance(user, str)), "")


def _texts(values: Iterable[object]) -> list[str] | None:
    """Return the last of several lists of strings, in which null is an empty one; None if any is something else."""
    last: list[str] = []
    for value in values:
        if not isinstance(value, list | None) or not all(isinstance(each, str | None) for each in value or ()):
            return None
        last = [each or "" for each in value or ()]
    return last
