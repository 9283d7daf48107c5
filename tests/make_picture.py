"""Make the README's picture of a terminal: `python -m tests.make_picture` writes docs/terminal.svg.

The commands are run, in a shell, at a pseudo-terminal; registry and bucket are servers on this machine, behind a proxy
that finds `registry.corp` there. What the screen shows in the end is drawn, line by line.
"""

from __future__ import annotations

import logging
import os
import pty
import re
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from html import escape
from pathlib import Path

from tests.commands import SECONDS, environment
from tests.make_fixtures import TAG, load
from tests.servers.certificate import Authority
from tests.servers.moto import endpoint, moto_server
from tests.servers.proxy import Proxy
from tests.servers.registry import FakeRegistry

PICTURE = Path(__file__).parent.parent / "docs" / "terminal.svg"
IMAGE = f"registry.corp/zones:{TAG}"
COMMANDS = (
    f"ocirootfs inspect {IMAGE} --field digest",
    f"ocirootfs fetch {IMAGE} | ocirootfs pack",
    "tar tzf zones-1.tgz | head -n 6",
    f"ocirootfs pack {IMAGE} -o s3://images/zones/",
)
WIDTH, STEP, MARGIN = 8.4, 19, 16  # of a character, of a line, around them
_PROMPT = "$ "


def screens() -> list[tuple[str, list[str]]]:
    """Run the commands one after the other; give each, and the lines that are on the screen when it has ended."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        variables = environment(**_world(stack, folder))
        return [(command, _shown(command, folder, variables)) for command in COMMANDS]


def _world(stack: ExitStack, folder: Path) -> dict[str, str | None]:
    authority = Authority(folder)
    image = load()
    registry = stack.enter_context(FakeRegistry(tls=authority.server("registry.corp")))
    registry.add("zones", TAG, image.manifest, image.media_type, image.blobs)
    proxy = stack.enter_context(Proxy({"registry.corp:443": registry.host}))
    bucket = stack.enter_context(endpoint(stack.enter_context(moto_server()), "images"))
    (folder / "ocirootfs").write_text(f'#!/bin/sh\nexec {sys.executable} -m ocirootfs "$@"\n')
    (folder / "ocirootfs").chmod(0o755)
    return {
        "PATH": f"{folder}{os.pathsep}{os.environ.get('PATH', os.defpath)}", "TERM": "xterm", "COLUMNS": "96",
        "HTTPS_PROXY": proxy.url, "NO_PROXY": "127.0.0.1", "no_proxy": None, "https_proxy": None,
        "SSL_CERT_FILE": str(authority.ca_file), "AWS_ENDPOINT_URL_S3": bucket.endpoint, "HOME": str(folder),
        "AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "OCIROOTFS_PROGRESS": None,
    }  # fmt: skip


def _shown(command: str, folder: Path, variables: dict[str, str]) -> list[str]:
    ours, theirs = pty.openpty()
    shell = ["/bin/bash", "-c", command]
    with subprocess.Popen(
        shell, cwd=folder, env=variables, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs
    ) as run:
        os.close(theirs)
        said = b""
        try:
            while piece := os.read(ours, 1 << 16):
                said += piece
        except OSError:  # what Linux says when nobody has the other end any more
            os.close(ours)
        if run.wait(SECONDS):
            raise RuntimeError(f"{command}: {said.decode()}")
    return screen(said.decode())


def screen(text: str) -> list[str]:
    """Return the lines that a terminal shows after `text`: \\r goes back to overwrite, and controls are dropped."""
    lines = []
    for line in re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text).replace("\r\n", "\n").split("\n"):
        cells: list[str] = []
        for part in line.split("\r"):
            cells[: len(part)] = part
        lines.append("".join(cells).rstrip())
    return [line for line in lines if line]


def plain(lines: list[str]) -> str:
    """Return the text without what was measured: of a progress bar, all but whose it is and how far it came."""
    return re.sub(r"%\|.*", "%", "\n".join(lines))


def drawn(found: list[tuple[str, list[str]]]) -> str:
    """Draw it; the colours hold on light and dark pages, as the terminal has a ground of its own."""
    rows = [row for command, lines in found for row in (("c", _PROMPT + command), *(("o", line) for line in lines))]
    width = round(max(len(text) for _, text in rows) * WIDTH) + 2 * MARGIN
    height = len(rows) * STEP + 2 * MARGIN
    texts = [
        f'<text class="{kind}" x="{MARGIN}" y="{MARGIN + STEP * place + 14}">{escape(text)}</text>'
        for place, (kind, text) in enumerate(rows)
    ]
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'role="img" aria-label="A terminal with ocirootfs at work">\n'
        "<style>text{font:14px ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace;white-space:pre}"
        ".c{fill:#7ee787}.o{fill:#e6edf3}</style>\n"
        f'<rect x=".5" y=".5" width="{width - 1}" height="{height - 1}" rx="8" fill="#161b22" stroke="#6e7681"/>'
    )
    return "\n".join([head, *texts, "</svg>", ""])


if __name__ == "__main__":
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # the bucket's server would report every request
    PICTURE.write_text(drawn(screens()), encoding="utf-8")
