"""What all attention convs share: score norm, score hooks, structure, residual, bias."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from lipzoo._dgl import dgl_error
from lipzoo._torch import added
from lipzoo.attention import Scores, Structure, as_structure, graph_attention, make_score_norm
from lipzoo.attention.ops import BACKENDS
from lipzoo.errors import ConfigError, DataError, did_you_mean
from lipzoo.nn.degrees import degree_roots
from lipzoo.nn.edges import check_edges, edge_rows

__all__ = ["DEGREE_NORMS", "AttentionConv", "IdentityMappedLinear", "projection"]

Feat = Tensor | tuple[Tensor, Tensor]

DEGREE_NORMS = ("none", "symmetric")
INITS = ("glorot_normal", "glorot_uniform")


class IdentityMappedLinear(nn.Linear):
    r"""A square linear map with weight :math:`(1 - \beta) I + \beta W` (GCNII's identity mapping).

    Parameters
    ----------
    feats : int
        Input and output width.
    beta : float
        Share of the learnt weight, in [0, 1].
    bias : bool
        Add a learnt bias.

    References
    ----------
    Chen et al., "Simple and Deep Graph Convolutional Networks", ICML 2020, equation 5.
    """

    def __init__(self, feats: int, beta: float, bias: bool = False) -> None:
        super().__init__(feats, feats, bias=bias)
        self.beta = beta

    @property
    def mapped_weight(self) -> Tensor:
        """The weight in use, (F, F)."""
        identity = torch.eye(self.in_features, dtype=self.weight.dtype, device=self.weight.device)
        return torch.lerp(identity, self.weight, self.beta)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.mapped_weight, self.bias)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, beta={self.beta:.4g}"


def projection(in_feats: int, out_feats: int, bias: bool, identity_map: float | None) -> nn.Linear:
    """A linear map, identity-mapped where ``identity_map`` gives its share of learnt weight.

    Raises
    ------
    ConfigError
        If an identity-mapped layer would change the width.
    """
    if identity_map is None:
        return nn.Linear(in_feats, out_feats, bias=bias)
    if in_feats != out_feats:
        raise ConfigError(
            f"identity_map needs in_feats == num_heads * out_feats, got {in_feats} and {out_feats}"
        )
    return IdentityMappedLinear(in_feats, identity_map, bias=bias)


class AttentionConv(nn.Module):
    r"""Base class of the graph-conv modules.

    Parameters
    ----------
    in_feats : int or pair of int
        Width ``F`` of the input; a pair gives source and destination nodes their own.
    out_feats : int
        Width ``D`` of the output per head.
    num_heads : int
        Number of heads ``H``.
    allow_zero_in_degree : bool
        Do not raise on nodes without in-edges; their output is the bias and residual alone.
    score_norm : ScoreNorm, str, dict or None
        What is applied to the scores before the softmax; see
        :func:`~lipzoo.attention.make_score_norm`.
    backend : {"auto", "dgl", "torch", "fused"}
        See :func:`~lipzoo.attention.graph_attention`.
    degree_norm : {"none", "symmetric"}
        ``"symmetric"`` puts the square roots of the in-degrees around the layer,
        :math:`D^{1/2} \, \mathrm{conv}(D^{-1/2} x)`, but for its bias. Where attention is uniform,
        that is the symmetrically normalised adjacency matrix of GCN (``norm="both"`` of
        ``dgl.nn.GraphConv``) in place of the mean over the neighbours. Of a pair of features,
        each is divided by the roots of its own nodes. A block or part has to tell the degrees:
        :func:`~lipzoo.nn.keep_degrees`; where source and destination nodes differ, the former
        have none.
    sep : bool
        Keep a node and its neighbours apart: attention leaves out self-loops, and the node's own
        features go through weights of their own, ``residual="linear"``,

        .. math::
            h_i' = W_{own} x_i + \sum_{j \in N(i), j \ne i} p_{ij} V x_j + b
            = [W_{own} \, V] \Big[x_i \,\Big\Vert\, \sum_{j \ne i} p_{ij} x_j\Big] + b

        for each head: ego and the mean over the neighbours side by side, then a linear map. A
        node without neighbours has its own part alone. The attention weights are those of the
        edges that are left, in their order. Platonov et al., ICLR 2023 (GAT-sep, GT-sep).
    edge_feats : int
        Width ``K`` of the edge features, which the scores read as :math:`w_{ij} = W_e x_{ij}`; 0:
        none.
    edge_values : bool
        Attention hands over :math:`v_j + w_{ij}` instead of :math:`v_j`.
    """

    #: Score norm that ``lipschitzify`` gives this layer.
    lipschitz_norm = "lipschitz"

    def __init__(
        self,
        in_feats: int | tuple[int, int],
        out_feats: int,
        num_heads: int,
        *,
        allow_zero_in_degree: bool = False,
        score_norm=None,
        backend: str = "auto",
        degree_norm: str = "none",
        sep: bool = False,
        edge_feats: int = 0,
        edge_values: bool = False,
    ) -> None:
        super().__init__()
        is_pair = isinstance(in_feats, tuple)
        self.in_src_feats, self.in_dst_feats = in_feats if is_pair else (in_feats, in_feats)
        self.out_feats, self.num_heads = out_feats, num_heads
        self.allow_zero_in_degree = allow_zero_in_degree
        if backend not in (*BACKENDS, "auto"):
            hint = did_you_mean(backend, [*BACKENDS, "auto"])
            raise ConfigError(f"backend: no backend {backend!r}{hint}")
        if degree_norm not in DEGREE_NORMS:
            hint = did_you_mean(degree_norm, DEGREE_NORMS)
            raise ConfigError(f"degree_norm: no degree norm {degree_norm!r}{hint}")
        if not isinstance(sep, bool):
            raise ConfigError(f"sep must be true or false, got {sep!r}")
        self.backend, self.degree_norm, self.sep = backend, degree_norm, sep
        self.score_norm = make_score_norm(score_norm)
        check_edges(edge_feats, edge_values)
        self.edge_values = edge_values
        self._make_edge_map(edge_feats)
        # What the layers of this family may have behind the attention.
        self.res_fc = self.bias = self.activation = None
        self._is_linear = False  # residual="linear"
        self._score_hooks: OrderedDict[int, Callable] = OrderedDict()

    def set_allow_zero_in_degree(self, set_value: bool) -> None:
        """Set whether nodes without in-edges are allowed (DGL's method)."""
        self.allow_zero_in_degree = set_value

    def register_score_hook(self, hook: Callable) -> RemovableHandle:
        """Run ``hook(layer, structure, scores)`` on the scores just before the edge softmax.

        Hooks run in the order of their registration, after the score norm. ``scores`` is
        (E, *, H) in the order of ``structure.src`` and ``structure.dst``; a hook may return
        other scores of that shape, or ``None`` to leave them.

        Returns
        -------
        torch.utils.hooks.RemovableHandle
            ``handle.remove()`` takes the hook off again.
        """
        handle = RemovableHandle(self._score_hooks)
        self._score_hooks[handle.id] = hook
        return handle

    def attended(self, graph, feat: Feat | None = None) -> Structure:
        """The edges that the layer attends over; see :func:`~lipzoo.attention.as_structure`."""
        structure = as_structure(graph, feat=feat)
        return structure.without_self_loops() if self.sep else structure

    def _make_edge_map(self, edge_feats: int) -> None:
        self.edge_feats, self.fc_edge = edge_feats, None
        if edge_feats:
            self.fc_edge = nn.Linear(edge_feats, self.num_heads * self.out_feats, bias=False)

    def edge_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Those that a layer without edge features lacks, with their names."""
        for name, parameter in self.named_parameters():
            if name.startswith(("fc_edge.", "attn_edge")):
                yield name, parameter

    def reset_edges(self, edge_feats: int) -> None:
        """Read edge features of another width, with fresh weights; 0 takes them off."""
        check_edges(edge_feats, self.edge_values)
        like = next(self.parameters())
        self._make_edge_map(edge_feats)
        self.to(device=like.device, dtype=like.dtype)
        self._draw(self.edge_parameters())

    def _own_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Those that start as Glorot's: an activation or score norm brings its own."""
        others = ("activation.", "score_norm.", *(("res_fc.",) if self._is_linear else ()))
        for name, parameter in self.named_parameters():
            if not name.startswith(others):
                yield name, parameter

    def reset_parameters(self, init: str = "glorot_normal", scale: float = 1.0) -> None:
        r"""Draw the weights anew; biases become 0.

        Parameters
        ----------
        init : {"glorot_normal", "glorot_uniform"}
            Glorot's normal initialisation with gain :math:`\sqrt 2`, as in DGL; or uniform within
            :math:`\pm \sqrt{6 / (a + b)}` for the last two sizes a, b of a weight, as in PyG.
            Those of ``residual="linear"`` start as ``nn.Linear`` does.
        scale : float
            All that is drawn, but for those, is multiplied by it.

        Raises
        ------
        ConfigError
            If there is no such initialisation, or the scale is not positive.
        """
        if init not in INITS:
            raise ConfigError(f"init: no initialisation {init!r}{did_you_mean(init, INITS)}")
        if not 0 < scale < math.inf:
            raise ConfigError(f"init_scale must be positive, got {scale}")
        if self._is_linear:
            self.res_fc.reset_parameters()
        self._draw(self._own_parameters(), init, scale)

    def _draw(
        self,
        parameters: Iterable[tuple[str, nn.Parameter]],
        init: str = "glorot_normal",
        scale: float = 1.0,
    ) -> None:
        for name, parameter in parameters:
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif init == "glorot_normal":
                nn.init.xavier_normal_(parameter, gain=self._gain(name) * scale)
            else:
                limit = scale * math.sqrt(6 / sum(parameter.shape[-2:]))
                nn.init.uniform_(parameter, -limit, limit)

    def _gain(self, name: str) -> float:
        return math.sqrt(2)

    @property
    def has_score_hooks(self) -> bool:
        return bool(self._score_hooks)

    def _run_score_hooks(self, structure: Structure, scores: Tensor) -> Tensor:
        for hook in self._score_hooks.values():
            changed = hook(self, structure, scores)
            if changed is None:
                continue
            if changed.shape != scores.shape:
                raise ConfigError(
                    f"a score hook returned shape {tuple(changed.shape)}; "
                    f"the scores are {tuple(scores.shape)}"
                )
            scores = changed
        return scores

    def _attend(
        self,
        structure: Structure,
        scores: Scores,
        attn_drop: float = 0.0,
        edge_weight: Tensor | None = None,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        hook = (lambda e: self._run_score_hooks(structure, e)) if self._score_hooks else None
        return graph_attention(
            structure,
            scores,
            score_norm=self.score_norm,
            score_hook=hook,
            attn_drop=attn_drop,
            edge_weight=edge_weight,
            backend=self.backend,
            need_weights=need_weights,
        )

    def _inputs(self, graph, feat: Feat) -> tuple[Structure, Tensor, Tensor]:
        """The structure, and the features of source and destination nodes, checked."""
        attended = self.attended(graph, feat)
        h_src, h_dst = feat if isinstance(feat, tuple) else (feat, None)
        structure = attended.to(h_src.device)
        if h_dst is None:
            # The destination nodes of a block are its first source nodes.
            same_nodes = structure.num_given == structure.num_dst
            if structure.is_bipartite and not same_nodes:
                raise DataError(
                    f"{type(self).__name__}: source and destination nodes of this graph differ: "
                    "pass a pair of features (source, destination)"
                )
            h_dst = h_src if same_nodes else h_src[: structure.num_dst]
        for name, h, num_nodes, width in (
            ("source", h_src, structure.num_given, self.in_src_feats),
            ("destination", h_dst, structure.num_dst, self.in_dst_feats),
        ):
            if h.shape[0] != num_nodes or h.shape[-1] != width:
                raise DataError(
                    f"{type(self).__name__}: {name} features are {tuple(h.shape)}; this graph and "
                    f"layer need ({num_nodes}, {width})"
                )
        is_allowed = self.allow_zero_in_degree or self.sep  # such a node has its own part
        if not is_allowed and structure.has_zero_in_degree:
            raise dgl_error(
                "There are 0-in-degree nodes in the graph: nothing reaches them. Add self-loops "
                "with dgl.add_self_loop(g), or construct the layer with allow_zero_in_degree=True."
            )
        roots = self._degree_roots(structure, h_src)
        if roots is None:
            return structure, h_src, h_dst
        divided = h_src / roots
        if not isinstance(feat, tuple):
            return structure, divided, divided if h_dst is h_src else divided[: structure.num_dst]
        # The nodes of a pair are the same ones, with the same degrees; their features are not.
        return structure, divided, h_dst / self._degree_roots(structure, h_dst)

    def _edges(self, graph, structure: Structure, edge_feat: Tensor | None, feat: Tensor):
        """``w_ij`` of the edges attended over, (E, *, H, D); None without edge features."""
        if not self.edge_feats and edge_feat is None:
            return None
        given = as_structure(graph, feat=feat)
        x = edge_rows(type(self).__name__, self.edge_feats, edge_feat, given, structure)
        return self.fc_edge(x).view(len(x), *[1] * (feat.dim() - 2), self.num_heads, self.out_feats)

    def _degree_roots(self, structure: Structure, like: Tensor) -> Tensor | None:
        """What goes around the layer, for features (N, *, F); None where nothing does."""
        if self.degree_norm == "none":
            return None
        roots = structure.derived(degree_roots, like.dtype)
        return roots[: like.shape[0]].view(-1, *[1] * (like.dim() - 1))

    def _make_residual(self, residual: bool | str, bias: bool) -> nn.Module | None:
        if isinstance(residual, str) and residual != "linear":
            raise ConfigError(
                f"residual: must be true, false or 'linear', got {residual!r}"
                f"{did_you_mean(residual, ['linear'])}"
            )
        self._is_linear = self.sep or residual == "linear"
        width = self.num_heads * self.out_feats
        if self._is_linear or (residual and self.in_dst_feats != width):
            return nn.Linear(self.in_dst_feats, width, bias=bias)
        return nn.Identity() if residual else None

    def _finish(self, structure: Structure, out: Tensor, h_dst: Tensor, weights: Tensor | None):
        """Residual, bias, activation; the attention weights in DGL's shape where there are any."""
        own_bias = None
        if self.res_fc is not None:
            out = added(out, self._split_heads(self.res_fc(h_dst)))
            own_bias = getattr(self.res_fc, "bias", None)
        # Biases stay as they are, as in GCN; and are not wider than what they are added to, as
        # those of a linear map, under autocast too.
        roots = self._degree_roots(structure, out)
        if roots is not None and own_bias is not None:
            own_bias = own_bias.to(out.dtype).view(self.num_heads, self.out_feats)
            out = torch.lerp(own_bias, out, roots)
        elif roots is not None:
            out = out * roots
        if self.bias is not None:
            bias = self.bias.to(out.dtype)
            out = added(out, bias.view(self.num_heads, self.out_feats))
        if self.activation is not None:
            out = self.activation(out)
        return out if weights is None else (out, weights.unsqueeze(-1))

    def _split_heads(self, x: Tensor) -> Tensor:
        """(N, *, H * D) -> (N, *, H, D)."""
        return x.view(*x.shape[:-1], self.num_heads, self.out_feats)

    def extra_repr(self) -> str:
        feats = self.in_src_feats
        if self.in_src_feats != self.in_dst_feats:
            feats = (self.in_src_feats, self.in_dst_feats)
        return f"{feats}, {self.out_feats}, num_heads={self.num_heads}, backend={self.backend!r}"
