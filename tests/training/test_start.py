"""Networks that begin from what the training labels say, and networks in context."""

import csv
import json
import shutil

import numpy as np
import pytest
import torch
from block_graphs import blocks, with_masks
from context_zoo import context_weights

import lipzoo
from lipzoo.card import Card
from lipzoo.cli import main
from lipzoo.context import ClosedFormStack, hidden_parts, num_start_columns
from lipzoo.datasets import GraphTask
from lipzoo.encoding import add_start, as_start, encode_for, encode_to_train
from lipzoo.errors import ConfigError, DataError, UnknownNameError
from lipzoo.hub.model_card import model_card
from lipzoo.settings import FitSettings, Start
from lipzoo.training import evaluate, export_run, fit, loop, predict, train
from lipzoo.training.metrics import model_feat
from lipzoo.training.recipe import make_recipe
from lipzoo.training.tasks import load_task
from lipzoo.training.together import fit_together
from lipzoo.weights import read_checkpoint

STACK = Start()


def several(n=120):
    """Three labels a node, of which neighbours say something."""
    task = blocks(n=n, classes=4)
    held = torch.stack([task.labels == c for c in range(3)], 1).float()
    held[:, 2] = ((task.labels == 2) | (task.labels == 1)).float()
    rng = np.random.default_rng(0)
    return with_masks(task.graph, task.feat, held, rng)


def stack_proba(task, **options):
    return ClosedFormStack(**options).fit(task).predict_proba()


@pytest.mark.parametrize(
    "task", [blocks(), blocks(same=0.05), several()], ids=["like", "un", "many"]
)
def test_a_model_begins_as_the_stack(task):
    started = add_start(task, STACK)
    assert started.in_feats == task.in_feats + num_start_columns(task.num_classes)
    model = lipzoo.create_model(
        "gat_lip_2",
        in_feats=started.in_feats,
        num_classes=task.num_classes,
        start_logits=True,
    )
    torch.testing.assert_close(predict(model, started), stack_proba(task))


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """The name of weights in context, and where they are."""
    monkeypatch.setenv("LIPZOO_PRETRAINED_PATH", str(tmp_path / "mine"))
    context_weights(tmp_path / "mine/gat_lip_context_6.tiny", name="gat_lip_context_6")
    return "gat_lip_context_6.tiny"


@pytest.mark.parametrize("task", [blocks(), several()], ids=["one", "many"])
def test_a_network_in_context_is_what_it_says(task, weights):
    start = as_start(Start(of=weights, width=16, num_random=32))
    assert len(start.sha256) == 64
    network = lipzoo.load_pretrained(weights)
    started = add_start(task, start)
    logits = started.feat[:, -task.num_classes :]
    found = logits.sigmoid() if task.multilabel else logits.softmax(1)
    torch.testing.assert_close(found, predict(network, task))
    assert not torch.allclose(found, stack_proba(task, width=16, num_random=32), atol=1e-3)
    result = lipzoo.finetune("gat_lip_2.cora", task, start=weights, epochs=2, verbose=False)
    assert result.model.card.start == as_start(weights)


def test_no_part_reads_its_own_labels():
    task = blocks()
    parts = add_start(task, STACK).parts
    assert torch.equal(sum(part.train_mask.long() for part in parts), task.train_mask.long())
    changed = task.labels.clone()
    hidden = parts[0].train_mask
    changed[hidden] = (changed[hidden] + 1) % 3
    seen = hidden_parts(task)[0][0]
    other = seen.with_ndata(label=changed)
    for graph in (seen, other):
        assert not (graph.train_mask & hidden).any()
    assert torch.equal(stack_proba(seen), stack_proba(other))
    columns = add_start(seen, STACK).feat
    torch.testing.assert_close(parts[0].feat, columns)


def test_labels_without_meaning_are_not_learnt():
    rng = np.random.default_rng(1)
    plain = blocks(n=600)
    task = with_masks(plain.graph, rng.standard_normal((600, 4)), rng.integers(0, 3, 600), rng)
    torch.manual_seed(0)
    started = add_start(task, STACK)
    model = lipzoo.create_model(
        "gat_lip_2", input_drop=0.0, in_feats=started.in_feats, num_classes=3, start_logits=True
    )
    settings = FitSettings(epochs=100, optimizer={"lr": 0.01})
    metrics = fit(model, started, settings, verbose=False).metrics
    assert 0.2 < metrics["test_accuracy"] < 0.48
    assert metrics["train_accuracy"] < 0.55


