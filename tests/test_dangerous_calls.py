"""What the package never does: run text as code, load pickles, extract archives, skip certificates, guess names.

Ruff's rules S cover some of it; these hold without ruff, and have no exceptions by comment.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import ocirootfs

PACKAGE = Path(ocirootfs.__file__).parent
CALLS = {
    "eval", "exec", "compile", "__import__", "extractall", "extract", "unpack_archive", "mktemp", "system", "popen",
    "unsafe_load", "full_load", "load_all", "getoutput", "getstatusoutput", "_create_unverified_context",
    "disable_warnings", "realpath", "rmtree",
}  # fmt: skip
MODULES = {"pickle", "marshal", "shelve", "tarfile", "zipfile", "xml", "telnetlib", "ftplib", "ctypes"}
LOADERS = {"Loader", "FullLoader", "UnsafeLoader", "CLoader", "CFullLoader", "CUnsafeLoader"}  # yaml's that run code
KEYWORDS = {("shell", True), ("verify", False), ("allow_redirects", True), ("check_hostname", False)}


def name_of(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        value = function.value
        own = isinstance(value, ast.Name) and value.id in {"re", "self"}  # re.compile
        return "" if own else function.attr
    return function.id if isinstance(function, ast.Name) else ""


def faults(source: str) -> list[str]:
    """List what a module does that it should not."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            found += [f"{name_of(node.func)}()"] if name_of(node.func) in CALLS else []
            found += [
                f"{keyword.arg}={keyword.value.value!r}"
                for keyword in node.keywords
                if isinstance(keyword.value, ast.Constant) and (keyword.arg, keyword.value.value) in KEYWORDS
            ]
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] in MODULES]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in MODULES:
            found.append(str(node.module))
        elif isinstance(node, ast.Attribute) and node.attr in LOADERS:
            found.append(node.attr)
        elif isinstance(node, ast.ExceptHandler) and node.type is None:
            found.append("except:")
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_dangerous(path: Path) -> None:
    assert faults(path.read_text()) == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import tarfile\ntarfile.open('x').extractall()", ["tarfile", "extractall()"]),
        ("subprocess.run('x', shell=True)", ["shell=True"]),
        ("requests.get('x', verify=False)", ["verify=False"]),
        ("eval('1'); builtins.exec('2')", ["eval()", "exec()"]),
        ("from pickle import loads", ["pickle"]),
        ("import os\nos.system('x')", ["system()"]),
        ("try:\n  x\nexcept:\n  pass", ["except:"]),
        ("tempfile.mktemp()", ["mktemp()"]),
        ("yaml.load(text, yaml.Loader)", ["Loader"]),
        ("yaml.full_load(text)", ["full_load()"]),
        ("yaml.load(text, yaml.SafeLoader)", []),
        ("import re\nre.compile('x')", []),
    ],
)
def test_they_would_be_found(source: str, found: list[str]) -> None:
    assert faults(source) == found
