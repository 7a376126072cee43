"""What graphs cost as they grow: the rows of `tools/scale.py`."""

import inspect

import pytest

import scale
from lab.benchmark.batches import measure_batching
from lab.benchmark.dtypes import measure_dtypes
from lab.benchmark.edge_features import measure_edge_features
from lab.benchmark.mapped import measure_mapped
from lab.benchmark.modes import measure_modes
from lab.benchmark.needs import measure_needs
from lab.benchmark.process import in_turns, rows_apart
from lab.benchmark.processes import measure_processes
from lab.benchmark.stacks import measure_stack
from lab.benchmark.structures import COMPACT, measure_structures
from lipzoo._memory import anonymous_memory
from lipzoo._tables import read_csv
from lipzoo._yaml import write_yaml
from lipzoo.errors import ConfigError, LipzooError


@pytest.mark.slow
def test_what_a_structure_keeps_is_an_index_of_32_bits(tmp_path):
    """Beside the graph: 8 bytes an edge, 8 a self-loop, 8 a node, 4 a node that got a loop."""
    file = tmp_path / "new" / "structure.csv"
    measure_structures(file, [400_000], ["DGLGraph, 64 bits", COMPACT], say=lambda line: None)
    rows = {(row["form"], row["dropout"]): row for row in read_csv(file)}
    assert len(rows) == 4
    borrowed, training = (rows["DGLGraph, 64 bits", drop] for drop in ("False", "True"))
    assert float(borrowed["graph"]) == pytest.approx(16, abs=2)
    assert float(borrowed["kept"]) < 14  # 10.1, and what the allocator keeps
    assert float(training["kept"]) < 23
    assert float(rows[COMPACT, "False"]["kept"]) < 19
    assert all(float(row["ns"]) > 0 for row in rows.values())


def test_sizes_of_structures_that_do_not_do(tmp_path):
    for sizes in ([], [3], [100, -1]):
        with pytest.raises(ConfigError, match="at least 10"):
            measure_structures(tmp_path / "structure.csv", sizes)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_what_an_epoch_in_parts_costs(tmp_path):
    file = tmp_path / "scale" / "batching.csv"
    measure_batching(file, 4000, [2], say=lambda line: None)
    whole, *parts = read_csv(file)
    assert whole["batching"] == "full"
    assert [row["steps"] for row in (whole, *parts)] == ["1", "4", "8", "32"]
    assert float(whole["edges"]) == 1
    assert float(whole["cutting"]) < 0.01  # nothing is cut: the clock between two readings
    for row in parts:
        by_chance = int(row["per_batch"]) / int(row["parts"])
        assert by_chance + 0.2 < float(row["edges"]) < 1  # METIS finds the communities
        assert all(0 < float(row[name]) < 1 for name in ("cutting", "index"))
    with pytest.raises(ConfigError, match="at least 1,000"):
        measure_batching(tmp_path / "none.csv", 10, [2])
    assert not (tmp_path / "none.csv").exists()


@pytest.mark.slow
def test_what_a_training_needs_beside_what_it_takes(tmp_path):
    file, said = tmp_path / "memory.csv", []
    cases = [("gat_lip_res_16", "evaluation"), ("gat_lip_res_16", "training")]
    measure_needs(file, 20_000, cases[:1], said.append)
    measure_needs(file, 20_000, cases, said.append)
    rows = read_csv(file)
    assert [row["way"] for row in rows] == ["evaluation", "training"]
    assert len(said) == 2, "a row that is there is kept"
    assert all(0.8 < float(row["held/measured"]) < 1.25 for row in rows)
    assert float(rows[1]["measured"]) > 1.3 * float(rows[0]["measured"])
    with pytest.raises(ConfigError, match="at least 10"):
        measure_needs(file, 1)


@pytest.mark.slow
def test_what_several_processes_cost(tmp_path):
    file = tmp_path / "scale" / "processes.csv"
    measure_processes(file, 2000, [2], say=lambda line: None)
    [row] = read_csv(file)
    assert (row["processes"], row["num_edges"]) == ("2", "20000")
    assert 0 < float(row["halo"]) < 2
    assert float(row["efficiency"]) > 0.2
    assert 0 < float(row["waited"]) < 1
    assert float(row["faster"]) > 0
    assert float(row["mib"]) > 0
    assert float(row["difference"]) < 1e-5
    for depths, numbers, words in (([], (2,), "at least 1,000"), ([2], (1,), "at least 2")):
        with pytest.raises(ConfigError, match=words):
            measure_processes(tmp_path / "none.csv", 2000, depths, numbers)
    assert not (tmp_path / "none.csv").exists()


def _square(item):
    return {"a": item[0], "b": item[1], "square": item[0] * item[1]}


def test_rows_that_a_file_has_stay(tmp_path):
    """Also those of items that are not asked for, and after the last one that is new."""
    file, said = tmp_path / "rows.csv", []
    for items in ([(1, 2), (1, 3)], [(0, 2), (1, 2)], [(3, 3)]):
        rows_apart(file, _square, items, said.append, names=("a", "b"))
    found = [(row["a"], row["b"], row["square"]) for row in read_csv(file)]
    assert found == [("1", "2", "2"), ("1", "3", "3"), ("0", "2", "0"), ("3", "3", "9")]
    assert len(said) == 4


