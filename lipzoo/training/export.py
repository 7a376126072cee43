"""Turn a finished run into a checkpoint with a card."""

from __future__ import annotations

import os
from pathlib import Path

from torch import nn

from lipzoo._yaml import read_yaml
from lipzoo.card import (
    ArchitectureEntry,
    Card,
    DatasetEntry,
    LipschitzEntry,
    WeightsEntry,
    versions,
)
from lipzoo.errors import OutputError
from lipzoo.lipschitz import bound
from lipzoo.registry import get_architecture, split_name
from lipzoo.training.recipe import make_recipe
from lipzoo.training.run import RECIPE_FILE, RESULT_FILE, build_from_recipe, load_task, summarize
from lipzoo.weights import WEIGHTS_FILE, parse_safetensors, write_checkpoint

__all__ = ["export_run"]


def export_run(
    run: str | os.PathLike,
    out: str | os.PathLike | None = None,
    *,
    overwrite: bool = False,
    raw_dir: str | None = None,
) -> Path:
    """Write the checkpoint of a run.

    The weights are those of the seed with the best *validation* metric (ties: lower validation
    loss); the card holds mean and standard deviation over all seeds.

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
    folder = Path(run)
    if not (folder / RECIPE_FILE).is_file():
        raise OutputError(f"{folder}: holds no run; name the --out folder of `lipzoo train`")
    recipe = make_recipe(read_yaml(folder / RECIPE_FILE), where=str(folder / RECIPE_FILE))
    summary = summarize(folder, recipe)
    task = load_task(recipe, raw_dir)
    best = _best_seed(folder, summary["seeds"], task.metric)
    if best["fingerprint"] != task.fingerprint:
        raise OutputError(f"{folder}: the data has changed since the training; train anew")
    model = build_from_recipe(recipe, task)
    _load_seed(model, folder / f"seed_{best['seed']}" / WEIGHTS_FILE)
    architecture = get_architecture(recipe.architecture)
    name, tag = split_name(recipe.full_name)
    card = Card(
        name=name,
        tag=tag,
        description=recipe.description or architecture.description,
        source=architecture.source,
        architecture=ArchitectureEntry(
            model=architecture.model,
            args={
                **architecture.args,
                **recipe.overrides,
                "in_feats": task.in_feats,
                "num_classes": task.num_classes,
            },
        ),
        weights=WeightsEntry(seed=best["seed"], epoch=best["best_epoch"], metrics=best["metrics"]),
        dataset=DatasetEntry(name=task.name, options=task.options, fingerprint=task.fingerprint),
        seeds=summary["seeds"],
        metrics=summary["metrics"],
        baselines=summary.get("baselines", {}),
        lipschitz=LipschitzEntry(**bound(model, task.graph).to_card()),
        recipe=recipe.to_dict(),
        versions=versions(),
    )
    target = Path("pretrained", recipe.full_name) if out is None else Path(out)
    return write_checkpoint(target, model, card, overwrite)


def _load_seed(model: nn.Module, file: Path) -> None:
    try:
        model.load_state_dict(parse_safetensors(file.read_bytes(), file))
    except (OSError, RuntimeError) as fault:
        reason = str(fault).splitlines()[0]
        raise OutputError(
            f"{file}: are no weights of this run ({reason}); train the seed anew with --overwrite"
        ) from None


def _best_seed(folder: Path, seeds: list[int], metric: str) -> dict:
    results = [read_yaml(folder / f"seed_{seed}" / RESULT_FILE) for seed in seeds]
    return max(results, key=lambda r: (r["metrics"][f"val_{metric}"], -r["metrics"]["val_loss"]))
