"""What the closed-form stack and weights in context reach on each graph, without training."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from lab.command_line import Parser, run_command
from lab.engine import made_with
from lab.report import Cell, versions_of
from lipzoo._atomic import write_all
from lipzoo._output import OutputFolder
from lipzoo._tables import markdown_table, to_csv
from lipzoo.datasets import GraphTask, load_dataset
from lipzoo.registry import load_pretrained
from lipzoo.training.baselines import fit_estimator
from lipzoo.training.metrics import evaluate

__all__ = ["DEVELOPMENT", "GRAPHS", "main"]

_MASKS = [{"split_index": k} for k in range(10)]
_DRAWN = [{"split_seed": k} for k in range(5)]
#: Options of each graph's splits: the public one, the file's, the ten masks, or five drawn.
GRAPHS: dict[str, list[dict[str, Any]]] = {
    "cora": [{}],
    "citeseer": [{}],
    **{
        name: [{"split": "fixed"}]
        for name in ("amazon_computers", "amazon_photo", "coauthor_cs", "coauthor_physics")
    },
    **dict.fromkeys(("actor", "chameleon_filtered", "squirrel_filtered"), _MASKS),
    **dict.fromkeys(("minesweeper", "tolokers"), _MASKS),
    **dict.fromkeys(("huangpu", "pasadena"), _DRAWN),
    **dict.fromkeys(("digits", "wine", "iris", "breast_cancer"), _DRAWN),
}
#: Settings are chosen on these; the others are looked at once.
DEVELOPMENT = ("citeseer", "coauthor_cs", "actor", "chameleon_filtered", "huangpu", "wine")
_STACK = "closed-form stack"


def main(argv: list[str] | None = None) -> int:
    """The command line of ``tools/in_context.py``."""
    parser = Parser(prog="in_context.py", description=__doc__)
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of in_context.csv, table.md"
    )
    parser.add_argument("--weights", nargs="*", default=[], help="names, or folders")
    parser.add_argument("--graphs", nargs="*", choices=GRAPHS, help="only these")
    parser.add_argument("--development", action="store_true", help="only those that choose")
    parser.add_raw_dir()
    args = parser.parse_args(argv)
    return run_command("in_context", lambda: _measure(args), "the same command")


def _measure(args: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    models = {str(name): load_pretrained(name) for name in args.weights}
    rows = []
    for name in args.graphs or (DEVELOPMENT if args.development else GRAPHS):
        for number, options in enumerate(GRAPHS[name]):
            task = load_dataset(name, raw_dir=args.raw_dir, **options)
            for row in _rows(task, models):
                rows.append({"graph": name, "split": number, **row, **made_with()})
                print(*(rows[-1][key] for key in ("graph", "split", *row)), flush=True)
    folder = OutputFolder(args.out).prepare(overwrite=True)
    table = "\n".join(_table(rows, [_STACK, *models])) + "\n"
    write_all({folder / "in_context.csv": to_csv(rows), folder / "table.md": table.encode()})


def _rows(task: GraphTask, models: dict[str, torch.nn.Module]) -> Iterator[dict[str, str]]:
    began = time.perf_counter()
    found = fit_estimator("closed_form_stack", {}, task)
    yield _row(_STACK, task, found, time.perf_counter() - began)
    for name, model in models.items():
        began = time.perf_counter()
        found = evaluate(model, task, ("val", "test"))
        yield _row(name, task, found, time.perf_counter() - began)


def _row(method: str, task: GraphTask, found: dict[str, float], seconds: float) -> dict[str, str]:
    return {
        "method": method,
        "metric": task.metric,
        **{split: f"{found[f'{split}_{task.metric}']:.4f}" for split in ("val", "test")},
        "seconds": f"{seconds:.2f}",
    }


def _table(rows: list[dict], methods: list[str]) -> list[str]:
    lines = [
        "# In context, without training",
        "",
        "Test metric in %: mean ± standard deviation (number of splits); seconds from the graph to "
        "predictions, mean, one thread. Settings were chosen on the graphs with a star.",
        "",
    ]
    cells = []
    for name in dict.fromkeys(row["graph"] for row in rows):
        own = [row for row in rows if row["graph"] == name]
        cells.append([f"{name}{' *' if name in DEVELOPMENT else ''}"])
        cells[-1].append(own[0]["metric"].replace("_", " "))
        for method in methods:
            mine = [row for row in own if row["method"] == method]
            mean = sum(float(row["seconds"]) for row in mine) / len(mine)
            cells[-1] += [str(Cell.of(mine)), f"{mean:.1f}"]
    heads = [head for method in methods for head in (Path(method).name, "seconds")]
    lines += markdown_table(["graph", "metric", *heads], cells, figures=True)
    return [*lines, "", f"- {versions_of(rows)}."]
