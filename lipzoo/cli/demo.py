"""``lipzoo demo``."""

from __future__ import annotations

import argparse

from lipzoo.cli.command import show
from lipzoo.cli.options import add_json, add_out

HELP = "load, evaluate, fine-tune, save and load again"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_json(parser)
    add_out(parser, "folder of the demo's files")


def run(args: argparse.Namespace) -> None:
    from lipzoo.demo import run_demo

    facts = run_demo(args.out, overwrite=args.overwrite, verbose=not args.json)
    show(args, facts, f"Done in {facts['seconds']:.0f} s.")
