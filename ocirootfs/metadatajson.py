"""What Concourse reads of an image besides its files: `metadata.json`, and the small files that stand beside it.

Concourse takes env and user from `metadata.json` (atc/worker/gardenruntime/image.go) and, from 8.0 on, entrypoint and
cmd for a task without `run.path` (atc/exec/task_step.go); nothing else of a config has an effect there. The other files
are those that registry-image-resource writes.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

from ocirootfs.errors import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ocirootfs.digest import Digest
    from ocirootfs.manifest import Config
    from ocirootfs.reference import Reference

_MAX_USER = 2**31 - 1  # moby/sys/user, which Concourse looks users up with
log = logging.getLogger("ocirootfs.metadata")


def metadata_json(config: Config) -> bytes:
    """Return the object that Concourse reads: env and user always, entrypoint and cmd null where the image has none."""
    return _line(
        {
            "env": list(_startable(config.env)),
            "user": _known(config.user),
            "entrypoint": None if config.entrypoint is None else list(config.entrypoint),
            "cmd": None if config.cmd is None else list(config.cmd),
        }
    )


def _known(user: str) -> str:
    """Return the user as it is; one whose numbers are out of range is worth a warning."""
    if any(part.isdecimal() and int(part[:20]) > _MAX_USER for part in user.split(":")):
        log.warning("no container starts as user '%s': ids go up to %d there", printable(user, 60), _MAX_USER)
    return user


def _startable(env: Iterable[str]) -> Iterator[str]:
    """Leave out what runc refuses to start a container with: a variable without a name or a value, a NUL."""
    for variable in env:
        name, equals, _ = variable.partition("=")
        if name and equals and "\0" not in variable:
            yield variable
        else:
            log.warning("the image's variable '%s' is left out: no container starts with it", printable(variable, 60))


def companions(config: Config, digest: Digest | None, reference: Reference | None) -> Iterator[tuple[bytes, bytes]]:
    """Yield name and content of the files beside `metadata.json`, as far as the image has what they hold."""
    yield b"labels.json", _line(dict(config.labels))
    if digest is not None:
        yield b"digest", str(digest).encode()
    if reference is not None:
        if reference.tag is not None:
            yield b"tag", reference.tag.encode()
        yield b"repository", reference.familiar.encode()


def _line(value: object) -> bytes:
    """Write one JSON text; readers stop at its end or insist that nothing follows, so a newline is all that does."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode() + b"\n"
