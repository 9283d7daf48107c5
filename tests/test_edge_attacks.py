"""Attacks by a registry, by what it leads to, and by what an image says of itself: nothing is sent, shown or kept.

Only what no other file of tests holds; `tests.catalogue` says where each attack of the list is held.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from ocirootfs.manifest import DOCKER_MANIFEST, OCI_INDEX
from tests.commands import environment, finished, run, run_here, started
from tests.layers import Data, build
from tests.servers.raw import OK, answering
from tests.servers.registry import PASSWORD, USER, FakeRegistry, Fault, descriptor, digest_of, image, index

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

QUICK = ("--retries", "0", "--timeout", "1", "--platform", "linux/amd64")
SECRET = "planted-5ecret"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DOCKER_AUTH_CONFIG", "{}")


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with FakeRegistry() as found:
        yield found


@pytest.fixture
def out(tmp_path: Path) -> Path:
    place = tmp_path / "out"
    place.mkdir()
    return place


def refused(reference: object, out: Path, *more: str, status: int = 6) -> str:
    """Demand that an image is refused, in a line or two, with nothing left; give the message."""
    ran = run_here("fetch", str(reference), "-o", str(out / "a.tar"), *QUICK, *more)
    assert ran.status == status, ran.err
    assert "Traceback" not in ran.err
    assert "internal error" not in ran.err
    assert list(out.iterdir()) == []
    return ran.err


def changed(fake: FakeRegistry, **more: Any) -> str:
    """Serve the image with a manifest of which some members are others."""
    document = json.loads(fake._manifests["a/b", "1"].body)
    return str(fake.add("a/b", "2", json.dumps(document | more).encode()))


# Documents

DIGESTS = {
    "md5": "md5:" + "a" * 32,
    "sha1": "sha1:" + "a" * 40,
    "capitals": "sha256:" + "A" * 64,
    "63": "sha256:" + "a" * 63,
    "65": "sha256:" + "a" * 65,
    "path": "sha256:../../../../etc/passwd",
    "path of the right length": "sha256:" + "../" * 21 + "a",
    "nul": "sha256:" + "a" * 63 + "\0",
    "newline": "sha256:" + "a" * 64 + "\n",
    "query": "sha256:" + "a" * 60 + "?b=c",
    "no algorithm": "a" * 64,
    "two": "sha256:sha256:" + "a" * 57,
    "number": 7,
    "list": ["sha256:" + "a" * 64],
    "null": None,
    "other digits": "sha256:" + "\u0661" * 64,
}


@pytest.mark.parametrize("name", DIGESTS)
@pytest.mark.parametrize("where", ["config", "layers"])
def test_digests_that_are_paths_or_none(where: str, name: str, fake: FakeRegistry, out: Path) -> None:
    fake.add_image()
    wrong = {"mediaType": "application/vnd.docker.image.rootfs.diff.tar", "digest": DIGESTS[name], "size": 9}
    reference = changed(fake, **{where: [wrong] if where == "layers" else wrong})
    refused(reference, out)
    assert fake.seen(path="/blobs/") == []


@pytest.mark.parametrize("size", [-1, 1.5, True, "5", 2**63, 10**30, None, [9]])
def test_sizes_that_are_none(size: object, fake: FakeRegistry, out: Path) -> None:
    fake.add_image()
    [*layers] = json.loads(fake._manifests["a/b", "1"].body)["layers"]
    refused(changed(fake, layers=[{**layer, "size": size} for layer in layers]), out)


def test_a_size_of_exbibytes_takes_no_memory(fake: FakeRegistry, out: Path) -> None:
    """The blob says how long it is; where it does not, what has come is what there is."""
    fake.add_image()
    [*layers] = json.loads(fake._manifests["a/b", "1"].body)["layers"]
    reference = changed(fake, layers=[{**layer, "size": 2**62} for layer in layers])
    assert f"not the {2**62} announced" in refused(reference, out)
    fake.faults = [Fault("/blobs/", unsized=True, skip=1, times=9)]
    with started("fetch", reference, "-o", str(out / "a.tar"), *QUICK) as process:
        ran = finished(process)
    assert ran.status == 5, ran.err
    assert list(out.iterdir()) == []


def nested(fake: FakeRegistry, depth: int) -> str:
    raw, blobs = image()
    fake.add("a/b", "image", raw, blobs=blobs)
    media_type = DOCKER_MANIFEST
    for _ in range(depth):
        raw, media_type = index([descriptor(raw, media_type)]), OCI_INDEX
        fake.add("a/b", "1", raw, OCI_INDEX)
    return str(fake.reference("a/b", "1"))


def test_indexes_in_indexes(fake: FakeRegistry, out: Path) -> None:
    assert run_here("fetch", nested(fake, 4), "-o", str(out / "a.tar"), *QUICK).status == 0
    (out / "a.tar").unlink()
    for more in ((), ("--all-platforms",)):
        words = [word for word in (*QUICK, *more) if not more or word not in {"--platform", "linux/amd64"}]
        ran = run_here("fetch", nested(fake, 5), "-o", str(out / "a.tar"), *words)
        assert (ran.status, "more than 3 deep" in ran.err) == (6, True), ran.err
        assert list(out.iterdir()) == []


def test_an_index_of_too_many(fake: FakeRegistry, out: Path) -> None:
    entry = descriptor(b"{}", DOCKER_MANIFEST)
    reference = fake.add("a/b", "1", index([entry] * 1001), OCI_INDEX)
    assert "more than 1000 entries" in refused(reference, out)


def test_a_child_that_is_another(fake: FakeRegistry, out: Path) -> None:
    """An index that is served for what it lists cannot be: nobody knows its own digest."""
    platform = {"os": "linux", "architecture": "amd64"}
    loop = index([{"mediaType": OCI_INDEX, "digest": digest_of(b"x"), "size": 9, "platform": platform}])
    reference = fake.add("a/b", "1", loop, OCI_INDEX)
    fake._manifests["a/b", digest_of(b"x")] = fake._manifests["a/b", "1"]
    assert "expected sha256:" in refused(reference, out)


def test_a_tag_that_moves_is_resolved_once(fake: FakeRegistry, out: Path) -> None:
    raw, blobs = image()
    entry = descriptor(raw, DOCKER_MANIFEST, platform={"os": "linux", "architecture": "amd64"})
    fake.add("a/b", "first", raw, blobs=blobs)
    reference = fake.add("a/b", "1", index([entry]), OCI_INDEX)
    other = image([b"another"])[0]
    fake.before_blob = lambda _: fake.add("a/b", "1", other)  # it moves while the image is downloaded
    assert run_here("fetch", str(reference), "-o", str(out / "a.tar"), *QUICK).status == 0
    assert [found.path for found in fake.seen(path="/manifests/")] == [
        "/v2/a/b/manifests/1",
        f"/v2/a/b/manifests/{digest_of(raw)}",
    ]


def test_a_link_to_a_next_page_is_nobodys_business(fake: FakeRegistry, out: Path) -> None:
    with answering(OK) as canary:
        link = {"Link": f'<http://{canary.host}/v2/a/b/tags/list?last=z>; rel="next"'}
        fake.faults = [Fault("/", headers=link, times=99)]
        assert run_here("fetch", str(fake.add_image()), "-o", str(out / "a.tar"), *QUICK).status == 0
        assert canary.heard == []


REFERENCES = [
    "HOST/../x", "HOST/a/../b", "HOST/a/%2e%2e/b", "HOST/a?x=y", "HOST/a#b", "HOST/a@b@c", "HOST/a\r\nHost: evil",
    "HOST/a:1\nx", f"HOST/{'a' * 10_000}", "HOST/a@sha256:../../x", "HOST//a", "HOST/a/", "HOST/a\\b", "HOST/a;b",
    "HOST/\u0430/b", "h\u043est.example/a", "HOST/a:" + "b" * 129, "user:pw@HOST/a", "HOST/a\0b", "http://HOST/a/b",
]  # fmt: skip


@pytest.mark.parametrize("text", REFERENCES)
def test_references_that_lead_elsewhere(text: str, fake: FakeRegistry, out: Path) -> None:
    fake.add_image()
    refused(text.replace("HOST", fake.host), out, status=2)
    assert fake.requests == []


# Credentials

# Where a blob may be redirected to, in words of the registry's own origin HOST:PORT.
ELSEWHERE = {
    "another port": "http://HOST:CDN/x",
    "another name": "http://localhost:PORT/v2/x",
    "a name in capitals": "http://LocalHost:PORT/v2/x",
    "a dot at its end": "http://localhost.:PORT/v2/x",
    "another spelling": "http://127.1:PORT/v2/x",
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_credentials_are_for_the_exact_origin(name: str, out: Path) -> None:
    with FakeRegistry(auth="basic") as fake:
        host, port = fake.host.split(":")
        url = ELSEWHERE[name].replace("HOST", host).replace("PORT", port).replace("CDN", fake.cdn.split(":")[1])
        reference = fake.add_image()
        fake.faults = [Fault("/blobs/", status=307, headers={"Location": url, "Set-Cookie": f"a={SECRET}"}, times=9)]
        ran = run_here("fetch", str(reference), "-o", str(out / "a.tar"), *QUICK, "--creds", f"{USER}:{PASSWORD}")
        led = [found for found in fake.requests if re.search(r"^/(v2/)?x$", found.path)]
    assert ran.status != 0
    assert led or "cannot resolve host 'localhost." in ran.err  # resolvers differ about that dot
    assert [found.headers.keys() & {"Authorization", "Cookie"} for found in led] == [set()] * len(led)
    assert PASSWORD not in ran.err


def test_a_user_in_a_redirect_is_refused(out: Path) -> None:
    with FakeRegistry(auth="basic") as fake:
        reference = fake.add_image()
        url = f"http://{USER}:{SECRET}@{fake.host}/v2/x"
        fake.faults = [Fault("/blobs/", status=307, headers={"Location": url}, times=9)]
        said = refused(reference, out, "--creds", f"{USER}:{PASSWORD}", status=5)
    assert "it holds a user name" in said
    assert SECRET not in said


@pytest.mark.parametrize("location", ["/token", "ftp://x/", "file:///etc/passwd", "//[::1", "http://user@x/"])
def test_redirects_of_a_token_server(location: str, out: Path) -> None:
    with FakeRegistry(auth="bearer", anonymous=True) as fake:
        fake.faults = [Fault("/token", "token", status=302, headers={"Location": location}, times=99)]
        refused(fake.add_image(), out, status=5)
        assert len(fake.seen("token")) <= 11


@pytest.mark.parametrize("words", [("--password", SECRET), (f"--password={SECRET}",), ("-p", SECRET)])
def test_no_option_takes_a_password_alone(words: tuple[str, ...], out: Path) -> None:
    ran = run_here("fetch", "ubuntu", "-o", str(out / "a.tar"), *words)
    assert ran.status == 2
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("verb", ["fetch", "pack"])
def test_a_signed_url_is_no_destination_and_is_not_shown(verb: str, out: Path) -> None:
    url = f"https://bucket.s3.amazonaws.com/a.tgz?X-Amz-Signature={SECRET}"
    with FakeRegistry() as fake:
        ran = run_here(verb, str(fake.add_image()), "-o", url, *QUICK)
        assert fake.requests == []
    assert ran.status == 2
    assert "the destination is a https URL" in ran.err
    assert SECRET not in ran.err


def test_what_a_url_holds_is_not_shown(out: Path) -> None:
    said = refused(f"https://me:{SECRET}@registry.example/a/b?token={SECRET}", out, status=2)
    assert "'https://registry.example/a/b' is a URL" in said
    assert SECRET not in said


# Servers that speak badly

ANSWERS = {
    "two hundred headers": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
    "a header of 70 kB": b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000 + b"\r\n\r\n",
    "a status line of 70 kB": b"HTTP/1.1 200 " + b"y" * 70_000 + b"\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}x",
    "a negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    "HTTP/0.9": b"hello\r\n",
    "an unknown version": b"HTTP/9.9 200 OK\r\n\r\n",
    "no status": b"HTTP/1.1 abc\r\n\r\n",
    "a header without a colon": b"HTTP/1.1 302 Found\r\nLocation\r\n\r\n",
    "chunks of no size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "a chunk of exbibytes": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"f" * 16 + b"\r\nx",
    "control characters": b"HTTP/1.1 418 \x1b[31m\x07\r\nContent-Length: 5\r\n\r\n\x1b[2J\x07",
    "an empty location": b"HTTP/1.1 302 Found\r\nLocation: \r\nContent-Length: 0\r\n\r\n",
    "a location of 10 kB": b"HTTP/1.1 302 Found\r\nLocation: /" + b"a" * 10_000 + b"\r\nContent-Length: 0\r\n\r\n",
    "a location with a line": b"HTTP/1.1 302 Found\r\nLocation: /a%0d%0aX: y\r\nContent-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_that_are_no_http(name: str, out: Path) -> None:
    with answering(ANSWERS[name]) as server:
        ran = run_here("fetch", f"{server.host}/a/b", "-o", str(out / "a.tar"), "--plain-http", "-vv", *QUICK)
        assert server.heard
        assert not any(b"X: y" in line for request in server.heard for line in request.splitlines())
    assert ran.status in {5, 6}, ran.err
    assert "internal error" not in ran.err
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", ran.err)
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("how", ["no answer", "headers that drip", "a document that drips", "no TLS greeting"])
def test_servers_that_say_nothing(how: str, out: Path) -> None:
    """A byte now and then is no sign of life: each of these would go on for most of an hour."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 60000\r\n\r\n"
    at_once, drips = {
        "headers that drip": (b"HTTP/1.1 200 OK\r\nX: ", b"y" * 60_000),
        "a document that drips": (head, b" " * 60_000),
    }.get(how, (b"", b""))
    begun = time.monotonic()
    with answering(drips, drip=0.05, at_once=at_once) as server:
        words = () if how == "no TLS greeting" else ("--plain-http",)
        with started("fetch", f"{server.host}/a/b", "-o", str(out / "a.tar"), *QUICK, *words) as process:
            ran = finished(process)
    assert ran.status == 5, ran.err
    assert time.monotonic() - begun < 20
    assert list(out.iterdir()) == []
    said = {"headers that drip": "the end of its headers", "a document that drips": "less than 1024 bytes a second"}
    assert said.get(how, "") in ran.err


