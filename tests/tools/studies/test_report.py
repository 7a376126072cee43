import pytest

from lab.engine import Rows
from lab.studies import plots, report, write_report
from lab.studies.points import ACCURACY
from lab.studies.report import collect, gradient_means
from lab.studies.sweep import make_sweep
from lab.studies.worker import RUN_COLUMNS


@pytest.fixture
def folder(tiny, tmp_path):
    """Rows of two seeds at 2 layers, one at 3, and one of other settings."""
    sweep = make_sweep(tiny, "tiny")
    hashes = {(p.model, p.depth): p.recipe_hash for p in sweep.points(seeds=[0])}

    def row(model, depth, seed, val, test, **changes):
        fields = dict.fromkeys(RUN_COLUMNS, 1)
        point = {"model": model, "depth": depth, "seed": seed, "missing_rate": "0"}
        result = {"metric": "accuracy", "val": val, "test": test}
        return {**fields, **point, **result, "recipe_hash": hashes[model, depth], **changes}

    table = Rows(tmp_path, ACCURACY)
    table.add([row("GAT", 2, 0, 0.70, 0.80), row("GAT", 2, 1, 0.72, 0.84)])
    # Better on validation nodes, worse on test nodes: the depth that is chosen.
    table.add([row("GAT", 3, 0, 0.90, 0.60)])
    table.add([row("GAT", 3, 1, 0.99, 0.99, recipe_hash="0123456789")])
    return tmp_path


def test_table(tiny, folder):
    text = write_report(tiny, folder)
    assert (folder / "table.md").read_text() == text
    lines = text.splitlines()
    # LipschitzNorm has no figure yet, and no column.
    assert "| layers | GAT | published |" in lines
    # Sample standard deviation of 80 and 84.
    assert "| 2 | 82.0 ± 2.8 (2) | 82.3 |" in lines
    assert "| 3 | 60.0 (1) | - |" in lines
    assert "| GAT | 3 | 60.0 (1) | 82.3 (2 layers) |" in lines
    assert "| DGN | - | - | 75.5 (8 layers) |" in lines
    assert "Published: a paper" in lines
    assert "- a remark" in lines
    assert "1 rows of runs.csv were made with other settings" in text


def test_missing_rates_have_tables_of_their_own(tiny, folder):
    tiny |= {"kind": "missing", "missing_rates": [0, 1]}
    text = write_report(tiny, folder)
    assert "## 0% missing vectors by depth" in text
    assert "## 100% missing vectors at the best depth" in text
    cells, _ = collect(make_sweep(tiny, "tiny"), Rows(folder, ACCURACY).rows)
    assert set(cells) == {("GAT", 0.0, 2), ("GAT", 0.0, 3)}


def test_an_empty_folder_has_a_table_of_published_figures(tiny, tmp_path):
    text = write_report(tiny, tmp_path)
    assert "| 2 | - | 82.3 |\n" in text
    assert not list(tmp_path.glob("*.svg"))


def test_plots_are_the_same_for_the_same_rows(tiny, folder):
    pytest.importorskip("matplotlib")
    write_report(tiny, folder)
    svg, png = (folder / f"accuracy_by_depth_iris.{kind}" for kind in ("svg", "png"))
    assert png.read_bytes().startswith(b"\x89PNG")
    text = svg.read_text()
    assert "GAT, published" in text
    assert "attention layers" in text
    write_report(tiny, folder)
    assert svg.read_text() == text


def test_without_matplotlib_the_table_says_so(tiny, folder, monkeypatch):
    for module in (plots, report):
        monkeypatch.setattr(module, "is_available", lambda: False)
    assert "lipzoo[plots]" in write_report(tiny, folder)
    assert not list(folder.glob("*.svg"))


def test_means_of_gradients_are_geometric():
    rows = [
        {"model": "GAT", "depth": "2", "epoch": "0", "seed": str(seed), "layer": str(layer)}
        | {"weight_gradient": str(weight), "feature_gradient": "0.0"}
        for seed, layer, weight in [(0, 2, 1e-8), (0, 1, 2.0), (1, 1, 8.0), (1, 2, 1e-4)]
    ]
    [(key, (means, seeds))] = gradient_means(rows).items()
    assert (key, seeds) == (("GAT", 2, 0), 2)
    assert means.tolist() == [[pytest.approx(4.0), 0.0], [pytest.approx(1e-6), 0.0]]
