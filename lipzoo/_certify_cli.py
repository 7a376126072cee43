"""``lipzoo certify``: parse, call, print."""

from __future__ import annotations

import argparse
import contextlib

import lipzoo
from lipzoo._writing import writing

__all__ = ["add_certify_arguments", "run_certify"]


def add_certify_arguments(sub: argparse.ArgumentParser) -> None:
    """What ``certify`` takes beside the name, the data and ``--out``."""
    sub.add_argument(
        "--iterations", type=int, default=20, help="power iterations of the estimate; 0: none"
    )
    sub.add_argument(
        "--search", type=int, default=0, help="steps that move the features to raise the estimate"
    )
    sub.add_argument("--no-radii", action="store_true", help="no certified radii")


def run_certify(args: argparse.Namespace, load_task, show) -> None:
    """Certify ``args.name`` on the data that ``load_task(args, card, require_labels)`` gives."""
    with contextlib.nullcontext() if args.out is None else writing(args.out):
        _certify(args, load_task, show)


def _certify(args: argparse.Namespace, load_task, show) -> None:
    from lipzoo.lipschitz import certify
    from lipzoo.weights import prepare_folder

    if args.out is not None:
        prepare_folder(args.out, args.overwrite)  # before the work, not after it
    model = lipzoo.load_pretrained(args.name)
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
