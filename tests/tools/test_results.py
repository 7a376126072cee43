"""The tables under results/ are those of the rows beside them, under the settings of today.

A change that silently makes finished runs look like those of other settings shows here.
"""

import shutil
from pathlib import Path

import pytest

from lab import transfer
from lab.studies.report import write_report
from lipzoo._yaml import read_yaml

RESULTS = Path(__file__).parents[2] / "results"
SWEEPS = sorted(path.parent.name for path in RESULTS.glob("*/sweep.yaml"))


def copied(name, tmp_path):
    rows = [path for path in (RESULTS / name).glob("*.*") if path.suffix in (".csv", ".yaml")]
    for path in rows:
        shutil.copy(path, tmp_path)
    return (RESULTS / name / "table.md").read_text()


@pytest.mark.parametrize("name", SWEEPS)
def test_the_table_of_a_sweep_is_that_of_its_rows(name, tmp_path):
    table = copied(name, tmp_path)
    assert write_report(read_yaml(tmp_path / "sweep.yaml"), tmp_path) == table


@pytest.mark.parametrize("name", ["transfer", "all_graphs", "context_ablation"])
def test_the_table_of_a_transfer_study_is_that_of_its_rows(name, tmp_path):
    table = copied(name, tmp_path)
    assert transfer.write_report(read_yaml(tmp_path / "study.yaml"), tmp_path) == table


def test_the_sweeps_are_there():
    assert {"depth_cora", "depth_cora_consistency", "gradients_cora"} <= set(SWEEPS)
