"""Odd but legal graphs, from the training to the predictions."""

import csv

import pytest
import torch

import lipzoo
from lipzoo._dgl import dgl
from lipzoo.datasets import DATASETS, GraphTask, load_dataset, register_dataset
from lipzoo.errors import DataError
from lipzoo.training import evaluate, export_run, predict, train, write_predictions
from lipzoo.training.recipe import make_recipe

N, F, C = 24, 4, 3


def with_data(graph, dtype=torch.float32):
    """Features, three classes and masks on a graph."""
    node = torch.arange(graph.num_nodes())
    graph.ndata["label"] = node % C
    noise = torch.randn(len(node), F, generator=torch.Generator().manual_seed(0))
    graph.ndata["feat"] = (noise + 2 * torch.eye(C, F)[node % C]).to(dtype)
    for place, mask in enumerate(("train_mask", "val_mask", "test_mask")):
        graph.ndata[mask] = node // C % 3 == place
    return graph


def ring(num_nodes=N):
    node = torch.arange(num_nodes)
    return dgl.to_bidirected(dgl.graph((node, (node + 1) % num_nodes)))


def isolated():
    return dgl.graph(([0, 1, 2], [1, 2, 0]), num_nodes=N)


def no_edges():
    return dgl.graph(([], []), num_nodes=N)


