"""What the parser of the command line says of itself, for the manual page and for docs/cli.md."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ocirootfs.cli.words import Words, label

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ENVIRONMENT = {
    "OCIROOTFS_PLATFORM, DOCKER_DEFAULT_PLATFORM": "as --platform",
    "OCIROOTFS_USERNAME, OCIROOTFS_PASSWORD": "as --creds",
    "OCIROOTFS_MIRRORS": "as --mirror, separated by spaces",
    "OCIROOTFS_CACHE_DIR": "as --cache-dir",
    "OCIROOTFS_PROGRESS": "as --progress",
    "SOURCE_DATE_EPOCH": "as --source-date-epoch",
    "REGISTRY_AUTH_FILE, DOCKER_AUTH_CONFIG, DOCKER_CONFIG": "where credentials are saved",
    "AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL_S3, …": "all that boto3 knows",
    "TMPDIR": "where temporary files go",
}


@dataclass(frozen=True)
class Option:
    """An option, or an argument, which has no names; `value` is what it takes, if anything."""

    names: tuple[str, ...]
    value: str
    help: str


def verbs(words: Words) -> dict[str, Words]:
    """Return the parsers of the verbs, by name."""
    (found,) = (action for action in words._actions if isinstance(action, argparse._SubParsersAction))
    return {name: verb for name, verb in found.choices.items() if isinstance(verb, Words)}


def groups(words: Words) -> Iterator[tuple[str, list[Option]]]:
    """Yield groups of options that have any; the usual ones are without a title."""
    for group in words._action_groups:
        title = "" if group in (words._positionals, words._optionals) else label(group)
        actions = [action for action in group._group_actions if not isinstance(action, argparse._HelpAction)]
        if actions:
            yield title, [_option(action) for action in actions]


def paragraphs(epilog: str) -> Iterator[tuple[str, str]]:
    """Yield title and text; a paragraph that begins with a title and a colon is set as it stands, others have none."""
    for paragraph in epilog.strip("\n").split("\n\n"):
        title, _, rest = paragraph.partition("\n")
        if title.endswith(":"):
            yield title[:-1], rest
        elif paragraph:
            yield "", " ".join(paragraph.split())


def _option(action: argparse.Action) -> Option:
    text = (action.help or "").replace("%(default)s", str(action.default))
    choices = ", ".join(map(str, action.choices or ()))
    if choices and action.metavar is not None and not _are_told(action.choices, text):
        text = f"{text} ({choices})"
    value = "" if action.nargs == 0 else str(action.metavar or choices.replace(", ", ","))
    return Option(tuple(action.option_strings), value, text)


def _are_told(choices: Iterable[object] | None, text: str) -> bool:
    """Tell whether the help names the choices itself; those of a range are told by its ends."""
    told = (choices[0], choices[-1]) if isinstance(choices, range) else choices or ()
    return all(re.search(rf"(?<![\w-]){re.escape(str(each))}(?![\w-])", text) for each in told)
