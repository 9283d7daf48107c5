"""Where fuzzing begins: the fixtures of the tests."""

from __future__ import annotations

import base64
import json
from typing import Any

from tests.layers import FIXTURES, Data, build, layer_bytes

_NAMES = ("flatten.json", "flatten-more.json")
VECTORS: list[Data] = [vector for name in _NAMES for vector in json.loads((FIXTURES / name).read_text())["vectors"]]


def layers() -> list[bytes]:
    """Return the layers of the flattening vectors as tar streams, small ones, each once."""
    found = {layer_bytes(layer) for vector in VECTORS for layer in vector["layers"] if isinstance(layer, list)}
    return sorted(layer for layer in found if len(layer) < 1 << 15)


def archives() -> list[bytes]:
    """Return the tar streams of the reader's fixture."""
    cases: Any = json.loads((FIXTURES / "tar.json").read_text())
    return sorted(set(_base64(cases)))


def _base64(value: Any) -> list[bytes]:
    """Find whatever is called b64 anywhere in a document."""
    if isinstance(value, dict):
        own = [base64.b64decode(text) for name, text in value.items() if "b64" in name and isinstance(text, str)]
        return own + [found for child in value.values() for found in _base64(child)]
    if isinstance(value, list):
        return [found for child in value for found in _base64(child)]
    return []


def documents() -> list[bytes]:
    """Return a manifest, a config, and an index."""
    image = build([{"entries": [{"type": "file", "name": "a"}]}], config={"config": {"Env": ["A=b"], "Cmd": ["sh"]}})
    entry = {
        "mediaType": image.media_type,
        "digest": image.digest,
        "size": len(image.manifest),
        "platform": {"os": "linux", "architecture": "arm", "variant": "v7"},
        "annotations": {"a": "b"},
    }
    index = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
    token = b'{"token": "abc", "expires_in": 300, "issued_at": "2020-01-01T00:00:00Z", "refresh_token": "x"}'
    error = b'{"errors": [{"code": "DENIED", "message": "no", "detail": {}}]}'
    return [image.manifest, *image.blobs.values(), index, token, error]
