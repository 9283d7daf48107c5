"""`fetch | pack`, whole, through the command line: what arrives, and that nothing does when anything is amiss."""

from __future__ import annotations

import base64
import fcntl
import io
import json
import math
import os
import pty
import random
import re
import signal
import struct
import subprocess
import sys
import tarfile
import termios
import time
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import ocirootfs
from ocirootfs.s3.url import S3Options
from tests import make_fixtures
from tests.commands import environment, finished, pipe, run, run_here, started
from tests.layers import FIXTURES, OCI_MANIFEST, Built, Data, build, raw_bytes
from tests.servers.faulty_s3 import BUCKET, faulty_s3
from tests.servers.registry import FakeRegistry, Fault, index
from tests.trees import Node, read_tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.servers.moto import S3Endpoint

MIB = 1 << 20
ZONES = f"oci:{make_fixtures.ZONES}"
SEEN = r"Concourse sees version 1 with 'regexp: zones/zones-(.*)\.tgz'"
ROOTFS = ("--layout", "rootfs", "--devices", "keep")
VECTORS: list[Data] = [
    vector
    for name in ("flatten.json", "flatten-more.json")
    for part in (json.loads((FIXTURES / name).read_text()),)
    for vector in (*part["vectors"], *part.get("pipeline", ()))
]
ACCEPTED = [found for found in VECTORS if found["expect"] != "reject"]
REJECTED = [found for found in VECTORS if found["expect"] == "reject"]
each = partial(pytest.mark.parametrize, ids=lambda value: value["name"] if isinstance(value, dict) else None)

# One of each sort, for what is too slow to do with all.
SAMPLE = (
    "spec-whiteouts", "hl-leader-dir-whited-out", "hl-duplicate-leader", "nm-dup-via-symlink", "at-subsecond-mtime",
    "sp-gnu-old", "pl-gzip-multi-member",
)  # fmt: skip


