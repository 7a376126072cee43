"""``lipzoo evaluate``."""

from __future__ import annotations

import argparse
import warnings

from lipzoo._tables import figure_lines
from lipzoo.cli.command import show
from lipzoo.cli.options import add_data, add_json, add_metric, add_name, load_model, load_task

HELP = "measure pretrained weights"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_json(parser)
    add_name(parser)
    add_data(parser, "default: the data and options on the card")
    add_metric(parser)


def run(args: argparse.Namespace) -> None:
    from lipzoo.training import evaluate

    model = load_model(args.name)
    task = load_task(args, model.card)
    metrics = evaluate(model, task)
    if args.data is None and task.fingerprint != model.card.dataset.fingerprint:
        warnings.warn("the data is not what the card's figures were measured on", stacklevel=1)
    facts = {"name": model.card.full_name, "dataset": task.name, "metrics": metrics}
    lines = figure_lines({name: (value, 0.0, 1) for name, value in metrics.items()})
    show(args, facts, "\n".join([f"{facts['name']} on {task.name}", *lines]))
