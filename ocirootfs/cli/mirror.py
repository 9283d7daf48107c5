"""`ocirootfs mirror`."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import threading
import time
from argparse import ArgumentTypeError
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ocirootfs import imagelist
from ocirootfs.cli import bucket, console, edits, options, result
from ocirootfs.cli.messages import NOTICE
from ocirootfs.cli.pipeline import Fan, pipeline
from ocirootfs.cli.progress import Tally, drawn, has_cursor, human, human_time
from ocirootfs.errors import (
    AuthError,
    DestinationError,
    InputError,
    LocalError,
    NotFoundError,
    OcirootfsError,
    TemporaryError,
    UsageError,
    printable,
)
from ocirootfs.gzip import DEFAULT_LEVEL, FAST_LEVEL, LEVELS
from ocirootfs.mirroring import Watcher, mirror
from ocirootfs.naming import Naming
from ocirootfs.s3.url import S3Options
from ocirootfs.strictyaml import SIZE_LIMIT

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping, Sequence

    from ocirootfs.cli.progress import How
    from ocirootfs.image import Image, Layer
    from ocirootfs.imagelist import Wanted
    from ocirootfs.mirroring import Mirrored, Outcome

_EXAMPLES = """\
images.yml, for example (defaults hold for images that do not say otherwise):
  defaults: {to: 's3://images/{name}/{name}-{version}.tgz'}
  images:
    - ubuntu:17.04
    - {image: alpine:3.20, platforms: [linux/amd64], exclude: [usr/share/doc]}

examples:
  ocirootfs mirror images.yml --dry-run
  ocirootfs mirror images.yml --jobs 3 --result report.json
  ocirootfs mirror images.yml --pipeline | fly -t ci set-pipeline -p images -c -