def test_the_start_is_kept_where_no_epoch_is_better():
    task = blocks()
    result = lipzoo.finetune(
        "gat_lip_2.cora", task, start="stack", epochs=2, lr=1e-12, verbose=False
    )
    assert result.best_epoch == 0
    torch.testing.assert_close(predict(result.model, task), stack_proba(task))


def test_sparse_features_give_the_same():
    task = blocks(columns=900)
    feat = torch.nn.functional.dropout(task.feat, 0.97)
    started = add_start(task.with_ndata(feat=feat), STACK)
    assert started.sparse_feat is not None
    model = lipzoo.create_model(
        "gat_lip_2", in_feats=started.in_feats, num_classes=3, start_logits=True
    ).eval()
    torch.nn.init.normal_(model.head.weight)
    found = [model(started.graph, feat) for feat in (started.feat, model_feat(model, started))]
    torch.testing.assert_close(*found)


def recipe(**changes):
    content = {
        "architecture": "gat_lip_2",
        "overrides": {"hidden_feats": 16, "num_heads": 2},
        "dataset": {"name": "iris"},
        "start": {"of": "stack"},
        "epochs": 6,
        "seeds": "0..1",
        "baselines": {
            "without": {"changes": {"start": None}},
            "knn": {"estimator": "knn"},
        },
    }
    return make_recipe({**content, **changes}, "test")


def test_a_recipe_may_have_a_start(tmp_path):
    summary = train(recipe(), tmp_path / "run", baselines=True, verbose=False)
    assert set(summary["baselines"]) == {"without", "knn"}
    folder = export_run(tmp_path / "run", tmp_path / "out")
    model = lipzoo.load_pretrained(folder)
    assert model.card.start == STACK
    assert "start" not in model.card.dataset.options
    assert model.card.lipschitz.bound is None
    assert "made of labels" in model.card.lipschitz.reason
    iris = lipzoo.load_dataset("iris")
    for key, value in evaluate(model, iris).items():
        assert value == pytest.approx(model.card.weights.metrics[key], abs=1e-5)
    again = train(recipe(), tmp_path / "again", verbose=False)
    assert again["metrics"] == summary["metrics"]
    with pytest.raises(ConfigError, match="start: cannot be trained together"):
        train(recipe(), tmp_path / "gpu", device="cpu", verbose=False)


def test_started_weights_go_on_from_there(tmp_path):
    task = blocks()
    lipzoo.finetune(
        "gat_lip_2.cora", task, start="stack", epochs=3, verbose=False, out=tmp_path / "a"
    )
    result = lipzoo.finetune(tmp_path / "a", task, epochs=2, verbose=False)
    assert result.kept == ["input", "layer_1", "layer_2", "head"]
    assert result.model.card.start == STACK
    probe = lipzoo.finetune(tmp_path / "a", task, epochs=2, freeze="all-but-head", verbose=False)
    before = evaluate(lipzoo.load_pretrained(tmp_path / "a"), task)
    assert probe.metrics["val_accuracy"] >= before["val_accuracy"]
    # Other classes on another graph.
    other = lipzoo.finetune(tmp_path / "a", blocks(classes=5, columns=9), epochs=2, verbose=False)
    assert {"input", "head"} <= set(other.replaced)


@pytest.mark.parametrize("task", [blocks(), several()], ids=["one", "many"])
def test_weights_in_context_go_on_learning(task, tmp_path):
    folder = context_weights(tmp_path / "w")
    before = evaluate(lipzoo.load_pretrained(folder), task)
    result = lipzoo.finetune(folder, task, epochs=5, verbose=False, out=tmp_path / "out")
    assert result.replaced == []
    key = f"val_{task.metric}"
    assert result.metrics[key] >= before[key]
    loaded = lipzoo.load_pretrained(tmp_path / "out")
    torch.testing.assert_close(predict(loaded, task), predict(result.model, task))
    assert result.history[0]["train_loss"] != result.history[-1]["train_loss"]


