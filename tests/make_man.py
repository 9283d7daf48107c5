"""Make the manual page from the parser: `python -m tests.make_man` writes man/ocirootfs.1."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ocirootfs import __version__
from ocirootfs.cli import parser
from ocirootfs.cli.words import Words, label

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = Path(__file__).parent.parent / "man" / "ocirootfs.1"

_ENVIRONMENT = {
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


def page() -> str:
    """Return the page, as man(7) has it; no date, so that it changes only with what it says."""
    words = parser()
    verbs = {name: verb for name, verb in words.verbs().items() if isinstance(verb, Words)}
    lines = [
        f'.TH OCIROOTFS 1 "" "ocirootfs {__version__}" "User Commands"',
        ".SH NAME",
        f"ocirootfs \\- {_text('turn a container image into a rootfs archive, in a file or an S3 bucket')}",
        ".SH SYNOPSIS",
        *(f".B {_text(verb.usage_line())}\n.br" for verb in verbs.values()),
        ".SH DESCRIPTION",
        _text(words.description or ""),
        *(line for name, verb in verbs.items() for line in _verb(name, verb)),
        ".SH ENVIRONMENT",
        *(f".TP\n.B {_text(name)}\n{_text(what)}" for name, what in _ENVIRONMENT.items()),
        *_sections(words.epilog or ""),
    ]
    return "\n".join(lines) + "\n"


def _verb(name: str, words: Words) -> Iterator[str]:
    yield f".SH OCIROOTFS {name.upper()}"
    yield _text(words.description or "")
    for group in words._action_groups:
        if not group._group_actions:
            continue
        if group not in (words._positionals, words._optionals):
            yield f".SS {_text(label(group))}"
        for action in group._group_actions:
            if not isinstance(action, argparse._HelpAction):
                yield f".TP\n{_heading(action)}\n{_text(_help(action))}"
    yield from _sections(words.epilog or "", nested=True)


def _help(action: argparse.Action) -> str:
    text = action.help or ""
    return text if not action.choices or action.metavar is None else f"{text} ({', '.join(map(str, action.choices))})"


def _heading(action: argparse.Action) -> str:
    if not action.option_strings:
        return f".I {_text(str(action.metavar))}"
    value = action.metavar or (",".join(map(str, action.choices)) if action.choices else None)
    names = ", ".join(f"\\fB{_text(name)}\\fR" for name in action.option_strings)
    return f"{names} \\fI{_text(str(value))}\\fR" if value and action.nargs != 0 else names


def _sections(epilog: str, *, nested: bool = False) -> Iterator[str]:
    """Yield paragraphs; one that begins with a title and a colon is a section, set as it stands."""
    for paragraph in epilog.strip("\n").split("\n\n"):
        title, _, rest = paragraph.partition("\n")
        if title.endswith(":"):
            yield f".{'SS' if nested else 'SH'} {title[:-1].upper() if not nested else title[:-1].capitalize()}"
            yield ".nf"
            yield from map(_text, rest.splitlines())
            yield ".fi"
        else:
            yield ".PP"
            yield _text(" ".join(paragraph.split()))


def _text(text: str) -> str:
    """Escape what troff would take for more than text."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("…", "...")
    return f"\\&{text}" if text.startswith(".") else text


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), encoding="ascii")
