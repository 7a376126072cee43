"""``lipzoo info``."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from lipzoo.cli.command import show
from lipzoo.cli.options import add_data, add_json, load_task
from lipzoo.errors import ConfigError

if TYPE_CHECKING:
    from lipzoo.training.memory import GraphSizes

HELP = "say what an architecture or pretrained weights are, and what memory they need"

#: Options that stand for a graph that there is not yet: name, default, text.
_SIZES = (
    ("nodes", None, "without --data: nodes of a graph"),
    ("edges", None, "its edges (default: 10 a node)"),
    ("feats", 128, "its features"),
    ("classes", 10, "its classes"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_json(parser)
    parser.add_argument(
        "name", metavar="NAME", help="gat_lip_16, gat_lip_16.cora, a folder (./mine), a URL"
    )
    add_data(parser, "say what memory a training on it needs")
    for name, default, text in _SIZES:
        parser.add_argument(f"--{name}", type=int, metavar="N", default=default, help=text)
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="argument of the model class, such as num_layers=64",
    )


def run(args: argparse.Namespace) -> None:
    from lipzoo.info import describe, describe_memory

    facts, text = describe(args.name)
    if args.data is not None or args.nodes is not None:
        is_loaded = args.data is not None
        memory, lines = describe_memory(
            args.name, _sizes(args), args.data or "", is_loaded, _overrides(args)
        )
        facts, text = facts | {"memory": memory}, f"{text}\n{lines}"
    elif args.edges is not None or args.set:
        option = "--set" if args.edges is None else "--edges"
        raise ConfigError(f"{option}: goes with --data, or with --nodes")
    show(args, facts, text)


def _overrides(args: argparse.Namespace) -> dict[str, Any]:
    from lipzoo.training.recipe import apply_changes

    overrides = apply_changes({}, args.set)
    for name in ("in_feats", "num_classes", "edge_feats"):
        if name in overrides:
            raise ConfigError(f"--set {name}: is the data's; without --data say --feats, --classes")
    return overrides


def _sizes(args: argparse.Namespace) -> GraphSizes:
    from lipzoo.training.memory import GraphSizes

    if args.data is not None:
        if args.nodes is not None:
            raise ConfigError("--nodes: the data that --data names have sizes of their own")
        return GraphSizes.of(load_task(args, require_labels=False))
    edges = 10 * args.nodes if args.edges is None else args.edges
    return GraphSizes(args.nodes, edges, args.feats, args.classes)
