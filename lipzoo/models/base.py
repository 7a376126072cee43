"""What all architectures share: input layer, attention layers, head, and the ways to use them."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lipzoo._rows import row_chunks
from lipzoo.attention import Structure
from lipzoo.errors import ConfigError, DataError
from lipzoo.models.activations import ACTIVATIONS, INPUT_ACTIVATIONS
from lipzoo.models.checks import check_flags, check_positive, check_rates, check_width
from lipzoo.models.groups import layer_groups
from lipzoo.models.layers import Layer, run_layers
from lipzoo.models.reversible import is_reversible, last_states
from lipzoo.models.seen import edges_seen, structures_seen
from lipzoo.nn import AttentionConv, Reversible
from lipzoo.nn.dropout import Dropout, rate_of
from lipzoo.nn.edges import check_edges
from lipzoo.nn.feature_norms import make_feature_norm
from lipzoo.nn.residual import make_residual
from lipzoo.nn.sparse import last_columns, sparse_dropout_linear

__all__ = ["ACTIVATIONS", "DeepAttentionNet"]


class DeepAttentionNet(nn.Module):
    r"""Input layer -> L attention layers -> linear head; base class of the architectures.

    .. math::
        h_0 = \sigma_{in}(W_{in} x + b_{in}), \qquad
        h_l = \sigma(\mathrm{norm}(\mathrm{conv}_l(h_{l-1}))), \qquad
        y = W_{out} h_L + b_{out}

    joined by a residual scheme. Dropout is applied to ``x``, to the input of each attention
    layer and to the input of the head. Subclasses say which layer ``conv`` is.

    Parameters
    ----------
    in_feats : int
        Width ``F`` of the input features.
    num_classes : int
        Number ``C`` of classes; 0 leaves out the head.
    num_layers : int
        Number ``L`` of attention layers.
    hidden_feats : int
        Width ``H * D`` of the hidden features; a multiple of ``num_heads``.
    num_heads : int
        Number of heads ``H``.
    input_drop : float
        Dropout of the input features.
    feat_drop : float
        Dropout of the input of each attention layer.
    head_drop : float
        Dropout of the input of the head.
    attn_drop : float
        Dropout of the attention weights.
    node_drop : float
        DropNode: how often all input features of a node are zeroed at once (Feng et al., "Graph
        Random Neural Networks", NeurIPS 2020); goes with consistency training.
    activation : str, dict or torch.nn.Module
        A name in ``ACTIVATIONS``, ``{"name": …, **arguments}``, or a module.
    score_norm : str, dict or None
        See :func:`~lipzoo.attention.make_score_norm`.
    feature_norm : str, dict or None
        See :func:`~lipzoo.nn.feature_norms.make_feature_norm`.
    residual : str or dict
        See :func:`~lipzoo.nn.residual.make_residual`.
    degree_norm : {"none", "symmetric"}
        ``"symmetric"`` puts the square roots of the in-degrees around each attention layer; see
        :class:`~lipzoo.nn.conv.AttentionConv`. Blocks need :func:`~lipzoo.nn.keep_degrees`.
    add_self_loops : bool
        Add the self-loops that are missing, without touching the graph: the Lipschitz bounds
        need them.
    backend : {"auto", "dgl", "torch", "fused"}
        See :func:`~lipzoo.attention.graph_attention`.
    checkpoint_layers : bool
        Keep only the hidden features between layers for the backward pass, which runs each layer
        again, with the same dropout: the same gradients and far less memory, for the time of a
        second forward pass. All hidden features are kept, since the residual scheme may read
        them, so longer segments would save nothing more; ``residual="reversible"`` keeps none.
    sep : bool
        Keep ego and neighbours apart: each layer attends over the edges between different nodes
        (``add_self_loops`` has no say then), and a node's own features go through weights of
        their own, as with ``residual="linear"``; see :class:`~lipzoo.nn.conv.AttentionConv`.
    input_activation : str, dict, torch.nn.Module or None
        What the input layer is followed by, as ``activation`` says what layers are; None: the
        same. ``"identity"`` leaves the input map linear.
    start_logits : bool
        Add the head's output to the last C columns of the features, which are logits already; the
        head begins as 0. See :func:`lipzoo.encoding.add_start`.
    init, init_scale
        How the attention layers start; see :meth:`~lipzoo.nn.conv.AttentionConv.reset_parameters`.
    edge_feats, edge_values
        Width ``K`` of the edge features that all layers read, 0 for none, and whether attention
        hands them over too; see :class:`~lipzoo.nn.conv.AttentionConv`. Self-loops that are added
        have zeros.

    Raises
    ------
    ConfigError
        If an argument is out of its range or a name is unknown.
    """

    #: The attention layer; takes the arguments of :class:`~lipzoo.nn.GATConv`.
    conv_class: type[AttentionConv]
    #: `fit` and `evaluate` give such a model a task's sparse features where there are any.
    takes_sparse_feat = True
    #: … and features of another type of real numbers, which the input layer casts by the way.
    takes_stored_feat = True

    def __init__(
        self,
        in_feats: int,
        num_classes: int,
        num_layers: int = 2,
        hidden_feats: int = 64,
        num_heads: int = 8,
        input_drop: float = 0.6,
        feat_drop: float = 0.6,
        head_drop: float = 0.6,
        attn_drop: float = 0.3,
        node_drop: float = 0.0,
        activation: str | dict | nn.Module = "elu",
        score_norm: str | dict | None = None,
        feature_norm: str | dict | None = None,
        residual: str | dict = "none",
        degree_norm: str = "none",
        add_self_loops: bool = True,
        backend: str = "auto",
        checkpoint_layers: bool = False,
        sep: bool = False,
        input_activation: str | dict | nn.Module | None = None,
        start_logits: bool = False,
        init: str = "glorot_normal",
        init_scale: float = 1.0,
        edge_feats: int = 0,
        edge_values: bool = False,
    ) -> None:
        super().__init__()
        check_positive(in_feats=in_feats, num_layers=num_layers, num_heads=num_heads)
        check_width(hidden_feats, num_heads)
        check_rates(input_drop=input_drop, feat_drop=feat_drop, head_drop=head_drop)
        check_rates(attn_drop=attn_drop, node_drop=node_drop)
        self.in_feats, self.num_classes = in_feats, num_classes
        self.num_layers, self.hidden_feats, self.num_heads = num_layers, hidden_feats, num_heads
        self.degree_norm, self.add_self_loops, self.sep = degree_norm, add_self_loops, sep
        check_flags(checkpoint_layers=checkpoint_layers)
        self.checkpoint_layers = checkpoint_layers
        check_edges(edge_feats, edge_values)
        self.edge_feats = edge_feats
        edges = {"edge_feats": edge_feats, "edge_values": edge_values} if edge_feats else {}

        self.input_drop = Dropout(input_drop)
        self.node_drop = Dropout(node_drop)
        self.input = nn.Linear(in_feats, hidden_feats)
        self.residual = make_residual(residual, hidden_feats, num_layers)
        self.layers = nn.ModuleList(
            self.conv_class(
                self.residual.in_feats(layer),
                hidden_feats // num_heads,
                num_heads,
                feat_drop=feat_drop,
                attn_drop=attn_drop,
                allow_zero_in_degree=True,
                score_norm=score_norm,
                backend=backend,
                identity_map=self.residual.identity_map(layer),
                residual=self.residual.layer_residual(layer),
                degree_norm=degree_norm,
                sep=sep,
                **edges,
            )
            for layer in range(1, num_layers + 1)
        )
        if (init, init_scale) != ("glorot_normal", 1.0):
            for layer in self.layers:
                layer.reset_parameters(init, init_scale)
        # An instance is copied: each layer has its own parameters and statistics.
        norms = [
            make_feature_norm(copy.deepcopy(feature_norm), hidden_feats) for _ in range(num_layers)
        ]
        self.norms = nn.ModuleList(norm for norm in norms if norm is not None)
        self.activation = ACTIVATIONS.make(activation)
        self.input_activation = (
            None if input_activation is None else INPUT_ACTIVATIONS.make(input_activation)
        )
        self.head_drop = Dropout(head_drop)
        self.start_logits = start_logits
        self.head = self._make_head(num_classes)

    def _make_head(self, num_classes: int) -> nn.Module:
        if num_classes < 0:
            raise ConfigError(f"num_classes must be >= 0, got {num_classes}")
        if not num_classes:
            return nn.Identity()
        head = nn.Linear(self.residual.out_feats, num_classes)
        if self.start_logits:
            if self.in_feats < num_classes:
                raise ConfigError(
                    f"start_logits: the last {num_classes} columns of the features are the "
                    f"logits, and there are {self.in_feats}"
                )
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)
        return head

    @property
    def first_activation(self) -> nn.Module:
        """What the input layer is followed by."""
        return self.activation if self.input_activation is None else self.input_activation

    # ---------------------------------------------------------------- use

    def forward(self, graph, feat: Tensor, return_attention: bool = False, edge_feat=None):
        """Logits of each node.

        Parameters
        ----------
        graph : DGLGraph, Structure, any other graph, or list of L blocks
            The graph (:func:`~lipzoo.attention.as_structure` says which it may be, such as an
            ``edge_index``), or the blocks of a sampler, outermost first.
        feat : Tensor (N, F)
            Features of the nodes, or of the source nodes of the first block; dense, or with the
            layout ``torch.sparse_csr``, which for bags of words is many times faster. Of another
            type than the weights they are cast, without gradients some rows at a time.
        return_attention : bool
            Also return the attention weights.
        edge_feat : Tensor (E, K) or list of L Tensors, optional
            Features of the edges in the order of the graph's (of each block's); by default
            ``graph.edata["feat"]``, where the model reads any.

        Returns
        -------
        logits : Tensor (N, C)
            Of the destination nodes of the last block where blocks are given; the features
            (N, out) where the model has no head.
        attention : list of L Tensors (E', H), optional
            Weights in the order of the graph's edges, followed by the self-loops that were
            added.

        Raises
        ------
        DataError
            If features, blocks or graph do not fit the model.
        """
        attention: list[Tensor] | None = [] if return_attention else None
        logits = self.forward_head(self._read(graph, feat, attention, edge_feat))
        logits = self.from_start(logits, feat)
        return (logits, attention) if return_attention else logits

    def from_start(self, logits: Tensor, feat: Tensor) -> Tensor:
        """What the head puts out, (n, C), added to what it corrects, if anything."""
        if not (self.start_logits and self.num_classes):
            return logits
        last = last_columns(feat, self.num_classes)[: logits.shape[0]]
        return logits + last.to(self.input.weight.dtype)

    def forward_features(self, graph, feat: Tensor, edge_feat=None) -> Tensor:
        """What the head reads, (N, out)."""
        return self._read(graph, feat, edge_feat=edge_feat)

    def forward_head(self, feat: Tensor) -> Tensor:
        """Logits (N, C) of what :meth:`forward_features` returned."""
        return self.head(self.head_drop(feat))

    def forward_intermediates(self, graph, feat: Tensor, edge_feat=None) -> list[Tensor]:
        """``[h_0, …, h_L]``, each (N, hidden_feats)."""
        return self.run(graph, feat, edge_feat=edge_feat)

    def run(
        self, graph, feat: Tensor, attention: list[Tensor] | None = None, edge_feat=None
    ) -> list[Tensor]:
        """``[h_0, …, h_L]``, each (N, hidden_feats); all that a forward pass does before the head.

        Parameters
        ----------
        graph, feat, edge_feat
            See :meth:`forward`.
        attention : list, optional
            The attention weights of each layer, (E', H), are appended to it.
        """
        layers = self._layers_on(graph, feat, attention, edge_feat)
        first, is_checkpointed = self._first(feat), self.checkpoint_layers
        return run_layers(self.residual, layers, first, attention, is_checkpointed, keep_all=True)

    def _read(self, graph, feat: Tensor, attention=None, edge_feat=None) -> Tensor:
        """What the head reads, (N, out)."""
        scheme, layers = self.residual, self._layers_on(graph, feat, attention, edge_feat)
        again = self.checkpoint_layers
        # h_0 gets no name here, nor stands in a tuple of arguments: either would hold it.
        if not is_reversible(scheme):
            return scheme.output(run_layers(scheme, layers, self._first(feat), attention, again))
        return scheme.output(last_states(scheme, layers, self._first(feat), attention, again))

    def _layers_on(self, graph, feat: Tensor, attention, edge_feat) -> list[Layer]:
        """The layers on the graph, for these features."""
        structures, dtype = self.structures(graph, feat), self.input.weight.dtype
        edges = edges_seen(self, self.edge_feats, graph, edge_feat, structures, feat, dtype)
        structures = [structure.to(feat.device) for structure in structures]
        if feat.dim() != 2 or feat.shape != (structures[0].num_given, self.in_feats):
            raise DataError(
                f"features are {tuple(feat.shape)}; this graph and model need "
                f"({structures[0].num_given}, {self.in_feats}): for another width use "
                "create_model(..., in_feats=...) or reset_input"
            )
        norms = self.norms if len(self.norms) else [None] * self.num_layers
        return [
            Layer(conv, norm, self.activation, *seen, need_weights=attention is not None)
            for conv, norm, *seen in zip(self.layers, norms, structures, edges)
        ]

    def _first(self, feat: Tensor) -> Tensor:
        """``h_0``, (N, hidden_feats)."""
        first = self.first_activation(self._project(feat))
        # Autocast gives 16 bits, in which states do not find the way back.
        return first.to(self.input.weight.dtype) if isinstance(self.residual, Reversible) else first

    def _project(self, feat: Tensor) -> Tensor:
        weight, bias = self.input.weight, self.input.bias
        kept = self.node_drop(weight.new_ones(feat.shape[0], 1))
        if feat.layout is torch.sparse_csr:
            product = sparse_dropout_linear(
                feat, weight, self.input_drop.p, self.input_drop.training
            )
            return torch.addcmul(bias, product, kept)
        if feat.dtype == weight.dtype:
            return self._read_rows(feat, kept)
        if feat.is_complex():
            raise DataError(f"features must be real numbers, but are {feat.dtype}")
        if torch.is_grad_enabled():
            return self._read_rows(feat.to(weight.dtype), kept)
        out, first = None, 0
        for rows in row_chunks(feat, weight.dtype):
            end = first + len(rows)
            read = self._read_rows(rows, kept[first:end])
            out = read.new_empty(len(feat), read.shape[1]) if out is None else out
            out[first:end], first = read, end
        return out

    def _read_rows(self, feat: Tensor, kept: Tensor) -> Tensor:
        feat = self.input_drop(feat)
        if not rate_of(self.node_drop):
            return self.input(feat)
        # Rows that are dropped after the product are fewer numbers than before it.
        return torch.addcmul(self.input.bias, F.linear(feat, self.input.weight), kept)

    def structures(self, graph, feat: Tensor | None = None) -> list[Structure]:
        """The structure that each layer attends over, with the self-loops that it sees, if any.

        Parameters
        ----------
        graph, feat
            See :meth:`forward`; the features say how many nodes an ``edge_index`` has.

        Raises
        ------
        DataError
            If graph or blocks do not fit the model.
        """
        return structures_seen(graph, feat, self.num_layers, self.sep, self.add_self_loops)

    # ------------------------------------------------------------- change

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the head by a freshly initialised one; ``0`` takes it off."""
        head = self._make_head(num_classes)
        self.num_classes, self.head = num_classes, _like(head, self.input)

    def reset_input(self, in_feats: int) -> None:
        """Replace the input layer by a freshly initialised one for features of another width."""
        check_positive(in_feats=in_feats)
        self.input = _like(nn.Linear(in_feats, self.hidden_feats), self.input)
        self.in_feats = in_feats

    def reset_edges(self, edge_feats: int) -> None:
        """Let the layers read edge features of another width, by fresh weights; 0: none."""
        for layer in self.layers:
            layer.reset_edges(edge_feats)
        self.edge_feats = edge_feats

    def layer_groups(self) -> dict[str, list[nn.Parameter]]:
        """Parameters by depth: ``input``, ``layer_1`` … ``layer_L``, ``head``.

        For layer-wise learning rates, weight decay and freezing; each parameter is in one group:
        what all layers share (of an activation, of a residual scheme) is in ``input``, and so is
        what reads edge features.
        """
        return layer_groups(self, self.layers, self.norms)

    def extra_repr(self) -> str:
        return (
            f"in_feats={self.in_feats}, num_classes={self.num_classes}, "
            f"num_layers={self.num_layers}, hidden_feats={self.hidden_feats}"
        )


def _like(module: nn.Module, other: nn.Linear) -> nn.Module:
    return module.to(device=other.weight.device, dtype=other.weight.dtype)