def test_resumed_is_undisturbed(tmp_path, monkeypatch):
    folder = context_weights(tmp_path / "w")
    options = {"epochs": 4, "verbose": False, "save_every": 1}
    whole = lipzoo.finetune(folder, blocks(), **options, out=tmp_path / "whole")

    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    epoch = loop.train_epoch
    calls = iter([epoch, epoch, stop])
    monkeypatch.setattr(loop, "train_epoch", lambda *args: next(calls)(*args))
    with pytest.raises(KeyboardInterrupt):
        lipzoo.finetune(folder, blocks(), **options, out=tmp_path / "cut")
    monkeypatch.undo()
    again = lipzoo.finetune(folder, blocks(), **options, out=tmp_path / "cut", resume=True)
    tensors = [read_checkpoint(result.folder).tensors for result in (whole, again)]
    assert all(torch.equal(tensors[0][key], tensors[1][key]) for key in tensors[0])


def test_what_cannot_be(tmp_path, weights):
    folder, task = tmp_path / "mine" / weights, blocks()
    with pytest.raises(ConfigError, match="begin from the closed-form stack already"):
        lipzoo.finetune(folder, task, start="stack", verbose=False)
    with pytest.raises(ConfigError, match="choose one"):
        lipzoo.finetune("gat_lip_2.cora", task, start="stack", warm_start=True, verbose=False)
    with pytest.raises(ConfigError, match="no network in context"):
        as_start("gat_lip_2.cora")
    with pytest.raises(ConfigError, match="start_logits come from the task and start"):
        lipzoo.finetune("gat_lip_2.cora", task, start="stack", start_logits=True, verbose=False)
    for name in ("gat_lip_contxt_8", "auto"):
        with pytest.raises(
            UnknownNameError, match=f"no weights in context '{name}'; choose 'stack'"
        ):
            as_start(name)
    for place in (str(folder), "https://somewhere/weights", "hf-hub:some/body", "", 3, True):
        with pytest.raises(ConfigError, match=r"start: expected 'stack', .* no path, got"):
            as_start(place)
    with pytest.raises(ConfigError, match="other weights than those"):
        as_start(Start(of=weights, sha256="0" * 64))
    with pytest.raises(ConfigError, match="start_logits"):
        lipzoo.create_model("gat_lip_2", in_feats=2, num_classes=3, start_logits=True)
    unlabelled = blocks().with_ndata(train_mask=torch.zeros(300, dtype=torch.bool))
    with pytest.raises(DataError, match="no training node"):
        predict(lipzoo.load_pretrained(folder), unlabelled)


def test_a_task_is_made_once_and_for_those_weights(tmp_path, weights):
    network, plain = lipzoo.load_pretrained(weights), lipzoo.load_pretrained("gat_lip_2.cora")
    task = blocks()
    encoded = encode_for(network, task)
    assert encode_for(network, encoded) is encoded
    started = encode_to_train(plain, task, STACK)
    assert encode_to_train(plain, started, STACK) is started
    for start in (None, as_start(weights)):
        with pytest.raises(ConfigError, match="starts from"):
            encode_to_train(plain, started, start)
    with pytest.raises(ConfigError, match="starts from"):
        evaluate(plain, started)
    with pytest.raises(ConfigError, match="leave the encoding out"):
        add_start(lipzoo.load_dataset("iris", encoding={"width": 8}), STACK)


def test_whoever_learns_needs_parts(weights):
    """Else a network reads labels off what was made of them."""
    rng = np.random.default_rng(1)
    plain = blocks(n=300)
    task = with_masks(plain.graph, rng.standard_normal((300, 4)), rng.integers(0, 3, 300), rng)
    network = lipzoo.load_pretrained(weights)
    settings = FitSettings(epochs=40, optimizer={"lr": 0.02})
    metrics = fit(network, task, settings, verbose=False).metrics
    assert metrics["test_accuracy"] < 0.5
    assert fit(network, task, settings, verbose=False).history[-1]["train_loss"] > 0.5
    whole = encode_for(network, task)
    with pytest.raises(ConfigError, match="reads those off"):
        fit(network, whole, settings, verbose=False)
    with pytest.raises(ConfigError, match="change train_mask of the raw task"):
        whole.with_ndata(train_mask=task.val_mask)
    with pytest.raises(ConfigError, match="cannot be trained together"):
        fit_together([network], [task], [settings])


