"""The README's picture: what it shows is what happens, but for what was measured."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from tests import make_picture

SVG = "{http://www.w3.org/2000/svg}"


def pictured() -> list[str]:
    root = ET.fromstring(make_picture.PICTURE.read_text("utf-8"))
    return ["".join(text.itertext()) for text in root.iter(f"{SVG}text")]


def test_the_commands_do_what_the_picture_shows() -> None:
    """`python -m tests.make_picture` makes it anew."""
    wanted = [line for command, lines in make_picture.screens() for line in (f"$ {command}", *lines)]
    assert make_picture.plain(pictured()) == make_picture.plain(wanted)


def test_it_is_small_and_needs_nothing_else() -> None:
    text = make_picture.PICTURE.read_text("utf-8")
    assert len(text) < 30_000
    assert not any(word in text for word in ("url(", "href", "<script", "@import", "font-face"))
    assert max(map(len, pictured())) <= 100


@pytest.mark.parametrize(
    ("text", "lines"),
    [("a\r\nb\r\n", ["a", "b"]), ("12345\rab\r\n", ["ab345"]), ("\x1b[31mred\x1b[0m\r\n", ["red"]), ("\r    \r", [])],
)
def test_a_screen(text: str, lines: list[str]) -> None:
    assert make_picture.screen(text) == lines
