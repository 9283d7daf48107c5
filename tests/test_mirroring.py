"""`ocirootfs mirror`: a bucket that holds what a list asks for, whatever happens on the way."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import logging
import os
import pty
import random
import re
import signal
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import boto3
import pytest
import yaml

from ocirootfs import imagelist
from ocirootfs.cli.mirror import Shown
from ocirootfs.digest import Digest
from ocirootfs.image import Image, Layer
from ocirootfs.manifest import Config
from ocirootfs.mirroring import mirror
from ocirootfs.platform import Platform
from ocirootfs.registry import Registry
from ocirootfs.registry.credentials import anonymous
from ocirootfs.s3.stamp import stamp
from ocirootfs.s3.url import S3Options
from tests.commands import Ran, environment, finished, run, run_here, started
from tests.layers import OCI_MANIFEST, Built, Data, build
from tests.servers.faulty_s3 import BUCKET, State, faulty_s3
from tests.servers.moto import S3Endpoint
from tests.servers.registry import FakeRegistry, Fault

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

MIB = 1 << 20


def layer(name: str, size: int = 1000) -> Data:
    """A layer with one file that does not compress."""
    body = base64.b64encode(random.Random(name).randbytes(size)).decode()
    return {"wrap": "none", "entries": [{"type": "file", "name": name, "body_b64": body}]}


def image(*layers: Data, **config: Any) -> Built:
    return build(list(layers), config={"architecture": "amd64", "config": config})


BASE = layer("base", 300_000)
SMALL = [image(BASE, layer(f"top{number}"), User=f"{number}") for number in range(4)]


@dataclass(frozen=True)
class Place:
    """A registry, a bucket, and a list of what is to be copied."""

    registry: FakeRegistry
    s3: S3Endpoint
    path: Path

    def serve(self, *images: Built, tag: str = "1") -> list[str]:
        """Serve images as app0, app1, …; gives their references."""
        named = enumerate(images)
        return [str(self.registry.add(f"t/app{n}", tag, it.manifest, OCI_MANIFEST, it.blobs)) for n, it in named]

    def list(self, *images: Any, to: str = "m/{name}/{name}-{version}.tgz", **defaults: Any) -> Path:
        defaults = {"to": f"s3://{self.s3.bucket}/{to}", "platforms": ["linux/amd64"], **defaults}
        self.path.write_text(yaml.safe_dump({"defaults": defaults, "images": list(images)}))
        return self.path

    def run(self, *words: str, file: Path | None = None) -> Ran:
        return run_here("mirror", str(file or self.path), "--endpoint-url", self.s3.endpoint, "--no-creds", *words)

    def downloads(self) -> Counter[str]:
        """How often each blob was asked for."""
        return Counter(found.path.rpartition("/")[2] for found in self.registry.seen(path="/blobs/"))

    def packed(self, reference: str, *words: str) -> bytes:
        """What `pack` makes of an image: the truth about an object."""
        return run_here("pack", reference, "--platform", "linux/amd64", "--no-creds", "-o", "-", *words).ok.out


@pytest.fixture
def place(s3: S3Endpoint, tmp_path: Path) -> Iterator[Place]:
    with FakeRegistry() as registry:
        yield Place(registry, s3, tmp_path / "images.yml")


def layers_of(*images: Built) -> set[str]:
    return {found["digest"] for it in images for found in json.loads(it.manifest)["layers"]}


# What is done, and what is not


def test_a_list_and_the_same_list_again(place: Place) -> None:
    references = place.serve(*SMALL)
    place.list(*references)
    first = json.loads(place.run("--json", "--progress", "none").ok.out)
    keys = [f"m/app{n}/app{n}-1.tgz" for n in range(4)]
    assert place.s3.keys() == keys
    assert [place.s3.body(key) for key in keys] == [place.packed(each) for each in references]
    assert (first["packed"], first["kept"], first["failed"]) == (4, 0, 0)
    assert [found["destination"] for found in first["images"]] == [f"s3://{place.s3.bucket}/{key}" for key in keys]
    assert [found["sha256"] for found in first["images"]] == [
        hashlib.sha256(place.s3.body(key)).hexdigest() for key in keys
    ]
    assert {found["concourse_version"] for found in first["images"]} == {"1"}

    place.registry.requests.clear()
    ran = place.run("--result", str(place.path.with_suffix(".json")))
    again = json.loads(place.path.with_suffix(".json").read_text())
    assert (again["packed"], again["kept"], again["exit_status"]) == (0, 4, 0)
    assert ran.status == 0
    assert not set(place.downloads()) & layers_of(*SMALL)
    lines = ran.err.splitlines()
    assert len(lines) == 4
    assert lines[3].startswith("ocirootfs: [4/4] ")
    assert not re.search(r"[\x1b\r]", ran.err)
    table = ran.out.decode().splitlines()
    assert [line.split()[0] for line in table] == ["STATUS", "kept", "kept", "kept", "kept"]
    assert all(line.endswith(key) for line, key in zip(table[1:], keys, strict=True))


def test_what_a_list_says_of_an_image_is_done(place: Place) -> None:
    (reference,) = place.serve(SMALL[0])
    place.list(
        {"image": reference, "exclude": ["top*"], "env": {"A": "b"}, "to": f"s3://{place.s3.bucket}/x/{{digest12}}.tar"}
    )
    place.run("-q").ok  # noqa: B018
    key = f"x/{SMALL[0].digest[7:19]}.tar"
    assert place.s3.body(key) == place.packed(reference, "--exclude", "top*", "--env", "A=b", "--compress", "none")
    assert place.s3.client.head_object(Bucket=place.s3.bucket, Key=key)["ContentType"] == "application/x-tar"


def test_a_shared_layer_is_downloaded_once_by_images_that_need_it_at_the_same_moment(place: Place) -> None:
    place.list(*place.serve(*SMALL))
    base = json.loads(SMALL[0].manifest)["layers"][0]["digest"]
    place.registry.before_blob = lambda digest: time.sleep(0.3 if digest == base else 0)
    ran = place.run("--jobs", "4", "-q").ok
    assert {digest: place.downloads()[digest] for digest in layers_of(*SMALL)} == dict.fromkeys(layers_of(*SMALL), 1)
    assert ran.out.count(b"packed") == 4


def test_who_waited_for_a_layer_that_failed_downloads_it(place: Place) -> None:
    """The first image's download of the shared layer breaks off for good; the second's own does not."""
    references = place.serve(*SMALL[:2])
    place.list(*references)
    base = json.loads(SMALL[0].manifest)["layers"][0]["digest"]
    place.registry.faults.append(Fault(base, status=404))
    ran = place.run("--jobs", "2", "-q", "--json")
    assert ran.status == 3
    assert sorted(found["status"] for found in json.loads(ran.out)["images"]) == ["failed", "packed"]
    assert len(place.s3.keys()) == 1
    assert place.s3.uploads() == []


def test_a_broken_shared_layer_is_downloaded_once_more(place: Place) -> None:
    place.list(*place.serve(*SMALL[:2]))
    base = json.loads(SMALL[0].manifest)["layers"][0]["digest"]
    place.registry.faults.append(Fault(base, altered=True))
    ran = place.run("--jobs", "2")
    assert (ran.status, len(place.s3.keys())) == (0, 2), ran.err
    assert ran.err.count("downloading it once more") == 1
    assert place.downloads()[base] == 2


def test_one_failure_stops_no_other(place: Place) -> None:
    references = place.serve(*SMALL[:2])
    missing = f"{place.registry.host}/no/such:1"
    broken = image(layer("broken"))
    bad = str(place.registry.add("t/broken", "1", broken.manifest, OCI_MANIFEST, broken.blobs))
    (digest,) = layers_of(broken)
    place.registry.faults.append(Fault(digest, altered=True, times=9))
    place.list(missing, references[0], bad, references[1])
    result = place.path.with_suffix(".json")
    ran = place.run("--result", str(result), "-q")
    report = json.loads(result.read_text())
    assert [found["status"] for found in report["images"]] == ["failed", "packed", "failed", "packed"]
    assert [found.get("exit_status") for found in report["images"]] == [3, None, 6, None]
    assert ran.status == report["exit_status"] == 3
    errors = [line for line in ran.err.splitlines() if "error: " in line]
    assert len(errors) == 3
    assert errors[-1] == f"ocirootfs: error: 2 of 4 images failed: {missing} (linux/amd64), {bad} (linux/amd64)"
    assert place.s3.keys() == ["m/app0/app0-1.tgz", "m/app1/app1-1.tgz"]
    assert place.s3.uploads() == []


def test_only_what_may_work_later_ends_with_5(place: Place) -> None:
    references = place.serve(*SMALL[:2])
    place.list(*references)
    place.registry.faults.append(Fault("app0/manifests", status=503, times=9))
    assert place.run("-q", "--retries", "0").status == 5
    place.registry.faults[:] = [Fault("app0/manifests", status=503, times=9), Fault("app1/manifests", status=404)]
    assert place.run("-q", "--retries", "0").status == 3


def test_messages_as_objects(place: Place) -> None:
    place.list(*place.serve(SMALL[0]), f"{place.registry.host}/no/such:1")
    ran = place.run("--log-format", "json", "--json")
    said = [json.loads(line) for line in ran.err.splitlines()]
    assert [found["status"] for found in said if found["event"] == "error"] == [3, 3]
    (done,) = (found for found in said if found["event"] == "progress")
    assert (done["state"], done["images"], done["of"]) == ("packed", 2, 2)
    assert json.loads(ran.out)["failed"] == 1


def test_one_bar_on_a_terminal(place: Place) -> None:
    place.list(*place.serve(*SMALL[:2]))
    ours, theirs = pty.openpty()
    env = environment(TERM="xterm", COLUMNS="80")
    words = ["mirror", str(place.path), "--endpoint-url", place.s3.endpoint, "--no-creds"]
    with started(*words, stderr=theirs, env=env) as process:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # how Linux says that nobody writes any more
            while more := os.read(ours, 1 << 16):
                shown += more
        assert process.wait(30) == 0
    os.close(ours)
    last = shown.decode().rstrip().splitlines()[-1].rpartition("\r")[2]
    assert re.match(r"2 images: 100%", last), shown
    assert shown.count(b"\n") <= 1
    assert b"app0" not in shown


def test_a_log_hears_of_long_images(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    size = 100
    stored = Layer(1, Digest.of(b""), size, Digest.of(b""), "", lambda: iter(()))
    with caplog.at_level(logging.INFO, "ocirootfs"):
        shown = Shown(2, "auto", monotonic=lambda: now[0])
        shown.resolved({1: Image(Config(b"", Platform("linux", "amd64"), None, (), "", None, None, {}, ()), (stored,))})
        for second in (9, 10, 11, 20):
            now[0] = second
            shown.read(1, stored, 25)
    assert [record.getMessage() for record in caplog.records] == [
        "0 of 2 images; 50 B of 100 B",
        "0 of 2 images; 100 B of 100 B",
    ]


# Before work begins


def test_a_dry_run_changes_nothing(place: Place) -> None:
    references = place.serve(*SMALL[:2])
    place.list(references[0])
    place.run("-q").ok  # noqa: B018
    place.list(*references)
    place.registry.requests.clear()
    before = place.s3.keys()
    report = json.loads(place.run("--dry-run", "--json", "--prune", "--sweep", "0").out)
    assert [found["status"] for found in report["images"]] == ["kept", "pending"]
    assert [found["digest"] for found in report["images"]] == [SMALL[0].digest, SMALL[1].digest]
    assert place.s3.keys() == before
    assert not set(place.downloads()) & layers_of(*SMALL)


def test_two_images_with_the_same_key_are_refused_before_anything_is_written(place: Place) -> None:
    references = place.serve(*SMALL[:3])
    place.list(*references, to="m/all-{tag}.tgz")
    ran = place.run()
    assert ran.status == 2
    assert re.search(r"app0:1 \(linux/amd64\) \(line 6\) and .*app1:1 .* would both be s3://.*/m/all-1.tgz", ran.err)
    assert "fields such as {tag}" in ran.err
    assert place.s3.keys() == []


@pytest.mark.parametrize(("words", "said"), [
    (["--prune"], "itself is the folder of an image in the list"),
    (["--part-size", "1"], "outside of S3's limits"),
    (["--jobs", "0"], "not a number from 1 to 16"),
    (["--sweep", "-1"], "not a number of hours"),
    (["--threads", "0"], "use 1 to 256"),
    (["--pipeline", "--creds", "a:b"], "no place in a pipeline"),
    (["--pipeline", "--prune"], "not what a pipeline does"),
    (["--pipeline", "--every", "daily"], "not a time such as 24h"),
], ids=str)  # fmt: skip
def test_mistakes_ask_nothing_of_anybody(words: list[str], said: str, place: Place) -> None:
    place.list(*place.serve(SMALL[0]), to="{name}-{tag}.tgz")
    ran = place.run(*words)
    assert (ran.status, ran.out) == (2, b"")
    assert said in ran.err
    assert place.registry.requests == []


def test_no_list(place: Place) -> None:
    assert place.run(file=place.path.with_name("nothing.yml")).status == 3


# What nobody asks for any more


def test_pruning_removes_our_own_and_nothing_else(place: Place) -> None:
    references = place.serve(*SMALL[:3])
    place.list(*references)
    place.run("-q").ok  # noqa: B018
    put = place.s3.client.put_object
    put(Bucket=place.s3.bucket, Key="m/app0/notes.txt", Body=b"a person's")
    put(Bucket=place.s3.bucket, Key="m/app9/app9-1.tgz", Body=b"x", Metadata={"ocirootfs-digest": "no stamp yet"})
    elsewhere = f"s3://{place.s3.bucket}/elsewhere/a.tgz"
    run_here("pack", references[0], "-o", elsewhere, "--no-creds", "-q", "--endpoint-url", place.s3.endpoint).accepted  # noqa: B018
    everything = place.s3.keys()
    place.list(references[1])
    gone = ["m/app0/app0-1.tgz", "m/app2/app2-1.tgz"]
    for words in (["--dry-run"], []):
        assert place.s3.keys() == everything
        report = json.loads(place.run("--prune", "--json", *words).out)
        assert report["pruned"] == [f"s3://{place.s3.bucket}/{key}" for key in gone]
    assert place.s3.keys() == [key for key in everything if key not in gone]


@pytest.mark.parametrize(
    ("template", "gone"),
    [
        ("m/{name}.tgz", ["m/x.tgz"]),
        ("m/{name}/{tag}.tgz", ["m/a/x.tgz"]),
        ("m/{repository}.tgz", ["m/a/b/x.tgz", "m/a/x.tgz", "m/x.tgz"]),
        ("m/{repository}/{tag}.tgz", ["m/a/b/x.tgz", "m/a/x.tgz"]),
        ("m/a/{name}-{version}.tgz", ["m/a/x.tgz"]),
    ],
)
def test_pruning_goes_no_deeper_than_the_lists_own_keys(place: Place, template: str, gone: list[str]) -> None:
    """Below its folder may be another list's."""
    reference = place.serve(SMALL[0])[0]
    image = ["pack", reference, "--no-creds", "-q", "--endpoint-url", place.s3.endpoint]
    for key in ("m/x.tgz", "m/a/x.tgz", "m/a/b/x.tgz", "n/x.tgz"):
        run_here(*image, "-o", f"s3://{place.s3.bucket}/{key}").accepted  # noqa: B018
    place.list({"image": reference, "to": f"s3://{place.s3.bucket}/{template}"})
    report = json.loads(place.run("--prune", "--json").out)
    assert report["pruned"] == [f"s3://{place.s3.bucket}/{key}" for key in gone]


