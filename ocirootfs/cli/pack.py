"""`ocirootfs pack`."""

from __future__ import annotations

import os
import stat
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import ocirootfs
from ocirootfs import naming
from ocirootfs.api import require_path
from ocirootfs.cli import bucket, console, edits, latest, options, result
from ocirootfs.cli.progress import bar
from ocirootfs.errors import OcirootfsError, UsageError, printable
from ocirootfs.exclude import excluder
from ocirootfs.gzip import DEFAULT_LEVEL, FAST_LEVEL, LEVELS
from ocirootfs.naming import Naming
from ocirootfs.packing import compression_for, default_name
from ocirootfs.resourcetype import ResourceType
from ocirootfs.source import Source
from ocirootfs.versions import KeyRegexp

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from ocirootfs.api import Target
    from ocirootfs.image import Image
    from ocirootfs.packing import Compression, Packed
    from ocirootfs.s3.url import S3Options

_EXAMPLES = """\
SOURCE is - (standard input, the default), a reference such as ubuntu:17.04,
oci:DIR[:NAME], oci-archive:FILE[:NAME], docker-archive:FILE[:NAME], or the path
of one of those.

DEST may have fields: {name} {repository} {registry} {tag} {digest} {digest12}
{os} {arch} {variant} {created:%Y%m%d} {label:KEY} {version}; {{ is a brace.

examples:
  ocirootfs fetch ubuntu:17.04 | ocirootfs pack
  ocirootfs pack ubuntu:17.04 -o 's3://images/{name}/{name}-{version}.tgz' \\
    --version-as '{tag}-{created:%Y%m%d}'
  ocirootfs pack app:1 --env LANG=C.UTF-8 --entrypoint '["/bin/app"]'
  ocirootfs pack concourse/git-resource --layout resource-type -o git.tar
  ocirootfs pack alpine --layout rootfs -o - | mkfs.ext4 -d - alpine.ext4 256M
"""


def add_to(words: argparse.ArgumentParser) -> None:
    """Add what the verb says of itself, and its options."""
    words.description = "Flatten an image into one archive: the whole of it, or nothing there."
    words.epilog = _EXAMPLES
    words.add_argument("source", metavar="SOURCE", nargs="?", default="-", help="see below")
    words.add_argument(
        "-o", "--output", metavar="DEST", help="FILE, DIR/, s3://BUCKET/KEY, s3://BUCKET/PREFIX/ or -; ./NAME-TAG.tgz"
    )
    words.add_argument(
        "--version-as", metavar="TEXT", default="{tag}", help="what {version} in DEST means, with fields; {tag}"
    )
    words.add_argument(
        "--check-regexp",
        metavar="RE",
        help="of the S3 resource that reads the bucket: refuse a key in which it finds no version, warn if that is not "
        "the latest",
    )
    words.add_argument("--json", action="store_true", help="print what was done as JSON, instead of where to")
    words.add_argument("--result", metavar="FILE", help="write what was done to a file, as JSON")
    words.add_argument(
        "--layout",
        choices=("concourse", "rootfs", "resource-type"),
        default="concourse",
        metavar="NAME",
        help="concourse: metadata.json and rootfs/ (default); rootfs: the files alone, at the top; resource-type: of "
        "a worker",
    )
    words.add_argument(
        "--compress", choices=("gzip", "none"), help="default: as DEST's suffix says, else gzip for concourse"
    )
    words.add_argument(
        "--exclude", metavar="GLOB", action="append", default=[], help="leave paths out; from the image's root (repeat)"
    )
    words.add_argument("--devices", choices=("drop", "keep"), help="device nodes; concourse: drop, and never /dev's")
    level = words.add_mutually_exclusive_group()
    level.add_argument(
        "--level",
        type=options.whole,
        choices=LEVELS,
        default=DEFAULT_LEVEL,
        metavar="N",
        help="of gzip, 1 (fastest) to 9 (smallest); 1 and 2 give other bytes on other CPUs (default: %(default)s)",
    )
    level.add_argument("--fast", dest="level", action="store_const", const=FAST_LEVEL, help="--level 1")
    words.add_argument(
        "--threads", type=options.whole, metavar="N", help="that compress; default: cores (half for levels 1, 2)"
    )
    options.add_max_expanded(words)
    words.add_argument("--image", metavar="NAME", help="which image of an archive that holds several")
    options.add_tmpdir(words)
    edits.add_to(words)
    _add_resource(words)
    options.add_registry(words)
    options.add_limits(words)
    bucket.add_to(words)
    options.add_common(words)
    words.set_defaults(run=run)


