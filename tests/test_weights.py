"""Checkpoints: bit-exact, verified, never unpickled, strict, atomic."""

import copy
import hashlib
import pickle
import warnings
from pathlib import Path

import pytest
import torch
from checkpoints import SIZES, SMALL, card, edit_card, small_model, unwritable_folder
from graph_zoo import homogeneous
from torch import nn

import lipzoo
from lipzoo import _atomic
from lipzoo.errors import CheckpointError, ConfigError, OutputError, UnknownNameError
from lipzoo.registry import find_checkpoint
from lipzoo.weights import list_checkpoints, load_weights, read_checkpoint, write_checkpoint

FEAT = torch.randn(10, 4, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def checkpoint(tmp_path):
    """The folder of a checkpoint."""
    return write_checkpoint(tmp_path / "gat_lip_2.test", small_model(), card())


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """``shelf(name, …)`` puts checkpoints where names are looked up; none of the zoo's own."""
    monkeypatch.setenv("LIPZOO_PRETRAINED_PATH", str(tmp_path / "shelf"))
    monkeypatch.setattr(
        "lipzoo.weights.reading.packaged_folder", lambda name: tmp_path / "packaged"
    )

    def fill(*names, place="shelf", seed=0):
        for full_name in names:
            name, tag = full_name.split(".")
            folder = tmp_path / place / full_name
            write_checkpoint(folder, small_model(seed), card(name=name, tag=tag))

    return fill


def files_of(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


# ------------------------------------------------------------------- round trip


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_round_trip_is_bit_exact(tmp_path, dtype):
    model = small_model().to(dtype)
    checkpoint = read_checkpoint(write_checkpoint(tmp_path / "out", model, card()))
    state = model.state_dict()
    assert checkpoint.tensors.keys() == state.keys()
    for key, tensor in checkpoint.tensors.items():
        assert tensor.dtype == dtype
        assert torch.equal(tensor, state[key]), key
    other = small_model(seed=1).to(dtype)
    assert load_weights(other, checkpoint) == []
    assert all(torch.equal(a, b) for a, b in zip(other.parameters(), model.parameters()))


def test_the_files_of_a_checkpoint(checkpoint):
    assert sorted(files_of(checkpoint)) == ["card.yaml", "model.safetensors"]
    stored = read_checkpoint(checkpoint).card
    data = (checkpoint / "model.safetensors").read_bytes()
    assert stored.weights.sha256 == hashlib.sha256(data).hexdigest()
    assert stored.weights.num_parameters == sum(p.numel() for p in small_model().parameters())
    assert stored.full_name == "gat_lip_2.test"
    assert stored.dataset == card().dataset
    assert stored.architecture == card().architecture


def test_load_pretrained_from_a_folder(checkpoint):
    model = lipzoo.load_pretrained(checkpoint)
    assert not model.training
    assert model.card.full_name == "gat_lip_2.test"
    assert torch.equal(model(homogeneous(), FEAT), small_model()(homogeneous(), FEAT))
    assert lipzoo.create_model(str(checkpoint), pretrained=True).training


def test_overrides_that_hold_no_weights(checkpoint):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = lipzoo.load_pretrained(checkpoint, backend="torch", feat_drop=0.1, **SIZES)
    assert model.layers[0].backend == "torch"
    assert model.layers[0].feat_drop.p == 0.1


def test_tensors_that_share_memory(tmp_path):
    model = nn.Module()
    model.first = nn.Linear(2, 2)
    model.second = model.first
    checkpoint = read_checkpoint(write_checkpoint(tmp_path / "out", model, card()))
    assert torch.equal(checkpoint.tensors["first.weight"], model.first.weight)
    assert torch.equal(checkpoint.tensors["second.weight"], model.first.weight)


def test_names_folders_addresses_and_models_give_one_currency(checkpoint, monkeypatch):
    monkeypatch.setenv("LIPZOO_PRETRAINED_PATH", str(checkpoint.parent))
    model = lipzoo.load_pretrained(checkpoint)
    sources = [checkpoint, f"{checkpoint}", checkpoint.as_uri(), "gat_lip_2.test", model]
    found = [find_checkpoint(source) for source in sources]
    for each in found:
        assert find_checkpoint(each) is each
        assert each.card == model.card
        assert each.folder == checkpoint
        assert each.files == files_of(checkpoint)
        state = lipzoo.load_pretrained(each).state_dict()
        assert all(torch.equal(t, state[key]) for key, t in each.tensors.items())
    assert [each.name for each in found] == [*map(str, sources[:4]), str(checkpoint)]
    with torch.no_grad():
        model.head.bias += 1
    for take in (find_checkpoint, lipzoo.load_pretrained):
        with pytest.raises(CheckpointError, match="the weights have changed since"):
            take(model)
    with pytest.raises(CheckpointError, match="a DeepGAT that load_pretrained did not return"):
        find_checkpoint(small_model())


def test_a_model_that_is_no_longer_what_was_loaded(checkpoint):
    """What would be lost is refused: it would go on with other arguments, or without hooks."""
    assert find_checkpoint(lipzoo.load_pretrained(checkpoint, **SIZES))  # as on the card
    words = r"loaded with other arguments than the card's \(score_norm"
    for overrides in ({"score_norm": None}, {"score_norm": {"name": "lipschitz", "alpha": 4.0}}):
        model = lipzoo.load_pretrained(checkpoint, **overrides)
        with pytest.raises(CheckpointError, match=words):
            lipzoo.load_pretrained(model)
    model = lipzoo.load_pretrained(checkpoint)
    for hook in (model.layers[0].register_score_hook, model.layers[1].register_forward_hook):
        handle = hook(lambda layer, _, out, *more: out)
        with pytest.raises(CheckpointError, match="has other modules or hooks than when"):
            find_checkpoint(model)
        handle.remove()
        assert find_checkpoint(model)
    model.activation = torch.nn.Tanh()
    with pytest.raises(CheckpointError, match="has other modules or hooks than when"):
        find_checkpoint(copy.deepcopy(model))


# --------------------------------------------------------------------- damage


def flip(data):
    return data[:-1] + bytes([data[-1] ^ 1])


@pytest.mark.parametrize(
    "damage",
    [flip, lambda data: data[:-10], lambda data: b"", lambda data: data + b"\0"],
    ids=["a flipped bit", "truncated", "zero bytes", "a byte too many"],
)
def test_damaged_weights_are_refused(checkpoint, damage):
    file = checkpoint / "model.safetensors"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(CheckpointError, match=r"its (hash|length) is not the one on the card"):
        lipzoo.load_pretrained(checkpoint)


@pytest.mark.parametrize("digest", ["", "0" * 64, None])
def test_there_is_no_way_around_the_hash(checkpoint, digest):
    def change(text):
        text["weights"].pop("sha256")
        if digest is not None:
            text["weights"]["sha256"] = digest

    edit_card(checkpoint, change)
    with pytest.raises(CheckpointError, match=r"hash|length"):
        lipzoo.load_pretrained(checkpoint)


def test_a_file_that_is_no_safetensors_with_the_right_hash(checkpoint):
    (checkpoint / "model.safetensors").write_bytes(b"words")
    digest = hashlib.sha256(b"words").hexdigest()
    edit_card(checkpoint, lambda text: text["weights"].update(sha256=digest, num_bytes=5))
    with pytest.raises(CheckpointError, match="is no safetensors file"):
        lipzoo.load_pretrained(checkpoint)


@pytest.mark.parametrize("name", ["card.yaml", "model.safetensors"])
def test_a_file_that_is_missing(checkpoint, name):
    (checkpoint / name).unlink()
    with pytest.raises(CheckpointError, match=f"holds no {name}"):
        lipzoo.load_pretrained(checkpoint)


def test_a_folder_that_is_missing(tmp_path):
    with pytest.raises(CheckpointError, match=r"there is no such folder"):
        lipzoo.load_pretrained(tmp_path / "absent")


class Trap:
    """Whoever unpickles this makes a file."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("name", ["model.pt", "gat_lip_2"])
def test_pickles_are_refused_and_not_read(tmp_path, monkeypatch, name, relative):
    trace = tmp_path / "trace"
    file = tmp_path / name
    file.write_bytes(pickle.dumps(Trap(trace)))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=r"Pickles .* are never loaded"):
        lipzoo.load_pretrained(f"./{name}" if relative else file)
    assert not trace.exists()
    pickle.loads(file.read_bytes())
    assert trace.exists(), "the trap works"


def test_a_pickle_in_place_of_the_weights_is_not_read(checkpoint, tmp_path):
    trace = tmp_path / "trace"
    data = pickle.dumps(Trap(trace))
    (checkpoint / "model.safetensors").write_bytes(data)
    right = {"sha256": hashlib.sha256(data).hexdigest(), "num_bytes": len(data)}
    edit_card(checkpoint, lambda text: text["weights"].update(right))
    with pytest.raises(CheckpointError, match="is no safetensors file"):
        lipzoo.load_pretrained(checkpoint)
    assert not trace.exists()


# ------------------------------------------------------------- what does not fit


@pytest.mark.parametrize(
    ("sizes", "left_out"),
    [
        ({"in_feats": 6}, {"input"}),
        ({"num_classes": 5}, {"head"}),
        ({"num_classes": 0}, {"head"}),
        ({"in_feats": 6, "num_classes": 5}, {"input", "head"}),
    ],
)
def test_another_size_leaves_out_exactly_input_or_head(checkpoint, sizes, left_out):
    with pytest.warns(UserWarning, match=f"{' and '.join(sorted(left_out))} left out"):
        model = lipzoo.load_pretrained(checkpoint, **sizes)
    state, stored = model.state_dict(), small_model().state_dict()
    for key, tensor in stored.items():
        if key.split(".")[0] not in left_out:
            assert torch.equal(state[key], tensor), key
    feat = torch.rand(10, sizes.get("in_feats", 4))
    assert model(homogeneous(), feat).shape == (10, sizes.get("num_classes", 2) or 8)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ({"num_layers": 3}, r"layers\.2\.attn_l is missing"),
        ({"num_layers": 1}, r"layers\.1\.attn_l is not part of the model"),
        ({"hidden_feats": 16}, r"layers\.0\.attn_l is \(1, 2, 4\) instead of \(1, 2, 8\)"),
        ({"feature_norm": "layernorm"}, r"norms\.0\.norm\.weight is missing"),
    ],
)
def test_any_other_mismatch_is_refused(checkpoint, override, words):
    with pytest.raises(CheckpointError, match=words) as caught:
        lipzoo.load_pretrained(checkpoint, **override)
    assert "only in_feats and num_classes may differ" in str(caught.value)


def test_many_faults_are_counted(checkpoint):
    with pytest.raises(CheckpointError, match="and 7 more"):
        lipzoo.load_pretrained(checkpoint, num_layers=5)


def test_nothing_is_copied_where_something_does_not_fit(checkpoint):
    model = lipzoo.create_model("gat_lip_2", **SMALL | SIZES | {"num_layers": 3})
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    with pytest.raises(CheckpointError):
        load_weights(model, read_checkpoint(checkpoint))
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


def test_a_wrong_override(checkpoint):
    with pytest.raises(ConfigError, match="did you mean 'num_classes'"):
        lipzoo.load_pretrained(checkpoint, num_class=3)


def test_a_card_without_the_sizes(checkpoint):
    edit_card(checkpoint, lambda text: text["architecture"]["args"].pop("in_feats"))
    with pytest.raises(ConfigError, match="pass in_feats"):
        lipzoo.load_pretrained(checkpoint)
    with pytest.warns(UserWarning, match="input left out"):
        lipzoo.load_pretrained(checkpoint, in_feats=4)


def test_a_class_that_is_not_registered(checkpoint):
    edit_card(checkpoint, lambda text: text["architecture"].update(model="DeepGAT2"))
    with pytest.raises(UnknownNameError, match="did you mean 'DeepGAT"):
        lipzoo.load_pretrained(checkpoint)


# --------------------------------------------------------------------- writing


def test_a_folder_that_holds_files_is_refused(checkpoint):
    before = files_of(checkpoint)
    with pytest.raises(OutputError, match="already holds files"):
        write_checkpoint(checkpoint, small_model(seed=1), card())
    assert files_of(checkpoint) == before
    write_checkpoint(checkpoint, small_model(seed=1), card(tag="new"), overwrite=True)
    assert lipzoo.load_pretrained(checkpoint).card.tag == "new"


def test_a_file_in_place_of_a_folder(tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(OutputError, match="is a file; name a folder"):
        write_checkpoint(file, small_model(), card(), overwrite=True)
    with pytest.raises(OutputError, match="cannot be made"):
        write_checkpoint(file / "below", small_model(), card())
    assert file.read_text() == "mine"


def test_a_folder_that_cannot_be_written():
    with unwritable_folder() as folder:
        with pytest.raises(OutputError, match="cannot be written"):
            write_checkpoint(folder, small_model(), card())
        with pytest.raises(OutputError, match="cannot be made"):
            write_checkpoint(folder / "new", small_model(), card())


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_failure_leaves_what_was_there(tmp_path, monkeypatch, overwrite):
    folder = tmp_path / "out"
    if overwrite:
        write_checkpoint(folder, small_model(), card())
    before = files_of(folder) if overwrite else {}

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_atomic.os, "replace", fail)
    with pytest.raises(OutputError, match="No space left"):
        write_checkpoint(folder, small_model(seed=1), card(), overwrite=overwrite)
    assert (files_of(folder) if folder.exists() else {}) == before


def test_a_checkpoint_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    """The disk is full when the card is written: the old weights are still there, with theirs."""
    write_checkpoint(tmp_path / "out", small_model(), card())
    before = files_of(tmp_path / "out")
    calls = []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        write_checkpoint(tmp_path / "out", small_model(), card(), overwrite=True)
    assert len(calls) == 2
    assert files_of(tmp_path / "out") == before
    read_checkpoint(tmp_path / "out")


# ----------------------------------------------------------------------- names


def test_names_are_found_on_the_path(shelf):
    shelf("gat_lip_2.b", "gat_lip_16.x")
    assert lipzoo.list_models(pretrained=True) == ["gat_lip_2.b", "gat_lip_16.x"]
    assert lipzoo.list_models("*_2.*", pretrained=True) == ["gat_lip_2.b"]
    assert lipzoo.load_pretrained("gat_lip_2.b").card.tag == "b"


def test_the_path_goes_before_the_package(shelf):
    shelf("gat_lip_2.b", place="packaged", seed=1)
    assert list_checkpoints()["gat_lip_2.b"].parent.name == "packaged"
    shelf("gat_lip_2.b")
    assert list_checkpoints()["gat_lip_2.b"].parent.name == "shelf"


def test_several_folders_on_the_path(shelf, tmp_path, monkeypatch):
    monkeypatch.setenv("LIPZOO_PRETRAINED_PATH", f"{tmp_path}/first::{tmp_path}/second")
    shelf("gat_lip_2.b", place="first")
    shelf("gat_lip_2.b", "gat_lip_2.c", place="second")
    folders = {name: folder.parent.name for name, folder in list_checkpoints().items()}
    assert folders == {"gat_lip_2.b": "first", "gat_lip_2.c": "second"}


@pytest.mark.parametrize(
    ("there", "tag"),
    [(["a"], "a"), (["cora"], "cora"), (["a", "cora"], "cora"), (["a", "b"], None)],
)
def test_a_bare_name_means_the_default_tag_or_the_only_one(shelf, there, tag):
    shelf(*(f"gat_lip_2.{each}" for each in there))  # its YAML names "cora" as the default
    if tag is None:
        with pytest.raises(UnknownNameError, match=r"pass one of gat_lip_2\.a, gat_lip_2\.b"):
            lipzoo.load_pretrained("gat_lip_2")
    else:
        assert lipzoo.load_pretrained("gat_lip_2").card.tag == tag


def test_weights_of_an_architecture_that_has_no_file_any_more(shelf):
    shelf("gone.a")
    assert lipzoo.load_pretrained("gone").card.full_name == "gone.a"


def test_unknown_names(shelf):
    shelf("gat_lip_2.cora")
    with pytest.raises(UnknownNameError, match=r"'gat_lip_2\.crao'; did you mean 'gat_lip_2\.cora"):
        lipzoo.load_pretrained("gat_lip_2.crao")
    with pytest.raises(UnknownNameError, match="no architecture 'gatt'"):
        lipzoo.load_pretrained("gatt.cora")
    with pytest.raises(UnknownNameError, match=r"the architecture gat_8 exists"):
        lipzoo.load_pretrained("gat_8")
