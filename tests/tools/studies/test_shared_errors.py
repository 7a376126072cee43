import math

import pytest
import torch

from lab.studies.shared_errors import main, shared_errors
from lipzoo._dgl import dgl
from lipzoo.datasets import GraphTask
from lipzoo.errors import ConfigError
from lipzoo.training import train
from lipzoo.training.recipe import make_recipe


@pytest.fixture
def path():
    """0 - 1 - 2 - 3 with the labels 0, 0, 1, 1, and node 4 (label 1) without an edge; all test."""
    graph = dgl.to_bidirected(dgl.graph(([0, 1, 2], [1, 2, 3]), num_nodes=5))
    graph.ndata["feat"] = torch.zeros(5, 1)
    graph.ndata["label"] = torch.tensor([0, 0, 1, 1, 1])
    for name in ("train_mask", "val_mask", "test_mask"):
        graph.ndata[name] = torch.full((5,), name == "test_mask")
    return GraphTask.from_graph(graph, "path")


def probabilities(*of_class_1):
    ones = torch.tensor(of_class_1, dtype=torch.float32)
    return torch.stack([1 - ones, ones], 1)


def test_counts_by_hand(path):
    # Right: 0, 3 in both; 1 in the first alone, with certainty; 2 and 4 in none.
    first = probabilities(0.1, 0.0, 0.1, 0.9, 0.3)
    second = probabilities(0.1, 0.6, 0.4, 0.9, 0.3)
    found = shared_errors([first, second], path, "test")
    assert found.nodes == 5
    assert found.mean == pytest.approx((3 + 2) / 10)
    assert found.averaged == pytest.approx(3 / 5)
    assert (found.all_wrong, found.all_right) == pytest.approx((2 / 5, 2 / 5))
    # Node 4 has no neighbours and does not count here.
    assert (found.homophily_wrong, found.minority_wrong) == (0.5, 0.0)
    assert (found.homophily_right, found.minority_right) == (1.0, 0.0)


def test_a_node_among_others_is_in_the_minority(path):
    path.graph.ndata["label"] = torch.tensor([0, 1, 0, 0, 1])
    found = shared_errors([probabilities(0.1, 0.1, 0.1, 0.1, 0.9)], path, "test")
    assert (found.homophily_wrong, found.minority_wrong) == (0.0, 1.0)
    assert found.all_right == pytest.approx(4 / 5)
    # Neighbours of 0, 2 and 3: node 1; nodes 1 and 3; node 2.
    assert found.homophily_right == pytest.approx((0 + 0.5 + 1) / 3)
    assert found.minority_right == pytest.approx(1 / 3)


def test_without_a_shared_error_there_is_no_homophily_of_one(path):
    found = shared_errors([probabilities(0.1, 0.1, 0.9, 0.9, 0.9)], path, "test")
    assert found.all_wrong == 0
    assert math.isnan(found.homophily_wrong)
    assert math.isnan(found.minority_wrong)


def test_several_labels_a_node_are_refused(path):
    path.multilabel = True
    with pytest.raises(ConfigError, match="several labels"):
        shared_errors([probabilities(0, 0, 0, 0, 0)], path, "test")


def test_the_command_reports_a_run(tmp_path, capsys):
    content = {
        "architecture": "test_tiny",
        "dataset": {"name": "iris"},
        "epochs": 5,
        "seeds": "0..2",
    }
    summary = train(make_recipe(content, where="test"), tmp_path / "run", verbose=False)
    assert main([str(tmp_path / "run"), "--out", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out/shared_errors.md").read_text()
    assert text == capsys.readouterr().out
    assert "3 seeds of `test_tiny.iris`" in text
    assert f"tools/shared_errors.py {tmp_path / 'run'} --out {tmp_path / 'out'}" in text
    val, test = (100 * summary["metrics"][f"{s}_accuracy"]["mean"] for s in ("val", "test"))
    assert f"| accuracy of one model, mean over the seeds | {val:.1f} | {test:.1f} |" in text


def test_a_folder_without_a_run_is_one_line(tmp_path, capsys):
    assert main([str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "holds no run" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_file_in_the_way_is_one_line_and_stays(tmp_path, capsys):
    content = {"architecture": "test_tiny", "dataset": {"name": "iris"}, "epochs": 2, "seeds": "0"}
    train(make_recipe(content, where="test"), tmp_path / "run", verbose=False)
    (tmp_path / "out").write_text("mine")
    assert main([str(tmp_path / "run"), "--out", str(tmp_path / "out")]) == 2
    assert "is a file; name a folder" in capsys.readouterr().err
    assert (tmp_path / "out").read_text() == "mine"
