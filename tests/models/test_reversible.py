"""Reversible depth: the gradients of the plain network, and no states kept for them."""

import copy

import pytest
import torch
from graph_zoo import homogeneous, isolated
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint

import lipzoo
from adversary.measure import Case, jacobian, local_constants
from lipzoo._dgl import dgl
from lipzoo.lipschitz import bound, estimate, gradient_flow, robustness
from lipzoo.models import DeepGAT, DeepGATv2, DeepGraphTransformer
from lipzoo.nn.feature_norms import FEATURE_NORMS

SMALL = {"in_feats": 5, "num_classes": 3, "num_layers": 7, "hidden_feats": 8, "num_heads": 2}
NORMS = {DeepGAT: "lipschitz", DeepGATv2: "lipschitz", DeepGraphTransformer: "dot_lipschitz"}


def features(rows=10, dtype=torch.float64):
    return torch.randn(rows, 5, generator=torch.Generator().manual_seed(1)).to(dtype)


def pair(kind=DeepGAT, kept=0.1, **arguments):
    """The same network that goes back, and that keeps its states."""
    torch.manual_seed(0)
    residual = {"name": "reversible", "kept": kept}
    given = SMALL | {"score_norm": NORMS[kind], "residual": residual} | arguments
    model = kind(**given).double()
    plain = copy.deepcopy(model)
    plain.residual.keep_states = True
    return model, plain


def use_logits(model, graph, feat, **inputs):
    return [model(graph, feat, **inputs)]


def outcome(model, graph=None, feat=None, use=use_logits, order=1, **inputs):
    """What is put out, the gradients, the buffers, and the state of the random generator."""
    torch.manual_seed(3)
    graph = homogeneous() if graph is None else graph
    feat = (features() if feat is None else feat).clone().requires_grad_()
    wanted = {"feat": feat, **inputs, **dict(model.named_parameters())}
    wanted = {name: tensor for name, tensor in wanted.items() if tensor.requires_grad}
    out = use(model, graph, feat, **inputs)
    loss = sum(o.square().sum() for o in out)
    for last in (False, True)[-order:]:
        slopes = torch.autograd.grad(
            loss, list(wanted.values()), create_graph=not last, allow_unused=True
        )
        loss = sum(slope.square().sum() for slope in slopes if slope is not None)
    gradients = dict(zip(wanted, slopes))
    return out, gradients, dict(model.named_buffers()), torch.rand(3)


def assert_same(one, other, error=1e-10):
    (out, gradients, buffers, draw), (out2, gradients2, buffers2, draw2) = one, other
    for mine, its in zip(out, out2, strict=True):
        assert torch.equal(mine, its)
    size = torch.stack([g.norm() for g in gradients2.values() if g is not None]).norm()
    assert size > 0
    for name, gradient in gradients2.items():
        if gradient is None:
            assert gradients[name] is None, name
        else:
            assert (gradients[name] - gradient).norm() <= error * size, name
    for name, buffer in buffers.items():
        assert torch.equal(buffer, buffers2[name]), name
    assert torch.equal(draw, draw2), "the random generator stands elsewhere"


# ------------------------------------------------------------------------------- gradients


@pytest.mark.parametrize("backend", ["fused", "dgl", "torch"])
@pytest.mark.parametrize("kind", NORMS)
def test_gradients_are_those_of_the_plain_network(kind, backend):
    """With all dropouts."""
    assert_same(*(outcome(model) for model in pair(kind, backend=backend)))


@pytest.mark.parametrize(
    "options",
    [
        *({"feature_norm": name} for name in FEATURE_NORMS),
        {"degree_norm": "symmetric", "sep": True},
        {"activation": nn.PReLU(), "num_layers": 1},
        {"activation": nn.PReLU(), "num_layers": 2, "kept": 0.01},
        {"residual": {"name": "reversible", "kept": 0.9, "decay": 0.5}},
        {"kind": DeepGraphTransformer, "score_norm": {"name": "dot_lipschitz", "scope": "graph"}},
        {"score_norm": None},
    ],
    ids=str,
)
def test_with_other_options(options):
    assert_same(*(outcome(model) for model in pair(**options)))


@pytest.mark.parametrize("kind", NORMS)
def test_edge_features_have_gradients_too(kind):
    graph = homogeneous()
    edge_feat = torch.randn(graph.num_edges(), 3).double().requires_grad_()
    models = pair(kind, edge_feats=3)
    found = [outcome(model, graph, edge_feat=edge_feat) for model in models]
    assert found[0][1]["edge_feat"].norm() > 0
    assert_same(*found)


@pytest.mark.parametrize("backend", ["fused", "torch"])
def test_second_derivatives(backend):
    assert_same(*(outcome(model, order=2) for model in pair(backend=backend)))


