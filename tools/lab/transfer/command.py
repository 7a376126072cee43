"""``tools/transfer.py``: parse, call, print. A user's mistake is one line and exit code 2."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from lab.command_line import numbers, run_tool
from lab.transfer.report import write_report
from lab.transfer.run import open_study, run_study
from lab.transfer.study import load_study

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``transfer.py ARGV``; the exit code is 0, 2 for a mistake, 130 for Ctrl-C."""
    args = _parser().parse_args(argv)
    return run_tool("transfer", lambda: _transfer(args), "the same command")


def _transfer(args: argparse.Namespace) -> None:
    if args.report:
        content = open_study(args.out)
    else:
        content = load_study(args.study, args.set)[1]
        # Workers are started with it; OpenMP reads it when torch is imported.
        os.environ["OMP_NUM_THREADS"] = "1"
        run_study(
            content,
            args.out,
            jobs=args.jobs,
            raw_dir=args.raw_dir,
            say=lambda line: print(line, flush=True),
            targets=args.targets.split(",") if args.targets else None,
            methods=args.methods.split(",") if args.methods else None,
            labels=numbers("--labels", args.labels),
            seeds=numbers("--seeds", args.seeds),
        )
    print(write_report(content, args.out), end="")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="transfer.py",
        description="Measure pretrained weights on graphs that they have not seen, at few labels. "
        "A command that was stopped, by whatever, goes on when it is given again.",
    )
    parser.add_argument(
        "--study", default="few_labels", help="a file, or the name of one in configs/"
    )
    parser.add_argument("--out", required=True, help="folder for rows, table and plot")
    parser.add_argument("--jobs", type=int, default=1, help="processes, one thread each")
    parser.add_argument("--targets", help="only these graphs, such as cora,citeseer")
    parser.add_argument("--methods", help="only these, such as 'fine-tuned,from scratch'")
    parser.add_argument("--labels", help="only these numbers a class, such as 5,20")
    parser.add_argument("--seeds", help="instead of the study's, such as 0..4")
    parser.add_argument(
        "--set", metavar="KEY=VALUE", action="append", default=[], help="override a field"
    )
    parser.add_argument("--report", action="store_true", help="train nothing: table and plot")
    parser.add_argument("--raw-dir", help="where DGL's raw data lies (default: DGL_DOWNLOAD_DIR)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
