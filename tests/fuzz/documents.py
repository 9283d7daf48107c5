"""JSON: manifests, indexes and configs, and the files that hold credentials."""

from __future__ import annotations

from ocirootfs import strictjson
from ocirootfs.errors import UsageError
from ocirootfs.manifest import Index, candidates, parse_config, parse_manifest, parts
from ocirootfs.metadatajson import metadata_json
from ocirootfs.platform import Platform
from ocirootfs.reference import Reference
from ocirootfs.registry.credentials import Keychain
from tests.fuzz import seeds
from tests.fuzz.target import outcome

SEEDS = [
    *seeds.documents(),
    b'{"auths": {"registry.example.com": {"auth": "bWU6cHc="}}}',
    b"[" * 70 + b"]" * 70,
    b'{"a": 1, "a": 2}',
    b"9" * 5000,
]
_LINUX = Platform.parse("linux/arm/v7")
_IMAGE = Reference.parse("registry.example.com/a/b")


def check(data: bytes) -> None:
    """Parse it as each of them."""
    outcome(strictjson.load, data, "it")
    for media_type in (None, "application/vnd.oci.image.index.v1+json"):
        found = outcome(parse_manifest, data, media_type, "it")
        if isinstance(found, Index):
            outcome(candidates, found, _LINUX)
    outcome(parts, data, "it")
    config = outcome(parse_config, data, "it")
    if not isinstance(config, type):
        outcome(metadata_json, config)
    text = data.decode("utf-8", "surrogateescape")
    searched = outcome(Keychain({"DOCKER_AUTH_CONFIG": text, "HOME": "/nonexistent", "PATH": ""}).find, _IMAGE)
    assert searched is UsageError or not isinstance(searched, type), searched
