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
from lipzoo.nn import keep_degrees
from lipzoo.nn.residual import RESIDUAL_SCHEMES

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


# ----------------------------------------------------------------- blocks and parts

#: How a layer counts: with the self-loops that the model adds, with those of the graph, without.
COUNTS = {
    "added": {},
    "as they are": {"add_self_loops": False},
    "sep": {"sep": True},
}


def whole_graph(nodes=60, edges=150, seed=0):
    """Directed, with several edges between some nodes, and self-loops of some nodes."""
    generator = torch.Generator().manual_seed(seed)
    src, dst = torch.randint(nodes, (2, edges), generator=generator)
    loops = torch.arange(0, nodes, 4)
    return dgl.graph((torch.cat([src, loops]), torch.cat([dst, loops])), num_nodes=nodes)


def blocks_of(graph, seeds, layers):
    sampler = dgl.dataloading.MultiLayerFullNeighborSampler(layers)
    inputs, _, blocks = sampler.sample(graph, seeds)
    return inputs, blocks


def part_around(graph, seeds, hops):
    """All that some nodes see, and where they are in it."""
    part, place = dgl.khop_in_subgraph(graph, seeds, k=hops)
    assert part.num_nodes() < graph.num_nodes()
    return part, place


#: ``sep`` brings linear residual connections itself.
SCHEMES = [(r, c) for r in RESIDUAL_SCHEMES for c in COUNTS if (r, c) != ("linear", "sep")]


@pytest.mark.parametrize(("residual", "counts"), SCHEMES)
def test_blocks_and_parts_give_the_rows_of_the_whole_graph(residual, counts):
    model = make(residual=residual, **COUNTS[counts])
    graph, seeds = whole_graph(), torch.tensor([3, 8, 41])
    feat = features(graph.num_nodes())
    wanted = model(graph, feat)[seeds]
    keep_degrees(graph)
    assert torch.equal(model(graph, feat)[seeds], wanted)
    inputs, blocks = blocks_of(graph, seeds, 2)
    assert len(inputs) < graph.num_nodes()
    torch.testing.assert_close(model(blocks, feat[inputs]), wanted, atol=1e-12, rtol=0)
    part, place = part_around(graph, seeds, 2)
    found = model(part, feat[part.ndata[dgl.NID]])[place]
    torch.testing.assert_close(found, wanted, atol=1e-12, rtol=0)


