"""Mirroring: a list of images in, an object for each in a bucket; what is there already stays as it is.

All images are resolved before the first is packed, so that two that would get the same key are found while nothing has
been written. Then a few are packed at a time. One that fails is reported and stops no other; run again, the ones that
are there cost one HEAD each.

Threads of one process, not a process an image. What takes the time of most images (TLS, inflating, deflating, hashing,
sockets) releases the interpreter lock, and one image alone keeps all cores busy with it: where the network is what is
slow, threads gain as much as processes, and where the machine is, neither gains (`benchmarks.workers`). Against
processes stand a client and an interpreter for each, layers shared across them, and `spawn`, which a library cannot ask
of the program that calls it. Who has more machines gives each a part: `--pipeline`.

Memory is that of `packing.pack` for each image at a time: the parts of an upload, 32 MiB fetched ahead, and the paths.

When the caller is interrupted, every download and upload under way is ended from this thread and its parts are
removed, within four seconds. What SIGKILL leaves in a store can be told from nothing but its age: `sweep` aborts
uploads to the list's own keys that began so many seconds ago. An upload of the same image by somebody else may be
among them, which is why nobody does that unasked; whoever loses an upload so fails, and does no harm.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar

from ocirootfs import naming, packing
from ocirootfs.api import stamped
from ocirootfs.bundle import Report
from ocirootfs.errors import LocalError, OcirootfsError, UsageError
from ocirootfs.expansion import EXPANDED
from ocirootfs.gzip import DEFAULT_LEVEL
from ocirootfs.naming import Naming
from ocirootfs.s3.url import S3Options, S3Url
from ocirootfs.sharedlayers import SharedLayers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from mypy_boto3_s3 import S3Client

    from ocirootfs.destination import Destination, Stored
    from ocirootfs.image import Image, Layer
    from ocirootfs.imagelist import Wanted
    from ocirootfs.packing import Compression, Packed
    from ocirootfs.registry import Registry
    from ocirootfs.s3.destination import S3Destination
    from ocirootfs.s3.leftovers import Folder

log = logging.getLogger("ocirootfs.mirroring")

T = TypeVar("T")

Status: TypeAlias = Literal["packed", "kept", "pending", "failed"]
"""`kept` was there; `pending` would have been packed, were it not for `dry_run`."""

_RESOLVERS = 4  # images that are asked for at a time, at least
_PATIENCE = 4.0  # seconds


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one image; what is not known of it, because it failed before, is None."""

    wanted: Wanted
    status: Status
    image: Image | None = None
    location: str | None = None
    packed: Packed | None = None
    error: OcirootfsError | None = None
    seconds: float = 0.0

    @property
    def stored(self) -> Stored | None:
        """The object, if it is there."""
        return self.packed.stored if self.packed else None


@dataclass(frozen=True, slots=True)
class Mirrored:
    """What became of a list, in its order; `pruned` are the URLs of objects removed, or that would be.

    `faults` are what went wrong with removing what should not be there.
    """

    outcomes: tuple[Outcome, ...]
    pruned: tuple[str, ...] = ()
    swept: int = 0
    faults: tuple[OcirootfsError, ...] = ()

    @property
    def failed(self) -> tuple[Outcome, ...]:
        """The images that failed."""
        return tuple(outcome for outcome in self.outcomes if outcome.error)

    @property
    def exit_code(self) -> int:
        """0; or 5 if all that failed may work later; or else that of the first other failure."""
        errors = [outcome.error for outcome in self.failed if outcome.error] + list(self.faults)
        codes = [error.exit_code for error in errors]
        return next((code for code in codes if code != 5), 5 if codes else 0)


class Watcher:
    """Hears how a run gets on; this one does nothing about it. `read` is called from any thread."""

    def resolved(self, images: Mapping[int, Image]) -> None:
        """Hear which images will be looked at, by their place in the list."""

    def read(self, place: int, layer: Layer, size: int) -> None:
        """Hear that so many more bytes of a layer have been read."""

    def ended(self, place: int, outcome: Outcome) -> None:
        """Hear what became of an image."""


