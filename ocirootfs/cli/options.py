"""Options that verbs share, and what they mean."""

from __future__ import annotations

import argparse
import io
import os
import sys
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import ocirootfs
from ocirootfs.cli.progress import HOWS
from ocirootfs.cli.words import HelpAll
from ocirootfs.errors import AuthError, NotFoundError, TemporaryError, UsageError, printable
from ocirootfs.expansion import EXPANDED
from ocirootfs.limits import RANGES, USUAL, Limits, names
from ocirootfs.platform import Platform
from ocirootfs.source import Source

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ocirootfs.cli.progress import How
    from ocirootfs.image import Image
    from ocirootfs.registry import Registry
    from ocirootfs.registry.credentials import Credentials


_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_LONGEST_SILENCE = 1e6  # seconds; sockets take no more than some two billion
_MOST_JOBS = 16  # connections that the transport keeps to one host


def add_common(words: argparse.ArgumentParser) -> None:
    """Add what every verb has."""
    group = words.add_argument_group("messages")
    group.add_argument("-q", "--quiet", action="store_true", help="errors only, no progress bar")
    group.add_argument("-v", "--verbose", action="count", default=0, help="say what is done; -vv in every detail")
    group.add_argument("--debug", action="store_true", help="-vv, and a traceback with an error")
    group.add_argument(
        "--progress",
        choices=HOWS,
        metavar="HOW",
        help="auto: a bar on a terminal, lines in a log after ten seconds (default); bar; plain: lines; none "
        "(OCIROOTFS_PROGRESS)",
    )
    group.add_argument(
        "--log-format", choices=("text", "json"), default="text", help="of messages; json: one object a line"
    )
    words.add_argument("--help-all", action=HelpAll)


def progress(chosen: argparse.Namespace) -> How:
    """Return how progress is to be shown; UsageError for a variable that makes no sense."""
    asked = chosen.progress or os.environ.get("OCIROOTFS_PROGRESS") or "auto"
    for how in HOWS:
        if how == asked:
            return "plain" if chosen.log_format == "json" and how != "none" else how
    raise UsageError(f"OCIROOTFS_PROGRESS '{printable(asked, 40)}': there are {', '.join(HOWS)}")


def add_registry(words: argparse.ArgumentParser, jobs: Sequence[str] = ("-j", "--jobs")) -> None:
    """Add what concerns a registry; `jobs` is what the number of downloads at a time is called."""
    group = words.add_argument_group("registry")
    group.add_argument("--platform", metavar="OS/ARCH[/VARIANT]", help="default: linux on this machine's architecture")
    group.add_argument(
        "--creds", type=text, metavar="USER[:PASSWORD]", help="credentials, instead of those that docker login saved"
    )
    group.add_argument("--password-stdin", action="store_true", help="read the password of --creds from standard input")
    group.add_argument("--no-creds", action="store_true", help="ask as nobody, whatever was saved")
    group.add_argument(
        "--authfile", type=named, metavar="FILE", help="where credentials are saved, instead of the usual places"
    )
    group.add_argument(
        "--trust-realm",
        type=host,
        metavar="HOST",
        action="append",
        default=[],
        help="a token server of another domain that may be told the credentials (repeat)",
    )
    group.add_argument(
        "--mirror",
        metavar="[REGISTRY=]URL",
        action="append",
        help="ask this registry first, below the URL's path, for what is REGISTRY's, by default Docker Hub's (repeat)",
    )
    group.add_argument(
        "--plain-http", action="store_true", help="speak HTTP without TLS (a loopback registry may anyway)"
    )
    group.add_argument("--insecure", action="store_true", help="do not verify TLS certificates")
    group.add_argument(
        "--insecure-host",
        type=host,
        metavar="HOST[:PORT]",
        action="append",
        default=[],
        help="do not verify this host's (repeat)",
    )
    group.add_argument("--ca-file", type=named, metavar="FILE", help="trust these certificates too (PEM)")
    group.add_argument(
        "--timeout", type=silence, default=60, metavar="S", help="longest silence, seconds (default: 60)"
    )
    group.add_argument("--retries", type=whole, default=5, metavar="N", help="tries after a failure (default: 5)")
    group.add_argument(
        "--max-wait",
        type=seconds,
        default=60,
        metavar="SECONDS",
        help="longest wait that a registry may ask for (default: 60)",
    )
    group.add_argument(
        *jobs, dest="jobs", type=jobs_count, default=3, metavar="N",
        help="layers downloaded at a time (3); 1: nothing ahead",
    )  # fmt: skip
    group.add_argument(
        "--cache-dir", type=named, metavar="DIR", help="keep blobs here (OCIROOTFS_CACHE_DIR); default: keep nothing"
    )
    group.add_argument(
        "--allow-foreign",
        action="store_true",
        help="download layers that the registry leaves to other servers from there, without credentials",
    )


