"""Put pretrained weights on another graph.

::

    OUT/model.safetensors, OUT/card.yaml   the checkpoint; there once the fine-tuning is finished
    OUT/training/settings.yaml             what was asked for, so that --resume can tell
    OUT/training/state.pt                  to resume from
    OUT/training/metrics.csv               a row an evaluation (and TensorBoard's events)
"""

from __future__ import annotations

import copy
import itertools
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lipzoo._output import OutputFolder
from lipzoo._progress import Verbose, stage
from lipzoo._schema import validate
from lipzoo._writing import one_writer
from lipzoo._yaml import read_yaml
from lipzoo.datasets import GraphTask
from lipzoo.datasets.loading import as_task
from lipzoo.encoding import encode_to_train
from lipzoo.errors import ConfigError, did_you_mean
from lipzoo.models import DeepAttentionNet, check_has, parameter_groups
from lipzoo.registry import find_checkpoint, find_class
from lipzoo.registry.pretrained import mark_loaded
from lipzoo.settings import (
    FREEZE,
    SAVE_EVERY,
    Batching,
    FinetuneSettings,
    Neighbours,
    Part,
    Start,
)
from lipzoo.training.adapting import adapt
from lipzoo.training.batching import check_batching
from lipzoo.training.class_weight import class_weights
from lipzoo.training.data_entry import with_result
from lipzoo.training.doubts import one_label, warn_of_data
from lipzoo.training.finetune_card import card_before, identity
from lipzoo.training.loop import CSV_FILE, FitResult, fit
from lipzoo.training.memory import say_if_short
from lipzoo.training.metrics import evaluate, infer, only_class, only_class_words
from lipzoo.training.probe import Probe, frozen_feat
from lipzoo.training.starting import say_if_behind, start_of
from lipzoo.training.state import STATE_FILE, check_other_epochs
from lipzoo.training.unfreezing import optimizer_groups, thaw_epochs, thawing
from lipzoo.training.warm_start import check_warm_start, or_start, warm_start_head
from lipzoo.weights import CARD_FILE, Checkpoint, save_checkpoint

__all__ = ["FREEZE", "FinetuneResult", "finetune"]

#: In the output, beside the checkpoint; the state first: it must not be taken for that of others.
_STATE_FILES = tuple(f"training/{name}" for name in (STATE_FILE, CSV_FILE, "*/events.*"))

#: What to try where a model predicts the same for every node.
_REMEDIES = (
    "another lr, features on one scale (scaling='standard'), class_weight='balanced', a task with "
    "metric 'macro_f1' or 'roc_auc' to choose the epoch by, or start='stack'"
)

#: Where each default stands; the command line takes them from there too.
_DEFAULTS = FinetuneSettings()


@dataclass
class FinetuneResult:
    """What fine-tuning gives.

    Parameters
    ----------
    model : torch.nn.Module
        With the weights of the best epoch, in evaluation mode, and a card of its own (``card``);
        where a checkpoint was written, ``pretrained_folder`` names it.
    metrics : dict
        Of those weights: ``test_accuracy``, ``val_loss``, …
    history : list of dict
        One an evaluation.
    best_epoch : int
        From 1; 0 where no epoch was better than the (warm) start.
    kept, replaced : list of str
        Layer groups that kept the pretrained weights, and those freshly initialised; ``edges`` is
        what reads edge features (or was taken off), which belongs to the group ``input``. A class
        of one's own without ``layer_groups`` is one group, ``model``.
    folder : Path or None
        The checkpoint that was written.
    only_class : int, list of int or None
        The class that the model predicts for every node, where it predicts no other (the labels,
        where nodes may have several); a warning says so too.
    """

    model: nn.Module
    metrics: dict[str, float]
    history: list[dict[str, float]] = field(repr=False)
    best_epoch: int
    kept: list[str]
    replaced: list[str]
    folder: Path | None = None
    only_class: int | list[int] | None = None


