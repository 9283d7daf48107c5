"""`unpack`: the right tree on disk, whoever runs it, and nothing at all when anything is amiss."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import ocirootfs
from ocirootfs.limits import USUAL
from tests import make_fixtures, ondisk
from tests.commands import OCIROOTFS, environment, finished, run, run_here, started
from tests.layers import Data, build
from tests.mutants import file, link, mismatches, vectors

if TYPE_CHECKING:
    from collections.abc import Iterator

ZONES = f"oci:{make_fixtures.ZONES}"
ACCEPTED = [vector for vector in vectors() if vector["expect"] != "reject"]
REJECTED = [vector for vector in vectors() if vector["expect"] == "reject"]
IS_ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not IS_ROOT, reason="owners and devices take root")
MINE = "all files are yours, whoever they belong to in the image; 'ocirootfs pack' keeps owners"


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that a user without rights can reach, which pytest's own are not."""
    found = Path(tempfile.mkdtemp())
    yield found
    _removed(found)


def _removed(place: Path) -> None:
    ondisk.read(place)  # makes it readable, and so removable
    shutil.rmtree(place)


def layout(target: Path, *stack: list[Data]) -> str:
    return f"oci:{build([{'entries': entries, 'wrap': 'none'} for entries in stack]).layout(target)}"


def listed(place: Path) -> list[str]:
    return sorted(found.name for found in place.iterdir())


# The tree


def wanted(vector: Data, *, owners: bool, devices: bool = False, xattrs: bool = False) -> Data:
    """Take away what a directory has not: devices and what is linked to them, xattrs, and as nobody what takes root."""
    expected: dict[str, Data] = vector["expect"]
    dropped = {path for path, facts in expected.items() if facts.get("type") in ("char", "block") and not devices}
    dropped |= {path for path, facts in expected.items() if facts.get("same_inode_as") in dropped}
    kept = {path: dict(facts) for path, facts in expected.items() if path not in dropped}
    kinds = {path: kept[facts.get("same_inode_as", path)].get("type", "file") for path, facts in kept.items()}
    for path, facts in kept.items():
        if not xattrs:
            facts.pop("xattrs", None)
        if kinds[path] == "symlink":
            facts.pop("mode", None)  # a symlink has none on Linux
        if not owners:
            facts.pop("uid", None)
            facts.pop("gid", None)
            if "mode" in facts and kinds[path] == "file":
                facts["mode"] = f"{int(facts['mode'], 8) & ~0o6000:o}"
    root = vector.get("root", {})
    return {**vector, "expect": kept, "root": {key: root[key] for key in root if owners or key not in ("uid", "gid")}}


def test_vectors_as_nobody(place: Path) -> None:
    """All in one process: what a user without rights makes of every vector."""
    jobs = []
    for vector in ACCEPTED + REJECTED:
        where = place / vector["name"]
        where.mkdir()
        jobs.append({"in": str(where), "arguments": ["unpack", layout(where / "layout", *vector["layers"]), "tree"]})
    results = ondisk.run_as(ondisk.NOBODY, place, jobs)
    wrong: list[str] = []
    for vector, (ran, _) in zip(ACCEPTED + REJECTED, results, strict=True):
        where = place / vector["name"]
        if vector["expect"] == "reject":
            right = ran.status == 6 and listed(where) == ["layout"]
            wrong += [] if right else [f"{vector['name']}: {ran}"]
        elif ran.status:
            wrong.append(f"{vector['name']}: {ran}")
        else:
            wrong += [
                f"{vector['name']}: {each}" for each in _differences(where / "tree", wanted(vector, owners=False))
            ]
    assert not wrong
    assert sum(MINE in ran.err for ran, _ in results) == len(ACCEPTED)


def _differences(tree: Path, vector: Data) -> list[str]:
    return mismatches(vector, ondisk.read(tree))


@needs_root
@pytest.mark.parametrize("vector", ACCEPTED, ids=lambda vector: vector["name"])
def test_vectors_as_root(vector: Data, tmp_path: Path) -> None:
    source = layout(tmp_path / "layout", *vector["layers"])
    ran = run_here("unpack", source, str(tmp_path / "tree"), "--devices", "keep")
    assert ran.status == 0, ran
    assert not _differences(tmp_path / "tree", wanted(vector, owners=True, devices=True))
    assert listed(tmp_path) == ["layout", "tree"]


