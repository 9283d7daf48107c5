"""Standard output holds data and nothing else, whatever is said meanwhile, and whoever reads it."""

from __future__ import annotations

import gzip
import io
import json
import os
import pty
import re
import sys
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from ocirootfs import __version__
from ocirootfs.cli import VERBS
from tests.commands import OCIROOTFS, environment, finished, run, run_here, started
from tests.layers import OCI_MANIFEST, build
from tests.servers.registry import FakeRegistry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.servers.moto import S3Endpoint

# Warned of in each verb that reads the layer, or writes an archive of it: 'a' is no directory, and 70000 a high id.
ODD = [
    {"type": "file", "name": "a", "data": "content\n"},
    {"type": "file", "name": "a/b", "data": "b", "uid": 70_000},
    {"type": "char", "name": "null", "devmajor": 1, "devminor": 3},
]
NOISES = (
    ("-v", "--progress", "bar"), ("--debug",), ("--progress", "plain"), ("--log-format", "json", "-vv"),
)  # fmt: skip


@dataclass(frozen=True)
class World:
    """Where the words of a command are: `IMAGE`, `ARCHIVE`, `BUCKET`, `LIST`."""

    image: str
    s3: S3Endpoint

    def words(self, typed: str, image: str | None = None) -> list[str]:
        named = {"IMAGE": image or self.image, "BUCKET": self.s3.bucket}
        return re.sub("IMAGE|BUCKET", lambda found: named[found[0]], typed).split()


@pytest.fixture
def world(s3: S3Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3.endpoint)
    monkeypatch.setenv("HOME", str(tmp_path))
    image = build([{"entries": ODD}])
    with FakeRegistry() as registry:
        reference = str(registry.add("team/app", "1", image.manifest, OCI_MANIFEST, image.blobs))
        assert run_here("pack", reference, "-q", "-o", "ready.tgz").status == 0
        to = f"s3://{s3.bucket}/m/{{name}}.tgz"
        for name, images in (("list.yml", [reference]), ("half.yml", [reference, f"{registry.host}/team/app:2"])):
            listed = {"defaults": {"to": to, "version_as": "1", "platforms": ["linux/amd64"]}, "images": images}
            (tmp_path / name).write_text(yaml.safe_dump(listed))
        yield World(reference, s3)


# What is data


def _nothing(out: bytes) -> None:
    assert out == b""


def _line(text: str) -> Callable[[bytes], None]:
    def read(out: bytes) -> None:
        assert re.fullmatch(text.encode() + b"\n", out), out

    return read


def _lines(text: str) -> Callable[[bytes], None]:
    def read(out: bytes) -> None:
        assert out
        assert all(re.fullmatch(text.encode(), line) for line in out.splitlines()), out

    return read


def _archive(*names: str, squeezed: bool = False) -> Callable[[bytes], None]:
    def read(out: bytes) -> None:
        plain = gzip.decompress(out) if squeezed else out
        with tarfile.open(fileobj=io.BytesIO(plain), mode="r:") as files:
            assert set(names) <= set(files.getnames())
            assert len(plain) - files.offset < 10_240
            assert not plain[files.offset :].strip(b"\0")

    return read


def _object(*keys: str) -> Callable[[bytes], None]:
    def read(out: bytes) -> None:
        assert set(keys) <= set(json.loads(out))

    return read


def _objects(out: bytes) -> None:
    assert {json.loads(line)["type"] for line in out.splitlines()} == {"directory", "file", "char"}


def _pipeline(out: bytes) -> None:
    assert set(yaml.safe_load(out)) == {"resources", "jobs"}


_TABLE = r"(STATUS|packed|pending|failed) .*"
_FINDING = r"(breaks|differs|note): .*|  (where|with|hint): .*|\S+: a task would start as 0:0; .* disk"

