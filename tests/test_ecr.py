"""Amazon's registries: moto gives the token, and a registry of that name takes it as the password."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from ocirootfs.errors import AuthError, TemporaryError
from ocirootfs.reference import Reference
from ocirootfs.registry import Registry, ecr
from ocirootfs.registry.credentials import Keychain
from tests.commands import environment, run
from tests.servers.certificate import Authority
from tests.servers.moto import moto_server
from tests.servers.proxy import Proxy
from tests.servers.registry import FakeRegistry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ACCOUNT = "123456789012"
HOST = f"{ACCOUNT}.dkr.ecr.eu-west-1.amazonaws.com"
IMAGE = Reference.parse(f"{HOST}/team/app:1")
SECRET = f"{ACCOUNT}-auth-token"  # as moto makes them


@pytest.fixture(scope="module")
def _aws() -> Iterator[str]:
    with moto_server() as url:
        yield url


@pytest.fixture
def aws(_aws: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Have boto3 ask moto, and no file of the developer's come first."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", _aws)
    for name in ("DOCKER_AUTH_CONFIG", "REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return _aws


def test_a_token_is_the_password(aws: str) -> None:
    assert ecr.ask(HOST) == ("AWS", SECRET)
    found = Keychain().find(IMAGE).credentials
    assert found is not None
    assert (found.username, found.password, found.source) == ("AWS", SECRET, "AWS")
    assert SECRET not in repr(found)


def test_a_role_of_a_profile(aws: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = tmp_path / "aws"
    config.write_text(
        "[profile pull]\nrole_arn = arn:aws:iam::123456789012:role/pull\ncredential_source = Environment\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_PROFILE", "pull")

    assert ecr.ask(HOST) == ("AWS", SECRET)


def test_what_is_saved_comes_first(aws: str, tmp_path: Path) -> None:
    (tmp_path / ".docker").mkdir()
    (tmp_path / ".docker" / "config.json").write_text(f'{{"auths": {{"{HOST}": {{"auth": "bWU6eA=="}}}}}}')

    found = Keychain().find(IMAGE).credentials

    assert found is not None
    assert found.username == "me"


@pytest.mark.parametrize("gone", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_nobody_to_ask_as(aws: str, monkeypatch: pytest.MonkeyPatch, gone: str) -> None:
    for name in {gone, "AWS_ACCESS_KEY_ID"}:
        monkeypatch.delenv(name)

    with pytest.raises(AuthError, match=f"cannot get a token of {re.escape(HOST)} from AWS: ") as caught:
        ecr.ask(HOST)

    assert "AWS_PROFILE" in (caught.value.hint or "")


def test_aws_is_not_there(aws: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")

    with pytest.raises(TemporaryError, match="cannot ask AWS for a token"):
        ecr.ask(HOST)


@pytest.mark.parametrize(
    "host",
    [
        "docker.io",
        "public.ecr.aws",
        "12345678901.dkr.ecr.eu-west-1.amazonaws.com",
        f"{ACCOUNT}.dkr.ecr.eu-west-1.amazonaws.com.evil.com",
        f"{ACCOUNT}.dkr.ecr.eu-west-1.evil.com",
        f"x{HOST}",
        f"{HOST}:5000",
        f"{ACCOUNT}.dkr.ecr.EVIL/x.amazonaws.com",
    ],
)
def test_other_hosts_are_not_amazons(host: str) -> None:
    assert ecr.ask(host) is None


@pytest.mark.parametrize(
    "host",
    [
        f"{ACCOUNT}.dkr.ecr-fips.us-east-1.amazonaws.com",
        f"{ACCOUNT}.dkr.ecr.cn-north-1.amazonaws.com.cn",
        f"{ACCOUNT}.dkr-ecr.us-east-1.on.aws",
    ],
)
def test_other_kinds_of_amazons(aws: str, host: str) -> None:
    assert ecr.ask(host) == ("AWS", SECRET)


def test_other_registries_do_not_load_boto3() -> None:
    code = (
        "import sys; from ocirootfs.registry.credentials import Keychain; from ocirootfs.reference import Reference;"
        "Keychain({'XDG_RUNTIME_DIR': '/x'}).find(Reference.parse('ghcr.io/a/b')); print('boto3' in sys.modules)"
    )

    assert subprocess.check_output([sys.executable, "-c", code], env=environment(), timeout=60) == b"False\n"


def test_a_pull(aws: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    certificates = Authority(tmp_path)
    login = ("AWS", SECRET)
    with (
        FakeRegistry(tls=certificates.server(HOST), auth="basic", login=login) as fake,
        Proxy({f"{HOST}:443": fake.host}) as proxy,
    ):
        fake.add_image("team/app")
        variables = environment(HTTPS_PROXY=proxy.url, NO_PROXY="127.0.0.1", no_proxy=None)
        options = ("--platform=amd64", "--ca-file", str(certificates.ca_file), "-o", "-")

        ran = run("fetch", str(IMAGE), *options, env=variables)

        assert (ran.status, ran.err) == (0, "")
        ran = run("fetch", str(IMAGE), *options, "-vv", env={**variables, "AWS_ACCESS_KEY_ID": ""})
        assert ran.status == 4
        assert "cannot get a token of" in ran.err


def test_a_token_that_has_ended_is_asked_for_again(aws: str, caplog: pytest.LogCaptureFixture) -> None:
    """Twelve hours on, the registry refuses what it took before: the place it came from is asked again."""
    caplog.set_level(logging.DEBUG)
    asked = []
    with FakeRegistry(auth="basic", login=("AWS", "first")) as fake:
        reference = fake.add_image()

        def find(reference: Reference) -> object:
            asked.append(reference)
            return Keychain({"DOCKER_AUTH_CONFIG": docker_config(fake.host, fake.login)}).find(reference)

        with Registry(credentials=find, sleep=lambda _: None) as registry:  # type: ignore[arg-type]
            registry.manifest(reference)
            fake.login = ("AWS", "second")
            registry.manifest(reference)

    assert len(asked) == 2
    assert "second" not in caplog.text


def docker_config(host: str, login: tuple[str, str]) -> str:
    return f'{{"auths": {{"{host}": {{"username": "{login[0]}", "password": "{login[1]}"}}}}}}'
