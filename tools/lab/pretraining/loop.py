"""Pretrain a body over several graphs, into a folder that can be resumed.

::

    OUT/recipe.yaml         what was asked for
    OUT/losses.csv          a row an epoch
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
from torch import nn

from lab.pretraining.folder import RunFolder
from lab.pretraining.graphs import (
    Sample,
    check_held_out,
    load_source,
    samples,
)
from lab.pretraining.objectives import PretrainingHead, pretraining_loss
from lab.pretraining.optimizer import make_pretraining_optimizer
from lab.pretraining.recipe import PretrainingRecipe
from lipzoo._torch import threads
from lipzoo._writing import one_writer
from lipzoo.card import DatasetEntry
from lipzoo.datasets import load_dataset
from lipzoo.datasets.encoding import NUM_STRUCTURAL
from lipzoo.errors import ConfigError
from lipzoo.models import DeepAttentionNet
from lipzoo.registry import create_model

__all__ = ["pretrain"]


@dataclass
class _Training:
    """All that changes from step to step."""

    body: DeepAttentionNet
    head: PretrainingHead
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler
    losses: list[list[float]] = field(default_factory=list)

    def parts(self) -> dict[str, Any]:
        return {name: part for name, part in vars(self).items() if name != "losses"}

    def parameters(self) -> list[nn.Parameter]:
        return [*self.body.parameters(), *self.head.parameters()]


@one_writer
def pretrain(
    recipe: PretrainingRecipe,
    out: str | os.PathLike,
    *,
    raw_dir: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    save_every: int = 25,
    say: Callable[[str], None] = print,
) -> Path:
    """Pretrain what a recipe asks for; the same recipe gives the same bits on one machine type.

    Returns the checkpoint in ``out``, which ``load_pretrained`` takes. ``resume`` goes on from the
    state there, which is written every ``save_every`` epochs.

    Raises
    ------
    ConfigError
        If a source is what the recipe holds out, by fingerprint; or the run in the folder has
        another recipe or architecture.
    OutputError
        If the folder holds something and neither ``resume`` nor ``overwrite`` is given.
    CheckpointError
        If the state in the folder does not belong to the recipe.
    """
    graphs, entries = _read_graphs(recipe, raw_dir)
    run = RunFolder(recipe, out, resume, overwrite)
    if run.checkpoint is not None:
        return run.checkpoint
    with threads(1):  # sums over threads round differently
        training = _begin(recipe)
        training.losses = run.load(training.parts(), lambda found: found["losses"]) or []
        while len(training.losses) < recipe.epochs:
            _epoch(training, graphs, recipe)
            epoch = len(training.losses)
            if epoch % save_every == 0 or epoch == recipe.epochs:
                names = ["epoch", *(source.name for source in recipe.graphs)]
                rows = [dict(zip(names, (n, *row))) for n, row in enumerate(training.losses, 1)]
                run.save(training.parts(), rows, names, losses=training.losses)
                words = (f"{s.name} {v:.3f}" for s, v in zip(recipe.graphs, training.losses[-1]))
                say(f"epoch {epoch} of {recipe.epochs}: {', '.join(words)}")
    return run.finish(
        training.body,
        sizes={"in_feats": training.body.in_feats, "num_classes": 0},
        epoch=recipe.epochs,
        entries=entries,
        encoding=recipe.encoding.model_dump(),
        history=[
            {"epoch": epoch, "train_loss": sum(losses) / len(losses)}
            for epoch, losses in enumerate(training.losses, 1)
        ],
    )


def _read_graphs(
    recipe: PretrainingRecipe, raw_dir: str | None
) -> tuple[list[list[Sample]], list[DatasetEntry]]:
    """Samples of each graph, and what the card says about it; refuses what is held out."""
    graphs, entries, seen = [], [], {}
    for source in recipe.graphs:
        task = load_source(source, raw_dir)
        seen[source.name] = task.data_fingerprint
        entries.append(
            DatasetEntry(name=task.name, options=task.options, fingerprint=seen[source.name])
        )
        graphs.append(samples(task, source, recipe))
    for name in recipe.held_out:
        check_held_out(seen, load_dataset(name, raw_dir=raw_dir), f"recipe {recipe.full_name}")
    return graphs, entries


def _begin(recipe: PretrainingRecipe) -> _Training:
    torch.manual_seed(recipe.seed)
    width = recipe.encoding.width
    body = create_model(
        recipe.architecture, in_feats=width + NUM_STRUCTURAL, num_classes=0, **recipe.overrides
    )
    if not isinstance(body, DeepAttentionNet):
        raise ConfigError(f"{recipe.architecture}: pretraining needs a DeepAttentionNet")
    head = PretrainingHead(body.residual.out_feats, width)
    if recipe.start == "identity":
        start_as_identity(body, head)
    parameters = [*body.parameters(), *head.parameters()]
    optimizer, scheduler = make_pretraining_optimizer(
        parameters,
        recipe.optimizer,
        steps=recipe.epochs * len(recipe.graphs),
        warmup=recipe.warmup * len(recipe.graphs),
    )
    return _Training(body, head, optimizer, scheduler)


@torch.no_grad()
def start_as_identity(body: DeepAttentionNet, head: PretrainingHead, scale: float = 0.25) -> None:
    """Let all linear maps begin as the identity, so that the body begins as a plain smoother.

    Sixteen random maps in a row keep too little of the features to learn from: reconstruction
    starts near chance and hardly moves for hundreds of steps. ``scale`` is for the input layer:
    the ELU is closer to linear at small values.
    """
    for linear, share in (
        (body.input, scale),
        *((layer.fc, 1.0) for layer in body.layers),
        (head.decoder, 1.0),
    ):
        linear.weight.copy_(share * torch.eye(*linear.weight.shape))
        if linear.bias is not None:
            linear.bias.zero_()


def _epoch(training: _Training, graphs: list[list[Sample]], recipe: PretrainingRecipe) -> None:
    training.body.train()
    losses = []
    for parts in graphs:
        sample = parts[int(torch.randint(len(parts), ()))]
        loss = pretraining_loss(training.body, training.head, sample, recipe.objective)
        training.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(training.parameters(), recipe.grad_clip)
        training.optimizer.step()
        training.scheduler.step()
        losses.append(loss.item())
    training.losses.append(losses)
