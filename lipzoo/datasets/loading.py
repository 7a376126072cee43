"""`load_dataset`: from a name or a path to a `GraphTask` that is split and checked."""

from __future__ import annotations

import inspect
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from lipzoo._paths import as_path, name_of_path, path_hint
from lipzoo._schema import argument_names, check_arguments, checked
from lipzoo.datasets.catalogue import DATASETS, Dataset
from lipzoo.datasets.encoding import encode_task
from lipzoo.datasets.files import GRAPH_SUFFIXES, graph_loader, looks_like_path
from lipzoo.datasets.metric import METRICS
from lipzoo.datasets.missing import erase_features
from lipzoo.datasets.scaling import scale_features
from lipzoo.datasets.splits import random_split
from lipzoo.datasets.task import GraphTask
from lipzoo.errors import (
    ConfigError,
    DataError,
    LipzooError,
    UnknownNameError,
    did_you_mean,
    shown,
)

__all__ = [
    "as_task",
    "default_options",
    "is_same_data",
    "list_datasets",
    "load_dataset",
    "load_graph",
]

_ALL = "lipzoo.datasets.list_datasets() names all"
#: Where masks may come from.
_SPLITS = ("public", "random", "fixed")


def list_datasets() -> list[str]:
    """The names that `load_dataset` knows, sorted."""
    return sorted(DATASETS)


@checked
def load_dataset(
    name_or_path: str | os.PathLike,
    *,
    raw_dir: str | os.PathLike | None = None,
    split: str | None = None,
    train_per_class: int | None = None,
    num_val: int | None = None,
    num_test: int | None = None,
    split_seed: int = 0,
    split_index: int | None = None,
    scaling: str | None = None,
    missing_rate: float = 0.0,
    missing_seed: int = 0,
    missing_fill: str = "zero",
    encoding: dict[str, int] | None = None,
    metric: str | None = None,
    require_labels: bool = True,
    **options: Any,
) -> GraphTask:
    """Load a dataset by name, or a graph of your own by path, ready to train on.

    Parameters
    ----------
    name_or_path : str or path
        One of `list_datasets`, or the path of a ``.bin``, ``.npz``, ``.pt``, ``.graphml`` or
        ``.gml`` file, or of a folder of tables (see `lipzoo.datasets.files`).
    raw_dir : path, optional
        Where public datasets have their raw files: by default ``DGL_DOWNLOAD_DIR``, else
        ``~/.dgl``. Files that are absent are downloaded to it; otherwise it is only read.
    split : {"public", "random", "fixed"}, optional
        ``"public"`` takes the masks that come with the data, ``"random"`` draws them (see
        `lipzoo.datasets.random_split`), ``"fixed"`` takes those that others have published for
        the data (see `lipzoo.datasets.fixed_split`). By default public where there is one, else
        random.
    train_per_class, num_val, num_test : int, optional
        Sizes of a random split; the defaults belong to the dataset.
    split_seed : int
        Seed of a random split.
    split_index : int, optional
        Which of the public splits, from 0, where several come with the data: 0 by default.
    scaling : {"row", "standard"}, optional
        Bring the features to one scale first (see `lipzoo.datasets.scale_features`).
    missing_rate : float
        Erase the features of this share, 0 to 1, of all nodes that do not train (see
        `lipzoo.datasets.erase_features`).
    missing_seed : int
        Seed that picks the erased nodes.
    missing_fill : {"zero", "propagate", "propagate-svd"}
        What stands in for the erased features (see `lipzoo.datasets.erase_features`).
    encoding : dict, optional
        Encode the features: arguments of `lipzoo.datasets.encode_task`, such as ``{"width": 64}``.
    metric : str, optional
        What the task is judged by, one of `lipzoo.datasets.metric`, such as ``"roc_auc"``; the
        default belongs to the dataset.
    require_labels : bool
        False takes graphs without labels or masks, to predict on; no split is drawn then.
    **options
        What the dataset's own loader takes, such as ``k`` (neighbours of a node, 8) for the graphs
        that are made of scikit-learn's data sets, or ``features`` and ``edge_features``
        (the names of columns) for GraphML, GML and folders of tables.

    Returns
    -------
    GraphTask
        Checked; ``load_dataset(task.name, **task.options)`` loads the same again.

    Raises
    ------
    UnknownNameError
        If it is neither a name nor a path.
    DataError
        If the data are absent or malformed; the message names every fault.
    ConfigError
        If an option does not apply to the dataset.

    Examples
    --------
    >>> task = lipzoo.load_dataset("digits", split_seed=1)
    >>> task
    GraphTask('digits', nodes=1797, edges=..., split=200/500/1097, ...)
    """
    name = name_or_path
    if not isinstance(name, str):
        name = name_of_path(as_path(name_or_path, error=DataError), GRAPH_SUFFIXES)
    if split not in (None, *_SPLITS):
        raise ConfigError(f"{name}: split is {split!r}{did_you_mean(split, _SPLITS)}")
    for option, seed in (("split_seed", split_seed), ("missing_seed", missing_seed)):
        if seed < 0:
            raise ConfigError(f"{name}: {option} is {seed}, a seed must not be negative")
    dataset = _find(name_or_path, name)
    if metric not in (None, *METRICS):
        raise ConfigError(f"{name}: metric is {metric!r}{did_you_mean(metric, METRICS)}")
    task = _load(dataset, name, raw_dir, options)
    if metric is not None:
        task = replace(task, metric=metric, options={**task.options, "metric": metric})
    if split == "fixed":
        task = _with_fixed_split(task, dataset, raw_dir)
    task = _prepare(
        task,
        dataset,
        split=split,
        train_per_class=train_per_class,
        num_val=num_val,
        num_test=num_test,
        split_seed=split_seed,
        split_index=split_index,
        scaling=scaling,
        missing_rate=missing_rate,
        missing_seed=missing_seed,
        missing_fill=missing_fill,
        require_labels=require_labels,
    )
    if encoding is None:
        return task
    return encode_task(task, **check_arguments(encode_task, encoding, where=f"{name}: encoding"))


