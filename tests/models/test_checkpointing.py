"""Checkpoints between layers: less memory, and the very same gradients."""

import copy
import itertools

import pytest
import torch
from graph_zoo import homogeneous
from torch import nn
from torch.utils.checkpoint import CheckpointError

import lipzoo
from lipzoo._dgl import dgl
from lipzoo.errors import ConfigError
from lipzoo.models import DeepGAT, DeepGATv2, DeepGraphTransformer
from lipzoo.nn.feature_norms import FEATURE_NORMS
from lipzoo.nn.residual import RESIDUAL_SCHEMES

SMALL = {"in_feats": 5, "num_classes": 3, "num_layers": 5, "hidden_feats": 8, "num_heads": 2}
NORMS = {DeepGAT: "lipschitz", DeepGATv2: "lipschitz", DeepGraphTransformer: "dot_lipschitz"}


def features(rows=10):
    return torch.randn(rows, 5, generator=torch.Generator().manual_seed(1))


def pair(kind=DeepGAT, **arguments):
    """The same model without and with checkpoints."""
    torch.manual_seed(0)
    plain = kind(**SMALL | {"score_norm": NORMS[kind]} | arguments)
    checkpointed = copy.deepcopy(plain)
    checkpointed.checkpoint_layers = True
    return plain, checkpointed


def outcome(model, graph, feat, use=lambda model, graph, feat: [model(graph, feat)]):
    """What is put out, the gradients, the buffers, and the state of the random generator."""
    torch.manual_seed(3)
    feat = feat.clone().requires_grad_()
    out = use(model, graph, feat)
    sum(o.square().sum() for o in out).backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    return out, gradients | {"feat": feat.grad}, dict(model.named_buffers()), torch.rand(3)


def assert_same(one, other):
    (out, gradients, buffers, draw), (out2, gradients2, buffers2, draw2) = one, other
    assert all(itertools.starmap(torch.equal, zip(out, out2, strict=True)))
    for name, gradient in gradients.items():
        same = gradient is gradients2[name] is None or torch.equal(gradient, gradients2[name])
        assert same, name
    for name, buffer in buffers.items():
        assert torch.equal(buffer, buffers2[name]), name
    assert torch.equal(draw, draw2), "the random generator stands elsewhere"


@pytest.mark.many
@pytest.mark.parametrize("backend", ["fused", "dgl", "torch"])
@pytest.mark.parametrize("kind", NORMS)
def test_gradients_are_the_same_with_dropout(kind, backend):
    models = pair(kind, backend=backend)
    assert_same(*(outcome(model, homogeneous(), features()) for model in models))


@pytest.mark.many
@pytest.mark.parametrize("feature_norm", [None, *FEATURE_NORMS])
@pytest.mark.parametrize("residual", [*RESIDUAL_SCHEMES, {"name": "jumping", "mode": "cat"}])
def test_with_each_residual_scheme_and_feature_norm(residual, feature_norm):
    models = pair(residual=residual, feature_norm=feature_norm)
    assert_same(*(outcome(model, homogeneous(), features()) for model in models))


@pytest.mark.many
@pytest.mark.parametrize("residual", RESIDUAL_SCHEMES)
def test_on_blocks(residual):
    sampler = dgl.dataloading.MultiLayerFullNeighborSampler(SMALL["num_layers"])
    ring = torch.arange(30)
    graph = dgl.graph((torch.cat([ring, ring]), torch.cat([(ring + 1) % 30, (ring + 3) % 30])))
    inputs, _, blocks = sampler.sample(graph, torch.tensor([3, 8]))
    assert len(inputs) > 2
    models = pair(residual=residual)
    assert_same(*(outcome(model, blocks, features(30)[inputs]) for model in models))


@pytest.mark.parametrize("residual", ["none", "dense"])
def test_the_other_ways_to_use_a_model(residual):
    for use in (
        lambda model, graph, feat: model.forward_intermediates(graph, feat),
        lambda model, graph, feat: [model.forward_features(graph, feat)],
        lambda model, graph, feat: list(model(graph, feat, return_attention=True)[1]),
    ):
        models = pair(residual=residual, score_norm=None)
        assert_same(*(outcome(model, homogeneous(), features(), use) for model in models))


def count_layer_calls(model):
    calls = []
    for layer in model.layers:
        layer.register_forward_hook(lambda *_: calls.append(1))
    return calls


def test_layers_run_again_in_the_backward_pass_and_only_there():
    _, model = pair()
    calls = count_layer_calls(model)
    loss = model(homogeneous(), features()).sum()
    assert len(calls) == 5
    loss.backward()
    assert len(calls) == 10
    with torch.no_grad():
        model(homogeneous(), features())
    assert len(calls) == 15


