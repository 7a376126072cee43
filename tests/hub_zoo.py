"""The files of a small checkpoint on a server, for the tests that fetch it."""

from pathlib import Path

import torch
from checkpoints import small_model

CARD, WEIGHTS = "/zoo/gat_lip_2.test/card.yaml", "/zoo/gat_lip_2.test/model.safetensors"


def publish(server, folder):
    for path in (CARD, WEIGHTS):
        server.files[path] = (folder / Path(path).name).read_bytes()


def assert_is_small(model, seed=0):
    wanted = small_model(seed).state_dict()
    assert all(torch.equal(t, wanted[key]) for key, t in model.state_dict().items())
