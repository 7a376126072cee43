"""What a training needs, told from small graphs, is what it takes on a larger one."""

import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from registry_state import fresh_registry
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from lipzoo import GraphTask, register_model
from lipzoo._allocations import record
from lipzoo._graph import make_graph
from lipzoo._memory import available_memory, resident_memory, shown_bytes
from lipzoo.cli import main
from lipzoo.errors import ConfigError, UnknownNameError
from lipzoo.models import DeepAttentionNet
from lipzoo.registry import find_class
from lipzoo.settings import FitSettings
from lipzoo.training.loop import make_optimizer
from lipzoo.training.memory import GraphSizes, memory_needed
from lipzoo.training.metrics import infer, model_feat
from lipzoo.training.step import train_step

NODES, EDGES, FEATS, CLASSES = 1500, 12_000, 12, 5
SMALL = {"num_layers": 3, "hidden_feats": 16, "num_heads": 4}

CASES = {
    "gat": ("DeepGAT", {}),
    "gat lip": ("DeepGAT", {"score_norm": "lipschitz"}),
    "gatv2": ("DeepGATv2", {"score_norm": "lipschitz", "feature_norm": "layernorm"}),
    "transformer": ("DeepGraphTransformer", {"residual": "linear", "feature_norm": "pairnorm"}),
    "transformer lip": ("DeepGraphTransformer", {"score_norm": "dot_lipschitz"}),
    "residual": ("DeepGAT", {"residual": "residual", "feature_norm": "batchnorm"}),
    "initial": ("DeepGAT", {"residual": "initial", "attn_drop": 0.0}),
    "dense": ("DeepGAT", {"residual": "dense"}),
    "jumping": ("DeepGAT", {"residual": {"name": "jumping", "mode": "cat"}}),
    "reversible": ("DeepGAT", {"residual": "reversible"}),
    "degree norm": ("DeepGAT", {"degree_norm": "symmetric"}),
    "sep": ("DeepGAT", {"sep": True}),
    "torch": ("DeepGAT", {"backend": "torch"}),
}


def drawn(nodes=NODES, edges=EDGES, feats=FEATS, edge_feats=0, zeros=0.0):
    """A task whose edges join different nodes; nobody has made an index of it yet."""
    src = torch.randint(nodes, (edges,))
    graph = make_graph(src, (src + torch.randint(1, nodes, (edges,))) % nodes, nodes)
    feat = torch.rand(nodes, feats) + 0.1
    if zeros:
        feat[:, : int(zeros * feats)] = 0
    graph.ndata.update(feat=feat, label=torch.arange(nodes) % CLASSES)
    graph.ndata["train_mask"] = torch.arange(nodes) < 0.6 * nodes
    if edge_feats:
        graph.edata["feat"] = torch.rand(edges, edge_feats)
    return GraphTask.from_graph(graph, "drawn")


def taken(model, args, evaluates=False, **sizes):
    """Bytes in use at the peak of two epochs, or of an evaluation, each allocation looked at."""
    of_class = find_class(model)
    backend = {"backend": "fused"} if issubclass(of_class, DeepAttentionNet) else {}
    given, task = backend | args, drawn(**sizes)
    network = of_class(**given, in_feats=task.in_feats, num_classes=CLASSES)
    weights = sum(tensor.nbytes for tensor in network.state_dict().values())

    def run(task):
        if evaluates:
            return infer(network, task)
        optimizer = make_optimizer(network, FitSettings().optimizer)
        for epoch in (1, 2):
            train_step(network, task, optimizer, FitSettings(), None, epoch)
            infer(network, task)
        return optimizer.zero_grad()

    run(drawn(50, 200, **sizes))
    events, sizes = record(lambda: run(task))
    steps = [sizes[event] if event >= 0 else -sizes[~event] for event in events]
    return np.cumsum(steps).max() + (1 if evaluates else 2) * weights


@pytest.mark.parametrize("case", CASES)
def test_every_way_on_a_larger_graph(case):
    model, more = CASES[case]
    args = SMALL | more
    needed = memory_needed(model, args, GraphSizes.of(drawn()))
    keeps = {"name": "reversible", "keep_states": True}
    as_trained = {"residual": keeps} if case == "reversible" else {}
    assert needed["evaluation"].in_use == pytest.approx(taken(model, args, True), rel=0.01)
    plain = taken(model, args | as_trained)
    assert needed["training"].in_use == pytest.approx(plain, rel=0.01)
    again = taken(model, args | as_trained | {"checkpoint_layers": True})
    assert needed["checkpoint_layers"].in_use == pytest.approx(again, rel=0.01)
    assert needed["training"].in_use > needed["checkpoint_layers"].in_use
    assert ("reversible" in needed) == (case == "reversible")
    if case == "reversible":
        assert needed["reversible"].in_use == pytest.approx(taken(model, args), rel=0.01)
    assert all(need.held >= need.in_use for need in needed.values())