@one_writer
def finetune(
    name: str | os.PathLike | nn.Module | Checkpoint,
    task: GraphTask | str | os.PathLike | Any,
    *,
    start: str | Start | None = None,
    warm_start: bool = _DEFAULTS.warm_start,
    freeze: str = _DEFAULTS.freeze,
    unfreeze_every: int | None = _DEFAULTS.unfreeze_every,
    layer_lr_decay: float = _DEFAULTS.layer_lr_decay,
    batching: str | dict[str, Any] | Batching = "full",
    class_weight: str | Sequence[float] | Tensor | None = None,
    epochs: int = _DEFAULTS.epochs,
    lr: float = _DEFAULTS.optimizer.lr,
    weight_decay: float = _DEFAULTS.optimizer.weight_decay,
    patience: int = _DEFAULTS.early_stopping.patience,
    seed: int = _DEFAULTS.seed,
    splits: tuple[str, ...] = ("train", "val", "test"),
    out: str | os.PathLike | None = None,
    overwrite: bool = False,
    resume: bool = False,
    save_every: int = SAVE_EVERY,
    verbose: Verbose = True,
    **overrides: Any,
) -> FinetuneResult:
    """Load pretrained weights and train them on ``task``.

    A class of one's own (:func:`~lipzoo.register_model`) is trained as a whole. What it would need
    methods for, other sizes or some layers alone, is refused where it lacks them; without
    ``reset_classifier`` it goes on with the head that it has.

    The input layer is replaced where the feature width differs, and what reads edge features where
    theirs does; the head always is, since the
    classes of other data mean something else. It is kept on the very data that it was trained on
    (:func:`~lipzoo.datasets.loading.is_same_data`: same edges, features and labels, in any split),
    under whatever name.

    Where nothing but the head is trained (``freeze="all-but-head"``, and the input layer fits),
    the features that it reads are computed once, in evaluation mode: a linear probe. Dropout is
    then applied to the input of the head only (``head_drop``), not in the frozen layers. (Where
    there is a start, each epoch reads other features, and nothing is computed once; nor with
    ``batching="neighbours"``.)

    Weights in context (``gat_lip_context_8``) have no head to replace: they go on learning, each
    epoch with another part of the training nodes hidden.

    Parameters
    ----------
    name : str or path
        What :func:`~lipzoo.load_pretrained` takes.
    task : GraphTask, str, path, DGLGraph, PyG Data or networkx graph
        What :func:`~lipzoo.load_dataset` returned or takes, or a graph of your own with features
        and labels (:meth:`GraphTask.of`; where it has no masks they are drawn at random), or
        several (:meth:`GraphTask.from_graphs`: inductive). Its labels may be multilabel.
    start : {"stack", "context", "auto"}, name of weights in context, or None
        Begin from what the training labels say by themselves, by the closed-form stack or a network
        in context: the model reads it beside the features, and learns a correction to it, which is
        0 at first (:func:`lipzoo.encoding.add_start`). The beginning is kept where no epoch does
        better on the validation nodes. Input layer and head are replaced, unless the weights began
        so already, on the same data. ``"auto"``: on data that the weights have not seen, from that
        of stack and network in context that does better on the validation nodes. By default as the
        weights began.
    warm_start : bool
        Let the head begin as a logistic regression on what the pretrained body gives
        (:func:`~lipzoo.training.warm_start_head`), and keep that beginning where no epoch does
        better on the validation nodes. Pays where few nodes are labelled. Not for multilabel
        tasks.
    freeze : {"none", "body", "all-but-head"}
        What keeps its weights, the statistics of batch norm among them. A freshly initialised
        layer is always trained.
    unfreeze_every : int, optional
        Thaw what is frozen, one layer every so many epochs, from the head downwards. With
        ``freeze="none"``, all but the head is frozen at first. Early stopping still applies: give
        it the ``patience`` for some layers.
    layer_lr_decay : float
        In (0, 1]. A layer that is d layers below the head learns at ``lr * layer_lr_decay ** d``
        (the last attention layer: d = 1).
    batching : {"full", "clusters", "neighbours", "shadow"}, or dict
        What an epoch is: a step on the whole graph, or steps on parts of it or samples; with its
        settings, such as ``{"name": "clusters", "parts": 64}``. See
        :mod:`lipzoo.training.batching`.
    class_weight : "balanced", sequence of C numbers, or None
        Weights of the classes in the training loss; see
        :func:`~lipzoo.training.class_weight.class_weights`. Metrics and ``val_loss`` are without.
    epochs, lr, weight_decay, patience
        See :class:`~lipzoo.settings.FinetuneSettings`.
    seed : int
        Of the fresh layers and dropout.
    splits : tuple of {"train", "val", "test"}
        The node sets that the task has, with ``"train"`` among them, and that the metrics are of.
        Without ``"val"`` the weights of the last epoch are kept, and there is no ``warm_start``.
    out : path, optional
        Write a checkpoint folder there, which ``load_pretrained`` takes. It also holds the state
        to resume from.
    overwrite : bool
        Replace what the folder holds.
    resume : bool
        Go on with what was stopped in ``out``, with the same arguments: the final weights are
        those of an undisturbed run, bit by bit (on the same machine, with as many threads). The
        number of ``epochs`` may be another: then they are those of a run that had it from the
        start. Without anything to go on with, start.
    save_every : int
        Epochs between two states.
    verbose : bool or "json"
        Say on stderr how far it is; see :func:`~lipzoo.training.loop.fit`.
    **overrides
        Arguments of the model class that hold no weights, such as dropout; and ``edge_feats``, 0
        to leave out the edge features of weights that read some, or the task's width to add them.

    Returns
    -------
    FinetuneResult

    Raises
    ------
    ConfigError
        If an argument is out of its range, or ``out`` was begun with other arguments.
    DataError
        If the task lacks labels or masks, or something in it is malformed.
    UnknownNameError, CheckpointError
        See :func:`~lipzoo.load_pretrained`.
    OutputError
        If ``out`` holds something and neither ``overwrite`` nor ``resume`` allows it, or another
        process writes there; before any training.
    """
    settings = _settings(
        epochs=epochs,
        optimizer=_but(_DEFAULTS.optimizer, lr=float(lr), weight_decay=float(weight_decay)),
        early_stopping=_but(_DEFAULTS.early_stopping, patience=patience),
        warm_start=warm_start,
        freeze=freeze,
        unfreeze_every=unfreeze_every,
        layer_lr_decay=float(layer_lr_decay),
        batching=batching,
        seed=seed,
    )
    seed = settings.seed  # Python's own, whatever was given
    if save_every < 1:
        raise ConfigError(f"save_every must be at least 1, got {save_every}")
    if given := sorted({"in_feats", "num_classes", "start_logits"} & set(overrides)):
        raise ConfigError(
            f"finetune: {' and '.join(given)} come from the task and start; leave them out"
        )
    if warm_start and "val" not in splits:
        raise ConfigError("warm_start: is chosen on validation nodes; leave one of both out")
    if resume and out is None:
        raise ConfigError("resume: there is nothing to go on with; say out=..., the folder")
    task = as_task(task).validate(masks=[f"{split}_mask" for split in splits])
    weights = class_weights(class_weight, task)
    checkpoint = find_checkpoint(name)
    source = checkpoint.card
    _check_class(checkpoint, settings)
    start = start_of(source, task, start, warm_start, splits, verbose)
    torch.manual_seed(seed)
    raw = task
    with stage(verbose, f"{source.full_name} on {task.name}: reading the graph"):
        task = encode_to_train(checkpoint, task, start, anew=True)
    warn_of_data(task)
    model, replaced = adapt(checkpoint, task, overrides)
    card = card_before(source, task, overrides, settings, class_weight, weights)
    model.card = card
    check_batching(model, task, settings.batching)
    if warm_start:
        check_warm_start(model, task)
    training = None
    if out is not None:
        output = OutputFolder(out, "training/settings.yaml", _STATE_FILES)
        training = output.file.parent
        if resume and output.file.is_file():
            is_finished = (output.path / CARD_FILE).is_file()
            if epochs := _epochs_before(output.file):
                check_other_epochs(training / STATE_FILE, epochs, settings, is_finished)
        output.begin(identity(card), resume, overwrite, may_change=["recipe.epochs"])
    before = None
    if warm_start:
        warm_start_head(model, task, weights)
        if "head" not in replaced:
            replaced.append("head")
        state_before, before = copy.deepcopy(model.state_dict()), evaluate(model, task, splits)
    result = _train(
        model,
        task,
        settings,
        replaced,
        class_weight=weights,
        splits=splits,
        folder=training,
        resume=resume,
        verbose=verbose,
        save_every=save_every,
        title=f"{source.full_name} on {task.name}",
    )
    if before is not None:
        result = or_start(result, before, f"val_{task.metric}")
        if result.best_epoch == 0:
            model.load_state_dict(state_before)
            result.only_class = only_class(infer(model, task), task)
    finetuned = FinetuneResult(
        model.eval(),
        result.metrics,
        result.history,
        result.best_epoch,
        kept=[group for group in parameter_groups(model) if group not in replaced],
        replaced=replaced,
        only_class=result.only_class,
    )
    model.card = with_result(card, result.metrics, result.best_epoch, seed)
    del model.pretrained_folder  # of the source
    if out is not None:
        made = save_checkpoint(out, model, model.card, True, result.history)
        model.card = made.card
        finetuned.folder = made.folder
        mark_loaded(model, made.folder, {})
    if model.card.start is None and not source.reads_context:
        say_if_behind(raw, result.metrics, verbose)
    if result.only_class is not None and not one_label(raw):  # which was said before
        words = only_class_words(f"{task.name}: the model", result.only_class, _REMEDIES)
        warnings.warn(words, stacklevel=3)
    return finetuned


