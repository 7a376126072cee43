"""What the seeds of a run get wrong together: how far better training could carry a recipe."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lab.command_line import Parser, run_command
from lipzoo._atomic import write_atomically
from lipzoo._output import OutputFolder
from lipzoo._tables import markdown_table
from lipzoo.datasets import GraphTask
from lipzoo.errors import ConfigError
from lipzoo.plots import node_homophily
from lipzoo.training.predict import predict
from lipzoo.training.run_folder import read_run, summarize
from lipzoo.training.run_seed import load_seed
from lipzoo.training.tasks import load_task

__all__ = ["SharedErrors", "main", "shared_errors"]

SPLITS = ("val", "test")


@dataclass(frozen=True)
class SharedErrors:
    """Shares in [0, 1] of a split's nodes.

    Parameters
    ----------
    nodes : int
        How many the split has.
    mean : float
        Accuracy of one model, averaged over the models.
    averaged : float
        Accuracy of their mean probabilities: what is left when no luck of a seed is.
    all_wrong, all_right : float
        Nodes that no model, or every model, gets right.
    homophily_wrong, homophily_right : float
        Share of the in-neighbours that have the node's own label, averaged over the nodes of
        ``all_wrong`` and ``all_right`` that have any; nan where there is no such node.
    minority_wrong, minority_right : float
        How many of these nodes have that share below one half.
    """

    nodes: int
    mean: float
    averaged: float
    all_wrong: float
    all_right: float
    homophily_wrong: float
    homophily_right: float
    minority_wrong: float
    minority_right: float


def shared_errors(probabilities: Sequence[Tensor], task: GraphTask, split: str) -> SharedErrors:
    """What several models get wrong together on the nodes of a split.

    ``probabilities`` are (N, C), one tensor a model; ``split`` is ``train``, ``val`` or ``test``.

    Raises
    ------
    ConfigError
        If nodes may have several labels.
    """
    if task.multilabel:
        raise ConfigError(f"{task.name}: nodes may have several labels; errors are counted of one")
    mask, labels = getattr(task, f"{split}_mask"), task.labels
    stacked = torch.stack(list(probabilities))
    right = (stacked.argmax(-1) == labels)[:, mask]
    homophily = node_homophily(task.graph, labels)[mask]
    wrong, certain = ~right.any(0), right.all(0)
    return SharedErrors(
        nodes=int(mask.sum()),
        mean=_share(right),
        averaged=_share((stacked.mean(0).argmax(-1) == labels)[mask]),
        all_wrong=_share(wrong),
        all_right=_share(certain),
        homophily_wrong=homophily[wrong].nanmean().item(),
        homophily_right=homophily[certain].nanmean().item(),
        minority_wrong=_below_half(homophily[wrong]),
        minority_right=_below_half(homophily[certain]),
    )


def _share(flags: Tensor) -> float:
    return flags.double().mean().item()


def _below_half(homophily: Tensor) -> float:
    return _share(homophily[~homophily.isnan()] < 0.5)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line of ``tools/shared_errors.py``."""
    parser = Parser(prog="shared_errors.py", description=__doc__)
    parser.add_argument("run", type=Path, help="the --out folder of `lipzoo train`")
    parser.add_argument("--out", type=Path, required=True, help="folder of shared_errors.md")
    parser.add_raw_dir()
    args = parser.parse_args(argv)
    return run_command("shared_errors", lambda: _write(args), "the same command")


def _write(args: argparse.Namespace) -> None:
    recipe = read_run(args.run)
    seeds = summarize(args.run, recipe)["seeds"]
    folder = OutputFolder(args.out).prepare(overwrite=True)
    task = load_task(recipe, args.raw_dir)
    found = [predict(load_seed(args.run, seed, recipe, task), task) for seed in seeds]
    errors = [shared_errors(found, task, split) for split in SPLITS]
    command = f"tools/shared_errors.py {args.run} --out {args.out}"
    text = _report(recipe.full_name, len(seeds), errors, command)
    write_atomically(folder / "shared_errors.md", text.encode())
    print(text, end="")


def _report(name: str, seeds: int, errors: list[SharedErrors], command: str) -> str:
    heads = ["", *(f"{split}, {e.nodes} nodes" for split, e in zip(SPLITS, errors))]
    rows = [
        [words, *(_percent(getattr(e, field)) for e in errors)] for field, words in _ROWS.items()
    ]
    lines = [
        f"# What {seeds} seeds of `{name}` get wrong together",
        "",
        "In %. Neighbours of the same class: the share with a node's own label, mean over nodes.",
        "",
        *markdown_table(heads, rows, figures=True),
        "",
        f"`{command}`",
    ]
    return "\n".join(lines) + "\n"


_ROWS = {
    "mean": "accuracy of one model, mean over the seeds",
    "averaged": "accuracy of the mean of their probabilities",
    "all_wrong": "nodes that all get wrong",
    "homophily_wrong": "neighbours of the same class, of these",
    "minority_wrong": "of these, most neighbours of other classes",
    "all_right": "nodes that all get right",
    "homophily_right": "neighbours of the same class, of these",
    "minority_right": "of these, most neighbours of other classes",
}


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{100 * share:.1f}"
