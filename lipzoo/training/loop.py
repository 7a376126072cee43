"""The training loop: epochs, early stopping, best weights, state that resumes."""

from __future__ import annotations

import csv
from collections.abc import Callable
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lipzoo._malloc import giving_back
from lipzoo._progress import EpochsProgress, Verbose, stage
from lipzoo.datasets import GraphTask
from lipzoo.encoding import encode_to_train
from lipzoo.errors import ConfigError
from lipzoo.models import check_has
from lipzoo.models.reversible import is_reversible
from lipzoo.training.batching import make_batches, train_epoch
from lipzoo.training.metrics import (
    check_metric,
    infer,
    measure,
    only_class,
    selection_key,
    warn_if_diverged,
)
from lipzoo.training.ranks import Logits, Ranks
from lipzoo.training.recipe import FitSettings, Optimizer
from lipzoo.training.schedules import Plateau, make_scheduler
from lipzoo.training.state import (
    STATE_FILE,
    check_processes,
    check_same_judge,
    load_state,
    save_state,
)
from lipzoo.training.stopping import Chosen

__all__ = ["FitResult", "fit", "make_optimizer"]

CSV_FILE = "metrics.csv"


@dataclass
class FitResult:
    """What a fit gives; the model then holds the weights of the best epoch.

    Parameters
    ----------
    metrics : dict
        ``test_accuracy``, ``val_loss``, … of the best epoch's weights.
    best_epoch : int
        From 1; 0 where a task with ``parts`` was best before the first.
    history : list of dict
        One an evaluation: ``epoch``, ``lr``, ``train_loss``, ``val_loss``, ``val_<metric>``.
    only_class : int, list of int or None
        The class that the model predicts for every node, where it predicts no other
        (:func:`~lipzoo.training.metrics.only_class`).
    """

    metrics: dict[str, float]
    best_epoch: int
    history: list[dict[str, float]] = field(repr=False)
    only_class: int | list[int] | None = None


@dataclass
class _State(Chosen):
    """All that a later process needs to go on as if nothing had happened."""

    epoch: int = 0
    judged_by: str | None = None  # the metric on the validation nodes, where these are looked at
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)


