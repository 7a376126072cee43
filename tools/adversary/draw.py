"""Random layers, networks and graphs in float64, where bounds may break: features of wildly
different scale, zero rows, attention vectors a thousand times as long as usual, scores on a kink.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from adversary.measure import Case
from lipzoo.attention import Structure
from lipzoo.models import DeepGAT, DeepGATv2, DeepGraphTransformer
from lipzoo.nn import DotGatConv, GATConv, GATv2Conv, TransformerConv

__all__ = ["Draw", "features", "newer_layer_options", "newer_options", "random_case"]

#: The seed of what newer options are drawn from differs by this from that of the rest.
_NEWER = 11


class Draw:
    """Random choices from one generator."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def integer(self, low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=self.generator))

    def choice(self, options: list | tuple) -> Any:
        return options[self.integer(0, len(options) - 1)]

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * torch.rand((), generator=self.generator).item()

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64)


def newer_layer_options(draw: Draw) -> dict[str, Any]:
    """The same for a layer, beside the residual that it may have."""
    newer = newer_options(draw)
    options = {"residual": "linear"} if newer.get("residual") == "linear" else {}
    return options | ({"sep": True} if "sep" in newer else {})


def newer_options(draw: Draw) -> dict[str, Any]:
    """Options of models that came when the searches had begun, from numbers of their own: where
    there are none, a seed's case is what it was."""
    own, options = Draw(draw.generator.initial_seed() ^ _NEWER), {}
    if own.uniform(0, 1) < 0.15:
        options["residual"] = "linear"
    if own.uniform(0, 1) < 0.2:
        options["sep"] = True
    if own.uniform(0, 1) < 0.15:
        options["input_activation"] = own.choice(["identity", "gelu", "relu"])
    if "residual" not in options and own.uniform(0, 1) < 0.1:
        options["residual"] = "reversible"
    return options


