"""Whole commands on machines in trouble: what comes out is the archive or an error of a line, and nothing is left.

Only what no other file of tests holds; `tests.catalogue` says where each fault of the list is held.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.commands import OCIROOTFS, Ran, environment, finished, run, run_here, started
from tests.layers import Built, Data, build
from tests.memory import high_water
from tests.servers.faulty_s3 import BUCKET, faulty_s3
from tests.servers.registry import FakeRegistry, digest_of

MIB = 1 << 20
QUICK = ("--platform", "linux/amd64", "--no-creds")


def noise(size: int, seed: int = 3) -> Data:
    return {"type": "file", "name": f"noise-{seed}", "body_b64": base64.b64encode(random.Random(seed).randbytes(size))}


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_AUTH_CONFIG", json.dumps({}))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "REGISTRY_AUTH_FILE", "DOCKER_CONFIG"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture(scope="module")
def made() -> Built:
    """An image of two layers, 6 MiB that do not compress."""
    return build([{"entries": [noise(3 * MIB, seed)], "wrap": "none"} for seed in (1, 2)])


@pytest.fixture(scope="module")
def layout(made: Built, tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"oci:{made.layout(tmp_path_factory.mktemp('made') / 'layout')}"


@pytest.fixture(scope="module")
def packed(layout: str) -> str:
    """The archive's digest when all is well."""
    return sha256(run_here("pack", layout, "-o", "-").ok.out)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    place = tmp_path / "out"
    place.mkdir()
    return place


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def serve(fake: FakeRegistry, image: Built) -> str:
    return str(fake.add("a/b", "1", image.manifest, image.media_type, image.blobs))


def failed(ran: Ran, status: int, says: str) -> None:
    """Demand a line of an error, and a hint at most."""
    assert ran.status == status, ran.err
    assert says in ran.err
    lines = [line for line in ran.err.splitlines() if not line.startswith("ocirootfs: warning: ")]
    assert len(lines) <= 2, ran.err


# Disks

IN_A_NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c")


def in_a_namespace(script: str, *words: str, **options: Any) -> Ran:
    """Run the command after a script that mounts what it likes, which nobody else sees."""
    if subprocess.run([*IN_A_NAMESPACE, "mount -t tmpfs none /mnt"], capture_output=True, check=False).returncode:
        pytest.skip("no mounts in a user namespace here")
    return run(*words, command=[*IN_A_NAMESPACE, f'{script} && exec "$@"', "sh", *OCIROOTFS], **options)


@pytest.mark.parametrize("verb", ["pack", "fetch"])
def test_a_full_disk_for_the_archive(verb: str, layout: str, out: Path) -> None:
    script = f'mount -t tmpfs -o size=2m none {out} && "$@"; status=$?; ls -A {out}; exit $status; true'
    ran = in_a_namespace(script, verb, layout, "-o", str(out / "a.tgz"))
    failed(ran, 8, f"cannot write '{out}/a.tgz': No space left on device")
    assert ran.out == b""


def test_a_full_disk_for_the_cache(made: Built, out: Path, tmp_path: Path) -> None:
    with FakeRegistry() as fake:
        script = f"mount -t tmpfs -o size=2m none {tmp_path}/cache"
        (tmp_path / "cache").mkdir()
        words = ("fetch", serve(fake, made), *QUICK, "-o", str(out / "a.tar"), "--cache-dir", str(tmp_path / "cache"))
        ran = in_a_namespace(script, *words)
        (out / "a.tar").rename(out / "b.tar")
        run_here(*words).ok  # noqa: B018
    assert ran.status == 0, ran.err
    assert ran.err.count("No space left on device; going on without") == 1
    assert (out / "a.tar").read_bytes() == (out / "b.tar").read_bytes()


READ_ONLY = "mount -t tmpfs none {0} && mount -o remount,ro {0}"


def test_a_disk_that_is_read_only(layout: str, out: Path) -> None:
    ran = in_a_namespace(READ_ONLY.format(out), "pack", layout, "-o", str(out / "a.tgz"))
    failed(ran, 8, f"cannot write '{out}/a.tgz': Read-only file system")


