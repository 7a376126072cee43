"""Checkpoints: a folder with ``model.safetensors`` and ``card.yaml``, always verified.

Nothing is unpickled. Loading is strict: only the input layer or the head may be left out, and
only where the caller asks for another size.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor, nn

from lipzoo._paths import packaged_folder
from lipzoo._yaml import read_yaml, to_yaml, write_all
from lipzoo.card import Card
from lipzoo.errors import CheckpointError, ConfigError, OutputError
from lipzoo.models import count_parameters

__all__ = [
    "CARD_FILE",
    "WEIGHTS_FILE",
    "Checkpoint",
    "list_checkpoints",
    "load_weights",
    "read_checkpoint",
    "sha256",
    "write_checkpoint",
]

CARD_FILE = "card.yaml"
WEIGHTS_FILE = "model.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory: its card, its tensors by ``state_dict`` key, where it came from."""

    card: Card
    tensors: dict[str, Tensor]
    folder: Path


def pretrained_folders() -> list[Path]:
    """Where checkpoints are looked for: ``LIPZOO_PRETRAINED_PATH``, then the package's own."""
    extra = os.environ.get("LIPZOO_PRETRAINED_PATH", "")
    return [*(Path(p) for p in extra.split(os.pathsep) if p), packaged_folder("pretrained")]


def list_checkpoints() -> dict[str, Path]:
    """``{"gat_lip_16.cora": folder, …}`` of all checkpoints that are found."""
    found: dict[str, Path] = {}
    for folder in reversed(pretrained_folders()):
        for card in folder.glob(f"*/{CARD_FILE}"):
            found[card.parent.name] = card.parent
    return found


def sha256(data: bytes) -> str:
    """Hash of ``data`` in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def read_checkpoint(folder: str | os.PathLike) -> Checkpoint:
    """Read and verify a checkpoint.

    Raises
    ------
    CheckpointError
        If the folder is no checkpoint, the card is wrong, or the weights' hash is not the card's.
    """
    path = Path(folder)
    if path.is_file():
        raise CheckpointError(
            f"{path}: is a file; pass the folder that holds {WEIGHTS_FILE} and {CARD_FILE}. "
            "Pickles (.pt, .pth) are never loaded; `lipzoo train` and `lipzoo export` make such "
            "a folder"
        )
    for name in (CARD_FILE, WEIGHTS_FILE):
        if not (path / name).is_file():
            raise CheckpointError(
                f"{path}: holds no {name}; pass a folder that `lipzoo export` wrote"
            )
    try:
        card = Card.from_dict(read_yaml(path / CARD_FILE), where=str(path / CARD_FILE))
    except ConfigError as fault:
        raise CheckpointError(str(fault)) from None
    file = path / WEIGHTS_FILE
    data = file.read_bytes()
    if sha256(data) != card.weights.sha256:
        raise CheckpointError(
            f"{file}: its hash is not the one on the card ({len(data)} bytes, sha256 "
            f"{sha256(data)[:12]}… instead of {card.weights.sha256[:12]}…): the file is damaged, "
            "cut short or was replaced; get it again"
        )
    try:
        tensors = safetensors.torch.load(data)
    except safetensors.SafetensorError as fault:
        raise CheckpointError(f"{file}: is no safetensors file ({fault})") from None
    return Checkpoint(card, tensors, path)


def load_weights(
    model: nn.Module, checkpoint: Checkpoint, leave_out: set[str] | frozenset[str] = frozenset()
) -> list[str]:
    """Copy the tensors of ``checkpoint`` into ``model``.

    Parameters
    ----------
    model : torch.nn.Module
        Of the checkpoint's architecture.
    checkpoint : Checkpoint
        What :func:`read_checkpoint` returned.
    leave_out : set of {"input", "head"}
        Submodules that keep their fresh initialisation; a warning names them.

    Returns
    -------
    list of str
        The keys that were left out.

    Raises
    ------
    CheckpointError
        If keys or shapes do not fit, all of them named.
    """
    skipped = [key for key in checkpoint.tensors if key.split(".")[0] in leave_out]
    tensors = {key: t for key, t in checkpoint.tensors.items() if key not in skipped}
    own = {key: t for key, t in model.state_dict().items() if key.split(".")[0] not in leave_out}
    faults = [f"{key} is missing" for key in own if key not in tensors]
    faults += [f"{key} is not part of the model" for key in tensors if key not in own]
    faults += [
        f"{key} is {tuple(tensors[key].shape)} instead of {tuple(t.shape)}"
        for key, t in own.items()
        if key in tensors and tensors[key].shape != t.shape
    ]
    if faults:
        more = f" and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise CheckpointError(
            f"{checkpoint.folder}: the weights do not fit the model: {'; '.join(faults[:5])}"
            f"{more}; only in_feats and num_classes may differ from the card"
        )
    model.load_state_dict(tensors, strict=False)
    if skipped:
        warnings.warn(
            f"{checkpoint.folder.name}: {' and '.join(sorted(leave_out))} left out, because "
            f"another size was asked for; freshly initialised: {', '.join(skipped)}",
            stacklevel=3,
        )
    return skipped


def write_checkpoint(
    folder: str | os.PathLike, model: nn.Module, card: Card, overwrite: bool = False
) -> Path:
    """Write ``model`` and its card, so that a card never lies about the weights beside it.

    Raises
    ------
    OutputError
        If the folder holds something already and ``overwrite`` is false, or cannot be written.
    """
    path = prepare_folder(folder, overwrite)
    # Copies, because safetensors refuses tensors that share memory, as tied layers do.
    tensors = {key: t.detach().cpu().contiguous().clone() for key, t in model.state_dict().items()}
    data = safetensors.torch.save(tensors, metadata={"format": "pt", "name": card.full_name})
    card = card.with_weights(sha256(data), count_parameters(model))
    content = json.loads(card.model_dump_json(exclude_none=True))
    write_all({path / WEIGHTS_FILE: data, path / CARD_FILE: to_yaml(content)})
    return path


def prepare_folder(folder: str | os.PathLike, overwrite: bool) -> Path:
    """Make ``folder``; refuse one that holds something unless ``overwrite``.

    Raises
    ------
    OutputError
        If it is not empty, is a file, or cannot be made or written.
    """
    path = Path(folder).expanduser()
    try:
        if path.exists() and not path.is_dir():
            raise OutputError(f"{path}: is a file; name a folder")
        if path.is_dir() and any(path.iterdir()) and not overwrite:
            raise OutputError(
                f"{path}: already holds files; choose another folder, or pass --overwrite"
            )
        path.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise OutputError(f"{path}: cannot be made ({fault.strerror})") from None
    if not os.access(path, os.W_OK | os.X_OK):
        raise OutputError(f"{path}: cannot be written; choose a folder that you may write to")
    return path