def test_a_strangers_key_writes_nothing_on_the_terminal(place: Place) -> None:
    (reference,) = place.serve(SMALL[0])
    place.list(reference)
    place.run("-q").ok  # noqa: B018
    ours = place.s3.client.head_object(Bucket=place.s3.bucket, Key="m/app0/app0-1.tgz")["Metadata"]
    place.s3.client.put_object(Bucket=place.s3.bucket, Key="m/app0/\x1b[31mred\x07.tgz", Body=b"", Metadata=ours)
    ran = place.run("--prune", "--dry-run")
    assert rb"m/app0/\x1b[31mred\x07.tgz" in ran.out
    assert not {0x1B, 0x07} & set(ran.out + ran.err.encode())


def test_nothing_is_pruned_when_something_failed(place: Place) -> None:
    references = place.serve(*SMALL[:2])
    place.list(*references)
    place.run("-q").ok  # noqa: B018
    place.list(references[0], f"{place.registry.host}/no/such:1")
    ran = place.run("--prune")
    assert "nothing is pruned, as some images failed" in ran.err
    assert len(place.s3.keys()) == 2


def test_old_uploads_to_the_lists_keys_are_aborted_on_request(place: Place) -> None:
    place.list(*place.serve(SMALL[0]))
    for key in ("m/app0/app0-1.tgz", "m/app0/app0-1.tgz.other", "m/app1/app1-1.tgz"):
        place.s3.client.create_multipart_upload(Bucket=place.s3.bucket, Key=key)
    assert len(place.s3.uploads()) == 3
    # moto's uploads have all begun in 2010.
    for words, left in ((["--sweep", "200000"], 3), (["--dry-run", "--sweep", "0"], 3), ([], 3), (["--sweep", "0"], 2)):
        place.run("-q", *words).ok  # noqa: B018
        assert len(place.s3.uploads()) == left, words
    assert "m/app0/app0-1.tgz" not in place.s3.uploads()


