"""``lipzoo train``."""

from __future__ import annotations

import argparse
from typing import Any

from lipzoo.cli.command import numbers, show
from lipzoo.cli.options import (
    add_device,
    add_jobs,
    add_json,
    add_out,
    add_quiet,
    add_raw_dir,
    add_recipe,
)

HELP = "train a recipe over its seeds"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_json(parser)
    add_recipe(parser)
    add_out(parser, "folder of the run")
    parser.add_argument("--seeds", help="such as 0..9 or 0,3 (default: the recipe's)")
    parser.add_argument("--resume", action="store_true", help="go on with a run that was stopped")
    parser.add_argument("--baselines", action="store_true", help="train the recipe's baselines too")
    add_jobs(parser, "seeds that are trained")
    add_device(parser, "train all seeds")
    add_raw_dir(parser)
    add_quiet(parser)


def run(args: argparse.Namespace) -> None:
    from lipzoo.training import load_recipe, train

    summary = train(
        load_recipe(args.recipe, args.set),
        args.out,
        seeds=numbers("--seeds", args.seeds),
        resume=args.resume,
        overwrite=args.overwrite,
        baselines=args.baselines,
        jobs=args.jobs,
        device=args.device,
        raw_dir=args.raw_dir,
        verbose=not args.quiet and not args.json,
    )
    show(args, summary, f"{_text(summary)}\nlipzoo export {args.out} writes the weights")


def _text(summary: dict[str, Any]) -> str:
    lines = []
    groups = {summary["name"]: summary["metrics"], **summary.get("baselines", {})}
    for name, metrics in groups.items():
        lines.append(f"{name}, {len(next(iter(metrics.values()))['values'])} seeds")
        lines += [f"  {m:<16} {v['mean']:.4f} ± {v['std']:.4f}" for m, v in metrics.items()]
    return "\n".join(lines)
