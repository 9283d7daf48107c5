"""docs/cli.md: fresh, and complete."""

from __future__ import annotations

import re

import pytest

from ocirootfs.cli import parser
from tests import make_cli_docs
from tests.commands import run_here
from tests.verbs import verbs

VERBS = sorted(verbs(parser()))


def test_the_page_is_what_its_script_makes() -> None:
    """`python -m tests.make_cli_docs` makes it anew."""
    assert make_cli_docs.PAGE.read_text("utf-8") == make_cli_docs.page()


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_that_help_names_is_explained(verb: str) -> None:
    text = make_cli_docs.page().partition(f"\n## ocirootfs {verb}\n")[2].partition("\n## ")[0]
    explained = {
        name for line in text.splitlines() if line.startswith("| `-") for name in re.findall(r"`(-[^`]+)`", line)
    }
    named = re.findall(
        r"(?<![\w-])--[a-z][a-z0-9-]+", run_here(verb, "--help").ok.out.decode().partition("examples:")[0]
    )
    assert set(named) - {"--help"} <= explained


def test_every_verb_has_a_place() -> None:
    headings = re.findall(r"^## ocirootfs (\w+)$", make_cli_docs.page(), re.MULTILINE)
    assert sorted(headings) == VERBS
