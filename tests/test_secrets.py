"""Secrets: planted in every channel, and looked for in everything that a run leaves behind.

Each is spoken in its channel, which the test sees arrive; it must be nowhere else: not in the log in every detail, an
error, a traceback, a child's arguments or environment, an archive.
"""

from __future__ import annotations

import base64
import json
import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from ocirootfs.cli import traces
from ocirootfs.reference import Reference
from ocirootfs.registry import Registry
from ocirootfs.registry.auth import TokenRequest
from ocirootfs.registry.credentials import Credentials, Keychain, fixed
from ocirootfs.registry.origin import Origin
from ocirootfs.registry.transport import Request
from tests.commands import Ran, environment, run, run_here
from tests.make_fixtures import ZONES
from tests.servers.proxy import Proxy
from tests.servers.registry import FakeRegistry, Fault

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.servers.moto import S3Endpoint

LOUD = ("-vv", "--debug", "--retries", "0", "--platform", "linux/amd64")
SECRETS = {
    name: f"planted-{name}-7f3a"
    for name in (
        "stdin", "argument", "variable", "authfile", "identity", "registry-token", "helper", "bearer", "refresh",
        "signature", "s3", "session", "proxy",
    )
}  # fmt: skip


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "DOCKER_AUTH_CONFIG", "DOCKER_CONFIG", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


def spellings(secret: str) -> list[bytes]:
    """Return how a secret may be written: as it is, and in the base64 of a user and a password."""
    pairs = (f"{user}:{secret}".encode() for user in ("me", "<token>", ""))
    return [secret.encode(), *(base64.b64encode(pair).rstrip(b"=") for pair in pairs)]


def leaks(*texts: str | bytes) -> list[str]:
    """Return the names of the secrets that stand in `texts`."""
    whole = b"\n".join(text.encode() if isinstance(text, str) else text for text in texts)
    return [name for name, secret in SECRETS.items() if any(each in whole for each in spellings(secret))]


@dataclass(frozen=True)
class Channel:
    """How a secret reaches the command: arguments, standard input, variables, an auth file's entry or a helper."""

    arguments: tuple[str, ...] = ()
    stdin: str = ""
    environ: Mapping[str, str] = field(default_factory=dict)
    entry: Mapping[str, str] = field(default_factory=dict)
    helper: str = ""


BASIC = base64.b64encode(f"me:{SECRETS['authfile']}".encode()).decode()
CHANNELS = {
    "stdin": Channel(("--creds", "me", "--password-stdin"), stdin=SECRETS["stdin"] + "\n"),
    "variable": Channel(environ={"OCIROOTFS_USERNAME": "me", "OCIROOTFS_PASSWORD": SECRETS["variable"]}),
    "authfile": Channel(entry={"auth": BASIC}),
    "identity": Channel(entry={"identitytoken": SECRETS["identity"]}),
    "registry-token": Channel(entry={"registrytoken": SECRETS["registry-token"]}),
    "helper": Channel(helper=SECRETS["helper"]),
}
FAULTS: dict[str, tuple[Fault, ...]] = {
    "nothing": (),
    "the token server says no": (Fault("/", "token", status=401, body=b'{"error": "no"}', times=9),),
    "the token server is a page": (Fault("/", "token", status=200, body=b"<html>", times=9),),
    "the registry says no": (Fault("/blobs/", status=403, times=9),),
    "the registry breaks off": (Fault("/manifests/", cut=3, reset=True, times=9),),
    "the store says no": (Fault("/", "cdn", status=403, body=b"<Error><Code>Expired</Code>", times=9),),
    "the store breaks off": (Fault("/", "cdn", cut=2, times=9),),
    "the store alters": (Fault("/", "cdn", altered=True, times=9),),
}  # fmt: skip