def as_task(data: Any, require_labels: bool = True) -> GraphTask:
    """What somebody passes as data, as a task.

    Parameters
    ----------
    data : GraphTask, str, path, DGLGraph, PyG Data or networkx graph
        A name or path is loaded; a graph is checked, as one that is loaded from a path. A task
        is not checked. Where there are no masks, task and graph are split at random.
    require_labels : bool
        False takes graphs without labels or masks, and draws no split.

    Raises
    ------
    DataError
        If it is none of these, or malformed.
    UnknownNameError
        If there is no such dataset.
    """
    if isinstance(data, GraphTask):
        return with_any_split(data) if require_labels else data
    if isinstance(data, (str, os.PathLike)):
        return load_dataset(data, require_labels=require_labels)
    task = GraphTask.of(data)
    return _prepare(task, Dataset(lambda: task), require_labels=require_labels)


def is_same_data(task: GraphTask, name: str, options: dict[str, Any], fingerprint: str) -> bool:
    """Whether a task is of the data on a card, whatever its name, split or erased features.

    A fingerprint covers the masks too. So the data of the task, as they came, are split and erased
    as on the card: the same data then have the same fingerprint. Where the card's masks came with
    a graph of one's own, they cannot be had from the same graph with others: the answer is no.

    Parameters
    ----------
    task : GraphTask
        With the features that it has, or encoded.
    name, options, fingerprint
        Of the card's :class:`~lipzoo.card.DatasetEntry`.
    """
    if task.fingerprint == fingerprint:
        return True
    # The fingerprint is of the data before they are filled or encoded, and the graph is there.
    dataset = DATASETS.get(name) or Dataset(lambda: task)
    if options.get("split") == "fixed":
        return False  # the masks are in a file that is not at hand
    left_out = {*dataset.options(), "encoding", "features", "edge_features"}
    left_out |= {"missing_fill", "metric", "scaling"}
    options = {key: value for key, value in options.items() if key not in left_out}
    try:
        check_arguments(load_dataset, options, where=name)
        again = _prepare(task.source.to("cpu").with_ndata(), dataset, **options)
    except LipzooError:
        return False
    return again.fingerprint == fingerprint


