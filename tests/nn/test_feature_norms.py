"""Feature norms against their formulas in NumPy."""

import numpy as np
import pytest
import torch
from graph_zoo import block, directed, homogeneous, isolated, multigraph, one_node

from lipzoo.errors import ConfigError, DataError
from lipzoo.nn.feature_norms import (
    FEATURE_NORMS,
    BatchNorm,
    LayerNorm,
    NeighborNorm,
    PairNorm,
    make_feature_norm,
)

EACH = pytest.mark.parametrize("name", FEATURE_NORMS)


def features(rows, width=3):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(rows, width, generator=generator, dtype=torch.float64) + 1


def pairnorm(graph, x):
    centred = x - x.mean(0)
    return 2 * centred / np.sqrt((np.linalg.norm(centred, axis=1) ** 2).mean())


def pairnorm_si(graph, x):
    centred = x - x.mean(0)
    return 2 * centred / np.linalg.norm(centred, axis=1, keepdims=True)


def layernorm(graph, x):
    return (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)


def batchnorm(graph, x):
    return (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)


def neighbornorm(graph, x):
    src, dst = (ends.numpy() for ends in graph.edges())
    out = x.copy()
    for node in range(len(x)):
        neighbours = x[src[dst == node]]
        if len(neighbours):
            out[node] = 3 * x[node] / np.sqrt(neighbours.var(0) + 0.5)
    return out


@pytest.mark.parametrize(
    ("norm", "formula"),
    [
        (PairNorm(3, scale=2), pairnorm),
        (PairNorm(3, scale=2, individually=True), pairnorm_si),
        (LayerNorm(3), layernorm),
        (BatchNorm(3), batchnorm),
        (NeighborNorm(3, scale=3, eps=0.5), neighbornorm),
    ],
    ids=FEATURE_NORMS,
)
@pytest.mark.parametrize("graph", [homogeneous(), directed(), multigraph(), isolated()], ids=str)
def test_formula(norm, formula, graph):
    x = features(graph.num_nodes())
    got = norm.double()(graph, x).detach().numpy()
    np.testing.assert_allclose(got, formula(graph, x.numpy()), rtol=1e-9, atol=1e-9)


def test_pairnorm_keeps_the_total_pairwise_distance():
    """What PairNorm is for (its paper, equation 9): it does not depend on the input."""
    norm = PairNorm(3)
    totals = [
        torch.cdist(y, y).square().sum().item()
        for y in (norm(None, features(6)), norm(None, 100 * features(6) ** 3))
    ]
    assert totals[0] == pytest.approx(2 * 6 * 6)
    assert totals[1] == pytest.approx(totals[0])


@EACH
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_one_node(name, mode):
    norm = getattr(make_feature_norm(name, 3), mode)()
    x = torch.tensor([[1.0, -2.0, 3.0]], requires_grad=True)
    out = norm(one_node(), x)
    out.sum().backward()
    assert out.shape == (1, 3)
    assert out.isfinite().all()
    assert x.grad is None or x.grad.isfinite().all()


@EACH
@pytest.mark.parametrize("rows", ["all", "some"])
def test_zero_rows_have_finite_gradients(name, rows):
    norm = make_feature_norm(name, 3)
    x = features(10).float()
    x[slice(None) if rows == "all" else [0, 3]] = 0
    x.requires_grad_()
    out = norm(homogeneous(), x)
    out.square().sum().backward()
    assert out.isfinite().all()
    assert x.grad.isfinite().all()


@EACH
def test_gradcheck(name):
    norm = make_feature_norm(name, 3).double()
    graph = homogeneous()
    assert torch.autograd.gradcheck(
        lambda x: norm(graph, x), features(10).requires_grad_(), fast_mode=True
    )


def test_batchnorm_uses_its_running_statistics_in_evaluation():
    norm = BatchNorm(3, momentum=1.0)
    x = features(10).float()
    norm(None, x)
    norm.eval()
    one = norm(None, x[:1])
    wanted = (x[:1] - x.mean(0)) / (x.var(0) + 1e-5).sqrt()
    torch.testing.assert_close(one, wanted)


def test_a_frozen_batchnorm_in_a_training_model_uses_its_running_statistics():
    """Of one node as of several: the norm is asked, not the module around it."""
    norm = BatchNorm(3, momentum=1.0).double()
    x = features(10)
    norm(None, x)
    norm.norm.eval()
    assert norm.training
    wanted = (x - x.mean(0)) / (x.var(0) + 1e-5).sqrt()
    torch.testing.assert_close(norm(None, x), wanted)
    torch.testing.assert_close(norm(None, x[:1]), wanted[:1])
    norm.eval()
    norm.norm.train()
    assert torch.equal(norm(None, x[:1]), torch.zeros_like(x[:1])), "one node has no spread"


def test_neighbornorm_needs_the_neighbours():
    """A layer on a block puts out destination nodes only; their neighbours' features are gone."""
    graph = block()
    with pytest.raises(DataError, match="pass the whole graph, not blocks"):
        NeighborNorm(3)(graph, features(graph.num_dst_nodes()))
    assert NeighborNorm(3)(graph, features(graph.num_src_nodes())).shape == (3, 3)


@EACH
def test_make_feature_norm(name):
    norm = make_feature_norm(name, 3)
    assert norm.num_feats == 3
    assert isinstance(norm, FEATURE_NORMS[name])
    assert getattr(norm, "individually", False) == (name == "pairnorm_si")


def test_make_feature_norm_with_arguments():
    assert make_feature_norm(None, 3) is None
    norm = make_feature_norm({"name": "pairnorm_si", "scale": 4}, 3)
    assert repr(norm) == "PairNorm(scale=4, individually=True)"
    assert repr(make_feature_norm("neighbornorm", 3)) == "NeighborNorm(scale=1, eps=0.01)"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("pairnrm", "did you mean 'pairnorm'"),
        ({"scale": 1}, "no feature norm None"),
        ({"name": "layernorm", "scale": 1}, "feature_norm 'layernorm': .*scale"),
    ],
)
def test_make_feature_norm_says_what_is_wrong(spec, words):
    with pytest.raises(ConfigError, match=words):
        make_feature_norm(spec, 3)
