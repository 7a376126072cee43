"""The benchmark: the same layers compared, honest bookkeeping, readable reports."""

import csv
import json
from contextlib import closing
from typing import ClassVar

import pytest
import torch
from graph_zoo import homogeneous
from reference import additive_scores, aggregate, softmax
from torch.testing import assert_close

from lab.benchmark import (
    default_cases,
    measurements,
    ratio_table,
    read_rows,
    run_benchmark,
    write_report,
)
from lab.benchmark.cases import (
    GRAPHS,
    IMPLEMENTATIONS,
    LIMIT,
    SUBJECT,
    Case,
    curve_graph,
    has_pyg,
)
from lab.benchmark.client import OutOfMemory, Worker
from lab.benchmark.command import main
from lab.benchmark.graphs import load_graph, powerlaw_graph, read_graph, save_graph
from lab.benchmark.layers import make_layer, make_step
from lab.benchmark.measurements import COLUMNS
from lab.benchmark.report import compilation_lines
from lab.benchmark.weights import measure_weights
from lab.benchmark.worker import _is_out_of_memory
from lipzoo._tables import read_csv
from lipzoo.errors import ConfigError, LipzooError, OutputError

TINY = "powerlaw:60:300"
INSTALLED = [n for n, i in IMPLEMENTATIONS.items() if i.library != "PyG" or has_pyg()]
ATTENTION = [name for name in INSTALLED if name != LIMIT]


def tiny_case(name, **changes):
    return Case(name, **{"graph": TINY, "heads": 2, "width": 3, "threads": 1} | changes)


# ---------------------------------------------------------------- what is compared


def weights_of(layer):
    """Projection, attention vectors of source and destination, bias; whatever their names."""
    parameters = dict(layer.named_parameters())
    names = [("fc.weight", "lin.weight"), ("attn_l", "att_src"), ("attn_r", "att_dst"), ("bias",)]
    found = [next(parameters[n] for n in choice if n in parameters) for choice in names]
    assert len(found) == len(parameters)
    return found


def layer_with_known_weights(name):
    layer = make_layer(tiny_case(name), homogeneous()).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in weights_of(layer.layer):
            values = torch.randn(weight.numel(), generator=generator, dtype=torch.float64)
            weight.copy_(values.view(weight.shape))
    return layer


def by_the_equations(layer, feat, alpha):
    weight, left, right, bias = (w.detach().numpy() for w in weights_of(layer.layer))
    graph = homogeneous()
    src, dst = (ends.numpy() for ends in graph.edges(order="eid"))
    v = (feat.detach().numpy() @ weight.T).reshape(10, 2, 3)
    left, right = left.reshape(1, 2, 3), right.reshape(1, 2, 3)
    scores = additive_scores(src, dst, v, v, left, right, alpha)
    out = aggregate(src, dst, 10, softmax(dst, 10, scores), v)
    return torch.from_numpy(out.reshape(10, 6) + bias)


def features():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(10, 6, generator=generator, dtype=torch.float64).requires_grad_()


