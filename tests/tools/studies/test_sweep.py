import pytest
import yaml

from lab.studies.sweep import CONFIGS, list_sweeps, load_sweep, make_sweep
from lipzoo.errors import ConfigError, UnknownNameError
from lipzoo.training.recipe import load_recipe

SHIPPED = sorted(CONFIGS.glob("*.yaml"))


def test_sweeps_ship_for_each_experiment():
    assert {"citeseer", "coauthor_cs", "cora", "pubmed"} <= set(list_sweeps("depth"))
    assert {"citeseer", "cora", "pubmed"} <= set(list_sweeps("missing"))
    assert "cora" in list_sweeps("gradients")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_sweeps_are_valid_and_fair(path):
    kind, _, data = path.stem.partition("_")
    sweep, _ = load_sweep(kind, data)
    assert data == sweep.dataset or data.startswith(f"{sweep.dataset}_")
    for depth in sweep.depths:
        recipes = [sweep.recipe_of(model, depth, 0.0) for model in sweep.models]
        shared = [
            {k: v for k, v in recipe.to_dict().items() if k not in ("architecture", "overrides")}
            for recipe in recipes
        ]
        for content in shared:  # what stands in for erased features belongs to the model
            content["dataset"] = {
                k: v for k, v in content["dataset"].items() if k != "missing_fill"
            }
        assert all(content == shared[0] for content in shared), "models are trained alike"
        drops = [{k: v for k, v in r.overrides.items() if "drop" in k} for r in recipes]
        assert all(drop == drops[0] for drop in drops)
    for figures in sweep.reference.test.values():
        assert figures, "a published model without a figure"


def test_fields_are_laid_over_in_order(tiny):
    recipe = make_sweep(tiny, "tiny").recipe_of("GAT+LipschitzNorm", 3, 0.5)
    assert recipe.architecture == "gat_lip_2"
    assert recipe.epochs == 8  # the depth's over the shared one
    assert recipe.overrides == {
        "hidden_feats": 8,
        "num_heads": 2,
        "feat_drop": 0.2,  # the model's over the depth's
        "num_layers": 3,
    }
    assert recipe.optimizer.lr == 0.02
    assert recipe.dataset == {"name": "iris", "missing_rate": 0.5}
    assert recipe.num_threads == 1


def test_seeds_are_outermost(tiny):
    points = make_sweep(tiny, "tiny").points()
    assert [p.seed for p in points] == [0] * 4 + [1] * 4
    assert {(p.model, p.depth) for p in points[:4]} == {
        (model, depth) for model in tiny["models"] for depth in (2, 3)
    }
    few = make_sweep(tiny, "tiny").points(["GAT"], [3], [7])
    assert [(p.model, p.depth, p.seed) for p in few] == [("GAT", 3, 7)]


def test_the_hash_is_that_of_the_settings(tiny):
    def hashes(**changes):
        sweep = make_sweep({**tiny, **changes}, "tiny")
        return {(p.model, p.depth): p.recipe_hash for p in sweep.points(seeds=[0])}

    before = hashes()
    assert len(set(before.values())) == 4
    assert hashes(seeds=[5], description="other words") == before
    # The same network under another name.
    renamed = {**tiny["models"], "GAT": {"architecture": "gat_32"}}
    assert hashes(models=renamed) == before
    # Another depth's settings touch that depth alone.
    after = hashes(by_depth={3: {"epochs": 9}})
    assert {key for key in before if before[key] != after[key]} == {
        ("GAT", 3),
        ("GAT+LipschitzNorm", 3),
    }
    changed = hashes(recipe={**tiny["recipe"], "optimizer": {"weight_decay": 0.1}})
    assert not set(changed.values()) & set(before.values())


def test_changes_on_the_command_line(tiny, tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(tiny))
    changes = ["recipe.epochs=30", "by_depth.3.epochs=40", "models.GAT.optimizer.lr=0.5"]
    sweep, content = load_sweep("depth", path, changes)
    assert sweep.recipe_of("GAT", 2, 0).epochs == 30
    recipe = sweep.recipe_of("GAT", 3, 0)
    assert (recipe.epochs, recipe.optimizer.lr, recipe.overrides["feat_drop"]) == (40, 0.5, 0.1)
    assert make_sweep(content, "again") == sweep


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"depth": [2]}, r"unknown key 'depth'; did you mean 'depths'"),
        ({"depths": []}, "depths"),
        ({"depths": [2, 2]}, "twice"),
        ({"depths": [0]}, "greater than or equal to 1"),
        ({"seeds": "0-4"}, r"0\.\.9"),
        ({"missing_rates": [1.5]}, "less than or equal to 1"),
        ({"by_depth": {4: {}}}, r"\[4\] are none of the depths"),
        ({"models": {}}, "models"),
        ({"models": {"GAT": {}}}, "GAT at depth 2.*'architecture' is missing"),
        ({"models": {"GAT": {"architecture": "gat_2", "epoch": 3}}}, "did you mean 'epochs'"),
        ({"record_epochs": [0]}, "is for gradients"),
        ({"kind": "gradients"}, "gradients, which need it"),
        ({"reference": {"test": {"GAT": {0: {2: 823}}}}}, "less than or equal to 100"),
    ],
)
def test_faults_are_named(tiny, changes, words):
    with pytest.raises(ConfigError, match=words):
        make_sweep({**tiny, **changes}, "tiny.yaml")


def test_unknown_names(tiny, tmp_path):
    with pytest.raises(UnknownNameError, match="did you mean 'cora'"):
        load_sweep("depth", "coraa")
    with pytest.raises(LookupError, match="gat_2"):
        make_sweep({**tiny, "models": {"GAT": {"architecture": "gatt_2"}}}, "tiny").points()
    sweep = make_sweep(tiny, "tiny")
    with pytest.raises(ConfigError, match="did you mean 'GAT'"):
        sweep.points(["GATT"])
    with pytest.raises(ConfigError, match=r"no depth 4 .*choices: 2, 3"):
        sweep.points(depths=[4])
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(tiny))
    with pytest.raises(ConfigError, match="kind 'depth', not 'missing'"):
        load_sweep("missing", path)


def test_a_shipped_recipe_is_not_a_sweep():
    recipe = load_recipe("gat_lip_16.cora")
    with pytest.raises(ConfigError, match="'models' is missing"):
        make_sweep(recipe.to_dict(), "recipe")
