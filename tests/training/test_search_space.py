from functools import partial

import pytest

from lipzoo.errors import ConfigError, UnknownNameError
from lipzoo.training.recipe import make_recipe
from lipzoo.training.run_seed import build_from_recipe, settled
from lipzoo.training.search_space import (
    check_space,
    draw,
    load_space,
    make_space,
    own_values,
    to_dict,
    with_values,
)
from lipzoo.training.tasks import load_task


class Lowest:
    """A trial that takes the lowest or first, or the highest or last, of everything."""

    def __init__(self, highest=False):
        self.highest = highest

    def suggest_int(self, name, low, high, log, step):
        return high if self.highest else low

    def suggest_float(self, name, low, high, log, step):
        return high if self.highest else low

    def suggest_categorical(self, name, choices):
        return choices[-1 if self.highest else 0]


def space_of(**content):
    return make_space({key.replace("__", "."): entry for key, entry in content.items()}, "test")


def test_each_kind_of_entry():
    space = space_of(
        optimizer__lr={"low": 1e-4, "high": 0.1, "log": True},
        epochs={"low": 2, "high": 32},
        overrides__residual=["none", {"name": "initial", "initial": 0.1}, None, True],
    )
    lowest = {key: entry.suggest(Lowest(), key) for key, entry in space.items()}
    assert lowest == {"optimizer.lr": 1e-4, "epochs": 2, "overrides.residual": "none"}
    highest = {key: entry.suggest(Lowest(highest=True), key) for key, entry in space.items()}
    assert highest["overrides.residual"] is True
    assert make_space(to_dict(space), "again") == space


def test_steps_give_the_numbers_that_people_write():
    entry = space_of(a={"low": 0.0, "high": 0.8, "step": 0.1})["a"]
    assert [entry.read(0.1 * n) for n in range(4)] == [0.0, 0.1, 0.2, 0.3]
    assert 0.1 * 3 != 0.3


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"low": 1, "high": 1}, "low must be less than high"),
        ({"low": 2.0, "high": 1.0}, "low must be less than high"),
        ({"low": 0.0, "high": 1.0, "log": True}, "log needs low > 0"),
        ({"low": 1.0, "high": 2.0, "log": True, "step": 0.1}, "goes without step"),
        ({"low": 0, "high": 4, "step": 0.5}, "write 0.0 for 0"),
        ({"low": 0, "high": 4, "step": 5}, "at most high - low"),
        ({"low": 0.0, "high": 4.0, "step": -1}, "more than 0"),
        ({"low": 0, "high": 2**60}, "less than or equal"),
        ({"low": 0, "hihg": 2}, "'hihg'; did you mean 'high'"),
        ({"low": "a", "high": 2}, "low"),
        ([], "at least 1"),
        (3, "list of choices"),
    ],
)
def test_wrong_entries_are_refused_and_named(entry, words):
    with pytest.raises(ConfigError, match=words) as fault:
        make_space({"optimizer.lr": entry, "epochs": [1]}, "mine.yaml")
    assert "optimizer.lr" in str(fault.value)
    assert str(fault.value).startswith("mine.yaml: ")


def test_all_faults_are_named_at_once():
    with pytest.raises(ConfigError, match=r"a.*low must.*b.*list of choices"):
        make_space({"a": {"low": 1, "high": 0}, "b": 3}, "mine.yaml")
    with pytest.raises(ConfigError, match="no field to vary"):
        make_space({}, "mine.yaml")
    with pytest.raises(ConfigError, match="no field of a recipe"):
        make_space({3: [1]}, "mine.yaml")


def test_values_go_into_the_recipe(recipe):
    values = {"optimizer.lr": 0.3, "overrides.feat_drop": 0.1, "epochs": 5}
    changed = with_values(recipe(), values, "test")
    assert (changed.optimizer.lr, changed.overrides["feat_drop"], changed.epochs) == (0.3, 0.1, 5)
    assert changed.overrides["attn_drop"] == 0.2
    assert recipe().epochs == 12
    with pytest.raises(ConfigError, match=r"trial 3: 'epochs' holds a value"):
        with_values(recipe(), {"epochs.more": 5}, "trial 3")


def test_what_the_recipe_does_not_take_is_said_before_anything_is_trained(recipe):
    task = load_task(recipe())
    space = space_of(
        overrides__feat_drop={"low": 0.0, "high": 1.0},
        optimiser__lr=[0.1],
        overrides__num_layers={"low": 1, "high": 3},
    )
    with pytest.raises(ConfigError) as fault:
        check_space(recipe(), space, lambda changed: build_from_recipe(changed, task))
    assert "feat_drop must be in [0, 1), got 1.0" in str(fault.value)
    assert "'optimiser'; did you mean 'optimizer'" in str(fault.value)
    assert "num_layers" not in str(fault.value)


