"""The table of norms and smoothness, against plain loops; the callback during training."""

import csv
import math

import pytest
import torch
import torch.nn.functional as F
from graph_zoo import homogeneous, isolated

import lipzoo
from lipzoo.errors import ConfigError, DataError
from lipzoo.lipschitz import GradientFlowLog, gradient_flow
from lipzoo.lipschitz.flow import COLUMNS, _smoothness
from lipzoo.models import DeepGAT
from lipzoo.nn.residual import RESIDUAL_SCHEMES

GRAPH = homogeneous()
LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1, -1, 2])


def features():
    return torch.randn(10, 4, generator=torch.Generator().manual_seed(0))


def make(**arguments):
    torch.manual_seed(0)
    return DeepGAT(4, 3, 3, 8, 2, score_norm="lipschitz", **arguments)


def test_rows_against_autograd():
    model = make().eval()
    flow = gradient_flow(model, GRAPH, features(), LABELS)
    assert [row["layer"] for row in flow.rows] == ["input", "layer_1", "layer_2", "layer_3", "head"]
    states = model.forward_intermediates(GRAPH, features())
    for state in states:
        state.retain_grad()
    logits = model.head(states[-1])
    known = LABELS >= 0
    loss = F.cross_entropy(logits[known], LABELS[known])
    loss.backward()
    assert flow.loss == pytest.approx(loss.item())
    for row, state in zip(flow.rows, states):
        assert row["gradient_norm"] == pytest.approx(state.grad.norm().item(), rel=1e-5)
        wanted = state.square().sum(1).mean().sqrt().item()
        assert row["activation_norm"] == pytest.approx(wanted, rel=1e-5)
    for row, group in zip(flow.rows, model.layer_groups().values()):
        wanted = math.hypot(*(p.grad.norm().item() for p in group))
        assert row["parameter_gradient_norm"] == pytest.approx(wanted, rel=1e-4)


def test_entropy_against_a_loop():
    model = make().eval()
    flow = gradient_flow(model, GRAPH, features(), LABELS)
    _, attention = model(GRAPH, features(), return_attention=True)
    dst = GRAPH.edges()[1]
    for row, weights in zip(flow.rows[1:], attention):
        values = []
        for node in range(10):
            p = weights[dst == node]
            if len(p) > 1:
                values.append(-(p * p.log()).sum(0) / math.log(len(p)))
        wanted = torch.stack(values).mean().item()
        assert row["attention_entropy"] == pytest.approx(wanted, rel=1e-5)
        assert 0.9 < row["attention_entropy"] <= 1
    assert flow.rows[0]["attention_entropy"] is None


def test_smoothness_against_loops():
    structure = lipzoo.attention.as_structure(GRAPH)
    h = features().double()
    h[3] = 0
    got = _smoothness(structure, h)
    src, dst = GRAPH.edges()
    energy = sum((h[i] - h[j]).square().sum().item() for i, j in zip(src, dst)) / 10

    def distance(i, j):
        return 1 - F.cosine_similarity(h[i], h[j], dim=0).item()

    pairs = [distance(i, j) for i in range(10) for j in range(10) if i != j]
    edges = [distance(i, j) for i, j in zip(src, dst) if i != j]
    assert got["dirichlet_energy"] == pytest.approx(energy)
    assert got["mean_distance"] == pytest.approx(sum(pairs) / len(pairs))
    assert got["neighbour_distance"] == pytest.approx(sum(edges) / len(edges))
    same = _smoothness(structure, torch.ones(10, 3).double())
    assert same == {
        "dirichlet_energy": 0,
        "mean_distance": pytest.approx(0, abs=1e-12),
        "neighbour_distance": pytest.approx(0, abs=1e-12),
    }