@pytest.mark.slow
def test_one_recipe_in_several_modes(tmp_path):
    recipe = {"architecture": "gat_lip_2", "dataset": {"name": "wine"}, "epochs": 2, "seeds": [0]}
    write_yaml(tmp_path / "recipe.yaml", recipe)
    file, said = tmp_path / "modes.csv", []
    for _ in range(2):
        measure_modes(file, str(tmp_path / "recipe.yaml"), [0], None, said.append)
    rows = read_csv(file)
    assert [row["mode"] for row in rows] == ["full", "clusters", "2 processes", "4 processes"]
    assert len(said) == 4, "a row that is there is kept"
    assert all(20 < float(row["test"]) < 100 for row in rows)
    assert float(rows[3]["gib"]) > 2 * float(rows[0]["gib"]) > 0
    with pytest.raises(LipzooError, match="ended with code 2"):
        measure_modes(tmp_path / "none.csv", str(tmp_path / "none.yaml"), [0], None)
    assert not (tmp_path / "none.csv").exists()


@pytest.mark.slow
@pytest.mark.skipif(anonymous_memory() is None, reason="only Linux says what a process's own is")
def test_what_16_bits_save(tmp_path):
    file = tmp_path / "dtypes.csv"
    measure_dtypes(file, 100_000, lambda line: None)
    rows = read_csv(file)
    assert [row["layer"] for row in rows] == ["GAT", "GATv2", "dot product"]
    for row in rows:
        assert float(row["times"]) == pytest.approx(
            float(row["float32"]) / float(row["bfloat16"]), rel=0.02
        )
        assert 0 < float(row["bfloat16_mib"]) < float(row["float32_mib"])
    with pytest.raises(ConfigError, match="at least 140"):
        measure_dtypes(tmp_path / "none.csv", 10)
    assert not (tmp_path / "none.csv").exists()


@pytest.mark.slow
def test_what_edge_features_cost(tmp_path):
    file = tmp_path / "edge_features.csv"
    measure_edge_features(file, 2000, lambda line: None)
    rows = read_csv(file)
    assert [row["layer"] for row in rows] == ["GATConv", "GATv2Conv", "TransformerConv"]
    for row in rows:
        assert float(row["seconds"]) > 0
        for backend in ("dgl", "torch"):
            assert 0 < float(row[backend]) < float(row[f"{backend}_edge_values"])
    with pytest.raises(ConfigError, match="at least 10"):
        measure_edge_features(tmp_path / "none.csv", 9)
    assert not (tmp_path / "none.csv").exists()


@pytest.mark.slow
def test_what_the_closed_form_stack_takes(tmp_path):
    file = tmp_path / "stack.csv"
    measure_stack(file, 5000, [2, 20], lambda line: None)
    few, many = read_csv(file)
    assert (few["classes"], many["classes"], many["num_edges"]) == ("2", "20", "50000")
    assert 0 < float(few["seconds"]) < float(many["seconds"])
    for sizes in ((999, [2]), (5000, [1]), (5000, [])):
        with pytest.raises(ConfigError, match="at least 1,000, classes at least 2"):
            measure_stack(tmp_path / "none.csv", *sizes)
    assert not (tmp_path / "none.csv").exists()


def test_each_kind_of_scale_takes_its_options(tmp_path, monkeypatch, capsys):
    """In the order in which its function takes them."""
    for kind, (measure, _, options) in scale.KINDS.items():
        own = [*inspect.signature(measure).parameters][1:]
        assert len(options) <= len(own), kind
        got = []
        monkeypatch.setitem(
            scale.KINDS, kind, (lambda *args, got=got: got.append(args), "", options)
        )
        out = tmp_path / "file.csv"
        monkeypatch.setattr("sys.argv", ["scale.py", kind, "--out", str(out)])
        assert scale.main() == 0
        assert got == [(out, *(how.get("default") for how in options.values()))]


def test_steps_take_turns():
    ran, clock = [], iter(range(100))
    steps = {"a": lambda: ran.append("a"), "b": lambda: ran.append("b")}
    assert in_turns(steps, 2, lambda: next(clock)) == {"a": [1, 1], "b": [1, 1]}
    assert ran == ["a", "b"] * 3, "the first turn is not counted"


@pytest.mark.slow
@pytest.mark.skipif(anonymous_memory() is None, reason="only Linux says what a process's own is")
def test_what_features_in_a_file_take(tmp_path):
    file = tmp_path / "mapped.csv"
    measure_mapped(file, 100_000, 200, lambda line: None)
    read, mapped, small = read_csv(file)
    assert [row["features"] for row in (read, mapped, small)] == [
        "float32, in memory",
        "float32",
        "int8",
    ]
    for step in ("load", "evaluate", "predict"):
        for row in (mapped, small):
            assert float(row[step]) < float(read[step]) - 0.7 * float(read["float32_mb"])
    with pytest.raises(ConfigError, match="at least 100"):
        measure_mapped(tmp_path / "none.csv", 10, 8)
    assert not (tmp_path / "none.csv").exists()