def _add_resource(words: argparse.ArgumentParser) -> None:
    group = words.add_argument_group("resource type (what resource_metadata.json says, with --layout resource-type)")
    group.add_argument(
        "--resource-type", type=options.text, metavar="NAME", help="default: the image's name without -resource"
    )
    group.add_argument(
        "--resource-version", type=options.text, metavar="TEXT", help="default: the image's version label, or its tag"
    )
    group.add_argument("--privileged", action="store_true", help="its containers run as the worker's root")
    group.add_argument(
        "--unique-version-history", action="store_true", help="resources of one source do not share their versions"
    )


def _resource(chosen: argparse.Namespace) -> ResourceType:
    """Return what is said of a resource type; UsageError where there is none to say it of."""
    resource = ResourceType(
        chosen.resource_type, chosen.resource_version, chosen.privileged, chosen.unique_version_history
    )
    if chosen.layout != "resource-type" and resource != ResourceType():
        raise UsageError(f"--layout {chosen.layout} is no resource type", hint="--layout resource-type")
    return resource


def run(chosen: argparse.Namespace) -> None:
    """Pack one image."""
    source = Source.parse(chosen.source)
    if chosen.image is not None:
        source = source.called(chosen.image)
    _check_streams(chosen)
    layout = ocirootfs.Layout(
        chosen.layout,
        tuple(chosen.exclude),
        chosen.devices,
        edits.edits_of(chosen),
        edits.latest_of(chosen),
        _resource(chosen),
    )
    # Mistakes are told before anything is downloaded.
    excluder(layout.exclude)
    place = _Place.of(chosen, layout)
    if place.known is not None:
        place.check_version(place.known)
    with (
        result.warnings_heard() as heard,
        result.kept_in(chosen.result) as keep,
        options.opened(chosen.source, chosen, chosen.image) as image,
    ):
        names = Naming(image, chosen.version_as)
        output = place.output(names, source)
        # No link is followed: either name is replaced as it is.
        if chosen.result is not None and os.path.abspath(chosen.result) == os.path.abspath(output):
            raise UsageError(f"--result would replace the archive '{printable(output)}'")
        if place.known is None:
            place.check_version(output)
        packed = _pack(image, output, layout, chosen, place)
        try:
            keep(_report(image, packed, place, names, chosen, heard))
        except console.Interrupted as stop:
            stop.left = f"{printable(packed.stored.location)} is there"
            raise


def _check_streams(chosen: argparse.Namespace) -> None:
    """Refuse what would hang, or mix an archive with text."""
    options.check_standard_input(chosen, "ocirootfs pack ubuntu:17.04")
    if chosen.output is None and _redirected_to_archive():
        raise UsageError(
            "standard output goes to an archive, which would hold that archive's name and nothing else",
            hint="add -o - to write the archive to standard output, or name it with -o",
        )
    if chosen.output is not None:
        require_path(chosen.output)
    if chosen.output == "-" and chosen.json:
        raise UsageError("-o - and --json would mix an archive with text", hint="--result FILE keeps them apart")
    if chosen.output == "-" and sys.stdout.isatty():
        raise UsageError("refusing to write an archive to a terminal", hint="name it with -o FILE")
    if chosen.threads is not None and not 1 <= chosen.threads <= 256:
        raise UsageError(f"--threads {chosen.threads}: use 1 to 256")


def _redirected_to_archive() -> bool:
    """Tell whether standard output is a file that is meant to be the archive, as in `pack > x.tgz`; a log is not."""
    if not stat.S_ISREG(os.fstat(1).st_mode):
        return False
    try:
        name = os.readlink("/proc/self/fd/1")  # proc(5); nothing like it is portable
    except OSError:
        return False
    return name.endswith((".tgz", ".gz", ".tar"))


