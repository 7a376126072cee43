"""Put pretrained weights on another graph."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lipzoo._schema import validate
from lipzoo.card import ArchitectureEntry, Card, DatasetEntry, Summary, WeightsEntry, versions
from lipzoo.datasets import GraphTask
from lipzoo.errors import ConfigError, did_you_mean
from lipzoo.registry import load_pretrained
from lipzoo.training.loop import FitResult, fit
from lipzoo.training.recipe import FitSettings
from lipzoo.weights import prepare_folder, write_checkpoint

__all__ = ["FREEZE", "FinetuneResult", "finetune"]

#: What is not trained: nothing; the attention layers; the input layer and the attention layers.
FREEZE = ("none", "body", "all-but-head")


@dataclass
class FinetuneResult:
    """What fine-tuning gives.

    Parameters
    ----------
    model : torch.nn.Module
        With the weights of the best epoch, in evaluation mode.
    metrics : dict
        Of those weights: ``test_accuracy``, ``val_loss``, …
    history : list of dict
        One an evaluation.
    best_epoch : int
        From 1.
    kept, replaced : list of str
        Layer groups that kept the pretrained weights, and those freshly initialised.
    folder : Path or None
        The checkpoint that was written.
    """

    model: nn.Module
    metrics: dict[str, float]
    history: list[dict[str, float]] = field(repr=False)
    best_epoch: int
    kept: list[str]
    replaced: list[str]
    folder: Path | None = None


def finetune(
    name: str | os.PathLike,
    task: GraphTask,
    *,
    freeze: str = "none",
    epochs: int = 200,
    lr: float = 0.005,
    weight_decay: float = 5e-4,
    patience: int = 50,
    seed: int = 0,
    out: str | os.PathLike | None = None,
    overwrite: bool = False,
    verbose: bool = True,
    **overrides: Any,
) -> FinetuneResult:
    """Load pretrained weights and train them on ``task``.

    The input layer is replaced where the feature width differs; the head always is, since the
    classes of another data set mean something else (it is kept on the very data it was trained
    on).

    Parameters
    ----------
    name : str or path
        What :func:`~lipzoo.load_pretrained` takes.
    task : GraphTask
        What :func:`~lipzoo.load_dataset` returned.
    freeze : {"none", "body", "all-but-head"}
        What keeps its weights. A freshly initialised layer is always trained.
    epochs, lr, weight_decay, patience
        See :class:`~lipzoo.training.FitSettings`.
    seed : int
        Of the fresh layers and dropout.
    out : path, optional
        Write a checkpoint folder there, which ``load_pretrained`` takes.
    overwrite : bool
        Replace what the folder holds.
    verbose : bool
        Show a progress bar and a line an evaluation.
    **overrides
        Arguments of the model class that hold no weights, such as dropout.

    Returns
    -------
    FinetuneResult

    Raises
    ------
    ConfigError
        If an argument is out of its range.
    UnknownNameError, CheckpointError
        See :func:`~lipzoo.load_pretrained`.
    OutputError
        If ``out`` holds something and ``overwrite`` is false; before any training.
    """
    if freeze not in FREEZE:
        raise ConfigError(f"freeze: no choice {freeze!r}{did_you_mean(freeze, FREEZE)}")
    options = {
        "epochs": epochs,
        "optimizer": {"lr": float(lr), "weight_decay": float(weight_decay)},
        "early_stopping": {"patience": patience},
    }
    settings = validate(FitSettings, options, where="finetune")
    if out is not None:
        prepare_folder(out, overwrite)
    torch.manual_seed(seed)
    model, replaced = _adapt(name, task, overrides)
    groups = model.layer_groups()
    frozen = _frozen_groups(groups, freeze) - set(replaced)
    parameters = [p for group, ps in groups.items() if group not in frozen for p in ps]
    for group in frozen:
        for parameter in groups[group]:
            parameter.requires_grad_(False)
    result = fit(
        model,
        task,
        settings,
        parameters=[{"params": parameters}],
        verbose=verbose,
        title=f"{model.card.full_name} on {task.name}",
    )
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    finetuned = FinetuneResult(
        model.eval(),
        result.metrics,
        result.history,
        result.best_epoch,
        kept=[group for group in groups if group not in replaced],
        replaced=replaced,
    )
    if out is not None:
        finetuned.folder = write_checkpoint(
            out, model, _card(model, task, result, settings, freeze, seed), overwrite=True
        )
    return finetuned


def _adapt(name, task: GraphTask, overrides: dict[str, Any]) -> tuple[nn.Module, list[str]]:
    """The pretrained model with input and head of the task's sizes, and which of them are new."""
    with warnings.catch_warnings():
        # What is replaced is in the result, and the command line says it.
        warnings.filterwarnings("ignore", message=".*left out, because", category=UserWarning)
        model = load_pretrained(
            name, in_feats=task.in_feats, num_classes=task.num_classes, **overrides
        )
    trained_on = model.card.dataset
    before = model.card.architecture.args
    replaced = []
    if before["in_feats"] != task.in_feats:
        replaced.append("input")
    if before["num_classes"] != task.num_classes or trained_on.name != task.name:
        model.reset_classifier(task.num_classes)
        replaced.append("head")
    return model, replaced


def _frozen_groups(groups: dict[str, list], freeze: str) -> set[str]:
    if freeze == "none":
        return set()
    body = {group for group in groups if group not in ("input", "head")}
    return body if freeze == "body" else body | {"input"}


def _card(
    model: nn.Module,
    task: GraphTask,
    result: FitResult,
    settings: FitSettings,
    freeze: str,
    seed: int,
) -> Card:
    before: Card = model.card
    args = {
        **before.architecture.args,
        "in_feats": task.in_feats,
        "num_classes": task.num_classes,
    }
    return Card(
        name=before.name,
        tag=Path(task.name).stem,
        description=f"{before.full_name}, fine-tuned on {task.name}",
        source=before.source,
        licence=before.licence,
        architecture=ArchitectureEntry(model=before.architecture.model, args=args),
        weights=WeightsEntry(seed=seed, epoch=result.best_epoch, metrics=result.metrics),
        dataset=DatasetEntry(name=task.name, options=task.options, fingerprint=task.fingerprint),
        seeds=[seed],
        metrics={
            key: Summary(mean=value, std=0.0, values=[value])
            for key, value in result.metrics.items()
        },
        recipe={
            "finetuned_from": before.full_name,
            "weights_sha256": before.weights.sha256,
            "freeze": freeze,
            **settings.model_dump(mode="json", exclude_defaults=True),
        },
        versions=versions(),
    )
