"""A converted file is held against the network before it gets its name."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from lipzoo.convert.network import EdgeIndexNetwork, words
from lipzoo.errors import ConfigError

__all__ = ["check_file"]

#: Nodes and edges of the graphs, other sizes than those of the trace; in the second all is empty.
_SIZES = ((40, 150), (1, 0))
#: How far a file may be from float64, in shares of the largest logit.
_CLOSE = 1e-5


def check_file(
    run: Callable[[Tensor, Tensor], Tensor],
    network: EdgeIndexNetwork,
    what: str,
    takes_no_edges: bool = True,
) -> None:
    """Run a file on small random graphs: nodes without edges, repeated edges, rows of zeros.

    It may be as far from the network in float64 as rounding takes the network itself, and a
    little.

    Parameters
    ----------
    run : callable
        ``(feat, edge_index) -> logits``, by the file.
    network : EdgeIndexNetwork
        What the file was made of; runs on its own backend.
    what : str
        Stands before a message.
    takes_no_edges : bool
        Whether what runs it takes a graph without edges.

    Raises
    ------
    ConfigError
        If the file cannot be run or computes something else.
    """
    exact = copy.deepcopy(network).double()
    generator = torch.Generator().manual_seed(0)
    for num_nodes, num_edges in _SIZES if takes_no_edges else _SIZES[:1]:
        feat = torch.randn(num_nodes, network.model.in_feats, generator=generator)
        feat[num_nodes // 2 : num_nodes // 2 + 5] = 0
        # The last nodes get no edge.
        ends = torch.randint(max(1, num_nodes - 4), (2, num_edges), generator=generator)
        loops = torch.arange(num_nodes // 2).expand(2, -1)
        edge_index = torch.cat([ends, ends[:, :5], loops], 1)
        with torch.no_grad():
            wanted, own = exact(feat.double(), edge_index), network(feat, edge_index)
        if not (wanted.isfinite().all() and own.isfinite().all()):
            raise ConfigError(
                f"{what}: the network's own logits are not finite, so that a file cannot be "
                "checked; look at its weights"
            )
        try:
            made = run(feat, edge_index)
        except Exception as fault:  # whatever a runtime raises
            raise ConfigError(f"{what}: the file does not run ({words(fault)})") from fault
        allowed = _CLOSE * max(1.0, float(wanted.abs().max())) + 10 * (own - wanted).abs().max()
        if made.shape != wanted.shape or not (made - wanted).abs().max() <= allowed:
            raise ConfigError(
                f"{what}: the file computes other logits than the network, so it was not written"
            )
