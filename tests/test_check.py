"""What `check` says of archives, for each trap that the consumer has, and of those that `pack` makes."""

from __future__ import annotations

import base64
import io
import json
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest

import ocirootfs
from ocirootfs.bundle import Layout, Report, bundle
from ocirootfs.checking import check
from ocirootfs.consumer.finding import RULES, Severity
from ocirootfs.consumer.sniff import sniff
from ocirootfs.errors import NotFoundError, TemporaryError
from ocirootfs.image import Image
from ocirootfs.manifest import parse_config
from ocirootfs.s3.url import S3Options
from ocirootfs.spool import Spool
from ocirootfs.versions import KeyRegexp
from tests import make_fixtures
from tests.commands import run, run_here
from tests.consumer import META, ROOT, VECTORS, Vector, file, of, tar
from tests.layers import FIXTURES
from tests.mutants import layers_of, vectors
from tests.servers.raw import answering

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from ocirootfs.checking import Checked
    from tests.servers.moto import S3Endpoint

PLAIN = of("plain").archive


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def codes(checked: Checked, *severities: Severity) -> set[str]:
    return {finding.code for finding in checked.findings if finding.severity in severities}


# The traps


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
def test_a_trap(vector: Vector) -> None:
    for size in (333, 1 << 20):
        checked = check(pieces(vector.archive, size), vector.called)
        assert codes(checked, Severity.BREAKS, Severity.DIFFERS) == vector.codes
        assert codes(checked, Severity.NOTE) == vector.notes
        assert checked.starts == all(RULES[code].severity is not Severity.BREAKS for code in vector.codes)


@pytest.mark.parametrize("most", [4, 5])
def test_more_entries_than_are_looked_at(most: int) -> None:
    checked = check([PLAIN], "a.tgz", entries=most)
    assert codes(checked, Severity.BREAKS) >= ({"too-many-entries"} if most < 5 else set())
    assert checked.starts == (most == 5)


def test_a_name_that_is_not_known() -> None:
    assert codes(check([PLAIN], None), *Severity) == {"name-unknown"}


@pytest.mark.parametrize(
    ("key", "regexp", "version", "breaks"),
    [
        ("ubuntu/ubuntu-17.04.tgz", "ubuntu/ubuntu-(.*).tgz", "17.04", False),
        ("ubuntu/ubuntu-17.04.meta.tgz", "ubuntu/ubuntu-(.*).tgz", "17.04.meta", False),
        ("ubuntu/ubuntu-core-17.04.tgz", "ubuntu/ubuntu-(.*).tgz", "core-17.04", False),
        ("ubuntu/ubuntu-17.04_tgz", "ubuntu/ubuntu-(.*).tgz", "17.04", False),
        ("c/c-2.0.0-sha256:ab.tgz", "c/c-(.*)-(.*).tgz", "2.0.0", False),
        ("c/c-arm-2.tgz", "c/c-(?P<arch>.*)-(?P<version>.*).tgz", "2", False),
        ("c/c-2.0.0-sha256:ab.tgz", "c/c-(.*).tgz", "2.0.0-sha256:ab", True),
        *(
            (f"a-{version}.tgz", "a-(.*).tgz", version, True)
            for version in ["", "1..2", "1.2.", "3.0.0~rc", "1 2", "9" * 20, "0.0.79+g1+2", "1%2", "ünï"]
        ),
        ("ubuntu/ubuntu-17.04.tgz.sha256", "ubuntu/ubuntu-(.*).tgz", "17.04", True),  # not from end to end
        ("ubuntu/a/ubuntu-17.04.tgz", "ubuntu/ubuntu-(.*).tgz", None, True),
        ("other/ubuntu-17.04.tgz", "ubuntu/ubuntu-(.*).tgz", None, True),
    ],
)
def test_the_version(key: str, regexp: str, version: str | None, breaks: bool) -> None:
    checked = check([PLAIN], "a.tgz", key=key, regexp=KeyRegexp.parse(regexp))
    assert (checked.version, codes(checked, *Severity)) == (version, {"version"} if breaks else set())


def test_every_code_has_a_vector() -> None:
    met = {code for vector in VECTORS for code in vector.codes | vector.notes}
    others = {"version", "name-unknown", "too-many-entries"}  # the tests above
    assert set(RULES) == met | others


@pytest.mark.parametrize(
    ("head", "length", "kinds"), json.loads((FIXTURES / "consumer.json").read_text())["heads"], ids=str
)
def test_what_the_first_bytes_are_taken_for(head: str, length: int, kinds: list[str]) -> None:
    assert sniff(base64.b64decode(head).ljust(length, b"\0")) == set(kinds)


