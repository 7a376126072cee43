import copy

import pytest
import torch
import yaml

import lipzoo
from lipzoo._yaml import read_yaml, write_yaml
from lipzoo.datasets import load_dataset
from lipzoo.errors import ConfigError, OutputError
from lipzoo.nn.dropout import Dropout
from lipzoo.training import train, tune
from lipzoo.training.export import export_run
from lipzoo.training.loop import fit
from lipzoo.training.metrics import evaluate
from lipzoo.training.recipe import FitSettings
from lipzoo.training.run_seed import load_seed
from lipzoo.training.search_space import make_space
from lipzoo.training.stack import _RatedDropout, _roc_auc
from lipzoo.training.tasks import load_task
from lipzoo.training.together import fit_together, shape_of

SETTINGS = {"epochs": 12, "eval_every": 2}
#: What each of three models has of its own.
OWN = (
    {"optimizer": {"lr": 0.01, "weight_decay": 0.0}, "early_stopping": {"patience": 4}},
    {"optimizer": {"lr": 0.003, "weight_decay": 1e-3}, "early_stopping": {"monitor": "loss"}},
    {"optimizer": {"lr": 0.03, "weight_decay": 1e-4}, "schedule": {"name": "cosine", "warmup": 3}},
)


@pytest.fixture(scope="module")
def tasks():
    """One graph, another split for each model, in float64."""
    made = [load_dataset("iris", split_seed=seed) for seed in range(3)]
    return [task.with_ndata(feat=task.feat.double()) for task in made]


def models(tasks, name="gat_lip_lin_2", **overrides):
    made = []
    for seed, task in enumerate(tasks):
        torch.manual_seed(seed)
        sizes = {"in_feats": task.in_feats, "num_classes": task.num_classes}
        options = {"hidden_feats": 8, "num_heads": 2, "feat_drop": 0.0, "head_drop": 0.0}
        made.append(lipzoo.create_model(name, **{**options, **sizes, **overrides}).double())
    return made


def settings(own=OWN, **changes):
    return [FitSettings.model_validate({**SETTINGS, **one, **changes}) for one in own]


def assert_alike(got, wanted):
    assert got.keys() == wanted.keys()
    for name, value in wanted.items():
        assert got[name] == pytest.approx(value, rel=1e-5, abs=1e-7), name


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"label_smoothing": 0.1, "grad_clip": 0.5},
        {"ema_decay": 0.8},
        {"optimizer": {"name": "adamw", "lr": 0.01, "weight_decay": 0.1}},
        {"optimizer": {"lr": 0.01, "weight_decay": 0.1, "attention_weight_decay": 0.01}},
    ],
    ids=["plain", "smoothed_and_clipped", "averaged", "adamw", "two_decays"],
)
@pytest.mark.parametrize("name", ["gat_lip_lin_2", "gt_lip_sep_2"])
def test_each_model_is_trained_as_it_would_be_alone(tasks, name, changes, monkeypatch):
    """Whatever the others do: without dropout, all that differs is the rounding.

    On one backend: where lengths of neighbours tie, each has a subgradient of its own.
    """
    monkeypatch.setenv("LIPZOO_BACKEND", "torch")
    # In front of a batch norm a bias has no gradient, and Adam makes steps of what is left of it.
    norm = {"feature_norm": "layernorm"} if name.startswith("gt") else {}
    stack, alone = models(tasks, name, **norm), models(tasks, name, **norm)
    together = fit_together(stack, tasks, settings(**changes))
    for one, model, other, task, chosen in zip(together, stack, alone, tasks, settings(**changes)):
        wanted = fit(other, task, chosen, verbose=False)
        assert one.best_epoch == wanted.best_epoch
        assert_alike(one.metrics, wanted.metrics)
        assert_alike(one.metrics, evaluate(model, task))
        assert len(one.history) == len(wanted.history)
        for row, expected in zip(one.history, wanted.history):
            assert_alike(row, expected)
        for key, tensor in other.state_dict().items():
            if tensor.is_floating_point():
                torch.testing.assert_close(model.state_dict()[key], tensor, rtol=1e-4, atol=1e-5)


