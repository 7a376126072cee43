"""Where DGL is not installed, all that does not need it runs, with the same results to the bit."""

import importlib
import json
import os
import subprocess
import sys
import types
import warnings
from pathlib import Path

import pytest
import torch

import lipzoo
from lipzoo import _dgl
from lipzoo._dgl import dgl
from lipzoo._graph import EID, NID, NTYPE, Graph, batch, make_graph, to_bidirected
from lipzoo.errors import DataError, LipzooError

SCRIPT = Path(__file__).with_name("without_dgl.py")


def scenarios(folder, hide, data):
    # The backend is fixed: on small graphs "auto" takes DGL's operations where there are any.
    environment = {**os.environ, "LIPZOO_BACKEND": "torch", "LIPZOO_HIDE_DGL": hide}
    command = [sys.executable, str(SCRIPT), str(folder), *([str(data)] if data else [])]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_the_same_with_and_without(tmp_path):
    data = Path(__file__).parents[2] / "shared" / "data"
    folders = [tmp_path / name for name in ("with", "without")]
    for folder in folders:
        folder.mkdir()
    found = [scenarios(*run, data if data.is_dir() else None) for run in zip(folders, ("", "1"))]
    assert [run.pop("dgl") for run in found] == [True, False]
    with_dgl, without = (run.pop("dgl_where_it_is_needed") for run in found)
    assert with_dgl is None
    assert [fault.partition(" needs DGL, which is not installed: ")[0] for fault in without] == [
        "backend='dgl'",
        "this",
    ]
    assert all("python -m lipzoo.install_dgl" in fault for fault in without)
    assert found[0] == found[1]
    assert found[1]["the_command_line"][0] == [0] * 9


# ------------------------------------------------------------- a graph of our own against DGL's


