"""A small graph unlike Cora, whose neighbours differ, and models with the options for such."""

import numpy as np
import torch

from lipzoo._dgl import dgl
from lipzoo.models import DeepGAT, DeepGATv2, DeepGraphTransformer

KINDS = {
    "gat": (DeepGAT, "lipschitz"),
    "gatv2": (DeepGATv2, "lipschitz"),
    "gt": (DeepGraphTransformer, "dot_lipschitz"),
}
OPTIONS = {
    "linear": {"residual": "linear"},
    "input": {"input_activation": "identity"},
    "sep": {"sep": True},
    "all": {"sep": True, "residual": "linear", "input_activation": "identity"},
}


def heterophilous():
    """10 nodes of two sorts, most edges between them; 2→7 twice, a self-loop at 4, nothing at 9."""
    src = [0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 2, 2, 2, 4, 8, 0, 1, 3]
    dst = [5, 5, 6, 7, 8, 0, 2, 3, 4, 6, 7, 7, 8, 4, 1, 1, 8, 6]
    return dgl.graph((src, dst), num_nodes=10)


def features(seed=0):
    """Two of them; node 3 has none."""
    generator = torch.Generator().manual_seed(seed)
    feat = torch.randn(10, 2, generator=generator, dtype=torch.float64)
    feat[3] = 0
    return feat


def adjacency():
    src, dst = (ends.numpy() for ends in heterophilous().edges(order="eid"))
    matrix = np.zeros((10, 10))
    np.add.at(matrix, (dst, src), 1)
    return matrix


def make(kind="gat", option="linear", seed=0, **changes):
    torch.manual_seed(seed)
    cls, norm = KINDS[kind]
    sizes = {"num_layers": 3, "hidden_feats": 4, "num_heads": 2, "score_norm": norm}
    model = cls(2, 3, **sizes | OPTIONS[option] | changes).double().eval()
    with torch.no_grad():  # nothing that is added is zero
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_()
    return model
