"""What the base class does: combinations, self-loops, errors; on models of two small layers."""

import itertools

import pytest
import torch
from graph_zoo import bipartite, block, directed, homogeneous, one_node
from torch import nn
from torch.testing import assert_close

from lipzoo._dgl import dgl
from lipzoo.attention import as_structure
from lipzoo.errors import ConfigError, DataError
from lipzoo.models import DeepAttentionNet, DeepGAT, DeepGATv2, DeepGraphTransformer
from lipzoo.models.activations import ACTIVATIONS
from lipzoo.nn import GATConv
from lipzoo.nn.feature_norms import FEATURE_NORMS
from lipzoo.nn.residual import RESIDUAL_SCHEMES

SMALL = {"in_feats": 5, "num_classes": 3, "num_layers": 2, "hidden_feats": 8, "num_heads": 2}
STILL = {"input_drop": 0.0, "feat_drop": 0.0, "head_drop": 0.0, "attn_drop": 0.0}
CLASSES = {DeepGAT: "lipschitz", DeepGATv2: "lipschitz", DeepGraphTransformer: "dot_lipschitz"}


def features(rows=10):
    return torch.randn(rows, 5, generator=torch.Generator().manual_seed(1))


@pytest.mark.many
@pytest.mark.parametrize(
    ("kind", "residual", "feature_norm"),
    [*itertools.product(CLASSES, RESIDUAL_SCHEMES, [None, *FEATURE_NORMS])],
    ids=lambda v: getattr(v, "__name__", str(v)),
)
def test_each_residual_scheme_with_each_feature_norm_learns(kind, residual, feature_norm):
    torch.manual_seed(0)
    model = kind(
        **SMALL, **STILL, residual=residual, feature_norm=feature_norm, score_norm=CLASSES[kind]
    )
    graph, feat, labels = homogeneous(), features(), torch.arange(10) % 3
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(3):
        loss = nn.functional.cross_entropy(model(graph, feat), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert model.eval()(graph, feat).isfinite().all()
    model.train()(one_node(), features(1)).sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("residual", RESIDUAL_SCHEMES)
def test_blocks_with_each_residual_scheme(residual):
    torch.manual_seed(0)
    model = DeepGAT(**SMALL, residual=residual, feature_norm="layernorm").eval()
    graph, seeds = homogeneous(), torch.tensor([3, 8])
    sampler = dgl.dataloading.MultiLayerFullNeighborSampler(2)
    inputs, _, blocks = sampler.sample(graph, seeds)
    whole = model(graph, features())[seeds]
    assert_close(model(blocks, features()[inputs]), whole)


def test_batchnorm_model_on_blocks_in_evaluation_mode():
    """Running statistics do not depend on the batch."""
    torch.manual_seed(0)
    model = DeepGAT(**SMALL, feature_norm="batchnorm")
    model(homogeneous(), features())
    model.eval()
    sampler = dgl.dataloading.MultiLayerFullNeighborSampler(2)
    inputs, _, blocks = sampler.sample(homogeneous(), torch.tensor([3, 8]))
    whole = model(homogeneous(), features())[[3, 8]]
    assert_close(model(blocks, features()[inputs]), whole)


def test_a_model_by_hand():
    """One layer without a norm, written with the layer itself."""
    torch.manual_seed(0)
    model = DeepGAT(**SMALL | {"num_layers": 1}, add_self_loops=False).eval()
    graph, feat = homogeneous(), features()
    h0 = nn.functional.elu(model.input(feat))
    h1 = nn.functional.elu(model.layers[0](graph, h0).flatten(1))
    assert_close(model(graph, feat), model.head(h1))
    assert isinstance(model.layers[0], GATConv)


def test_self_loops_are_added_to_the_structure_and_not_to_the_graph():
    torch.manual_seed(0)
    model, graph = DeepGAT(**SMALL).eval(), directed()
    with_loops = dgl.add_edges(directed(), [1, 2, 3], [1, 2, 3])  # node 0 has one
    wanted = model(with_loops, features(4))
    assert_close(model(graph, features(4)), wanted)
    assert graph.num_edges() == 6
    model.add_self_loops = False
    assert not torch.allclose(model(graph, features(4)), wanted)
    assert_close(model(with_loops, features(4)), wanted)


def test_a_structure_in_place_of_a_graph():
    model = DeepGAT(**SMALL).eval()
    assert_close(model(as_structure(homogeneous()), features()), model(homogeneous(), features()))


@pytest.mark.parametrize("backend", ["auto", "dgl", "torch", "fused"])
@pytest.mark.parametrize("kind", CLASSES)
def test_a_graph_without_nodes(kind, backend):
    model = kind(**SMALL, score_norm=CLASSES[kind], backend=backend)
    assert model(dgl.graph(([], []), num_nodes=0), features(0)).shape == (0, 3)


def test_missing_vectors_give_finite_gradients():
    """A zero row of features, and a model whose inputs are all zero."""
    for kind, norm in CLASSES.items():
        for feat in (features() * (torch.arange(10) % 2).unsqueeze(1), torch.zeros(10, 5)):
            model = kind(**SMALL, score_norm=norm)
            model(homogeneous(), feat).square().sum().backward()
            assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("kind", CLASSES)
def test_bfloat16(kind):
    model = kind(**SMALL, score_norm=CLASSES[kind]).bfloat16()
    out = model(homogeneous(), features().bfloat16())
    out.float().square().sum().backward()
    assert out.dtype == torch.bfloat16
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("kind", CLASSES)
def test_autocast(kind):
    model = kind(**SMALL, score_norm=CLASSES[kind]).eval()
    exact = model(homogeneous(), features())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = model(homogeneous(), features())
    assert_close(out.float(), exact, atol=0.1, rtol=0.1)


def test_score_hooks_reach_the_layers_of_a_model():
    model, seen = DeepGAT(**SMALL, score_norm={"name": "lipschitz", "alpha": 0.1}), []
    for layer in model.layers:
        layer.register_score_hook(lambda layer, structure, e: seen.append(e))
    model(directed(), features(4))
    assert len(seen) == 2
    assert all(e.shape == (9, 2) for e in seen)
    assert max(e.abs().max().item() for e in seen) <= 0.1 * (1 + 1e-6)


def test_a_jacobian_through_a_whole_model():
    model = DeepGAT(**SMALL, score_norm="lipschitz").double().eval()
    graph, feat = homogeneous(), features().double()
    jacobian = torch.func.jacfwd(lambda x: model(graph, x))(feat)
    assert_close(jacobian, torch.autograd.functional.jacobian(lambda x: model(graph, x), feat))


@pytest.mark.parametrize("backend", ["dgl", "torch"])
@pytest.mark.parametrize("kind", CLASSES)
def test_training_after_inference_on_the_same_graph(kind, backend):
    model, graph = kind(**SMALL, score_norm=CLASSES[kind], backend=backend), homogeneous()
    with torch.inference_mode():
        model(graph, features())
    model(graph, features()).sum().backward()


# ---------------------------------------------------------------------- errors


@pytest.mark.parametrize("shape", [(10, 4), (9, 5), (10,), (10, 1, 5)])
def test_features_that_do_not_fit(shape):
    with pytest.raises(DataError, match=r"need \(10, 5\).*reset_input"):
        DeepGAT(**SMALL)(homogeneous(), torch.rand(shape))


@pytest.mark.parametrize("count", [0, 1, 3])
def test_as_many_blocks_as_layers(count):
    with pytest.raises(DataError, match=f"got {count} blocks for 2 layers"):
        DeepGAT(**SMALL)([block()] * count, features())


def test_one_block_is_no_graph():
    with pytest.raises(DataError, match="takes a list of blocks"):
        DeepGAT(**SMALL)(block(), features())


def test_bipartite_graphs_are_refused():
    with pytest.raises(DataError, match="bipartite"):
        DeepGAT(**SMALL)(bipartite(), torch.rand(4, 5))


def test_neighbornorm_refuses_blocks():
    model = DeepGAT(**SMALL, feature_norm="neighbornorm")
    sampler = dgl.dataloading.MultiLayerFullNeighborSampler(2)
    graph = dgl.graph((torch.arange(20), (torch.arange(20) + 1) % 20))
    inputs, _, blocks = sampler.sample(graph, torch.tensor([3]))
    with pytest.raises(DataError, match="pass the whole graph, not blocks"):
        model(blocks, features(20)[inputs])


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"in_feats": 0}, "in_feats must be at least 1, got 0"),
        ({"num_layers": 0}, "num_layers must be at least 1"),
        ({"num_heads": 0}, "num_heads must be at least 1"),
        ({"num_classes": -1}, "num_classes must be >= 0"),
        ({"hidden_feats": 9}, "hidden_feats must be a positive multiple of num_heads, got 9 and 2"),
        ({"hidden_feats": 0}, "hidden_feats must be a positive multiple"),
        ({"activation": "rleu"}, "did you mean 'relu'"),
        ({"score_norm": "lipschiz"}, "did you mean 'lipschitz'"),
        ({"feature_norm": "pairnom"}, "did you mean 'pairnorm'"),
        ({"residual": "jumpin"}, "did you mean 'jumping'"),
        ({"degree_norm": "symetric"}, "did you mean 'symmetric'"),
        ({"backend": "dlg"}, "did you mean 'dgl'"),
        ({"residual": {"name": "initial"}, "hidden_feats": 7}, "multiple"),
        *(({name: 1.0}, rf"{name} must be in \[0, 1\)") for name in STILL),
        ({"attn_drop": -0.1}, r"attn_drop must be in \[0, 1\)"),
    ],
)
def test_arguments_that_are_wrong(wrong, words):
    with pytest.raises(ConfigError, match=words):
        DeepGAT(**SMALL | wrong)