@pytest.mark.parametrize("name", ATTENTION)
def test_layers_are_those_of_the_equations(name):
    layer, feat = layer_with_known_weights(name), features()
    alpha = 0.25 if IMPLEMENTATIONS[name].norm else None
    assert_close(layer(feat), by_the_equations(layer, feat, alpha), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("norm", [False, True])
def test_gradients_agree(norm):
    names = [name for name in ATTENTION if IMPLEMENTATIONS[name].norm == norm]
    assert len(names) >= 2
    gradients = []
    for name in names:
        layer, feat = layer_with_known_weights(name), features()
        layer(feat).square().sum().backward()
        grads = [w.grad.reshape(w.numel()) for w in weights_of(layer.layer)]
        gradients.append(torch.cat([feat.grad.flatten(), *grads]))
    for other in gradients[1:]:
        assert_close(other, gradients[0], rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("name", INSTALLED)
def test_all_have_as_many_parameters(name):
    layer = make_layer(tiny_case(name), homogeneous())
    assert sum(p.numel() for p in layer.parameters()) == 6 * 6 + 3 * 6


def test_the_limit_gathers_and_multiplies():
    graph = homogeneous()
    layer, feat = make_layer(tiny_case(LIMIT), graph), torch.randn(10, 6, requires_grad=True)
    src, dst = graph.edges()
    adjacency = torch.zeros(10, 10).index_put((dst, src), torch.ones(len(src)), accumulate=True)
    wanted = adjacency @ feat @ layer.layer.fc.weight.T
    assert_close(layer(feat), wanted)
    grad = torch.randn(10, 6)
    assert_close(
        torch.autograd.grad(layer(feat), feat, grad), torch.autograd.grad(wanted, feat, grad)
    )


@pytest.mark.parametrize("depth", [0, 2])
@pytest.mark.parametrize("name", [name for name in INSTALLED if name != "fused"])
def test_a_step_leaves_no_gradient(name, depth):
    step = make_step(tiny_case(name, depth=depth), load_graph(TINY))
    tensors = [cell.cell_contents for cell in step.__closure__]
    step()
    step()
    assert [t for t in tensors if isinstance(t, torch.Tensor) and t.grad is not None] == []


# ------------------------------------------------------------------------- graphs


def test_the_generated_graph_follows_a_power_law():
    graph = powerlaw_graph(5000, 60_000)
    assert graph.num_nodes() == 5000
    degrees = graph.in_degrees()
    assert int(degrees.min()) >= 1  # self-loops
    assert float(degrees.max()) > 50 * float(degrees.float().mean())
    assert torch.equal(powerlaw_graph(5000, 60_000).edges()[0], graph.edges()[0])


def test_a_graph_on_its_way_to_a_process(tmp_path):
    graph = load_graph(TINY)
    save_graph(graph, tmp_path / "graph.npz")
    other = read_graph(tmp_path / "graph.npz")
    assert other.num_nodes() == graph.num_nodes() == 60
    for one, two in zip(graph.edges(order="eid"), other.edges(order="eid")):
        assert torch.equal(one, two)


@pytest.mark.parametrize("name", ["powerlaw:3", "powerlaw:a:b", "powerlaw:0:5", "powerlaw:1:2:3"])
def test_sizes_of_a_generated_graph_that_are_wrong(name):
    with pytest.raises(ConfigError, match="write powerlaw, or powerlaw:NODES:EDGES"):
        load_graph(name)


# -------------------------------------------------------------------------- cases


def test_the_default_run_holds_what_is_promised():
    cases = default_cases()
    assert len(set(cases)) == len(cases)
    for name in INSTALLED:
        for graph in GRAPHS:
            assert {c.width for c in cases if (c.implementation, c.graph) == (name, graph)} == (
                {8, 64}
            )
        assert 16 in {c.depth for c in cases if c.implementation == name}
    steps = [c for c in cases if c.depth and c.implementation == SUBJECT]
    assert [c.depth for c in steps] == [2, 8, 16, 32]
    assert {c.graph for c in steps} == {"amazon_computers"}
    assert len({c.graph for c in cases if c.graph.startswith("powerlaw:")}) == 3
    assert len({c.threads for c in cases}) == 1


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"implementations": ["DGL GATconv"]}, "did you mean 'DGL GATConv'"),
        ({"graphs": []}, "at least one graph"),
        ({"widths": [0]}, "widths must be at least 1, got 0"),
        ({"depths": [2, -1]}, "depths must be at least 1, got -1"),
        ({"edges": [0]}, "edges must be at least 1"),
        ({"threads": -1}, "threads must be at least 1"),
    ],
)
def test_cases_that_are_wrong(wrong, words):
    with pytest.raises(ConfigError, match=words):
        default_cases(**wrong)


