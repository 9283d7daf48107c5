"""`ocirootfs check`."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import ocirootfs
from ocirootfs.cli import bucket, console, options
from ocirootfs.consumer.finding import Severity
from ocirootfs.errors import InputError, UsageError

if TYPE_CHECKING:
    import argparse

    from ocirootfs.checking import Checked
    from ocirootfs.consumer.finding import Finding

_EXAMPLES = """\
An archive is read once, as the S3 resource (with unpack), the worker and the
task read it, and nothing is unpacked.

findings:
  breaks      no task starts, with GNU tar and gunzip, with busybox's, or both
  differs     a task starts, and finds another thing with one of them
  note        worth knowing

examples:
  ocirootfs check ubuntu-17.04.tgz
  ocirootfs check s3://images/ubuntu/ubuntu-17.04.tgz \\
    --regexp 'ubuntu/ubuntu-(.*).tgz'
  tar cz metadata.json rootfs | ocirootfs check - --name ubuntu-17.04.tgz
  ocirootfs check app.tgz --json | jq -r '.findings[].code'

exit status:
  0 a task would start   6 it would not, or not with every tar
"""


def add_to(words: argparse.ArgumentParser) -> None:
    """Add what the verb says of itself, and its options."""
    words.description = "Say what Concourse will make of an archive, and what will break."
    words.epilog = _EXAMPLES
    words.add_argument(
        "source", metavar="ARCHIVE", nargs="?", default="-", help="a path, s3://BUCKET/KEY; -: standard input (default)"
    )
    words.add_argument("--name", metavar="NAME", help="what it will be called, if not as it is: gunzip goes by that")
    words.add_argument("--regexp", metavar="RE", help="of the S3 resource: say which version it finds in the key")
    words.add_argument("--json", action="store_true", help="print all of it as one object")
    bucket.add_reading_to(words)
    options.add_common(words)
    words.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> None:
    """Check one archive."""
    if chosen.source == "-" and sys.stdin.isatty():
        raise UsageError("no ARCHIVE, and standard input is a terminal", hint="ocirootfs check ubuntu-17.04.tgz")
    checked = ocirootfs.check(
        chosen.source,
        regexp=chosen.regexp,
        name=chosen.name,
        s3_options=bucket.reading_options(chosen) if chosen.source.startswith("s3://") else None,
    )
    what = "standard input" if chosen.source == "-" else chosen.source
    if chosen.json:
        print(as_json(what, checked))
    else:
        for finding in checked.findings:
            print(_as_text(finding))
        print(_summary(what, checked))
    if not checked.starts:
        broken = [finding.code for finding in checked.findings if finding.severity is Severity.BREAKS]
        raise InputError(f"{console.escaped(what)}: no task is sure to start from it: {', '.join(broken)}")


def as_json(what: str, checked: Checked) -> str:
    """Return all that was found as one line of JSON."""
    return json.dumps(
        {
            "source": what,
            "starts": checked.starts,
            "version": checked.version,
            "user": checked.user._asdict() if checked.user else None,
            "compressed": checked.compressed,
            "expanded": checked.expanded,
            "files": checked.files,
            "entries": checked.entries,
            "disk_peak": checked.peak,
            "findings": [
                {
                    "code": finding.code,
                    "severity": finding.severity,
                    "what": finding.what,
                    "where": finding.where,
                    "count": finding.count,
                    "hint": finding.rule.hint or None,
                    "gnu": finding.rule.gnu,
                    "busybox": finding.rule.busybox,
                }
                for finding in checked.findings
            ],
        }
    )


def _as_text(finding: Finding) -> str:
    more = finding.count - len(finding.where)
    where = ", ".join(f"'{place}'" for place in finding.where) + (
        f", and {more} more" if finding.where and more else ""
    )
    lines = [f"{finding.severity}: {finding.what} [{finding.code}]"]
    lines += [f"  where: {where}"] if where else []
    if finding.rule.gnu is not finding.rule.busybox:
        lines.append(f"  with: GNU {finding.rule.gnu}, busybox {finding.rule.busybox}")
    lines += [f"  hint: {finding.rule.hint}"] if finding.rule.hint else []
    return "\n".join(lines)


def _summary(what: str, checked: Checked) -> str:
    facts = [f"a task {'would start' if checked.starts else 'is not sure to start'}"]
    facts += [f"as {checked.user.uid}:{checked.user.gid}"] if checked.user and checked.starts else []
    said = f"{console.escaped(what)}: {' '.join(facts)}"
    if checked.version is not None:
        said += f"; version {console.escaped(checked.version)}"
    return (
        f"{said}; {checked.entries} entries, {checked.compressed} bytes, {checked.expanded} unpacked, for a time "
        f"{checked.peak} on the worker's disk"
    )
