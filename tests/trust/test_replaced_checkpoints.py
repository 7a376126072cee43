"""Whoever reads a checkpoint while it is replaced finds the old one or the new, never a mixture."""

import os
import threading
from pathlib import Path

import pytest
import torch
from checkpoints import card, small_model

from lipzoo._atomic import leftovers
from lipzoo.weights import WEIGHTS_FILE, read_checkpoint, write_checkpoint
from lipzoo.weights.reading import pending


def test_a_reader_never_sees_a_mixture(tmp_path):
    models = [small_model(seed) for seed in (0, 1)]
    write_checkpoint(tmp_path, models[0], card())

    def replace():
        for number in range(60):
            write_checkpoint(tmp_path, models[number % 2], card(), overwrite=True)

    writer = threading.Thread(target=replace)
    writer.start()
    reads = 0
    while writer.is_alive():
        tensors = read_checkpoint(tmp_path).tensors
        assert any(
            all(torch.equal(t, tensors[key]) for key, t in model.state_dict().items())
            for model in models
        )
        reads += 1
    writer.join()
    assert reads > 10
    assert not leftovers(tmp_path)


@pytest.mark.parametrize(("owner", "look"), [(Path, "is_file"), (Path, "stat"), (os, "open")])
def test_the_weights_get_their_name_between_two_looks(tmp_path, monkeypatch, owner, look):
    model = small_model()
    write_checkpoint(tmp_path, model, card())
    named = tmp_path / WEIGHTS_FILE
    waiting = pending(tmp_path, read_checkpoint(tmp_path).card.weights.sha256)
    named.rename(waiting)
    real, renamed = getattr(owner, look), []

    def look_and_rename(path, *args, **details):
        found = real(path, *args, **details)
        if Path(path).name == waiting.name and not renamed:
            renamed.append(waiting.rename(named))
        return found

    monkeypatch.setattr(owner, look, look_and_rename)
    if owner is os:  # looked up in a set, which the replacement is not in
        monkeypatch.setattr(os, "supports_dir_fd", {*os.supports_dir_fd, look_and_rename})
    tensors = read_checkpoint(tmp_path).tensors
    assert renamed
    assert all(torch.equal(t, tensors[key]) for key, t in model.state_dict().items())


def test_equal_weights_are_equal_files(tmp_path):
    made = [
        write_checkpoint(tmp_path / str(number), small_model(), card(tag=f"t{number}"))
        for number in range(8)
    ]
    assert len({(folder / "model.safetensors").read_bytes() for folder in made}) == 1