def test_the_whole_of_a_real_tree(tmp_path: Path) -> None:
    """Every attribute of every path, against what the library says is visible."""
    ran = run_here("unpack", ZONES, str(tmp_path / "tree"), "--chown", "no", "-q").ok
    assert ran.out.decode() == f"{tmp_path}/tree\n"
    found = ondisk.read(tmp_path / "tree")
    with ocirootfs.open(ZONES) as image:
        shown = {entry.path: (entry, b"".join(body)) for entry, body in ocirootfs.flatten(image)}
    kinds = {"char", "block"}
    assert set(found) == {path for path, (entry, _) in shown.items() if entry.kind.name.lower() not in kinds}
    for path, node in found.items():
        entry, data = shown[path]
        assert node.mtime == entry.mtime, path
        if entry.link and node.type == "file":
            assert node is found[entry.link]
        elif node.type != "symlink":
            assert (node.mode, node.data) == (entry.mode, data), path


def unpack(source: str, place: Path, *options: str) -> dict[str, os.stat_result]:
    """Unpack below `place` and return the status of every path."""
    ran = run_here("unpack", source, str(place / "tree"), "-q", *options).ok
    assert ran.out.decode() == f"{place}/tree\n"
    tree = place / "tree"
    return {str(path.relative_to(tree)): path.lstat() for path in tree.rglob("*")}


def test_layout_for_concourse(tmp_path: Path) -> None:
    found = unpack(ZONES, tmp_path, "--layout", "concourse")
    packed = run_here("pack", ZONES, "-o", str(tmp_path / "a.tgz")).ok
    assert packed.out
    names = subprocess.run(["tar", "tzf", str(tmp_path / "a.tgz")], capture_output=True, text=True, check=True).stdout
    assert sorted(found) == sorted(name.rstrip("/") for name in names.splitlines())
    with ocirootfs.open(ZONES) as image:
        assert (tmp_path / "tree" / "metadata.json").read_bytes() == ocirootfs.metadata(image)
    assert {status.st_mtime for name, status in found.items() if "/" not in name} == {0}
    assert found["rootfs/usr/share/zoneinfo/UTC"].st_nlink == 4


def test_left_out(tmp_path: Path) -> None:
    entries: list[Data] = [file("a/b"), file("a/c"), file("d/e/f"), link("g", "d/e/f"), {"type": "dir", "name": "h"}]
    found = unpack(layout(tmp_path / "layout", entries), tmp_path, "--exclude", "a/*", "--exclude", "d")
    assert sorted(found) == ["a", "g", "h"]
    assert (tmp_path / "tree" / "g").read_text() == "d/e/f"


def test_empty_directories_are_kept(tmp_path: Path) -> None:
    entries: list[Data] = [
        {"type": "dir", "name": "e/f", "mode": "0500", "mtime": 7}, {"type": "dir", "name": "g"},
        file("g/.keep", "mine"), {"type": "char", "name": "dev/null", "devmajor": 1, "devminor": 3},
        {"type": "dir", "name": "h"}, file("h/x"),
    ]  # fmt: skip
    found = unpack(layout(tmp_path / "layout", entries), tmp_path, "--keep-empty")
    assert sorted(found) == ["dev", "dev/.keep", "e", "e/f", "e/f/.keep", "g", "g/.keep", "h", "h/x"]
    assert (tmp_path / "tree" / "g" / ".keep").read_text() == "mine"
    assert (tmp_path / "tree" / "e" / "f" / ".keep").read_text() == ""
    assert (found["e/f"].st_mtime, found["e/f/.keep"].st_mtime) == (7, 7)
    shutil.rmtree(tmp_path / "tree")
    assert sorted(unpack(layout(tmp_path / "none", []), tmp_path, "--keep-empty")) == [".keep"]


def test_what_is_lost_is_told_once(tmp_path: Path) -> None:
    device: Data = {"type": "block", "name": "dev/sda", "devmajor": 8, "devminor": 0}
    entries: list[Data] = [
        device, {**device, "name": "dev/sdb"}, link("dev/sdc", "dev/sda"), {**file("su"), "mode": "4755"},
        {"type": "symlink", "name": "s", "linkname": "x", "xattrs": {"user.a": "b"}},
    ]  # fmt: skip
    source = layout(tmp_path / "layout", entries)
    ran = run_here("unpack", source, str(tmp_path / "tree"), "--chown", "no", "--xattrs")
    assert ran.status == 0
    assert ran.err.splitlines() == [
        "ocirootfs: warning: 3 device nodes are left out; --devices keep makes them, as root: 'dev/sda', …",
        "ocirootfs: warning: 1 files are without their setuid and setgid bits, as they are not their owners': 'su'",
        "ocirootfs: warning: 1 files are without some of their extended attributes, which were refused: 's'",
    ]
    with ocirootfs.open(source) as image:
        unpacked = ocirootfs.unpack(image, tmp_path / "again", owners=False)
        assert unpacked.digest == image.digest
    assert unpacked.report.devices == [b"dev/sda", b"dev/sdb", b"dev/sdc"]
    assert (unpacked.losses.set_ids, unpacked.losses.xattrs, unpacked.report.entries) == ([b"su"], [], 4)
    assert Path(unpacked.location) == tmp_path / "again"


