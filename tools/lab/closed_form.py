"""What the closed-form stack reaches on each graph, and what each of its predictors weighs."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from lab.command_line import Parser, run_command
from lab.engine import made_with
from lab.report import Cell, versions_of
from lipzoo._atomic import write_all
from lipzoo._output import OutputFolder
from lipzoo._tables import markdown_table, to_csv
from lipzoo.context import ClosedFormStack
from lipzoo.datasets import GraphTask, load_dataset
from lipzoo.training.metrics import score

__all__ = ["GRAPHS", "main"]

#: Options of each graph's splits: the public one, the file's, the ten masks, or five drawn.
GRAPHS = {
    "cora": [{}],
    "citeseer": [{}],
    **{
        name: [{"split": "fixed"}]
        for name in ("amazon_computers", "amazon_photo", "coauthor_cs", "coauthor_physics")
    },
    **{
        name: [{"split_index": k} for k in range(10)]
        for name in (
            *("actor", "chameleon_filtered", "squirrel_filtered"),
            *("minesweeper", "tolokers"),
        )
    },
    **{name: [{"split_seed": k} for k in range(5)] for name in ("huangpu", "pasadena")},
    "digits": [{}],
}


def main(argv: list[str] | None = None) -> int:
    """The command line of ``tools/closed_form.py``."""
    parser = Parser(prog="closed_form.py", description=__doc__)
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of closed_form.csv, table.md"
    )
    parser.add_argument("--graphs", nargs="*", choices=GRAPHS, help="only these")
    parser.add_raw_dir()
    args = parser.parse_args(argv)
    return run_command("closed_form", lambda: _measure(args), "the same command")


def _measure(args: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    rows = []
    for name in args.graphs or GRAPHS:
        for number, options in enumerate(GRAPHS[name]):
            task = load_dataset(name, raw_dir=args.raw_dir, **options)
            rows.append({"graph": name, "split": number, **_row(task), **made_with()})
            print({key: rows[-1][key] for key in ("graph", "split", "test", "seconds")}, flush=True)
    folder = OutputFolder(args.out).prepare(overwrite=True)
    table = "\n".join(_table(rows)) + "\n"
    write_all({folder / "closed_form.csv": to_csv(rows), folder / "table.md": table.encode()})


def _row(task: GraphTask) -> dict[str, str]:
    began = time.perf_counter()
    stack = ClosedFormStack().fit(task)
    log_proba = stack.predict_log_proba()
    seconds = time.perf_counter() - began
    metrics = {
        split: score(log_proba[mask], task.labels[mask], task.metric)
        for split, mask in (("val", task.val_mask), ("test", task.test_mask))
    }
    return {
        "metric": task.metric,
        **{split: f"{value:.4f}" for split, value in metrics.items()},
        "seconds": f"{seconds:.2f}",
        **{name: f"{weight:.3f}" for name, weight in stack.weights_.items()},
    }


def _table(rows: list[dict]) -> list[str]:
    lines = [
        "# The closed-form stack, without training",
        "",
        "Test metric in %: mean ± standard deviation (number of splits); seconds from the graph to "
        "predictions, mean, one thread.",
        "",
    ]
    cells = []
    for name in dict.fromkeys(row["graph"] for row in rows):
        own = [row for row in rows if row["graph"] == name]
        seconds = sum(float(row["seconds"]) for row in own) / len(own)
        metric = own[0]["metric"].replace("_", " ")
        cells.append([name, metric, str(Cell.of(own)), f"{seconds:.1f}"])
    lines += markdown_table(["graph", "metric", "test", "seconds"], cells, figures=True)
    return [*lines, "", f"- {versions_of(rows)}."]
