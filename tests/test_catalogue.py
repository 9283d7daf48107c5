"""The catalogue: its tests exist, and its totals count what was run."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.catalogue import ATTACKS, FAULTS, TABLES, held, holding, summary

ROOT = Path(__file__).parents[1]
ROWS = [(title, name, row) for title, (rows, _) in TABLES.items() for name, row in rows.items()]


def functions(path: Path) -> set[str]:
    return {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize(("row"), [row for *_, row in ROWS], ids=[f"{title}: {name}" for title, name, _ in ROWS])
def test_each_row_has_tests(row: tuple[str, ...]) -> None:
    assert row
    for test in holding(row):
        file, _, function = test.partition("::")
        assert function in functions(ROOT / file), test


def test_there_are_as_many_rows_as_were_thought_of() -> None:
    """36 attacks by registries and outputs and 6 on buckets, and two of our own; 44 faults, and one of our own."""
    assert (len(ATTACKS), len(FAULTS)) == (44, 45)


def test_totals() -> None:
    rows = {"one": ("a::b", "a::c"), "two": ("a::d",), "three": ("a::e",)}
    b, c, d = holding(("a::b", "a::c", "a::d"))
    assert held(rows, {b, c}, {d}) == {"one": "held", "two": "LOST", "three": "not run"}
    assert held(rows, {b}, set())["one"] == "not run"
    assert held(rows, {b, c}, {c})["one"] == "LOST"
    assert summary(set(), set(), full=True) == []
    everything = {test for *_, row in ROWS for test in holding(row)}
    assert summary(everything, set(), full=False) == [
        f"attacks: {len(ATTACKS)} of {len(ATTACKS)} contained",
        f"faults: {len(FAULTS)} of {len(FAULTS)} survived, 0 lost",
    ]
    lost = summary(everything, {holding(("faults::killed",))[0]}, full=True)
    assert lost[-1] == f"faults: {len(FAULTS) - 1} of {len(FAULTS)} held; 1 LOST"
    assert "  LOST     SIGKILL" in lost
