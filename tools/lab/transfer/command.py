"""``tools/transfer.py``: parse, call, print. A user's mistake is one line and exit code 2."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from lab.command_line import Parser, numbers, run_command, study_arguments, study_options
from lab.engine import open_study
from lab.transfer.points import TRANSFER, run_study
from lab.transfer.report import write_report
from lab.transfer.splits import PUBLISHED
from lab.transfer.study import load_study

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``transfer.py ARGV``; the exit code is 0, 2 for a mistake, 130 for Ctrl-C."""
    args = _parser().parse_args(argv)
    return run_command("transfer", lambda: _transfer(args), "the same command")


def _transfer(args: argparse.Namespace) -> None:
    if args.report:
        content = open_study(TRANSFER, args.out)
    else:
        content = load_study(args.study, args.set)[1]
        run_study(
            content,
            args.out,
            targets=args.targets.split(",") if args.targets else None,
            methods=args.methods.split(",") if args.methods else None,
            labels=_labels(args.labels),
            **study_arguments(args),
        )
    print(write_report(content, args.out), end="")


def _labels(text: str | None) -> list[int | str] | None:
    if text is None:
        return None
    counts = [count for count in text.split(",") if count != PUBLISHED]
    found = numbers("--labels", ",".join(counts)) if counts else []
    return [*found, *[PUBLISHED] * (PUBLISHED in text.split(","))]


def _parser() -> Parser:
    parser = Parser(
        prog="transfer.py",
        description="Measure pretrained weights on graphs that they have not seen, at few labels. "
        "A command that was stopped, by whatever, goes on when it is given again.",
    )
    parser.add_argument(
        "--study", default="few_labels", help="a file, or the name of one in configs/"
    )
    parser.add_argument("--targets", help="only these graphs, such as cora,citeseer")
    parser.add_argument("--methods", help="only these, such as 'fine-tuned,from scratch'")
    parser.add_argument("--labels", help="only these numbers a class, such as 5,20,published")
    study_options(parser, "fit.epochs=50")
    return parser
