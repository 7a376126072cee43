import csv

import dgl
import numpy as np
import pytest
import torch
from context_zoo import context_weights

import lipzoo
from lab.pretraining import pretrain
from lab.pretraining.recipe import make_pretraining
from lab.transfer import load_study, run_study, write_report
from lab.transfer.command import main
from lab.transfer.methods import linear_gnns, propagations
from lab.transfer.points import TRANSFER
from lab.transfer.report import collect, headline
from lab.transfer.study import make_study
from lipzoo.datasets import GraphTask, random_split
from lipzoo.errors import ConfigError, OutputError, UnknownNameError
from lipzoo.training import evaluate

FIT = {"epochs": 3, "early_stopping": {"patience": 2}}
METHODS = {
    "fine-tuned": {"kind": "finetune", "overrides": {"input_drop": 0.1}},
    "linear probe": {"kind": "probe"},
    "from scratch": {"kind": "scratch", "overrides": {"num_layers": 2, "hidden_feats": 16}},
    "2-layer GAT": {"kind": "scratch", "architecture": "gat_2", "encoded": False},
    "logistic regression": {"kind": "logistic_regression", "encoded": False},
    "label propagation": {"kind": "label_propagation"},
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Two layers that have learnt from wine."""
    recipe = make_pretraining(
        {
            "architecture": "gat_lip_universal_16",
            "overrides": {"num_layers": 2, "hidden_feats": 16},
            "tag": "tiny",
            "encoding": {"width": 8},
            "graphs": [{"name": "wine"}],
            "epochs": 20,
        },
        "test",
    )
    folder = tmp_path_factory.mktemp("weights")
    return str(pretrain(recipe, folder / "run", say=lambda line: None))


def study(weights, **changes):
    return {
        "weights": [weights],
        "targets": ["iris"],
        "labels": [2, 5],
        "seeds": [0, 1],
        "num_val": 30,
        "fit": FIT,
        "methods": METHODS,
        **changes,
    }


def run(content, out, **parts):
    return run_study(content, out, say=lambda line: None, **parts)


def test_a_study_from_end_to_end(weights, tmp_path):
    table = run(study(weights), tmp_path / "out")
    assert len(table.rows) == 2 * 2 * len(METHODS)
    text = write_report(study(weights), tmp_path / "out")
    assert (tmp_path / "out/table.md").read_text() == text
    assert "| fine-tuned |" in text
    assert "has learnt from wine" in text
    for row in table.rows:
        assert 0 <= float(row["test"]) <= 1
        is_trained = row["method"] in ("fine-tuned", "from scratch", "2-layer GAT")
        assert bool(row["epochs_to_95"]) == is_trained
    plots = {path.suffix for path in (tmp_path / "out").glob("accuracy_by_labels.*")}
    assert plots in (set(), {".svg", ".png"})


def test_a_study_goes_on_where_it_stopped_with_the_same_figures(weights, tmp_path):
    whole = run(study(weights), tmp_path / "whole").rows

    def stop(line):
        if line.startswith("[5/"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(study(weights), tmp_path / "cut", say=stop)
    with (tmp_path / "cut/runs.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 5
    rows = run(study(weights), tmp_path / "cut").rows
    without_time = [{k: v for k, v in row.items() if k != "seconds"} for row in whole]
    assert [{k: v for k, v in row.items() if k != "seconds"} for row in rows] == without_time


def test_several_processes_give_the_same_rows(weights, tmp_path):
    content = study(weights, labels=[5])
    one, two = (run(content, tmp_path / str(jobs), jobs=jobs).rows for jobs in (1, 2))
    for rows in (one, two):
        for row in rows:
            del row["seconds"]
        rows.sort(key=lambda row: (row["method"], row["seed"]))
    assert one == two


def test_changed_settings_are_measured_anew_and_old_rows_stay(weights, tmp_path):
    only = {"methods": ["fine-tuned", "linear probe"], "labels": [5]}
    run(study(weights), tmp_path / "out", **only)
    changed = study(weights, fit={**FIT, "epochs": 2})
    rows = run(changed, tmp_path / "out", **only).rows
    assert len(rows) == 6  # the probe has no epochs
    found = collect(make_study(changed, "test"), rows)
    assert len(found["iris", "fine-tuned", 5]) == 2


def test_a_graph_that_was_learnt_from_is_no_target(weights, tmp_path):
    content = study(weights, targets=["wine"])
    with pytest.raises(ConfigError, match="has learnt from wine, which is the target wine"):
        run(content, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_refusals(weights, tmp_path):
    with pytest.raises(ConfigError, match=r"no method 'finetuned' .*mean 'fine-tuned'"):
        run(study(weights), tmp_path / "out", methods=["finetuned"])
    with pytest.raises(ConfigError, match=r"no target 'irish' .*mean 'iris'"):
        run(study(weights), tmp_path / "out", targets=["irish"])
    with pytest.raises(ConfigError, match="reads the features of its own graph only"):
        run(study("gat_lip_16.digits"), tmp_path / "out")
    with pytest.raises(ConfigError, match="one stands there twice"):
        run(study(weights, targets=["iris", "iris"]), tmp_path / "out")
    with pytest.raises(ConfigError, match="jobs must be at least 1, got 0"):
        run(study(weights), tmp_path / "out", jobs=0)
    with pytest.raises(UnknownNameError, match="no transfer study"):
        load_study("few_label")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("keep")
    with pytest.raises(OutputError, match="holds files, but no study"):
        run(study(weights), tmp_path / "mine")


def test_a_mistake_on_the_command_line_is_one_line(tmp_path, capsys):
    assert main(["--study", "nothing", "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["--report", "--out", str(tmp_path / "out")]) == 2
    assert "holds no study" in capsys.readouterr().err


def rings():
    """Two rings of ten: a ring is a class, and one label each is enough."""
    ring = torch.arange(10)
    src = torch.cat([ring, ring + 10])
    dst = torch.cat([(ring + 1) % 10, (ring + 1) % 10 + 10])
    graph = dgl.graph((src, dst), num_nodes=20)
    graph.ndata["feat"] = torch.zeros(20, 1)
    graph.ndata["label"] = (torch.arange(20) >= 10).long()
    masks = random_split(graph.ndata["label"], train_per_class=1, num_val=4)
    graph.ndata.update(masks)
    return GraphTask.from_graph(graph)


def test_labels_spread_along_edges_only():
    for found in propagations(rings()):
        assert (found.argmax(1) == np.arange(20) // 10).all()


def test_linear_gnns_are_least_squares_on_filtered_features():
    task = rings()
    torch.manual_seed(0)
    feat = torch.randn(20, 3)
    train = task.train_mask.numpy()
    dense = np.zeros((20, 20))
    src, dst = (end.numpy() for end in task.graph.edges())
    dense[src, dst] = dense[dst, src] = 1
    step = dense / 2  # both neighbours have degree 2
    eye = np.eye(20)
    known = np.eye(2)[task.labels.numpy()]
    filters = (eye, step, eye - step, step @ step, (eye - step) @ (eye - step))
    found = list(linear_gnns(task.with_ndata(feat=feat)))
    assert len(found) == 5
    for filtered, prediction in zip(filters, found):
        read = filtered @ feat.double().numpy()
        weight = np.linalg.pinv(read[train]) @ known[train]
        np.testing.assert_allclose(prediction, read @ weight, atol=1e-8)


def test_the_headline_compares_the_seeds_that_both_have(weights):
    content = make_study(study(weights), "test")
    hashes = {p.method: p.settings_hash for p in content.points(seeds=[0])}

    def row(method, seed, test):
        key = ("iris", method, "5", str(seed), hashes[method])
        return {**dict(zip(TRANSFER.key, key)), "val": "0", "test": str(test)}

    rows = [row("fine-tuned", 0, 0.8), row("fine-tuned", 1, 0.1), row("linear probe", 0, 0.7)]
    lines = headline(content, collect(content, rows), "fine-tuned", ["iris"])
    assert np.count_nonzero(["+10.0 (1)" in line for line in lines]) == 1


CONTEXT = {
    "stack": {"kind": "closed_form_stack"},
    "network": {"kind": "in_context"},
    "trained on": {"kind": "finetune"},
    "from the stack": {"kind": "scratch", "architecture": "gat_lip_2", "encoded": False},
    "regression": {"kind": "logistic_regression", "encoded": False},
    "better": {"kind": "best_of", "of": ["network", "regression"]},
    "five": {"kind": "graphany", "not_on": ["iris"]},
}
CONTEXT["from the stack"] |= {"start": "stack", "overrides": {"hidden_feats": 8, "num_heads": 1}}


def test_weights_in_context_on_published_splits(tmp_path):
    folder = str(context_weights(tmp_path / "w"))
    content = study(
        folder,
        targets=["wine", "iris"],
        development=["iris"],
        labels=["published", 3],
        seeds="0..5",
        methods=CONTEXT,
        ours=["network", "trained on"],
    )
    small = {"labels": ["published"], "seeds": [0, 1, 5]}
    rows = run(content, tmp_path / "out", **small).rows
    # Five splits: what draws nothing is not run a sixth time; evidence is drawn.
    seeds = {name: {row["seed"] for row in rows if row["method"] == name} for name in CONTEXT}
    assert seeds["regression"] == {"0", "1"}
    assert seeds["stack"] == seeds["network"] == {"0", "1", "5"}
    assert seeds["trained on"] == seeds["from the stack"] == {"0", "1", "5"}
    assert not seeds["better"]
    assert {row["target"] for row in rows if row["method"] == "five"} == {"wine"}
    one = next(r for r in rows if (r["target"], r["method"], r["seed"]) == ("wine", "network", "1"))
    network, wine = lipzoo.load_pretrained(folder), lipzoo.load_dataset("wine", split_seed=1)
    encoding = {**network.card.encoding, "seed": 1}  # of the run
    network.card = network.card.model_copy(update={"encoding": encoding})
    found = evaluate(network, wine)
    assert float(one["test"]) == pytest.approx(found["test_accuracy"], abs=1e-4)
    one = next(r for r in rows if (r["target"], r["method"], r["seed"]) == ("wine", "stack", "1"))
    said = lipzoo.ClosedFormStack(seed=1).fit(wine).predict() == wine.labels
    assert float(one["test"]) == pytest.approx(said[wine.test_mask].float().mean().item(), abs=1e-4)
    collected = collect(make_study(content, "test"), rows)
    for row in collected["wine", "better", "published"]:
        both = [
            other
            for name in ("network", "regression")
            for other in collected["wine", name, "published"]
            if other["seed"] == row["seed"]
        ]
        assert float(row["val"]) == max(float(other["val"]) for other in both)
    text = write_report(content, tmp_path / "out")
    assert "## iris *" in text
    assert "network − stack" in text
    assert "trained on − network" in text


def test_a_method_with_settings_of_each_target(tmp_path):
    small = {"hidden_feats": 8, "num_heads": 1}
    method = {
        "kind": "scratch",
        "encoded": False,
        "fit": {"epochs": 2},
        "on": {
            "wine": {"architecture": "gat_2", "overrides": small, "fit": {"epochs": 1}},
            "iris": {"architecture": "gat_lip_2", "overrides": {**small, "num_layers": 3}},
        },
    }
    content = study("", targets=["wine", "iris", "digits"], methods={"tuned": method})
    content["weights"] = []
    made = make_study(content, "test")
    assert [p.target for p in made.points(seeds=[0], labels=[5])] == ["wine", "iris"]
    assert made.method_on("tuned", "wine").architecture == "gat_2"
    epochs = [made.settings("tuned", target).epochs for target in ("wine", "iris")]
    assert epochs == [1, 2]
    # A target's hash is that of the same settings without the others'.
    alone = {**method, **method["on"]["wine"]}
    del alone["on"]
    other = make_study({**content, "methods": {"tuned": alone}}, "test")
    one, same = (each.points(["wine"], labels=[5], seeds=[0])[0] for each in (made, other))
    assert one.settings_hash == same.settings_hash
    rows = run(content, tmp_path / "out", labels=[5], seeds=[0]).rows
    assert {row["target"]: row["best_epoch"] for row in rows}["wine"] == "1"


def test_studies_in_context_that_are_refused(tmp_path):
    folder = str(context_weights(tmp_path / "w"))

    def refused(match, **changes):
        methods = {**CONTEXT, "stack": {**CONTEXT["stack"], **changes}}
        with pytest.raises(ConfigError, match=match):
            make_study(study(folder, methods=methods, targets=["wine", "iris"]), "test")

    refused("says which methods it is of", of=["network"])
    refused("no method 'netwrk'.*mean 'network'", kind="best_of", of=["netwrk"])
    refused("no target 'irs'.*mean 'iris'", not_on=["irs"])
    refused("no target 'irs'.*mean 'iris'", on={"irs": {}})
    refused("stack: on wine: .*archtecture", on={"wine": {"archtecture": "gat_2"}})
    refused("stack: fit: unknown key 'epoch'", on={"wine": {"fit": {"epoch": 3}}})
    refused("of its own graph only", kind="finetune", weights=["gat_lip_16.digits"])
    content = {**study(folder, methods={"stack": {"kind": "probe"}}), "weights": []}
    with pytest.raises(ConfigError, match="stack: say which weights"):
        make_study(content, "test")
