import pytest
import torch
import yaml

import lipzoo
from lipzoo.errors import OutputError
from lipzoo.training import evaluate, export_run, load_recipe, train


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    recipe = folder / "recipe.yaml"
    recipe.write_text(
        "architecture: test_tiny\noverrides: {feat_drop: 0.2}\n"
        "dataset: {name: iris, split_seed: 3}\ntag: iris_mine\n"
        "epochs: 10\nseeds: 0..2\nbaselines: {knn: {estimator: knn}}\n"
    )
    train(load_recipe(recipe), folder / "run", baselines=True, verbose=False)
    return folder / "run"


def test_the_card_says_how_the_weights_came_about(run, tmp_path):
    folder = export_run(run, tmp_path / "out")
    card = yaml.safe_load((folder / "card.yaml").read_text())
    summary = yaml.safe_load((run / "summary.yaml").read_text())
    assert (card["name"], card["tag"]) == ("test_tiny", "iris_mine")
    assert card["metrics"] == summary["metrics"]
    assert card["baselines"].keys() == {"knn"}
    assert card["seeds"] == [0, 1, 2]
    assert card["recipe"]["dataset"] == {"name": "iris", "split_seed": 3}
    assert card["dataset"]["options"]["split_seed"] == 3
    assert set(card["versions"]) >= {"lipzoo", "python", "torch", "dgl", "numpy", "machine"}
    model = lipzoo.load_pretrained(folder)
    assert card["weights"]["num_parameters"] == sum(p.numel() for p in model.parameters())


def test_the_weights_are_those_of_the_best_validated_seed(run, tmp_path):
    folder = export_run(run, tmp_path / "out")
    results = [yaml.safe_load((run / f"seed_{s}/result.yaml").read_text()) for s in range(3)]
    best = max(results, key=lambda r: (r["metrics"]["val_accuracy"], -r["metrics"]["val_loss"]))
    model = lipzoo.load_pretrained(folder)
    assert model.card.weights.seed == best["seed"]
    task = lipzoo.load_dataset("iris", split_seed=3)
    assert evaluate(model, task) == pytest.approx(best["metrics"], abs=1e-7)


def test_training_the_recipe_on_the_card_gives_the_card_again(run, tmp_path):
    folder = export_run(run, tmp_path / "out")
    replayed = train(load_recipe(folder / "card.yaml"), tmp_path / "replay", verbose=False)
    card = lipzoo.load_pretrained(folder).card
    assert replayed["metrics"] == {k: v.model_dump() for k, v in card.metrics.items()}
    again = export_run(tmp_path / "replay", tmp_path / "again")
    one, two = (lipzoo.load_pretrained(f).state_dict() for f in (folder, again))
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_existing_checkpoints_are_not_overwritten_by_accident(run, tmp_path):
    folder = export_run(run, tmp_path / "out")
    before = (folder / "card.yaml").stat().st_mtime_ns
    with pytest.raises(OutputError, match="--overwrite"):
        export_run(run, tmp_path / "out")
    assert (folder / "card.yaml").stat().st_mtime_ns == before
    export_run(run, tmp_path / "out", overwrite=True)
    with pytest.raises(OutputError, match="holds no run"):
        export_run(tmp_path, tmp_path / "other")