@pytest.mark.parametrize("change", ["reset_input", "reset_classifier"])
def test_a_reset_that_is_refused_changes_nothing(change):
    model = DeepGAT(**SMALL).eval()
    before = model(homogeneous(), features())
    with pytest.raises(ConfigError):
        getattr(model, change)(-1)
    assert torch.equal(model(homogeneous(), features()), before)
    assert (model.in_feats, model.num_classes) == (5, 3)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name):
    model = DeepGAT(**SMALL, activation=name).eval()
    feat = features()
    states = model.forward_intermediates(homogeneous(), feat)
    assert_close(states[0], ACTIVATIONS[name]()(model.input(feat)))


def test_a_class_of_ones_own():
    class Mine(DeepAttentionNet):
        conv_class = GATConv

    assert Mine(**SMALL)(homogeneous(), features()).shape == (10, 3)


def test_what_all_layers_share_is_trained_too():
    class Scaled(RESIDUAL_SCHEMES["residual"]):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.scale = nn.Parameter(torch.ones(()))

    model = DeepGAT(**SMALL, activation=nn.PReLU(), residual=Scaled)
    groups = model.layer_groups()
    shared = {id(model.activation.weight), id(model.residual.scale)}
    assert shared <= {id(p) for p in groups["input"]}
    grouped = [id(p) for group in groups.values() for p in group]
    assert sorted(grouped) == sorted(map(id, model.parameters()))


