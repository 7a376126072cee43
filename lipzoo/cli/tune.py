"""``lipzoo tune``."""

from __future__ import annotations

import argparse
import shlex
from typing import Any

from lipzoo.cli.command import numbers, show
from lipzoo.cli.options import (
    add_device,
    add_jobs,
    add_json,
    add_out,
    add_progress,
    verbosity,
)
from lipzoo.cli.recipes import add_any_recipe, any_recipe

HELP = "search for the settings of a recipe, or of an architecture on your data, that do best"
GOES_ON = "the same command"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_json(parser)
    add_any_recipe(parser)
    add_out(parser, "folder of the best recipe, the table of trials and the plots")
    parser.add_argument(
        "--space",
        metavar="FILE",
        default="default",
        help="what varies: a YAML file, or the name of a space that ships with lipzoo",
    )
    parser.add_argument(
        "--trials", type=int, metavar="N", required=True, help="trials that there are in the end"
    )
    parser.add_argument(
        "--storage", metavar="FILE", help="Optuna's SQLite file (default: study.db in --out)"
    )
    parser.add_argument("--seeds", help="of each trial, such as 0..2 (default: the recipe's first)")
    parser.add_argument("--seed", type=int, metavar="N", default=0, help="of the search")
    add_jobs(parser, "trials that are made")
    add_device(parser, "train the seeds of a trial")
    parser.add_argument(
        "--no-pruning", action="store_true", help="go on with trials that fall behind"
    )
    add_progress(parser)


def run(args: argparse.Namespace) -> None:
    from lipzoo.training import load_space, tune

    found = tune(
        any_recipe(args, "tune"),
        load_space(args.space),
        args.out,
        trials=args.trials,
        storage=args.storage,
        seeds=numbers("--seeds", args.seeds),
        seed=args.seed,
        jobs=args.jobs,
        device=args.device,
        prune=not args.no_pruning,
        overwrite=args.overwrite,
        raw_dir=args.raw_dir,
        verbose=verbosity(args),
    )
    show(args, found, _text(args, found))


def _text(args: argparse.Namespace, found: dict[str, Any]) -> str:
    from lipzoo.training.tune_report import COUNTED

    number = sum(found["trials"].get(state, 0) for state in COUNTED)
    failed = found["trials"].get("failed", 0)
    failed = f" ({failed} failed: trials.csv says why)" if failed else ""
    values = "\n".join(f"  {key}: {value}" for key, value in found["values"].items())
    return (
        f"trial {found['trial']} is the best of {number}{failed}: "
        f"{found['metric']} {found['value']:.4f}\n{values}\n"
        f"lipzoo train {shlex.quote(f'{args.out}/best.yaml')} --out DIR trains it"
    )
