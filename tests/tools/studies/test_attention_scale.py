import csv

import pytest

import lipzoo
from lab.studies.attention_scale import gradients_at_scale, main


@pytest.fixture(scope="module")
def iris():
    return lipzoo.load_dataset("iris")


def test_the_norm_makes_gradients_free_of_the_scale(iris):
    """Scores and their normaliser grow alike."""
    small, large = (gradients_at_scale(iris, "gat_lip_2", s, 0, 8) for s in (1, 100))
    assert large == pytest.approx(small, rel=1e-4)


def test_without_it_they_explode(iris):
    (first, last), (large, _) = (gradients_at_scale(iris, "gat_2", s, 0, 8) for s in (1, 1000))
    assert large > 100 * first
    assert last > 0


def test_the_command_writes_a_row_a_model_and_scale(tmp_path, capsys):
    assert main(["--data", "iris", "--out", str(tmp_path), "--layers", "2", "--seeds", "2"]) == 0
    rows = list(csv.DictReader((tmp_path / "attention_scale.csv").open()))
    assert {row["model"] for row in rows} == {"GAT", "GAT+LipschitzNorm"}
    assert len(rows) == 14
    for row in rows:
        ratio = float(row["first"]) / float(row["last"])
        assert float(row["first_over_last"]) == pytest.approx(ratio, rel=1e-2)