def test_several_labels_a_node(multilabel, monkeypatch):
    monkeypatch.setenv("LIPZOO_BACKEND", "torch")
    pair = [multilabel.with_ndata(feat=multilabel.feat.double())] * 2
    stack, alone = models(pair), models(pair)
    together = fit_together(stack, pair, settings(OWN[:2]))
    for one, other, task, chosen in zip(together, alone, pair, settings(OWN[:2])):
        assert_alike(one.metrics, fit(other, task, chosen, verbose=False).metrics)


def test_each_model_has_its_own_rate_of_dropout(tasks):
    rates = (0.0, 0.2, 0.9)
    stack = []
    for rate, task in zip(rates, tasks):
        stack += models([task], feat_drop=rate)
    results = fit_together(stack, tasks, settings(OWN[:1] * 3, epochs=40))
    losses = [result.history[-1]["train_loss"] for result in results]
    assert losses[0] < losses[2]
    kept = torch.ones(3, 4000)
    for row, rate in zip(kept, rates):
        torch.manual_seed(0)
        dropped = _RatedDropout(rate)(row)
        assert (dropped == 0).double().mean().item() == pytest.approx(rate, abs=0.03)
        assert dropped.mean().item() == pytest.approx(1, abs=0.2)


def test_a_seed_gives_the_same_twice(tasks):
    """On the CPU; dropout included."""
    found = []
    for _ in range(2):
        stack = models(tasks, feat_drop=0.3)
        torch.manual_seed(5)
        found.append(fit_together(stack, tasks, settings()))
    assert [r.history for r in found[0]] == [r.history for r in found[1]]


def test_a_model_that_diverges_takes_no_other_with_it(tasks):
    own = (OWN[0], {"optimizer": {"lr": 1e30, "weight_decay": 0.0}}, OWN[2])
    stack = models(tasks, feature_norm=None)
    together = fit_together(stack, tasks, settings(own))
    alone = fit(models(tasks, feature_norm=None)[2], tasks[2], settings(own)[2], verbose=False)
    assert_alike(together[2].metrics, alone.metrics)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"consistency": {"weight": 1.0}}, "consistency"),
        ({"schedule": {"name": "plateau"}}, "plateau"),
    ],
)
def test_what_is_not_done_together_is_refused(tasks, changes, words):
    chosen = settings(OWN[:1] * 3, **changes)
    with pytest.raises(ConfigError, match=words):
        fit_together(models(tasks), tasks, chosen)


def test_models_of_other_shapes_are_refused(tasks):
    stack = models(tasks)
    stack[1] = models(tasks[1:2], score_norm={"name": "lipschitz", "alpha": 2.0})[0]
    assert shape_of(stack[0], settings()[0]) != shape_of(stack[1], settings()[0])
    with pytest.raises(ConfigError, match="2 shapes"):
        fit_together(stack, tasks, settings())
    with pytest.raises(ConfigError, match="as many"):
        fit_together(models(tasks), tasks[:2], settings())


@pytest.mark.parametrize(
    "overrides",
    [
        {"sep": True},
        {"add_self_loops": False},
        {"degree_norm": "symmetric"},
        {"feature_norm": {"name": "pairnorm", "eps": 1.0}},
        {"score_norm": {"name": "lipschitz", "alpha": 0.25 + 1e-9}},
        {"attn_drop": 0.1},
        {"activation": "elu"},
        {"residual": {"name": "initial", "initial": 0.2}},
    ],
    ids=str,
)
def test_what_a_model_computes_is_part_of_its_shape(tasks, overrides):
    same = {"feature_norm": "pairnorm", "residual": "initial"}
    one, other = models(tasks[:1], **same)[0], models(tasks[:1], **{**same, **overrides})[0]
    assert shape_of(one, settings()[0]) != shape_of(other, settings()[0])


