"""Edge features on their way to the edges that are attended over."""

from __future__ import annotations

import torch
from torch import Tensor

from lipzoo.attention import Structure
from lipzoo.errors import ConfigError, DataError

__all__ = ["check_edges", "edge_rows", "rows_attended"]


def check_edges(edge_feats: int, edge_values: bool) -> None:
    """Refuse arguments that mean nothing.

    Raises
    ------
    ConfigError
    """
    if isinstance(edge_feats, bool) or not isinstance(edge_feats, int) or edge_feats < 0:
        raise ConfigError(
            f"edge_feats must be the width of the edge features, 0 for none, got {edge_feats!r}"
        )
    if not isinstance(edge_values, bool):
        raise ConfigError(f"edge_values must be true or false, got {edge_values!r}")
    if edge_values and not edge_feats:
        raise ConfigError("edge_values needs edge features: pass edge_feats=K, their width")


def rows_attended(x: Tensor, given: Structure, attended: Structure) -> Tensor:
    """What belongs to the edges of ``given``, (E, *), for those of ``attended``, (E', *).

    Self-loops that were added (:meth:`Structure.with_self_loops`) have zeros; the rows of those
    that were left out (:meth:`Structure.without_self_loops`) are left out.
    """
    added = attended.num_edges - given.num_edges
    if added > 0:
        return torch.cat([x, x.new_zeros(added, *x.shape[1:])])
    return x if added == 0 else x[(given.src != given.dst).to(x.device)]


def edge_rows(
    owner: str, width: int, edge_feat: Tensor | None, given: Structure, attended: Structure
) -> Tensor | None:
    """Edge features (E, K) for the edges attended over, (E', K), checked; None without.

    Parameters
    ----------
    owner : str
        The layer or model, for messages.
    width : int
        ``K``; 0 for one that reads none.
    edge_feat : Tensor (E, K) or None
        In the order of the edges of ``given``.
    given, attended : Structure
        The graph as it came, and the edges attended over.

    Raises
    ------
    DataError
        If edge features are missing, not wanted, or do not fit.
    """
    if not width:
        if edge_feat is not None:
            raise DataError(
                f"{owner}: was built without edge features, and edge_feat is given: build it with "
                "edge_feats=K, their width, or leave edge_feat out"
            )
        return None
    wanted = f"({given.num_edges}, {width})"
    if edge_feat is None:
        raise DataError(
            f"{owner}: was built for edge features (edge_feats={width}): pass edge_feat, {wanted}"
        )
    if not isinstance(edge_feat, Tensor) or not edge_feat.is_floating_point():
        kind = getattr(edge_feat, "dtype", type(edge_feat).__name__)
        raise DataError(f"{owner}: edge_feat must be a tensor of floats, {wanted}, but is {kind}")
    if edge_feat.shape != (given.num_edges, width):
        raise DataError(
            f"{owner}: edge features are {tuple(edge_feat.shape)}; this graph and layer need "
            f"{wanted}, a row an edge in the order of the graph's edges"
        )
    return rows_attended(edge_feat, given, attended)
