"""The IAM policy that the README gives, read from there, so that what is tested is what is promised."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

_README = Path(__file__).parent.parent / "README.md"


def policy() -> dict[str, Any]:
    """Return the policy, for a bucket called `images`."""
    found = re.search(r"```json\n(\{\s*\"Version\".*?)```", _README.read_text(), re.DOTALL)
    assert found, "the README has no policy"
    document: dict[str, Any] = json.loads(found[1])
    return document


def without(action: str) -> dict[str, Any]:
    """Return the policy less one right."""
    document = policy()
    for statement in document["Statement"]:
        statement["Action"] = [right for right in statement["Action"] if right != action]
    return document