@pytest.fixture
def trouble(tmp_path: Path) -> Iterator[tuple[Place, State]]:
    """A place whose store can be told to fail."""
    with FakeRegistry() as registry, faulty_s3() as faulty:
        client = boto3.client("s3", endpoint_url=faulty.url, region_name="us-east-1")
        yield Place(registry, S3Endpoint(faulty.url, client, BUCKET), tmp_path / "images.yml"), faulty
        client.close()


@pytest.mark.parametrize(
    ("operation", "words"),
    [
        ("ListMultipartUploads", ["--sweep", "0"]),
        ("ListObjectsV2", ["--prune"]),
        ("DeleteObject", ["--prune", "--sweep", "0"]),
    ],
)
def test_what_cannot_be_removed_takes_no_report_with_it(
    operation: str, words: list[str], trouble: tuple[Place, State]
) -> None:
    place, faulty = trouble
    place.list(*place.serve(SMALL[0]))
    ours = stamp(image="a", digest="sha256:0", platform="linux/amd64", options="o", version="1")
    place.s3.client.put_object(Bucket=BUCKET, Key="m/old/old.tgz", Body=b"", Metadata=ours)
    faulty.fail(operation, "AccessDenied", status=403)
    result = place.path.with_suffix(".json")
    ran = place.run("--json", "--result", str(result), *words)
    report = json.loads(ran.out)
    assert json.loads(result.read_text()) == report
    assert ran.status == report["exit_status"] == 4
    assert (report["packed"], report["pruned"], report["failed"]) == (1, [], 0)
    assert ["AccessDenied" in error["error"] for error in report["errors"]] == [True]
    assert "the credentials need s3:" in ran.err
    assert ran.err.endswith("error: what should not be there may be there still\n")
    assert set(faulty.objects) == {"m/app0/app0-1.tgz", "m/old/old.tgz"}


