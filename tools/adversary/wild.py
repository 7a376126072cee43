"""Random cases at the ends of what modules take: every layer, scheme, norm and activation, graphs
and blocks, alpha up to 1e8, attention vectors and features from 1e-30 to 1e30."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from adversary.draw import Draw, features, newer_layer_options, newer_options
from adversary.measure import Case, Slope
from lipzoo.attention import Structure
from lipzoo.models import DeepGAT, DeepGATv2, DeepGraphTransformer
from lipzoo.nn import (
    BatchNorm,
    DotGatConv,
    GATConv,
    GATv2Conv,
    LayerNorm,
    LipschitzMultiheadAttention,
    PairNorm,
    TransformerConv,
)

__all__ = ["wild_case"]

Graph = Structure | list[Structure]


def wild_case(seed: int) -> Case | Slope:
    """A case that the seed decides."""
    draw = Draw(seed)
    make = draw.choice([_layer] * 5 + [_model] * 5 + [_tokens, _norm, _slope])
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        return make(draw)


def _power(draw: Draw, low: float, high: float) -> float:
    return 10 ** draw.uniform(low, high)


def _alpha(draw: Draw) -> float:
    special = [578.0, 592.0, 709.0, 745.2, 1e4, 1e8]
    return draw.choice([0.25, _power(draw, -3, 0), _power(draw, -3, 4), draw.choice(special)])


# --------------------------------------------------------------------------- graphs, blocks


def _graph(draw: Draw) -> Structure:
    nodes = draw.integer(1, 7)
    kind = draw.choice(["random", "random", "star", "complete", "multigraph", "loops", "empty"])
    everyone = torch.arange(nodes)
    if kind == "star":
        hub = torch.zeros_like(everyone)
        src, dst = torch.cat([hub, everyone]), torch.cat([everyone, hub])
    elif kind == "complete":
        src, dst = torch.cartesian_prod(everyone, everyone).T
    elif kind == "loops":
        src = dst = everyone
    elif kind == "empty":
        src = dst = everyone[:0]
    else:
        src, dst = torch.randint(nodes, (2, draw.integer(1, 4 * nodes)), generator=draw.generator)
        if kind == "random":
            src, dst = torch.unique(torch.stack([src, dst]), dim=1)
    return Structure(src, dst, nodes, nodes)


def _block(draw: Draw, num_src: int, num_dst: int, is_full: bool) -> Structure:
    """The first source nodes are the destination nodes."""
    if is_full:
        src, dst = torch.cartesian_prod(torch.arange(num_src), torch.arange(num_dst)).T
    else:
        edges = draw.integer(1, 3 * num_src)
        src = torch.randint(num_src, (edges,), generator=draw.generator)
        dst = torch.randint(num_dst, (edges,), generator=draw.generator)
    return Structure(src, dst, num_src, num_dst)


def _blocks(draw: Draw, number: int) -> list[Structure]:
    """Ever fewer nodes; now and then 101 of them hand over to one."""
    sizes = sorted((draw.integer(1, 12) for _ in range(number + 1)), reverse=True)
    if draw.uniform(0, 1) < 0.5:
        sizes[0], sizes[-1] = 101, 1
    is_full = draw.uniform(0, 1) < 0.7
    return [_block(draw, *pair, is_full) for pair in pairwise(sizes)]


# ------------------------------------------------------------------------ weights, features


def _scale_weights(draw: Draw, module: nn.Module) -> None:
    """Attention vectors and weights of every size, heads and layers alike or not."""
    wild = draw.uniform(0, 1) < 0.5
    for name, parameter in module.named_parameters():
        if "attn" in name:
            size = draw.choice([1.0, 1e-3, 1e3, _power(draw, -30, 30) if wild else 1.0])
            if draw.uniform(0, 1) < 0.3:  # each head its own
                size = size * 10 ** (3 * draw.normal(1, parameter.shape[1], 1))
            if draw.uniform(0, 1) < 0.1:
                size = 0.0
        elif name.endswith("bias"):
            parameter.copy_(draw.normal(*parameter.shape))
            size = draw.choice([0.0, 0.0, 1.0])
        else:
            size = draw.choice([1.0, 1.0, 10.0, 0.1, _power(draw, -6, 6) if wild else 1.0])
        parameter.mul_(size)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d):
            part.running_var.copy_(10 ** (2 * draw.normal(part.num_features)))
            part.running_mean.copy_(draw.normal(part.num_features))


def _wild_features(draw: Draw, nodes: int, width: int) -> Tensor:
    feat = features(draw, nodes, width)
    return feat * draw.choice([1.0, 1.0, 1e-30, 1e30, _power(draw, -30, 30)])


# ------------------------------------------------------------------------------- modules


_ACTIVATIONS: list[Callable[[Draw], nn.Module]] = [
    lambda draw: nn.ReLU(),
    lambda draw: nn.ELU(draw.choice([1.0, 0.3, 5.0, -1.0, -4.0, 0.0])),
    lambda draw: nn.CELU(draw.choice([1.0, 0.01, 30.0, -1.0, -0.2])),
    lambda draw: nn.LeakyReLU(draw.choice([0.2, 0.0, 3.0, -2.0, 1e3])),
    lambda draw: nn.Softplus(
        draw.choice([1.0, 0.1, 30.0, -1.0]), draw.choice([20.0, 0.0, -3.0, 40.0, 200.0])
    ),
    lambda draw: nn.Hardtanh(draw.uniform(-5, 0), draw.uniform(0, 5)),
    lambda draw: nn.GELU(draw.choice(["none", "tanh"])),
    lambda draw: draw.choice([nn.SELU, nn.SiLU, nn.Sigmoid, nn.Tanh, nn.Softsign, nn.ReLU6])(),
]


def _score_norm(draw: Draw, is_dot: bool, is_tame: bool = False) -> dict:
    if is_dot:
        return {"name": "dot_lipschitz", "scope": draw.choice(["node", "node", "graph"])}
    alpha = _power(draw, -3, -0.6) if is_tame else _alpha(draw)
    return {"name": "lipschitz", "alpha": alpha, "per_head": draw.uniform(0, 1) < 0.5}


def _layer(draw: Draw) -> Case:
    cls = draw.choice([GATConv, GATConv, GATv2Conv, GATv2Conv, TransformerConv, DotGatConv])
    is_dot = cls in (TransformerConv, DotGatConv)
    common: dict[str, Any] = {"allow_zero_in_degree": True, "backend": "torch"}
    common["score_norm"] = _score_norm(draw, is_dot)
    if cls is not DotGatConv:
        common["residual"] = draw.uniform(0, 1) < 0.2
        if draw.uniform(0, 1) < 0.2:
            common["activation"] = draw.choice(_ACTIVATIONS)(draw)
        common |= newer_layer_options(draw)
    if not is_dot:
        common["negative_slope"] = draw.choice([0.2, 0.2, 0.0, 1.0, 1.5, -0.5, 50.0])
    heads, width, in_feats = draw.integer(1, 3), draw.integer(1, 4), draw.integer(1, 5)
    if cls in (GATConv, GATv2Conv) and draw.uniform(0, 1) < 0.2:
        in_feats = heads * width
        common["identity_map"] = draw.uniform(0, 1)
    module = cls(in_feats, width, heads, **common).double().eval().requires_grad_(False)
    _scale_weights(draw, module)
    graph = _graph(draw) if draw.uniform(0, 1) < 0.6 else _blocks(draw, 1)[0]
    if cls is GATConv:
        graph = graph.with_self_loops()
    edge_weight = None
    if cls is GATConv and draw.uniform(0, 1) < 0.3:
        edge_weight = draw.normal(graph.num_edges) * _power(draw, -3, 3)
    kind = cls.__name__ + ("" if graph.num_src == graph.num_dst else " block")
    return Case(
        kind + ("" if edge_weight is None else " weighted"),
        module,
        graph,
        _wild_features(draw, graph.num_src, in_feats),
        heads=draw.choice(["concat", "concat", "mean"]),
        edge_weight=edge_weight,
    )


def _model(draw: Draw) -> Case:
    cls = draw.choice([DeepGAT, DeepGATv2, DeepGraphTransformer])
    scheme = draw.choice(["none", "residual", "initial", "dense", "jumping"])
    residual: dict[str, Any] = {"name": scheme}
    if scheme == "jumping":
        residual["mode"] = draw.choice(["max", "cat", "mean"])
    if scheme == "initial":
        residual["initial"] = draw.choice([0.0, 1.0, draw.uniform(0, 1)])
    # Where nothing is wild, bounds are tight, and one that is a little too small shows.
    is_tame = draw.uniform(0, 1) < 0.4
    norms = ["layernorm", "pairnorm", "pairnorm_si", "batchnorm"]
    norm = None if is_tame else draw.choice([None, None, *norms])
    layers, heads = draw.integer(1, 3), draw.integer(1, 2)
    on_blocks = draw.uniform(0, 1) < 0.5
    degrees = "none" if on_blocks else draw.choice(["none", "none", "symmetric"])
    newer = newer_options(draw)
    scheme = newer.get("residual", scheme)
    model = cls(
        in_feats=draw.integer(1, 5),
        num_classes=draw.integer(0, 3),
        num_layers=layers,
        hidden_feats=heads * draw.integer(1, 3),
        num_heads=heads,
        activation="identity"
        if is_tame
        else draw.choice(["elu", "relu", "gelu", "leaky_relu", "identity"]),
        score_norm=_score_norm(draw, cls is DeepGraphTransformer, is_tame),
        feature_norm=norm,
        degree_norm=degrees,
        backend="torch",
        **{"residual": residual} | newer,
    )
    if not is_tame and draw.uniform(0, 1) < 0.2:
        model.activation = draw.choice(_ACTIVATIONS)(draw)
    model = model.double().eval().requires_grad_(False)
    if not is_tame:
        _scale_weights(draw, model)
    graph: Graph = _blocks(draw, layers) if on_blocks else _graph(draw)
    nodes = graph[0].num_src if isinstance(graph, list) else graph.num_src
    words = [cls.__name__, scheme, norm or "", "degrees" if degrees != "none" else ""]
    kind = " ".join(word for word in [*words, "blocks" if on_blocks else ""] if word)
    make = features if is_tame else _wild_features
    return Case(kind, model, graph, make(draw, nodes, model.in_feats))


def _tokens(draw: Draw) -> Case:
    heads = draw.integer(1, 3)
    width = heads * draw.integer(1, 3)
    module = LipschitzMultiheadAttention(
        width,
        heads,
        add_bias_kv=draw.uniform(0, 1) < 0.3,
        add_zero_attn=draw.uniform(0, 1) < 0.3,
    )
    module = module.double().eval().requires_grad_(False)
    _scale_weights(draw, module)
    tokens = draw.integer(1, 7)
    return Case("MultiheadAttention", module, tokens, _wild_features(draw, tokens, width))


def _norm(draw: Draw) -> Case:
    cls = draw.choice([PairNorm, PairNorm, LayerNorm, BatchNorm])
    width = draw.integer(1, 4)
    # PyTorch refuses to run batch norm with a negative eps.
    least = 0.0 if cls is BatchNorm else -1.0
    options: dict[str, Any] = {"eps": draw.choice([1e-12, 1e-5, 1.0, 0.0, least])}
    if cls is PairNorm:
        options.update(scale=draw.uniform(-3, 3), individually=draw.uniform(0, 1) < 0.5)
    module = cls(width, **options).double().eval().requires_grad_(False)
    _scale_weights(draw, module)
    graph = _graph(draw)
    feat = _wild_features(draw, graph.num_src, width) * draw.choice([1.0, 1e-6, 1e-3])
    return Case(cls.__name__, module, graph, feat)


def _slope(draw: Draw) -> Slope:
    module = draw.choice(_ACTIVATIONS)(draw)
    kinks = [0.0, 1.0, -1.0, 2**0.5, 1.4185, 2.3994]
    if isinstance(module, nn.Softplus):
        kinks.append(module.threshold / module.beta)
    if isinstance(module, nn.Hardtanh):
        kinks += [module.min_val, module.max_val]
    around = draw.normal(200) * _power(draw, -3, 1.5)
    points = torch.cat([torch.tensor(kinks, dtype=torch.float64), around])
    return Slope(type(module).__name__, module, points)