def _prepare(
    task: GraphTask,
    dataset: Dataset,
    *,
    split: str | None = None,
    train_per_class: int | None = None,
    num_val: int | None = None,
    num_test: int | None = None,
    split_seed: int = 0,
    split_index: int | None = None,
    scaling: str | None = None,
    missing_rate: float = 0.0,
    missing_seed: int = 0,
    missing_fill: str = "zero",
    require_labels: bool = True,
) -> GraphTask:
    """Data as they came, split, checked, erased and scaled; see :func:`load_dataset`."""
    name = task.name
    sizes = {"train_per_class": train_per_class, "num_val": num_val, "num_test": num_test}
    sizes = {option: int(size) for option, size in sizes.items() if size is not None}
    if split == "public" and not task.has_any_mask:
        raise ConfigError(f"{name}: there is no public split; leave split out, or say 'random'")
    if split == "random" or (require_labels and not task.has_any_mask):
        if split_index is not None:
            raise ConfigError(
                f"{name}: split_index chooses among the splits that come with the data, and this "
                "one is drawn at random; leave it out, or say split_seed"
            )
        task = _split(task, dataset, sizes, int(split_seed))
    elif sizes or split_seed:
        asked = ", ".join([*sizes, *(["split_seed"] if split_seed else [])])
        raise ConfigError(f"{name}: {asked} would need a random split; pass split='random' too")
    elif split_index is not None or task.num_splits > 1:
        task = task.with_split(0 if split_index is None else split_index)
    if task.has_split:
        task.options.setdefault("split", "public")
    task.validate(require_labels)
    task = erase_features(task, missing_rate, missing_seed, missing_fill)
    return scale_features(task, scaling)


def with_any_split(task: GraphTask) -> GraphTask:
    """The task, split at random, as a dataset of its name is, where it has labels and no masks.

    Raises
    ------
    DataError
        If there are too few labels for a split.
    """
    if task.labels is None or task.has_any_mask:
        return task
    return _split(task, DATASETS.get(task.name) or Dataset(lambda: task), {}, 0)


def _with_fixed_split(
    task: GraphTask, dataset: Dataset, raw_dir: str | os.PathLike | None
) -> GraphTask:
    if dataset.fixed_split is None:
        having = [name for name, each in DATASETS.items() if each.fixed_split is not None]
        raise ConfigError(
            f"{task.name}: there is no fixed split of it (there is of {', '.join(having)}); leave "
            "split out, or say 'random'"
        )
    masks = dataset.fixed_split(raw_dir=raw_dir, num_nodes=task.num_nodes)
    task = task.with_ndata(**masks)
    task.options["split"] = "fixed"
    return task


def load_graph(path: str | os.PathLike, require_labels: bool = True) -> GraphTask:
    """`load_dataset` for a path; ``require_labels=False`` takes a graph to predict on."""
    return load_dataset(Path(path), require_labels=require_labels)


def default_options(name: str) -> dict[str, Any]:
    """What :func:`load_dataset` takes for a dataset where nothing else is said."""
    own = inspect.signature(load_dataset).parameters.values()
    options = {p.name: p.default for p in own if p.kind is p.KEYWORD_ONLY}
    dataset = DATASETS.get(name)
    return options if dataset is None else {**options, **dataset.random_split, **dataset.options()}


def _find(name_or_path: str | os.PathLike, name: str) -> Dataset:
    """The dataset; ``name`` is what a graph that is read from a path is called."""
    if isinstance(name_or_path, str) and name_or_path in DATASETS:
        return DATASETS[name_or_path]
    if not isinstance(name_or_path, str) or looks_like_path(name_or_path):
        path = as_path(name_or_path, error=DataError)
        return Dataset(graph_loader(path, name))
    hint = f"{path_hint(name_or_path)}{did_you_mean(name_or_path, DATASETS, all_of=_ALL)}"
    raise UnknownNameError(
        f"there is no dataset named '{shown(name_or_path)}'{hint}; a graph of your own is given by "
        "its path"
    )


def _load(
    dataset: Dataset, name: str, raw_dir: str | os.PathLike | None, options: dict[str, Any]
) -> GraphTask:
    """Call the loader with the options that it takes."""
    own = dataset.options()
    unknown = sorted(set(options) - set(own))
    if unknown:
        hint = did_you_mean(unknown[0], [*argument_names(load_dataset), *own])
        raise ConfigError(f"{name}: no option {', '.join(map(repr, unknown))}{hint}")
    given = {key: value for key, value in options.items() if value is not None}
    given = check_arguments(dataset.load, given, where=name)
    options = {**own, **given}
    # Where raw files are is a matter of the machine: it stays off cards, and harms no dataset.
    where = {"raw_dir": raw_dir} if dataset.takes("raw_dir") else {}
    task = dataset.load(**options, **where)
    task.options |= {key: value for key, value in options.items() if value is not None}
    return task


def _split(task: GraphTask, dataset: Dataset, sizes: dict[str, int], seed: int) -> GraphTask:
    if task.labels is None:
        return task.validate()  # which says that labels are needed
    masks = random_split(
        task.labels, **{**dataset.random_split, **sizes}, seed=seed, name=task.name
    )
    task = task.with_ndata(**masks)
    task.options |= {"split": "random", **sizes, "split_seed": seed}
    return task
