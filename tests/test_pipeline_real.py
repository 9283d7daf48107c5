"""`fetch | pack` with what people run: docker-registry, Swift's S3, skopeo, umoci, podman, GNU tar and busybox.

The truth about an image is the tree that umoci, the reference implementation, unpacks as root.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import shutil
import stat
import subprocess
import tarfile
import tempfile
import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests import make_fixtures
from tests.commands import environment, pipe, run
from tests.layers import OCI_INDEX, Built, Data, build, sha256
from tests.servers import docker_registry, swift
from tests.servers.moto import S3Endpoint, endpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Real = Callable[[str], Path]

pytestmark = [
    pytest.mark.real,
    pytest.mark.xdist_group("pipeline-real"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can unpack owners and device nodes"),
]

_SECONDS = 60


# Images


def synthetic() -> Built:
    """Three layers of what images are made of, sizes beyond a part and a pipe included."""
    return build([
        {"wrap": "gzip", "entries": [
            *(_dir(name) for name in ("app", "app/lib", "etc", "opt", "opt/old", "usr", "usr/lib", "usr/lib/dev")),
            *(_dir("usr/lib" + "/long" * depth) for depth in range(1, 31)),
            _dir("tmp", mode="1777"),
            {"type": "file", "name": "app/perl", "data": "perl" * 9999, "mode": "0755", "mtime": 1_500_000_000},
            {"type": "hardlink", "name": "app/perl5", "linkname": "app/perl"},
            {"type": "file", "name": "app/lib/blob", "data": "0123456789abcdef" * 400_000, "mode": "0600", "uid": 33},
            {"type": "file", "name": "opt/old/gone", "data": "x"},
            {"type": "file", "name": "usr/lib/dev/kept", "data": "not a device"},
            {"type": "symlink", "name": "lib", "linkname": "usr/lib", "uid": 7},
            {"type": "symlink", "name": "etc/absolute", "linkname": "/nowhere/at/all"},
            {"type": "fifo", "name": "tmp/queue", "mode": "0622"},
            {"type": "file", "name": "usr/lib/" + "long/" * 30 + "name", "data": "a long way down"},
            {"type": "file", "name": "etc/Ünïcödé\udcff", "data": "bytes are bytes"},
        ]},
        {"wrap": "gzip", "entries": [
            {"type": "file", "name": "app/perl", "data": "perl" * 9999, "mode": "4755", "mtime": 1_510_000_000},
            _dir("srv", mode="2775", gid=50),
            {"type": "file", "name": "srv/first", "data": "shared", "uid": 3_000_000, "gid": 3_000_001},
            {"type": "hardlink", "name": "srv/second", "linkname": "srv/first"},
            {"type": "hardlink", "name": "srv/third", "linkname": "srv/first"},
            {"type": "file", "name": "etc/becomes-a-directory", "data": "x"},
        ]},
        {"wrap": "gzip", "entries": [
            {"type": "file", "name": "srv/.wh.first"},
            _dir("opt", mode="0711"),
            {"type": "file", "name": "opt/.wh..wh..opq"},
            {"type": "file", "name": "opt/new", "data": "new"},
            _dir("etc/becomes-a-directory", mode="0700"),
            _dir("etc"),
            {"type": "file", "name": "etc/becomes-a-directory/inside", "data": "y", "mtime": 1},
        ]},
    ], config={"config": {"User": "1000:1000", "Env": ["A=1"], "Cmd": ["/app/perl"]}})  # fmt: skip


def _dir(name: str, **more: object) -> Data:
    return {"type": "dir", "name": f"{name}/", "mtime": 1_400_000_000 + len(name), **more}


IMAGES: dict[str, Callable[[], Built]] = {"zones": make_fixtures.load, "synthetic": synthetic}


@pytest.fixture(scope="module")
def layouts(real: Real, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the images as OCI layouts, and what skopeo makes of one: zstd layers, and Docker's own format."""
    place = tmp_path_factory.mktemp("layouts")
    found = {name: f"oci:{make().layout(place / name, '1')}:1" for name, make in IMAGES.items()}
    skopeo(real, "copy", "--dest-compress", "--dest-compress-format=zstd", found["synthetic"], f"oci:{place}/zstd:1")
    # A layout cannot hold that format; `dir:` keeps what Docker would push.
    skopeo(real, "copy", "--format=v2s2", found["synthetic"], f"dir:{place}/docker")
    found |= {"zstd": f"oci:{place}/zstd:1", "docker": f"dir:{place}/docker"}
    # And each with gzip alone, which is all that older tools and Docker's archives know.
    (place / "gzip").mkdir()
    for name in NAMES:
        gzipped = f"oci:{place}/gzip/{name}:1"
        skopeo(real, "copy", "--format=oci", "--dest-compress", "--dest-compress-format=gzip", found[name], gzipped)
    return found | {f"gzip/{name}": f"oci:{place}/gzip/{name}:1" for name in NAMES}