"""
_LOG = logging.getLogger("ocirootfs.cli.progress")
_PATIENCE = 10.0  # seconds
_EVERY = re.compile(r"([0-9]+(\.[0-9]+)?(h|m|s))+", re.ASCII)  # time.ParseDuration of Go
_KINDS = (UsageError, NotFoundError, AuthError, TemporaryError, InputError, DestinationError, LocalError)
_TASKS_AT_A_TIME = 4


def add_to(words: argparse.ArgumentParser) -> None:
    """Add what the verb says of itself, and its options."""
    words.description = "Make a bucket hold the archives of a list of images. What is there stays."
    words.epilog = _EXAMPLES
    words.add_argument("list", metavar="LIST", help="a YAML file, see below; -: standard input")
    words.add_argument(
        "-j", "--jobs", dest="images_at_once", type=options.jobs_count, metavar="N",
        help=f"images at a time (2); tasks of each job of a pipeline ({_TASKS_AT_A_TIME})",
    )  # fmt: skip
    words.add_argument("-n", "--dry-run", action="store_true", help="say what would be done, and change nothing")
    words.add_argument(
        "--prune",
        action="store_true",
        help="if all went well, remove objects that ocirootfs made in the list's folders and that it does not list",
    )
    words.add_argument(
        "--sweep",
        type=_hours,
        metavar="HOURS",
        help="abort unfinished uploads of the list's objects that are so old: what SIGKILL leaves",
    )
    words.add_argument("--json", action="store_true", help="print what was done as JSON, instead of a table")
    words.add_argument("--result", metavar="FILE", help="write what was done to a file, as JSON, failures included")
    words.add_argument("--pipeline", action="store_true", help="print a Concourse pipeline that does it instead")
    words.add_argument("--every", default="24h", metavar="TIME", help="how often the pipeline does (24h)")
    _add_packing(words)
    options.add_registry(words, ("--layer-jobs",))
    bucket.add_to(words)
    options.add_common(words)
    words.set_defaults(run=run, words=words)


def _add_packing(words: argparse.ArgumentParser) -> None:
    group = words.add_argument_group("packing")
    level = group.add_mutually_exclusive_group()
    level.add_argument(
        "--level",
        type=options.whole,
        choices=LEVELS,
        default=DEFAULT_LEVEL,
        metavar="N",
        help="of gzip, 1 to 9 (%(default)s)",
    )
    level.add_argument("--fast", dest="level", action="store_const", const=FAST_LEVEL, help="--level 1")
    group.add_argument(
        "--threads",
        type=options.whole,
        metavar="N",
        help="that compress an image; default: cores (half for levels 1, 2)",
    )
    options.add_max_expanded(group)
    options.add_limits(words, group)
    group.add_argument(
        "--source-date-epoch", metavar="N", help="no file is younger, in seconds since 1970 (SOURCE_DATE_EPOCH)"
    )
    group.add_argument("--tmpdir", metavar="DIR", help="for temporary files; default: TMPDIR or /tmp")


def run(chosen: argparse.Namespace) -> None:
    """Mirror a list, or print the pipeline that does."""
    wanted = _wanted(chosen)
    stored = bucket.s3_options(chosen, "gzip")  # mistakes are told before anything is asked for
    if chosen.pipeline:
        print(_pipeline(wanted, chosen), end="")
        return
    with result.kept_in(chosen.result) as keep:
        mirrored = _mirror(wanted, chosen, stored)
        told = json.dumps(_report(mirrored, dry_run=chosen.dry_run))
        keep(told)
    print(told if chosen.json else _table(mirrored))
    for fault in mirrored.faults:
        console.fail(str(fault), fault.hint, fault.exit_code)
    _raise_failures(mirrored)


def _hours(text: str) -> float:
    """Read how old something is."""
    try:
        found = float(text)
    except ValueError:
        found = -1
    if not 0 <= found < 1e6:  # nan is not, either
        raise ArgumentTypeError(f"'{text}' is not a number of hours")
    return found


def _wanted(chosen: argparse.Namespace) -> list[Wanted]:
    if chosen.threads is not None and not 1 <= chosen.threads <= 256:
        raise UsageError(f"--threads {chosen.threads}: use 1 to 256")
    platform = options.platform(chosen)
    found = imagelist.parse(*_content(chosen), latest=edits.latest_of(chosen))
    return [replace(each, platform=each.platform or platform) for each in found]


def _content(chosen: argparse.Namespace) -> tuple[bytes, str]:
    """Return the list, and what it is called."""
    if chosen.list == "-":
        if chosen.password_stdin:
            raise UsageError("--password-stdin and a list on standard input exclude each other")
        return sys.stdin.buffer.read(SIZE_LIMIT + 1), "standard input"
    try:
        with Path(chosen.list).open("rb") as file:
            return file.read(SIZE_LIMIT + 1), printable(chosen.list)
    except FileNotFoundError:
        raise NotFoundError(
            f"there is no file '{printable(chosen.list)}'", hint="LIST is a YAML file; ocirootfs pack IMAGE packs one"
        ) from None
    except OSError as error:
        raise LocalError(f"cannot read '{printable(chosen.list)}': {error.strerror}") from error


def _mirror(wanted: Sequence[Wanted], chosen: argparse.Namespace, stored: S3Options) -> Mirrored:
    shown = Shown(len(wanted), options.progress(chosen), quiet=chosen.quiet)
    try:
        with shown, options.registry(chosen) as registry:
            return mirror(
                wanted,
                registry,
                s3_options=stored,
                jobs=chosen.images_at_once or 2,
                level=chosen.level,
                threads=chosen.threads,
                tmpdir=chosen.tmpdir,
                max_expanded=chosen.max_expanded,
                dry_run=chosen.dry_run,
                prune=chosen.prune,
                sweep=None if chosen.sweep is None else chosen.sweep * 3600,
                watcher=shown,
            )
    except console.Interrupted as stop:
        stop.left = f"{shown.good} of {len(wanted)} images are there; the same command does the rest"
        raise


class Shown(Watcher):
    """Shows how a run gets on: one bar on a terminal, a line an image in a log.

    In a log it also says how far it is after ten seconds without a line. `monotonic` gives seconds.
    """

    def __init__(
        self, count: int, how: How, *, quiet: bool = False, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._count = count
        self._is_drawn = not quiet and how in ("auto", "bar") and has_cursor()
        self._is_told = not quiet and how != "none" and not self._is_drawn
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._stack = ExitStack()
        self._update: Callable[[int], None] = lambda _: None
        self._tallies: dict[int, Tally] = {}
        self._sizes: dict[int, int] = {}
        self._read = self._ended = 0
        self._said = monotonic()
        self.good = 0

    def __enter__(self) -> Shown:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def resolved(self, images: Mapping[int, Image]) -> None:
        """Begin."""
        self._sizes = {place: sum(layer.size for layer in image.layers) for place, image in images.items()}
        self._tallies = {place: Tally() for place in images}
        if self._is_drawn:
            self._update = self._stack.enter_context(drawn(f"{self._count} images", sum(self._sizes.values())))

    def read(self, place: int, layer: Layer, size: int) -> None:
        """Count what is read of an image."""
        with self._lock:
            self._count_bytes(self._tallies[place].add(layer, size))
            if self._is_told and self._monotonic() - self._said >= _PATIENCE:
                total = sum(self._sizes.values())
                text = f"{self._ended} of {self._count} images; {human(self._read)} of {human(total)}"
                self._say(text, {"state": "running", "done": self._read, "total": total})

    def ended(self, place: int, outcome: Outcome) -> None:
        """Count an image, whose layers need not all have been read, and tell of it."""
        with self._lock:
            self._ended += 1
            self.good += outcome.status in ("packed", "kept")
            tally = self._tallies.get(place)
            self._count_bytes(self._sizes[place] - tally.done if tally else 0)
        if outcome.error:
            console.fail(_failure(outcome), outcome.error.hint, outcome.error.exit_code)
        elif self._is_told:
            facts = {"state": outcome.status, "image": outcome.wanted.name, "destination": outcome.location}
            self._say(f"[{self._ended}/{self._count}] {outcome.wanted.name}: {_deed(outcome)}", facts)
        if outcome.packed and (lost := result.losses(outcome.packed.report)):
            console.warn(f"{outcome.wanted.name}: {lost}")

    def _count_bytes(self, new: int) -> None:
        self._read += new
        self._update(new)

    def _say(self, text: str, facts: Mapping[str, object]) -> None:
        self._said = self._monotonic()
        _LOG.log(NOTICE, "%s", text, extra={"progress": {**facts, "images": self._ended, "of": self._count}})


def _failure(outcome: Outcome) -> str:
    """Say what failed for one image, which the error itself may name."""
    text = str(outcome.error)
    if str(outcome.wanted.reference) not in text:
        text = f"{outcome.wanted.name}: {text}"
    if outcome.location and outcome.location not in text:
        text = f"{text}; nothing was written to {outcome.location}"
    return text


def _deed(outcome: Outcome) -> str:
    """Say what was done for one image."""
    if outcome.status == "pending":
        return f"would be packed to {outcome.location}"
    if outcome.status == "kept" or outcome.stored is None:
        return f"{outcome.location} is there already, and stays as it is"
    return f"{outcome.location}, {human(outcome.stored.size)} in {human_time(outcome.seconds)}"


def _table(mirrored: Mirrored) -> str:
    """Return what became of each image, for people."""
    rows = [("STATUS", "IMAGE", "DIGEST", "SIZE", "DESTINATION")]
    for each in mirrored.outcomes:
        digest = each.image.digest.hex[:12] if each.image and each.image.digest else "-"
        size = human(each.stored.size) if each.stored else "-"
        rows.append((each.status, each.wanted.name, digest, size, console.escaped(each.location or "-")))
    rows += [("pruned", "-", "-", "-", console.escaped(url)) for url in mirrored.pruned]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join(
        "  ".join([*(text.ljust(width) for text, width in zip(row, widths, strict=False)), row[4]]) for row in rows
    )


def _report(mirrored: Mirrored, *, dry_run: bool) -> dict[str, object]:
    """Return what was done, for programs."""
    counts = {
        status: sum(each.status == status for each in mirrored.outcomes)
        for status in ("packed", "kept", "pending", "failed")
    }
    return {
        **counts,
        "dry_run": dry_run,
        "exit_status": mirrored.exit_code,
        "pruned": list(mirrored.pruned),
        "swept": mirrored.swept,
        "errors": [_error(fault) for fault in mirrored.faults],
        "images": [_facts(each) for each in mirrored.outcomes],
    }


def _facts(outcome: Outcome) -> dict[str, object]:
    wanted, image = outcome.wanted, outcome.image
    known: dict[str, object] = {
        "image": str(wanted.reference),
        "platform": str(image.config.platform if image else wanted.platform or "") or None,
        "digest": str(image.digest) if image and image.digest else None,
        "destination": outcome.location,
    }
    if image and outcome.packed:
        known |= result.facts(image, outcome.packed, _versions(wanted, image))
    if outcome.error:
        known |= _error(outcome.error)
    mine = {"status": outcome.status, "group": wanted.group, "line": wanted.line, "seconds": round(outcome.seconds, 3)}
    return {**mine, **known}


def _error(error: OcirootfsError) -> dict[str, object]:
    return {"error": str(error), "hint": error.hint, "exit_status": error.exit_code}


def _versions(wanted: Wanted, image: Image) -> list[str]:
    tag = [wanted.reference.tag] if wanted.reference.tag else []
    try:
        return [Naming(image, wanted.version_as).version(), *tag]
    except UsageError:  # nobody asked for one
        return tag


def _raise_failures(mirrored: Mirrored) -> None:
    """End with the status that `Mirrored.exit_code` says."""
    said = []
    if mirrored.failed:
        names = ", ".join(each.wanted.name for each in mirrored.failed)
        said.append(f"{len(mirrored.failed)} of {len(mirrored.outcomes)} images failed: {names}")
    if mirrored.faults:
        said.append("what should not be there may be there still")
    if said:
        kind = next((kind for kind in _KINDS if kind.exit_code == mirrored.exit_code), OcirootfsError)
        raise kind("; ".join(said))


# The pipeline

# What a task is told as this command was: nothing of this machine, and nothing that is secret.
_PASSED_ON = (
    "level", "max_expanded", "limit", "trust_realm", "mirror", "plain_http", "insecure", "insecure_host", "timeout",
    "retries", "max_wait", "allow_foreign", "no_creds", "region", "role_arn", "no_sign_request",
    "expected_bucket_owner", "s3_addressing", "s3_checksums", "part_size", "s3_jobs", "s3_retry_for", "if_exists",
    "content_type", "sse", "sse_kms_key_id", "acl", "storage_class", "s3_metadata", "s3_tag",
)  # fmt: skip


def _pipeline(wanted: Sequence[Wanted], chosen: argparse.Namespace) -> str:
    if chosen.creds or chosen.password_stdin or chosen.authfile or chosen.ca_file or chosen.profile:
        raise UsageError(
            "--creds, --authfile, --ca-file and --profile are this machine's, and have no place in a pipeline",
            hint="its tasks get ((s3.key)), ((s3.secret)) and ((docker_auth_config))",
        )
    if chosen.prune or chosen.dry_run or chosen.sweep is not None:
        raise UsageError("--prune, --sweep and --dry-run are not what a pipeline does")
    if chosen.json or chosen.result:
        raise UsageError("--pipeline does nothing yet that --json or --result could tell of")
    from ocirootfs.registry.mirror import Mirror  # noqa: PLC0415  # whose package loads requests

    for text in chosen.mirror or ():
        Mirror.parse(text)
    if not _EVERY.fullmatch(chosen.every):
        raise UsageError(f"--every '{printable(chosen.every, 40)}' is not a time such as 24h or 90m")
    params = {"AWS_ACCESS_KEY_ID": "((s3.key))", "AWS_SECRET_ACCESS_KEY": "((s3.secret))"}
    if chosen.no_sign_request:
        params = {}
    if endpoint := result.endpoint(bucket.s3_options(chosen, "gzip"), os.environ):
        params["AWS_ENDPOINT_URL_S3"] = _unsecret(endpoint)
    if not chosen.no_creds:
        params["DOCKER_AUTH_CONFIG"] = "((docker_auth_config))"
    fan = Fan(_words(chosen), params, chosen.images_at_once or _TASKS_AT_A_TIME, chosen.every)
    return f"# ocirootfs mirror --pipeline {printable(Path(chosen.list).name)}\n---\n{pipeline(wanted, fan)}"


def _unsecret(endpoint: str) -> str:
    """Refuse an endpoint that holds a password, which a variable may."""
    S3Options(endpoint_url=endpoint)
    return endpoint


def _words(chosen: argparse.Namespace) -> list[str]:
    """Return the options of this command that its tasks need too."""
    found: list[str] = []
    for action in chosen.words._actions:  # noqa: SLF001  # argparse has no public way to list them
        value = getattr(chosen, action.dest, None)
        if action.dest not in _PASSED_ON or value == _default(action) or (action.nargs == 0 and value is not True):
            continue
        name = action.option_strings[-1]
        if action.nargs == 0:
            found.append(name)
        else:
            found += [f"{name}={each}" for each in (value if isinstance(value, list) else [value])]
    return found


def _default(action: argparse.Action) -> object:
    return action.type(action.default) if callable(action.type) and isinstance(action.default, str) else action.default
