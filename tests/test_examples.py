"""The pipelines in examples/concourse and in the README, against Concourse's schema; `test_concourse` runs them."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests import pipelines
from tests.pipelines import EXAMPLES, Data, exposed, problems, read, resolved, variables

ROOT = EXAMPLES.parent.parent
NAMES = sorted(path.name for path in EXAMPLES.glob("*.yml") if path.name != "vars.yml")
VARS: Data = read((EXAMPLES / "vars.yml").read_text())

GOOD = """\
resources:
- name: image
  type: s3
  source: {bucket: b, regexp: a-(.*), access_key_id: ((key))}
jobs:
- name: job
  plan:
  - get: image
    params: {unpack: true}
  - task: task
    image: image
    config: {platform: linux, run: {path: sh, args: [-c, "true"]}}
"""
BAD = {
    "a misspelt key of a resource": ("regexp: a", "regex: a", "there is no key 'regex'"),
    "unpack in source": ("bucket: b,", "bucket: b, unpack: true,", "there is no key 'unpack'"),
    "no group": ("a-(.*)", "a-.*", "no group"),
    "a key of a job": ("- name: job", "- name: job\n  serials: true", "there is no key 'serials'"),
    "a key of a step": ("image: image", "images: image", "there is no key 'images'"),
    "a param of a get": ("unpack: true", "unpacked: true", "there is no key 'unpacked'"),
    "a step of two kinds": ("- get: image", "- get: image\n    put: image", "a step is one of"),
    "a key of a task": ("{platform: linux", "{platform: linux, image: x", "there is no key 'image'"),
    "a key of run": ("path: sh", "pth: sh", "there is no key 'pth'"),
    "a truth for a text": ('"true"', "true", "is no text"),
    "no platform": ("platform: linux, ", "", "'platform' is missing"),
    "no image": ("image: image\n    config", "config", "it has no image"),
    "an image that is not there yet": ("image: image\n    config", "image: other\n    config", "nothing gives 'other'"),
    "a resource that is not there": ("- get: image", "- get: other", "there is no resource 'other'"),
    "a resource that nobody uses": ("- get: image", "- get: image\n    resource: other", "resource 'image' is not used"),
    "a type that is not there": ("type: s3", "type: s4", "there is no resource type 's4'"),
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_an_example_is_valid(name: str) -> None:
    document = read((EXAMPLES / name).read_text())
    assert list(exposed(document)) == []
    assert problems(resolved(document, VARS, leave=".:")) == []


def test_the_variables_are_those_of_the_examples() -> None:
    used = {var for name in NAMES for var in variables(read((EXAMPLES / name).read_text())) if not var.startswith(".:")}
    assert used == set(_leaves(VARS))


def test_the_readme_of_the_examples_names_each() -> None:
    text = (EXAMPLES / "README.md").read_text()
    assert sorted(set(re.findall(r"^\| \[([\w-]+\.yml)\]\(\1\)", text, re.MULTILINE))) == NAMES


def blocks() -> list[str]:
    """Return the YAML in the README."""
    return re.findall(r"^```ya?ml\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)


def test_there_is_yaml_in_the_readme() -> None:
    assert blocks()


@pytest.mark.parametrize("block", blocks())
def test_the_yaml_in_the_readme(block: str) -> None:
    document = read(block)
    assert list(exposed(document)) == []
    assert problems(document) == []


@pytest.mark.parametrize("name", BAD)
def test_the_schema_finds(name: str) -> None:
    old, new, said = BAD[name]
    assert problems(read(GOOD)) == []
    assert GOOD.count(old) == 1
    found = problems(read(GOOD.replace(old, new)))
    assert [problem for problem in found if said in problem], found


def test_a_secret_is_found() -> None:
    assert list(exposed(read(GOOD))) == []
    assert list(exposed(read(GOOD.replace("((key))", "AKIA")))) == [
        ".resources[0].source.access_key_id: a secret that is no variable"
    ]


def test_variables_are_filled_in() -> None:
    document: Any = {"a": "((x.y))", "b": "p((x.y))-((z))", "c": ["((.:key))"], "d": 1}
    assert variables(document) == {"x.y", "z", ".:key"}
    assert resolved(document, {"x": {"y": 2}, "z": "s"}, leave=".:") == {
        "a": 2, "b": "p2-s", "c": ["((.:key))"], "d": 1,
    }  # fmt: skip
    assert resolved("((.:key))", {"key": "k"}) == "k"
    with pytest.raises(pipelines.UnknownVariableError, match="z"):
        resolved(document, {"x": {"y": 2}})


def _leaves(values: Data, before: str = "") -> list[str]:
    """Return the dotted names of what is given, down to what is no map or an empty one."""
    found = []
    for name, value in values.items():
        found += _leaves(value, f"{before}{name}.") if isinstance(value, dict) and value else [before + name]
    return found
