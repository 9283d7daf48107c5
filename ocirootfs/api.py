"""The library's verbs: what the command line does, for programs.

The edges are imported when they are used: a program that packs a local file loads neither requests nor boto3.
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import closing, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, Literal, TypeAlias

from ocirootfs import flattening, packing
from ocirootfs.bundle import Layout
from ocirootfs.destination import Destination, FileDestination, StreamDestination
from ocirootfs.errors import LocalError, NotFoundError, UsageError, printable
from ocirootfs.exclude import excluder
from ocirootfs.expansion import EXPANDED, bounded
from ocirootfs.gzip import DEFAULT_LEVEL
from ocirootfs.image import Image
from ocirootfs.limits import USUAL, Limits
from ocirootfs.metadatajson import metadata_json
from ocirootfs.platform import Platform
from ocirootfs.prefetch import prefetched, prefetched_image
from ocirootfs.source import Source, image_in, local_image
from ocirootfs.spool import Spool

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence

    import requests
    from mypy_boto3_s3 import S3Client

    from ocirootfs.checking import Checked
    from ocirootfs.destination import Stored
    from ocirootfs.flattening import Visible
    from ocirootfs.image import Progress
    from ocirootfs.packing import Compression, Packed
    from ocirootfs.registry import Registry
    from ocirootfs.s3.url import S3Options, S3Url
    from ocirootfs.unpacking import Unpacked

Target: TypeAlias = "str | os.PathLike[str] | BinaryIO | Destination"
"""A path, `s3://bucket/key` (with a trailing slash: below that, under the default name), an open binary file, or an
object of one's own that is a `Destination`."""


@contextmanager
def open(  # noqa: A001  # as gzip.open
    source: str | os.PathLike[str] | BinaryIO,
    *,
    platform: str | Platform | None = None,
    name: str | None = None,
    all_platforms: bool = False,
    session: requests.Session | None = None,
    registry: Registry | None = None,
    tmpdir: str | None = None,
    limits: Limits | None = None,
) -> Iterator[Image]:
    """Open an image for as long as the context lasts: manifest and config at once, layers when they are read.

    `source` is a reference (`ubuntu:17.04`), `oci:DIR[:NAME]`, `oci-archive:FILE[:NAME]`, `docker-archive:FILE[:NAME]`,
    the path of one, or a binary file with an archive in it; `-` is standard input. `platform` is `os/arch[/variant]`,
    by default linux on this machine's architecture. `name` chooses one of the images in an archive, as `:NAME` does.
    With `all_platforms` the image, which a registry must have, comes with its whole index, for `fetch`. A registry is
    spoken to through `session` if one is given, with the credentials that docker or podman have saved; a `registry` of
    one's own (`ocirootfs.registry.Registry`) decides all of that itself, and the limits. `tmpdir` is where members of a
    pipe are kept that come by before they are wanted. `limits` bound what is read of the image, now and later. Sources:
    OCI distribution-spec, "Pulling"; image-spec, image-layout.md.

    Raises UsageError for a source or a platform that is none, and for limits that are not those of the registry given;
    NotFoundError where the image, the tag or the platform is not there, AuthError, TemporaryError, InputError for what
    is no image or over a limit, and LocalError. What is wrong with a layer is known when it is read.

    >>> with ocirootfs.open("oci:tests/fixtures/zones") as image:
    ...     print(image.config.platform, image.config.cmd, [layer.size for layer in image.layers])
    linux/amd64 ('Zulu', 'Europe/Berlin') [10391, 502, 5120]
    """
    wanted = Platform.parse(platform) if isinstance(platform, str) else platform
    if not isinstance(source, str | os.PathLike):
        with Spool(tmpdir) as spool:
            yield image_in(source, wanted, spool, name=name, limits=limits or USUAL)
        return
    parsed = Source.parse(source) if isinstance(source, str) else Source("path", os.fspath(source))
    if name is not None:
        parsed = parsed.called(name)
    if parsed.reference is None:
        if all_platforms:
            raise UsageError("all platforms are fetched from a registry only")
        with local_image(parsed, wanted, tmpdir, limits or USUAL) as image:
            yield image
        return
    if registry and limits not in (None, registry.limits):
        raise UsageError("the registry has other limits", hint="they are a parameter of Registry")
    with nullcontext(registry) if registry else _registry(session, limits or USUAL) as client:
        yield client.open(parsed.reference, wanted, all_platforms=all_platforms)


def _registry(session: requests.Session | None, limits: Limits) -> Registry:
    from ocirootfs.registry import Registry  # noqa: PLC0415  # requests takes longer to load than --help to run

    return Registry(session, limits=limits)


