"""What a run's folder holds: its recipe, and the results of its seeds.

::

    OUT/recipe.yaml                    what was asked for
    OUT/architecture.yaml              the architecture as it was then
    OUT/seed_0/metrics.csv             a row an evaluation (and TensorBoard's events)
    OUT/seed_0/state.pt                to resume from
    OUT/seed_0/model.safetensors       the best epoch's weights
    OUT/seed_0/result.yaml             its metrics; there once the seed is finished
    OUT/baselines/<name>/…             the same for each baseline
    OUT/summary.yaml                   mean and standard deviation over the seeds
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from lipzoo._yaml import read_yaml
from lipzoo.datasets import GraphTask
from lipzoo.errors import OutputError
from lipzoo.training.recipe import Recipe, make_recipe
from lipzoo.training.state import check_same_data

__all__ = [
    "RECIPE_FILE",
    "RESULT_FILE",
    "SUMMARY_FILE",
    "is_finished",
    "read_results",
    "read_run",
    "seed_folders",
    "summarize",
]

RECIPE_FILE, SUMMARY_FILE = "recipe.yaml", "summary.yaml"

#: There once a seed is finished.
RESULT_FILE = "result.yaml"


def read_run(folder: Path) -> Recipe:
    """The recipe of a run's folder.

    Raises
    ------
    OutputError
        If the folder holds no run.
    """
    file = folder / RECIPE_FILE
    if not file.is_file():
        raise OutputError(f"{folder}: holds no run; name the --out folder of `lipzoo train`")
    return make_recipe(read_yaml(file), where=str(file))


def seed_folders(run: Path) -> dict[int, Path]:
    """The folders of a run's seeds, by seed; a copy of one, such as ``seed_0_old``, is none."""
    found = ((re.fullmatch(r"seed_(0|[1-9]\d*)", path.name), path) for path in run.glob("seed_*"))
    return dict(sorted((int(name[1]), path) for name, path in found if name))


def read_results(run: Path) -> list[dict[str, Any]]:
    """What is kept of the finished seeds in a run's folder, in the order of the seeds."""
    files = (folder / RESULT_FILE for folder in seed_folders(run).values())
    return [read_yaml(file) for file in files if file.is_file()]


def is_finished(folder: Path, task: GraphTask) -> bool:
    """Whether a seed has its result, which is of this data.

    Raises
    ------
    OutputError
        If it is of other data: a mean over both would say nothing.
    """
    file = folder / RESULT_FILE
    if not file.is_file():
        return False
    check_same_data(folder, read_yaml(file)["fingerprint"], task.fingerprint)
    return True


def summarize(folder: Path, recipe: Recipe) -> dict[str, Any]:
    """Mean and sample standard deviation over the finished seeds, and those of the baselines."""
    results = read_results(folder)
    if not results:
        raise OutputError(f"{folder}: holds no finished seed; run `lipzoo train` with --resume")
    summary = {
        "name": recipe.full_name,
        "seeds": [result["seed"] for result in results],
        "metrics": _statistics(results),
    }
    found = {name: read_results(folder / "baselines" / name) for name in sorted(recipe.baselines)}
    if any(found.values()):
        summary["baselines"] = {name: _statistics(r) for name, r in found.items() if r}
    if only := [r for r in results if r.get("only_class") is not None]:
        summary["only_class"] = [{"seed": r["seed"], "class": r["only_class"]} for r in only]
    return summary


def _statistics(results: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    statistics = {}
    for name in results[0]["metrics"]:
        values = [float(result["metrics"][name]) for result in results]
        std = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
        statistics[name] = {"mean": float(np.mean(values)), "std": std, "values": values}
    return statistics
