"""Models that read edge features: from the graph, by hand, in blocks, with added self-loops."""

import pytest
import torch
from graph_zoo import directed, homogeneous, multigraph
from torch.testing import assert_close

import lipzoo
from lipzoo._dgl import dgl
from lipzoo.attention import as_structure
from lipzoo.errors import ConfigError, DataError
from lipzoo.models import DeepGAT, DeepGATv2, DeepGraphTransformer

KINDS = {"gat": DeepGAT, "gatv2": DeepGATv2, "gt": DeepGraphTransformer}
NORMS = {"gat": "lipschitz", "gatv2": "lipschitz", "gt": "dot_lipschitz"}
EACH = pytest.mark.parametrize("kind", KINDS)
K = 3


def make(kind, **options):
    torch.manual_seed(0)
    sizes = {"num_layers": 2, "hidden_feats": 8, "num_heads": 2, "edge_feats": K}
    model = KINDS[kind](4, 2, **{**sizes, "score_norm": NORMS[kind], **options})
    return model.double().eval()


def with_edges(graph, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    feat = torch.randn(graph.num_edges(), K, generator=generator, dtype=torch.float64)
    graph.edata["feat"] = feat.to(dtype)
    return graph


def features(nodes=10, dtype=torch.float64):
    generator = torch.Generator().manual_seed(5)
    return torch.randn(nodes, 4, generator=generator, dtype=torch.float64).to(dtype)


@EACH
@pytest.mark.parametrize("edge_values", [False, True])
def test_added_loops_have_zeros(kind, edge_values):
    model, graph = make(kind, edge_values=edge_values), with_edges(directed())
    feat = features(4)
    whole = dgl.add_self_loop(dgl.remove_self_loop(graph))
    own = graph.edata["feat"]
    src, dst = graph.edges(order="eid")
    loop = int(((src == 0) & (dst == 0)).nonzero()[0])
    whole = dgl.graph((torch.cat([src, torch.arange(1, 4)]), torch.cat([dst, torch.arange(1, 4)])))
    padded = torch.cat([own, torch.zeros(3, K, dtype=torch.float64)])
    out = model(graph, feat)
    assert_close(model(whole, feat, edge_feat=padded), out)
    # The loop that the graph came with keeps its features.
    padded[loop] = 0
    assert (model(whole, feat, edge_feat=padded) - out).abs().max() > 1e-6
    assert graph.num_edges() == 6, "the graph is not touched"


@EACH
def test_the_graph_or_the_argument(kind):
    model, graph = make(kind), with_edges(homogeneous())
    feat, edge = features(), graph.edata["feat"]
    out = model(graph, feat)
    bare = homogeneous()
    assert_close(model(bare, feat, edge_feat=edge), out)
    assert_close(model(as_structure(bare), feat, edge_feat=edge), out)
    assert_close(model(graph, feat, edge_feat=2 * edge), model(bare, feat, edge_feat=2 * edge))
    assert (model(graph, feat, edge_feat=2 * edge) - out).abs().max() > 1e-6
    head = model.forward_head(model.forward_features(bare, feat, edge_feat=edge))
    assert_close(head, out)
    assert len(model.forward_intermediates(bare, feat, edge_feat=edge)) == 3
    _, attention = model(graph, feat, return_attention=True)
    assert [tuple(weights.shape) for weights in attention] == [(graph.num_edges(), 2)] * 2


@EACH
def test_edges_take_the_type_of_the_features(kind):
    model, graph = make(kind), with_edges(homogeneous(), dtype=torch.float32)
    edge = graph.edata["feat"]
    out = model(graph, features())
    assert out.dtype == torch.float64
    assert_close(model(homogeneous(), features(), edge_feat=edge), out)
    whole = edge.round().long()
    wanted = model(graph, features(), edge_feat=whole.double())
    assert_close(model(graph, features(), edge_feat=whole), wanted)
    with pytest.raises(DataError, match=r"a tensor of floats, .* is torch.complex64"):
        model(graph, features(), edge_feat=edge.to(torch.complex64))


@EACH
def test_a_model_without_them_leaves_the_graphs_alone(kind):
    model = make(kind, edge_feats=0)
    assert_close(model(with_edges(homogeneous()), features()), model(homogeneous(), features()))
    assert not [key for key in model.state_dict() if "edge" in key]


@EACH
@pytest.mark.parametrize("options", [{}, {"sep": True}, {"residual": "dense"}], ids=str)
def test_blocks_give_the_logits_of_the_whole_graph(kind, options):
    model, graph = make(kind, edge_values=True, **options), with_edges(homogeneous())
    seeds = torch.tensor([7, 2])
    sampler = dgl.dataloading.MultiLayerFullNeighborSampler(2)
    inputs, _, blocks = sampler.sample(graph, seeds)
    wanted = model(graph, features())[seeds]
    assert_close(model(blocks, features()[inputs]), wanted)
    edges = [block.edata.pop("feat") for block in blocks]
    assert_close(model(blocks, features()[inputs], edge_feat=edges), wanted)
    with pytest.raises(DataError, match=r"block.edata\[.feat.\] = graph.edata"):
        model(blocks, features()[inputs])
    with pytest.raises(DataError, match="a list of 2 tensors, one a block"):
        model(blocks, features()[inputs], edge_feat=edges[:1])


@EACH
def test_batched_graphs_are_those_alone(kind):
    model = make(kind, edge_values=True)
    graphs = [with_edges(homogeneous(), 1), with_edges(multigraph(), 2)]
    sizes = [graph.num_nodes() for graph in graphs]
    feat = [features(size) for size in sizes]
    alone = torch.cat([model(graph, x) for graph, x in zip(graphs, feat)])
    assert_close(model(dgl.batch(graphs), torch.cat(feat)), alone)


@EACH
def test_recomputed_layers_give_the_same_gradients(kind):
    found = []
    for checkpointed in (False, True):
        model = make(kind, checkpoint_layers=checkpointed).train()
        edge = with_edges(homogeneous()).edata["feat"].requires_grad_()
        torch.manual_seed(1)
        model(homogeneous(), features(), edge_feat=edge).square().sum().backward()
        found.append([edge.grad, *(p.grad for p in model.parameters())])
    assert all(torch.equal(one, two) for one, two in zip(*found, strict=True))
    assert found[0][0].abs().max() > 0


@EACH
def test_what_reads_edges_is_in_the_group_of_the_input(kind):
    model = make(kind)
    groups = model.layer_groups()
    assert list(groups) == ["input", "layer_1", "layer_2", "head"]
    assert sorted(id(p) for ps in groups.values() for p in ps) == sorted(
        map(id, model.parameters())
    )
    reads = {id(p) for layer in model.layers for _, p in layer.edge_parameters()}
    assert reads < {id(p) for p in groups["input"]}


@EACH
def test_another_width(kind):
    model = make(kind)
    model.reset_edges(7)
    graph = homogeneous()
    graph.edata["feat"] = torch.randn(graph.num_edges(), 7)
    assert model(graph, features()).isfinite().all()
    model.reset_edges(0)
    assert_close(model(graph, features()), model(homogeneous(), features()))


@EACH
def test_what_is_missing_or_wrong_is_said(kind):
    model, graph = make(kind), homogeneous()
    with pytest.raises(DataError, match=r"reads edge features .*graph.edata\[.feat.\]"):
        model(graph, features())
    with pytest.raises(DataError, match=r"reads edge features .*pass edge_feat"):
        model(as_structure(graph), features())
    graph.edata["feat"] = torch.randn(graph.num_edges(), K + 1)
    with pytest.raises(DataError, match=rf"edge features are .*, {K + 1}\); .* need .*, {K}\)"):
        model(graph, features())
    with pytest.raises(DataError, match="built without edge features"):
        make(kind, edge_feats=0)(graph, features(), edge_feat=graph.edata["feat"])


def test_by_name_and_what_is_wrong_there():
    sizes = {"in_feats": 4, "num_classes": 2}
    model = lipzoo.create_model("gat_lip_2", **sizes, edge_feats=K, edge_values=True)
    assert model(with_edges(homogeneous()), features(dtype=torch.float32)).shape == (10, 2)
    with pytest.raises(ConfigError, match="edge_feats"):
        lipzoo.create_model("gat_lip_2", **sizes, edge_feats="many")
    with pytest.raises(ConfigError, match="edge_values needs edge features"):
        lipzoo.create_model("gat_lip_2", **sizes, edge_values=True)
    with pytest.raises(ConfigError, match=r"edge_feat.*edge_feats"):
        lipzoo.create_model("gat_lip_2", **sizes, edge_feat=3)


@EACH
def test_it_learns_from_edges_alone(kind):
    """All nodes look alike; which in-edge counts is written on the edges."""
    torch.manual_seed(0)
    nodes, degree = 60, 6
    src = torch.randint(nodes, (nodes * degree,))
    dst = torch.arange(nodes).repeat_interleave(degree)
    graph = dgl.graph((src, dst), num_nodes=nodes)
    label = torch.randint(2, (nodes,))
    marked = torch.randint(degree, (nodes,)) + degree * torch.arange(nodes)
    feat = torch.randn(nodes, 1)
    edge = torch.zeros(nodes * degree, 1)
    edge[marked] = 1
    label = (feat[src[marked], 0] > 0).long()
    graph.edata["feat"] = edge
    scores = []
    for edge_feats in (0, 1):
        torch.manual_seed(1)
        options = {"input_drop": 0.0, "feat_drop": 0.0, "head_drop": 0.0, "attn_drop": 0.0}
        model = KINDS[kind](1, 2, 1, 16, 1, edge_feats=edge_feats, **options)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
        for _ in range(150):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(graph, feat), label)
            loss.backward()
            optimizer.step()
        scores.append(loss.item())
    assert scores[1] < 0.3 < scores[0]
