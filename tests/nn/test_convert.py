"""lipschitzify: DGL's attention layers inside anybody's model become ours, weights kept."""

import copy
import warnings

import pytest
import torch
from graph_zoo import bipartite, homogeneous
from torch import nn
from torch.testing import assert_close

import lipzoo
from lipzoo._dgl import dgl
from lipzoo.attention import DotProductLipschitzNorm, LipschitzNorm
from lipzoo.nn.multihead import LipschitzMultiheadAttention

GRAPH = homogeneous()


def features(width=4):
    return torch.randn(10, width, generator=torch.Generator().manual_seed(0))


def convert(module, **arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return lipzoo.lipschitzify(module, verbose=False, **arguments)


LAYERS = {
    "GATConv": {},
    "GATConv residual": {"residual": True},
    "GATConv residual same width": {"residual": True, "out_feats": 2},
    "GATConv no bias": {"bias": False},
    "GATConv activation": {"activation": torch.tanh, "negative_slope": 0.1},
    "GATv2Conv": {},
    "GATv2Conv residual": {"residual": True},
    "GATv2Conv shared": {"share_weights": True, "bias": False},
    "DotGatConv": {},
}


@pytest.mark.parametrize("case", LAYERS)
def test_a_converted_layer_is_ours_with_the_norm(case):
    name = case.split()[0]
    arguments = {"in_feats": 4, "out_feats": 3, "num_heads": 2} | LAYERS[case]
    theirs = getattr(dgl.nn, name)(**arguments)
    plain = getattr(lipzoo.nn, name)(**arguments)
    plain.load_state_dict(theirs.state_dict())
    plain_keys, parameters = list(theirs.state_dict()), dict(theirs.named_parameters())
    without_norm = theirs(GRAPH, features())
    norm = DotProductLipschitzNorm() if name == "DotGatConv" else LipschitzNorm(0.5, False)
    plain.score_norm = norm

    new = convert(theirs, alpha=0.5, per_head=False)
    assert type(new) is getattr(lipzoo.nn, name)
    assert str(new.score_norm) == str(norm)
    assert list(new.state_dict()) == plain_keys
    assert all(parameter is parameters[key] for key, parameter in new.named_parameters())
    assert_close(new(GRAPH, features()), plain(GRAPH, features()), rtol=0, atol=0)
    assert not torch.allclose(new(GRAPH, features()), without_norm)
    new.score_norm = None
    assert_close(new(GRAPH, features()), without_norm)


@pytest.mark.parametrize("name", ["GATConv", "GATv2Conv", "DotGatConv"])
def test_layers_between_two_node_types(name):
    theirs = getattr(dgl.nn, name)((4, 5), 3, 2, allow_zero_in_degree=True)
    feat = torch.rand(4, 4), torch.rand(3, 5)
    wanted = theirs(bipartite(), feat)
    new = convert(theirs)
    new.score_norm = None
    assert_close(new(bipartite(), feat), wanted)


class Net(nn.Module):
    """Somebody's model: layers in a Sequential of a ModuleDict, one in two places."""

    def __init__(self):
        super().__init__()
        conv = dgl.nn.GATConv(4, 2, 2, feat_drop=0.5)
        self.parts = nn.ModuleDict(
            {"body": nn.Sequential(conv, nn.Linear(2, 2), dgl.nn.GATv2Conv(4, 2, 2)), "also": conv}
        )
        self.again = conv
        self.optional = None
        self.head = nn.Linear(4, 3)

    def forward(self, graph, feat):
        first, linear, last = self.parts["body"]
        h = linear(first(graph, feat)).flatten(1)
        h = last(graph, h).flatten(1)
        return self.head(self.again(graph, h).flatten(1))


def test_a_nested_model(capsys):
    net = Net().eval()
    state = copy.deepcopy(net.state_dict())
    parameters = list(net.parameters())
    optimizer = torch.optim.SGD(parameters, lr=0.1)
    assert lipzoo.lipschitzify(net) is net
    first, linear, last = net.parts["body"]
    assert type(first) is lipzoo.nn.GATConv
    assert type(last) is lipzoo.nn.GATv2Conv
    assert type(linear) is nn.Linear
    assert net.again is first, "a layer used in two places stays one layer"
    assert net.parts["also"] is first
    assert list(net.state_dict()) == list(state)
    assert all(a is b for a, b in zip(net.parameters(), parameters))
    assert not first.training, "evaluation mode is kept"
    assert first.feat_drop.p == 0.5
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert "parts.body.0: GATConv -> LipschitzNorm(alpha=0.25, per_head=True)" in lines[0]
    # The optimiser that was made before still moves the weights.
    before = net(GRAPH, features()).detach()
    net(GRAPH, features()).square().sum().backward()
    optimizer.step()
    assert not torch.allclose(net(GRAPH, features()), before)
    net.load_state_dict(state)
    assert_close(net(GRAPH, features()), before)


def test_one_layer_under_two_names_of_one_parent():
    conv = dgl.nn.GATConv(4, 2, 2)
    layers = convert(nn.ModuleList([conv, conv]))
    assert layers[0] is layers[1]
    assert type(layers[1]) is lipzoo.nn.GATConv


def test_layers_of_ours_beside_layers_of_dgl():
    """The id of a freed DGL layer may be given to a new object: that must not confuse anything."""
    model = nn.Sequential(
        *(nn.Sequential(dgl.nn.GATConv(4, 2, 2)) for _ in range(20)),
        *(lipzoo.nn.GATConv(4, 2, 2) for _ in range(20)),
        lipzoo.nn.GATConv(4, 2, 2, score_norm={"name": "lipschitz", "alpha": 3.0}),
    )
    convert(model)
    ours = [layer for layer in model.modules() if isinstance(layer, lipzoo.nn.GATConv)]
    assert len(ours) == 41
    assert all(type(layer.score_norm) is LipschitzNorm for layer in ours)
    assert ours[-1].score_norm.alpha == 3.0, "a norm that is there stays"


def test_hooks_of_every_sort_are_kept():
    theirs, calls = dgl.nn.GATConv(4, 2, 2), []
    handles = [
        theirs.register_forward_pre_hook(lambda m, args: calls.append("pre")),
        theirs.register_forward_hook(lambda m, args, out: calls.append("forward")),
        theirs.register_forward_hook(
            lambda m, args, kwargs, out: calls.append(f"forward {sorted(kwargs)}"),
            with_kwargs=True,
        ),
        theirs.register_full_backward_hook(lambda m, grad_in, grad_out: calls.append("backward")),
        theirs.register_full_backward_pre_hook(lambda m, grad_out: calls.append("backward pre")),
    ]
    new = convert(theirs)

    def run():
        calls.clear()
        new(GRAPH, features().requires_grad_(), get_attention=False).sum().backward()
        return calls

    assert run() == ["pre", "forward", "forward ['get_attention']", "backward pre", "backward"]
    for handle in handles:
        handle.remove()
    assert run() == [], "the handles that were given out before work"


class Mine(dgl.nn.GATConv):
    """A user's subclass; what its forward does is unknown."""


def test_a_subclass_is_left_with_a_warning():
    model = nn.Sequential(Mine(4, 2, 2), dgl.nn.GATConv(4, 2, 2))
    with pytest.warns(UserWarning, match="0: Mine is a subclass of a stock layer"):
        lipzoo.lipschitzify(model, verbose=False)
    assert type(model[0]) is Mine
    assert type(model[1]) is lipzoo.nn.GATConv


def test_nothing_to_convert_warns():
    with pytest.warns(UserWarning, match="nothing to convert in Linear"):
        lipzoo.lipschitzify(nn.Linear(2, 2))


def test_twice_is_once():
    model = convert(nn.Sequential(dgl.nn.GATConv(4, 2, 2)))
    layer, norm = model[0], model[0].score_norm
    with pytest.warns(UserWarning, match="nothing to convert"):
        lipzoo.lipschitzify(model)
    assert model[0] is layer
    assert layer.score_norm is norm


def test_a_model_of_the_zoo():
    model = lipzoo.create_model("gat_8", in_feats=4, num_classes=2)
    wanted = lipzoo.create_model("gat_lip_8", in_feats=4, num_classes=2)
    wanted.load_state_dict(model.state_dict())
    convert(model)
    assert_close(model.eval()(GRAPH, features()), wanted.eval()(GRAPH, features()))


def test_a_converted_model_can_be_copied():
    net = convert(Net()).eval()
    other = copy.deepcopy(net)
    assert_close(other(GRAPH, features()), net(GRAPH, features()), rtol=0, atol=0)
    assert other.again is other.parts["also"]


# ------------------------------------------------------- torch.nn.MultiheadAttention


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"bias": False},
        {"add_bias_kv": True, "add_zero_attn": True},
        {"kdim": 6, "vdim": 5},
        {"batch_first": True, "dropout": 0.3},
    ],
    ids=str,
)
def test_multihead_attention_is_converted(arguments):
    theirs = nn.MultiheadAttention(8, 2, **arguments).eval()
    handle = theirs.register_forward_hook(lambda m, args, out: (2 * out[0], out[1]))
    parameters = dict(theirs.named_parameters())
    keys = list(theirs.state_dict())
    sizes = arguments.get("kdim", 8), arguments.get("vdim", 8)
    inputs = [torch.randn(4, 3, size) for size in (8, *sizes)]
    before = theirs(*inputs)[0]
    new = convert(theirs)
    assert type(new) is LipschitzMultiheadAttention
    assert list(new.state_dict()) == keys
    assert all(parameter is parameters[key] for key, parameter in new.named_parameters())
    assert not new.training
    for name in ("dropout", "batch_first", "add_zero_attn", "kdim", "vdim", "embed_dim"):
        assert getattr(new, name) == getattr(theirs, name), name
    assert not torch.allclose(new(*inputs)[0], before)
    new.score_norm = None
    assert_close(new(*inputs)[0], before)
    handle.remove()
    assert_close(2 * new(*inputs)[0], before)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("norm_first", [False, True])