OUTPUTS: dict[str, Callable[[bytes], None]] = {
    "fetch IMAGE": _archive("oci-layout", "index.json", "manifest.json"),
    "fetch IMAGE -o -": _archive("oci-layout", "index.json", "manifest.json"),
    "fetch IMAGE -o a.tar": _nothing,
    "pack IMAGE": _line(r"app-1\.tgz"),
    "pack IMAGE -o a.tar": _line(r"a\.tar"),
    "pack IMAGE -o -": _archive("metadata.json", "rootfs/a/b", squeezed=True),
    "pack IMAGE -o - --layout rootfs": _archive("a/b"),
    "pack IMAGE -o - --compress none": _archive("metadata.json"),
    "pack IMAGE -o - --layout resource-type": _archive("resource_metadata.json", "rootfs.tgz"),
    "pack IMAGE --json": _object("digest", "destination"),
    "pack IMAGE --result result.json": _line(r"app-1\.tgz"),
    "pack IMAGE -o s3://BUCKET/p/ --if-exists replace": _line(r"s3://\S+/p/app-1\.tgz"),
    "pack IMAGE -o s3://BUCKET/p/ --if-exists replace --json": _object("digest", "etag"),
    "pack IMAGE -o s3://BUCKET/p/app-1.tgz --check-regexp p/app-(.*).tgz": _line(r"s3://\S+/p/app-1\.tgz"),
    "unpack IMAGE tree": _line("tree"),
    "inspect IMAGE": _object("reference", "digest", "warnings"),
    "inspect IMAGE --field digest": _line("sha256:[0-9a-f]{64}"),
    "inspect IMAGE --raw": _object("schemaVersion", "layers"),
    "ls IMAGE": _lines(r"\./|a/|a/b|null"),
    "ls IMAGE -l": _lines(r"[dc-][rwx-]{9} \d+/\d+ .*"),
    "ls IMAGE --json": _objects,
    "ls IMAGE --extract a/b": lambda out: _same(out, b"b"),
    "check ready.tgz": _lines(_FINDING),
    "check ready.tgz --json": _object("starts", "findings"),
    "mirror list.yml --if-exists replace": _lines(_TABLE),
    "mirror list.yml --if-exists replace --json": _object("packed", "images"),
    "mirror list.yml --dry-run": _lines(_TABLE),
    "mirror list.yml --dry-run --json": _object("pending", "images"),
    "mirror list.yml --pipeline": _pipeline,
    "completion bash": lambda out: _same(out.splitlines()[-1].split()[0], b"complete"),
}


def _same(found: bytes, wanted: bytes) -> None:
    assert found == wanted


def _timeless(out: bytes) -> bytes:
    return re.sub(rb'"seconds": [\d.]+', b"", out)


def _made_anew(world: World, typed: str, *more: str) -> Any:
    if typed.startswith("unpack"):
        run(command=("rm", "-rf", "tree"))
    return run_here(*world.words(typed), *more)


@pytest.mark.parametrize("typed", OUTPUTS)
def test_data_is_the_same_however_much_is_said(typed: str, world: World) -> None:
    quiet = _made_anew(world, typed, "--quiet").ok
    OUTPUTS[typed](quiet.out)
    said = [_made_anew(world, typed, *noise) for noise in NOISES]
    assert [(ran.status, _timeless(ran.out)) for ran in said] == [(0, _timeless(quiet.out))] * len(NOISES)
    assert said[1].err or typed.startswith(("completion", "check", "mirror list.yml --pipeline")), "nothing was said"


def test_every_verb_prints_something_above() -> None:
    assert {typed.split()[0] for typed in OUTPUTS} == set(VERBS)


BARS = (
    "fetch IMAGE", "pack IMAGE --json", "pack IMAGE -o - --compress none", "unpack IMAGE tree", "ls IMAGE --json",
    "mirror list.yml --if-exists replace --json",
)  # fmt: skip


@pytest.mark.parametrize("typed", BARS)
def test_a_bar_is_no_data(typed: str, world: World) -> None:
    """It is drawn on a terminal, which is not where the data go."""
    ours, theirs = pty.openpty()
    with started(*world.words(typed), "--progress=bar", stderr=theirs, env=environment(TERM="xterm")) as process:
        os.close(theirs)
        ran = finished(process)
    os.close(ours)
    assert ran.status == 0
    OUTPUTS[typed](ran.out)


@pytest.mark.parametrize("noise", [("--debug",), ("--log-format", "json")], ids=" ".join)
def test_an_error_prints_no_data(noise: tuple[str, ...], world: World) -> None:
    for typed in OUTPUTS:
        if "IMAGE" in typed:
            ran = run_here(*world.words(typed, f"{world.image}7"), *noise)
            assert (ran.status, ran.out) == (3, b""), ran
            assert "team/app:17" in ran.err