def fit(
    model: nn.Module,
    task: GraphTask,
    settings: FitSettings,
    *,
    folder: Path | None = None,
    resume: bool = False,
    parameters: list[dict[str, Any]] | None = None,
    class_weight: Tensor | None = None,
    on_epoch: Callable[[int], None] | None = None,
    on_evaluation: Callable[[dict[str, float]], None] | None = None,
    splits: tuple[str, ...] = ("train", "val", "test"),
    ranks: Ranks | None = None,
    verbose: Verbose = True,
    title: str = "",
    save_every: int = 100,
) -> FitResult:
    """Train ``model`` on the training nodes of ``task``; choose the epoch on its validation nodes.

    Parameters
    ----------
    model : torch.nn.Module
        Called as ``model(graph, feat)``.
    task : GraphTask
        Graph, features, labels and masks of the ``splits``, on the device of the model. Where it
        has ``parts``, the epochs take them in turn to learn from.
    settings : FitSettings
        Epochs, optimiser, schedule, early stopping, batching.
    folder : Path, optional
        Where ``metrics.csv``, TensorBoard's events and the resumable state go.
    resume : bool
        Go on from the state in ``folder`` where there is one.
    parameters : list of dict, optional
        Parameter groups for the optimiser, instead of :func:`make_optimizer`'s.
    class_weight : Tensor (C,), optional
        Weight of each class in the loss.
    on_epoch : callable, optional
        Called with the number of each epoch before it runs (gradual unfreezing, callbacks).
    on_evaluation : callable, optional
        Called with each row of the history as it comes; what it raises ends the training.
    splits : tuple of {"train", "val", "test"}
        The node sets that the metrics at the end are of. Without ``"val"`` no validation node is
        looked at, and the weights of the last epoch are kept.
    ranks : Ranks, optional
        The processes that train the model together; all call this alike, with the whole task, and
        get the same. The first one alone has a ``folder``.
    verbose : bool or "json"
        Say on stderr how far it is (:class:`~lipzoo._progress.EpochsProgress`).
    title : str
        Stands before it.
    save_every : int
        Epochs between two states.

    Returns
    -------
    FitResult
        The test metric is looked at once, at the end.

    Raises
    ------
    CheckpointError
        If the state in ``folder`` does not belong to this model and recipe.
    OutputError
        If it was begun on other data, or its epochs were judged by another metric.
    ConfigError
        If ``settings.consistency`` is given for a multilabel task, or ``settings.batching`` is not
        for this model and task (:func:`~lipzoo.training.batching.check_batching`).
    DataError
        If the task's metric is not for its labels, or not defined on the nodes of a split.
    """
    check_metric(task)
    if settings.consistency is not None and task.multilabel:
        raise ConfigError(
            "consistency: its sharpened predictions are of one class a node, and the task "
            f"{task.name!r} is multilabel; leave it out of the recipe"
        )
    task = encode_to_train(model, task)
    if ranks is None:
        batches = make_batches(model, task, settings.batching, class_weight)
        logits_of: Logits = lambda judged, _: infer(judged, task)  # noqa: E731
    else:
        ranks.check(model, task, settings.batching)
        batches, logits_of = ranks.divided(model, task, settings.batching, class_weight)
        ranks.begin_draws()
    optimizer = make_optimizer(model, settings.optimizer, parameters)
    scheduler = make_scheduler(optimizer, settings.schedule, settings.epochs, settings.eval_every)
    # What a state holds beside the epochs' results.
    parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler}
    judged = model
    if settings.ema_decay is not None:
        average = get_ema_multi_avg_fn(settings.ema_decay)
        parts["average"] = AveragedModel(model, multi_avg_fn=average, use_buffers=True)
        judged = parts["average"].module
    validates = "val" in splits
    state = _State(judged_by=task.metric if validates else None)
    if resume:
        state = _resumed(folder, parts, task, ranks, state.judged_by) or state
    if validates and task.parts and state.best_key is None:
        # What it starts from is a result too.
        _keep_best(
            state,
            judged,
            measure(logits_of(judged, ("val",)), task, ("val",)),
            task.metric,
            settings.early_stopping.monitor,
        )
    begun, first_epoch = state.epoch, stage(verbose, f"{title}: the first epoch".lstrip(": "))
    progress = EpochsProgress(verbose, title, settings.epochs, state.epoch)
    with closing(_Log(folder, state.history)) as log, closing(progress):
        stopping = settings.early_stopping
        while state.epoch < settings.epochs and not (
            state.history and state.is_over(state.epoch, stopping)
        ):
            state.epoch += 1
            if on_epoch is not None:
                on_epoch(state.epoch)
            lr = optimizer.param_groups[0]["lr"]
            learnt = task.parts[state.epoch % len(task.parts)] if task.parts else task
            is_first = state.epoch == begun + 1
            with first_epoch if is_first else nullcontext(), giving_back(_saves_memory(model)):
                train_loss = train_epoch(
                    model, learnt, batches, optimizer, settings, class_weight, state.epoch, ranks
                )
            if judged is not model:
                parts["average"].update_parameters(model)
            is_evaluated = state.epoch % settings.eval_every == 0 or state.epoch == settings.epochs
            if is_evaluated:
                val = measure(logits_of(judged, ("val",)), task, ("val",)) if validates else {}
                row = {"epoch": state.epoch, "lr": lr, "train_loss": train_loss, **val}
                state.history.append(row)
                log.write(row)
                if validates:
                    _keep_best(state, judged, val, task.metric, stopping.monitor)
                    progress.evaluated(row, *_best(state, task.metric, stopping.monitor))
                if on_evaluation is not None:
                    on_evaluation(row)
            if isinstance(scheduler, Plateau):
                scheduler.step(row.get("val_loss", train_loss) if is_evaluated else None)
            else:
                scheduler.step()
            progress.step(state.epoch)
            if state.epoch % save_every == 0:
                _save(folder, parts, state, task, ranks)
    _save(folder, parts, state, task, ranks)
    model.load_state_dict(state.best_weights if validates else judged.state_dict())
    epoch = state.best_epoch if validates else state.epoch
    logits = logits_of(model, splits)
    progress.finish()
    warn_if_diverged(logits, task.name)
    return FitResult(measure(logits, task, splits), epoch, state.history, only_class(logits, task))


def _save(
    folder: Path | None, parts: dict, state: _State, task: GraphTask, ranks: Ranks | None
) -> None:
    rest = {} if ranks is None else {"draws": ranks.draws()}
    if folder is not None:
        rest["fingerprint"] = task.fingerprint
        save_state(folder / STATE_FILE, parts, fit=vars(state), **rest)


