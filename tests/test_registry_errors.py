"""What people are told when a pull fails, and with which exit status: one table, over the command line."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from ocirootfs.manifest import DOCKER_MANIFEST, OCI_INDEX
from tests.commands import run_here
from tests.servers.registry import FakeRegistry, Fault, descriptor, digest_of, image, index

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+prettyjws"
HELM = "application/vnd.cncf.helm.config.v1+json"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name in ("DOCKER_AUTH_CONFIG", "REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("OCIROOTFS_USERNAME", raising=False)


@dataclass(frozen=True)
class Row:
    """A situation: how the registry is, what is asked of it beside `--retries 0`, and what is said."""

    status: int
    says: str  # a pattern; HOST and REPO stand for the registry's
    hint: str = ""
    reference: str = "HOST/a/b:1"
    arguments: tuple[str, ...] = ()
    environ: dict[str, str] = field(default_factory=dict)
    registry: dict[str, Any] = field(default_factory=dict)
    faults: tuple[Fault, ...] = ()
    prepare: Callable[[FakeRegistry], object] | None = None


def manifest(fake: FakeRegistry, body: bytes, media_type: str = DOCKER_MANIFEST) -> None:
    fake.add("a/b", "1", body, media_type)


def changed(fake: FakeRegistry, **more: Any) -> None:
    document = json.loads(fake._manifests["a/b", "1"].body)
    manifest(fake, json.dumps(document | more).encode())


def several(fake: FakeRegistry) -> None:
    raw, _ = image()
    entries = [descriptor(raw, DOCKER_MANIFEST, platform={"os": "linux", "architecture": a}) for a in ("arm", "s390x")]
    manifest(fake, index(entries), OCI_INDEX)


def attested(fake: FakeRegistry) -> None:
    platform = {"os": "unknown", "architecture": "unknown"}
    manifest(fake, index([descriptor(b"{}", DOCKER_MANIFEST, platform=platform)]), OCI_INDEX)


def endless(times: int = 99, **options: Any) -> Fault:
    return Fault("/v2/", times=times, **options)


def entry(host: str, **fields: Any) -> str:
    return json.dumps({"auths": {host: fields}})


ROWS = {
    "a bad reference": Row(
        2, "invalid image reference 'Ubuntu:17.04': repository name must be lowercase", "'ubuntu:17.04'",
        reference="Ubuntu:17.04",
    ),
    "a URL": Row(2, "'https://x/y' is a URL, not an image reference", "use 'x/y'", reference="https://x/y"),
    "a bad platform": Row(2, r"invalid platform 'linux\\arm'", "os/arch", arguments=("--platform", "linux\\arm")),
    "an auth file that is not there": Row(
        2, "cannot read the auth file /nonexistent: no such file", registry={"auth": "basic"},
        arguments=("--authfile", "/nonexistent"),
    ),
    "an auth file that is broken": Row(
        2, "DOCKER_AUTH_CONFIG: not valid JSON: .* line 1", registry={"auth": "basic"},
        environ={"DOCKER_AUTH_CONFIG": "{'"},
    ),
    "a helper that is missing": Row(
        4, "access to HOST/a/b:1 denied|HOST wants a user name", "docker-credential-nowhere is not in PATH",
        registry={"auth": "basic"}, environ={"DOCKER_AUTH_CONFIG": '{"credsStore": "nowhere"}'},
    ),
    "no such tag": Row(
        3, "HOST/a/b:2: not found .404 MANIFEST_UNKNOWN: manifest unknown", "spelled", reference="HOST/a/b:2",
    ),
    "no such digest": Row(
        3, "HOST/a/b@sha256:a+: not found .404 MANIFEST_UNKNOWN: manifest unknown", "in another repository",
        reference=f"HOST/a/b@sha256:{'a' * 64}",
    ),
    "another Accept": Row(
        3, "not found .404 MANIFEST_UNKNOWN: OCI manifest found, but accept header does not support OCI manifests",
        faults=(endless(status=404, body=b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"OCI manifest found, but '
                b'accept header does not support OCI manifests"}]}'),),
    ),
    "no such blob": Row(
        3, "blob sha256:[0-9a-f]+ of HOST/a/b:1: not found .404 BLOB_UNKNOWN", prepare=lambda fake: fake._blobs.clear(),
    ),
    "nobody": Row(
        4, "access to HOST/a/b:1 denied: it does not exist or needs a login .401 UNAUTHORIZED",
        "no credentials for HOST in ", registry={"auth": "bearer"}, environ={"DOCKER_AUTH_CONFIG": "{}"},
    ),
    "forbidden": Row(
        4, "access to HOST/a/b:1 denied: it does not exist or needs a login .403 DENIED", "no credentials for HOST in",
        faults=(endless(status=403, body=b'{"errors":[{"code":"DENIED"}]}'),), environ={"DOCKER_AUTH_CONFIG": "{}"},
    ),
    "the wrong password": Row(
        4, "rejects the credentials for HOST: 401 UNAUTHORIZED: incorrect username or password",
        "tried as user 'me' from --creds", registry={"auth": "bearer"}, arguments=("--creds", "me:wr0ng"),
    ),
    "a token server in trouble": Row(
        5, "the token server: 127.0.0.1:[0-9]+ answered 503", registry={"auth": "bearer"},
        faults=(Fault("/", "token", status=503, body=b"<html>", times=99),),
    ),
    "a token server without sense": Row(
        4, "the token server http://127.0.0.1:[0-9]+/token makes no sense: .* starts with '<html>", "captive portal",
        registry={"auth": "bearer"}, faults=(Fault("/", "token", status=200, body=b"<html>", times=99),),
    ),
    "another scheme": Row(
        4, "HOST asks for negotiate authentication; only Basic and Bearer are supported", registry={"auth": "basic"},
        prepare=lambda fake: setattr(fake, "challenge", ["Negotiate"]),
    ),
    "an unsafe realm": Row(
        4, "HOST names an impossible token server: refused to follow 'ftp://x/': only http",
        registry={"auth": "bearer"}, prepare=lambda fake: setattr(fake, "realm", "ftp://x/"),
    ),
    "a law": Row(
        3, "HOST/a/b:1: HOST withholds it for legal reasons .451 UNAVAILABLE: by order",
        faults=(endless(status=451, body=b'{"errors":[{"code":"UNAVAILABLE","message":"by order"}]}'),),
    ),
    "no form of it": Row(
        6, "HOST/a/b:1: HOST has it in no form that was asked for .406 no", "manifests and indexes of Docker and OCI",
        faults=(endless(status=406, body=b"no"),),
    ),
    "a rate limit": Row(
        5, "HOST limits the rate of pulls .0;w=21600 pulls left, counted for 1.2.3.4.: 429 toomanyrequests; "
        "retry after 7200 s", "log in",
        faults=(endless(status=429, body=b'{"message": "toomanyrequests"}', headers={
            "ratelimit-remaining": "0;w=21600", "docker-ratelimit-source": "1.2.3.4", "Retry-After": "7200"}),),
    ),
    "a server in trouble": Row(5, "HOST answered 503 down", faults=(endless(status=503, body=b"down"),)),
    "no such host": Row(
        5, "cannot resolve host 'regisrty.invalid'", "spelled", reference="regisrty.invalid/a/b",
    ),
    "nobody listens": Row(5, "127.0.0.1:1 failed: connection refused", reference="127.0.0.1:1/a/b"),
    "a loop": Row(5, "redirected more than 10 times", faults=(endless(status=302, headers={"Location": "/v2/x"}),)),
    "a redirect elsewhere": Row(
        5, "refused to follow 'file:///etc/passwd'", faults=(endless(status=302, headers={"Location": "file:///etc/passwd"}),),
    ),
    "a connection that breaks": Row(
        5, "blob sha256:[0-9a-f]+ of HOST/a/b:1: lost at 2 of 9 bytes, 1 times in a row",
        faults=(Fault("/blobs/", cut=2, skip=1, times=99),),
    ),
    "an altered manifest": Row(
        6, "the manifest of .*: got sha256:[0-9a-f]+, expected sha256:", reference=f"HOST/a/b@{digest_of(b'x')}",
        prepare=lambda fake: fake._manifests.update({("a/b", digest_of(b"x")): fake._manifests["a/b", "1"]}),
    ),
    "an altered layer": Row(
        6, "layer 2 .sha256:[0-9a-f]+.: got sha256:[0-9a-f]+, expected sha256:",
        faults=(Fault("/blobs/", altered=True, skip=1, times=99),),
    ),
    "another size": Row(6, "has 9 bytes, not the 10 announced", prepare=lambda fake: changed(fake, layers=[
        {**layer, "size": 10} for layer in json.loads(fake._manifests["a/b", "1"].body)["layers"]])),
    "an ambiguous manifest": Row(6, "an image and as an index", prepare=lambda fake: changed(fake, manifests=[])),
    "a page": Row(
        6, "not valid JSON: it starts with '<html>", "captive portal",
        prepare=lambda fake: manifest(fake, b"<html>"),
    ),
    "a manifest that is too large": Row(
        6, "larger than 8388608 bytes", prepare=lambda fake: manifest(fake, b" " * ((8 << 20) + 1)),
    ),
    "no such platform": Row(
        3, "no image for linux/riscv64; available: linux/arm/v7, linux/s390x", "--platform",
        arguments=("--platform", "riscv64"), prepare=several,
    ),
    "attestations only": Row(3, "the index names no platform at all", prepare=attested),
    "an artifact": Row(
        6, f"not a container image but an artifact of type '{re.escape(HELM)}'",
        prepare=lambda fake: changed(fake, config=descriptor(b"{}", HELM)),
    ),
    "schema 1": Row(
        6, "Docker's obsolete schema 1 format", "skopeo",
        prepare=lambda fake: manifest(fake, b'{"schemaVersion": 1, "fsLayers": []}', SCHEMA1),
    ),
    "an unknown digest algorithm": Row(
        6, "digest algorithm 'blake3' is not supported", prepare=lambda fake: changed(fake, layers=[
            {"mediaType": "x.tar", "digest": "blake3:" + "a" * 64, "size": 1}]),
    ),
    "an unknown kind of layer": Row(
        6, "an artifact of type 'text/plain'",
        prepare=lambda fake: changed(fake, layers=[descriptor(b"x", "text/plain")]),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_what_is_said(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    row = ROWS[name]
    for variable, value in row.environ.items():
        monkeypatch.setenv(variable, value)
    with FakeRegistry(**row.registry) as fake:
        fake.add_image()
        fake.faults = [
            Fault(**{name: getattr(fault, name) for name in fault.__dataclass_fields__}) for fault in row.faults
        ]
        if row.prepare:
            row.prepare(fake)
        words = row.arguments if "--platform" in row.arguments else ("--platform", "linux/amd64", *row.arguments)

        ran = run_here("fetch", row.reference.replace("HOST", fake.host), "-o", "-", "--retries", "0", *words)

    error, *rest = [line for line in ran.err.splitlines() if not line.startswith("ocirootfs: warning: ")]
    assert ran.status == row.status, ran.err
    assert re.match("ocirootfs: error: .*(" + row.says.replace("HOST", fake.host) + ")", error), error
    assert len(rest) <= 1
    assert row.hint.replace("HOST", fake.host) in "".join(rest)
    assert not row.hint or rest[0].startswith("  hint: ")
    assert "wr0ng" not in ran.err
