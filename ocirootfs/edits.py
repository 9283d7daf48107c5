"""What is said of an image in its archive, changed on the way: the environment, the user, the command, the labels.

The files are not touched, nor is the image's digest, which says what the archive was made of.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from ocirootfs import strictjson
from ocirootfs.errors import InputError, UsageError, is_text, printable
from ocirootfs.strictjson import as_object, as_string, as_strings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ocirootfs.manifest import Config
    from ocirootfs.strictjson import Json

METADATA = ("env", "user", "entrypoint", "cmd")
"""The names in Concourse's `metadata.json`."""


class Keep(enum.Enum):
    """As the image has it: None says that there is to be none."""

    KEEP = "keep"


KEEP = Keep.KEEP
Command: TypeAlias = tuple[str, ...] | Keep | None


@dataclass(frozen=True, slots=True)
class Edits:
    """Changes to what a config says; the default changes nothing.

    `env` holds `NAME=VALUE`, put where the image has that variable or else at the end; those in `unset_env` are left
    out. With `whole_env` nothing of the image's own environment counts. `entrypoint` and `cmd` are independent of each
    other, unlike docker's `--entrypoint`. Raises UsageError for what no container starts with.

    >>> edits = ocirootfs.Edits(env=("LANG=C.UTF-8",), user="nobody", cmd=("/bin/sh",))
    >>> with ocirootfs.open("oci:tests/fixtures/zones") as image:
    ...     print(edits.apply(image.config).user)
    nobody
    """

    env: tuple[str, ...] = ()
    unset_env: tuple[str, ...] = ()
    whole_env: tuple[str, ...] | None = None
    user: str | None = None
    entrypoint: Command = KEEP
    cmd: Command = KEEP
    labels: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        for text in self._texts():
            if not is_text(text):
                raise UsageError(f"'{printable(text, 60)}' is not UTF-8")
        for variable in (*self.env, *(self.whole_env or ())):
            _check_variable(variable)
        for name in self.unset_env:
            if not name or "=" in name:
                raise UsageError(f"'{printable(name, 60)}' is not the name of a variable")
        if both := sorted({_name(each) for each in self.env} & set(self.unset_env)):
            raise UsageError(f"the variable '{printable(both[0], 60)}' cannot be both set and unset")
        if self.user is not None and (self.user.count(":") > 1 or any(sign in self.user for sign in "\0\r\n")):
            raise UsageError(f"'{printable(self.user, 60)}' is not a user of the form USER[:GROUP]")

    def _texts(self) -> Iterator[str]:
        yield from (*self.env, *self.unset_env, *(self.whole_env or ()), self.user or "")
        for command in (self.entrypoint, self.cmd):
            yield from () if isinstance(command, Keep) else command or ()
        for name, value in self.labels:
            yield from (name, value)

    def __bool__(self) -> bool:
        return self != Edits()

    def apply(self, config: Config) -> Config:
        """Return the config with the changes; its `raw` stays that of the image."""
        return replace(
            config,
            env=self._environment(config.env if self.whole_env is None else self.whole_env),
            user=config.user if self.user is None else self.user,
            entrypoint=config.entrypoint if isinstance(self.entrypoint, Keep) else self.entrypoint,
            cmd=config.cmd if isinstance(self.cmd, Keep) else self.cmd,
            labels={**config.labels, **dict(self.labels)},
        )

    def _environment(self, given: Iterable[str]) -> tuple[str, ...]:
        """Put each new variable where its name first stands, and leave out the rest of that name."""
        ours = {_name(variable): variable for variable in self.env}
        placed: set[str] = set()
        found: list[str] = []
        for variable in given:
            name = _name(variable)
            if name in self.unset_env or name in placed:
                continue
            if name in ours:
                placed.add(name)
            found.append(ours.get(name, variable))
        return (*found, *(variable for name, variable in ours.items() if name not in placed))

    @classmethod
    def of_metadata(cls, raw: bytes, what: str) -> Edits:
        """Read a `metadata.json`: each of env, user, entrypoint and cmd in it replaces the image's.

        `what` names it in the UsageError that anything else raises.
        """
        try:
            document = as_object(strictjson.load(raw, what), what)
            if strange := sorted(set(document) - set(METADATA)):
                raise UsageError(
                    f"{what}: Concourse knows no '{printable(strange[0], 60)}'", hint=f"there are {', '.join(METADATA)}"
                )
            return cls(
                whole_env=as_strings(document["env"], f"{what}: env") if "env" in document else None,
                user=as_string(document["user"], f"{what}: user") if "user" in document else None,
                entrypoint=_command(document, "entrypoint", what),
                cmd=_command(document, "cmd", what),
            )
        except InputError as error:
            raise UsageError(str(error)) from None


def command(text: str, what: str) -> tuple[str, ...] | None:
    """Read a command as JSON: an array of strings, or null for none. Raises UsageError."""
    hint = f"""{what} '["/bin/sh", "-c"]', or null for none"""
    try:
        value = strictjson.load(text.encode("utf-8", "surrogateescape"), what)
        return _words(value, what)
    except InputError as error:
        raise UsageError(str(error), hint=hint) from None


def _command(document: dict[str, Json], name: str, what: str) -> Command:
    return _words(document[name], f"{what}: {name}") if name in document else KEEP


def _words(value: Json, what: str) -> tuple[str, ...] | None:
    return None if value is None else as_strings(value, what)


def _name(variable: str) -> str:
    return variable.partition("=")[0]


def _check_variable(variable: str) -> None:
    """Demand what runc starts a container with."""
    name, equals, _ = variable.partition("=")
    if not name or not equals or "\0" in variable:
        raise UsageError(f"'{printable(variable, 60)}' is not a variable of the form NAME=VALUE")