def _check_class(checkpoint: Checkpoint, settings: FinetuneSettings) -> None:
    """Refuse to train by layers what cannot be taken apart, before any work."""
    kind = find_class(checkpoint.card.architecture.model)
    by_layers = {
        "freeze": settings.freeze != "none",
        "unfreeze_every": settings.unfreeze_every is not None,
        "layer_lr_decay": settings.layer_lr_decay != 1,
    }
    asked = [option for option, is_asked in by_layers.items() if is_asked]
    if asked and kind is not None:
        check_has(kind, ["layer_groups"], " and ".join(asked))


def _epochs_before(file: Path) -> int | None:
    """What the file of an earlier training says; None where it is somebody else's."""
    recipe = read_yaml(file).get("recipe")
    epochs = recipe.get("epochs") if isinstance(recipe, dict) else None
    return epochs if isinstance(epochs, int) else None


def _but(default: Part, **values: Any) -> dict[str, Any]:
    """The default, but for these values."""
    return {**default.model_dump(), **values}


def _settings(**options: Any) -> FinetuneSettings:
    freeze = options["freeze"]
    if freeze not in FREEZE:
        raise ConfigError(f"freeze: no choice {freeze!r}{did_you_mean(freeze, FREEZE)}")
    return validate(FinetuneSettings, options, where="finetune")