def platform(chosen: argparse.Namespace) -> Platform | None:
    """Return the platform asked for, by option or variable; None if nobody did."""
    text = chosen.platform or os.environ.get("OCIROOTFS_PLATFORM") or os.environ.get("DOCKER_DEFAULT_PLATFORM")
    return Platform.parse(text) if text else None


@contextmanager
def opened(text: str, chosen: argparse.Namespace, name: str | None = None) -> Iterator[Image]:
    """Open the image that a SOURCE and the options describe; `name` chooses among those of an archive."""
    with several([text], chosen, name=name) as images:
        yield images[0]


@contextmanager
def several(
    texts: Sequence[str], chosen: argparse.Namespace, *, name: str | None = None, all_platforms: bool = False
) -> Iterator[list[Image]]:
    """Open the images that SOURCEs and the options describe, with one client for all of them."""
    with ExitStack() as stack:
        client = stack.enter_context(registry(chosen)) if any(Source.parse(text).reference for text in texts) else None

        def one(text: str) -> Image:
            with _pointing_at_files(text):
                return stack.enter_context(
                    ocirootfs.open(
                        text,
                        platform=platform(chosen),
                        name=name,
                        all_platforms=all_platforms,
                        registry=client,
                        tmpdir=chosen.tmpdir,
                        limits=limits(chosen),
                    )
                )

        yield list(map(one, texts))


@contextmanager
def _pointing_at_files(text: str) -> Iterator[None]:
    """Add to an error of a registry that there is a file of the name that it was asked for."""
    try:
        yield
    except (NotFoundError, AuthError, TemporaryError) as error:
        if Source.parse(text).reference and os.path.exists(text):
            error.hint = f"'./{printable(text)}' is what lies here; a bare name is an image's"
        raise


def add_source(words: argparse.ArgumentParser) -> None:
    """Add where the image is."""
    words.add_argument(
        "source",
        metavar="SOURCE",
        nargs="?",
        default="-",
        help="a reference, oci:DIR, oci-archive:FILE, docker-archive:FILE, a path; -: standard input (default)",
    )
    words.add_argument("--image", metavar="NAME", help="which image of an archive that holds several")


def check_standard_input(chosen: argparse.Namespace, example: str) -> None:
    """Refuse what would hang, or read standard input twice."""
    if Source.parse(chosen.source).transport != "stdin":
        return
    if sys.stdin.isatty():
        raise UsageError("no SOURCE, and standard input is a terminal", hint=example)
    if chosen.password_stdin:
        raise UsageError("--password-stdin and an image on standard input exclude each other")


def add_max_expanded(words: argparse._ActionsContainer) -> None:
    """Add the limit on what an image may expand to."""
    words.add_argument(
        "--max-expanded",
        type=size,
        default=EXPANDED,
        metavar="SIZE",
        help="refuse an image that expands to more (256GiB)",
    )


def add_limits(words: argparse.ArgumentParser, group: argparse._ArgumentGroup | None = None) -> None:
    """Add the limits on what images, registries and archives may make us do; to a group of their own, by default."""
    group = group or words.add_argument_group("limits (on what nobody vouches for)")
    usual = " ".join(f"{name}={_written(name, getattr(USUAL, name))}" for name in names())
    group.add_argument(
        "--limit",
        metavar="NAME=N",
        type=limit,
        action="append",
        default=[],
        help=f"refuse what is over it (repeat); those that hold unless told otherwise: {usual}",
    )


def limits(chosen: argparse.Namespace) -> Limits:
    """Return the limits that the options ask for; of two of one name the last counts."""
    return Limits(**dict(map(_limit, chosen.limit)))


def limit(text: str) -> str:
    """Require a word such as `path=128KiB`."""
    name, value = _limit(text)
    try:
        Limits(**{name: value})
    except UsageError:
        least, most, _ = RANGES[name]
        raise argparse.ArgumentTypeError(
            f"'{text}': {name} is from {_written(name, least)} to {_written(name, most)}"
        ) from None
    return text


def _limit(text: str) -> tuple[str, int]:
    name, equals, value = text.partition("=")
    if not equals or name not in RANGES:
        raise argparse.ArgumentTypeError(f"'{text}' is no limit; there are {', '.join(names())}")
    if RANGES[name].is_size:
        return name, size(value)
    if not value.isdecimal():
        raise argparse.ArgumentTypeError(f"'{text}': '{value}' is not a number")
    return name, int(value)


def _written(name: str, value: int) -> str:
    """Write a limit as people would: `64KiB`."""
    units = [(unit, factor) for unit, factor in _UNITS.items() if RANGES[name].is_size and not value % factor]
    unit, factor = units[-1] if units else ("", 1)
    return f"{value // factor}{unit}iB" if unit else str(value)


def size(text: str) -> int:
    """Read `8MiB`, `8M` or a number of bytes."""
    digits = text.rstrip("KMGTiB")
    unit = text[len(digits) :].removesuffix("B").removesuffix("i")
    if not digits.isdigit() or unit not in _UNITS:
        raise argparse.ArgumentTypeError(f"'{text}' is not a size such as 8MiB")
    return int(digits) * _UNITS[unit]


