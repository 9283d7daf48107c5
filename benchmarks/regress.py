"""Whether packing has become slower than the committed results say: for use before a release.

    python -m benchmarks.regress [--image many] [--rounds 5] [--tolerance 0.15]

Compared are ratios to gzip in the same run, never seconds, so that any quiet machine will do. Exit status 1 if one of
ours is worse than it was by more than the tolerance, or an archive larger.
"""

from __future__ import annotations

import argparse
import json
import sys

from benchmarks import pack
from benchmarks.contestants import FAST, OURS


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.regress", description=__doc__.partition("\n")[0])
    known = json.loads((pack.HERE / "RESULTS.json").read_text())
    parser.add_argument("--image", choices=sorted(known), action="append")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tolerance", type=float, default=0.15)
    chosen = parser.parse_args()
    worse = False
    for name in chosen.image or known:
        _, now = pack.measured(pack.build(name), chosen.rounds)
        for contestant in (OURS, FAST):
            was, found = known[name]["ratios"][contestant], now["ratios"][contestant]
            is_worse = found > was * (1 + chosen.tolerance)
            worse = worse or is_worse
            print(f"{name}, {contestant}: {found:.3f} of gzip, was {was:.3f}{', WORSE' if is_worse else ''}")
        if now["size"] > known[name]["size"] * 1.005:
            worse = True
            print(f"{name}: {now['size']:.4f} of gzip's size, was {known[name]['size']:.4f}, WORSE")
    sys.exit(worse)


if __name__ == "__main__":
    main()