def test_other_weights_of_the_same_graph_begin_anew(tmp_path):
    task = blocks()
    options = {"verbose": False, "epochs": 1, "lr": 1e-12}
    lipzoo.finetune("gat_lip_2.cora", task, out=tmp_path / "plain", **options)
    for source, start in ((tmp_path / "plain", STACK), (tmp_path / "a", Start(seed=1))):
        result = lipzoo.finetune(
            source, task, start=start, out=tmp_path / "a", overwrite=True, **options
        )
        assert result.replaced == ["input", "head"]
        torch.testing.assert_close(predict(result.model, task), stack_proba(task, seed=start.seed))
    with pytest.raises(ConfigError, match="choose one"):
        lipzoo.finetune(tmp_path / "a", task, warm_start=True, **options)
    with pytest.raises(ConfigError, match="other settings"):
        lipzoo.finetune(
            "gat_lip_2.cora", task, start=STACK, out=tmp_path / "a", resume=True, **options
        )


@pytest.mark.parametrize(
    ("name", "options"),
    [("gat_lip_universal_16", {}), ("gat_lip_2.cora", {"scaling": "standard"})],
)
def test_evidence_is_of_the_same_features_in_training_and_after(name, options, tmp_path):
    iris = lipzoo.load_dataset("iris", **options)
    result = lipzoo.finetune(name, iris, start="stack", epochs=2, verbose=False, out=tmp_path / "a")
    loaded = lipzoo.load_pretrained(tmp_path / "a")
    assert "encoding" not in loaded.card.dataset.options
    for task in (iris, lipzoo.load_dataset("iris")):
        assert evaluate(loaded, task)["val_loss"] == pytest.approx(
            result.metrics["val_loss"], abs=1e-5
        )


def test_fewer_classes_than_the_weights_tell_apart(tmp_path):
    lipzoo.finetune(
        "gat_lip_2.cora", blocks(), start="stack", epochs=2, verbose=False, out=tmp_path / "a"
    )
    model = lipzoo.load_pretrained(tmp_path / "a")
    few = blocks(classes=2)
    assert predict(model, few).shape == (300, 3)
    with pytest.raises(ConfigError, match="has 5 classes, and the weights tell 3 apart"):
        predict(model, blocks(classes=5))


def test_weights_in_context_take_any_kind_of_labels(tmp_path):
    folder = context_weights(tmp_path / "w")
    tuned = lipzoo.finetune(folder, blocks(), epochs=1, verbose=False).model
    assert predict(tuned, several()).sum(1).max() > 1.01  # a sigmoid each
    tuned = lipzoo.finetune(folder, several(), epochs=1, verbose=False).model
    torch.testing.assert_close(predict(tuned, blocks()).sum(1), torch.ones(300))
    one = blocks().with_ndata(label=torch.zeros(300, dtype=torch.int64))
    one.num_classes = 1
    assert torch.equal(predict(tuned, one), torch.ones(300, 1))


def test_exports_know_the_weights_that_were_started_from(tmp_path, weights, monkeypatch):
    train(recipe(start={"of": weights}, baselines={}), tmp_path / "run", verbose=False)
    folder = export_run(tmp_path / "run", tmp_path / "out")
    assert read_checkpoint(folder).card.start == as_start(weights)
    place = tmp_path / "mine" / weights
    shutil.rmtree(place)
    context_weights(place, name="gat_lip_context_6", seed=1)
    with pytest.raises(ConfigError, match="other weights than those"):
        export_run(tmp_path / "run", tmp_path / "other")
    with pytest.raises(ConfigError, match="other weights than those"):
        evaluate(lipzoo.load_pretrained(folder), lipzoo.load_dataset("iris"))


