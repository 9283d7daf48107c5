"""References, and whatever else people type: platforms, URLs of buckets, sizes, SOURCEs, names with fields."""

from __future__ import annotations

import json
import re

from ocirootfs import naming
from ocirootfs.exclude import excluder
from ocirootfs.platform import Platform
from ocirootfs.reference import Reference
from ocirootfs.registry.mirror import Mirror
from ocirootfs.s3.url import S3Url
from ocirootfs.source import Source
from tests.fuzz.target import outcome
from tests.layers import FIXTURES

_FOUND = [case for part in json.loads((FIXTURES / "references.json").read_text()).values() for case in part]
SEEDS = [
    *sorted({case["text"].encode("utf-8", "surrogatepass") for case in _FOUND}),
    b"linux/arm/v7", b"s3://bucket/key/{name}-{tag}.tgz", b"hub.docker.io=https://m.corp/hub", b"oci:dir:name",
    b"{created:%Y%m%d}-{label:a.b}", b"usr/**/[!a-z]*?", b"a@sha256:" + b"0" * 64,
]  # fmt: skip
# What stands in a request's path: nothing that leads elsewhere.
_SAFE = re.compile(r"[a-z0-9._/-]+", re.ASCII)


def check(data: bytes) -> None:
    """Parse it as each of them."""
    text = data[:20_000].decode("utf-8", "surrogateescape")
    found = outcome(Reference.parse, text)
    if isinstance(found, Reference):
        assert _SAFE.fullmatch(found.repository), found
        assert ".." not in found.repository.split("/"), found
        assert Reference.parse(str(found)) == found, found
    for parse in (Platform.parse, S3Url.parse, Mirror.parse, Source.parse, naming.parse):
        outcome(parse, text)
    excluded = outcome(excluder, [text])
    if callable(excluded) and not isinstance(excluded, type):
        excluded(b"usr/share/doc")