def fetch(
    images: Image | Sequence[Image],
    target: Target,
    *,
    tmpdir: str | None = None,
    progress: Progress | None = None,
) -> Stored:
    """Write one image, or several, as one archive at `target`: an OCI layout that `docker load` takes too.

    What images share is downloaded and written once; `open(target, name=…)` finds each again. Layers go out as they
    are stored, topmost first, and `progress` hears of each chunk's bytes (see `fetching.fetch`). `target` is aborted on
    any exception: then there is no file and no object. Raises the errors of `open`, InputError (DigestError,
    TruncatedError) for a blob that is not what its digest says, DestinationError for a target that refuses it, and
    UsageError for no image, or one without a manifest. Source: OCI image-spec, image-layout.md.

    >>> with ocirootfs.open("oci:tests/fixtures/zones") as image:
    ...     stored = ocirootfs.fetch(image, "zones.tar")
    >>> with ocirootfs.open("zones.tar") as again:
    ...     print(stored.location, again.digest == image.digest)
    zones.tar True
    """
    from ocirootfs import fetching  # noqa: PLC0415  # as below

    several = [images] if isinstance(images, Image) else list(images)
    if not several:
        raise UsageError("no image to fetch")
    destination = destination_for(target, packing.default_name(several[0], "none"))
    return fetching.fetch(several, destination, tmpdir=tmpdir, progress=progress)


def pack(  # noqa: PLR0913  # options, by keyword
    image: Image,
    target: Target,
    *,
    layout: Layout | None = None,
    compress: Compression = "gzip",
    level: int = DEFAULT_LEVEL,
    threads: int | None = None,
    tmpdir: str | None = None,
    s3_options: S3Options | None = None,
    s3_client: S3Client | None = None,
    max_expanded: int = EXPANDED,
    progress: Progress | None = None,
) -> Packed:
    """Flatten an image into one archive at `target`: the whole of it, or nothing there (see `packing.pack`).

    A bucket is spoken to through `s3_client` if one is given, else through one that is made as `s3_options` say. By
    default an object that holds this image with these options stays as it is (`Packed.skipped`). What is around a
    resource type's files is not compressed.

    `level` runs from 1 (fastest; 1 and 2 give other bytes on other CPUs) to 9 (smallest). `threads` compress, by
    default as many as cores, or half of that for levels 1 and 2; they change no byte. `max_expanded` counts bytes, of
    what the layers decompress to and of the archive. `progress` hears of each chunk of a layer, and how many stored
    bytes it has. What the archive cannot hold is in `Packed.report`. Raises the errors of `fetch`; LayerError for a
    layer that no container host would take.

    >>> with ocirootfs.open("oci:tests/fixtures/zones") as image:
    ...     packed = ocirootfs.pack(image, "zones.tgz", layout=ocirootfs.Layout(exclude=("usr/share",)))
    >>> packed.stored.location, packed.report.entries, packed.skipped
    ('zones.tgz', 22, False)
    """
    layout = layout or Layout()
    if layout.kind == "resource-type":
        compress = "none"
    destination = destination_for(
        target,
        packing.default_name(image, compress),
        s3_options=s3_options,
        s3_client=s3_client,
        s3_stamp=partial(stamped, image, layout, compress, level),
    )
    return packing.pack(
        image,
        destination,
        layout=layout,
        compress=compress,
        level=level,
        threads=threads,
        tmpdir=tmpdir,
        max_expanded=max_expanded,
        progress=progress,
    )


def unpack(  # noqa: PLR0913  # options, by keyword
    image: Image,
    directory: str | os.PathLike[str],
    *,
    layout: Literal["rootfs", "concourse"] = "rootfs",
    exclude: Sequence[str] = (),
    devices: Literal["drop", "keep"] = "drop",
    owners: bool | None = None,
    xattrs: bool = False,
    keep_empty: bool = False,
    tmpdir: str | None = None,
    max_expanded: int = EXPANDED,
    progress: Progress | None = None,
) -> Unpacked:
    """Flatten an image into a new directory: the whole of it, or nothing there (see `unpacking.unpack`).

    `directory` may be there only if it is empty. `owners` None gives files to their owners as root and to the caller
    otherwise (`treewriter.Attributes` has more, and `xattrs` and `keep_empty`); devices to `keep` take root. `exclude`
    holds glob patterns anchored at the image's root. What could not be written is in `Unpacked.losses`. Raises the
    errors of `pack`; UsageError for a directory that has something in it, LocalError for what this machine refuses.

    >>> with ocirootfs.open("oci:tests/fixtures/zones") as image:
    ...     unpacked = ocirootfs.unpack(image, "zones", exclude=["usr/share"], owners=False)
    >>> unpacked.location, unpacked.report.entries, unpacked.report.devices
    ('zones', 22, [b'dev/null'])
    """
    from ocirootfs import unpacking  # noqa: PLC0415  # a fifth of what it takes to load what packs
    from ocirootfs.treewriter import Attributes  # noqa: PLC0415  # as well

    has_owners = os.geteuid() == 0 if owners is None else owners
    return unpacking.unpack(
        image,
        directory,
        layout=Layout(layout, tuple(exclude), devices),
        attributes=Attributes(has_owners, xattrs, keep_empty),
        tmpdir=tmpdir,
        max_expanded=max_expanded,
        progress=progress,
    )


