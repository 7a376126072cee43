"""Training, fine-tuning and predicting with edge features."""

import numpy as np
import pytest
import torch

import lipzoo
from lipzoo._dgl import dgl
from lipzoo.cli import main
from lipzoo.datasets import GraphTask
from lipzoo.errors import ConfigError, DataError
from lipzoo.settings import FitSettings
from lipzoo.training import evaluate, predict
from lipzoo.training.loop import fit
from lipzoo.training.together import fit_together

SETTINGS = {"optimizer": {"lr": 0.02}, "early_stopping": {"patience": 100}}


def marked(nodes=120, degree=5, width=2, seed=0):
    """A node's class is the sign of the feature of one in-neighbour; the edge says which."""
    generator = torch.Generator().manual_seed(seed)
    src = torch.randint(nodes, (nodes * degree,), generator=generator)
    dst = torch.arange(nodes).repeat_interleave(degree)
    graph = dgl.graph((src, dst), num_nodes=nodes)
    which = torch.randint(degree, (nodes,), generator=generator) + degree * torch.arange(nodes)
    edge = torch.zeros(nodes * degree, width)
    edge[which, 0] = 1
    graph.ndata["feat"] = torch.randn(nodes, 3, generator=generator)
    graph.ndata["label"] = (graph.ndata["feat"][src[which], 0] > 0).long()
    graph.edata["feat"] = edge
    part = torch.arange(nodes) % 4
    for mask, chosen in (("train", part < 2), ("val", part == 2), ("test", part == 3)):
        graph.ndata[f"{mask}_mask"] = chosen
    return GraphTask.from_graph(graph, f"marked{seed}").validate()


@pytest.fixture(scope="module")
def task():
    return marked()


def model_of(edge_feats=2, seed=0, **options):
    torch.manual_seed(seed)
    rates = {"input_drop": 0.0, "feat_drop": 0.0, "head_drop": 0.0, "attn_drop": 0.0}
    sizes = {"in_feats": 3, "num_classes": 2, "hidden_feats": 16, "num_heads": 2}
    options = {**sizes, **rates, "score_norm": None, "edge_feats": edge_feats, **options}
    return lipzoo.create_model("gat_2", **options)


def settings_of(epochs):
    return FitSettings(epochs=epochs, **SETTINGS)


@pytest.mark.slow
def test_fit_reads_the_edges():
    found, task = [], marked(600)
    for edge_feats in (0, 2):
        model = model_of(edge_feats, num_layers=1)
        result = fit(model, task, settings_of(150), verbose=False)
        found.append(result.metrics["test_accuracy"])
    assert found[1] > 0.8 > found[0]


def test_models_trained_together_read_them_too(task):
    alone, together = ([model_of(seed=seed) for seed in (0, 1)] for _ in range(2))
    for model in alone + together:
        for layer in model.layers:
            layer.backend = "torch"
    wanted = [fit(model, task, settings_of(4), verbose=False).metrics for model in alone]
    found = fit_together(together, [task] * 2, [settings_of(4)] * 2)
    for one, two in zip(wanted, found, strict=True):
        assert one == pytest.approx(two.metrics, abs=1e-5)
    other = task.with_ndata()
    other.graph.edata["feat"] = task.edge_feat + 1
    with pytest.raises(ConfigError, match="has another graph"):
        fit_together(together, [task, other], [settings_of(1)] * 2)


def test_what_the_graph_lacks_is_said(task):
    bare = task.with_ndata()
    del bare.graph.edata["feat"]
    for use in (
        lambda: fit(model_of(), bare, settings_of(1), verbose=False),
        lambda: evaluate(model_of(), bare),
        lambda: predict(model_of(), bare),
    ):
        with pytest.raises(DataError, match="reads edge features"):
            use()


