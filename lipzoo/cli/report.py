"""``lipzoo report``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lipzoo.cli.command import show
from lipzoo.cli.options import add_data, add_json, add_out, load_model, load_task

if TYPE_CHECKING:
    from torch import nn

    from lipzoo.card import Card
    from lipzoo.datasets import GraphTask

HELP = "draw what a model does: one HTML page and its pictures"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_json(parser)
    parser.add_argument(
        "name",
        metavar="NAME|RUN_DIR",
        help="weights by name, folder (./mine), URL or hf-hub:USER/REPO, or the folder of a "
        "`lipzoo train` (./runs/mine), of which the best seed is drawn",
    )
    add_data(parser, "default: the data and options on the card, or of the run")
    add_out(parser, "folder of the page, the pictures (SVG, PNG) and the figures (JSON)")
    parser.add_argument(
        "--split",
        choices=("test", "val", "train", "all"),
        default="test",
        help="labelled nodes that predictions are judged on",
    )
    parser.add_argument(
        "--nodes", metavar="IDS", help="draw their attention: such as 3,14 (default: three nodes)"
    )
    parser.add_argument(
        "--embedding", choices=("tsne", "pca"), default="tsne", help="how nodes are embedded"
    )
    parser.add_argument(
        "--sample", type=int, metavar="N", default=800, help="most nodes that are embedded"
    )
    parser.add_argument("--seed", type=int, metavar="N", default=0, help="of random samples")
    parser.add_argument(
        "--radii",
        choices=("auto", "yes", "no"),
        default="auto",
        help="certify radii; auto: where it takes no more than a minute or so",
    )


def run(args: argparse.Namespace) -> None:
    from lipzoo._figures import need
    from lipzoo._output import OutputFolder
    from lipzoo._writing import writing
    from lipzoo.datasets.names import node_ids
    from lipzoo.report import make_report
    from lipzoo.training.predict import rows_of

    with writing(args.out):
        OutputFolder(args.out).prepare(args.overwrite)  # before the work, not after it
        need("matplotlib.figure"), need("networkx")
        model, task, recorded = _subject(args)
        nodes = None if args.nodes is None else rows_of(args.nodes, node_ids(task), task.name)
        report = make_report(
            model,
            task,
            split=args.split,
            nodes=nodes,
            embedding=args.embedding,
            sample=args.sample,
            radii=args.radii,
            seed=args.seed,
            verbose=not args.json,
            **recorded,
        )
        folder = report.write(args.out, args.overwrite)
    content = report.to_dict()
    absent = [name for name, part in content["sections"].items() if "not_drawn" in part]
    lines = [f"{report.title}, {args.split} nodes: written to {folder}; open report.html"]
    lines += [f"  {name}: {content['sections'][name]['not_drawn']}" for name in absent]
    show(args, {**content, "out": str(folder)}, "\n".join(lines))


def _subject(args: argparse.Namespace) -> tuple[nn.Module, GraphTask, dict[str, Any]]:
    """The model, the data, and what was recorded of its training."""
    from lipzoo._paths import as_path, is_path
    from lipzoo.training.export import best_of_run
    from lipzoo.training.history import best_epochs, read_histories, read_recorded
    from lipzoo.training.run_folder import RECIPE_FILE

    folder = as_path(args.name) if is_path(args.name) else None
    if folder is not None and (folder / RECIPE_FILE).is_file():
        model, card, task = best_of_run(folder, args.raw_dir)
        model.card = card
        recorded = {"histories": read_histories(folder), "best": best_epochs(folder)}
        if args.data is not None or args.data_option:
            task = _loaded(args, card)
        return model, task, recorded
    model = load_model(args.name)
    task = _loaded(args, model.card)
    found = read_recorded(Path(model.pretrained_folder), model.card)
    return model, task, {"histories": found.histories, "best": found.best, "note": found.note}


def _loaded(args: argparse.Namespace, card: Card) -> GraphTask:
    from lipzoo.report.subject import split_if_labelled

    return split_if_labelled(lambda required: load_task(args, card, required))
