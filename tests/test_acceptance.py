"""What a user may count on, promise by promise: where each is held by tests, and the few that are held nowhere else."""

from __future__ import annotations

import ast
import gzip
import io
import json
import os
import pty
import re
import resource
import sys
import tarfile
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import ocirootfs
from tests import make_fixtures
from tests.commands import environment, finished, pipe, run, run_here, started
from tests.layers import FIXTURES, OCI_MANIFEST, Data, build
from tests.servers.registry import FakeRegistry
from tests.trees import read_tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.servers.moto import S3Endpoint

HERE = Path(__file__)
ZONES = f"oci:{make_fixtures.ZONES}"

PROMISES = {
    "nothing typed: short help, status 2": "test_interface.test_what_is_typed",
    "fetch at a terminal is refused": "test_interface.test_what_is_typed",
    "fetch > FILE is read by skopeo": "test_pipeline_real.test_skopeo_reads_what_fetch_writes",
    "fetch > FILE is loaded by podman": "test_pipeline_real.test_podman_loads_what_fetch_writes",
    "fetch | pack writes NAME-TAG.tgz and prints that": "test_interface.test_what_is_typed",
    "so it does at a terminal": "test_acceptance.test_pack_at_a_terminal",
    "pack > x.tgz is refused": "test_interface.test_a_redirected_archive_is_not_a_name",
    "pack -o - writes to standard output": "test_interface.test_what_is_typed",
    "pack -o s3://BUCKET/PREFIX/": "test_interface.test_into_a_bucket",
    "pack IMAGE -o s3://BUCKET/KEY": "test_pipeline_real.test_from_registry_to_bucket_to_tree",
    "docker save | pack": "test_interface.test_an_archive_of_docker_save",
    "podman save | pack": "test_pipeline_real.test_pack_reads_what_podman_saves",
    "skopeo copy | pack": "test_pipeline_real.test_pack_reads_what_skopeo_writes",
    "pack < /dev/null: status 6, no file and no object": "test_acceptance.test_nothing_comes_of_nothing",
    "pack at a terminal without SOURCE does not hang": "test_interface.test_what_is_typed",
    "fetch draws no bar before a pipe": "test_pipeline.test_fetch_draws_nothing_before_a_pipe",
    "the bar knows its total": "test_progress.test_a_bar_has_total_rate_and_what_is_left",
    "fetch | pack draws one bar, which knows its total": "test_acceptance.test_one_bar_for_two_commands",
    "standard output holds data alone": "test_streams.test_data_is_the_same_however_much_is_said",
    "and none with an error": "test_streams.test_an_error_prints_no_data",
    "names come out as they went in": "test_streams.test_a_name_comes_out_as_it_went_in",
    "default names stay": "test_acceptance.test_a_default_name_stays",
    "names of results stay": "test_acceptance.test_names_of_results_stay",
    "members of archives stay, and their order": "test_acceptance.test_members_stay",
    "fetch killed anywhere publishes nothing": "test_pipeline.test_fetch_is_killed",
    "a pipe cut anywhere publishes nothing": "test_pipeline.test_cut_anywhere",
    "nobody, without home or a place to write: the same bytes": "test_pipeline.test_a_user_without_name_or_home",
    "nobody, into a bucket, and help": "test_acceptance.test_nobody_in_particular",
    "GNU tar, busybox tar, bsdtar, in a user namespace": "test_extraction_real.test_every_vector",
    "what crane export gets wrong": "test_acceptance.test_what_crane_got_wrong",
    "what Concourse's S3 resource looks at": "test_acceptance.test_what_the_s3_resource_sees",
    "what Concourse's S3 resource does": "test_pipeline_real.test_from_registry_to_bucket_to_tree",
    "500 columns: a bar of 100": "test_pipeline.test_the_bar_on_a_wide_terminal",
    "no carriage return in a log": "test_pipeline.test_a_log_has_no_carriage_returns",
    "TERM=dumb": "test_progress.test_terminals_without_a_bar",
    "NO_COLOR": "test_progress.test_a_bar_has_total_rate_and_what_is_left",
    "SIGTERM, SIGINT: nothing left, within 5 s": "test_pipeline.test_stopped_during_an_upload",
    "SIGPIPE: 141, no traceback": "test_pipeline.test_a_reader_that_has_seen_enough",
    "Retry-After of six hours: an error at once": "test_transport.test_a_wait_that_is_too_long_is_an_error_at_once",
    "and the registry's own words": "test_registry_errors.test_what_is_said",
    "a store that refuses newer checksums": "test_s3.test_checksums_are_left_out_where_an_endpoint_is_given",
    "--help loads neither requests nor boto3": "test_interface.test_local_work_loads_no_network_library",
    "--help starts soon": "test_acceptance.test_help_starts_soon",
    "--help | head: 141, no traceback": "test_streams.test_a_reader_who_has_left",
    "the same bytes for any user, locale and time": "test_pipeline.test_the_same_bytes_whatever_the_process_is_like",
}


