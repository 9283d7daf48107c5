"""`python -m tests.fuzz TARGET --seconds N`: fuzz one target, and say how many inputs were tried."""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.fuzz import TARGETS


def main() -> None:
    words = argparse.ArgumentParser(prog="python -m tests.fuzz")
    words.add_argument("target", choices=TARGETS)
    words.add_argument("--seconds", type=int, default=60)
    words.add_argument("--seed", type=int, default=0)
    words.add_argument("--corpus", type=Path, help="a directory that atheris keeps what it finds interesting in")
    words.add_argument("--without-atheris", action="store_true")
    chosen = words.parse_args()
    logging.getLogger("ocirootfs").setLevel(logging.CRITICAL)
    if find_spec("atheris") is None or chosen.without_atheris:
        from tests.fuzz.target import find, run  # noqa: PLC0415  # atheris must be there before the package

        count = run(find(chosen.target), chosen.seconds, chosen.seed)
        print(f"{chosen.target}: {count} inputs, nothing found")
        return
    with tempfile.TemporaryDirectory() as place:
        _guided(chosen, chosen.corpus or Path(place))


def _guided(chosen: argparse.Namespace, corpus: Path) -> None:
    """Let atheris choose the inputs; libFuzzer prints what it does, and ends the process."""
    atheris: Any = import_module("atheris")
    with atheris.instrument_imports(include=["ocirootfs"]):
        common: Any = import_module("tests.fuzz.target")
        target = common.find(chosen.target)
    corpus.mkdir(exist_ok=True)
    for number, seed in enumerate(target.seeds):
        (corpus / f"seed-{number:04}").write_bytes(seed)
    words = [f"-max_total_time={chosen.seconds}", f"-seed={chosen.seed + 1}", "-max_len=65536", "-rss_limit_mb=1024"]
    atheris.Setup([sys.argv[0], *words, "-timeout=20", str(corpus)], lambda data: common.timed(target, data))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