@pytest.mark.parametrize(
    ("user", "ids"),
    [
        ("", (0, 0)), ("root", (0, 0)), ("alex", (1000, 1001)), ("1000", (1000, 1001)), ("4242", (4242, 0)),
        ("4242:4343", (4242, 4343)), ("alex:staff", (1000, 50)), ("alex:50", (1000, 50)), ("1000:staff", (1000, 50)),
        ("1000:1000", (1000, 1000)), ("alex:", (1000, 1001)), (":", (0, 0)), ("2147483647", (2147483647, 0)),
        (":staff", (0, 50)), ("alex:nogrp", None), ("-1", None), ("2147483648", None),
    ],
)  # fmt: skip
def test_whom_a_task_runs_as(user: str, ids: tuple[int, int] | None) -> None:
    (vector,) = (each for each in VECTORS if each.name == f"user-{user}")
    assert check([vector.archive], vector.called).user == ids


@pytest.mark.parametrize(
    ("user", "ids"),
    [
        ("", (0, 0)), ("root", (0, 0)), ("alex", None), ("1000", (1000, 0)), ("4242:4343", (4242, 4343)),
        ("alex:50", None), (":staff", None),
    ],
)  # fmt: skip
def test_whom_a_task_runs_as_without_accounts(user: str, ids: tuple[int, int] | None) -> None:
    (vector,) = (each for each in VECTORS if each.name == f"nobody-knows-{user}")
    assert check([vector.archive], vector.called).user == ids


def test_the_sizes() -> None:
    archive = of("big", "", file("rootfs/big", "x" * 100_000)).archive
    checked = check([archive], "a.tgz")
    plain = tar([META, *ROOT, file("rootfs/big", "x" * 100_000)])
    files = 100_000 + len(META["data"]) + 1
    assert (checked.compressed, checked.expanded, checked.files) == (len(archive), len(plain), files)
    assert checked.entries == 6
    assert checked.peak == len(plain) + files


def test_what_is_found_often_is_counted() -> None:
    archive = of("x", "", *(file(f"rootfs/{number}", uid=77, uname="x") for number in range(9))).archive
    (finding,) = check([archive], "a.tgz").findings
    assert (finding.code, finding.count, finding.where) == ("owner-names", 9, ("rootfs/0", "rootfs/1", "rootfs/2"))


def test_the_content_takes_no_memory() -> None:
    def archive() -> Iterator[bytes]:
        whole = tar([META, *ROOT, file("rootfs/big", "", size=64 << 20)], end=b"")
        yield whole
        yield from [bytes(1 << 20)] * 64
        yield bytes(1024)

    tracemalloc.start()
    checked = check(archive(), "a.tar")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (checked.files > 64 << 20, checked.findings) == (True, ())
    assert peak < 8 << 20


# What pack makes

EDITED = ("--user", "1000:1000", "--entrypoint", '["/bin/sh"]', "--env", "A=1")


@pytest.mark.parametrize(("called", "words"), [("a.tgz", ()), ("a.tar", ()), ("a.tar.gz", EDITED)])
def test_an_archive_of_our_own_is_clean(called: str, words: Sequence[str], tmp_path: Path) -> None:
    path = tmp_path / called
    run_here("pack", f"oci:{make_fixtures.ZONES}", "-o", str(path), *words).accepted  # noqa: B018
    checked = ocirootfs.check(path)
    assert (checked.starts, codes(checked, Severity.BREAKS, Severity.DIFFERS)) == (True, set())
    assert codes(checked, Severity.NOTE) <= {"no-shell", "passwd-odd"}
    assert checked.entries > 10


def test_every_archive_of_our_own_is_clean() -> None:
    """Of the images that flattening is tested with, some hold nothing, and one an owner that no worker has."""
    config = parse_config(b'{"architecture":"a","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}', "config")
    found = {}
    for vector in vectors():
        if vector["expect"] == "reject":
            continue
        image = Image(config, tuple(layers_of(vector["layers"])))
        with Spool() as spool:
            checked = check(map(bytes, bundle(image, Layout(), spool, Report(), range(1, 99))), "a.tar")
        found[vector["name"]] = codes(checked, Severity.BREAKS, Severity.DIFFERS)
    assert len(found) > 250
    assert {name for name, said in found.items() if said - {"rootfs-empty"}} == {"more-ids"}
    assert found["more-ids"] == {"id-unmappable"}


# The command


@pytest.fixture
def at(tmp_path: Path) -> Path:
    for vector in VECTORS:
        if vector.name in ("plain", "char", "owner-name"):
            (tmp_path / f"{vector.name}.tgz").write_bytes(vector.archive)
    return tmp_path


def test_an_archive_that_starts(at: Path) -> None:
    ran = run_here("check", str(at / "plain.tgz")).ok
    assert ran.out.decode() == (
        f"{at}/plain.tgz: a task would start as 0:0; 5 entries, {len(PLAIN)} bytes, 4608 unpacked, for a time "
        f"{4608 + max(len(PLAIN), len(META['data']) + 1)} on the worker's disk\n"
    )


