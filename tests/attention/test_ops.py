"""The operations on edges on literal graphs, and which of them ``auto`` means."""

import pytest
import torch

from lipzoo._dgl import dgl
from lipzoo.attention import BACKENDS, Structure, functional, resolve_backend
from lipzoo.attention.ops import DGLOps, TorchOps, make_ops
from lipzoo.errors import ConfigError
from lipzoo.nn import GATConv

X32 = torch.zeros(1)


@pytest.fixture(params=["dgl", "torch"])
def ops_on(request):
    """``ops_on(src, dst, num_nodes)`` of each backend that is made of such operations."""

    def build(src, dst, num_nodes):
        src, dst = (torch.tensor(ends, dtype=torch.long) for ends in (src, dst))
        return make_ops(Structure(src, dst, num_nodes, num_nodes), request.param, X32)

    return build


def test_values_on_a_literal_graph(ops_on):
    """0→2, 1→2, 2→0, and nothing reaches 1."""
    ops = ops_on([0, 1, 2], [2, 2, 0], 3)
    u, v = torch.tensor([[1.0], [-2.0], [3.0]]), torch.tensor([[10.0], [20.0], [30.0]])
    assert ops.u_add_v(u, v).tolist() == [[31.0], [28.0], [13.0]]
    assert ops.u_dot_v(u.unsqueeze(1), v.unsqueeze(1)).tolist() == [[30.0], [-60.0], [30.0]]
    assert ops.copy_v(v).tolist() == [[30.0], [30.0], [10.0]]
    assert ops.max_in(u).tolist() == [[3.0], [0.0], [1.0]]
    weights = ops.edge_softmax(torch.tensor([[0.0], [0.0], [5.0]]))
    assert weights.tolist() == [[0.5], [0.5], [1.0]]
    assert ops.u_mul_e_sum(u.unsqueeze(1), weights).flatten().tolist() == [3.0, 0.0, -0.5]


def test_the_largest_may_be_negative(ops_on):
    assert ops_on([0, 1], [2, 2], 3).max_in(torch.tensor([[-5.0], [-3.0], [0.0]]))[2] == -3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_gradient_of_a_tied_maximum_goes_to_one_in_edge(ops_on, dtype):
    """Nodes 1, 0, 2 reach 3 in this order; 0 and 1 are equally large."""
    u = torch.tensor([[2.0], [2.0], [1.0], [0.0]], requires_grad=True, dtype=dtype)
    ops = ops_on([1, 0, 2], [3, 3, 3], 4)
    ops.max_in(u).sum().backward()
    first, other = [0.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]
    # DGL's float32 kernel (libxsmm) takes the last one, where the CPU has it.
    dgl_float32 = isinstance(ops, DGLOps) and dtype == torch.float32
    assert u.grad.flatten().tolist() in ([first, other] if dgl_float32 else [first])


def test_each_column_has_its_own_maximum(ops_on):
    u = torch.tensor([[1.0, 4.0], [2.0, 3.0], [0.0, 0.0]], requires_grad=True)
    top = ops_on([0, 1], [2, 2], 3).max_in(u)
    assert top[2].tolist() == [2.0, 4.0]
    top.sum().backward()
    assert u.grad.tolist() == [[0.0, 1.0], [1.0, 0.0], [0.0, 0.0]]


def test_no_edges(ops_on):
    ops = ops_on([], [], 2)
    assert ops.max_in(torch.ones(2, 1)).tolist() == [[0.0], [0.0]]
    assert ops.edge_softmax(torch.zeros(0, 1)).shape == (0, 1)
    assert ops.u_add_v(torch.ones(2, 1), torch.ones(2, 1)).shape == (0, 1)
    assert ops.u_mul_e_sum(torch.ones(2, 1, 3), torch.zeros(0, 1)).tolist() == [[[0.0] * 3]] * 2


def test_softmax_of_huge_scores(ops_on):
    weights = ops_on([0, 1, 2], [2, 2, 0], 3).edge_softmax(torch.tensor([[1e4], [1e4], [-1e4]]))
    assert weights.tolist() == [[0.5], [0.5], [1.0]]


# ---------------------------------------------------------------- which backend


def kind_of_ops(backend, tensor):
    nodes = torch.tensor([0], device=tensor.device)
    return type(make_ops(Structure(nodes, nodes, 1, 1), backend, tensor))


@pytest.mark.parametrize("backend", ["auto", "fused"])
@pytest.mark.parametrize(
    ("tensor", "wanted"),
    [
        (X32, DGLOps),
        (X32.double(), DGLOps),
        (X32.bfloat16(), TorchOps),
        (X32.half(), TorchOps),
        (X32.to("meta"), TorchOps),
    ],
    ids=["float32", "float64", "bfloat16", "float16", "other device"],
)
def test_dgl_is_taken_where_dgl_can(tensor, wanted, backend):
    assert kind_of_ops(backend, tensor) is wanted


def test_the_operations_that_are_asked_for():
    assert kind_of_ops("torch", X32) is TorchOps
    assert kind_of_ops("dgl", X32.bfloat16()) is DGLOps


@pytest.mark.parametrize("transform", [torch.func.vmap, torch.func.jacrev, torch.func.jacfwd])
def test_torch_is_taken_inside_transforms(transform):
    seen = []
    transform(lambda x: seen.append(kind_of_ops("auto", x)) or x * 1)(X32)
    assert seen == [TorchOps]
    assert kind_of_ops("auto", X32) is DGLOps


def test_the_variable_decides_what_auto_means(monkeypatch):
    monkeypatch.delenv("LIPZOO_BACKEND", raising=False)
    assert resolve_backend("auto") == "auto"
    for name in BACKENDS:
        monkeypatch.setenv("LIPZOO_BACKEND", name)
        assert resolve_backend("auto") == name
        assert [resolve_backend(b) for b in BACKENDS] == [*BACKENDS], "an argument goes first"
    monkeypatch.setenv("LIPZOO_BACKEND", "")
    assert resolve_backend("auto") == "auto"


def test_the_variable_reaches_the_layers(monkeypatch):
    layer, graph = GATConv(2, 1, 1), dgl.graph(([0], [0]))
    used = []
    monkeypatch.setattr(functional, "make_ops", lambda s, b, x: used.append(b) or make_ops(s, b, x))
    for name in ("torch", "dgl"):
        monkeypatch.setenv("LIPZOO_BACKEND", name)
        layer(graph, torch.rand(1, 2))
    assert used == ["torch", "dgl"]


def test_unknown_backends(monkeypatch):
    with pytest.raises(ConfigError, match=r"backend: no backend 'trch'; did you mean 'torch'\?"):
        resolve_backend("trch")
    monkeypatch.setenv("LIPZOO_BACKEND", "dlg")
    with pytest.raises(ConfigError, match="LIPZOO_BACKEND: no backend 'dlg'; did you mean 'dgl'"):
        resolve_backend("auto")
