"""What a worker process does with one point of a sweep: train it, or follow its gradients."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from lab.engine import MADE_WITH, made_with
from lab.studies.sweep import Point, Sweep
from lipzoo._yaml import read_yaml, write_yaml
from lipzoo.datasets import GraphTask
from lipzoo.lipschitz import gradient_flow
from lipzoo.models import DeepAttentionNet
from lipzoo.training.loop import fit
from lipzoo.training.run_folder import RECIPE_FILE, RESULT_FILE
from lipzoo.training.run_seed import build_from_recipe, train_seed
from lipzoo.training.run_together import train_together
from lipzoo.training.state import STATE_FILE
from lipzoo.training.tasks import Tasks
from lipzoo.weights import WEIGHTS_FILE

__all__ = [
    "GRADIENT_COLUMNS",
    "RUN_COLUMNS",
    "follow_gradients",
    "gradient_norms",
    "train_point",
    "train_points",
]

_POINT_COLUMNS = ("model", "depth", "missing_rate", "seed")
_VERSION_COLUMNS = ("recipe_hash", *MADE_WITH)
RUN_COLUMNS = (
    *_POINT_COLUMNS,
    *("metric", "val", "test", "val_loss", "best_epoch", "epochs", "seconds"),
    *_VERSION_COLUMNS,
)
GRADIENT_COLUMNS = (
    *_POINT_COLUMNS,
    *("epoch", "layer", "weight_gradient", "feature_gradient", "train_loss", "seconds"),
    *_VERSION_COLUMNS,
)


def train_point(point: Point, sweep: Sweep, out: Path, raw_dir: str | None) -> list[dict]:
    """Train a point as ``lipzoo train`` trains a seed, from its state where it was stopped.

    The one row of ``runs.csv``; ``seconds`` is empty where more than one process trained. Of
    ``sweep`` only :func:`follow_gradients` reads. The run has a folder of its own below ``out``.
    """
    group = run_folder(point, out)
    group.mkdir(parents=True, exist_ok=True)
    write_yaml(group / RECIPE_FILE, point.recipe.to_dict())
    folder = group / f"seed_{point.seed}"
    was_begun = (folder / STATE_FILE).is_file() or (folder / RESULT_FILE).is_file()
    task = _task(point, raw_dir)
    began = time.perf_counter()
    train_seed(point.recipe, folder, point.seed, task, verbose=False)
    seconds = time.perf_counter() - began

    result = read_yaml(folder / RESULT_FILE)
    metrics, best_epoch = result["metrics"], result["best_epoch"]
    return [
        {
            **_origin(point),
            **made_with(result.get("versions")),
            "metric": task.metric,
            "val": metrics[f"val_{task.metric}"],
            "test": metrics[f"test_{task.metric}"],
            "val_loss": metrics["val_loss"],
            "best_epoch": best_epoch,
            # Early stopping ends a training exactly that long after the best epoch.
            "epochs": min(point.recipe.epochs, best_epoch + point.recipe.early_stopping.patience),
            "seconds": "" if was_begun else f"{seconds:.1f}",
        }
    ]


def train_points(
    points: list[Point],
    out: Path,
    device: str,
    jobs: int,
    raw_dir: str | None,
    say: Callable[[str], None],
) -> None:
    """Train points together into their folders, where :func:`train_point` finds them finished."""
    work = [
        (point.recipe, run_folder(point, out) / f"seed_{point.seed}", point.seed, None)
        for point in points
    ]
    train_together(work, device, raw_dir, jobs, say)


def run_folder(point: Point, out: Path) -> Path:
    """``OUT/runs/<model>_<depth>_<recipe hash>``."""
    name = "".join(c if c.isalnum() else "-" for c in point.model)
    return Path(out) / "runs" / f"{name}_{point.depth}_{point.recipe_hash}"


def drop_state(point: Point, out: Path) -> None:
    """Remove what a finished run needs no more: megabytes a run, hundreds of runs."""
    for name in (STATE_FILE, WEIGHTS_FILE):
        (run_folder(point, out) / f"seed_{point.seed}" / name).unlink(missing_ok=True)


def follow_gradients(point: Point, sweep: Sweep, out: Path, raw_dir: str | None) -> list[dict]:
    """Train a point; a row a layer and recorded epoch, with the norms of its gradients."""
    task = _task(point, raw_dir)
    recorded = sorted(sweep.record_epochs)
    rows: list[dict[str, Any]] = []
    began = time.perf_counter()

    def record(epoch: int) -> None:  # called before the epoch of this number, from 1
        if epoch - 1 not in recorded:
            return
        loss, norms = gradient_norms(model, task)
        for layer, (weights, features) in enumerate(norms, 1):
            rows.append(
                {
                    **_origin(point),
                    "epoch": epoch - 1,
                    "layer": layer,
                    "weight_gradient": weights,
                    "feature_gradient": features,
                    "train_loss": loss,
                    "seconds": "",
                }
            )

    epochs = recorded[-1] + 1
    patience = point.recipe.early_stopping.model_copy(update={"patience": epochs})
    settings = point.recipe.settings().model_copy(
        update={"epochs": epochs, "early_stopping": patience}
    )
    torch.set_num_threads(point.recipe.num_threads or 1)
    torch.manual_seed(point.seed)
    model = build_from_recipe(point.recipe, task)
    fit(model, task, settings, on_epoch=record, verbose=False)
    rows[-1]["seconds"] = f"{time.perf_counter() - began:.1f}"
    return rows


def gradient_norms(
    model: DeepAttentionNet, task: GraphTask
) -> tuple[float, list[tuple[float, float]]]:
    r"""Training loss, and for each attention layer the norms of its gradients, without dropout.

    .. math::
        \lVert \partial L / \partial \theta_l \rVert_2, \qquad
        \lVert \partial L / \partial h_l \rVert_F

    of all parameters of layer :math:`l` and of what it puts out (N, H * D), as
    :func:`~lipzoo.lipschitz.gradient_flow` has them; the loss is that of the training nodes.
    """
    flow = gradient_flow(model, task.graph, task.feat, task.labels, task.train_mask)
    layers = [row for row in flow.rows if row["layer"].startswith("layer_")]
    return flow.loss, [(row["parameter_gradient_norm"], row["gradient_norm"]) for row in layers]


def _origin(point: Point) -> dict[str, Any]:
    return {
        "model": point.model,
        "depth": point.depth,
        "missing_rate": f"{point.missing_rate:g}",
        "seed": point.seed,
        "recipe_hash": point.recipe_hash,
        **made_with(),
    }


#: The data of the last points.
_tasks = Tasks(number=2)


def _task(point: Point, raw_dir: str | None) -> GraphTask:
    return _tasks(point.recipe, raw_dir, point.seed)