def test_pyg_that_is_asked_for_and_absent(monkeypatch):
    monkeypatch.setattr("lab.benchmark.cases.has_pyg", lambda: False)
    assert not [c for c in default_cases() if c.implementation.startswith("PyG")]
    with pytest.raises(ConfigError, match=r"pip install 'lipzoo\[pyg\]'"):
        default_cases(implementations=["PyG GATConv"])


# ------------------------------------------------------------------------- a run


@pytest.fixture(scope="module")
def small_run(tmp_path_factory):
    """A folder with one group of layers and two of training steps."""
    out = tmp_path_factory.mktemp("benchmark") / "out"
    names = ["dgl + norm", "DGL GATConv", LIMIT]
    cases = default_cases([TINY], [4], [1, 2], [], names, threads=1)
    run_benchmark(cases, out, repeats=2, verbose=False)
    return out, cases


def test_a_run_writes_a_row_a_case(small_run):
    out, cases = small_run
    rows = read_rows(out)
    assert list(rows) == [(case, 2) for case in cases]
    assert len(cases) == 9
    for row in rows.values():
        assert row["status"] == "ok"
        assert 0 < row["fastest"] <= row["seconds"] <= row["slowest"]
        assert row["num_nodes"] == 60
        assert row["memory_mib"] is None or row["memory_mib"] >= 0
        assert "torch" in row["setting"]


def test_what_is_there_is_not_measured_again(small_run, monkeypatch):
    out, cases = small_run
    before = (out / "benchmark.csv").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(measurements, "Worker", None)  # a process would be an error
        run_benchmark(cases, out, repeats=2, verbose=False)
    assert (out / "benchmark.csv").read_bytes() == before
    more = default_cases([TINY], [4], [], [], ["torch + norm"], threads=1)
    rows = run_benchmark(more, out, repeats=2, verbose=False)
    assert len(rows) == 10
    with (out / "benchmark.csv").open() as file:
        kept = list(csv.DictReader(file))[:9]
    assert [row["seconds"] for row in kept] == [
        row["seconds"] for row in csv.DictReader(before.decode().splitlines())
    ]
    again = run_benchmark(cases[:1], out, repeats=2, force=True, verbose=False)
    assert len(again) == 10


def test_memory_is_that_of_a_step(tmp_path):
    """A step that holds E x H x D numbers, against one that holds but node tensors."""
    graph = powerlaw_graph(200, 40_000)
    save_graph(graph, tmp_path / "graph.npz")
    memory = {}
    for name in ("torch + norm", LIMIT):
        with closing(Worker(tmp_path / "graph.npz", 1, 8000)) as worker:
            memory[name] = worker.warm(Case(name, "mine", 8, 32, 0, 1))["memory_mib"]
    if memory[LIMIT] is None:
        pytest.skip("memory is measured on Linux only")
    messages = graph.num_edges() * 8 * 32 * 4 / 2**20
    assert memory["torch + norm"] > messages
    assert memory[LIMIT] < messages / 4


def test_more_memory_than_there_may_be(tmp_path):
    pytest.importorskip("resource")
    graph = powerlaw_graph(200, 40_000)
    save_graph(graph, tmp_path / "graph.npz")
    with (
        closing(Worker(tmp_path / "graph.npz", 1, limit_mib=600)) as worker,
        pytest.raises(OutOfMemory),
    ):
        worker.warm(Case("torch + norm", "mine", 8, 512, 0, 1))


