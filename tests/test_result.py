"""What the command line says that it did, and what it does not do twice."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.commands import pipe, run, run_here
from tests.layers import OCI_MANIFEST, Built, build
from tests.servers.registry import FakeRegistry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.servers.moto import S3Endpoint

LAYER: list[dict[str, Any]] = [
    {"type": "file", "name": "a", "data": "hello", "uid": 70_000},
    {"type": "file", "name": "ping", "data": "x", "xattrs": {"security.capability": "x"}},
    {"type": "char", "name": "null", "devmajor": 1, "devminor": 3},
]


@pytest.fixture(scope="module")
def built() -> Built:
    return build([{"entries": LAYER}])


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry() as found:
        yield found


@pytest.fixture
def reference(registry: FakeRegistry, built: Built) -> str:
    return str(registry.add("team/app", "1.2", built.manifest, OCI_MANIFEST, built.blobs))


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def to(s3: S3Endpoint, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3.endpoint)
    return ["-o", f"s3://{s3.bucket}/{{name}}/{{name}}-{{version}}.tgz"]


def layers_read(registry: FakeRegistry, built: Built) -> int:
    layers = {layer["digest"] for layer in json.loads(built.manifest)["layers"]}
    return sum(any(digest in request.path for digest in layers) for request in registry.requests)


def test_json(reference: str, built: Built, s3: S3Endpoint, to: list[str], here: Path) -> None:
    ran = run_here("pack", reference, *to, "--json", "--result", "result.json", "-q")
    assert ran.status == 0, ran.err
    found = json.loads(ran.out)
    assert json.loads((here / "result.json").read_text()) == found
    body = s3.body("app/app-1.2.tgz")
    head = s3.client.head_object(Bucket=s3.bucket, Key="app/app-1.2.tgz")
    warnings = found.pop("warnings")
    (lost,) = warnings
    assert lost.split("; ") == [
        "device nodes left out: 1 ('null')",
        "files that lose their capabilities, which no reader of this layout restores: 1 ('ping')",
        "entries of an id over 65534, which some workers cannot map: 1 ('a')",
    ]
    assert found == {
        "image": reference,
        "digest": built.digest,
        "platform": head["Metadata"]["ocirootfs-platform"],
        "destination": f"s3://{s3.bucket}/app/app-1.2.tgz",
        "size": len(body),
        "sha256": hashlib.sha256(body).hexdigest(),
        "etag": head["ETag"].strip('"'),
        "version_id": None,
        "concourse_version": "1.2",
        "layers": 1,
        "layers_size": sum(layer["size"] for layer in json.loads(built.manifest)["layers"]),
        "entries": 3,
        "skipped": False,
        "devices": ["null"],
        "capabilities": ["ping"],
        "high_ids": ["a"],
    }
    assert head["Metadata"]["ocirootfs-image"] == reference
    assert head["Metadata"]["ocirootfs-digest"] == built.digest


def test_text(reference: str, s3: S3Endpoint, to: list[str]) -> None:
    ran = run_here("pack", reference, *to, "-v")
    assert ran.out.decode() == f"s3://{s3.bucket}/app/app-1.2.tgz\n"
    assert r"ocirootfs: Concourse sees version 1.2 with 'regexp: app/app-(.*)\.tgz'" in ran.err
    block = f"""image_resource:
  type: s3
  source:
    bucket: '{s3.bucket}'
    regexp: 'app/app-(.*)\\.tgz'
    endpoint: '{s3.endpoint}'
    access_key_id: '((s3.key))'
    secret_access_key: '((s3.secret))'
    use_path_style: true
  params: {{unpack: true}}