def test_a_transformer_encoder_without_its_fast_path(norm_first, masked):
    """In evaluation without gradients PyTorch's layer reads the weights and skips the module."""
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=norm_first)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's, about nested tensors
        encoder = nn.TransformerEncoder(layer, 2).eval()
    x = torch.randn(3, 4, 8)
    padding = torch.tensor([[False] * 3 + [True]] * 3) if masked else None
    plain = encoder(x, src_key_padding_mask=padding)
    keys = list(encoder.state_dict())
    convert(encoder)
    assert list(encoder.state_dict()) == keys
    slow = encoder(x, src_key_padding_mask=padding)
    with torch.no_grad():
        fast = encoder(x, src_key_padding_mask=padding)
    assert_close(fast, slow, rtol=0, atol=1e-6)
    assert not torch.allclose(slow, plain, atol=1e-3)
    # The layer of its own, by itself.
    with torch.no_grad():
        assert_close(encoder.layers[0](x), encoder.layers[0](x.requires_grad_()).detach())
    slow.sum().backward()
    assert all(p.grad is not None for p in encoder.parameters())


def test_a_decoder_layer_has_two():
    layer = convert(nn.TransformerDecoderLayer(8, 2, 16))
    assert type(layer.self_attn) is type(layer.multihead_attn) is LipschitzMultiheadAttention
    assert layer(torch.randn(4, 1, 8), torch.randn(5, 1, 8)).shape == (4, 1, 8)


class MyAttention(nn.MultiheadAttention):
    """A user's subclass."""


def test_a_subclass_of_multihead_attention_is_left_and_ours_is_kept():
    ours = LipschitzMultiheadAttention(8, 2)
    norm = ours.score_norm
    model = nn.ModuleList([MyAttention(8, 2), ours, nn.MultiheadAttention(8, 2)])
    with pytest.warns(UserWarning, match="0: MyAttention is a subclass of a stock layer"):
        lipzoo.lipschitzify(model, verbose=False)
    assert type(model[0]) is MyAttention
    assert model[1] is ours
    assert ours.score_norm is norm
    assert type(model[2]) is LipschitzMultiheadAttention
