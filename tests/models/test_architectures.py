"""Every registered architecture, in full depth: builds, runs, learns, changes, saves."""

import itertools

import pytest
import torch
from graph_zoo import directed, homogeneous, isolated
from torch.testing import assert_close

import lipzoo
from lipzoo._dgl import dgl
from lipzoo.attention import as_structure
from lipzoo.models import count_parameters
from lipzoo.registry import get_architecture

#: Those in context read rows, and have tests of their own (test_in_context.py).
NAMES = [name for name in lipzoo.list_models() if "_context_" not in name]
EACH = pytest.mark.parametrize("name", NAMES)
IN_FEATS, NUM_CLASSES = 5, 3
SCORE_PARAMETERS = {"attn_l", "attn_r", "fc_query", "fc_key"}
FAMILIES = ["gat", "gat_lip", "gat_pairnorm", "gatv2_lip", "gt", "gt_lip", "gat_lip_res"]
LINEAR, APART = (
    [f"{kind}_{what}" for kind in ("gat", "gat_lip", "gt", "gt_lip")] for what in ("lin", "sep")
)

REVERSIBLE = ["gat_lip_rev", "gatv2_lip_rev", "gt_lip_rev"]


def make(name, **overrides):
    torch.manual_seed(0)
    return lipzoo.create_model(name, in_feats=IN_FEATS, num_classes=NUM_CLASSES, **overrides)


def features(rows=10, width=IN_FEATS):
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(1))


def test_the_zoo_holds_what_was_promised():
    promised = {f"{f}_{depth}" for f, depth in itertools.product(FAMILIES, (2, 8, 16, 32))}
    promised |= {f"{f}_{d}" for f, d in itertools.product(LINEAR, (2, 4, 8, 15, 16, 30, 32))}
    promised |= {f"{f}_{depth}" for f, depth in itertools.product(APART, (2, 4, 8, 16, 32))}
    promised |= {f"{f}_{depth}" for f, depth in itertools.product(REVERSIBLE, (16, 32, 64, 128))}
    assert promised <= set(NAMES)


@EACH
def test_depth_and_width_are_those_of_the_name(name):
    model = make(name)
    depth = 3 if name == "test_tiny" else int(name.rsplit("_", 1)[1])
    assert model.num_layers == len(model.layers) == depth
    assert all(layer.num_heads * layer.out_feats == model.hidden_feats for layer in model.layers)
    assert f"num_layers={depth}" in repr(model)
    has_norm = "lip" in name or name == "test_tiny"
    assert all((layer.score_norm is not None) == has_norm for layer in model.layers)


@pytest.mark.many
@EACH
def test_every_parameter_gets_a_gradient(name):
    model = make(name).double()
    out = model(homogeneous(), features().double())
    assert out.shape == (10, NUM_CLASSES)
    assert out.isfinite().all()
    out.logsumexp(1).sum().backward()
    args = get_architecture(name).args
    steepest = max(p.grad.abs().max().item() for p in model.parameters() if p.grad is not None)
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        largest = parameter.grad.abs().max()
        subtracts = args.get("feature_norm") in ("pairnorm", "batchnorm")
        if subtracts and key.endswith(".bias") and "layers" in key:
            # PairNorm and batch norm subtract the mean over the nodes, and with it any bias.
            assert largest < 1e-12 * max(1.0, steepest), key
        elif args.get("score_norm") is None and SCORE_PARAMETERS & {*key.split(".")}:
            # Without a score norm, the features of a deep model grow until the softmax is a
            # maximum, and what only moves the scores is cut off: the fault that LipschitzNorm
            # mends. There the gradient may be exactly zero.
            continue
        else:
            assert largest > 0, key


@pytest.mark.many
@EACH
def test_evaluation_is_deterministic_and_training_drops(name):
    model, graph = make(name), homogeneous()
    drops = get_architecture(name).args.get("feat_drop", 0.6) > 0
    assert torch.equal(model(graph, features()), model(graph, features())) != drops
    model.eval()
    assert torch.equal(model(graph, features()), model(graph, features()))


@EACH
def test_backends_agree(name):
    """In float64: 32 layers of a model without a norm make rounding errors large."""
    models = [make(name, backend=backend).double().eval() for backend in ("dgl", "torch")]
    by_dgl, by_torch = (model(homogeneous(), features().double()) for model in models)
    assert_close(by_torch, by_dgl, rtol=1e-6, atol=1e-6 * by_dgl.abs().max().item())


@pytest.mark.many
@EACH
def test_state_dict_round_trip(name, tmp_path):
    model = make(name).eval()
    torch.save(model.state_dict(), tmp_path / "weights")
    torch.manual_seed(1)
    other = lipzoo.create_model(name, in_feats=IN_FEATS, num_classes=NUM_CLASSES).eval()
    other.load_state_dict(torch.load(tmp_path / "weights", weights_only=True))
    assert torch.equal(other(homogeneous(), features()), model(homogeneous(), features()))