def test_an_upload_that_ended_before_it_was_swept_is_no_failure(trouble: tuple[Place, State]) -> None:
    place, faulty = trouble
    place.list(*place.serve(SMALL[0]))
    place.s3.client.create_multipart_upload(Bucket=BUCKET, Key="m/app0/app0-1.tgz")
    faulty.fail("AbortMultipartUpload", "NoSuchUpload", status=404, times=1)
    faulty.fail("ListMultipartUploads", "undated", times=1)
    swept = [json.loads(place.run("--sweep", "0", "--json", "-q").ok.out)["swept"] for _ in range(3)]
    assert swept == [0, 0, 1]
    assert faulty.uploads == {}


# Killed

BIG = 6 * MIB  # more than one part of 5 MiB
TWENTY = [
    image(BASE, layer("common", 200_000), layer(f"own{number}", BIG if number % 7 == 0 else 20_000))
    for number in range(20)
]


def kill(place: Place, number: signal.Signals, seed: int) -> None:
    """Start a run, and kill it some time after its first layer was asked for."""
    begun = threading.Event()
    place.registry.before_blob = lambda _: begun.set()
    words = ["--endpoint-url", place.s3.endpoint, "--part-size", "5MiB", "-q", "--jobs", "3", "--no-creds"]
    with started("mirror", str(place.path), *words) as process:
        assert begun.wait(60)
        time.sleep(random.Random(seed).uniform(0, 0.9))
        sent = time.monotonic()
        process.send_signal(number)
        ran = finished(process)
    if number == signal.SIGKILL:
        return
    assert time.monotonic() - sent < 5
    assert ran.status == 128 + number, ran
    assert re.fullmatch(
        rf"ocirootfs: {number.name}: stopped, and \d+ of 20 images are there; the same command does the rest\n", ran.err
    ), ran.err
    assert ran.out == b""
    assert place.s3.uploads() == []