def fetched(fake: FakeRegistry, channel: Channel, tmp_path: Path) -> tuple[Ran, str]:
    """Fetch with a secret; gives what came of it, and what a helper saw of itself and of us."""
    reference = fake.add_image()
    variables = dict(channel.environ)
    config: dict[str, object] = {"auths": {fake.host: dict(channel.entry)}}
    seen = tmp_path / "seen"
    if channel.helper:
        program = tmp_path / "docker-credential-planted"
        answer = json.dumps({"ServerURL": "x", "Username": "me", "Secret": channel.helper})
        program.write_text(
            f"#!/bin/sh\ncat /proc/$$/cmdline /proc/$PPID/cmdline > {seen}; env >> {seen}\ncat > /dev/null\n"
            f"echo {SECRETS['helper']} >&2\necho '{answer}'\n"
        )
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        config = {"credsStore": "planted"}
        variables |= {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "OCIROOTFS_PASSWORD": SECRETS["variable"]}
    (tmp_path / ".docker").mkdir(exist_ok=True)
    (tmp_path / ".docker" / "config.json").write_text(json.dumps(config))
    words = ("fetch", str(reference), "-o", "-", *channel.arguments, *LOUD)
    if channel.helper:  # its parent is to be the command, and nothing else
        return run(*words, env=environment(**variables)), seen.read_text()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        return run_here(*words, stdin=channel.stdin.encode()), ""


