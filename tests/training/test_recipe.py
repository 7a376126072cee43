import re
from pathlib import Path

import pytest

import lipzoo
from lipzoo._paths import packaged_folder
from lipzoo._yaml import parse_yaml
from lipzoo.errors import ConfigError, UnknownNameError
from lipzoo.settings import (
    BATCHINGS,
    METRICS,
    Consistency,
    EarlyStopping,
    Optimizer,
    Schedule,
    parse_seeds,
)
from lipzoo.training.recipe import Recipe, load_recipe, make_recipe

ROOT = Path(__file__).parents[2]

RECIPE = """
architecture: gat_lip_8
dataset: {name: digits, missing_rate: 0.5}
optimizer: {lr: 5e-3, weight_decay: 1e-4}
epochs: 20
seeds: 0..4
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text)
    return path


def test_reads_what_the_file_says(tmp_path):
    recipe = load_recipe(write(tmp_path, RECIPE))
    assert recipe.full_name == "gat_lip_8.digits"
    assert recipe.seeds == [0, 1, 2, 3, 4]
    assert recipe.optimizer.lr == 5e-3  # PyYAML alone reads 5e-3 as text
    assert recipe.early_stopping.patience == 100


def test_to_dict_reads_back_as_the_same_recipe(tmp_path):
    from lipzoo.training.recipe import make_recipe

    recipe = load_recipe(write(tmp_path, RECIPE))
    assert make_recipe(recipe.to_dict(), "again") == recipe


def test_changes_reach_nested_keys_and_are_checked(tmp_path):
    path = write(tmp_path, RECIPE)
    changes = ["optimizer.lr=0.1", "epochs=3", "overrides.num_heads=4", "tag=mine"]
    recipe = load_recipe(path, changes)
    assert (recipe.optimizer.lr, recipe.epochs) == (0.1, 3)
    assert recipe.overrides == {"num_heads": 4}
    assert recipe.full_name == "gat_lip_8.mine"
    for bad in ("epochs", "=3", "epochs.more=3", "epochs=[", "epochs=many", "optimiser.lr=1"):
        with pytest.raises(ConfigError):
            load_recipe(path, [bad])


def test_all_faults_are_named_at_once_with_the_nearest_name(tmp_path):
    text = RECIPE.replace("epochs: 20", "epoch: 20").replace("5e-3", "fast") + "seed: 3\n"
    with pytest.raises(ConfigError) as error:
        load_recipe(write(tmp_path, text))
    message = str(error.value)
    assert "did you mean 'epochs'" in message
    assert "did you mean 'seeds'" in message
    assert "optimizer.lr" in message
    assert "recipe.yaml" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("architecture: gat_2\n", "'dataset' is missing"),
        ("architecture: gat_2\ndataset: {k: 3}\n", "needs a key 'name'"),
        ("architecture: gat_2\ndataset: {name: digits}\nseeds: [1, 1]\n", "distinct"),
        ("architecture: gat_2\ndataset: {name: digits}\nepochs: 0\n", "epochs"),
        ("architecture: gat_2\ndataset: {name: digits}\nepochs: '7'\n", "epochs"),
        ("architecture: gat_2\ndataset: {name: digits}\ntag: ../x\n", "tag"),
        ("", "empty"),
        ("- a\n", "list"),
        ("a: [", "no valid YAML"),
        ("a: !!python/object/apply:os.getcwd []\n", "no valid YAML"),
    ],
)
def test_a_wrong_file_is_refused_in_words(tmp_path, text, words):
    with pytest.raises(ConfigError, match=words):
        load_recipe(write(tmp_path, text))


def test_unknown_names():
    with pytest.raises(UnknownNameError, match="no recipe"):
        load_recipe("gat_lip_99.nowhere")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_recipe("nowhere/recipe.yaml")


def test_seeds():
    assert parse_seeds("0..3") == [0, 1, 2, 3]
    assert parse_seeds("4,2") == [4, 2]
    for bad in ("3..1", "a", "1,1", "-1", ""):
        with pytest.raises(ValueError, match="seeds"):
            parse_seeds(bad)


def test_every_shipped_recipe_names_an_architecture_and_a_dataset():
    folder = packaged_folder("zoo_configs") / "recipes"
    recipes = sorted(folder.glob("*.yaml"))
    assert recipes
    for path in recipes:
        recipe = load_recipe(path)
        assert recipe.full_name == path.stem
        assert recipe.architecture in lipzoo.list_models()
        assert recipe.dataset["name"] in lipzoo.datasets.list_datasets()


def test_the_page_of_recipes_names_every_field():
    """And its example is a recipe."""
    page = (ROOT / "docs/recipes.md").read_text(encoding="utf-8")
    example = re.search(r"```yaml\n(.*?)```", page, re.DOTALL)[1]
    recipe = make_recipe(parse_yaml(example), where="docs/recipes.md")
    assert recipe.schedule.warmup == 20
    rows = {line.split("|")[1].strip(" `"): line for line in page.splitlines() if line[:3] == "| `"}
    assert rows.keys() == Recipe.model_fields.keys()
    parts = {"optimizer": Optimizer, "schedule": Schedule, "consistency": Consistency}
    for name, part in {**parts, "early_stopping": EarlyStopping}.items():
        assert all(f"`{field}`" in rows[name] for field in part.model_fields if field != "ties")
    assert all(f"`{name}`" in rows["batching"] for name in BATCHINGS)
    assert all(f"`{name}`" in rows["metric"] for name in METRICS)
