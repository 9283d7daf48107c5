"""Several images, or a whole index, in one archive, and one image out of it again."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

import ocirootfs
from ocirootfs.archive.members import StreamMembers
from ocirootfs.archive.ocilayout import find
from ocirootfs.errors import UsageError
from ocirootfs.manifest import OCI_INDEX
from ocirootfs.spool import Spool
from tests.commands import pipe, run_here
from tests.layers import Built, build, sha256
from tests.servers.registry import FakeRegistry, descriptor, index

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def layer(name: str, size: int = 20_000) -> dict[str, Any]:
    return {"entries": [{"type": "file", "name": name, "data": name * size}], "wrap": "none"}


BASE = layer("base")
APPS = {"one": build([BASE, layer("one")]), "two": build([BASE, layer("mid"), layer("two")])}


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with FakeRegistry() as found:
        for name, built in APPS.items():
            found.add(name, "1", built.manifest, built.media_type, built.blobs)
        yield found


def names(fake: FakeRegistry) -> list[str]:
    return [f"{fake.host}/{name}:1" for name in APPS]


def blobs(built: Built) -> list[str]:
    return [entry["digest"].replace("sha256:", "blobs/sha256/") for entry in json.loads(built.manifest)["layers"]]


def members(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        found = [(member.name, files.extractfile(member)) for member in files]
        assert len({name for name, _ in found}) == len(found)
        return {name: file.read() for name, file in found if file}


def held(path: Path) -> set[str]:
    with tarfile.open(path) as files:
        return {member.name for member in files if member.name.startswith("rootfs/") and member.isfile()}


def bundle(fake: FakeRegistry, tmp_path: Path) -> Path:
    path = tmp_path / "bundle.tar"
    run_here("fetch", *names(fake), "--no-creds", "-o", str(path)).ok  # noqa: B018
    return path


def test_what_is_in_it(fake: FakeRegistry, tmp_path: Path) -> None:
    found = members(bundle(fake, tmp_path).read_bytes())
    entries = json.loads(found["index.json"])["manifests"]
    assert [entry["annotations"]["io.containerd.image.name"] for entry in entries] == names(fake)
    # The tag of both tells neither.
    assert [entry["annotations"]["org.opencontainers.image.ref.name"] for entry in entries] == names(fake)
    assert [entry["digest"] for entry in entries] == [built.digest for built in APPS.values()]
    assert [image["RepoTags"] for image in json.loads(found["manifest.json"])] == [[name] for name in names(fake)]
    for name, data in found.items():
        if name.startswith("blobs/"):
            assert sha256(data) == name.replace("blobs/sha256/", "sha256:")


@pytest.mark.real
def test_skopeo_finds_each_of_several(fake: FakeRegistry, tmp_path: Path, real: Callable[[str], Path]) -> None:
    path = bundle(fake, tmp_path)
    for name, built in zip(names(fake), APPS.values(), strict=True):
        command = [str(real("skopeo")), "inspect", "--raw", f"oci-archive:{path}:{name}"]
        found = subprocess.run(command, capture_output=True, check=True, timeout=60).stdout
        assert found == built.manifest


def test_what_is_shared_is_there_once_and_each_image_topmost_first(fake: FakeRegistry, tmp_path: Path) -> None:
    order = [
        name for name in members(bundle(fake, tmp_path).read_bytes()) if name in blobs(APPS["one"]) + blobs(APPS["two"])
    ]
    one, two = blobs(APPS["one"]), blobs(APPS["two"])
    assert order == [one[1], one[0], two[2], two[1]]
    asked = [found.path for found in fake.seen(path=one[0].rpartition("/")[2])]
    assert len(asked) == 1


@pytest.mark.parametrize("form", ["{}", "oci-archive:{}", "docker-archive:{}"])
def test_one_out_of_it(fake: FakeRegistry, tmp_path: Path, form: str) -> None:
    path = form.format(bundle(fake, tmp_path))
    run_here("pack", path, "--image", names(fake)[1], "-o", str(tmp_path / "x.tgz")).ok  # noqa: B018
    assert held(tmp_path / "x.tgz") == {"rootfs/base", "rootfs/mid", "rootfs/two"}


def test_one_out_of_a_pipe(fake: FakeRegistry, tmp_path: Path) -> None:
    fetch, pack = pipe([*names(fake), "--no-creds"], ["--image", names(fake)[1], "-o", str(tmp_path / "x.tgz")])
    fetch.ok, pack.ok  # noqa: B018
    assert held(tmp_path / "x.tgz") == {"rootfs/base", "rootfs/mid", "rootfs/two"}


def test_of_several_one_must_be_named(fake: FakeRegistry, tmp_path: Path) -> None:
    ran = run_here("pack", str(bundle(fake, tmp_path)), "-o", str(tmp_path / "x.tgz"))
    assert ran.status == 2
    assert all(name in ran.err for name in names(fake))
    assert not (tmp_path / "x.tgz").exists()


@pytest.mark.parametrize("name", ["three:1", "1"])
def test_names_that_do_not_choose(fake: FakeRegistry, tmp_path: Path, name: str) -> None:
    """`1` is the tag of both."""
    ran = run_here("pack", str(bundle(fake, tmp_path)), "--image", name, "-o", str(tmp_path / "x.tgz"))
    assert ran.status == 3
    assert all(found in ran.err for found in names(fake))


def test_a_registry_has_nothing_to_choose_from(fake: FakeRegistry) -> None:
    ran = run_here("pack", names(fake)[0], "--image", "x", "--no-creds")
    assert (ran.status, "--image" in ran.err) == (2, True)


def test_a_stream_keeps_only_what_the_image_needs(fake: FakeRegistry, tmp_path: Path) -> None:
    """The first image's own layer goes by; the shared one is kept until its turn."""
    archive = bundle(fake, tmp_path).read_bytes()
    sizes = {name: len(data) for name, data in members(archive).items()}
    base = sizes[blobs(APPS["two"])[0]]
    own = sizes[blobs(APPS["one"])[1]]
    with Spool() as spool:
        stream = StreamMembers(iter([archive]), "it", spool)
        image = find(stream, names(fake)[1], None)
        assert image is not None
        before = spool.end
        for each in reversed(image.layers):
            assert b"".join(each.open())
        assert base <= spool.end - before < base + own


