"""``lipzoo demo``."""

from __future__ import annotations

import argparse

from lipzoo.cli.options import add_out

HELP = "load, evaluate, fine-tune, save and load again"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_out(parser, "folder of the demo's files")


def run(args: argparse.Namespace) -> None:
    from lipzoo.demo import run_demo

    run_demo(args.out, overwrite=args.overwrite)
