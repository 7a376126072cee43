"""``lipzoo export``."""

from __future__ import annotations

import argparse

from lipzoo.cli.command import show
from lipzoo.cli.options import add_json, add_out, add_raw_dir

HELP = "turn a run into a checkpoint with a card"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_json(parser)
    parser.add_argument("run_dir", metavar="RUN_DIR", help="what `lipzoo train --out` wrote")
    add_out(parser, "folder (default: pretrained/NAME.TAG)", required=False)
    add_raw_dir(parser)


def run(args: argparse.Namespace) -> None:
    from lipzoo.training import export_run

    folder = export_run(args.run_dir, args.out, overwrite=args.overwrite, raw_dir=args.raw_dir)
    show(args, {"folder": str(folder)}, f"written to {folder}")