def pair(num_nodes, num_edges, idtype=torch.int64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    if num_nodes == 0:
        src = dst = torch.zeros(0, dtype=idtype)
    else:
        src, dst = torch.randint(num_nodes, (2, num_edges), generator=generator).to(idtype)
    graphs = [Graph(src, dst, num_nodes), dgl.graph((src, dst), num_nodes=num_nodes)]
    feat, on_edges = torch.randn(num_nodes, 2), torch.randn(len(src), 3)
    for graph in graphs:
        graph.ndata["feat"], graph.edata["feat"] = feat, on_edges
    return graphs


SIZES = [(0, 0), (1, 0), (1, 3), (5, 0), (7, 30), (40, 25), (300, 2000)]


@pytest.mark.parametrize("idtype", [torch.int32, torch.int64])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_equals_dgl(size, idtype):
    ours, theirs = pair(*size, idtype)
    for name in ("num_nodes", "num_edges", "num_src_nodes", "num_dst_nodes"):
        assert getattr(ours, name)() == getattr(theirs, name)()
    for name in ("is_homogeneous", "is_block", "idtype", "device", "ntypes", "etypes"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert ours.canonical_etypes == theirs.canonical_etypes
    for name in ("in_degrees", "out_degrees"):
        assert torch.equal(getattr(ours, name)().long(), getattr(theirs, name)().long())
    nodes = torch.randperm(size[0])[: size[0] // 2 + 1].to(idtype)
    for name, arguments in (("edges", ()), ("in_edges", (nodes,)), ("out_edges", (nodes,))):
        for form in ("all", "uv", "eid"):
            found = [getattr(graph, name)(*arguments, form=form) for graph in (ours, theirs)]
            a, b = (part if isinstance(part, tuple) else (part,) for part in found)
            assert len(a) == len(b)
            assert all(torch.equal(x.long(), y.long()) for x, y in zip(a, b))
    assert sorted(ours.ndata) == sorted(theirs.ndata)
    assert torch.equal(ours.edata["feat"], theirs.edata["feat"])


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_transforms_equal_dgl(size):
    ours, theirs = pair(*size)
    both, expected = to_bidirected(ours), dgl.to_bidirected(theirs, copy_ndata=True)
    assert torch.equal(torch.stack(both.edges()), torch.stack(expected.edges()))
    assert torch.equal(both.ndata["feat"], expected.ndata["feat"])
    others = pair(4, 9, seed=1)
    joined, expected = batch([ours, others[0]]), dgl.batch([theirs, others[1]])
    assert torch.equal(torch.stack(joined.edges()), torch.stack(expected.edges()))
    assert torch.equal(joined.edata["feat"], expected.edata["feat"])
    assert torch.equal(joined.ndata["feat"], expected.ndata["feat"])


def test_names_of_columns_are_dgl_s():
    assert (NID, EID, NTYPE) == (dgl.NID, dgl.EID, dgl.NTYPE)


def test_columns_of_a_copy_are_its_own():
    graph, _ = pair(4, 6)
    copy = graph.local_var()
    copy.ndata["feat"] = torch.zeros(4, 2)
    copy.ndata["more"] = torch.zeros(4)
    assert "more" not in graph.ndata
    assert graph.ndata["feat"].any()
    assert graph.to("cpu").num_edges() == graph.cpu().num_edges() == 6


def test_what_does_not_fit():
    with pytest.raises(DataError, match=r"join the nodes 0 to 3, and there are 3"):
        Graph(torch.tensor([0]), torch.tensor([3]), 3)
    with pytest.raises(DataError, match=r"must both be \(E,\)"):
        Graph(torch.tensor([0, 1]), torch.tensor([0]), 3)
    graph = Graph(torch.tensor([0]), torch.tensor([2]), 3)
    with pytest.raises(DataError, match=r"'feat': expected a tensor with a row for each of 3 node"):
        graph.ndata["feat"] = torch.zeros(2)
    with pytest.raises(DataError, match=r"each of 1 edges, got list"):
        graph.edata["feat"] = [1]
    with pytest.raises(DataError, match="there are 3 nodes"):
        graph.in_edges(torch.tensor([3]))
    with pytest.raises(DataError, match="order='srcdst' needs a DGLGraph"):
        graph.edges(order="srcdst")


def test_models_and_tasks_take_either():
    """Also where DGL is installed: a task may come from a machine without."""
    ours, theirs = pair(30, 90)
    label = torch.arange(30) % 2
    for graph in (ours, theirs):
        graph.ndata["label"] = label
    tasks = [lipzoo.GraphTask.from_graph(graph) for graph in (ours, theirs)]
    assert tasks[0].fingerprint == tasks[1].fingerprint
    torch.manual_seed(0)
    model = lipzoo.create_model("gat_lip_2", in_feats=2, num_classes=2).eval()
    logits = [model(task.graph, task.feat) for task in tasks]
    assert torch.equal(*logits)
    assert lipzoo.attention.as_structure(ours) is lipzoo.attention.as_structure(ours)


# ------------------------------------------------------------------------- a DGL that is broken


@pytest.fixture
def found(monkeypatch):
    """`lipzoo._dgl` finds what a test lets it find."""
    monkeypatch.setattr(_dgl, "_found", _dgl._found.__wrapped__)
    _dgl._warn.cache_clear()
    yield monkeypatch
    _dgl._warn.cache_clear()


def test_dgl_is_not_installed(found):
    found.setitem(sys.modules, "dgl", None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        graph = make_graph(torch.tensor([0]), torch.tensor([1]), 2)
    assert isinstance(graph, Graph)
    assert not _dgl.is_dgl_graph(graph)
    assert _dgl.dgl_version() == "none"
    assert isinstance(_dgl.dgl_error("words"), DataError)
    with pytest.raises(LipzooError, match="METIS needs DGL, which is not installed: `python -m"):
        _dgl.need_dgl("METIS")


def test_a_dgl_that_does_not_import_is_said_once(found, tmp_path):
    """The usual one: its C++ library is not for this PyTorch."""
    (tmp_path / "dgl.py").write_text("raise FileNotFoundError('libgraphbolt.so')")
    found.delitem(sys.modules, "dgl")
    found.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    with pytest.warns(
        RuntimeWarning, match=r"cannot be imported \(libgraphbolt.so\); going on wit"
    ):
        assert isinstance(make_graph(torch.tensor([0]), torch.tensor([1]), 2), Graph)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_graph(torch.tensor([0]), torch.tensor([1]), 2)
    with pytest.raises(LipzooError, match=r"METIS needs DGL, which is installed \(.* and cannot b"):
        _dgl.need_dgl("METIS")


def test_a_package_that_dgl_needs_is_named(found, tmp_path):
    (tmp_path / "dgl.py").write_text("import no_such_package")
    found.delitem(sys.modules, "dgl")
    found.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    with pytest.raises(LipzooError, match="No module named 'no_such_package'"):
        _dgl.need_dgl("METIS")


def test_lipzoo_is_imported_before_dgl_is(monkeypatch):
    code = (
        "import lipzoo, sys, torch\n"
        "model = lipzoo.create_model('gat_lip_2', in_feats=3, num_classes=2).double()\n"
        "lipzoo.nn.lipschitzify, lipzoo.training.predict, lipzoo.sklearn.NodeClassifier\n"
        "assert 'dgl' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_modules_named_dgl_without_its_class(monkeypatch):
    monkeypatch.setitem(sys.modules, "dgl", types.ModuleType("dgl"))
    assert not _dgl.is_dgl_graph(object())
