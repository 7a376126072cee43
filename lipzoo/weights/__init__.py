"""Checkpoints: a folder with ``model.safetensors`` and ``card.yaml``, always verified.

Nothing is unpickled. Loading is strict: only the input layer or the head may be left out, and
only where the caller asks for another size.

Two files cannot be replaced at once, so the card decides: the new weights are written beside the
old ones under the name of their hash, then the card is replaced, then the weights get their name.
Who reads in between finds by the hash on the card what belongs to it.
"""

from lipzoo.weights.fitting import load_weights
from lipzoo.weights.reading import (
    CARD_FILE,
    WEIGHTS_FILE,
    Checkpoint,
    list_checkpoints,
    parse_safetensors,
    read_checkpoint,
    sha256,
    unpack,
)
from lipzoo.weights.writing import pack, save_checkpoint, write_checkpoint

__all__ = [
    "CARD_FILE",
    "WEIGHTS_FILE",
    "Checkpoint",
    "list_checkpoints",
    "load_weights",
    "pack",
    "parse_safetensors",
    "read_checkpoint",
    "save_checkpoint",
    "sha256",
    "unpack",
    "write_checkpoint",
]
