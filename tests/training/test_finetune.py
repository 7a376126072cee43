import csv

import pytest
import torch

import lipzoo
from lipzoo.errors import ConfigError, OutputError
from lipzoo.training import evaluate, export_run, predict, train, write_predictions
from lipzoo.training.recipe import make_recipe


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Weights trained on wine (13 features, 3 classes)."""
    folder = tmp_path_factory.mktemp("source")
    recipe = make_recipe(
        {"architecture": "gat_lip_2", "dataset": {"name": "wine"}, "epochs": 30, "seeds": [0]},
        where="test",
    )
    train(recipe, folder / "run", verbose=False)
    return export_run(folder / "run", folder / "gat_lip_2.wine")


def body(model):
    return {k: v.clone() for k, v in model.state_dict().items() if k.startswith("layers.")}


def test_onto_other_features_and_classes(source, iris, tmp_path):
    result = lipzoo.finetune(source, iris, epochs=40, out=tmp_path / "out", verbose=False)
    assert result.kept == ["layer_1", "layer_2"]
    assert result.replaced == ["input", "head"]
    assert result.metrics["test_accuracy"] > 0.8
    again = lipzoo.load_pretrained(tmp_path / "out")
    assert evaluate(again, iris) == pytest.approx(result.metrics, abs=1e-7)
    assert again.card.recipe["finetuned_from"] == "gat_lip_2.wine"
    assert again.card.tag == "iris"


def test_the_same_width_keeps_the_input_layer(source):
    wine = lipzoo.load_dataset("wine", split_seed=5)
    result = lipzoo.finetune(source, wine, epochs=2, verbose=False)
    assert result.replaced == []


@pytest.mark.parametrize("freeze", ["none", "body", "all-but-head"])
def test_freeze(source, iris, freeze):
    before = body(lipzoo.load_pretrained(source))
    result = lipzoo.finetune(source, iris, freeze=freeze, epochs=5, verbose=False)
    after = body(result.model)
    unchanged = all(torch.equal(before[key], after[key]) for key in before)
    assert unchanged == (freeze != "none")
    assert all(p.requires_grad for p in result.model.parameters())


def test_all_but_head_keeps_the_input_of_the_same_width(source):
    wine = lipzoo.load_dataset("wine", split_seed=5)
    before = lipzoo.load_pretrained(source).input.weight
    result = lipzoo.finetune(source, wine, freeze="all-but-head", epochs=5, verbose=False)
    assert torch.equal(before, result.model.input.weight)


def test_the_same_seed_gives_the_same_model(source, iris):
    one, two, other = (
        lipzoo.finetune(source, iris, epochs=5, seed=seed, verbose=False) for seed in (0, 0, 1)
    )
    assert one.history == two.history
    assert one.history != other.history


def test_refusals_come_before_the_training(source, iris, tmp_path):
    with pytest.raises(ConfigError, match="did you mean 'body'"):
        lipzoo.finetune(source, iris, freeze="bodi", epochs=10**9)
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(OutputError, match="--overwrite"):
        lipzoo.finetune(source, iris, epochs=10**9, out=tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "keep"


def test_predictions_as_csv(source, tmp_path):
    wine = lipzoo.load_dataset("wine")
    model = lipzoo.load_pretrained(source)
    probabilities = predict(model, wine)
    assert torch.allclose(probabilities.sum(1), torch.ones(wine.num_nodes))
    path = write_predictions(tmp_path / "p.csv", probabilities, multilabel=False)
    rows = list(csv.DictReader(path.open()))
    assert [int(row["node"]) for row in rows] == list(range(wine.num_nodes))
    assert [int(row["class"]) for row in rows] == probabilities.argmax(1).tolist()
    with pytest.raises(OutputError, match="--overwrite"):
        write_predictions(path, probabilities, multilabel=False)
    with pytest.raises(OutputError, match="is no folder"):
        write_predictions(tmp_path / "no" / "p.csv", probabilities, multilabel=False)
