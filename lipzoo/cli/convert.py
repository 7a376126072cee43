"""``lipzoo convert``."""

from __future__ import annotations

import argparse

from lipzoo.cli.command import show
from lipzoo.cli.options import add_json, add_name, add_out

HELP = "write pretrained weights as a file for ONNX Runtime or torch.export"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_json(parser)
    add_name(parser)
    parser.add_argument("--to", metavar="FORMAT", required=True, help="onnx or pt2")
    parser.add_argument("--opset", metavar="N", type=int, help="of ONNX (default: 18)")
    add_out(parser, "file")


def run(args: argparse.Namespace) -> None:
    from lipzoo.convert import FORMATS
    from lipzoo.errors import ConfigError, did_you_mean
    from lipzoo.registry import find_checkpoint

    if args.to not in FORMATS:
        raise ConfigError(f"--to: no format {args.to!r}{did_you_mean(args.to, FORMATS)}")
    if args.opset is not None and args.to != "onnx":
        raise ConfigError(f"--opset: is of ONNX, and {args.to} has none; leave it out")
    options = {} if args.opset is None else {"opset": args.opset}
    checkpoint = find_checkpoint(args.name)
    path = FORMATS[args.to](checkpoint, args.out, overwrite=args.overwrite, **options)
    facts = {"name": checkpoint.card.full_name, "format": args.to, "out": str(path)}
    show(args, facts, f"written to {path}, and checked against the network")