# What is shown

ESCAPES = "\x1b]0;owned\x07\x1b[2J\r\x7f\x9b31m\u202e\u2066"
_BAD = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\u2029]")


def test_no_word_of_an_image_or_a_server_controls_a_terminal(fake: FakeRegistry, out: Path) -> None:
    entries: list[Data] = [
        {"type": "char", "name": f"dev{ESCAPES}", "devmajor": 1},
        {"type": "file", "name": f"file{ESCAPES}", "uid": 70_000, "xattrs": {"security.capability": "x"}},
        {"type": "file", "name": f"file{ESCAPES}/below"},
    ]
    config: Data = {"config": {"Labels": {"version": ESCAPES, ESCAPES: "x"}, "Env": [ESCAPES], "User": ESCAPES}}
    made = build([{"entries": entries}], config=config)
    reference = fake.add("a/b", "1", made.manifest, made.media_type, made.blobs)
    target = str(out / "{label:version}.tgz")
    commands = [
        ("pack", str(reference), "-o", str(out / "a.tgz"), "-vv", "--debug", "--json"),
        ("pack", str(reference), "-o", target, "-vv"),
        ("pack", str(reference), "-o", str(out / f"{ESCAPES}/x/a.tgz"), "-vv"),
        ("fetch", str(reference), "-o", str(out / "a.tar"), "-vv"),
        ("fetch", f"{reference}{ESCAPES}"),
        ("pack", f"oci:{out}/{ESCAPES}"),
        ("pack", str(out / f"{ESCAPES}.tar")),
    ]
    said = [run_here(*words, *(QUICK if "fetch" in words else ())) for words in commands]
    body = json.dumps({"errors": [{"code": ESCAPES, "message": ESCAPES}]}).encode()
    for status in (400, 401, 404, 429, 503):
        fake.faults = [Fault("/", status=status, body=body, headers={"WWW-Authenticate": "\x9b x"}, times=9)]
        said.append(run_here("fetch", str(reference), "-vv", *QUICK, "-o", str(out / "b.tar")))
    fake.faults = [Fault("/", headers={"Warning": '299 - "\x9b31m\x85"'}, times=9)]
    said.append(run_here("fetch", str(reference), "-vv", *QUICK, "-o", str(out / "c.tar")))
    for ran in said:
        assert not _BAD.search(ran.err), ran.err
        assert "internal error" not in ran.err
    assert [ran.status for ran in said[:2]] == [0, 0], said[:2]
    assert not any(_BAD.search(name) for name in os.listdir(out))  # noqa: PTH208
    assert not _BAD.search(said[0].out.decode().rstrip("\n"))


