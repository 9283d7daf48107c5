"""A directory that keeps blobs, in the form of an OCI image layout (image-spec, image-layout.md; blobs may be missing).

    oci-layout, index.json      so that other tools take it for what it is
    blobs/sha256/<hex>          whole and verified: only by a rename does anything come here
    partial/sha256-<hex>.partial    what has arrived of a blob, locked (flock) by the process that fills it

Any number of processes may share it. Who finds a blob being filled by another waits as long as it grows, and else
downloads without the cache, so that no two wait for each other. A process that was killed holds nobody up: its lock
dies with it, and the next one goes on where it stopped. What lies here is not trusted: every byte is hashed again on
its way out, symbolic links and special files are not read. A cache that cannot be used costs a warning.

Whoever can read the directory can read the blobs of private images in it: it is made for its owner alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import stat
import threading
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING

from ocirootfs.digest import Digest
from ocirootfs.errors import DigestError, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ocirootfs.digest import Descriptor

log = logging.getLogger("ocirootfs.registry")

_CHUNK = 1 << 20
_TICK = 0.1  # seconds
_STUCK = 10.0  # seconds without a byte: whoever fills that blob is not worth waiting for
_LAYOUT = '{"imageLayoutVersion":"1.0.0"}'
_INDEX = '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}'
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # a planted FIFO must not hang
_FILL = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class BlobCache:
    """The blobs in `directory`, which is made if it is not there."""

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root = Path(directory)
        self._sleep, self._monotonic = sleep, monotonic
        self._writable = True
        self._warned = False
        try:
            self._make()
        except OSError as error:
            self._give_up(error)

    def _make(self) -> None:
        """Make what a layout has, for the owner's eyes; several processes may be at it."""
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self._root / "partial").mkdir(mode=0o700, exist_ok=True)
        (self._root / "blobs").mkdir(mode=0o700, exist_ok=True)
        for name, content in (("oci-layout", _LAYOUT), ("index.json", _INDEX)):
            if not (self._root / name).exists():
                made = self._root / "partial" / f"{name}.{os.getpid()}"
                made.write_text(content)
                made.replace(self._root / name)

    def _give_up(self, error: OSError) -> None:
        """Go on without keeping anything more, and say so once."""
        self._writable = False
        if not self._warned:
            self._warned = True
            log.warning(
                "the cache %s cannot be written: %s; going on without", printable(str(self._root)), error.strerror
            )

    def _blob(self, digest: Digest) -> Path:
        return self._root / "blobs" / digest.algorithm / digest.hex

    def _partial(self, digest: Digest) -> Path:
        return self._root / "partial" / f"{digest.algorithm}-{digest.hex}.partial"

    def read(self, descriptor: Descriptor, download: Callable[[int], Iterator[bytes]], what: str) -> Iterator[bytes]:
        """Yield the blob: from here, or by `download` from some byte on, and then it is here.

        The last MiB is held back until the whole is proved. A copy that proves to be broken is removed; if nothing
        was passed on yet the blob is downloaded anew, else DigestError says so.
        """
        passed = False
        for last in (False, True):
            try:
                for chunk in self._once(descriptor, download, what):
                    passed = True
                    yield chunk
            except DigestError as error:
                if passed or last:
                    raise
                log.warning("%s; downloading it anew", error)
            else:
                return

    def has(self, descriptor: Descriptor) -> bool:
        """Tell whether a blob is here, as far as its size says."""
        found = self._whole(descriptor)
        if found:
            found.close()
        return found is not None

    def document(self, digest: Digest, limit: int) -> bytes | None:
        """Return a blob of at most `limit` bytes and unknown size, such as a manifest; None if it is not here."""
        with contextlib.suppress(OSError), os.fdopen(os.open(self._blob(digest), _READ), "rb") as file:
            raw = file.read(limit + 1)
            if Digest.of(raw, digest.algorithm) == digest:
                return raw
            log.warning("%s in the cache is broken; downloading it anew", digest)
            self._remove(self._blob(digest))
        return None

    def keep(self, digest: Digest, raw: bytes) -> None:
        """Keep a document that has been verified."""
        if not self._writable:
            return
        made = self._root / "partial" / f"{digest.hex}.{os.getpid()}.{threading.get_ident()}"
        try:
            made.write_bytes(raw)
            self._blob(digest).parent.mkdir(mode=0o700, exist_ok=True)
            made.replace(self._blob(digest))
        except OSError as error:
            self._remove(made)
            self._give_up(error)

    def _once(self, descriptor: Descriptor, download: Callable[[int], Iterator[bytes]], what: str) -> Iterator[bytes]:
        found = self._whole(descriptor)
        lock = None if found or not descriptor.size else self._lock(descriptor)
        if not found and not lock:
            found = self._whole(descriptor)  # another process may have brought it meanwhile
        with found or lock or contextlib.nullcontext():
            if found:
                log.debug("%s comes from the cache", what)
                chunks = iter(lambda: found.read(_CHUNK), b"")
                yield from self._held_back(chunks, descriptor, what, None)
            elif lock:
                filling = _Filling(lock, self._give_up).through(descriptor, download)
                yield from self._held_back(filling, descriptor, what, lock)
            else:
                yield from download(0)

    def _whole(self, descriptor: Descriptor) -> IO[bytes] | None:
        """Open a blob that is here and has the right size; remove what stands there and is no such thing."""
        path = self._blob(descriptor.digest)
        try:
            file = os.fdopen(os.open(path, _READ), "rb", buffering=0)
        except FileNotFoundError:
            return None
        except OSError as error:
            log.debug("the cache's %s: %s", descriptor.digest, error.strerror)
            self._remove(path)
            return None
        status = os.fstat(file.fileno())
        if stat.S_ISREG(status.st_mode) and status.st_size == descriptor.size:
            return file
        file.close()
        log.warning("%s in the cache is not whole; downloading it anew", descriptor.digest)
        self._remove(path)
        return None

    def _held_back(
        self, chunks: Iterator[bytes], descriptor: Descriptor, what: str, lock: IO[bytes] | None
    ) -> Iterator[bytes]:
        """Pass chunks on, each when the next has come and the last when all are proved; then the blob is kept."""
        hasher = hashlib.new(descriptor.digest.algorithm)
        held = b""
        for chunk in chunks:
            hasher.update(chunk)
            if held:
                yield held
            held = chunk
        actual = Digest(descriptor.digest.algorithm, hasher.hexdigest())
        if actual != descriptor.digest:
            self._reject(descriptor.digest, lock)
            raise DigestError(
                f"{what}, of which the cache's copy was removed", expected=descriptor.digest, actual=actual
            )
        if lock:
            self._keep(lock, descriptor)
        yield held

    def _reject(self, digest: Digest, lock: IO[bytes] | None) -> None:
        if lock is None:
            self._remove(self._blob(digest))
            return
        with contextlib.suppress(OSError):
            lock.truncate(0)

    def _keep(self, lock: IO[bytes], descriptor: Descriptor) -> None:
        """Move a verified blob to its place."""
        if not self._writable or os.fstat(lock.fileno()).st_size != descriptor.size:
            return
        path = self._blob(descriptor.digest)
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            self._partial(descriptor.digest).replace(path)
        except FileNotFoundError:
            log.debug("somebody took %s away", descriptor.digest)
        except OSError as error:
            self._give_up(error)

    def _remove(self, path: Path) -> None:
        with contextlib.suppress(OSError):
            path.unlink()

    # Who fills it

    def _lock(self, descriptor: Descriptor) -> IO[bytes] | None:
        """Take the right to fill a blob, waiting for a process that has it as long as its file grows; None without."""
        size, since = -1, self._monotonic()
        while self._writable:
            file = self._opened(self._partial(descriptor.digest))
            if file is None:
                return None
            if _flocked(file):
                if self._is_ours(file, descriptor):
                    return file
                file.close()
                if self.has(descriptor):
                    return None
                continue
            grown = os.fstat(file.fileno()).st_size
            file.close()
            if grown != size:
                size, since = grown, self._monotonic()
            elif self._monotonic() - since > _STUCK:
                log.info("%s: another process is at it and makes no progress; not waiting", descriptor.digest)
                return None
            self._sleep(_TICK)
        return None

    def _opened(self, path: Path) -> IO[bytes] | None:
        try:
            file = os.fdopen(os.open(path, _FILL, 0o600), "r+b", buffering=0)
        except OSError as error:
            self._give_up(error)
            return None
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return file
        file.close()
        self._remove(path)
        return None

    def _is_ours(self, file: IO[bytes], descriptor: Descriptor) -> bool:
        """Tell whether a file that we have locked is still the one to fill: its blob may just have been completed."""
        path = self._partial(descriptor.digest)
        try:
            is_there = os.path.samestat(os.fstat(file.fileno()), path.lstat())
        except OSError:
            return False
        if is_there and self.has(descriptor):
            self._remove(path)
            return False
        return is_there