@pytest.mark.parametrize(
    "typed", ["check nowhere.tgz", "mirror nowhere.yml", "completion tcsh", "pack --nonsense", "p"]
)
def test_a_mistake_prints_no_data(typed: str, world: World) -> None:
    for more in ([], ["--json"], ["--debug"]):
        ran = run_here(*typed.split(), *more)
        assert (ran.status in (2, 3), ran.out) == (True, b"")
        assert ran.err


def test_what_failed_is_data_where_the_rest_went_on(world: World) -> None:
    ran = run_here("mirror", "half.yml", "--json", "-vv")
    assert (ran.status, [each["status"] for each in json.loads(ran.out)["images"]]) == (3, ["packed", "failed"])
    ran = run_here("mirror", "half.yml", "-vv")
    assert [line.split()[0] for line in ran.out.splitlines()] == [b"STATUS", b"kept", b"failed"]


# Readers


@pytest.mark.parametrize(
    "words", [["--version"], ["--help"], ["ls", "--help"], ["pack", "--help-all"], ["completion", "bash"]], ids=" ".join
)
@pytest.mark.parametrize("unbuffered", [None, "1"])
def test_a_reader_who_has_left(words: list[str], unbuffered: str | None) -> None:
    with started(*words, env=environment(PYTHONUNBUFFERED=unbuffered)) as process:
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None
        ran = finished(process)
    assert (ran.status, ran.err) == (141, "")


@pytest.mark.parametrize("words", [["--version"], ["pack", "--help-all"], ["completion", "zsh"]], ids=" ".join)
@pytest.mark.parametrize("unbuffered", [None, "1"])
def test_a_full_disk(words: list[str], unbuffered: str | None) -> None:
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        ran = run(*words, stdout=full, env=environment(PYTHONUNBUFFERED=unbuffered))
    assert (ran.status, ran.err) == (8, "ocirootfs: error: cannot write standard output: No space left on device\n")


@pytest.mark.parametrize("words", [["--version"], ["pack", "--help"]], ids=" ".join)
def test_nobody_wants_it(words: list[str]) -> None:
    ran = run(*words, command=("sh", "-c", 'exec "$@" >&-', "sh", *OCIROOTFS))
    assert (ran.status, ran.out, ran.err) == (0, b"", "")


def test_version_is_a_line() -> None:
    assert run_here("--version").ok.out == f"ocirootfs {__version__}\n".encode()


# Bytes of names, in any locale

LOCALES: list[dict[str, str | None]] = [
    {"LC_ALL": "C.UTF-8"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    {"LC_ALL": "C.UTF-8", "PYTHONIOENCODING": "ascii"},
]


@pytest.mark.parametrize("locale", LOCALES, ids=str)
@pytest.mark.parametrize("name", [b"w\xc3\xb6rld", b"\xff a"], ids=repr)
def test_a_name_comes_out_as_it_went_in(
    name: bytes, locale: dict[str, str | None], world: World, tmp_path: Path
) -> None:
    env = environment(**locale)
    place = os.fsdecode(b"./" + name)
    for words, made in (
        (["pack", world.image, "-o", f"{place}.tgz"], f"{place}.tgz"),
        (["unpack", world.image, place], place),
    ):
        ran = run(*words, "-q", env=env)
        assert (ran.status, ran.out, ran.err) == (0, os.fsencode(made) + b"\n", "")
        assert (tmp_path / made).exists()
    for verb in ("fetch", "mirror"):
        assert run(verb, "--help-all", env=env).ok.out == run_here(verb, "--help-all").ok.out


# Ctrl-C before the command itself hears of it

_INTERRUPTED = """\
import os, signal, sys
import ocirootfs.cli
def hear(event, found):
    if event == "import" and found[0] == "ocirootfs.cli.console":
        os.kill(os.getpid(), signal.SIGINT)
sys.addaudithook(hear)
sys.exit(ocirootfs.cli.main(sys.argv[1:]))
"""


def test_stopped_while_it_starts() -> None:
    ran = run("inspect", "oci:nowhere", command=(sys.executable, "-c", _INTERRUPTED))
    assert (ran.status, ran.out, ran.err) == (130, b"", "ocirootfs: SIGINT: stopped\n")
