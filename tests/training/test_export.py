import os

import pytest
import torch
import yaml
from registry_state import forget_architectures

import lipzoo
from lipzoo.errors import ConfigError, OutputError
from lipzoo.training import evaluate, export_run, load_recipe, train
from lipzoo.training.run_architecture import ARCHITECTURE_FILE


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


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A run of an architecture of one's own: its recipe, its folder, and how to change its file."""
    configs = tmp_path / "configs"
    configs.mkdir()
    monkeypatch.setenv("LIPZOO_CONFIG_PATH", str(configs))

    def change(**args):
        content = {"model": "DeepGAT", "description": "Mine.", "source": "me"}
        content["args"] = {"num_layers": 2, "hidden_feats": 8, "num_heads": 2, **args}
        (configs / "mine_to_change.yaml").write_text(yaml.safe_dump(content))
        forget_architectures()

    change(feat_drop=0.1)
    (tmp_path / "recipe.yaml").write_text(
        "architecture: mine_to_change\ndataset: {name: iris}\nepochs: 2\nseeds: [0]\n"
        "baselines: {without: {overrides: {score_norm: null}}}\n"
    )
    recipe = load_recipe(tmp_path / "recipe.yaml")
    train(recipe, tmp_path / "run", baselines=True, verbose=False)
    yield recipe, tmp_path / "run", change
    forget_architectures(configs)


@pytest.mark.slow
def test_the_card_is_of_the_architecture_that_was_trained(mine, tmp_path):
    recipe, run, change = mine
    change(feat_drop=0.7, score_norm={"name": "lipschitz", "alpha": 3.0})
    card = lipzoo.load_pretrained(export_run(run, tmp_path / "out")).card
    assert card.architecture.args["feat_drop"] == 0.1
    assert "score_norm" not in card.architecture.args
    assert (card.description, card.source) == ("Mine.", "me")
    with pytest.raises(ConfigError, match=r"mine_to_change was another.*feat_drop, score_norm dif"):
        train(recipe, run, resume=True, verbose=False)
    change(feat_drop=0.1)
    train(recipe, run, seeds=[0, 1], resume=True, verbose=False)
    train(recipe, run, seeds=[2], jobs=2, resume=True, verbose=False)
    # An architecture that is gone is still the run's.
    os.environ.pop("LIPZOO_CONFIG_PATH")
    forget_architectures(run.parent / "configs")
    card = lipzoo.load_pretrained(export_run(run, tmp_path / "again")).card
    assert card.seeds == [0, 1, 2]


def test_a_run_from_before_takes_the_architecture_of_today_and_says_so(mine, tmp_path):
    recipe, run, change = mine
    (run / ARCHITECTURE_FILE).unlink()
    change(feat_drop=0.7)
    with pytest.warns(UserWarning, match="kept no architecture.yaml"):
        folder = export_run(run, tmp_path / "out")
    assert lipzoo.load_pretrained(folder).card.architecture.args["feat_drop"] == 0.7
    train(recipe, run, resume=True, verbose=False)
    assert not (run / ARCHITECTURE_FILE).exists(), "what the seeds were trained with is not known"


def test_a_new_run_in_the_folder_keeps_its_own_architecture(mine):
    recipe, run, change = mine
    change(feat_drop=0.4)
    train(recipe, run, overwrite=True, verbose=False)
    assert yaml.safe_load((run / ARCHITECTURE_FILE).read_text())["args"]["feat_drop"] == 0.4
