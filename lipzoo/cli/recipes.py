"""The recipe of a command: one that is named, or an architecture on data."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from lipzoo.cli.options import (
    add_batching,
    add_data,
    add_metric,
    add_settings,
    batching_of,
    data_options,
)
from lipzoo.errors import ConfigError

if TYPE_CHECKING:
    from lipzoo.training import Recipe

__all__ = ["add_any_recipe", "any_recipe"]

#: Fields of a recipe that are options.
_FIELDS = ("epochs", "optimizer.lr", "optimizer.weight_decay", "early_stopping.patience")


def add_any_recipe(parser: argparse.ArgumentParser) -> None:
    """RECIPE, or ``--architecture`` with ``--data``, and what changes them; `any_recipe` reads
    them."""
    from lipzoo.settings import FitSettings

    parser.add_argument(
        "recipe", metavar="RECIPE", nargs="?", help="a YAML file, a card, or a shipped name"
    )
    parser.add_argument(
        "--set", metavar="KEY=VALUE", action="append", default=[], help="override a recipe field"
    )
    parser.add_argument(
        "--architecture", metavar="NAME", help="take this one on --data, without a recipe"
    )
    add_data(parser, "with --architecture: what to train on")
    add_metric(parser)
    add_settings(parser, FitSettings, _FIELDS, whose="the recipe's")
    add_batching(parser)


def any_recipe(args: argparse.Namespace, command: str) -> Recipe:
    """The recipe that is named, or one that is made of the architecture and the data.

    Raises
    ------
    ConfigError
        If neither is said, or both; if a field does not exist or does not fit.
    """
    from lipzoo._paths import YAML, is_path
    from lipzoo.registry import get_architecture, is_architecture
    from lipzoo.training.recipe import apply_changes, load_recipe, make_recipe, recipe_names

    fields = [
        f"{field}={value}"
        for field in _FIELDS
        if (value := getattr(args, field.rpartition(".")[2])) is not None
    ]
    if args.metric is not None:
        fields.append(f"metric={args.metric}")
    if (batching := batching_of(args)) is not None:
        fields.append(f"batching={json.dumps(batching)}")
    name = args.architecture
    if name is None and args.recipe is not None and not is_path(args.recipe, YAML):
        is_recipe = args.recipe in recipe_names()
        if not is_recipe and is_architecture(args.recipe):
            name, args.recipe = args.recipe, None
    if name is None and args.recipe is None:
        raise ConfigError(
            f"{command}: say what: a RECIPE, or --architecture NAME --data DATA (lipzoo list shows "
            "the names)"
        )
    if name is None:
        if args.data is not None or args.data_option:
            raise ConfigError(
                "--data: a recipe names its data; change that by --set dataset.name=…, or take "
                "its architecture by --architecture NAME --data DATA"
            )
        return load_recipe(args.recipe, [*fields, *args.set])
    if args.recipe is not None:
        raise ConfigError(f"{command}: a recipe ({args.recipe}) and --architecture; leave one out")
    get_architecture(name)
    if args.data is None:
        having = [each for each in recipe_names() if each.split(".")[0] == name]
        beside = f"; recipes of it that ship: {', '.join(having)}" if having else ""
        raise ConfigError(
            f"{name}: is an architecture, and no recipe says on what to train it: lipzoo {command} "
            f"--architecture {name} --data DATA --out {args.out}{beside}"
        )
    content: dict[str, Any] = {
        "description": f"{name} on {args.data}",
        "architecture": name,
        "dataset": {"name": args.data, **data_options(args)},
    }
    if args.seeds is not None:
        content["seeds"] = args.seeds  # who replays the file wants the same
    apply_changes(content, [*fields, *args.set])
    return make_recipe(content, where=command)
