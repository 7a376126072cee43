"""``lipzoo info``."""

from __future__ import annotations

import argparse

from lipzoo.cli.command import show
from lipzoo.cli.options import add_json

HELP = "say what an architecture or pretrained weights are"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_json(parser)
    parser.add_argument(
        "name", metavar="NAME", help="gat_lip_16, gat_lip_16.cora, a folder (./mine), a URL"
    )


def run(args: argparse.Namespace) -> None:
    from lipzoo.info import describe

    facts, text = describe(args.name)
    show(args, facts, text)
