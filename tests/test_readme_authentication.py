"""The README's authentication section, followed to the letter: each line of it, in a shell, where those hosts are."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.commands import environment
from tests.servers.certificate import Authority
from tests.servers.moto import moto_server
from tests.servers.proxy import Proxy
from tests.servers.registry import FakeRegistry

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

README = Path(__file__).parent.parent / "README.md"
ECR = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
KEY = json.dumps({"type": "service_account", "private_key": "-----BEGIN\nx:y\n"}, indent=2)
ZEROS = "00000000-0000-0000-0000-000000000000"

# Who each line must have been taken for, by a piece of the line; the first that fits counts.
LOGINS = {
    "docker login": ("saved", "by docker"),
    "sso": ("team", "in a file"),
    "auth.json": ("team", "in a file"),
    "GITHUB_TOKEN": ("me", "gh-token"),
    "dkr.ecr": ("AWS", "123456789012-auth-token"),
    "_json_key": ("_json_key", KEY),
    "oauth2accesstoken": ("oauth2accesstoken", "ya29.token"),
    "azurecr": (ZEROS, "acr-token"),
    "corp-ca.pem": None,
    "--mirror": None,
}
# Stand-ins for the programs of others, which the lines name.
PROGRAMS = {
    "ocirootfs": f'exec {sys.executable} -m ocirootfs "$@"',
    "gcloud": 'test "$*" = "auth print-access-token" && echo ya29.token',
    "az": 'test "$*" = "acr login --name corp --expose-token --query accessToken --output tsv" && echo acr-token',
    "docker": f"""test "$*" = "login registry.corp" && mkdir -p ~/.docker && echo '{
        json.dumps({"auths": {"registry.corp": {"auth": base64.b64encode(b"saved:by docker").decode()}}})
    }' > ~/.docker/config.json""",
}


def lines() -> list[str]:
    """Return the commands of the section's block, continued lines joined."""
    section = README.read_text("utf-8").partition("## Authentication\n")[2].partition("\n## ")[0]
    block = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    assert len(block) == 1
    joined = block[0].replace("\\\n", "")
    return [line for line in joined.splitlines() if not line.startswith("#")]


@dataclass(frozen=True)
class World:
    """The hosts that the section names, behind a proxy."""

    registries: dict[str, FakeRegistry]
    environ: dict[str, str]
    folder: Path


HOSTS = (
    "registry.corp", "ghcr.io", ECR, "europe-docker.pkg.dev", "corp.azurecr.io", "own.corp:5000", "mirror.corp",
    "registry-1.docker.io",
)  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("world")
    public, own = Authority(_made(folder / "public")), Authority(_made(folder / "own"))
    with ExitStack() as stack:
        places, registries = {}, {}
        for host in HOSTS:
            name = host.partition(":")[0]
            signed: ssl.SSLContext = (own if name == "own.corp" else public).server(name, "sso.example")
            fake = registries[host] = stack.enter_context(FakeRegistry(tls=signed))
            places[host if ":" in host else f"{host}:443"] = fake.host
            for repository in ("team/app", "corp/team/app", "sso/app", "hub/library/ubuntu"):
                fake.add_image(repository, "17.04" if "ubuntu" in repository else "1")
        places["sso.example:443"] = registries["registry.corp"].token
        proxy = stack.enter_context(Proxy(places))
        aws = stack.enter_context(moto_server())
        (folder / "aws").write_text("[profile ci]\nrole_arn = arn:aws:iam::123456789012:role/ci\n"
                                    "credential_source = Environment\n")  # fmt: skip
        bin_ = _made(folder / "bin")
        for name, text in PROGRAMS.items():
            (bin_ / name).write_text(f"#!/bin/sh\n{text}\n")
            (bin_ / name).chmod(0o755)
        environ = {
            "HTTPS_PROXY": proxy.url, "NO_PROXY": "127.0.0.1", "SSL_CERT_FILE": str(public.ca_file),
            "PATH": f"{bin_}:/usr/bin:/bin", "GITHUB_TOKEN": "gh-token", "AWS_ENDPOINT_URL": aws,
            "AWS_CONFIG_FILE": str(folder / "aws"), "OCIROOTFS_PLATFORM": "linux/amd64",
        }  # fmt: skip
        yield World(registries, environ, folder)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


@pytest.mark.parametrize("line", lines(), ids=lambda line: line[:60])
def test_a_line(line: str, world: World, tmp_path: Path) -> None:
    login = next(value for piece, value in LOGINS.items() if piece in line)
    auths = {"registry.corp": {"username": "team", "password": "in a file"}}
    (tmp_path / "auth.json").write_text(json.dumps({"auths": auths}))
    (tmp_path / "key.json").write_text(KEY + "\n")
    (tmp_path / "corp-ca.pem").write_bytes((world.folder / "own" / "authority.crt").read_bytes())
    host = next(host for host in ("mirror.corp", *HOSTS) if host in line)
    fake = world.registries[host]
    fake.auth, fake.login, fake.realm = _demands(line, login)
    before = len(fake.requests)
    home: dict[str, Any] = {name: str(tmp_path) for name in ("HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME")}
    gone = ("DOCKER_AUTH_CONFIG", "REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "no_proxy", "https_proxy")
    variables = environment(**{**dict.fromkeys(gone), **world.environ, **home})

    ran = subprocess.run(
        ["/bin/bash", "-o", "pipefail", "-ec", line],
        env=variables,
        cwd=tmp_path,
        capture_output=True,
        timeout=60,
        check=False,
    )

    assert (ran.returncode, ran.stderr.decode()) == (0, "")
    assert (tmp_path / "app.tar").stat().st_size > 5000
    if login:
        pair = "Basic " + base64.b64encode(":".join(login).encode()).decode()
        assert pair in {found.headers.get("Authorization") for found in fake.requests[before:]}
    else:
        assert len(fake.requests) > before


def _demands(line: str, login: tuple[str, str] | None) -> tuple[str | None, tuple[str, str], str | None]:
    if login is None:
        return None, ("", ""), None
    return ("bearer", login, "https://sso.example/token") if "sso" in line else ("basic", login, None)


def test_every_line_is_for_somebody() -> None:
    assert len(lines()) == 12
    assert all(any(piece in line for piece in LOGINS) for line in lines())
