"""``tools/pretrain.py``: parse, call, print. A user's mistake is one line and exit code 2."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial

from lab.command_line import Parser, run_command
from lab.pretraining.in_context import pretrain_in_context
from lab.pretraining.loop import pretrain
from lab.pretraining.recipe import ContextRecipe, load_pretraining

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``pretrain.py ARGV``; the exit code is 0, 2 for a mistake, 130 for Ctrl-C."""
    args = _parser().parse_args(argv)
    return run_command("pretrain", lambda: _pretrain(args), "the same command with --resume")


def _pretrain(args: argparse.Namespace) -> None:
    recipe = load_pretraining(args.recipe, args.set)
    options = {"resume": args.resume, "overwrite": args.overwrite}
    options["say"] = partial(print, flush=True)
    if isinstance(recipe, ContextRecipe):
        print(pretrain_in_context(recipe, args.out, ahead=args.ahead, **options))
    else:
        print(pretrain(recipe, args.out, raw_dir=args.raw_dir, **options))


def _parser() -> Parser:
    parser = Parser(
        prog="pretrain.py",
        description="Pretrain over several graphs, or on drawn tasks, by a recipe.",
    )
    parser.add_argument("recipe", help="a file, a card, or the name of one in configs/")
    parser.add_argument("--out", required=True, help="folder of the run")
    parser.add_argument("--resume", action="store_true", help="go on with the run in the folder")
    parser.add_argument("--overwrite", action="store_true", help="start anew in the folder")
    parser.add_argument(
        "--ahead",
        type=int,
        choices=(0, 1),
        default=0,
        help="processes that draw tasks ahead, of a recipe with a prior; the weights are the same",
    )
    parser.add_set("epochs=50")
    parser.add_raw_dir()
    return parser