@pytest.mark.parametrize("of", ["stack", "weights"])
def test_each_seed_may_have_a_draw_of_its_own(tmp_path, weights, of):
    name = weights if of == "weights" else of
    asked = recipe(start={"of": name, "seed": "seed"}, baselines={}, seeds=[1, 4])
    summary = train(asked, tmp_path / "run", verbose=False)
    columns = [load_task(asked, seed=seed).feat for seed in (1, 4)]
    assert not torch.equal(*columns)
    assert torch.equal(columns[0], load_task(recipe(start={"of": name, "seed": 1})).feat)
    folder = export_run(tmp_path / "run", tmp_path / "out")
    card = read_checkpoint(folder).card
    assert (card.start.of, card.start.seed) == (name, card.weights.seed)
    assert ", each with its own start.seed" in card.words_per_seed
    assert card.recipe["start"]["seed"] == "seed"
    found = evaluate(lipzoo.load_pretrained(folder), lipzoo.load_dataset("iris"))
    values = summary["metrics"]["test_accuracy"]["values"]
    assert found["test_accuracy"] == pytest.approx(values[[1, 4].index(card.weights.seed)])
    with pytest.raises(ConfigError, match="start: is another for each seed; say a number"):
        load_task(asked)


def test_weights_in_context_say_how_their_evidence_is_made(weights):
    assert as_start({"of": weights, "seed": 3}).seed == 3
    with pytest.raises(ConfigError, match=r"reads evidence of width \d+, not 7"):
        as_start({"of": weights, "width": 7})


def test_a_baseline_with_unknown_weights_is_refused_before_anything(tmp_path):
    wrong = {"bad": {"changes": {"start": {"of": "gat_lip_contxt_9"}}}}
    with pytest.raises(UnknownNameError):
        train(recipe(baselines=wrong), tmp_path / "run", baselines=True, verbose=False)
    assert not (tmp_path / "run").exists()


def test_certificates_know_the_start(tmp_path):
    task = blocks()
    result = lipzoo.finetune(
        "gat_lip_2.cora", task, start="stack", epochs=1, lr=1e-12, verbose=False
    )
    model, started = result.model, encode_for(result.model, task)
    assert not lipzoo.lipschitz.bound(model, task.graph).is_finite
    with pytest.raises(ConfigError, match="made of labels"):
        lipzoo.lipschitz.robustness(model, started.graph, started.feat)
    # The head is 0: what is left picks columns.
    estimate = lipzoo.lipschitz.estimate(model.double(), started.graph, started.feat.double())
    assert float(estimate) == pytest.approx(1.0, abs=1e-6)
    flow = lipzoo.lipschitz.gradient_flow(
        model.float(), started.graph, started.feat, task.labels, task.train_mask
    )
    logits = model(started.graph, started.feat)[task.train_mask]
    loss = torch.nn.functional.cross_entropy(logits, task.labels[task.train_mask])
    assert flow.loss == pytest.approx(loss.item(), rel=1e-5)


def test_one_training_node_is_said_in_words(tmp_path):
    mask = torch.zeros(300, dtype=torch.bool)
    mask[0] = True
    task = blocks().with_ndata(train_mask=mask, val_mask=~mask, test_mask=mask & False)
    network = lipzoo.load_pretrained(context_weights(tmp_path / "w"))
    assert torch.isfinite(predict(network, task)).all()
    with pytest.raises(DataError, match="one training node"):
        encode_to_train(network, task)


def test_heads_of_other_sizes():
    model = lipzoo.create_model("gat_lip_2", in_feats=6, num_classes=3, start_logits=True)
    graph, feat = blocks().graph, torch.ones(300, 6)
    model.reset_classifier(0)
    assert model(graph, feat).shape == (300, 64)
    with pytest.raises(ConfigError, match="the last 100 columns"):
        model.reset_classifier(100)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        sparse = torch.eye(300, 6).to_sparse_csr()
        model.reset_classifier(3)
        assert torch.equal(model(graph, sparse).float(), torch.eye(300, 6)[:, 3:])


@pytest.mark.parametrize(
    "changes",
    [
        {"encoding": {"foo": 3}},
        {"encoding": {"kind": "context", "foo": 3}},
        {"encoding": {"width": "x"}},
        {"encoding": {"kind": "other"}},
        {"start": {"of": "stack", "num_random": 2**31 - 1}},
        {"start": {"of": "../secret"}},
        {"start": {"of": "stack"}},
    ],
)
def test_cards_that_are_refused(changes, tmp_path):
    card = read_checkpoint(context_weights(tmp_path / "w")).card
    content = card.model_dump(mode="json", exclude_none=True)
    assert Card.from_dict(content, "card") == card
    with pytest.raises(ConfigError):
        Card.from_dict({**content, **changes}, "card")


