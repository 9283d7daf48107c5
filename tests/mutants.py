"""Running the flattener on stacks of layers, and whether it is right; and the ways to break it that must be noticed.

`python -c 'from tests.mutants import main; main()'` is the compact check that test_mutants.py runs on broken copies of
the package, so nothing here needs pytest or Hypothesis.
"""

from __future__ import annotations

import json
import logging
import random
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from ocirootfs.digest import Digest
from ocirootfs.entry import Entry, Kind
from ocirootfs.errors import InputError
from ocirootfs.flattening import ALWAYS, Superseded, flatten
from ocirootfs.image import Layer
from ocirootfs.limits import USUAL
from ocirootfs.spool import Spool
from tests import model
from tests.layers import FIXTURES, Data, layer_bytes, raw_bytes
from tests.model import Node, Tree

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Sequence


class Mutant(NamedTuple):
    """A way to break the package: `text`, which occurs once in the module, is replaced."""

    name: str
    module: str
    text: str
    replacement: str


Shown: TypeAlias = list[tuple[Entry, bytes]]
"""What flatten yields, with the contents read."""
Stack: TypeAlias = "Sequence[Sequence[Data]]"
Excluded: TypeAlias = "Callable[[bytes], bool] | None"

_TYPES = {
    Kind.FILE: "file",
    Kind.DIRECTORY: "dir",
    Kind.SYMLINK: "symlink",
    Kind.CHAR: "char",
    Kind.BLOCK: "block",
    Kind.FIFO: "fifo",
}


def layers_of(stack: Stack, piece: int = 1 << 20) -> list[Layer]:
    """Return entries as layers, plain, that are read in pieces of so many bytes."""
    return [_layer(number, layer_bytes(list(entries)), piece) for number, entries in enumerate(stack, 1)]


def _layer(number: int, plain: bytes, piece: int) -> Layer:
    digest = Digest.of(plain)
    return Layer(
        number, digest, len(plain), digest, "", lambda: (plain[at : at + piece] for at in range(0, len(plain), piece))
    )


def carefully(layers: Sequence[Layer], excluded: Excluded = None, careful: Container[int] = ALWAYS) -> Shown:
    """Flatten with care for all layers, or for some."""
    with Spool() as spool:
        visible = flatten(layers, spool, excluded=excluded, careful=careful)
        shown = [(entry, b"".join(bytes(piece) for piece in body)) for entry, body in visible]
        assert spool.end == 0, "hidden contents are kept for longer than their layer"
    return shown


def optimistically(layers: Sequence[Layer], excluded: Excluded = None) -> Shown:
    """Flatten without care, starting over for each layer that needs it, as the writer of archives does."""
    careful: set[int] = set()
    while True:
        try:
            return carefully(layers, excluded, careful)
        except Superseded as again:
            if again.layer in careful:
                raise
            careful.add(again.layer)


def tree_of(shown: Shown) -> Tree:
    """Return the tree that an extractor would make, checking that it cannot go wrong."""
    tree: Tree = {}
    for entry, data in shown:
        assert entry.path not in tree, f"{entry.path!r} twice"
        assert entry.size == len(data), f"{entry.path!r} is not of its size"
        node = Node(
            _TYPES.get(entry.kind, "link"),
            *entry[2:6],
            data=data,
            linkname=entry.link,
            device=entry.device,
            xattrs=entry.xattrs,
        )
        if entry.kind is Kind.HARDLINK:
            leader = tree.get(entry.link)
            assert leader, f"{entry.path!r} is a link to {entry.link!r}, which is not there"
            assert leader.type != "dir", f"{entry.path!r} is a link to a directory"
            assert (node.mode, node.uid, node.gid, node.mtime) == (leader.mode, leader.uid, leader.gid, leader.mtime)
            node = leader
        tree[entry.path] = node
    _check_directories([entry.path for entry, _ in shown if entry.kind is Kind.DIRECTORY], [e.path for e, _ in shown])
    return tree


