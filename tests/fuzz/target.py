"""What targets have in common: their names, the errors that are allowed, and the ways to run them."""

from __future__ import annotations

import importlib
import itertools
import random
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from ocirootfs.errors import InputError, OcirootfsError
from tests.fuzz import mutator

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SLOW = 2.0  # seconds for one input of at most 64 KiB


class Target(NamedTuple):
    """One thing to fuzz: `check` does all that is to be done with some bytes, and raises if it should not have."""

    name: str
    seeds: Sequence[bytes]
    check: Callable[[bytes], object]


class SlowError(AssertionError):
    """An input that takes longer than it may."""


def find(name: str) -> Target:
    """Return the target of that name."""
    module: Any = importlib.import_module(f"tests.fuzz.{name}")
    return Target(name, module.SEEDS, module.check)


def outcome(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return the value, or the kind of our error; anything else is a finding and passes through.

    What is broken may be noticed sooner or later as it comes in other pieces, so all InputErrors are one.
    """
    try:
        return function(*arguments)
    except OcirootfsError as error:
        text = f"{error} {error.hint or ''}"
        if any(ord(character) < 0x20 or 0x7F <= ord(character) <= 0x9F for character in text):
            raise AssertionError(f"control characters in the message {text!r}") from error
        return InputError if isinstance(error, InputError) else type(error)


def cut(data: bytes) -> list[bytes]:
    """Cut data into pieces in a way that depends on it alone."""
    return mutator.pieces(data, random.Random(len(data)))


def timed(target: Target, data: bytes) -> None:
    """Check one input, and how long that takes."""
    begun = time.process_time()
    target.check(data)
    if time.process_time() - begun > SLOW:
        raise SlowError(f"{len(data)} bytes took {time.process_time() - begun:.1f} s")


def run(target: Target, seconds: float, seed: int, most: int | None = None) -> int:
    """Check mutations until the time is over, or `most` of them, and return how many."""
    end = time.monotonic() + seconds
    count = 0
    for data in itertools.islice(mutator.mutants(target.seeds, seed), most):
        count += 1
        try:
            timed(target, data)
        except Exception as error:
            error.add_note(f"{target.name}: {data!r}")
            raise
        if time.monotonic() > end:
            break
    return count