def test_killed_at_random_times_and_run_again(place: Place) -> None:
    references = place.serve(*TWENTY)
    place.list(*references)
    place.registry.rate = 5 * MIB
    for seed, number in enumerate((signal.SIGTERM, signal.SIGKILL, signal.SIGINT)):
        kill(place, number, seed)
        assert len(set(place.s3.keys())) == len(place.s3.keys()) < 20
    left = len(place.s3.uploads())
    place.registry.rate, place.registry.before_blob = None, lambda _: None
    place.registry.requests.clear()
    report = json.loads(place.run("--json", "-q", "--sweep", "0", "--jobs", "3").ok.out)
    assert report["packed"] + report["kept"] == 20
    assert report["swept"] == left
    assert place.s3.uploads() == []
    assert max(place.downloads().values()) == 1
    truth = {f"m/app{n}/app{n}-1.tgz": place.packed(each) for n, each in enumerate(references)}
    assert {key: place.s3.body(key) for key in sorted(place.s3.keys())} == truth


def test_two_at_the_same_image_do_no_harm(place: Place) -> None:
    """Two processes, as two workers would be, that both find nothing there."""
    big = image(layer("both", BIG))
    (reference,) = place.serve(big)
    place.list(reference)
    both = threading.Barrier(2, timeout=30)
    waited = threading.local()

    def together(_: str) -> None:
        if not getattr(waited, "done", False):
            waited.done = True
            both.wait()

    place.registry.before_blob = lambda digest: together(digest) if digest in layers_of(big) else None
    words = ["mirror", str(place.path), "--endpoint-url", place.s3.endpoint, "--part-size", "5MiB", "-q", "--no-creds"]
    with started(*words) as one, started(*words) as other:
        assert [finished(each).status for each in (one, other)] == [0, 0]
    place.registry.before_blob = lambda _: None
    assert place.s3.keys() == ["m/app0/app0-1.tgz"]
    assert place.s3.uploads() == []
    assert place.s3.body("m/app0/app0-1.tgz") == place.packed(reference)