def test_xattrs(tmp_path: Path) -> None:
    capability = "\x01\x00\x00\x02\x00\x20\x00\x00" + "\x00" * 12
    xattrs = {"user.ours": "yes", "user.overlay.opaque": "y", "security.capability": capability}
    entries: list[Data] = [{**file("a"), "mode": "0444", "xattrs": xattrs, "uid": 3}]
    source = layout(tmp_path / "layout", entries)
    unpack(source, tmp_path)
    assert os.listxattr(tmp_path / "tree" / "a") == []
    ran = run_here("unpack", source, str(tmp_path / "with"), "--xattrs")
    found = set(os.listxattr(tmp_path / "with" / "a"))
    assert found == ({"user.ours", "security.capability"} if IS_ROOT else {"user.ours"}) or "were refused" in ran.err
    plain = run_here("unpack", source, str(tmp_path / "plain"), "--chown", "no")
    assert plain.err == (
        "ocirootfs: warning: 1 files are without their capabilities; --xattrs writes those, as root: 'a'\n"
    )


@pytest.mark.parametrize(
    ("xattrs", "kept"),
    [({"user.": "c", "user.z": "y"}, ["user.z"]), ({"user." + "n" * 300: "c"}, []), ({"user.a": "x" * 70_000}, [])],
)
def test_xattrs_that_no_file_system_takes(xattrs: dict[str, str], kept: list[str], tmp_path: Path) -> None:
    source = layout(tmp_path / "layout", [{**file("a"), "xattrs": xattrs}])
    ran = run_here("unpack", source, str(tmp_path / "tree"), "--xattrs", "--chown", "no")
    assert ran.status == 0
    assert "1 files are without some of their extended attributes, which were refused: 'a'" in ran.err
    assert os.listxattr(tmp_path / "tree" / "a") in (kept, [])


@pytest.mark.parametrize(("target", "why"), [("", "no file system has a symbolic"), ("x" * 5000, "File name too long")])
def test_symlinks_that_no_file_system_takes(target: str, why: str, tmp_path: Path) -> None:
    source = layout(tmp_path / "layout", [{"type": "symlink", "name": "s", "linkname": target}])
    ran = run_here("unpack", source, str(tmp_path / "tree"))
    assert (ran.status, listed(tmp_path)) == (8, ["layout"])
    assert f"cannot write 's' in '{tmp_path}/tree': {why}" in ran.err


# Where it goes


@pytest.mark.parametrize(
    ("name", "status", "message"),
    [
        ("full", 2, "the directory 'full' is not empty"),
        ("file", 2, "'file' is there and is no directory"),
        ("link", 2, "'link' is there and is no directory"),
        (".", 2, "'.' cannot be replaced as a whole"),
        ("/", 2, "'/' cannot be replaced as a whole"),
        ("no/such/place", 8, "the directory it is to be in does not exist"),
        ("file/x", 8, "cannot make 'file/x': Not a directory"),
    ],
)
def test_no_place_for_it(name: str, status: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "full" / "x").touch()
    (tmp_path / "link").symlink_to("full")
    ran = run_here("unpack", ZONES, name)
    assert (ran.status, ran.out) == (status, b"")
    assert message in ran.err.splitlines()[0]
    assert listed(tmp_path) == ["file", "full", "link"]
    assert listed(tmp_path / "full") == ["x"]


