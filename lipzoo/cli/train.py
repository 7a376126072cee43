"""``lipzoo train``."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from lipzoo._tables import figure_lines
from lipzoo.cli.command import numbers, show
from lipzoo.cli.options import (
    add_batching,
    add_data,
    add_device,
    add_jobs,
    add_json,
    add_metric,
    add_out,
    add_progress,
    add_recipe,
    batching_of,
    data_options,
    verbosity,
)
from lipzoo.errors import ConfigError

if TYPE_CHECKING:
    from lipzoo.training import Recipe

HELP = "train a recipe, or an architecture on your data, over seeds"
GOES_ON = "the same command with --resume"

#: Fields of a recipe that are options: name, field, type, what stands for a value, text.
_FIELDS: tuple[tuple[str, str, type, str, str], ...] = (
    ("epochs", "epochs", int, "N", "epochs at most"),
    ("lr", "optimizer.lr", float, "X", "learning rate"),
    ("weight_decay", "optimizer.weight_decay", float, "X", "weight decay"),
    (
        "patience",
        "early_stopping.patience",
        int,
        "N",
        "epochs without a better validation result",
    ),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_json(parser)
    add_recipe(parser, required=False)
    parser.add_argument(
        "--architecture", metavar="NAME", help="train this one on --data, without a recipe"
    )
    add_data(parser, "with --architecture: what to train on")
    add_metric(parser)
    add_out(parser, "folder of the run")
    parser.add_argument("--seeds", help="such as 0..9 or 0,3 (default: the recipe's)")
    for name, _, kind, metavar, text in _FIELDS:
        flag = f"--{name.replace('_', '-')}"
        text = f"{text} (default: the recipe's)"
        parser.add_argument(flag, type=kind, metavar=metavar, help=text)
    add_batching(parser)
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
    recipe = _recipe(args)
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
    show(args, summary, f"{_text(summary)}\nlipzoo export {args.out} writes the weights")


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


def _recipe(args: argparse.Namespace) -> Recipe:
    """The recipe that is named, or one that is made of the architecture and the data."""
    from lipzoo._paths import is_path
    from lipzoo.registry import get_architecture, is_architecture
    from lipzoo.training.recipe import apply_change, load_recipe, make_recipe, recipe_names

    fields = [
        f"{field}={value}"
        for name, field, *_ in _FIELDS
        if (value := getattr(args, name)) is not None
    ]
    if args.metric is not None:
        fields.append(f"metric={args.metric}")
    if (batching := batching_of(args)) is not None:
        fields.append(f"batching={json.dumps(batching)}")
    name = args.architecture
    if name is None and args.recipe is not None and not is_path(args.recipe, (".yaml", ".yml")):
        is_recipe = args.recipe in recipe_names()
        if not is_recipe and is_architecture(args.recipe):
            name, args.recipe = args.recipe, None
    if name is None and args.recipe is None:
        raise ConfigError(
            "train: say what: a RECIPE, or --architecture NAME --data DATA (lipzoo list shows the "
            "names)"
        )
    if name is None:
        if args.data is not None or args.data_option:
            raise ConfigError(
                "--data: a recipe names its data; change that by --set dataset.name=…, or train "
                "its architecture by --architecture NAME --data DATA"
            )
        return load_recipe(args.recipe, [*fields, *args.set])
    if args.recipe is not None:
        raise ConfigError(f"train: a recipe ({args.recipe}) and --architecture; leave one out")
    get_architecture(name)
    if args.data is None:
        having = [each for each in recipe_names() if each.split(".")[0] == name]
        beside = f"; recipes of it that ship: {', '.join(having)}" if having else ""
        raise ConfigError(
            f"{name}: is an architecture, and no recipe says on what to train it: lipzoo train "
            f"--architecture {name} --data DATA --out {args.out}{beside}"
        )
    content: dict[str, Any] = {
        "description": f"{name} on {args.data}",
        "architecture": name,
        "dataset": {"name": args.data, **data_options(args)},
    }
    if args.seeds is not None:
        content["seeds"] = args.seeds  # who replays the file wants the same
    for change in [*fields, *args.set]:
        apply_change(content, change)
    return make_recipe(content, where="train")


def _text(summary: dict[str, Any]) -> str:
    lines = []
    groups = {summary["name"]: summary["metrics"], **summary.get("baselines", {})}
    for name, metrics in groups.items():
        count = len(next(iter(metrics.values()))["values"])
        lines.append(f"{name}, {count} seed{'s' * (count != 1)}")
        lines += figure_lines({m: (v["mean"], v["std"], count) for m, v in metrics.items()})
    return "\n".join(lines)
