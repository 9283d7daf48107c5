"""The pipelines in examples/concourse, run from a real registry into a real store, and the tasks in what comes of it.

What a worker does is done by programs of the operating system: GNU tar and gunzip, or busybox's, in a user namespace
with a worker's mapping of ids; and the tasks run in containers there.
"""

from __future__ import annotations

import base64
import json
import os
import platform
import shlex
import stat
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests import debian_image, overlayhost, s3resource, worker
from tests.concourse import Pipeline, Site
from tests.layers import Built, Data, build
from tests.pipelines import EXAMPLES, read, resolved
from tests.servers import docker_registry, swift
from tests.servers.moto import S3Endpoint, endpoint
from tests.worker import ContainerError

Real = Callable[[str], Path]

pytestmark = [
    pytest.mark.real,
    pytest.mark.xdist_group("concourse-real"),
    pytest.mark.timeout(600),  # the first run builds the Debian image
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can map a worker's ids"),
]

ROOT = Path(__file__).parent.parent
SAID = "I can run with the image from S3"
_SECONDS = 60


# Images

_APPLETS = ("sh", "id", "env", "echo", "cat")
_PASSWD = "root:x:0:0:root:/root:/bin/sh\nalex:x:1000:1001:Alex:/home/alex:/bin/sh\n"
_CREATED = "2024-01-02T03:04:05Z"
_CHECK = '#!/bin/sh\ncat > /dev/null\necho \'[{"n": "1"}, {"n": "2"}]\'\n'
_IN = '#!/bin/sh\nset -eu\ncat > "$1/request"\necho \'{"version": {"n": "2"}}\'\n'


_LIBRARIES = f"usr/lib/{platform.machine()}-linux-gnu"
_REMOVED = (
    *("usr/share/locale", "usr/share/doc", "usr/share/man", "usr/share/perl", "usr/share/i18n", "usr/share/zoneinfo"),
    *(f"{_LIBRARIES}/perl", f"{_LIBRARIES}/perl-base", f"{_LIBRARIES}/gconv", "var/lib/dpkg/info", "usr/lib/apt"),
)


def _file(name: str, text: str = "", **more: object) -> Data:
    return {"type": "file", "name": name, "data": text, **more}


def _busybox(name: str, program: bytes) -> Data:
    return {"type": "file", "name": name, "body_b64": base64.b64encode(program).decode(), "mode": "0755"}


def _directories(*names: str) -> list[Data]:
    return [{"type": "dir", "name": f"{name}/"} for name in names]


def with_user(program: bytes) -> tuple[list[list[Data]], Data]:
    """A user by name with a home, usr-merged links, and a name of a hard link that the layer above removes."""
    base = [
        *_directories("etc", "usr", "usr/bin", "usr/lib", "usr/lib/dev", "home"),
        {"type": "symlink", "name": "bin", "linkname": "usr/bin"},
        _busybox("usr/bin/busybox", program),
        *({"type": "hardlink", "name": f"usr/bin/{name}", "linkname": "usr/bin/busybox"} for name in _APPLETS),
        _file("etc/passwd", _PASSWD),
        _file("etc/group", "root:x:0:\nalex:x:1001:\n"),
        {"type": "dir", "name": "home/alex/", "mode": "0700", "uid": 1000, "gid": 1001},
        _file("home/alex/.profile", "umask 027\n", mode="0600", uid=1000, gid=1001),
        _file("usr/lib/dev/kept", "no device\n"),
        {"type": "dir", "name": "srv/empty/", "mode": "1777"},
    ]
    top = [_file("usr/bin/.wh.busybox")]
    variables = ["PATH=/usr/bin", 'GREETING=It\'s a "small" wörld', "EMPTY="]
    return [base, top], {"User": "alex", "Env": variables, "Cmd": ["sh"]}


def with_entrypoint(program: bytes) -> tuple[list[list[Data]], Data]:
    """One program and nothing else: no shell, no passwd, no directory that anybody lists; a user by number."""
    return [[_busybox("busybox", program)]], {"Entrypoint": ["/busybox", "echo", "-n"], "User": "4242:4343"}


def of_resource(program: bytes) -> tuple[list[list[Data]], Data]:
    """A resource type."""
    files = [
        _busybox("bin/sh", program),
        {"type": "hardlink", "name": "bin/cat", "linkname": "bin/sh"},
        _file("opt/resource/check", _CHECK, mode="0755"),
        _file("opt/resource/in", _IN, mode="0755"),
    ]
    return [files], {}


class Expected(NamedTuple):
    """What a task finds in an image."""

    job: str
    """Of task-from-s3.yml."""
    lines: tuple[str, ...]


