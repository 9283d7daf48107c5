"""The command line: words in, one call of the library, an exit status out."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from ocirootfs.cli import completion, console, fetch, inspect, ls, pack, unpack
from ocirootfs.cli.options import version
from ocirootfs.cli.words import Words

if TYPE_CHECKING:
    from collections.abc import Sequence

_EXAMPLES = """\
examples:
  ocirootfs fetch ubuntu:17.04 | ocirootfs pack
  ocirootfs pack ubuntu:17.04 -o s3://images/ubuntu/ubuntu-17.04.tgz
  docker save my/app | ocirootfs pack -o app.tgz

exit status:
  0 done   1 a bug   2 usage   3 no such image   4 not authorised
  5 try again later   6 broken input   7 destination refused
  8 this machine (disk, permission)   128+N signal N
"""


def parser() -> Words:
    """Return the parser of the whole command line."""
    words = Words(
        prog="ocirootfs",
        description="Turn a container image into the rootfs archive that Concourse CI tasks run in.",
        epilog=_EXAMPLES,
    )
    words.add_argument("--version", action=version())
    verbs = words.add_subparsers(title="verbs", metavar="VERB", dest="verb", required=True)
    for verb in (fetch, pack, unpack, inspect, ls, completion):
        verb.add_to(verbs)
    return words


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status. Errors become one line on standard error, and a hint."""
    console.reserve_standard_streams()
    words = parser()
    if not (sys.argv[1:] if arguments is None else arguments):
        console.say(words.format_help().rstrip("\n"))
        return 2
    chosen = words.parse_args(arguments)
    return console.run(
        lambda: chosen.run(chosen),
        quiet=chosen.quiet,
        verbose=chosen.verbose,
        debug=chosen.debug,
        log_format=chosen.log_format,
    )