def test_sparse_features_and_features_of_edges():
    for more in ({"feats": 400, "zeros": 0.95}, {"edge_feats": 3}):
        task = drawn(**more)
        assert (task.sparse_feat is not None) == ("zeros" in more)
        args = SMALL | ({"edge_feats": 3} if "edge_feats" in more else {})
        needed = memory_needed("DeepGAT", SMALL, GraphSizes.of(task))["training"]
        assert needed.in_use == pytest.approx(taken("DeepGAT", args, **more), rel=0.02)


@pytest.mark.parametrize("case", ["gat lip", "gatv2", "transformer", "residual", "dense"])
def test_what_autograd_saves_is_counted_another_way(case):
    """PyTorch's own hooks on what is saved, each storage once, against what the trace has alive
    when a forward pass ends."""
    model, more = CASES[case]
    args = {"backend": "fused"} | SMALL | more
    network = find_class(model)(**args, in_feats=FEATS, num_classes=CLASSES)
    task = drawn()
    feat = model_feat(network, task)
    network(task.graph, feat)  # compiles, and makes the index
    saved = {}

    def keep(tensor):
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    held = []
    with saved_tensors_hooks(keep, lambda tensor: tensor):
        held.append(F.cross_entropy(network(task.graph, feat), task.labels))
    for known in (*network.parameters(), *network.buffers(), feat, task.labels):
        saved.pop(known.untyped_storage().data_ptr(), None)

    kept = []
    events, sizes = record(
        lambda: kept.append(F.cross_entropy(network(task.graph, feat), task.labels))
    )
    alive = set()
    for event in events:
        alive.add(event) if event >= 0 else alive.discard(~event)
    counted = sum(sizes[each] for each in alive)
    assert counted == pytest.approx(sum(saved.values()), rel=0.02)


class OfOnesOwn(nn.Module):
    """Knows nothing of this package."""

    def __init__(self, in_feats: int, num_classes: int) -> None:
        super().__init__()
        self.maps = nn.Sequential(nn.Linear(in_feats, 30), nn.ReLU(), nn.Linear(30, num_classes))

    def forward(self, graph, feat):
        src, dst = graph.edges()
        return self.maps(feat.index_add(0, dst, feat[src]))


def test_a_class_of_ones_own():
    with fresh_registry():
        register_model(OfOnesOwn)
        needed = memory_needed("OfOnesOwn", {}, GraphSizes.of(drawn()))
        assert list(needed) == ["evaluation", "training"]
        assert needed["evaluation"].in_use == pytest.approx(taken("OfOnesOwn", {}, True), rel=0.01)
        assert needed["training"].in_use == pytest.approx(taken("OfOnesOwn", {}), rel=0.01)


class Fickle(OfOnesOwn):
    def forward(self, graph, feat):
        return super().forward(graph, feat.sin() if len(feat) > 150 else feat)


def test_a_class_that_computes_something_else_on_another_graph():
    with fresh_registry():
        register_model(Fickle)
        with pytest.raises(ConfigError, match="cannot be told from small graphs"):
            memory_needed("Fickle", {}, GraphSizes.of(drawn()))


def test_a_graph_without_labels_or_masks():
    src = torch.arange(5)
    graph = make_graph(src, (src + 1) % 5, 5)
    graph.ndata["feat"] = torch.rand(5, 3)
    sizes = GraphSizes.of(GraphTask.from_graph(graph, "bare"))
    assert (sizes.num_classes, sizes.train_share) == (1, 0.6)
    assert memory_needed("DeepGAT", SMALL, sizes)["training"].in_use > 0


def test_self_loops_of_the_graph_are_not_counted_twice():
    task = drawn()
    sizes = GraphSizes.of(task)
    assert (sizes.nodes, sizes.edges, sizes.loops) == (NODES, EDGES, 0)
    src, dst = task.graph.edges()
    every = torch.arange(NODES)
    graph = make_graph(torch.cat([src, every]), torch.cat([dst, every]), NODES)
    graph.ndata.update(task.graph.ndata)
    looped = GraphSizes.of(GraphTask.from_graph(graph, "looped"))
    assert (looped.edges, looped.loops) == (EDGES, NODES)
    assert looped.data_bytes == sizes.data_bytes + 16 * NODES


def test_an_estimate_draws_nothing_and_leaves_modes():
    before = torch.get_rng_state()
    memory_needed("DeepGAT", SMALL, GraphSizes(10, 0, 3, 2))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    "sizes",
    [{"nodes": 1, "edges": 0}, {"nodes": 10, "edges": 0}, {"nodes": 10**9, "edges": 10**10}],
)
def test_any_size(sizes):
    needed = memory_needed("DeepGAT", SMALL, GraphSizes(**sizes, in_feats=3, num_classes=2))
    assert all(0 < need.in_use <= need.held < math.inf for need in needed.values())


def test_more_nodes_edges_and_labels_need_more():
    def training(**sizes):
        sizes = {"nodes": 10_000, "edges": 50_000, "in_feats": 8, "num_classes": 4} | sizes
        return memory_needed("DeepGAT", SMALL, GraphSizes(**sizes))["training"].in_use

    least = training()
    for more in ({"nodes": 20_000}, {"edges": 100_000}, {"in_feats": 64}, {"num_classes": 40}):
        assert training(**more) > least
    assert training(multilabel=True) > 0