IMAGES = {
    "user": Expected(
        "hello",
        (
            SAID, "uid=1000(alex) gid=1001(alex)", "GREETING=It's a \"small\" wörld", "EMPTY=", "PATH=/usr/bin",
            "USER=alex", "HOME=/home/alex",
        ),
    ),
    "entrypoint": Expected("hello-entrypoint", (SAID,)),
    "debian": Expected("hello", (SAID, "uid=0(root) gid=0(root) groups=0(root)", "HOME=/root")),
}  # fmt: skip


@pytest.fixture(scope="module")
def layouts(real: Real, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Make the images as OCI layouts."""
    program = real("busybox").read_bytes()
    place = tmp_path_factory.mktemp("layouts")
    found = {}
    for name, make in {"user": with_user, "entrypoint": with_entrypoint, "resource": of_resource}.items():
        layers, config = make(program)
        image = build([{"entries": entries} for entries in layers], config={"created": _CREATED, "config": config})
        found[name] = f"oci:{image.layout(place / name, '1')}:1"
    for needed in ("mmdebstrap", "podman"):
        real(needed)
    driver = "vfs" if overlayhost.usable(tmp_path_factory.mktemp("probe")) else "overlay"
    base = _bottom(debian_image.layout(driver)).layout(place / "debian", "1")
    return {**found, "debian": f"oci:{base}:1"}


def _bottom(layout: Path) -> Built:
    """Return an image of the bottom layer, which mmdebstrap made, and of one that removes what fills it most."""
    manifest = _document(layout, json.loads((layout / "index.json").read_text())["manifests"][0]["digest"])
    layer, config = manifest["layers"][0], _document(layout, manifest["config"]["digest"])
    base = {
        "bytes_b64": base64.b64encode(_blob(layout, layer["digest"])).decode(),
        "wrap": "none",
        "diff_id": config["rootfs"]["diff_ids"][0],
        "media_type": layer["mediaType"],
    }
    removed = {"entries": [_file(f"{path.rpartition('/')[0]}/.wh.{path.rpartition('/')[2]}") for path in _REMOVED]}
    return build([base, removed], config={"created": _CREATED, "config": {"Cmd": ["bash"]}})


def _document(layout: Path, digest: str) -> Data:
    found: Data = json.loads(_blob(layout, digest))
    return found


def _blob(layout: Path, digest: str) -> bytes:
    return (layout / "blobs/sha256" / digest.removeprefix("sha256:")).read_bytes()


# Servers


@pytest.fixture(scope="module")
def registry(real: Real, layouts: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a registry that wants a password and has the images."""
    folder = tmp_path_factory.mktemp("registry")
    with docker_registry.docker_registry(real("docker-registry"), folder, htpasswd=real("htpasswd")) as host:
        for name, layout in layouts.items():
            target = f"docker://{host}/team/{name}:1"
            _skopeo(real, "copy", "--preserve-digests", "--dest-tls-verify=false", "--dest-creds", layout, target)
        yield host


def _skopeo(real: Real, verb: str, *arguments: str) -> str:
    credentials = f"{docker_registry.USER}:{docker_registry.PASSWORD}"
    words = [word + "=" + credentials if word.endswith("-creds") else word for word in arguments]
    command = [str(real("skopeo")), "--insecure-policy", verb, *words]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout.decode()


@pytest.fixture(scope="module")
def bucket(real: Real, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Endpoint]:
    """A bucket for all tests, as a site has it."""
    with (
        swift.swift_server(real("swift-proxy-server"), tmp_path_factory.mktemp("swift")) as url,
        endpoint(url, f"images-{uuid.uuid4().hex}", key=swift.KEY, secret=swift.SECRET) as found,
    ):
        yield found


# Concourse


@pytest.fixture(scope="module")
def sites(real: Real, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Site]]:
    """A Concourse for each sort of programs that a worker may have."""
    ids = worker.ids_here()
    if ids is None and not worker.has_mount_namespaces():
        pytest.skip("neither user namespaces nor mount namespaces are to be had here")
    real("busybox")
    programs = tmp_path_factory.mktemp("programs")
    command = programs / "ocirootfs"
    python = f"PYTHONPATH={shlex.quote(str(ROOT))} exec {shlex.quote(sys.executable)} -m ocirootfs"
    command.write_text(f'#!/bin/sh\n{python} "$@"\n')
    command.chmod(0o755)

    def digest_of(source: Data) -> str:
        image = f"docker://{source['repository']}:{source['tag']}"
        digest: str = json.loads(_skopeo(real, "inspect", "--tls-verify=false", "--creds", image))["Digest"]
        return digest

    with (
        worker.worker(worker.PROGRAMS["gnu"], ids) as gnu,
        worker.worker(worker.PROGRAMS["busybox"], ids) as busybox,
    ):
        yield {"gnu": Site(gnu, programs, digest_of), "busybox": Site(busybox, programs, digest_of)}