@pytest.mark.parametrize(
    ("key", "choices"),
    [
        ("metric", ["accuracy", "macro_f1"]),
        ("seeds", [[0], [1]]),
        ("baselines.knn.estimator", ["knn", "logistic_regression"]),
        ("dataset.metric", ["accuracy", "macro_f1"]),
    ],
)
def test_what_trials_are_compared_by_is_not_searched(recipe, key, choices):
    task = load_task(recipe())
    space = make_space({key: choices, "epochs": {"low": 2, "high": 4}}, "test")
    with pytest.raises(ConfigError, match=f"{key}: says what trials are compared by"):
        check_space(recipe(), space, lambda changed: build_from_recipe(changed, task))


def test_a_field_and_a_part_of_it_do_not_vary_together(recipe):
    space = make_space(
        {
            "overrides.residual": ["none", {"name": "initial", "initial": 0.1}],
            "overrides.residual.initial": {"low": 0.1, "high": 0.5},
        },
        "test",
    )
    words = "overrides.residual: varies as a whole, and so does its part overrides.residual.initial"
    with pytest.raises(ConfigError, match=words):
        check_space(recipe(), space, lambda recipe: None)


def test_the_space_that_ships_with_lipzoo_and_files(recipe, tmp_path):
    task = load_task(recipe())
    wide = recipe(architecture="gat_lip_2", overrides={})
    check_space(wide, load_space("default"), lambda changed: build_from_recipe(changed, task))
    file = tmp_path / "mine.yaml"
    file.write_text("epochs: {low: 1, high: 3}\n")
    assert to_dict(load_space(file)) == {"epochs": {"low": 1, "high": 3}}
    with pytest.raises(UnknownNameError, match="did you mean 'default'"):
        load_space("defalt")


def test_draws_fill_their_intervals_evenly():
    space = space_of(
        log={"low": 1e-4, "high": 1e-1, "log": True},
        plain={"low": -1.0, "high": 3.0},
        whole={"low": 1, "high": 4},
        whole_log={"low": 1, "high": 1000, "log": True},
        step={"low": 0.0, "high": 0.6, "step": 0.2},
        choice=["a", "b"],
    )
    draws = [draw(space, seed) for seed in range(2000)]
    assert draw(space, 7) == draws[7]
    values = {key: [each[key] for each in draws] for key in space}
    for key in ("log", "plain", "whole_log"):
        entry = space[key]
        assert all(entry.low <= value <= entry.high for value in values[key])
    share = sum(value < 1e-3 for value in values["log"]) / 2000
    assert 0.30 < share < 0.37, "a third of the logarithm"
    assert 0.46 < sum(value < 1 for value in values["plain"]) / 2000 < 0.54
    assert all(isinstance(value, int) for value in values["whole"] + values["whole_log"])
    for key, wanted in {
        "whole": [1, 2, 3, 4],
        "step": [0.0, 0.2, 0.4, 0.6],
        "choice": ["a", "b"],
    }.items():
        counts = [values[key].count(value) / 2000 for value in wanted]
        assert sum(counts) == 1, "no other value"
        assert max(counts) - min(counts) < 0.06
    pairs = list(zip(values["log"], values["plain"]))
    assert len(set(pairs)) == 2000


def test_a_draw_does_not_depend_on_other_fields():
    one = space_of(a={"low": 0.0, "high": 1.0})
    two = space_of(b=[1, 2, 3], a={"low": 0.0, "high": 1.0})
    assert all(draw(one, seed)["a"] == draw(two, seed)["a"] for seed in range(20))


def test_what_a_recipe_has_of_its_data_by_default_is_its_own():
    """Also where it says nothing of it: null is the absence of an option."""
    recipe = make_recipe({"architecture": "gat_lip_2", "dataset": {"name": "digits"}}, "test")
    space = space_of(
        dataset__scaling=[None, "standard"],
        dataset__missing_rate={"low": 0.0, "high": 0.5},
        dataset__k=[4, 8],
        dataset__num_val=[400, 500],
    )
    task = load_task(recipe)
    found = own_values(recipe, space, partial(settled, task=task))
    assert found.keys() == space.keys()
    assert found["dataset.missing_rate"] == 0.0
    other = make_recipe(
        {"architecture": "gat_lip_2", "dataset": {"name": "digits", "scaling": "standard", "k": 4}},
        "test",
    )
    kept = own_values(other, space, partial(settled, task=task))
    assert kept["dataset.scaling"] != found["dataset.scaling"]
    assert kept["dataset.k"] != found["dataset.k"]
