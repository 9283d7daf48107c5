"""The architecture, pinned: who may import whom, and who alone may import what."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import ocirootfs

PACKAGE = Path(ocirootfs.__file__).parent

# DESIGN.md draws these ranks. A module imports from lower ranks and, inside its own, only from those before it.
RANKS = [
    ["errors", "limits", "strictjson", "strictyaml", "platform", "digest", "reference", "manifest", "entry", "oddity"],
    [
        "tar.header", "tar.pax", "tar.sparse", "tar.reader", "tar.writer", "tar",
        "gunzip", "compression", "cores", "inorder", "gzip", "aside", "spool", "exclude", "edits",
        "metadatajson", "goregexp",
    ],
    [
        "image", "expansion", "layertree", "flattening", "resourcetype", "bundle", "replay", "prefetch", "sharedlayers",
        "versions", "naming",
        "consumer.finding", "consumer.sniff", "consumer.suffix", "consumer.stream", "consumer.dialect",
        "consumer.user", "consumer.document", "consumer",
    ],
    [
        "archive.members", "archive.ocilayout", "archive.dockersave", "archive.writer", "archive", "source",
        "destination", "opendirectories", "newdirectory", "treewriter",
        "s3.parts", "s3.url", "s3.stamp", "s3.skew", "s3.account", "s3.client", "s3.reading", "s3.destination",
        "s3.leftovers", "s3",
        "registry.origin", "registry.retry", "registry.complaint", "registry.warnheader", "registry.netfailure",
        "registry.pace", "registry.certsd", "registry.trust", "registry.connections", "registry.transport",
        "registry.credhelper", "registry.ecr", "registry.credentials", "registry.challenge", "registry.siblings",
        "registry.auth",
        "registry.interrupt", "registry.cache", "registry.family", "registry.blob", "registry.mirror",
        "registry.client", "registry",
    ],
    ["fetching", "packing", "unpacking", "listing", "checking", "imagelist"],
    ["api", "mirroring", ""],
    [
        "cli.streams", "cli.traces", "cli.messages", "cli.echo", "cli.console", "cli.words", "cli.progress",
        "cli.options", "cli.bucket", "cli.edits", "cli.result", "cli.latest", "cli.fetch", "cli.pack", "cli.unpack",
        "cli.pipeline", "cli.mirror",
        "cli.inspect", "cli.ls", "cli.check", "cli.completion", "cli", "__main__",
    ],
]  # fmt: skip
ORDER = {name: place for place, name in enumerate(name for rank in RANKS for name in rank)}

# The only modules that import a library.
SOLE = {
    "requests": {"registry.connections", "registry.transport"},
    "urllib3": {"registry.connections", "registry.transport"},
    "boto3": {"registry.ecr", "s3.client"},
    "botocore": {"registry.ecr", "s3.account", "s3.client", "s3.skew"},
    "tqdm": {"cli.progress"},
    "yaml": {"strictyaml"},
    "zstandard": {"compression"},
    "isal": {"gunzip", "gzip"},
    "zlib_ng": {"gzip", "tar.header"},
    "subprocess": {"registry.credhelper"},
}


def modules() -> list[str]:
    """Return the dotted names of all modules, relative to the package; the package itself is ""."""
    names = []
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return sorted(names)


def imports(module: str) -> set[str]:
    """Return what a module imports when it runs, wherever in it; imports for the type checker do not count."""
    path = PACKAGE.joinpath(*module.split(".")) if module else PACKAGE
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    tree = ast.parse(file.read_text())
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for statement in node.body
        for inner in ast.walk(statement)
    }
    found = set()
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return found


def own(names: set[str]) -> set[str]:
    """Return the modules of this package among imported names."""
    found = {name.removeprefix("ocirootfs").lstrip(".") for name in names if name.split(".")[0] == "ocirootfs"}
    return found & set(ORDER)


def test_every_module_has_a_rank() -> None:
    assert set(modules()) == set(ORDER)


@pytest.mark.parametrize("module", modules())
def test_imports_point_downward(module: str) -> None:
    packages = {module, module.rpartition(".")[0], ""}  # importing a.b names a, and "" is named by everything
    upward = {name for name in own(imports(module)) - packages if ORDER[name] >= ORDER[module]}
    assert not upward, f"{module or 'ocirootfs'} imports {sorted(upward)}"


@pytest.mark.parametrize("library", sorted(SOLE))
def test_one_module_a_library(library: str) -> None:
    users = {module for module in modules() if any(name.split(".")[0] == library for name in imports(module))}
    assert users == SOLE[library]


@pytest.mark.parametrize("module", ["tarfile", "gzip", "shutil.unpack_archive", "unittest.mock"])
def test_what_is_never_imported(module: str) -> None:
    users = [name for name in modules() if module in imports(name)]
    assert not users, f"{users} import {module}"


def test_public_names() -> None:
    assert set(ocirootfs.__all__) == {
        "Checked", "Edits", "Entry", "Finding", "Image", "Kind", "Layer", "Layout", "Limits", "OcirootfsError",
        "Packed", "Platform", "Reference", "Report", "ResourceType", "S3Options", "Unpacked", "check", "fetch",
        "flatten", "metadata", "open", "pack", "unpack",
    }  # fmt: skip
    assert all(hasattr(ocirootfs, name) for name in ocirootfs.__all__)