@pytest.mark.parametrize(
    "fault",
    [
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
)
def test_faults_that_mean_memory(fault):
    assert _is_out_of_memory(fault)
    assert not _is_out_of_memory(RuntimeError("shapes do not match"))


def test_a_case_that_fails_says_why(tmp_path):
    with (
        closing(Worker(tmp_path / "absent.npz", 1)) as worker,
        pytest.raises(LipzooError, match=r"DGL GATConv failed: FileNotFoundError.*absent"),
    ):
        worker.warm(tiny_case("DGL GATConv"))


class FakeWorker:
    """One case is too large, beside others at its second turn, and one for any process."""

    log: ClassVar[list] = []

    def __init__(self, graph, threads, limit_mib):
        self.log.append("start")

    def warm(self, case, measure_memory=True):
        if case.implementation == "torch + norm":
            raise OutOfMemory
        self.log.append(f"warm {case.implementation}{'' if measure_memory else ' together'}")
        return {"pace": 10.0, "memory_mib": 1.0, "held_mib": 1.0, "first_call": 2.0}

    def steps(self, case, number):
        self.log.append(f"{number} {case.implementation}")
        if case.implementation == LIMIT and self.log.count(f"1 {LIMIT}") == 2:
            raise OutOfMemory
        return [float(len(case.implementation))] * number

    def close(self):
        self.log.append("end")


def test_cases_take_turns_in_one_process(tmp_path, monkeypatch):
    monkeypatch.setattr(measurements, "Worker", FakeWorker)
    FakeWorker.log.clear()
    names = ["dgl + norm", "torch + norm", LIMIT, "DGL GATConv"]
    run_benchmark([tiny_case(name) for name in names], tmp_path / "out", verbose=False)
    alone = ["start", "warm dgl + norm", "end", "start", "end"]
    alone += ["start", f"warm {LIMIT}", "end", "start", "warm DGL GATConv", "end"]
    first = ["start"] + [f"warm {name} together" for name in ("dgl + norm", LIMIT, "DGL GATConv")]
    first += ["1 dgl + norm", f"1 {LIMIT}", "1 DGL GATConv", "1 dgl + norm", f"1 {LIMIT}", "end"]
    second = ["start", "warm dgl + norm together", "warm DGL GATConv together"]
    second += ["1 dgl + norm", "1 DGL GATConv"] * 3 + ["end"]  # 10 s a step: the fewest turns
    assert FakeWorker.log == alone + first + second
    rows = {row["implementation"]: row for row in read_rows(tmp_path / "out").values()}
    assert [rows[name]["status"] for name in names] == ["ok", *["out of memory"] * 2, "ok"]
    assert rows["DGL GATConv"]["seconds"] == len("DGL GATConv")


# ------------------------------------------------------------------------ reports


def row(name, seconds, memory, **changes):
    found = dict.fromkeys(COLUMNS) | {
        "implementation": name,
        "graph": "cora",
        "heads": 8,
        "width": 8,
        "depth": 0,
        "threads": 1,
        "repeats": 5,
        "num_nodes": 5,
        "num_edges": 1234,
        "status": "ok" if seconds else "out of memory",
        "seconds": seconds,
        "memory_mib": memory,
        "measured": "now",
    }
    return found | changes


def test_ratios():
    rows = [
        row(SUBJECT, 0.5, 10.0),
        row("DGL GATConv", 1.5, 35.0),
        row("dgl + norm", 2.0, None),
        row("PyG + norm", None, None),
        row("torch + norm", 5.0, 100.0, measured="before"),
        row(LIMIT, 0.25, 5.0),
    ]
    titles, _, line = ratio_table(rows).splitlines()
    cells = dict(zip(titles.split(" | "), line.split(" | ")))
    assert cells["DGL `GATConv`"] == "3.00× / 3.50×"
    assert cells["dgl + norm"] == "4.00×"
    assert cells["PyG + norm"] == "out of memory"
    assert cells["torch + norm"] == "10.00× / 10.00× (another run)"
    assert cells[LIMIT] == "0.50×"
    assert "PyG `GATConv`" not in titles
    assert line.startswith("| cora (1,234) | 8 | one layer |")


def test_points_of_a_curve_are_not_in_the_table():
    def lines(graph):
        return len(ratio_table([row(SUBJECT, 1.0, 1.0, graph=graph)]).splitlines())

    assert lines("powerlaw:60:300") == lines("powerlaw") == 3
    assert lines(curve_graph(100_000)) == 2


def test_compilation_is_reported():
    first = {"first_call_cold": 12.34, "first_call_cached": 0.567}
    text = compilation_lines([row(SUBJECT, 0.1, 1.0, **first), row("fused", 0.1, 1.0)])
    assert "took 12.3 s on a machine that had not compiled it, 0.57 s in the next" in text
    assert compilation_lines([row("fused", 0.1, 1.0)]) == ""


def test_the_curve_against_edges():
    pytest.importorskip("matplotlib")
    from lab.benchmark.plots import plot_edges

    rows = [
        row(SUBJECT, edges / 1e6, 1.0, graph=f"powerlaw:9:{edges}", num_edges=edges)
        for edges in (1000, 5000)
    ]
    assert sorted(plot_edges(rows)) == ["edges.png", "edges.svg"]
    assert plot_edges(rows[:1]) == {}, "one size is no curve"


def test_reports(small_run):
    out, _ = small_run
    text = write_report(out)
    assert (out / "benchmark.md").read_text() == text
    assert "| powerlaw (" in text
    assert "2-layer training step" in text
    assert "Measured with 1 thread " in text
    pytest.importorskip("matplotlib")
    assert b"<svg" in (out / "depth.svg").read_bytes()
    assert (out / "depth.png").stat().st_size > 1000
    assert not (out / "edges.svg").exists(), "one graph is no curve"


def test_the_same_figures_make_the_same_files(small_run):
    pytest.importorskip("matplotlib")
    out, _ = small_run
    write_report(out)
    before = {name: (out / name).read_bytes() for name in ("depth.svg", "benchmark.md")}
    write_report(out)
    assert {name: (out / name).read_bytes() for name in before} == before


# ------------------------------------------------------------------------- errors


def test_folders_that_cannot_be_used(tmp_path):
    with pytest.raises(ConfigError, match=r"benchmark\.csv: no such file; tools/benchmark\.py"):
        write_report(tmp_path)
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(OutputError, match=r"holds files, but no benchmark\.csv"):
        run_benchmark([], tmp_path)
    (tmp_path / "benchmark.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ConfigError, match="other columns than this version"):
        run_benchmark([], tmp_path)


def test_a_damaged_line_is_named(small_run, tmp_path):
    text = (small_run[0] / "benchmark.csv").read_text().splitlines()
    (tmp_path / "benchmark.csv").write_text("\n".join([*text[:2], text[2].replace("1", "x")]))
    with pytest.raises(ConfigError, match="line 3"):
        read_rows(tmp_path)


@pytest.mark.parametrize("wrong", [{"repeats": 0}, {"memory_gib": 0}, {"memory_gib": -1}])
def test_settings_that_are_wrong(wrong, tmp_path):
    with pytest.raises(ConfigError, match=f"{next(iter(wrong))} must be"):
        run_benchmark([], tmp_path / "out", **wrong)


def test_the_command_line(tmp_path, capsys):
    arguments = ["--out", str(tmp_path / "out")]
    assert main([*arguments, "--report"]) == 2
    assert "no such file" in capsys.readouterr().err
    sizes = ["--graphs", TINY, "--widths", "4", "--depths", "--threads", "1", "--repeats", "1"]
    names = ["--cases", "DGL GATConv", LIMIT]
    assert main([*arguments, *sizes, "--quick", *names, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["graph"] for row in rows].count(TINY) == 2
    assert main([*arguments, "--report"]) == 0
    assert "| DGL GATConv |" in capsys.readouterr().out


def test_the_speed_of_weights(tmp_path, monkeypatch):
    names = ["gat_lip_16.digits"]
    monkeypatch.setattr("lipzoo.list_models", lambda **options: names)
    measure_weights(tmp_path / "speed.csv", say=lambda line: None)
    [row] = read_csv(tmp_path / "speed.csv")
    assert (row["name"], row["dataset"], row["num_layers"]) == ("gat_lip_16.digits", "digits", "16")
    columns = ("forward_ms", "step_ms", "dgl_forward_ms", "dgl_step_ms")
    figures = [float(row[column]) for column in columns]
    assert all(figure > 0 for figure in figures)
    assert figures[1] > figures[0], "a step holds a pass"
