"""Blobs in trouble, over real sockets: for each fault the bytes or the error, and what was sent where."""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import threading
import time
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from ocirootfs.digest import Descriptor, Digest, verified
from ocirootfs.errors import AuthError, DigestError, InputError, NotFoundError, OcirootfsError, TemporaryError
from ocirootfs.manifest import DOCKER_CONFIG
from ocirootfs.platform import Platform
from ocirootfs.registry import Registry
from ocirootfs.registry.credentials import Credentials, anonymous
from tests.servers.registry import PASSWORD, USER, FakeRegistry, Fault, descriptor, digest_of, image

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ocirootfs.reference import Reference

BLOB = random.Random(4).randbytes(1_500_000)
SIZE = len(BLOB)
PAST, FUTURE = "Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 21 Oct 2099 07:28:00 GMT"
NO_LENGTH: dict[str, str | None] = {"Content-Length": None}


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


class Place:
    """A registry with one blob, and a client that notes how long it would have slept."""

    def __init__(self, faults: list[Fault], *, redirect: bool = False, auth: str | None = None, **options: Any) -> None:
        self.slept: list[float] = []
        self.fake = FakeRegistry(redirect=redirect, auth=auth)
        self.fake.faults = faults
        chosen = {"retries": 3, "timeout": 20, "credentials": anonymous, "sleep": self.slept.append, **options}
        if auth:
            chosen["credentials"] = Credentials(USER, PASSWORD)
        self.registry = Registry(**chosen)

    def blob(self, data: bytes = BLOB, **more: Any) -> bytes:
        reference = self.serve(data)
        found = Descriptor("x", Digest.of(data, more.pop("algorithm", "sha256")), len(data), **more)
        return b"".join(verified(self.registry.blob(reference, found), found.digest, found.size, "the blob"))

    def serve(self, data: bytes) -> Reference:
        blobs = {digest_of(data): data, digest_of(data, "sha512"): data}
        return self.fake.add("a/b", "1", b"{}", blobs=blobs)

    def ranges(self, server: str = "registry") -> list[str | None]:
        return [found.headers.get("Range") for found in self.fake.seen(server, ".") if found.path.count("sha")]


@contextlib.contextmanager
def place(*faults: Fault, **options: Any) -> Iterator[Place]:
    found = Place(list(faults), **options)
    with found.fake, found.registry:
        yield found


def rest(position: int) -> str:
    return f"bytes={position}-{SIZE - 1}"


# Faults that the bytes survive, and the ranges that were asked for. Numbers are those of the catalogue of faults.

SURVIVED = [
    pytest.param([Fault("blobs", cut=100_000)], [None, rest(100_000)], id="1-short"),
    pytest.param([Fault("blobs", cut=100_000, times=2)], [None, rest(100_000), rest(200_000)], id="1-again"),
    pytest.param([Fault("blobs", cut=0)], [None, None], id="1-nothing"),
    pytest.param([Fault("blobs", cut=100_000, chunked=True, headers={**NO_LENGTH, "Transfer-Encoding": "chunked"})],
                 [None, rest(100_000 - 8)], id="4-chunked"),
    pytest.param([Fault("blobs", cut=100_000, unsized=True)], [None, rest(100_000)], id="5-no-length"),
    pytest.param([Fault("blobs", cut=9), Fault("blobs", whole=True)], [None, rest(9)], id="8-no-ranges"),
    pytest.param([Fault("blobs", cut=9), Fault("blobs", headers={"Content-Range": f"bytes 8-{SIZE - 1}/{SIZE}"})],
                 [None, rest(9), None], id="9-another-start"),
    pytest.param([Fault("blobs", cut=9), Fault("blobs", headers={"Content-Range": f"bytes 9-{SIZE - 1}/{SIZE + 1}"})],
                 [None, rest(9), None], id="9-another-total"),
    pytest.param([Fault("blobs", cut=9), Fault("blobs", headers={"Content-Range": None})],
                 [None, rest(9), None], id="9-no-content-range"),
    pytest.param([Fault("blobs", cut=9), Fault("blobs", headers={"Content-Range": None,
                                                                  "Content-Type": "multipart/byteranges"})],
                 [None, rest(9), None], id="9-multipart"),
    pytest.param([Fault("blobs", cut=9), Fault("blobs", status=416)], [None, rest(9), None], id="10-416"),
    pytest.param([Fault("blobs", headers={"Content-Encoding": "gzip"})], [None], id="39-lying-encoding"),
]  # fmt: skip


@pytest.mark.parametrize(("faults", "ranges"), SURVIVED)
def test_survived(faults: list[Fault], ranges: list[str | None]) -> None:
    with place(*faults) as found:
        assert found.blob() == BLOB
        assert found.ranges() == ranges


