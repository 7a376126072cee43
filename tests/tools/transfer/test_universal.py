"""The universal weights that ship."""

import pytest
import torch

import lipzoo
from lab.pretraining import check_held_out, load_pretraining
from lab.transfer import load_study
from lipzoo.errors import ConfigError
from lipzoo.registry import find_checkpoint
from lipzoo.training import evaluate, predict, warm_start_head
from lipzoo.weights import WEIGHTS_FILE

NAMES = lipzoo.list_models("gat_lip_universal_16*", pretrained=True)


def test_the_bare_name_loads_and_is_small():
    model = lipzoo.load_pretrained("gat_lip_universal_16")
    assert model.card.full_name == "gat_lip_universal_16.cs_computers_digits"
    assert model.num_layers == 16
    for name in NAMES:
        assert len(find_checkpoint(name).files[WEIGHTS_FILE]) < 5e6


@pytest.mark.parametrize("name", NAMES)
def test_the_recipe_that_ships_is_the_one_on_the_card(name):
    card = lipzoo.load_pretrained(name).card
    assert load_pretraining(card.tag) == load_pretraining(
        find_checkpoint(name).folder / "card.yaml"
    )
    assert [source.name for source in load_pretraining(card.tag).graphs] == [
        entry.name for entry in card.pretrained_on
    ]


def test_no_target_of_the_study_was_learnt_from(raw_dir):
    for name in ("few_labels", "all_graphs"):
        study, _ = load_study(name)
        for point in study.points(seeds=[0]):
            if point.checkpoint is not None and study.methods[point.method].has_weights:
                assert point.target not in [e.name for e in point.checkpoint.card.pretrained_on]
    card = lipzoo.load_pretrained("gat_lip_universal_16").card
    seen = {entry.name: entry.fingerprint for entry in card.pretrained_on}
    with pytest.raises(ConfigError, match="has learnt from digits"):
        check_held_out(seen, lipzoo.load_dataset("digits", split_seed=4), card.full_name)
    check_held_out(seen, lipzoo.load_dataset("cora", raw_dir=raw_dir), card.full_name)


def test_raw_tasks_are_encoded_by_themselves():
    wine = lipzoo.load_dataset("wine")
    options = {"freeze": "all-but-head", "epochs": 30, "lr": 0.05, "verbose": False}
    result = lipzoo.finetune("gat_lip_universal_16", wine, **options)
    assert result.replaced == ["head"]
    assert result.metrics["test_accuracy"] > 0.8
    assert predict(result.model, wine).shape == (178, 3)


def test_five_labels_a_class_are_enough_for_cora(raw_dir):
    task = lipzoo.load_dataset(
        "cora", raw_dir=raw_dir, split="random", train_per_class=5, num_val=500, encoding={}
    )

    def probed(model):
        warm_start_head(model, task)
        return evaluate(model, task)["test_accuracy"]

    found = probed(lipzoo.load_pretrained("gat_lip_universal_16", num_classes=7))
    assert found > 0.7
    fresh = []
    for seed in range(3):
        torch.manual_seed(seed)
        model = lipzoo.create_model("gat_lip_universal_16", in_feats=68, num_classes=7)
        fresh.append(probed(model))
    assert found > max(fresh) + 0.02
    assert found > sum(fresh) / len(fresh) + 0.05