@pytest.mark.parametrize("name", CHANNELS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_registrys_secrets(name: str, fault: str, tmp_path: Path) -> None:
    channel, secret = CHANNELS[name], SECRETS[name]
    with FakeRegistry(auth="bearer", redirect=True, login=("me", secret)) as fake:
        fake.refresh_tokens = {SECRETS["identity"], SECRETS["refresh"]}
        fake.token_mark, fake.granted = SECRETS["bearer"], {"refresh_token": SECRETS["refresh"]}
        fake.signature = SECRETS["signature"]
        fake._tokens.add(f"any:{SECRETS['registry-token']}")
        if name == "registry-token":
            channel = Channel(entry={"registrytoken": f"any:{SECRETS[name]}"})
        fake.faults = [
            Fault(**{each: getattr(found, each) for each in found.__dataclass_fields__}) for found in FAULTS[fault]
        ]

        ran, seen = fetched(fake, channel, tmp_path)

    told = [json.dumps([dict(found.headers), dict(found.form), found.path]) for found in fake.requests]
    assert name in leaks(*told), "the channel itself is not used"
    spared = fault == "nothing" or (name == "registry-token" and "token server" in fault)
    assert (ran.status == 0) is spared, ran.err
    assert leaks(ran.err, ran.out, seen) == []
    assert "debug: GET " in ran.err or "breaks off" in fault
    assert spared or "Traceback" in ran.err
    if fault == "nothing":
        assert set(leaks(*told)) >= {"signature"} | (set() if name == "registry-token" else {"bearer"})


def test_a_password_among_the_arguments_is_in_no_message(tmp_path: Path) -> None:
    """`--creds USER:PASSWORD` is for those who accept that `ps` shows it; we repeat it nowhere."""
    with FakeRegistry(auth="basic") as fake:
        channel = Channel(("--creds", f"me:{SECRETS['argument']}"))

        ran, _ = fetched(fake, channel, tmp_path)

    assert ran.status == 4
    assert leaks(ran.err, ran.out) == []


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"])
@pytest.mark.parametrize("host", ["127.0.0.1:1", "127.0.0.1:99999", "a b"])
def test_a_password_in_an_endpoint(host: str, variable: str) -> None:
    variables = environment(**{variable: f"http://me:{SECRETS['s3']}@{host}"})
    with FakeRegistry() as fake:
        ran = run("pack", str(fake.add_image()), "-o", "s3://bucket/a.tgz", *LOUD, env=variables)
    assert ran.status == 2, ran.err
    assert leaks(ran.err, ran.out) == []


@pytest.mark.parametrize("key", ["a.tgz", "{no}.tgz", "", "a.zip"])
def test_a_password_in_a_buckets_url(key: str) -> None:
    ran = run_here("pack", "ubuntu:17.04", "-o", f"s3://key:{SECRETS['s3']}@bucket/{key}", *LOUD)
    assert ran.status == 2, ran.err
    assert leaks(ran.err, ran.out) == []


@pytest.mark.parametrize("endpoint", ["good", "dead"])
def test_a_buckets_secrets(endpoint: str, s3: S3Endpoint) -> None:
    variables = environment(
        AWS_ACCESS_KEY_ID="key", AWS_SECRET_ACCESS_KEY=SECRETS["s3"], AWS_SESSION_TOKEN=SECRETS["session"]
    )
    url = s3.endpoint if endpoint == "good" else "http://127.0.0.1:1"
    with FakeRegistry() as fake:
        reference = fake.add_image(layers=[b"\0" * 1024])
        target = f"s3://{s3.bucket}/a.tgz"

        ran = run("pack", str(reference), "-o", target, "--endpoint-url", url, *LOUD, env=variables)

    assert ran.status == (0 if endpoint == "good" else 5), ran.err
    assert leaks(ran.err, ran.out, *(s3.body(key) for key in s3.keys())) == []  # noqa: SIM118  # a method of ours


@pytest.mark.parametrize("wanted", ["other:password", f"me:{SECRETS['proxy']}"])
def test_a_proxys_secret(wanted: str) -> None:
    with Proxy(login=wanted) as proxy:
        variables = environment(HTTPS_PROXY=f"http://me:{SECRETS['proxy']}@{proxy.host}", NO_PROXY=None, no_proxy=None)
        ran = run("fetch", "registry.invalid/a/b", "-o", "-", *LOUD, env=variables)

    assert proxy.asked
    assert ran.status == 5
    assert leaks(ran.err, ran.out) == []


def test_the_password_of_a_buckets_proxy() -> None:
    variables = environment(
        HTTP_PROXY=f"http://me:{SECRETS['proxy']}@127.0.0.1:99999", NO_PROXY=None, no_proxy=None,
        AWS_ACCESS_KEY_ID="key", AWS_SECRET_ACCESS_KEY="secret",
    )  # fmt: skip
    words = ("pack", str(ZONES), "-o", "s3://bucket/a.tgz", "--endpoint-url", "http://127.0.0.1:1")
    ran = run(*words, "--s3-retry-for", "0", "-vv", "--debug", env=variables)

    assert (ran.status, "Traceback" in ran.err) == (5, True), ran.err
    assert leaks(ran.err, ran.out) == []


def test_the_signature_of_a_place_that_cannot_be_reached() -> None:
    """A library's error has the URL in it, and a traceback has that."""
    where = f"http://127.0.0.1:1/layer?Expires=1&Signature={SECRETS['signature']}"
    with FakeRegistry() as fake:
        reference = fake.add_image()
        fake.faults = [Fault("/blobs/", status=307, headers={"Location": where}, times=9)]
        ran = run("fetch", str(reference), "-o", "-", *LOUD)

    assert (ran.status, "Traceback" in ran.err) == (5, True), ran.err
    assert leaks(ran.err, ran.out) == []


def test_a_traceback_steers_no_terminal() -> None:
    told = traces.shown(
        ValueError("a\x1b[31m\r\nb\u202e https://me:pass@host/x@y?sig=1&b=c (see docker://x@sha256:12?)")
    )

    assert told.split("\n") == [
        r"ValueError: a\x1b[31m\x0d", r"b\u202e https://…@y?… (see docker://x@sha256:12?)", ""
    ]  # fmt: skip


def test_nothing_shows_what_it_holds() -> None:
    secret = SECRETS["authfile"]
    credentials = Credentials("me", secret, secret, secret)
    reference = Reference.parse("registry.example/a/b")
    origin = Origin.of("https://registry.example")
    with Registry(credentials=credentials) as registry:
        shown = [
            registry,
            credentials,
            fixed(credentials),
            fixed(credentials)(reference),
            Keychain({"DOCKER_AUTH_CONFIG": json.dumps({"auths": {"registry.example": {"auth": BASIC}}})}),
            TokenRequest("https://x.y/", origin, f"Basic {BASIC}", {"refresh_token": secret}),
            Request("POST", "https://x.y/", "x", f"Basic {BASIC}", form={"refresh_token": secret}),
        ]
        assert leaks(*map(repr, shown), *map(str, shown)) == []
