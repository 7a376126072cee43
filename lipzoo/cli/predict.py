"""``lipzoo predict``."""

from __future__ import annotations

import argparse

from lipzoo.cli.command import show
from lipzoo.cli.options import (
    add_batching,
    add_data,
    add_json,
    add_name,
    add_out,
    batching_of,
    load_model,
    load_task,
)

HELP = "write class probabilities of every node, or of some"


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
    parser.add_argument("--nodes", metavar="IDS", help="such as 3,14,159 (default: all)")
    add_batching(
        parser,
        "full",
        "what is read: the whole graph (full), or a sample around the nodes, which is an estimate "
        "(shadow, neighbours); or with settings, such as '{name: shadow, hops: 3, fanout: 20}'",
    )


def run(args: argparse.Namespace) -> None:
    from lipzoo._output import output_file
    from lipzoo.datasets.metric import RANKING_METRICS
    from lipzoo.datasets.names import node_ids
    from lipzoo.encoding import class_names, encode_for
    from lipzoo.training.metrics import (
        is_multilabel,
        only_class,
        shown_class,
        with_classes_of,
    )
    from lipzoo.training.predict import predict, rows_of, write_predictions

    with output_file(args.out, args.overwrite):  # before the work, not after it
        model = load_model(args.name)
        raw = load_task(args, model.card, require_labels=False)
        raw = with_classes_of(model, raw, is_judged=False)
        task = encode_for(model, raw)
        ids, rows = node_ids(task), None
        if args.nodes is not None:
            rows = rows_of(args.nodes, ids, task.name)
            ids = [ids[row] for row in rows]
        proba = predict(model, task, rows, batching=batching_of(args))
        multilabel = is_multilabel(model, task)
        path = write_predictions(
            args.out,
            proba,
            multilabel,
            args.overwrite,
            nodes=ids,
            classes=class_names(model, task),
        )
    facts = {"name": model.card.full_name, "nodes": len(ids), "out": str(path)}
    lines = [f"{len(ids)} nodes written to {path}"]
    logits = proba - 0.5 if multilabel else proba  # their signs, or their order
    # Of weights that were chosen by the order of the nodes, the class says little.
    is_ranked = any(name.endswith(RANKING_METRICS) for name in model.card.weights.metrics)
    only = None if len(ids) == 1 or is_ranked else only_class(logits, task, multilabel)
    if only is not None:
        lines.append(f"all are predicted as {shown_class(only)}: it may have learnt nothing")
    weights = task.options.get("evidence", {})
    if task.reads_labels:
        facts["context"] = {"nodes": int(task.train_mask.sum()), "split": task.options.get("split")}
        drawn = ", drawn at random: masks of your own say which" * (raw.train_mask is None)
        lines.append(f"context: {facts['context']['nodes']} training nodes{drawn}")
    if weights:
        facts["evidence"] = weights
        counted = sorted((name for name in weights if weights[name] > 0.01), key=weights.get)
        words = ", ".join(f"{name} {weights[name]:.2f}" for name in reversed(counted))
        lines.append(f"evidence that counted: {words or 'none'}")
    show(args, facts, "\n".join(lines))
