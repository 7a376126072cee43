"""``split_index: seed``: seed k takes split k, in training, on the card and in what reads it."""

import json

import numpy as np
import pytest
import yaml
from public_files import save

import lipzoo
from lipzoo.cli import main
from lipzoo.errors import ConfigError, OutputError
from lipzoo.training import export_run, load_recipe, train, tune
from lipzoo.training.baselines import fit_estimator
from lipzoo.training.run_folder import read_run
from lipzoo.training.run_seed import load_seed
from lipzoo.training.tasks import load_task


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
    """Iris with four splits, in an .npz."""
    iris = lipzoo.load_dataset("iris")
    src, dst = (ends.numpy() for ends in iris.graph.edges())
    rng = np.random.default_rng(0)
    parts = np.stack([rng.permutation(150) % 3 for _ in range(4)])
    masks = {f"{part}_mask": parts == i for i, part in enumerate(("train", "val", "test"))}
    content = {"feat": iris.feat.numpy(), "label": iris.labels.numpy(), **masks}
    return save(tmp_path_factory.mktemp("splits") / "four.npz", {"src": src, "dst": dst, **content})


@pytest.fixture(scope="module")
def run(splits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("per_seed")
    recipe = folder / "recipe.yaml"
    recipe.write_text(
        "architecture: test_tiny\ntag: four\nepochs: 8\nseeds: 0..3\n"
        f"dataset: {{name: {splits}, split_index: seed}}\nbaselines: {{knn: {{estimator: knn}}}}\n"
    )
    train(load_recipe(recipe), folder / "run", seeds=[1, 3], baselines=True, verbose=False)
    train(load_recipe(recipe), folder / "run", resume=True, baselines=True, verbose=False)
    return folder / "run"


def test_each_seed_is_trained_and_measured_on_its_split(run, splits):
    recipe = read_run(run)
    for seed in range(4):
        task = load_task(recipe, seed=seed)
        assert task.options["split_index"] == seed
        assert task.fingerprint == lipzoo.load_dataset(splits, split_index=seed).fingerprint
        result = yaml.safe_load((run / f"seed_{seed}/result.yaml").read_text())
        assert result["fingerprint"] == task.fingerprint
        model = load_seed(run, seed, recipe, task)
        measured = lipzoo.training.evaluate(model, task)
        assert measured == pytest.approx(result["metrics"], abs=1e-7)
        other = load_task(recipe, seed=(seed + 1) % 4)
        with pytest.raises(OutputError, match="the data has changed"):
            load_seed(run, seed, recipe, other)
        knn = yaml.safe_load((run / f"baselines/knn/seed_{seed}/result.yaml").read_text())
        assert knn["metrics"] == fit_estimator("knn", {}, task)
    summary = yaml.safe_load((run / "summary.yaml").read_text())
    assert summary["seeds"] == [0, 1, 2, 3]
    assert len(set(summary["baselines"]["knn"]["test_accuracy"]["values"])) > 1


def test_the_card_is_of_the_exported_seeds_split(run, tmp_path, capsys):
    folder = export_run(run, tmp_path / "out")
    card = lipzoo.load_pretrained(folder).card
    assert card.recipe["dataset"]["split_index"] == "seed"
    assert card.dataset.options["split_index"] == card.weights.seed
    assert len(card.metrics["test_accuracy"].values) == 4
    capsys.readouterr()
    assert main(["evaluate", str(folder), "--json"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""  # the data is that of the card
    measured = json.loads(printed.out)["metrics"]
    assert measured == pytest.approx(card.weights.metrics, abs=1e-7)
    other = (card.weights.seed + 1) % 4
    assert main(["evaluate", str(folder), "--data-option", f"split_index={other}"]) == 0
    assert main(["info", str(folder)]) == 0
    assert "over seeds 0, 1, 2, 3, each with its own split_index:" in capsys.readouterr().out
    # Whatever the split, it is the same data: the head is kept.
    task = lipzoo.load_dataset(card.dataset.name, split_index=other)
    assert lipzoo.finetune(folder, task, epochs=1, verbose=False).replaced == []


@pytest.mark.slow
def test_the_recipe_on_the_card_gives_the_card_again(run, tmp_path):
    folder = export_run(run, tmp_path / "out")
    replayed = train(load_recipe(folder / "card.yaml"), tmp_path / "again", jobs=2, verbose=False)
    card = lipzoo.load_pretrained(folder).card
    assert replayed["metrics"] == {k: v.model_dump() for k, v in card.metrics.items()}


def test_a_search_trains_each_seed_on_its_split(splits, recipe, tmp_path):
    pytest.importorskip("optuna")
    from lipzoo.training.search_space import make_space
    from lipzoo.training.tune_trial import validated

    space = make_space({"optimizer.lr": [0.01]}, "test")
    content = {"name": str(splits), "split_index": "seed"}
    per_seed = recipe(dataset=content, metric="macro_f1", optimizer={"lr": 0.01})
    found = tune(per_seed, space, tmp_path, trials=1, seeds=[0, 2], verbose=False)
    values = [
        validated(per_seed, seed, load_task(per_seed, seed=seed)).metrics["val_macro_f1"]
        for seed in (0, 2)
    ]
    assert found["metric"] == "val_macro_f1"
    assert found["value"] == pytest.approx(np.mean(values))
    with pytest.raises(ConfigError, match=r"split_index is 4, .* \(choices: 0\.\.3\)"):
        tune(per_seed, space, tmp_path / "b", trials=1, seeds=[0, 4], verbose=False)
    assert not (tmp_path / "b").exists()


def test_a_seed_without_a_split_is_refused_before_the_folder_is_made(run, splits, recipe, tmp_path):
    per_seed = recipe(dataset={"name": str(splits), "split_index": "seed"}, seeds=[0, 4])
    with pytest.raises(ConfigError, match=r"split_index is 4, .* \(choices: 0\.\.3\)"):
        train(per_seed, tmp_path / "run", verbose=False)
    assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match="split_index is another for each seed"):
        load_task(per_seed)
    wrong = recipe(dataset={"name": str(splits), "split_index": "sed"})
    with pytest.raises(ConfigError, match="split_index: input should be a valid integer, got 'sed"):
        train(wrong, tmp_path / "run", verbose=False)


def test_a_split_that_is_unfit_is_found_before_any_training(splits, recipe, tmp_path):
    with np.load(splits) as file:
        arrays = dict(file)
    arrays["test_mask"][2] |= arrays["val_mask"][2]
    broken = save(tmp_path / "broken.npz", arrays)
    per_seed = recipe(dataset={"name": str(broken), "split_index": "seed"}, seeds="0..3")
    with pytest.raises(lipzoo.LipzooError, match="val_mask and test_mask overlap on 50 nodes"):
        train(per_seed, tmp_path / "run", verbose=False)
    assert not (tmp_path / "run").exists()


def test_random_splits_by_seed(recipe, tmp_path):
    per_seed = recipe(dataset={"name": "iris", "split_seed": "seed", "missing_seed": "seed"})
    tasks = [load_task(per_seed, seed=seed) for seed in (0, 5)]
    assert [task.options["split_seed"] for task in tasks] == [0, 5]
    assert tasks[1].fingerprint == lipzoo.load_dataset("iris", split_seed=5).fingerprint
    train(per_seed, tmp_path / "run", seeds=[5], verbose=False)
    card = lipzoo.load_pretrained(export_run(tmp_path / "run", tmp_path / "out")).card
    assert card.dataset.options["split_seed"] == 5


def test_a_number_by_set(splits, recipe, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe(dataset={"name": str(splits)}).to_dict()))
    changed = load_recipe(path, ["dataset.split_index=2"])
    assert load_task(changed).options["split_index"] == 2
    assert load_recipe(path, ["dataset.split_index=seed"]).data_options(3) == {"split_index": 3}
