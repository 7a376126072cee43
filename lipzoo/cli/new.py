"""``lipzoo new``."""

from __future__ import annotations

import argparse
import shlex

from lipzoo.cli.command import show
from lipzoo.cli.options import add_json

HELP = "write an architecture, a recipe and a test to start from"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_json(parser)
    parser.add_argument("name", metavar="NAME", help="small letters, digits and _, such as my_gat")
    parser.add_argument("--out", metavar="DIR", help="folder (default: one called NAME)")


def run(args: argparse.Namespace) -> None:
    from lipzoo.scaffold import new_architecture

    files = [str(path) for path in new_architecture(args.name, args.out)]
    folder, recipe, test = map(shlex.quote, (args.out or args.name, files[1], files[2]))
    lines = [
        *(f"written: {path}" for path in files),
        f"try it: pytest {test}",
        f"then: LIPZOO_CONFIG_PATH={folder} lipzoo train {recipe} --out runs/{args.name}",
    ]
    show(args, {"files": files}, "\n".join(lines))
