"""The folder of a fine-tuning: what is in it, going on with it, what the card says."""

import pytest
import torch

import lipzoo
from lipzoo._yaml import read_yaml
from lipzoo.errors import CheckpointError, ConfigError, OutputError
from lipzoo.training import loop


class Killed(Exception):
    pass


@pytest.fixture
def dies(monkeypatch):
    """``dies(epoch)`` lets every later training end with `Killed` in that epoch."""

    def at(last):
        train_epoch, epochs = loop.train_epoch, []

        def counted(*args):
            epochs.append(None)
            if len(epochs) == last:
                raise Killed
            return train_epoch(*args)

        monkeypatch.setattr(loop, "train_epoch", counted)

    return at


OPTIONS = {"epochs": 12, "class_weight": "balanced", "feat_drop": 0.4, "verbose": False}
WAYS = {
    "all": {},
    "thawing": {"unfreeze_every": 2, "layer_lr_decay": 0.7},
    "probe": {"freeze": "all-but-head", "head_drop": 0.4},
    "warm start": {"warm_start": True, "head_drop": 0.4},
}


@pytest.mark.many
@pytest.mark.parametrize("way", WAYS)
def test_a_resumed_one_is_bit_identical(tiny_source, tmp_path, dies, monkeypatch, way):
    task = lipzoo.load_dataset("iris", split_seed=1)
    options = {**OPTIONS, **WAYS[way], "save_every": 4}
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    expected = lipzoo.finetune(tiny_source, task, out=whole, **options)
    for last in (7, 6):  # the 7th epoch; then, from the state of epoch 4, the 10th
        dies(last)
        with pytest.raises(Killed):
            lipzoo.finetune(tiny_source, task, out=parts, resume=True, **options)
        monkeypatch.undo()
        assert not (parts / "card.yaml").exists()
    result = lipzoo.finetune(tiny_source, task, out=parts, resume=True, **options)
    assert (result.history, result.metrics) == (expected.history, expected.metrics)
    for name in ("model.safetensors", "card.yaml", "training/metrics.csv"):
        assert (parts / name).read_bytes() == (whole / name).read_bytes(), name


def test_resuming_what_is_finished_trains_nothing(tiny_source, iris, tmp_path, dies):
    out = tmp_path / "out"
    first = lipzoo.finetune(tiny_source, iris, out=out, **OPTIONS)
    dies(1)
    again = lipzoo.finetune(tiny_source, iris, out=out, resume=True, **OPTIONS)
    assert (again.history, again.metrics) == (first.history, first.metrics)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"layer_lr_decay": 0.5}, "recipe.layer_lr_decay differ"),
        ({"class_weight": [1, 2, 1]}, "recipe.class_weight, recipe.class_weights differ"),
        ({"feat_drop": 0.1}, "architecture.args.feat_drop differ"),
        ({"seed": 1}, "recipe.seed differ"),
        ({"task": "split_seed=1"}, "dataset.fingerprint, dataset.options.split_seed differ"),
    ],
)
def test_other_arguments_are_not_gone_on_with(tiny_source, iris, tmp_path, changes, words):
    options = {**OPTIONS, "epochs": 2}
    lipzoo.finetune(tiny_source, iris, out=tmp_path, **options)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    task = lipzoo.load_dataset("iris", split_seed=1) if changes.pop("task", None) else iris
    with pytest.raises(ConfigError, match=words):
        lipzoo.finetune(tiny_source, task, out=tmp_path, resume=True, **{**options, **changes})
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_resume_takes_nobody_elses_folder(tiny_source, iris, tmp_path):
    with pytest.raises(ConfigError, match="say out="):
        lipzoo.finetune(tiny_source, iris, resume=True)
    for place in ("mine.txt", "training/mine.txt"):
        folder = tmp_path / place.replace("/", "_")
        (folder / place).parent.mkdir(parents=True)
        (folder / place).write_text("keep")
        with pytest.raises(OutputError, match="--overwrite"):
            lipzoo.finetune(tiny_source, iris, out=folder, resume=True, **OPTIONS)
        assert [path.name for path in folder.rglob("*.*")] == ["mine.txt"]


@pytest.mark.parametrize("content", ["a: 1\n", "recipe: {epochs: [3]}\n"])
def test_resume_takes_nobody_elses_settings(tiny_source, iris, tmp_path, content):
    file = tmp_path / "training/settings.yaml"
    file.parent.mkdir()
    file.write_text(content)
    with pytest.raises(ConfigError, match="was begun with other settings"):
        lipzoo.finetune(tiny_source, iris, out=tmp_path, resume=True, **OPTIONS)
    assert file.read_text() == content


def test_resume_goes_on_where_a_kill_left_half_of_the_settings(tiny_source, iris, tmp_path):
    (tmp_path / "training").mkdir()
    (tmp_path / "training/.settings.yaml.abc.lipzoo.tmp").write_text("recipe: {")
    lipzoo.finetune(tiny_source, iris, out=tmp_path, resume=True, **OPTIONS)
    assert not list(tmp_path.rglob(".*"))
    lipzoo.load_pretrained(tmp_path)


@pytest.mark.slow
def test_overwrite_starts_anew(tiny_source, iris, tmp_path):
    fresh, used = tmp_path / "fresh", tmp_path / "used"
    expected = lipzoo.finetune(tiny_source, iris, out=fresh, **{**OPTIONS, "epochs": 4})
    lipzoo.finetune(tiny_source, iris, out=used, **OPTIONS)
    (used / "mine.txt").write_text("keep")
    result = lipzoo.finetune(
        tiny_source, iris, out=used, overwrite=True, **{**OPTIONS, "epochs": 4}
    )
    assert result.history == expected.history
    assert (used / "mine.txt").read_text() == "keep"
    assert read_yaml(used / "training/settings.yaml")["recipe"]["epochs"] == 4


def test_a_damaged_state_is_refused(tiny_source, iris, tmp_path):
    lipzoo.finetune(tiny_source, iris, out=tmp_path, **OPTIONS)
    state = tmp_path / "training/state.pt"
    state.write_bytes(state.read_bytes()[:-200])
    with pytest.raises(CheckpointError, match="does not belong"):
        lipzoo.finetune(tiny_source, iris, out=tmp_path, resume=True, **OPTIONS)


def test_the_card_says_all_that_was_used(tiny_source, tmp_path):
    wine = lipzoo.load_dataset("wine")
    result = lipzoo.finetune(
        tiny_source,
        wine,
        out=tmp_path,
        freeze="body",
        unfreeze_every=2,
        layer_lr_decay=0.9,
        lr=0.02,
        patience=7,
        seed=3,
        **OPTIONS,
    )
    card = lipzoo.load_pretrained(tmp_path).card
    expected = {
        "finetuned_from": "test_tiny.iris",
        "weights_sha256": lipzoo.load_pretrained(tiny_source).card.weights.sha256,
        "freeze": "body",
        "unfreeze_every": 2,
        "layer_lr_decay": 0.9,
        "epochs": 12,
        "class_weight": "balanced",
        "seed": 3,
        "num_threads": torch.get_num_threads(),
    }
    assert {key: card.recipe[key] for key in expected} == expected
    assert card.recipe["optimizer"]["lr"] == 0.02
    assert card.recipe["early_stopping"]["patience"] == 7
    assert len(card.recipe["class_weights"]) == 3
    assert card.architecture.args["feat_drop"] == 0.4
    assert card.dataset.fingerprint == wine.fingerprint
    assert card.weights.metrics == result.metrics
    assert (card.weights.seed, card.weights.epoch) == (3, result.best_epoch)
