"""Look for a case in which an estimate exceeds its bound: random layers, networks and graphs.

A bound that is wrong is a bug, so this looks where bounds break: features of wildly different
scale, zero rows, attention vectors a thousand times as long as usual, scores on a kink, weights
found by gradient ascent on the ratio of the two.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from lipzoo.attention import Structure
from lipzoo.lipschitz.network import Bound, bound
from lipzoo.models import DeepGAT, DeepGATv2, DeepGraphTransformer
from lipzoo.nn import DotGatConv, GATConv, GATv2Conv, TransformerConv

__all__ = ["Case", "ascend", "jacobian", "local_constants", "random_case"]


@dataclass(frozen=True)
class Case:
    """A module in float64, what it is applied to, and the point.

    Parameters
    ----------
    kind : str
        For the log, such as ``"GATConv"`` or ``"DeepGAT dense"``.
    module : torch.nn.Module
        Called as ``module(graph, feat)``.
    graph : Structure
        The edges.
    feat : Tensor (N, F)
        Float64.
    """

    kind: str
    module: nn.Module
    graph: Structure
    feat: Tensor

    def bound(self) -> Bound:
        return bound(self.module, self.graph)

    def ratios(self) -> tuple[float, float]:
        """Local constant over bound, in the Frobenius norm and per node; at most 1."""
        limit = self.bound()
        frobenius, per_node = local_constants(jacobian(self))
        return frobenius / limit.frobenius, per_node / limit.per_node


def jacobian(case: Case) -> Tensor:
    """All of it, (N_out, D_out, N, F)."""

    def function(x: Tensor) -> Tensor:
        return case.module(case.graph, x).flatten(1)

    with torch.no_grad():
        return torch.func.jacrev(function)(case.feat)


def local_constants(matrix: Tensor) -> tuple[float, float]:
    """Operator norms of a Jacobian (N_out, D_out, N, F): Frobenius, and per node from below."""
    rows, width = matrix.shape[:2]
    if not matrix.numel():
        return 0.0, 0.0
    frobenius = torch.linalg.svdvals(matrix.reshape(rows * width, -1))[0].item()
    # sup over ||x_j|| <= 1 of ||sum_j J_ij x_j||: alternate between the output's direction and
    # the inputs that move it most, for all outputs i at once.
    direction = matrix.sum((2, 3)) + 1e-3
    per_node = 0.0
    for _ in range(12):
        direction = direction / direction.norm(dim=1, keepdim=True).clamp_min(1e-300)
        pulled = torch.einsum("id,idjf->ijf", direction, matrix)
        moved = pulled / pulled.norm(dim=2, keepdim=True).clamp_min(1e-300)
        direction = torch.einsum("idjf,ijf->id", matrix, moved)
        per_node = max(per_node, direction.norm(dim=1).max().item())
    return frobenius, per_node


# ---------------------------------------------------------------------- random cases


class _Draw:
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


def random_case(seed: int) -> Case:
    """A case that the seed decides."""
    draw = _Draw(seed)
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
    return Case(kind, module, graph, _features(draw, graph.num_src, width))


def _graph(draw: _Draw) -> Structure:
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


def _layer(draw: _Draw, kind: str) -> nn.Module:
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
    if kind == "TransformerConv":
        return TransformerConv(in_feats, width, heads, **common)
    common["negative_slope"] = draw.choice([0.2, 0.2, 0.0, 1.0, 1.5, -0.5])
    if kind == "GATConv":
        return GATConv(in_feats, width, heads, **common)
    return GATv2Conv(in_feats, width, heads, share_weights=draw.uniform(0, 1) < 0.4, **common)


def _score_norm(draw: _Draw, kind: str) -> dict:
    if kind in ("TransformerConv", "DotGatConv", "DeepGraphTransformer"):
        return {"name": "dot_lipschitz", "scope": draw.choice(["node", "node", "graph"])}
    alpha = draw.choice([0.25, 0.25, 0.05, 1.0, 4.0])
    return {"name": "lipschitz", "alpha": alpha, "per_head": draw.uniform(0, 1) < 0.5}


def _network(draw: _Draw, kind: str) -> tuple[nn.Module, str]:
    scheme = draw.choice(["none", "residual", "initial", "dense", "jumping"])
    residual: dict[str, Any] = {"name": scheme}
    if scheme == "jumping":
        residual["mode"] = draw.choice(["max", "cat", "mean"])
    if scheme == "initial":
        residual["initial"] = draw.uniform(0, 1)
    heads = draw.integer(1, 2)
    norm = draw.choice([None, None, None, "layernorm", "pairnorm", "pairnorm_si", "batchnorm"])
    kinds = {"DeepGAT": DeepGAT, "DeepGATv2": DeepGATv2}
    model = kinds.get(kind, DeepGraphTransformer)(
        in_feats=draw.integer(1, 5),
        num_classes=draw.integer(0, 3),
        num_layers=draw.integer(1, 3),
        hidden_feats=heads * draw.integer(1, 3),
        num_heads=heads,
        activation=draw.choice(["elu", "relu", "gelu", "leaky_relu", "identity"]),
        score_norm=_score_norm(draw, kind),
        feature_norm=norm,
        residual=residual,
        backend="torch",
    )
    return model, f"{kind} {scheme}" + (f" {norm}" if norm else "")


def _scale_weights(draw: _Draw, module: nn.Module) -> None:
    for name, parameter in module.named_parameters():
        if "attn" in name:
            size = draw.choice([1.0, 1.0, 1e-3, 1e3])
        elif name.endswith("bias"):
            size = draw.choice([0.0, 0.0, 1.0])
            parameter.copy_(draw.normal(*parameter.shape))
        else:
            size = draw.choice([1.0, 1.0, 10.0, 0.1])
        parameter.mul_(size)


def _features(draw: _Draw, nodes: int, width: int) -> Tensor:
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


# --------------------------------------------------------------------- gradient ascent


def ascend(case: Case, steps: int = 20, step: float = 0.2) -> Case:
    """Move features and weights to where the ratio of local constant and bound is larger."""
    best, best_ratio = case, max(case.ratios())
    for _ in range(steps):
        moved = _moved(best, step)
        if moved is None:
            break
        ratio = max(moved.ratios())
        if ratio > best_ratio:
            best, best_ratio, step = moved, ratio, step * 1.2
        else:
            step /= 2
    return best


def _moved(case: Case, step: float) -> Case | None:
    """One step up the logarithm of the local constant; each tensor keeps its length."""
    state = {k: p.detach().clone() for k, p in case.module.named_parameters()}
    names = list(state)
    rows = jacobian(case)
    u, _, v = torch.linalg.svd(rows.reshape(rows.shape[0] * rows.shape[1], -1))
    left, right = u[:, 0], v[0].view_as(case.feat)
    # functional_call leaves its tensors behind in a module that shares weights.
    scratch = copy.deepcopy(case.module)

    def stretch(feat: Tensor, *parameters: Tensor) -> Tensor:
        def function(x: Tensor) -> Tensor:
            named = dict(zip(names, parameters))
            return torch.func.functional_call(scratch, named, (case.graph, x)).flatten()

        return torch.func.jvp(function, (feat,), (right,))[1] @ left

    tensors = (case.feat, *state.values())
    slopes = torch.func.grad(stretch, argnums=tuple(range(len(tensors))))(*tensors)
    moved = [_step(tensor, slope, step) for tensor, slope in zip(tensors, slopes)]
    if not all(tensor.isfinite().all() for tensor in moved):
        return None
    module = _copy_with(case.module, dict(zip(names, moved[1:])))
    return replace(case, module=module, feat=moved[0])


def _step(tensor: Tensor, slope: Tensor, step: float) -> Tensor:
    size, length = slope.norm(), tensor.norm()
    if size == 0 or length == 0 or not size.isfinite():
        return tensor
    moved = tensor + step * length / size * slope
    return moved * (length / moved.norm())


def _copy_with(module: nn.Module, state: dict[str, Tensor]) -> nn.Module:
    other = copy.deepcopy(module)
    other.load_state_dict(state, strict=False)
    return other
