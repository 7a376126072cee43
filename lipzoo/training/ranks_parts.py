"""A graph that is cut into parts, one for each process: on the way, and in a folder.

A folder holds ``parts.yaml`` (what was cut, and how), ``nodes.npz`` (labels and split of all
nodes) and ``part_0.npz``, … (features of a process's own nodes, and their in-edges). A process
that trains with it reads the first two and its part: none holds all edges or features. Parts for
DistDGL (``engine``) have ``graph.json`` and ``part0/``, … in place of the last, which its servers
read.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pydantic
import torch
from torch import Tensor

from lipzoo._atomic import write_atomically
from lipzoo._dgl import need_dgl
from lipzoo._distdgl import GRAPH_NAME
from lipzoo._graph import make_graph
from lipzoo._output import OutputFolder, differing
from lipzoo._schema import validate
from lipzoo._writing import one_writer
from lipzoo._yaml import read_yaml, write_yaml
from lipzoo.attention import Structure, as_structure
from lipzoo.datasets import GraphTask
from lipzoo.datasets.convert import MASKS
from lipzoo.datasets.npz import read_arrays
from lipzoo.errors import ConfigError, DataError
from lipzoo.nn.degrees import degree_counts
from lipzoo.settings import Engine
from lipzoo.training.batching_clusters import clusters_of
from lipzoo.training.data_entry import kept_feature_names
from lipzoo.training.distdgl_parts import (
    check_distdgl_parts,
    check_room,
    disk_bytes,
    part_files,
    shared_bytes,
    write_graph,
)
from lipzoo.training.recipe import Recipe

__all__ = ["Cut", "Parts", "cut_of", "owners", "write_parts"]

T = TypeVar("T")

PARTS_FILE, _NODES_FILE = "parts.yaml", "nodes.npz"
_OWN_FILES = (PARTS_FILE, _NODES_FILE, "part_*.npz", f"{GRAPH_NAME}.json", "part*/*.dgl")
_COLUMNS = ("nodes", "halo", "num_got", "src", "dst", "degrees")


class _Content(pydantic.BaseModel):
    """What ``parts.yaml`` says."""

    model_config = pydantic.ConfigDict(extra="forbid")

    asked: dict[str, Any]
    name: str
    options: dict[str, Any]
    fingerprint: str
    metric: str
    multilabel: bool
    num_nodes: pydantic.NonNegativeInt
    num_edges: pydantic.NonNegativeInt
    num_classes: pydantic.NonNegativeInt
    in_feats: pydantic.NonNegativeInt
    edge_feats: pydantic.NonNegativeInt
    class_names: list[str]
    feature_names: list[str] = []
    parts: int
    engine: Engine = "torchrun"
    shared_bytes: list[int] = []
    nodes_halo_edges: list[list[int]]
    sha256: dict[str, str]


@dataclass
class Cut:
    """The nodes of a process, their in-edges, and the halo: sources that others have.

    Parameters
    ----------
    nodes, halo : Tensor (n,), (h,)
        Their numbers in the whole graph; the nodes ascend, the halo does for each owner.
    num_got : Tensor (P,)
        How many of the halo each process has, whose nodes stand in the order of the processes.
    src, dst : Tensor (E_r,)
        The edges, in numbers of ``[nodes, halo]``.
    degrees : Tensor (n + h, 2)
        As :func:`~lipzoo.nn.degrees.degree_counts` counts them in the whole graph.
    """

    nodes: Tensor
    halo: Tensor
    num_got: Tensor
    src: Tensor
    dst: Tensor
    degrees: Tensor


def owners(structure: Structure, number: int) -> Tensor:
    """The process of each node, (N,); METIS leaves few edges between them."""
    nodes = clusters_of(structure, "metis", number)
    if len(nodes) != number:
        nodes = clusters_of(structure, "contiguous", number)
    owner = torch.empty(structure.num_dst, dtype=torch.int64)
    for rank, own in enumerate(nodes):
        owner[own] = rank
    return owner


def cut_of(structure: Structure, owner: Tensor, rank: int, number: int) -> tuple[Cut, Tensor]:
    """What process ``rank`` of ``number`` has, and which edges of the whole graph these are."""
    nodes = (owner == rank).nonzero().squeeze(1)
    edges = (owner[structure.dst] == rank).nonzero().squeeze(1)
    src, dst = structure.src[edges], structure.dst[edges]
    halo = src[owner[src] != rank].unique()
    halo = halo[owner[halo].argsort(stable=True)]
    place, seen = torch.empty_like(owner), torch.cat([nodes, halo])
    place[seen] = torch.arange(seen.numel())
    num_got = torch.bincount(owner[halo], minlength=number)
    degrees = structure.derived(degree_counts)[seen]
    return Cut(nodes, halo, num_got, place[src], place[dst], degrees), edges


@one_writer
def write_parts(
    task: GraphTask,
    asked: dict[str, Any],
    number: int,
    out: str | os.PathLike,
    *,
    overwrite: bool = False,
    engine: Engine = "torchrun",
) -> dict[str, Any]:
    """Cut a task's graph into ``number`` parts by METIS, and write them into a folder.

    Parameters
    ----------
    task : GraphTask
    asked : dict
        Name and options of :func:`~lipzoo.load_dataset`, as the ``dataset`` of a recipe has them.
    number : int
    out : path
    overwrite : bool
        Replace parts that are there.
    engine : str
        What trains on them: see :data:`~lipzoo.settings.Engine`.

    Returns
    -------
    dict
        What ``parts.yaml`` holds.

    Raises
    ------
    ConfigError
        If there would be fewer than two parts, or more than nodes; or several graphs; or, for
        DistDGL, a part without in-edges.
    LipzooError
        If DistDGL is not there.
    OutputError
        If the folder holds something, or there is no room.
    """
    if not 2 <= number <= task.num_nodes:
        raise ConfigError(
            f"--parts {number}: {task.name} has {task.num_nodes} nodes; say between 2 and as many"
        )
    if task.parts:
        raise ConfigError(f"{task.name}: consists of several graphs; train in one process")
    structure = as_structure(task.graph).to("cpu")
    owner = owners(structure, number)
    output = OutputFolder(out, own=_OWN_FILES)
    cuts = [partial(cut_of, structure, owner, rank, number) for rank in range(number)]
    shared, order = [], torch.arange(task.num_nodes)
    if engine == "distdgl":
        need_dgl("lipzoo partition --engine distdgl")
        check_distdgl_parts(task, structure, owner, number)
        sizes = [_sizes(*cut()) for cut in cuts]
        shared = shared_bytes(task, structure, owner, number)
        # DGL says nothing where the disk is full.
        check_room(output.path, disk_bytes(shared, sizes), "the parts take")
        folder = output.prepare(overwrite, is_begun=False)
        order = write_graph(task, structure, owner, number, folder)
        names = {name for rank in range(number) for name in part_files(rank)}
        files = {name: _hash(folder / name) for name in sorted(names)}
    else:
        folder = output.prepare(overwrite, is_begun=False)
        sizes, files = _write_arrays(folder, task, cuts)
    columns = {"label": task.labels, **{name: getattr(task, name) for name in MASKS}}
    columns = {key: column[order] for key, column in columns.items()}
    files[_NODES_FILE] = _write(folder / _NODES_FILE, columns)
    content = {
        "asked": asked,
        "name": task.name,
        "options": task.options,
        "fingerprint": task.fingerprint,
        "metric": task.metric,
        "multilabel": task.multilabel,
        "num_nodes": task.num_nodes,
        "num_edges": task.num_edges,
        "num_classes": task.num_classes,
        "in_feats": task.in_feats,
        "edge_feats": task.edge_feats,
        "class_names": list(task.class_names),
        "feature_names": kept_feature_names(task),
        "parts": number,
        "engine": engine,
        "shared_bytes": shared,
        "nodes_halo_edges": sizes,
        "sha256": files,
    }
    write_yaml(folder / PARTS_FILE, content)  # with it all is there
    return content


class Parts:
    """A folder that :func:`write_parts` wrote, as one process reads it.

    Parameters
    ----------
    folder : path
    rank, number : int or None
        Which process this is, and of how many. ``number`` None: of as many as there are parts;
        ``rank`` None: no part is looked at.
    engine : str
        What trains on them: see :data:`~lipzoo.settings.Engine`.

    Raises
    ------
    DataError
        If it holds no parts, or the own one is gone, or is not the one that was written.
    ConfigError
        If it holds another number of parts, or those of another engine, or what it says of them is
        no such list.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        rank: int | None,
        number: int | None,
        engine: Engine = "torchrun",
    ) -> None:
        self.folder, self.rank = Path(folder), rank
        file = self.folder / PARTS_FILE
        if not file.is_file():
            raise DataError(
                f"{self.folder}: holds no parts; lipzoo partition D --out DIR writes them"
            )
        self.content = validate(_Content, read_yaml(file), str(file)).model_dump()
        if self.content["engine"] != engine:
            raise ConfigError(
                f"{self.folder}: was cut for {self.content['engine']}, and {engine} trains; lipzoo "
                f"partition D --engine {engine} --out DIR writes parts for it"
            )
        if number not in (None, self.content["parts"]):
            raise ConfigError(
                f"{self.folder}: holds {self.content['parts']} parts, and there are {number} "
                "processes; start as many as there are parts, or partition anew"
            )
        own: tuple[str, ...] = ()
        if rank is not None:
            own = part_files(rank) if engine == "distdgl" else (self._own,)
        for name in (_NODES_FILE, *own):
            self._check(name, self._read_all(name, _hash))  # before there is a run
        self._task: GraphTask | None = None

    @property
    def _own(self) -> str:
        return f"part_{self.rank}.npz"

    def __call__(self, recipe: Recipe, raw_dir: str | None, seed: int | None) -> GraphTask:
        """What is known of all nodes: labels and split. It has no edges, and no features.

        Raises
        ------
        ConfigError
            If the recipe has other data.
        DataError
            If the file is gone, or is not the one that was written.
        """
        given, content = self.content["asked"], self.content
        wrong = differing(given, {"name": recipe.dataset["name"], **recipe.data_options(seed)})
        if wrong:
            raise ConfigError(
                f"{self.folder}: was cut of {given}, and the recipe's data differ in "
                f"{', '.join(wrong)}; partition those"
            )
        if recipe.start is not None or "encoding" in content["options"]:
            raise ConfigError(
                f"{self.folder}: a start or an encoding reads the whole graph; leave out --parts"
            )
        if self._task is None:
            arrays = self._read(_NODES_FILE, ("label", *MASKS))
            number = content["num_nodes"]
            none = torch.empty(0, dtype=torch.int64)
            graph = make_graph(none, none, number)
            graph.ndata.update({key: torch.from_numpy(value) for key, value in arrays.items()})
            # Its width says what the model reads; a row for all takes no memory.
            graph.ndata["feat"] = torch.zeros(1, content["in_feats"]).expand(number, -1)
            self._task = GraphTask(
                content["name"],
                graph,
                content["num_classes"],
                content["multilabel"],
                dict(content["options"]),
                recipe.metric or content["metric"],
                class_names=tuple(content["class_names"]),
                feature_names=tuple(content["feature_names"]),
                _fingerprint=content["fingerprint"],
                _sparse=(None,),
            )
        return self._task

    def read(self) -> tuple[Cut, Tensor, Tensor | None]:
        """The part, the features of its nodes, and those of its edges.

        Raises
        ------
        DataError
            If the file is gone, or is not the one that was written.
        """
        arrays = self._read(self._own, (*_COLUMNS, "feat", "edge_feat"))
        found = {key: torch.from_numpy(value) for key, value in arrays.items()}
        return Cut(*(found[key] for key in _COLUMNS)), found["feat"], found.get("edge_feat")

    def _read(self, name: str, keys: tuple[str, ...]) -> dict[str, np.ndarray]:
        data = self._bytes(name)
        return read_arrays(self.folder / name, io.BytesIO(data), len(data), keys)

    def _bytes(self, name: str) -> bytes:
        data = self._read_all(name, Path.read_bytes)
        self._check(name, hashlib.sha256(data).hexdigest())
        return data

    def _read_all(self, name: str, read: Callable[[Path], T]) -> T:
        path = self.folder / name
        try:
            return read(path)
        except OSError as fault:
            raise DataError(f"{path}: cannot be read ({fault.strerror}); partition anew") from None

    def _check(self, name: str, found: str) -> None:
        if found != self.content["sha256"].get(name):
            raise DataError(
                f"{self.folder / name}: is not the part that {PARTS_FILE} names; partition anew"
            )


def _sizes(cut: Cut, edges: Tensor) -> list[int]:
    return [cut.nodes.numel(), cut.halo.numel(), edges.numel()]


def _write_arrays(
    folder: Path, task: GraphTask, cuts: list[Callable[[], tuple[Cut, Tensor]]]
) -> tuple[list[list[int]], dict[str, str]]:
    """What each process reads; the sizes of the parts, and the hashes of the files."""
    sizes, files = [], {}
    for rank, make in enumerate(cuts):
        cut, edges = make()
        columns = {**vars(cut), "feat": task.feat_of(cut.nodes)}
        if task.edge_feat is not None:
            columns["edge_feat"] = task.edge_feat[edges]
        name = f"part_{rank}.npz"
        files[name] = _write(folder / name, columns)
        sizes.append(_sizes(cut, edges))
    return sizes, files


def _hash(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(2**20):
            found.update(data)
    return found.hexdigest()


def _write(path: Path, columns: dict[str, Tensor]) -> str:
    """Write tensors; the hash of the file."""
    file = io.BytesIO()
    np.savez(file, **{key: value.cpu().numpy() for key, value in columns.items()})
    data = file.getvalue()
    write_atomically(path, data)
    return hashlib.sha256(data).hexdigest()
