"""The registry that people run, docker-registry, in each way that one is let into it."""

from __future__ import annotations

import json
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.commands import Ran, run_here
from tests.layers import build
from tests.servers.certificate import Authority
from tests.servers.docker_registry import PASSWORD, USER, TokenServer, docker_registry, token_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Real = Callable[[str], Path]

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("registry-real")]

_SECONDS = 60


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name in ("DOCKER_AUTH_CONFIG", "REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "OCIROOTFS_USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / ".config"))
    (tmp_path / "run").mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))


@pytest.fixture(scope="module")
def folder(real: Real, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a registry's data: two images, pushed while everybody was let in."""
    place = tmp_path_factory.mktemp("registry")
    entries = [{"type": "file", "name": "a", "data": "a"}]
    built = build([{"wrap": "gzip", "entries": entries}], config={"config": {}})
    layout = built.layout(place / "layout", "1")
    with docker_registry(real("docker-registry"), place) as host:
        for name in ("team/app", "public/app"):
            copy = ["--insecure-policy", "copy", "--dest-tls-verify=false", f"oci:{layout}:1"]
            command = [str(real("skopeo")), *copy, f"docker://{host}/{name}:1"]
            subprocess.run(command, check=True, capture_output=True, timeout=_SECONDS)
    return place


@contextmanager
def registry(real: Real, folder: Path, **options: Any) -> Iterator[str]:
    with docker_registry(real("docker-registry"), folder, **options) as host:
        yield host


def fetch(host: str, *options: str, image: str = "team/app", stdin: bytes = b"", **variables: str) -> Ran:
    words = ("fetch", f"{host}/{image}:1", "--retries=0", "-o", "-", *options)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        return run_here(*words, stdin=stdin)


def test_everybody(real: Real, folder: Path) -> None:
    with registry(real, folder) as host:
        assert len(fetch(host).ok.out) > 5000
        ran = fetch(host, image="team/other")

    assert ran.status == 3
    assert f"{host}/team/other:1: not found (404 MANIFEST_UNKNOWN: manifest unknown)" in ran.err


def test_a_password(real: Real, folder: Path, tmp_path: Path) -> None:
    with registry(real, folder, htpasswd=real("htpasswd")) as host:
        assert fetch(host).status == 4
        ran = fetch(host, "--creds", USER, OCIROOTFS_PASSWORD="wr0ng")
        assert (ran.status, f"tried as user '{USER}' from --creds" in ran.err) == (4, True)

        assert fetch(host, "--creds", USER, "--password-stdin", stdin=f"{PASSWORD}\n".encode()).status == 0
        assert fetch(host, OCIROOTFS_USERNAME=USER, OCIROOTFS_PASSWORD=PASSWORD).status == 0
        # What another tool saves, in a file of its own and in the usual place.
        saved = tmp_path / "saved.json"
        login(real, host, "--authfile", str(saved))
        assert fetch(host, "--authfile", str(saved)).status == 0
        assert fetch(host, REGISTRY_AUTH_FILE=str(saved)).status == 0
        assert fetch(host, DOCKER_AUTH_CONFIG=saved.read_text()).status == 0
        assert fetch(host).status == 4
        login(real, host)
        assert fetch(host).status == 0
        assert fetch(host, "--no-creds").status == 4


def login(real: Real, host: str, *options: str) -> None:
    command = [str(real("skopeo")), "login", "--tls-verify=false", "-u", USER, "--password-stdin", *options, host]
    subprocess.run(command, input=PASSWORD.encode(), check=True, capture_output=True, timeout=_SECONDS)


@pytest.fixture
def tokens() -> Iterator[TokenServer]:
    with token_server() as found:
        yield found


def test_tokens(real: Real, folder: Path, tokens: TokenServer) -> None:
    with registry(real, folder, tokens=tokens) as host:
        assert fetch(host, image="public/app").status == 0
        ran = fetch(host)
        assert (ran.status, "it does not exist or needs a login" in ran.err) == (4, True)
        assert fetch(host, "--creds", USER, OCIROOTFS_PASSWORD=PASSWORD).status == 0
        ran = fetch(host, "--creds", USER, OCIROOTFS_PASSWORD="wr0ng")
        assert (ran.status, f"rejects the credentials for {host}" in ran.err) == (4, True)


def test_tls(real: Real, folder: Path, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    own = authority.issue("registry", "127.0.0.1")
    with registry(real, folder, certificate=own, htpasswd=real("htpasswd")) as host:
        creds = ("--creds", f"{USER}:{PASSWORD}")
        ran = fetch(host, *creds)
        assert (ran.status, f"the TLS certificate of {host} is not trusted" in ran.err) == (5, True)

        assert fetch(host, *creds, "--ca-file", str(authority.ca_file)).status == 0
        assert fetch(host, *creds, SSL_CERT_FILE=str(authority.ca_file)).status == 0
        assert fetch(host, *creds, "--insecure-host", host).status == 0
        there = tmp_path / ".config" / "containers" / "certs.d" / host
        there.mkdir(parents=True)
        (there / "ca.crt").write_bytes(authority.ca_file.read_bytes())
        assert fetch(host, *creds).status == 0


def test_a_clients_certificate(real: Real, folder: Path, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    own = authority.issue("registry", "127.0.0.1")
    with registry(real, folder, certificate=own, clients=authority.ca_file) as host:
        trusted = ("--ca-file", str(authority.ca_file))
        ran = fetch(host, *trusted)
        assert ran.status == 5
        assert "certificate" in ran.err or "reset by peer" in ran.err

        there = tmp_path / ".config" / "containers" / "certs.d" / host
        there.mkdir(parents=True)
        for path, name in zip(authority.issue("me"), ("client.cert", "client.key"), strict=True):
            (there / name).write_bytes(path.read_bytes())
        assert fetch(host, *trusted).status == 0
        (there / "client.key").unlink()
        ran = fetch(host, *trusted)
        assert (ran.status, "has client.cert without a .key" in ran.err) == (2, True)


def test_what_a_mirror_lacks_comes_from_the_registry(real: Real, folder: Path, tmp_path: Path) -> None:
    """The mirror is another registry, which lets nobody in without a password."""
    (tmp_path / "mirror").mkdir()
    with (
        registry(real, folder) as host,
        registry(real, tmp_path / "mirror", htpasswd=real("htpasswd")) as mirror,
    ):
        auths = {mirror: {"username": USER, "password": PASSWORD}}
        saved = json.dumps({"auths": auths})
        ran = fetch(host, "--mirror", f"{host}=http://{mirror}", DOCKER_AUTH_CONFIG=saved)

    assert ran.status == 0
    assert ran.err.count("ocirootfs: warning: ") == 1
    assert f"the mirror {mirror} fails, asking {host}: " in ran.err
    assert "404" in ran.err