class _Filling:
    """A blob on its way into a locked file: first what a former process left there, then what is still missing."""

    def __init__(self, file: IO[bytes], give_up: Callable[[OSError], None]) -> None:
        self._file = file
        self._give_up = give_up
        self._keeping = True

    def through(self, descriptor: Descriptor, download: Callable[[int], Iterator[bytes]]) -> Iterator[bytes]:
        start = os.fstat(self._file.fileno()).st_size
        if start > descriptor.size:
            self._file.truncate(0)
            start = 0
        self._file.seek(0)
        yield from iter(lambda: self._file.read(_CHUNK), b"")
        if start == descriptor.size:
            return
        if start:
            log.info("%s: going on at byte %d, from the cache", descriptor.digest, start)
        for chunk in download(start):
            self._append(chunk)
            yield chunk

    def _append(self, chunk: bytes) -> None:
        if not self._keeping:
            return
        try:
            left = memoryview(chunk)
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            self._keeping = False
            with contextlib.suppress(OSError):  # no room is given to what will not be whole
                self._file.truncate(0)
            self._give_up(error)


def _flocked(file: IO[bytes]) -> bool:
    """Take the lock of a file if it is free; where there are no locks (some NFS), everybody has it."""
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        log.debug("no locks here: %s", error.strerror)
    return True
