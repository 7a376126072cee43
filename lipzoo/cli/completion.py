"""``lipzoo completion``."""

from __future__ import annotations

import argparse

from lipzoo.errors import ConfigError

HELP = "print what makes a shell complete commands, options and files"

SHELLS = ("bash", "zsh", "fish")
#: Options whose values are files or folders.
_FILES = {"data", "out", "raw_dir", "recipe", "run_dir", "space", "storage"}


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

    parser = make_parser()
    [commands] = [a for a in parser._actions if isinstance(a.choices, dict)]
    for command in commands.choices.values():
        for action in command.filled()._actions:
            if action.dest in _FILES:
                action.complete = shtab.FILE
    print(shtab.complete(parser, shell=args.shell))