@pytest.mark.many
@EACH
def test_intermediates(name):
    model = make(name).eval()
    graph, feat = homogeneous(), features()
    states = model.forward_intermediates(graph, feat)
    assert len(states) == model.num_layers + 1
    assert all(state.shape == (10, model.hidden_feats) for state in states)
    joined = model.forward_features(graph, feat)
    assert torch.equal(joined, model.residual.output(states))
    assert torch.equal(model.head(joined), model(graph, feat))


@pytest.mark.many
@EACH
def test_attention(name):
    model, graph = make(name).eval(), directed()
    logits, attention = model(graph, features(4), return_attention=True)
    assert torch.equal(logits, model(graph, features(4)))
    structure = as_structure(graph, add_self_loops=True)
    if model.sep:
        structure = structure.without_self_loops()
    reached = (structure.in_degrees > 0).float().unsqueeze(1)
    assert len(attention) == model.num_layers
    for weights in attention:
        assert weights.shape == (structure.num_edges, model.num_heads)
        total = torch.zeros(4, model.num_heads).index_add(0, structure.dst, weights)
        assert_close(total, reached.expand_as(total))


@pytest.mark.many
@EACH
def test_reset_classifier(name):
    model, graph = make(name).double().eval(), homogeneous()
    feat = features().double()
    joined, body = model.forward_features(graph, feat), model.layers
    model.reset_classifier(0)
    assert model.num_classes == 0
    assert torch.equal(model(graph, feat), joined)
    assert "head.weight" not in model.state_dict()
    model.reset_classifier(6)
    assert model(graph, feat).shape == (10, 6)
    assert model.head.weight.dtype == torch.float64
    assert model.layers is body
    assert torch.equal(model.forward_features(graph, feat), joined)


@EACH
def test_reset_input(name):
    model = make(name).double().eval()
    head = model.head
    model.reset_input(9)
    assert model.in_feats == 9
    assert model(homogeneous(), features(width=9).double()).shape == (10, NUM_CLASSES)
    assert model.head is head


@EACH
def test_layer_groups_partition_the_parameters(name):
    model = make(name)
    groups = model.layer_groups()
    layers = [f"layer_{layer}" for layer in range(1, model.num_layers + 1)]
    assert list(groups) == ["input", *layers, "head"]
    grouped = [id(parameter) for group in groups.values() for parameter in group]
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == {id(parameter) for parameter in model.parameters()}
    assert all(groups.values())
    assert count_parameters(model) == sum(p.numel() for g in groups.values() for p in g)


@EACH
def test_nodes_without_edges(name):
    out = make(name)(isolated(), features(6))
    assert out.isfinite().all()


def reachable():
    """30 nodes; the 2-hop neighbourhood of a node is not the whole graph."""
    ring = torch.arange(30)
    return dgl.graph((torch.cat([ring, ring[::3]]), torch.cat([(ring + 1) % 30, ring[::3] // 2])))


@pytest.mark.many
@pytest.mark.parametrize("name", [n for n in NAMES if "pairnorm" not in n])
def test_blocks_give_the_logits_of_the_whole_graph(name):
    """PairNorm's mean and length are those of a batch: it is left out."""
    model, graph = make(name).double().eval(), reachable()
    feat = features(30).double()
    seeds = torch.tensor([7, 0, 21])
    sampler = dgl.dataloading.MultiLayerFullNeighborSampler(model.num_layers)
    inputs, _, blocks = sampler.sample(graph, seeds)
    assert model.num_layers > 3 or len(inputs) < 30
    whole = model(graph, feat)[seeds]
    scale = whole.abs().max().item()
    assert_close(model(blocks, feat[inputs]), whole, rtol=0, atol=1e-9 * scale)
    states = model.forward_intermediates(blocks, feat[inputs])
    assert {len(state) for state in states} == {3}


@pytest.mark.many
@EACH
def test_a_step_of_training_lowers_the_loss(name):
    if get_architecture(name).args.get("score_norm") is None and name.endswith(("_30", "_32")):
        pytest.skip("exploding gradients: what score norms are for")
    still = dict.fromkeys(("input_drop", "feat_drop", "head_drop", "attn_drop"), 0.0)
    model = make(name, **still).double()
    graph, feat, labels = homogeneous(), features().double(), torch.arange(10) % 3
    # Batch norm over 10 nodes, layer after layer, makes slopes steep.
    steep = get_architecture(name).args.get("feature_norm") == "batchnorm"
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-8 if steep else 1e-5)
    losses = []
    for _ in range(2):
        loss = torch.nn.functional.cross_entropy(model(graph, feat), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[1] < losses[0]
