"""The command line ``lipzoo``: one file a command; nothing heavy is imported before it is needed.

Each command's module has ``HELP`` (one line), ``add_arguments(parser)`` and ``run(args)``; one
whose work can be stopped may have ``GOES_ON``, which says what goes on with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from lipzoo import __version__
from lipzoo.cli.command import Parser, run_command

__all__ = ["COMMANDS", "main", "make_parser"]

COMMANDS = (
    "list",
    "info",
    "train",
    "tune",
    "partition",
    "evaluate",
    "finetune",
    "predict",
    "export",
    "convert",
    "certify",
    "report",
    "new",
    "copy",
    "push",
    "demo",
    "completion",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``lipzoo ARGV`` and return the exit code: 0, 2 for a user's mistake, 130 for Ctrl-C."""
    args = make_parser().parse_args(argv)
    return run_command("lipzoo", lambda: args.run(args), args.goes_on)


def make_parser() -> Parser:
    """The parser of the whole command line; a command's own options are added when it is asked."""
    parser = Parser(
        prog="lipzoo", description="A model zoo of deep graph attention networks on DGL."
    )
    parser.add_argument("--version", action="version", version=f"lipzoo {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in COMMANDS:
        module = import_module(f"lipzoo.cli.{name}")
        sub = commands.add_parser(
            name, help=module.HELP, description=module.HELP, fill=module.add_arguments
        )
        sub.set_defaults(run=module.run, goes_on=getattr(module, "GOES_ON", None))
    return parser