@pytest.mark.parametrize("wrong", [{"Content-Range": None}, {"Content-Range": f"bytes 0-{SIZE - 1}/{SIZE}"}])
def test_9_ranges_that_are_never_right(wrong: dict[str, str | None]) -> None:
    with place(Fault("blobs", cut=9), Fault("blobs", headers=wrong), retries=1) as found:
        assert found.blob() == BLOB
        assert found.ranges() == [None, rest(9), None]
        assert len(found.slept) == 1


def test_9_a_part_that_nobody_asked_for() -> None:
    with place(Fault("blobs", status=206, body=BLOB, times=99), retries=1) as found:
        with pytest.raises(TemporaryError, match="sent another range than it was asked for"):
            found.blob()
        assert set(found.ranges()) == {None}


def test_2_a_reset_in_the_middle() -> None:
    """How much arrives before a reset is the kernel's affair; what is asked for next must follow it exactly."""
    with place(Fault("blobs", cut=600_000, reset=True)) as found:
        assert found.blob() == BLOB
        first, second = found.ranges()
    assert first is None
    assert second is None or second.endswith(f"-{SIZE - 1}")


def test_3_a_stall() -> None:
    with place(Fault("blobs", cut=100_000, stall=True), timeout=0.3) as found:
        assert found.blob() == BLOB
        assert found.ranges() == [None, rest(100_000)]


def test_3_a_stall_for_ever() -> None:
    with place(Fault("blobs", cut=0, stall=True, times=99), timeout=0.1, retries=1) as found:
        with pytest.raises(TemporaryError, match="does not answer in time"):
            found.blob()
        assert len(found.ranges()) == 2


def test_a_trickle_is_a_stall() -> None:
    """Each look at the clock takes 20 s: pieces of 100 bytes are less than 1 KiB/s, the rest of the blob is more."""
    clock = count(0, 20)
    with place(Fault("blobs", drip=100), monotonic=lambda: float(next(clock)), timeout=60) as found:
        assert found.blob() == BLOB
        first, second = found.ranges()
    assert first is None
    assert second is not None
    assert 0 < int(second.removeprefix("bytes=").partition("-")[0]) < SIZE // 2


def test_a_reader_may_be_slow() -> None:
    """Only what the server takes counts."""
    now = [0.0]
    with place(monotonic=lambda: now[0], timeout=60) as found:
        read = bytearray()
        for chunk in found.registry.blob(found.serve(BLOB), Descriptor("x", Digest.of(BLOB), SIZE)):
            read += chunk
            now[0] += 3600
        assert bytes(read) == BLOB
        assert found.ranges() == [None]


# Faults that end it


def test_6_a_flipped_byte_in_a_stream_is_final() -> None:
    """What was passed on cannot be taken back, so the end tells."""
    with place(Fault("blobs", altered=True)) as found:
        with pytest.raises(DigestError):
            found.blob()
        assert found.ranges() == [None]


@pytest.mark.parametrize("times", [1, 2])
def test_6_a_flipped_byte_in_a_config_is_asked_for_again(times: int) -> None:
    with place(Fault("blobs", altered=True, times=times)) as found:
        reference = found.fake.add_image()
        if times == 1:
            assert found.registry.open(reference, Platform.parse("amd64")).config.platform.architecture == "amd64"
        else:
            with pytest.raises(DigestError):
                found.registry.open(reference)
        assert len(found.ranges()) == 2


@pytest.mark.parametrize(
    "fault", [Fault("blobs", extra=b"x", unsized=True), Fault("blobs", headers={"Content-Length": str(SIZE + 1)})]
)
def test_7_more_bytes_than_announced(fault: Fault) -> None:
    with place(fault) as found, pytest.raises(InputError) as caught:
        found.blob()
    assert caught.value.exit_code == 6


@pytest.mark.parametrize(("factor", "unsized"), [(0.5, False), (0.5, True), (2, True)])
def test_39_a_blob_that_is_really_encoded(factor: float, unsized: bool) -> None:
    """Its bytes are not those of the digest, whatever they are."""
    body = bytes(int(SIZE * factor))
    fault = Fault("blobs", status=200, headers={"Content-Encoding": "gzip"}, body=body, unsized=unsized, times=99)
    words = "encoded as 'gzip', which it was not asked for"
    with place(fault, retries=0) as found, pytest.raises((InputError, TemporaryError), match=words):
        found.blob()


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_13_trouble_that_passes(status: int) -> None:
    with place(Fault("blobs", status=status, times=2)) as found:
        assert found.blob() == BLOB
        assert found.ranges() == [None] * 3
        assert len(found.slept) == 2


