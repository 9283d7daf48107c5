"""Lists of images: what they say, and which line is wrong with them."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from ocirootfs import strictyaml
from ocirootfs.edits import Edits
from ocirootfs.errors import UsageError
from ocirootfs.imagelist import Wanted, parse

TO = "to: 's3://bkt/{name}/{name}-{tag}.tgz'"


def parsed(text: str) -> list[Wanted]:
    return parse(text.encode(), "images.yml")


def test_what_a_list_says() -> None:
    found = parsed("""\
defaults: &d
  to: 's3://bkt/{name}/{name}-{version}.tgz'
  platforms: [linux/amd64]
  exclude: [usr/share/doc]
images:
  - ubuntu:17.04
  - image: alpine:3.20
    to: s3://cup/alpine-{version}-{arch}.tar
    platforms: [linux/amd64, arm64]
    exclude: []
    version_as: 3.20
    user: 1000
    env: {A: yes, B: 'x y'}
    entrypoint: [/bin/sh, -c]
    cmd: []
    group: base
  - {image: 'r.corp/app', layout: rootfs, platforms: linux/s390x}
""")
    assert [(str(each.reference), str(each.platform), each.line) for each in found] == [
        ("docker.io/library/ubuntu:17.04", "linux/amd64", 6),
        ("docker.io/library/alpine:3.20", "linux/amd64", 7),
        ("docker.io/library/alpine:3.20", "linux/arm64", 7),
        ("r.corp/app:latest", "linux/s390x", 17),
    ]
    assert [each.layout.exclude for each in found] == [("usr/share/doc",), (), (), ("usr/share/doc",)]
    assert [each.layout.kind for each in found] == ["concourse", "concourse", "concourse", "rootfs"]
    assert [each.group for each in found] == ["mirror", "base", "base", "mirror"]
    assert found[1].version_as == "3.20"  # a version, and not the number 3.2
    edits = Edits(env=("A=yes", "B=x y"), user="1000", entrypoint=("/bin/sh", "-c"), cmd=None)
    assert found[1].layout.edits == edits
    assert found[0].layout.edits == Edits()


@pytest.mark.parametrize("nothing", ["", "null", "~", "{}"])
def test_defaults_may_be_nothing(nothing: str) -> None:
    assert len(parsed(f"defaults: {nothing}\nimages:\n- {{image: x, {TO}}}\n")) == 1


def test_anchors_and_merge_keys() -> None:
    found = parsed(f"""\
defaults: {{{TO}}}
images:
  - &a {{image: x, exclude: &e [usr], group: one}}
  - {{<<: *a, image: y}}
  - {{image: z, exclude: *e}}
