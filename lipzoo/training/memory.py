"""How much memory a training needs, before it is begun.

A formula for each layer, norm and residual scheme would go stale. Instead two steps of the very
training are run on graphs of some hundred nodes, and each allocation is looked at
(:mod:`lipzoo._allocations`). The computation is the same on every graph, and the bytes of each
allocation are linear in its nodes and edges: so three small graphs say what a large one takes, of
any architecture, also of one's own. What is in use at the peak follows to a percent or two.

A process holds more than what is in use: Python, PyTorch and the kernels; the data; and what its
malloc keeps. glibc's leaves holes among arrays below 32 MiB, unless
:func:`lipzoo._malloc.giving_back` has them given back, as in trainings whose layers run again and
in a pass by itself. Where the holes come to lie is chance: a middle value stands for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from lipzoo._allocations import Trace, trace
from lipzoo._graph import make_graph
from lipzoo._malloc import keeps_holes
from lipzoo._memory import available_memory, resident_memory, shown_bytes
from lipzoo._progress import Verbose, say
from lipzoo._schema import argument_names
from lipzoo._torch import seeded
from lipzoo.attention.ops import resolve_backend
from lipzoo.datasets import GraphTask
from lipzoo.errors import ConfigError, UnknownNameError
from lipzoo.models import DeepAttentionNet
from lipzoo.models.reversible import is_reversible
from lipzoo.registry import find_class
from lipzoo.registry.building import build_model
from lipzoo.registry.classes import unknown_class
from lipzoo.settings import FitSettings, Full
from lipzoo.training.loop import make_optimizer
from lipzoo.training.metrics import infer
from lipzoo.training.step import train_step

__all__ = ["GraphSizes", "Need", "memory_needed", "say_if_short"]

#: How many times its bytes an array in glibc's heap takes, its share of the holes included: 1.2
#: to 1.7 were measured, over depths and architectures; see docs/size.md.
_WITH_HOLES = 1.45

#: No layer takes as many numbers a node and an edge, for each of the features that it reads.
_MOST_NUMBERS = 16

#: Nodes and edges of the graphs that are run.
_SAMPLES = (100, 500), (200, 500), (100, 1000)


@dataclass(frozen=True)
class GraphSizes:
    """What of a task says how much memory a training on it needs.

    Parameters
    ----------
    nodes, edges : int
        N, and E without self-loops.
    in_feats, num_classes : int
        F and C.
    loops : int
        Self-loops of the graph.
    edge_feats : int
        K.
    nonzero : float, optional
        Share of the features that is not 0, where it is so small that they are read as sparse.
    multilabel : bool
        Whether a node may have several labels.
    train_share : float
        Share of the nodes that is learnt from.
    """

    nodes: int
    edges: int
    in_feats: int
    num_classes: int
    loops: int = 0
    edge_feats: int = 0
    nonzero: float | None = None
    multilabel: bool = False
    train_share: float = 0.6

    def __post_init__(self) -> None:
        lowest = {"nodes": 1, "edges": 0, "in_feats": 1, "num_classes": 1}
        for name, least in lowest.items():
            if getattr(self, name) < least:
                raise ConfigError(f"{name} must be at least {least}, got {getattr(self, name)}")

    @classmethod
    def of(cls, task: GraphTask) -> GraphSizes:
        """Those of a task."""
        src, dst = task.graph.edges()
        loops = int((src == dst).sum())
        sparse, mask = task.sparse_feat, task.train_mask
        return cls(
            task.num_nodes,
            task.num_edges - loops,
            task.in_feats,
            max(1, task.num_classes),  # without labels
            loops,
            task.edge_feats,
            None if sparse is None else sparse.values().numel() / max(1, task.feat.numel()),
            task.multilabel,
            0.6 if mask is None or mask.dim() > 1 else float(mask.float().mean()),
        )

    @property
    def data_bytes(self) -> int:
        """Of graph, features, labels and masks, with 64 bits a node's number."""
        label = 4 * self.num_classes if self.multilabel else 8
        of_node, of_edge = 4 * self.in_feats + label + 3, 16 + 4 * self.edge_feats
        return self.nodes * of_node + (self.edges + self.loops) * of_edge


