"""`inspect`: what is known of an image without its layers."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from ocirootfs.cli.inspect import FIELDS
from tests.commands import run, run_here, started
from tests.layers import OCI_MANIFEST, Built, build
from tests.servers.registry import FakeRegistry, index

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONFIG = {
    "created": "2017-04-12T10:00:00Z",
    "config": {"Env": ["A=1", "BAD"], "User": "app", "Cmd": ["x"], "Labels": {"a": "\x1b[31m\u202eb"}},
}
OCI_INDEX = "application/vnd.oci.image.index.v1+json"


@pytest.fixture(scope="module")
def built() -> Built:
    layers: list[Any] = [{"entries": [{"type": "file", "name": name}]} for name in "ab"]
    return build(layers, config=CONFIG)


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry() as found:
        yield found


def entry(built: Built, architecture: str) -> dict[str, Any]:
    platform = {"os": "linux", "architecture": architecture}
    return {"mediaType": OCI_MANIFEST, "digest": built.digest, "size": len(built.manifest), "platform": platform}


@pytest.fixture
def listing(built: Built) -> bytes:
    attestation = {**entry(built, "unknown"), "platform": {"os": "unknown", "architecture": "unknown"}}
    return index([entry(built, "amd64"), entry(built, "s390x"), attestation])


@pytest.fixture
def reference(registry: FakeRegistry, built: Built, listing: bytes) -> str:
    registry.add("team/app", "1", built.manifest, OCI_MANIFEST, built.blobs)
    return str(registry.add("team/app", "2", listing, OCI_INDEX))


def layer_digests(built: Built) -> list[str]:
    return [layer["digest"] for layer in json.loads(built.manifest)["layers"]]


def test_everything(registry: FakeRegistry, reference: str, built: Built, listing: bytes) -> None:
    ran = run_here("inspect", reference, "--platform", "linux/amd64")
    assert ran.status == 0, ran.err
    found = json.loads(ran.out)
    manifest = json.loads(built.manifest)
    config = json.loads(built.blobs[manifest["config"]["digest"]])
    (warning,) = found.pop("warnings")
    assert "'BAD' is left out" in warning
    assert warning in ran.err
    assert found == {
        "reference": reference,
        "digest": built.digest,
        "media_type": OCI_MANIFEST,
        "platform": f"linux/{config['architecture']}",
        "index": "sha256:" + hashlib.sha256(listing).hexdigest(),
        "platforms": ["linux/amd64", "linux/s390x"],
        "created": "2017-04-12T10:00:00Z",
        "size": sum(layer["size"] for layer in manifest["layers"]),
        "layers": [
            {"digest": layer["digest"], "diff_id": diff_id, "media_type": layer["mediaType"], "size": layer["size"]}
            for layer, diff_id in zip(manifest["layers"], config["rootfs"]["diff_ids"], strict=True)
        ],
        "annotations": {},
        "config": config,
        "metadata": {"env": ["A=1"], "user": "app", "entrypoint": None, "cmd": ["x"]},
    }
    assert list(json.loads(ran.out)) == list(FIELDS)
    assert not [request for request in registry.requests if any(each in request.path for each in layer_digests(built))]


def field(source: str, name: str, *words: str) -> bytes:
    ran = run_here("inspect", source, "--field", name, "-q", *words)
    assert ran.status == 0, ran.err
    return ran.out


def test_fields(reference: str, built: Built) -> None:
    one = reference.replace(":2", ":1")
    assert field(one, "digest").decode() == f"{built.digest}\n"
    assert field(one, "created") == b"2017-04-12T10:00:00Z\n"
    assert int(field(one, "size")) == sum(layer["size"] for layer in json.loads(built.manifest)["layers"])
    assert json.loads(field(one, "metadata"))["user"] == "app"
    assert len(json.loads(field(one, "layers"))) == 2


def test_fields_that_there_are_not(reference: str) -> None:
    ran = run_here("inspect", reference.replace(":2", ":1"), "--field", "index")
    assert (ran.status, ran.out) == (3, b"")
    assert "this image has no index" in ran.err
    ran = run_here("inspect", reference, "--field", "digset")
    assert (ran.status, "there is no 'digset', did you mean digest?" in ran.err) == (2, True), ran.err


def test_the_manifest_as_it_is(reference: str, built: Built) -> None:
    assert run_here("inspect", reference, "--platform", "linux/s390x", "--raw").out == built.manifest
    ran = run_here("inspect", reference, "--raw", "--field", "digest")
    assert ran.status == 2


def test_the_sources_agree(reference: str, built: Built, tmp_path: Path) -> None:
    layout = f"oci:{built.layout(tmp_path / 'layout')}"
    stream = run_here("fetch", layout).ok.out
    (tmp_path / "image.tar").write_bytes(stream)
    told = [
        json.loads(run_here("inspect", *words, "-q", stdin=stdin).out)
        for words, stdin in (([layout], b""), ([], stream), ([str(tmp_path / "image.tar")], b""), ([reference], b""))
    ]
    for found in told:
        for name in ("reference", "index", "platforms"):
            found.pop(name)
    assert all(found == told[0] for found in told)


def test_an_archive_of_all_platforms(reference: str, listing: bytes) -> None:
    stream = run_here("fetch", reference, "--all-platforms").out
    found = json.loads(run_here("inspect", "-q", "--platform", "linux/s390x", stdin=stream).out)
    assert found["index"] == "sha256:" + hashlib.sha256(listing).hexdigest()
    assert found["platforms"] == ["linux/amd64", "linux/s390x"]


def test_a_pipe_that_breaks_off(built: Built, tmp_path: Path) -> None:
    """What came is not shown: nobody knows what would have come."""
    stream = run_here("fetch", f"oci:{built.layout(tmp_path / 'layout')}").ok.out
    assert run_here("inspect", stdin=stream[:-512]).status == 6


def test_a_terminal_is_told_no_commands(tmp_path: Path) -> None:
    """A field that is a text is shown without quotes, and could be anything."""
    layout = build([], config={**CONFIG, "created": "\x1b[31m\u202e"}).layout(tmp_path / "layout")
    assert field(f"oci:{layout}", "created") == "\x1b[31m\u202e\n".encode()
    for words in ([], ["--field", "config"], ["--field", "created"]):
        ours, theirs = pty.openpty()
        with started("inspect", f"oci:{layout}", *words, stdout=theirs, stdin=subprocess.DEVNULL) as process:
            os.close(theirs)
            shown = os.read(ours, 1 << 16)
            assert process.wait(30) == 0
        os.close(ours)
        assert shown
        assert not {0x1B, 0xE2} & set(shown)


def test_what_is_not_there() -> None:
    assert run_here("inspect", "oci:nowhere").status == 3
    assert run("inspect", stdin=b"").status == 6
