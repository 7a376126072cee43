"""``tools/reproduce.py``: parse, call, print. A user's mistake is one line and exit code 2."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from lab.command_line import numbers, run_tool
from lab.studies.report import write_report
from lab.studies.sweep import list_sweeps, load_sweep
from lab.studies.work import open_sweep, run_sweep
from lipzoo.errors import ConfigError

__all__ = ["main"]

_KINDS = {
    "depth": "accuracy against the number of layers",
    "missing": "accuracy with and without the features of the nodes that do not train",
    "gradients": "norms of each layer's gradients, at initialisation and in training",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``reproduce.py ARGV``; the exit code is 0, 2 for a mistake, 130 for Ctrl-C."""
    args = _parser().parse_args(argv)
    return run_tool("reproduce", lambda: _reproduce(args), "the same command")


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
        # Workers are started with it; OpenMP reads it when torch is imported.
        os.environ["OMP_NUM_THREADS"] = "1"
        run_sweep(
            content,
            args.out,
            models=args.models.split(",") if args.models else None,
            depths=numbers("--depths", args.depths),
            seeds=numbers("--seeds", args.seeds),
            jobs=args.jobs,
            raw_dir=args.raw_dir,
            say=lambda line: print(line, flush=True),
        )
    print(write_report(content, args.out), end="")


def _load(args: argparse.Namespace, data: str) -> dict:
    return load_sweep(args.kind, data, args.set)[1]


class _Parser(argparse.ArgumentParser):
    """One line an error, as everywhere else; the usage is a ``--help`` away."""

    def error(self, message: str):
        self.exit(2, f"reproduce: {message}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
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
        sub.add_argument("--out", required=True, help="folder for rows, table and plots")
        sub.add_argument("--jobs", type=int, default=1, help="processes, one thread each")
        sub.add_argument("--models", help="only these, such as 'GAT,GAT+LipschitzNorm'")
        sub.add_argument("--depths", help="only these, such as 2,10,30")
        sub.add_argument("--seeds", help="instead of the sweep's, such as 0..4 or 0,3")
        sub.add_argument(
            "--set",
            metavar="KEY=VALUE",
            action="append",
            default=[],
            help="override a field of the sweep, such as recipe.epochs=50",
        )
        sub.add_argument(
            "--report", action="store_true", help="train nothing: table and plots of what is there"
        )
        sub.add_argument("--raw-dir", help="where DGL's raw data lies (default: DGL_DOWNLOAD_DIR)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
