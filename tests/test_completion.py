"""What shells complete, and the manual page."""

from __future__ import annotations

import os
import pty
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests import make_man
from tests.commands import run_here

if TYPE_CHECKING:
    from pathlib import Path


def script(shell: str) -> str:
    return run_here("completion", shell).ok.out.decode()


@pytest.fixture(scope="module")
def bash_script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bash") / "ocirootfs.bash"
    path.write_text(script("bash"))
    return path


def typed(keys: str, source: Path, here: Path) -> str:
    """Type a line in a real bash, at a real terminal, and return the words of the command that it ran."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        ["bash", "--norc", "--noprofile", "-i"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=here,
        start_new_session=True,
        env={"PATH": os.environ["PATH"], "TERM": "dumb", "PS1": "", "INPUTRC": os.devnull, "HOME": str(here)},
    ) as bash:
        os.close(theirs)
        setup = f"stty -echo; source {source}; ocirootfs() {{ printf '[%s]' \"$@\" > words; }}\n"
        os.write(ours, f"{setup}ocirootfs {keys}\nexit\n".encode())
        try:
            while os.read(ours, 1 << 16):
                pass
        except OSError:  # how Linux says that bash has closed its end
            pass
        assert bash.wait(20) == 0
    os.close(ours)
    return (here / "words").read_text()


# What is typed (a tab completes), and the words that come of it.
TYPED = [
    ("pac\t", "[pack]"),
    ("ins\t--fi\tdig\t", "[inspect][--field][digest]"),
    ("pack --lay\troo\t", "[pack][--layout][rootfs]"),
    ("pack --layout=roo\t", "[pack][--layout=rootfs]"),
    ("pack --source-date-\t1", "[pack][--source-date-epoch][1]"),
    ("fetch --all-\t", "[fetch][--all-platforms]"),
    ("pack ./ima\t-o a.tgz", "[pack][./image.tar][-o][a.tgz]"),
    ("pack x --ca-file ima\t", "[pack][x][--ca-file][image.tar]"),
    ("completion zs\t", "[completion][zsh]"),
    ("ls x --progress pl\t", "[ls][x][--progress][plain]"),
    ("ls x --limit win\t1G --limit=ent\t9", "[ls][x][--limit][window=1G][--limit=entries=9]"),
]


@pytest.mark.parametrize(("keys", "words"), TYPED)
def test_bash_completes(keys: str, words: str, bash_script: Path, tmp_path: Path) -> None:
    (tmp_path / "image.tar").touch()
    assert typed(keys, bash_script, tmp_path) == words


def typed_in_zsh(keys: str, here: Path) -> str:
    """The same in a real zsh, whose line editor reads the keys."""
    (here / "_ocirootfs.zsh").write_text(script("zsh"))
    setup = "autoload -Uz compinit; compinit -D -u; source ./_ocirootfs.zsh; ocirootfs() { printf '[%s]' $@ > words }\n"
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        ["zsh", "-f", "-i"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=here,
        start_new_session=True,
        env={"PATH": os.environ["PATH"], "TERM": "xterm", "HOME": str(here)},
    ) as zsh:
        os.close(theirs)
        os.write(ours, f"{setup}ocirootfs {keys}\nexit\n".encode())
        shown = b""
        try:
            while read := os.read(ours, 1 << 16):
                shown += read
        except OSError:
            pass
        zsh.wait(20)
    os.close(ours)
    assert b"parse error" not in shown
    assert b"not found" not in shown
    return (here / "words").read_text()


@pytest.mark.skipif(shutil.which("zsh") is None, reason="no zsh")
@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ("pac\t", "[pack]"),
        ("ins\t--fi\tdig\t", "[inspect][--field=digest]"),
        ("--ver\t", "[--version]"),
        ("pack --layout=reso\t", "[pack][--layout=resource-type]"),
        ("pack --layout reso\t", "[pack][--layout][resource-type]"),
        ("pack --sse aws:kms:\t", "[pack][--sse][aws:kms:dsse]"),
        ("pack --sse=AE\t", "[pack][--sse=AES256]"),
        ("completion zs\t", "[completion][zsh]"),
    ],
)
def test_zsh_completes(keys: str, words: str, tmp_path: Path) -> None:
    assert typed_in_zsh(keys, tmp_path) == words


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_accept_their_script(shell: str) -> None:
    text = script(shell)
    for word in ("pack", "inspect", "all-platforms", "concourse rootfs"):
        assert word in text
    if shutil.which(shell) is None:
        pytest.skip(f"'{shell}' is not installed")
    subprocess.run([shell, "-n"], input=text.encode(), check=True, timeout=20)


def test_another_shell() -> None:
    ran = run_here("completion", "zhs")
    assert (ran.status, "there is no 'zhs', did you mean zsh?" in ran.err) == (2, True), ran.err


def test_the_manual_page_is_what_its_script_makes() -> None:
    """`python -m tests.make_man` makes it anew."""
    assert make_man.PAGE.read_text(encoding="ascii") == make_man.page()


@pytest.mark.skipif(shutil.which("groff") is None, reason="'groff' is not installed")
def test_the_manual_page_is_one() -> None:
    command = ["groff", "-man", "-Tascii", "-ww", str(make_man.PAGE)]
    ran = subprocess.run(command, capture_output=True, check=True, timeout=20)
    assert ran.stderr == b""
    assert b"--all-platforms" in re.sub(rb".\x08", b"", ran.stdout)  # bold is struck twice