def saved_numbers(model):
    """Numbers that the forward pass keeps for the backward pass, each tensor counted once."""
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    graph = homogeneous()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(graph, features())
    return sum(kept.values())


def test_less_is_kept():
    plain, checkpointed = pair(num_layers=16, backend="torch")
    assert saved_numbers(checkpointed) < saved_numbers(plain) / 2


def test_training_with_checkpoints_is_training():
    models = pair()
    for model in models:
        torch.manual_seed(1)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(3):
            loss = nn.functional.cross_entropy(
                model(homogeneous(), features()), torch.arange(10) % 3
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    for one, other in zip(*(model.parameters() for model in models)):
        assert torch.equal(one, other)


def test_the_option_goes_through_the_registry():
    sizes = {"in_feats": 5, "num_classes": 3}
    assert lipzoo.create_model("gat_lip_8", **sizes).checkpoint_layers is False
    model = lipzoo.create_model("gat_lip_8", **sizes, checkpoint_layers=True)
    assert model.checkpoint_layers is True
    with pytest.raises(ConfigError, match="checkpoint_layers"):
        lipzoo.create_model("gat_lip_8", **sizes, checkpoint_layers="often")


@pytest.mark.parametrize("wrong", [-1, 2, "yes", None])
def test_wrong_values(wrong):
    with pytest.raises(ConfigError, match=f"must be true or false, got {wrong!r}"):
        DeepGAT(**SMALL, checkpoint_layers=wrong)


# --------------------------------------------------------- between the two passes

AGAIN = [{"checkpoint_layers": True}, {"residual": "reversible"}]


@pytest.mark.parametrize("way", AGAIN, ids=["checkpoint_layers", "reversible"])
@pytest.mark.parametrize(
    "change",
    [
        lambda model: nn.init.zeros_(model.layers[2].attn_l),
        lambda model: model.norms[1].norm.bias.detach().add_(1),
    ],
)
def test_what_changes_in_place_before_the_backward_pass_is_refused(way, change):
    model = DeepGAT(**SMALL, **way, feature_norm="batchnorm").double()
    loss = model(homogeneous(), features().double()).sum()
    change(model)
    with pytest.raises(CheckpointError, match="changed in place"):
        loss.backward()


@pytest.mark.parametrize("way", AGAIN, ids=["checkpoint_layers", "reversible"])
def test_the_layers_run_again_with_the_mode_and_the_hooks_that_they_had(way):
    found = []
    for is_changed in (False, True):
        torch.manual_seed(0)
        model = DeepGAT(**SMALL, **way, feature_norm="batchnorm").double()
        handles = [
            model.layers[1].register_forward_hook(lambda module, given, out: out * 2),
            model.layers[2].register_score_hook(lambda module, structure, scores: scores / 2),
        ]
        loss = model(homogeneous(), features().double()).square().sum()
        if is_changed:
            model.eval()
            for handle in handles:
                handle.remove()
            model.layers[3].register_forward_hook(lambda module, given, out: out * 3)
        loss.backward()
        assert model.layers[3].training is not is_changed
        assert len(model.layers[1]._forward_hooks) == (not is_changed)
        assert len(model.layers[3]._forward_hooks) == is_changed
        found.append([p.grad for p in model.parameters()])
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("way", AGAIN, ids=["checkpoint_layers", "reversible"])
def test_edge_features_that_change_before_the_backward_pass_are_refused(way):
    model = DeepGAT(**SMALL, **way, edge_feats=2).double()
    graph = homogeneous()
    edge_feat = torch.ones(graph.num_edges(), 2, dtype=torch.float64)
    loss = model(graph, features().double(), edge_feat=edge_feat).sum()
    loss.backward(retain_graph=True)
    edge_feat.add_(1)
    with pytest.raises(CheckpointError, match="changed in place"):
        loss.backward()


@pytest.mark.parametrize("way", AGAIN, ids=["checkpoint_layers", "reversible"])
def test_layers_that_move_a_buffer_run_again_from_where_they_began(way):
    found = {}
    for name in ("again", "plain"):
        torch.manual_seed(0)
        model = DeepGAT(**SMALL, **way).double()
        for layer in model.layers:
            nn.utils.parametrizations.spectral_norm(layer.fc, "weight")
        if name == "plain":
            model.checkpoint_layers = False
            if way.get("residual"):
                model.residual.keep_states = True
        torch.manual_seed(1)
        model(homogeneous(), features().double()).square().sum().backward()
        found[name] = [p.grad for p in model.parameters()], list(model.buffers())
    torch.testing.assert_close(found["again"], found["plain"], rtol=1e-10, atol=1e-10)
