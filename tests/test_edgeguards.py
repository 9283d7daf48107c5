"""Checks of `tests.edgeguards` taken out of a copy of the package: the tests that hold them must fail there.

Each takes some seconds, so every sixth is tried unless OCIROOTFS_GUARDS=all.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import ocirootfs
from tests.edgeguards import GUARDS, Guard

PACKAGE = Path(ocirootfs.__file__).parent
ROOT = Path(__file__).parents[1]
PLUGINS = ("xdist", "hypothesispytest", "cacheprovider", "doctest", "junitxml", "pastebin", "nose")
# Says where the package came from, since a run that tests the wrong one proves nothing.
RUN = "import sys, ocirootfs, pytest; print(ocirootfs.__file__, flush=True); sys.exit(pytest.main(sys.argv[1:]))"


def held(where: Path, tests: tuple[str, ...]) -> tuple[bool, str]:
    """Run tests on the copy in `where`; whether they passed, and what they said."""
    paths = os.pathsep.join([str(where), str(ROOT)])
    environment = os.environ | {"PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"}
    options = [word for plugin in PLUGINS for word in ("-p", f"no:{plugin}")]
    words = [
        "-q",
        "-x",
        "-c",
        str(ROOT / "pyproject.toml"),
        "--rootdir",
        str(ROOT),
        "-o",
        "addopts=--import-mode=importlib",
    ]
    command = [sys.executable, "-c", RUN, *options, *words, f"--basetemp={where}/tmp"]
    done = subprocess.run(
        [*command, *(str(ROOT / "tests" / test) for test in tests)],
        cwd=where,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.stdout.startswith(str(where)), done.stdout + done.stderr
    assert done.returncode in {0, 1}, done.stdout + done.stderr
    return done.returncode == 0, done.stdout


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(PACKAGE, tmp_path / "ocirootfs")
    return tmp_path


TRIED = GUARDS if os.environ.get("OCIROOTFS_GUARDS") == "all" else GUARDS[::6]


def test_all_guards_fit() -> None:
    for guard in GUARDS:
        assert (PACKAGE / f"{guard.module}.py").read_text().count(guard.text) == 1, guard.name


@pytest.mark.parametrize("guard", TRIED, ids=lambda guard: guard.name.replace(" ", "-"))
def test_a_guard_that_is_gone_is_missed(guard: Guard, copy: Path) -> None:
    module = copy / "ocirootfs" / f"{guard.module}.py"
    source = module.read_text()
    assert source.count(guard.text) == 1, "the guard no longer fits its module"
    broken = source.replace(guard.text, guard.replacement)
    compile(broken, module.name, "exec")
    module.write_text(broken)
    passed, said = held(copy, guard.tests)
    assert not passed, f"nobody misses it:\n{said}"


def test_with_all_guards_the_tests_pass(copy: Path) -> None:
    passed, said = held(copy, tuple(sorted({test for guard in GUARDS for test in guard.tests})))
    assert passed, said
