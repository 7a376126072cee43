"""``lipzoo copy``."""

from __future__ import annotations

import argparse
import shlex

from lipzoo.cli.command import show
from lipzoo.cli.options import add_json

HELP = "copy a recipe, or an architecture, to edit it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_json(parser)
    parser.add_argument(
        "name", metavar="NAME", help="a recipe (gat_lip_16.cora) or an architecture (gat_lip_16)"
    )
    parser.add_argument(
        "--out", metavar="FILE", help="a new file (default: NAME.yaml; my_NAME/my_NAME.yaml)"
    )


def run(args: argparse.Namespace) -> None:
    from lipzoo.scaffold import copy_config

    file, kind = copy_config(args.name, args.out)
    then = f"lipzoo train {shlex.quote(str(file))} --out DIR"
    if kind == "architecture":
        from lipzoo.models import InContextGATv2  # not for a recipe: it imports PyTorch
        from lipzoo.registry import get_architecture

        name, folder = file.stem, shlex.quote(str(file.parent))
        then = f"LIPZOO_CONFIG_PATH={folder} lipzoo train --architecture {name} --data D --out DIR"
        if get_architecture(args.name).model == InContextGATv2.__name__:  # learns from no one graph
            tool = f"tools/pretrain.py context_8 --set architecture={name} --out DIR"
            then = f"LIPZOO_CONFIG_PATH={folder} {tool}"
    show(args, {"file": str(file), "kind": kind}, f"written: {file}\nthen: {then}")
