import copy

import pytest

TINY = {
    "kind": "depth",
    "depths": [2, 3],
    "seeds": [0, 1],
    "recipe": {
        "dataset": {"name": "iris"},
        "epochs": 6,
        "eval_every": 2,
        "overrides": {"hidden_feats": 8, "num_heads": 2},
    },
    "by_depth": {3: {"epochs": 8, "overrides": {"feat_drop": 0.1}}},
    "models": {
        "GAT": {"architecture": "gat_2"},
        "GAT+LipschitzNorm": {
            "architecture": "gat_lip_2",
            "overrides": {"feat_drop": 0.2},
            "optimizer": {"lr": 0.02},
        },
    },
    "reference": {
        "source": "a paper",
        "test": {"GAT": {0: {2: 82.3}}, "DGN": {0: {8: 75.5}}},
        "notes": ["a remark"],
    },
}


@pytest.fixture
def tiny():
    """A sweep of eight runs of a second in all; may be changed."""
    return copy.deepcopy(TINY)
