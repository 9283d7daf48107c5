"""The pipelines in examples/concourse and in the README, against Concourse's schema; `test_concourse` runs them."""

from __future__ import annotations

import functools
import itertools
import random
import re
from typing import Any

import pytest

from ocirootfs import versions
from tests import pipelines, s3resource
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
    "a resource that nobody uses": ("- get: image", "- get: image\n    resource: other", "'image' is not used"),
    "a type that is not there": ("type: s3", "type: s4", "there is no resource type 's4'"),
}  # fmt: skip

ORDERS = [
    "16.10 16.04 17.10 17.04 18.10 18.04",
    "1000 0998 0999",
    "2024.10.01 2024.01.05 2024.09.30",
    "v10.0 v9.0",
    "3.9 3.10 3.18",
    "1.2.3-20240101 1.2.3 1.2.3+20240101 1.2.3.20240101",
    "1.0 2.0 latest",
    "17.04-amd64 17.04 17.04_amd64",
    "jammy-20240101 jammy-20240212 noble-20240101",
]
"""Oldest first, as the resource's own library was seen to sort them."""


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


@pytest.mark.parametrize("versions", ORDERS)
def test_the_order_of_versions(versions: str) -> None:
    ordered = versions.split()
    key = functools.cmp_to_key(s3resource.compared)
    assert sorted(random.Random(1).sample(ordered, len(ordered)), key=key) == ordered
    assert all(s3resource.compared(one, other) < 0 for one, other in itertools.pairwise(ordered))


def test_two_orders_written_apart_agree() -> None:
    """Ours and that of the resource that the tests act as."""
    made = random.Random(4)
    parts = ["0", "00", "1", "01", "9", "10", "04", "a", "A", "rc1", "_", "1a"]
    for _ in range(3000):
        one, other = ("".join(made.choice(parts) + made.choice([".", "-", "+", ""]) for _ in range(4)) for _ in "ab")
        if versions.fault(one) or versions.fault(other):
            continue
        ours = versions.order(one), versions.order(other)
        sign = s3resource.compared(one, other)
        assert (sign < 0, sign > 0) == (ours[0] < ours[1], ours[0] > ours[1]), (one, other)


@pytest.mark.parametrize("same", ["1 1.0 1.0.0", "1-0 1.0-0.0"])
def test_versions_that_are_the_same(same: str) -> None:
    one, *others = same.split()
    assert [s3resource.compared(one, other) for other in others] == [0] * len(others)


@pytest.mark.parametrize("version", ["", "1.0.0-sha256:abc", "1..2", "1.2.", "3.0.0~rc", "1 2", "9" * 20, "1+a+b"])
def test_what_is_no_version(version: str) -> None:
    with pytest.raises(s3resource.ResourceError):
        s3resource.compared(version, "1")


@pytest.mark.parametrize(
    ("key", "regexp", "version"),
    [
        ("a/a-1.tgz", r"a/a-(.*)\.tgz", "1"),
        ("a/a-1.tgz.sha256", r"a/a-(.*)\.tgz", None),
        ("a/a-b/c.tgz", r"a/a-(.*)\.tgz", None),
        ("a/a-1-abc.tar", r"a/a-(.*)-(.*)\.tar", "1"),
        ("a/abc-1.tar", r"a/(.*)-(?P<version>.*)\.tar", "1"),
        ("b/a-1.tgz", r"a/a-(.*)\.tgz", None),
    ],
)
def test_the_version_in_a_key(key: str, regexp: str, version: str | None) -> None:
    assert s3resource.version_in(key, regexp) == version


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