def two_components():
    return dgl.batch([ring(N // 2), ring(N // 2)])


def self_loops():
    return dgl.add_self_loop(ring())


def some_self_loops_twice():
    return dgl.add_edges(ring(), [0, 0, 5], [0, 0, 5])


def multi_edges():
    src, dst = ring().edges()
    return dgl.graph((src.repeat(3), dst.repeat(3)), num_nodes=N)


def directed():
    """A path: nothing reaches its first node."""
    return dgl.graph((torch.arange(N - 1), torch.arange(1, N)))


def int32():
    return ring().int()


def only_csc():
    """As message passing wants it, and nothing else."""
    return multi_edges().formats("csc")


def only_csr():
    return multi_edges().formats("csr")


def hub():
    """100,000 nodes around one, both ways."""
    leaves = torch.arange(1, 100_001)
    middle = torch.zeros_like(leaves)
    return dgl.graph((torch.cat([leaves, middle]), torch.cat([middle, leaves])))


def class_without_training_node():
    graph = with_data(ring())
    graph.ndata["train_mask"] &= graph.ndata["label"] != 2
    return graph


def float64():
    return with_data(ring(), torch.float64)


def bfloat16():
    return with_data(ring(), torch.bfloat16)


def one_node_each():
    """Three graphs of one node each: to train on, to validate on, to test on."""
    single = with_data(dgl.graph(([], []), num_nodes=1))
    return GraphTask.from_graphs([single], [single], [single], num_classes=C).graph


ODD = {
    function.__name__: function
    for function in (
        isolated,
        no_edges,
        two_components,
        self_loops,
        some_self_loops_twice,
        multi_edges,
        directed,
        int32,
        only_csc,
        only_csr,
        hub,
        class_without_training_node,
        float64,
        bfloat16,
        one_node_each,
    )
}


@pytest.fixture
def odd(request):
    """A data set of that name, for as long as the test runs."""
    graph = ODD[request.param]()
    graph = graph if "feat" in graph.ndata else with_data(graph)
    register_dataset("odd")(lambda: GraphTask.from_graph(graph, "odd", num_classes=C))
    yield load_dataset("odd")
    DATASETS.remove("odd")


def recipe(**changes):
    content = {
        "architecture": "test_tiny",
        "overrides": {"feat_drop": 0.2, "attn_drop": 0.2},
        "dataset": {"name": "odd"},
        "epochs": 3,
        "seeds": [0],
    }
    return make_recipe({**content, **changes}, where="test")


def is_finite(result):
    numbers = [n for row in result.history for n in row.values()] + list(result.metrics.values())
    return bool(torch.isfinite(torch.tensor(numbers)).all())


@pytest.mark.parametrize("odd", ODD, indirect=True)
def test_train_load_finetune_predict(odd, tmp_path):
    summary = train(recipe(), tmp_path / "run", verbose=False)
    trained = lipzoo.load_pretrained(export_run(tmp_path / "run", tmp_path / "weights"))
    measured = evaluate(trained, odd)
    figures = {name: figure["mean"] for name, figure in summary["metrics"].items()}
    assert measured == pytest.approx(figures, abs=1e-5)
    assert 0 < trained.card.lipschitz.bound < float("inf")

    # Onto it from other data, in every way.
    for way in (
        {},
        {"unfreeze_every": 1, "layer_lr_decay": 0.9, "class_weight": "balanced"},
        {"freeze": "all-but-head"},
    ):
        out = tmp_path / f"tuned_{len(way)}"
        result = lipzoo.finetune(tmp_path / "weights", odd, epochs=3, out=out, verbose=False, **way)
        assert is_finite(result)
        tuned = lipzoo.load_pretrained(out)
        assert evaluate(tuned, odd) == pytest.approx(result.metrics, abs=1e-5)

    probabilities = predict(tuned, odd)
    assert torch.isfinite(probabilities).all()
    assert torch.allclose(probabilities.sum(1), torch.ones(odd.num_nodes), atol=1e-5)
    path = write_predictions(tmp_path / "p.csv", probabilities, multilabel=False)
    with path.open() as file:
        assert len(list(csv.DictReader(file))) == odd.num_nodes


@pytest.mark.parametrize("odd", [name for name in ODD if name != "hub"], indirect=True)
@pytest.mark.parametrize("architecture", ["gat_lip_2", "gatv2_lip_2", "gt_lip_2", "gat_pairnorm_2"])
def test_every_kind_of_attention_learns_on_it(odd, architecture, tmp_path):
    summary = train(recipe(architecture=architecture), tmp_path, verbose=False)
    values = [figure["mean"] for figure in summary["metrics"].values()]
    assert torch.isfinite(torch.tensor(values)).all()


@pytest.mark.parametrize("odd", ["int32", "float64", "multi_edges", "isolated"], indirect=True)
def test_it_is_the_plain_graph_to_a_model(odd):
    """The type of the ids and the order of the edges change nothing; doubled edges do."""
    model = lipzoo.create_model("test_tiny", in_feats=F, num_classes=C).eval()
    src, dst = odd.graph.edges()
    order = torch.randperm(len(src), generator=torch.Generator().manual_seed(1))
    plain = dgl.graph((src.long()[order], dst.long()[order]), num_nodes=odd.num_nodes)
    assert torch.allclose(model(odd.graph, odd.feat), model(plain, odd.feat), atol=1e-5)


def test_one_node_is_predicted_but_not_trained_on(tmp_path):
    """There is no node left to validate on: refused in words, before anything is written."""
    graph = with_data(dgl.graph(([], []), num_nodes=1))
    task = GraphTask.from_graph(graph, "one", num_classes=C)
    model = lipzoo.create_model("test_tiny", in_feats=F, num_classes=C)
    assert predict(model, task).shape == (1, C)
    with pytest.raises(DataError, match="val_mask is empty: it must select at least one node"):
        lipzoo.finetune("gat_lip_16.digits", task, out=tmp_path / "out", verbose=False)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "name", ["int32", "float64", "bfloat16", "isolated", "multi_edges", "only_csc"]
)
def test_from_a_file(name, tmp_path):
    graph = ODD[name]()
    graph = graph if "feat" in graph.ndata else with_data(graph)
    dgl.save_graphs(str(tmp_path / "odd.bin"), [graph])
    task = load_dataset(tmp_path / "odd.bin")
    assert task.fingerprint == GraphTask.from_graph(graph).fingerprint


def test_features_that_nobody_converted_are_refused_in_words():
    task = GraphTask("mine", float64(), C)
    with pytest.raises(DataError, match=r"are torch.float64; GraphTask.from_graph"):
        lipzoo.finetune("gat_lip_16.digits", task, verbose=False)