def _check_directories(directories: list[bytes], paths: list[bytes]) -> None:
    """Assert that directories come last, in post-order and in order of their names, every parent among them."""
    assert paths[len(paths) - len(directories) :] == directories, "an entry after the first directory"
    assert directories == sorted(directories, key=_post_order), "directories out of order"
    known = set(directories)
    assert all(path.rpartition(b"/")[0] in known for path in paths), "an entry without its parent"


def _post_order(path: bytes) -> list[tuple[int, bytes]]:
    return [(0, name) for name in path.split(b"/") if path] + [(1, b"")]


def vectors() -> list[Data]:
    """Return all vectors, those of the specification and our own."""
    documents = [json.loads((FIXTURES / name).read_text()) for name in ("flatten.json", "flatten-more.json")]
    return [vector for document in documents for vector in document["vectors"]]


def mismatches(vector: Data, tree: Tree) -> list[str]:
    """Compare a tree with what a vector expects: each attribute listed, what must be absent, who shares an inode."""
    expected = {raw_bytes(path).strip(b"/"): attributes for path, attributes in vector["expect"].items()}
    found = []
    for path, attributes in expected.items():
        if path not in tree:
            found.append(f"{path!r} is missing")
            continue
        for key, wanted in attributes.items():
            if key == "same_inode_as":
                same = tree.get(raw_bytes(wanted)) is tree[path]
            else:
                same = _attribute(tree[path], key) == _wanted(key, wanted)
            if not same:
                found.append(f"{key} of {path!r} is not {wanted!r}")
    found += [f"{name!r} is there" for name in vector["expect_absent"] if raw_bytes(name) in tree]
    if vector["complete"]:
        found += [f"{path!r} is there" for path in tree if path and path not in expected]
        found += _group_mismatches(expected, tree)
    root = vector.get("root", {})
    return found + [f"the root's {key}" for key in root if _attribute(tree[b""], key) != _wanted(key, root[key])]


def _attribute(node: Node, key: str) -> Any:
    match key:
        case "devmajor":
            return node.device[0]
        case "devminor":
            return node.device[1]
        case "xattrs":
            return dict(node.xattrs)
    return getattr(node, key)


def _wanted(key: str, value: Any) -> Any:
    match key:
        case "data" | "linkname":
            return raw_bytes(value)
        case "mode":
            return int(value, 8)
        case "mtime":
            return int(Decimal(str(value)) * 10**9)
        case "xattrs":
            return {raw_bytes(name): raw_bytes(each) for name, each in value.items()}
    return value


def _group_mismatches(expected: dict[bytes, Data], tree: Tree) -> list[str]:
    """Paths share an inode if and only if the vector says so."""

    def leader(path: bytes) -> bytes:
        other = expected[path].get("same_inode_as")
        return path if other is None else leader(raw_bytes(other))

    present = [path for path in expected if path in tree]
    return [
        f"{path!r} and {other!r} share an inode or not"
        for path in present
        for other in present
        if (tree[path] is tree[other]) != (leader(path) == leader(other))
    ]


def rejects(run: Callable[[], object]) -> str | None:
    """Return the message of the InputError that `run` ends with; None if it does not."""
    try:
        run()
    except InputError as error:
        return str(error)
    return None


def check_vector(vector: Data, run: Callable[[list[Layer]], Shown]) -> None:
    """Assert that flattening a vector gives what it expects."""
    layers = layers_of(vector["layers"])
    if vector["expect"] == "reject":
        message = rejects(lambda: run(layers))
        assert message is not None, f"{vector['name']} is accepted"
        assert vector["match"] in message, f"{vector['name']}: {message}"
    else:
        found = mismatches(vector, tree_of(run(layers)))
        assert not found, f"{vector['name']}: {found}"


def check_stack(stack: Stack, excluded: Excluded = None, piece: int = 1 << 20) -> None:
    """Assert that flattening gives what the model gives, with care or without, or that all reject the stack."""
    layers = layers_of(stack, piece)
    wanted: Tree = {}
    refusal = rejects(lambda: wanted.update(model.flattened(stack, excluded)))
    if refusal is not None:
        assert rejects(lambda: carefully(layers, excluded)) is not None, f"accepted, but the model: {refusal}"
        assert rejects(lambda: optimistically(layers, excluded)) is not None, f"accepted, but the model: {refusal}"
        return
    careful = carefully(layers, excluded)
    assert model.view(tree_of(careful)) == model.view(wanted)
    assert optimistically(layers, excluded) == careful, "without care, something else goes out"


