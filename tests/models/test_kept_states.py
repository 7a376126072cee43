"""A state lives as long as the residual scheme reads it: inference of any depth takes the same."""

import numpy as np
import pytest
import torch
from graph_zoo import homogeneous
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from lipzoo._allocations import Trace, record
from lipzoo._dgl import dgl
from lipzoo.models import DeepGAT
from lipzoo.nn.residual import RESIDUAL_SCHEMES, NoResidual, Residual, mean_of

#: Schemes whose head reads every state.
READ_ALL = ["dense", {"name": "jumping", "mode": "mean"}, {"name": "jumping", "mode": "cat"}]
FLAT = sorted(set(RESIDUAL_SCHEMES) - {"dense"})
WIDTH = 8


class MeanOfAll(Residual):
    def output(self, states):
        return mean_of(states)


class FirstRead:
    """Not a scheme: what is mixed into one."""

    def input(self, states):
        return states[0]


class Mixed(FirstRead, NoResidual):
    pass


EACH = pytest.mark.parametrize("residual", [*FLAT, *READ_ALL, MeanOfAll, Mixed], ids=str)


def features(rows=10):
    return torch.randn(rows, 5, generator=torch.Generator().manual_seed(1))


def make(residual, num_layers=7, **options):
    torch.manual_seed(0)
    sizes = {"in_feats": 5, "num_classes": 3, "hidden_feats": WIDTH, "num_heads": 2}
    options = {"score_norm": "lipschitz", "backend": "torch"} | options
    return DeepGAT(**sizes, num_layers=num_layers, residual=residual, **options).eval()


class LiveNumbers(TorchDispatchMode):
    """The most numbers in living tensors at once, of all that were computed within."""

    def __init__(self, given):
        super().__init__()
        self.living, self.most = {}, 0
        self.given = {tensor.untyped_storage().data_ptr() for tensor in given}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else [out]:
            if not isinstance(tensor, torch.Tensor):
                continue
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in self.given:  # not a view of a parameter
                self.living[StorageWeakRef(storage)] = storage.nbytes() // 4
        self.living = {ref: n for ref, n in self.living.items() if not ref.expired()}
        self.most = max(self.most, sum(self.living.values()))
        return out


def most_numbers(residual, num_layers):
    model, graph, feat = make(residual, num_layers), homogeneous(), features()
    with torch.no_grad():
        model(graph, feat)  # what is kept beside the graph
        with LiveNumbers([feat, *model.parameters()]) as live:
            model(graph, feat)
    return live.most


@pytest.mark.parametrize("residual", FLAT)
def test_depth_takes_no_more(residual):
    assert most_numbers(residual, 32) == most_numbers(residual, 8)


@pytest.mark.parametrize("residual", [*READ_ALL, MeanOfAll], ids=str)
def test_all_states_are_there_where_the_head_reads_them(residual):
    state = features().shape[0] * WIDTH
    assert most_numbers(residual, 32) - most_numbers(residual, 8) >= 24 * state


def test_a_layer_takes_what_it_computes():
    """Its input, its projection, what attention gives, and what is behind; edges beside them."""
    edges = homogeneous().num_edges() + homogeneous().num_nodes()
    assert most_numbers("none", 8) < features().shape[0] * WIDTH * 5 + edges * (WIDTH + 2 * 8)


@pytest.mark.parametrize("residual", ["none", "residual", "initial", "linear", "reversible"])
def test_a_fused_pass_takes_less_than_five_states(residual):
    """64 wide, 8 heads: the states that are read, projection and output (256 bytes a node each),
    and 160 bytes of numbers of heads."""
    nodes = 3_000
    ring = torch.arange(nodes)
    graph = dgl.graph(
        (torch.cat([ring, ring]), torch.cat([(ring + 1) % nodes, (ring + 3) % nodes]))
    )
    sizes = {"in_feats": 64, "num_classes": 3, "hidden_feats": 64, "num_heads": 8}
    options = {"score_norm": "lipschitz", "backend": "fused", "num_layers": 8}
    model, feat = DeepGAT(**sizes, **options, residual=residual).eval(), torch.randn(nodes, 64)
    with torch.no_grad():
        model(graph, feat)  # compiles, and makes the index
        events, made = record(lambda: model(graph, feat))
    most = Trace(events, np.array(made)[:, None]).peak()
    kept = 1 if residual in ("none", "linear") else 2
    assert most < nodes * ((kept + 2) * 256 + 160) + 10_000
    assert most < 1_200 * nodes


@EACH
def test_the_head_reads_the_same(residual):
    model, graph, feat = make(residual), homogeneous(), features()
    with torch.no_grad():
        expected = model.residual.output(model.forward_intermediates(graph, feat))
        assert torch.equal(model.forward_features(graph, feat), expected)
        logits, attention = model(graph, feat, return_attention=True)
        assert torch.equal(logits, model.head(expected))
        assert len(attention) == 7
    assert torch.equal(model.forward_features(graph, feat), expected)


@EACH
def test_the_head_reads_the_same_on_blocks(residual):
    ring = torch.arange(40)
    graph = dgl.graph((torch.cat([ring, ring]), torch.cat([(ring + 1) % 40, (ring + 3) % 40])))
    sampler = dgl.dataloading.MultiLayerFullNeighborSampler(7)
    inputs, seeds, blocks = sampler.sample(graph, torch.tensor([3, 8]))
    assert len(inputs) > 10
    model = make(residual)
    with torch.no_grad():
        feat = features(40)
        found = model(blocks, feat[inputs])
        torch.testing.assert_close(found, model(graph, feat)[seeds])
        states = model.forward_intermediates(blocks, feat[inputs])
        assert torch.equal(found, model.head(model.residual.output(states)))


@EACH
def test_gradients_are_those_of_all_states(residual):
    """Ties included, of which there are many behind a ReLU."""
    model, graph, feat = make(residual, activation="relu"), homogeneous(), features()
    wanted = list(model.parameters())
    states = model.forward_intermediates(graph, feat)
    found, expected = (
        torch.autograd.grad(out.square().sum(), wanted, allow_unused=True)
        for out in (model(graph, feat), model.head(model.residual.output(states)))
    )
    for one, other in zip(found, expected):
        assert (one is None) == (other is None)
        if one is None:  # what only layers read that the head does not
            continue
        # The reversible one finds its states again.
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