@pytest.mark.parametrize("status", [500, 503])
def test_13_trouble_that_stays(status: int) -> None:
    with place(Fault("blobs", status=status, times=99)) as found:
        with pytest.raises(TemporaryError, match=str(status)) as caught:
            found.blob()
        assert found.ranges() == [None] * 4
    assert caught.value.exit_code == 5


@pytest.mark.parametrize(
    ("value", "slept"), [("7", [7.0]), ("0", [0.0]), (PAST, [0.0]), ("60", [60.0]), ("61", None), (FUTURE, None)]
)
def test_12_retry_after(value: str, slept: list[float] | None, caplog: pytest.LogCaptureFixture) -> None:
    with place(Fault("blobs", status=429, headers={"Retry-After": value})) as found:
        if slept is None:
            with pytest.raises(TemporaryError, match="retry after"):
                found.blob()
        else:
            assert found.blob() == BLOB
            assert f"waiting {slept[0]:.1f} s for {found.fake.host}, which asks for it" in caplog.text
        assert found.slept == (slept or [])


def test_12_a_longer_wait_if_allowed() -> None:
    with place(Fault("blobs", status=503, headers={"Retry-After": "3600"}), max_wait=7200) as found:
        assert found.blob() == BLOB
        assert found.slept == [3600.0]


# Redirects


def test_22_a_redirect_has_the_range_and_no_password() -> None:
    with place(Fault(".", "cdn", cut=1000), redirect=True, auth="basic") as found:
        assert found.blob() == BLOB
        assert found.ranges("cdn") == [None, rest(1000)]
        assert [each.headers.get("Authorization") for each in found.fake.seen("cdn")] == [None, None]
        assert found.ranges()[-2:] == [None, rest(1000)]  # the registry's own URL, for a new signature
        assert found.fake.seen(path="sha")[-1].headers["Authorization"].startswith("Basic ")


@pytest.mark.parametrize("status", [403, 404, 410])
def test_24_a_signed_url_that_has_expired(status: int) -> None:
    with place(Fault(".", "cdn", cut=1000), Fault(".", "cdn", status=status), redirect=True) as found:
        assert found.blob() == BLOB
        assert found.ranges("cdn") == [None, rest(1000), rest(1000)]
        assert found.ranges() == [None, rest(1000), rest(1000)]


@pytest.mark.parametrize(
    "said",
    [
        b"<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>",
        b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>",
    ],
)
def test_24_a_signed_url_whose_token_has_expired(said: bytes) -> None:
    expired = Fault(".", "cdn", status=400, body=said)
    with place(Fault(".", "cdn", cut=1000), expired, redirect=True) as found:
        assert found.blob() == BLOB
        assert found.ranges() == [None, rest(1000), rest(1000)]


def test_24_a_redirect_to_another_400() -> None:
    with place(Fault(".", "cdn", status=400, body=b"no", times=99), redirect=True) as found:
        with pytest.raises(OcirootfsError, match="400 no"):
            found.blob()
        assert found.ranges("cdn") == [None]


def test_24_signed_urls_that_are_never_good() -> None:
    with place(Fault(".", "cdn", status=403, times=99, body=b"<Code>AccessDenied</Code>"), redirect=True) as found:
        with pytest.raises(TemporaryError, match="where the registry keeps it, says 403") as caught:
            found.blob()
        assert len(found.ranges("cdn")) == 4
    assert "signed-secret" not in str(caught.value)


def test_25_a_challenge_of_the_cdn_is_not_answered() -> None:
    fault = Fault(".", "cdn", status=401, headers={"WWW-Authenticate": "Basic realm=x"})
    with place(fault, redirect=True, auth="basic") as found:
        with pytest.raises(AuthError, match="where the registry keeps it, says 401"):
            found.blob()
        assert [each.headers.get("Authorization") for each in found.fake.seen("cdn")] == [None]


@pytest.mark.parametrize(
    ("location", "words"),
    [("file:///etc/passwd", "only http and https"), ("/v2/a/b/blobs/sha256:0", "more than 10"), ("http://[", "no URL")],
)
def test_23_redirects_to_nowhere(location: str, words: str) -> None:
    fault = Fault("blobs", status=302, headers={"Location": location}, times=99)
    with place(fault) as found, pytest.raises(TemporaryError, match=words):
        found.blob()


# Layers of other kinds


def test_35_sha512() -> None:
    with place() as found:
        assert found.blob(algorithm="sha512") == BLOB


