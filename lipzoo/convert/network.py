"""A network with its edges as a tensor: which can be exported, and how it is traced."""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from lipzoo.attention import Structure
from lipzoo.card import Card
from lipzoo.convert.metadata import describe
from lipzoo.errors import CheckpointError, ConfigError, LipzooError, shown
from lipzoo.models import DeepAttentionNet, InContextGATv2
from lipzoo.registry import find_checkpoint, load_pretrained
from lipzoo.weights import Checkpoint

__all__ = ["EdgeIndexNetwork", "Source", "quiet", "read_network", "trace"]

#: What is converted: a network, or what `lipzoo.load_pretrained` takes.
Source = nn.Module | Checkpoint | str | os.PathLike


class EdgeIndexNetwork(nn.Module):
    r"""``forward(feat, edge_index) -> logits``: the network on the edges as they are given.

    A copy in float32 on the CPU, for evaluation. Self-loops are not added: which are missing
    depends on values, and a file would look for them at each call.

    Parameters
    ----------
    model : DeepAttentionNet
        Not touched.

    Raises
    ------
    ConfigError
        If the network does not make logits out of a graph and features alone.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        _check(model)
        self.model = copy.deepcopy(model).cpu().float().eval().requires_grad_(False)
        self.model.add_self_loops = False

    def forward(self, feat: Tensor, edge_index: Tensor) -> Tensor:
        """(N, F), (2, E) -> (N, C); row 0 of the edges has the sources, row 1 the targets."""
        src, dst = edge_index.unbind(0)
        return self.model(Structure(src, dst, feat.shape[0], feat.shape[0]), feat)


def _check(model: nn.Module) -> None:
    name = type(model).__name__
    card = getattr(model, "card", None)
    if isinstance(model, InContextGATv2):
        raise ConfigError(
            f"{name}: reads what a task's labels say of each class, not features, and cannot be "
            "converted; `lipzoo predict` uses it"
        )
    if not isinstance(model, DeepAttentionNet):
        raise ConfigError(
            f"{name}: is no network that reads features, and cannot be converted; pass a "
            "lipzoo.models.DeepAttentionNet, such as what lipzoo.create_model returns"
        )
    if model.start_logits or (card is not None and card.start is not None):
        raise ConfigError(
            f"{name}: corrects what the training labels say (start), and no file holds those; "
            "`lipzoo predict` uses it, and weights that were trained without start are converted"
        )
    if model.edge_feats:
        raise ConfigError(
            f"{name}: reads edge features (edge_feats={model.edge_feats}), and a file takes feat "
            "and edge_index alone; convert weights that read none"
        )
    if not model.num_classes:
        raise ConfigError(
            f"{name}: has no head, so that there are no logits; `lipzoo finetune` gives it one"
        )


def read_network(source: Source) -> tuple[EdgeIndexNetwork, dict[str, str]]:
    """The network, and what its file says of it.

    Raises
    ------
    ConfigError
        If it cannot be exported.
    LipzooError
        See :func:`~lipzoo.registry.find_checkpoint`, where it is no module.
    """
    if isinstance(source, nn.Module):
        model, checkpoint = source, _unchanged(source)
    else:
        checkpoint = find_checkpoint(source)
        model = load_pretrained(checkpoint)
    network = EdgeIndexNetwork(model)
    card: Card | None = getattr(model, "card", None)
    return network, describe(model, card, checkpoint)


def _unchanged(model: nn.Module) -> Checkpoint | None:
    """The checkpoint whose weights these are, if they still are."""
    try:
        return find_checkpoint(model)
    except CheckpointError:
        return None


def trace(network: EdgeIndexNetwork) -> torch.export.ExportedProgram:
    """The network as PyTorch's graph of operations, for any number of nodes and edges.

    Raises
    ------
    ConfigError
        If PyTorch is too old, or cannot trace what somebody's own class does.
    """
    if not hasattr(torch.compiler, "is_exporting"):
        raise ConfigError(f"convert: PyTorch {torch.__version__} is too old; it takes 2.7 or newer")
    # Sizes of an example would be taken for constants where they are 0 or 1.
    feat, edge_index = torch.zeros(3, network.model.in_feats), torch.zeros(2, 4, dtype=torch.long)
    nodes, edges = torch.export.Dim("N"), torch.export.Dim("E")
    try:
        with torch.no_grad(), quiet():
            program = torch.export.export(
                network,
                (feat, edge_index),
                dynamic_shapes={"feat": {0: nodes}, "edge_index": {1: edges}},
                strict=False,
            )
    except LipzooError:
        raise
    except Exception as fault:  # what a class of somebody else does shows in many ways
        raise ConfigError(
            f"{type(network.model).__name__}: PyTorch cannot trace it ({words(fault)}); a layer or "
            "a norm of its own must work on tensors of any size, and decide nothing by values"
        ) from fault
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # which names folders of this machine
    return program


def words(fault: BaseException) -> str:
    """What somebody else's error says, on one short line."""
    return shown(" ".join(f"{type(fault).__name__}: {fault}".split()), 200)


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings of exporters about themselves."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
