"""``lipzoo list``."""

from __future__ import annotations

import argparse

from lipzoo.cli.command import show
from lipzoo.cli.options import add_json

HELP = "list architectures, or pretrained weights"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_json(parser)
    parser.add_argument(
        "pattern", nargs="?", default="*", metavar="PATTERN", help="such as 'gat_lip*'"
    )
    parser.add_argument("--pretrained", action="store_true", help="list trained variants")


def run(args: argparse.Namespace) -> None:
    from lipzoo.registry import list_models

    names = list_models(args.pattern, pretrained=args.pretrained)
    show(args, names, "\n".join(names))
