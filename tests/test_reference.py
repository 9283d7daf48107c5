"""References: what people type, and what it means."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocirootfs.digest import Digest
from ocirootfs.errors import UsageError
from ocirootfs.reference import Reference

TABLE = json.loads((Path(__file__).parent / "fixtures" / "references.json").read_text("utf-8"))


@pytest.mark.parametrize("row", TABLE["accepted"], ids=lambda row: row["text"][:60])
def test_accepted(row: dict[str, Any]) -> None:
    found = Reference.parse(row["text"])

    digest = None if row["digest"] is None else Digest.parse(row["digest"])
    assert found == Reference(row["registry"], row["repository"], row["tag"], digest)
    assert row["familiar"] in {None, found.familiar}
    assert row["name"] in {None, found.name}


@pytest.mark.parametrize("row", TABLE["refused"], ids=lambda row: ascii(row["text"][:60]))
def test_refused(row: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        Reference.parse(row["text"])

    assert row["says"] in str(caught.value)
    assert (row["hint"] or "") in (caught.value.hint or "")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("row", TABLE["accepted"], ids=lambda row: row["text"][:60])
def test_the_full_form_reads_back_as_the_same(row: dict[str, Any]) -> None:
    found = Reference.parse(row["text"])

    assert Reference.parse(str(found)) == found


def test_full_form() -> None:
    digest = Digest.of(b"")

    assert str(Reference.parse("ubuntu:17.04")) == "docker.io/library/ubuntu:17.04"
    assert str(Reference.parse("x.io/a").with_digest(digest)) == f"x.io/a:latest@{digest}"


@pytest.mark.parametrize(
    "text",
    [
        "u:s3cret@h/x", "docker://u:s3cret@h/x", "u:a/s3cret@h/x", "u:a@s3cret@h/x", "u:s3cret@h",
        "u:s3cret@h:5000/x:1", f"u:s3cret@h/x:1@sha256:{'a' * 64}", "https://u:s3cret@h/x",
        "https://u:a/s3cret@h/x", "https://h/x?s3cret@",
    ],
)  # fmt: skip
def test_a_password_is_not_repeated(text: str) -> None:
    with pytest.raises(UsageError, match=r"holds a password|is a URL") as caught:
        Reference.parse(text)

    assert "s3cret" not in f"{caught.value} {caught.value.hint}"
    assert "use 'h" in (caught.value.hint or "")


def test_the_digest_decides() -> None:
    pinned = Reference.parse("ubuntu:17.04").with_digest(Digest.of(b""))

    assert pinned.target == str(Digest.of(b""))
    assert pinned.tag == "17.04"


def test_docker_hub_is_served_by_another_host() -> None:
    assert Reference.parse("ubuntu").api_host == "registry-1.docker.io"
    assert Reference.parse("ghcr.io/a/b").api_host == "ghcr.io"


@settings(deadline=None)
@given(st.text() | st.text(alphabet="aB0._-:/@[]", max_size=30))
def test_any_text_is_a_reference_or_a_usage_error(text: str) -> None:
    try:
        found = Reference.parse(text)
    except UsageError:
        return
    assert Reference.parse(str(found)) == found
    assert ".." not in found.repository.split("/")
