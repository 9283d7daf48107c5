"""Fuzzing: whatever arrives is a value or our error, in bounded time and memory, however it is cut into pieces.

    python -m tests.fuzz TARGET --seconds N

One module a target, each with SEEDS and `check(data)`, which returns quietly or raises. atheris guides the mutations by
coverage where it is installed (`pip install -e '.[fuzz]'`), else a seeded mutator of our own makes them. `test_fuzz`
runs each for a moment, with the same bytes every time.
"""

TARGETS = (
    "tarstream", "paxrecords", "sparsemaps", "references", "challenges", "ranges", "documents", "compressed", "members",
    "stacks",
)  # fmt: skip