def test_the_other_ways_to_use_a_model():
    for use in (
        lambda model, graph, feat: [model.forward_features(graph, feat)],
        lambda model, graph, feat: model.forward_intermediates(graph, feat),
        lambda model, graph, feat: model(graph, feat, return_attention=True)[1],
        lambda model, graph, feat: [checkpoint(model, graph, feat, use_reentrant=False)],
    ):
        assert_same(*(outcome(model, use=use) for model in pair(score_norm=None)))


def test_what_a_hook_brings_is_trained_too():
    scale = torch.ones((), dtype=torch.float64, requires_grad=True)
    found = []
    for model in pair():
        for layer in model.layers:
            layer.register_score_hook(lambda layer, structure, scores: scores * scale)
        found.append(
            outcome(model, use=lambda model, graph, feat, scale: [model(graph, feat)], scale=scale)
        )
    assert found[0][1]["scale"].abs() > 0
    assert_same(*found)


def test_several_backward_passes_and_parts_of_one():
    model, plain = pair()
    losses = []
    for network in (model, plain):
        torch.manual_seed(3)
        losses.append(network(homogeneous(), features()).square().sum())
    for wanted in ("input.", "layers.5.", "layers.2.", "layers.", "layers.2.fc"):
        slopes = [
            torch.autograd.grad(
                loss,
                [p for name, p in network.named_parameters() if name.startswith(wanted)],
                retain_graph=True,
            )
            for loss, network in zip(losses, (model, plain))
        ]
        for mine, its in zip(*slopes, strict=True):
            assert_close(mine, its, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("frozen", ["input.", "layers.0.", "layers.3.", "layers.6.", "layers."])
def test_frozen_parts(frozen):
    found = []
    for model in pair():
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(not name.startswith(frozen))
        found.append(outcome(model))
    assert_same(*found)


def test_graphs_without_edges_and_without_nodes():
    for graph, rows in ((isolated(), 6), (dgl.graph(([], []), num_nodes=1), 1)):
        models = pair()
        assert_same(*(outcome(model, graph, features(rows)) for model in models))
    model, _ = pair()
    empty = model(dgl.graph(([], []), num_nodes=0), features(0))
    empty.sum().backward()
    assert empty.shape == (0, 3)


# -------------------------------------------------------------- where a network does not go back


def test_blocks_compute_as_before():
    sampler = dgl.dataloading.MultiLayerFullNeighborSampler(SMALL["num_layers"])
    ring = torch.arange(30)
    graph = dgl.graph((torch.cat([ring, ring]), torch.cat([(ring + 1) % 30, (ring + 3) % 30])))
    inputs, _, blocks = sampler.sample(graph, torch.tensor([3, 8]))
    assert blocks[-1].num_src_nodes() > 2
    feat = features(30)
    assert_same(*(outcome(model, blocks, feat[inputs]) for model in pair()), error=0)
    for checkpointed in pair(checkpoint_layers=True):
        assert_same(
            outcome(checkpointed, blocks, feat[inputs]), outcome(pair()[1], blocks, feat[inputs])
        )


def test_without_gradients_and_in_transforms():
    model, plain = (network.eval() for network in pair(backend="torch"))
    graph, feat = homogeneous(), features()
    wanted = plain(graph, feat)
    for context in (torch.no_grad, torch.inference_mode):
        with context():
            assert torch.equal(model(graph, feat), wanted)
    stack = torch.stack([feat, 2 * feat])
    assert_close(torch.func.vmap(lambda x: model(graph, x))(stack)[0], wanted)
    slopes = [
        torch.func.grad(lambda x, m=m: m(graph, x).square().sum())(feat) for m in (model, plain)
    ]
    assert torch.equal(*slopes)


def test_sixteen_bits_keep_their_states():
    """Rounding would drown the states on the way back."""
    feat = features(dtype=torch.bfloat16)
    found = [outcome(model.bfloat16(), feat=feat) for model in pair(backend="torch")]
    assert_same(*found, error=0)


@pytest.mark.parametrize("residual", ["reversible", "initial"])
def test_autocast(residual):
    models = pair(backend="torch") if residual == "reversible" else pair(residual=residual)
    found = []
    for model in models:
        model.float()
        with torch.autocast("cpu", torch.bfloat16):
            states = model.forward_intermediates(homogeneous(), features(dtype=torch.float32))
            found.append(outcome(model, feat=features(dtype=torch.float32)))
        assert states[-1].dtype == (torch.float32 if residual == "reversible" else torch.bfloat16)
    for mine, its in zip(*(list(f[1].values()) for f in found), strict=True):
        assert (mine - its).norm() <= 0.05 * its.norm()
    assert kept_tensors(models[0].double()) <= 1 or residual == "initial"


# ------------------------------------------------------------------------- memory and rounding


def kept_tensors(model):
    """How many of the tensors that the layers computed are held after a forward pass."""
    made = []

    def look(module, given, out):
        made.append(StorageWeakRef(out.untyped_storage()))

    for part in (*model.layers.modules(), *model.norms.modules(), model.activation):
        part.register_forward_hook(look)
    graph = homogeneous()
    loss = model(graph, features()).sum()
    number = len({ref.cdata for ref in made if not ref.expired()})
    loss.backward()
    return number


@pytest.mark.parametrize("backend", ["fused", "dgl", "torch"])
def test_nothing_is_kept_whatever_the_depth(backend):
    options = {"backend": backend, "feature_norm": "layernorm"}
    found = {}
    for depth in (4, 16):
        found[depth] = [kept_tensors(model) for model in pair(num_layers=depth, **options)]
    assert found[4][0] == found[16][0] <= 1  # what follows the input map
    assert found[16][1] >= found[4][1] + 12


def test_layers_run_again_once():
    for model, times in zip(pair(), (2, 1)):
        calls = []
        for layer in model.layers:
            layer.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        model(homogeneous(), features()).sum().backward()
        assert len(calls) == times * model.num_layers


def rounding(scale, **options):
    """How far float32 gradients are from those of the plain network in float64."""
    options = {"num_layers": 32, "feature_norm": "layernorm", "backend": "torch"} | options
    graph = torch.randint(100, (2, 1000), generator=torch.Generator().manual_seed(0))
    model, plain = (network.eval() for network in pair(**options))
    with torch.no_grad():
        for network in (model, plain):
            for layer in network.layers:
                layer.attn_l.mul_(scale)
                layer.attn_r.mul_(scale)
    feat = features(100, torch.float32)
    slopes = [
        torch.cat([g.double().flatten() for g in outcome(network, graph, x)[1].values()])
        for network, x in ((model.float(), feat), (plain, feat.double()))
    ]
    return ((slopes[0] - slopes[1]).norm() / slopes[1].norm()).item()


def test_sharp_attention_goes_back_with_lipschitznorm_alone():
    assert rounding(1.0) < 1e-4
    assert rounding(1000.0) < 1e-4
    assert rounding(1000.0, score_norm=None) > 0.1


# ----------------------------------------------------------------------------- bound and radii


@pytest.mark.parametrize("kind", NORMS)
def test_the_bound_is_that_of_the_blocks(kind):
    """A block's matrix of constants, and their product."""
    model, plain = pair(kind, num_layers=6, degree_norm="none")
    limit = bound(model.eval(), homogeneous())
    assert limit == bound(plain.eval(), homogeneous())
    rows = {row.name: row.per_node for row in limit.layers}
    a = model.residual.share
    streams = torch.full((2,), rows["input"], dtype=torch.float64)
    for block in range(3):
        f, g = (a * rows[f"layer_{2 * block + step}"] for step in (1, 2))
        matrix = torch.tensor([[1 - a, f], [(1 - a) * g, 1 - a + f * g]], dtype=torch.float64)
        streams = matrix @ streams
    assert limit.per_node == pytest.approx(streams.mean().item() * rows["head"])
    for seed in range(3):
        torch.manual_seed(seed)
        case = Case(
            "", model.requires_grad_(False), homogeneous(), 10**seed * torch.randn(10, 5).double()
        )
        frobenius, per_node = local_constants(jacobian(case))
        assert 0 < frobenius <= limit.frobenius * (1 + 1e-9)
        assert 0 < per_node <= limit.per_node * (1 + 1e-9)


def test_the_bound_does_not_grow_with_depth():
    def per_node(depth):
        torch.manual_seed(0)
        sizes = {"in_feats": 5, "num_classes": 3}
        return bound(lipzoo.create_model(f"gat_lip_rev_{depth}", **sizes), homogeneous()).per_node

    assert per_node(128) < 2 * per_node(16)


def test_radii_and_flow():
    model, plain = (network.eval() for network in pair(num_layers=3))
    graph, feat = homogeneous(), features()
    found = robustness(model, graph, feat)
    assert torch.equal(found.radius, robustness(plain, graph, feat).radius)
    assert found.radius.max() > 0
    labels = torch.arange(10) % 3
    rows = [gradient_flow(network, graph, feat, labels).rows for network in (model, plain)]
    assert rows[0] == rows[1]


def test_parameters_that_are_given_for_a_call():
    """The backward pass runs when the model has its own again."""
    model, plain = (network.eval() for network in pair(feature_norm="batchnorm"))
    kept = copy.deepcopy(plain)
    kept.checkpoint_layers = True
    found = []
    for network in (model, plain, kept):
        given = {name: (2 * t).detach().requires_grad_() for name, t in network.named_parameters()}
        buffers = {name: t + 1 for name, t in network.named_buffers()}
        out = torch.func.functional_call(network, {**given, **buffers}, (homogeneous(), features()))
        found.append(torch.autograd.grad(out.square().sum(), list(given.values())))
    for mine, its, exact in zip(*found):
        assert_close(mine, its, rtol=1e-9, atol=1e-9)
        assert torch.equal(exact, its)


def test_estimates_are_those_of_the_plain_network():
    model, plain = (network.eval() for network in pair(num_layers=3))
    found = [
        estimate(network, homogeneous(), features(), iterations=4) for network in (model, plain)
    ]
    assert found[0].value == found[1].value > 0
    assert not model.residual.keep_states
