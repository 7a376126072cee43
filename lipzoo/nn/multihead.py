"""Dense self-attention with LipschitzNorm, drop-in for ``torch.nn.MultiheadAttention``."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lipzoo.attention import DotProductLipschitzNorm, make_score_norm
from lipzoo.attention.score_norms import _root, _square_length, divide
from lipzoo.errors import ConfigError, DataError

__all__ = ["LipschitzMultiheadAttention"]


class LipschitzMultiheadAttention(nn.MultiheadAttention):
    r"""Multi-head attention whose scores are divided by LipschitzNorm for dot products.

    .. math::
        e_{ij} = \frac{q_i \cdot k_j / \sqrt D}{\max(uv, uw, vw)}, \quad
        u = \lVert q_i \rVert, \;
        v = \max_j \lVert k_j \rVert, \;
        w = \max_j \lVert v_j \rVert

    per head, the maxima over the keys that query i may attend to. The divisor belongs to the
    query, so it is the query that is divided, and PyTorch's fused kernels do the rest.

    A key may not be attended to where a boolean mask is true, where what masks add up to is
    ``-inf``, and where it lies so far below the largest entry of its row that its weight is 0
    whatever the scores are: by 112 and more, in float64 by 753. So ``-1e9`` closes as ``-inf``
    does, and a bias that leaves some weight does not.

    Takes the arguments and has the ``state_dict`` keys of ``torch.nn.MultiheadAttention``. The
    inference fast path of ``torch.nn.TransformerEncoderLayer``, which would read the weights and
    leave this layer out, is not taken.

    Parameters
    ----------
    embed_dim, num_heads, dropout, bias, add_bias_kv, add_zero_attn, kdim, vdim
        Those of ``torch.nn.MultiheadAttention``.
    batch_first, device, dtype
        As there.
    score_norm : "dot_lipschitz", DotProductLipschitzNorm or None
        ``None`` gives plain attention.

    Shapes
    ------
    - query: (L, E), (L, B, E), or (B, L, E) with ``batch_first=True``; key and value alike with S
    - output: as query; weights (B, L, S), or (B, H, L, S) with ``average_attn_weights=False``

    Raises
    ------
    ConfigError
        If the score norm is for something else.
    DataError
        If shapes do not fit, or a mask is of neither truth values nor floating-point numbers.

    Notes
    -----
    A query that may attend to nothing gets zero attention, where PyTorch gives NaN. Nested
    tensors are not taken.

    References
    ----------
    Dasoulas, Scaman, Virmaux, ICML 2021, section 4.2; with ``scope="node"``.
    """

    lipschitz_norm = "dot_lipschitz"

    def __init__(
        self,
        embed_dim,
        num_heads,
        dropout=0.0,
        bias=True,
        add_bias_kv=False,
        add_zero_attn=False,
        kdim=None,
        vdim=None,
        batch_first=False,
        device=None,
        dtype=None,
        *,
        score_norm="dot_lipschitz",
    ) -> None:
        super().__init__(
            embed_dim,
            num_heads,
            dropout,
            bias,
            add_bias_kv,
            add_zero_attn,
            kdim,
            vdim,
            batch_first,
            device,
            dtype,
        )
        norm = make_score_norm(score_norm)
        if norm is not None and (type(norm), getattr(norm, "scope", "")) != (
            DotProductLipschitzNorm,
            "node",
        ):
            raise ConfigError(
                "LipschitzMultiheadAttention: score_norm must be 'dot_lipschitz' with scope "
                f"'node', or None; got {norm}"
            )
        self.score_norm = norm

    def _reset_parameters(self) -> None:
        self._qkv_same_embed_dim = self.in_proj_weight is not None
        super()._reset_parameters()
        # TransformerEncoderLayer's fast path, which never calls this layer, needs the flag. No
        # other code reads it.
        self._qkv_same_embed_dim = False

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend; see the class for shapes and ``torch.nn.MultiheadAttention`` for the masks."""
        is_batched = query.dim() == 3
        if is_causal and attn_mask is None:
            raise DataError(
                "LipschitzMultiheadAttention: is_causal is a hint about attn_mask, which is None; "
                "pass torch.nn.Transformer.generate_square_subsequent_mask(L)"
            )
        query, key, value = (self._batch_first(x, is_batched) for x in (query, key, value))
        self._check(query, key, value)
        q, k, v = (self._split_heads(x) for x in self._project(query, key, value))
        allowed, added = self._mask(q, k, attn_mask, key_padding_mask)
        k, v, allowed, added = self._with_constant_keys(k, v, allowed, added)
        if self.score_norm is not None:
            if added is not None:
                allowed = _in_reach(allowed, added)
            q = divide(q, self._divisor(q, k, v, allowed).unsqueeze(-1)).to(q.dtype)
        out, weights = self._attend(q, k, v, allowed, added, need_weights)
        out = self.out_proj(out.transpose(1, 2).flatten(2))
        if weights is not None and average_attn_weights:
            weights = weights.mean(1)
        if not is_batched:
            return out.squeeze(0), None if weights is None else weights.squeeze(0)
        return out if self.batch_first else out.transpose(0, 1), weights

    # ------------------------------------------------------------------- parts

    def _batch_first(self, x: Tensor, is_batched: bool) -> Tensor:
        if x.is_nested:
            raise DataError("LipschitzMultiheadAttention: nested tensors are not taken; pad them")
        if not is_batched:
            return x.unsqueeze(0)
        return x if self.batch_first else x.transpose(0, 1)

    def _check(self, query: Tensor, key: Tensor, value: Tensor) -> None:
        batch, length = query.shape[0], key.shape[1]
        wanted = {
            "query": (query, (batch, query.shape[1], self.embed_dim)),
            "key": (key, (batch, length, self.kdim)),
            "value": (value, (batch, length, self.vdim)),
        }
        for name, (x, shape) in wanted.items():
            if x.shape != shape:
                raise DataError(
                    f"LipschitzMultiheadAttention: {name} is {tuple(x.shape)} (batch first); this "
                    f"layer and the query need {shape}"
                )

    def _project(self, query: Tensor, key: Tensor, value: Tensor) -> list[Tensor]:
        if self.in_proj_weight is not None:
            weights = self.in_proj_weight.chunk(3)
        else:
            weights = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        biases = (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        return [F.linear(x, w, b) for x, w, b in zip((query, key, value), weights, biases)]

    def _split_heads(self, x: Tensor) -> Tensor:
        """(B, L, H * D) -> (B, H, L, D)."""
        return x.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)

    def _mask(self, q, k, attn_mask, key_padding_mask) -> tuple[Tensor | None, Tensor | None]:
        """Who may attend to whom, and what is added to the scores; (B, H, L, S) or broadcast."""
        batch, heads, length, source = *q.shape[:3], k.shape[2]
        allowed = added = None
        shapes = {
            "attn_mask": [(length, source), (batch * heads, length, source)],
            "key_padding_mask": [(batch, source), *([(source,)] if batch == 1 else [])],
        }
        for name, mask in (("attn_mask", attn_mask), ("key_padding_mask", key_padding_mask)):
            if mask is None:
                continue
            if tuple(mask.shape) not in shapes[name]:
                raise DataError(
                    f"LipschitzMultiheadAttention: {name} is {tuple(mask.shape)}; needs "
                    f"{' or '.join(map(str, shapes[name]))}"
                )
            if name == "key_padding_mask":
                mask = mask.view(batch, 1, 1, source)
            elif mask.dim() == 3:
                mask = mask.view(batch, heads, length, source)
            else:
                mask = mask.view(1, 1, length, source)
            if mask.dtype == torch.bool:
                allowed = ~mask if allowed is None else allowed & ~mask
            elif mask.is_floating_point():
                mask = mask.to(q.dtype)
                added = mask if added is None else added + mask
            else:
                raise DataError(
                    f"LipschitzMultiheadAttention: {name} is of type {mask.dtype}: neither true "
                    "where attention is not allowed nor what is added to the scores; pass "
                    f"{name}.bool() or a floating-point type"
                )
        if added is not None:
            open_ = added != -torch.inf
            allowed = open_ if allowed is None else allowed & open_
            added = added.masked_fill(~open_, 0)
        return allowed, added

    def _with_constant_keys(self, k, v, allowed, added):
        """Append the learnt key and the zero key, which everyone may attend to."""
        constant: list[tuple[Tensor, Tensor]] = []
        if self.bias_k is not None:
            constant.append(tuple(self._split_heads(b) for b in (self.bias_k, self.bias_v)))
        if self.add_zero_attn:
            zero = k.new_zeros(1, self.num_heads, 1, self.head_dim)
            constant.append((zero, zero))
        for more_k, more_v in constant:
            k = torch.cat([k, more_k.expand(len(k), -1, -1, -1)], dim=2)
            v = torch.cat([v, more_v.expand(len(v), -1, -1, -1)], dim=2)
            allowed = None if allowed is None else F.pad(allowed, (0, 1), value=True)
            added = None if added is None else F.pad(added, (0, 1))
        return k, v, allowed, added

    @staticmethod
    def _divisor(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None) -> Tensor:
        """``max(uv, uw, vw)`` of each query, (B, H, L)."""

        def longest(x: Tensor) -> Tensor:
            square = _square_length(x).unsqueeze(-2)
            if allowed is not None:
                square = square.masked_fill(~allowed, 0)
            # Over no keys it is 0.
            return _root(square.amax(-1) if k.shape[2] else square.sum(-1))

        u, v, w = _root(_square_length(q)), longest(k), longest(v)
        return torch.maximum(torch.maximum(u * v, u * w), v * w)

    def _attend(self, q, k, v, allowed, added, need_weights) -> tuple[Tensor, Tensor | None]:
        drop = self.dropout if self.training else 0.0
        mask, lonely = added, None
        if allowed is not None:
            lonely = ~allowed.any(-1, keepdim=True)
            # A row without any key would be NaN: open it, and zero it afterwards.
            closed = ~(allowed | lonely)
            mask = torch.zeros_like(closed, dtype=q.dtype) if added is None else added
            mask = mask.masked_fill(closed, -torch.inf)
        if not need_weights:
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=drop)
            return out if lonely is None else out.masked_fill(lonely, 0), None
        scores = q @ k.transpose(-2, -1) / self.head_dim**0.5
        weights = (scores if mask is None else scores + mask).softmax(-1)
        if lonely is not None:
            weights = weights.masked_fill(lonely, 0)
        weights = F.dropout(weights, drop)
        return weights @ v, weights

    def extra_repr(self) -> str:
        return f"{self.embed_dim}, num_heads={self.num_heads}, batch_first={self.batch_first}"


#: How far the scores of a row, each at most 1 in absolute value, and their rounding can bring two
#: entries of a mask together, with as much to spare.
_SPREAD = 8.0


def _in_reach(allowed: Tensor, added: Tensor) -> Tensor:
    """Without the keys whose weight is 0 whatever the scores are, for they are no neighbours.

    The exponential of less than the logarithm of the smallest positive number is 0. Fewer than 32
    bits are summed up in 32.
    """
    kind = added.dtype if added.dtype == torch.float64 else torch.float32
    reach = _SPREAD - math.log(torch.finfo(kind).smallest_normal * torch.finfo(kind).eps)
    added = added.detach().to(kind)
    if not added.shape[-1]:
        return allowed
    highest = added.masked_fill(~allowed, -torch.inf).amax(-1, keepdim=True)
    return allowed & (added >= highest - reach)
