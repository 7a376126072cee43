"""Networks with every option, and graphs to run their files on."""

import copy

import numpy as np
import torch

from lipzoo._dgl import dgl
from lipzoo.models import DeepGAT, DeepGATv2, DeepGraphTransformer

F, C = 3, 4
SIZES = {"num_layers": 2, "hidden_feats": 4, "num_heads": 2}
GAT, ALL = {"score_norm": "lipschitz"}, {"score_norm": {"name": "lipschitz", "per_head": False}}
GT = {"score_norm": "dot_lipschitz"}
#: Its small default makes rounding ten times as large.
NEIGHBORNORM = {"feature_norm": {"name": "neighbornorm", "eps": 1.0}}
#: Together: every score, score norm, feature norm, residual scheme, activation and degree norm.
NETWORKS = {
    "gat": (DeepGAT, GAT),
    "gat_sep": (
        DeepGAT,
        GAT | {"sep": True, "residual": "linear", "input_activation": "identity"} | NEIGHBORNORM,
    ),
    "gat_all_heads": (
        DeepGAT,
        ALL | {"feature_norm": "layernorm", "residual": "dense", "degree_norm": "symmetric"},
    ),
    "gat_plain": (
        DeepGAT,
        NEIGHBORNORM | {"residual": "jumping", "activation": "gelu"},
    ),
    "gatv2": (
        DeepGATv2,
        GAT | {"feature_norm": "pairnorm", "residual": "initial", "activation": "leaky_relu"},
    ),
    "gatv2_reversible": (DeepGATv2, GAT | {"residual": "reversible"}),
    "gatv2_sep": (DeepGATv2, ALL | {"sep": True, "degree_norm": "symmetric"}),
    "gt": (
        DeepGraphTransformer,
        GT | {"feature_norm": "pairnorm_si", "residual": {"name": "jumping", "mode": "mean"}},
    ),
    "gt_graph": (
        DeepGraphTransformer,
        {"score_norm": {"name": "dot_lipschitz", "scope": "graph"}, "feature_norm": "batchnorm"}
        | {"residual": "residual", "degree_norm": "symmetric"},
    ),
    "gt_sep": (
        DeepGraphTransformer,
        GT | {"sep": True, "residual": {"name": "jumping", "mode": "cat"}, "activation": "relu"},
    ),
}


def network(name="gat", **changes):
    """In training mode, with a dropout that a file must leave out; nothing that is added is 0."""
    torch.manual_seed(0)
    kind, options = NETWORKS[name]
    model = kind(F, C, **SIZES | options | changes)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if key.endswith("bias"):
                parameter.normal_()
        for buffer in model.buffers():
            if buffer.is_floating_point():
                buffer.uniform_(0.5, 1.5)
    return model


def random_graphs(number=20):
    """``(feat, edge_index, is_complete)``: edges in any order, some twice; nodes without edges,
    neighbourhoods of zeros. Where it is complete each node has a self-loop."""
    rng = np.random.default_rng(0)
    for case in range(number):
        # In the smallest all rows may be equal; then PairNorm makes rounding as large as a row.
        n = int(rng.integers(12, 60)) if case > 1 else case
        ends = rng.integers(0, max(1, n - n // 4), (2, int(rng.integers(0, 4 * n + 1))))
        edges = np.concatenate([ends, ends[:, : n // 3]], 1)
        if case % 2:
            others = edges[:, edges[0] != edges[1]]
            edges = np.concatenate([others, np.tile(np.arange(n), (2, 1))], 1)
        edges = rng.permutation(edges, axis=1).astype(np.int64)
        feat = rng.standard_normal((n, F)).astype(np.float32)
        if n:
            feat[edges[0, edges[1] == rng.integers(n)]] = 0  # all that a node hears
        yield feat, edges, bool(case % 2)


def reference(model, feat, edge_index, is_complete):
    """By DGL's message passing in float64."""
    exact = copy.deepcopy(model).double().eval()
    exact.add_self_loops = is_complete  # which adds none then
    for layer in exact.layers:
        layer.backend = "dgl"
    graph = dgl.graph(tuple(torch.from_numpy(edge_index)), num_nodes=len(feat))
    with torch.no_grad():
        return exact(graph, torch.from_numpy(feat).double()).numpy()


def assert_right(run, model, graphs):
    """``run(feat, edge_index)`` gives the model's logits, to 1e-5 of the largest."""
    compared = 0
    for feat, edge_index, is_complete in graphs:
        wanted = reference(model, feat, edge_index, is_complete)
        assert np.isfinite(wanted).all()
        made = run(feat, edge_index)
        assert made.dtype == np.float32
        assert made.shape == wanted.shape
        largest = max(1.0, np.abs(wanted).max(initial=0))
        np.testing.assert_allclose(made, wanted, rtol=0, atol=1e-5 * largest)
        compared += made.size
    assert compared > 1000
