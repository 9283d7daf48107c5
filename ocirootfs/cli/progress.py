"""How far it is: a bar on a terminal, lines in a log."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Literal, TypeAlias

from ocirootfs.cli.messages import NOTICE, stepping_aside

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ocirootfs.image import Image, Layer, Progress

How: TypeAlias = Literal["auto", "bar", "plain", "none"]
HOWS: tuple[How, ...] = ("auto", "bar", "plain", "none")

_WIDTH = 100  # Concourse gives its tasks a terminal of 500 columns
_PATIENCE = 10.0  # seconds
_LOG = logging.getLogger("ocirootfs.cli.progress")


@contextlib.contextmanager
def bar(
    images: Sequence[Image], layers: Iterable[Layer], *, quiet: bool, how: How = "auto"
) -> Iterator[Progress | None]:
    """Show how much of the images' layers has been read; None where nobody is to see it.

    `bar` draws one where standard error is a terminal that can have one, and is `plain` elsewhere: a carriage return
    never gets into a log. `auto` does the same, but in a log it says nothing of what takes less than ten seconds.
    """
    total = sum(layer.size for layer in layers)
    if quiet or how == "none":
        yield None
    elif how == "plain" or not has_cursor():
        yield Lines(total, is_patient=how == "auto")
    else:
        tally = Tally()
        with drawn(_name(images), total) as update:
            yield lambda layer, size: update(tally.add(layer, size))


def has_cursor() -> bool:
    """Tell whether standard error is a terminal that can write a line anew."""
    return sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"


@contextlib.contextmanager
def drawn(name: str, total: int) -> Iterator[Callable[[int], None]]:
    """Draw a bar for so many bytes; gives what hears of more of them."""
    from tqdm import tqdm  # noqa: PLC0415  # only who sees a bar waits for it

    columns, rows = _size()
    with (
        tqdm(
            total=total,
            desc=name,
            unit="B",
            unit_scale=True,
            unit_divisor=1024,
            ncols=min(columns, _WIDTH),
            nrows=rows,
            mininterval=0.5,
            file=sys.stderr,
        ) as shown,
        stepping_aside(partial(tqdm.external_write_mode, file=sys.stderr)),
    ):

        def update(more: int) -> None:
            shown.update(more)

        yield update


def _size() -> tuple[int, int]:
    """Return the columns and rows of standard error; a terminal may have none of either."""
    found = os.get_terminal_size(sys.stderr.fileno())
    return found.columns or 80, found.lines or 24


class Tally:
    """Counts what is read of layers, but not what is read of one for a second time."""

    def __init__(self) -> None:
        self._read: dict[tuple[int, str], int] = {}
        self.done = 0

    def add(self, layer: Layer, size: int) -> int:
        """Count so many bytes of a layer; return how many of them are new."""
        key = layer.number, str(layer.digest or layer.diff_id)
        before = self._read.get(key, 0)
        self._read[key] = before + size
        new = max(0, min(before + size, layer.size) - before)
        self.done += new
        return new

    def read_of(self, layer: Layer) -> int:
        """Return how many bytes of a layer have been read, those read again included."""
        return self._read.get((layer.number, str(layer.digest or layer.diff_id)), 0)


class Lines:
    """Progress in a log: when a layer begins and ends, and after ten seconds of silence.

    With `is_patient` nothing is said before there has been such a silence. `monotonic` gives seconds.
    """

    def __init__(
        self, total: int, *, is_patient: bool = False, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._total = total
        self._tally = Tally()
        self._monotonic = monotonic
        self._begun = self._said = monotonic()
        self._is_patient = is_patient

    def __call__(self, layer: Layer, size: int) -> None:
        """Hear of so many more bytes of a layer."""
        before = self._tally.read_of(layer)
        new = self._tally.add(layer, size)
        now = self._monotonic()
        is_late = now - self._said >= _PATIENCE
        self._is_patient = self._is_patient and not is_late
        if not before:
            self._say(layer, "begun", now)
        if new and before + new == layer.size:
            self._say(layer, "finished", now)
        elif before and is_late:
            self._say(layer, "running", now)

    def _say(self, layer: Layer, state: str, now: float) -> None:
        if self._is_patient:
            return
        self._said = now
        seconds = now - self._begun
        rate = self._tally.done / seconds if seconds > 0 else 0.0
        left = (self._total - self._tally.done) / rate if rate else None
        facts = {
            "state": state,
            "layer": layer.number,
            "digest": str(layer.digest or layer.diff_id),
            "layer_size": layer.size,
            "done": self._tally.done,
            "total": self._total,
            "rate": round(rate),
            "seconds_left": None if left is None else round(left),
        }
        _LOG.log(NOTICE, "%s", _line(layer, state, self._tally.done, self._total, rate), extra={"progress": facts})


def _line(layer: Layer, state: str, done: int, total: int, rate: float) -> str:
    if state == "begun":
        return f"{layer.name}: begun, {human(layer.size)}"
    share = f"{100 * done // total} %" if total else "100 %"
    left = f", {human_time((total - done) / rate)} left" if rate and done < total else ""
    ended = "done; " if state == "finished" else ""
    return f"{layer.name}: {ended}{human(done)} of {human(total)}, {share}, {human(rate)}/s{left}"


def human(size: float) -> str:
    """Return a number of bytes as people read it: `1.5 MiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def human_time(seconds: float) -> str:
    """Return a length of time as people read it: `2 min 5 s`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _name(images: Sequence[Image]) -> str:
    reference = images[0].reference
    if len(images) > 1:
        return f"{len(images)} images"
    return f"{reference.name}:{reference.tag or ''}"[:40].rstrip(":") if reference else "image"
