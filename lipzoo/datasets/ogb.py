"""Node classification sets of the Open Graph Benchmark (Hu et al. 2020), by the package ``ogb``.

The package keeps a folder ``processed`` beside its raw files: ``raw_dir`` must be writable once.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from pathlib import Path

import torch
from torch import Tensor

from lipzoo._dgl import need_dgl
from lipzoo._files import check_folder
from lipzoo._graph import AnyGraph, to_bidirected
from lipzoo.datasets.catalogue import register_dataset
from lipzoo.datasets.convert import MASKS
from lipzoo.datasets.raw_files import raw_root
from lipzoo.datasets.task import GraphTask
from lipzoo.errors import DataError

__all__ = ["ogbn_arxiv", "ogbn_proteins"]

RawDir = str | os.PathLike | None


@register_dataset("ogbn-arxiv")
def ogbn_arxiv(*, raw_dir: RawDir = None) -> GraphTask:
    """169,343 papers, F = 128 word vectors, C = 40 fields; citations in both directions.

    The public split is by year: to 2017 train, 2018 validate, after that test.
    """
    graph, labels, masks = _read("ogbn-arxiv", raw_dir)
    graph = to_bidirected(graph)
    graph.ndata.update(label=labels, **masks)
    return GraphTask.from_graph(graph, "ogbn-arxiv", num_classes=40)


@register_dataset("ogbn-proteins")
def ogbn_proteins(*, raw_dir: RawDir = None) -> GraphTask:
    """132,534 proteins of 8 species, F = 8, C = 112 functions at once, judged by ROC-AUC.

    Proteins have no features: each gets the mean of those of its incoming edges, as is usual.
    The public split is by species.
    """
    graph, labels, masks = _read("ogbn-proteins", raw_dir)
    function = need_dgl("ogbn-proteins").function
    graph.update_all(function.copy_e("feat", "m"), function.mean("m", "feat"))
    del graph.edata["feat"]
    graph.ndata.update(label=labels, **masks)
    return GraphTask.from_graph(graph, "ogbn-proteins", metric="roc_auc")


def _check_there(folder: Path, name: str) -> None:
    """Keep ogb, which asks nobody, from a network that is forbidden."""
    from lipzoo._fetch.cache import check_online
    from lipzoo._fetch.purpose import Purpose

    if not (folder.is_dir() or folder.with_name(f"{folder.name}_dgl").is_dir()):
        by_hand = f"put the files that ogb keeps into {folder}"
        check_online(name, Purpose(error=DataError, stated_by="ogb", by_hand=by_hand))


def _read(name: str, raw_dir: RawDir) -> tuple[AnyGraph, Tensor, dict[str, Tensor]]:
    """The graph as ogb gives it, the labels (N, 1) or (N, C), and the public split as masks."""
    need_dgl(name)  # ogb's class makes a DGLGraph, and keeps it
    try:
        nodeproppred = importlib.import_module("ogb.nodeproppred")
    except ImportError:
        raise DataError(f"{name} needs the package ogb: pip install 'lipzoo[ogb]'") from None
    root = raw_root(raw_dir)
    _check_there(root / name.replace("-", "_"), name)
    try:
        check_folder(root / name.replace("-", "_"))  # ogb opens files by their names
        # ogb reports, and may ask, on standard output, which belongs to our caller's results.
        with contextlib.redirect_stdout(sys.stderr):
            dataset = nodeproppred.DglNodePropPredDataset(name=name, root=str(root))
            graph, labels = dataset[0]
            parts = dataset.get_idx_split()
    except (Exception, SystemExit) as fault:  # ogb exits where a download is declined
        raise DataError(
            f"{name}: ogb can neither read it under {root} nor download it "
            f"({type(fault).__name__}: {fault})"
        ) from fault
    masks = {}
    for mask, part in zip(MASKS, ("train", "valid", "test")):
        masks[mask] = torch.zeros(graph.num_nodes(), dtype=torch.bool)
        masks[mask][torch.as_tensor(parts[part])] = True
    return graph, labels, masks
