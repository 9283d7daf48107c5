"""`ocirootfs completion`: scripts that complete the command line, made from its parser."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ocirootfs import cli
from ocirootfs.cli import options
from ocirootfs.limits import names

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Iterator, Mapping

_EXAMPLES = """\
examples:
  source <(ocirootfs completion bash)                    # in ~/.bashrc
  source <(ocirootfs completion zsh)                     # in ~/.zshrc
  ocirootfs completion fish > ~/.config/fish/completions/ocirootfs.fish
"""


@dataclass(frozen=True, slots=True)
class Option:
    """One option: its spellings, what it takes (None: nothing), among what, and what it is for."""

    names: tuple[str, ...]
    takes: str | None
    choices: tuple[str, ...]
    help: str


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb: what it does, its options, and among what its arguments are."""

    name: str
    help: str
    options: tuple[Option, ...]
    choices: tuple[str, ...]


def add_to(words: argparse.ArgumentParser) -> None:
    """Add what the verb says of itself, and its options."""
    words.description = "Print a script that makes a shell complete ocirootfs commands."
    words.epilog = _EXAMPLES
    words.add_argument("shell", metavar="SHELL", choices=tuple(SCRIPTS), help=", ".join(SCRIPTS))
    options.add_common(words)
    words.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> None:
    """Print the script."""
    print(SCRIPTS[chosen.shell](verbs_of(cli.parser().verbs())), end="")


def verbs_of(parsers: Mapping[str, argparse.ArgumentParser]) -> list[Verb]:
    """Return what the parsers of the verbs know."""
    return [_verb(name, words) for name, words in parsers.items()]


def _verb(name: str, words: argparse.ArgumentParser) -> Verb:
    actions = words._actions  # noqa: SLF001  # argparse has no public way to list them
    choices = [str(choice) for action in actions if not action.option_strings for choice in action.choices or ()]
    found = tuple(_option(action) for action in actions if action.option_strings)
    return Verb(name, words.description or "", found, tuple(choices))


def _option(action: argparse.Action) -> Option:
    takes = None if action.nargs == 0 else str(action.metavar or "VALUE")
    return Option(
        tuple(action.option_strings),
        takes,
        tuple(map(str, action.choices or _beginnings(action))),
        (action.help or "").partition(";")[0],
    )


def _beginnings(action: argparse.Action) -> list[str]:
    """Return how values begin where a name and `=` come first."""
    return [f"{name}=" for name in names()] if "--limit" in action.option_strings else []


_ALONE = ("--help", "--version")  # what stands where a verb would


def _bash(verbs: list[Verb]) -> str:
    names = [verb.name for verb in verbs]
    return f"""\
# bash completion for ocirootfs: source <(ocirootfs completion bash)
_ocirootfs() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD - 1]}} verb='' words='' at
    if [[ $cur == '=' ]]; then cur=''; elif [[ $prev == '=' ]]; then prev=${{COMP_WORDS[COMP_CWORD - 2]}}; fi
    for ((at = 1; at < COMP_CWORD; at++)); do
        case ${{COMP_WORDS[at]}} in {"|".join(names)}) verb=${{COMP_WORDS[at]}}; break ;; esac
    done
    case $verb:$prev in
{_lines(_bash_value(verb, option) for verb in verbs for option in verb.options if option.takes)}
    *)
        case $verb:$cur in
        :*) words='{" ".join([*names, *_ALONE])}' ;;
{_lines(_bash_verb(verb) for verb in verbs)}
        esac
        ;;
    esac
    # Where there are no words, files are completed.
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}}
complete -o bashdefault -o default -F _ocirootfs ocirootfs
"""


def _bash_value(verb: Verb, option: Option) -> str:
    patterns = "|".join(f"{verb.name}:{name}" for name in option.names)
    glued = "compopt -o nospace; " if _are_beginnings(option) else ""
    return f"    {patterns}) {glued}words='{' '.join(option.choices)}' ;;"


def _are_beginnings(option: Option) -> bool:
    return any(choice.endswith("=") for choice in option.choices)


def _bash_verb(verb: Verb) -> str:
    names = " ".join(name for option in verb.options for name in option.names)
    lines = [f"        {verb.name}:-*) words='{names}' ;;"]
    if verb.choices:
        lines.append(f"        {verb.name}:*) words='{' '.join(verb.choices)}' ;;")
    return "\n".join(lines)


def _zsh(verbs: list[Verb]) -> str:
    return f"""\
#compdef ocirootfs
# zsh completion for ocirootfs: source <(ocirootfs completion zsh)
_ocirootfs() {{
    local -a verbs=(
{_lines(f"        {_quoted(f'{verb.name}:{verb.help}')}" for verb in verbs)}
    )
    if (( CURRENT == 2 )); then
        local -a alone=({" ".join(_ALONE)})
        _describe verb verbs -- alone
        return
    fi
    local verb=$words[2]
    shift words
    (( CURRENT-- ))
    case $verb in
{_lines(_zsh_verb(verb) for verb in verbs)}
    esac
}}
if [[ $funcstack[1] == _ocirootfs ]]; then
    _ocirootfs "$@"
else
    compdef _ocirootfs ocirootfs
fi
"""


def _zsh_verb(verb: Verb) -> str:
    specs = [_quoted(spec) for option in verb.options for spec in _zsh_specs(option)]
    specs.append(_quoted(f"*::argument:({' '.join(verb.choices)})" if verb.choices else "*::argument:_files"))
    lines = _lines((f"            {spec}" for spec in specs), " \\")
    return f"    {verb.name})\n        _arguments \\\n{lines}\n        ;;"


def _zsh_specs(option: Option) -> Iterator[str]:
    text = option.help.replace("[", "(").replace("]", ")").replace(":", " ")
    value = ""
    if option.takes:
        choices = " ".join(option.choices).replace(":", "\\:")
        value = f":value:({choices})" if choices else ":value:_files"
        if _are_beginnings(option):
            value = f":value:{{compadd -S '' {choices}}}"
    for name in option.names:
        equals = "=" if option.takes and name.startswith("--") else ""
        yield f"*{name}{equals}[{text}]{value}"


def _fish(verbs: list[Verb]) -> str:
    def verb_line(verb: Verb) -> str:
        return f"complete -c ocirootfs -n __fish_use_subcommand -f -a {verb.name} -d {_fish_quoted(verb.help)}"

    def option_lines(verb: Verb) -> Iterator[str]:
        condition = f"complete -c ocirootfs -n '__fish_seen_subcommand_from {verb.name}'"
        if verb.choices:
            yield f"{condition} -f -a '{' '.join(verb.choices)}'"
        for option in verb.options:
            names = " ".join(f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names)
            value = f" -x -a '{' '.join(option.choices)}'" if option.choices else " -r" if option.takes else ""
            yield f"{condition} {names}{value} -d {_fish_quoted(option.help)}"

    lines = [f"complete -c ocirootfs -n __fish_use_subcommand -l {name[2:]}" for name in _ALONE]
    lines += [line for verb in verbs for line in (verb_line(verb), *option_lines(verb))]
    return _lines(["# fish completion for ocirootfs", *lines, ""])


SCRIPTS: Mapping[str, Callable[[list[Verb]], str]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}


def _lines(lines: Iterable[str], joint: str = "") -> str:
    return f"{joint}\n".join(lines)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