@pytest.fixture(scope="module")
def big() -> Built:
    """An image of 11 MiB that does not compress: two parts of an upload, and a rest."""
    source = random.Random(17)
    layers = [
        {"entries": [_file(f"{place}/{name}", source.randbytes(size)) for name in "abc"], "wrap": "none"}
        for place, size in enumerate((MIB, 2 * MIB, 2 * MIB // 3))
    ]
    return build(layers)


@pytest.fixture(scope="module")
def big_layout(big: Built, tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"oci:{big.layout(tmp_path_factory.mktemp('big') / 'layout')}"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    place = tmp_path / "here"
    place.mkdir()
    monkeypatch.chdir(place)
    return place


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry() as found:
        yield found


def _file(name: str, content: bytes) -> Data:
    return {"type": "file", "name": name, "body_b64": base64.b64encode(content)}


def serve(registry: FakeRegistry, image: Built, name: str = "a/image", tag: str = "1") -> str:
    return str(registry.add(name, tag, image.manifest, image.media_type, image.blobs))


def listed(place: Path) -> list[str]:
    return sorted(found.name for found in place.iterdir())


# What arrives


def vector_layout(vector: Data, target: Path) -> str:
    layers = vector["layers"]
    layers = [{"entries": layer} if isinstance(layer, list) else layer for layer in layers]
    image = build(layers, config=vector.get("config"), diff_ids=vector.get("diff_ids"))
    return f"oci:{image.layout(target)}"


def tree_of(path: Path, prefix: str = "") -> dict[str, Node]:
    with path.open("rb") as file:
        return read_tree(file, prefix)


def expected_of(vector: Data) -> dict[str, Data]:
    found: dict[str, Data] = vector["expect"]["expect"] if "must" in vector["expect"] else vector["expect"]
    return found


def check(tree: dict[str, Node], expected: dict[str, Data], vector: Data) -> None:
    """Compare a tree with what a vector expects; the root is not in every archive."""
    if "" not in tree:
        expected = {path: facts for path, facts in expected.items() if path}
    elif "" not in expected:
        expected = {"": {"type": "dir", "mode": "0755", "uid": 0, "gid": 0, "mtime": 0}, **expected}
    if vector.get("complete", True):
        assert sorted(tree) == sorted(expected)
    for path in vector.get("expect_absent", []):
        assert path.rstrip("/") not in tree
    for path, facts in expected.items():
        found = tree[path]
        for name, value in facts.items():
            if name == "same_inode_as":
                assert found is tree[value], path
            else:
                assert _fact(found, name) == _value(name, value), (path, name)


def _fact(node: Node, name: str) -> object:
    return dict(node.xattrs) if name == "xattrs" else getattr(node, name)


def _value(name: str, value: Any) -> object:
    match name:
        case "data":
            return raw_bytes(value)
        case "mode":
            return int(value, 8)
        case "mtime":
            return Decimal(str(value))
    return value


@each("vector", ACCEPTED)
def test_vectors(vector: Data, here: Path) -> None:
    source = vector_layout(vector, here / "layout")
    check(tree_of(_three_ways(source, here)), expected_of(vector), vector)
    assert listed(here) == ["a.tar", "image.tar", "layout"]


def _three_ways(source: str, here: Path) -> Path:
    """Pack into a file, from a pipe into a pipe, and from a file; all must give the same bytes and warnings."""
    packed = run_here("pack", source, "-o", "a.tar", *ROOTFS).accepted
    assert packed.out == b"a.tar\n"
    fetched = run_here("fetch", source).ok.out
    piped = run_here("pack", *ROOTFS, "-o", "-", stdin=fetched).accepted
    run_here("fetch", source, "-o", "image.tar").ok  # noqa: B018
    assert (here / "image.tar").read_bytes() == fetched
    from_file = run_here("pack", "./image.tar", *ROOTFS, "-o", "-").accepted
    assert (here / "a.tar").read_bytes() == piped.out == from_file.out
    assert packed.err == piped.err == from_file.err
    return here / "a.tar"


@each("vector", [found for found in ACCEPTED if found["name"] in SAMPLE])
def test_vectors_between_processes(vector: Data, here: Path) -> None:
    source = vector_layout(vector, here / "layout")
    fetched, packed = pipe([source], [*ROOTFS, "-o", "-", "--compress", "none"])
    assert (fetched.ok.out, packed.ok.err) == (b"", "")
    check(read_tree(io.BytesIO(packed.out)), expected_of(vector), vector)


@each("vector", ACCEPTED)
def test_vectors_for_concourse(vector: Data, here: Path) -> None:
    source = vector_layout(vector, here / "layout")
    packed = run_here("pack", source, "-o", "a.tar")
    assert packed.status == 0, packed.err
    tree = tree_of(here / "a.tar", "rootfs/")
    check(tree, _as_concourse_sees_it(expected_of(vector)), vector)


def _as_concourse_sees_it(expected: dict[str, Data]) -> dict[str, Data]:
    """Take away what that archive has not: devices, what is in /dev, extended attributes, fractions of seconds."""
    dropped = {path for path, facts in expected.items() if facts.get("type") in ("char", "block")}
    dropped |= {path for path, facts in expected.items() if facts.get("same_inode_as") in dropped}
    dropped |= {path for path in expected if path.startswith("dev/")}
    kept = {path: dict(facts) for path, facts in expected.items() if path not in dropped}
    for facts in kept.values():
        facts.pop("xattrs", None)
        if "mtime" in facts:
            facts["mtime"] = math.floor(Decimal(str(facts["mtime"])))
    return kept


@each("vector", REJECTED)
def test_rejected_vectors(vector: Data, here: Path) -> None:
    source = vector_layout(vector, here / "layout")
    fetched = run_here("fetch", source)
    assert fetched.status in (0, 6)
    for ran in (run_here("pack", source, "-o", "a.tgz"), run_here("pack", "-o", "b.tgz", stdin=fetched.out)):
        assert (ran.status, ran.out) == (6, b"")
        assert re.fullmatch(r"ocirootfs: error: .+\n(  hint: .+\n)?", ran.err)
    assert listed(here) == ["layout"]


@each("vector", [found for found in REJECTED if found["name"].startswith("pl-")])
def test_rejected_vectors_between_processes(vector: Data, here: Path) -> None:
    source = vector_layout(vector, here / "layout")
    fetched, packed = pipe([source], ["-o", "a.tgz"])
    assert (fetched.status in (0, 6), packed.status, packed.out) == (True, 6, b"")
    assert listed(here) == ["layout"]


def test_the_fixture_is_what_its_script_makes(tmp_path: Path) -> None:
    kept = make_fixtures.layers_of(make_fixtures.ZONES)
    make_fixtures.make(tmp_path / "again", make_fixtures.zones_in(make_fixtures.ZONES), kept)
    assert _files(tmp_path / "again") == _files(make_fixtures.ZONES)


def _files(place: Path) -> dict[str, bytes]:
    return {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}


def test_the_demonstration(here: Path) -> None:
    ran = run(command=(sys.executable, "-m", "tests.demo"))
    assert (ran.status, ran.err) == (0, f"ocirootfs: {SEEN}\n"), ran.out.decode()
    assert listed(here) == ["zones-1.tgz"]
    assert f"The archive is {here / 'zones-1.tgz'}, " in ran.out.decode()


def test_the_archive_that_concourse_unpacks(registry: FakeRegistry, here: Path, s3: S3Endpoint) -> None:
    reference = serve(registry, make_fixtures.load(), "team/zones")
    to_bucket = ["-o", f"s3://{s3.bucket}/zones/", "--endpoint-url", s3.endpoint]
    fetched, packed = pipe([reference], to_bucket)
    assert (fetched.ok.err, packed.out) == ("", f"s3://{s3.bucket}/zones/zones-1.tgz\n".encode())
    assert (packed.status, packed.err) == (0, f"ocirootfs: {SEEN}\n")
    assert s3.keys() == ["zones/zones-1.tgz"]
    assert run_here("pack", reference).ok.out == b"zones-1.tgz\n"
    archive = (here / "zones-1.tgz").read_bytes()
    assert archive == s3.body("zones/zones-1.tgz")
    assert archive[:10] == b"\x1f\x8b\x08\x00\x00\x00\x00\x00" + archive[8:10]  # no name and no time
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as files:
        names = files.getnames()
        assert names[0] == "metadata.json"
        assert json.loads(_content(files, "metadata.json")) == {
            "env": ["PATH=/usr/local/bin:/usr/bin:/bin", "TZDIR=/usr/share/zoneinfo", 'GREETING=It\'s a "small" wörld'],
            "user": "zones",
            "entrypoint": ["/usr/bin/zones"],
            "cmd": ["Zulu", "Europe/Berlin"],
        }
        assert {name.partition("/")[0] for name in names} == {
            "metadata.json", "rootfs", "digest", "tag", "repository", "labels.json",
        }  # fmt: skip
        assert _content(files, "digest").decode() == make_fixtures.load().digest
        assert _content(files, "tag") == b"1"
        assert _content(files, "repository").decode() == f"{registry.host}/team/zones"


def _content(files: tarfile.TarFile, name: str) -> bytes:
    file = files.extractfile(name)
    assert file is not None
    return file.read()


# The same bytes


def test_the_same_bytes_whatever_the_process_is_like(big_layout: str, here: Path) -> None:
    (here / "elsewhere").mkdir()
    wanted = [run("pack", source, "-o", "-").ok.out for source in (ZONES, big_layout)]
    ways: list[dict[str, Any]] = [
        {},
        {"env": environment(LC_ALL="C", TZ="Asia/Kolkata", PYTHONHASHSEED="1")},
        {"env": environment(LC_ALL="C.UTF-8", TZ=None, PYTHONHASHSEED="2")},
        {"env": environment(LC_ALL="POSIX", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")},
        {"cwd": here / "elsewhere"},
        {"umask": 0o077},
        {"pass_fds": (), "start_new_session": True},
    ]
    for way in ways:
        assert [run("pack", source, "-o", "-", **way).ok.out for source in (ZONES, big_layout)] == wanted, way


@pytest.mark.parametrize("threads", ["1", "2", "5"])
def test_the_same_bytes_on_any_number_of_cores(threads: str, big_layout: str, here: Path) -> None:
    first = run_here("pack", big_layout, "-o", "-", "--threads", "3").ok.out
    assert run_here("pack", big_layout, "-o", "-", "--threads", threads).ok.out == first
    assert run_here("pack", big_layout, "-o", "a.tgz", "--threads", threads).ok.out == b"a.tgz\n"
    assert (here / "a.tgz").read_bytes() == first


# The interpreter of a developer may lie where nobody else can read it: then its modules are loaded before rights go.
_AS_NOBODY = """\
import encodings.idna, encodings.utf_8_sig, os, sys
import tqdm, zlib_ng.zlib_ng, isal.isal_zlib, zstandard
import ocirootfs.cli.console, ocirootfs.registry
ocirootfs.cli.parser()
os.setgroups([]); os.setresgid(54321, 54321, 54321); os.setresuid(54321, 54321, 54321)
sys.exit(ocirootfs.cli.main(sys.argv[1:]))
"""


def _starts(**options: Any) -> bool:
    try:
        return run("--version", **options).status == 0
    except PermissionError:
        return False


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_user_without_name_or_home(registry: FakeRegistry, big: Built, here: Path) -> None:
    reference = serve(registry, big)
    wanted = [ran.ok.out for ran in pipe([reference], ["-o", "-"])][1]
    here.chmod(0o555)
    nobody: dict[str, Any] = {
        "umask": 0o077,
        "cwd": here,
        "env": environment(HOME=None, XDG_CONFIG_HOME=None, XDG_RUNTIME_DIR=None),
    }
    rights: dict[str, Any] = {"user": 54321, "group": 54321, "extra_groups": []}
    if not _starts(**nobody, **rights):
        rights = {"command": (sys.executable, "-c", _AS_NOBODY)}
    fetched, packed = pipe([reference], ["-o", "-"], **nobody, **rights)
    assert (fetched.ok.out, packed.ok.out) == (b"", wanted)
    assert run("pack", reference, **nobody, **rights).status == 8


# The pipe, cut


def refused(stream: bytes, bucket: S3Endpoint, here: Path) -> None:
    """Demand that a stream publishes nothing, neither in a bucket nor in a file."""
    options = S3Options(endpoint_url=bucket.endpoint, part_size=5 * MIB)
    for target in (f"s3://{bucket.bucket}/a.tgz", "a.tgz"):
        with pytest.raises(ocirootfs.OcirootfsError) as caught, ocirootfs.open(io.BytesIO(stream)) as image:
            ocirootfs.pack(image, target, s3_client=bucket.client, s3_options=options)
        assert caught.value.exit_code == 6, (len(stream), caught.value)
        assert (bucket.keys(), bucket.uploads(), listed(here)) == ([], [], []), len(stream)


def boundaries(stream: bytes) -> list[int]:
    """Return where members begin, their contents begin and end, and the end marker begins and is half there."""
    with tarfile.open(fileobj=io.BytesIO(stream)) as files:
        members = files.getmembers()
        end = files.offset
    found = {0, end, end - 512, end - 1024, len(stream) - 1}
    for member in members:
        found |= {member.offset, member.offset_data, member.offset_data + member.size}
    return sorted(place for place in found if 0 <= place < len(stream))


def test_cut_at_a_boundary(s3: S3Endpoint, here: Path) -> None:
    stream = run_here("fetch", ZONES).ok.out
    places = boundaries(stream)
    assert len(places) > 20
    for place in places:
        refused(stream[:place], s3, here)


@pytest.mark.parametrize("seed", range(4))
def test_cut_anywhere(seed: int, s3: S3Endpoint, here: Path) -> None:
    stream = run_here("fetch", ZONES).ok.out
    for place in random.Random(seed).sample(range(len(stream)), 50):
        refused(stream[:place], s3, here)


@pytest.mark.parametrize("seed", range(4))
def test_cut_during_an_upload_of_parts(seed: int, big_layout: str, s3: S3Endpoint, here: Path) -> None:
    stream = run_here("fetch", big_layout).ok.out
    late = [place for place in boundaries(stream) if place > 5 * MIB][seed::4]
    for place in [*late, *random.Random(seed).sample(range(len(stream)), 8)]:
        refused(stream[:place], s3, here)


@pytest.mark.parametrize("place", [0, 512, 3000, -20_000, -1025, -1024, -512, -1])
def test_cut_before_another_process(place: int, s3: S3Endpoint, here: Path) -> None:
    stream = run_here("fetch", ZONES).ok.out[:place]
    for target in (f"s3://{s3.bucket}/a.tgz", "a.tgz", "-"):
        ran = run("pack", "-o", target, "--endpoint-url", s3.endpoint, stdin=stream)
        assert ran.status == 6
        assert re.fullmatch(
            r"ocirootfs: error: standard input.+\n  hint: the command before the pipe failed.+\n", ran.err
        )
        assert (s3.keys(), s3.uploads(), listed(here)) == ([], [], [])


@pytest.mark.parametrize(("sent", "target"), [(1, "s3"), (4, "s3"), (8, "s3"), (4, "a.tgz")])
def test_fetch_is_killed(
    sent: int, target: str, registry: FakeRegistry, big: Built, s3: S3Endpoint, here: Path
) -> None:
    """The registry hangs up after each MiB, so that fetch has to come back for more, and takes its time."""
    reference = serve(registry, big)
    registry.faults.append(Fault("/blobs/", cut=MIB, times=1000, skip=1))
    target = f"s3://{s3.bucket}/a.tgz" if target == "s3" else target
    with (
        started("fetch", reference, stdin=subprocess.DEVNULL) as fetch,
        started("pack", "-o", target, "--endpoint-url", s3.endpoint, "--part-size", "5MiB", stdin=fetch.stdout) as pack,
    ):
        assert fetch.stdout is not None
        fetch.stdout.close()  # what is left in the pipe is pack's, and waiting for fetch would read it
        fetch.stdout = None
        end = time.monotonic() + 40
        while len(registry.seen(path="/blobs/")) <= sent:
            assert time.monotonic() < end
            time.sleep(0.01)
        fetch.kill()
        assert finished(fetch).status == -signal.SIGKILL
        ran = finished(pack)
    assert (ran.status, ran.out) == (6, b"")
    assert "hint: the command before the pipe failed" in ran.err
    assert (s3.keys(), s3.uploads(), listed(here)) == ([], [], [])


# Bad input


def _docker_export(registry: FakeRegistry) -> tuple[list[str], bytes]:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as files:
        info = tarfile.TarInfo("etc/passwd")
        info.size = 5
        files.addfile(info, io.BytesIO(b"root:"))
    return [], out.getvalue()


def _no_such_tag(registry: FakeRegistry) -> tuple[list[str], bytes]:
    return [serve(registry, make_fixtures.load()).replace(":1", ":17.04")], b""


def _wrong_digest(registry: FakeRegistry) -> tuple[list[str], bytes]:
    """Ask for one image and be given another."""
    image = make_fixtures.load()
    wrong = f"sha256:{'0' * 64}"
    serve(registry, image)
    registry.faults.append(
        Fault("/manifests/", status=200, headers={"Content-Type": OCI_MANIFEST}, body=image.manifest, times=2)
    )
    return [f"{registry.host}/a/image@{wrong}"], b""


def _altered_layer(registry: FakeRegistry) -> tuple[list[str], bytes]:
    registry.faults.append(Fault("/blobs/", altered=True, times=1000, skip=1))
    return [serve(registry, make_fixtures.load())], b""


def _artifact(registry: FakeRegistry) -> tuple[list[str], bytes]:
    config, chart = b"{}", b"a chart"
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": _described("application/vnd.cncf.helm.config.v1+json", config),
        "layers": [_described("application/vnd.cncf.helm.chart.content.v1.tar+gzip", chart)],
    }
    return [serve(registry, Built(json.dumps(manifest).encode(), _by_digest(config, chart), OCI_MANIFEST))], b""


def _schema1(registry: FakeRegistry) -> tuple[list[str], bytes]:
    kind = "application/vnd.docker.distribution.manifest.v1+prettyjws"
    manifest = {
        "schemaVersion": 1,
        "name": "a/image",
        "tag": "1",
        "architecture": "amd64",
        "fsLayers": [],
        "history": [],
    }
    return [serve(registry, Built(json.dumps(manifest).encode(), {}, kind))], b""


def _other_platform(registry: FakeRegistry) -> tuple[list[str], bytes]:
    image = make_fixtures.load()
    entry = {
        "mediaType": OCI_MANIFEST,
        "digest": image.digest,
        "size": len(image.manifest),
        "platform": {"os": "linux", "architecture": "s390x"},
    }
    serve(registry, image)
    listing = index([entry])
    reference = registry.add("a/image", "2", listing, "application/vnd.oci.image.index.v1+json")
    return [str(reference), "--platform", "linux/arm64"], b""


def _described(kind: str, blob: bytes) -> dict[str, object]:
    (digest,) = _by_digest(blob)
    return {"mediaType": kind, "digest": digest, "size": len(blob)}


def _by_digest(*blobs: bytes) -> dict[str, bytes]:
    from tests.layers import sha256  # noqa: PLC0415

    return {sha256(blob): blob for blob in blobs}


def _words(*arguments: str, stdin: bytes = b"") -> Callable[[FakeRegistry], tuple[list[str], bytes]]:
    return lambda _: (list(arguments), stdin)


# What is packed, the exit status, what the error says, what the hint says.
BAD: dict[str, tuple[Callable[[FakeRegistry], tuple[list[str], bytes]], int, str, str | None]] = {
    "no-such-tag": (_no_such_tag, 3, "17.04", None),
    "wrong-digest": (_wrong_digest, 6, "sha256:0000", None),
    "altered-layer": (_altered_layer, 6, "layer 3 (sha256:", None),
    "artifact": (_artifact, 6, "helm", None),
    "schema1": (_schema1, 6, "schema", None),
    "other-platform": (_other_platform, 3, "linux/s390x", "--platform"),
    "docker-export": (_docker_export, 6, "neither index.json nor manifest.json", "docker save"),
    "empty": (_words(), 6, "standard input is empty", "before the pipe"),
    "text": (_words(stdin=b"hello, world\n" * 99), 6, "no tar at all", "docker save"),
    "zeros": (_words(stdin=bytes(10_240)), 6, "standard input", None),
    "no-such-directory": (_words("oci:nowhere"), 3, "'nowhere'", None),
    "no-such-file": (_words("./nowhere.tar"), 3, "nowhere.tar", None),
    "no-such-name": (_words(f"{ZONES}:2"), 3, "'2'", "1"),
    "bad-reference": (_words("Ubuntu:17.04"), 2, "lowercase", "ubuntu:17.04"),
    "nothing-excluded": (_words(ZONES, "--exclude", "/"), 2, "'/'", None),
    "excluded-outside": (_words(ZONES, "--exclude", "../etc"), 2, "'../etc'", None),
    "no-such-option": (_words(ZONES, "--nonsense"), 2, "--nonsense", None),
    "other-suffix": (_words(ZONES, "-o", "a.zip"), 2, "a.zip", ".tgz"),
    "no-such-target": (_words(ZONES, "-o", "nowhere/a.tgz"), 8, "nowhere/a.tgz", None),
    "a-device": (_words(ZONES, "-o", "/dev/null"), 7, "/dev/null", "-o -"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name: str, registry: FakeRegistry, here: Path) -> None:
    make, status, text, hint = BAD[name]
    arguments, stdin = make(registry)
    ran = run_here("pack", *arguments, stdin=stdin)
    usage, found, said = ran.err.rpartition("ocirootfs: error: ")
    assert found, ran.err
    assert re.fullmatch("((usage|ocirootfs: warning): .+\n)*", usage)
    error, _, hinted = said.partition("\n")
    assert (ran.status, ran.out) == (status, b""), ran.err
    assert text in error
    assert re.fullmatch(f"  hint: .*{re.escape(hint)}.*\n", hinted) if hint is not None else True, hinted
    assert listed(here) == []


def test_standard_output_is_the_archive_that_was_meant(here: Path) -> None:
    with (here / "x.tgz").open("wb") as out:
        ran = run("pack", ZONES, stdout=out)
    assert ran.status == 2
    assert "hint: add -o -" in ran.err
    assert (here / "x.tgz").stat().st_size == 0
    assert listed(here) == ["x.tgz"]


# What is seen of it


def _terminal() -> tuple[int, int]:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 500, 0, 0))
    return ours, theirs


def _shown(terminal: int) -> str:
    found = b""
    while True:
        try:
            chunk = os.read(terminal, 1 << 16)
        except OSError:  # how Linux says that nobody has the other end open any more
            chunk = b""
        if not chunk:
            os.close(terminal)
            return found.decode()
        found += chunk


@pytest.mark.parametrize("verb", ["fetch", "pack"])
def test_the_bar_on_a_wide_terminal(verb: str, big_layout: str) -> None:
    ours, theirs = _terminal()
    output = theirs if verb == "pack" else subprocess.DEVNULL
    with started(
        verb, big_layout, "-o", "a.tgz", stdout=output, stderr=theirs, env=environment(TERM="xterm")
    ) as process:
        os.close(theirs)
        shown = _shown(ours)
        assert process.wait(10) == 0
    lines = re.split(r"[\r\n]+", shown)
    assert any("100%" in line for line in lines), shown
    assert max(map(len, lines)) <= 100


def test_fetch_draws_nothing_before_a_pipe(big_layout: str) -> None:
    ours, theirs = _terminal()
    with started("fetch", big_layout, stderr=theirs, env=environment(TERM="xterm")) as process:
        os.close(theirs)
        ran = finished(process)
    assert (ran.status, _shown(ours)) == (0, "")


def test_a_log_has_no_carriage_returns(registry: FakeRegistry, big: Built) -> None:
    fetched, packed = pipe([serve(registry, big), "-v"], ["-v"])
    assert (fetched.status, packed.status) == (0, 0)
    assert "\r" not in fetched.err + packed.err
    assert "\x1b" not in fetched.err + packed.err


def test_quiet(here: Path) -> None:
    entry = {"type": "file", "name": "a", "uid": 70_000, "xattrs": {"security.capability": "x"}}
    source = f"oci:{build([{'entries': [entry]}]).layout(here / 'layout')}"
    loud = run_here("pack", source, "-o", "a.tgz")
    assert (loud.status, loud.err.count("warning: "), loud.err.count(": 1 ('a')")) == (0, 1, 2), loud.err
    assert run_here("pack", source, "-o", "a.tgz", "-q").ok.out == b"a.tgz\n"
    ran = run_here("pack", "oci:nowhere", "-q")
    assert (ran.status, ran.err.count("error: ")) == (3, 1)


# Signals


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129), (signal.SIGQUIT, 131), (signal.SIGUSR1, 138)],
)
@pytest.mark.parametrize("waits_for", ["bucket", "pipe"])
def test_stopped_during_an_upload(number: int, status: int, waits_for: str, big_layout: str) -> None:
    stream = run_here("fetch", big_layout).ok.out
    with faulty_s3() as state:
        if waits_for == "bucket":
            state.fail("UploadPart", "stall")
        target = ["-o", f"s3://{BUCKET}/a.tgz", "--endpoint-url", state.url, "--part-size", "5MiB"]
        with started("pack", *target) as process:
            assert process.stdin is not None
            process.stdin.write(stream[:-100_000])
            process.stdin.flush()
            assert state.event("UploadPart").wait(20)
            begun = time.monotonic()
            process.send_signal(number)
            assert process.wait(10) == status
            assert time.monotonic() - begun < 5
            process.stdin.close()
            process.stdin = None
            err = finished(process).err
        assert (state.uploads, state.objects) == ({}, {})
    assert err == f"ocirootfs: {signal.Signals(number).name}: stopped, and nothing was published\n"


