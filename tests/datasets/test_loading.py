import pytest

import lipzoo.datasets
from lipzoo.datasets import DATASETS, GraphTask, list_datasets, load_dataset, register_dataset
from lipzoo.errors import ConfigError, UnknownNameError


def test_list_datasets():
    assert list_datasets() == [
        "actor",
        "amazon_computers",
        "amazon_photo",
        "amazon_ratings",
        "breast_cancer",
        "chameleon_filtered",
        "citeseer",
        "coauthor_cs",
        "coauthor_physics",
        "cora",
        "digits",
        "huangpu",
        "iris",
        "minesweeper",
        "ogbn-arxiv",
        "ogbn-proteins",
        "pasadena",
        "ppi",
        "pubmed",
        "questions",
        "roman_empire",
        "squirrel_filtered",
        "tolokers",
        "wine",
    ]


@pytest.mark.parametrize("name", lipzoo.datasets.__all__)
def test_public_names_are_there_and_documented(name):
    assert getattr(lipzoo.datasets, name).__doc__


@pytest.mark.parametrize("name", list_datasets())
def test_every_loader_is_documented(name):
    assert "F = " in DATASETS[name].load.__doc__
    assert "C = " in DATASETS[name].load.__doc__


def test_unknown_name():
    with pytest.raises(UnknownNameError, match=r"named 'digitz'; did you mean 'digits'\?"):
        load_dataset("digitz")


def test_unknown_split():
    with pytest.raises(ConfigError, match=r"split is 'publik'; did you mean 'public'\?"):
        load_dataset("digits", split="publik")


@pytest.mark.parametrize("option", ["split_seed", "missing_seed"])
def test_negative_seeds(option):
    with pytest.raises(ConfigError, match=f"iris: {option} is -1, a seed must not be negative"):
        load_dataset("iris", **{option: -1})


@pytest.mark.parametrize(
    "option",
    [
        *({"split_seed": "a"}, {"split_seed": None}, {"num_val": "a"}, {"num_test": 1.5}),
        *(
            {"missing_rate": "a"},
            {"encoding": {"width": "a"}},
            {"require_labels": "no"},
            {"k": "a"},
        ),
    ],
    ids=str,
)
def test_options_of_another_type(option):
    [name] = option
    with pytest.raises(ConfigError, match=rf"^iris: .*{name}.*: input should be a valid"):
        load_dataset("iris", **option)


def test_options_that_do_not_apply(raw_dir):
    with pytest.raises(ConfigError, match="cora: no option 'k'"):
        load_dataset("cora", raw_dir=raw_dir, k=3)
    with pytest.raises(ConfigError, match="cora: num_val, split_seed would need a random split"):
        load_dataset("cora", raw_dir=raw_dir, num_val=30, split_seed=1)
    with pytest.raises(ConfigError, match="digits: there is no public split"):
        load_dataset("digits", split="public")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"split_seed": 4, "num_test": 40, "k": 5},
        {"train_per_class": 5, "missing_rate": 0.5, "missing_seed": 3},
    ],
)
def test_options_reload_the_same(options):
    task = load_dataset("iris", **options)
    assert options.items() <= task.options.items()
    again = load_dataset(task.name, **task.options)
    assert again.fingerprint == task.fingerprint
    assert again.options == task.options


def test_register_dataset(graph):
    try:

        @register_dataset("ring")
        def ring() -> GraphTask:
            return GraphTask.from_graph(graph, "ring")

        assert load_dataset("ring").options == {"split": "public"}
        with pytest.raises(ConfigError, match="'ring' is already registered"):
            register_dataset("ring")(ring)
    finally:
        DATASETS.remove("ring")


def test_a_loader_of_ones_own_has_options_of_its_own(graph):
    try:

        @register_dataset("rings", num_val=1)
        def rings(number: int = 3, raw_dir: str | None = None) -> GraphTask:
            task = GraphTask.from_graph(graph, "rings")
            return task.with_ndata(feat=task.feat + number)

        first, other = load_dataset("rings"), load_dataset("rings", number=4)
        assert (first.options["number"], other.options["number"]) == (3, 4)
        assert first.fingerprint != other.fingerprint
        assert load_dataset("rings", **other.options).fingerprint == other.fingerprint
        with pytest.raises(ConfigError, match=r"no option 'numbr'; did you mean 'number'"):
            load_dataset("rings", numbr=4)
        with pytest.raises(ConfigError, match="number: input should be a valid integer"):
            load_dataset("rings", number="four")
    finally:
        DATASETS.remove("rings")
