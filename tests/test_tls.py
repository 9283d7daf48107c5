"""TLS: which authorities, which certificates of our own, and to whom each of them is shown."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ocirootfs.errors import TemporaryError, UsageError
from ocirootfs.manifest import Manifest
from ocirootfs.reference import Reference
from ocirootfs.registry import Registry
from ocirootfs.registry.certsd import HostCertificates, host_certificates, usual_directories
from ocirootfs.registry.credentials import anonymous
from tests.commands import environment, run
from tests.servers.certificate import Authority
from tests.servers.registry import FakeRegistry

if TYPE_CHECKING:
    from collections.abc import Iterable


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    (tmp_path / "authority").mkdir()
    return Authority(tmp_path / "authority")


def pull(reference: Reference, **options: Any) -> int:
    """Pull an image, and return how many layers it has."""
    options = {"certs_directories": (), **options}
    with Registry(credentials=anonymous, sleep=lambda _: None, retries=0, timeout=20, **options) as registry:
        found = registry.manifest(reference)
        assert isinstance(found, Manifest)
        for layer in found.layers:
            assert b"".join(registry.blob(reference, layer))
        return len(found.layers)


def certs(folder: Path, host: str, files: Iterable[Path], **renamed: Path) -> Path:
    """Make a certs.d directory that holds `files` for `host`; gives it."""
    place = folder / "certs.d" / host
    place.mkdir(parents=True)
    for file in files:
        (place / file.name).write_bytes(file.read_bytes())
    for name, file in renamed.items():
        (place / name.replace("_", ".")).write_bytes(file.read_bytes())
    return place.parent


def test_an_authority_for_one_host(authority: Authority, tmp_path: Path) -> None:
    with FakeRegistry(tls=authority.server()) as fake:
        reference = fake.add_image()
        there = certs(tmp_path, fake.host, [authority.ca_file])

        assert pull(reference, certs_directories=[there]) == 2
        (there / fake.host).rename(there / "127.0.0.1:1")
        with pytest.raises(TemporaryError, match="is not trusted: ") as caught:
            pull(reference, certs_directories=[there])

    assert caught.value.hint == "see --ca-file and certs.d"


def test_any_certificate_is_an_anchor(authority: Authority, tmp_path: Path) -> None:
    """A server's own, though another authority issued it; and none has all the extensions of RFC 5280."""
    with FakeRegistry(tls=authority.server()) as fake:
        (server,) = tmp_path.rglob("server.cert")
        assert pull(fake.add_image(), ca_file=server) == 2


def test_a_clients_certificate_is_shown_to_its_host_alone(authority: Authority, tmp_path: Path) -> None:
    asking = authority.server(clients=ssl.CERT_OPTIONAL)
    with FakeRegistry(tls=asking, redirect=True, auth="bearer", anonymous=True) as fake:
        reference = fake.add_image()
        there = certs(tmp_path, fake.host, [authority.ca_file, *authority.issue("me")])

        assert pull(reference, certs_directories=[there], ca_file=authority.ca_file) == 2

    assert {found.shown for found in fake.seen("registry")} == {"me"}
    assert {found.shown for found in (*fake.seen("cdn"), *fake.seen("token"))} == {""}
    assert len(fake.seen("cdn")) == 2


def test_a_registry_that_demands_a_certificate(authority: Authority, tmp_path: Path) -> None:
    with FakeRegistry(tls=authority.server(clients=ssl.CERT_REQUIRED)) as fake:
        reference = fake.add_image()

        # Its alert is lost where it closes the connection before our request has arrived.
        with pytest.raises(TemporaryError, match=r"wants a client certificate|the connection ended|reset by") as caught:
            pull(reference, ca_file=authority.ca_file)
        certificate, key = authority.issue("me")
        there = certs(tmp_path, fake.host, [], client_cert=certificate, client_key=key)
        assert pull(reference, ca_file=authority.ca_file, certs_directories=[there]) == 2

    assert "certs.d" in (caught.value.hint or "certs.d")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"days": -1}, "certificate has expired"),
        ({"names": ("registry.other",)}, "IP address mismatch, certificate is not valid for '127.0.0.1'"),
    ],
)
def test_certificates_that_are_not_good(authority: Authority, options: dict[str, Any], says: str) -> None:
    with (
        FakeRegistry(tls=authority.server(*options.pop("names", ()), **options)) as fake,
        pytest.raises(TemporaryError, match=says),
    ):
        pull(fake.add_image(), ca_file=authority.ca_file)


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
@pytest.mark.parametrize("port", [True, False])
def test_insecure_is_for_the_hosts_named(authority: Authority, *, port: bool) -> None:
    with FakeRegistry(tls=authority.server()) as fake:
        reference = fake.add_image()

        named = fake.host if port else "127.0.0.1"
        assert pull(reference, insecure=[named]) == 2
        with pytest.raises(TemporaryError, match="is not trusted"):
            pull(reference, insecure=["localhost", "127.0.0.1:1", "127.0.0"])
        # What a registry that is not checked leads to is checked nevertheless.
        fake.redirect = True
        if port:
            with pytest.raises(TemporaryError, match=f"certificate of {fake.cdn} is not trusted"):
                pull(reference, insecure=[named])


