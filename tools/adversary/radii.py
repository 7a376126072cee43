"""Look for a node that changes its class inside its certified radius."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import lipzoo
from adversary.draw import Draw, newer_options
from lipzoo.attention import Structure
from lipzoo.lipschitz import attack, robustness
from lipzoo.models import DeepGAT, DeepGATv2, DeepGraphTransformer

KINDS = {"gat": DeepGAT, "gatv2": DeepGATv2, "gt": DeepGraphTransformer}
#: Just inside; attacks at the radius itself differ from the certificate by their own rounding.
INSIDE = 0.999


@dataclass(frozen=True)
class Trial:
    """One node at one radius."""

    kind: str
    case: int
    node: int
    method: str
    radius: float
    margin: float
    margin_found: float
    flipped: bool


@dataclass(frozen=True)
class Fault:
    """An exception of the library where there is none to be."""

    case: int
    fault: str


# -------------------------------------------------------------------------------- cases


def make_case(seed: int) -> tuple[str, nn.Module, Structure, Tensor]:
    """Kind, model, graph and features that the seed decides."""
    draw = Draw(seed)
    torch.manual_seed(seed)
    kind = draw.choice(["random", "random", "trained", "trained", "saturated", "large logits"])
    if kind == "saturated":
        return kind, *saturated(draw)
    if kind == "large logits":
        return kind, *large_logits(draw)
    graph = random_graph(draw)
    feat = random_features(draw, graph.num_src, draw.integer(1, 4))
    model, name = random_model(draw, feat.shape[1])
    if kind == "trained":
        train(model, graph, feat, draw)
    with torch.no_grad():
        sharpen(model, draw)
    return f"{kind} {name}", model.eval().requires_grad_(False), graph, feat


def random_graph(draw: Draw) -> Structure:
    nodes = draw.integer(2, 12)
    if draw.integer(0, 3) == 0:
        leaves = torch.arange(1, nodes)
        src, dst = torch.cat([leaves, leaves * 0]), torch.cat([leaves * 0, leaves])
    else:
        edges = draw.integer(1, 4 * nodes)
        src, dst = torch.randint(nodes, (2, edges), generator=draw.generator)
    return Structure(src, dst, nodes, nodes)


def random_features(draw: Draw, nodes: int, width: int) -> Tensor:
    feat = draw.normal(nodes, width)
    kind = draw.choice(["plain", "plain", "scales", "zero rows", "tied", "tiny"])
    if kind == "scales":
        return feat * 10 ** draw.normal(nodes, 1).mul(2)
    if kind == "zero rows":
        feat[torch.rand(nodes, generator=draw.generator) < 0.5] = 0
    elif kind == "tied":
        feat = feat[torch.randint(nodes, (nodes,), generator=draw.generator)]
    elif kind == "tiny":
        feat = feat * 10 ** draw.uniform(-8, -2)
    return feat


def random_model(draw: Draw, in_feats: int) -> tuple[nn.Module, str]:
    kind, scheme = draw.choice(list(KINDS)), draw.choice([*"NRIDJ"])
    residual = {
        "N": "none",
        "R": "residual",
        "I": {"name": "initial", "initial": draw.uniform(0, 1)},
        "D": "dense",
        "J": {"name": "jumping", "mode": draw.choice(["max", "cat", "mean"])},
    }[scheme]
    score_norm = None
    if draw.integer(0, 1):
        score_norm = {"name": "lipschitz", "alpha": draw.choice([0.05, 0.25, 1.0, 4.0, 100.0])}
        if kind == "gt":
            score_norm = {"name": "dot_lipschitz", "scope": draw.choice(["node", "graph"])}
    norms = [None, None, "layernorm", "batchnorm", "pairnorm", "pairnorm_si", "neighbornorm"]
    heads, feature_norm = draw.integer(1, 2), draw.choice(norms)
    model = KINDS[kind](
        in_feats,
        draw.integer(2, 4),
        draw.integer(1, 3),
        hidden_feats=heads * draw.integer(1, 3),
        num_heads=heads,
        activation=draw.choice(["elu", "relu", "gelu", "leaky_relu", "identity"]),
        score_norm=score_norm,
        feature_norm=feature_norm,
        degree_norm=draw.choice(["none", "none", "none", "symmetric"]),
        backend="torch",
        **{"residual": residual} | newer_options(draw),
    )
    for layer in model.layers:
        if hasattr(layer, "leaky_relu"):
            layer.leaky_relu.negative_slope = draw.choice([0.2, 0.2, 0.0, 1.5, -0.5])
    return model.double(), f"{kind} {'plain' if score_norm is None else 'norm'}"


def train(model: nn.Module, graph: Structure, feat: Tensor, draw: Draw) -> None:
    """To labels that say nothing, for some steps."""
    labels = torch.randint(model.num_classes, (len(feat),), generator=draw.generator)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.05)
    model.train()
    for _ in range(20):
        loss = nn.functional.cross_entropy(model(graph, feat), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def sharpen(model: nn.Module, draw: Draw) -> None:
    """Attention vectors, queries and keys up to 1e4 times as large; the rest a little."""
    size = 10 ** draw.uniform(-1, 4)
    for name, parameter in model.named_parameters():
        if "attn" in name or "query" in name or "key" in name:
            parameter *= size
        elif name.endswith("weight") and parameter.dim() == 2:
            parameter *= draw.choice([0.3, 1.0, 1.0, 3.0])


def saturated(draw: Draw) -> tuple[nn.Module, Structure, Tensor]:
    """A node that reads a share of another's value until its query turns, then all or nothing."""
    width = draw.integer(2, 4)
    model = DeepGraphTransformer(
        width, 2, 1, width, 1, activation="identity", backend="torch"
    ).double()
    model.eval().requires_grad_(False)
    turn = torch.linalg.qr(draw.normal(width, width))[0]
    conv, size = model.layers[0], 10 ** draw.uniform(3, 8)
    share = draw.uniform(0.55, 0.95)

    def weight(row: int, column: int, factor: float) -> Tensor:
        matrix = torch.zeros(width, width, dtype=torch.float64)
        matrix[row, column] = factor
        return matrix

    model.input.weight.copy_(turn.T)
    model.input.bias.zero_()
    conv.fc_query.weight.copy_(weight(0, 0, 1.0))
    conv.fc_key.weight.copy_(weight(0, 1, size))
    conv.fc_value.weight.copy_(weight(0, 1, 1.0))
    conv.bias.zero_()
    model.head.weight.zero_()
    model.head.weight[0, 0] = 1.0
    model.head.bias.copy_(torch.tensor([-share * draw.uniform(0.0, 0.2), 0.0]))
    nodes = draw.integer(3, 6)
    feat = torch.zeros(nodes, width, dtype=torch.float64)
    feat[0, 0] = math.log(share / (1 - share)) * math.sqrt(width) / size
    feat[1, 1] = 1.0
    return model, Structure(torch.tensor([1]), torch.tensor([0]), nodes, nodes), feat @ turn.T