def mirror(  # noqa: PLR0913  # options, by keyword
    wanted: Sequence[Wanted],
    registry: Registry,
    *,
    s3_options: S3Options | None = None,
    s3_client: S3Client | None = None,
    jobs: int = 2,
    level: int = DEFAULT_LEVEL,
    threads: int | None = None,
    tmpdir: str | None = None,
    max_expanded: int = EXPANDED,
    dry_run: bool = False,
    prune: bool = False,
    sweep: float | None = None,
    watcher: Watcher | None = None,
) -> Mirrored:
    """Make a bucket hold all that is `wanted` (see `imagelist.parse`), `jobs` images at a time.

    With `prune`, and if nothing failed, objects that this program made, in the folders that the list's templates begin
    with, are removed if the list does not ask for them; nothing else ever is. `sweep` aborts unfinished uploads to the
    list's keys that are at least so many seconds old. With `dry_run` nothing is written or removed. Raises UsageError
    if two images would get the same key, before anything is written; what goes wrong with one image is its Outcome's,
    and what goes wrong with `prune` and `sweep` is among the result's `faults`.
    """
    from ocirootfs.s3.client import make_client  # noqa: PLC0415  # boto3 takes longer to load than --help to run

    options = s3_options or S3Options()
    folders = _folders(wanted) if prune else []
    client = s3_client or make_client(replace(options, jobs=min(64, options.jobs * jobs)))
    making = _Making(level, threads, tmpdir, max_expanded, is_dry=dry_run)
    run = _Run(wanted, registry, options, client, making, watcher or Watcher())
    try:
        ready = run.resolve(max(jobs, _RESOLVERS))
        known = {str(place.url) for place in ready.values()}
        if sweep is not None and not dry_run:
            run.sweep(ready, sweep)
        run.pack(ready, jobs)
        if not run.done().failed:
            run.prune(folders, known)
        elif prune:
            log.warning("nothing is pruned, as some images failed")
        return run.done()
    finally:
        if s3_client is None:
            client.close()


def _folders(wanted: Sequence[Wanted]) -> list[Folder]:
    """Return where the list's objects are, as far as its templates say without an image."""
    from ocirootfs.s3.leftovers import Folder  # noqa: PLC0415

    templates = {tuple((literal, field) for literal, field, _ in naming.parse(each.to)) for each in wanted}
    return sorted({Folder.of(template) for template in templates}, key=repr)


@dataclass(frozen=True, slots=True)
class _Making:
    """How archives are made."""

    level: int
    threads: int | None
    tmpdir: str | None
    max_expanded: int
    is_dry: bool


@dataclass(frozen=True, slots=True)
class _Ready:
    """An image that is known, and where it is to go."""

    wanted: Wanted
    image: Image
    url: S3Url
    compress: Compression


class _StoppedError(Exception):
    """The run is being given up."""


class _Guarded:
    """A destination that takes nothing more once the run is being given up."""

    def __init__(self, inner: S3Destination, stopped: threading.Event) -> None:
        self._inner = inner
        self._stopped = stopped
        self.restartable = inner.restartable

    def _check(self) -> None:
        if self._stopped.is_set():
            raise _StoppedError

    def standing(self) -> Stored | None:
        self._check()
        return self._inner.standing()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._check()
        self._inner.write(data)

    def restart(self) -> None:
        self._check()
        self._inner.restart()

    def commit(self) -> Stored:
        self._check()
        return self._inner.commit()

    def abort(self) -> None:
        self._inner.abort()