@dataclass(frozen=True)
class Need:
    """What a training, or an evaluation, takes.

    Parameters
    ----------
    in_use : int
        Bytes at the peak beside the data: weights, what belongs to them, what autograd keeps, and
        what is computed with.
    held : int
        The same as the process holds it, with malloc's holes.
    process : int
        Bytes that this process held after the small graphs: Python, PyTorch, the kernels, and
        what else it had loaded; 0 away from Linux.
    """

    in_use: int
    held: int
    process: int


def memory_needed(model: str, args: Mapping[str, Any], sizes: GraphSizes) -> dict[str, Need]:
    """What each way to train a model takes on a graph of some sizes, on the CPU.

    Parameters
    ----------
    model : str
        A registered class.
    args : mapping
        Its arguments, those that are the data's left out.
    sizes : GraphSizes
        Of the data.

    Returns
    -------
    dict
        ``"evaluation"``; ``"training"``, in which autograd keeps what all layers computed;
        ``"checkpoint_layers"``, where the class has that argument; ``"reversible"``, where the
        model is.

    Raises
    ------
    UnknownNameError
        If no class of that name is registered.
    ConfigError
        If the arguments do not fit the class, or another graph makes it compute something else.
    """
    args = dict(args) | {"in_feats": sizes.in_feats, "num_classes": sizes.num_classes}
    if sizes.edge_feats:
        args["edge_feats"] = sizes.edge_feats
    of_class = find_class(model)
    if of_class is None:
        raise UnknownNameError(f"no registered model class {unknown_class(model)}")
    known = argument_names(of_class)
    if "backend" in known and resolve_backend(args.get("backend", "auto")) == "auto":
        args["backend"] = "fused"  # what "auto" means on a graph that counts
    # Evaluation first: what training loads besides is not its.
    ways = {"evaluation": args, "training": _keeping_states(args)}
    if "checkpoint_layers" in known:
        ways["training"] = ways["training"] | {"checkpoint_layers": False}
        ways["checkpoint_layers"] = ways["training"] | {"checkpoint_layers": True}
    if ways["training"].get("residual") != args.get("residual"):
        ways["reversible"] = args
    return {way: _need(model, given, sizes, way) for way, given in ways.items()}


def say_if_short(
    verbose: Verbose,
    model: nn.Module,
    kind: str,
    args: Mapping[str, Any],
    task: GraphTask,
    settings: FitSettings,
) -> None:
    """Say on stderr where a training on the whole graph needs more memory than there is left.

    Nothing is said of classes of one's own, nor where the sizes alone show that there is enough.

    Parameters
    ----------
    verbose : Verbose
        See :func:`~lipzoo._progress.say`.
    model : torch.nn.Module
        What is trained.
    kind, args
        Its registered class and arguments.
    task, settings
        What it is trained on, and how.
    """
    left = available_memory()
    is_whole = isinstance(settings.batching, Full) and task.device.type == "cpu"
    if not verbose or left is None or not is_whole or not isinstance(model, DeepAttentionNet):
        return
    layers = range(1, model.num_layers + 1)
    numbers = model.in_feats + sum(model.residual.in_feats(layer) for layer in layers)
    if 4 * _MOST_NUMBERS * (task.num_nodes + task.num_edges) * numbers < left:
        return
    needed = {
        way: need.held for way, need in memory_needed(kind, args, GraphSizes.of(task)).items()
    }
    way = "checkpoint_layers" if model.checkpoint_layers else "training"
    way = "reversible" if is_reversible(model.residual) else way
    if needed[way] <= left:
        return
    words = [
        f"checkpoint_layers=true takes {shown_bytes(needed['checkpoint_layers'])}",
        "an architecture with _rev_ in its name less, at any depth",
        "--batching clusters what its parts take",
    ][("training", "checkpoint_layers", "reversible").index(way) :]
    text = (
        f"{task.name}: this training needs about {shown_bytes(needed[way])} more, and "
        f"{shown_bytes(left)} are there; {', '.join(words)} (lipzoo info NAME --data D)"
    )
    say(verbose, text, "memory", needed=needed, available=left)