def random_case(seed: int) -> Case:
    """A case that the seed decides."""
    draw = Draw(seed)
    graph = _graph(draw)
    kind = draw.choice(
        ["GATConv"] * 4
        + ["GATv2Conv"] * 3
        + ["TransformerConv"] * 3
        + ["DotGatConv"]
        + ["DeepGAT", "DeepGATv2", "DeepGraphTransformer"]
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if kind.startswith("Deep"):
            module, kind = _network(draw, kind)
        else:
            module = _layer(draw, kind)
            norm = module.score_norm
            options = f"alpha={norm.alpha:g}" if hasattr(norm, "alpha") else f"scope={norm.scope}"
            kind = f"{kind} {options}" + (" residual" if module.res_fc is not None else "")
    module = module.double().eval().requires_grad_(False)
    _scale_weights(draw, module)
    if isinstance(module, GATConv):
        graph = graph.with_self_loops()
    width = getattr(module, "in_feats", None) or module.in_src_feats
    return Case(kind, module, graph, features(draw, graph.num_src, width))


def _graph(draw: Draw) -> Structure:
    nodes = draw.integer(1, 7)
    kind = draw.choice(["random", "random", "star", "complete", "multigraph", "loops"])
    if kind == "star":
        leaves = torch.arange(1, max(nodes, 2))
        hub = torch.zeros_like(leaves)
        src, dst = torch.cat([hub, leaves]), torch.cat([leaves, hub])
        nodes = max(nodes, 2)
    elif kind == "complete":
        src, dst = torch.cartesian_prod(torch.arange(nodes), torch.arange(nodes)).T
    elif kind == "loops":
        src = dst = torch.arange(nodes)
    else:
        edges = draw.integer(1, 4 * nodes)
        src, dst = torch.randint(nodes, (2, edges), generator=draw.generator)
        if kind == "random":
            src, dst = torch.unique(torch.stack([src, dst]), dim=1)
    return Structure(src, dst, nodes, nodes)


def _layer(draw: Draw, kind: str) -> nn.Module:
    heads, width = draw.integer(1, 3), draw.integer(1, 4)
    in_feats = draw.integer(1, 5)
    common = {
        "allow_zero_in_degree": True,
        "backend": "torch",
        "score_norm": _score_norm(draw, kind),
    }
    if kind == "DotGatConv":
        return DotGatConv(in_feats, width, heads, **common)
    common["residual"] = draw.uniform(0, 1) < 0.2
    common |= newer_layer_options(draw)
    if kind == "TransformerConv":
        return TransformerConv(in_feats, width, heads, **common)
    common["negative_slope"] = draw.choice([0.2, 0.2, 0.0, 1.0, 1.5, -0.5])
    if kind == "GATConv":
        return GATConv(in_feats, width, heads, **common)
    return GATv2Conv(in_feats, width, heads, share_weights=draw.uniform(0, 1) < 0.4, **common)


def _score_norm(draw: Draw, kind: str) -> dict:
    if kind in ("TransformerConv", "DotGatConv", "DeepGraphTransformer"):
        return {"name": "dot_lipschitz", "scope": draw.choice(["node", "node", "graph"])}
    alpha = draw.choice([0.25, 0.25, 0.05, 1.0, 4.0])
    return {"name": "lipschitz", "alpha": alpha, "per_head": draw.uniform(0, 1) < 0.5}


def _network(draw: Draw, kind: str) -> tuple[nn.Module, str]:
    scheme = draw.choice(["none", "residual", "initial", "dense", "jumping"])
    residual: dict[str, Any] = {"name": scheme}
    if scheme == "jumping":
        residual["mode"] = draw.choice(["max", "cat", "mean"])
    if scheme == "initial":
        residual["initial"] = draw.uniform(0, 1)
    heads = draw.integer(1, 2)
    norm = draw.choice([None, None, None, "layernorm", "pairnorm", "pairnorm_si", "batchnorm"])
    kinds = {"DeepGAT": DeepGAT, "DeepGATv2": DeepGATv2}
    newer = newer_options(draw)
    scheme = newer.get("residual", scheme)
    model = kinds.get(kind, DeepGraphTransformer)(
        in_feats=draw.integer(1, 5),
        num_classes=draw.integer(0, 3),
        num_layers=draw.integer(1, 3),
        hidden_feats=heads * draw.integer(1, 3),
        num_heads=heads,
        activation=draw.choice(["elu", "relu", "gelu", "leaky_relu", "identity"]),
        score_norm=_score_norm(draw, kind),
        feature_norm=norm,
        backend="torch",
        **{"residual": residual} | newer,
    )
    return model, f"{kind} {scheme}" + (f" {norm}" if norm else "")


def _scale_weights(draw: Draw, module: nn.Module) -> None:
    for name, parameter in module.named_parameters():
        if "attn" in name:
            size = draw.choice([1.0, 1.0, 1e-3, 1e3])
        elif name.endswith("bias"):
            size = draw.choice([0.0, 0.0, 1.0])
            parameter.copy_(draw.normal(*parameter.shape))
        else:
            size = draw.choice([1.0, 1.0, 10.0, 0.1])
        parameter.mul_(size)


def features(draw: Draw, nodes: int, width: int) -> Tensor:
    feat = draw.normal(nodes, width)
    kind = draw.choice(["plain", "scales", "zero rows", "aligned", "tied", "tiny"])
    if kind == "scales":
        feat = feat * 10 ** draw.normal(nodes, 1).mul(4)
    elif kind == "zero rows":
        feat[torch.rand(nodes, generator=draw.generator) < 0.5] = 0
    elif kind == "aligned":
        feat = feat[:1] * draw.normal(nodes, 1)
    elif kind == "tied":
        feat = feat[torch.randint(nodes, (nodes,), generator=draw.generator)]
    elif kind == "tiny":
        feat = feat * 1e-6
    return feat
