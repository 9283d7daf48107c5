"""The registry, over real sockets: what is asked, what is believed, and what becomes of every kind of trouble."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import random
import threading
from typing import TYPE_CHECKING, Any

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ocirootfs.digest import Descriptor, Digest
from ocirootfs.errors import AuthError, DigestError, InputError, NotFoundError, OcirootfsError, TemporaryError
from ocirootfs.manifest import DOCKER_CONFIG, DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, Index, Manifest
from ocirootfs.platform import Platform
from ocirootfs.reference import Reference
from ocirootfs.registry import Registry
from ocirootfs.registry.credentials import Credentials, Keychain, anonymous
from tests.servers.registry import (
    IDENTITY_TOKEN,
    PASSWORD,
    USER,
    FakeRegistry,
    Fault,
    descriptor,
    digest_of,
    image,
    index,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ocirootfs.registry.credentials import Find

ME = Credentials(USER, PASSWORD)
AMD64 = Platform.parse("amd64")
BLOB = random.Random(1).randbytes(3 << 20)
SECRETS = (PASSWORD, IDENTITY_TOKEN, "signed-secret", base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode())


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without proxies, and with a ~/.netrc that nobody may read."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NETRC"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    (tmp_path / ".netrc").write_text(
        "machine 127.0.0.1 login netrc password netrc\ndefault login netrc password netrc\n"
    )
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture(autouse=True)
def _no_secrets_in_the_log(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level(logging.DEBUG, logger="ocirootfs")
    yield
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("ocirootfs")]
    assert [line for line in ours for secret in SECRETS if secret in line] == []


@pytest.fixture
def serve() -> Iterator[Callable[..., FakeRegistry]]:
    """Start registries that end with the test."""
    running: list[FakeRegistry] = []

    def start(**options: Any) -> FakeRegistry:
        running.append(FakeRegistry(**options).__enter__())
        return running[-1]

    yield start
    for fake in running:
        fake.__exit__()


@pytest.fixture
def connect() -> Iterator[Callable[..., Registry]]:
    """Make clients that end with the test, and never sleep."""
    made: list[Registry] = []

    def make(credentials: Credentials | Find | None = anonymous, **options: Any) -> Registry:
        made.append(Registry(credentials=credentials, sleep=lambda _: None, timeout=20, **options))
        return made[-1]

    yield make
    for registry in made:
        registry.close()


def layers(registry: Registry, reference: Reference, platform: Platform | None = AMD64) -> list[bytes]:
    return [b"".join(layer.blob()) for layer in registry.open(reference, platform).layers]


def blob(registry: Registry, fake: FakeRegistry, data: bytes = BLOB, size: int | None = None) -> bytes:
    """Serve `data`, and read it as a blob of `size` bytes."""
    reference = fake.add("a/b", "1", b"{}", blobs={digest_of(data): data})
    wanted = Descriptor("x", Digest.of(data), len(data) if size is None else size)
    return b"".join(registry.blob(reference, wanted))


# What is asked for


def test_an_image(serve: Callable[..., FakeRegistry], connect: Callable[..., Registry]) -> None:
    fake, registry = serve(), connect()
    reference = fake.add_image(layers=[b"one", b"", b"one"], config={"Env": ["A=b"]})

    found = registry.open(reference, AMD64)

    assert [b"".join(layer.blob()) for layer in found.layers] == [b"one", b"", b"one"]
    assert [b"".join(layer.blob()) for layer in found.layers] == [b"one", b"", b"one"]
    assert [layer.number for layer in found.layers] == [1, 2, 3]
    assert found.config.env == ("A=b",)
    assert found.reference == reference
    assert found.manifest is not None
    assert found.digest == Digest.of(found.manifest.raw)


def test_layers_are_downloaded_when_they_are_read(
    serve: Callable[..., FakeRegistry], connect: Callable[..., Registry]
) -> None:
    fake = serve()

    connect().open(fake.add_image(), AMD64)

    assert [found.path.split("/")[4] for found in fake.requests] == ["manifests", "blobs"]


def test_the_headers(serve: Callable[..., FakeRegistry], connect: Callable[..., Registry]) -> None:
    fake = serve()

    connect().open(fake.add_image(), AMD64)

    for found in fake.requests:
        assert found.headers["Accept-Encoding"] == "identity"
        assert found.headers["User-Agent"].startswith("ocirootfs/")
        assert "Authorization" not in found.headers
    accepted = fake.requests[0].headers["Accept"].split(", ")
    assert {OCI_INDEX, DOCKER_LIST, DOCKER_MANIFEST} < set(accepted)
    assert "*/*" not in accepted


def test_config_data_spares_a_request(serve: Callable[..., FakeRegistry], connect: Callable[..., Registry]) -> None:
    fake = serve()
    raw, blobs = image()
    document = json.loads(raw)
    config = blobs[document["config"]["digest"]]
    document["config"]["data"] = base64.b64encode(config).decode()

    connect().open(fake.add("a/b", "1", json.dumps(document).encode()), AMD64)

    assert len(fake.requests) == 1


def test_a_session_of_the_callers(serve: Callable[..., FakeRegistry]) -> None:
    fake = serve()
    with requests.Session() as session:
        session.headers["X-Mine"] = "yes"
        with Registry(session, credentials=anonymous) as registry:
            registry.open(fake.add_image(), AMD64)
        assert session.get(f"http://{fake.host}/v2/").ok

    assert {found.headers.get("X-Mine") for found in fake.requests} == {"yes"}


# Digests


def test_a_pinned_manifest(serve: Callable[..., FakeRegistry], connect: Callable[..., Registry]) -> None:
    fake, registry = serve(), connect()
    reference = fake.add_image()
    found = registry.manifest(reference)

    for algorithm in ("sha256", "sha512"):
        pinned = reference.with_digest(Digest.of(found.raw, algorithm))
        assert registry.manifest(pinned).raw == found.raw
    assert fake.requests[-1].path.endswith(str(pinned.digest))


def test_a_pinned_manifest_that_is_another(
    serve: Callable[..., FakeRegistry], connect: Callable[..., Registry]
) -> None:
    fake = serve()
    reference = fake.add_image().with_digest(Digest.of(b"wanted"))
    fake._manifests["a/b", str(reference.digest)] = fake._manifests["a/b", "1"]

    with pytest.raises(DigestError) as caught:
        connect().open(reference)

    assert caught.value.expected == Digest.of(b"wanted")


def test_a_pinned_manifest_that_is_altered_once(
    serve: Callable[..., FakeRegistry], connect: Callable[..., Registry]
) -> None:
    fake = serve()
    reference = fake.add_image()
    fake.faults = [Fault("/manifests/", altered=True, times=1)]
    pinned = reference.with_digest(Digest.of(fake._manifests["a/b", "1"].body))
    assert connect().open(pinned, AMD64).digest == pinned.digest
    assert len(fake.seen(path="/manifests/")) == 2


@pytest.mark.parametrize("which", ["config", "layer"])
def test_altered_blobs(serve: Callable[..., FakeRegistry], connect: Callable[..., Registry], which: str) -> None:
    fake = serve()
    reference = fake.add_image()
    fake.faults = [Fault("/blobs/", altered=True, times=2, skip=0 if which == "config" else 1)]

    with pytest.raises(DigestError):
        layers(connect(), reference)


def test_a_config_of_another_number_of_layers(
    serve: Callable[..., FakeRegistry], connect: Callable[..., Registry]
) -> None:
    fake = serve()
    raw, blobs = image()
    document = json.loads(raw)
    document["layers"].pop()

    with pytest.raises(InputError, match="1 layers, but the config 2"):
        connect().open(fake.add("a/b", "1", json.dumps(document).encode(), blobs=blobs), AMD64)


# Platforms


def multi(fake: FakeRegistry, *platforms: str | None, **more: Any) -> Reference:
    """Serve an index of an image for each platform, which it names; of None, it holds an amd64 image unnamed."""
    entries = []
    for number, platform in enumerate(platforms):
        parts = (platform or "linux/amd64").split("/")
        raw, blobs = image([f"{platform} {number}".encode()], architecture=parts[1], variant="".join(parts[2:]))
        fake.add("a/b", f"child-{number}", raw, blobs=blobs)
        named = {"platform": dict(zip(("os", "architecture", "variant"), parts, strict=False))} if platform else {}
        entries.append(descriptor(raw, DOCKER_MANIFEST, **named))
    return fake.add("a/b", "multi", index(entries, **more), OCI_INDEX)


def test_the_platform_that_is_wanted(serve: Callable[..., FakeRegistry], connect: Callable[..., Registry]) -> None:
    fake, registry = serve(), connect()
    reference = multi(fake, "linux/arm64/v8", "linux/amd64", "linux/arm/v7")

    assert layers(registry, reference, AMD64) == [b"linux/amd64 1"]
    assert layers(registry, reference, Platform.parse("linux/arm64")) == [b"linux/arm64/v8 0"]
    assert layers(registry, reference, Platform.parse("linux/arm/v8")) == [b"linux/arm/v7 2"]


def test_a_platform_that_is_not_there(serve: Callable[..., FakeRegistry], connect: Callable[..., Registry]) -> None:
    fake = serve()
    reference = multi(fake, "linux/arm64/v8", "linux/amd64")

    with pytest.raises(NotFoundError, match=r"no image for linux/riscv64; available: linux/arm64, linux/amd64$"):
        connect().open(reference, Platform.parse("riscv64"))


def test_images_without_a_platform_are_asked(
    serve: Callable[..., FakeRegistry], connect: Callable[..., Registry]
) -> None:
    fake, registry = serve(), connect()
    arm, arm_blobs = image([b"arm"], architecture="arm64")
    amd, amd_blobs = image([b"amd"])
    for tag, raw, blobs in (("arm", arm, arm_blobs), ("amd", amd, amd_blobs)):
        fake.add("a/b", tag, raw, blobs=blobs)
    reference = fake.add(
        "a/b", "m", index([descriptor(arm, DOCKER_MANIFEST), descriptor(amd, DOCKER_MANIFEST)]), OCI_INDEX
    )

    assert layers(registry, reference) == [b"amd"]
    assert layers(registry, reference, Platform.parse("arm64")) == [b"arm"]
    with pytest.raises(NotFoundError, match="no image for linux/s390x"):
        registry.open(reference, Platform.parse("s390x"))


def nested(fake: FakeRegistry, depth: int) -> Reference:
    inner = index([json.loads(fake._manifests["a/b", "multi"].body)["manifests"][0]])
    for level in range(depth):
        fake.add("a/b", f"level-{level}", inner, OCI_INDEX)
        inner = index([descriptor(inner, OCI_INDEX)])
    return fake.add("a/b", "nested", inner, OCI_INDEX)


def test_nested_indexes(serve: Callable[..., FakeRegistry], connect: Callable[..., Registry]) -> None:
    fake, registry = serve(), connect()
    multi(fake, "linux/amd64")

    assert layers(registry, nested(fake, 2)) == [b"linux/amd64 0"]
    with pytest.raises(InputError, match="indexes within indexes"):
        registry.open(nested(fake, 5), AMD64)
    with pytest.raises(NotFoundError, match=r"no image for linux/riscv64; available: linux/amd64$"):
        registry.open(nested(fake, 2), Platform.parse("linux/riscv64"))


def test_a_child_that_is_missing(serve: Callable[..., FakeRegistry], connect: Callable[..., Registry]) -> None:
    fake = serve()
    reference = multi(fake, "linux/amd64")
    child = json.loads(fake._manifests["a/b", "multi"].body)["manifests"][0]["digest"]
    del fake._manifests["a/b", child]

    with pytest.raises(NotFoundError, match=f"the index lists {child} for linux/amd64, but the registry does not have"):
        connect().open(reference, AMD64)


def test_an_image_for_another_platform(
    serve: Callable[..., FakeRegistry], connect: Callable[..., Registry], caplog: pytest.LogCaptureFixture
) -> None:
    fake, registry = serve(), connect()
    reference = fake.add_image(architecture="s390x")

    with pytest.raises(NotFoundError, match="no image for linux/amd64; it is for linux/s390x alone"):
        registry.open(reference, AMD64)
    registry.open(reference)
    assert "is for linux/s390x, not for this machine's" in caplog.text


# What is refused


@pytest.mark.parametrize(
    ("body", "media_type", "says"),
    [
        (b"<html>captive</html>", "text/html", "it starts with '<html>captive"),
        (
            b'{"schemaVersion": 1, "fsLayers": []}',
            "application/vnd.docker.distribution.manifest.v1+prettyjws",
            "schema 1",
        ),
        (index([]), DOCKER_MANIFEST, "that calls itself"),
        (index([], layers=[]), OCI_INDEX, "as an image and as an index"),
        (b'{"a": 1, "a": 2}', DOCKER_MANIFEST, "stands twice"),
        (b" " * ((8 << 20) + 1), DOCKER_MANIFEST, "larger than 8388608 bytes"),
    ],
)
def test_manifests_that_are_none(
    serve: Callable[..., FakeRegistry], connect: Callable[..., Registry], body: bytes, media_type: str, says: str
) -> None:
    fake = serve()

    with pytest.raises(InputError, match=says):
        connect().open(fake.add("a/b", "1", body, media_type))


@pytest.mark.parametrize("content_type", [None, "text/plain", f"{DOCKER_MANIFEST}; charset=utf-8", "application/json"])
def test_servers_that_mislabel(
    serve: Callable[..., FakeRegistry], connect: Callable[..., Registry], content_type: str | None
) -> None:
    fake = serve()
    reference = fake.add_image()
    fake.faults = [Fault("/manifests/", headers={"Content-Type": content_type})]

    assert isinstance(connect().manifest(reference), Manifest)


def test_not_found(serve: Callable[..., FakeRegistry], connect: Callable[..., Registry]) -> None:
    fake = serve()
    reference = fake.reference("a/b", "17.40")

    with pytest.raises(NotFoundError) as caught:
        connect().open(reference)

    assert str(caught.value) == f"{reference}: not found (404 MANIFEST_UNKNOWN: manifest unknown)"


def test_a_layer_that_is_missing(serve: Callable[..., FakeRegistry], connect: Callable[..., Registry]) -> None:
    fake = serve()
    reference = fake.add_image(layers=[b"x"])
    del fake._blobs[digest_of(b"x")]

    with pytest.raises(NotFoundError, match=f"blob {digest_of(b'x')} of .* not found .404 BLOB_UNKNOWN"):
        layers(connect(), reference)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, InputError), (402, AuthError), (405, InputError), (501, TemporaryError), (410, NotFoundError)],
)
def test_other_answers(
    serve: Callable[..., FakeRegistry], connect: Callable[..., Registry], status: int, kind: type[OcirootfsError]
) -> None:
    fake = serve()
    fake.faults = [Fault("/manifests/", status=status, body=b"\x1b[31mred\n")]

    with pytest.raises(OcirootfsError, match=rf"{status} \\x1b\[31mred") as caught:
        connect().open(fake.add_image())

    assert type(caught.value) is kind


# Getting in


@pytest.mark.parametrize("redirect", [False, True])
@pytest.mark.parametrize(
    ("auth", "credentials"),
    [("basic", ME), ("bearer", ME), ("bearer", Credentials(identity_token=IDENTITY_TOKEN)), ("anonymous", anonymous)],
)
def test_getting_in(
    serve: Callable[..., FakeRegistry],
    connect: Callable[..., Registry],
    auth: str,
    credentials: Credentials | Find,
    redirect: bool,
) -> None:
    options = {"auth": "bearer", "anonymous": True} if auth == "anonymous" else {"auth": auth}
    fake = serve(**options, redirect=redirect)

    assert layers(connect(credentials), fake.add_image()) == [b"layer one", b"layer two"]

    assert len(fake.seen("token")) == (0 if auth == "basic" else 1)
    assert len(fake.seen("cdn")) == (3 if redirect else 0)
    for found in fake.seen("cdn"):
        assert "Authorization" not in found.headers
        assert "Cookie" not in found.headers


def test_credentials_of_the_environment(
    serve: Callable[..., FakeRegistry], connect: Callable[..., Registry], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = serve(auth="basic")
    pair = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    environ = {"DOCKER_AUTH_CONFIG": json.dumps({"auths": {fake.host: {"auth": pair}}})}
    reference = fake.add_image()

    connect(Keychain(environ).find).open(reference, AMD64)
    monkeypatch.setenv("DOCKER_AUTH_CONFIG", environ["DOCKER_AUTH_CONFIG"])
    connect(None).open(reference, AMD64)


def test_netrc_is_nobodys_business(serve: Callable[..., FakeRegistry], connect: Callable[..., Registry]) -> None:
    fake = serve(auth="bearer", anonymous=True, redirect=True)

    layers(connect(), fake.add_image())

    basic = [found for found in fake.requests if found.headers.get("Authorization", "").startswith("Basic")]
    assert basic == []


def test_only_pull_is_asked_for(serve: Callable[..., FakeRegistry], connect: Callable[..., Registry]) -> None:
    fake = serve(auth="bearer")

    connect(ME).open(fake.add_image(), AMD64)

    assert fake.seen("token")[0].query == {
        "kept": "1",
        "service": "the fake registry",
        "scope": "repository:a/b:pull",
        "client_id": "ocirootfs",
    }


def test_a_token_that_ends_in_the_middle(serve: Callable[..., FakeRegistry], connect: Callable[..., Registry]) -> None:
    fake = serve(auth="bearer")
    found = connect(ME).open(fake.add_image(), AMD64)

    fake.revoke()
    assert [b"".join(layer.blob()) for layer in found.layers] == [b"layer one", b"layer two"]
    assert len(fake.seen("token")) == 2


def test_a_token_that_ends_in_the_middle_of_a_blob(
    serve: Callable[..., FakeRegistry], connect: Callable[..., Registry]
) -> None:
    fake = serve(auth="bearer")
    fake.faults = [Fault("/blobs/", cut=1000, skip=1)]
    registry = connect(ME)
    reference = fake.add("a/b", "1", b"{}", blobs={digest_of(BLOB): BLOB})
    stream = registry.blob(reference, Descriptor("x", Digest.of(BLOB), len(BLOB)))

    first = next(stream)
    fake.revoke()

    assert first + b"".join(stream) == BLOB
    assert [found.headers.get("Range") for found in fake.seen(path="/blobs/")] == [
        None,
        None,
        *[f"bytes=1000-{len(BLOB) - 1}"] * 2,
    ]


def test_tokens_are_renewed_before_they_end(
    serve: Callable[..., FakeRegistry], connect: Callable[..., Registry]
) -> None:
    fake = serve(auth="bearer", expires_in=100)
    now = [0.0]
    registry = connect(ME, monotonic=lambda: now[0])
    reference = fake.add_image()
    registry.open(reference, AMD64)

    now[0] = 94.0
    registry.manifest(reference)
    assert len(fake.seen("token")) == 1
    now[0] = 96.0
    registry.manifest(reference)
    assert len(fake.seen("token")) == 2


def test_one_token_for_many_threads(serve: Callable[..., FakeRegistry], connect: Callable[..., Registry]) -> None:
    fake = serve(auth="bearer")
    registry = connect(ME)
    reference = fake.add_image()
    threads = [threading.Thread(target=registry.manifest, args=(reference,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(fake.seen("token")) == 1


def test_refused_without_credentials(serve: Callable[..., FakeRegistry], connect: Callable[..., Registry]) -> None:
    fake = serve(auth="bearer")
    keychain = Keychain({"DOCKER_AUTH_CONFIG": '{"auths": {}}', "XDG_RUNTIME_DIR": "/nonexistent"})

    with pytest.raises(AuthError, match=r"it does not exist or needs a login .401 UNAUTHORIZED") as caught:
        connect(keychain.find).open(fake.add_image())

    assert caught.value.hint == f"no credentials for {fake.host} in DOCKER_AUTH_CONFIG"


@pytest.mark.parametrize("auth", ["basic", "bearer"])
def test_the_wrong_password(serve: Callable[..., FakeRegistry], connect: Callable[..., Registry], auth: str) -> None:
    fake = serve(auth=auth)

    with pytest.raises(AuthError, match=r"denied: 401 UNAUTHORIZED|rejects the credentials") as caught:
        connect(Credentials(USER, "wr0ng")).open(fake.add_image())

    assert caught.value.hint == f"tried as user '{USER}' from the caller"
    assert "wr0ng" not in str(caught.value)
    assert len(fake.requests) == 2


def test_403_is_final(serve: Callable[..., FakeRegistry], connect: Callable[..., Registry]) -> None:
    fake = serve(auth="bearer")
    fake.faults = [Fault("/manifests/", status=403, body=b'{"errors":[{"code":"DENIED"}]}', skip=1)]

    with pytest.raises(AuthError, match="403 DENIED"):
        connect(ME).open(fake.add_image())

    assert len(fake.seen("token")) == 1


def test_a_registry_that_challenges_only_at_its_root(
    serve: Callable[..., FakeRegistry], connect: Callable[..., Registry]
) -> None:
    fake = serve(auth="bearer")
    fake.faults = [Fault("/manifests/", status=401)]

    connect(ME).open(fake.add_image(), AMD64)

    assert fake.seen(path="^/v2/$")


@pytest.mark.parametrize("auth", ["basic", "bearer"])
@pytest.mark.parametrize("status", [403, 404])
def test_what_is_hidden_from_nobody_in_particular_is_asked_for_by_name(
    serve: Callable[..., FakeRegistry], connect: Callable[..., Registry], status: int, auth: str
) -> None:
    fake = serve(auth=auth)
    fake.faults = [Fault("/manifests/", status=status)]
    reference = fake.add_image()

    assert layers(connect(ME), reference) == [b"layer one", b"layer two"]

    assert [found.path for found in fake.seen()[:3]] == ["/v2/a/b/manifests/1", "/v2/", "/v2/a/b/manifests/1"]
    assert len(fake.seen(path="^/v2/$")) == 1


@pytest.mark.parametrize(("status", "kind"), [(403, AuthError), (404, NotFoundError)])
def test_nobody_in_particular_asks_once(
    serve: Callable[..., FakeRegistry], connect: Callable[..., Registry], status: int, kind: type[Exception]
) -> None:
    fake = serve(auth="basic")
    fake.faults = [Fault("/manifests/", status=status, times=9)]

    with pytest.raises(kind):
        connect().open(fake.add_image())

    assert len(fake.requests) == 1


def test_credentials_that_no_registry_asked_for_were_not_tried(
    serve: Callable[..., FakeRegistry], connect: Callable[..., Registry]
) -> None:
    fake = serve()
    fake.faults = [Fault("/manifests/", status=403, times=9)]

    with pytest.raises(AuthError, match="it does not exist or needs a login") as caught:
        connect(ME).open(fake.add_image())

    assert caught.value.hint == f"not tried, as it is not asked for: user '{USER}' from the caller"
    assert [found.path for found in fake.requests] == ["/v2/a/b/manifests/1", "/v2/"]


@pytest.mark.parametrize("realm", ["http://169.254.169.254/token", "file:///etc/passwd", "http://user:pw@127.0.0.1/"])
def test_token_servers_that_are_not_asked(
    serve: Callable[..., FakeRegistry], connect: Callable[..., Registry], realm: str
) -> None:
    fake = serve(auth="bearer")
    fake.realm = realm
    reference = fake.add_image()
    if "169" in realm:  # what a local registry says is allowed to be local: the request itself fails
        fake.challenge = ["Bearer realm=x"]
        fake.faults = [Fault("/x", status=302, headers={"Location": "ftp://x/"})]

    with pytest.raises((AuthError, TemporaryError)):
        connect(ME, retries=0).open(reference)

    assert fake.seen("token") == []


def test_a_refresh_token_is_not_carried_along_a_redirect(
    serve: Callable[..., FakeRegistry], connect: Callable[..., Registry]
) -> None:
    fake = serve(auth="bearer")
    fake.faults = [Fault("/token", "token", status=307, headers={"Location": f"http://{fake.cdn}/"})]

    with pytest.raises(TemporaryError, match="redirects a request that holds a secret"):
        connect(Credentials(identity_token=IDENTITY_TOKEN)).open(fake.add_image())

    assert fake.seen("cdn") == []


def test_a_password_is_not_carried_along_a_redirect(
    serve: Callable[..., FakeRegistry], connect: Callable[..., Registry]
) -> None:
    fake = serve(auth="bearer")
    fake.faults = [
        Fault("/token", "token", status=302, headers={"Location": f"http://{fake.cdn}/x"}),
        Fault("/x", "cdn", status=200, body=b'{"token": "x"}'),
    ]

    with pytest.raises(AuthError):
        connect(ME).open(fake.add_image())

    assert "Authorization" not in fake.seen("cdn")[0].headers


# Redirects


def test_a_challenge_of_a_redirects_target_is_not_answered(
    serve: Callable[..., FakeRegistry], connect: Callable[..., Registry]
) -> None:
    fake = serve(auth="basic", redirect=True)
    fake.faults = [Fault(".", "cdn", status=401, headers={"WWW-Authenticate": "Basic realm=x"})]

    with pytest.raises(AuthError, match=f"{fake.cdn}, where the registry keeps it, says 401"):
        connect(ME).open(fake.add_image(), AMD64)

    assert [found.headers.get("Authorization") for found in fake.seen("cdn")] == [None]


def test_the_body_of_a_redirect_is_not_read(
    serve: Callable[..., FakeRegistry], connect: Callable[..., Registry]
) -> None:
    fake = serve()
    gibberish = Fault("/manifests/1$", status=302, headers={"Location": "/v2/", "Content-Length": "9" * 18}, cut=100)
    fake.faults = [gibberish]

    with pytest.raises(InputError, match="schemaVersion"):
        connect(retries=0).open(fake.add_image())

    assert len(fake.requests) == 2


def test_cookies_are_not_kept(serve: Callable[..., FakeRegistry], connect: Callable[..., Registry]) -> None:
    fake = serve()
    fake.faults = [Fault("/", headers={"Set-Cookie": "a=b; Path=/"}, times=99)]

    layers(connect(), fake.add_image())

    assert [found for found in fake.requests if "Cookie" in found.headers] == []


def test_redirects_go_round_in_circles(serve: Callable[..., FakeRegistry], connect: Callable[..., Registry]) -> None:
    fake = serve()
    fake.faults = [Fault("/v2/", status=302, headers={"Location": "/v2/again"}, times=99)]

    with pytest.raises(TemporaryError, match="redirected more than 10 times"):
        connect().open(fake.add_image())

    assert len(fake.requests) == 11


@pytest.mark.parametrize("location", ["file:///etc/passwd", "https://[", "ftp://x/", "//user@x/", "http://a b/"])
def test_redirects_to_nowhere(
    serve: Callable[..., FakeRegistry], connect: Callable[..., Registry], location: str
) -> None:
    fake = serve()
    fake.faults = [Fault("/v2/", status=302, headers={"Location": location})]

    with pytest.raises(TemporaryError):
        connect(retries=0).open(fake.add_image())


def test_within_the_origin_credentials_go_along(
    serve: Callable[..., FakeRegistry], connect: Callable[..., Registry]
) -> None:
    fake = serve(auth="basic")
    reference = fake.add_image()
    fake.faults = [Fault("/manifests/1", status=301, headers={"Location": "/v2/a/b/manifests/1"}, skip=1)]

    connect(ME).open(reference, AMD64)

    assert len({found.headers.get("Authorization") for found in fake.seen()[1:]}) == 1


# Blobs over bad lines


def test_a_blob_that_breaks_is_resumed(serve: Callable[..., FakeRegistry], connect: Callable[..., Registry]) -> None:
    fake = serve(redirect=True, auth="bearer", anonymous=True)
    fake.faults = [Fault(".", "cdn", cut=700_000, times=3), Fault(".", "cdn", cut=10, reset=True)]

    assert blob(connect(), fake) == BLOB

    ranges = [found.headers.get("Range") for found in fake.seen("cdn")]
    assert ranges[:4] == [None, *(f"bytes={at}-{len(BLOB) - 1}" for at in (700_000, 1_400_000, 2_100_000))]
    assert len(fake.seen(path="/blobs/")) == 6  # the first without a token; a new signed URL for every connection


@pytest.mark.parametrize(
    "fault",
    [
        Fault("/blobs/", whole=True),
        Fault("/blobs/", status=416),
        Fault("/blobs/", headers={"Content-Range": None}),
        Fault("/blobs/", headers={"Content-Range": "bytes 0-9/10"}),
        Fault("/blobs/", headers={"Content-Range": f"bytes 1001-{len(BLOB) - 1}/{len(BLOB)}"}),
        Fault("/blobs/", headers={"Content-Range": f"bytes 1000-{len(BLOB) - 1}/999"}),
        Fault("/blobs/", headers={"Content-Range": f"bytes 1000-{len(BLOB) - 1}/*"}),
        Fault("/blobs/", headers={"Content-Range": "bytes 1-" + "9" * 5000 + "/1"}),
        Fault("/blobs/", status=503),
        Fault("/blobs/", status=401, headers={"WWW-Authenticate": "Basic realm=x"}),
        Fault("/blobs/", cut=0),
    ],
    ids=lambda fault: str(fault.status or fault.headers or "whole")[:60],
)
def test_ranges_that_are_not_what_was_asked_for(
    serve: Callable[..., FakeRegistry], connect: Callable[..., Registry], fault: Fault
) -> None:
    fake = serve()
    again = Fault(**{name: getattr(fault, name) for name in fault.__dataclass_fields__})
    fake.faults = [Fault("/blobs/", cut=1000), again]

    assert blob(connect(ME), fake) == BLOB


def test_a_server_without_ranges(serve: Callable[..., FakeRegistry], connect: Callable[..., Registry]) -> None:
    fake = serve()
    fake.faults = [Fault("/blobs/", cut=1_500_000), *(Fault("/blobs/", cut=2_000_000, whole=True) for _ in range(1))]
    fake.faults.append(Fault("/blobs/", whole=True))

    assert blob(connect(), fake) == BLOB


def test_a_body_without_length_that_ends_early(
    serve: Callable[..., FakeRegistry], connect: Callable[..., Registry]
) -> None:
    fake = serve()
    fake.faults = [Fault("/blobs/", unsized=True, cut=5000)]

    assert blob(connect(), fake) == BLOB


def test_patience_with_broken_blobs_ends(serve: Callable[..., FakeRegistry], connect: Callable[..., Registry]) -> None:
    fake = serve()
    fake.faults = [Fault("/blobs/", cut=100, times=99)]

    with pytest.raises(TemporaryError, match=rf"lost at 600 of {len(BLOB)} bytes, 6 times in a row"):
        blob(connect(), fake)

    assert len(fake.requests) == 6


def test_progress_renews_patience(serve: Callable[..., FakeRegistry], connect: Callable[..., Registry]) -> None:
    fake = serve()
    fake.faults = [Fault("/blobs/", cut=(1 << 20) + 1, times=2)]

    assert blob(connect(retries=0), fake) == BLOB


@pytest.mark.parametrize(
    ("fault", "size", "says"),
    [
        (Fault("/x"), len(BLOB) + 1, f"has {len(BLOB)} bytes, not the {len(BLOB) + 1} announced"),
        (Fault("/x"), len(BLOB) - 1, f"has {len(BLOB)} bytes, not the {len(BLOB) - 1} announced"),
        (Fault("/blobs/", unsized=True), len(BLOB) - 1, "sent more than the"),
        (Fault("/blobs/", unsized=True, extra=b"x"), len(BLOB), "sent more than the"),
    ],
)
def test_blobs_of_another_size(
    serve: Callable[..., FakeRegistry], connect: Callable[..., Registry], fault: Fault, size: int, says: str
) -> None:
    fake = serve()
    fake.faults = [Fault(**{name: getattr(fault, name) for name in fault.__dataclass_fields__})]

    with pytest.raises(InputError, match=says):
        blob(connect(), fake, size=size)


def test_an_empty_blob_needs_no_request(serve: Callable[..., FakeRegistry], connect: Callable[..., Registry]) -> None:
    fake = serve()

    assert blob(connect(), fake, b"") == b""
    assert fake.requests == []


def test_a_lying_content_encoding(serve: Callable[..., FakeRegistry], connect: Callable[..., Registry]) -> None:
    fake = serve()
    fake.faults = [Fault("/blobs/", headers={"Content-Encoding": "gzip"})]

    assert blob(connect(), fake) == BLOB


def test_a_blob_may_be_left_unread(serve: Callable[..., FakeRegistry], connect: Callable[..., Registry]) -> None:
    fake, registry = serve(), connect()
    reference = fake.add("a/b", "1", b"{}", blobs={digest_of(BLOB): BLOB})
    stream = registry.blob(reference, Descriptor("x", Digest.of(BLOB), len(BLOB)))

    assert BLOB.startswith(next(stream))
    stream.close()  # type: ignore[attr-defined]
    assert blob(registry, fake) == BLOB


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(min_size=1, max_size=2000), cuts=st.lists(st.integers(0, 2000), max_size=5), whole=st.booleans())
def test_whatever_breaks_the_bytes_are_the_same(
    serve: Callable[..., FakeRegistry],
    connect: Callable[..., Registry],
    data: bytes,
    cuts: list[int],
    whole: bool,
) -> None:
    fake = serve()
    fake.faults = [Fault("/blobs/", cut=cut, whole=whole) for cut in cuts]

    assert hashlib.sha256(blob(connect(), fake, data)).digest() == hashlib.sha256(data).digest()


# Which scheme


def test_plain_http_only_where_it_is_no_loss(
    serve: Callable[..., FakeRegistry], connect: Callable[..., Registry]
) -> None:
    fake = serve()
    port = fake.host.rpartition(":")[2]
    fake.add_image()
    local = Reference.parse(f"localhost:{port}/a/b:1")

    assert isinstance(connect().manifest(local), Manifest)
    assert isinstance(connect(plain_http=True).manifest(local), Manifest)
    with pytest.raises(TemporaryError):  # resolved nowhere, or answered in plain HTTP: never spoken to in it
        connect(retries=0).manifest(Reference.parse(f"127.0.0.1.invalid:{port}/a/b:1"))


def test_an_index_is_found_by_tag(serve: Callable[..., FakeRegistry], connect: Callable[..., Registry]) -> None:
    fake = serve()

    found = connect().manifest(multi(fake, "linux/amd64"))

    assert isinstance(found, Index)
    assert found.digest == Digest.of(found.raw)
    assert found.manifests[0].platform == AMD64


def test_any_config_type_that_is_vague(serve: Callable[..., FakeRegistry], connect: Callable[..., Registry]) -> None:
    fake = serve()
    raw, blobs = image()
    vague = raw.replace(DOCKER_CONFIG.encode(), b"application/octet-stream")

    assert connect().open(fake.add("a/b", "1", vague, blobs=blobs), AMD64).config.platform == AMD64
