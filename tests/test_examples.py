"""Every example of the library is run: in docstrings, as sessions of Python; in README.md and docs/, as blocks."""

from __future__ import annotations

import contextlib
import doctest
import enum
import inspect
import io
import json
import re
import sys
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING

import pytest

import ocirootfs
from tests.commands import environment, run
from tests.layers import OCI_MANIFEST, build
from tests.servers.certificate import Authority
from tests.servers.proxy import Proxy
from tests.servers.registry import FakeRegistry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers.moto import S3Endpoint

ROOT = Path(__file__).parent.parent
OS_RELEASE = "NAME=Ubuntu\n"


@pytest.mark.parametrize("name", ocirootfs.__all__)
def test_what_a_docstring_types(name: str, tmp_path: Path) -> None:
    """In an empty directory, beside which the fixtures are."""
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    text = inspect.getdoc(getattr(ocirootfs, name)) or ""
    names = {"ocirootfs": ocirootfs, "json": json, "io": io}
    said = io.StringIO()
    with contextlib.chdir(tmp_path):
        session = doctest.DocTestParser().get_doctest(text, names, name, None, 0)
        found = doctest.DocTestRunner(verbose=False).run(session, out=said.write)
    assert (found.failed, found.attempted > 0) == (0, True), said.getvalue()


def blocks() -> list[tuple[str, str]]:
    """Return the blocks of Python in the pages, and where each is."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    return [
        (f"{page.name}-{number}", code)
        for page in pages
        for number, code in enumerate(
            re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL), 1
        )
    ]


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Docker Hub, behind a proxy, with an ubuntu:17.04 for arm64; gives the environment in which it is found."""
    entries = [
        {"type": "file", "name": "etc/os-release", "data": OS_RELEASE},
        {"type": "file", "name": "usr/share/doc/os-release", "data": "documentation"},
    ]
    image = build([{"entries": entries}], config={"architecture": "arm64", "config": {"Env": ["LANG=C"]}})
    (tmp_path / "authority").mkdir()
    authority = Authority(tmp_path / "authority")
    with FakeRegistry(tls=authority.server("registry-1.docker.io")) as registry:
        registry.add("library/ubuntu", "17.04", image.manifest, OCI_MANIFEST, image.blobs)
        with Proxy({"registry-1.docker.io:443": registry.host}) as proxy:
            yield {"HTTPS_PROXY": proxy.url, "NO_PROXY": "127.0.0.1", "SSL_CERT_FILE": str(authority.ca_file)}


@pytest.mark.parametrize(("place", "code"), blocks(), ids=[place for place, _ in blocks()])
def test_a_block_of_python(place: str, code: str, hub: dict[str, str], s3: S3Endpoint, tmp_path: Path) -> None:
    """With Docker Hub and a bucket called images where they are on this machine."""
    s3.client.create_bucket(Bucket="images")
    variables = {
        **hub,
        "AWS_ENDPOINT_URL_S3": s3.endpoint,
        "HOME": str(tmp_path),
        "no_proxy": None,
        "https_proxy": None,
    }
    (tmp_path / "here").mkdir()
    ran = run(command=(sys.executable, "-c", code), env=environment(**variables), cwd=tmp_path / "here").ok
    if "s3://images" in code:
        found = s3.client.list_objects_v2(Bucket="images")["Contents"]
        assert [item["Key"] for item in found] == ["ubuntu/ubuntu-17.04.tgz"]
        assert f"s3://images/{found[0]['Key']} {found[0]['Size']} " in ran.out.decode()
    if "os-release" in code:
        assert OS_RELEASE in ran.out.decode()


def test_there_are_blocks() -> None:
    assert any(place.startswith("README") for place, _ in blocks())


# What is public, to the letter: a change here is one that CHANGELOG.md tells of.

# Types are those of tests/typing/program.py.
SIGNATURES = {
    "Checked": "findings compressed expanded files entries user version",
    "Edits": "env=() unset_env=() whole_env=None user=None entrypoint=… cmd=… labels=()",
    "Entry": "path kind mode uid gid mtime size=0 link=b'' device=(0, 0) xattrs=()",
    "Finding": "code rule detail where count",
    "Image": (
        "config layers manifest=None reference=None finish=… again='free' jobs=1 interrupt=… index=None family=None "
        "limits=…"
    ),
    "Kind": "FILE HARDLINK SYMLINK CHAR BLOCK DIRECTORY FIFO",
    "Layer": "number diff_id size digest media_type source window=134217728",
    "Layout": "kind='concourse' exclude=() devices=None edits=… latest=None resource=…",
    "Limits": (
        "document=8388608 token=1048576 json_depth=64 index_depth=3 redirects=10 layers=1000 manifests=1000 "
        "entries=5000000 path=65536 path_depth=4096 extension=1048576 attributes=67108864 sparse=68719476736 "
        "window=134217728"
    ),
    "OcirootfsError": "message * hint=None",
    "Packed": "stored digest report skipped=False",
    "Platform": "os architecture variant='' os_version=''",
    "Reference": "registry repository tag=None digest=None",
    "Report": "entries=0 devices=… capabilities=… high_ids=…",
    "ResourceType": "type=None version=None privileged=False unique_version_history=False",
    "S3Options": (
        "* endpoint_url=None region=None profile=None role_arn=None no_sign_request=False "
        "expected_bucket_owner=None addressing='auto' checksums='auto' ca_file=None insecure=False "
        "part_size=8388608 jobs=3 retry_for=300.0 content_type='application/gzip' sse=None "
        "sse_kms_key_id=None acl=None storage_class=None tags=… metadata=… if_exists='update'"
    ),
    "Unpacked": "location digest attributes report=… losses=…",
    "check": "source * regexp=None name=None s3_options=None s3_client=None",
    "fetch": "images target * tmpdir=None progress=None",
    "flatten": "image * exclude=() tmpdir=None",
    "metadata": "image",
    "open": "source * platform=None name=None all_platforms=False session=None registry=None tmpdir=None limits=None",
    "pack": (
        "image target * layout=None compress='gzip' level=4 threads=None tmpdir=None s3_options=None "
        "s3_client=None max_expanded=274877906944 progress=None"
    ),
    "unpack": (
        "image directory * layout='rootfs' exclude=() devices='drop' owners=None xattrs=False "
        "keep_empty=False tmpdir=None max_expanded=274877906944 progress=None"
    ),
}


@pytest.mark.parametrize("name", ocirootfs.__all__)
def test_a_public_name_takes_what_it_took(name: str) -> None:
    assert signature(name) == SIGNATURES[name]


def signature(name: str) -> str:
    """Return the names of parameters, a star before those by keyword, and defaults that are plain values."""
    found = getattr(ocirootfs, name)
    if issubclass(type(found), enum.EnumType):
        return " ".join(found.__members__)
    words: list[str] = []
    for parameter in inspect.signature(found).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in words:
            words.append("*")
        words.append(parameter.name + _default(parameter.default))
    return " ".join(words)


def _default(value: object) -> str:
    if value is inspect.Parameter.empty:
        return ""
    return f"={value!r}" if isinstance(value, NoneType | bool | int | float | str | bytes | tuple) else "=…"