@pytest.mark.parametrize("what", ["labels", "features", "edges"])
def test_other_data_are_refused(tasks, what):
    other = {
        "labels": lambda: tasks[1].with_ndata(label=(tasks[1].labels + 1) % 3),
        "features": lambda: tasks[1].with_ndata(feat=tasks[1].feat * 2),
        "edges": lambda: load_dataset("iris", k=3).with_ndata(feat=tasks[1].feat),
    }[what]()
    with pytest.raises(ConfigError, match="only the masks"):
        fit_together(models(tasks), [tasks[0], other, tasks[2]], settings())


def test_frozen_models_are_refused(tasks):
    stack = models(tasks)
    stack[2].input.requires_grad_(False)
    with pytest.raises(ConfigError, match="frozen"):
        fit_together(stack, tasks, settings())


@pytest.mark.parametrize("ties", ["improve", "break"])
@pytest.mark.parametrize("patience", [5, 7])
def test_patience_between_two_evaluations(tasks, patience, ties):
    stopping = {"patience": patience, "ties": ties}
    own = [{"optimizer": {"lr": lr}, "early_stopping": stopping} for lr in (0.2, 0.5)]
    chosen = settings(own, epochs=40, eval_every=5)
    together = fit_together(models(tasks[:2]), tasks[:2], chosen)
    for one, other, task, each in zip(together, models(tasks[:2]), tasks, chosen):
        wanted = fit(other, task, each, verbose=False)
        assert one.best_epoch == wanted.best_epoch
        assert len(one.history) == len(wanted.history)


def test_nodes_without_a_label():
    task = load_dataset("iris")
    labels = task.labels.clone()
    labels[task.test_mask.nonzero()[:10, 0]] = -1
    mask = task.test_mask & (labels >= 0)
    task = task.with_ndata(feat=task.feat.double(), label=labels, test_mask=mask)
    [one] = fit_together(models([task]), [task], settings(OWN[:1], label_smoothing=0.1))
    wanted = fit(models([task])[0], task, settings(OWN, label_smoothing=0.1)[0], verbose=False)
    assert_alike(one.metrics, wanted.metrics)


