"""Write checkpoints."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lipzoo._atomic import remove_leftovers, stage, sync_folder
from lipzoo._output import OutputFolder
from lipzoo._writing import writing
from lipzoo._yaml import to_yaml
from lipzoo.card import Card
from lipzoo.errors import CheckpointError, OutputError
from lipzoo.weights.curve import CURVE_FILE, curve_bytes
from lipzoo.weights.reading import (
    CARD_FILE,
    WEIGHTS_FILE,
    Checkpoint,
    parse_card,
    pending,
    read_card,
    sha256,
)

if TYPE_CHECKING:
    from torch import nn

__all__ = ["pack", "safetensors_of", "save_checkpoint", "write_checkpoint"]

_WAITING = pending(Path(), "*").name


def write_checkpoint(
    folder: str | os.PathLike,
    model: nn.Module,
    card: Card,
    overwrite: bool = False,
    history: Sequence[Mapping[str, float]] = (),
) -> Path:
    """The folder that :func:`save_checkpoint` wrote."""
    return save_checkpoint(folder, model, card, overwrite, history).folder


def save_checkpoint(
    folder: str | os.PathLike,
    model: nn.Module,
    card: Card,
    overwrite: bool = False,
    history: Sequence[Mapping[str, float]] = (),
) -> Checkpoint:
    """Write ``model`` and its card, so that a card never lies about the weights beside it.

    ``history``, a row an evaluation, becomes the training curve beside them: ``curve.csv``.

    Returns what :func:`~lipzoo.weights.read_checkpoint` would.

    Raises
    ------
    OutputError
        If the folder holds something already and ``overwrite`` is false, or cannot be written.
    """
    with writing(folder):
        path = OutputFolder(folder, passing=_WAITING).prepare(overwrite)
        checkpoint = pack(path, model, card)
        weights = checkpoint.card.weights
        curve = curve_bytes(history, weights.epoch or 0, weights.sha256)
        if curve is not None:
            checkpoint.files[CURVE_FILE] = curve
        _write(checkpoint)
    return checkpoint


def pack(folder: Path, model: nn.Module, card: Card) -> Checkpoint:
    """What :func:`save_checkpoint` writes into ``folder``, in memory alone."""
    from lipzoo.models import count_parameters

    data = safetensors_of(model)
    card = card.with_weights(sha256(data), len(data), count_parameters(model))
    text = to_yaml(json.loads(card.model_dump_json(exclude_none=True)))
    card = parse_card(text, folder / CARD_FILE)  # as whoever reads it finds it
    return Checkpoint(str(folder), card, {CARD_FILE: text, WEIGHTS_FILE: data}, folder)


def safetensors_of(model: nn.Module) -> bytes:
    """The weights of a model; equal ones are equal bytes."""
    import safetensors.torch

    # Copies, because safetensors refuses tensors that share memory, as tied layers do.
    tensors = {key: t.detach().cpu().contiguous().clone() for key, t in model.state_dict().items()}
    # One key only: safetensors writes several in random order.
    return safetensors.torch.save(tensors, metadata={"format": "pt"})


def _write(checkpoint: Checkpoint) -> None:
    path = checkpoint.folder
    waiting = pending(path, checkpoint.card.weights.sha256)
    curve = checkpoint.files.get(CURVE_FILE)
    try:
        _finish(path)
        staged = stage(path / WEIGHTS_FILE, checkpoint.files[WEIGHTS_FILE])
        staged_card = stage(path / CARD_FILE, checkpoint.files[CARD_FILE])
        staged_curve = None if curve is None else stage(path / CURVE_FILE, curve)
        # No curve rather than that of the weights before.
        (path / CURVE_FILE).unlink(missing_ok=True)
        os.replace(staged, waiting)
        sync_folder(path)
        os.replace(staged_card, path / CARD_FILE)
        sync_folder(path)
        os.replace(waiting, path / WEIGHTS_FILE)
        if staged_curve is not None:
            os.replace(staged_curve, path / CURVE_FILE)
    except OSError as fault:
        with contextlib.suppress(OSError):
            _finish(path)
        raise OutputError(
            f"{path}: cannot be written ({fault.strerror}); choose a folder that you may write to"
        ) from None


def _finish(folder: Path) -> None:
    """Do what a killed writer had left to do there."""
    remove_leftovers(folder)
    try:
        current = pending(folder, read_card(folder)[0].weights.sha256)
    except CheckpointError:
        current = None
    for path in filter(Path.is_file, folder.glob(_WAITING)):
        if path == current:
            os.replace(path, folder / WEIGHTS_FILE)
        else:
            path.unlink()
