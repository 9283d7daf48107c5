"""Patience and plain words: retries, Retry-After, failures, and servers' complaints."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from ocirootfs.errors import InputError, TemporaryError, UsageError
from ocirootfs.registry.complaint import complaint
from ocirootfs.registry.retry import RetryPolicy, retry_after
from ocirootfs.registry.transport import Request, Transport
from tests.servers.certificate import authority
from tests.servers.raw import OK, answering
from tests.servers.registry import FakeRegistry, Fault

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOW = 1_500_000_000.0
DATE = "Fri, 14 Jul 2017 02:40:30 GMT"  # half a minute later


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with FakeRegistry() as found:
        yield found


def transport(slept: list[float] | None = None, retries: int = 3, timeout: float = 20, **options: object) -> Transport:
    sleep = (slept if slept is not None else []).append
    policy = RetryPolicy(retries, max_wait=60)
    return Transport(policy=policy, sleep=sleep, clock=lambda: NOW, jitter=lambda: 1.0, timeout=timeout, **options)  # type: ignore[arg-type]


def get(fake: FakeRegistry, subject: Transport) -> bytes:
    try:
        return subject.send(Request("GET", f"http://{fake.host}/v2/", "the root", limit=100)).body
    finally:
        subject.close()


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 522])
def test_a_server_in_trouble_is_asked_again(fake: FakeRegistry, status: int) -> None:
    fake.faults = [Fault("/v2/", status=status, times=2)]
    slept: list[float] = []

    assert get(fake, transport(slept)) == b"{}"

    assert slept == [1.0, 2.0]
    assert len(fake.requests) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 410, 416, 501])
def test_other_answers_are_final(fake: FakeRegistry, status: int) -> None:
    fake.faults = [Fault("/v2/", status=status, body=b"no")]

    assert get(fake, transport()) == b"no"
    assert len(fake.requests) == 1


def test_patience_ends(fake: FakeRegistry) -> None:
    fake.faults = [Fault("/v2/", status=503, body=b'{"errors":[{"code":"UNAVAILABLE","message":"down"}]}', times=9)]

    with pytest.raises(TemporaryError, match=r"^the root: 127\.0\.0\.1:\d+ answered 503 UNAVAILABLE: down$"):
        get(fake, transport())

    assert len(fake.requests) == 4


@pytest.mark.parametrize(("value", "seconds"), [("7", 7.0), ("0", 0.0), (DATE, 30.0)])
def test_a_server_says_how_long_to_wait(fake: FakeRegistry, value: str, seconds: float) -> None:
    fake.faults = [Fault("/v2/", status=429, headers={"Retry-After": value})]
    slept: list[float] = []

    assert get(fake, transport(slept)) == b"{}"
    assert slept == [seconds]


@pytest.mark.parametrize("zone", ["GMT", "UTC", "", "-0000", "+0000"])
def test_dates_are_not_local(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "XYZ5")
    time.tzset()
    try:
        assert retry_after(f"Fri, 14 Jul 2017 02:40:30 {zone}", NOW) == 30.0
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("value", ["61", "21600", "Fri, 14 Jul 2027 02:40:30 GMT"])
def test_a_wait_that_is_too_long_is_an_error_at_once(fake: FakeRegistry, value: str) -> None:
    fake.faults = [Fault("/v2/", status=429, headers={"Retry-After": value})]
    slept: list[float] = []

    with pytest.raises(TemporaryError, match=f"limits the rate of pulls: 429; retry after {value}"):
        get(fake, transport(slept))

    assert slept == []


def test_waits_add_up(fake: FakeRegistry) -> None:
    fake.faults = [Fault("/v2/", status=503, headers={"Retry-After": "25"}, times=9)]
    slept: list[float] = []

    with pytest.raises(TemporaryError, match="503"):
        get(fake, transport(slept))

    assert slept == [25.0, 25.0]


def test_an_exhausted_rate_limit_is_not_waited_for(fake: FakeRegistry) -> None:
    headers = {"ratelimit-remaining": "0;w=21600"}
    fake.faults = [Fault("/v2/", status=429, headers=headers, body=b'{"message": "toomanyrequests: slow"}')]

    with pytest.raises(TemporaryError, match=r"\(0;w=21600 pulls left\): 429 toomanyrequests: slow"):
        get(fake, transport())

    assert len(fake.requests) == 1


def test_a_connection_that_breaks_is_made_again(fake: FakeRegistry) -> None:
    fake.faults = [Fault("/v2/", cut=1), Fault("/v2/", cut=0, reset=True)]

    assert get(fake, transport()) == b"{}"


@pytest.mark.parametrize(
    "target",
    ["/x%7Ey?sig=%7Eab%2Dc%2Fd%2B", "/%41?%61=%5F", "/a%20b?c=d+e", "/x?a='b'&c=(d)!*", "/?", "/;a=b", "?a=%7E"],
)
def test_a_redirect_is_followed_as_it_is_written(fake: FakeRegistry, target: str) -> None:
    url = f"http://{fake.token}{target}"
    fake.faults = [Fault("/v2/", status=307, headers={"Location": url}), Fault(".", "token", status=200, body=b"yes")]

    assert get(fake, transport()) == b"yes"
    assert [found.path for found in fake.seen("token")] == [f"/{target.removeprefix('/').removesuffix('?')}"]


def test_the_case_of_escapes_alone_is_changed(fake: FakeRegistry) -> None:
    url = f"http://{fake.token}/x%7ey?sig=%7Eab%2Dc%2fd"
    fake.faults = [Fault("/v2/", status=307, headers={"Location": url}), Fault(".", "token", status=200, body=b"yes")]

    assert get(fake, transport()) == b"yes"
    assert [found.path for found in fake.seen("token")] == ["/x%7Ey?sig=%7Eab%2Dc%2Fd"]


def test_params_of_a_session_are_kept(fake: FakeRegistry) -> None:
    with requests.Session() as session:
        session.params = {"a": "~"}
        transport(session=session).send(Request("GET", f"http://{fake.host}/v2/?b=%7E", "x", limit=100))

    assert [found.path for found in fake.requests] == ["/v2/?b=~&a=~"]


def test_nobody_listens() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        slept: list[float] = []
        with pytest.raises(TemporaryError, match=rf"the connection to 127\.0\.0\.1:{port} failed: connection refused"):
            transport(slept).send(Request("GET", f"http://127.0.0.1:{port}/", "x"))

    assert len(slept) == 3


def test_silence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        with pytest.raises(TemporaryError, match="does not answer in time"):
            transport(retries=0, timeout=0.1).send(Request("GET", url, "x"))


@pytest.mark.parametrize(
    "interim",
    [
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\nContent-Length: 9\r\n\r\n",
        b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n",
    ],
)
def test_interim_answers_are_read_past(interim: bytes) -> None:
    with answering(interim + OK) as server:
        answer = transport(retries=0).send(Request("GET", f"http://{server.host}/", "x", limit=100))

    assert (answer.status, answer.body) == (200, b"{}")
    assert "Link" not in answer.headers


def test_interim_answers_without_end() -> None:
    endless = b"HTTP/1.1 103 Early Hints\r\n\r\n" * 99
    with answering(endless, drip=0.01) as server, pytest.raises(TemporaryError, match="the end of its headers"):
        transport(retries=0, timeout=0.2).send(Request("GET", f"http://{server.host}/", "x"))


def test_a_change_of_protocol_that_nobody_asked_for() -> None:
    with answering(b"HTTP/1.1 101 Switching Protocols\r\n\r\n") as server:
        assert transport(retries=0).send(Request("GET", f"http://{server.host}/", "x")).status == 101


def test_an_answer_that_is_no_http() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(5)
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"

        def speak() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"SSH-2.0-OpenSSH\r\n")

        thread = threading.Thread(target=speak)
        thread.start()
        with pytest.raises(TemporaryError, match="broke"):
            transport(retries=0).send(Request("GET", url, "x"))
        thread.join()


def test_tls(tmp_path: Path) -> None:
    context, ca_file = authority(tmp_path)
    with FakeRegistry(tls=context) as fake:
        request = Request("GET", f"https://{fake.host}/v2/", "x", limit=10)
        with pytest.raises(TemporaryError, match="is not trusted: self-signed"):
            transport().send(request)
        subject = transport(ca_file=ca_file)
        assert subject.send(request).body == b"{}"
        subject.close()
        with pytest.raises(TemporaryError, match=r"broke|failed"):
            transport(retries=0).send(Request("GET", f"http://{fake.host}/v2/", "x"))


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_insecure(tmp_path: Path) -> None:
    context, _ = authority(tmp_path)
    with FakeRegistry(tls=context) as fake:
        subject = transport(insecure=True)
        assert subject.send(Request("GET", f"https://{fake.host}/v2/", "x", limit=10)).body == b"{}"
        subject.close()


def test_plain_http_where_tls_is_expected(fake: FakeRegistry) -> None:
    with pytest.raises(TemporaryError, match="answered plain HTTP to an HTTPS request") as caught:
        transport().send(Request("GET", f"https://{fake.host}/v2/", "x"))

    assert "--plain-http" in (caught.value.hint or "")


REFUSED = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"


@pytest.mark.parametrize(
    ("answer", "deaf", "timeout", "https"),
    [
        pytest.param(OK, None, 5, False, id="answers-in-plain-http"),
        pytest.param(OK, 0, 5, False, id="closes-on-tls"),
        pytest.param(OK, 9, 0.3, False, id="ignores-tls"),
        pytest.param(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", 0, 5, False, id="wants-a-login"),
        pytest.param(REFUSED, 9, 0.3, True, id="is-slow-at-tls"),
        pytest.param(b"SSH-2.0-OpenSSH\r\n", 0, 5, True, id="is-something-else"),
        pytest.param(b"", 0, 0.3, True, id="is-mute"),
    ],
)
def test_who_has_no_tls(answer: bytes, deaf: float | None, timeout: float, https: bool) -> None:
    with answering(answer, deaf=deaf) as server:
        subject = transport(timeout=timeout)
        assert subject.speaks_https(server.host) is https
        subject.close()


def test_bundles_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"cannot use the CA file .*none\.pem: No such file"):
        transport(ca_file=tmp_path / "none.pem")
    (tmp_path / "empty.pem").touch()
    with pytest.raises(UsageError, match=r"empty\.pem"):
        transport(ca_file=tmp_path / "empty.pem")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "none.pem"))
    with pytest.raises(UsageError, match="CA certificate bundle"):
        transport().send(Request("GET", "https://127.0.0.1:1/", "x"))


def test_an_answer_that_is_too_large(fake: FakeRegistry) -> None:
    fake.faults = [Fault("/v2/", extra=b"x" * 1000, unsized=True)]

    with pytest.raises(InputError, match="larger than 100 bytes"):
        get(fake, transport())


@pytest.mark.parametrize("name", ["gzip", "x-gzip"])
def test_a_document_that_is_encoded(fake: FakeRegistry, name: str) -> None:
    packed = gzip.compress(b"{}")
    fake.faults = [Fault("/v2/", status=200, headers={"Content-Encoding": name}, body=packed)]

    with pytest.raises(InputError, match=f"sent it encoded as '{name}', which it was not asked for"):
        get(fake, transport())


@pytest.mark.parametrize("name", ["gzip", "identity"])
def test_a_document_that_is_not_encoded(fake: FakeRegistry, name: str) -> None:
    fake.faults = [Fault("/v2/", headers={"Content-Encoding": name})]

    assert get(fake, transport()) == b"{}"


def test_of_an_error_only_the_start_is_read(fake: FakeRegistry) -> None:
    fake.faults = [Fault("/v2/", status=404, body=b"x" * 1_000_000)]

    assert len(get(fake, transport())) == 64 << 10


def test_a_proxy_of_the_environment(fake: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://user:s3cret@127.0.0.1:1")

    with pytest.raises(TemporaryError, match=r"no way to .* through the proxy") as caught:
        transport(retries=0).send(Request("GET", "http://registry.invalid/v2/", "x"))
    assert "s3cret" not in str(caught.value)

    assert get(fake, transport()) == b"{}", "a proxy's loopback is not this machine's"


COMPLAINTS = [
    ({"errors": [{"code": "X", "message": "m", "detail": {"a": [1]}}, {"code": "Y"}]}, "X: m"),
    ({"errors": [{"code": "X"}]}, "X"),
    ({"errors": [{"message": "m"}]}, "m"),
    ({"errors": ["text"]}, "text"),
    ({"errors": {"code": 7, "message": "m"}}, "7: m"),
    ({"errors": None, "message": "m"}, "m"),
    ({"errors": []}, ""),
    ({"message": "m"}, "m"),
    ({"details": "d"}, "d"),
    ({"error": "e", "error_description": "d"}, "e: d"),
    ({"error": {"code": "c", "message": "m"}}, "c: m"),
    ([1], "[1]"),
]


@pytest.mark.parametrize(("document", "said"), COMPLAINTS)
def test_complaints(document: object, said: str) -> None:
    found = complaint(json.dumps(document).encode())

    assert found == said or (said == "" and found == '{"errors": []}')


def test_complaints_that_are_no_json() -> None:
    assert complaint(b"") == ""
    assert complaint(b"404 page not found\n") == "404 page not found"
    assert complaint(b"<html><body>Sign in</body></html>") == ""
    assert (
        complaint(b'<?xml version="1.0"?><Error><Code>AccessDenied</Code><Message>no</Message>') == "AccessDenied: no"
    )
    assert complaint(b'{"message": "\\u001b[31mred\\u202e"}') == "\\x1b[31mred\\u202e"
    assert len(complaint(b"x" * 10_000)) == 200


@settings(deadline=None)
@given(st.binary())
def test_any_body_is_a_line(body: bytes) -> None:
    found = complaint(body)
    assert len(found) <= 200
    assert "\n" not in found
    assert "\x1b" not in found


@settings(deadline=None)
@given(st.text())
def test_any_retry_after(value: str) -> None:
    found = retry_after(value, NOW)
    assert found is None or found >= 0


def test_delays_grow_to_a_limit() -> None:
    policy = RetryPolicy()

    assert [policy.delay(attempt, 1.0) for attempt in (1, 2, 3, 6, 7, 1000)] == [1, 2, 4, 30, 30, 30]
    assert policy.delay(5, 0.0) == 0