@dataclass(frozen=True, slots=True)
class _Place:
    """Where -o says the archive goes: a name, with fields perhaps, or a place where it gets its default one.

    `s3` is how to store it, if that is in a bucket.
    """

    text: str
    is_inside: bool
    compress: Compression
    s3: S3Options | None
    regexp: KeyRegexp | None = None

    @classmethod
    def of(cls, chosen: argparse.Namespace, layout: ocirootfs.Layout) -> _Place:
        text = chosen.output or "./"
        is_bucket = text.startswith("s3://")
        if is_bucket:
            is_inside = result.url(text).is_prefix  # first of all: other complaints repeat a password in it
        else:
            is_inside = text.endswith("/") or (text != "-" and os.path.isdir(text))
            if chosen.if_exists is not None:
                raise UsageError("--if-exists is for a bucket: a file is replaced as a whole")
        for template in (text, chosen.version_as):
            naming.parse(template)
        compress = compression_for("" if is_inside else text, layout, asked=chosen.compress)
        if chosen.check_regexp is not None and not is_bucket:
            raise UsageError("--check-regexp is for a bucket", hint="ocirootfs check FILE --regexp RE checks a file")
        regexp = KeyRegexp.parse(chosen.check_regexp) if chosen.check_regexp is not None else None
        return cls(text, is_inside, compress, bucket.s3_options(chosen, compress) if is_bucket else None, regexp)

    @property
    def known(self) -> str | None:
        """The name, if it has no field that only the image could fill in."""
        parts = naming.parse(self.text)
        if self.is_inside or any(field is not None for _, field, _ in parts):
            return None
        return "".join(literal for literal, _, _ in parts)

    def check_version(self, output: str) -> None:
        """Have the version looked at that Concourse would find in a name, if that was asked for."""
        if self.regexp is not None and self.s3 is not None:
            latest.require(self.regexp, result.url(output), self.s3)

    def output(self, names: Naming, source: Source) -> str:
        """Return the name of the archive of the image that `names` knows."""
        text = names.expand(self.text)
        if not self.is_inside:
            return text
        stem = os.path.basename(os.path.normpath(source.path)).partition(".")[0] if source.path else ""
        name = default_name(names.image, self.compress, fallback=stem or "image")
        return os.path.join(text, name).removeprefix("./")


def _pack(image: Image, output: str, layout: ocirootfs.Layout, chosen: argparse.Namespace, place: _Place) -> Packed:
    """Pack, and say with an error that nothing is there."""
    target: Target = sys.stdout.buffer if output == "-" else output
    try:
        with bar([image], image.layers, quiet=chosen.quiet, how=options.progress(chosen)) as progress:
            return ocirootfs.pack(
                image,
                target,
                layout=layout,
                compress=place.compress,
                level=chosen.level,
                threads=chosen.threads,
                tmpdir=chosen.tmpdir,
                max_expanded=chosen.max_expanded,
                s3_options=place.s3,
                progress=progress,
            )
    except OcirootfsError as error:
        if output != "-" and not _is_named(output, str(error)):
            error.args = (f"{error}; nothing was written to {output}",)
        raise


def _is_named(output: str, text: str) -> bool:
    """Tell whether a message names the output: files stand in quotes, and s3:// is in no other word."""
    return f"'{printable(output)}'" in text or (output.startswith("s3://") and output in text)


def _report(  # all that was found out
    image: Image, packed: Packed, place: _Place, names: Naming, chosen: argparse.Namespace, heard: Iterable[str]
) -> str:
    """Tell what was done, and return it as JSON."""
    if lost := result.losses(packed.report):
        console.warn(lost)
    known = _versions(names)
    if place.s3 is not None and not chosen.quiet:
        _tell_of_bucket(packed, place.s3, known, chosen)
    told = result.as_json(image, packed, known, heard)
    if chosen.json:
        print(told)
    elif chosen.output != "-":
        print(packed.stored.location)
    return told


def _versions(names: Naming) -> list[str]:
    """Return what may be the version in the archive's name, longest first."""
    reference = names.image.reference
    found = [reference.tag] if reference and reference.tag else []
    try:
        return [names.version(), *found]
    except UsageError:  # nobody asked for one
        return found


def _tell_of_bucket(packed: Packed, options: S3Options, known: list[str], chosen: argparse.Namespace) -> None:
    location = packed.stored.location
    if packed.skipped:
        console.tell(f"{location} is there already, and stays as it is")
    if chosen.layout != "concourse":
        return
    line, fault = result.concourse_line(location, known)
    console.tell(line)
    if fault:
        console.warn(
            f"Concourse's check of this bucket would fail: {fault}; --version-as and a name with {{version}} help"
        )
    if chosen.verbose:
        console.tell_block(result.image_resource(location, options, known))
