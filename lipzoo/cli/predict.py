"""``lipzoo predict``."""

from __future__ import annotations

import argparse

from lipzoo.cli.options import add_data, add_name, add_out, load_task

HELP = "write class probabilities of every node"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_name(parser)
    add_data(parser, "data to predict; labels are not needed", required=True)
    add_out(parser, "CSV file")


def run(args: argparse.Namespace) -> None:
    from lipzoo.registry import load_pretrained
    from lipzoo.training.predict import (
        is_multilabel,
        node_ids,
        predict,
        predictions_file,
        write_predictions,
    )

    with predictions_file(args.out, args.overwrite):  # before the work, not after it
        model = load_pretrained(args.name)
        task = load_task(args, model.card, require_labels=False)
        path = write_predictions(
            args.out,
            predict(model, task),
            is_multilabel(model, task),
            args.overwrite,
            nodes=node_ids(task),
        )
    print(f"{task.num_nodes} nodes written to {path}")