def _resumed(
    folder: Path | None,
    parts: dict,
    task: GraphTask,
    ranks: Ranks | None,
    judged_by: str | None,
) -> _State | None:
    """The state in the folder, which the first process tells the others; None where there is none.

    Raises
    ------
    CheckpointError
        If it is not of these parts.
    ConfigError
        If there were more processes, or fewer.
    OutputError
        If it was begun on other data, or its epochs were judged by something else.
    """
    path = Path(STATE_FILE) if folder is None else folder / STATE_FILE
    data = path.read_bytes() if folder is not None and path.is_file() else None
    if ranks is not None:
        data = ranks.told(data)
    if data is None:
        return None
    content = load_state(path, parts, dict, data, task.fingerprint)
    check_same_judge(path.parent, content["fit"].get("judged_by", judged_by), judged_by)
    check_processes(path, content, 1 if ranks is None else ranks.number)
    if ranks is not None:
        ranks.set_draws(content["draws"])
    return _State(**content["fit"])


def _saves_memory(model: nn.Module) -> bool:
    """Whether its layers run again, so that less is held: memory counts more than time."""
    return is_reversible(getattr(model, "residual", None)) or getattr(
        model, "checkpoint_layers", False
    )


def _keep_best(state: _State, model, val: dict[str, float], metric: str, monitor: str) -> None:
    if state.judge(state.epoch, selection_key(val, metric, monitor)):
        state.best_weights = {name: t.detach().clone() for name, t in model.state_dict().items()}


def _best(state: _State, metric: str, monitor: str) -> tuple[str, float, int]:
    """What is monitored, its best value, and the epoch of it."""
    value = state.best_key[0]
    found = ("val_loss", -value) if monitor == "loss" else (f"val_{metric}", value)
    return *found, state.best_epoch


def make_optimizer(
    model: nn.Module, options: Optimizer, parameters: list[dict[str, Any]] | None = None
) -> torch.optim.Optimizer:
    """The optimiser, with a weight decay of its own for the attention layers.

    Raises
    ------
    ConfigError
        If the model does not tell these from its other parameters.
    """
    if parameters is None:
        decays = (options.weight_decay, options.attention_weight_decay)
        if decays[1] is None:
            parameters = [{"params": list(model.parameters()), "weight_decay": decays[0]}]
        else:
            check_has(model, ["layer_groups"], "optimizer.attention_weight_decay")
            groups = model.layer_groups()
            body = [p for name, ps in groups.items() if name.startswith("layer_") for p in ps]
            ends = [*groups["input"], *groups["head"]]
            parameters = [
                {"params": body, "weight_decay": decays[1]},
                {"params": ends, "weight_decay": decays[0]},
            ]
    kind = torch.optim.AdamW if options.name == "adamw" else torch.optim.Adam
    return kind(parameters, lr=options.lr, weight_decay=options.weight_decay)


class _Log:
    """Rows to ``metrics.csv`` and TensorBoard."""

    def __init__(self, folder: Path | None, history: list[dict]) -> None:
        self.file = self.board = None
        if folder is None:
            return
        # Rows that a killed run wrote after its last state come again.
        self.file = (folder / CSV_FILE).open("w", newline="")
        self.writer = None
        for row in history:
            self._to_csv(row)
        self.board = _summary_writer(folder, purge_step=len(history) and history[-1]["epoch"] + 1)

    def write(self, row: dict[str, float]) -> None:
        if self.file is not None:
            self._to_csv(row)
            self.file.flush()
        if self.board is not None:
            for name, value in row.items():
                if name != "epoch":
                    self.board.add_scalar(name, value, row["epoch"])

    def _to_csv(self, row: dict[str, float]) -> None:
        if self.writer is None:
            self.writer = csv.DictWriter(self.file, row, lineterminator="\n")
            self.writer.writeheader()
        self.writer.writerow(row)

    def close(self) -> None:
        for sink in (self.file, self.board):
            if sink is not None:
                sink.close()


def _summary_writer(folder: Path, purge_step: int):
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:  # TensorBoard is an optional extra; metrics.csv holds the same
        return None
    return SummaryWriter(str(folder / "tensorboard"), purge_step=purge_step or None)