class _Odd(torch.nn.Module):
    """A layer of two names, and a parameter that nothing depends on."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(4, 3)
        self.second = self.first
        self.drop = self.last = Dropout(0.0)
        self.spare = torch.nn.Parameter(torch.ones(2))

    def forward(self, graph, feat):
        return self.drop(self.first(feat)) + self.last(self.second(feat))


def test_models_of_ones_own(tasks):
    torch.manual_seed(0)
    odd = _Odd().double()
    other = copy.deepcopy(odd)
    [one] = fit_together([odd], tasks[:1], settings(OWN[:1], grad_clip=0.5))
    wanted = fit(other, tasks[0], settings(OWN, grad_clip=0.5)[0], verbose=False)
    assert_alike(one.metrics, wanted.metrics)
    assert odd.second is odd.first


def test_layers_that_are_checkpointed_are_trained_all_the_same(tasks, monkeypatch):
    monkeypatch.setenv("LIPZOO_BACKEND", "torch")
    [one] = fit_together(models(tasks[:1], checkpoint_layers=True), tasks[:1], settings(OWN[:1]))
    [other] = fit_together(models(tasks[:1]), tasks[:1], settings(OWN[:1]))
    assert_alike(one.metrics, other.metrics)


def test_the_area_counts_ties_half():
    from sklearn.metrics import roc_auc_score

    torch.manual_seed(0)
    for _ in range(20):
        margin, labels = torch.randint(0, 6, (50,)).double(), torch.randint(0, 2, (50,))
        wanted = roc_auc_score(labels.numpy(), margin.numpy())
        assert _roc_auc(margin, labels).item() == pytest.approx(wanted, abs=1e-12)


# ------------------------------------------------------------------- recipes


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_recipe_is_trained_on_a_device_and_exported(recipe, tmp_path, jobs):
    chosen = recipe(baselines={"wide": {"overrides": {"hidden_feats": 16}}})
    options = {"device": "cpu", "baselines": True, "jobs": jobs, "verbose": False}
    summary = train(chosen, tmp_path / "run", **options)
    assert summary["seeds"] == [0, 1]
    assert len(summary["baselines"]["wide"]["test_accuracy"]["values"]) == 2
    result = read_yaml(tmp_path / "run/seed_0/result.yaml")
    assert result["device"] == "cpu"
    assert (tmp_path / "run/seed_0/metrics.csv").read_text().startswith("epoch,lr,train_loss")
    before = (tmp_path / "run/seed_0/model.safetensors").read_bytes()
    assert train(chosen, tmp_path / "run", resume=True, **options) == summary
    assert (tmp_path / "run/seed_0/model.safetensors").read_bytes() == before
    folder = export_run(tmp_path / "run", tmp_path / "out")
    card = yaml.safe_load((folder / "card.yaml").read_text())
    model = lipzoo.load_pretrained(folder)
    found = evaluate(model, load_dataset("iris"))
    assert card["weights"]["metrics"] == pytest.approx(found)
    assert card["weights"]["device"] == "cpu"


def test_weights_that_are_worth_something_else_here_are_not_exported(recipe, tmp_path):
    train(recipe(), tmp_path / "run", device="cpu", verbose=False)
    for seed in (0, 1):
        file = tmp_path / f"run/seed_{seed}/result.yaml"
        result = read_yaml(file)
        result["metrics"]["test_accuracy"] -= 0.02
        write_yaml(file, result)
    with pytest.raises(OutputError, match="where they were trained"):
        export_run(tmp_path / "run", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("missing", [{"split_seed": "seed"}, {"missing_seed": "seed"}], ids=str)
def test_each_seed_reads_its_own_features(recipe, tmp_path, missing):
    """What is erased for one seed is not seen by it through another."""
    data = {"name": "wine", "missing_rate": 1.0, **missing}
    chosen = recipe(dataset=data, seeds=[0, 1, 2])
    train(chosen, tmp_path / "run", device="cpu", verbose=False)
    for seed in chosen.seeds:
        task = load_task(chosen, None, seed)
        model = load_seed(tmp_path / "run", seed, chosen, task)
        result = read_yaml(tmp_path / f"run/seed_{seed}/result.yaml")
        assert_alike(evaluate(model, task), result["metrics"])


@pytest.mark.parametrize("changes", [{"schedule": {"name": "plateau"}}, {"consistency": {}}])
def test_a_recipe_is_refused_before_a_run_is_touched(recipe, tmp_path, changes):
    train(recipe(seeds=[0]), tmp_path / "run", verbose=False)
    before = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}
    with pytest.raises(ConfigError, match="together"):
        train(recipe(**changes), tmp_path / "run", device="cpu", overwrite=True, verbose=False)
    assert {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()} == before
    space = make_space({"optimizer.lr": [0.1, 0.2]}, "test")
    with pytest.raises(ConfigError, match="together"):
        tune(recipe(**changes), space, tmp_path / "new", trials=1, device="cpu", verbose=False)
    space = make_space({key: [value, {**value}] for key, value in changes.items()}, "test")
    with pytest.raises(ConfigError, match="together"):
        tune(recipe(), space, tmp_path / "new", trials=1, device="cpu", verbose=False)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("device", ["nonsense", "meta", "mps:7", ""])
def test_an_unknown_device_is_refused_before_anything_is_written(recipe, tmp_path, device):
    with pytest.raises(ConfigError, match="cannot be used here"):
        train(recipe(), tmp_path / "run", device=device, verbose=False)
    space = make_space({"optimizer.lr": [0.1, 0.2]}, "test")
    with pytest.raises(ConfigError, match="cannot be used here"):
        tune(recipe(), space, tmp_path / "out", trials=1, device=device, verbose=False)
    assert not list(tmp_path.iterdir())


def test_a_search_trains_the_seeds_of_a_trial_together(recipe, tmp_path):
    space = make_space({"optimizer.lr": [0.01, 0.1]}, "test")
    options = {"trials": 2, "seeds": [0, 1], "verbose": False}
    found = tune(recipe(), space, tmp_path / "out", device="cpu", **options)
    assert found["trials"]["complete"] == 2
    assert 0 < found["value"] <= 1
