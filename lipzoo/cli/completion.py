"""``lipzoo completion``."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lipzoo.errors import ConfigError

if TYPE_CHECKING:
    from lipzoo.cli.command import Parser

HELP = "print what makes a shell complete commands, options, names and files"

SHELLS = ("bash", "zsh", "fish")
#: Options whose values are files or folders.
_FILES = {"out", "raw_dir", "run_dir", "space", "storage"}
#: What is a name or a path, by the shell's function that completes it.
_NAMED = {"name": "models", "recipe": "models", "data": "datasets"}
#: Those that `lipzoo.datasets` knows: to ask it would import PyTorch whenever a shell starts.
DATASETS = (
    *("actor", "amazon_computers", "amazon_photo", "amazon_ratings", "breast_cancer"),
    *("chameleon_filtered", "citeseer", "coauthor_cs", "coauthor_physics", "cora", "digits"),
    *("huangpu", "iris", "minesweeper", "ogbn-arxiv", "ogbn-proteins", "pasadena", "ppi"),
    *("pubmed", "questions", "roman_empire", "squirrel_filtered", "tolokers", "wine"),
)

_FUNCTIONS = {
    "bash": """
_lipzoo_{what}() {{
  compgen -W {words} -- "$1"
  compgen -f -- "$1"
}}""",
    "zsh": """
_lipzoo_{what}() {{
  _alternative {choices} 'files:file:_files'
}}""",
    "fish": """
function _lipzoo_{what}
  string split ' ' {words}
  __fish_complete_path (commandline -ct)
end""",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "shell", choices=SHELLS, help='such as: eval "$(lipzoo completion bash)" in ~/.bashrc'
    )


def run(args: argparse.Namespace) -> None:
    try:
        import shtab
    except ImportError:
        raise ConfigError("completion needs shtab: pip install 'lipzoo[completion]'") from None
    from lipzoo.cli import make_parser
    from lipzoo.registry import list_models
    from lipzoo.settings import FREEZE, METRICS

    architectures = list_models()
    models = [*architectures, *list_models(pretrained=True)]
    names = {"models": models, "datasets": DATASETS}
    functions = "".join(_function(args.shell, what, found) for what, found in names.items())
    words = {"architecture": architectures, "pattern": models, "graph": DATASETS}
    parser = _told(make_parser(), shtab.FILE, {**words, "metric": METRICS, "freeze": FREEZE})
    print(shtab.complete(parser, shell=args.shell, preamble={args.shell: functions}))


def _told(parser: Parser, files: dict, words: dict[str, Sequence[str]]) -> Parser:
    """The parser with what completes the values of its arguments."""
    [commands] = [a for a in parser._actions if isinstance(a.choices, dict)]
    for command, options in commands.choices.items():
        for action in options.filled()._actions:
            if action.dest in _FILES:
                action.complete = files
            elif action.dest in words:
                action.choices = _safe(words[action.dest])
            elif action.dest in _NAMED and command != "new":  # whose name is none yet
                function = f"_lipzoo_{_NAMED[action.dest]}"
                action.complete = {"bash": function, "zsh": function, "fish": f"({function})"}
    return parser


def _function(shell: str, what: str, names: Sequence[str]) -> str:
    words = " ".join(_safe(names))
    return _FUNCTIONS[shell].format(
        what=what, words=shlex.quote(words), choices=shlex.quote(f"{what}:{what[:-1]}:({words})")
    )


def _safe(names: Sequence[str]) -> list[str]:
    """Names that mean nothing to a shell: those of one's own folders may be anything."""
    return [name for name in names if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*", name)]