def flatten(image: Image, *, exclude: Sequence[str] = (), tmpdir: str | None = None) -> Visible:
    """Yield the files of the flattened image, each path once: an `Entry`, and its content piece by piece.

    Non-directories come first, a hard link after the entry that it names; then the directories, children before
    parents, the root (path `b""`) last. The pieces of one entry are to be read before the next entry is asked for.
    `exclude` holds glob patterns anchored at the root. The content is proved when the iterator ends, not before. Raises
    the errors of `pack`. Source: OCI image-spec, layer.md ("Applying Changesets"), and overlayfs where that is silent.

    >>> with ocirootfs.open("oci:tests/fixtures/zones") as image:
    ...     for entry, body in ocirootfs.flatten(image, exclude=["usr", "home", "var", "dev"]):
    ...         print(entry.path, entry.kind.value, oct(entry.mode), len(b"".join(body)))
    b'etc/passwd' file 0o644 79
    b'etc/localtime' symlink 0o777 0
    b'srv/zones/README' file 0o664 37
    b'bin' symlink 0o777 0
    b'etc/group' file 0o644 41
    b'etc' directory 0o755 0
    b'root' directory 0o700 0
    b'srv/zones' directory 0o2775 0
    b'srv' directory 0o755 0
    b'tmp' directory 0o1777 0
    b'' directory 0o755 0
    """
    with (
        Spool(tmpdir, memory=16 << 20) as layers,
        Spool(tmpdir) as hidden,
        prefetched(image.layers[::-1], [image], tmpdir) as ahead,
    ):
        again = packing.readable_twice(prefetched_image(image, ahead), layers, tmpdir)
        bounds = bounded(again, EXPANDED)
        yield from flattening.flatten(bounds.layers, hidden, excluded=excluder(exclude), limits=image.limits)
        image.finish()


def metadata(image: Image) -> bytes:
    """Return the `metadata.json` that Concourse reads: env, user, entrypoint and cmd, as JSON in UTF-8.

    No layer is read. `metadata.metadata_json` says whose format it is.

    >>> with ocirootfs.open("oci:tests/fixtures/zones") as image:
    ...     json.loads(ocirootfs.metadata(image))["entrypoint"]
    ['/usr/bin/zones']
    """
    return metadata_json(image.config)


def check(
    source: str | os.PathLike[str] | BinaryIO,
    *,
    regexp: str | None = None,
    name: str | None = None,
    s3_options: S3Options | None = None,
    s3_client: S3Client | None = None,
) -> Checked:
    """Read an archive as Concourse will, and say what becomes of it (see `checking.check`).

    `source` is a path, `s3://bucket/key`, an open binary file, or `-` for standard input; `name` is the key that it
    will have, by default what it is called there. `regexp` is the S3 resource's, by which a version is looked for in
    the key; a bare name is looked for where the resource itself puts files, in the regexp's own folder. Memory is that
    of the paths, nothing is unpacked. Raises UsageError for a regexp that Go would not take, and of the errors of
    `ocirootfs.errors` those that reading has; what is wrong with the archive is a finding.

    >>> with ocirootfs.open("oci:tests/fixtures/zones") as image:
    ...     packed = ocirootfs.pack(image, "zones-2024b.tgz")
    >>> ocirootfs.check("zones-2024b.tgz", regexp="tools/zones-(.*).tgz").version
    '2024b'
    """
    from ocirootfs import checking  # noqa: PLC0415  # as `unpack`
    from ocirootfs.versions import KeyRegexp  # noqa: PLC0415  # as well

    wanted = KeyRegexp.parse(regexp) if regexp is not None else None
    key = None
    if isinstance(source, str) and source.startswith("s3://"):
        from ocirootfs.s3.url import S3Options, S3Url  # noqa: PLC0415  # as well

        url = S3Url.parse(source)
        if url.is_prefix:
            raise UsageError(f"'{printable(source)}' is a folder, not an object")
        key, chunks = url.key, _object(url, s3_options or S3Options(), s3_client)
    elif isinstance(source, str | os.PathLike) and source != "-":
        key = _put_by(regexp, os.path.basename(os.fspath(source)))
        chunks = _file(os.fspath(source))
    else:
        chunks = _read(sys.stdin.buffer if isinstance(source, str | os.PathLike) else source)
    if name is not None:
        key = _put_by(regexp, name)
    with closing(chunks):
        return checking.check(chunks, key.rpartition("/")[2] if key else None, key=key, regexp=wanted)


