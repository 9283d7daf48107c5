"""What Concourse reads in metadata.json, as Go's encoding/json decodes it.

Two readers: that of the container takes the first JSON value, with env and user (atc/worker/gardenruntime/image.go);
that of a task without run.path takes the whole file, with entrypoint and cmd (atc/exec/task_step.go). Both match keys
without regard to case, the last of several wins, and what they do not know does not matter.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ocirootfs.consumer.finding import Findings

_NAME = "metadata.json"
_SPACE = " \t\r\n"


def judge(raw: bytes, findings: Findings) -> str:
    """Judge the content of metadata.json, and return the user that it names; "" for none."""
    try:
        text = raw.decode(errors="replace").lstrip(_SPACE)
        value, end = json.JSONDecoder(object_pairs_hook=_folded, parse_constant=_refuse).raw_decode(text)
    except (ValueError, RecursionError) as error:
        said = "it is empty" if not raw else str(error) if isinstance(error, json.JSONDecodeError) else "no JSON"
        findings.add("metadata-json", _NAME, said)
        return ""
    if text[end:].strip(_SPACE):
        findings.add("metadata-trailing", _NAME)
    if not isinstance(value, dict | None):
        findings.add("metadata-json", _NAME, "no object")
        return ""
    return _judge_values(value or {}, findings)


def _refuse(name: str) -> object:
    raise ValueError(name)


def _folded(pairs: list[tuple[str, object]]) -> dict[str, object]:
    return {name.casefold(): value for name, value in pairs}


def _judge_values(value: dict[str, object], findings: Findings) -> str:
    env, user = value.get("env"), value.get("user")
    variables = _texts(env)
    if variables is None:
        findings.add("env-type", _NAME)
    for variable in variables or ():
        name, equals, _ = variable.partition("=")
        if not name or not equals or "\0" in variable:
            findings.add("env-entry", _NAME, f"'{name}'")
    commands = [_texts(value.get("entrypoint")), _texts(value.get("cmd"))]
    if None in commands:
        findings.add("command-type", _NAME)
    elif not any(commands):
        findings.add("no-command", _NAME)
    if not isinstance(user, str | None):
        findings.add("user-type", _NAME)
        return ""
    return user or ""


def _texts(value: object) -> list[str] | None:
    """Return a list of strings, in which null is an empty one; None for anything else."""
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(each, str | None) for each in value):
        return None
    return [each or "" for each in value]
