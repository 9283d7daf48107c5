"""Make the reference of the command line from the parser: `python -m tests.make_cli_docs` writes docs/cli.md."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ocirootfs.cli import parser
from tests.verbs import ENVIRONMENT, Option, groups, paragraphs, verbs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ocirootfs.cli.words import Words

PAGE = Path(__file__).parent.parent / "docs" / "cli.md"


def page() -> str:
    """Return the page: what `--help-all` says of every verb, laid out by us, since argparse's layout changes."""
    words = parser()
    found = verbs(words)
    lines = [
        "# The command line",
        "",
        "Made from the program itself by `python -m tests.make_cli_docs`.",
        "",
        words.description or "",
        "",
        *(f"- [`{verb.usage_line()}`](#ocirootfs-{name}): {_first(verb.description or '')}"
          for name, verb in found.items()),
        *_sections(words.epilog or "", "##"),
        "",
        "## Environment",
        "",
        *_table(("variable", "what"), ((_codes(name.split(", ")), what) for name, what in ENVIRONMENT.items())),
        *(line for name, verb in found.items() for line in _verb(name, verb)),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _first(text: str) -> str:
    return text[:1].lower() + text[1:]


def _verb(name: str, words: Words) -> Iterator[str]:
    yield from ("", f"## ocirootfs {name}", "", "```", words.usage_line(), "```", "", words.description or "")
    for title, options in groups(words):
        if title:
            yield from ("", f"### {name}: {title}")
        yield ""
        yield from _table(("option" if options[0].names else "argument", "what"), map(_row, options))
    yield from _sections(words.epilog or "", "###", f"{name}: ")


def _row(option: Option) -> tuple[str, str]:
    value = f" `{option.value}`" if option.value else ""
    return (_codes(option.names) + value).strip(), option.help


def _codes(words: Iterable[str]) -> str:
    return ", ".join(word if word == "…" else f"`{word}`" for word in words)


def _table(heads: tuple[str, str], rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    yield f"| {heads[0]} | {heads[1]} |"
    yield "| --- | --- |"
    for row in rows:
        first, second = (cell.replace("|", "\\|").replace("<", "&lt;") for cell in row)
        yield f"| {first} | {second} |"


def _sections(epilog: str, level: str, prefix: str = "") -> Iterator[str]:
    for title, text in paragraphs(epilog):
        if title:
            yield from ("", f"{level} {prefix}{title if prefix else title.capitalize()}", "", "```")
            yield from text.splitlines()
            yield "```"
        else:
            yield from ("", text)


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