@pytest.mark.parametrize("kind", CLASSES)
def test_where_layers_start(kind):
    def make(**options):
        torch.manual_seed(0)
        return kind(16, 3, 3, 64, 1, residual="linear", **options)

    plain, large = make(), make(init_scale=4.0)
    uniform = make(init="glorot_uniform", init_scale=2.0)
    for name, parameter in uniform.layers.named_parameters():
        if name.endswith("bias") or "res_fc" in name:
            continue
        limit = 2 * (6 / sum(parameter.shape[-2:])) ** 0.5
        assert 0.9 * limit < parameter.abs().max() <= limit, name
    sizes = [
        [p.std().item() for n, p in m.layers.named_parameters() if "fc" in n and "weight" in n]
        for m in (plain, large)
    ]
    names = [n for n, _ in plain.layers.named_parameters() if "fc" in n and "weight" in n]
    for name, small, big in zip(names, *sizes, strict=True):
        # Weights of the residual start as nn.Linear does, whatever the others do.
        assert big / small == pytest.approx(1.0 if "res_fc" in name else 4.0, rel=0.05)


def test_starts_that_there_are_not():
    with pytest.raises(ConfigError, match="did you mean 'glorot_uniform'"):
        DeepGAT(**SMALL, init="glorot_unifrom")
    for scale in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ConfigError, match="init_scale must be positive"):
            DeepGAT(**SMALL, init_scale=scale)
