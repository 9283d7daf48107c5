"""The parser of the command line: argparse, with complaints, suggestions and help of our own."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING, Any, NoReturn

from ocirootfs.cli import streams
from ocirootfs.errors import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from _typeshed import SupportsWrite

# What the same is called elsewhere: crane, skopeo, docker, podman, umoci, oras.
_ELSEWHERE = {
    "pull": "fetch", "download": "fetch", "save": "fetch", "copy": "fetch", "cp": "fetch", "get": "fetch",
    "export": "pack", "flatten": "pack", "convert": "pack", "upload": "pack", "push": "pack", "build": "pack",
    "sync": "mirror", "batch": "mirror", "replicate": "mirror",
    "list": "ls", "tree": "ls", "cat": "ls", "files": "ls",
    "config": "inspect", "digest": "inspect", "manifest": "inspect", "stat": "inspect", "show": "inspect",
    "verify": "check", "validate": "check", "lint": "check", "test": "check",
    "help": "--help", "version": "--version", "extract": "unpack", "mount": "unpack", "create": "unpack",
    "--arch": "--platform", "--override-arch": "--platform", "--tls-verify": "--insecure", "--no-tls": "--plain-http",
    "--cacert": "--ca-file", "--ca-bundle": "--ca-file", "--cert-dir": "--ca-file", "--file": "--output",
    "--username": "--creds", "--user-pass": "--creds", "--registry-config": "--authfile", "--no-progress": "--progress",
    "--format": "--compress", "--key": "--output", "--bucket": "--output", "--force": "--if-exists",
}  # fmt: skip


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Lays out help, the same with every Python: 3.14 has colours, which take as long to load as all of `--help`."""

    def _set_color(self, *_: object, **__: object) -> None:
        self._theme, self._decolor = _Colourless(), str


class _Colourless:
    """A theme of argparse's, from 3.14 on, in which each colour is nothing."""

    def __getattr__(self, name: str) -> str:
        return ""


