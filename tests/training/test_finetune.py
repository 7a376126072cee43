import dataclasses
from importlib import import_module

import numpy as np
import pytest
import torch
from registry_state import fresh_registry

import lipzoo
from lipzoo._dgl import dgl
from lipzoo.datasets import GraphTask
from lipzoo.datasets.convert import MASKS
from lipzoo.datasets.loading import is_same_data
from lipzoo.errors import ConfigError, DataError, OutputError
from lipzoo.models import DeepGAT
from lipzoo.settings import FinetuneSettings
from lipzoo.training import evaluate, export_run, predict, train
from lipzoo.training.recipe import make_recipe


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Weights trained on wine (13 features, 3 classes)."""
    folder = tmp_path_factory.mktemp("source")
    recipe = make_recipe(
        {"architecture": "gat_lip_2", "dataset": {"name": "wine"}, "epochs": 30, "seeds": [0]},
        where="test",
    )
    train(recipe, folder / "run", verbose=False)
    return export_run(folder / "run", folder / "gat_lip_2.wine")


def body(model):
    return {k: v.clone() for k, v in model.state_dict().items() if k.startswith("layers.")}


@pytest.mark.slow
def test_onto_other_features_and_classes(source, iris, tmp_path):
    result = lipzoo.finetune(source, iris, epochs=40, out=tmp_path / "out", verbose=False)
    assert result.kept == ["layer_1", "layer_2"]
    assert result.replaced == ["input", "head"]
    assert result.metrics["test_accuracy"] > 0.8
    again = lipzoo.load_pretrained(tmp_path / "out")
    assert evaluate(again, iris) == pytest.approx(result.metrics, abs=1e-7)
    assert again.card.recipe["finetuned_from"] == "gat_lip_2.wine"
    assert again.card.tag == "iris"


def test_the_same_width_keeps_the_input_layer(source):
    wine = lipzoo.load_dataset("wine", split_seed=5)
    result = lipzoo.finetune(source, wine, epochs=2, verbose=False)
    assert result.replaced == []


@pytest.mark.many
@pytest.mark.parametrize("freeze", ["none", "body", "all-but-head"])
def test_freeze(source, iris, freeze):
    before = body(lipzoo.load_pretrained(source))
    result = lipzoo.finetune(source, iris, freeze=freeze, epochs=5, verbose=False)
    after = body(result.model)
    unchanged = all(torch.equal(before[key], after[key]) for key in before)
    assert unchanged == (freeze != "none")
    assert all(p.requires_grad for p in result.model.parameters())


def test_a_head_is_kept_on_the_same_data_only(source):
    """What the data is decides, not what it is called: features, labels and edges, not masks."""
    wine = lipzoo.load_dataset("wine", split_seed=5)
    renamed = dataclasses.replace(wine, name="mine")
    assert lipzoo.finetune(source, renamed, epochs=1, verbose=False).replaced == []
    # A graph of one's own: the split on the card is drawn again, and is that of the fingerprint.
    bare = GraphTask.from_graph(wine.graph, "mine")
    assert lipzoo.finetune(source, bare, epochs=1, verbose=False).replaced == []
    other = wine.with_ndata(feat=wine.feat.flip(0))
    assert lipzoo.finetune(source, other, epochs=1, verbose=False).replaced == ["head"]
    erased = lipzoo.load_dataset("wine", split_seed=5, missing_rate=0.5)
    assert lipzoo.finetune(source, erased, epochs=1, verbose=False).replaced == []


@pytest.mark.parametrize("name", ["gat_lip_2.cora", "gat_lip_8.cora_mv100"])
def test_cora_is_cora_in_any_split(name, raw_dir):
    """Cards from before: the public split, or erased features, come back from the data."""
    entry = lipzoo.load_pretrained(name).card.dataset
    card = (entry.name, entry.options, entry.fingerprint)
    task = lipzoo.load_dataset("cora", raw_dir=raw_dir, split="random", split_seed=1)
    assert is_same_data(task, *card)
    assert is_same_data(lipzoo.load_dataset("cora", raw_dir=raw_dir, missing_rate=0.3), *card)
    assert not is_same_data(task.with_ndata(label=task.labels.flip(0)), *card)


def test_two_graphs_of_one_name_share_no_head(source, tmp_path):
    one, two = (with_masks(labelled_graph(40, seed)) for seed in (0, 1))
    out = tmp_path / "one"
    lipzoo.finetune(source, GraphTask.from_graph(one), epochs=1, out=out, verbose=False)
    there = lipzoo.finetune(out, GraphTask.from_graph(two), epochs=1, verbose=False)
    assert there.replaced == ["head"]
    # The same graph with other masks, under another name, is the same data.
    for mask, column in zip(MASKS, (one.ndata[mask].roll(1) for mask in MASKS)):
        one.ndata[mask] = column
    again = lipzoo.finetune(out, GraphTask.from_graph(one, "again"), epochs=1, verbose=False)
    assert again.replaced == []


def test_the_result_carries_its_own_card(source, multilabel, tmp_path):
    """Probabilities of several classes at once, as the task has them, not as the source had."""
    result = lipzoo.finetune(source, multilabel, epochs=1, verbose=False)
    logits = result.model(multilabel.graph, multilabel.feat)
    assert torch.equal(predict(result.model, multilabel), logits.sigmoid())
    card = result.model.card
    assert card.dataset.name == "ring"
    assert card.weights.metrics == result.metrics
    assert card.architecture.args["num_classes"] == 4
    assert not hasattr(result.model, "pretrained_folder")

    kept = lipzoo.finetune(source, multilabel, epochs=1, out=tmp_path / "out", verbose=False)
    again = lipzoo.load_pretrained(tmp_path / "out")
    assert kept.model.card == again.card
    assert kept.model.pretrained_folder == again.pretrained_folder == kept.folder


def test_a_fresh_head_has_no_figures(source):
    """Figures on a card are those of its weights: a model whose head was left out has none."""
    with pytest.warns(UserWarning, match="left out"):
        model = lipzoo.load_pretrained(source, num_classes=4)
    assert model.card.architecture.args["num_classes"] == 4
    assert model.card.weights.metrics == model.card.metrics == {}
    assert lipzoo.load_pretrained(source, feat_drop=0.0).card.weights.metrics


def test_all_but_head_keeps_the_input_of_the_same_width(source):
    wine = lipzoo.load_dataset("wine", split_seed=5)
    before = lipzoo.load_pretrained(source).input.weight
    result = lipzoo.finetune(source, wine, freeze="all-but-head", epochs=5, verbose=False)
    assert torch.equal(before, result.model.input.weight)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_model(source, iris):
    one, two, other = (
        lipzoo.finetune(source, iris, epochs=5, seed=seed, verbose=False) for seed in (0, 0, 1)
    )
    assert one.history == two.history
    assert one.history != other.history


def test_numbers_of_numpy_are_numbers(source, iris, tmp_path):
    plain = {"epochs": 2, "seed": 3, "warm_start": False, "patience": 5}
    plain |= {"lr": 0.5, "layer_lr_decay": 0.5, "batching": {"name": "clusters", "parts": 2}}
    theirs = {"epochs": np.int64(2), "seed": np.uint8(3), "warm_start": np.bool_(False)}
    theirs |= {"patience": np.int32(5), "lr": np.float32(0.5), "layer_lr_decay": np.float64(0.5)}
    theirs["batching"] = {"name": "clusters", "parts": np.int64(2)}
    found = lipzoo.finetune(source, iris, **theirs, out=tmp_path / "out", verbose=False)
    wanted = lipzoo.finetune(source, iris, **plain, verbose=False)
    assert found.history == wanted.history
    assert lipzoo.load_pretrained(tmp_path / "out").card.weights.seed == 3
    with pytest.raises(ConfigError, match="epochs"):
        lipzoo.finetune(source, iris, epochs=np.array([1, 2]), verbose=False)


def test_refusals_come_before_the_training(source, iris, tmp_path):
    with pytest.raises(ConfigError, match="did you mean 'body'"):
        lipzoo.finetune(source, iris, freeze="bodi", epochs=10**9)
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(OutputError, match="--overwrite"):
        lipzoo.finetune(source, iris, epochs=10**9, out=tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "keep"


@pytest.mark.slow
def test_multilabel(source, multilabel):
    result = lipzoo.finetune(
        source, multilabel, class_weight="balanced", epochs=60, lr=0.02, verbose=False
    )
    assert result.replaced == ["input", "head"]
    assert result.metrics["test_micro_f1"] > 0.7


def with_masks(graph):
    node = graph.nodes()
    for place, mask in enumerate(MASKS):
        graph.ndata[mask] = node % 3 == place
    return graph


def labelled_graph(num_nodes, seed):
    """A ring whose classes are the sign of the first of five features; runs of five are alike."""
    node = torch.arange(num_nodes)
    graph = dgl.graph((node, (node + 1) % num_nodes))
    generator = torch.Generator().manual_seed(seed)
    feat = torch.randn(num_nodes // 5, 5, generator=generator)
    graph.ndata["feat"] = feat.repeat_interleave(5, 0)
    graph.ndata["label"] = (graph.ndata["feat"][:, 0] > 0).long()
    return graph


@pytest.mark.slow
def test_inductive(source):
    """Several graphs: what is in the test graph changes no weight."""
    train_on = [labelled_graph(40, seed) for seed in (0, 1, 2)]
    val, test, other = (labelled_graph(n, seed) for n, seed in ((30, 3), (25, 4), (50, 5)))
    results = [
        lipzoo.finetune(
            source,
            GraphTask.from_graphs(train_on, [val], [judged_on]),
            epochs=60,
            lr=0.02,
            verbose=False,
            # Masks are drawn for all nodes together: with dropout, the draws would differ.
            **dict.fromkeys(("input_drop", "feat_drop", "attn_drop", "head_drop"), 0.0),
        )
        for judged_on in (test, other)
    ]
    assert results[0].metrics["test_accuracy"] > 0.7
    for one, two in zip(*(result.model.parameters() for result in results)):
        assert torch.allclose(one, two, atol=1e-5)
    # A graph alone is classified as it is among the others.
    alone = results[0].model(test, test.ndata["feat"]).argmax(1)
    accuracy = (alone == test.ndata["label"]).double().mean().item()
    assert accuracy == pytest.approx(results[0].metrics["test_accuracy"])


def test_what_lacks_labels_is_refused(source):
    graph = labelled_graph(10, 0)
    graph.ndata.pop("label")
    with pytest.raises(DataError, match="no labels"):
        lipzoo.finetune(source, GraphTask.from_graph(graph), verbose=False)


def test_a_class_that_cannot_be_taken_apart_is_not_trained_by_layers(source, iris, monkeypatch):
    from lipzoo.models import DeepAttentionNet

    monkeypatch.delattr(DeepAttentionNet, "layer_groups")
    monkeypatch.setattr(import_module("lipzoo.training.finetune"), "encode_to_train", None)
    with pytest.raises(ConfigError, match=r"freeze: a \w+ has no layer_groups; .* derive it from"):
        lipzoo.finetune(source, iris, freeze="body", verbose=False)  # before any work


def test_without_validation_and_test_nodes(source, iris):
    graph = iris.graph.local_var()
    del graph.ndata["val_mask"], graph.ndata["test_mask"]
    some = GraphTask.from_graph(graph)
    with pytest.raises(DataError, match="no val_mask and no test_mask"):
        lipzoo.finetune(source, some, epochs=2, verbose=False)
    with pytest.raises(ConfigError, match="warm_start"):
        lipzoo.finetune(source, some, splits=("train",), warm_start=True)
    result = lipzoo.finetune(source, some, epochs=2, splits=("train",), verbose=False)
    assert result.best_epoch == 2
    assert result.metrics.keys() == {"train_accuracy", "train_loss"}
    probe = {"freeze": "all-but-head", "start": "stack", "epochs": 2, "verbose": False}
    assert lipzoo.finetune(source, some, splits=("train",), **probe).best_epoch == 2


def test_what_is_not_asked_for_is_as_documented(source, iris):
    result = lipzoo.finetune(source, iris, epochs=1, verbose=False)
    settings = FinetuneSettings(epochs=1).model_dump(mode="json")
    recipe = result.model.card.recipe
    assert {key: recipe.get(key) for key in settings} == settings
    assert recipe["early_stopping"]["ties"] == "break"


@pytest.mark.parametrize("options", [{}, {"unfreeze_every": 1}, {"layer_lr_decay": 0.5}])
def test_what_a_model_has_frozen_itself_stays(tmp_path, options):
    class Fixed(DeepGAT):
        def __init__(self, in_feats, num_classes, **arguments):
            super().__init__(in_feats=in_feats, num_classes=num_classes, **arguments)
            self.head.bias.requires_grad_(False)

    with fresh_registry():
        lipzoo.register_model(Fixed)
        rest = {"dataset": {"name": "wine"}, "epochs": 2, "seeds": [0]}
        words = "model: Fixed\ndescription: x\nargs: {num_heads: 2, num_layers: 2}\n"
        (tmp_path / "fixed_2.yaml").write_text(words)
        lipzoo.add_config_dir(tmp_path)
        recipe = make_recipe({"architecture": "fixed_2", **rest}, "test")
        train(recipe, tmp_path / "run", verbose=False)
        out = export_run(tmp_path / "run", tmp_path / "fixed_2.wine")
        wine = lipzoo.load_dataset("wine")
        model = lipzoo.finetune(out, wine, epochs=5, verbose=False, **options).model
        before = lipzoo.load_pretrained(out)
    assert torch.equal(model.head.bias, before.head.bias)
    assert not torch.equal(model.head.weight, before.head.weight)
    assert not model.head.bias.requires_grad
    assert all(p.requires_grad for name, p in model.named_parameters() if name != "head.bias")
