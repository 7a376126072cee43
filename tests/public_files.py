"""Small files of the layouts that authors publish their graphs in."""

from pathlib import Path

import numpy as np

#: Of the ring below.
NUM_NODES, NUM_SPLITS = 40, 10


def heterophilous_arrays(num_classes=2, **changes):
    """A ring, its edges once, with ten splits; a change of None leaves an array out."""
    rng = np.random.default_rng(0)
    node = np.arange(NUM_NODES)
    parts = np.stack([rng.permutation(node) % 4 for _ in range(NUM_SPLITS)])
    arrays = {
        "node_features": rng.normal(size=(NUM_NODES, 3)).astype(np.float32),
        "node_labels": node % num_classes,
        "edges": np.stack([node, (node + 1) % NUM_NODES], axis=1),
        "train_masks": parts < 2,
        "val_masks": parts == 2,
        "test_masks": parts == 3,
    }
    return {key: value for key, value in {**arrays, **changes}.items() if value is not None}


def city_arrays(**changes):
    """One-way streets in a ring, and one of them with its way back."""
    node = np.arange(NUM_NODES, dtype=np.int32)
    src, dst = np.append(node, 1), np.append((node + 1) % NUM_NODES, 0)
    length = np.linspace(1, 9, len(src), dtype=np.float32)
    arrays = {
        "src": src.astype(np.int32),
        "dst": dst.astype(np.int32),
        "feat": np.stack([node, node**0.5], axis=1).astype(np.float32),
        "label": (node // 4).astype(np.int64),
        "eccentricity_16": np.linspace(0, 99, NUM_NODES, dtype=np.float32),
        "edge_length": length,
    }
    return {key: value for key, value in {**arrays, **changes}.items() if value is not None}


def save(path: Path, arrays) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **arrays)
    return path
