"""Images and answers that are rare but right, and answers that are no HTTP that anybody should speak."""

from __future__ import annotations

import gzip
import json
import logging
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from ocirootfs.errors import InputError, NotFoundError, TemporaryError
from ocirootfs.manifest import DOCKER_LAYER, DOCKER_MANIFEST, OCI_INDEX
from ocirootfs.platform import Platform
from ocirootfs.reference import Reference
from ocirootfs.registry import Registry
from ocirootfs.registry.credentials import Credentials, Keychain, anonymous
from ocirootfs.registry.transport import Request, Transport
from tests.servers.registry import PASSWORD, USER, FakeRegistry, Fault, descriptor, digest_of, image, index

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

AMD64 = Platform.parse("amd64")


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "DOCKER_AUTH_CONFIG"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with FakeRegistry() as found:
        yield found


def layers(reference: Reference, **options: Any) -> list[bytes]:
    with Registry(**{"credentials": anonymous, "retries": 0, **options}) as registry:
        return [b"".join(layer.blob()) for layer in registry.open(reference, AMD64).layers]


def test_layers_by_sha512(fake: FakeRegistry) -> None:
    raw, blobs = image([b"one"])
    document = json.loads(raw)
    document["layers"] = [{"mediaType": DOCKER_LAYER, "digest": digest_of(b"one", "sha512"), "size": 3}]
    blobs[digest_of(b"one", "sha512")] = b"one"
    reference = fake.add("a/b", "1", json.dumps(document).encode(), blobs=blobs)
    assert layers(reference) == [b"one"]

    fake._blobs[digest_of(b"one", "sha512")] = b"two"
    with pytest.raises(InputError, match="expected sha512:"):
        layers(reference)


def test_an_image_of_no_layers(fake: FakeRegistry) -> None:
    assert layers(fake.add_image(layers=[])) == []


def test_a_platform_that_is_there_twice_is_the_first(fake: FakeRegistry) -> None:
    entries = []
    for name in (b"first", b"second"):
        raw, blobs = image([name])
        fake.add("a/b", name.decode(), raw, blobs=blobs)
        entries.append(descriptor(raw, DOCKER_MANIFEST, platform={"os": "Linux", "architecture": "x86_64"}))

    assert layers(fake.add("a/b", "1", index(entries), OCI_INDEX)) == [b"first"]


def test_a_variant_that_is_lower_serves(fake: FakeRegistry) -> None:
    entries = []
    for variant in ("v6", "v7", "v8"):
        raw, blobs = image([variant.encode()], architecture="arm", variant=variant)
        fake.add("a/b", variant, raw, blobs=blobs)
        named = {"os": "linux", "architecture": "arm", "variant": variant}
        entries.append(descriptor(raw, DOCKER_MANIFEST, platform=named))
    reference = fake.add("a/b", "1", index(entries[:2]), OCI_INDEX)

    with Registry(credentials=anonymous) as registry:
        found = {
            wanted: [b"".join(layer.blob()) for layer in registry.open(reference, Platform.parse(wanted)).layers]
            for wanted in ("linux/arm", "linux/arm/v6", "linux/arm/v8")
        }
        with pytest.raises(NotFoundError, match="available: linux/arm/v6, linux/arm/v7"):
            registry.open(reference, Platform.parse("linux/arm/v5"))

    assert found == {"linux/arm": [b"v7"], "linux/arm/v6": [b"v6"], "linux/arm/v8": [b"v7"]}


def test_a_blob_that_is_really_encoded_is_another(fake: FakeRegistry) -> None:
    reference = fake.add_image(layers=[b"x" * 1000])
    packed = gzip.compress(b"x" * 1000)
    fake.faults = [Fault("/blobs/", status=200, body=packed, headers={"Content-Encoding": "gzip"}, skip=1)]

    with pytest.raises(InputError):
        layers(reference)


@pytest.mark.parametrize(("status", "kind"), [(404, NotFoundError), (502, TemporaryError)])
def test_pages_are_not_shown(fake: FakeRegistry, status: int, kind: type[Exception]) -> None:
    page = b"<html><h1>Bad Gateway</h1><script>x</script></html>"
    fake.faults = [Fault("/manifests/", status=status, body=page, headers={"Content-Type": "text/html"})]

    with pytest.raises(kind, match=str(status)) as caught:
        layers(fake.add_image())

    assert "<" not in str(caught.value)


@pytest.mark.parametrize("first", ["Basic realm=x", "Negotiate", 'Digest realm="a, b", nonce="c"', ""])
def test_challenges_in_two_lines(first: str) -> None:
    with FakeRegistry(auth="bearer") as fake:
        fake.challenge = [first, f'bEARER REALM="http://{fake.token}/token" , service = "s"']

        assert layers(fake.add_image(), credentials=Credentials(USER, PASSWORD)) == [b"layer one", b"layer two"]


def test_a_file_that_others_can_read_is_told_about(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="ocirootfs")
    (tmp_path / "auth.json").write_text("{}")
    for mode, told in ((0o600, 0), (0o644, 1)):
        (tmp_path / "auth.json").chmod(mode)
        Keychain({}, authfile=tmp_path / "auth.json").find(Reference.parse("a/b"))
        assert caplog.text.count("can be read by others") == told


# What is no HTTP


@contextmanager
def speaking(answer: bytes) -> Iterator[str]:
    """Serve the same bytes to whoever comes; gives the URL."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)

        def speak() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

        thread = threading.Thread(target=speak)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"
        thread.join()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n",
        b"<html>from HTTP/0.9</html>",
        b"HTTP/1.1 abc\r\n\r\n",
        b"",
    ],
    ids=["200 headers", "a long header", "two lengths", "a broken chunk", "0.9", "a status of letters", "nothing"],
)
def test_no_http(answer: bytes) -> None:
    subject = Transport(timeout=5, sleep=lambda _: None)
    with speaking(answer) as url, pytest.raises(TemporaryError):
        subject.send(Request("GET", url, "x", limit=100, retries=0))
    subject.close()
