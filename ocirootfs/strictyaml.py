"""YAML as people write lists in it: every complaint has a line, and nothing means something else than it says.

Plain words stay words: `3.20` is a version here and not a number, `no` a name and no truth. A name twice, an unknown
name, a tag and a second document are refused. Aliases and merge keys (`<<`) work; what they unfold to is counted, so a
bomb is refused before it goes off. PyYAML reads and writes; it is loaded when that is asked for.

Sources: YAML 1.2.2, sections 3.2.1.3 (keys are unique) and 7.1 (alias nodes); yaml.org/type/merge.html.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, TypeAlias

from ocirootfs.errors import UsageError, printable

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import yaml

SIZE_LIMIT = 1 << 18
"""Bytes of a document."""
DEPTH_LIMIT = 32
VALUES_LIMIT = 100_000
"""Values of a document, each counted as often as aliases repeat it."""

_PREFIX = "tag:yaml.org,2002:"
_MERGE = f"{_PREFIX}merge"
_SCALARS = {f"{_PREFIX}{name}" for name in ("str", "int", "float", "bool", "timestamp", "value")}

_Node: TypeAlias = "yaml.Node"


class Value:
    """One value of a document, and where it stands there. Raises UsageError where it is not what is asked for."""

    def __init__(self, node: _Node, what: str) -> None:
        self._node = node
        self._what = what

    @property
    def line(self) -> int:
        """The line that it begins in, from 1."""
        return int(self._node.start_mark.line) + 1

    def error(self, message: str, *, hint: str | None = None) -> UsageError:
        """Return a complaint about this value."""
        return UsageError(f"{self._what}, line {self.line}: {message}", hint=hint)

    @property
    def is_text(self) -> bool:
        """Whether it is one word or text."""
        return _kind(self._node) == "scalar"

    @property
    def is_nothing(self) -> bool:
        """Whether a name has no value (or `null`, `~`)."""
        return str(self._node.tag) == f"{_PREFIX}null"

    @property
    def is_list(self) -> bool:
        """Whether it is a list."""
        return _kind(self._node) == "sequence"

    def text(self) -> str:
        """Return a word or text as it is written; nothing (`null`, `~`) is none."""
        if not self.is_text or self._node.tag not in _SCALARS:
            raise self.error(f"expected text, not {self._shown()}", hint="quotes make anything text")
        return str(self._node.value)

    def values(self) -> list[Value]:
        """Return the values of a list."""
        if not self.is_list or self._node.tag != f"{_PREFIX}seq":
            raise self.error(f"expected a list, not {self._shown()}")
        return [Value(node, self._what) for node in self._node.value]

    def texts(self) -> tuple[str, ...]:
        """Return a list of texts."""
        return tuple(value.text() for value in self.values())

    def fields(self, known: Collection[str] | None = None) -> dict[str, Value]:
        """Return what a mapping has by name, and only names that are `known`."""
        if _kind(self._node) != "mapping" or self._node.tag != f"{_PREFIX}map":
            raise self.error(f"expected names and values, not {self._shown()}")
        found: dict[str, Value] = {}
        merged: list[Value] = []
        for key, node in self._node.value:
            if key.tag == _MERGE:
                value = Value(node, self._what)
                merged += value.values() if value.is_list else [value]
                continue
            name = Value(key, self._what)
            self._require_new(name, found, known)
            found[name.text()] = Value(node, self._what)
        for other in merged:
            found = {**other.fields(known), **found}
        return found

    def _require_new(self, key: Value, found: Mapping[str, Value], known: Collection[str] | None) -> None:
        name = key.text()
        if name in found:
            raise key.error(f"'{printable(name, 60)}' is there twice, first in line {found[name].line}")
        if known is not None and name not in known:
            guess = get_close_matches(name, known, n=1)
            hint = f"did you mean {guess[0]}?" if guess else f"there are {', '.join(known)}"
            raise key.error(f"there is no '{printable(name, 60)}' here", hint=hint)

    def _shown(self) -> str:
        kinds = {"scalar": "text", "sequence": "a list", "mapping": "names and values"}
        if self._node.tag == f"{_PREFIX}null":
            return "nothing"
        if not self._node.tag.startswith(_PREFIX) or self._node.tag.startswith(f"{_PREFIX}python"):
            return f"something tagged {printable(self._node.tag, 60)}"
        return kinds[_kind(self._node)]


def _kind(node: Any) -> str:
    """Return which of PyYAML's three classes of nodes this is one of, without PyYAML."""
    return str(node.id)


def load(raw: bytes, what: str) -> Value:
    """Parse one document; `what` names it in the UsageError that anything else raises."""
    import yaml  # noqa: PLC0415  # only who has a list pays for it

    if len(raw) > SIZE_LIMIT:
        raise UsageError(f"{what} is larger than {SIZE_LIMIT} bytes")
    try:
        root = yaml.compose(raw.decode("utf-8-sig"), Loader=_shallow())
        if root is None:
            raise UsageError(f"{what} is empty")
        _count(root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f", line {mark.line + 1}" if mark else ""
        raise UsageError(f"{what}{where}: {printable(error.problem or 'not YAML')}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{what} is not YAML: {printable(str(error).splitlines()[0])}") from None
    except OverflowError as error:
        raise UsageError(f"{what}: {error}") from None
    return Value(root, what)


def _shallow() -> Any:
    """Return a loader that ends where values are nested too deep: PyYAML's time grows with the square of the depth."""
    import yaml  # noqa: PLC0415

    class Loader(yaml.SafeLoader):
        depth = 0

        def compose_node(self, parent: Any, index: Any) -> Any:
            self.depth += 1
            if self.depth > DEPTH_LIMIT:
                raise OverflowError(f"nested deeper than {DEPTH_LIMIT} levels")
            node = super().compose_node(parent, index)
            self.depth -= 1
            return node

    return Loader


def _count(root: _Node) -> None:
    """Count what a document unfolds to; OverflowError says of what there is too much."""
    waiting: list[tuple[Any, int]] = [(root, 1)]
    seen = 0
    while waiting:
        node, depth = waiting.pop()
        seen += 1
        if depth > DEPTH_LIMIT:
            raise OverflowError(f"nested deeper than {DEPTH_LIMIT} levels")
        if seen + len(waiting) > VALUES_LIMIT:
            raise OverflowError(f"it unfolds to more than {VALUES_LIMIT} values")
        if node.id == "sequence":
            waiting += [(inner, depth + 1) for inner in node.value]
        elif node.id == "mapping":
            waiting += [(inner, depth + 1) for pair in node.value for inner in pair]


def dump(value: object) -> str:
    """Write dicts, lists, texts and numbers as YAML: names in their order, no aliases, one value a line."""
    import yaml  # noqa: PLC0415

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
            return True

        def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002
            super().increase_indent(flow, False)  # noqa: FBT003  # lists are indented below their name

    return str(yaml.dump(value, Dumper=Dumper, sort_keys=False, allow_unicode=False, width=1000))
