"""Put LipschitzNorm into the attention layers of somebody's model, weights kept."""

from __future__ import annotations

import warnings
from typing import Any

from torch import nn

from lipzoo._dgl import find_dgl
from lipzoo.attention import SCORE_NORMS
from lipzoo.nn.conv import AttentionConv
from lipzoo.nn.dotconv import DotGatConv
from lipzoo.nn.gatconv import GATConv
from lipzoo.nn.gatv2conv import GATv2Conv
from lipzoo.nn.multihead import LipschitzMultiheadAttention

__all__ = ["lipschitzify"]


def lipschitzify(
    module: nn.Module, *, alpha: float = 0.25, per_head: bool = True, verbose: bool = True
) -> nn.Module:
    """Give every stock attention layer of DGL and PyTorch inside ``module`` its LipschitzNorm.

    ``dgl.nn.GATConv``, ``GATv2Conv`` and ``DotGatConv`` are replaced by lipzoo's layers of the
    same name, and ``torch.nn.MultiheadAttention``, also inside ``TransformerEncoderLayer`` and
    its like, by :class:`~lipzoo.nn.LipschitzMultiheadAttention`. They take over the very same
    parameters, so an optimiser that holds them still works, and so do ``state_dict`` keys and
    forward hooks. lipzoo's own layers without a score norm get one. A layer used in two places
    stays one layer.

    Parameters
    ----------
    module : torch.nn.Module
        Changed in place; where it is itself such a layer, use the return value.
    alpha, per_head
        Arguments of :class:`~lipzoo.nn.LipschitzNorm`.
    verbose : bool
        Print a line for each layer converted.

    Returns
    -------
    torch.nn.Module
        ``module``, or the layer that replaces it.

    Warns
    -----
    UserWarning
        Where nothing was converted, and for each subclass of a stock layer, which is left as it
        is because its own ``forward`` is unknown.
    """
    norm_args = {"lipschitz": {"alpha": alpha, "per_head": per_head}}
    # Holds the old layer too: the id of one that is freed could be given to a new one.
    converted: dict[int, tuple[nn.Module, nn.Module]] = {}
    count = 0
    ours = _of_dgl()

    def convert(name: str, layer: nn.Module) -> nn.Module:
        nonlocal count
        if id(layer) in converted:
            return converted[id(layer)][1]
        new = layer
        if type(layer) in ours:
            new = _from_dgl(layer, ours[type(layer)])
        elif type(layer) is nn.MultiheadAttention:
            new = _from_torch(layer)
        elif isinstance(layer, (*ours, nn.MultiheadAttention)) and not isinstance(layer, _LAYERS):
            warnings.warn(
                f"{name}: {type(layer).__name__} is a subclass of a stock layer and was left as it "
                "is; derive it from lipzoo.nn's layer instead",
                stacklevel=3,
            )
        if isinstance(new, _LAYERS) and new.score_norm is None:
            kind = SCORE_NORMS[new.lipschitz_norm]
            new.score_norm = kind(**norm_args.get(new.lipschitz_norm, {}))
            count += 1
            if verbose:
                print(f"lipschitzify: {name}: {type(layer).__name__} -> {new.score_norm}")
        converted[id(layer)] = layer, new
        # named_children() would leave out the second name of a layer that has two.
        for child_name, child in list(layer._modules.items()):
            if child is None:
                continue
            new_child = convert(f"{name}.{child_name}".removeprefix("."), child)
            if new_child is not child:
                setattr(new, child_name, new_child)
        if isinstance(layer, nn.TransformerEncoder):
            # It would hand its layers nested tensors, which are for PyTorch's own fast path.
            layer.use_nested_tensor = False
        return new

    replacement = convert("", module)
    if not count:
        warnings.warn(
            f"nothing to convert in {type(module).__name__}: it holds no dgl.nn.GATConv, "
            "GATv2Conv, DotGatConv or torch.nn.MultiheadAttention without a score norm (layers in "
            "a plain list are invisible: use nn.ModuleList)",
            stacklevel=2,
        )
    return replacement


def _of_dgl() -> dict[type[nn.Module], type[AttentionConv]]:
    """DGL's layer -> ours."""
    dgl = find_dgl()
    if dgl is None:
        return {}
    return {getattr(dgl.nn, ours.__name__): ours for ours in (GATConv, GATv2Conv, DotGatConv)}


#: What takes a score norm.
_LAYERS = (AttentionConv, LipschitzMultiheadAttention)


def _from_torch(old: nn.MultiheadAttention) -> LipschitzMultiheadAttention:
    """Our layer with everything that PyTorch's layer holds."""
    new = LipschitzMultiheadAttention(
        old.embed_dim,
        old.num_heads,
        old.dropout,
        old.in_proj_bias is not None,
        old.bias_k is not None,
        old.add_zero_attn,
        old.kdim,
        old.vdim,
        old.batch_first,
        device="meta",
        score_norm=None,
    )
    return _adopt(new, old)


def _from_dgl(old: Any, ours: type[AttentionConv]) -> AttentionConv:
    """Our layer with everything that DGL's layer holds."""
    feats = (old._in_src_feats, old._in_dst_feats)
    new = ours(
        feats if hasattr(old, "fc_src") else feats[0],
        old._out_feats,
        old._num_heads,
        allow_zero_in_degree=old._allow_zero_in_degree,
    )
    new.activation = getattr(old, "activation", None)
    if isinstance(new, GATv2Conv):
        new.share_weights = old.fc_src is old.fc_dst
    return _adopt(new, old)


def _adopt(new: nn.Module, old: nn.Module) -> nn.Module:
    """Hand the parameters, submodules, hooks and mode of ``old`` to ``new``."""
    # A plain attribute (res_fc = None) would hide the module of that name.
    for name in (*old._parameters, *old._modules, *old._buffers):
        new.__dict__.pop(name, None)
    new._parameters, new._modules = dict(old._parameters), dict(old._modules)
    new._buffers = {}
    for name in old._buffers:  # DGL registers a missing bias or residual as a buffer of None
        setattr(new, name, None)
    # PyTorch keeps a dozen dicts of hooks and of flags about them (with_kwargs, always_call, …).
    for name, value in vars(old).items():
        if "hook" in name:
            setattr(new, name, value)
    new.training = old.training
    return new
