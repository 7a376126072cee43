"""The tool that measures reversible depth, on small graphs."""

import csv

import pytest
import torch

from lab.benchmark.graphs import powerlaw_graph
from lab.studies.reversible import SCALES, WAYS, gradient_errors, main
from lipzoo.attention import as_structure


def test_rounding_grows_with_sharp_attention_but_for_the_norm():
    structure = as_structure(powerlaw_graph(100, 1000))
    options = {"num_layers": 16, "seed": 0, "feature_norm": "layernorm"}
    gentle, sharp = (gradient_errors(structure, scale=s, **options) for s in (1, 1000))
    assert sharp["reversible"] == pytest.approx(gentle["reversible"], rel=1)
    assert max(*sharp.values(), *gentle.values()) < 1e-4
    assert gradient_errors(structure, scale=1000, score_norm=None, **options)["reversible"] > 1e-3


@pytest.mark.slow
def test_the_command_writes_tables_and_plots(tmp_path, capsys):
    small = ["--graph", "powerlaw:300:1000", "--depths", "4,16", "--repeats", "1"]
    rounding = ["--rounding-graph", "powerlaw:30:100", "--layers", "2", "--seeds", "1"]
    random = torch.get_rng_state()
    assert main(["--out", str(tmp_path), *small, *rounding]) == 0
    torch.set_rng_state(random)
    rows = list(csv.DictReader((tmp_path / "memory.csv").open()))
    assert [(row["layers"], row["keeps"]) for row in rows] == [
        (depth, way) for depth in ("4", "16") for way in WAYS
    ]
    if rows[0]["kept_bytes_per_node"]:  # on Linux
        kept = {(r["layers"], r["keeps"]): float(r["kept_bytes_per_node"]) for r in rows}
        assert kept["16", "plain"] - kept["4", "plain"] > 12 * 256
        assert kept["16", "reversible"] < kept["16", "plain"] / 2
    rows = list(csv.DictReader((tmp_path / "rounding.csv").open()))
    assert len(rows) == 4 * len(SCALES)
    assert all(float(row["reversible_error"]) >= 0 for row in rows)
    assert (tmp_path / "rounding.svg").is_file()
    assert (tmp_path / "memory.svg").is_file()
    assert main(["--out", str(tmp_path), "--depths", "deep"]) == 2
    assert "--depths" in capsys.readouterr().err