def excluding(paths: Iterable[bytes]) -> Excluded:
    """Return what flatten takes to leave out some paths."""
    chosen = frozenset(paths)
    return chosen.__contains__ if chosen else None


def file(name: str, data: str = "") -> Data:
    """Return a file's entry; its content is its name unless given."""
    return {"type": "file", "name": name, "data": data or name}


def link(name: str, target: str) -> Data:
    """Return a hard link's entry."""
    return {"type": "hardlink", "name": name, "linkname": target}


def symlink(name: str, target: str) -> Data:
    """Return a symbolic link's entry."""
    return {"type": "symlink", "name": name, "linkname": target}


ODD: dict[str, tuple[Stack, list[str]]] = {
    "implied-over-symlink": (
        [[file("usr/lib/a"), symlink("lib", "usr/lib")], [file("lib/b")]],
        ["layer 1: the symbolic link 'lib' becomes a directory"],
    ),
    "implied-twice-over-symlinks": (
        [[symlink("e/d/x", "y"), symlink("e/d/z", "y")], [file("e/d/x/b")], [file("e/d/x/c"), file("e/d/z/.wh.a")]],
        ["layer 1: the symbolic link 'e/d/x' becomes a directory", "1 more like it"],
    ),
    "listed-over-symlink": ([[symlink("lib", "usr")], [{"type": "dir", "name": "lib"}, file("lib/b")]], []),
    "listed-between": ([[symlink("lib", "usr")], [{"type": "dir", "name": "lib"}], [file("lib/b")]], []),
    "implied-over-hidden-symlink": ([[symlink("lib", "usr")], [file(".wh.lib")], [file("lib/b")]], []),
    "implied-and-whited-out": ([[symlink("lib", "usr")], [file(".wh.lib"), file("lib/b")]], []),
    "implied-over-file": ([[file("lib")], [file("lib/b")]], []),
    "below-a-file": ([[file("a/b"), file("a/b/c/d")]], ["layer 1: 'a/b' has entries below it and is no directory"]),
    "whiteout-directory": (
        [[file("e/.wh.d/x/y"), file("e/.wh.d/x/z")], [file("a")]],
        ["layer 1: 'e/.wh.d' is a directory with a whiteout's name"],
    ),
    "aufs-directory": ([[file(".wh..wh.plnk/1.2")], [file("a")]], []),
    "whiteout-device": (
        [[file("d/x"), file("y")], [{"type": "char", "name": "d/x"}, {"type": "char", "name": "y"}]],
        ["layer 2: the device 0:0 'd/x' is taken for a whiteout", "1 more like it"],
    ),
    "trusted": (
        [[file("a") | {"xattrs": {"trusted.overlay.opaque": "y"}}, file("b") | {"xattrs": {"security.selinux": "x"}}]],
        ["layer 1: 'a' has trusted extended attributes"],
    ),
}
"""Stacks that are accepted with a warning, or that look like it: what the warnings begin with, and how they end."""


