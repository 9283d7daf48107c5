"""What a user expects of the command line who has never seen it, but crane, skopeo, docker and aws."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pty
import re
import subprocess
import sys
import tarfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from ocirootfs import __version__
from tests import make_fixtures
from tests.commands import OCIROOTFS, Ran, environment, finished, pipe, run, run_here, started
from tests.layers import OCI_MANIFEST
from tests.servers.registry import FakeRegistry

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.servers.moto import S3Endpoint

VERBS = ("fetch", "pack", "unpack", "mirror", "inspect", "ls", "check", "completion")
GZIP = b"\x1f\x8b"


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry() as found:
        yield found


@pytest.fixture
def ubuntu(registry: FakeRegistry) -> str:
    image = make_fixtures.load()
    return str(registry.add("library/ubuntu", "17.04", image.manifest, OCI_MANIFEST, image.blobs))


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def at_a_terminal(*words: str, stdin: bool = False, stdout: bool = False) -> Ran:
    """Run a command whose standard input or output is a terminal."""
    ours, theirs = pty.openpty()
    streams: dict[str, Any] = {"stdin": theirs if stdin else subprocess.DEVNULL}
    if stdout:
        streams["stdout"] = theirs
    with started(*words, **streams) as process:
        os.close(theirs)
        ran = finished(process)
    os.close(ours)
    return ran


# What is typed, and what happens


@dataclass(frozen=True)
class Row:
    """A line that somebody types, with IMAGE for the image's name, and what comes of it."""

    typed: str
    status: int
    out: bytes = b""
    err: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    at: dict[str, bool] = field(default_factory=dict)
    """Which of `stdin` and `stdout` is a terminal."""