@pytest.fixture
def npz(tmp_path):
    task = blocks(n=90, same=0.1)
    src, dst = task.graph.edges()
    masks = {
        f"{name}_mask": getattr(task, f"{name}_mask").numpy() for name in ("train", "val", "test")
    }
    path = tmp_path / "mine.npz"
    np.savez(
        path,
        src=src.numpy(),
        dst=dst.numpy(),
        feat=task.feat.numpy(),
        label=task.labels.numpy(),
        **masks,
    )
    return path


def test_the_command_line_needs_no_training(tmp_path, npz, capsys):
    folder = str(context_weights(tmp_path / "w"))
    assert main(["evaluate", folder, "--data", str(npz), "--json"]) == 0
    metrics = json.loads(capsys.readouterr().out)["metrics"]
    task = lipzoo.load_dataset(str(npz))
    assert metrics == pytest.approx(evaluate(lipzoo.load_pretrained(folder), task))
    out = tmp_path / "p.csv"
    assert main(["predict", folder, "--data", str(npz), "--out", str(out)]) == 0
    words = capsys.readouterr().out
    assert "90 nodes" in words
    assert "evidence that counted:" in words
    with out.open() as file:
        rows = list(csv.DictReader(file))
    proba = predict(lipzoo.load_pretrained(folder), task)
    assert [float(row["p_1"]) for row in rows] == pytest.approx(proba[:, 1].tolist(), abs=1e-5)
    assert (
        main(["predict", folder, "--data", str(npz), "--out", str(out), "--overwrite", "--json"])
        == 0
    )
    facts = json.loads(capsys.readouterr().out)
    assert facts["nodes"] == 90
    assert sum(facts["evidence"].values()) > 0
    assert main(["evaluate", folder]) == 2
    assert "have no data of their own" in capsys.readouterr().err


def test_the_command_line_starts_from_the_stack(tmp_path, npz, capsys):
    out = str(tmp_path / "out")
    argv = ["finetune", "gat_lip_2.cora", "--data", str(npz), "--out", out, "--epochs", "2"]
    assert main([*argv, "--start", "stack", "--quiet"]) == 0
    assert read_checkpoint(out).card.start == STACK
    assert main(["evaluate", out, "--data", str(npz)]) == 0
    assert main([*argv, "--start", "stck", "--quiet", "--overwrite"]) == 2
    assert "stck" in capsys.readouterr().err


def test_tiny_graphs(tmp_path):
    network = lipzoo.load_pretrained(context_weights(tmp_path / "w"))
    for n, columns in ((10, 2), (6, 1)):
        task = blocks(n=n, classes=2, columns=columns)
        assert torch.isfinite(predict(network, task)).all()
        result = lipzoo.finetune("gat_lip_2.cora", task, start="stack", epochs=2, verbose=False)
        assert torch.isfinite(predict(result.model, task)).all()
    assert isinstance(task, GraphTask)


def test_people_are_told(tmp_path, capsys):
    context = context_weights(tmp_path / "w")
    lipzoo.finetune(
        "gat_lip_2.cora", blocks(), start="stack", epochs=1, verbose=False, out=tmp_path / "a"
    )
    said = {"w": "any graph, without training", "a": "need those labels"}
    for name, words in said.items():
        assert words in model_card(read_checkpoint(tmp_path / name).card, "jane/mine")
    assert main(["info", str(tmp_path / "a")]) == 0
    assert "start: stack, from the training labels" in capsys.readouterr().out
    assert main(["certify", str(context), "--data", "iris", "--out", str(tmp_path / "c")]) == 2
    assert "read what was made of labels" in capsys.readouterr().err


def test_patience_begins_with_an_evaluation(tmp_path):
    """What the network starts from is judged, too, and is no epoch to wait from."""
    rest = {"eval_every": 30, "early_stopping": {"patience": 5}, "seeds": [0]}
    rest["start"] = {"of": "stack"}
    content = {"architecture": "test_tiny", "dataset": {"name": "iris"}, "epochs": 30, **rest}
    train(make_recipe(content, "test"), tmp_path / "run", verbose=False)
    with open(tmp_path / "run/seed_0/metrics.csv") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["30"]
