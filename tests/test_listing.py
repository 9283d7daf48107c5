"""`ls`: what is in an image, in order, and one file of it with as little downloaded as that takes."""

from __future__ import annotations

import base64
import io
import json
import os
import pty
import subprocess
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

import ocirootfs
from ocirootfs.errors import NotFoundError, UsageError
from ocirootfs.listing import content, listing
from tests.commands import run_here, started
from tests.layers import OCI_MANIFEST, Built, Data, build, raw_bytes
from tests.servers.registry import FakeRegistry, Fault
from tests.test_pipeline import ACCEPTED, REJECTED, each, expected_of, vector_layout

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LAYERS: list[dict[str, Any]] = [
    {"entries": [
        {"type": "dir", "name": "etc", "mode": "0750", "uid": 1, "gid": 2, "mtime": 0},
        {"type": "file", "name": "etc/below", "data": "below"},
        {"type": "file", "name": "etc/issue", "data": "old"},
        {"type": "file", "name": "etc/gone", "data": "gone"},
        {"type": "file", "name": "b", "data": "plain"},
        {"type": "hardlink", "name": "c", "linkname": "b"},
    ]},
    {"entries": [
        {"type": "file", "name": "etc/issue", "data": "new"},
        {"type": "file", "name": "etc/.wh.gone"},
        {"type": "file", "name": "usr/bin/su", "data": "su", "mode": "4755", "mtime": 1_500_000_000},
        {"type": "hardlink", "name": "usr/bin/sg", "linkname": "usr/bin/su"},
        {"type": "symlink", "name": "bin", "linkname": "usr/bin"},
        {"type": "symlink", "name": "usr/up", "linkname": "../../etc/./issue"},
        {"type": "file", "name": "a\x1b[2J\n", "data": "\x1b[31mred\n\tend\n", "xattrs": {"user.x": "1"}},
        {"type": "char", "name": "null", "devmajor": 1, "devminor": 3, "mode": "0666"},
        {"type": "fifo", "name": "p", "mode": "1000"},
    ]},
]  # fmt: skip


@pytest.fixture(scope="module")
def built() -> Built:
    return build(LAYERS)


@pytest.fixture
def source(built: Built, tmp_path: Path) -> str:
    return f"oci:{built.layout(tmp_path / 'layout')}"


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry() as found:
        yield found


@pytest.fixture
def reference(registry: FakeRegistry, built: Built) -> str:
    return str(registry.add("a/image", "1", built.manifest, OCI_MANIFEST, built.blobs))


def layers_read(registry: FakeRegistry, built: Built) -> list[bool]:
    """Return which layers were asked for, the bottom first."""
    wanted = [layer["digest"] for layer in json.loads(built.manifest)["layers"]]
    return [any(digest in request.path for request in registry.requests) for digest in wanted]


NAMES = [b"./", b"a\x1b[2J\n", b"b", b"bin", b"c", b"etc/", b"etc/below", b"etc/issue", b"null", b"p", b"usr/",
         b"usr/bin/", b"usr/bin/sg", b"usr/bin/su", b"usr/up"]  # fmt: skip


def test_names_are_sorted(source: str) -> None:
    assert run_here("ls", source).ok.out == b"".join(name + b"\n" for name in NAMES)


@pytest.mark.parametrize("path", ["etc", "/etc/", "./usr/../etc"])
def test_a_path_to_start_from(path: str, source: str) -> None:
    assert run_here("ls", source, path).ok.out == b"etc/\netc/below\netc/issue\n"


