"""``lipzoo train``."""

from __future__ import annotations

import argparse
import shlex
from typing import TYPE_CHECKING, Any

from lipzoo._tables import figure_lines
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
from lipzoo.errors import ConfigError

if TYPE_CHECKING:
    from lipzoo.training import Recipe

HELP = "train a recipe, or an architecture on your data, over seeds"
GOES_ON = "the same command with --resume"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_json(parser)
    add_any_recipe(parser)
    add_out(parser, "folder of the run")
    parser.add_argument("--seeds", help="such as 0..9 or 0,3 (default: the recipe's)")
    parser.add_argument(
        "--resume", action="store_true", help="go on with a run, also to more --epochs"
    )
    parser.add_argument("--baselines", action="store_true", help="train the recipe's baselines too")
    add_jobs(parser, "seeds that are trained")
    add_device(parser, "train all seeds")
    parser.add_argument(
        "--parts",
        metavar="DIR",
        help="with torchrun or --engine: what lipzoo partition wrote of the data",
    )
    parser.add_argument(
        "--engine",
        choices=("distdgl",),
        help="train by DistDGL, a server and a trainer for each of --parts",
    )
    parser.add_argument(
        "--ip-config",
        metavar="FILE",
        help="with --engine: a line IP [PORT] for each part (default: all on this host)",
    )
    add_progress(parser)


def run(args: argparse.Namespace) -> None:
    recipe = any_recipe(args, "train")
    options = {
        "seeds": numbers("--seeds", args.seeds),
        "resume": args.resume,
        "overwrite": args.overwrite,
        "baselines": args.baselines,
        "jobs": args.jobs,
        "device": args.device,
        "raw_dir": args.raw_dir,
        "verbose": verbosity(args),
    }
    train = _train if args.engine is None and args.ip_config is None else _train_distdgl
    summary = train(recipe, args, options)
    if summary is None:  # another process, or host, has it
        return
    show(
        args, summary, f"{_text(summary)}\nlipzoo export {shlex.quote(args.out)} writes the weights"
    )


def _train(
    recipe: Recipe, args: argparse.Namespace, options: dict[str, Any]
) -> dict[str, Any] | None:
    """In this process, or as one of those that torchrun started."""
    from lipzoo.training import train
    from lipzoo.training.ranks import is_one_of_several, joined
    from lipzoo.training.run_seed import follow

    if args.parts is not None and not is_one_of_several():
        raise ConfigError(
            "--parts: is for several processes: torchrun --nproc-per-node P -m lipzoo.cli train …, "
            "or --engine distdgl"
        )
    with joined() as ranks:
        if ranks is not None:
            ranks.agree(recipe.full_name, recipe.to_dict())
            if args.parts is not None:
                ranks.read_parts(args.parts)
            if not ranks.is_first:
                follow(ranks, args.raw_dir)
                return None
        return train(recipe, args.out, ranks=ranks, **options)


def _train_distdgl(
    recipe: Recipe, args: argparse.Namespace, options: dict[str, Any]
) -> dict[str, Any] | None:
    """By servers and trainers that are started here."""
    from lipzoo.training.distdgl import train_distdgl

    if args.engine is None or args.parts is None:
        raise ConfigError("--engine distdgl goes with --parts DIR, and --ip-config with both")
    return train_distdgl(recipe, args.out, args.parts, ip_config=args.ip_config, **options)


def _text(summary: dict[str, Any]) -> str:
    lines = []
    groups = {summary["name"]: summary["metrics"], **summary.get("baselines", {})}
    for name, metrics in groups.items():
        count = len(next(iter(metrics.values()))["values"])
        lines.append(f"{name}, {count} seed{'s' * (count != 1)}")
        lines += figure_lines({m: (v["mean"], v["std"], count) for m, v in metrics.items()})
    return "\n".join(lines)
