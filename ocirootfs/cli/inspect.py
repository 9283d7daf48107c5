"""`ocirootfs inspect`."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import ocirootfs
from ocirootfs.cli import console, options, result
from ocirootfs.errors import NotFoundError
from ocirootfs.manifest import is_image

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from ocirootfs.image import Image, Layer

FIELDS = (
    "reference", "digest", "media_type", "platform", "index", "platforms", "created", "size", "layers", "annotations",
    "config", "metadata", "warnings",
)  # fmt: skip
_EXAMPLES = f"""\
fields:
  {" ".join(FIELDS[:8])}
  {" ".join(FIELDS[8:])}

examples:
  ocirootfs inspect ubuntu:17.04
  ocirootfs inspect ubuntu:17.04 --field digest
  ocirootfs inspect oci:build --field metadata
  ocirootfs inspect alpine --raw | sha256sum
"""


def add_to(words: argparse.ArgumentParser) -> None:
    """Add what the verb says of itself, and its options."""
    words.description = "Show what is known of an image, as JSON. No layer is downloaded."
    words.epilog = _EXAMPLES
    options.add_source(words)
    form = words.add_mutually_exclusive_group()
    form.add_argument("--field", choices=FIELDS, metavar="NAME", help="only this one; a text without quotes")
    form.add_argument("--raw", action="store_true", help="the manifest's bytes, as its digest covers them")
    options.add_tmpdir(words)
    options.add_registry(words)
    options.add_limits(words)
    options.add_common(words)
    words.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> None:
    """Show an image."""
    options.check_standard_input(chosen, "ocirootfs inspect ubuntu:17.04")
    with result.warnings_heard() as heard, options.opened(chosen.source, chosen, chosen.image) as image:
        if chosen.raw:
            shown = _raw(image)
        else:
            facts = _facts(image, heard)
            shown = _field(facts, chosen.field) if chosen.field else json.dumps(facts, indent=2).encode()
        image.finish()  # a writer at the other end of a pipe is not to fail
    if sys.stdout.isatty():
        shown = b"\n".join(console.escaped(line).encode() for line in shown.split(b"\n"))
    sys.stdout.buffer.write(shown + (b"" if chosen.raw and not sys.stdout.isatty() else b"\n"))
    sys.stdout.buffer.flush()


def _raw(image: Image) -> bytes:
    if image.manifest is None:
        raise NotFoundError("this image has no manifest")
    return image.manifest.raw


def _field(facts: dict[str, object], name: str) -> bytes:
    value = facts[name]
    if value is None:
        raise NotFoundError(f"this image has no {name}")
    return (value if isinstance(value, str) else json.dumps(value)).encode()


def _facts(image: Image, heard: Iterable[str]) -> dict[str, object]:
    """Return all that is shown, in order; `heard` are the warnings so far and while this runs."""
    manifest, index = image.manifest, image.index
    facts: dict[str, object] = {
        "reference": str(image.reference) if image.reference else None,
        "digest": str(image.digest) if image.digest else None,
        "media_type": manifest.media_type if manifest else None,
        "platform": str(image.config.platform),
        "index": str(index.digest) if index else None,
        "platforms": [str(entry.platform) for entry in filter(is_image, index.manifests) if entry.platform]
        if index
        else None,
        "created": image.config.created,
        "size": sum(layer.size for layer in image.layers),
        "layers": [_layer(layer) for layer in image.layers],
        "annotations": dict(manifest.annotations) if manifest else {},
        "config": json.loads(image.config.raw.decode("utf-8-sig")),
        "metadata": json.loads(ocirootfs.metadata(image)),
    }
    return facts | {"warnings": list(heard)}


def _layer(layer: Layer) -> dict[str, object]:
    """Return what is known of a layer: its size is that of the blob as stored, in bytes."""
    return {
        "digest": str(layer.digest) if layer.digest else None,
        "diff_id": str(layer.diff_id),
        "media_type": layer.media_type,
        "size": layer.size,
    }