def text(word: str) -> str:
    """Read what goes into a document: as UTF-8, whatever the locale has made of it."""
    try:
        return os.fsencode(word).decode()
    except UnicodeError:
        raise argparse.ArgumentTypeError("this is not UTF-8") from None  # and a password perhaps


def named(word: str) -> str:
    """Read the name of a file; nothing is what a script has whose variable is not set."""
    if not word:
        raise argparse.ArgumentTypeError("this is an empty name")
    return word


def host(word: str) -> str:
    """Read `HOST` or `HOST:PORT`; a URL would be the name of nobody."""
    if not word or any(sign in word for sign in "/@?# ") or not word.isprintable():
        raise argparse.ArgumentTypeError(f"'{printable(word, 60)}' is not a host")
    return word


def add_tmpdir(words: argparse.ArgumentParser) -> None:
    """Add where temporary files go."""
    words.add_argument("--tmpdir", metavar="DIR", help="for temporary files, if needed; default: TMPDIR or /tmp")


def registry(chosen: argparse.Namespace) -> Registry:
    """Return a client of registries as the options describe it."""
    # Only what talks to a registry pays for requests.
    from ocirootfs.registry import Registry, credentials  # noqa: PLC0415
    from ocirootfs.registry.mirror import Mirror  # noqa: PLC0415

    named = os.environ.get("OCIROOTFS_MIRRORS", "").split() if chosen.mirror is None else chosen.mirror
    mirrors = [Mirror.parse(text) for text in named]
    find: credentials.Find = credentials.Keychain(authfile=chosen.authfile).find
    _check_credentials(chosen)
    if chosen.no_creds:
        find = credentials.anonymous
    elif user := chosen.creds or os.environ.get("OCIROOTFS_USERNAME"):
        # They are the registry's, and no mirror's.
        find = credentials.fixed(_credentials(user, chosen), but={mirror.host for mirror in mirrors}, otherwise=find)
    return Registry(
        credentials=find,
        mirrors=mirrors,
        trusted_realms=chosen.trust_realm,
        plain_http=chosen.plain_http,
        insecure=chosen.insecure or chosen.insecure_host,
        ca_file=chosen.ca_file,
        timeout=chosen.timeout,
        retries=chosen.retries,
        max_wait=chosen.max_wait,
        jobs=chosen.jobs,
        cache_dir=chosen.cache_dir or os.environ.get("OCIROOTFS_CACHE_DIR") or None,
        allow_foreign=chosen.allow_foreign,
        limits=limits(chosen),
    )


def _check_credentials(chosen: argparse.Namespace) -> None:
    """Refuse credentials that would count for nothing: whoever gave them would be a stranger without a word."""
    if chosen.no_creds and (chosen.creds is not None or chosen.password_stdin):
        raise UsageError("--no-creds and credentials exclude each other")
    if chosen.creds is not None and not chosen.creds.partition(":")[0]:
        raise UsageError("--creds has no user", hint="--creds USER, and the password with --password-stdin")
    if chosen.password_stdin and not (chosen.creds or os.environ.get("OCIROOTFS_USERNAME")):
        raise UsageError("--password-stdin is a password without a user", hint="--creds USER, or OCIROOTFS_USERNAME")


def _credentials(user: str, chosen: argparse.Namespace) -> Credentials:
    from ocirootfs.registry.credentials import Credentials  # noqa: PLC0415

    name, colon, password = user.partition(":")
    if chosen.password_stdin:
        if sys.stdin.isatty():
            raise UsageError("--password-stdin reads the password from standard input, which is a terminal")
        if isinstance(sys.stdin, io.TextIOWrapper):
            sys.stdin.reconfigure(errors="surrogateescape")  # as variables and arguments are read
        password = sys.stdin.read(1 << 20).rstrip("\r\n")  # a key in JSON has many lines
    elif not colon:
        password = os.environ.get("OCIROOTFS_PASSWORD", "")
    if not password:
        hint = "give it with --password-stdin or in OCIROOTFS_PASSWORD"
        raise UsageError(f"no password for '{printable(name, 60)}'", hint=hint)
    return Credentials(name, password, source="--creds")


def whole(text: str) -> int:
    """Read a number of things, none perhaps."""
    if not (text.isascii() and text.isdecimal()):
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number")
    return int(text)


def seconds(text: str) -> float:
    """Read a length of time; zero and infinity are some."""
    try:
        found = float(text)
    except ValueError:
        found = -1
    if not found >= 0:  # nan is not, either
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of seconds")
    return found


def silence(text: str) -> float:
    """Read for how long nothing may be heard; what a socket takes."""
    found = seconds(text)
    if not 0 < found < _LONGEST_SILENCE:
        raise argparse.ArgumentTypeError(f"'{text}' is no time to wait for an answer")
    return found


def jobs_count(text: str) -> int:
    """Read how many things may be done at a time."""
    if not text.isdecimal() or not 1 <= int(text) <= _MOST_JOBS:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number from 1 to {_MOST_JOBS}")
    return int(text)