def test_the_environments_authorities(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        with monkeypatch.context() as patch, FakeRegistry(tls=authority.server()) as fake:
            patch.setenv(name, str(authority.ca_file))
            assert pull(fake.add_image()) == 2


def test_the_command_line(authority: Authority, tmp_path: Path) -> None:
    with FakeRegistry(tls=authority.server()) as fake:
        image = str(fake.add_image())
        there = tmp_path / "config" / "containers"
        certs(there, fake.host, [authority.ca_file])

        def status(*options: str, **more: str) -> int:
            return run("fetch", image, "-o", "-", "--retries=0", *options, env=environment(**more)).status

        assert status() == 5
        assert status("--ca-file", str(authority.ca_file)) == 0
        assert status("--insecure") == 0
        assert status("--insecure-host", fake.host) == 0
        assert status("--insecure-host", "127.0.0.1:1") == 5
        assert status(XDG_CONFIG_HOME=str(tmp_path / "config")) == 0


def test_the_directories_of_a_user_come_before_the_machines() -> None:
    machine = (Path("/etc/containers/certs.d"), Path("/etc/docker/certs.d"))

    assert usual_directories({}) == machine
    assert usual_directories({"HOME": "/home/me"}) == (Path("/home/me/.config/containers/certs.d"), *machine)
    assert usual_directories({"HOME": "/x", "XDG_CONFIG_HOME": "/c"}) == (Path("/c/containers/certs.d"), *machine)


@pytest.mark.parametrize(
    ("name", "host"),
    [
        ("registry.corp", "registry.corp"),
        ("registry.corp:5000", "registry.corp:5000"),
        ("registry.corp:443", "registry.corp"),
        ("docker.io", "registry-1.docker.io"),
        ("[::1]:5000", "[::1]:5000"),
    ],
)
def test_names_of_directories(tmp_path: Path, name: str, host: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "a.crt").touch()

    assert host_certificates(host, [tmp_path]) == HostCertificates((tmp_path / name / "a.crt",))
    assert host_certificates("other.corp", [tmp_path]) == HostCertificates()


def test_the_first_directory_counts_alone(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name / "r.corp").mkdir(parents=True)
        (tmp_path / name / "r.corp" / f"{name}.crt").touch()

    found = host_certificates("r.corp", [tmp_path / "none", tmp_path / "one", tmp_path / "two"])

    assert [path.name for path in found.authorities] == ["one.crt"]


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (["client.cert"], "it has client.cert without a .key"),
        (["client.key"], "it has client.key without a .cert"),
        (["ca.crt"], "cannot use the CA file .*ca.crt: it holds no certificate"),
        (["client.cert", "client.key"], "cannot use the client certificate .*client.cert: it is no unencrypted PEM"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, files: list[str], says: str) -> None:
    (tmp_path / "127.0.0.1:1").mkdir()
    for name in files:
        (tmp_path / "127.0.0.1:1" / name).write_text("no PEM")

    with pytest.raises(UsageError, match=says):
        pull(Reference.parse("127.0.0.1:1/a/b"), certs_directories=[tmp_path])


def test_a_bundle_that_is_not_there_is_the_users_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nonexistent.pem")

    ran = run("fetch", "127.0.0.1:1/a/b", "-o", "-", "--retries=0")

    assert (ran.status, "nonexistent.pem" in ran.err) == (2, True)
    assert "Traceback" not in ran.err