@pytest.mark.parametrize("backend", ["dgl", "torch", "fused"])
@pytest.mark.parametrize("kind", KINDS)
def test_degrees_that_are_given_afterwards(kind, backend):
    model = make(kind, backend=backend)
    graph, seeds = whole_graph(seed=1), torch.tensor([0, 4, 5])
    feat = features(graph.num_nodes())
    wanted = model(graph, feat)[seeds]
    inputs, blocks = blocks_of(graph, seeds, 2)
    with pytest.raises(DataError, match=r"keep_degrees\(blocks, graph\)"):
        model(blocks, feat[inputs])
    keep_degrees(blocks, graph)
    torch.testing.assert_close(model(blocks, feat[inputs]), wanted, atol=1e-12, rtol=0)
    part, place = part_around(graph, seeds, 2)
    with pytest.warns(UserWarning, match="cut from another"):
        differs = model(part, feat[part.ndata[dgl.NID]])[place]
    assert (differs - wanted).abs().max() > 1e-6
    keep_degrees(part, torch.stack(graph.edges()))
    found = model(part, feat[part.ndata[dgl.NID]])[place]
    torch.testing.assert_close(found, wanted, atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", ["gat_lip_5", "gat_lip_lin_4", "gat_lip_res_32", "gat_lip_sep_2"])
def test_parts_of_metis_with_the_neighbours_they_read(name):
    torch.manual_seed(0)
    sizes = {"num_layers": 2, "hidden_feats": 8, "num_heads": 2, "degree_norm": "symmetric"}
    model = lipzoo.create_model(name, in_feats=4, num_classes=3, **sizes).double().eval()
    ring = torch.arange(60)
    graph = dgl.to_bidirected(dgl.graph((ring, (ring + 1) % 60), num_nodes=60))
    graph = dgl.add_edges(graph, [0, 0, 30, 7], [30, 0, 0, 7])
    feat = features(60)
    wanted = model(graph, feat)
    parts = dgl.metis_partition(graph, 3, extra_cached_hops=2)
    seen = torch.zeros(60)
    for part in parts.values():
        nodes, own = part.ndata[dgl.NID], part.ndata["inner_node"].bool()
        assert len(nodes) < 60
        keep_degrees(part, graph)
        found = model(part, feat[nodes])
        torch.testing.assert_close(found[own], wanted[nodes[own]], atol=1e-12, rtol=0)
        seen[nodes[own]] += 1
    assert (seen == 1).all()


def test_degrees_come_with_a_loader():
    graph, model = whole_graph(), make()
    graph.ndata["feat"] = features(60)
    wanted = model(graph, graph.ndata["feat"])
    keep_degrees(graph)
    sampler = dgl.dataloading.NeighborSampler([-1, -1], prefetch_node_feats=["feat"])
    loader = dgl.dataloading.DataLoader(graph, torch.arange(60), sampler, batch_size=7)
    for _, seeds, blocks in loader:
        found = model(blocks, blocks[0].srcdata["feat"])
        torch.testing.assert_close(found, wanted[seeds], atol=1e-12, rtol=0)


def test_degrees_that_count_as_they_are():
    """One number a node, whatever the model does about self-loops."""
    graph = whole_graph()
    part, _ = part_around(graph, torch.tensor([3]), 1)
    degrees = torch.arange(part.num_nodes()) + 2
    part.ndata["parent_degrees"] = degrees
    for add in (False, True):
        assert torch.equal(as_structure(part, add).parent_degrees, degrees)
    assert torch.equal(as_structure(part).without_self_loops().parent_degrees, degrees)
    part.ndata["parent_degrees"] = torch.zeros(part.num_nodes(), 3)
    with pytest.raises(DataError, match=r"must be \(N,\) or \(N, 2\)"):
        as_structure(part)
    for wrong in (-1, torch.nan, torch.inf):
        part.ndata["parent_degrees"] = torch.full((part.num_nodes(),), wrong)
        with pytest.raises(DataError, match="must be numbers of edges"):
            as_structure(part)


def test_a_whole_graph_that_changes_does_not_believe_its_old_degrees():
    graph = whole_graph()
    keep_degrees(graph)
    more = dgl.add_edges(graph, [1, 2, 3], [0, 0, 0])
    assert "parent_degrees" in more.ndata
    assert as_structure(more).parent_degrees is None
    feat = features(60)
    bare = dgl.graph(more.edges(), num_nodes=60)
    assert torch.equal(make()(more, feat), make()(bare, feat))


def test_a_self_loop_that_only_the_whole_graph_lacks():
    """Every destination node of the block has its loop; a source node lacks one, and counts it."""
    graph = dgl.graph(([0, 0, 1], [0, 1, 0]))
    keep_degrees(graph)
    block = dgl.to_block(dgl.in_subgraph(graph, [0]), [0])
    assert block.srcdata[dgl.NID].tolist() == [0, 1]
    keep_degrees(block, graph)
    s = as_structure(block)
    assert s.parent_degrees.tolist() == [2, 1]
    assert s.with_self_loops().parent_degrees.tolist() == [2, 2]
    assert s.with_self_loops().with_self_loops() is s.with_self_loops()
    assert s.without_self_loops().parent_degrees.tolist() == [1, 1]
    assert s.with_self_loops().without_self_loops().parent_degrees.tolist() == [1, 1]


def test_what_keep_degrees_cannot_do():
    graph = whole_graph()
    with pytest.raises(DataError, match="got Tensor"):
        keep_degrees(torch.stack(graph.edges()))
    with pytest.raises(DataError, match=r"part.srcdata\[dgl.NID\]"):
        keep_degrees(whole_graph(), graph)
    part, _ = part_around(graph, torch.tensor([3]), 1)
    with pytest.raises(DataError, match=r"names nodes .* are 0\.\.2"):
        keep_degrees(part, dgl.graph(([0], [1]), num_nodes=3))
    _, blocks = blocks_of(graph, torch.tensor([3]), 1)
    with pytest.raises(DataError, match="no whole graph"):
        keep_degrees(blocks)
    none = dgl.graph(([], []), num_nodes=0)
    keep_degrees(none)
    assert none.ndata["parent_degrees"].shape == (0, 2)


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
