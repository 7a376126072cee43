import csv

import pytest

from lipzoo.benchmark import default_cases, run_benchmark
from lipzoo.benchmark.cases import powerlaw_graph
from lipzoo.errors import ConfigError


def test_a_small_run_writes_csv_and_table(tmp_path):
    names = ["dgl + norm", "DGL GATConv"]
    cases = default_cases(["powerlaw:200:900"], [4], [0, 2], 1, names)
    rows = run_benchmark(cases, tmp_path / "out", rounds=1, repeats=2, verbose=False)
    assert len(rows) == len(cases) == 4
    assert all(row["seconds"] > 0 for row in rows)
    written = list(csv.DictReader((tmp_path / "out/benchmark.csv").open()))
    assert [row["implementation"] for row in written] == names * 2
    table = (tmp_path / "out/benchmark.md").read_text()
    assert "2-layer training step" in table
    assert "| DGL GATConv | 1.00 | 1.00 |" in table


def test_the_generated_graph_follows_a_power_law():
    graph = powerlaw_graph(5000, 60_000)
    assert graph.num_nodes() == 5000
    degrees = graph.in_degrees()
    assert int(degrees.min()) >= 1  # self-loops
    assert float(degrees.max()) > 50 * float(degrees.float().mean())


def test_unknown_implementations():
    with pytest.raises(ConfigError, match="did you mean 'DGL GATConv'"):
        default_cases(["powerlaw"], [8], [0], 1, ["DGL GATconv"])
