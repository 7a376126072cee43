"""How `NodeClassifier` trains an architecture, or fine-tunes weights, on a task."""

from __future__ import annotations

import inspect
import os
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from lipzoo import hub
from lipzoo._paths import is_path
from lipzoo._schema import validate
from lipzoo.card import ArchitectureEntry, Card, versions
from lipzoo.datasets import GraphTask
from lipzoo.encoding import started
from lipzoo.errors import ConfigError
from lipzoo.models import InContextGATv2
from lipzoo.registry import get_architecture, split_name
from lipzoo.settings import FitSettings
from lipzoo.training import finetune, fit
from lipzoo.training.class_weight import class_weights
from lipzoo.training.data_entry import dataset_entry, with_result
from lipzoo.training.doubts import one_label, warn_of_data
from lipzoo.training.fresh import arguments_for, fresh_model
from lipzoo.training.metrics import only_class_words
from lipzoo.training.starting import AUTO, best_start

__all__ = ["learn"]

#: What to try where the model predicts one class for every node.
_REMEDIES = (
    "another lr, more epochs, features on one scale (scikit-learn's StandardScaler before it), "
    "class_weight='balanced', or start='stack'"
)


def learn(
    task: GraphTask, params: dict[str, Any], classes: np.ndarray, seed: int
) -> tuple[nn.Module, int, list[dict[str, float]]]:
    """The model, in evaluation mode and with a card; the epoch of its weights; all epochs.

    Nothing global changes: neither PyTorch's random numbers nor anything else.

    Parameters
    ----------
    task : GraphTask
        With ``train_mask``, and ``val_mask`` where an epoch is to be chosen.
    params : dict
        Those of the estimator.
    classes : ndarray (C,)
        What ``class_weight`` names.
    seed : int
    """
    # NumPy's numbers, as a grid of parameters has them, are none in a card.
    params = {k: v.item() if isinstance(v, np.generic) else v for k, v in params.items()}
    for key in ("lr", "weight_decay"):
        if not isinstance(params[key], (int, float)):
            raise ConfigError(f"{key} must be a number, got {params[key]!r}")
        params[key] = float(params[key])
    overrides = _overrides(params["model_params"])
    splits = ("train", "val") if "val_mask" in task.graph.ndata else ("train",)
    options = {
        "splits": splits,
        "verbose": bool(params["verbose"]),
        "class_weight": _weights(params["class_weight"], classes),
    }
    if params["class_weight"] == "balanced":  # else the epoch with the fewest rare ones would win
        task = replace(task, metric="macro_f1")
    name = params["model"]
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        if _is_architecture(name):
            return _train(name, task, params, overrides, seed, options)
        keys = ("epochs", "lr", "weight_decay", "patience", "start")
        options |= {key: params[key] for key in keys}
        found = finetune(name, task, seed=seed, **options, **overrides)
        return found.model, found.best_epoch, found.history


def _overrides(model_params: Any) -> dict[str, Any]:
    if model_params is None:
        return {}
    if not isinstance(model_params, dict) or not all(isinstance(k, str) for k in model_params):
        raise ConfigError(
            f"model_params must be a dict of arguments by name, or None, got {model_params!r}"
        )
    taken = {"in_feats", "num_classes", "start_logits", *inspect.signature(finetune).parameters}
    if given := sorted(taken & set(model_params)):
        raise ConfigError(
            f"model_params: {', '.join(given)}: no argument of an architecture, or one that X and "
            "y say; leave it out"
        )
    return model_params


def _is_architecture(name: Any) -> bool:
    if not isinstance(name, (str, os.PathLike)):
        raise ConfigError(
            "model must be the name of an architecture or of weights, a path, or 'stack', got a "
            f"{type(name).__name__}"
        )
    return not (is_path(name) or hub.is_remote(name)) and split_name(name)[1] is None


def _train(
    name: str,
    task: GraphTask,
    params: dict[str, Any],
    overrides: dict[str, Any],
    seed: int,
    options: dict[str, Any],
) -> tuple[nn.Module, int, list[dict[str, float]]]:
    architecture = get_architecture(name)
    if architecture.model == InContextGATv2.__name__:
        raise ConfigError(
            f"model: {name} reads other graphs' labels to learn how to; name its weights, such as "
            f"{name}.{architecture.default_tag}, which are fine-tuned"
        )
    content = {
        "epochs": params["epochs"],
        "optimizer": {key: params[key] for key in ("lr", "weight_decay")},
        "early_stopping": {"patience": params["patience"]},
    }
    settings = validate(FitSettings, content, where="NodeClassifier")
    weights = class_weights(options.pop("class_weight"), task)
    start = params["start"] if params["start"] != AUTO else best_start(task)
    task = started(task, start)
    what = (task, architecture, overrides, start)
    torch.manual_seed(seed)
    model = fresh_model(*what)
    warn_of_data(task)
    result = fit(model, task, settings, class_weight=weights, title=name, **options)
    if result.only_class is not None and not one_label(task):  # which was said before
        words = only_class_words(f"{name}: the model", result.only_class, _REMEDIES)
        warnings.warn(words, stacklevel=4)
    card = Card(
        name=name,
        tag="fit",
        description=f"{name}, trained by scikit-learn's fit",
        source=architecture.source,
        architecture=ArchitectureEntry(model=architecture.model, args=arguments_for(*what)),
        dataset=dataset_entry(task),
        start=task.options.get("start"),
        seeds=[seed],
        recipe=settings.model_dump(mode="json"),
        versions=versions(),
    )
    model.card = with_result(card, result.metrics, result.best_epoch, seed)
    return model.eval(), result.best_epoch, result.history


def _weights(choice: Any, classes: np.ndarray) -> Any:
    """``class_weight`` as lipzoo has it: a dict by classes becomes a list."""
    if not isinstance(choice, dict):
        return choice
    known = classes.tolist()
    if strange := [key for key in choice if key not in known]:
        raise ConfigError(f"class_weight: names {strange[0]!r}, which is none of the classes")
    return [choice.get(label, 1.0) for label in known]
