"""Each target of `tests.fuzz` for a moment, the same inputs each time; OCIROOTFS_FUZZ=SECONDS for more and others."""

from __future__ import annotations

import itertools
import os

import pytest

from tests.fuzz import TARGETS, mutator
from tests.fuzz.target import SlowError, Target, find, run, timed

SECONDS = float(os.environ.get("OCIROOTFS_FUZZ", "1"))
MOST = None if "OCIROOTFS_FUZZ" in os.environ else 3000


@pytest.mark.timeout(SECONDS * 2 + 60)
@pytest.mark.parametrize("name", TARGETS)
def test_a_value_or_our_error(name: str) -> None:
    target = find(name)
    tried = run(target, SECONDS, seed=0 if MOST else int.from_bytes(os.urandom(4), "big"), most=MOST)
    print(f"{name}: {tried} inputs")
    assert tried > min(len(target.seeds), 20)


def test_the_mutations_are_many_and_the_same_each_time() -> None:
    seeds = [b"seed 12", bytes(2048)]
    first, second = (list(itertools.islice(mutator.mutants(seeds, 5), 300)) for _ in range(2))
    assert first == second
    assert first[:2] == seeds
    assert len(set(first)) > 250
    assert all(len(each) <= 1 << 16 for each in first)


def test_a_finding_names_its_input() -> None:
    def check(data: bytes) -> None:
        assert data != b"seed"

    with pytest.raises(AssertionError) as caught:
        run(Target("it", [b"seed"], check), 1, 0)
    assert caught.value.__notes__[-1] == "it: b'seed'"


def test_what_takes_long_is_a_finding() -> None:
    with pytest.raises(SlowError):
        timed(Target("it", [b""], lambda _: sum(range(300_000_000))), b"")
