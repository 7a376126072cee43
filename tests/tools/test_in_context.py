"""The tool that measures what needs no training."""

import csv

import pytest
import torch
from context_zoo import context_weights

import lipzoo
from lab.in_context import DEVELOPMENT, GRAPHS, main
from lipzoo.training import evaluate


def test_graphs_that_choose_are_measured_too():
    assert set(DEVELOPMENT) < set(GRAPHS)


def test_a_row_a_split_and_method(tmp_path, capsys):
    folder = context_weights(tmp_path / "w")
    argv = ["--weights", str(folder), "--graphs", "wine", "iris", "--out", str(tmp_path / "out")]
    assert main(argv) == 0
    with (tmp_path / "out/in_context.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["graph"], row["split"]) for row in rows[::2]] == [
        (graph, str(split)) for graph in ("wine", "iris") for split in range(5)
    ]
    torch.set_num_threads(1)
    task = lipzoo.load_dataset("wine", split_seed=1)
    found = evaluate(lipzoo.load_pretrained(folder), task)
    assert float(rows[3]["test"]) == pytest.approx(found["test_accuracy"], abs=1e-4)
    stack = [row for row in rows if row["method"] == "closed-form stack"]
    mean = 100 * sum(float(row["test"]) for row in stack[:5]) / 5
    table = (tmp_path / "out/table.md").read_text()
    assert f"| wine * | accuracy | {mean:.1f} ± " in table
    with pytest.raises(SystemExit, match="2"):
        main([*argv[:-1], str(tmp_path / "other"), "--graphs", "cra"])
    assert "cra" in capsys.readouterr().err
