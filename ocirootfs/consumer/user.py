"""Which numbers a user is started with, looked up in the image's own /etc/passwd and /etc/group.

Source: moby/sys/user 0.4.1, GetExecUser, by which Concourse's runtimes look users up (worker/runtime,
rootfs_manager.go), with root and its group as the default.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_NUMBER = re.compile(r"[+-]?[0-9]+", re.ASCII)
_LARGEST = 2**31 - 1
_LARGEST_INT = 2**63 - 1


class Ids(NamedTuple):
    """The numbers of a user and its group."""

    uid: int
    gid: int


def resolve(user: str, passwd: bytes | None, group: bytes | None) -> Ids | str:
    """Return what `user` is in an image with these files, None for none; or else say why no container starts."""
    if not user or (user == "root" and passwd is None):
        return Ids(0, 0)
    name, _, group_name = user.partition(":")
    group_name = group_name.partition(":")[0]
    found = _found_user(name, passwd)
    if isinstance(found, str) or not group_name:
        return found
    number = _number(group_name)
    for fields in _lines(group):
        if (_field(fields, 2) == number) if number is not None else fields[0] == group_name:
            return Ids(found.uid, _field(fields, 2))
    if number is None:
        return f"unable to find group {group_name}"
    return Ids(found.uid, number) if 0 <= number <= _LARGEST else "uids and gids must be in range 0-2147483647"


def _found_user(name: str, passwd: bytes | None) -> Ids | str:
    number = _number(name)
    for fields in _lines(passwd):
        uid = _field(fields, 2)
        if uid == (number or 0) if not name or number is not None else fields[0] == name:
            return Ids(uid, _field(fields, 3))
    if not name:
        return Ids(0, 0)
    if number is None:
        return f"unable to find user {name}: no matching entries in passwd file"
    return Ids(number, 0) if 0 <= number <= _LARGEST else "uids and gids must be in range 0-2147483647"


def _lines(file: bytes | None) -> Iterator[list[str]]:
    for line in (file or b"").decode(errors="replace").split("\n"):
        if stripped := line.strip():
            yield stripped.split(":")


def _field(fields: list[str], at: int) -> int:
    """Read a number; what is none counts as 0, as there."""
    return (_number(fields[at]) if at < len(fields) else 0) or 0


def _number(text: str) -> int | None:
    """Read a number as strconv.Atoi does."""
    if not _NUMBER.fullmatch(text) or len(text) > 40:
        return None
    value = int(text)
    return value if -_LARGEST_INT - 1 <= value <= _LARGEST_INT else None
