"""Turn a finished run into a checkpoint with a card."""

from __future__ import annotations

import os
from pathlib import Path

from torch import nn

from lipzoo._paths import as_path
from lipzoo._yaml import read_yaml
from lipzoo.card import (
    ArchitectureEntry,
    Card,
    LipschitzEntry,
    WeightsEntry,
    versions,
)
from lipzoo.datasets import GraphTask
from lipzoo.encoding import as_start
from lipzoo.errors import OutputError
from lipzoo.lipschitz import bound
from lipzoo.registry import split_name
from lipzoo.training.data_entry import dataset_entry, scaling_entry
from lipzoo.training.history import read_history
from lipzoo.training.metrics import evaluate, selection_key
from lipzoo.training.run_architecture import architecture_of_run
from lipzoo.training.run_folder import RESULT_FILE, read_run, summarize
from lipzoo.training.run_seed import load_seed, model_args
from lipzoo.training.tasks import Tasks
from lipzoo.weights import write_checkpoint

__all__ = ["best_of_run", "export_run"]

#: How far a metric may be off on another machine: a few nodes of a thousand.
_ROUNDING = 5e-3


def export_run(
    run: str | os.PathLike,
    out: str | os.PathLike | None = None,
    *,
    overwrite: bool = False,
    raw_dir: str | None = None,
) -> Path:
    """Write the checkpoint of a run.

    The weights are those of the seed with the best *validation* metric (ties: lower validation
    loss); the card holds mean and standard deviation over all seeds, and ``curve.csv`` how that
    seed was trained.

    Parameters
    ----------
    run : path
        The folder that ``lipzoo train`` wrote.
    out : path, optional
        The checkpoint's folder; by default ``pretrained/<name>.<tag>``.
    overwrite : bool
        Replace a checkpoint that is there.
    raw_dir : str, optional
        Where DGL's raw data lies.

    Returns
    -------
    Path
        The checkpoint's folder.

    Raises
    ------
    OutputError
        If there is no finished run, or the output cannot be written.
    """
    model, card, _ = best_of_run(run, raw_dir)
    target = Path("pretrained", card.full_name) if out is None else out
    history = read_history(as_path(run) / f"seed_{card.weights.seed}")
    return write_checkpoint(target, model, card, overwrite, history)


def best_of_run(
    run: str | os.PathLike, raw_dir: str | None = None
) -> tuple[nn.Module, Card, GraphTask]:
    """What :func:`export_run` writes: the model of the best seed, its card, and that seed's data.

    Raises
    ------
    OutputError
        If there is no finished run, or the data has changed since.
    """
    folder = as_path(run)
    recipe = read_run(folder)
    summary = summarize(folder, recipe)
    # Whichever seed's, the data say the metric; of the best seed are those that the card names.
    tasks = Tasks()
    metric = tasks(recipe, raw_dir, summary["seeds"][0]).metric
    best = _best_seed(folder, summary["seeds"], metric)
    task = tasks(recipe, raw_dir, best["seed"])
    architecture = architecture_of_run(folder, recipe.architecture)
    model = load_seed(folder, best["seed"], recipe, task, architecture)
    if "device" in best:
        best["metrics"] = _measured_here(model, task, best["metrics"], folder)
    name, tag = split_name(recipe.full_name)
    card = Card(
        name=name,
        tag=tag,
        description=recipe.description or architecture.description,
        source=architecture.source,
        architecture=ArchitectureEntry(
            model=architecture.model, args=model_args(recipe, task, architecture)
        ),
        weights=WeightsEntry(
            seed=best["seed"],
            epoch=best["best_epoch"],
            device=best.get("device"),
            metrics=best["metrics"],
        ),
        dataset=dataset_entry(task),
        start=as_start(recipe.start_of(best["seed"])),
        scaling=scaling_entry(task),
        seeds=summary["seeds"],
        metrics=summary["metrics"],
        baselines=summary.get("baselines", {}),
        lipschitz=LipschitzEntry(**bound(model, task.graph).to_card()),
        recipe=recipe.to_dict(),
        versions=best.get("versions") or versions(),
    )
    return model, card, task


def _measured_here(
    model: nn.Module, task: GraphTask, found: dict[str, float], folder: Path
) -> dict[str, float]:
    """What the weights reach on this machine, which is what they reached where they were trained
    but for its rounding."""
    metrics = evaluate(model, task)
    for name, value in metrics.items():
        if name in found and not name.endswith("loss") and abs(value - found[name]) > _ROUNDING:
            raise OutputError(
                f"{folder}: the weights have a {name} of {value:.4f} here, and had "
                f"{found[name]:.4f} where they were trained; the data, or their split, are not the "
                "same: train anew"
            )
    return metrics


def _best_seed(folder: Path, seeds: list[int], metric: str) -> dict:
    results = [read_yaml(folder / f"seed_{seed}" / RESULT_FILE) for seed in seeds]
    return max(results, key=lambda result: selection_key(result["metrics"], metric, "metric"))
