"""A list of images as a Concourse pipeline: every image a task of its own, on whatever worker is free.

`across` is what fans out (concourse-ci.org/docs/steps/modifier-and-hooks/across): a task for each value, a few at a
time, each tried again by itself (`attempts`). Images that are packed with the same options are the values of one such
step; there is nothing in between but `ocirootfs pack`, which leaves what is there already. What is secret is a ((var)).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ocirootfs import strictyaml
from ocirootfs.edits import Keep
from ocirootfs.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ocirootfs.edits import Command
    from ocirootfs.imagelist import Wanted

_TIMER = "timer"
_ATTEMPTS = 3
_TIMEOUT = "2h"  # of one attempt


@dataclass(frozen=True, slots=True)
class Fan:
    """How a list is fanned out.

    `words` and, in the environment, `params` are what every task is told; `every` is a duration of Go's.
    """

    words: Sequence[str]
    params: Mapping[str, str]
    max_in_flight: int
    every: str


def pipeline(wanted: Sequence[Wanted], fan: Fan) -> str:
    """Return the pipeline, a job for each group; the same list and options give the same text."""
    groups: dict[str, list[Wanted]] = {}
    for each in wanted:
        _require_plain(each)
        groups.setdefault(each.group, []).append(each)
    return strictyaml.dump(
        {
            "resources": [
                {"name": _TIMER, "type": "time", "check_every": "1m", "source": {"interval": fan.every}},
            ],
            "jobs": [_job(name, found, fan) for name, found in groups.items()],
        }
    )


def _require_plain(wanted: Wanted) -> None:
    """Refuse what Concourse would take for a variable of its own."""
    for text in (wanted.to, wanted.version_as, *_words(wanted)):
        if "((" in text:
            raise UsageError(f"{wanted.name}, line {wanted.line}: Concourse would put something in for '((' there")


def _job(name: str, wanted: Sequence[Wanted], fan: Fan) -> dict[str, object]:
    alike: dict[tuple[str, ...], list[Wanted]] = {}
    for each in wanted:
        alike.setdefault(tuple(_words(each)), []).append(each)
    steps = [_step(place, words, found, fan) for place, (words, found) in enumerate(alike.items(), 1)]
    # fail_fast is false by default, here and in across: one image's failure is not another's.
    rest = steps if len(steps) == 1 else [{"in_parallel": {"steps": steps}}]
    return {
        "name": name,
        "serial": True,
        "plan": [{"get": _TIMER, "trigger": True}, *rest],
    }


def _step(place: int, words: Sequence[str], wanted: Sequence[Wanted], fan: Fan) -> dict[str, object]:
    has_platform = wanted[0].platform is not None
    values = [
        {"name": each.name, "image": str(each.reference), "to": each.to, "version_as": each.version_as}
        | ({"platform": str(each.platform)} if has_platform else {})
        for each in wanted
    ]
    platform = ["--platform", "((.:image.platform))"] if has_platform else []
    return {
        "across": [{"var": "image", "values": values, "max_in_flight": fan.max_in_flight}],
        "task": "pack" if place == 1 else f"pack-{place}",
        "attempts": _ATTEMPTS,
        "timeout": _TIMEOUT,
        "config": {
            "platform": "linux",
            "image_resource": {"type": "registry-image", "source": {"repository": "((ocirootfs_image))"}},
            "params": dict(fan.params),
            "run": {
                "path": "ocirootfs",
                "args": [
                    "pack",
                    "((.:image.image))",
                    "--output=((.:image.to))",
                    "--version-as=((.:image.version_as))",
                    *platform,
                    *(word for word in words if word != _ANY_PLATFORM),
                    *fan.words,
                ],
            },
        },
    }


_ANY_PLATFORM = "--platform"  # marks, among what makes images alike, that they have one


def _words(wanted: Wanted) -> Iterator[str]:
    """Yield what `ocirootfs pack` is told of how an image is to be packed."""
    edits = wanted.layout.edits
    if wanted.platform is not None:
        yield _ANY_PLATFORM
    if wanted.layout.kind != "concourse":
        yield f"--layout={wanted.layout.kind}"
    yield from (f"--exclude={glob}" for glob in wanted.layout.exclude)
    yield from (f"--env={variable}" for variable in edits.env)
    yield from (f"--unset-env={name}" for name in edits.unset_env)
    if edits.user is not None:
        yield f"--user={edits.user}"
    yield from _command("--entrypoint", edits.entrypoint)
    yield from _command("--cmd", edits.cmd)
    yield from (f"--label={name}={value}" for name, value in edits.labels)
    if wanted.layout.latest is not None:
        yield f"--source-date-epoch={wanted.layout.latest}"


def _command(option: str, command: Command) -> Iterator[str]:
    if not isinstance(command, Keep):
        yield f"{option}={json.dumps(command)}"