def test_a_cache_that_is_read_only(made: Built, out: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with FakeRegistry() as fake:
        words = ("fetch", serve(fake, made), *QUICK, "-o", str(out / "a.tar"), "--cache-dir", str(cache))
        cache.mkdir()
        ran = in_a_namespace(READ_ONLY.format(cache), *words)
        assert ran.status == 0, ran.err
        assert ran.err.count("going on without") == 1
        run_here(*words).ok  # noqa: B018
        asked = len(fake.seen(path="/blobs/"))
        ran = in_a_namespace(f"mount --bind {cache} {cache} && mount -o remount,bind,ro {cache}", *words)
        assert ran.status == 0, ran.err
        assert len(fake.seen(path="/blobs/")) == asked  # what is there is read all the same


def test_no_place_for_temporary_files(layout: str, out: Path, packed: str) -> None:
    """Nothing is kept aside when nothing needs to be; what needs to be says which variable decides."""
    nowhere = "for at in /var/tmp /usr/tmp; do mount -t tmpfs -o ro none $at 2>/dev/null; done; cd /proc"
    ran = in_a_namespace(nowhere, "pack", layout, "-o", str(out / "a.tgz"), env=environment(TMPDIR="/nonexistent"))
    assert ran.status == 0, ran.err
    assert sha256((out / "a.tgz").read_bytes()) == packed
    lower: list[Data] = [noise(20 * MIB), {"type": "hardlink", "name": "h", "linkname": "noise-3"}]
    upper: list[Data] = [{"type": "file", "name": ".wh.noise-3"}]
    hiding = build([{"entries": lower}, {"entries": upper}]).layout(out / "layout")
    ran = run("pack", f"oci:{hiding}", "-o", str(out / "b.tgz"), "--tmpdir", "/nonexistent")
    failed(ran, 8, "in a temporary file in /nonexistent: No such file or directory")
    assert "TMPDIR or --tmpdir" in ran.err
    assert not (out / "b.tgz").exists()


def test_neither_proc_nor_shm(layout: str, out: Path, packed: str) -> None:
    script = "mount -t tmpfs none /proc && mount -t tmpfs -o size=0,nr_inodes=1,ro none /dev/shm"
    in_a_namespace(script, "pack", layout, "-o", str(out / "a.tgz")).ok  # noqa: B018
    assert sha256((out / "a.tgz").read_bytes()) == packed


# Processes with less than usual


def limited(setting: str) -> list[str]:
    """Return a command that lowers its own limits and becomes ours."""
    become = "os.execv(sys.executable, [sys.executable, '-m', 'ocirootfs', *sys.argv[1:]])"
    return [sys.executable, "-c", f"import os, resource as r, sys; {setting}; {become}"]


def test_few_open_files(made: Built, out: Path) -> None:
    with FakeRegistry() as fake:
        command = limited("r.setrlimit(r.RLIMIT_NOFILE, (24, 24))")
        run("pack", serve(fake, made), *QUICK, "-o", str(out / "a.tar"), "--compress", "none", command=command).ok  # noqa: B018
    assert os.listdir(out) == ["a.tar"]  # noqa: PTH208


# Packs once, which loads all that will be needed, and then once more as somebody who may have no more threads.
_NO_THREADS = """\
import os, resource, sys
from ocirootfs.cli import main
first, *words = sys.argv[1:]
out = os.dup(1)
os.dup2(2, 1)
assert main([*words[:3], first, *words[4:]]) == 0
os.dup2(out, 1)
resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
if os.geteuid() == 0:  # whom the limit does not bind
    os.setgroups([]); os.setresgid(54321, 54321, 54321); os.setresuid(54321, 54321, 54321)
sys.exit(main(words))
"""


@pytest.mark.parametrize("target", ["file", "object", "parts"])
def test_no_more_threads(target: str) -> None:
    """One thread does it all, but for an upload of parts."""
    with faulty_s3() as state, tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        place.chmod(0o777)
        (place / "out").mkdir()
        (place / "out").chmod(0o777)
        for name, size in ("small", MIB), ("large", 6 * MIB):
            noise = base64.b64encode(random.Random(4).randbytes(size)).decode()
            build([{"entries": [{"type": "file", "name": "a", "body_b64": noise}]}]).layout(place / name)
        first, where = f"s3://{BUCKET}/first.tgz", f"s3://{BUCKET}/a.tgz"
        if target == "file":
            first, where = str(place / "first.tgz"), str(place / "out" / "a.tgz")
        source = place / ("large" if target == "parts" else "small")
        words = ("pack", f"oci:{source}", "-o", where, "--endpoint-url", state.url, "--part-size", "5MiB")
        ran = run(first, *words, command=(sys.executable, "-c", _NO_THREADS))
        assert state.uploads == {}
        if target == "parts":
            assert set(state.objects) == {"first.tgz"}
            assert (ran.status, ran.out) == (8, b"")
            assert "cannot start a thread to upload with" in ran.err
        elif target == "object":
            assert ran.status == 0, ran.err
            assert state.objects["a.tgz"].body == state.objects["first.tgz"].body
        else:
            assert ran.status == 0, ran.err
            assert Path(where).read_bytes() == Path(first).read_bytes()


def test_no_more_threads_to_download_with(made: Built) -> None:
    with FakeRegistry() as fake, tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        first, where = f"{folder}/first.tgz", f"{folder}/a.tgz"
        words = ("pack", serve(fake, made), "-o", where, *QUICK)
        ran = run(first, *words, command=(sys.executable, "-c", _NO_THREADS))
        assert ran.status == 0, ran.err
        assert Path(where).read_bytes() == Path(first).read_bytes()


def test_no_more_threads_to_mirror_with() -> None:
    """The images of a list one after the other."""
    image = build([{"entries": [noise(MIB)]}])
    with FakeRegistry() as fake, faulty_s3() as state, tempfile.TemporaryDirectory() as folder:
        lists = [Path(folder) / name for name in ("first", "second")]
        for path in lists:
            wanted = [{"image": serve(fake, image), "to": f"s3://{BUCKET}/{path.name}-{n}.tgz"} for n in range(2)]
            path.write_text(json.dumps({"defaults": {"platforms": ["linux/amd64"]}, "images": wanted}))
            path.chmod(0o644)
        Path(folder).chmod(0o755)
        words = ("mirror", "--endpoint-url", state.url, str(lists[1]), *QUICK[2:], "--jobs", "2")
        ran = run(str(lists[0]), *words, command=(sys.executable, "-c", _NO_THREADS))
        assert ran.status == 0, ran.err
        assert set(state.objects) == {f"{path.name}-{n}.tgz" for path in lists for n in range(2)}
        assert len({each.body for each in state.objects.values()}) == 1


def test_too_little_memory(layout: str, out: Path) -> None:
    """What is asked for at a time is what is too much: 40 MiB more than the interpreter takes by itself."""
    script = "r.setrlimit(r.RLIMIT_DATA, (70 << 20, 70 << 20))"
    ran = run("pack", layout, "-o", str(out / "a.tgz"), "--threads", "16", command=limited(script))
    if ran.status:
        assert ran.status in {8, -signal.SIGABRT, -signal.SIGSEGV}, ran
        assert os.listdir(out) == [] or ran.status < 0  # noqa: PTH208


def test_many_layers_in_128_megabytes(out: Path) -> None:
    """A thousand layers, as many as a manifest may list, of a registry."""
    made = build([{"entries": [{"type": "file", "name": f"{n % 400}", "data": "x" * 2000}]} for n in range(1000)])
    with FakeRegistry() as fake:
        words = ("pack", serve(fake, made), *QUICK, "-o", str(out / "a.tgz"), "--timeout", "20")
        with started(*words, command=[*limited("r.setrlimit(r.RLIMIT_DATA, (128 << 20,) * 2)")]) as process:
            peaks: list[int] = []
            while process.poll() is None:
                try:
                    peaks.append(high_water(process.pid))
                except (OSError, StopIteration):
                    break
                time.sleep(0.05)
            ran = finished(process)
    assert ran.status == 0, ran.err
    assert max(peaks) < 128 * MIB


# Odd images


@pytest.mark.parametrize("count", [0, 127, 128, 300])
@pytest.mark.parametrize("content", ["nothing", "no entry", "whiteouts"])
def test_any_number_of_layers(count: int, content: str, out: Path) -> None:
    entries: list[Data] = [{"type": "file", "name": ".wh.a"}] if content == "whiteouts" else []
    layer = {"bytes_b64": "", "wrap": "none"} if content == "nothing" else {"entries": entries}
    layout = build([layer] * count).layout(out / "layout")
    stream = run_here("fetch", f"oci:{layout}").ok.out
    for source, given in ((f"oci:{layout}", b""), ("-", stream)):
        run_here("pack", source, "-o", str(out / "a.tar"), "--layout", "rootfs", stdin=given).ok  # noqa: B018
        listed = subprocess.run(["tar", "tf", out / "a.tar"], capture_output=True, text=True, check=True).stdout
        assert listed == ""  # the root alone, which this layout does not list


# Streams

CLOSED = ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"]


@pytest.mark.parametrize("closed", CLOSED)
def test_streams_that_are_closed(closed: str, layout: str, out: Path, packed: str) -> None:
    command = ["sh", "-c", f'exec "$@" {closed}', "sh", *OCIROOTFS]
    ran = run("pack", layout, "-o", str(out / "a.tgz"), command=command)
    assert ran.status == 0
    assert ran.err == ""
    assert sha256((out / "a.tgz").read_bytes()) == packed
    assert run("pack", "oci:/nonexistent", "-o", str(out / "b.tgz"), command=command).status == 3
    assert sorted(os.listdir(out)) == ["a.tgz"]  # noqa: PTH208


@pytest.mark.parametrize("verb", ["fetch", "pack"])
def test_an_archive_for_a_closed_stream_is_an_error(verb: str, layout: str) -> None:
    """Neither lost without a word, nor written into whatever file is opened next."""
    ran = run(verb, layout, "-o", "-", command=["sh", "-c", 'exec "$@" >&-', "sh", *OCIROOTFS])
    failed(ran, 8, "cannot write standard output: Bad file descriptor")


def test_an_image_from_a_closed_stream(out: Path) -> None:
    ran = run("pack", "-o", str(out / "a.tgz"), command=["sh", "-c", 'exec "$@" <&-', "sh", *OCIROOTFS])
    failed(ran, 6, "standard input is empty")


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_full_device(stream: str, layout: str, out: Path) -> None:
    target = "-" if stream == "stdout" else str(out / "a.tgz")
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        streams: dict[str, Any] = {stream: full}
        ran = run("pack", layout, "-o", target, "-vv", **streams)
    assert ran.status == (8 if stream == "stdout" else 0)
    if stream == "stdout":
        assert "cannot write standard output: No space left on device" in ran.err


def test_a_name_printed_to_a_full_device(layout: str, out: Path) -> None:
    """The archive is there, but nobody could be told where: that is no success."""
    with open("/dev/full", "wb") as full, started("pack", layout, "-o", str(out / "a.tgz"), stdout=full) as process:  # noqa: PTH123
        ran = finished(process)
    failed(ran, 8, "No space left on device")


def test_a_writer_that_pauses_is_waited_for(layout: str, out: Path, packed: str) -> None:
    """A pipe is not a server: whoever writes into it may take longer than any timeout."""
    stream = run_here("fetch", layout).ok.out
    with started("pack", "-o", str(out / "a.tgz"), "--timeout", "0.2") as process:
        assert process.stdin
        for start in range(0, len(stream), MIB * 3):
            process.stdin.write(stream[start : start + 3 * MIB])
            process.stdin.flush()
            time.sleep(0.5)
        finished(process).ok  # noqa: B018
    assert sha256((out / "a.tgz").read_bytes()) == packed


# Two at a time


def test_two_processes_with_one_destination(layout: str, out: Path, packed: str) -> None:
    """The last one wins, whole; whoever looks meanwhile sees the one or the other."""
    other = build([{"entries": [noise(2 * MIB, 9)]}]).layout(out.parent / "other")
    wanted = {packed, sha256(run_here("pack", f"oci:{other}", "-o", "-").ok.out)}
    target, seen = out / "a.tgz", set[str]()
    for _ in range(2):
        with (
            started("pack", layout, "-o", str(target)) as first,
            started("pack", f"oci:{other}", "-o", str(target)) as second,
        ):
            while first.poll() is None or second.poll() is None:
                if target.exists():
                    seen.add(sha256(target.read_bytes()))
                time.sleep(0.01)
            assert (finished(first).status, finished(second).status) == (0, 0)
    assert seen <= wanted
    assert sha256(target.read_bytes()) in wanted
    assert os.listdir(out) == ["a.tgz"]  # noqa: PTH208


def test_two_processes_with_one_key(layout: str, out: Path, packed: str) -> None:
    with faulty_s3() as state:
        words = (layout, "-o", f"s3://{BUCKET}/a.tgz", "--endpoint-url", state.url, "--part-size", "5MiB")
        with started("pack", *words) as first, started("pack", *words) as second:
            assert (finished(first).status, finished(second).status) == (0, 0)
        assert sha256(state.objects["a.tgz"].body) == packed
        assert state.uploads == {}
    assert list(out.iterdir()) == []


# Signals

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("request_number", range(5))
def test_stopped_at_each_request(request_number: int, number: signal.Signals, made: Built, out: Path) -> None:
    """A signal arrives while the registry is about to answer: the manifest, the token, the config, a layer."""
    process: subprocess.Popen[bytes]
    with FakeRegistry(auth="bearer", anonymous=True) as fake:
        reference = serve(fake, made)
        reached, go = threading.Event(), threading.Event()

        def wait(*_: object) -> None:
            if len(fake.requests) > request_number:
                reached.set()
                go.wait(20)

        fake.before_any = wait
        with started("fetch", reference, "--platform", "linux/amd64", "-o", str(out / "a.tar")) as process:
            assert reached.wait(30)
            begun = time.monotonic()
            process.send_signal(number)
            status = process.wait(10)
            took = time.monotonic() - begun
            go.set()
            err = finished(process).err
    assert (status, took < 5) == (128 + number, True), err
    assert err == f"ocirootfs: {number.name}: stopped, and nothing was published\n"
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("operation", ["CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload", "HeadObject"])
def test_stopped_at_each_step_of_an_upload(operation: str, number: signal.Signals, layout: str) -> None:
    with faulty_s3() as state:
        fault = state.fail(operation, "stall", times=1)
        words = (layout, "-o", f"s3://{BUCKET}/a.tgz", "--endpoint-url", state.url, "--part-size", "5MiB")
        with started("pack", *words) as process:
            assert state.event(operation).wait(30)
            time.sleep(0.05)
            begun = time.monotonic()
            process.send_signal(number)
            time.sleep(0.2)
            fault.released.set()
            status = process.wait(10)
            took = time.monotonic() - begun
            err = finished(process).err
        assert (status, took < 6) == (128 + number, True), err
        assert state.uploads == {}, err
        # Whoever is stopped while the last request is under way may have done it, whole.
        assert state.objects == {} or operation == "CompleteMultipartUpload"


def test_a_second_signal_while_cleaning_up(layout: str) -> None:
    with faulty_s3() as state:
        state.fail("AbortMultipartUpload", "stall")
        state.fail("UploadPart", "stall", part=2)
        words = (layout, "-o", f"s3://{BUCKET}/a.tgz", "--endpoint-url", state.url, "--part-size", "5MiB")
        with started("pack", *words) as process:
            assert state.event("UploadPart").wait(30)
            time.sleep(0.1)
            process.send_signal(signal.SIGINT)
            assert state.event("AbortMultipartUpload").wait(10)
            process.send_signal(signal.SIGINT)
            status = process.wait(10)
            err = finished(process).err
        assert state.objects == {}
    assert status == 130
    assert "cleaning up; once more to give up on that" in err
    assert "could not be removed; its parts cost money until somebody runs: aws s3api abort-multipart-upload" in err


@pytest.mark.parametrize("at", ["CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"])
def test_killed(at: str, layout: str, packed: str) -> None:
    """Parts are left, but no object; and the next run is none the worse for it."""
    with faulty_s3() as state:
        fault = state.fail(at, "stall", times=1)
        words = (layout, "-o", f"s3://{BUCKET}/a.tgz", "--endpoint-url", state.url, "--part-size", "5MiB")
        with started("pack", *words) as process:
            assert state.event(at).wait(30)
            process.kill()
            process.wait(10)
        assert state.objects == {}
        fault.times = 0
        assert run_here("pack", *words).status == 0
        assert sha256(state.objects["a.tgz"].body) == packed


def test_stopped_and_continued(made: Built, out: Path) -> None:
    """SIGSTOP, for longer than any silence is borne, and SIGCONT."""
    with FakeRegistry() as fake:
        fake.rate = 4 * MIB
        words = ("fetch", serve(fake, made), *QUICK, "-o", str(out / "a.tar"), "--timeout", "1")
        reading = threading.Event()
        fake.before_blob = lambda _: reading.set()
        with started(*words) as process:
            assert reading.wait(30)
            process.send_signal(signal.SIGSTOP)
            time.sleep(1.5)
            process.send_signal(signal.SIGCONT)
            ran = finished(process)
        assert ran.status == 0, ran.err
        fake.rate = None
        assert (out / "a.tar").read_bytes() == run_here("fetch", serve(fake, made), *QUICK, "-o", "-").out


# Clocks, caches and networks


@pytest.mark.parametrize("granted", [{"issued_at": "1970-01-01T00:00:00Z"}, {"issued_at": "2999-01-01T00:00:00Z"},
                                     {"issued_at": "yesterday"}, {"expires_in": -5}, {"expires_in": 10**20},
                                     {"expires_in": "soon"}, {"expires_in": None}, {"expires_in": 1.5}])  # fmt: skip
def test_clocks_that_disagree(granted: dict[str, Any], made: Built, out: Path) -> None:
    with FakeRegistry(auth="bearer", anonymous=True, expires_in=None) as fake:
        fake.granted = granted
        words = ("fetch", serve(fake, made), "--platform", "linux/amd64", "-o", str(out / "a.tar"))
        run_here(*words).ok  # noqa: B018
        assert len(fake.seen("token")) == 1


def test_a_warm_cache_without_a_network(made: Built, out: Path, tmp_path: Path) -> None:
    """A digest needs nobody; a tag needs the registry."""
    with FakeRegistry() as fake:
        pinned = f"{fake.host}/a/b@{digest_of(made.manifest)}"
        words = (*QUICK, "--plain-http", "--retries", "0", "--cache-dir", str(tmp_path / "cache"), "-o")
        tag = serve(fake, made)
        run_here("fetch", pinned, *words, str(out / "a.tar")).ok  # noqa: B018
    run_here("fetch", pinned, *words, str(out / "b.tar")).ok  # noqa: B018
    assert (out / "a.tar").read_bytes() == (out / "b.tar").read_bytes()
    failed(run_here("fetch", tag, *words, str(out / "c.tar")), 5, "connection refused")
    assert sorted(os.listdir(out)) == ["a.tar", "b.tar"]  # noqa: PTH208


@pytest.mark.parametrize("home", [None, "/nonexistent", "relative", ""])
def test_no_home(home: str | None, made: Built, out: Path) -> None:
    """No directory called ~ is made, and none is asked for."""
    here = out / "here"
    here.mkdir()
    variables = environment(HOME=home, XDG_RUNTIME_DIR=None, XDG_CONFIG_HOME=None, LC_ALL="C", PYTHONUTF8="0")
    with FakeRegistry() as fake:
        run("pack", serve(fake, made), "--platform", "linux/amd64", cwd=here, env=variables).ok  # noqa: B018
    assert os.listdir(here) == ["b-1.tgz"]  # noqa: PTH208


def test_cut_everywhere_publishes_nothing() -> None:
    """The pipe ends at any block's edge, one byte before or after it: no object, and no parts."""
    image = build([{"entries": [{"type": "file", "name": "a", "data": "x" * 700}], "wrap": "none"}])
    with FakeRegistry() as fake:
        stream = run_here("fetch", serve(fake, image), *QUICK).ok.out
    places = {edge + by for edge in range(0, len(stream), 512) for by in (-1, 0, 1)}
    cuts = [place for place in sorted(places) if 0 <= place < len(stream)]
    with faulty_s3() as state:
        for cut in cuts:
            words = ("pack", "-o", f"s3://{BUCKET}/a.tgz", "--endpoint-url", state.url)
            assert run_here(*words, stdin=stream[:cut]).status == 6, cut
            assert (state.objects, state.uploads) == ({}, {}), cut
    print(f"{len(cuts)} cuts, 0 objects")