@pytest.mark.parametrize("name", ["new", "new/", "empty", "empty/", "n" * 255])
def test_a_place_for_it(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir(mode=0o750)
    stream = run_here("fetch", ZONES).ok.out
    ran = run_here("unpack", name, "--chown", "no", "-q", stdin=stream).ok
    assert ran.out.decode() == f"{name}\n"
    assert listed(tmp_path) == sorted({"empty", name.rstrip("/")})
    assert stat.S_IMODE((tmp_path / name).stat().st_mode) == (0o750 if name.startswith("empty") else 0o755)


@needs_root
def test_owners_of_root_only(place: Path) -> None:
    """Who cannot give files away is told before anything is read."""
    jobs = [{"in": str(place), "arguments": ["unpack", ZONES, "tree", "--chown", "yes"]}]
    ((ran, _),) = ondisk.run_as(ondisk.NOBODY, place, jobs)
    assert ran.status == 8
    assert ran.err == (
        "ocirootfs: error: cannot write 'tree': giving files to their owners takes root\n"
        "  hint: --chown no leaves all files to you\n"
    )
    assert listed(place) == ["jobs.json"]


@needs_root
def test_devices_take_root(place: Path) -> None:
    entries: list[Data] = [file("a"), {"type": "char", "name": "dev/null", "devmajor": 1, "devminor": 3}]
    jobs = [{"in": str(place), "arguments": ["unpack", layout(place / "layout", entries), "tree", "--devices", "keep"]}]
    ((ran, _),) = ondisk.run_as(ondisk.NOBODY, place, jobs)
    assert ran.status == 8
    assert ran.err.startswith("ocirootfs: error: cannot write 'dev/null' in 'tree': making device nodes takes root")
    assert listed(place) == ["jobs.json", "layout"]


# Long and deep


def test_a_name_that_no_disk_takes(tmp_path: Path) -> None:
    source = layout(tmp_path / "layout", [file("a/" + "n" * 255), file("a/" + "n" * 256)])
    ran = run_here("unpack", source, str(tmp_path / "tree"))
    assert ran.status == 8
    assert f"cannot write 'a/{'n' * 197}…' in '{tmp_path}/tree': File name too long" in ran.err
    assert listed(tmp_path) == ["layout"]


def test_a_deep_path(tmp_path: Path) -> None:
    """Longer than PATH_MAX, with few descriptors, and then removed because the input ends badly."""
    entries = [file("d/" * USUAL.path_depth + "f"), file("d/" * (USUAL.path_depth // 2) + "g")]
    source = build([{"entries": entries, "wrap": "none"}]).layout(tmp_path / "layout")

    def few_descriptors() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))

    words = ["unpack", "-q", str(tmp_path / "tree")]
    stream = run_here("fetch", f"oci:{source}").ok.out
    cut = run(*words, stdin=stream[:-1024], preexec_fn=few_descriptors)
    assert (cut.status, listed(tmp_path)) == (6, ["layout"])
    assert run(*words, stdin=stream, preexec_fn=few_descriptors).status == 0
    descriptor = os.open(tmp_path / "tree", os.O_RDONLY)
    for _ in range(USUAL.path_depth):
        inner = os.open("d", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = inner
    with os.fdopen(os.open("f", os.O_RDONLY, dir_fd=descriptor)) as found:
        assert found.read() == entries[0]["data"]
    os.close(descriptor)
    subprocess.run(["rm", "-rf", str(tmp_path / "tree")], check=True)


# Nothing is left


def test_a_parent_that_is_swapped_for_a_link(many: str, tmp_path: Path) -> None:
    """Somebody who may rename what the new directory is in sends nothing elsewhere."""
    inside, outside, aside = (tmp_path / name for name in ("inside", "outside", "aside"))
    inside.mkdir()
    outside.mkdir()
    with started("unpack", "-q", many, str(inside / "tree")) as process:
        while not listed(inside) and process.poll() is None:
            time.sleep(0.002)
        inside.rename(aside)
        inside.symlink_to(outside)
        for _ in range(200):
            aside.rename(tmp_path / "there")
            aside.symlink_to(outside)
            aside.unlink()
            (tmp_path / "there").rename(aside)
        ran = finished(process)
    assert ran.status == 0, ran
    assert (listed(outside), listed(aside)) == ([], ["tree"])


HARD_TO_REMOVE: list[Data] = [
    *({**file(f"{name}/x/y"), "mode": "0000"} for name in "abc"),
    *({"type": "dir", "name": name, "mode": mode} for name, mode in (("a", "0000"), ("b/x", "0555"), ("c", "0300"))),
]


def test_what_was_made_is_removed_whoever_made_it(place: Path) -> None:
    """The input turns out to be cut when everything is on disk, and has its final modes."""
    source = layout(place / "layout", HARD_TO_REMOVE)
    (place / "cut.tar").write_bytes(run_here("fetch", source).ok.out[:-1024])
    jobs = [
        {"in": str(place), "arguments": ["unpack", "tree"], "stdin": str(place / "cut.tar")},
        {"in": str(place), "arguments": ["unpack", source, "whole"]},
    ]
    (cut, _), (whole, _) = ondisk.run_as(ondisk.NOBODY, place, jobs)
    assert (cut.status, whole.status) == (6, 0), cut
    assert listed(place) == ["cut.tar", "jobs.json", "layout", "whole"]
    again = run_here("unpack", str(place / "tree"), stdin=(place / "cut.tar").read_bytes())
    assert again.status == 6
    assert listed(place) == ["cut.tar", "jobs.json", "layout", "whole"]


def test_a_name_given_twice_starts_over(tmp_path: Path) -> None:
    low, high = [file("x/y", "1"), file("x/y", "2")], [file("a/b", "1"), file("a/b/c", "2")]
    source = layout(tmp_path / "layout", low, high)
    stream = run_here("fetch", source).ok.out
    run_here("unpack", str(tmp_path / "piped"), "-q", stdin=stream).ok  # noqa: B018
    unpack(source, tmp_path)
    for name in ("tree", "piped"):
        assert (tmp_path / name / "x" / "y").read_text() == "2"
        assert (tmp_path / name / "a" / "b" / "c").read_text() == "2"
    assert listed(tmp_path) == ["layout", "piped", "tree"]


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An image that takes a while: some thousand files in some hundred directories."""
    entries = [file(f"{number % 300:03}/{number % 7}/{number}", "x" * 50) for number in range(6000)]
    return layout(tmp_path_factory.mktemp("many") / "layout", entries)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_stopped_at_any_time(seed: int, number: int, status: int, many: str, tmp_path: Path) -> None:
    with started("unpack", "-q", many, str(tmp_path / "tree")) as process:
        while not listed(tmp_path) and process.poll() is None:
            time.sleep(0.002)
        time.sleep(random.Random(seed).random() * 0.5)
        process.send_signal(number)
        ran = finished(process)
    # It was faster, or nearly: a signal that comes while the interpreter ends, when all is done and told, kills it.
    if ran.status == 0 or (ran.status == -number and ran.out):
        assert listed(tmp_path) == ["tree"]
    else:
        assert (ran.status, listed(tmp_path)) == (status, []), ran
        assert ran.err == f"ocirootfs: {signal.Signals(number).name}: stopped, and nothing was published\n"


_SMALL_DISK = """
mount -t tmpfs -o size=256k,mode=0700 none "$1" || exit 77
shift; cd "$1"; shift
"$@"; status=$?
ls -A
exit $status
"""


def test_a_full_disk(many: str, tmp_path: Path) -> None:
    shell = [
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        _SMALL_DISK,
        "sh",
        str(tmp_path),
        str(tmp_path),
    ]
    command = [*shell, *OCIROOTFS, "unpack", many, "tree", "--chown", "no"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment(), check=False)
    except FileNotFoundError:
        pytest.skip("unshare is not installed")
    if done.returncode in (1, 77) and "error" not in done.stderr:
        pytest.skip("no user namespaces here")
    assert (done.returncode, done.stdout) == (8, ""), done
    assert "in 'tree': No space left on device" in done.stderr


@needs_root
def test_a_directory_that_may_not_be_written(place: Path) -> None:
    (place / "shut").mkdir()
    jobs = [{"in": str(place), "arguments": ["unpack", ZONES, "shut/tree"], "shut": str(place / "shut")}]
    ((ran, _),) = ondisk.run_as(ondisk.NOBODY, place, jobs)
    assert (ran.status, ran.err) == (8, "ocirootfs: error: cannot make 'shut/tree': Permission denied\n")


@pytest.mark.parametrize("fault", ["truncate_wrapped", "flip_wrapped", "diff_id"])
def test_a_broken_layer(fault: str, tmp_path: Path) -> None:
    value = {"truncate_wrapped": -30, "flip_wrapped": 700, "diff_id": "sha256:" + "0" * 64}[fault]
    image = build([{"entries": [file("a")], "wrap": "none", fault: value}, {"entries": [file("b")], "wrap": "none"}])
    ran = run_here("unpack", f"oci:{image.layout(tmp_path / 'layout')}", str(tmp_path / "tree"))
    assert (ran.status, listed(tmp_path)) == (6, ["layout"])
    assert ran.err.endswith(f"; nothing was written to {tmp_path}/tree\n")
