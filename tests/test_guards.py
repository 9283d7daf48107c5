"""What keeps `unpack` inside its directory: each guard holds, and each, taken out, is missed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.guards import CHECKS, MUTANTS, Scene, run
from tests.test_mutants import broken_copy

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.mutants import Mutant


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_guard(check: Callable[[Scene], None]) -> None:
    run(check)


def test_all_of_them_as_nobody(tmp_path: Path) -> None:
    done = broken_copy(tmp_path, None, "tests.guards")
    assert (done.returncode, done.stdout) == (0, "ready\n"), done.stderr


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name.replace(" ", "-"))
def test_a_guard_taken_out_is_missed(mutant: Mutant, tmp_path: Path) -> None:
    done = broken_copy(tmp_path, mutant, "tests.guards")
    assert done.stdout == "ready\n", done.stderr
    assert done.returncode == 1, f"survived: {mutant.name}"