def _train(
    model: nn.Module,
    task: GraphTask,
    settings: FinetuneSettings,
    replaced: list[str],
    **options: Any,
) -> FitResult:
    """`fit`, on what is to be trained."""
    # What the model itself has frozen stays so.
    groups = {
        name: [parameter for parameter in parameters if parameter.requires_grad]
        for name, parameters in parameter_groups(model).items()
    }
    has_fresh_edges = "edges" in replaced and model.edge_feats
    fresh = [*replaced, *(["input"] if has_fresh_edges else [])]
    epochs = thaw_epochs(list(groups), fresh, settings.freeze, settings.unfreeze_every)
    options["parameters"] = optimizer_groups(
        groups, epochs, settings.optimizer.lr, settings.layer_lr_decay
    )
    is_standard = isinstance(model, DeepAttentionNet) and (
        type(model).forward is DeepAttentionNet.forward
    )
    reads_blocks = isinstance(settings.batching, Neighbours)
    if set(epochs) == {"head"} and is_standard and not task.parts and not reads_blocks:
        # What is frozen gives the same features in every epoch.
        task = task.with_ndata(feat=frozen_feat(model, task))
        return fit(Probe(model), task, settings, **options)
    of_class = model.card.architecture
    say_if_short(options["verbose"], model, of_class.model, of_class.args, task, settings)
    try:
        return fit(model, task, settings, on_epoch=thawing(groups, epochs), **options)
    finally:
        for parameter in itertools.chain(*groups.values()):
            parameter.requires_grad_(True)
