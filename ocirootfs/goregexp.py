r"""Regular expressions as Go's package regexp reads and matches them (RE2 syntax, in time linear in the text).

The theory of operation. Python's `re` differs in dozens of small ways (`$` before a newline, `\d` beyond ASCII,
possessive `a++`, `{,5}`, flags inside a pattern), has what RE2 refuses, and takes exponential time for patterns that Go
matches at once. So the structure of a pattern is read here and becomes a program for a backtracking machine that is
never twice at one instruction and one place in the text, which is how Go itself matches small expressions: the first
way that succeeds is the one that Perl would take, and the work is bounded by the product of both lengths. Single
characters, where syntaxes agree once they are spelled out, are matched by `re`.

Sources: the documentation of Go's regexp/syntax; RE2's syntax page.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from ocirootfs.errors import UsageError, printable

if TYPE_CHECKING:
    from collections.abc import Callable

_LONGEST = 1000  # characters of a pattern
_DEEPEST = 100  # groups within groups; Go takes 1,000, and for that Python's stack does not do
_MOST_REPEATS = 1000  # as in Go, also of repeats within repeats
_MOST_STEPS = 20_000  # instructions of a program
_POSIX = {
    "alnum": "0-9A-Za-z", "alpha": "A-Za-z", "ascii": r"\x00-\x7f", "blank": r"\t\x20", "cntrl": r"\x00-\x1f\x7f",
    "digit": "0-9", "graph": "!-~", "lower": "a-z", "print": r"\x20-~", "punct": r"!-/:-@\[-`{-~",
    "space": r"\t\n\x0b\x0c\r\x20", "upper": "A-Z", "word": "0-9A-Za-z_", "xdigit": "0-9A-Fa-f",
}  # fmt: skip
_PERL = {"d": "0-9", "s": r"\t\n\x0c\r\x20", "w": "0-9A-Za-z_"}
_ESCAPES = {"a": "\a", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_REPEAT = re.compile(r"\{([0-9]+)(,([0-9]*))?\}")
_FLAGS = re.compile(r"\(\?([imsU]*)(?:-([imsU]+))?([:)])")
_NAMED = re.compile(r"\(\?P?<([A-Za-z0-9_]+)>")
_WORD = re.compile(r"[0-9A-Za-z_]")


class Match(NamedTuple):
    """What a pattern found: the whole, then its groups; None for a group that took no part."""

    groups: tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class Regexp:
    """A compiled pattern. `names` has the groups' names, the whole's included, and "" for one without a name."""

    pattern: str
    names: tuple[str, ...]
    _program: tuple[_Step, ...]

    def search(self, text: str) -> Match | None:
        """Return the leftmost match in `text`, of several there the one that Perl would prefer."""
        seen: set[tuple[int, int]] = set()
        for start in range(len(text) + 1):
            if spots := _run(self._program, text, start, seen, 2 * len(self.names)):
                pairs = zip(spots[::2], spots[1::2], strict=True)
                return Match(tuple(None if a is None or b is None else text[a:b] for a, b in pairs))
        return None


def compiled(pattern: str) -> Regexp:
    r"""Compile `pattern`; UsageError for what Go refuses, or has and is not known here (classes such as `\pL`)."""
    if len(pattern) > _LONGEST:
        raise UsageError(f"the regexp is longer than {_LONGEST} characters")
    parser = _Parser(pattern)
    node = parser.whole()
    program: list[_Step] = []
    _emit(_Group(0, node), program, pattern)
    program.append(_Step("match"))
    return Regexp(pattern, tuple(parser.names), tuple(program))


class _Step(NamedTuple):
    """One instruction: `char` and `assert` test, `split` tries `to` before `other`, `jump`, `save`, `match`."""

    kind: str
    to: int = 0
    other: int = 0
    test: Callable[[str, int], bool] | None = None


def _run(
    program: tuple[_Step, ...], text: str, start: int, seen: set[tuple[int, int]], slots: int
) -> tuple[int | None, ...] | None:
    """Run from one place; what was `seen` from an earlier place has failed before and fails again."""
    waiting: list[tuple[int, int, tuple[int | None, ...]]] = [(0, start, (None,) * slots)]
    while waiting:
        at, place, spots = waiting.pop()
        while (at, place) not in seen:
            seen.add((at, place))
            step = program[at]
            if step.kind == "match":
                return spots
            if step.kind == "split":
                waiting.append((step.other, place, spots))
                at = step.to
            elif step.kind == "jump":
                at = step.to
            elif step.kind == "save":
                spots = (*spots[: step.to], place, *spots[step.to + 1 :])
                at += 1
            elif step.test is None or not step.test(text, place):
                break
            else:
                place += step.kind == "char"
                at += 1
    return None


# The structure of a pattern


class _Atom(NamedTuple):
    kind: str
    test: Callable[[str, int], bool]


class _Group(NamedTuple):
    number: int
    inner: _Node


class _Many(NamedTuple):
    """A sequence, or with `either` alternatives."""

    parts: tuple[_Node, ...]
    either: bool = False


class _Repeat(NamedTuple):
    inner: _Node
    least: int
    most: int | None
    greedy: bool


_Node = _Atom | _Group | _Many | _Repeat


def _emit(node: _Node, program: list[_Step], pattern: str) -> None:
    """Append the instructions of a node."""
    if len(program) > _MOST_STEPS:
        raise _fault(pattern, "it is too large")
    if isinstance(node, _Atom):
        program.append(_Step(node.kind, test=node.test))
    elif isinstance(node, _Group):
        program.append(_Step("save", 2 * node.number))
        _emit(node.inner, program, pattern)
        program.append(_Step("save", 2 * node.number + 1))
    elif isinstance(node, _Repeat):
        _emit_repeat(node, program, pattern)
    elif node.either:
        _emit_either(node, program, pattern)
    else:
        for part in node.parts:
            _emit(part, program, pattern)


def _emit_either(node: _Many, program: list[_Step], pattern: str) -> None:
    ends = []
    for part in node.parts[:-1]:
        fork = len(program)
        program.append(_Step("split"))
        _emit(part, program, pattern)
        ends.append(len(program))
        program.append(_Step("jump"))
        program[fork] = _Step("split", fork + 1, len(program))
    _emit(node.parts[-1], program, pattern)
    for end in ends:
        program[end] = _Step("jump", len(program))


def _emit_repeat(node: _Repeat, program: list[_Step], pattern: str) -> None:
    def fork(at: int, into: int, past: int) -> None:
        program[at] = _Step("split", into, past) if node.greedy else _Step("split", past, into)

    for _ in range(node.least - (node.most is None)):
        _emit(node.inner, program, pattern)
    if node.most is None:
        # Once, then again and again: what may be nothing is not asked once more after it was (golang/go#46123).
        past = len(program)
        if not node.least:
            program.append(_Step("split"))
        body = len(program)
        _emit(node.inner, program, pattern)
        program.append(_Step("split"))
        fork(len(program) - 1, body, len(program))
        if not node.least:
            fork(past, body, len(program))
        return
    forks = []
    for _ in range(node.most - node.least):
        forks.append(len(program))
        program.append(_Step("split"))
        _emit(node.inner, program, pattern)
    for at in forks:
        fork(at, at + 1, len(program))


@dataclass(frozen=True, slots=True)
class _Flags:
    folds: bool = False  # i
    lines: bool = False  # m
    dot_all: bool = False  # s
    ungreedy: bool = False  # U

    def changed(self, letters: str, *, to: bool) -> _Flags:
        names = {"i": "folds", "m": "lines", "s": "dot_all", "U": "ungreedy"}
        return replace(self, **{names[letter]: to for letter in letters})


class _Parser:
    """Reads a pattern from left to right."""

    def __init__(self, pattern: str) -> None:
        self.names = [""]
        self._pattern = pattern
        self._at = 0
        self._depth = 0
        self._flags = _Flags()

    def whole(self) -> _Node:
        node = self._either()
        if self._at < len(self._pattern):
            raise self._fault("a parenthesis too many")
        return node

    def _fault(self, why: str) -> UsageError:
        return _fault(self._pattern, f"{why}, at character {self._at + 1}")

    def _next(self) -> str:
        return self._pattern[self._at : self._at + 1]

    def _take(self) -> str:
        taken = self._next()
        if not taken:
            raise self._fault("it ends too early")
        self._at += 1
        return taken

    def _either(self) -> _Node:
        parts = [self._sequence()]
        while self._next() == "|":
            self._at += 1
            parts.append(self._sequence())
        return parts[0] if len(parts) == 1 else _Many(tuple(parts), either=True)

    def _sequence(self) -> _Node:
        parts: list[_Node] = []
        while self._next() not in ("", "|", ")"):
            if literal := self._quoted():
                parts += literal
            elif (node := self._item()) is not None:
                parts.append(self._repeated(node))
        return _Many(tuple(parts))

    def _quoted(self) -> list[_Node]:
        r"""Read `\Q…\E`, whose last character alone a repeat is for."""
        if not self._pattern.startswith(r"\Q", self._at):
            return []
        text, _, _ = self._pattern[self._at + 2 :].partition(r"\E")
        self._at = min(self._at + 4 + len(text), len(self._pattern))
        nodes: list[_Node] = [self._literal(character) for character in text]
        return [*nodes[:-1], self._repeated(nodes[-1])] if nodes else [_Many(())]

    def _repeated(self, node: _Node) -> _Node:
        """Read the repeat behind a node; a second one is none that Go takes."""
        repeat = self._repeat()
        if repeat is None:
            return node
        greedy = not self._flags.ungreedy
        if self._next() == "?":
            self._at += 1
            greedy = not greedy
        least, most = repeat
        if max(least, most or 0) * _repeats(node) > _MOST_REPEATS:
            raise self._fault(f"more than {_MOST_REPEATS} repeats")
        if self._repeat() is not None:
            raise self._fault("a repeat of a repeat")
        return _Repeat(node, least, most, greedy)

    def _repeat(self) -> tuple[int, int | None] | None:
        """Read a repeat: the fewest times, and the most if there is a limit."""
        simple: dict[str, tuple[int, int | None]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}
        if (found := simple.get(self._next())) is not None:
            self._at += 1
            return found
        match = _REPEAT.match(self._pattern, self._at)
        if match is None or len(match[1]) > 4 or len(match[3] or "") > 4:
            if match is not None:
                raise self._fault(f"more than {_MOST_REPEATS} repeats")
            return None
        least = int(match[1])
        most = least if match[2] is None else int(match[3]) if match[3] else None
        if most is not None and most < least:
            raise self._fault("a repeat whose bounds are the wrong way round")
        self._at = match.end()
        return least, most

    def _item(self) -> _Node | None:
        """Read one thing that may be repeated; None for flags that stand alone."""
        simple: dict[str, Callable[[], _Node | None]] = {
            "(": self._group,
            "[": self._class,
            "\\": self._escape,
        }
        character = self._next()
        if character in simple:
            return simple[character]()
        if self._repeat() is not None:
            raise self._fault("a repeat of nothing")
        self._at += 1
        if character == ".":
            return self._one("." if not self._flags.dot_all else r"[\x00-\U0010ffff]")
        if character == "^":
            return _Atom("assert", _at_line_start if self._flags.lines else _at_start)
        if character == "$":
            return _Atom("assert", _at_line_end if self._flags.lines else _at_end)
        return self._literal(character)

    def _literal(self, character: str) -> _Atom:
        if self._flags.folds and character.lower() != character.upper():
            return self._one(re.escape(character))
        return _Atom("char", lambda text, at: text[at : at + 1] == character)

    def _one(self, spelled: str) -> _Atom:
        """Return what tests one character by a pattern of Python's."""
        test = re.compile(spelled, re.IGNORECASE if self._flags.folds else 0)
        return _Atom("char", lambda text, at: test.match(text, at) is not None)

    def _group(self) -> _Node | None:
        if self._pattern.startswith("(?", self._at):
            return self._special_group()
        self._at += 1
        return self._captured("")

    def _captured(self, name: str) -> _Node:
        number = len(self.names)
        self.names.append(name)
        return _Group(number, self._inside())

    def _inside(self) -> _Node:
        """Read a group up to its end; flags that change in it change back."""
        before = self._flags
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self._fault(f"more than {_DEEPEST} groups within one another")
        node = self._either()
        self._depth -= 1
        if self._next() != ")":
            raise self._fault("a parenthesis is missing")
        self._at += 1
        self._flags = before
        return node

    def _special_group(self) -> _Node | None:
        if named := _NAMED.match(self._pattern, self._at):
            self._at = named.end()
            return self._captured(named[1])
        found = _FLAGS.match(self._pattern, self._at)
        if found is None:
            raise self._fault("a group that Go has not (no lookahead, lookbehind, atomic group, condition or comment)")
        self._at = found.end()
        before = self._flags
        self._flags = before.changed(found[1], to=True).changed(found[2] or "", to=False)
        if found[3] == ")":
            return None
        node = self._inside()
        self._flags = before
        return _Many((node,))

    def _escape(self) -> _Node:
        r"""Read what begins with a backslash, outside of a class."""
        letter = self._pattern[self._at + 1 : self._at + 2]
        if letter and letter in "AbBz":
            self._at += 2
            return _Atom("assert", _ASSERTIONS[letter])
        if letter and letter.lower() in _PERL:
            self._at += 2
            return self._one(f"[{'^' if letter.isupper() else ''}{_PERL[letter.lower()]}]")
        return self._literal(self._escaped())

    def _escaped(self) -> str:
        r"""Read a backslash and what follows it, which is one character."""
        self._take()
        letter = self._take()
        if letter in _ESCAPES:
            return _ESCAPES[letter]
        if letter.isascii() and not letter.isalnum():
            return letter
        if letter == "x":
            return self._hexadecimal()
        if letter == "0" or (letter in "1234567" and self._next() in tuple("01234567")):
            digits = re.match("[0-7]{0,2}", self._pattern[self._at :])
            more = digits[0] if digits else ""
            self._at += len(more)
            return chr(int(letter + more, 8))
        self._at -= 2
        if letter in "123456789":
            raise self._fault("Go has no references back")
        if letter in "pP":
            raise self._fault("classes of Unicode are not known here")
        raise self._fault(rf"Go has no \{printable(letter)}")

    def _hexadecimal(self) -> str:
        found = re.compile(r"([0-9A-Fa-f]{2})|\{([0-9A-Fa-f]{1,6})\}").match(self._pattern, self._at)
        if found is None or int(found[1] or found[2], 16) > 0x10FFFF:
            raise self._fault("no hexadecimal number")
        self._at = found.end()
        return chr(int(found[1] or found[2], 16))

    def _class(self) -> _Node:
        """Read `[…]`: alternatives that each test one character, all negated by a leading `^`."""
        self._take()
        negated = self._next() == "^"
        self._at += negated
        first, tests = True, []
        while first or self._next() != "]":
            tests.append(self._one(self._class_part()).test)
            first = False
        self._at += 1
        return _Atom("char", lambda text, at: at < len(text) and any(test(text, at) for test in tests) != negated)

    def _class_part(self) -> str:
        """Read one part of a class, and spell it as a class of Python's."""
        if posix := re.compile(r"\[:(\^?)([a-z]+):\]").match(self._pattern, self._at):
            if posix[2] not in _POSIX:
                raise self._fault(f"there is no class [:{posix[2]}:]")
            self._at = posix.end()
            return f"[{posix[1]}{_POSIX[posix[2]]}]"
        letter = self._pattern[self._at + 1 : self._at + 2] if self._next() == "\\" else ""
        if letter and letter.lower() in _PERL:
            self._at += 2
            return f"[{'^' if letter.isupper() else ''}{_PERL[letter.lower()]}]"
        low = high = self._class_character()
        if self._next() == "-" and self._pattern[self._at + 1 : self._at + 2] not in ("", "]"):
            self._at += 1
            high = self._class_character()
            if high < low:
                raise self._fault("a range whose ends are the wrong way round")
        return rf"[\U{ord(low):08x}-\U{ord(high):08x}]"

    def _class_character(self) -> str:
        if not self._next():
            raise self._fault("a ']' is missing")
        return self._escaped() if self._next() == "\\" else self._take()