# The library


def test_the_library_tells_what_it_did(place: Place) -> None:
    references = place.serve(*SMALL[:2])
    wanted = imagelist.parse(place.list(*references).read_bytes(), "images.yml")
    with Registry(credentials=anonymous) as registry:
        done = mirror(wanted, registry, s3_client=place.s3.client)
        again = mirror(wanted, registry, s3_options=S3Options(endpoint_url=place.s3.endpoint), jobs=1)
    assert [outcome.status for outcome in (*done.outcomes, *again.outcomes)] == ["packed"] * 2 + ["kept"] * 2
    assert (done.exit_code, done.failed) == (0, ())


# The pipeline


def interpolated(value: Any, variables: dict[str, str]) -> Any:
    """Put in what Concourse would for ((name)), in texts alone; KeyError for what is not there."""
    if isinstance(value, dict):
        return {name: interpolated(inner, variables) for name, inner in value.items()}
    if isinstance(value, list):
        return [interpolated(inner, variables) for inner in value]
    return re.sub(r"\(\((.+?)\)\)", lambda match: variables[match[1]], value) if isinstance(value, str) else value


def steps_of(plan: Sequence[Any]) -> Iterator[dict[str, Any]]:
    for step in plan:
        if "in_parallel" in step:
            yield from steps_of(step["in_parallel"]["steps"])
        elif "across" in step:
            yield step


