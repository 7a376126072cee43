"""What flows through a deep network: norms of activations and gradients, attention, smoothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from lipzoo._atomic import write_atomically
from lipzoo._figures import new_figure, save_figure
from lipzoo._tables import to_csv
from lipzoo._torch import evaluating
from lipzoo.attention import Structure
from lipzoo.errors import ConfigError, DataError
from lipzoo.models import DeepAttentionNet
from lipzoo.plots.attending import attention_entropy
from lipzoo.plots.layers import by_layer

__all__ = ["COLUMNS", "GradientFlow", "GradientFlowLog", "gradient_flow"]

#: The numbers of each row.
COLUMNS = (
    "activation_norm",
    "gradient_norm",
    "parameter_gradient_norm",
    "attention_entropy",
    "dirichlet_energy",
    "mean_distance",
    "neighbour_distance",
)


@dataclass(frozen=True)
class GradientFlow:
    """A row for the input layer, each attention layer and the head.

    Parameters
    ----------
    rows : list of dict
        ``layer`` and the ``COLUMNS``; ``None`` where a number has no meaning.
    loss : float
        Of the labels.
    """

    rows: list[dict] = field(repr=False)
    loss: float

    def table(self) -> str:
        """The rows, one a line."""
        heads = ["layer", *(c.removesuffix("_norm").replace("_", " ") for c in COLUMNS)]
        lines = [[row["layer"], *(_number(row[c]) for c in COLUMNS)] for row in self.rows]
        widths = [max(map(len, column)) for column in zip(heads, *lines)]
        return "\n".join(
            "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip()
            for line in (heads, *lines)
        )

    def __str__(self) -> str:
        return self.table()

    def write_csv(self, path: str | Path) -> None:
        """Write the rows, atomically."""
        write_atomically(path, to_csv(self.rows))

    def plot(self, path: str | Path) -> None:
        """Write a picture with a panel a column; the suffix decides its format.

        Raises
        ------
        ConfigError
            If matplotlib is not installed.
        """
        save_figure(_panels({"": self.rows}), path)


def gradient_flow(
    model: DeepAttentionNet, graph, feat: Tensor, labels: Tensor, mask: Tensor | None = None
) -> GradientFlow:
    r"""Norms of activations and gradients layer by layer, and how smooth the features are.

    For the state :math:`h` after each layer and the loss :math:`\mathcal L`:

    .. math::
        \text{activation} = \Big(\frac1N \sum_i \lVert h_i \rVert^2\Big)^{1/2}, \quad
        \text{gradient} = \lVert \partial \mathcal L / \partial h \rVert_F, \quad
        \text{energy} = \frac1N \sum_i \sum_{j \in N(i)} \lVert h_i - h_j \rVert^2

    ``parameter_gradient_norm`` is that of the layer's own parameters. ``attention_entropy`` is
    the mean of :math:`-\sum_j p_{ij} \log p_{ij} / \log |N(i)|` over the heads and the nodes with
    several in-edges: 1 where attention is uniform. ``mean_distance`` is the mean of
    :math:`1 - \cos(h_i, h_j)` over all pairs (MAD), ``neighbour_distance`` over the edges; both
    go to 0 where features are smoothed out.

    The model's mode is evaluation meanwhile; neither its gradients nor the random numbers of a
    training are touched.

    Parameters
    ----------
    model : DeepAttentionNet
        A model of the zoo.
    graph : DGLGraph, Structure or any other graph
        The whole graph.
    feat : Tensor (N, F)
        The features.
    labels : Tensor (N,) or (N, C)
        Classes, or 0/1 a class where nodes have several; -1 for a node without a label.
    mask : Tensor (N,), optional
        Nodes the loss is over.

    Raises
    ------
    ConfigError
        If the model is none of the zoo's, or has no head.
    DataError
        If no node has a label.

    References
    ----------
    Chen et al., "Measuring and Relieving the Over-smoothing Problem for GNNs", AAAI 2020, for
    MAD; Rusch, Bronstein, Mishra, "A Survey on Oversmoothing in GNNs", 2023, for the energy.
    """
    if not isinstance(model, DeepAttentionNet) or not model.num_classes:
        raise ConfigError(
            f"gradient_flow: needs a model of the zoo with a head, got {type(model).__name__}"
        )
    known = labels[:, 0] >= 0 if labels.dim() == 2 else labels >= 0
    chosen = known if mask is None else known & mask
    if not chosen.any():
        raise DataError("gradient_flow: no node has a label")
    structure = model.structures(graph, feat)[0]
    groups = model.layer_groups()
    trained = [p for group in groups.values() for p in group if p.requires_grad]
    with _evaluation(model), torch.inference_mode(False), torch.enable_grad():
        attention: list[Tensor] = []
        states = model.run(graph, feat, attention)
        states = [s if s.requires_grad else s.requires_grad_() for s in states]
        logits = model.from_start(model.head(model.residual.output(states)), feat)
        loss = _loss(logits[chosen], labels[chosen])
        slopes = torch.autograd.grad(loss, [*states, logits, *trained], allow_unused=True)
    by_parameter = {id(p): slope for p, slope in zip(trained, slopes[len(states) + 1 :])}
    own = [_norm(by_parameter.get(id(p)) for p in group) for group in groups.values()]
    names = list(groups)
    rows = []
    for index, value in enumerate([*states, logits]):
        is_head = index == len(states)
        rows.append(
            {
                "layer": names[index],
                "activation_norm": value.detach().double().square().sum(1).mean().sqrt().item(),
                "gradient_norm": _norm([slopes[index]]),
                "parameter_gradient_norm": own[index],
                "attention_entropy": None
                if index == 0 or is_head
                else _entropy(structure, attention[index - 1].detach()),
                **_smoothness(structure, value.detach().double()),
            }
        )
    return GradientFlow(rows, loss.item())


@contextmanager
def _evaluation(model: DeepAttentionNet) -> Iterator[None]:
    checkpointed, model.checkpoint_layers = getattr(model, "checkpoint_layers", False), False
    try:
        with evaluating(model):
            yield
    finally:
        model.checkpoint_layers = checkpointed


def _loss(logits: Tensor, labels: Tensor) -> Tensor:
    if labels.dim() == 2:
        return F.binary_cross_entropy_with_logits(logits, labels.to(logits))
    return F.cross_entropy(logits, labels)


def _norm(tensors) -> float:
    norms = [t.double().norm().item() for t in tensors if t is not None]
    return torch.tensor(norms, dtype=torch.float64).norm().item() if norms else 0.0


def _entropy(structure: Structure, weights: Tensor) -> float | None:
    """Mean of the normalised entropy over nodes with several in-edges and heads; (E, H)."""
    degree = structure.in_degrees.to(weights.device)
    several = degree > 1
    if not several.any():
        return None
    total = attention_entropy(structure, weights)[several]
    return (total / degree[several].double().log().unsqueeze(1)).mean().item()


def _smoothness(structure: Structure, h: Tensor) -> dict[str, float | None]:
    """Dirichlet energy and mean cosine distances of the rows of ``h`` (N, F)."""
    src, dst = structure.src.to(h.device), structure.dst.to(h.device)
    size = h.norm(dim=1, keepdim=True)
    # A zero row has no direction: its distance from everything is 1, as in PyTorch.
    unit = torch.where(size > 0, h / size.clamp_min(torch.finfo(h.dtype).tiny), 0.0)
    energy = torch.zeros((), dtype=h.dtype, device=h.device)
    apart = torch.zeros_like(energy)
    is_loop = src == dst
    for part in torch.arange(structure.num_edges, device=h.device).split(2**16):
        energy = energy + (h[src[part]] - h[dst[part]]).square().sum()
        distance = 1 - (unit[src[part]] * unit[dst[part]]).sum(1)
        apart = apart + distance.masked_fill(is_loop[part], 0).sum()
    nodes, edges = len(h), int((~is_loop).sum())
    # sum_{i != j} (1 - u_i . u_j), without the N^2 products.
    together = unit.sum(0).square().sum() - unit.square().sum()
    pairs = nodes * (nodes - 1)
    return {
        "dirichlet_energy": (energy / max(nodes, 1)).item(),
        "mean_distance": max(0.0, 1 - (together / pairs).item()) if pairs else None,
        "neighbour_distance": max(0.0, (apart / edges).item()) if edges else None,
    }


class GradientFlowLog:
    """Records :func:`gradient_flow` during training; pass it as ``on_epoch=`` to ``fit``.

    Parameters
    ----------
    model : DeepAttentionNet
        The model that is trained.
    graph, feat, labels, mask
        See :func:`gradient_flow`.
    every : int
        Epochs between two records; the first epoch is always recorded.
    """

    def __init__(
        self,
        model: DeepAttentionNet,
        graph,
        feat: Tensor,
        labels: Tensor,
        mask: Tensor | None = None,
        every: int = 10,
    ) -> None:
        if every < 1:
            raise ConfigError(f"GradientFlowLog: every must be at least 1, got {every}")
        self.model, self.every = model, every
        self.inputs = graph, feat, labels, mask
        self.flows: dict[int, GradientFlow] = {}

    def __call__(self, epoch: int) -> None:
        """Record the state before ``epoch`` runs."""
        if epoch == 1 or epoch % self.every == 0:
            self.flows[epoch] = gradient_flow(self.model, *self.inputs)

    @property
    def rows(self) -> list[dict]:
        """All rows, with their ``epoch``."""
        return [{"epoch": epoch, **row} for epoch, flow in self.flows.items() for row in flow.rows]

    def write_csv(self, path: str | Path) -> None:
        """Write all rows, atomically."""
        write_atomically(path, to_csv(self.rows))

    def plot(self, path: str | Path, lines: int = 6) -> None:
        """Write a picture with a line for some of the epochs, evenly spaced."""
        epochs = list(self.flows)
        chosen = epochs[:: max(1, -(-len(epochs) // lines))]
        save_figure(_panels({f"epoch {e}": self.flows[e].rows for e in chosen}), path)


def _panels(flows: dict[str, list[dict]]):
    """A figure with a panel a column, a line a flow."""
    rows = -(-len(COLUMNS) // 2)
    figure = new_figure(9, 2.6 * rows)
    axes = figure.subplots(rows, 2).ravel()
    for axis, column in zip(axes, COLUMNS):
        by_layer(flows, column, axis)
        if axis is not axes[0] and axis.get_legend() is not None:
            axis.get_legend().remove()
    for axis in axes[len(COLUMNS) :]:
        axis.set_axis_off()
    return figure


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