def test_an_archive_that_breaks(at: Path) -> None:
    ran = run_here("check", str(at / "char.tgz"))
    assert ran.status == 6
    assert ran.out.decode().startswith("breaks: a device node cannot be made")
    for line in (
        "[device]",
        "\n  where: 'rootfs/dev/node'\n",
        "\n  with: GNU fails, busybox works\n",
        "\n  hint: pack",
    ):
        assert line in ran.out.decode()
    assert ran.err == f"ocirootfs: error: {at}/char.tgz: no task is sure to start from it: device\n"


def test_as_json(at: Path) -> None:
    ran = run_here("check", str(at / "owner-name.tgz"), "--json", "--regexp", "owner-(.*).tgz").ok
    said: dict[str, Any] = json.loads(ran.out)
    finding = said.pop("findings")[0]
    assert (said["starts"], said["version"], said["user"]) == (True, "name", {"uid": 0, "gid": 0})
    assert {"compressed", "expanded", "files", "entries", "disk_peak", "source"} <= set(said)
    assert {name: finding[name] for name in ("code", "severity", "where", "count", "gnu", "busybox")} == {
        "code": "owner-names", "severity": "differs", "where": ["rootfs/a"], "count": 1, "gnu": "differs",
        "busybox": "differs",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "stdin", "status", "said"),
    [
        (["check", "nowhere.tgz"], b"", 3, "there is no 'nowhere.tgz'"),
        (["check", "/"], b"", 8, "cannot read '/'"),
        (["check", "https://host/x.tgz"], b"", 2, "https URL, which no archive is read from"),
        (["check"], b"", 6, "not-an-archive"),
        (["check", "-", "--name", "x.TGZ"], PLAIN, 6, "suffix-busybox"),
        (["check", "-", "--regexp", "x"], PLAIN, 2, "has no group"),
        (["check", "-", "--name", "x.tgz", "--regexp", "y-(.*)"], PLAIN, 6, "version"),
        (["check", "-", "--name", "old/x-1.tgz", "--regexp", "new/x-(.*).tgz"], PLAIN, 6, "version"),
        (["check", "s3://bucket"], b"", 2, "names a bucket but no key"),
    ],
)
def test_how_it_ends(words: list[str], stdin: bytes, status: int, said: str) -> None:
    ran = run_here(*words, stdin=stdin)
    assert (ran.status, said in ran.err) == (status, True), ran


def test_standard_input() -> None:
    ran = run_here("check", stdin=PLAIN).ok
    assert ran.out.startswith(b"note: the name decides")
    assert run("check", "-", "--name", "a.tgz", stdin=PLAIN).ok.out.startswith(b"standard input: a task would start")


def test_names_that_a_terminal_would_obey() -> None:
    archive = of("x", "", file("rootfs/\x1b[2J", uid=77, uname="\x1b[2J")).archive
    ran = run_here("check", "-", "--name", "a.tgz", stdin=archive)
    assert (ran.status, b"\x1b" in ran.out) == (0, False)
    assert b"\\x1b[2J" in ran.out


# A bucket


def test_an_object(s3: S3Endpoint) -> None:
    s3.client.put_object(Bucket=s3.bucket, Key="ubuntu/ubuntu-1.tgz", Body=PLAIN)
    words = ["--endpoint-url", s3.endpoint, "--regexp", "ubuntu/ubuntu-(.*).tgz"]
    ran = run_here("check", f"s3://{s3.bucket}/ubuntu/ubuntu-1.tgz", *words).ok
    assert b"would start as 0:0; version 1; " in ran.out
    ran = run_here("check", f"s3://{s3.bucket}/ubuntu/ubuntu-2.tgz", *words)
    assert (ran.status, "cannot read s3://" in ran.err) == (3, True), ran.err


def test_an_object_that_ends_early() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\nConnection: close\r\n\r\n" + PLAIN
    options = {"retry_for": 0}
    with answering(answer) as store, pytest.raises(TemporaryError, match=r"cannot read s3://images/a\.tgz"):
        ocirootfs.check(
            "s3://images/a.tgz",
            s3_options=S3Options(endpoint_url=f"http://{store.host}", **options),  # type: ignore[arg-type]
        )


# The library


def test_the_library(at: Path, s3: S3Endpoint) -> None:
    assert ocirootfs.check(io.BytesIO(PLAIN), name="x-1.tgz", regexp="x-(.*).tgz").version == "1"
    assert ocirootfs.check(at / "plain.tgz").findings == ()
    assert ocirootfs.check(at / "owner-name.tgz", regexp="images/owner-(.*).tgz").version == "name"
    assert ocirootfs.check(io.BytesIO(PLAIN), name="a/x-1.tgz", regexp="a/x-(.*).tgz").version == "1"
    s3.client.put_object(Bucket=s3.bucket, Key="a.tgz", Body=PLAIN)
    assert ocirootfs.check(f"s3://{s3.bucket}/a.tgz", s3_client=s3.client).starts
    with pytest.raises(NotFoundError):
        ocirootfs.check(at / "none")
