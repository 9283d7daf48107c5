"""What gunzip and bunzip2 call the file that they write, which is how they decide whether to write one at all.

Sources: GNU gzip 1.12 (gzip.c, get_suffix and make_ofname), bzip2 1.0.8 (bzip2.c), busybox 1.37
(archival/bbunzip.c).
"""

from __future__ import annotations

from ocirootfs.consumer.sniff import BZIP2

_GZIP = (".gz", ".z", ".taz", ".tgz", "-gz", "-z", "_z")
_BZIP2 = {".bz2": "", ".bz": "", ".tbz2": ".tar", ".tbz": ".tar"}


def gnu(name: str, kind: str) -> str | None:
    """Return what `name` unpacks to with GNU gunzip, or bunzip2 for `kind` bz2; None where that refuses the name."""
    if kind == BZIP2:
        suffix = next((each for each in _BZIP2 if name.endswith(each)), None)
        return f"{name}.out" if suffix is None else name.removesuffix(suffix) + _BZIP2[suffix]
    lower = name.lower()
    suffix = next((each for each in _GZIP if lower.endswith(each) and len(name) > len(each)), None)
    if suffix is None:
        return None
    stem = name[: -len(suffix)]
    return f"{stem}.tar" if suffix in (".taz", ".tgz") else stem


def busybox(name: str, kind: str) -> str | None:
    """Return what `name` unpacks to with busybox; None where that refuses the name."""
    stem, dot, suffix = name.rpartition(".")
    if not dot:
        return None
    if kind == BZIP2:
        return stem if suffix == "bz2" else None
    if suffix == "tgz":
        return f"{stem}.tar"
    return stem if suffix in ("gz", "Z") else None
