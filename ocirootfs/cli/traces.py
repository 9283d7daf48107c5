"""Tracebacks that may be shown: libraries put URLs into theirs as they are, with passwords, signatures and all."""

from __future__ import annotations

import re
import traceback

from ocirootfs.errors import printable

_LONGEST = 2000  # characters of a line
# A digest after the @ is no host.
_USERINFO = re.compile(r"(?<=//)[^\s'\"<>]*@(?!sha\d+:)")
_QUERY = re.compile(r"(?<=[\w/.~%-])\?[^\s'\"<>()]*=[^\s'\"<>()]*")


def shown(error: BaseException) -> str:
    """Return the traceback of `error` and of its causes, lines fit for a terminal, without what signs in anywhere."""
    return "\n".join(_cleaned(line) for line in "".join(traceback.format_exception(error)).split("\n"))


def _cleaned(line: str) -> str:
    return printable(_QUERY.sub("?…", _USERINFO.sub("…@", line)), _LONGEST)
