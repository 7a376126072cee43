"""Pretrain a network in context on drawn tasks, into a folder that can be resumed.

::

    OUT/recipe.yaml         what was asked for
    OUT/losses.csv          a row a hundred steps
    OUT/state.pt            to resume from
    OUT/checkpoint/         weights and card, once it is finished
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lab.pretraining.drawn import Batches, DrawnTask, validation_tasks
from lab.pretraining.folder import RunFolder
from lab.pretraining.optimizer import make_pretraining_optimizer
from lab.pretraining.recipe import ContextRecipe
from lipzoo._torch import threads
from lipzoo._writing import one_writer
from lipzoo.card import DatasetEntry
from lipzoo.context import NUM_CHANNELS
from lipzoo.errors import ConfigError
from lipzoo.models import InContextGATv2
from lipzoo.registry import create_model

__all__ = ["pretrain_in_context"]

#: Steps between two rows of losses.csv, and between two looks at what is not learnt from.
_ROW_EVERY, _LOOK_EVERY = 100, 500
_NAMES = [
    *("step", "loss", "stack_loss"),
    *("val_loss", "val_stack_loss", "val_accuracy", "val_stack_accuracy"),
]
_PARTS = ("model", "average", "optimizer", "scheduler")


@dataclass
class _Training:
    """All that changes from step to step."""

    model: InContextGATv2
    average: AveragedModel
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler
    step: int = 0
    rows: list[dict[str, float]] = field(default_factory=list)
    recent: list[tuple[float, float]] = field(default_factory=list)

    def parts(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _PARTS}

    def progress(self) -> dict[str, Any]:
        return {"step": self.step, "rows": self.rows, "recent": self.recent}


@one_writer
def pretrain_in_context(
    recipe: ContextRecipe,
    out: str | os.PathLike,
    *,
    resume: bool = False,
    overwrite: bool = False,
    ahead: int = 0,
    say: Callable[[str], None] = print,
) -> Path:
    """Pretrain what a recipe asks for; the same recipe gives the same bits on one machine type.

    Returns the checkpoint in ``out``. ``ahead`` is 1 to draw tasks in another process.

    Raises
    ------
    ConfigError, OutputError, CheckpointError
        See :func:`lab.pretraining.pretrain`.
    """
    run = RunFolder(recipe, out, resume, overwrite)
    if run.checkpoint is not None:
        return run.checkpoint
    with threads(1):  # sums over threads round differently
        training = _begin(recipe)
        run.load(training.parts(), lambda found: vars(training).update(found["progress"]))
        judged = validation_tasks(recipe)
        batches = Batches(recipe, training.step, ahead)
        while training.step < recipe.steps:
            _step(training, batches.next(), recipe)
            is_last = training.step == recipe.steps
            if training.step % _ROW_EVERY == 0 or is_last:
                row = _row(training, judged, training.step % _LOOK_EVERY == 0 or is_last)
                run.save(training.parts(), training.rows, _NAMES, progress=training.progress())
                say(", ".join(f"{name} {value:.6g}" for name, value in row.items()))
    return run.finish(
        training.average.module,
        sizes={"in_feats": NUM_CHANNELS, "num_classes": 0},
        epoch=recipe.steps,
        entries=[DatasetEntry(name="drawn tasks", fingerprint="")],
        encoding=recipe.encoding,
        history=_curve(training.rows),
    )


def _curve(rows: list[dict[str, float]]) -> list[dict[str, float]]:
    """Of the rows of losses.csv those with a look at what is not learnt from; a step an epoch."""
    names = {"epoch": "step", "train_loss": "loss"}
    names |= {name: name for name in ("val_loss", "val_accuracy")}
    looks = (row for row in rows if "val_loss" in row)
    return [{ours: row[name] for ours, name in names.items()} for row in looks]


def _begin(recipe: ContextRecipe) -> _Training:
    torch.manual_seed(recipe.seed)
    model = create_model(
        recipe.architecture, in_feats=NUM_CHANNELS, num_classes=0, **recipe.overrides
    )
    if not isinstance(model, InContextGATv2):
        raise ConfigError(f"{recipe.architecture}: a prior needs an InContextGATv2")
    optimizer, scheduler = make_pretraining_optimizer(
        model.parameters(), recipe.optimizer, recipe.steps, recipe.warmup, betas=(0.9, 0.98)
    )
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema_decay))
    return _Training(model, average, optimizer, scheduler)


def _step(training: _Training, tasks: list[DrawnTask], recipe: ContextRecipe) -> None:
    loss, start = _losses(training.model.train(), tasks)
    training.optimizer.zero_grad(set_to_none=True)
    loss.mean().backward()
    nn.utils.clip_grad_norm_(training.model.parameters(), recipe.grad_clip)
    training.optimizer.step()
    training.scheduler.step()
    training.average.update_parameters(training.model)
    training.step += 1
    training.recent.append((loss.mean().item(), start.mean().item()))


def _losses(model: InContextGATv2, tasks: list[DrawnTask]) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross entropy at the nodes that are asked for, of each task; and that of the start."""
    read = [(task.structure, task.rows.float()) for task in tasks]
    found = [_loss(logits, task) for logits, task in zip(model.forward_together(read), tasks)]
    start = [_loss(rows[..., 2], task) for (_, rows), task in zip(read, tasks)]
    return torch.stack(found), torch.stack(start)


def _loss(logits: torch.Tensor, task: DrawnTask) -> torch.Tensor:
    return F.cross_entropy(logits[task.query], task.labels[task.query])


def _row(training: _Training, judged: list[DrawnTask], is_look: bool) -> dict[str, float]:
    loss, start = (sum(column) / len(column) for column in zip(*training.recent))
    row = {"step": training.step, "loss": loss, "stack_loss": start}
    if is_look:
        row |= _judge(training.average.module.eval(), judged)
    training.rows.append(row)
    training.recent = []
    return row


@torch.no_grad()
def _judge(model: InContextGATv2, tasks: list[DrawnTask]) -> dict[str, float]:
    """Means over the tasks, of the network and of the stack that it starts from."""
    losses, right, start_right = [], [], []
    for task in tasks:
        rows = task.rows.float()
        logits = model(task.structure, rows)
        labels = task.labels[task.query]
        losses.append([_loss(logits, task).item(), _loss(rows[..., 2], task).item()])
        for said, found in ((logits, right), (rows[..., 2], start_right)):
            found.append((said[task.query].argmax(1) == labels).double().mean().item())
    loss, start_loss = (sum(column) / len(column) for column in zip(*losses))
    return {
        "val_loss": loss,
        "val_stack_loss": start_loss,
        "val_accuracy": sum(right) / len(right),
        "val_stack_accuracy": sum(start_right) / len(right),
    }