@pytest.fixture(params=worker.PROGRAMS)
def site(request: pytest.FixtureRequest, sites: dict[str, Site]) -> Site:
    return sites[request.param]


Values = Callable[..., Data]


@pytest.fixture(scope="module")
def values(registry: str, bucket: S3Endpoint) -> Values:
    """Return what the variables are for an image."""

    def of(name: str, **more: Any) -> Data:
        found: Data = {
            "ocirootfs": {"repository": "registry.invalid/ocirootfs", "tag": "latest"},
            "image": {"repository": f"{registry}/team/{name}", "tag": "1", "name": name, "pin": f"{name}/{name}-1.tgz"},
            "registry": {"user": docker_registry.USER, "password": docker_registry.PASSWORD},
            "s3": {
                "endpoint": bucket.endpoint, "region": "us-east-1", "bucket": bucket.bucket, "key": swift.KEY,
                "secret": swift.SECRET,
            },
        }  # fmt: skip
        return {**found, **more}

    return of


def pipeline(site: Site, name: str, values: Data) -> Pipeline:
    return Pipeline(site, read((EXAMPLES / name).read_text()), values)


@pytest.fixture(scope="module")
def packaged(sites: dict[str, Site], values: Values, bucket: S3Endpoint) -> dict[str, str]:
    """Have each image packaged by the first example; gives what it said."""
    return {name: pipeline(sites["gnu"], "package-image.yml", values(name)).run("package") for name in IMAGES}


# The examples


def test_package_image(packaged: dict[str, str], bucket: S3Endpoint) -> None:
    for name, said in packaged.items():
        assert f"{name}/{name}-1.tgz" in bucket.keys()  # noqa: SIM118  # no map
        lines = said.splitlines()
        assert f"s3://{bucket.bucket}/{name}/{name}-1.tgz" in lines
        shown = read("\n".join(lines[lines.index("image_resource:") :][:8]))
        assert shown["image_resource"]["source"]["regexp"] == rf"{name}/{name}-(.*)\.tgz"
    assert bucket.uploads() == []


def test_package_image_when_pushed(sites: dict[str, Site], values: Values, bucket: S3Endpoint) -> None:
    pipe = pipeline(sites["gnu"], "package-image.yml", values("entrypoint", s3=_elsewhere(bucket, values)))
    first, again = pipe.run("package-when-pushed"), pipe.run("package-when-pushed")
    assert "is there already" not in first
    assert "is there already" in again


def _elsewhere(bucket: S3Endpoint, values: Values) -> Data:
    """Return the variables of a bucket that no other test looks into."""
    name = f"images-{uuid.uuid4().hex}"
    bucket.client.create_bucket(Bucket=name)
    found: Data = {**values("")["s3"], "bucket": name}
    return found


@pytest.mark.parametrize("name", IMAGES)
def test_task_from_s3(name: str, site: Site, values: Values, packaged: dict[str, str]) -> None:
    expected = IMAGES[name]
    said = pipeline(site, "task-from-s3.yml", values(name)).run(expected.job).splitlines()
    assert [line for line in expected.lines if line not in said] == [], said


def test_debian_is_one(sites: dict[str, Site], values: Values, packaged: dict[str, str]) -> None:
    """And usr-merged, as they all are by now."""
    source = read((EXAMPLES / "task-from-s3.yml").read_text())["jobs"][0]["plan"][0]["config"]["image_resource"]
    image = worker.Image(sites["gnu"].get(resolved(source, values("debian"))))
    said = sites["gnu"].worker.run(image, ["sh", "-c", "cat /etc/os-release; readlink /bin; dpkg -s bash"])
    assert {"ID=debian", "usr/bin", "Status: install ok installed"} <= set(said.splitlines())


@pytest.mark.parametrize("name", [name for name in IMAGES if IMAGES[name].job == "hello"])
def test_task_from_get(name: str, site: Site, values: Values, packaged: dict[str, str], layouts: Data) -> None:
    said = pipeline(site, "task-from-get.yml", values(name)).run("hello").splitlines()
    (found,) = json.loads((Path(layouts[name].split(":")[1]) / "index.json").read_text())["manifests"]
    expected = (*IMAGES[name].lines, f"version 1, digest {found['digest']}")
    assert [line for line in expected if line not in said] == [], said


def test_resource_type_from_s3(sites: dict[str, Site], values: Values) -> None:
    site = sites["busybox"]
    source = {"uri": "of the resource"}
    pipe = pipeline(site, "resource-type-from-s3.yml", values("resource", resource={"source": source}))
    pipe.run("package")
    pipe.run("use")
    (place,) = (place for place in site.worker.volumes if (place / "request").exists())
    assert json.loads((place / "request").read_text()) == {"source": source, "params": {}, "version": {"n": "2"}}
    assert stat.S_IMODE((place / "request").stat().st_mode) & 0o600


