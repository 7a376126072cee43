"""Checkpoints: a folder with ``model.safetensors`` and ``card.yaml``, always verified.

Beside them may lie ``curve.csv``, how the training went, which nothing depends on.

Nothing is unpickled. Loading is strict: only the input layer or the head may be left out, and
only where the caller asks for another size.

Two files cannot be replaced at once, so the card decides: the new weights are written beside the
old ones under the name of their hash, then the card is replaced, then the weights get their name.
Who reads in between finds by the hash on the card what belongs to it.
"""

from lipzoo.weights.curve import CURVE_FILE, Curve, read_curve
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
from lipzoo.weights.writing import pack, safetensors_of, save_checkpoint, write_checkpoint

__all__ = [
    "CARD_FILE",
    "CURVE_FILE",
    "WEIGHTS_FILE",
    "Checkpoint",
    "Curve",
    "list_checkpoints",
    "load_weights",
    "pack",
    "parse_safetensors",
    "read_checkpoint",
    "read_curve",
    "safetensors_of",
    "save_checkpoint",
    "sha256",
    "unpack",
    "write_checkpoint",
]
