"""Symmetric degree normalisation around the attention layers."""

import dgl
import numpy as np
import pytest
import torch
from graph_zoo import directed, homogeneous, star
from reference import additive_scores, aggregate, softmax

import lipzoo
from adversary.measure import Case
from lipzoo.attention import as_structure
from lipzoo.errors import DataError
from lipzoo.lipschitz import attack, bound, estimate, robustness
from lipzoo.models import DeepGAT, DeepGATv2, DeepGraphTransformer

SIZES = {"num_layers": 2, "hidden_feats": 8, "num_heads": 2}
KINDS = {
    "gat": (DeepGAT, "lipschitz"),
    "gatv2": (DeepGATv2, "lipschitz"),
    "gt": (DeepGraphTransformer, "dot_lipschitz"),
}


def features(nodes=10, width=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(nodes, width, generator=generator, dtype=torch.float64)


def make(kind="gat", seed=0, **changes):
    torch.manual_seed(seed)
    model_class, norm = KINDS[kind]
    arguments = {"score_norm": norm, "degree_norm": "symmetric", **SIZES, **changes}
    model = model_class(4, 3, **arguments).double().eval()
    for layer in model.layers:
        if layer.bias is not None:
            torch.nn.init.normal_(layer.bias)
    return model


def test_uniform_attention_is_the_graph_convolution_of_dgl():
    graph = dgl.add_self_loop(dgl.to_bidirected(dgl.remove_self_loop(homogeneous())))
    model = make(num_layers=1)
    layer = model.layers[0]
    layer.attn_l.data.zero_()
    layer.attn_r.data.zero_()
    before, after = model.forward_intermediates(graph, features())
    convolution = dgl.nn.GraphConv(8, 8, norm="both").double()
    convolution.weight.data = layer.fc.weight.data.t().clone()
    convolution.bias.data = layer.bias.data.clone()
    torch.testing.assert_close(after, torch.nn.functional.elu(convolution(graph, before)))


@pytest.mark.parametrize("backend", ["dgl", "torch", "fused"])
def test_equals_the_equation_written_out(backend):
    """Against NumPy, with degrees that are counted edge by edge."""
    model = make(num_layers=1, backend=backend).requires_grad_(False)
    structure = as_structure(directed(), add_self_loops=True)
    src, dst, nodes = structure.src.numpy(), structure.dst.numpy(), structure.num_dst
    roots = np.array([[sum(dst == node) ** 0.5] for node in range(nodes)])
    before, after = model.forward_intermediates(directed(), features(nodes))
    layer = model.layers[0]
    v = (before.numpy() / roots @ layer.fc.weight.numpy().T).reshape(nodes, 2, 4)
    attn = layer.attn_l.numpy(), layer.attn_r.numpy()
    weights = softmax(dst, nodes, additive_scores(src, dst, v, v, *attn, alpha=0.25))
    out = roots * aggregate(src, dst, nodes, weights, v).reshape(nodes, 8) + layer.bias.numpy()
    expected = torch.nn.functional.elu(torch.from_numpy(out))
    torch.testing.assert_close(after, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_nodes_without_in_edges_and_gradients_are_finite(kind):
    model = make(kind, add_self_loops=False)
    graph = dgl.graph(([0, 1], [1, 2]), num_nodes=10)
    logits = model(graph, features())
    logits.sum().backward()
    assert torch.isfinite(logits).all()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_blocks_are_refused_because_they_do_not_tell_the_degrees():
    graph = homogeneous()
    sampler = dgl.dataloading.MultiLayerFullNeighborSampler(2)
    inputs, _, blocks = sampler.sample(graph, torch.tensor([3]))
    with pytest.raises(DataError, match="needs the degrees of all nodes"):
        make()(blocks, features()[inputs])


# ------------------------------------------------------------------------ certificates


@pytest.mark.many
@pytest.mark.parametrize("residual", ["none", "residual", "initial", "dense", "jumping"])
@pytest.mark.parametrize("feature_norm", [None, "layernorm", "pairnorm"])
def test_no_local_constant_is_above_the_bound(residual, feature_norm):
    for seed in range(4):
        model = make(seed=seed, residual=residual, feature_norm=feature_norm).requires_grad_(False)
        for graph in (homogeneous(), dgl.add_self_loop(star())):
            feat = features(graph.num_nodes(), seed=seed)
            case = Case("DeepGAT", model, as_structure(graph, add_self_loops=True), feat)
            assert max(case.ratios()) <= 1 + 1e-9


def test_the_degrees_count_once_in_the_bound():
    graph = dgl.add_self_loop(star())
    degrees = graph.in_degrees().double()
    stretch = (degrees.max() / degrees.min()).sqrt().item()
    for layers in (1, 3):
        plain = bound(make(num_layers=layers, degree_norm="none"), graph)
        with_degrees = bound(make(num_layers=layers), graph)
        assert with_degrees.per_node == pytest.approx(stretch * plain.per_node)
        row = with_degrees.layers[1]
        assert (row.name, row.frobenius) == ("degrees", pytest.approx(stretch))
    assert estimate(make(), graph, features(graph.num_nodes())).value <= float(bound(make(), graph))


@pytest.mark.many
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["local", "global"])
def test_no_node_flips_under_attack_inside_its_radius(kind, method):
    model, graph = make(kind), homogeneous()
    result = robustness(model, graph, features(), method=method)
    assert (result.radius > 0).any()
    assert torch.equal(result.predicted, model(graph, features()).argmax(1))
    for node in range(10):
        radius = result.radius[node].item()
        found = attack(model, graph, features(), node, radius, steps=10)
        assert not found.flipped or result.margin[node] < 1e-9


def test_weights_keep_it_and_pretrained_weights_take_it(tmp_path):
    wine = lipzoo.load_dataset("wine")
    changes = {"degree_norm": "symmetric", "epochs": 2, "verbose": False}
    result = lipzoo.finetune("gat_lip_16.digits", wine, out=tmp_path / "tuned", **changes)
    again = lipzoo.load_pretrained(tmp_path / "tuned")
    assert again.degree_norm == "symmetric"
    with torch.no_grad():
        found, expected = (m.eval()(wine.graph, wine.feat) for m in (again, result.model))
    assert torch.equal(found, expected)