ROWS = [
    Row("", 2, err=("usage: ocirootfs", "fetch", "pack", "inspect", "ls", "examples:")),
    Row(
        "fetch IMAGE", 2, at={"stdout": True},
        err=("refusing to write an image archive to a terminal", "| ocirootfs pack, or -o FILE"),
    ),
    Row("fetch IMAGE | pack", 0, b"ubuntu-17.04.tgz\n", files=("ubuntu-17.04.tgz",)),
    Row("fetch IMAGE | pack -o -", 0, GZIP),
    Row("pack IMAGE", 0, b"ubuntu-17.04.tgz\n", files=("ubuntu-17.04.tgz",)),
    Row("pack IMAGE -o -", 2, at={"stdout": True}, err=("refusing to write an archive to a terminal", "-o FILE")),
    Row("pack", 2, at={"stdin": True}, err=("no SOURCE, and standard input is a terminal", "ocirootfs pack ubuntu")),
    Row("pack", 6, err=("standard input is empty", "before the pipe")),
    Row("inspect", 2, at={"stdin": True}, err=("no SOURCE, and standard input is a terminal",)),
    Row("ls", 2, at={"stdin": True}, err=("no SOURCE, and standard input is a terminal",)),
    Row("fetch IMAGE | ls - usr/bin", 0, b"usr/bin/\nusr/bin/zones\n"),
    Row("ls IMAGE -q usr/bin", 0, b"usr/bin/\nusr/bin/zones\n"),
    Row("inspect IMAGE --field created", 0, b""),
    # Words that are not quite right
    Row("pak IMAGE", 2, err=("there is no 'pak', did you mean pack?",)),
    Row("pull IMAGE", 2, err=("there is no 'pull', did you mean fetch?",)),
    Row("export IMAGE", 2, err=("there is no 'export', did you mean pack?",)),
    Row("list IMAGE", 2, err=("there is no 'list', did you mean ls?",)),
    Row("xyzzy", 2, err=("there is no 'xyzzy' (there are fetch, pack",)),
    Row("pack IMAGE --plaform linux/arm64", 2, err=("no option --plaform", "did you mean --platform?; ocirootfs pack")),
    Row("pack IMAGE --outptu=a.tgz", 2, err=("no option --outptu", "did you mean --output?")),
    Row("pack IMAGE --tls-verify=false", 2, err=("no option --tls-verify", "did you mean --insecure?")),
    Row("pack IMAGE --layout rotfs", 2, err=("argument --layout: there is no 'rotfs', did you mean rootfs?",)),
    Row("pack IMAGE --if-exists updaet", 2, err=("did you mean update?",)),
    Row("pack IMAGE again", 2, err=("unexpected 'again'", "-o says where to")),
    Row("inspect IMAGE again", 2, err=("unexpected 'again'", "hint: ocirootfs inspect --help")),
    Row("help", 2, err=("there is no 'help', did you mean --help?",)),
    Row("version", 2, err=("there is no 'version', did you mean --version?",)),
    Row("-q pack IMAGE", 2, err=("no option -q", "options stand behind the verb")),
    Row("pack IMAGE --output=", 2, err=("the destination is an empty name", "s3://BUCKET/KEY, or a path")),
    Row("fetch IMAGE --output=", 2, err=("the destination is an empty name",)),
    Row("pack IMAGE -o s3:/images/a.tgz", 2, err=("'s3:/images/a.tgz' is no place in a bucket", "s3://BUCKET/KEY")),
    Row("pack IMAGE --result=", 2, err=("--result '' names no file", "a path")),
    Row("pack IMAGE --result -", 2, err=("--result '-' names no file", "--json prints the same")),
    Row("pack IMAGE -o a.tgz --result ./a.tgz", 2, err=("--result would replace the archive 'a.tgz'",)),
    Row("pack IMAGE --result ubuntu-17.04.tgz", 2, err=("--result would replace the archive 'ubuntu-17.04.tgz'",)),
    Row("mirror IMAGE --timeout nan", 2, err=("argument --timeout: 'nan' is not a number of seconds",)),
    Row("inspect IMAGE --timeout 0", 2, err=("'0' is no time to wait for an answer",)),
    Row("fetch IMAGE --timeout 1e99", 2, err=("'1e99' is no time to wait for an answer",)),
    Row("pack IMAGE --max-wait=-1", 2, err=("argument --max-wait: '-1' is not a number of seconds",)),
    Row("pack IMAGE --s3-retry-for soon", 2, err=("argument --s3-retry-for: 'soon' is not a number of seconds",)),
    Row("ls IMAGE --retries=-1", 2, err=("argument --retries: '-1' is not a whole number",)),
    Row("pack IMAGE --threads x", 2, err=("argument --threads: 'x' is not a whole number",)),
    Row("check IMAGE", 3, err=("there is no '", "what ocirootfs pack makes")),
    Row("mirror IMAGE", 3, err=("there is no file '", "LIST is a YAML file")),
    Row("pack --plat linux/arm64", 2, err=("no option --plat",)),
    Row("inspect IMAGE --trust-realm http://x", 2, err=("argument --trust-realm: 'http://x' is not a host",)),
    Row("inspect IMAGE --insecure-host=", 2, err=("argument --insecure-host: '' is not a host",)),
    Row("check IMAGE --ca-file=", 2, err=("argument --ca-file: this is an empty name",)),
    Row("pack IMAGE --cache-dir=", 2, err=("argument --cache-dir: this is an empty name",)),
    Row("fetch --bogus", 2, err=("there is no option --bogus",)),
    Row("completion --shell", 2, err=("there is no option --shell",)),
    Row("pack IMAGE --level 10", 2, err=("argument --level: there is no '10' (there are 1, 2",)),
    Row("mirror IMAGE --sweep old", 2, err=("argument --sweep: 'old' is not a number of hours",)),
    Row("inspect IMAGE --password-stdin", 2, err=("--password-stdin is a password without a user", "--creds USER")),
    Row("inspect IMAGE --creds=", 2, err=("--creds has no user",)),
    Row("inspect IMAGE --creds me --no-creds", 2, err=("--no-creds and credentials exclude each other",)),
    Row("check s3://images/", 2, err=("'s3://images/' is a folder, not an object",)),
    Row("check s3://images", 2, err=("names a bucket but no key", "s3://images/KEY")),
    Row("pack https://hub.docker.com/_/ubuntu", 2, err=("is a URL", "hint: such as ubuntu:17.04")),
    Row(f"pack IMAGE --source-date-epoch {'0' * 30}9{'0' * 18}", 2, err=("is not a number of seconds since 1970",)),
    Row(f"pack IMAGE --source-date-epoch 1{'0' * 5000}", 2, err=("is not a number of seconds since 1970",)),
    Row("fetch IMAGE -o ./", 0, b"./ubuntu-17.04.tar\n", files=("ubuntu-17.04.tar",)),
]  # fmt: skip


def _ran(row: Row, image: str) -> Ran:
    first, _, second = row.typed.replace("IMAGE", image).partition(" | ")
    words = first.split()
    if second:
        fetched, packed = pipe(words[1:], second.split()[1:]) if second.startswith("pack") else _piped(words, second)
        assert (fetched.status, fetched.err) == (0, "")
        return packed
    return at_a_terminal(*words, **row.at) if row.at else run(*words)