NAMES = ("zones", "synthetic", "zstd", "docker")


# Programs and servers


def command(program: Path | str, *arguments: str | Path, **options: Any) -> str:
    """Run a program that must succeed; gives its output."""
    ran = subprocess.run(
        [program, *arguments], stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS, check=False, **options
    )
    assert ran.returncode == 0, (program, arguments, ran.stderr.decode(errors="replace"))
    out: bytes = ran.stdout
    return out.decode()


def skopeo(real: Real, *arguments: str | Path, **options: Any) -> str:
    return command(real("skopeo"), "--insecure-policy", *arguments, **options)


def pushed(real: Real, layout: str, reference: str, *more: str) -> str:
    """Push an image as it is, and make sure of that."""
    target = f"docker://{reference}"
    skopeo(real, "copy", "--all", "--preserve-digests", "--dest-tls-verify=false", *more, layout, target)
    return reference


@contextmanager
def _registry(real: Real, folder: Path, htpasswd: Path | None = None) -> Iterator[str]:
    with docker_registry.docker_registry(real("docker-registry"), folder, htpasswd=htpasswd) as host:
        yield host


@pytest.fixture(scope="module")
def registry(real: Real, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with _registry(real, tmp_path_factory.mktemp("registry")) as host:
        yield host


@pytest.fixture(scope="module")
def locked_registry(real: Real, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with _registry(real, tmp_path_factory.mktemp("locked"), real("htpasswd")) as host:
        yield host


@pytest.fixture(scope="module")
def images(real: Real, registry: str, layouts: dict[str, str]) -> dict[str, str]:
    """Push every image; gives the references."""
    return {name: pushed(real, layouts[name], f"{registry}/team/{name}:1") for name in NAMES}


@pytest.fixture(scope="module")
def _swift(real: Real, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with swift.swift_server(real("swift-proxy-server"), tmp_path_factory.mktemp("swift")) as url:
        yield url


@pytest.fixture
def bucket(_swift: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Endpoint]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", swift.KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", swift.SECRET)
    with endpoint(_swift, f"bucket-{uuid.uuid4().hex}", key=swift.KEY, secret=swift.SECRET) as found:
        yield found


# Trees


@dataclass(frozen=True)
class Facts:
    """What is compared of a path; directories' sizes are the file system's own."""

    kind: str
    mode: int
    uid: int
    gid: int
    size: int
    content: str
    link: str
    mtime: int
    group: tuple[str, ...]


def tree(root: Path) -> dict[str, Facts]:
    """Return what lies below a directory, hard links as the names that they share."""
    paths = sorted(os.fsencode(root / top / name) for top, dirs, files in os.walk(root) for name in (*dirs, *files))
    prefix = len(os.fsencode(root)) + 1
    groups: dict[int, list[str]] = {}
    for path in paths:
        groups.setdefault(os.lstat(path).st_ino, []).append(os.fsdecode(path[prefix:]))
    return {os.fsdecode(path[prefix:]): _facts(path, groups) for path in paths}


def _facts(path: bytes, groups: dict[int, list[str]]) -> Facts:
    found = os.lstat(path)
    regular = stat.S_ISREG(found.st_mode)
    with open(path if regular else os.devnull, "rb") as file:  # noqa: PTH123
        content = hashlib.sha256(file.read()).hexdigest()
    return Facts(
        stat.filemode(found.st_mode)[0],
        stat.S_IMODE(found.st_mode),
        found.st_uid,
        found.st_gid,
        found.st_size if regular else 0,
        content,
        os.fsdecode(os.readlink(path)) if stat.S_ISLNK(found.st_mode) else "",  # noqa: PTH115
        int(found.st_mtime // 1),
        tuple(groups[found.st_ino]),
    )


@pytest.fixture(scope="module")
def truth(real: Real, layouts: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """Have umoci unpack an image (0.4 reads no zstd)."""
    place = tmp_path_factory.mktemp("truth")
    known: dict[str, dict[str, Facts]] = {}

    def find(name: str) -> dict[str, Facts]:
        if name not in known:
            layout = layouts[f"gzip/{name}"].removeprefix("oci:")
            command(real("umoci"), "unpack", "--image", layout, place / name)
            known[name] = tree(place / name / "rootfs")
        return known[name]

    return find


def without_devices(files: dict[str, Facts]) -> dict[str, Facts]:
    """Return a tree as Concourse wants it: nothing in /dev, and no device nodes elsewhere."""
    return {path: facts for path, facts in files.items() if facts.kind not in "bc" and not path.startswith("dev/")}


def same(found: dict[str, Facts], wanted: dict[str, Facts], *, busybox: bool = False) -> None:
    """Compare trees.

    Symlinks that lead upwards or to `/` are made last by GNU tar, after it has set the directories' times, so what has
    such a symlink in it may be dated today. busybox does that with hard links, too, and symlinks are root's and new.
    """
    late = {
        path.rpartition("/")[0]
        for path, facts in wanted.items()
        if re.search(r"^/|(^|/)\.\.(/|$)", facts.link) or (busybox and len(facts.group) > 1)
    }

    def compared(path: str, facts: Facts) -> tuple[object, ...]:
        bare = busybox and facts.kind == "l"
        owner = () if bare else (facts.uid, facts.gid)
        mtime = () if bare or path in late else (facts.mtime,)
        return facts.kind, oct(facts.mode), facts.size, facts.content, facts.link, facts.group, owner, mtime

    ours = {path: compared(path, facts) for path, facts in found.items()}
    theirs = {path: compared(path, facts) for path, facts in wanted.items()}
    assert {path: ours[path] for path in ours if ours[path] != theirs.get(path)} == {}
    assert ours.keys() == theirs.keys()


# From a registry into a bucket


@pytest.mark.parametrize("name", NAMES)
def test_from_registry_to_bucket_to_tree(
    name: str, real: Real, images: dict[str, str], bucket: S3Endpoint, truth: Callable[[str], Any], tmp_path: Path
) -> None:
    options = ["--endpoint-url", bucket.endpoint, "--part-size", "5MiB"]
    fetched, packed = pipe([images[name]], ["-o", f"s3://{bucket.bucket}/i/{name}-1.tgz", *options])
    assert (fetched.status, fetched.err) == (0, "")
    assert (packed.status, packed.out) == (0, f"s3://{bucket.bucket}/i/{name}-1.tgz\n".encode()), packed.err
    assert (bucket.keys(), bucket.uploads()) == ([f"i/{name}-1.tgz"], [])
    archive = bucket.body(f"i/{name}-1.tgz")

    # As Concourse's S3 resource does it: gunzip, by the name's suffix, then tar.
    (tmp_path / f"{name}.tgz").write_bytes(archive)
    command("gzip", "-d", tmp_path / f"{name}.tgz")
    for program, words in (("tar", ["xf"]), ("busybox", ["tar", "xf"])):
        place = tmp_path / program
        place.mkdir()
        command(real(program), *words, tmp_path / f"{name}.tar", "-C", place)
        metadata = json.loads((place / "metadata.json").read_text())
        assert set(metadata) == {"env", "user", "entrypoint", "cmd"}
        assert not list((place / "rootfs/dev").glob("*"))
        same(tree(place / "rootfs"), without_devices(truth(name)), busybox=program == "busybox")


@pytest.mark.parametrize("name", NAMES)
def test_the_files_alone(
    name: str, images: dict[str, str], truth: Callable[[str], Any], tmp_path: Path, s3: S3Endpoint
) -> None:
    options = ["--layout", "rootfs", "--endpoint-url", s3.endpoint]
    fetched, packed = pipe([images[name]], ["-o", f"s3://{s3.bucket}/{name}.tar.gz", *options])
    assert (fetched.ok.out, packed.ok.err) == (b"", "")
    (tmp_path / "a.tar.gz").write_bytes(s3.body(f"{name}.tar.gz"))
    (tmp_path / "files").mkdir()
    command("tar", "xzf", tmp_path / "a.tar.gz", "-C", tmp_path / "files", "--xattrs", "--numeric-owner")
    same(tree(tmp_path / "files"), truth(name))


def test_a_tag_and_its_digest(registry: str, images: dict[str, str], tmp_path: Path) -> None:
    digest = make_fixtures.load().digest
    references = (images["zones"], f"{registry}/team/zones@{digest}", f"{images['zones']}@{digest}")
    archives = [run("pack", each, "--layout", "rootfs", "-o", "-").ok.out for each in references]
    assert len(set(archives)) == 1
    ran = run("pack", f"{registry}/team/zones:2", "-o", "-")
    assert (ran.status, ran.out) == (3, b"")
    ran = run("pack", f"{registry}/team/zones@sha256:{'0' * 64}", "-o", "-")
    assert (ran.status, ran.out) == (3, b"")
    assert run("pack", references[1], cwd=tmp_path).ok.out == f"zones-{digest[7:19]}.tgz\n".encode()


def test_a_registry_that_wants_a_password(
    real: Real, locked_registry: str, layouts: dict[str, str], tmp_path: Path
) -> None:
    credentials = f"{docker_registry.USER}:{docker_registry.PASSWORD}"
    reference = pushed(real, layouts["zones"], f"{locked_registry}/a/zones:1", f"--dest-creds={credentials}")
    wanted = run("pack", layouts["zones"], "--layout", "rootfs", "-o", "-").ok.out

    def archive(*options: str, **more: str | None) -> bytes:
        variables = environment(DOCKER_CONFIG=str(tmp_path), **more)
        fetched, packed = pipe([reference, *options], ["--layout", "rootfs", "-o", "-"], env=variables)
        assert packed.status == (0 if fetched.status == 0 else 6)
        assert fetched.status in (0, 4), fetched.err
        assert docker_registry.PASSWORD not in fetched.err
        return packed.out

    assert archive() == b""
    assert archive("--creds", credentials) == wanted
    assert archive("--creds", f"{docker_registry.USER}:wrong") == b""
    given = {"OCIROOTFS_USERNAME": docker_registry.USER, "OCIROOTFS_PASSWORD": docker_registry.PASSWORD}
    assert archive(**given) == wanted
    saved = tmp_path / "config.json"
    login = ("login", f"--username={docker_registry.USER}", f"--password={docker_registry.PASSWORD}")
    skopeo(real, *login, "--tls-verify=false", f"--authfile={saved}", locked_registry)
    assert archive() == wanted
    assert archive("--no-creds") == b""
    with_file = run("fetch", reference, "--authfile", str(saved), "-o", "-", env=environment(DOCKER_CONFIG=None))
    assert with_file.ok.out


def test_a_registry_that_wants_tokens(
    real: Real, layouts: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    credentials = f"{docker_registry.USER}:{docker_registry.PASSWORD}"
    wanted = run("pack", layouts["zones"], "--layout", "rootfs", "-o", "-").ok.out
    options = ("--layout", "rootfs", "-o", "-")
    with (
        docker_registry.token_server() as tokens,
        docker_registry.docker_registry(
            real("docker-registry"), tmp_path_factory.mktemp("tokens"), tokens=tokens
        ) as host,
    ):
        public, private = (
            pushed(real, layouts["zones"], f"{host}/{name}/zones:1", f"--dest-creds={credentials}")
            for name in ("public", "private")
        )
        assert run("pack", public, "--no-creds", *options).ok.out == wanted
        assert run("pack", private, "--creds", credentials, *options).ok.out == wanted
        ran = run("pack", private, "--no-creds", *options)
        assert (ran.status, ran.out) == (4, b"")
        ran = run("pack", private, "--creds", f"{docker_registry.USER}:wrong", *options)
        assert (ran.status, ran.out) == (4, b"")
        ran = run("pack", f"{host}/public/nothing:1", "--no-creds", *options)
        assert (ran.status, ran.out) == (3, b"")


def test_an_index_of_platforms(real: Real, registry: str, tmp_path: Path) -> None:
    entries = []
    blobs = tmp_path / "layout/blobs/sha256"
    for architecture, variant in (("amd64", None), ("arm64", "v8"), ("s390x", None)):
        image = build(
            [{"entries": [{"type": "file", "name": "arch", "data": architecture}]}],
            config={"architecture": architecture, "config": {"User": architecture}},
        )
        image.layout(tmp_path / architecture)
        shutil.copytree(tmp_path / architecture, tmp_path / "layout", dirs_exist_ok=True)
        platform = {"os": "linux", "architecture": architecture} | ({"variant": variant} if variant else {})
        entries.append(
            {"mediaType": image.media_type, "digest": image.digest, "size": len(image.manifest), "platform": platform}
        )
    listing = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()
    (blobs / sha256(listing).removeprefix("sha256:")).write_bytes(listing)
    top = {"mediaType": OCI_INDEX, "digest": sha256(listing), "size": len(listing)}
    top["annotations"] = {"org.opencontainers.image.ref.name": "1"}
    (tmp_path / "layout/index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [top]}))
    reference = pushed(real, f"oci:{tmp_path}/layout:1", f"{registry}/multi/arch:1")
    for wanted in ("linux/amd64", "linux/arm64", "arm64", "linux/s390x"):
        fetched, packed = pipe([reference, "--platform", wanted], ["-o", "-"])
        assert fetched.ok.err == ""
        with tarfile.open(fileobj=io.BytesIO(packed.ok.out), mode="r:gz") as files:
            assert _content(files, "rootfs/arch") == wanted.rpartition("/")[2].encode()
            assert json.loads(_content(files, "metadata.json"))["user"] == wanted.rpartition("/")[2]
    ran = run("fetch", reference, "--platform", "linux/riscv64")
    assert (ran.status, ran.out) == (3, b"")
    assert re.search(r"linux/amd64.*linux/arm64.*linux/s390x", ran.err)


def _content(files: tarfile.TarFile, name: str) -> bytes:
    file = files.extractfile(name)
    assert file is not None, name
    return file.read()


# Other tools' archives


@pytest.mark.parametrize("name", ["zones", "synthetic", "zstd", "docker"])
def test_skopeo_reads_what_fetch_writes(name: str, real: Real, images: dict[str, str], tmp_path: Path) -> None:
    archive = tmp_path / "image.tar"
    assert run("fetch", images[name], "-o", str(archive)).ok.out == b""
    wanted = json.loads(skopeo(real, "inspect", "--tls-verify=false", f"docker://{images[name]}"))
    if name != "docker":  # Docker's format has no place in an OCI archive, and skopeo says so
        found = json.loads(skopeo(real, "inspect", f"oci-archive:{archive}"))
        assert (found["Digest"], found["Layers"]) == (wanted["Digest"], wanted["Layers"])
    if name != "zstd":
        config = json.loads(skopeo(real, "inspect", "--config", f"docker-archive:{archive}"))
        registry = json.loads(skopeo(real, "inspect", "--config", "--tls-verify=false", f"docker://{images[name]}"))
        assert (config["config"], config["rootfs"]) == (registry["config"], registry["rootfs"])
        skopeo(real, "copy", f"docker-archive:{archive}", f"oci:{tmp_path}/copy:1")


@pytest.fixture
def podman(real: Real) -> Iterator[Callable[..., str]]:
    """Run podman on a storage of its own, whose path it wants short."""
    program = real("podman")
    with tempfile.TemporaryDirectory(prefix="podman", dir="/tmp") as place:
        options = [
            f"--root={place}/root",
            f"--runroot={place}/run",
            "--storage-driver=vfs",
            "--cgroup-manager=cgroupfs",
        ]
        yield lambda *arguments: command(program, *options, *arguments)


@pytest.mark.parametrize("name", ["zones", "synthetic", "docker"])
def test_podman_loads_what_fetch_writes(
    name: str, podman: Callable[..., str], images: dict[str, str], truth: Callable[[str], Any], tmp_path: Path
) -> None:
    run("fetch", images[name], "-o", str(tmp_path / "image.tar")).ok  # noqa: B018
    podman("load", "--quiet", "--input", tmp_path / "image.tar")
    assert [found["Names"] for found in json.loads(podman("images", "--format=json"))] == [[images[name]]]
    mounted = tree(Path(podman("image", "mount", images[name]).strip()))
    podman("image", "umount", images[name])
    contents = {path: (facts.kind, facts.content) for path, facts in mounted.items()}
    assert contents == {path: (facts.kind, facts.content) for path, facts in truth(name).items()}


@pytest.mark.parametrize("transport", ["oci-archive", "docker-archive"])
@pytest.mark.parametrize("name", NAMES)
def test_pack_reads_what_skopeo_writes(
    name: str, transport: str, real: Real, images: dict[str, str], layouts: dict[str, str], tmp_path: Path
) -> None:
    wanted = run("pack", images[name], "--layout", "rootfs", "-o", "-").ok.out
    archive = tmp_path / "image.tar"
    layout = layouts[f"gzip/{name}" if transport == "docker-archive" else name]
    skopeo(real, "copy", layout, f"{transport}:{archive}:team/{name}:1")
    squeezed = gzip.compress(archive.read_bytes(), 1)
    options = ("--layout", "rootfs", "-o", "-")
    for found in (
        run("pack", f"{transport}:{archive}", *options),
        run("pack", str(archive), *options),
        run("pack", *options, stdin=archive.read_bytes()),
        run("pack", *options, stdin=squeezed),
    ):
        assert found.ok.out == wanted


@pytest.mark.parametrize("form", ["oci-archive", "docker-archive"])
def test_pack_reads_what_podman_saves(
    form: str, podman: Callable[..., str], images: dict[str, str], tmp_path: Path
) -> None:
    run("fetch", images["synthetic"], "-o", str(tmp_path / "in.tar")).ok  # noqa: B018
    podman("load", "--quiet", "--input", tmp_path / "in.tar")
    podman("save", f"--format={form}", "--output", tmp_path / "saved.tar", images["synthetic"])
    options = ("--layout", "rootfs", "-o", "-")
    saved = run("pack", *options, stdin=(tmp_path / "saved.tar").read_bytes())
    assert saved.ok.out == run("pack", images["synthetic"], *options).ok.out


# A list of images


def test_mirror_keeps_a_bucket_as_a_list_says(images: dict[str, str], bucket: S3Endpoint, tmp_path: Path) -> None:
    def mirror(names: list[str], *words: str) -> Any:
        listed = {
            "defaults": {"to": f"s3://{bucket.bucket}/m/{{name}}-{{tag}}.tgz"},
            "images": [images[n] for n in names],
        }
        (tmp_path / "images.yml").write_text(json.dumps(listed))  # JSON is YAML
        ran = run("mirror", str(tmp_path / "images.yml"), "--json", "-q", "--endpoint-url", bucket.endpoint, *words)
        return json.loads(ran.ok.out)

    names = ["zones", "synthetic", "zstd"]
    assert mirror(names)["packed"] == 3
    assert {key: bucket.body(key) for key in sorted(bucket.keys())} == {
        f"m/{name}-1.tgz": run("pack", images[name], "-o", "-").out for name in names
    }
    for key in ("m/zones-1.tgz", "m/other.tgz"):
        bucket.client.create_multipart_upload(Bucket=bucket.bucket, Key=key)
    bucket.client.put_object(Bucket=bucket.bucket, Key="m/notes", Body=b"a person's")
    assert mirror(names, "--sweep", "1")["swept"] == 0
    time.sleep(1.1)  # Swift tells when an upload began in whole seconds, rounded up
    assert mirror(names[:2], "--sweep", "0", "--prune")["pruned"] == [f"s3://{bucket.bucket}/m/zstd-1.tgz"]
    assert bucket.keys() == ["m/notes", "m/synthetic-1.tgz", "m/zones-1.tgz"]
    assert bucket.uploads() == ["m/other.tgz"]
