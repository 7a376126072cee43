import pytest
import torch

from lipzoo.errors import CheckpointError
from lipzoo.training.state import load_state, save_state


def test_a_state_brings_back_parts_generator_and_values(tmp_path):
    path, layer = tmp_path / "state.pt", torch.nn.Linear(2, 3)
    save_state(path, {"layer": layer}, seen=[1, 2])
    expected, drawn = layer.weight.detach().clone(), torch.rand(3)
    torch.nn.init.zeros_(layer.weight)
    assert load_state(path, {"layer": layer}, lambda content: content["seen"]) == [1, 2]
    assert torch.equal(layer.weight, expected)
    assert torch.equal(torch.rand(3), drawn)


@pytest.mark.parametrize(
    "wrong", ["other sizes", "another part", "other values", "cut short", "empty"]
)
def test_a_state_of_something_else_is_refused(tmp_path, wrong):
    path, layer = tmp_path / "state.pt", torch.nn.Linear(2, 3)
    save_state(path, {"layer": layer}, seen=[1, 2])
    parts = {"layer": torch.nn.Linear(2, 2) if wrong == "other sizes" else layer}
    if wrong == "another part":
        parts["head"] = layer
    elif wrong == "cut short":
        path.write_bytes(path.read_bytes()[:-100])
    elif wrong == "empty":
        path.write_bytes(b"")
    key = "unseen" if wrong == "other values" else "seen"
    with pytest.raises(CheckpointError, match=r"state\.pt: does not belong .*--overwrite"):
        load_state(path, parts, lambda content: content[key])


def test_a_state_of_more_devices_than_there_are(tmp_path, monkeypatch):
    """Random numbers of a GPU that is not there are of no use."""
    given, path = [], tmp_path / "state.pt"
    random = [torch.tensor([number], dtype=torch.uint8) for number in range(4)]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: random)
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", given.extend)
    save_state(path, {})
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    load_state(path, {}, dict)
    assert given == random[:1]
