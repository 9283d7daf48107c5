"""The command line: words in, one call of the library, an exit status out.

A verb's module is loaded when that verb is asked for; `--help` and `--version` load none of them.
"""

from __future__ import annotations

import gc
import sys
from importlib import import_module
from typing import TYPE_CHECKING

from ocirootfs import __version__
from ocirootfs.cli import streams

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ocirootfs.cli.words import Words

VERBS = {
    "fetch": "download images as one archive",
    "pack": "flatten an image into an archive, in a file or a bucket",
    "unpack": "flatten an image into a new directory",
    "mirror": "make a bucket hold a list of images",
    "inspect": "print what is known of an image, as JSON",
    "ls": "list the files of a flattened image, or print one",
    "check": "say what Concourse will make of an archive",
    "completion": "print what makes a shell complete commands",
}
"""The verbs, in the order of the help, and what they are for. The module of the name parses and runs the verb."""

# Seconds after which a thread that has inflated or deflated something gets the interpreter back; Python's own are
# 0.005. An image of 80,000 small files took 2.54 s with a thousandth, 2.36 s with three ten-thousandths, and 2.32 s
# with one, at level 1 1.83, 1.71 and 1.57 s (means of three, two quiet cores); less gained nothing.
_SWITCH = 0.0001
# Objects made before the interpreter looks for cycles, for its own 700. What lasts here has none, the classes that are
# loaded and the tree of a layer, and to go through that again and again takes a twentieth of the time.
_GARBAGE = 50_000

_EXAMPLES = """\
examples:
  ocirootfs fetch ubuntu:17.04 | ocirootfs pack
  ocirootfs pack ubuntu:17.04 -o s3://images/ubuntu/ubuntu-17.04.tgz
  docker save my/app | ocirootfs pack -o app.tgz

exit status:
  0 done   1 a bug   2 usage   3 not found   4 not authorised
  5 try again later   6 broken input   7 destination refused
  8 this machine (disk, permission)   128+N signal N
"""


def parser(verbs: Iterable[str] = VERBS) -> Words:
    """Return the parser of the whole command line, with the options of the `verbs` named alone."""
    from ocirootfs.cli.words import Words  # noqa: PLC0415  # argparse is where most of a stop this early falls

    words = Words(
        prog="ocirootfs",
        description="Turn a container image into the rootfs archive that Concourse CI tasks run in.",
        epilog=_EXAMPLES,
    )
    words.add_argument(
        "--version", action="version", version=f"ocirootfs {__version__}", help="show the version and exit"
    )
    subparsers = words.add_subparsers(title="verbs", metavar="VERB", dest="verb", required=True)
    loaded = set(verbs)
    for verb, purpose in VERBS.items():
        own = subparsers.add_parser(verb, help=purpose)
        if verb in loaded:
            import_module(f"ocirootfs.cli.{verb}").add_to(own)
    return words


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status. Errors become one line on standard error, and a hint.

    Without `arguments` it runs those of this process, which is to end then.
    """
    streams.reserve()
    try:
        return _run(arguments) if arguments is not None else _run_process()
    except KeyboardInterrupt:  # before or after the command proper, which hears of signals itself
        import signal  # noqa: PLC0415  # nobody else here needs it

        streams.say("ocirootfs: SIGINT: stopped")
        return 128 + signal.SIGINT


def _run_process() -> int:
    """Run the command that this process is there for."""
    sys.setswitchinterval(_SWITCH)
    gc.set_threshold(_GARBAGE)
    try:
        return _run(sys.argv[1:])
    finally:
        gc.freeze()  # or all that is left is gone through at the end, which takes an eighth of a small pack


def _run(asked: Sequence[str]) -> int:
    if not asked:
        streams.say(parser(()).format_help().rstrip("\n"))
        return 2
    chosen = parser(_needed(asked)).parse_args(asked)
    from ocirootfs.cli import console  # noqa: PLC0415  # logging takes longer to load than --help to run

    return console.run(
        lambda: chosen.run(chosen),
        quiet=chosen.quiet,
        verbose=chosen.verbose,
        debug=chosen.debug,
        log_format=chosen.log_format,
    )


def _needed(asked: Sequence[str]) -> Iterable[str]:
    """Return the verbs whose options matter to these words; completion completes all."""
    verb = next((word for word in asked if word in VERBS), None)
    return VERBS if verb == "completion" else {verb} if verb else ()