def _repeats(node: _Node) -> int:
    """Return how often the innermost of a node may be repeated by its counted repeats."""
    if isinstance(node, _Repeat):
        return max(node.least, node.most or 0, 1) * _repeats(node.inner)
    if isinstance(node, _Group):
        return _repeats(node.inner)
    if isinstance(node, _Many):
        return max(map(_repeats, node.parts), default=1)
    return 1


def _fault(pattern: str, why: str) -> UsageError:
    return UsageError(
        f"'{printable(pattern, 100)}' is no regular expression of Go's: {why}",
        hint="the S3 resource takes what https://pkg.go.dev/regexp/syntax describes",
    )


def _at_start(_text: str, at: int) -> bool:
    return at == 0


def _at_end(text: str, at: int) -> bool:
    return at == len(text)


def _at_line_start(text: str, at: int) -> bool:
    return at == 0 or text[at - 1] == "\n"


def _at_line_end(text: str, at: int) -> bool:
    return at == len(text) or text[at] == "\n"


def _at_border(text: str, at: int) -> bool:
    before = at > 0 and _WORD.match(text, at - 1)
    after = _WORD.match(text, at)
    return bool(before) != bool(after)


def _not_at_border(text: str, at: int) -> bool:
    return not _at_border(text, at)


_ASSERTIONS = {"A": _at_start, "z": _at_end, "b": _at_border, "B": _not_at_border}