# What is run


@pytest.mark.parametrize("wrap", ["gzip", "zstd", "xz", "bzip2"])
def test_no_program_of_the_path_is_run(wrap: str, tmp_path: Path, out: Path) -> None:
    """Docker once ran the `unpigz` that it found, with a layer at its input."""
    programs, ran_file = tmp_path / "bin", tmp_path / "ran"
    programs.mkdir()
    for name in ("gzip", "gunzip", "pigz", "unpigz", "igzip", "zstd", "xz", "bzip2", "tar", "sh", "docker", "aws"):
        (programs / name).write_text(f'#!{sys.executable}\nopen({str(ran_file)!r}, "a").write({name!r})\n')
        (programs / name).chmod(0o755)
    layout = build([{"entries": [{"type": "file", "name": "a"}], "wrap": wrap}]).layout(tmp_path / "layout")
    variables = environment(PATH=str(programs), TAR_OPTIONS="--to-command=x", GZIP="-9", LD_PRELOAD=None)
    run("pack", f"oci:{layout}", "-o", str(out / "a.tgz"), env=variables).ok  # noqa: B018
    assert not ran_file.exists()


@pytest.mark.parametrize("link", ["blobs", "blobs/sha256"])
def test_a_layout_below_a_link_is_not_read(link: str, tmp_path: Path, out: Path) -> None:
    """A layout may come from anybody: a directory in it that leads elsewhere is none."""
    layout = build([{"entries": [{"type": "file", "name": "a"}]}]).layout(tmp_path / "layout")
    (layout / link).rename(tmp_path / "elsewhere")
    (layout / link).symlink_to(tmp_path / "elsewhere")
    ran = run_here("pack", f"oci:{layout}", "-o", str(out / "a.tgz"))
    assert (ran.status, "is not in it" in ran.err or "does not have" in ran.err) == (6, True), ran.err
    assert list(out.iterdir()) == []