class _Run:
    """One run over a list."""

    def __init__(  # all that a run has
        self,
        wanted: Sequence[Wanted],
        registry: Registry,
        options: S3Options,
        client: S3Client,
        making: _Making,
        watcher: Watcher,
    ) -> None:
        self._wanted = wanted
        self._registry = registry
        self._options = options
        self._client = client
        self._making = making
        self._watcher = watcher
        self._stopped = threading.Event()
        self._active: dict[int, tuple[Image, Destination]] = {}
        self._outcomes: dict[int, Outcome] = {}
        self._pruned: list[str] = []
        self._swept = 0
        self._faults: list[OcirootfsError] = []

    def done(self) -> Mirrored:
        """Return what has been done."""
        outcomes = (self._outcomes[place] for place in range(len(self._wanted)))
        return Mirrored(tuple(outcomes), tuple(sorted(self._pruned)), self._swept, tuple(self._faults))

    # Which images

    def resolve(self, jobs: int) -> dict[int, _Ready]:
        """Ask the registries for all images; those that fail become outcomes."""
        ready: dict[int, _Ready] = {}
        tasks = {place: partial(self._find, each) for place, each in enumerate(self._wanted)}

        def heard(place: int, found: _Ready | Outcome) -> None:
            if isinstance(found, _Ready):
                ready[place] = found
            else:
                self._end(place, found)

        self._each(tasks, jobs, heard)
        _require_different(ready)
        self._watcher.resolved({place: ready[place].image for place in sorted(ready)})
        return dict(sorted(ready.items()))

    def _find(self, wanted: Wanted) -> _Ready | Outcome:
        try:
            image = self._registry.open(wanted.reference, wanted.platform)
            url = S3Url.parse(Naming(image, wanted.version_as).expand(wanted.to))
            return _Ready(wanted, image, url, packing.compression_for(str(url), wanted.layout))
        except Exception as error:  # noqa: BLE001  # one image's, and no other's
            return Outcome(wanted, "failed", error=_named(error))

    # Into the bucket

    def pack(self, ready: Mapping[int, _Ready], jobs: int) -> None:
        """Pack what is not there."""
        layers = SharedLayers([each.image for each in ready.values()], self._making.tmpdir)
        tasks = {place: partial(self._one, place, each, layers) for place, each in ready.items()}
        self._each(tasks, jobs, self._end)

    def _one(self, place: int, ready: _Ready, layers: SharedLayers) -> Outcome:
        begun = time.monotonic()
        made = Outcome(ready.wanted, "failed", ready.image, str(ready.url))
        try:
            packed = self._packed(place, ready, layers)
            status: Status = "pending" if packed is None else "kept" if packed.skipped else "packed"
            made = replace(made, status=status, packed=packed)
        except Exception as error:  # noqa: BLE001  # one image's, and no other's
            made = replace(made, error=_named(error))
        finally:
            self._active.pop(place, None)
            layers.release(ready.image)
        return replace(made, seconds=time.monotonic() - begun)

    def _packed(self, place: int, ready: _Ready, layers: SharedLayers) -> Packed | None:
        """Pack one image; None if that is what would have to be done."""
        destination = self._destination(ready)
        self._active[place] = ready.image, destination
        if self._making.is_dry:
            kept = destination.standing()
            return None if kept is None else packing.Packed(kept, ready.image.digest, Report(), skipped=True)
        return packing.pack(
            layers.image(ready.image),
            destination,
            layout=ready.wanted.layout,
            compress=ready.compress,
            level=self._making.level,
            threads=self._making.threads,
            tmpdir=self._making.tmpdir,
            max_expanded=self._making.max_expanded,
            progress=lambda layer, size: self._watcher.read(place, layer, size),
        )

    def _destination(self, ready: _Ready) -> _Guarded:
        from ocirootfs.s3.destination import S3Destination  # noqa: PLC0415

        options = self._options
        if ready.compress == "none" and options.content_type == S3Options().content_type:
            options = replace(options, content_type="application/x-tar")
        stamp = stamped(ready.image, ready.wanted.layout, ready.compress, self._making.level, options)
        return _Guarded(S3Destination(ready.url, options, self._client, stamp=stamp), self._stopped)

    def _end(self, place: int, outcome: Outcome) -> None:
        self._outcomes[place] = outcome
        self._watcher.ended(place, outcome)

    # What should not be there

    def sweep(self, ready: Mapping[int, _Ready], seconds: float) -> None:
        """Abort old uploads to the list's keys."""
        from ocirootfs.s3.leftovers import Folder, abort_uploads  # noqa: PLC0415

        before = datetime.now(UTC) - timedelta(seconds=seconds)
        known = {str(each.url) for each in ready.values()}
        # A key's own folder, or else the key itself: what else is in the bucket need not be listed.
        folders = {Folder(each.url.bucket, each.url.key) for each in ready.values()}
        with self._told():
            for folder in sorted(folders, key=str):
                self._swept += abort_uploads(self._client, folder, known, before, self._options)
        if self._swept:
            log.info("%d unfinished uploads were aborted", self._swept)

    def prune(self, folders: Sequence[Folder], known: set[str]) -> None:
        """Remove what this program made and the list does not ask for."""
        from ocirootfs.s3.leftovers import remove, strangers  # noqa: PLC0415

        with self._told():
            each = (strangers(self._client, folder, known, self._options) for folder in folders)
            for name, url in sorted({str(url): url for found in each for url in found}.items()):
                if not self._making.is_dry:
                    remove(self._client, url, self._options)
                    log.info("%s was removed", name)
                self._pruned.append(name)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Keep what goes wrong, to be told with all that went well."""
        try:
            yield
        except Exception as error:  # noqa: BLE001  # what is packed is packed
            self._faults.append(_named(error))

    # Several at a time

    def _each(self, tasks: Mapping[int, Callable[[], T]], jobs: int, heard: Callable[[int, T], None]) -> None:
        """Tell `heard` what the tasks return, as they end; on any exception here everything under way is ended."""
        waiting: SimpleQueue[int] = SimpleQueue()
        for place in tasks:
            waiting.put(place)
        done: SimpleQueue[tuple[int, T]] = SimpleQueue()

        def work() -> None:
            while not self._stopped.is_set():
                try:
                    place = waiting.get_nowait()
                except Empty:
                    return
                done.put((place, tasks[place]()))

        workers = [threading.Thread(target=work, name="mirror", daemon=True) for _ in range(min(jobs, len(tasks)))]
        try:
            if not all(map(_starts, workers)) and not workers[0].is_alive():
                work()
            for _ in tasks:
                heard(*done.get())
        except BaseException:
            self._stop(workers)
            raise

    def _stop(self, workers: Sequence[threading.Thread]) -> None:
        """End what is under way, whatever it waits for."""
        end = time.monotonic() + _PATIENCE
        self._stopped.set()
        active = list(self._active.values())
        for image, _ in active:
            image.interrupt()
        enders = [threading.Thread(target=destination.abort, daemon=True) for _, destination in active]
        for ender, (_, destination) in zip(enders, active, strict=True):
            if not _starts(ender):
                destination.abort()
        for thread in (*enders, *(workers if active else ())):
            if thread.is_alive():
                thread.join(max(0.0, end - time.monotonic()))


def _starts(thread: threading.Thread) -> bool:
    """Start a thread; False if this machine, or a limit on this user, allows no more."""
    try:
        thread.start()
    except RuntimeError as error:
        log.debug("one thread less: %s", error)
        return False
    return True


def _named(error: Exception) -> OcirootfsError:
    """Return what a failure is called; one that nobody foresaw is a bug."""
    if isinstance(error, OcirootfsError):
        return error
    log.debug("unexpected", exc_info=error)
    if isinstance(error, OSError):
        return LocalError(error.strerror or str(error))
    if isinstance(error, MemoryError):
        return LocalError("this machine, or a limit on this process, leaves too little memory")
    return OcirootfsError(f"internal error: {type(error).__name__}: {error}", hint="this is a bug; --debug shows where")


def _require_different(ready: Mapping[int, _Ready]) -> None:
    seen: dict[str, Wanted] = {}
    for _, each in sorted(ready.items()):
        url = str(each.url)
        if url in seen:
            raise UsageError(
                f"{_where(seen[url])} and {_where(each.wanted)} would both be {url}",
                hint="fields such as {tag}, {arch} or {digest12} in 'to' tell them apart",
            )
        seen[url] = each.wanted


def _where(wanted: Wanted) -> str:
    return f"{wanted.name} (line {wanted.line})" if wanted.line else wanted.name