def large_logits(draw: Draw) -> tuple[nn.Module, Structure, Tensor]:
    """Nodes that see themselves alone, so that bounds are tight, under logits whose difference is
    mostly rounding."""
    kind = draw.choice(list(KINDS))
    norm = "dot_lipschitz" if kind == "gt" else "lipschitz"
    model = KINDS[kind](1, 2, 1, 1, 1, activation="identity", score_norm=norm, backend="torch")
    model = model.double()
    model.eval().requires_grad_(False)
    model.head.bias += 10 ** draw.uniform(10, 16)
    nodes = draw.integer(2, 6)
    loops = torch.arange(nodes)
    return model, Structure(loops, loops, nodes, nodes), draw.normal(nodes, 1)


# ------------------------------------------------------------------------------- attacks


def run_case(seed: int) -> list[Trial | Fault]:
    torch.set_num_threads(1)
    kind, model, graph, feat = make_case(seed)
    trials: list[Trial | Fault] = []
    try:
        trials.extend(attacked(kind, seed, model, graph, feat, Draw(seed + 1), nodes=6))
    except Exception as fault:  # any: the search goes on, and this is a finding
        trials.append(Fault(seed, f"{kind}: {type(fault).__name__}: {fault}"[:500]))
    return trials


def attacked(
    kind: str, case: int, model: nn.Module, graph, feat: Tensor, draw: Draw, nodes: int
) -> Iterator[Trial]:
    """Some nodes at the radii of both methods."""
    done: set[tuple[int, float]] = set()
    for method in ("local", "global") if case % 4 == 0 else ("local",):
        found = robustness(model, graph, feat, method=method, points=16)
        order = torch.randperm(len(feat), generator=draw.generator).tolist()
        certified = [node for node in order if found.radius[node] > 0][:nodes]
        for node in certified:
            radius = found.radius[node].item() * INSIDE
            if (node, radius) in done:
                continue
            done.add((node, radius))
            result = attack(
                model, graph, feat, node, radius, steps=6, directions=6, seed=case % 2**31
            )
            yield Trial(
                kind,
                case,
                node,
                method,
                radius,
                found.margin[node].item(),
                result.margin.item(),
                bool(result.flipped),
            )


def attacked_pretrained(name: str, seed: int, nodes: int) -> list[Trial]:
    model = lipzoo.load_pretrained(name)
    data = model.card.dataset
    task = lipzoo.load_dataset(data.name, **data.options)
    model = model.double().eval().requires_grad_(False)
    return list(
        attacked(
            f"pretrained {name}", seed, model, task.graph, task.feat.double(), Draw(seed), nodes
        )
    )