@pytest.mark.parametrize("verb", ["fetch", "pack"])
def test_a_reader_that_has_seen_enough(verb: str, big_layout: str) -> None:
    with started(verb, big_layout, "-o", "-") as process:
        assert process.stdout is not None
        assert len(process.stdout.read(100)) == 100
        process.stdout.close()
        process.stdout = None
        ran = finished(process)
    assert (ran.status, ran.err) == (141, "")


def test_stopped_while_a_file_is_written(big_layout: str, here: Path) -> None:
    stream = run_here("fetch", big_layout).ok.out
    with started("pack", "-o", "a.tgz") as process:
        assert process.stdin is not None
        process.stdin.write(stream[: 8 * MIB])
        process.stdin.flush()
        assert [name.endswith(".part") for name in listed(here)] == [True]
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 143
        process.stdin.close()
        process.stdin = None
    assert listed(here) == []


@pytest.mark.parametrize("words", [("pack", ZONES, "-o", "a"), ("unpack", ZONES, "a")])
def test_stopped_when_all_is_done_but_to_say_so(words: tuple[str, ...], here: Path) -> None:
    """Nobody reads what is printed: the signal comes when the archive is there, and the message must not deny it."""
    reading, writing = os.pipe()
    room = fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    os.write(writing, bytes(room))
    with started(*words, stdout=writing) as process:
        system_call = Path(f"/proc/{process.pid}/syscall")
        end = time.monotonic() + 30
        while not system_call.read_text().startswith("1 0x1 ") and time.monotonic() < end:  # write(1, …)
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        ran = finished(process)
    for descriptor in (reading, writing):
        os.close(descriptor)
    assert (ran.status, listed(here)) == (143, ["a"])
    said = ("a is there", "what was asked for is done")  # while printing, or at the end, as Python buffers
    assert ran.err.splitlines()[-1] in {f"ocirootfs: SIGTERM: stopped, and {each}" for each in said}


def test_warnings_are_said_once_however_often_a_layer_is_read(here: Path) -> None:
    """Standard output is written with care, so every layer is read twice."""
    entries = [_file("a", b"1"), _file("a/b", b"2")]
    layout = build([{"entries": entries, "trailing": "garbage"}]).layout(here / "layout")
    ran = run("pack", f"oci:{layout}", "-o", "-")
    assert ran.status == 0
    lines = ran.err.splitlines()
    assert len(lines) == 2, ran.err
    assert "what follows the end of the gzip stream is ignored" in lines[0]
    assert "'a' has entries below it and is no directory" in lines[1]
    assert run("pack", f"oci:{layout}", "-o", "-", "--quiet").err == ""