def test_11_ranges_are_closed() -> None:
    """An open range is what some registries refuse."""
    with place(*[Fault("blobs", cut=5)] * 3) as found:
        found.blob()
        assert all(wanted is None or wanted.endswith(str(SIZE - 1)) for wanted in found.ranges())


def test_14_a_password_that_is_refused_on_resuming() -> None:
    with place(Fault("blobs", cut=5), Fault("blobs", status=403)) as found:
        with pytest.raises(AuthError) as caught:
            found.blob()
        assert found.ranges() == [None, rest(5)]
    assert caught.value.exit_code == 4


def foreign(found: Place, url: str) -> tuple[Reference, Descriptor]:
    wanted = Descriptor("x", Digest.of(BLOB), SIZE, urls=(url,))
    reference = found.serve(BLOB)
    found.fake.faults.append(Fault("/v2/a/b/blobs/", status=404, times=99))
    return reference, wanted


def test_38_foreign_layers_are_refused() -> None:
    with place(auth="basic") as found:
        reference, wanted = foreign(found, f"http://{found.fake.cdn}/{digest_of(BLOB)}?signature=signed-secret")
        with pytest.raises(NotFoundError, match=f"leaves to {found.fake.cdn}") as caught:
            list(found.registry.blob(reference, wanted))
        assert found.fake.seen("cdn") == []
    assert "--allow-foreign" in str(caught.value.hint)
    assert "signed-secret" not in str(caught.value)


def test_38_foreign_layers_if_allowed() -> None:
    with place(Fault(".", "cdn", cut=1000), auth="basic", allow_foreign=True) as found:
        reference, wanted = foreign(found, f"http://{found.fake.cdn}/{digest_of(BLOB)}")
        assert b"".join(found.registry.blob(reference, wanted)) == BLOB
        assert found.ranges("cdn") == [None, rest(1000)]
        assert {each.headers.get("Authorization") for each in found.fake.seen("cdn")} == {None}
        assert {each.headers.get("Cookie") for each in found.fake.seen("cdn")} == {None}


def test_38_foreign_layers_are_asked_for_everywhere() -> None:
    with place(Fault("/gone", "cdn", status=404), allow_foreign=True) as found:
        elsewhere = ("ftp://x/y", "http://127.0.0.1:1/", f"http://{found.fake.cdn}/gone")
        reference, wanted = foreign(found, f"http://{found.fake.cdn}/{digest_of(BLOB)}")
        assert b"".join(found.registry.blob(reference, replace(wanted, urls=elsewhere + wanted.urls))) == BLOB


def test_38_foreign_layers_that_the_registry_has() -> None:
    with place() as found:
        assert found.blob(urls=(f"http://{found.fake.cdn}/x",)) == BLOB
        assert found.fake.seen("cdn") == []


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://x/y", "http://user:pw@127.0.0.1/x"])
def test_38_foreign_urls_that_are_not_followed(url: str) -> None:
    with place(allow_foreign=True) as found:
        reference, wanted = foreign(found, url)
        with pytest.raises(TemporaryError, match="refused to follow"):
            list(found.registry.blob(reference, wanted))


# Stopping


def test_an_interrupt_wakes_who_waits() -> None:
    with place(Fault("blobs", cut=1000, stall=True, skip=1), timeout=60) as found:
        layers = found.registry.open(found.fake.add_image(layers=[BLOB]))
        begun = threading.Event()
        ended: list[BaseException] = []

        def read() -> None:
            try:
                for _ in layers.layers[0].blob():
                    begun.set()
            except OcirootfsError as error:
                ended.append(error)

        thread = threading.Thread(target=read)
        thread.start()
        assert begun.wait(10)
        start = time.monotonic()
        layers.interrupt()
        thread.join(10)
        assert not thread.is_alive()
        assert time.monotonic() - start < 5
    assert [str(error) for error in ended] == ["the download was stopped"]


def test_a_manifest_of_a_foreign_layer_is_read() -> None:
    """The `urls` of a manifest's descriptors reach the one who downloads."""
    raw, blobs = image(layers=[BLOB])
    manifest = json.loads(raw)
    manifest["layers"][0]["urls"] = ["http://cdn.example.com/layer"]
    with place() as found:
        reference = found.fake.add("a/b", "1", json.dumps(manifest).encode(), blobs=blobs)
        del found.fake._blobs[digest_of(BLOB)]
        with pytest.raises(NotFoundError, match=r"leaves to cdn\.example\.com"):
            list(found.registry.open(reference).layers[0].blob())
    assert descriptor(blobs[manifest["config"]["digest"]], DOCKER_CONFIG) == manifest["config"]
    assert hashlib.sha256(BLOB).hexdigest() in manifest["layers"][0]["digest"]
