"""Checkpoints: a folder with ``model.safetensors`` and ``card.yaml``, always verified.

Nothing is unpickled. Loading is strict: only the input layer or the head may be left out, and
only where the caller asks for another size.

Two files cannot be replaced at once, so the card decides: the new weights are written beside the
old ones under the name of their hash, then the card is replaced, then the weights get their name.
Who reads in between finds by the hash on the card what belongs to it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lipzoo._files import Refused, read_regular
from lipzoo._paths import as_path, packaged_folder
from lipzoo._writing import LOCK_FILE, output_path, writing
from lipzoo._yaml import (
    leftovers,
    read_yaml,
    remove_leftovers,
    stage,
    sync_folder,
    to_yaml,
)
from lipzoo.card import Card
from lipzoo.errors import CheckpointError, ConfigError, OutputError

if TYPE_CHECKING:  # what lists names and reads cards needs no PyTorch
    from torch import Tensor, nn

__all__ = [
    "CARD_FILE",
    "WEIGHTS_FILE",
    "Checkpoint",
    "list_checkpoints",
    "load_weights",
    "read_checkpoint",
    "read_verified",
    "sha256",
    "write_checkpoint",
]

#: Folders of checkpoints, separated as in ``PATH``.
PRETRAINED_PATH = "LIPZOO_PRETRAINED_PATH"
CARD_FILE = "card.yaml"
WEIGHTS_FILE = "model.safetensors"

#: Weights are read into memory to be hashed, and attention networks on graphs are small.
MAX_WEIGHTS_BYTES = 4 * 2**30


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory: its card, its tensors by ``state_dict`` key, where it came from."""

    card: Card
    tensors: dict[str, Tensor]
    folder: Path


