"""Make the manual page from the parser: `python -m tests.make_man` writes man/ocirootfs.1."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ocirootfs import __version__
from ocirootfs.cli import parser
from tests.verbs import ENVIRONMENT, Option, groups, paragraphs, verbs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ocirootfs.cli.words import Words

PAGE = Path(__file__).parent.parent / "man" / "ocirootfs.1"


def page() -> str:
    """Return the page, as man(7) has it; no date, so that it changes only with what it says."""
    words = parser()
    found = verbs(words)
    lines = [
        f'.TH OCIROOTFS 1 "" "ocirootfs {__version__}" "User Commands"',
        ".SH NAME",
        f"ocirootfs \\- {_text('turn a container image into a rootfs archive, in a file or an S3 bucket')}",
        ".SH SYNOPSIS",
        *(f".B {_text(verb.usage_line())}\n.br" for verb in found.values()),
        ".SH DESCRIPTION",
        _text(words.description or ""),
        *(line for name, verb in found.items() for line in _verb(name, verb)),
        ".SH ENVIRONMENT",
        *(f".TP\n.B {_text(name)}\n{_text(what)}" for name, what in ENVIRONMENT.items()),
        *_sections(words.epilog or ""),
    ]
    return "\n".join(lines) + "\n"


def _verb(name: str, words: Words) -> Iterator[str]:
    yield f".SH OCIROOTFS {name.upper()}"
    yield _text(words.description or "")
    for title, options in groups(words):
        if title:
            yield f".SS {_text(title)}"
        for option in options:
            yield f".TP\n{_heading(option)}\n{_text(option.help)}"
    yield from _sections(words.epilog or "", nested=True)


def _heading(option: Option) -> str:
    if not option.names:
        return f".I {_text(option.value)}"
    names = ", ".join(f"\\fB{_text(name)}\\fR" for name in option.names)
    return f"{names} \\fI{_text(option.value)}\\fR" if option.value else names


def _sections(epilog: str, *, nested: bool = False) -> Iterator[str]:
    for title, text in paragraphs(epilog):
        if title:
            yield f".{'SS' if nested else 'SH'} {title.upper() if not nested else title.capitalize()}"
            yield ".nf"
            yield from map(_text, text.splitlines())
            yield ".fi"
        else:
            yield ".PP"
            yield _text(text)


def _text(text: str) -> str:
    """Escape what troff would take for more than text."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("…", "...")
    return f"\\&{text}" if text.startswith(".") else text


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), encoding="ascii")
