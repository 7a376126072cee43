"""A small model and its card, for the tests that write checkpoints."""

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path

import torch

import lipzoo
from lipzoo._yaml import read_yaml, write_yaml
from lipzoo.card import Card

SIZES = {"in_feats": 4, "num_classes": 2}
SMALL = {"num_layers": 2, "hidden_feats": 8, "num_heads": 2, "score_norm": "lipschitz"}


def content(**changes):
    return {
        "name": "gat_lip_2",
        "tag": "test",
        "architecture": {"model": "DeepGAT", "args": {**SMALL, **SIZES}},
        "dataset": {"name": "cora", "options": {"split": None}, "fingerprint": "12e45"},
    } | changes


def card(**changes):
    return Card.from_dict(content(**changes), where="here")


def small_model(seed=0):
    torch.manual_seed(seed)
    return lipzoo.create_model("gat_lip_2", **SMALL | SIZES).eval()


def edit_card(folder, change):
    """Apply ``change`` to the content of the card in ``folder``."""
    content = read_yaml(folder / "card.yaml")
    change(content)
    write_yaml(folder / "card.yaml", content)


@contextmanager
def unwritable_folder():
    """A folder that this process may not write into, root or not."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o555)
        is_root = os.geteuid() == 0
        if is_root:
            os.seteuid(65534)  # root may write anywhere; nobody may not
        try:
            yield Path(folder)
        finally:
            if is_root:
                os.seteuid(0)
            os.chmod(folder, 0o755)