def _keeping_states(args: dict[str, Any]) -> dict[str, Any]:
    residual = args.get("residual")
    named = {"name": residual} if isinstance(residual, str) else residual
    if isinstance(named, Mapping) and named.get("name") == "reversible":
        return args | {"residual": {**named, "keep_states": True}}
    return args


def _need(model: str, args: dict[str, Any], sizes: GraphSizes, way: str) -> Need:
    found, weights = _trace(model, args, sizes, way == "evaluation")
    is_added = args.get("add_self_loops", True) or args.get("sep", False)
    edges = sizes.edges if is_added else sizes.edges + sizes.loops
    gives_back = way in ("checkpoint_layers", "reversible", "evaluation")

    def held(size: np.ndarray) -> np.ndarray:
        in_heap = np.array([keeps_holes(each) for each in size], dtype=bool)
        return np.where(in_heap, _WITH_HOLES * size, size)

    peak = found.peak(sizes.nodes, edges)
    with_holes = peak if gives_back else found.peak(sizes.nodes, edges, cost=held)
    process = resident_memory() or 0
    return Need(round(peak + weights), round(with_holes + weights), process)


def _trace(
    model: str, args: dict[str, Any], sizes: GraphSizes, evaluates: bool
) -> tuple[Trace, int]:
    """Of two steps, with an evaluation between them, or of an evaluation; bytes of the weights."""
    with seeded(0):
        network = build_model(model, args)

        @seeded(0)
        def run(task: GraphTask) -> None:
            if evaluates:
                infer(network, task)
                return
            settings = FitSettings()
            optimizer = make_optimizer(network, settings.optimizer)
            for epoch in (1, 2):
                train_step(network, task, optimizer, settings, None, epoch)
                infer(network, task)
            optimizer.zero_grad()

        # Compiles the kernels, and lets layers make what they make once.
        run(_sample(sizes, *_SAMPLES[0]))
        tasks = ((size, _sample(sizes, *size)) for size in _SAMPLES)
        try:
            found = trace(run, *tasks)
        except ValueError as fault:
            raise ConfigError(
                f"{model}: what it needs cannot be told from small graphs: {fault}"
            ) from None
    tensors = [*network.parameters(), *network.buffers()]
    weights = sum(tensor.nbytes for tensor in tensors)
    return found, weights if evaluates else 2 * weights  # the best epoch's are kept


def _sample(sizes: GraphSizes, nodes: int, edges: int) -> GraphTask:
    """A task of the same kind with so many nodes and edges, none of them a self-loop."""
    src = torch.randint(nodes, (edges,))
    graph = make_graph(src, (src + torch.randint(1, nodes, (edges,))) % nodes, nodes)
    feat = torch.rand(nodes, sizes.in_feats)
    if sizes.nonzero is not None:
        kept = max(1, round(sizes.nonzero * sizes.in_feats))
        feat[:, kept:] = 0
    learnt = torch.zeros(nodes, dtype=torch.bool)
    learnt[: max(1, round(100 * sizes.train_share) * nodes // 100)] = True
    label = torch.arange(nodes) % sizes.num_classes
    if sizes.multilabel:
        label = torch.rand(nodes, sizes.num_classes).round()
    graph.ndata.update(feat=feat, label=label, train_mask=learnt)
    if sizes.edge_feats:
        graph.edata["feat"] = torch.rand(edges, sizes.edge_feats)
    return GraphTask("sample", graph, sizes.num_classes, sizes.multilabel)
