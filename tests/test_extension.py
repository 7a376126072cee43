"""One of each kind, added from outside the package as CONTRIBUTING.md says, and trained."""

import math

import pytest
import torch
from registry_state import fresh_registry
from torch import nn

import lipzoo
from lipzoo.attention import SCORE_NORMS
from lipzoo.attention.score_norms import ScoreNorm
from lipzoo.datasets import DATASETS, GraphTask, register_dataset
from lipzoo.errors import ConfigError
from lipzoo.models import DeepGAT
from lipzoo.models.activations import ACTIVATIONS
from lipzoo.nn.feature_norms import FEATURE_NORMS, FeatureNorm
from lipzoo.nn.residual import RESIDUAL_SCHEMES, ResidualScheme
from lipzoo.training import evaluate, train
from lipzoo.training.recipe import make_recipe

NAMES = [(SCORE_NORMS, "clipped"), (FEATURE_NORMS, "lengths"), (RESIDUAL_SCHEMES, "sum_of_all")]


class Clipped(ScoreNorm):
    def __init__(self, limit: float = 1.0) -> None:
        super().__init__()
        self.limit = limit

    def forward(self, e, scores, ops):
        return e.clamp(-self.limit, self.limit)


class Lengths(FeatureNorm):
    def __init__(self, num_feats: int, scale: float = 1.0) -> None:
        super().__init__(num_feats)
        self.scale = scale

    def forward(self, graph, feat):
        return self.scale * nn.functional.normalize(feat, dim=1)


class SumOfAll(ResidualScheme):
    """``h_l = act(conv(h_{l-1})) + h_{l-1} + h_0``: joined with + alone."""

    def after_activation(self, out, states):
        return out + states[-1] + states[0]


class TallGAT(DeepGAT):
    """Deep GAT under another name."""


@pytest.fixture
def extended(tmp_path):
    """All of them registered; gone after the test."""
    SCORE_NORMS.register("clipped")(Clipped)
    FEATURE_NORMS.register("lengths", scale=2.0)(Lengths)
    RESIDUAL_SCHEMES.register("sum_of_all")(SumOfAll)
    ACTIVATIONS.register("softsign")(nn.Softsign)

    @register_dataset("small_iris")
    def small_iris(nodes: int = 60) -> GraphTask:
        iris = lipzoo.load_dataset("iris")
        chosen = torch.arange(0, iris.num_nodes, iris.num_nodes // nodes)
        return GraphTask.from_graph(iris.graph.subgraph(chosen), "small_iris")

    (tmp_path / "tall.yaml").write_text(
        "model: TallGAT\n"
        "description: One of each kind.\n"
        "source: this test\n"
        "args:\n"
        "  {num_layers: 3, hidden_feats: 8, num_heads: 2, score_norm: clipped,\n"
        "   feature_norm: lengths, residual: sum_of_all, activation: softsign}\n"
    )
    try:
        with fresh_registry():
            lipzoo.register_model(TallGAT)
            lipzoo.add_config_dir(tmp_path)
            yield
    finally:
        for registry, name in NAMES:
            registry.remove(name)
        ACTIVATIONS.remove("softsign")
        DATASETS.remove("small_iris")


def test_a_model_of_all_of_them_trains(extended, tmp_path):
    recipe = make_recipe(
        {
            "architecture": "tall",
            "dataset": {"name": "small_iris", "nodes": 75},
            "epochs": 3,
            "seeds": [0],
        },
        "test",
    )
    summary = train(recipe, tmp_path / "run", verbose=False)
    assert summary["metrics"]["test_accuracy"]["values"]
    task = lipzoo.load_dataset("small_iris", nodes=75)
    model = lipzoo.create_model("tall", in_feats=task.in_feats, num_classes=3)
    assert isinstance(model, TallGAT)
    assert isinstance(model.layers[0].score_norm, Clipped)
    assert [norm.scale for norm in model.norms] == [2.0] * 3
    assert math.isfinite(evaluate(model, task)["val_loss"])


def test_a_bound_comes_with_a_scheme_that_joins_with_plus(extended):
    task = lipzoo.load_dataset("small_iris")
    sizes = {"in_feats": task.in_feats, "num_classes": 3, "num_layers": 2, "hidden_feats": 8}
    options = {"num_heads": 2, "score_norm": "lipschitz"}
    torch.manual_seed(0)
    model = DeepGAT(**sizes, **options, residual="sum_of_all").double().eval()
    limit = lipzoo.lipschitz.bound(model, task.graph)
    assert limit.is_finite
    feat = task.feat.double()
    assert lipzoo.lipschitz.estimate(model, task.graph, feat).value <= float(limit)
    radii = lipzoo.lipschitz.robustness(model, task.graph, feat, points=4)
    assert (radii.radius > 0).any()
    without = DeepGAT(**sizes, **options, residual="none").double().eval()
    without.load_state_dict(model.state_dict())
    assert float(lipzoo.lipschitz.bound(without, task.graph)) < float(limit)


def test_a_scheme_that_does_more_says_why_it_has_no_bound(extended):
    class Doubled(ResidualScheme):
        def after_activation(self, out, states):
            return 2 * out + states[-1]

    task = lipzoo.load_dataset("small_iris")
    model = DeepGAT(task.in_feats, 3, score_norm="lipschitz")
    model.residual = Doubled(model.hidden_feats, model.num_layers)
    limit = lipzoo.lipschitz.bound(model, task.graph)
    assert not limit.is_finite
    assert "residual scheme Doubled" in limit.reason
    with pytest.raises(ConfigError, match="residual scheme Doubled"):
        lipzoo.lipschitz.robustness(model, task.graph, task.feat)


def test_names_that_are_taken_or_unknown(extended):
    with pytest.raises(ConfigError, match="'clipped' is already registered"):
        SCORE_NORMS.register("clipped")(SCORE_NORMS["lipschitz"])
    SCORE_NORMS.register("clipped", force=True)(Clipped)
    with pytest.raises(ConfigError, match=r"feature_norm: .*did you mean 'lengths'"):
        DeepGAT(4, 3, feature_norm="lenghts")
    with pytest.raises(ConfigError, match=r"residual 'sum_of_all': .*depth"):
        DeepGAT(4, 3, residual={"name": "sum_of_all", "depth": 2})
    assert isinstance(DeepGAT(4, 3, activation=nn.Softsign).activation, nn.Softsign)
    assert DeepGAT(4, 3, score_norm=Clipped(0.5)).layers[0].score_norm.limit == 0.5