def run_pipeline(pipeline: dict[str, Any], secrets: dict[str, str]) -> list[Ran]:
    """Do what Concourse would: every task of every job, with its environment and its command."""
    done = []
    for job in pipeline["jobs"]:
        for step in steps_of(job["plan"]):
            (across,) = step["across"]
            assert across["var"] == "image"
            for value in across["values"]:
                local = {f".:image.{name}": text for name, text in value.items()}
                config = interpolated(step["config"], {**secrets, **local})
                assert config["run"]["path"] == "ocirootfs"
                done.append(run(*config["run"]["args"], env=environment(**config["params"])))
    return done


def test_a_pipeline_does_what_the_list_says(place: Place) -> None:
    references = place.serve(*SMALL[:3])
    place.list(
        references[0],
        {"image": references[1], "exclude": ["top*", "it's"], "cmd": ["a b", '"'], "labels": {"x": "y=z"}},
        {
            "image": references[2],
            "group": "other",
            "to": f"s3://{place.s3.bucket}/o/{{name}}.tar",
            "layout": "rootfs",
        },
    )
    ran = place.run("--pipeline", "--fast", "--every", "12h", "--s3-metadata", "a=b c").ok
    assert ran == place.run("--pipeline", "--fast", "--every", "12h", "--s3-metadata", "a=b c")
    assert place.registry.requests == []
    pipeline = yaml.safe_load(ran.out)
    assert [job["name"] for job in pipeline["jobs"]] == ["mirror", "other"]
    assert pipeline["resources"][0]["source"] == {"interval": "12h"}
    steps = [step for job in pipeline["jobs"] for step in steps_of(job["plan"])]
    assert [(step["task"], step["attempts"], step["across"][0]["max_in_flight"]) for step in steps] == [
        ("pack", 3, 4), ("pack-2", 3, 4), ("pack", 3, 4)]  # fmt: skip
    for step in steps:
        assert step["config"]["image_resource"]["source"] == {"repository": "((ocirootfs_image))"}
        assert set(re.findall(r"\(\((\w.*?)\)\)", json.dumps(step))) == {"ocirootfs_image", "s3.key", "s3.secret"}
    secrets = {"s3.key": "testing", "s3.secret": "testing", "ocirootfs_image": "r/ocirootfs"}
    assert [each.status for each in run_pipeline(pipeline, secrets)] == [0, 0, 0]
    again = json.loads(place.run("--fast", "--s3-metadata", "a=b c", "--json").out)
    assert again["kept"] == 3  # tasks and mirror agree on every byte and option
    assert place.s3.keys() == ["m/app0/app0-1.tgz", "m/app1/app1-1.tgz", "o/app2.tar"]


def test_a_pipeline_holds_no_secret_and_asks_for_those_of_a_registry(place: Place) -> None:
    place.list("ubuntu:17.04")
    ran = run_here("mirror", str(place.path), "--pipeline", "--region", "eu-west-1", "--jobs", "7").ok
    (job,) = yaml.safe_load(ran.out)["jobs"]
    (step,) = steps_of(job["plan"])
    assert step["config"]["params"]["DOCKER_AUTH_CONFIG"] == "((docker_auth_config))"
    assert step["config"]["run"]["args"][-1] == "--region=eu-west-1"
    assert step["across"][0]["max_in_flight"] == 7
    assert "testing" not in ran.out.decode()


def test_a_lists_name_is_no_part_of_its_pipeline(place: Place) -> None:
    place.list("ubuntu:17.04")
    odd = place.path.rename(place.path.with_name("x\njobs: []\u2028#.yml"))
    made = run_here("mirror", str(odd), "--pipeline").ok.out.decode()
    assert made.splitlines()[:2] == ["# ocirootfs mirror --pipeline x\\x0ajobs: []\\u2028#.yml", "---"]
    assert yaml.safe_load(made)["jobs"]


def test_a_pipeline_shows_no_password_of_an_endpoint(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.list("ubuntu:17.04")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://me:hunter2@store.corp")
    ran = run_here("mirror", str(place.path), "--pipeline")
    assert (ran.status, ran.out) == (2, b"")
    assert "hunter2" not in ran.err


def test_a_pipeline_gives_concourse_nothing_of_its_own_to_fill_in(place: Place) -> None:
    place.list({"image": "x", "env": ["A=((s3.secret))"]})
    with pytest.raises(AssertionError, match=r"something in for '\(\('"):
        place.run("--pipeline").ok  # noqa: B018
