"""What is said of an image, changed while it is packed."""

from __future__ import annotations

import io
import json
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from ocirootfs.edits import Edits, command
from ocirootfs.errors import UsageError
from ocirootfs.manifest import Config, parse_config
from tests.commands import run_here
from tests.layers import build

if TYPE_CHECKING:
    from pathlib import Path

ENTRIES: list[dict[str, Any]] = [
    {"type": "file", "name": "old", "data": "x", "mtime": 1_000_000_000},
    {"type": "file", "name": "new", "data": "x", "mtime": "1600000000.25"},
    {"type": "hardlink", "name": "same", "linkname": "new"},
    {"type": "dir", "name": "d", "mtime": 1_600_000_000},
]
CONFIG = {
    "config": {
        "Env": ["PATH=/bin", "A=1", "B=2", "A=3"],
        "User": "app",
        "Entrypoint": ["/run"],
        "Cmd": ["x"],
        "Labels": {"a": "1", "b": "2"},
    }
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    return tmp_path


@pytest.fixture
def source(tmp_path: Path) -> str:
    return f"oci:{build([{'entries': ENTRIES}], config=CONFIG).layout(tmp_path / 'layout')}"


def packed(source: str, *words: str) -> tarfile.TarFile:
    ran = run_here("pack", source, "-o", "-", "--compress", "none", *words).ok
    return tarfile.open(fileobj=io.BytesIO(ran.out))


def document(archive: tarfile.TarFile, name: str = "metadata.json") -> Any:
    file = archive.extractfile(name)
    assert file is not None
    return json.load(file)


AS_IT_IS = {"env": ["PATH=/bin", "A=1", "B=2", "A=3"], "user": "app", "entrypoint": ["/run"], "cmd": ["x"]}

# Options, and what they change of the above.
CHANGES: list[tuple[list[str], dict[str, Any]]] = [
    ([], {}),
    (["--env", "C=x=y"], {"env": ["PATH=/bin", "A=1", "B=2", "A=3", "C=x=y"]}),
    (["--env", "A=4"], {"env": ["PATH=/bin", "A=4", "B=2"]}),
    (["--env", "A=4", "--env", "A=5", "--env", "E="], {"env": ["PATH=/bin", "A=5", "B=2", "E="]}),
    (["--unset-env", "A", "--unset-env", "NONE"], {"env": ["PATH=/bin", "B=2"]}),
    (["--user", "1000:1000"], {"user": "1000:1000"}),
    (["--user", ""], {"user": ""}),
    (["--entrypoint", '["/bin/sh", "-c"]'], {"entrypoint": ["/bin/sh", "-c"]}),
    (["--entrypoint", "null", "--cmd", "[]"], {"entrypoint": None, "cmd": []}),
    (["--metadata", "m.json"], {"env": ["A=9"], "cmd": None}),
    (["--metadata", "m.json", "--env", "B=1", "--cmd", '["y"]'], {"env": ["A=9", "B=1"], "cmd": ["y"]}),
]


@pytest.mark.parametrize(("words", "changes"), CHANGES)
def test_metadata(words: list[str], changes: dict[str, Any], source: str, here: Path) -> None:
    (here / "m.json").write_text('{"env": ["A=9"], "cmd": null}')
    archive = packed(source, *words)
    assert document(archive) == AS_IT_IS | changes
    assert document(archive, "labels.json") == {"a": "1", "b": "2"}


def test_labels(source: str) -> None:
    archive = packed(source, "--label", "b=3", "--label", "org.example.c=ä=b")
    assert document(archive, "labels.json") == {"a": "1", "b": "3", "org.example.c": "ä=b"}


# What is wrong with an option, as the error says it.
WRONG: list[tuple[list[str], str]] = [
    (["--env", "A"], "'A' is not a variable of the form NAME=VALUE"),
    (["--env", "=A"], "'=A' is not a variable"),
    (["--unset-env", "A=1"], "'A=1' is not the name of a variable"),
    (["--env", "A=1", "--unset-env", "A"], "'A' cannot be both set and unset"),
    (["--user", "a:b:c"], "'a:b:c' is not a user"),
    (["--user", "a\nb"], r"'a\x0ab' is not a user"),
    (["--entrypoint", "/bin/sh"], "--entrypoint"),
    (["--cmd", '{"a": 1}'], "--cmd: expected an array, got an object"),
    (["--cmd", "[1]"], "--cmd[0]: expected a string"),
    (["--label", "a"], "--label 'a' is not of the form K=V"),
    (["--metadata", "odd.json"], "Concourse knows no 'workdir'"),
    (["--metadata", "text"], "text: "),
    (["--layout", "rootfs", "--user", "app"], "no metadata.json"),
    (["--source-date-epoch", "-1"], "--source-date-epoch '-1'"),
    (["--source-date-epoch=1.5"], "--source-date-epoch '1.5'"),
    (["--source-date-epoch", "9" * 30], "--source-date-epoch '999"),
]


@pytest.mark.parametrize(("words", "said"), WRONG)
def test_mistakes_are_told_before_anything_is_opened(words: list[str], said: str, here: Path) -> None:
    (here / "odd.json").write_text('{"workdir": "/"}')
    (here / "text").write_text("hello")
    ran = run_here("pack", "oci:nowhere", *words)
    assert ran.status == 2, ran.err
    assert said in ran.err.partition("ocirootfs: error: ")[2], ran.err


def test_a_metadata_file_that_is_not_there() -> None:
    assert run_here("pack", "oci:nowhere", "--metadata", "nowhere.json").status == 8


# Times


def times(archive: tarfile.TarFile) -> dict[str, float]:
    return {member.name: member.mtime for member in archive}


@pytest.mark.parametrize("kind", ["concourse", "rootfs"])
def test_nothing_is_younger_than_the_epoch(kind: str, source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = times(packed(source, "--layout", kind))
    assert max(before.values()) >= 1_600_000_000
    after = times(packed(source, "--layout", kind, "--source-date-epoch", "1500000000"))
    assert after == {name: min(time, 1_500_000_000) for name, time in before.items()}
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1400000000")
    assert max(times(packed(source, "--layout", kind)).values()) == 1_400_000_000
    assert times(packed(source, "--layout", kind, "--source-date-epoch", "1500000000")) == after
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "")
    assert times(packed(source, "--layout", kind)) == before


def test_an_epoch_that_makes_no_sense(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    ran = run_here("pack", source)
    assert (ran.status, "SOURCE_DATE_EPOCH 'yesterday'" in ran.err) == (2, True)


# The library


def config(**settings: Any) -> Config:
    raw = {"os": "linux", "architecture": "amd64", "config": settings, "rootfs": {"type": "layers", "diff_ids": []}}
    return parse_config(json.dumps(raw).encode(), "test")


def test_no_edits_change_nothing() -> None:
    """Not even what is there twice."""
    given = config(Env=["A=1", "A=1", "odd", "B=2"], Cmd=[])
    assert Edits().apply(given) == given
    assert not Edits()
    assert Edits(user="")


def test_edits_say_what_they_are() -> None:
    """Whatever shapes an archive is in repr(), from which its fingerprint is made."""
    several = [
        Edits(), Edits(env=("A=1",)), Edits(unset_env=("A",)), Edits(whole_env=()), Edits(user=""), Edits(cmd=None),
        Edits(cmd=()), Edits(entrypoint=None), Edits(labels=(("a", "b"),)),
    ]  # fmt: skip
    assert len({repr(each) for each in several}) == len(several)


def test_commands() -> None:
    assert command('["a", ""]', "x") == ("a", "")
    assert command("null", "x") is None
    with pytest.raises(UsageError) as caught:
        command("a", "--cmd")
    assert caught.value.hint == """--cmd '["/bin/sh", "-c"]', or null for none"""
