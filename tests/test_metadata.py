from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from ocirootfs.digest import Digest
from ocirootfs.manifest import Config, parse_config
from ocirootfs.metadatajson import companions, metadata_json
from ocirootfs.reference import Reference


def config(**settings: Any) -> Config:
    document = {
        "os": "linux",
        "architecture": "amd64",
        "config": settings,
        "rootfs": {"type": "layers", "diff_ids": []},
    }
    return parse_config(json.dumps(document).encode(), "test")


def read(**settings: Any) -> Any:
    raw = metadata_json(config(**settings))
    assert raw.endswith(b"}\n")
    assert raw.count(b"\n") == 1
    return json.loads(raw)


def test_what_an_image_does_not_set() -> None:
    """Concourse takes null for lists, but `env` is safest as a list; an entrypoint that is null is none."""
    assert read() == {"env": [], "user": "", "entrypoint": None, "cmd": None}
    assert read(Env=None, User="", Entrypoint=None, Cmd=None) == read()


def test_an_empty_command_is_not_none() -> None:
    assert read(Entrypoint=[], Cmd=[]) == {"env": [], "user": "", "entrypoint": [], "cmd": []}


def test_everything_verbatim_and_in_order() -> None:
    env = ["PATH=/bin", "B=", "A=x=y", 'Q="quoted"', "U=ünï", "PATH=/usr/bin"]
    found = read(Env=env, User="app:staff", Entrypoint=["/bin/sh", "-c"], Cmd=["echo hello", "x"])
    assert found == {"env": env, "user": "app:staff", "entrypoint": ["/bin/sh", "-c"], "cmd": ["echo hello", "x"]}


@pytest.mark.parametrize("variable", ["FOO", "", "=x", "A=\0"])
def test_a_variable_that_stops_containers_is_left_out_and_told(variable: str, caplog: pytest.LogCaptureFixture) -> None:
    assert read(Env=["A=1", variable, "B=2"])["env"] == ["A=1", "B=2"]
    assert "is left out" in caplog.text


@pytest.mark.parametrize(
    ("user", "warned"),
    [
        ("2147483647", False),
        ("2147483648", True),
        ("1:2147483648", True),
        ("9" * 5000, True),
        ("app", False),
        ("", False),
    ],
)
def test_a_user_that_no_container_starts_as(user: str, warned: bool, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert read(User=user)["user"] == user
    assert ("no container starts as user" in caplog.text) == warned


def test_the_files_beside_it() -> None:
    digest = Digest.of(b"")
    found = dict(companions(config(Labels={"b": "2", "a": "ä"}), digest, Reference.parse("ubuntu:17.04")))
    assert found == {
        b"labels.json": '{"a":"ä","b":"2"}\n'.encode(),
        b"digest": str(digest).encode(),
        b"tag": b"17.04",
        b"repository": b"ubuntu",
    }


def test_only_what_is_known_stands_beside_it() -> None:
    assert dict(companions(config(), None, None)) == {b"labels.json": b"{}\n"}
    pinned = Reference.parse(f"ghcr.io/a/b@{Digest.of(b'')}")
    assert b"tag" not in dict(companions(config(), None, pinned))
    assert dict(companions(config(), None, pinned))[b"repository"] == b"ghcr.io/a/b"