def warnings_of(stack: Stack) -> list[str]:
    """Flatten, starting over as needed, and return what is logged, without digests."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("ocirootfs")
    logger.addHandler(handler)
    try:
        optimistically(layers_of(stack))
    finally:
        logger.removeHandler(handler)
    return [re.sub(r" \(sha256:[0-9a-f]{12}\)", "", line) for line in lines]


def check_warnings(name: str) -> None:
    """Assert that one of the `ODD` stacks is warned of as it should be, and once."""
    stack, wanted = ODD[name]
    found = warnings_of(stack)
    assert len(found) == bool(wanted), found
    for line in found:
        assert line.startswith(wanted[0]), line
        assert line.endswith(wanted[1]) if wanted[1:] else "more like it" not in line, line


def main(seeds: int = 300) -> None:
    """Check the package that is imported; AssertionError or any other exception if it is wrong."""
    for vector in vectors():
        check_vector(vector, carefully)
        check_vector(vector, optimistically)
    for seed in range(seeds):
        choose = random.Random(seed).choice
        stack = model.random_stack(choose)
        check_stack(stack, excluding(choose(((), (), (), (b"a",), (b"b/a", b"c")))))
    directory = {"type": "dir"}
    nested: Stack = [
        [directory | {"name": "b"}, file("b/x"), directory | {"name": "b/a"}, file("b/a/f"), file("b/c/f")]
    ]
    for paths in ((b"b/a",), (b"b/a", b"b/c"), (b"b/c",)):
        check_stack(nested, excluding(paths))
    for name in ODD:
        check_warnings(name)
    too_deep: Data = {"type": "file", "name": "d/" * (USUAL.path_depth + 1) + "f"}
    assert rejects(lambda: carefully(layers_of([[too_deep]]))) is not None


MUTANTS = [
    Mutant("a shadowed symlink is not told", "flattening", "note(Oddity.SHADOWED, prefix + name)", "pass"),
    Mutant("a listed directory shadows too", "flattening", "mine.entry is None and symlink", "symlink"),
    Mutant(
        "a shadowed file is told", "flattening", "entry is None and symlink_target(node) is not None:", "entry is None:"
    ),
    Mutant("a shadowed symlink has half a name", "flattening", 'prefix + name + b"/", mine', 'name + b"/", mine'),
    Mutant(
        "a file in the way is not told",
        "layertree",
        'self._note(Oddity.IN_THE_WAY, b"/".join(components[:depth]))',
        "pass",
    ),
    Mutant(
        "a directory called like a whiteout is not told",
        "layertree",
        'self._note(Oddity.WHITEOUT_DIRECTORY, b"/".join(components[:depth]))',
        "pass",
    ),
    Mutant("AUFS's directories are told", "layertree", " and not path.startswith(AUFS):", ":"),
    Mutant("a device 0:0 is not told", "layertree", "self._note(Oddity.WHITEOUT_DEVICE, path)", "pass"),
    Mutant("a trusted attribute is not told", "flattening", "note(Oddity.TRUSTED, entry.path)", "pass"),
    Mutant("any attribute is told", "flattening", 'if any(name.startswith(b"trusted.") for', "if any(name for"),
    Mutant(
        "an opaque marker means nothing",
        "layertree",
        "directory.opaque = True\n\n    def _mark",
        "pass\n\n    def _mark",
    ),
    Mutant(
        "an opaque marker hides at once",
        "layertree",
        "self.opaques.append(place.prefix[:-1])",
        "self.opaques.append(place.prefix[:-1]); place.directory.children.clear()",
    ),
    Mutant(
        "any name with the opaque prefix is opaque", "layertree", "if name == OPAQUE:", "if name.startswith(OPAQUE):"
    ),
    Mutant("a whiteout means nothing", "layertree", "self.whiteouts.append(place.prefix + hidden)", "pass"),
    Mutant(
        "a whiteout hides its own layer",
        "layertree",
        "node = parent.children.setdefault(name, COVERED)",
        "node = parent.children[name] = COVERED",
    ),
    Mutant(
        "a whiteout of a directory made again spares its content",
        "layertree",
        "                    node.cut()",
        "                    pass",
    ),
    Mutant(
        "a directory made again has the old attributes",
        "layertree",
        "        if self.entry is None:\n            self.entry = IMPLIED",
        "",
    ),
    Mutant(
        "a directory made again loses its attributes",
        "layertree",
        "        if self.entry is None:\n            self.entry",
        "        self.entry",
    ),
    Mutant("a device 0:0 is a device", "layertree", "kind is Kind.CHAR and entry.device == (0, 0)", "False"),
    Mutant("a device 0:0 spares lower layers", "layertree", "            self.whiteouts.append(path)\n", ""),
    Mutant(
        "a device 0:0 spares its own layer",
        "layertree",
        "            self._remove(place, name)\n            self.whiteouts",
        "            self.whiteouts",
    ),
    Mutant("any device 0 is a whiteout", "layertree", "entry.device == (0, 0)", "0 in entry.device"),
    Mutant("a whiteout of nothing is accepted", "layertree", 'elif hidden in (b"", b".", b".."):', "elif False:"),
    Mutant("a whiteout of .. is accepted", "layertree", '(b"", b".", b"..")', '(b"", b".")'),
    Mutant("the root may be a file", "layertree", "if entry.kind is not _DIRECTORY and entry.path:", "if False:"),
    Mutant("an empty name is refused", "layertree", "is not _DIRECTORY and entry.path:", "is not _DIRECTORY:"),
    Mutant("names begin with a slash", "layertree", " or (slash and not head)", ""),
    Mutant("names end with a dot", "layertree", 'frozenset([b"", b".", b".."])', 'frozenset([b""])'),
    Mutant(
        "a file given twice leaves no trace",
        "layertree",
        "                self._remove(place, name)\n            children",
        "                pass\n            children",
    ),
    Mutant("a moved entry keeps its name", "layertree", "if place.moved:", "if False:"),
    Mutant(
        "the first directory entry counts",
        "layertree",
        '        node.entry = entry._replace(path=b"")',
        '        node.entry = node.entry or entry._replace(path=b"")',
    ),
    Mutant("a replaced directory spares what is in it", "layertree", "going.extend(node.children.values())", "pass"),
    Mutant(
        "places outlive their directory",
        "layertree",
        "                self._places.clear()  # they may lead into it\n",
        "",
    ),
    Mutant("places outlive a symlink", "layertree", "self._places.clear()  # they may have gone through it", "pass"),
    Mutant(
        "places outlive the lack of a symlink",
        "layertree",
        "if self._moved and symlink_target(node) is not None:",
        "if False:",
    ),
    Mutant(
        "a parent that is no directory stays",
        "layertree",
        (
            "            if not isinstance(node, Directory):\n"
            "                if node is not None:\n"
            '                    self._note(Oddity.IN_THE_WAY, b"/".join(components[:depth]))\n'
            "                    self._drop(node)"
        ),
        "            if not isinstance(node, Directory):\n                if False:\n                    pass",
    ),
    Mutant(
        "a link's target may not climb",
        "layertree",
        "folded(entry.link, clamp=True)",
        "folded(entry.link, clamp=False)",
    ),
    Mutant(
        "a link's target is not resolved",
        "layertree",
        "self.resolved(folded(entry.link, clamp=True))",
        "folded(entry.link, clamp=True)",
    ),
    Mutant(
        "a link's target is followed",
        "layertree",
        "self.resolved(folded(entry.link, clamp=True))",
        "self.resolved(folded(entry.link, clamp=True), follow_last=True)",
    ),
    Mutant(
        "a link may name a directory",
        "layertree",
        (
            "if isinstance(found, Directory):\n"
            '            raise LayerError("a hard link to a directory", path=entry.path)'
        ),
        "if isinstance(found, Directory):\n            found = None",
    ),
    Mutant(
        "a link makes a new inode",
        "layertree",
        'inode = inode_of(found, b"/".join(target))',
        "inode = Inode(ordinal); inode.waiting = []",
    ),
    Mutant(
        "parents are not resolved",
        "layertree",
        'self.resolved(head.split(b"/") if head else [], follow_last=True)',
        'head.split(b"/") if head else []',
    ),
    Mutant("the last parent is not followed", "layertree", "if head else [], follow_last=True)", "if head else [])"),
    Mutant("absolute symlinks are relative", "layertree", 'if target[:1] == b"/":', "if False:"),
    Mutant(".. in a symlink means nothing", "layertree", "del done[-1:], nodes[max(1, len(nodes) - 1) :]", "pass"),
    Mutant(".. in a symlink loses track", "layertree", "nodes[max(1, len(nodes) - 1) :]", "nodes[1:]"),
    Mutant("directories may be as deep as they like", "layertree", "if len(components) > self._depth:", "if False:"),
    Mutant("39 symlinks are too many", "layertree", "_HOPS = 40", "_HOPS = 39"),
    Mutant("41 symlinks are not too many", "layertree", "_HOPS = 40", "_HOPS = 41"),
    Mutant(
        "a hard link to a symlink is no symlink",
        "layertree",
        "inode = node.inode if isinstance(node, Link) else node\n    if",
        "inode = node\n    if",
    ),
    Mutant(
        "a shown file is not known by its path",
        "layertree",
        "        extra.leader = extra.leader or path\n",
        "        pass\n",
    ),
    Mutant("nothing is superseded in a careful layer", "layertree", "dead.add(leaf.ordinal)", "pass"),
    Mutant("layers bottom first", "flattening", "for layer in reversed(layers):", "for layer in layers:"),
    Mutant("markers are not applied", "flattening", "        tree.apply_markers()\n", ""),
    Mutant(
        "links to later entries are not bound",
        "flattening",
        "yield from self._bind_within(tree, deferred)",
        "deferred = tree.deferred",
    ),
    Mutant("links from above are not bound", "flattening", "        yield from self._bind_from_above(tree)\n", ""),
    Mutant(
        "links to lower layers are forgotten",
        "flattening",
        "self._awaited += [Awaited(layer.name, each) for each in deferred]",
        "pass",
    ),
    Mutant("kept contents are never dropped", "flattening", "        self._spool.clear()\n", ""),
    Mutant("a layer covers nothing", "flattening", "        _merge(self._above, tree.root, note)\n", ""),
    Mutant("what does not survive is shown", "flattening", " and ordinal not in dead", ""),
    Mutant(
        "covered entries are shown", "flattening", "place.cover is not None and not _uncovered(place, path)", "False"
    ),
    Mutant("excluded entries are shown", "flattening", " and not (excluded and excluded(path))", ""),
    Mutant(
        "hidden contents are lost",
        "flattening",
        "        if entry.size:\n            node.kept = self._spool.keep(body)\n",
        "",
    ),
    Mutant(
        "a hidden file is not remembered",
        "flattening",
        '            node.extended().entry = entry._replace(path=b"")\n        if isinstance',
        '            node.extended().entry = entry._replace(path=b"", mode=0)\n        if isinstance',
    ),
    Mutant(
        "names go out as they are spelled",
        "flattening",
        "yield entry if entry.path is path else entry._replace(path=path), body",
        "yield entry, body",
    ),
    Mutant(
        "a file that gives way later is not noticed",
        "flattening",
        "            node.shown = visible\n",
        "            node.shown = visible and isinstance(node, Link)\n",
    ),
    Mutant(
        "a link that gives way later is not noticed",
        "flattening",
        "            node.shown = visible\n            if isinstance(node, Link):\n",
        "            node.shown = visible and isinstance(node, Inode)\n            if isinstance(node, Link):\n",
    ),
    Mutant(
        "links have the root's attributes",
        "flattening",
        "Kind.HARDLINK, *inode.owner,",
        "Kind.HARDLINK, 0o755, 0, 0,",
    ),
    Mutant(
        "each further name is a file",
        "flattening",
        "            extra.leader = path\n",
        "            pass\n",
    ),
    Mutant(
        "AUFS's own files are shown", "flattening", "if components and components[0].startswith(AUFS):", "if False:"
    ),
    Mutant(
        "AUFS's own directories are shown", "flattening", "return not path.startswith(AUFS) and not (", "return not ("
    ),
    Mutant(
        "what is in an excluded directory is shown",
        "flattening",
        "if self._excluded and any(map(self._excluded, _parents(components))):",
        "if False:",
    ),
    Mutant(
        "excluded directories are shown",
        "flattening",
        "not path.startswith(AUFS) and not (self._excluded and self._excluded(path))",
        "not path.startswith(AUFS)",
    ),
    Mutant(
        "an opaque root hides nothing", "flattening", "COVERED if self._above.opaque else self._above", "self._above"
    ),
    Mutant(
        "opaque directories hide nothing inside",
        "flattening",
        "return COVERED if child.opaque else child",
        "return child",
    ),
    Mutant(
        "what covers a parent is forgotten",
        "flattening",
        "            return above.cover\n",
        "            return None\n",
    ),
    Mutant(
        "a directory below a known one is not excluded",
        "flattening",
        "        if self._excluded and self._excluded(path):\n            return COVERED\n",
        "",
    ),
    Mutant(
        "a place is where its name says",
        "layertree",
        "if above is not None and not above.moved and",
        "if above is not None and",
    ),
    Mutant(
        "a file hides nothing below its path", "flattening", "return None if child is None else COVERED", "return None"
    ),
    Mutant(
        "a directory hides no file",
        "flattening",
        "return isinstance(cover, Directory) and path[len(place.prefix) :] not in cover.children",
        (
            "return isinstance(cover, Directory) and"
            " isinstance(cover.children.get(path[len(place.prefix) :]), Directory | None)"
        ),
    ),
    Mutant(
        "a link in a circle is let go",
        "flattening",
        "if inode is None or inode is deferred.inode:\n                left.append(deferred)\n            else:",
        "if inode is None:\n                left.append(deferred)\n            elif inode is not deferred.inode:",
    ),
    Mutant(
        "links waiting for links are lost",
        "flattening",
        "deferred.inode.extended().bound = inode",
        "deferred.inode.extended()",
    ),
    Mutant(
        "missing targets are accepted",
        "flattening",
        "            raise awaited.missing()\n\n    def directories",
        "            pass\n\n    def directories",
    ),
    Mutant(
        "implied directories have no attributes",
        "flattening",
        "entry = IMPLIED if directory.entry is None or not path else directory.entry",
        "entry = IMPLIED._replace(mode=0) if directory.entry is None and path else directory.entry or IMPLIED",
    ),
    Mutant(
        "directories before what is in them",
        "flattening",
        "            todo.append((path, directory, True))\n            prefix",
        "            yield IMPLIED._replace(path=path), ()\n            prefix",
    ),
    Mutant(
        "directories in reverse", "flattening", "sorted(directory.children, reverse=True)", "sorted(directory.children)"
    ),
    Mutant("trusted attributes are kept", "flattening", 'not k.startswith(b"trusted.") and ', ""),
    Mutant("SELinux's attributes are kept", "flattening", ' and k != b"security.selinux"', ""),
    Mutant(
        "all security attributes are dropped", "flattening", 'k != b"security.selinux"', 'not k.startswith(b"security")'
    ),
    Mutant(
        "what gives way after it was shown is ignored",
        "flattening",
        "        if leaf.shown:\n            raise Superseded(number)",
        "        pass",
    ),
    Mutant(
        "whatever gives way is refused",
        "flattening",
        "        if leaf.shown:\n            raise Superseded(number)",
        "        raise Superseded(number)",
    ),
    Mutant(
        "a lower directory is as good as none",
        "flattening",
        (
            "    if isinstance(node, Directory):\n"
            '        raise LayerError("a hard link to a directory", path=b"/".join(path))\n'
            "    return None if node is None else"
        ),
        "    return None if node is None or isinstance(node, Directory) else",
    ),
    Mutant("links look through an opaque root", "flattening", "sealed = directory.opaque\n", "sealed = False\n"),
    Mutant("links look through opaque directories", "flattening", "sealed = sealed or directory.opaque", "pass"),
    Mutant("links look through whiteouts", "flattening", "sealed = sealed or child is not None", "pass"),
    Mutant(
        "links look below what is no directory",
        "flattening",
        "                raise self._blocked(depth, child)\n",
        "                break\n",
    ),
    Mutant("a covered symlink is taken for the way", "flattening", "self._known = max(self._known, depth + 1)", "pass"),
    Mutant(
        "the lowest directory entry counts",
        "flattening",
        "if upper.entry is None:  # implied so far",
        "if lower.entry is not None:  #",
    ),
    Mutant(
        "implied directories keep no attributes",
        "flattening",
        "            upper.entry = lower.entry\n",
        "            pass\n",
    ),
    Mutant(
        "what an opaque directory hides is merged", "flattening", "        if upper.opaque:\n            continue\n", ""
    ),
    Mutant("opaque directories below others are forgotten", "flattening", "        upper.opaque = lower.opaque\n", ""),
    Mutant(
        "a lower file does not stop the directory above it",
        "flattening",
        "                mine.cut()\n",
        "                pass\n",
    ),
]
"""One for each rule and guard of the flattening core."""
