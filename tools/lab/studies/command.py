"""``tools/reproduce.py``: parse, call, print. A user's mistake is one line and exit code 2."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from lab.command_line import Parser, numbers, run_command, study_arguments, study_options
from lab.studies.points import open_sweep, run_sweep
from lab.studies.report import write_report
from lab.studies.sweep import list_sweeps, load_sweep
from lipzoo.errors import ConfigError

__all__ = ["main"]

_KINDS = {
    "depth": "accuracy against the number of layers",
    "missing": "accuracy with and without the features of the nodes that do not train",
    "gradients": "norms of each layer's gradients, at initialisation and in training",
    "untuned": "what share of recipes drawn at random trains",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``reproduce.py ARGV``; the exit code is 0, 2 for a mistake, 130 for Ctrl-C."""
    args = _parser().parse_args(argv)
    return run_command("reproduce", lambda: _reproduce(args), "the same command")


def _reproduce(args: argparse.Namespace) -> None:
    data = args.sweep or args.data
    if args.report:
        content = open_sweep(args.out, args.kind) if data is None else _load(args, data)
    else:
        if data is None:
            raise ConfigError(
                f"say --data (choices: {', '.join(list_sweeps(args.kind))}) or --sweep FILE"
            )
        content = _load(args, data)
        run_sweep(
            content,
            args.out,
            models=args.models.split(",") if args.models else None,
            depths=numbers("--depths", args.depths),
            device=args.device,
            **study_arguments(args),
        )
    print(write_report(content, args.out), end="")


def _load(args: argparse.Namespace, data: str) -> dict:
    return load_sweep(args.kind, data, args.set)[1]


def _parser() -> Parser:
    parser = Parser(
        prog="reproduce.py",
        description="The experiments of Dasoulas et al., ICML 2021. A command that was stopped, "
        "by whatever, goes on when it is given again.",
    )
    commands = parser.add_subparsers(dest="kind", metavar="EXPERIMENT", required=True)
    for kind, help in _KINDS.items():
        sub = commands.add_parser(kind, help=help, description=help)
        known = ", ".join(list_sweeps(kind))
        sub.add_argument("--data", metavar="D", help=f"one of the sweeps here: {known}")
        sub.add_argument("--sweep", metavar="FILE", help="a sweep file of your own instead")
        sub.add_argument("--models", help="only these, such as 'GAT,GAT+LipschitzNorm'")
        sub.add_argument("--depths", help="only these, such as 2,10,30")
        study_options(sub, "recipe.epochs=50")
        sub.add_argument(
            "--device", metavar="D", help="train together on this device, such as cuda"
        )
    return parser
