"""``lipzoo predict``."""

from __future__ import annotations

import argparse

from lipzoo.cli.command import show
from lipzoo.cli.options import add_data, add_json, add_name, add_out, load_model, load_task

HELP = "write class probabilities of every node"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_json(parser)
    add_name(parser)
    add_data(
        parser,
        "data to predict; labels are not needed, but those of the training nodes by weights that "
        "read them",
        required=True,
    )
    add_out(parser, "CSV file")


def run(args: argparse.Namespace) -> None:
    from lipzoo._output import output_file
    from lipzoo.encoding import encode_for
    from lipzoo.training.metrics import class_names, with_classes_of
    from lipzoo.training.predict import (
        is_multilabel,
        node_ids,
        predict,
        write_predictions,
    )

    with output_file(args.out, args.overwrite):  # before the work, not after it
        model = load_model(args.name)
        raw = with_classes_of(model, load_task(args, model.card, require_labels=False))
        task = encode_for(model, raw)
        path = write_predictions(
            args.out,
            predict(model, task),
            is_multilabel(model, task),
            args.overwrite,
            nodes=node_ids(task),
            classes=class_names(model, task),
        )
    facts = {"name": model.card.full_name, "nodes": task.num_nodes, "out": str(path)}
    lines = [f"{task.num_nodes} nodes written to {path}"]
    weights = task.options.get("evidence", {})
    if weights:
        facts["evidence"] = weights
        counted = sorted((name for name in weights if weights[name] > 0.01), key=weights.get)
        words = ", ".join(f"{name} {weights[name]:.2f}" for name in reversed(counted))
        lines.append(f"evidence that counted: {words or 'none'}")
    show(args, facts, "\n".join(lines))
