import pytest
import torch

import lipzoo
from lab.pretraining import check_held_out, pretrain
from lab.pretraining.graphs import samples
from lab.pretraining.objectives import (
    PretrainingHead,
    draw_episode,
    episode_loss,
    random_rotation,
)
from lab.pretraining.recipe import Objective, Source, make_pretraining
from lipzoo._tables import read_csv
from lipzoo.datasets.encoding import encode_task
from lipzoo.errors import CheckpointError, ConfigError, OutputError
from lipzoo.training.state import STATE_FILE
from lipzoo.weights import read_checkpoint, read_curve


def recipe(**changes):
    content = {
        "architecture": "gat_lip_universal_16",
        "overrides": {"num_layers": 2, "hidden_feats": 16},
        "tag": "tiny",
        "encoding": {"width": 8},
        "graphs": [{"name": "wine"}, {"name": "digits", "parts": 2, "nodes": 100}],
        "held_out": ["iris"],
        "epochs": 2,
    }
    return make_pretraining({**content, **changes}, "test")


def tensors(folder):
    return read_checkpoint(folder).tensors


def run(folder, content=None, **options):
    return pretrain(content or recipe(), folder, say=lambda line: None, **options)


@pytest.mark.parametrize("start", ["default", "identity"])
def test_two_epochs_give_weights_that_load(tmp_path, start):
    folder = run(tmp_path / "run", recipe(start=start))
    model = lipzoo.load_pretrained(folder)
    assert [entry.name for entry in model.card.pretrained_on] == ["wine", "digits"]
    assert model.card.encoding == {"width": 8, "seed": 0}
    iris = encode_task(lipzoo.load_dataset("iris"), **model.card.encoding)
    assert torch.isfinite(model(iris.graph, iris.feat)).all()
    assert make_pretraining(model.card.recipe, "card") == recipe(start=start)
    curve = read_curve(folder)
    assert (curve.sha256, curve.epoch) == (model.card.weights.sha256, 2)
    losses = [
        (float(row["wine"]) + float(row["digits"])) / 2
        for row in read_csv(folder.parent / "losses.csv")
    ]
    assert [row["train_loss"] for row in curve.rows] == pytest.approx(losses, rel=1e-5)
    assert "mean over the graphs" in curve.words(model.card)


def test_the_same_recipe_gives_the_same_bits_also_when_resumed(tmp_path):
    whole = tensors(run(tmp_path / "whole"))

    def stop(line):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain(recipe(), tmp_path / "cut", save_every=1, say=stop)
    assert (tmp_path / "cut" / STATE_FILE).is_file()
    again = tensors(run(tmp_path / "cut", resume=True))
    assert whole.keys() == again.keys()
    assert all(torch.equal(whole[key], again[key]) for key in whole)
    assert (tmp_path / "cut/losses.csv").read_text().count("\n") == 3


def test_a_held_out_graph_is_refused_whatever_its_name_or_split(tmp_path):
    with pytest.raises(ConfigError, match="both learnt from and held out"):
        recipe(held_out=["wine"])
    wine = lipzoo.load_dataset("wine", split_seed=3)
    seen = {"renamed": lipzoo.load_dataset("wine").data_fingerprint}
    with pytest.raises(ConfigError, match="has learnt from renamed, which is the target wine"):
        check_held_out(seen, wine, "weights")
    check_held_out(seen, lipzoo.load_dataset("iris"), "weights")


def test_refusals_leave_the_folder_alone(tmp_path):
    run(tmp_path / "run")
    with pytest.raises(OutputError, match="--overwrite"):
        run(tmp_path / "run")
    with pytest.raises(ConfigError, match="begun with other settings"):
        run(tmp_path / "run", recipe(seed=1), resume=True)
    (tmp_path / "run" / STATE_FILE).write_bytes(b"nonsense")
    (tmp_path / "run/checkpoint/card.yaml").unlink()
    with pytest.raises(CheckpointError, match="does not belong"):
        run(tmp_path / "run", resume=True)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"graphs": []}, "at least 1 item"),
        ({"graphs": [{"name": "wine", "parts": 2}]}, "go together"),
        ({"objective": {"reconstruction": 0, "episodes": 0}}, "nothing would be learnt"),
        ({"tag": "a b"}, "letters, digits"),
        ({"epoch": 3}, "unknown key 'epoch'"),
    ],
)
def test_faults_of_a_recipe(changes, words):
    with pytest.raises(ConfigError, match=words):
        recipe(**changes)


def test_a_part_larger_than_its_graph_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="parts of 1000 nodes, but it has 178"):
        run(tmp_path / "run", recipe(graphs=[{"name": "wine", "parts": 1, "nodes": 1000}]))
    assert not (tmp_path / "run").exists()


def test_parts_are_induced_subgraphs():
    task = lipzoo.load_dataset("wine")
    source = Source(name="wine", parts=3, nodes=50)
    found = samples(task, source, recipe())
    whole = samples(task, Source(name="wine"), recipe())[0]
    assert len(found) == 3
    for part in found:
        assert part.graph.num_nodes() == 50
        rows = [int((whole.feat == row).all(1).nonzero()[0]) for row in part.feat]
        own = whole.graph.subgraph(rows)
        assert own.num_edges() == part.graph.num_edges()
        assert torch.equal(whole.labels[rows], part.labels)


def test_a_rotation_is_orthogonal():
    rotation = random_rotation(16)
    assert torch.allclose(rotation @ rotation.T, torch.eye(16), atol=1e-5)


def test_an_episode_gives_labels_of_each_class_and_asks_for_others():
    labels = torch.tensor([0] * 20 + [1] * 3 + [2] + [-1] * 5)
    support, query = draw_episode(labels, 4, 10)
    assert set(labels[support].tolist()) == {0, 1, 2}
    assert not set(support.tolist()) & set(query.tolist())
    assert (labels[query] >= 0).all()
    assert (labels[query] != 2).all()


def test_separable_features_make_an_easy_episode():
    labels = torch.arange(5).repeat(40)
    easy = torch.nn.functional.one_hot(labels, 5).float() + 0.01 * torch.randn(200, 5)
    head = PretrainingHead(5, 5)
    assert episode_loss(easy, labels, head, Objective()) < 0.5
    assert episode_loss(torch.randn(200, 5), labels, head, Objective()) > 1.0