def _put_by(regexp: str | None, name: str) -> str:
    """Return the key under which the resource puts a file (s3-resource, out/command.go); a whole key stays as it is."""
    folder, slash, _ = (regexp or "").rpartition("/")
    return name if "/" in name else folder + slash + name


_CHUNK = 1 << 18  # bytes read at a time


def _object(url: S3Url, options: S3Options, client: S3Client | None) -> Generator[bytes]:
    from ocirootfs.s3.reading import content  # noqa: PLC0415  # boto3 takes longer to load than --help to run

    return content(url, options, client)


def _file(path: str) -> Generator[bytes]:
    scheme, separator, _ = path.partition("://")
    if separator and scheme.isalnum():  # a signed one perhaps, which is not to be shown
        raise UsageError(f"this is a {scheme} URL, which no archive is read from", hint="a path, s3://BUCKET/KEY or -")
    try:
        with io.open(path, "rb") as file:  # noqa: UP020  # `open` is ours here
            yield from _read(file)
    except FileNotFoundError:
        raise NotFoundError(
            f"there is no '{printable(path)}'", hint="an archive is what ocirootfs pack makes"
        ) from None
    except OSError as error:
        raise LocalError(f"cannot read '{printable(path)}': {error.strerror}") from error


def _read(file: BinaryIO) -> Generator[bytes]:
    while chunk := file.read(_CHUNK):
        yield chunk


def destination_for(
    target: Target,
    default_name: str,
    *,
    s3_options: S3Options | None = None,
    s3_client: S3Client | None = None,
    s3_stamp: Callable[[S3Options], Mapping[str, str]] | None = None,
) -> Destination:
    """Return what writes to `target`; a directory, or a prefix in a bucket, gets an object of the default name."""
    if isinstance(target, str) and target.startswith("s3://"):
        return _bucket(target, default_name, s3_options, s3_client, s3_stamp)
    if isinstance(target, str | os.PathLike):
        path = os.fspath(target)
        require_path(path)
        inside = path.endswith("/") or os.path.isdir(path)
        return FileDestination(os.path.join(path, default_name) if inside else path)
    return target if isinstance(target, Destination) else StreamDestination(target)


def require_path(target: str) -> None:
    """Refuse a URL, a signed one perhaps, which would be taken for a path and shown in messages; s3:// is none.

    Nothing is no path either: it is what a script has whose variable is not set.
    """
    if not target:
        raise UsageError("the destination is an empty name", hint="s3://BUCKET/KEY, or a path")
    if target.startswith("s3:") and not target.startswith("s3://"):
        raise UsageError(f"'{printable(target)}' is no place in a bucket", hint="s3://BUCKET/KEY")
    scheme, separator, _ = target.partition("://")
    if separator and scheme.isalnum() and scheme != "s3":
        raise UsageError(
            f"the destination is a {scheme} URL, which nothing is written to", hint="s3://BUCKET/KEY, or a path"
        )


def _bucket(
    target: str,
    default_name: str,
    options: S3Options | None,
    client: S3Client | None,
    stamp_of: Callable[[S3Options], Mapping[str, str]] | None,
) -> Destination:
    from ocirootfs.s3.destination import S3Destination  # noqa: PLC0415  # boto3 takes longer to load than --help to run
    from ocirootfs.s3.url import S3Options, S3Url  # noqa: PLC0415  # whoever writes a file needs neither

    options = options or S3Options()
    url = S3Url.parse(target)
    stamp = stamp_of(options) if stamp_of else None
    return S3Destination(url.joined(default_name) if url.is_prefix else url, options, client, stamp=stamp)


def _kept(options: S3Options) -> dict[str, str]:
    """Return what is to be true of an object besides its content."""
    return options.headers() | {f"x-amz-meta-{name}": value for name, value in options.metadata.items()}


def stamped(image: Image, layout: Layout, compress: Compression, level: int, options: S3Options) -> Mapping[str, str]:
    """Return what the metadata of an object will say of the image that it is made of, and how."""
    from ocirootfs import __version__  # noqa: PLC0415  # it imports this module
    from ocirootfs.s3.stamp import stamp  # noqa: PLC0415  # whoever writes a file needs none

    return stamp(
        image=image.reference,
        digest=image.digest,
        platform=image.config.platform,
        options=packing.fingerprint(image, layout, compress, level, _kept(options)),
        version=__version__,
    )
