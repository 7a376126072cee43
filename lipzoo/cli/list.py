"""``lipzoo list``."""

from __future__ import annotations

import argparse

from lipzoo.cli.command import heading, show
from lipzoo.cli.options import add_json
from lipzoo.errors import UnknownNameError

HELP = "list architectures, or pretrained weights"

_FILTERS = ("layers", "graph", "metric")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_json(parser)
    parser.add_argument(
        "pattern", nargs="?", default="*", metavar="PATTERN", help="such as 'gat_lip*'"
    )
    parser.add_argument("--pretrained", action="store_true", help="list trained variants")
    parser.add_argument("--layers", metavar="N", help="of so many layers: 8, or 8..32")
    parser.add_argument("--graph", metavar="D", help="weights that were trained on this graph")
    parser.add_argument("--metric", metavar="M", help="weights that are judged by this metric")
    parser.add_argument(
        "--parameters",
        action="store_true",
        help="count those of architectures, of 128 features and 10 classes (loads PyTorch)",
    )
    parser.add_argument("--sort", metavar="COLUMN", help="largest figures first")


def run(args: argparse.Namespace) -> None:
    from lipzoo._tables import text_table
    from lipzoo.listing import list_rows

    is_trained = args.pretrained or args.graph is not None or args.metric is not None
    rows = list_rows(
        args.pattern,
        pretrained=is_trained,
        layers=args.layers,
        graph=args.graph,
        metric=args.metric,
        parameters=args.parameters,
        sort=args.sort,
    )
    if not rows and not args.json:
        asked = {"": args.pattern, **{f"--{name} ": getattr(args, name) for name in _FILTERS}}
        words = " ".join(f"{name}{value!r}" for name, value in asked.items() if value is not None)
        what = "pretrained weights" if is_trained else "architectures"
        raise UnknownNameError(f"list: no {what} match {words}; lipzoo list shows all names")
    header, *lines = text_table([row.cells() for row in rows]) if rows else [""]
    show(args, [row.name for row in rows], "\n".join([heading(header), *lines]))
