"""The flattening rules, each broken in turn: the vectors and the model must notice.

A mutant is a copy of the package in which one text is replaced. It runs in a process of its own, where it is what
`import ocirootfs` finds. Each takes a second or two, so every third is tried unless OCIROOTFS_GUARDS=all.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import ocirootfs
from tests.mutants import MUTANTS, Mutant

PACKAGE = Path(ocirootfs.__file__).parent
ROOT = Path(__file__).parents[1]

CHECK = """
import ocirootfs
assert ocirootfs.__file__.startswith({where!r}), ocirootfs.__file__
from {checks} import main
print("ready", flush=True)
main()
"""


def check(where: Path, checks: str = "tests.mutants") -> subprocess.CompletedProcess[str]:
    """Run the compact check of a module on the copy of the package in `where`."""
    environment = os.environ | {"PYTHONPATH": f"{where}{os.pathsep}{ROOT}", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", CHECK.format(where=str(where), checks=checks)]
    return subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True, timeout=100, check=False)


def broken_copy(where: Path, mutant: Mutant | None, checks: str) -> subprocess.CompletedProcess[str]:
    """Copy the package, break it in one place, and run the compact check of a module on it."""
    shutil.copytree(PACKAGE, where / "ocirootfs")  # with its bytecode: times are kept
    (where / "ocirootfs" / "__init__.py").write_text("")  # which would import the whole package
    if mutant:
        module = where / "ocirootfs" / f"{mutant.module}.py"
        source = module.read_text()
        assert source.count(mutant.text) == 1, "the mutant no longer fits its module"
        broken = source.replace(mutant.text, mutant.replacement)
        compile(broken, module.name, "exec")
        module.write_text(broken)
    return check(where, checks)


def test_the_package_passes(tmp_path: Path) -> None:
    done = broken_copy(tmp_path, None, "tests.mutants")
    assert done.returncode == 0, done.stderr


TRIED = MUTANTS if os.environ.get("OCIROOTFS_GUARDS") == "all" else MUTANTS[::3]


def test_mutants_fit() -> None:
    for mutant in MUTANTS:
        assert (PACKAGE / f"{mutant.module}.py").read_text().count(mutant.text) == 1, mutant.name


@pytest.mark.parametrize("mutant", TRIED, ids=lambda mutant: mutant.name.replace(" ", "-"))
def test_mutant_is_caught(mutant: Mutant, tmp_path: Path) -> None:
    done = broken_copy(tmp_path, mutant, "tests.mutants")
    assert done.stdout == "ready\n", done.stderr
    assert done.returncode == 1, f"survived: {mutant.name}"


def test_mutants_are_enough_and_differ() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) > 80
    assert len({mutant[1:] for mutant in MUTANTS}) == len(MUTANTS)
