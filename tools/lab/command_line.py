"""What the command lines of ``tools/`` share: exit codes, one line an error, lists of numbers."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from typing import Any

from lipzoo.errors import ConfigError, LipzooError
from lipzoo.training.recipe import parse_seeds

__all__ = ["Parser", "numbers", "run_tool", "study_arguments", "study_options"]


class Parser(argparse.ArgumentParser):
    """One line an error, as everywhere else; the usage is a ``--help`` away."""

    def error(self, message: str):
        name = self.prog.partition(".py")[0]
        self.exit(2, f"{name}: {message}; see {self.prog} --help\n")

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


def run_tool(name: str, work: Callable[[], None], goes_on: str) -> int:
    """Do ``work``; the exit code is 0, 2 for a mistake, said in one line, and 130 for Ctrl-C.

    ``name`` stands before a message; ``goes_on`` is the command that goes on with stopped work.
    """
    try:
        work()
    except LipzooError as fault:
        print(f"{name}: {' '.join(str(fault).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{name}: stopped; {goes_on} goes on", file=sys.stderr)
        return 130
    return 0


def numbers(option: str, text: str | None) -> list[int] | None:
    """``2,10,30`` or ``0..4`` of an option such as ``--depths``; None where it is not given.

    Raises
    ------
    ConfigError
        If it is no such list.
    """
    try:
        return None if text is None else parse_seeds(text)
    except ValueError as fault:
        words = str(fault).replace("seeds", option.removeprefix("--"))
        raise ConfigError(f"{option}: {words}") from None
