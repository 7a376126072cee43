"""What the command lines of ``tools/`` share, beside what they have of ``lipzoo``'s own."""

from __future__ import annotations

import argparse
import os
from typing import Any

from lipzoo.cli import command
from lipzoo.cli.command import numbers, run_command

__all__ = ["Parser", "numbers", "run_command", "study_arguments", "study_options"]


class Parser(command.Parser):
    """``lipzoo``'s, with the options that several tools have."""

    def add_set(self, example: str) -> None:
        """``--set KEY=VALUE``, which may stand several times."""
        help = f"override a field, such as {example}"
        self.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], help=help)

    def add_raw_dir(self) -> None:
        """``--raw-dir``, as ``lipzoo`` has it."""
        help = "where DGL's raw data lies (default: DGL_DOWNLOAD_DIR)"
        self.add_argument("--raw-dir", help=help)


def study_options(parser: Parser, example: str) -> None:
    """What the commands of all studies take."""
    parser.add_argument("--out", required=True, help="folder for rows, table and plots")
    parser.add_argument("--jobs", type=int, default=1, help="processes, one thread each")
    parser.add_argument("--seeds", help="instead of the study's, such as 0..4 or 0,3")
    parser.add_argument("--report", action="store_true", help="train nothing: table and plots")
    parser.add_set(example)
    parser.add_raw_dir()


def study_arguments(args: argparse.Namespace) -> dict[str, Any]:
    """What ``run_sweep`` and ``run_study`` take of these; workers are to have one thread."""
    # OpenMP reads it when a worker imports torch.
    os.environ["OMP_NUM_THREADS"] = "1"
    return {
        "jobs": args.jobs,
        "seeds": numbers("--seeds", args.seeds),
        "raw_dir": args.raw_dir,
        "say": lambda line: print(line, flush=True),
    }