@pytest.mark.parametrize("residual", RESIDUAL_SCHEMES)
def test_every_scheme_and_an_odd_graph(residual):
    model = make(residual=residual, feature_norm="layernorm", checkpoint_layers=True)
    flow = gradient_flow(model, isolated(), features()[:6], LABELS[:6])
    assert len(flow.rows) == 5
    assert all(math.isfinite(row["gradient_norm"]) for row in flow.rows)
    assert model.checkpoint_layers


def test_training_is_not_disturbed():
    model = make()
    model.head.requires_grad_(False)
    random = torch.get_rng_state()
    flow = gradient_flow(model, GRAPH, features(), LABELS, mask=torch.arange(10) < 5)
    assert torch.equal(torch.get_rng_state(), random)
    assert model.training
    assert all(p.grad is None for p in model.parameters())
    assert flow.rows[-1]["parameter_gradient_norm"] == 0
    with torch.no_grad():
        assert gradient_flow(model, GRAPH, features(), LABELS).loss > 0


def test_several_labels_a_node():
    labels = (torch.rand(10, 3, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    model = make().eval()
    flow = gradient_flow(model, GRAPH, features(), labels)
    wanted = F.binary_cross_entropy_with_logits(model(GRAPH, features()), labels)
    assert flow.loss == pytest.approx(wanted.item())


def test_depth_without_the_norm_smooths_and_vanishes():
    """What the paper is about, seen in the table: features of a deep plain stack collapse."""
    torch.manual_seed(0)
    model = lipzoo.create_model("gat_32", in_feats=4, num_classes=3)
    rows = gradient_flow(model, GRAPH, features(), LABELS).rows
    assert rows[-2]["mean_distance"] < 0.1 * rows[0]["mean_distance"]


def test_it_is_written_and_plotted(tmp_path):
    flow = gradient_flow(make(), GRAPH, features(), LABELS)
    flow.write_csv(tmp_path / "flow.csv")
    with (tmp_path / "flow.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["layer", *COLUMNS]
    assert float(rows[2]["gradient_norm"]) == flow.rows[2]["gradient_norm"]
    pytest.importorskip("matplotlib")
    flow.plot(tmp_path / "flow.svg")
    assert "<svg" in (tmp_path / "flow.svg").read_text()
    with pytest.raises(ConfigError, match=r"flow\.xyz"):
        flow.plot(tmp_path / "flow.xyz")
    assert "layer_2" in str(flow)
    assert len(str(flow).splitlines()) == 6


def test_as_a_callback_of_fit(tmp_path):
    from lipzoo.training.loop import fit
    from lipzoo.training.recipe import FitSettings

    task = lipzoo.load_dataset("digits")
    model = lipzoo.create_model(
        "gat_lip_2", in_feats=64, num_classes=10, hidden_feats=8, num_heads=2
    )
    log = GradientFlowLog(model, task.graph, task.feat, task.labels, task.train_mask, every=2)
    fit(model, task, FitSettings(epochs=5), on_epoch=log, verbose=False)
    assert list(log.flows) == [1, 2, 4]
    assert log.flows[4].loss < log.flows[1].loss
    assert {row["epoch"] for row in log.rows} == {1, 2, 4}
    log.write_csv(tmp_path / "flow.csv")
    assert (tmp_path / "flow.csv").read_text().startswith("epoch,layer,activation_norm")
    pytest.importorskip("matplotlib")
    log.plot(tmp_path / "flow.png")
    assert (tmp_path / "flow.png").read_bytes().startswith(b"\x89PNG")


def test_bad_arguments_are_answered():
    with pytest.raises(ConfigError, match="with a head, got Linear"):
        gradient_flow(torch.nn.Linear(4, 3), GRAPH, features(), LABELS)
    with pytest.raises(DataError, match="no node has a label"):
        gradient_flow(make(), GRAPH, features(), torch.full((10,), -1))
    with pytest.raises(ConfigError, match="every must be at least 1"):
        GradientFlowLog(make(), GRAPH, features(), LABELS, every=0)
