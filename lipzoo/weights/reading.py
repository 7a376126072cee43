"""Find checkpoints in folders, read and verify them."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from lipzoo._files import Refused, read_regular
from lipzoo._paths import as_path, packaged_folder
from lipzoo._yaml import MAX_BYTES, parse_mapping
from lipzoo.card import Card
from lipzoo.errors import CheckpointError, ConfigError
from lipzoo.weights.curve import CURVE_FILE, read_curve_bytes

if TYPE_CHECKING:  # what lists names and reads cards needs no PyTorch
    from torch import Tensor

__all__ = [
    "CARD_FILE",
    "MAX_WEIGHTS_BYTES",
    "WEIGHTS_FILE",
    "Checkpoint",
    "list_checkpoints",
    "parse_card",
    "parse_safetensors",
    "pending",
    "read_card",
    "read_checkpoint",
    "read_weights",
    "sha256",
    "unpack",
]

#: Folders of checkpoints, separated as in ``PATH``.
PRETRAINED_PATH = "LIPZOO_PRETRAINED_PATH"
CARD_FILE = "card.yaml"
WEIGHTS_FILE = "model.safetensors"

#: Weights are read into memory to be hashed, and attention networks on graphs are small.
MAX_WEIGHTS_BYTES = 4 * 2**30


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A checkpoint in memory; the weights have the hash that is on the card.

    Parameters
    ----------
    name : str
        What it was asked for by; stands before errors.
    card : Card
        What it is.
    files : dict of bytes
        ``card.yaml`` and ``model.safetensors`` as they were read, or written; with ``curve.csv``
        where there is one.
    folder : Path
        Where they are.
    """

    name: str
    card: Card
    files: dict[str, bytes]
    folder: Path

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """The weights by ``state_dict`` key; `CheckpointError` where they are no safetensors."""
        return parse_safetensors(self.files[WEIGHTS_FILE], self.folder / WEIGHTS_FILE)


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


def read_checkpoint(folder: str | os.PathLike, name: str | None = None) -> Checkpoint:
    """Read and verify a checkpoint, though somebody may be replacing it.

    ``name`` is what it was asked for by, if it is not the folder.

    Raises
    ------
    CheckpointError
        If the folder is no checkpoint, the card is wrong, or the weights' length or hash is not
        the card's.
    """
    path = as_path(folder, error=CheckpointError)
    if path.is_file():
        raise CheckpointError(
            f"{path}: is a file; pass the folder that holds {WEIGHTS_FILE} and {CARD_FILE}. "
            "Pickles (.pt, .pth) are never loaded; `lipzoo train` and `lipzoo export` make such "
            "a folder"
        )
    try:
        card, files = _read_pair(path)
    except OSError as fault:
        raise CheckpointError(
            f"{path}: cannot be read ({fault.strerror}); check who may read it"
        ) from None
    return Checkpoint(str(folder) if name is None else name, card, files, path)


def _read_pair(folder: Path) -> tuple[Card, dict[str, bytes]]:
    while True:
        stamp = _stamp(folder)
        card, data = read_card(folder)
        try:
            files = {CARD_FILE: data, WEIGHTS_FILE: read_weights(folder, card)}
        except FileNotFoundError:  # they were given their name just now
            continue
        except _OtherWeights:
            if _stamp(folder) == stamp:
                raise
        else:
            curve = read_curve_bytes(folder)
            return card, files if curve is None else {**files, CURVE_FILE: curve}


class _OtherWeights(CheckpointError):
    """Than those on the card, which may have been replaced since it was read."""


def unpack(name: str, files: dict[str, bytes]) -> Checkpoint:
    """A checkpoint of the bytes of its two files, verified; ``name`` stands before errors.

    Raises
    ------
    CheckpointError
        If the card is wrong, or the weights' hash is not the card's.
    """
    card = parse_card(files[CARD_FILE], name)
    if sha256(files[WEIGHTS_FILE]) != card.weights.sha256:
        raise CheckpointError(f"{name}: the hash of the weights is not the one on the card")
    return Checkpoint(name, card, files, Path(name))


def read_card(folder: Path) -> tuple[Card, bytes]:
    """The card in a folder, and its file.

    Raises
    ------
    CheckpointError
        If there is none.
    """
    file = folder / CARD_FILE
    if not file.is_file():
        raise _holds_no(folder, CARD_FILE)
    try:
        data = read_regular(file, MAX_BYTES, folder)
    except OSError as fault:
        raise CheckpointError(f"{file}: cannot be read ({fault.strerror})") from None
    return parse_card(data, file), data


def parse_card(data: bytes, where: Path | str) -> Card:
    """The card that bytes from ``where`` mean.

    Raises
    ------
    CheckpointError
        If they mean none.
    """
    try:
        return Card.from_dict(parse_mapping(data, where), where=str(where))
    except ConfigError as fault:
        raise CheckpointError(str(fault)) from None


def _stamp(folder: Path) -> tuple[int, int]:
    """Of the card; another one if it is replaced."""
    if not (folder / CARD_FILE).is_file():
        raise _holds_no(folder, CARD_FILE)
    stat = (folder / CARD_FILE).stat()
    return stat.st_ino, stat.st_mtime_ns


def read_weights(folder: Path, card: Card) -> bytes:
    """The file of the weights that are the card's.

    Raises
    ------
    CheckpointError
        If there is none, or its length or hash is another.
    """
    wanted = card.weights
    # Each name is looked up once, for the first may become the second at any moment.
    for file in (pending(folder, wanted.sha256), folder / WEIGHTS_FILE):
        if not file.is_file():
            continue
        size = file.stat().st_size
        if wanted.num_bytes not in (None, size):  # said before anything is read or hashed
            raise _OtherWeights(
                f"{file}: its length is not the one on the card ({size:,} bytes instead of "
                f"{wanted.num_bytes:,}): the file is damaged, cut short or was replaced; get it "
                "again"
            )
        try:
            data = read_regular(file, MAX_WEIGHTS_BYTES, folder)
        except Refused as fault:
            raise CheckpointError(f"{file}: cannot be read ({fault.strerror})") from None
        if (digest := sha256(data)) != wanted.sha256:
            raise _OtherWeights(
                f"{file}: its hash is not the one on the card ({len(data)} bytes, sha256 "
                f"{digest[:12]}… instead of {wanted.sha256[:12]}…): the file is damaged, cut "
                "short or was replaced; get it again"
            )
        return data
    raise _holds_no(folder, WEIGHTS_FILE)


def pending(folder: Path, digest: str) -> Path:
    """Where weights wait until the card is theirs."""
    return folder / f".{WEIGHTS_FILE}.{digest}.new"


def _holds_no(folder: Path, name: str) -> CheckpointError:
    what = f"holds no {name}" if folder.is_dir() else "there is no such folder"
    return CheckpointError(f"{folder}: {what}; pass a folder that `lipzoo export` wrote")


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