@pytest.fixture(scope="module")
def run(task, tmp_path_factory):
    """A graph with edge features as a file, and weights trained on it by the command line."""
    folder = tmp_path_factory.mktemp("run")
    data = lipzoo.datasets.save_npz(task, folder / "marked.npz")
    recipe = folder / "recipe.yaml"
    recipe.write_text(
        "architecture: gat_lip_2\noverrides: {edge_feats: 2}\n"
        f"dataset: {{name: {data}}}\nepochs: 3\nseeds: [0]\n"
    )
    arguments = ["train", recipe, "--out", folder / "run", "--quiet"]
    assert main([str(argument) for argument in arguments]) == 0
    exported = [str(a) for a in ("export", folder / "run", "--out", folder / "exported")]
    assert main(exported) == 0
    return folder


def test_by_the_command_line(run, task, capsys):
    model = lipzoo.load_pretrained(run / "exported")
    assert model.edge_feats == model.card.architecture.args["edge_feats"] == 2
    assert predict(model, task).shape == (120, 2)
    out = run / "p.csv"
    arguments = ["predict", run / "exported", "--data", run / "marked.npz", "--out", out]
    assert main([str(argument) for argument in arguments]) == 0
    bare = run / "bare.npz"
    src, dst = task.graph.edges(order="eid")
    np.savez(bare, src=src, dst=dst, feat=task.feat, label=task.labels)
    arguments = ["predict", run / "exported", "--data", bare, "--out", run / "q.csv"]
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert "reads edge features" in error
    assert "Traceback" not in error
    assert not (run / "q.csv").exists()


def tune(source, task, **options):
    return lipzoo.finetune(source, task, epochs=2, verbose=False, **options)


def test_fine_tuned_on_the_same_width(run):
    result = tune(run / "exported", marked(seed=1))
    assert result.replaced == ["head"]
    assert result.model.edge_feats == 2


@pytest.mark.parametrize("freeze", ["none", "body", "all-but-head"])
def test_fine_tuned_on_another_width(run, freeze, tmp_path):
    task = marked(width=5, seed=1)
    result = tune(run / "exported", task, freeze=freeze, out=tmp_path / "out")
    assert result.replaced == ["edges", "head"]
    assert result.model.edge_feats == 5
    again = lipzoo.load_pretrained(tmp_path / "out")
    assert again.card.architecture.args["edge_feats"] == 5
    assert evaluate(again, task) == pytest.approx(result.metrics, abs=1e-6)


def test_fresh_maps_of_edges_are_trained_whatever_is_frozen(run):
    task = marked(width=5, seed=1)
    maps = []
    for epochs in (1, 3):
        result = lipzoo.finetune(
            run / "exported", task, epochs=epochs, freeze="all-but-head", patience=99, verbose=False
        )
        maps.append((result.best_epoch, result.model.layers[0].fc_edge.weight.detach().clone()))
    if maps[0][0] != maps[1][0]:
        assert not torch.equal(maps[0][1], maps[1][1])
    assert result.model.layers[0].fc.weight.isfinite().all()


def test_fine_tuned_on_a_graph_without(run, task):
    bare = task.with_ndata()
    del bare.graph.edata["feat"]
    with pytest.raises(DataError, match=r"read edge features .*, and the graph has none: give"):
        tune(run / "exported", bare)
    result = tune(run / "exported", bare, edge_feats=0)
    assert "edges" in result.replaced
    assert result.model.edge_feats == 0
    assert result.model.card.architecture.args["edge_feats"] == 0


def test_edges_are_added_where_asked_for(tiny_source, task):
    assert "edges" not in tune(tiny_source, task).replaced
    result = tune(tiny_source, task, edge_feats=2)
    assert result.replaced == ["input", "edges", "head"]
    with pytest.raises(DataError, match=r"edge_feats is 3, and the width .* is 2"):
        tune(tiny_source, task, edge_feats=3)


def test_another_width_is_no_override_of_weights(run):
    with pytest.raises(lipzoo.LipzooError, match="fc_edge"):
        lipzoo.load_pretrained(run / "exported", edge_feats=7)
