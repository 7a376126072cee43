"""``lipzoo info``."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

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


def run(args: argparse.Namespace) -> None:
    from lipzoo.info import describe, describe_memory

    facts, text = describe(args.name)
    if args.data is not None or args.nodes is not None:
        memory, lines = describe_memory(args.name, _sizes(args), args.data or "", bool(args.data))
        facts, text = facts | {"memory": memory}, f"{text}\n{lines}"
    elif args.edges is not None:
        raise ConfigError("--edges: say --nodes too, or --data")
    show(args, facts, text)


def _sizes(args: argparse.Namespace) -> GraphSizes:
    from lipzoo.training.memory import GraphSizes

    if args.data is not None:
        if args.nodes is not None:
            raise ConfigError("--nodes: the data that --data names have sizes of their own")
        return GraphSizes.of(load_task(args, require_labels=False))
    edges = 10 * args.nodes if args.edges is None else args.edges
    return GraphSizes(args.nodes, edges, args.feats, args.classes)
