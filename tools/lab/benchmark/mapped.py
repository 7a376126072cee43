"""What an exact pass holds in memory where the features lie in a file."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from lab.benchmark.process import rows_apart
from lipzoo._memory import anonymous_memory
from lipzoo.datasets import load_dataset
from lipzoo.errors import ConfigError
from lipzoo.registry import create_model
from lipzoo.training import evaluate
from lipzoo.training.predict import predict, write_predictions

__all__ = ["measure_mapped"]

_CLASSES, _WIDTH, _ROWS = 10, 16, 2**14
#: How the features lie: the type in their file, and whether they are read into memory instead.
_KINDS = {"float32, in memory": ("<f4", False), "float32": ("<f4", True), "int8": ("|i1", True)}


def measure_mapped(file: Path, num_nodes: int, width: int, say: Callable = print) -> None:
    """Write a row a way in which features lie: the most memory that steps take.

    Each in a process of its own, on one thread: an ``.npz`` that is read, or a folder of ``.npy``
    with mapped features, of as many edges as nodes; a network of 2 layers, 16 wide. MB that are the
    process's own (``RssAnon``, looked at each 2 ms), above what it held before, at the most while
    it loads and checks the data, evaluates, and predicts and writes the CSV.
    """
    if num_nodes < 100 or width < 1:
        raise ConfigError("nodes must be at least 100, and feats 1")
    if anonymous_memory() is None:
        raise ConfigError("mapped: only Linux says what memory is a process's own")
    rows_apart(file, _row, [(num_nodes, width, kind) for kind in _KINDS], say)


def _row(item: tuple[int, int, str]) -> dict[str, object]:
    num_nodes, width, kind = item
    dtype, is_mapped = _KINDS[kind]
    torch.manual_seed(0)
    sizes = {"in_feats": width, "num_classes": _CLASSES, "hidden_feats": _WIDTH, "num_heads": 2}
    model = create_model("gat_lip_2", **sizes, backend="fused").eval()
    with tempfile.TemporaryDirectory() as folder:
        small, large = Path(folder) / "small", Path(folder) / "large"
        for place, number in ((small, 100), (large, num_nodes)):
            _write(place, number, width, dtype)
        evaluate(model, load_dataset(small))  # what is imported and compiled at first
        path = large if is_mapped else _archive(large)
        before = anonymous_memory()
        load, task = _most(lambda: load_dataset(path))
        judged, _ = _most(lambda: evaluate(model, task))
        out = Path(folder) / "out.csv"
        said, _ = _most(lambda: write_predictions(out, predict(model, task), False))
    steps = {"load": load, "evaluate": judged, "predict": said}
    return {
        "num_nodes": num_nodes,
        "feats": width,
        "features": kind,
        "float32_mb": num_nodes * width * 4 // 10**6,
        **{name: round((most - before) / 1e6) for name, most in steps.items()},
    }


def _write(folder: Path, num_nodes: int, width: int, dtype: str) -> None:
    random = np.random.default_rng(0)
    folder.mkdir()
    columns = {
        "src": random.integers(num_nodes, size=num_nodes),
        "dst": random.integers(num_nodes, size=num_nodes),
        "label": random.integers(_CLASSES, size=num_nodes),
    }
    part = random.integers(3, size=num_nodes)
    columns |= {f"{name}_mask": part == i for i, name in enumerate(("train", "val", "test"))}
    for name, column in columns.items():
        np.save(folder / f"{name}.npy", column)
    feat = np.lib.format.open_memmap(folder / "feat.npy", "w+", dtype, (num_nodes, width))
    for first in range(0, num_nodes, _ROWS):
        rows = feat[first : first + _ROWS]
        rows[:] = random.integers(-100, 100, rows.shape)


def _archive(folder: Path) -> Path:
    path = folder.with_suffix(".npz")
    np.savez(path, **{file.stem: np.load(file, mmap_mode="r") for file in folder.glob("*.npy")})
    return path


def _most(step: Callable[[], object]) -> tuple[int, object]:
    """The most bytes of its own that the process had during a call, and what that returned."""
    is_over, most = threading.Event(), [anonymous_memory()]

    def look() -> None:
        while not is_over.wait(0.002):
            most.append(max(most.pop(), anonymous_memory()))

    watch = threading.Thread(target=look)
    watch.start()
    try:
        found = step()
    finally:
        is_over.set()
        watch.join()
    return most[0], found