def pretrained_folders() -> list[Path]:
    """Where checkpoints are looked for: ``LIPZOO_PRETRAINED_PATH``, then the package's own."""
    extra = os.environ.get(PRETRAINED_PATH, "").split(os.pathsep)
    return [
        *(as_path(path, PRETRAINED_PATH) for path in extra if path),
        packaged_folder("pretrained"),
    ]


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
        If the folder is no checkpoint, the card is wrong, or the weights' length or hash is not
        the card's.
    """
    card, data, path = read_verified(folder)
    return Checkpoint(card, parse_safetensors(data, path / WEIGHTS_FILE), path)


def read_verified(folder: str | os.PathLike) -> tuple[Card, bytes, Path]:
    """The card, the bytes of the weights, which have the hash on the card, and the folder.

    Raises
    ------
    CheckpointError
        See :func:`read_checkpoint`.
    """
    path = as_path(folder, error=CheckpointError)
    if path.is_file():
        raise CheckpointError(
            f"{path}: is a file; pass the folder that holds {WEIGHTS_FILE} and {CARD_FILE}. "
            "Pickles (.pt, .pth) are never loaded; `lipzoo train` and `lipzoo export` make such "
            "a folder"
        )
    try:
        card, data = _read_pair(path)
    except OSError as fault:
        raise CheckpointError(
            f"{path}: cannot be read ({fault.strerror}); check who may read it"
        ) from None
    file = path / WEIGHTS_FILE
    if sha256(data) != card.weights.sha256:
        raise CheckpointError(
            f"{file}: its hash is not the one on the card ({len(data)} bytes, sha256 "
            f"{sha256(data)[:12]}… instead of {card.weights.sha256[:12]}…): the file is damaged, "
            "cut short or was replaced; get it again"
        )
    return card, data, path


def _read_pair(folder: Path) -> tuple[Card, bytes]:
    """The card and the weights that belong to it, though somebody may be replacing both."""
    while True:
        card, stamp = _read_card(folder)
        try:
            data = _read_weights(folder, card)
        except FileNotFoundError:  # they were given their name just now
            continue
        except _WrongLength:
            if _stamp(folder) == stamp:
                raise
            continue
        if sha256(data) == card.weights.sha256 or _stamp(folder) == stamp:
            return card, data


class _WrongLength(CheckpointError):
    """Said before anything is read or hashed."""


def _read_card(folder: Path) -> tuple[Card, tuple[int, int]]:
    file = folder / CARD_FILE
    if not file.is_file():
        raise _holds_no(folder, CARD_FILE)
    stamp = _stamp(folder)
    try:
        return Card.from_dict(read_yaml(file, folder), where=str(file)), stamp
    except ConfigError as fault:
        raise CheckpointError(str(fault)) from None


def _stamp(folder: Path) -> tuple[int, int]:
    """Of the card; another one if it is replaced."""
    stat = (folder / CARD_FILE).stat()
    return stat.st_ino, stat.st_mtime_ns


def _read_weights(folder: Path, card: Card) -> bytes:
    """Each name is looked up once, for the first may become the second at any moment."""
    for file in (_pending(folder, card.weights.sha256), folder / WEIGHTS_FILE):
        if not file.is_file():
            continue
        size, wanted = file.stat().st_size, card.weights.num_bytes
        if wanted not in (None, size):
            raise _WrongLength(
                f"{file}: its length is not the one on the card ({size:,} bytes instead of "
                f"{wanted:,}): the file is damaged, cut short or was replaced; get it again"
            )
        try:
            return read_regular(file, MAX_WEIGHTS_BYTES, folder)
        except Refused as fault:
            raise CheckpointError(f"{file}: cannot be read ({fault.strerror})") from None
    raise _holds_no(folder, WEIGHTS_FILE)


def _pending(folder: Path, digest: str) -> Path:
    """Where weights wait until the card is theirs."""
    return folder / f".{WEIGHTS_FILE}.{digest}.new"


def _waiting(folder: Path) -> list[Path]:
    return [path for path in folder.glob(f".{WEIGHTS_FILE}.*.new") if path.is_file()]


def _holds_no(folder: Path, name: str) -> CheckpointError:
    return CheckpointError(f"{folder}: holds no {name}; pass a folder that `lipzoo export` wrote")


def parse_safetensors(data: bytes, file: Path) -> dict[str, Tensor]:
    """The tensors in a safetensors file that was read from ``file``.

    Raises
    ------
    CheckpointError
        If it is none, or holds types that PyTorch has not.
    """
    import safetensors.torch

    try:
        return safetensors.torch.load(data)
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as fault:
        raise CheckpointError(
            f"{file}: is no safetensors file ({' '.join(str(fault).split())}); get it again, or "
            "export it anew"
        ) from None


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
    tensors = _check_fit(model, checkpoint, leave_out)
    model.load_state_dict(tensors, strict=False)
    if skipped:
        warnings.warn(
            f"{checkpoint.folder.name}: {' and '.join(sorted(leave_out))} left out, because "
            f"another size was asked for; freshly initialised: {', '.join(skipped)}",
            stacklevel=3,
        )
    return skipped


def check_fit(
    build: Callable[[], nn.Module], checkpoint: Checkpoint, leave_out: set[str] = frozenset()
) -> None:
    """Refuse weights that do not fit before memory is taken for a model of any claimed size.

    ``build`` is called with all tensors on the device ``meta``, where they have no memory, and
    stopped where it makes far more parameters than the weights are.

    Raises
    ------
    CheckpointError
        See :func:`load_weights`.
    """
    import torch
    from torch import nn

    thread, made, limit = threading.get_ident(), 0, 4 * len(checkpoint.tensors) + 64

    def count(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal made
        made += threading.get_ident() == thread
        if made > limit:
            raise CheckpointError(
                f"{checkpoint.folder}: the card describes a model of more than {limit} parameter "
                f"tensors, the weights are {len(checkpoint.tensors)}; get card and weights again"
            )

    handle = nn.modules.module.register_module_parameter_registration_hook(count)
    try:
        with torch.device("meta"):
            model = build()
    except ConfigError as fault:
        if isinstance(fault.__cause__, NotImplementedError):
            return  # a class that looks at its own values: it cannot be built without them
        raise
    finally:
        handle.remove()
    _check_fit(model, checkpoint, leave_out)


def _check_fit(
    model: nn.Module, checkpoint: Checkpoint, leave_out: set[str] | frozenset[str]
) -> dict[str, Tensor]:
    """The tensors to copy."""
    tensors = {
        key: t for key, t in checkpoint.tensors.items() if key.split(".")[0] not in leave_out
    }
    own = {key: t for key, t in model.state_dict().items() if key.split(".")[0] not in leave_out}
    faults = [f"{key} is missing" for key in own if key not in tensors]
    faults += [f"{key} is not part of the model" for key in tensors if key not in own]
    faults += [
        f"{key} is {tensors[key].dtype} instead of {t.dtype}"
        for key, t in own.items()
        if key in tensors and tensors[key].is_floating_point() != t.is_floating_point()
    ]
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
    return tensors


def write_checkpoint(
    folder: str | os.PathLike, model: nn.Module, card: Card, overwrite: bool = False
) -> Path:
    """Write ``model`` and its card, so that a card never lies about the weights beside it.

    Raises
    ------
    OutputError
        If the folder holds something already and ``overwrite`` is false, or cannot be written.
    """
    with writing(folder):
        return _write_checkpoint(prepare_folder(folder, overwrite), model, card)


def _write_checkpoint(path: Path, model: nn.Module, card: Card) -> Path:
    import safetensors.torch

    from lipzoo.models import count_parameters

    # Copies, because safetensors refuses tensors that share memory, as tied layers do.
    tensors = {key: t.detach().cpu().contiguous().clone() for key, t in model.state_dict().items()}
    # One key only: safetensors writes several in random order, and equal weights must be equal
    # files.
    data = safetensors.torch.save(tensors, metadata={"format": "pt"})
    card = card.with_weights(sha256(data), len(data), count_parameters(model))
    content = json.loads(card.model_dump_json(exclude_none=True))
    pending = _pending(path, card.weights.sha256)
    try:
        staged = stage(path / WEIGHTS_FILE, data)
        staged_card = stage(path / CARD_FILE, to_yaml(content))
        os.replace(staged, pending)
        sync_folder(path)
        os.replace(staged_card, path / CARD_FILE)
        sync_folder(path)
        os.replace(pending, path / WEIGHTS_FILE)
    except OSError as fault:
        with contextlib.suppress(OSError):
            _finish(path)
        raise OutputError(
            f"{path}: cannot be written ({fault.strerror}); choose a folder that you may write to"
        ) from None
    return path


def prepare_folder(folder: str | os.PathLike, overwrite: bool) -> Path:
    """Make ``folder``; refuse one that holds something unless ``overwrite``.

    Raises
    ------
    OutputError
        If it is not empty, is a file, cannot be made or written, or another process writes there.
    """
    path = output_path(folder)
    with writing(path):
        try:
            if not overwrite and {*path.iterdir()} - {*_unfinished(path)}:
                raise OutputError(
                    f"{path}: already holds files; choose another folder, or pass --overwrite"
                )
            _finish(path)
        except OSError as fault:
            raise OutputError(f"{path}: cannot be written ({fault.strerror})") from None
    return path


def _unfinished(folder: Path) -> list[Path]:
    """What a killed writer left that is no checkpoint."""
    waiting = [] if (folder / CARD_FILE).is_file() else _waiting(folder)
    return [*leftovers(folder), *waiting, folder / LOCK_FILE]


def _finish(folder: Path) -> None:
    """Do what a killed writer had left to do there."""
    remove_leftovers(folder)
    try:
        current = _pending(folder, _read_card(folder)[0].weights.sha256)
    except CheckpointError:
        current = None
    for path in _waiting(folder):
        if path == current:
            os.replace(path, folder / WEIGHTS_FILE)
        else:
            path.unlink()