def test_arguments_out_of_range_are_told():
    with pytest.raises(ConfigError, match="nodes must be at least 1"):
        GraphSizes(0, 0, 3, 2)
    with pytest.raises(UnknownNameError, match="DeepGAT"):
        memory_needed("DeepGATT", {}, GraphSizes(3, 1, 3, 2))
    with pytest.raises(ConfigError, match="edges must be at least 0"):
        GraphSizes(3, -1, 3, 2)


def test_memory_of_the_system(tmp_path, monkeypatch):
    from lipzoo import _memory

    proc, group = tmp_path / "proc", tmp_path / "group"
    monkeypatch.setattr(_memory, "_PROC", proc)
    monkeypatch.setattr(_memory, "_CGROUP", group)
    assert available_memory() is None
    assert resident_memory() is None
    (proc / "self").mkdir(parents=True)
    group.mkdir()
    (proc / "meminfo").write_text("MemTotal:  100 kB\nMemAvailable:    50 kB\n")
    (proc / "self/status").write_text("Name: x\nVmRSS:\t 12 kB\n")
    assert (available_memory(), resident_memory()) == (50 * 1024, 12 * 1024)
    (group / "memory.max").write_text("max\n")
    (group / "memory.current").write_text("1000\n")
    assert available_memory() == 50 * 1024
    (group / "memory.max").write_text("3000\n")
    assert available_memory() == 2000
    assert [shown_bytes(n) for n in (4e6, 999e6, 1e9, 12.34e9)] == [
        "4 MB",
        "999 MB",
        "1.0 GB",
        "12.3 GB",
    ]


def test_command_line(capsys):
    assert main(["info", "gat_lip_rev_16", "--data", "wine", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["memory"]
    assert (found["nodes"], list(found["ways"])) == (
        178,
        ["evaluation", "training", "checkpoint_layers", "reversible"],
    )
    assert main(["info", "gat_lip_16.digits", "--nodes", "1000000"]) == 0
    text = capsys.readouterr().out
    assert "1,000,000 nodes, 10,000,000 edges" in text
    assert "checkpoint_layers" in text
    for wrong in (
        ["--nodes", "0"],
        ["--edges", "5"],
        ["--nodes", "5", "--edges", "-1"],
        ["--nodes", "5", "--data", "wine"],
        ["--data", "no_such_data"],
    ):
        assert main(["info", "gat_lip_16", *wrong]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert main(["info", "gat_lip_context_8", "--nodes", "5"]) == 2
    assert "in context" in capsys.readouterr().err


class TestTooLittle:
    """What `train` and `finetune` say where the memory that is left is less than they need."""

    @pytest.fixture
    def left(self, monkeypatch):
        """The memory that is left, in bytes."""
        import lipzoo.training.memory

        def set_left(size):
            monkeypatch.setattr(lipzoo.training.memory, "available_memory", lambda: size)

        return set_left

    def trained(self, capsys, out, *more):
        command = ["train", "--architecture", "gat_lip_2", "--data", "iris", "--out", str(out)]
        assert main([*command, "--epochs", "1", "--seeds", "0", *more]) == 0
        return capsys.readouterr().err

    def test_train_names_ways_out(self, left, capsys, tmp_path):
        left(10_000)
        text = self.trained(capsys, tmp_path / "a")
        assert "iris: this training needs about" in text
        assert "0 MB are there" in text
        assert "checkpoint_layers=true takes" in text
        assert "--batching clusters" in text
        more = ["--set", "overrides={checkpoint_layers: true}"]
        text = self.trained(capsys, tmp_path / "b", *more)
        assert "needs about" in text
        assert "checkpoint_layers=true" not in text

    def test_for_a_program(self, left, capsys, tmp_path):
        left(10_000)
        lines = self.trained(capsys, tmp_path / "a", "--progress", "json").splitlines()
        [found] = [e for e in map(json.loads, lines) if e["event"] == "memory"]
        assert found["available"] == 10_000 < found["needed"]["training"]

    def test_nothing_where_there_is_enough_or_parts_are_trained_on(self, left, capsys, tmp_path):
        left(10**12)
        assert "needs about" not in self.trained(capsys, tmp_path / "a")
        left(None)
        assert "needs about" not in self.trained(capsys, tmp_path / "b")
        left(10_000)
        assert "needs about" not in self.trained(capsys, tmp_path / "c", "--quiet")
        parts = ["--batching", "{name: clusters, parts: 2}"]
        assert "needs about" not in self.trained(capsys, tmp_path / "d", *parts)

    def test_finetune(self, left, capsys, tmp_path):
        left(10_000)
        command = ["finetune", "gat_lip_16.digits", "--data", "wine", "--out", str(tmp_path / "a")]
        assert main([*command, "--epochs", "1"]) == 0
        assert "wine: this training needs about" in capsys.readouterr().err
