"""``lipzoo certify``."""

from __future__ import annotations

import argparse
import contextlib

from lipzoo.cli.command import show
from lipzoo.cli.options import add_data, add_json, add_name, add_out, load_model, load_task

HELP = "prove a Lipschitz bound, and radii classes keep within"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_json(parser)
    add_name(parser)
    add_data(parser, "default: the data and options on the card")
    add_out(parser, "folder of the JSON, the CSVs and the HTML report", required=False)
    parser.add_argument(
        "--iterations",
        type=int,
        metavar="N",
        default=20,
        help="power iterations of the estimate; 0: none",
    )
    parser.add_argument(
        "--search",
        type=int,
        metavar="N",
        default=0,
        help="steps that move the features to raise the estimate",
    )
    parser.add_argument("--no-radii", action="store_true", help="no certified radii")


def run(args: argparse.Namespace) -> None:
    from lipzoo._writing import writing

    with contextlib.nullcontext() if args.out is None else writing(args.out):
        _certify(args)


def _certify(args: argparse.Namespace) -> None:
    from lipzoo._output import OutputFolder
    from lipzoo.lipschitz import certify

    if args.out is not None:
        OutputFolder(args.out).prepare(args.overwrite)  # before the work, not after it
    model = load_model(args.name)
    task = load_task(args, model.card, require_labels=False)
    certificate = certify(
        model,
        task,
        name=model.card.full_name,
        iterations=args.iterations,
        search=args.search,
        radii=not args.no_radii,
    )
    text = certificate.text()
    if args.out is not None:
        folder = certificate.write(args.out, args.overwrite)
        text += f"\nwritten to {folder}; open report.html"
    show(args, certificate.to_dict(), text)
