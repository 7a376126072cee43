"""``tools/pretrain.py``: parse, call, print. A user's mistake is one line and exit code 2."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from lab.command_line import Parser, run_command
from lab.pretraining.loop import pretrain
from lab.pretraining.recipe import load_pretraining

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``pretrain.py ARGV``; the exit code is 0, 2 for a mistake, 130 for Ctrl-C."""
    args = _parser().parse_args(argv)
    return run_command("pretrain", lambda: _pretrain(args), "the same command with --resume")


def _pretrain(args: argparse.Namespace) -> None:
    folder = pretrain(
        load_pretraining(args.recipe, args.set),
        args.out,
        raw_dir=args.raw_dir,
        resume=args.resume,
        overwrite=args.overwrite,
        say=lambda line: print(line, flush=True),
    )
    print(folder)


def _parser() -> Parser:
    parser = Parser(
        prog="pretrain.py", description="Pretrain a body over several graphs, by a recipe."
    )
    parser.add_argument("recipe", help="a file, a card, or the name of one in configs/")
    parser.add_argument("--out", required=True, help="folder of the run")
    parser.add_argument("--resume", action="store_true", help="go on with the run in the folder")
    parser.add_argument("--overwrite", action="store_true", help="start anew in the folder")
    parser.add_set("epochs=50")
    parser.add_raw_dir()
    return parser