"""
    assert block in ran.err
    quiet = run_here("pack", reference, *to, "-q")
    assert (quiet.status, quiet.err) == (0, "")


def test_names_that_concourse_finds_no_version_in(reference: str, s3: S3Endpoint, to: list[str]) -> None:
    ran = run_here("pack", reference, "-o", f"s3://{s3.bucket}/app.tgz")
    assert "use 'versioned_file: app.tgz'" in ran.err
    ran = run_here("pack", reference, "-o", f"s3://{s3.bucket}/app-1~2.tgz")
    assert "warning: Concourse's check of this bucket would fail: '1~2'" in ran.err


def test_a_result_is_there_only_if_all_went_well(reference: str, here: Path) -> None:
    ran = run_here("pack", reference, "-o", "s3://no-such-bucket-here/a.tgz", "--endpoint-url", "http://127.0.0.1:9",
                   "--result", "result.json")  # fmt: skip
    assert ran.status == 5
    assert list(here.iterdir()) == []
    assert run_here("pack", reference, "--result", "nowhere/result.json").status == 8
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-o", "-", "--json"], "would mix"),
        (["-o", "a.tgz", "--if-exists", "skip"], "--if-exists is for a bucket"),
        (["-o", "{nome}.tgz"], "no field '{nome}'"),
        (["-o", "a.tgz", "--version-as", "{"], "'{'"),
        (["-o", "{label:x}.tgz"], "nothing to put in"),
        (["-o", "{name}"], ""),
    ],
)
def test_usage(words: list[str], said: str, reference: str, here: Path) -> None:
    ran = run_here("pack", reference, *words)
    assert ran.status == (2 if said else 0), ran.err
    assert said in ran.err


def test_templates_name_files_too(reference: str, here: Path) -> None:
    assert run_here("pack", reference, "-o", "{name}-{version}-{arch}.tgz", "-q").ok.out.startswith(b"app-1.2-")


# Once is enough


def test_an_image_that_is_there_is_not_downloaded_again(
    registry: FakeRegistry, built: Built, reference: str, s3: S3Endpoint, to: list[str]
) -> None:
    assert run_here("pack", reference, *to).status == 0
    assert layers_read(registry, built) == 1
    before = s3.client.head_object(Bucket=s3.bucket, Key="app/app-1.2.tgz")
    ran = run_here("pack", reference, *to, "--json")
    assert (ran.status, layers_read(registry, built)) == (0, 1)
    found = json.loads(ran.out)
    assert (found["skipped"], found["size"], found["sha256"]) == (True, before["ContentLength"], None)
    assert "is there already" in ran.err
    for words in (
        ["--exclude", "a"], ["--acl", "private"], ["--s3-metadata", "a=b"], ["--if-exists", "replace"],
        ["--env", "A=1"], ["--source-date-epoch", "1"],
    ):  # fmt: skip
        read = layers_read(registry, built)
        assert run_here("pack", reference, *to, *words).status == 0
        assert layers_read(registry, built) == read + 1, words


def test_another_image_under_the_same_tag_replaces(
    registry: FakeRegistry, reference: str, s3: S3Endpoint, to: list[str]
) -> None:
    assert run_here("pack", reference, *to).status == 0
    before = s3.body("app/app-1.2.tgz")
    other = build([{"entries": [{"type": "file", "name": "b", "data": "other"}]}])
    registry.add("team/app", "1.2", other.manifest, OCI_MANIFEST, other.blobs)
    assert run_here("pack", reference, *to, "--if-exists", "skip").status == 0
    assert s3.body("app/app-1.2.tgz") == before
    assert run_here("pack", reference, *to, "--if-exists", "fail").status == 7
    assert s3.body("app/app-1.2.tgz") == before
    assert run_here("pack", reference, *to).status == 0
    assert s3.body("app/app-1.2.tgz") != before


def test_a_pipe_is_read_to_its_end_though_nothing_is_to_be_done(reference: str, to: list[str]) -> None:
    for skipped in (False, True):
        fetched, packed = pipe([reference], [*to, "--json"])
        assert (fetched.status, fetched.err, packed.status) == (0, "", 0)
        assert json.loads(packed.out)["skipped"] is skipped
    cut = run("fetch", reference).out[:-600]
    assert run("pack", *to, stdin=cut).status == 6
