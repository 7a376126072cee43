"""Bounds, radii and the parts of models and layers that no rule reads."""

import pytest
import torch
from graph_zoo import homogeneous
from torch import nn

from lipzoo.errors import ConfigError
from lipzoo.lipschitz import bound, estimate, robustness
from lipzoo.models import DeepGAT, DeepGATv2, DeepGraphTransformer
from lipzoo.nn import Dropout

KINDS = {
    "gat": (DeepGAT, "lipschitz"),
    "gatv2": (DeepGATv2, "lipschitz"),
    "gt": (DeepGraphTransformer, "dot_lipschitz"),
}


class Ten(nn.Module):
    p = 0.0

    def forward(self, x):
        return 10 * x


class Loud(Dropout):
    def forward(self, x):
        return 10 * x


class Bent(nn.Tanh):
    p = 0.0


class Steep(nn.Linear):
    def forward(self, x):
        return 10 * super().forward(x)


def make(kind="gat", **changes):
    torch.manual_seed(0)
    model_class, norm = KINDS[kind]
    sizes = {"num_layers": 1, "hidden_feats": 4, "num_heads": 2, "score_norm": norm}
    return model_class(4, 3, **sizes | changes).eval()


def features():
    return torch.randn(10, 4, generator=torch.Generator().manual_seed(0))


def replaced(model, name, part):
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, part)
    return model


def slots(model, kind):
    return [name for name, part in model.named_modules() if isinstance(part, kind)]


def assert_refused(model, name):
    """``name`` is the part that is not known."""
    last = name.rpartition(".")[2]
    limit = bound(model, homogeneous())
    assert not limit.is_finite
    assert f"{last} is a " in limit.reason
    assert_no_radii(model, name)


def assert_no_radii(model, name):
    if "." in name:  # of a layer
        assert (robustness(model, homogeneous(), features(), points=4).radius == 0).all()
        return
    with pytest.raises(ConfigError, match=f"{name} is a "):
        robustness(model, homogeneous(), features())


@pytest.mark.parametrize("part", [Ten, Loud, Bent])
@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_what_stands_in_for_dropout_is_not_known(kind, norm, part):
    changes = {} if norm else {"score_norm": None}
    names = slots(make(kind), Dropout)
    assert len(names) == 5
    for name in names:
        model = replaced(make(kind, **changes), name, part())
        # Without a norm there are radii alone.
        (assert_refused if norm else assert_no_radii)(model, name)


def test_the_bound_was_below_the_estimate():
    model = make()
    before = float(bound(model, homogeneous()))
    model.head_drop = nn.Sequential(Ten(), Ten(), Ten(), Ten())
    assert float(estimate(model, homogeneous(), features(), iterations=3)) > before
    assert_refused(model, "head_drop")


def test_more_parts_and_parts_of_two_names():
    model = make()
    model.more = nn.Linear(3, 3)
    assert_refused(model, "more")
    model = make()
    model.layers[0].more = nn.Linear(3, 3)
    assert_refused(model, "layers.0.more")
    model = make(activation="elu")
    model.head_drop = model.activation
    assert_refused(model, "head_drop")


@pytest.mark.parametrize("kind", KINDS)
def test_maps_with_a_forward_of_their_own(kind):
    names = [name for name in slots(make(kind), nn.Linear) if name.startswith("layers.")]
    assert names
    for name in names:
        old = make(kind).get_submodule(name)
        steep = Steep(old.in_features, old.out_features, bias=old.bias is not None)
        assert_refused(replaced(make(kind), name, steep), name)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", [nn.Dropout, nn.Identity, Dropout])
def test_dropout_of_any_kind_is_known(kind, part):
    model, wanted = make(kind), bound(make(kind), homogeneous())
    assert wanted.is_finite
    for name in slots(model, Dropout):
        replaced(model, name, part())
    assert float(bound(model, homogeneous())) == float(wanted)


def test_edge_features_may_come_through_any_map():
    model = make(edge_feats=2)
    wanted = float(bound(model, homogeneous()))
    model.layers[0].fc_edge = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 4))
    assert float(bound(model, homogeneous())) == wanted