def test_pinned_version(sites: dict[str, Site], values: Values, bucket: S3Endpoint) -> None:
    site = sites["gnu"]
    elsewhere = _elsewhere(bucket, values)
    # What the resource calls the newest is no image at all.
    bucket.client.put_object(Bucket=elsewhere["bucket"], Key="user/user-latest.tgz", Body=b"not an archive")
    pipe = pipeline(site, "pinned-version.yml", values("user", s3=elsewhere))
    assert pipe.run("package-and-test").splitlines()[-1] == SAID
    assert pipe.run("use-pinned").splitlines() == [SAID]
    with pytest.raises(s3resource.ResourceError, match="not an archive"):
        pipeline(site, "task-from-s3.yml", values("user", s3=elsewhere)).run("hello")


def test_offline_bundle(site: Site, values: Values, bucket: S3Endpoint, registry: str) -> None:
    carried, offline = _elsewhere(bucket, values), _elsewhere(bucket, values)
    images = " ".join(f"{registry}/team/{name}:1" for name in ("user", "entrypoint"))
    given = values("user", s3=offline, offline={"images": images, "bucket": carried["bucket"]})
    pipe = pipeline(site, "offline-bundle.yml", given)
    sums = pipe.run("bundle").splitlines()
    assert len([line for line in sums if line.endswith(".tar")]) >= 2
    assert pipe.run("import").splitlines()[-2:] == [f"{line.split()[-1]}: OK" for line in sums[-2:]]
    (found,) = bucket.client.list_objects_v2(Bucket=offline["bucket"])["Contents"]
    assert found["Key"].startswith("offline/user-1-")
    assert pipe.run("use").splitlines() == [SAID]


def test_git_rootfs(sites: dict[str, Site], real: Real, values: Values, tmp_path: Path) -> None:
    real("git")
    uri = str(tmp_path / "images.git")
    subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch=main", uri], check=True)
    _first_commit(uri, tmp_path / "first")
    given = values("user", git={"uri": uri, "branch": "main", "key": "k", "image": "registry.invalid/git"})
    pipe = pipeline(sites["gnu"], "git-rootfs.yml", given)
    pipe.run("package")
    assert pipe.run("hello").splitlines() == ["I can run with the image from git"]
    names = _git("--git-dir", uri, "ls-tree", "-r", "--name-only", "main").splitlines()
    assert {"metadata.json", "rootfs/srv/empty/.keep", "rootfs/usr/lib/dev/kept", "rootfs/bin"} <= set(names)
    assert "README" not in names
    pipe.run("package")
    assert _git("--git-dir", uri, "rev-list", "--count", "main") == "2\n"


def _first_commit(uri: str, place: Path) -> None:
    _git("clone", "--quiet", uri, str(place))
    (place / "README").write_text("nothing yet\n")
    _git("-C", str(place), "add", ".")
    _git("-C", str(place), "-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "--quiet", "-m", "first")
    _git("-C", str(place), "push", "--quiet", uri, "HEAD:refs/heads/main")


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], check=True, capture_output=True, text=True, timeout=_SECONDS).stdout


# What a worker refuses


def test_a_worker_sees_what_is_wrong(site: Site) -> None:
    """Without this, the tests above would be of a consumer that takes anything."""
    place = site.worker.volume()
    image = worker.Image(place)
    with pytest.raises(ContainerError, match="in rootfs format"):
        site.worker.run(image, ["/true"])
    (place / "rootfs").mkdir()
    (place / "metadata.json").write_text('{"user": 1000}')
    with pytest.raises(ContainerError, match="user"):
        site.worker.run(image, ["/true"])
    (place / "metadata.json").write_text('{"user": "alex"}')
    with pytest.raises(ContainerError, match="unable to find user alex"):
        site.worker.run(image, ["/true"])
    (place / "metadata.json").write_text('{"env": ["A"]}')
    site.worker.give(place)
    with pytest.raises(ContainerError, match="environment"):
        site.worker.run(image, ["/true"])
    (place / "metadata.json").write_text("{}")
    with pytest.raises(ContainerError, match="No such file"):
        site.worker.run(image, ["/true"])
    with pytest.raises(ContainerError, match="exit status"):
        site.worker.command(site.worker.programs.tar, "xf", "/dev/zero/none", "-C", str(place))


def test_a_worker_is_not_root(site: Site) -> None:
    """Its containers' root owns nothing of this machine, and makes no devices."""
    if worker.ids_here() is None:
        pytest.skip("user namespaces are not to be had here")
    place = site.worker.volume()
    with pytest.raises(ContainerError, match="ermission denied"):
        site.worker.command(("touch",), "/usr/ocirootfs-test")
    with pytest.raises(ContainerError, match="not permitted"):
        site.worker.command(("mknod",), str(place / "null"), "c", "1", "3")