def _piped(first: Sequence[str], second: str) -> tuple[Ran, Ran]:
    fetched = run(*first)
    return fetched, run(*second.split(), stdin=fetched.out)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.typed or 'nothing'} {' '.join(row.at)}")
def test_what_is_typed(row: Row, ubuntu: str, here: Path) -> None:
    ran = _ran(row, ubuntu)
    assert ran.status == row.status, ran
    assert ran.out.startswith(row.out) if row.out == GZIP else row.out in (ran.out, b""), ran
    assert bool(ran.out) == (not row.status), ran
    assert all(text in ran.err for text in row.err), ran.err
    assert "Traceback" not in ran.err
    assert sorted(path.name for path in here.iterdir()) == sorted(row.files)
    if not row.status:
        assert ran.err == ""


@pytest.mark.parametrize("option", ["--env=A=", "--user=", "--label=a=", "--unset-env=", "--resource-type="])
def test_text_is_utf_8(option: str, ubuntu: str, here: Path) -> None:
    ran = run("pack", ubuntu, f"{option}{os.fsdecode(bytes([0xE9]))}")
    assert (ran.status, f"argument {option.partition('=')[0]}: this is not UTF-8" in ran.err) == (2, True), ran
    assert list(here.iterdir()) == []


def test_text_is_utf_8_in_any_locale(ubuntu: str, here: Path) -> None:
    plain = environment(LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    run("pack", ubuntu, "-o", "a.tgz", "--label", "who=Jürgen", "--user", "jürgen", env=plain).ok  # noqa: B018
    with tarfile.open(here / "a.tgz") as archive:
        said = {
            name: json.load(archive.extractfile(name) or pytest.fail(name)) for name in ("labels.json", "metadata.json")
        }
    assert (said["labels.json"]["who"], said["metadata.json"]["user"]) == ("Jürgen", "jürgen")


def test_a_file_that_looks_like_an_image_is_pointed_at(here: Path) -> None:
    (here / "weird").mkdir()
    ran = run("pack", "weird", "--retries", "0", env=environment(HTTPS_PROXY="http://127.0.0.1:1", NO_PROXY=None))
    assert (ran.status, "hint: './weird' is what lies here" in ran.err) == (5, True), ran


@pytest.mark.parametrize("typed", ["pack IMAGE > x.tgz", "pack IMAGE > x.tar.gz"])
def test_a_redirected_archive_is_not_a_name(typed: str, ubuntu: str, here: Path) -> None:
    name = typed.rpartition(" ")[2]
    with (here / name).open("wb") as out:
        ran = run("pack", ubuntu, stdout=out)
    assert (ran.status, "add -o - to write the archive to standard output, or name it with -o" in ran.err) == (2, True)


@pytest.mark.parametrize("words", [["fetch", "pack"], ["pack"]])
def test_into_a_bucket(words: list[str], ubuntu: str, s3: S3Endpoint) -> None:
    to = ["-o", f"s3://{s3.bucket}/ubuntu/", "--endpoint-url", s3.endpoint]
    ran = pipe([ubuntu], to)[1] if len(words) == 2 else run("pack", ubuntu, *to)
    assert (ran.status, ran.out) == (0, f"s3://{s3.bucket}/ubuntu/ubuntu-17.04.tgz\n".encode()), ran
    assert s3.keys() == ["ubuntu/ubuntu-17.04.tgz"]


def test_an_archive_of_docker_save(here: Path) -> None:
    """Written by hand: `manifest.json`, a config and plain layers, as Docker did before 25."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as files:
        files.addfile(tarfile.TarInfo("hello"))
    diff_id = "sha256:" + hashlib.sha256(layer.getvalue()).hexdigest()
    config = {"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": [diff_id]}}
    manifest = [{"Config": "c.json", "RepoTags": ["my/app:latest"], "Layers": ["l/layer.tar"]}]
    saved = io.BytesIO()
    with tarfile.open(fileobj=saved, mode="w") as files:
        for name, data in (("c.json", json.dumps(config).encode()), ("l/layer.tar", layer.getvalue()),
                           ("manifest.json", json.dumps(manifest).encode())):  # fmt: skip
            info = tarfile.TarInfo(name)
            info.size = len(data)
            files.addfile(info, io.BytesIO(data))
    assert run_here("pack", stdin=saved.getvalue()).ok.out == b"app-latest.tgz\n"
    assert run_here("ls", stdin=saved.getvalue()).ok.out == b"./\nhello\n"
    assert run_here("inspect", "--field", "digest", stdin=saved.getvalue()).status == 3


# Help


@pytest.mark.parametrize(("verb", "rows"), [("", 30), *((verb, 65 if verb == "pack" else 45) for verb in VERBS)])
def test_help_has_an_example_and_fits_a_screen(verb: str, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With 80 columns; that of `pack` a tall one."""
    monkeypatch.setenv("COLUMNS", "82")  # argparse leaves two of them free
    ran = run_here(*verb.split(), "--help").ok
    lines = ran.out.decode().splitlines()
    assert max(map(len, lines)) <= 80, max(lines, key=len)
    assert len(lines) <= rows
    examples = lines[lines.index("examples:") + 1 :]
    assert examples[0].startswith("  ")
    assert any(f"ocirootfs {verb}" in line for line in examples)


@pytest.mark.parametrize("verb", VERBS)
def test_all_help_has_all_options(verb: str) -> None:
    short, long = (run_here(verb, word).ok.out.decode() for word in ("--help", "--help-all"))
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", short.partition("examples:")[0]))
    assert {name for name in named if f"{name} " not in long and f"{name}\n" not in long} == set()
    assert "more options" not in long
    assert len(long) > len(short) or verb == "completion"


# Start-up

_LOADED = """\
import sys, ocirootfs.cli
try:
    ocirootfs.cli.main(sys.argv[1:])
except SystemExit:
    pass
heavy = {"requests", "urllib3", "boto3", "botocore", "tqdm", "yaml"}
if sys.argv[1] in ("--help", "--version"):
    heavy |= {"logging", "dataclasses", "json", "pathlib", "difflib", "ocirootfs.cli.pack", "ocirootfs.api"}
sys.stderr.write(" ".join(sorted(heavy & set(sys.modules))))
"""


@pytest.mark.parametrize(
    "words",
    [["--version"], ["--help"], *([verb, "--help"] for verb in VERBS), ["completion", "bash"], ["inspect", "oci:ZONES"],
     ["ls", "oci:ZONES"], ["pack", "oci:ZONES", "-o", "a.tgz"]],
    ids=" ".join,
)  # fmt: skip
def test_local_work_loads_no_network_library(words: list[str]) -> None:
    words = [word.replace("ZONES", str(make_fixtures.ZONES)) for word in words]
    ran = run(command=(sys.executable, "-c", _LOADED, *words))
    assert (ran.status, ran.err) == (0, "")
    assert ran.out


@pytest.mark.parametrize("words", [["--version"], ["pack", "--help"], ["pack", "oci:nowhere"], ["no-such-verb"], []])
def test_the_command_and_the_module_are_the_same(words: list[str]) -> None:
    code = "import sys, ocirootfs.cli; sys.exit(ocirootfs.cli.main())"  # what the installed command does
    module, command = run(*words), run(command=(sys.executable, "-c", code, *words))
    assert module == command


def test_version() -> None:
    assert run("--version").ok.out.decode() == f"ocirootfs {__version__}\n"
    assert OCIROOTFS[1:] == ("-m", "ocirootfs")


# Anybody, anywhere


@pytest.mark.parametrize("verb", ["inspect", "ls"])
def test_nothing_depends_on_the_process(verb: str, here: Path) -> None:
    wanted = run(verb, f"oci:{make_fixtures.ZONES}").ok.out
    ways: list[dict[str, Any]] = [
        {"env": environment(LC_ALL="C", TZ="Asia/Kolkata", HOME=None, PYTHONHASHSEED="1")},
        {"env": environment(LC_ALL="POSIX", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0", TERM=None)},
        {"umask": 0o077, "start_new_session": True},
    ]
    for way in ways:
        assert run(verb, f"oci:{make_fixtures.ZONES}", **way).ok.out == wanted


@pytest.mark.parametrize("verb", ["inspect", "ls"])
def test_a_reader_that_has_seen_enough(verb: str) -> None:
    with started(verb, f"oci:{make_fixtures.ZONES}") as process:
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None
        ran = finished(process)
    assert (ran.status, ran.err) == (141, "")


@pytest.mark.parametrize("words", [["pack", "oci:nowhere"], ["pack", "--nonsense"], []])
def test_nobody_listens_to_errors(words: list[str]) -> None:
    """Without a standard error, what would be said there goes nowhere, least of all into the output."""
    command = ("sh", "-c", 'exec "$@" 2>&-', "sh", *OCIROOTFS)
    ran = run(*words, command=command)
    assert ran.status in (2, 3)
    assert ran.out == b""
