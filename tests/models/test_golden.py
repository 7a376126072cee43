"""Logits that are checked in: a change of the mathematics shows, whatever else agrees with it.

Weights and features come from a formula, not from a random generator, whose numbers may change
with PyTorch. After a change that is meant, ``python tests/models/test_golden.py`` writes the
file again.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import lipzoo
from lipzoo._dgl import dgl

FILE = Path(__file__).parent / "golden" / "logits.yaml"
FAMILIES = ["gat", "gat_lip", "gat_lip_res", "gat_pairnorm", "gatv2_lip", "gt", "gt_lip"]
FAMILIES += ["gat_lin", "gat_lip_lin", "gt_lip_lin", "gat_sep", "gat_lip_sep", "gt_lip_sep"]
REVERSIBLE = [f"{kind}_lip_rev_16" for kind in ("gat", "gatv2", "gt")]
NAMES = [
    "test_tiny",
    *(f"{family}_{depth}" for family in FAMILIES for depth in (2, 8)),
    *REVERSIBLE,
]
NUM_NODES, IN_FEATS, NUM_CLASSES = 6, 4, 3


def graph():
    """A ring with two chords and a node that only listens; one edge twice; one self-loop."""
    return dgl.graph(([0, 1, 2, 3, 4, 0, 3, 2, 2, 1], [1, 2, 3, 4, 0, 2, 1, 5, 5, 1]))


def wave(count, phase):
    """Values between -1 and 1 that look like none other's."""
    return np.sin(np.arange(1, count + 1) * 1.7 + phase * 2.3) * np.cos(np.arange(count) * 0.61)


def logits(name):
    model = lipzoo.create_model(name, in_feats=IN_FEATS, num_classes=NUM_CLASSES).double().eval()
    with torch.no_grad():
        for phase, parameter in enumerate(model.parameters()):
            values = torch.from_numpy(wave(parameter.numel(), phase)).view(parameter.shape)
            # So large that the nodes of a deep model still differ, and small enough not to
            # explode; biases so small that they do not drown the rest.
            factor = 5 / parameter.shape[-1] ** 0.5 if parameter.dim() > 1 else 0.2
            parameter.copy_(factor * values)
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm1d):
                module.weight.add_(1)
        feat = torch.from_numpy(wave(NUM_NODES * IN_FEATS, 99)).view(NUM_NODES, IN_FEATS)
        feat[3] = 0  # a missing vector
        return model(graph(), feat).numpy()


@pytest.mark.parametrize("name", NAMES)
def test_logits_are_those_checked_in(name):
    golden = yaml.safe_load(FILE.read_text())
    assert sorted(golden) == sorted(NAMES)
    wanted = np.array(golden[name])
    assert wanted.shape == (NUM_NODES, NUM_CLASSES)
    assert wanted.std(0).max() > 0.01, "equal rows would say little"
    np.testing.assert_allclose(logits(name), wanted, rtol=1e-6, atol=1e-6)


if __name__ == "__main__":
    FILE.parent.mkdir(exist_ok=True)
    content = {name: [[float(f"{x:.9g}") for x in row] for row in logits(name)] for name in NAMES}
    FILE.write_text(yaml.safe_dump(content, sort_keys=False, default_flow_style=None))