""")
    assert [(each.name, each.layout.exclude, each.group) for each in found] == [
        ("x:latest", ("usr",), "one"),
        ("y:latest", ("usr",), "one"),
        ("z:latest", ("usr",), "mirror"),
    ]


BOMB = "\n".join(["a0: &a0 [x, x]", *(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 30))])

# A list, and what the complaint must say: its line, and what to do.
WRONG = [
    ("", "is empty"),
    ("images: []", "line 1: the list is empty"),
    ("imagse: [x]", "line 1: there is no 'imagse' here|did you mean images?"),
    (f"defaults: {{{TO}}}", "there are no 'images'"),
    ("[ubuntu]", "line 1: expected names and values, not a list"),
    ("images: ubuntu", "line 1: expected a list, not text"),
    ("images:\n- ubuntu", "line 2: there is no 'to', neither here nor in 'defaults'"),
    (f"defaults: {{{TO}}}\nimages:\n- image: b\n  exlcude: [x]", "line 4: there is no 'exlcude'|did you mean exclude?"),
    (f"defaults: {{{TO}}}\nimages:\n- image: a\n  image: b", "line 4: 'image' is there twice, first in line 3"),
    (f"defaults: {{{TO}}}\nimages:\n- a\n- {{to: x}}", "line 4: there is no 'image' here"),
    (f"defaults: {{{TO}}}\nimages:\n- a\n- UPPER/Case", "line 4: .*invalid image reference"),
    (f"defaults: {{{TO}}}\nimages:\n- a\n- a", "line 4: a:latest goes to the same place as in line 3"),
    (f"defaults: {{{TO}}}\nimages:\n- null", "line 3: expected text, not nothing"),
    (f"defaults: {{{TO}}}\nimages:\n- {{image: a, platforms: [amd64, x86_64]}}", "line 3: a platform is there twice"),
    (f"defaults: {{{TO}}}\nimages:\n- {{image: a, platforms: [linux]}}", "line 3: "),
    (f"defaults: {{{TO}}}\nimages:\n- {{image: a, platforms: []}}", "line 3: there is no platform"),
    (f"defaults: {{{TO}}}\nimages:\n- {{image: a, exclude: [../x]}}", "line 3: the pattern"),
    (f"defaults: {{{TO}}}\nimages:\n- {{image: a, env: [X]}}", "line 3: 'X' is not a variable"),
    (f"defaults: {{{TO}}}\nimages:\n- {{image: a, layout: rootfs, user: x}}", "line 3: the layout rootfs has no"),
    (f"defaults: {{{TO}}}\nimages:\n- {{image: a, layout: tar}}", "line 3: there is no layout 'tar'"),
    (f"defaults: {{{TO}}}\nimages:\n- {{image: a, group: A b}}", "line 3: 'A b' is no name for a job"),
    ("images:\n- {image: a, to: /tmp/x.tgz}", "line 2: .*is not of the form s3://"),
    ("images:\n- {image: a, to: 's3://{name}/x.tgz'}", "line 2: .*is not of the form s3://"),
    ("images:\n- {image: a, to: 's3://bkt/x/'}", "line 2: .*names no object"),
    ("images:\n- {image: a, to: 's3://bkt/{nmae}.tgz'}", "line 2: .*there is no field '{nmae}'"),
    ("images:\n- {image: a, to: 's3://bkt/{name}.zip'}", "line 2: .*suffix of a format that is not written"),
    ("images:\n- {image: a, to: 's3://bkt/{name}.gz'}", "line 2: Concourse would not unpack"),
    (f"defaults: {{{TO}}}\nimages: [", "line 2: "),
    (f"defaults: {{{TO}}}\nimages:\n\t- a", "line 3: "),
    (f"defaults: {{{TO}}}\nimages: [a]\n---\nimages: [b]", "line 3: .*another document"),
    (f"defaults: {{{TO}}}\nimages: !!python/object:os.system [a]", "line 2: expected a list, not something tagged"),
    (f"defaults: {{{TO}}}\nimages: [!!python/name:os.system a]", "line 2: expected .*something tagged|quotes"),
    ("images: &x [*x]", "nested deeper"),
    ("[" * 40 + "]" * 40, "nested deeper"),
    ("[" * 5000, "nested deeper"),
    ("images:\n- *nobody", "line 2: found undefined alias"),
    (BOMB, "unfolds to more than 100000 values"),
    ("images: [a]#" + "x" * (1 << 18), "larger than 262144 bytes"),
    ("images: [\x00]", "is not YAML"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "said"), WRONG, ids=[text[:40] for text, _ in WRONG])
def test_what_is_wrong_is_told_with_its_line(text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        parsed(text)
    first, _, hint = said.partition("|")
    caught.match(first)
    assert hint in f"{caught.value.hint} {caught.value}"
    assert "\n" not in str(caught.value)


# What is written


@pytest.mark.parametrize("value", [
    {"b": [1, {"a": "x"}], "a": "((s3.key))"},
    {"text": ["yes", "3.20", "", "a: b", "é", "#", "'", '"', "- x", "null", " x ", "a\nb", "~", "\x1b[0m", "{{name}}"]},
    {"same": [["x"], ["x"]]},
], ids=str)  # fmt: skip
def test_what_is_dumped_is_read_again(value: Any) -> None:
    text = strictyaml.dump(value)
    assert yaml.safe_load(text) == value
    assert text.isascii()
    same = ["x"]
    assert "&" not in strictyaml.dump([same, same])