def test_long(source: str) -> None:
    out = run_here("ls", source, "-l").ok.out.decode()
    assert out.splitlines() == [
        "drwxr-xr-x 0/0                  0 1970-01-01 00:00:00 ./",
        "-rw-r--r-- 0/0                 14 2020-09-13 12:26:40 a\\x1b[2J\\x0a",
        "-rw-r--r-- 0/0                  5 2020-09-13 12:26:40 b",
        "lrwxrwxrwx 0/0                  0 2020-09-13 12:26:40 bin -> usr/bin",
        "hrw-r--r-- 0/0                  0 2020-09-13 12:26:40 c link to b",
        "drwxr-x--- 1/2                  0 1970-01-01 00:00:00 etc/",
        "-rw-r--r-- 0/0                  5 2020-09-13 12:26:40 etc/below",
        "-rw-r--r-- 0/0                  3 2020-09-13 12:26:40 etc/issue",
        "crw-rw-rw- 0/0                1,3 2020-09-13 12:26:40 null",
        "p--------T 0/0                  0 2020-09-13 12:26:40 p",
        "drwxr-xr-x 0/0                  0 1970-01-01 00:00:00 usr/",
        "drwxr-xr-x 0/0                  0 1970-01-01 00:00:00 usr/bin/",
        "hrwsr-xr-x 0/0                  0 2017-07-14 02:40:00 usr/bin/sg link to usr/bin/su",
        "-rwsr-xr-x 0/0                  2 2017-07-14 02:40:00 usr/bin/su",
        "lrwxrwxrwx 0/0                  0 2020-09-13 12:26:40 usr/up -> ../../etc/./issue",
    ]


@pytest.mark.parametrize("mtime", ["99999999999999", "-99999999999999"])
def test_times_outside_all_calendars(mtime: str, tmp_path: Path) -> None:
    layout = build([{"entries": [{"type": "file", "name": "a", "mtime": mtime}]}]).layout(tmp_path / "layout")
    assert mtime in run_here("ls", f"oci:{layout}", "-l", "a").ok.out.decode()


def test_objects(source: str) -> None:
    found = {each["path"]: each for each in map(json.loads, run_here("ls", source, "--json").ok.out.splitlines())}
    assert found["null"] == {
        "path": "null", "type": "char", "mode": "0666", "uid": 0, "gid": 0, "size": 0, "device": [1, 3],
        "mtime_ns": 1_600_000_000_000_000_000,
    }  # fmt: skip
    assert found["a\x1b[2J\n"]["xattrs"] == {"user.x": base64.b64encode(b"1").decode()}
    assert found["usr/bin/sg"]["link"] == "usr/bin/su"


def _as_listed(node: Data) -> dict[str, Any]:
    """Return what a vector says of a path, in the words of --json."""
    found: dict[str, Any] = {}
    for name, value in node.items():
        match name:
            case "mode":
                found["mode"] = f"{int(value, 8):04o}"
            case "mtime":
                found["mtime_ns"] = int(Decimal(str(value)) * 10**9)
            case "uid" | "gid":
                found[name] = value
    return found


@each("vector", ACCEPTED)
def test_vectors(vector: Data, tmp_path: Path) -> None:
    source = vector_layout(vector, tmp_path / "layout")
    expected = expected_of(vector)
    ran = run_here("ls", source, "--json").accepted
    lines = [json.loads(line) for line in ran.out.splitlines()]
    names = [raw_bytes(line["path"]) for line in lines]
    assert names == sorted(names)
    found = {line["path"]: line for line in lines}
    if vector.get("complete", True):
        assert set(found) == {"", *expected}
    for path, facts in expected.items():
        wanted = _as_listed(facts)
        assert {name: found[path][name] for name in wanted} == wanted, path
        if "data" in facts:
            assert run_here("ls", source, f"--extract={path}").accepted.out == raw_bytes(facts["data"]), path


@each("vector", REJECTED)
def test_rejected_vectors(vector: Data, tmp_path: Path) -> None:
    ran = run_here("ls", vector_layout(vector, tmp_path / "layout"))
    assert (ran.status, ran.out) == (6, b"")


# One file


# What is asked for, what is printed, which layers (the bottom first) that takes.
FILES = [
    ("etc/issue", b"new", [False, True]),
    ("/usr/bin/sg", b"su", [False, True]),
    ("etc/below", b"below", [True, True]),
    ("c", b"plain", [True, True]),
    ("a\x1b[2J\n", b"\x1b[31mred\n\tend\n", [False, True]),
]


@pytest.mark.parametrize(("path", "data", "layers"), FILES)
def test_a_file_takes_no_layer_below_it(
    path: str, data: bytes, layers: list[bool], registry: FakeRegistry, reference: str, built: Built
) -> None:
    assert run_here("ls", reference, "--extract", path).ok.out == data
    assert layers_read(registry, built) == layers


@pytest.mark.parametrize(("path", "data"), [(path, data) for path, data, _ in FILES])
def test_a_file_out_of_a_pipe(path: str, data: bytes, source: str) -> None:
    stream = run_here("fetch", source).ok.out
    assert run_here("ls", "--extract", path, stdin=stream).ok.out == data
    cut = run_here("ls", "--extract", path, stdin=stream[:-1])
    assert (cut.status, cut.out) == (6, b"")


