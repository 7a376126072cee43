"""What goes on within a model, layer by layer, as parts of a report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lipzoo import plots
from lipzoo._memory import available_memory, shown_bytes
from lipzoo._page import Picture, Section, Table, cell
from lipzoo._torch import evaluating
from lipzoo.attention import Structure
from lipzoo.errors import LipzooError
from lipzoo.lipschitz import certify, gradient_flow
from lipzoo.lipschitz.certificate import without_radii
from lipzoo.models import DeepAttentionNet
from lipzoo.report.subject import Absent, Subject
from lipzoo.training.metrics import model_feat

__all__ = ["attention", "bound", "entropy", "gradients"]

#: Nodes whose attention is drawn where none are named.
_DRAWN = 3
#: Edges times layers up to which radii are certified unasked: about a minute on one core.
_CERTIFIED = 350_000
#: Numbers an edge, a head and a layer that a backward pass holds, about.
_HELD = 8


class _AttentionSeen(list):
    """Takes the attention weights (E', H) of each layer, and keeps what is asked of them.

    Of a deep model on a large graph they are no small thing together.
    """

    def __init__(self, structure: Structure, nodes: list[int]) -> None:
        super().__init__()
        self.structure, self.nodes = structure, nodes
        dst = structure.dst.cpu()
        self.edges = [(dst == node).nonzero().flatten() for node in nodes]
        self.entropies: list[float] = []
        #: By layer and node, the mean over the heads of the weight of each in-edge.
        self.weights: list[list[Tensor]] = []

    def append(self, weights: Tensor) -> None:
        """Look at the weights of the next layer."""
        reached = (self.structure.in_degrees > 0).to(weights.device)
        each = plots.attention_entropy(self.structure, weights)[reached]
        self.entropies.append(each.mean().item() if each.numel() else float("nan"))
        mean = weights.detach().double().mean(1).cpu()
        self.weights.append([mean[edges] for edges in self.edges])


def _attention_of(subject: Subject, nodes: Sequence[int] = ()) -> _AttentionSeen:
    """Seen in one forward pass, which serves both parts: of ``nodes`` the weights too."""
    seen = subject.attention
    if seen is None or (nodes and nodes != seen.nodes):
        model, task = _attending(subject), subject.task
        feat = model_feat(model, task)
        seen = _AttentionSeen(model.structures(task.graph, feat)[0], list(nodes))
        with evaluating(model), torch.no_grad():
            model.run(task.graph, feat, seen)
        subject.attention = seen
    return seen


def _attending(subject: Subject) -> DeepAttentionNet:
    if not isinstance(subject.model, DeepAttentionNet):
        kind = type(subject.model).__name__
        raise Absent(
            f"{kind} hands out no attention weights and no features between its layers; those of "
            "lipzoo.models.DeepAttentionNet do"
        )
    return subject.model


def attention(subject: Subject) -> Section:
    """The in-neighbours of some nodes and their attention in the first and the last layer."""
    model = _attending(subject)
    nodes, why = _chosen(subject)
    seen = _attention_of(subject, nodes.tolist())
    layers = sorted({0, model.num_layers - 1})
    classes, of = _classes(subject)
    src, pictures, tables, facts = seen.structure.src.cpu(), [], [], {}
    for row, node in enumerate(nodes.tolist()):
        near = src[seen.edges[row]]
        name = str(subject.ids[node])
        if not len(near):
            facts[name] = "no node reaches it"
            continue
        names = [subject.ids[each] for each in near.tolist()]
        around = None if classes is None else classes[[node, *near.tolist()]].tolist()
        for layer in layers:
            weights, number = seen.weights[layer][row], layer + 1
            if not weights.isfinite().all():
                raise Absent("the attention weights are NaN: the network diverged")
            title = f"node {name}, layer {number}"
            file = f"attention_{row + 1}_{'first' if layer == 0 else 'last'}"
            axes = plots.attention(subject.ids[node], names, weights, classes=around, title=title)
            most = float(weights.max())
            alt = f"Attention of {title}: {len(near):,} in-edges, the largest weight {most:.3f}."
            pictures.append(Picture(file, axes, alt))
        order = seen.weights[layers[-1]][row].argsort(descending=True, stable=True)[:12].tolist()
        heads = ("in-neighbour", *(f"layer {layer + 1}" for layer in layers))
        rows = [
            (
                "itself" if int(near[i]) == node else str(names[i]),
                *(f"{seen.weights[layer][row][i]:.4f}" for layer in layers),
            )
            for i in order
        ]
        some = f", the {len(order)} with the most attention of {len(near):,}"
        some = some if len(order) < len(near) else ""
        tables.append(Table(f"Attention of node {name}{some}", heads, rows))
        facts[name] = {
            f"layer_{layer + 1}": {str(names[i]): float(seen.weights[layer][row][i]) for i in order}
            for layer in layers
        }
    if not pictures:
        raise Absent("no edge reaches the nodes that were chosen, and the model adds no self-loops")
    words = (
        f"How much of the attention of a node each of its in-neighbours gets, mean over the "
        f"{model.num_heads} heads; widths are relative to the widest arrow. Nodes: {why}. {of}"
    )
    return Section("attention", "Attention around nodes", words, pictures, tables, facts)


def _chosen(subject: Subject) -> tuple[Tensor, str]:
    """The nodes to draw, and why these."""
    if len(subject.chosen):
        return torch.as_tensor(subject.chosen), "those that were asked for"
    mask, whose = subject.shown
    candidates = mask.nonzero().flatten()
    degrees = plots.node_degrees(subject.task.graph)[candidates]
    # One node or hundreds around it make no picture.
    fit = (degrees >= 3) & (degrees <= 12)
    fit = fit if fit.any() else degrees > 0
    candidates = candidates[fit] if fit.any() else candidates
    if subject.multilabel or not subject.known[candidates].all():
        return candidates[:_DRAWN], f"the first {whose} ones with some in-neighbours"
    margin = subject.probability[candidates].amax(1)
    right = subject.right[candidates]
    picked: dict[int, None] = {}
    for group in (right, ~right):
        if group.any():
            picked[int(candidates[group][margin[group].nan_to_num(-1).argmax()])] = None
    for node in candidates[margin.nan_to_num(-1).argsort(stable=True)].tolist():
        if len(picked) < _DRAWN:
            picked[node] = None
    why = (
        f"of the {whose} ones with some in-neighbours the most surely right, the most surely wrong "
        "(where there is one), and the least sure"
    )
    return torch.tensor(list(picked)), why


def _classes(subject: Subject) -> tuple[Tensor | None, str]:
    """Classes of all nodes, -1 for none, and what the colours say."""
    if subject.multilabel:
        return None, "Grey: a node may have several labels."
    if not subject.known.any():
        classes, of = subject.logits.argmax(1), "predicted"
    else:
        classes, of = subject.labels.long(), "true"
    return classes, (
        f"Blue: the {of} class of the node in the middle; orange: another one; grey: unknown."
    )


def entropy(subject: Subject) -> Section:
    """Entropy of the attention by layer, beside that of uniform attention."""
    model = _attending(subject)
    seen = _attention_of(subject)
    degrees = seen.structure.in_degrees
    reached = degrees[degrees > 0].double()
    if not len(reached):
        raise Absent("no edge reaches any node, and the model adds no self-loops")
    uniform = float(reached.log().mean())
    rows = [
        {"layer": f"layer_{i}", "entropy": value if value == value else None}
        for i, value in enumerate(seen.entropies, 1)
    ]
    if all(row["entropy"] is None for row in rows):
        raise Absent("the attention weights are NaN: the network diverged")
    none = {"layer": "input", "entropy": None}
    flat = [{**row, "entropy": uniform} for row in rows]
    flows = {"uniform attention": [none, *flat], "measured": [none, *rows]}
    axes = plots.by_layer(flows, "entropy", words="entropy of attention (nats)")
    bottom = min(row["entropy"] for row in rows if row["entropy"] is not None)
    axes.set_ylim(bottom=0, top=1.1 * max(uniform, bottom, 0.1))
    share = [
        row["entropy"] / uniform if uniform and row["entropy"] is not None else None for row in rows
    ]
    lines = [
        (row["layer"].replace("_", " "), cell(row["entropy"]), cell(of))
        for row, of in zip(rows, share)
    ]
    words = (
        f"Mean over the {len(reached):,} nodes that an edge reaches (self-loops included, as the "
        f"model sees them) and the {model.num_heads} heads: 0 where a node attends to one edge "
        f"alone, and at most log k for k in-edges, on average {uniform:.3f}, where attention is "
        "uniform."
    )
    alt = f"Entropy of attention by layer, at most {uniform:.3f} nats."
    table = Table("Entropy by layer", ("layer", "nats", "of uniform"), lines)
    facts = {"uniform": uniform, "layers": rows}
    picture = Picture("entropy", axes, alt)
    return Section("entropy", "Attention entropy by layer", words, (picture,), (table,), facts)


def gradients(subject: Subject) -> Section:
    """Norm of the gradient of the loss at each layer's output."""
    model, task = _attending(subject), subject.task
    labels = subject.labels
    split = "train" if subject.mask_of("train").any() else "all"
    mask = subject.mask_of(split)
    needed = 4 * _HELD * model.num_layers * model.num_heads * task.num_edges
    free = available_memory()
    if free is not None and needed > free // 2:
        raise Absent(
            f"a backward pass over the whole graph would need about {shown_bytes(needed)}, and "
            f"there are {shown_bytes(free)}"
        )
    where = task.device
    feat = model_feat(model, task)
    flow = gradient_flow(model, task.graph, feat, labels.to(where), mask.to(where))
    rows = [{**row} for row in flow.rows]
    for row in rows:
        if not abs(row["gradient_norm"]) < float("inf"):
            row["gradient_norm"] = None
    if all(row["gradient_norm"] is None for row in rows):
        raise Absent("the gradients are NaN or infinite: the network diverged")
    axes = plots.by_layer({"": rows}, "gradient_norm", words="norm of the gradient")
    lines = [(row["layer"].replace("_", " "), *(cell(row[key]) for key in _SHOWN)) for row in rows]
    words = (
        "Norm of the gradient of the loss with respect to the output of each layer (0: the input "
        f"layer; {len(rows) - 1}: the head), over the {int(mask.sum()):,} "
        f"{ {'train': 'training'}.get(split, subject.words) } nodes, without dropout. Where it "
        "shrinks or grows by powers of ten, the first layers learn slowly, or training diverges."
    )
    alt = "Norm of the gradient of the loss by layer."
    heads = ("layer", "gradient", "of the parameters", "size of the features")
    facts = {"split": split, "nodes": int(mask.sum()), "loss": flow.loss, "layers": flow.rows}
    table = Table("By layer", heads, lines)
    picture = Picture("gradients", axes, alt)
    return Section("gradients", "Gradient norm by layer", words, (picture,), (table,), facts)


_SHOWN = ("gradient_norm", "parameter_gradient_norm", "activation_norm")


def bound(subject: Subject) -> list[Section]:
    """The proven Lipschitz bound and the certified radii, or why there are none."""
    options: dict[str, Any] = {"name": subject.name, "iterations": 0}
    why = without_radii(subject.model, subject.task)
    edges, layers = subject.task.num_edges, getattr(subject.model, "num_layers", 1)
    if subject.radii == "no":
        why = "they were not asked for"
    elif not why and subject.radii == "auto" and edges * layers > _CERTIFIED:
        why = (
            f"on {edges:,} edges and with {layers} layers they would take more than a minute or "
            "so; --radii yes (radii='yes' in Python), or `lipzoo certify`, computes them"
        )
    elif not why:
        try:
            found = certify(subject.model, subject.task, **options)
        except LipzooError as fault:
            why = str(fault)
        else:
            mask, whose = subject.shown
            is_judged = subject.mask_of(subject.split).any() and subject.logits.isfinite().all()
            return found.sections(mask, whose, subject.right if is_judged else None)
    found = certify(subject.model, subject.task, radii=False, **options)
    return [*found.sections(), Section("radii", "Certified radii", f"Not drawn: {why}.")]
