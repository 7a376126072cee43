"""Pretrain a body over several graphs, into a folder that can be resumed.

::

    OUT/recipe.yaml         what was asked for
    OUT/losses.csv          a row an epoch
    OUT/state.pt            to resume from
    OUT/checkpoint/         weights and card, once it is finished
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lab.pretraining.graphs import (
    Sample,
    check_held_out,
    load_source,
    samples,
)
from lab.pretraining.objectives import PretrainingHead, pretraining_loss
from lab.pretraining.recipe import PretrainingRecipe
from lipzoo._atomic import write_atomically
from lipzoo._output import OutputFolder
from lipzoo._tables import to_csv
from lipzoo._writing import one_writer
from lipzoo.card import ArchitectureEntry, Card, DatasetEntry, WeightsEntry, versions
from lipzoo.datasets import load_dataset
from lipzoo.datasets.encoding import NUM_STRUCTURAL
from lipzoo.errors import ConfigError
from lipzoo.models import DeepAttentionNet
from lipzoo.registry import Architecture, create_model, get_architecture
from lipzoo.training.run_architecture import (
    ARCHITECTURE_FILE,
    architecture_of_run,
    keep_architecture,
)
from lipzoo.training.state import STATE_FILE, load_state, save_state
from lipzoo.weights import CARD_FILE, write_checkpoint

__all__ = ["pretrain"]

RECIPE_FILE, LOSS_FILE, CHECKPOINT = "recipe.yaml", "losses.csv", "checkpoint"
_OWN_FILES = (f"{CHECKPOINT}/{CARD_FILE}", STATE_FILE, LOSS_FILE, ARCHITECTURE_FILE)


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
    output = OutputFolder(out, RECIPE_FILE, _OWN_FILES)
    folder = output.begin(recipe.to_dict(), resume, overwrite)
    keep_architecture(output, get_architecture(recipe.architecture))
    if (folder / CHECKPOINT / CARD_FILE).is_file() and resume:
        return folder / CHECKPOINT
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # sums over threads round differently
    try:
        training = _begin(recipe)
        if resume and (folder / STATE_FILE).is_file():
            parts = training.parts()
            training.losses = load_state(folder / STATE_FILE, parts, lambda found: found["losses"])
        while len(training.losses) < recipe.epochs:
            _epoch(training, graphs, recipe)
            epoch = len(training.losses)
            if epoch % save_every == 0 or epoch == recipe.epochs:
                _save_state(folder, training, recipe)
                words = (f"{s.name} {v:.3f}" for s, v in zip(recipe.graphs, training.losses[-1]))
                say(f"epoch {epoch} of {recipe.epochs}: {', '.join(words)}")
    finally:
        torch.set_num_threads(before)
    architecture = architecture_of_run(folder, recipe.architecture)
    card = _card(recipe, architecture, training, entries)
    return write_checkpoint(folder / CHECKPOINT, training.body, card, overwrite=True)


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
    kind = torch.optim.AdamW if recipe.optimizer.name == "adamw" else torch.optim.Adam
    optimizer = kind(parameters, lr=recipe.optimizer.lr, weight_decay=recipe.optimizer.weight_decay)
    steps = recipe.epochs * len(recipe.graphs)
    rise = recipe.warmup * len(recipe.graphs)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min(1.0, (step + 1) / (rise + 1)) * (1 + math.cos(math.pi * step / steps)) / 2,
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


def _save_state(folder: Path, training: _Training, recipe: PretrainingRecipe) -> None:
    save_state(folder / STATE_FILE, training.parts(), losses=training.losses)
    names = ["epoch", *(source.name for source in recipe.graphs)]
    rows = [dict(zip(names, (n, *row))) for n, row in enumerate(training.losses, 1)]
    write_atomically(folder / LOSS_FILE, to_csv(rows, names))


def _card(
    recipe: PretrainingRecipe,
    architecture: Architecture,
    training: _Training,
    entries: list[DatasetEntry],
) -> Card:
    encoding = recipe.encoding.model_dump()
    return Card(
        name=recipe.architecture,
        tag=recipe.tag,
        description=recipe.description or architecture.description,
        source=architecture.source,
        architecture=ArchitectureEntry(
            model=architecture.model,
            args={
                **architecture.args,
                **recipe.overrides,
                "in_feats": training.body.in_feats,
                "num_classes": 0,
            },
        ),
        weights=WeightsEntry(seed=recipe.seed, epoch=recipe.epochs),
        # The first graph, as the weights read it; the whole truth is in `pretrained_on`.
        dataset=entries[0].model_copy(
            update={"options": {**entries[0].options, "encoding": encoding}}
        ),
        pretrained_on=entries,
        encoding=encoding,
        seeds=[recipe.seed],
        recipe=recipe.to_dict(),
        versions=versions(),
    )