# What is asked for, what the error says, what the hint says.
NO_FILES = [
    ("etc/gone", "the image has no 'etc/gone'", ""),
    ("etc", "'etc' is no file but a directory", ""),
    ("/", "'/' is no file but a directory", ""),
    ("null", "'null' is no file but a character device", ""),
    ("bin", "'bin' is a symbolic link to 'usr/bin'", "'usr/bin'"),
    ("bin/su", "'bin' is a symbolic link to 'usr/bin'", "'usr/bin/su'"),
    ("usr/up", "'usr/up' is a symbolic link to '../../etc/./issue'", "'etc/issue'"),
]


@pytest.mark.parametrize(("path", "said", "hint"), NO_FILES)
def test_what_is_no_file(path: str, said: str, hint: str, source: str) -> None:
    ran = run_here("ls", source, "--extract", path)
    assert (ran.status, ran.out) == (3, b"")
    assert f"ocirootfs: error: {said}" in ran.err
    assert (f"  hint: within the image that is {hint}\n" in ran.err) == bool(hint)


def test_a_layer_that_is_altered_behind_the_file_gives_nothing_away(registry: FakeRegistry, reference: str) -> None:
    registry.faults.append(Fault("/blobs/", altered=True, times=1000, skip=1))
    ran = run_here("ls", reference, "--extract", "usr/bin/su")
    assert (ran.status, ran.out) == (6, b"")
    assert "layer 2" in ran.err


def test_a_name_given_twice_is_the_last_one(tmp_path: Path) -> None:
    twice: list[Data] = [{"type": "file", "name": "a", "data": "1"}, {"type": "file", "name": "a", "data": "22"}]
    source = f"oci:{build([{'entries': twice}]).layout(tmp_path / 'layout')}"
    stream = run_here("fetch", source).ok.out
    assert run_here("ls", source, "--extract", "a").ok.out == b"22"
    assert run_here("ls", "--extract", "a", stdin=stream).ok.out == b"22"
    assert json.loads(run_here("ls", "--json", "-", "a", stdin=stream).ok.out)["size"] == 2


def test_contents_are_not_kept_for_a_listing(tmp_path: Path) -> None:
    """A hidden file of 5 MiB would go to the temporary directory, which there is none of."""
    layers: list[Data] = [
        {"entries": [{"type": "file", "name": "a", "body_b64": base64.b64encode(bytes(5 << 20))}]},
        {"entries": [{"type": "file", "name": "a", "data": "small"}]},
    ]
    source = f"oci:{build(layers).layout(tmp_path / 'layout')}"
    nowhere = ("--tmpdir", str(tmp_path / "nowhere"))
    assert run_here("ls", source, *nowhere).ok.out == b"./\na\n"
    assert run_here("pack", source, "-o", str(tmp_path / "a.tgz"), *nowhere).status == 8


def test_a_terminal_is_told_no_commands(source: str) -> None:
    for words in (["a\x1b[2J\n"], ["--extract", "a\x1b[2J\n"]):
        ours, theirs = pty.openpty()
        with started("ls", source, *words, stdout=theirs, stdin=subprocess.DEVNULL) as process:
            os.close(theirs)
            shown = os.read(ours, 1 << 16)
            assert process.wait(30) == 0
        os.close(ours)
        assert b"\x1b" not in shown
        assert b"\\x1b[" in shown


# The library


def test_the_library(built: Built, tmp_path: Path) -> None:
    stream = run_here("fetch", f"oci:{built.layout(tmp_path / 'layout')}").ok.out
    with ocirootfs.open(io.BytesIO(stream)) as image:
        assert [entry.path for entry in listing(image, "etc")] == [b"etc", b"etc/below", b"etc/issue"]
    with ocirootfs.open(io.BytesIO(stream)) as image, content(image, "c") as pieces:
        assert b"".join(pieces) == b"plain"
    with ocirootfs.open(io.BytesIO(stream)) as image, pytest.raises(NotFoundError):
        listing(image, "nowhere")
    with ocirootfs.open(io.BytesIO(stream)) as image, pytest.raises(UsageError):
        listing(image, "../a")