class Words(argparse.ArgumentParser):
    """A parser of words whose complaints look like all our others, and suggest what may have been meant.

    `--help` fits a screen: of the options in groups with a title it has the names. `--help-all` has everything.
    """

    def __init__(self, **settings: Any) -> None:
        plain = {"formatter_class": _Formatter, "allow_abbrev": False}
        super().__init__(**{**settings, **plain})
        self.suggest_on_error = False  # Python's own, from 3.14 on

    def _get_formatter(self) -> argparse.HelpFormatter:
        """Return one for no help: argparse asks for it with every option, to see whether the metavar is a good one."""
        return _Formatter(self.prog, width=80)  # it would ask for the terminal's, each time

    def format_help(self) -> str:
        """Return the short help."""
        return self.help_text(is_full=False)

    def help_text(self, *, is_full: bool) -> str:
        """Return the help, with or without what the options in groups do."""
        self.formatter_class = partial(_Formatter, width=_columns() - 2)
        formatter = super()._get_formatter()
        formatter.add_usage(self.usage_line(), self._actions, self._mutually_exclusive_groups)
        formatter.add_text(self.description)
        named: list[argparse._ArgumentGroup] = []
        for group in self._action_groups:
            if not is_full and self._is_extra(group):
                named.append(group)
                continue
            formatter.start_section(group.title)
            formatter.add_text(group.description)
            formatter.add_arguments(group._group_actions)  # noqa: SLF001  # as ArgumentParser does
            formatter.end_section()
        if named:
            formatter.add_text("\n".join(["more options, which --help-all explains:", *map(_names, named)]))
        formatter.add_text(self.epilog)
        return formatter.format_help()

    def _is_extra(self, group: argparse._ArgumentGroup) -> bool:
        is_usual = group in (self._positionals, self._optionals)
        return not is_usual and any(action.option_strings for action in group._group_actions)  # noqa: SLF001

    def usage_line(self) -> str:
        """Return `ocirootfs pack [options] [SOURCE]`."""
        places = {"?": "[{0}]", "+": "{0} [{0} ...]"}
        words = [
            places.get(str(action.nargs), "{0}").format(action.metavar) for action in self._get_positional_actions()
        ]
        return " ".join([self.prog, "[options]", *words])

    def verbs(self) -> Mapping[str, argparse.ArgumentParser]:
        """Return the parsers of the verbs, by name, in order."""
        found = (action for action in self._actions if isinstance(action, argparse._SubParsersAction))  # noqa: SLF001
        return next((action.choices for action in found), {})

    def _print_message(self, message: str, file: SupportsWrite[str] | None = None) -> None:
        """Print help or version: argparse says nothing where that fails, and Python a traceback at its exit."""
        if file is not sys.stdout:
            super()._print_message(message, file)
        elif status := streams.printed(message):
            sys.exit(status)

    def print_help_all(self) -> None:
        """Print everything."""
        self._print_message(self.help_text(is_full=True), sys.stdout)

    def error(self, message: str) -> NoReturn:
        """Say what is wrong in one line, and where to read more."""
        self._complain(message)

    def _complain(self, message: str, hint: str | None = None) -> NoReturn:
        streams.say(f"ocirootfs: error: {printable(message, 1000)}")
        streams.say(f"  hint: {printable(hint, 400) + '; ' if hint else ''}{self.prog} --help")
        sys.exit(2)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Parse, and complain here of what is left: this parser knows what it could have been."""
        if not self.verbs():
            self._require_known(args or ())
        found, left = super().parse_known_args(args, namespace)
        if strange := [word for word in left if word.startswith("-") and word != "-"]:
            names = [word.partition("=")[0] for word in strange]
            behind = "options stand behind the verb" if self.verbs() else None
            self._complain(f"there is no option {names[0]}", behind or meant(names[0], self._option_string_actions))
        if rest := self._placed(found, left):
            to = "-o says where to" if "--output" in self._option_string_actions else None
            self._complain(f"unexpected '{rest[0]}'", to)
        return found, []

    def _require_known(self, args: Sequence[str]) -> None:
        """Complain of a long option that there is not before argparse misses an argument: it may be why that is not."""
        for word in takewhile("--".__ne__, args):
            name = word.partition("=")[0]
            if name.startswith("--") and name not in self._option_string_actions:
                self._complain(f"there is no option {name}", meant(name, self._option_string_actions))

    def _placed(self, found: argparse.Namespace, left: Sequence[str]) -> list[str]:
        """Give words that stand behind an option to the arguments that have none yet; return the rest.

        argparse considers an optional argument missing once an option follows: in `ls IMAGE -l PATH` it has no PATH.
        """
        rest = list(left)
        for action in self._get_positional_actions():
            if rest and action.nargs == "?" and getattr(found, action.dest) == action.default:
                setattr(found, action.dest, rest.pop(0))
            elif rest and action.nargs == "+":
                setattr(found, action.dest, [*getattr(found, action.dest), *rest])
                rest.clear()
        return rest

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        known = ", ".join(map(str, action.choices))
        more = ("--help", "--version") if action.dest == "verb" else ()
        guess = meant(str(value), [*map(str, action.choices), *more]) if isinstance(value, str) else None
        raise argparse.ArgumentError(
            action, f"there is no '{value}'" + (f", {guess}" if guess else "") + f" (there are {known})"
        )


class HelpAll(argparse.Action):
    """`--help-all`."""

    def __init__(self, option_strings: Sequence[str], dest: str, **_: object) -> None:
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, help="show all options and exit")

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Print it and exit."""
        if isinstance(parser, Words):
            parser.print_help_all()
        parser.exit()


def _columns() -> int:
    """Return the terminal's width, as shutil does, which takes a tenth of `--help` to load."""
    with contextlib.suppress(KeyError, ValueError):
        if (columns := int(os.environ["COLUMNS"])) > 0:
            return columns
    with contextlib.suppress(OSError):
        return os.get_terminal_size(1).columns or 80
    return 80


def label(group: argparse._ArgumentGroup) -> str:
    """Return a group's title without what explains it."""
    return (group.title or "").partition(" (")[0]


def _names(group: argparse._ArgumentGroup) -> str:
    import textwrap  # noqa: PLC0415  # --help and --version do without

    words = [action.option_strings[-1] for action in group._group_actions]  # noqa: SLF001
    indent = " " * 12
    return textwrap.fill(" ".join(words), 79, initial_indent=f"  {label(group):<9} ", subsequent_indent=indent,
                         break_on_hyphens=False, break_long_words=False)  # fmt: skip


def meant(word: str, known: Iterable[str]) -> str | None:
    """Ask `did you mean …?`, if there is anything among the `known` words that comes near."""
    from difflib import get_close_matches  # noqa: PLC0415  # only for who mistyped

    words = [each for each in known if len(each) > 2 or not each.startswith("-")]
    elsewhere = _ELSEWHERE.get(word)
    found = [elsewhere] if elsewhere in words else get_close_matches(word, words, n=1)
    return f"did you mean {found[0]}?" if found else None
