"""`GraphTask`: a graph, what is to be predicted on it, and which nodes are for what."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from lipzoo._graph import AnyGraph, moved, with_all_formats
from lipzoo.datasets.batch import batch_graphs
from lipzoo.datasets.checks import validate_task
from lipzoo.datasets.convert import MASKS, class_count, compress, noted_class_count, tidy_graph
from lipzoo.datasets.fingerprint import fingerprint_of
from lipzoo.datasets.metric import default_metric
from lipzoo.datasets.names import as_class_names, as_feature_names, as_node_ids, recount
from lipzoo.datasets.sources import Sources
from lipzoo.datasets.splits import one_split
from lipzoo.errors import ConfigError, DataError

__all__ = ["GraphTask"]


@dataclass(eq=False)
class GraphTask(Sources):
    """Node classification on one graph of N nodes, E edges, F features and C classes.

    Parameters
    ----------
    name : str
        A name that `load_dataset` knows, or the path that the graph was read from.
    graph : dgl.DGLGraph, or lipzoo._graph.Graph where DGL is not installed
        Homogeneous. ``ndata["feat"]`` float32 (N, F); ``ndata["label"]`` int64 (N,), or float32
        (N, C) when multilabel, with -1 for a node without a label; ``ndata["train_mask"]``,
        ``["val_mask"]`` and ``["test_mask"]`` bool (N,), disjoint; perhaps ``edata["feat"]``
        float32 (E, K). The edges are as they came: no self-loops are added here. Use `from_graph`
        for a graph of your own.
    num_classes : int
        C; 0 on a graph without labels.
    multilabel : bool
        Whether a node may have several labels at once.
    options : dict
        Plain YAML values; ``load_dataset(task.name, **task.options)`` loads the same task.
    metric : str
        One of `lipzoo.datasets.metric`; by default ``"accuracy"``, or ``"micro_f1"`` where
        multilabel.
    parts : tuple of GraphTask
        Where features were made of labels: for each part of the training nodes the task with
        features that were made without its labels, and ``train_mask`` that part. Training takes
        them in turn.
    class_names : tuple of str
        The classes by name, where the data name them.
    node_ids : sequence of N int or str, optional
        What the nodes are called where the data came from: predictions name them so.
    feature_names : tuple of F str
        The columns of the features as they came, where the data name each.
    mapped : bool
        The features lie in a file, of any type of real numbers: they are read some rows at a
        time, and never searched for zeros.
    """

    name: str
    graph: AnyGraph
    num_classes: int
    multilabel: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    metric: str = ""
    parts: tuple[GraphTask, ...] = field(default=(), repr=False)
    class_names: tuple[str, ...] = field(default=(), repr=False)
    node_ids: Sequence[int | str] | None = field(default=None, repr=False)
    feature_names: tuple[str, ...] = field(default=(), repr=False)
    mapped: bool = field(default=False, repr=False)
    _fingerprint: str = field(default="", repr=False)
    _sparse: tuple[Tensor | None] | None = field(default=None, repr=False)
    _source: GraphTask | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.graph = with_all_formats(self.graph)
        if not self.metric:
            self.metric = default_metric(self.multilabel)

    @classmethod
    def from_graph(
        cls,
        graph: AnyGraph,
        name: str = "graph",
        *,
        num_classes: int | None = None,
        metric: str = "",
        class_names: Sequence[str] = (),
        node_ids: Sequence[int | str] | None = None,
        feature_names: Sequence[str] = (),
        mapped: bool = False,
    ) -> GraphTask:
        """Make a task of your own DGL graph, which is not touched.

        Features become float32, integer labels int64, 0/1 masks bool. Call `validate` on the
        result, once it has its masks, before you train on it.

        Parameters
        ----------
        graph : dgl.DGLGraph
            Homogeneous, with ``ndata["feat"]`` and, where there are any, ``ndata["label"]`` and
            the three masks; masks (N, S) of S splits, of which `with_split` takes one.
        num_classes : int, optional
            C; by default the largest label plus one, or the width of multilabel labels.
        metric, class_names, node_ids, feature_names
            See the class.
        mapped : bool
            The features are backed by a file (``torch.from_file``, or ``torch.from_numpy`` of
            ``numpy.load(…, mmap_mode="r")``): they stay what and where they are.

        Raises
        ------
        DataError
            If it is no DGL graph, is heterogeneous, or something in it is not a number.
        """
        graph = tidy_graph(graph, name, mapped)
        labels = graph.ndata.get("label")
        multilabel = labels is not None and labels.dim() == 2
        if num_classes is None:
            num_classes = max(noted_class_count(labels, name), len(class_names))
        more = {
            "class_names": as_class_names(class_names, int(num_classes), name),
            "node_ids": as_node_ids(node_ids, graph.num_nodes(), name),
        }
        if feature_names:
            width = graph.ndata["feat"].shape[1] if "feat" in graph.ndata else 0
            more["feature_names"] = as_feature_names(feature_names, width, name)
        return cls(name, graph, int(num_classes), multilabel, metric=metric, mapped=mapped, **more)

    @classmethod
    def from_graphs(
        cls,
        train: Sequence[AnyGraph],
        val: Sequence[AnyGraph],
        test: Sequence[AnyGraph],
        name: str = "graphs",
        *,
        num_classes: int | None = None,
        metric: str = "",
    ) -> GraphTask:
        """Make an inductive task of your own DGL graphs: learn on some, be judged on others.

        They become one batched graph, as those of ``"ppi"`` (`dgl.unbatch` parts it). No edge
        joins two of them, so that training sees nothing of the others; only feature norms that
        average over all nodes (``pairnorm``, ``batchnorm``) look across. All labelled nodes of a
        graph (those whose label is not -1) are in its split; masks that it brings are not read.

        Parameters
        ----------
        train, val, test : sequences of dgl.DGLGraph
            Each at least one graph, with ``ndata["feat"]`` and ``ndata["label"]``. Not touched.
        num_classes : int, optional
            C; by default as the labels of all graphs show it.

        Raises
        ------
        DataError
            If a split has no graph, or a graph does not go with the others.
        """
        graph = batch_graphs((train, val, test), name)
        return cls.from_graph(graph, name, num_classes=num_classes, metric=metric)

    @property
    def feat(self) -> Tensor:
        """The node features, float32 (N, F); all in memory where mapped in another type."""
        return self.stored_feat if not self.mapped else self.stored_feat.float()

    @property
    def stored_feat(self) -> Tensor:
        """The node features (N, F), of the type in which they lie there."""
        if "feat" not in self.graph.ndata:
            raise DataError(f"{self.name}: no node features: put a float array (N, F) under 'feat'")
        return self.graph.ndata["feat"]

    def feat_of(self, nodes: Tensor | slice) -> Tensor:
        """The features of some nodes, float32 (n, F)."""
        rows = self.stored_feat[nodes]
        return rows.float() if self.mapped else rows

    @property
    def edge_feat(self) -> Tensor | None:
        """The edge features, float32 (E, K), in the order of the edges; None without."""
        return self.graph.edata.get("feat")

    @property
    def sparse_feat(self) -> Tensor | None:
        """The features as a ``torch.sparse_csr`` tensor, made once; None where a tenth is nonzero,
        or they are mapped."""
        if self._sparse is None:
            self._sparse = (None if self.mapped else compress(self.feat),)
        return self._sparse[0]

    @property
    def labels(self) -> Tensor | None:
        """The labels, int64 (N,) or float32 (N, C); None on a graph without labels."""
        return self.graph.ndata.get("label")

    @property
    def train_mask(self) -> Tensor | None:
        """The nodes to train on, bool (N,); None on a graph without a split."""
        return self.graph.ndata.get("train_mask")

    @property
    def val_mask(self) -> Tensor | None:
        """The nodes to choose an epoch by, bool (N,); None on a graph without a split."""
        return self.graph.ndata.get("val_mask")

    @property
    def test_mask(self) -> Tensor | None:
        """The nodes to report on, bool (N,); None on a graph without a split."""
        return self.graph.ndata.get("test_mask")

    @property
    def has_split(self) -> bool:
        """Whether all three masks are there."""
        return all(mask in self.graph.ndata for mask in MASKS)

    @property
    def has_any_mask(self) -> bool:
        """Whether one of the masks is there."""
        return any(mask in self.graph.ndata for mask in MASKS)

    @property
    def num_splits(self) -> int:
        """S, the splits that come with the data: masks (N, S) hold several; 0 without masks."""
        masks = self._public_masks().values()
        return max((mask.shape[1] if mask.dim() == 2 else 1 for mask in masks), default=0)

    @property
    def num_nodes(self) -> int:
        """N."""
        return self.graph.num_nodes()

    @property
    def num_edges(self) -> int:
        """E."""
        return self.graph.num_edges()

    @property
    def in_feats(self) -> int:
        """F; 0 without features."""
        return self.stored_feat.shape[-1] if "feat" in self.graph.ndata else 0

    @property
    def edge_feats(self) -> int:
        """K; 0 without edge features."""
        return 0 if self.edge_feat is None else self.edge_feat.shape[-1]

    @property
    def reads_labels(self) -> bool:
        """Whether the features were made of the training labels; see `lipzoo.encoding`."""
        return "start" in self.options or "kind" in self.options.get("encoding", {})

    @property
    def device(self) -> torch.device:
        """Where the graph is."""
        return self.graph.device

    def to(self, device: torch.device | str) -> GraphTask:
        """The same task on another device; its graph is one of lipzoo's own where the installed
        DGL was not built for that (DGL's of PyPI knows CPUs alone)."""
        parts = tuple(part.to(device) for part in self.parts)
        return replace(self, graph=moved(self.graph, device), parts=parts, _sparse=None)

    def with_ndata(self, **columns: Tensor) -> GraphTask:
        """A copy whose ``graph.ndata`` has these columns instead; the original is not touched.

        Other masks make another split of the same data; other features or labels, other data.

        Raises
        ------
        ConfigError
            If the features were made of the labels that the masks show, and would no longer be.
        """
        if self.reads_labels and set(columns) - {"feat"}:
            raise ConfigError(
                f"{self.name}: the features were made of the training labels; change "
                f"{', '.join(sorted(columns))} of the raw task, and make them again"
            )
        graph = self.graph.local_var()
        graph.ndata.update(columns)
        return replace(
            self,
            graph=graph,
            options=dict(self.options),
            parts=(),
            mapped=self.mapped and "feat" not in columns,
            feature_names=() if "feat" in columns else self.feature_names,
            _fingerprint="",
            _sparse=None,
            _source=self.source if columns.keys() <= set(MASKS) else None,
        )

    def with_feat(self, feat: Tensor, **options: Any) -> GraphTask:
        """A copy with features that were made of the data's: fingerprint and source stay those of
        the data, since the last bits of what is computed differ between machines.

        ``options`` say how they were made.
        """
        made = self.with_ndata(feat=feat)
        made._fingerprint, made._source = self.fingerprint, self.source
        made.feature_names = self.feature_names
        made.options |= options
        return made

    def with_classes(self, names: Sequence[str]) -> GraphTask:
        """The task with its classes counted as these names are: those that weights have learnt.

        Where one of both has none, a class is called by its number; several labels a node stay.

        Raises
        ------
        DataError
            If it has a class of another name.
        """
        is_one_sided = not (names and self.class_names)
        if self.class_names == tuple(names) or (is_one_sided and self.multilabel):
            return self
        label = recount(self.labels, self.class_names, names, self.name)
        task = self if label is None else self.with_ndata(label=label)
        if task is not self and self._source is not None:
            task._source = self._source.with_classes(names)  # nothing else has changed
        return replace(task, class_names=tuple(names), num_classes=len(names) or class_count(label))

    def with_parts(self, parts: Iterable[tuple[GraphTask, Tensor]]) -> GraphTask:
        """The task with :attr:`parts`: features without the labels of a part, and the part."""
        made = []
        for task, hidden in parts:
            graph = task.graph.local_var()
            graph.ndata["train_mask"] = hidden
            made.append(replace(task, graph=graph))
        return replace(self, parts=tuple(made))

    def with_split(self, index: int) -> GraphTask:
        """The data as they came, with one of their S splits: column ``index`` of masks (N, S).

        A mask (N,) beside them is that of every split. Features that were erased or encoded are
        again as they came (`source`), since that may have depended on the split.

        Raises
        ------
        ConfigError
            If there is no such split.
        DataError
            If the masks are of different numbers of splits.
        """
        columns = one_split(self._public_masks(), self.num_splits, index, self.name)
        chosen = self.source.with_ndata(**columns)
        chosen.metric = self.metric
        if columns:
            chosen.options |= {"split": "public", "split_index": int(index)}
        return chosen

    def _public_masks(self) -> dict[str, Tensor]:
        data = self.source.graph.ndata
        return {name: data[name] for name in MASKS if name in data}

    def validate(self, require_labels: bool = True, masks: Sequence[str] = MASKS) -> GraphTask:
        """Raise `DataError` naming every fault; return the task itself where there is none.

        ``masks`` are those that must be there, where labels are required.
        """
        validate_task(self, require_labels, masks)
        return self

    @property
    def fingerprint(self) -> str:
        """SHA-256 of edges, features of both, labels and masks, as 64 hexadecimal digits.

        The same on every machine and for any order of the edges. Computed once: a task whose graph
        you change afterwards keeps it.
        """
        if not self._fingerprint:
            self._fingerprint = fingerprint_of(self.graph, mapped=self.mapped)
        return self._fingerprint

    @property
    def source(self) -> GraphTask:
        """The data as they came: before a split was drawn, or features erased or encoded."""
        return self if self._source is None else self._source

    @property
    def data_fingerprint(self) -> str:
        """SHA-256 of edges, features and labels as they came: the same for every split."""
        return fingerprint_of(self.source.graph, (), self.source.mapped)

    def summary(self) -> dict[str, Any]:
        """The sizes of the task, as plain values."""
        sizes = {
            "name": self.name,
            "nodes": self.num_nodes,
            "edges": self.num_edges,
            "features": self.in_feats,
            "classes": self.num_classes,
            "multilabel": self.multilabel,
            "metric": self.metric,
        }
        for mask in MASKS:
            if mask in self.graph.ndata:
                sizes[mask.removesuffix("_mask")] = int(self.graph.ndata[mask].sum())
        return sizes

    def __repr__(self) -> str:
        sizes = self.summary()
        parts = [f"{key}={sizes[key]}" for key in ("nodes", "edges", "features", "classes")]
        if self.has_split:
            parts.append(f"split={sizes['train']}/{sizes['val']}/{sizes['test']}")
        if self.multilabel:
            parts.append("multilabel")
        parts += [f"{key}={value}" for key, value in self.options.items() if key != "split"]
        return f"GraphTask({self.name!r}, {', '.join(parts)})"