# Buckets

REDIRECTS = {
    "301": b"HTTP/1.1 301 Moved\r\nLocation: http://HOST/bucket/a.tgz\r\nx-amz-bucket-region: eu-west-9\r\n",
    "307": b"HTTP/1.1 307 Temporary\r\nLocation: http://HOST/bucket/a.tgz\r\n",
    "302": b"HTTP/1.1 302 Found\r\nLocation: http://HOST/bucket/a.tgz\r\n",
}  # fmt: skip


@pytest.mark.parametrize("name", REDIRECTS)
def test_a_store_that_leads_elsewhere(name: str, out: Path) -> None:
    """A store that one names is the store that is spoken to: no other host sees a request."""
    layout = build([{"entries": [{"type": "file", "name": "a"}]}]).layout(out / "layout")
    body = b"<Error><Code>PermanentRedirect</Code><Endpoint>HOST</Endpoint><Message>x</Message></Error>"
    with answering(OK) as canary:
        head = REDIRECTS[name] + b"Content-Length: %d\r\nConnection: close\r\n\r\n"
        body = body.replace(b"HOST", canary.host.encode())
        with answering(head.replace(b"HOST", canary.host.encode()) % len(body) + body) as store:
            words = ["--endpoint-url", f"http://{store.host}", "--s3-retry-for", "2", "--if-exists", "replace"]
            ran = run("pack", f"oci:{layout}", "-o", "s3://bucket/a.tgz", *words)
            assert store.heard
        assert canary.heard == []
    assert ran.status in {5, 7}, ran.err
    assert "internal error" not in ran.err


def test_a_huge_error_of_a_store(out: Path) -> None:
    """An error of 10 MiB is told in a line, and takes little memory."""
    layout = build([{"entries": [{"type": "file", "name": "a"}]}]).layout(out / "layout")
    inner = (
        b"<!DOCTYPE x [<!ENTITY a 'aaaa'>]><Error><Code>X</Code><Message>" + b"&a;" * (3 << 20) + b"</Message></Error>"
    )
    head = b"HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(inner)
    with answering(head + inner) as store:
        words = ["--endpoint-url", f"http://{store.host}", "--s3-retry-for", "2", "--if-exists", "replace"]
        ran = run("pack", f"oci:{layout}", "-o", "s3://bucket/a.tgz", *words)
    assert ran.status != 0
    assert "internal error" not in ran.err
    assert len(ran.err) < 3000
