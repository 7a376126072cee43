"""Datasets: public graphs, data sets inside scikit-learn, and graphs of your own."""

# Importing a module of loaders is what puts them into the catalogue.
from lipzoo.datasets import cities, embedded, heterophilous, ogb, ppi, public  # noqa: F401
from lipzoo.datasets.catalogue import DATASETS, register_dataset
from lipzoo.datasets.encoding import encode_features, encode_task
from lipzoo.datasets.growing import grown
from lipzoo.datasets.loading import as_task, list_datasets, load_dataset, load_graph
from lipzoo.datasets.missing import erase_features, propagate_features
from lipzoo.datasets.npz_file import save_npz
from lipzoo.datasets.scaling import scale_features
from lipzoo.datasets.splits import random_split
from lipzoo.datasets.task import GraphTask

__all__ = [
    "DATASETS",
    "GraphTask",
    "as_task",
    "encode_features",
    "encode_task",
    "erase_features",
    "grown",
    "list_datasets",
    "load_dataset",
    "load_graph",
    "propagate_features",
    "random_split",
    "register_dataset",
    "save_npz",
    "scale_features",
]
