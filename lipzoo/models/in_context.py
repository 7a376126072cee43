"""A deep attention network that reads a graph's labels as context, whatever its classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lipzoo.attention import Structure, as_structure
from lipzoo.errors import ConfigError, DataError
from lipzoo.models.checks import check_positive, check_width
from lipzoo.nn import GATv2Conv

__all__ = ["InContextGATv2"]

#: Columns of the rows that have a meaning of their own; see `lipzoo.context.context_rows`.
_IS_CONTEXT, _OWN_LABEL, _START = range(3)


class InContextGATv2(nn.Module):
    r"""Corrects what is known of each class at each node; the same weights for any graph.

    A row :math:`x_{vc}` for each node v and class c goes through L blocks,

    .. math::
        h \leftarrow h + W_o \, \mathrm{conv}(\mathrm{LN}(h)), \qquad
        h_{vc} \leftarrow h_{vc} + W_2 \, \mathrm{GELU}\big(W_1(z_{vc} + u_c + t_v)\big),
        \quad z = \mathrm{LN}(h)

    where ``conv`` is :class:`~lipzoo.nn.GATv2Conv` over the graph's edges, within each class;
    :math:`u_c` is a linear map of three means of :math:`z_{\cdot c}`: over the context nodes of
    class c, over those of the other classes, and over all nodes; and :math:`t_v` of the mean of
    :math:`z_{v\cdot}` over the classes. Then

    .. math::
        \mathrm{logit}_{vc} = \log p(y_v = c) + 2 \, w \cdot \mathrm{LN}(h_{vc})

    with what the third column of the rows says, and w = 0 at the start. No weight belongs to a
    class or to a feature: permuting classes or nodes permutes the logits.

    Parameters
    ----------
    in_feats : int
        Width ``K`` of the rows, at least 3: what :func:`~lipzoo.context.context_rows` gives.
    num_classes : int
        0: a graph may have any number of classes.
    num_layers : int
        Number ``L`` of blocks.
    hidden_feats : int
        Width ``H * D`` within; a multiple of ``num_heads``.
    num_heads : int
        Number of heads ``H``.
    score_norm : str, dict or None
        See :func:`~lipzoo.attention.make_score_norm`.
    attention : bool
        False puts a linear map in the place of each ``conv``: what the edges are worth.
    add_self_loops : bool
        Add the self-loops that are missing, without touching the graph.
    backend : {"auto", "dgl", "torch", "fused"}
        See :func:`~lipzoo.attention.graph_attention`.

    Raises
    ------
    ConfigError
        If an argument is out of its range or a name is unknown.
    """

    def __init__(
        self,
        in_feats: int,
        num_classes: int = 0,
        num_layers: int = 8,
        hidden_feats: int = 48,
        num_heads: int = 3,
        score_norm: str | dict | None = None,
        attention: bool = True,
        add_self_loops: bool = True,
        backend: str = "auto",
    ) -> None:
        super().__init__()
        if num_classes:
            raise ConfigError(
                f"num_classes must be 0, got {num_classes}: this network takes any number of "
                "classes, and is not trained on one graph from scratch; evaluate, predict and "
                "finetune take its weights as they are"
            )
        check_positive(num_layers=num_layers, num_heads=num_heads)
        if in_feats < 3:
            raise ConfigError(f"in_feats must be at least 3, got {in_feats}")
        check_width(hidden_feats, num_heads)
        self.in_feats, self.num_classes = in_feats, 0
        self.num_layers, self.add_self_loops = num_layers, add_self_loops
        self.input = nn.Sequential(
            nn.Linear(in_feats, 2 * hidden_feats),
            nn.GELU(),
            nn.Linear(2 * hidden_feats, hidden_feats),
        )
        conv = {"score_norm": score_norm, "backend": backend} if attention else None
        self.layers = nn.ModuleList(
            _Block(hidden_feats, num_heads, conv) for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(hidden_feats)
        self.head = nn.Linear(hidden_feats, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, graph, feat: Tensor) -> Tensor:
        """Logits of each node.

        Parameters
        ----------
        graph : DGLGraph, Structure or any other graph
            The whole graph; see :func:`~lipzoo.attention.as_structure`.
        feat : Tensor (N, C, K), or (N, G, 2, K)
            Rows, of one label a node or of several; see :func:`~lipzoo.context.encode_context`.

        Returns
        -------
        Tensor (N, C), or (N, G)
            Logits of the classes, or of each label.

        Raises
        ------
        DataError
            If the rows do not fit the model or the graph.
        """
        return self.forward_together([(graph, feat)])[0]

    def forward_together(self, graphs: Sequence[tuple]) -> list[Tensor]:
        """:meth:`forward` of several (graph, feat), at once."""
        rows = _Rows.of([(self._seen(graph, feat), feat) for graph, feat in graphs])
        hidden = self.input(rows.feat)
        for layer in self.layers:
            hidden = layer(hidden, rows)
        logits = rows.feat[:, _START] + 2 * self.head(self.norm(hidden)).squeeze(1)
        return rows.parted(logits)

    def _seen(self, graph, feat: Tensor) -> Structure:
        structure = as_structure(graph, feat=feat).to(feat.device)
        is_known = feat.dim() == 3 or (feat.dim() == 4 and feat.shape[2] == 2)
        if structure.num_src != structure.num_dst or not (
            is_known and feat.shape[0] == structure.num_src and feat.shape[-1] == self.in_feats
        ):
            raise DataError(
                f"rows are {tuple(feat.shape)}; this model needs a whole graph of N nodes, and "
                f"({structure.num_src}, classes, {self.in_feats}) or "
                f"({structure.num_src}, labels, 2, {self.in_feats}): see "
                "lipzoo.context.encode_context"
            )
        return as_structure(structure, self.add_self_loops)

    def layer_groups(self) -> dict[str, list[nn.Parameter]]:
        """Parameters by depth: ``input``, ``layer_1`` … ``layer_L``, ``head``."""
        layers = {f"layer_{n}": list(layer.parameters()) for n, layer in enumerate(self.layers, 1)}
        ends = [*self.norm.parameters(), *self.head.parameters()]
        return {"input": list(self.input.parameters()), **layers, "head": ends}

    def extra_repr(self) -> str:
        return f"in_feats={self.in_feats}, num_layers={self.num_layers}"


class _Block(nn.Module):
    """Attention over the edges, then what is said of the class and of the node."""

    def __init__(self, hidden_feats: int, num_heads: int, conv: dict | None) -> None:
        super().__init__()
        self.norm_local, self.norm = nn.LayerNorm(hidden_feats), nn.LayerNorm(hidden_feats)
        self.conv = (
            nn.Linear(hidden_feats, hidden_feats)
            if conv is None
            else GATv2Conv(
                hidden_feats,
                hidden_feats // num_heads,
                num_heads,
                allow_zero_in_degree=True,
                **conv,
            )
        )
        self.out = nn.Linear(hidden_feats, hidden_feats)
        self.of_class = nn.Linear(3 * hidden_feats, hidden_feats)
        self.of_node = nn.Linear(hidden_feats, hidden_feats)
        self.wide = nn.Linear(hidden_feats, 3 * hidden_feats)
        self.narrow = nn.Linear(3 * hidden_feats, hidden_feats)
        for linear in (self.out, self.narrow):  # the blocks begin as almost nothing
            nn.init.normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)

    def forward(self, hidden: Tensor, rows: _Rows) -> Tensor:
        read = self.norm_local(hidden)
        if isinstance(self.conv, GATv2Conv):
            read = self.conv(rows.structure, read).flatten(1)
        else:
            read = self.conv(read)
        hidden = hidden + self.out(read)
        read = self.norm(hidden)
        of_class = self.of_class(torch.cat([pool.mean(read) for pool in rows.pools], 1))
        of_node = self.of_node(rows.nodes.mean(read))
        read = read + of_class[rows.classes.group] + of_node[rows.nodes.group]
        return hidden + self.narrow(nn.functional.gelu(self.wide(read)))


@dataclass(frozen=True)
class _Pool:
    """Means over groups of rows: ``group`` (R,) says whose, ``weight`` (R, 1) which count."""

    group: Tensor
    number: int
    weight: Tensor | None = None

    def mean(self, feat: Tensor) -> Tensor:
        """(number, D); 0 for a group of which none counts."""
        weight = feat.new_ones(len(feat), 1) if self.weight is None else self.weight.to(feat)
        if self.weight is not None:
            feat = feat * weight
        total = feat.new_zeros(self.number, feat.shape[1]).index_add(0, self.group, feat)
        count = feat.new_zeros(self.number, 1).index_add(0, self.group, weight)
        return total / count.clamp_min(1)


@dataclass(frozen=True)
class _Rows:
    """The R rows of all classes of all graphs: class by class, in a class node by node.

    ``structure`` has the edges of each graph once a class; ``classes`` and ``nodes`` say which
    class of which question, and which node, a row is of.
    """

    feat: Tensor
    structure: Structure
    classes: _Pool
    nodes: _Pool
    pools: tuple[_Pool, ...]
    shapes: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, graphs: Sequence[tuple[Structure, Tensor]]) -> _Rows:
        feats, src, dst, classes, nodes, shapes = [], [], [], [], [], []
        rows = num_classes = num_nodes = 0
        for structure, feat in graphs:
            shapes.append(tuple(feat.shape[:-1]))
            feat = feat[:, None] if feat.dim() == 3 else feat
            n, questions, of_each = feat.shape[:3]
            copies = questions * of_each
            feats.append(feat.permute(1, 2, 0, 3).reshape(copies * n, -1))
            copy = torch.arange(copies, device=feat.device)[:, None]
            start = rows + n * copy
            src.append((structure.src + start).flatten())
            dst.append((structure.dst + start).flatten())
            node = torch.arange(n, device=feat.device)
            classes.append((num_classes + copy).expand(copies, n).flatten())
            nodes.append((num_nodes + n * (copy // of_each) + node).flatten())
            rows, num_classes = rows + copies * n, num_classes + copies
            num_nodes += questions * n
        feat = torch.cat(feats)
        of_class = torch.cat(classes)
        known, own = feat[:, _IS_CONTEXT, None], feat[:, _OWN_LABEL, None]
        weights = (known * own, known * (1 - own), None)
        pools = tuple(_Pool(of_class, num_classes, weight) for weight in weights)
        structure = Structure(torch.cat(src), torch.cat(dst), rows, rows)
        of_node = _Pool(torch.cat(nodes), num_nodes)
        return cls(feat, structure, pools[-1], of_node, pools, tuple(shapes))

    def parted(self, logits: Tensor) -> list[Tensor]:
        """A logit a row, (R,), as (N, C) of each graph; of several labels (N, G)."""
        parts = []
        for n, *questions in self.shapes:
            size = n * torch.Size(questions).numel()
            part, logits = logits[:size].view(*questions, n), logits[size:]
            parts.append(
                part.movedim(-1, 0) if len(questions) == 1 else (part[:, 1] - part[:, 0]).T
            )
        return parts