@pytest.mark.parametrize("promise", PROMISES)
def test_a_promise_has_its_test(promise: str) -> None:
    module, _, name = PROMISES[promise].partition(".")
    tree = ast.parse(HERE.with_name(f"{module}.py").read_text("utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.fixture
def ubuntu() -> Iterator[str]:
    image = make_fixtures.load()
    with FakeRegistry() as registry:
        yield str(registry.add("library/ubuntu", "17.04", image.manifest, OCI_MANIFEST, image.blobs))


def test_pack_at_a_terminal(ubuntu: str, tmp_path: Path) -> None:
    """As behind a pipe: what is written does not depend on who looks."""
    ours, theirs = pty.openpty()
    with started("pack", ubuntu, "-q", stdout=theirs, stdin=theirs, cwd=tmp_path) as process:
        os.close(theirs)
        ran = finished(process)
    printed = os.read(ours, 4096)
    os.close(ours)
    assert (ran.status, printed) == (0, b"ubuntu-17.04.tgz\r\n"), ran
    assert [path.name for path in tmp_path.iterdir()] == ["ubuntu-17.04.tgz"]


@pytest.mark.parametrize("words", [[], ["-o", "a.tgz"], ["-o", "s3"]])
def test_nothing_comes_of_nothing(words: list[str], s3: S3Endpoint, tmp_path: Path) -> None:
    if words[-1:] == ["s3"]:
        words = ["-o", f"s3://{s3.bucket}/a.tgz", "--endpoint-url", s3.endpoint]
    with Path(os.devnull).open("rb") as nothing, started("pack", *words, stdin=nothing, cwd=tmp_path) as process:
        ran = finished(process)
    assert (ran.status, "standard input is empty" in ran.err) == (6, True)
    assert (list(tmp_path.iterdir()), s3.keys(), s3.uploads()) == ([], [], [])


@pytest.mark.parametrize("output", ["o", "layer", "er"])
def test_an_error_says_that_nothing_was_written(output: str, tmp_path: Path) -> None:
    """Whatever the output is called: a message with that word in it has not said so."""
    image = build([{"entries": [{"type": "file", "name": "a"}], "flip_wrapped": 20}])
    source = f"oci:{image.layout(tmp_path / 'layout')}"
    ran = run("pack", source, "-o", output, cwd=tmp_path)
    assert ran.status == 6
    assert f"; nothing was written to {output}\n" in ran.err


# The interpreter of a developer may lie where nobody else can read it: then its modules are loaded before rights go.
_AS_NOBODY = """\
import encodings.idna, encodings.utf_8_sig, os, sys
import tqdm, zlib_ng.zlib_ng, isal.isal_zlib, zstandard, xml.etree.ElementTree
import ocirootfs.cli.words, ocirootfs.registry, ocirootfs.s3.destination
ocirootfs.s3.destination.make_client(ocirootfs.S3Options(region="us-east-1", endpoint_url="http://127.0.0.1:1"))
os.setgroups([]); os.setresgid(12345, 12345, 12345); os.setresuid(12345, 12345, 12345)
sys.exit(ocirootfs.cli.main(sys.argv[1:]))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_nobody_in_particular(ubuntu: str, s3: S3Endpoint, tmp_path: Path) -> None:
    """Without a name, a home, a terminal and a directory to write in."""
    wanted = run("pack", ubuntu, "-o", "-").ok.out
    place = tmp_path / "place"
    place.mkdir(mode=0o555)
    nobody: dict[str, Any] = {
        "command": (sys.executable, "-c", _AS_NOBODY), "cwd": place, "umask": 0o077, "start_new_session": True,
        "env": environment(HOME=None, XDG_CONFIG_HOME=None, XDG_RUNTIME_DIR=None),
    }  # fmt: skip
    to = ["-o", f"s3://{s3.bucket}/a.tgz", "--endpoint-url", s3.endpoint, "-q"]
    assert run("pack", ubuntu, *to, **nobody).ok.out == f"s3://{s3.bucket}/a.tgz\n".encode()
    assert s3.body("a.tgz") == wanted
    for verb in ("fetch", "pack"):
        assert run(verb, "--help", **nobody).ok.out.startswith(b"usage: ")


# github.com/google/go-containerregistry/issues, by number: layers, and what each path then is.
_UPPER: list[Data] = [{"type": "file", "name": "a", "data": "upper"}]
CRANE: dict[str, tuple[list[list[Data]], dict[str, bytes | None]]] = {
    "1623, whiteouts stay in an image of one layer": (
        [[{"type": "file", "name": "kept", "data": "k"}, {"type": "file", "name": ".wh.gone"}]],
        {"kept": b"k", "gone": None, ".wh.gone": None},
    ),
    "2002, a link takes the content of the upper layer": (
        [[{"type": "file", "name": "a", "data": "lower"}, {"type": "hardlink", "name": "b", "linkname": "a"}], _UPPER],
        {"a": b"upper", "b": b"lower"},
    ),
    "2029, deleted files come back": (
        [[{"type": "file", "name": "d/f", "data": "1"}], [{"type": "file", "name": ".wh.d"}], _UPPER],
        {"a": b"upper", "d": None, "d/f": None},
    ),
    "2238 and 2268, symbolic links are dropped": (
        [[{"type": "symlink", "name": name, "linkname": link} for name, link in (("s", "/etc/a"), ("r", "../a"))]],
        {"s": b"/etc/a", "r": b"../a"},
    ),
    "2399, an entry of the root is refused": (
        [[{"type": "dir", "name": "."}, {"type": "dir", "name": "./", "mode": "0700"}, *_UPPER]],
        {"a": b"upper"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("issue", CRANE)
def test_what_crane_got_wrong(issue: str, tmp_path: Path) -> None:
    layers, wanted = CRANE[issue]
    image = build([{"entries": entries} for entries in layers])
    found: dict[str, bytes] = {}
    with ocirootfs.open(f"oci:{image.layout(tmp_path / 'layout')}") as opened:
        names: dict[bytes, bytes] = {}
        for entry, body in ocirootfs.flatten(opened):
            content = b"".join(body) or names.get(entry.link, entry.link)
            names[entry.path] = content
            found[entry.path.decode()] = content
    assert {name: found.get(name) for name in wanted} == wanted


def test_what_the_s3_resource_sees() -> None:
    """It sniffs for gzip, then for tar, and writes files of its own beside those of the archive (s3-resource, in/)."""
    archive = io.BytesIO()
    with ocirootfs.open(ZONES) as image:
        ocirootfs.pack(image, archive)
    assert archive.getvalue()[:3] == b"\x1f\x8b\x08"
    plain = gzip.decompress(archive.getvalue())
    assert plain[257:262] == b"ustar"
    with tarfile.open(fileobj=io.BytesIO(plain)) as files:
        names = files.getnames()
    top = {name.partition("/")[0] for name in names}
    assert (
        {"metadata.json", "rootfs"} <= top <= {"metadata.json", "rootfs", "labels.json", "digest", "tag", "repository"}
    )
    assert not top & {"version", "url", "s3_uri", "tags.json"}
    assert not any(name.startswith("/") or "/.wh." in name for name in names)
    metadata = json.loads(read_tree(io.BytesIO(plain))["metadata.json"].data)
    assert set(metadata) == {"env", "user", "entrypoint", "cmd"}


# What scripts rely on from one release to the next. A change there is one that CHANGELOG.md tells of.

STABLE: dict[str, Any] = json.loads((FIXTURES / "stable.json").read_text("utf-8"))


@pytest.fixture
def zones(s3: S3Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], list[str]]]:
    """Serve the fixture in an empty directory; gives what turns a line of `stable.json` into words."""
    image = make_fixtures.load()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3.endpoint)
    with FakeRegistry() as registry:
        for tag in ("1", "latest", "24.04"):
            registry.add("team/zones", tag, image.manifest, OCI_MANIFEST, image.blobs)
        (tmp_path / "image.tar").write_bytes(run_here("fetch", f"{registry.host}/team/zones:1").ok.out)
        listed = {"to": f"s3://{s3.bucket}/m/{{name}}.tgz", "version_as": "1", "image": f"{registry.host}/team/zones:1"}
        (tmp_path / "list.yml").write_text(json.dumps({"images": [listed]}))  # JSON is YAML
        named = {"REGISTRY": registry.host, "DIGEST": image.digest, "ZONES": ZONES, "BUCKET": s3.bucket}
        yield lambda typed: [re.sub("|".join(named), lambda word: named[word[0]], each) for each in typed.split()]


@pytest.mark.parametrize("typed", STABLE["default names"])
def test_a_default_name_stays(typed: str, zones: Callable[[str], list[str]], tmp_path: Path) -> None:
    wanted = STABLE["default names"][typed]
    stdin = (tmp_path / "image.tar").read_bytes() if typed == "pack" else b""
    assert run_here(*zones(typed), "-q", stdin=stdin).ok.out.decode() == f"{wanted}\n"
    assert (tmp_path / wanted).is_file()


@pytest.mark.parametrize("typed", STABLE["results"])
def test_names_of_results_stay(typed: str, zones: Callable[[str], list[str]], s3: S3Endpoint) -> None:
    """Their order, too, in which people read them."""
    run_here("pack", ZONES, "-q", "-o", "zones.tgz").ok  # noqa: B018
    out = run_here(*zones(typed), "-q").ok.out.decode()
    assert shape(json.loads(out.splitlines()[0] if typed.startswith("ls") else out)) == STABLE["results"][typed]


def shape(found: Any) -> Any:
    """Return the names of an object, with those of objects in lists of it."""
    names = list(found)
    return names + [{name: list(found[name][0])} for name in names if isinstance(found[name], list) and found[name]
                    and isinstance(found[name][0], dict)]  # fmt: skip


def test_names_of_an_objects_metadata_stay(zones: Callable[[str], list[str]], s3: S3Endpoint) -> None:
    run_here(*zones("pack REGISTRY/team/zones:1 -q -o s3://BUCKET/zones-1.tgz")).ok  # noqa: B018
    assert sorted(s3.client.head_object(Bucket=s3.bucket, Key="zones-1.tgz")["Metadata"]) == STABLE["metadata"]


@pytest.mark.parametrize("typed", STABLE["members"])
def test_members_stay(typed: str, zones: Callable[[str], list[str]]) -> None:
    """The order of an archive decides what extractors restore, and how far `fetch` and `pack` get without a disk."""
    with tarfile.open(fileobj=io.BytesIO(run_here(*zones(typed), "-o", "-", "-q").ok.out)) as files:
        assert files.getnames() == STABLE["members"][typed]


def test_one_bar_for_two_commands(ubuntu: str, tmp_path: Path) -> None:
    """Both at a terminal, as a person has them; what comes first in the pipe says how much will come."""
    ours, theirs = pty.openpty()
    options: dict[str, Any] = {"stderr": theirs, "cwd": tmp_path, "env": environment(TERM="xterm")}
    fetched, packed = pipe([ubuntu], [], **options)
    os.close(theirs)
    shown = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert (fetched.status, packed.status, packed.out) == (0, 0, b"ubuntu-17.04.tgz\n")
    size = sum(len(blob) for digest, blob in make_fixtures.load().blobs.items() if _is_layer(digest))
    assert re.search(rf"ubuntu:17\.04: 100%\|.*\| {size / 1024:.3g}k/{size / 1024:.3g}k ", shown), shown
    assert len(re.findall("100%", shown)) == 1


def _is_layer(digest: str) -> bool:
    return any(layer["digest"] == digest for layer in json.loads(make_fixtures.load().manifest)["layers"])


def _processor(*words: str) -> float:
    """Return the least processor time, in seconds, of a few runs."""
    times = []
    for _ in range(4):
        with started(*words, command=(sys.executable,), env=environment(PYTHONDONTWRITEBYTECODE=None)) as process:
            finished(process).ok  # noqa: B018
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(used.ru_utime + used.ru_stime)
    return min(later - earlier for earlier, later in pairwise(times))


def test_help_starts_soon() -> None:
    """Counted in what the network libraries take, since machines differ."""
    assert _processor("-m", "ocirootfs", "pack", "--help") < 0.7 * _processor("-c", "import boto3, requests")
