"""Curves by epoch: kept when the runs are gone, and of today's settings only in the plot."""

import shutil

import pytest

from lab.studies import run_sweep, write_report
from lipzoo._tables import read_csv


def test_curves_outlive_the_runs(tiny, tmp_path):
    tiny["recipe"] |= {"epochs": 12, "eval_every": 2, "early_stopping": {"patience": 100}}
    run_sweep(tiny, tmp_path, depths=[2], seeds=[0, 1], say=lambda line: None)
    write_report(tiny, tmp_path)
    rows = read_csv(tmp_path / "curves.csv")
    runs = {(row["model"], row["depth"], row["seed"]) for row in rows}
    assert runs == {(model, "2", seed) for model in tiny["models"] for seed in ("0", "1")}
    first = [row for row in rows if (row["model"], row["seed"]) == (rows[0]["model"], "0")]
    assert [int(row["epoch"]) for row in first] == [2, 4, 6, 8, 10, 12]
    written = next(iter((tmp_path / "runs").glob("*/seed_0/metrics.csv")))
    assert {row["val"] for row in rows} >= {row["val_accuracy"] for row in read_csv(written)[1:]}
    before = (tmp_path / "curves.csv").read_bytes()
    shutil.rmtree(tmp_path / "runs")
    write_report(tiny, tmp_path)
    assert (tmp_path / "curves.csv").read_bytes() == before
    pytest.importorskip("matplotlib")
    assert list(tmp_path.glob("curves_*"))


def test_without_runs_there_are_none(tiny, tmp_path):
    write_report(tiny, tmp_path)
    assert not (tmp_path / "curves.csv").exists()