def test_one_name_twice_is_one_image(fake: FakeRegistry, tmp_path: Path) -> None:
    name = names(fake)[0]
    run_here("fetch", name, name, "--no-creds", "-o", str(tmp_path / "x.tar")).ok  # noqa: B018
    assert len(json.loads(members((tmp_path / "x.tar").read_bytes())["index.json"])["manifests"]) == 1


def test_the_library(fake: FakeRegistry, tmp_path: Path) -> None:
    with ocirootfs.open(names(fake)[0]) as one, ocirootfs.open(names(fake)[1]) as two:
        ocirootfs.fetch([one, two], tmp_path / "x.tar")
    with ocirootfs.open(tmp_path / "x.tar", name=names(fake)[0]) as found:
        assert str(found.digest) == APPS["one"].digest
    with pytest.raises(UsageError):
        ocirootfs.fetch([], tmp_path / "y.tar")


# A whole index


def many(fake: FakeRegistry) -> tuple[str, bytes]:
    """Two platforms and an attestation; gives the reference and the index."""
    arm = build([BASE, layer("arm")], config={"architecture": "arm64"})
    amd = build([BASE, layer("amd")], config={"architecture": "amd64"})
    statement = b'{"_type": "statement"}'
    odd = json.loads(build([]).manifest)
    odd["layers"] = [descriptor(statement, "application/vnd.in-toto+json")]
    raw = json.dumps(odd).encode()
    for number, built in enumerate((arm, amd)):
        fake.add("many", str(number), built.manifest, built.media_type, built.blobs)
    fake.add("many", "odd", raw, amd.media_type, {**build([]).blobs, sha256(statement): statement})
    entries = [
        descriptor(built.manifest, built.media_type, platform={"os": "linux", "architecture": architecture})
        for built, architecture in ((arm, "arm64"), (amd, "amd64"))
    ]
    annotations = {"vnd.docker.reference.type": "attestation-manifest"}
    entries.append(descriptor(raw, amd.media_type, annotations=annotations))
    document = index(entries)
    return str(fake.add("many", "all", document, OCI_INDEX)), document


def test_all_platforms(fake: FakeRegistry, tmp_path: Path) -> None:
    name, document = many(fake)
    run_here("fetch", name, "--all-platforms", "--no-creds", "-o", str(tmp_path / "all.tar")).ok  # noqa: B018
    found = members((tmp_path / "all.tar").read_bytes())
    assert [entry["digest"] for entry in json.loads(found["index.json"])["manifests"]] == [sha256(document)]
    pending, seen = [sha256(document)], set()
    while pending:  # everything that is referred to is there
        digest = pending.pop()
        seen.add(digest)
        data = found[digest.replace("sha256:", "blobs/sha256/")]
        if data.startswith(b'{"schemaVersion"'):
            parsed = json.loads(data)
            parts = [*parsed.get("manifests", []), *parsed.get("layers", []), *filter(None, [parsed.get("config")])]
            pending += [part["digest"] for part in parts]
    assert {f"blobs/sha256/{digest[7:]}" for digest in seen} == {name for name in found if name.startswith("blobs/")}
    for architecture, file in (("arm64", "arm"), ("amd64", "amd")):
        output = tmp_path / f"{file}.tgz"
        run_here("pack", str(tmp_path / "all.tar"), "--platform", architecture, "-o", str(output)).ok  # noqa: B018
        assert held(output) == {"rootfs/base", f"rootfs/{file}"}


@pytest.mark.parametrize("more", [["--platform", "arm64"], ["oci:here"]])
def test_all_platforms_where_that_makes_no_sense(fake: FakeRegistry, more: list[str], tmp_path: Path) -> None:
    ran = run_here("fetch", names(fake)[0], "--all-platforms", "--no-creds", "-o", str(tmp_path / "x"), *more)
    assert ran.status == 2
