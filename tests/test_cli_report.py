"""``lipzoo report``: every part of it, what it says where there is nothing to draw, its files."""

import html.parser
import json
import math

import numpy as np
import pytest
import torch
from other_writer import writing_elsewhere
from sklearn.metrics import confusion_matrix

import lipzoo
from lipzoo import GraphTask
from lipzoo.cli import main
from lipzoo.errors import ConfigError, DataError
from lipzoo.report import SECTIONS, layers, make_report, predictions
from lipzoo.report.subject import Absent, Subject
from lipzoo.training import evaluate, predict

pytest.importorskip("matplotlib")
RECIPE = """
architecture: test_tiny
dataset: {name: iris}
epochs: 8
seeds: 0..1
"""


def random_task(n=30, edges=90, classes=3, multilabel=False, labels=True, masks=True):
    rng = np.random.default_rng(0)
    held = {"feat": rng.normal(size=(n, 5)).astype(np.float32)}
    if labels:
        several = (rng.random((n, classes)) > 0.5).astype(np.float32)
        held["label"] = several if multilabel else np.arange(n) % classes
    if masks:
        part = np.arange(n) // classes % 3
        held |= {f"{name}_mask": part == i for i, name in enumerate(("train", "val", "test"))}
    return GraphTask.from_edges(rng.integers(0, n, (2, edges)), held, "random")


def model_for(task, name="gat_lip_2", **options):
    torch.manual_seed(0)
    sizes = {"in_feats": task.in_feats, "num_classes": task.num_classes or 3}
    return lipzoo.create_model(name, **{**sizes, **options}).eval()


def subject_of(task, **options):
    return Subject(options.pop("model", None) or model_for(task), task, "mine", **options)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    (folder / "recipe.yaml").write_text(RECIPE)
    command = ["train", str(folder / "recipe.yaml"), "--out", str(folder / "run"), "--quiet"]
    assert main(command) == 0
    assert main(["export", str(folder / "run"), "--out", str(folder / "weights")]) == 0
    return folder


@pytest.fixture(scope="module")
def written(run):
    """A report on the run, and what it printed."""
    import contextlib
    import io

    out, printed = run / "out", io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert main(["report", str(run / "run"), "--out", str(out), "--json"]) == 0
    return out, json.loads(printed.getvalue())


# ------------------------------------------------------------------- what is written


class Page(html.parser.HTMLParser):
    """Tags with their attributes; it fails where a tag is not closed."""

    VOID = ("meta", "link", "br")

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.ids = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.tags.append((tag, found))
        self.ids += [found["id"]] if "id" in found else []
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def all(self, tag):
        return [found for name, found in self.tags if name == tag]


def test_a_run_has_every_part(written):
    out, facts = written
    assert set(facts["sections"]) == set(SECTIONS)
    assert [name for name, part in facts["sections"].items() if "not_drawn" in part] == []
    assert facts["name"] == "test_tiny.iris"
    assert (facts["split"], facts["split_nodes"], facts["seed"]) == ("test", 45, 0)
    kept = json.loads((out / "report.json").read_text())
    assert kept == {key: value for key, value in facts.items() if key != "out"}
    names = {path.name for path in out.iterdir()}
    assert names == {*kept["files"], "report.json"}
    pictures = {name for name in names if name.endswith(".svg")}
    assert {name.replace(".svg", ".png") for name in pictures} < names
    assert {"confusion.svg", "curves_loss.svg", "curves_metric.svg", "radii.svg"} < pictures
    assert all((out / n).read_bytes().startswith(b"\x89PNG") for n in names if ".png" in n)


def test_the_page_needs_nothing_beside_it_and_can_be_read_aloud(written):
    text = (written[0] / "report.html").read_text()
    page = Page(text)
    addresses = [
        value
        for _, attrs in page.tags
        for name, value in attrs.items()
        if name in ("src", "href", "xlink:href", "srcset", "action")
    ]
    assert addresses
    assert all(address.startswith(("#", "data:")) for address in addresses)
    targets = {address[1:] for address in addresses if address.startswith("#")}
    assert targets <= set(page.ids)
    assert len(page.ids) == len(set(page.ids)), "an id is there twice"
    assert "@import" not in text
    assert "<script" not in text
    assert page.all("html") == [{"lang": "en"}]
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.all(
        "meta"
    )
    assert len(page.all("h1")) == 1
    assert len(page.all("h2")) == len(page.all("section")) == len(SECTIONS)
    drawings = page.all("svg")
    assert len(drawings) == len(page.all("figure")) >= 12
    assert all(each["role"] == "img" and len(each["aria-label"]) > 10 for each in drawings)
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(each["tabindex"] == "0" for each in page.all("div") if each["class"] == "table")
    assert "prefers-color-scheme: dark" in text


def test_its_figures_are_those_of_the_weights(run, written):
    facts = written[1]["sections"]
    model = lipzoo.load_pretrained(run / "weights")
    task = lipzoo.load_dataset("iris")
    wanted = evaluate(model, task)
    assert facts["figures"] == pytest.approx(wanted, abs=1e-6)
    probability = predict(model, task)[task.test_mask]
    truth, predicted = task.labels[task.test_mask], probability.argmax(1)
    assert facts["confusion"]["counts"] == confusion_matrix(truth, predicted).tolist()
    found = facts["calibration"]
    assert found["accuracy"] == pytest.approx(wanted["test_accuracy"])
    assert found["mean_confidence"] == pytest.approx(probability.amax(1).mean().item(), abs=1e-6)
    for part in ("degree", "homophily"):
        groups = facts[part]["groups"]
        right = sum(group["accuracy"] * group["count"] for group in groups)
        assert right / sum(group["count"] for group in groups) == pytest.approx(found["accuracy"])
    assert (
        sum(facts["degree"]["groups"][i]["count"] for i in range(len(facts["degree"]["groups"])))
        == 45
    )
    for seed, best in facts["curves"]["seeds"].items():
        folder = run / "run" / f"seed_{seed}"
        result = lipzoo._yaml.read_yaml(folder / "result.yaml")
        assert best["best_epoch"] == result["best_epoch"]
        assert best["val_accuracy"] == pytest.approx(result["metrics"]["val_accuracy"])
    assert set(facts["curves"]["seeds"]) == {"0", "1"}
    assert facts["bound"]["frobenius"] == pytest.approx(model.card.lipschitz.bound)
    certified = lipzoo.lipschitz.robustness(model, task.graph, task.feat)
    assert facts["radii"]["radius_median"] == certified.summary(task.test_mask)["radius_median"]
    curves = facts["radii"]["curves"]
    assert curves["certified"] == [list(point) for point in certified.curve(task.test_mask)]
    for radius, share in curves["certified and right"][::10]:
        kept = (certified.radius[task.test_mask] >= radius) & (predicted == truth)
        assert share == pytest.approx(kept.double().mean().item())


def test_attention_is_that_of_the_model(run, written):
    """Of each node: the mean over the heads, in the first and the last layer; they sum to 1."""
    model = lipzoo.load_pretrained(run / "weights")
    task = lipzoo.load_dataset("iris")
    _, attention = model(task.graph, task.feat, return_attention=True)
    structure = model.structures(task.graph, task.feat)[0]
    for node, shown in written[1]["sections"]["attention"].items():
        for layer, weights in shown.items():
            of = attention[int(layer.removeprefix("layer_")) - 1].mean(1)
            edges = (structure.dst == int(node)).nonzero().flatten().tolist()
            wanted = {str(int(structure.src[edge])): of[edge].item() for edge in edges}
            assert len(weights) == min(len(wanted), 12)
            for near, weight in weights.items():
                assert weight == pytest.approx(wanted[near], abs=1e-6)
    entropies = written[1]["sections"]["entropy"]
    weights = attention[1].double()
    each = torch.zeros(150, weights.shape[1], dtype=torch.float64)
    each.index_add_(0, structure.dst, -weights * weights.log())
    assert entropies["layers"][1]["entropy"] == pytest.approx(each.mean().item(), abs=1e-6)
    uniform = structure.in_degrees.double().log().mean().item()
    assert entropies["uniform"] == pytest.approx(uniform)


def test_gradients_are_those_of_autograd(run, written):
    model = lipzoo.load_pretrained(run / "weights")
    task = lipzoo.load_dataset("iris")
    states = model.forward_intermediates(task.graph, task.feat)
    for state in states:
        state.retain_grad()
    logits = model.head(model.residual.output(states))
    known = task.train_mask
    torch.nn.functional.cross_entropy(logits[known], task.labels[known]).backward()
    found = written[1]["sections"]["gradients"]
    assert (found["split"], found["nodes"]) == ("train", 60)
    for row, state in zip(found["layers"], states):
        assert row["gradient_norm"] == pytest.approx(state.grad.norm().item(), rel=1e-4)


# ------------------------------------------------------------------------ the folder


def test_a_folder_that_holds_something_is_refused(written, run, capsys):
    out = written[0]
    before = {path: path.read_bytes() for path in out.iterdir()}
    assert main(["report", str(run / "run"), "--out", str(out)]) == 2
    assert "already holds files" in capsys.readouterr().err
    assert main(["report", "no_such_weights", "--out", str(out), "--overwrite"]) == 2
    assert {path: path.read_bytes() for path in out.iterdir()} == before
    with writing_elsewhere(out) as process:
        assert main(["report", str(run / "run"), "--out", str(out), "--overwrite"]) == 2
        assert f"another process ({process})" in capsys.readouterr().err


def test_what_is_wrong_leaves_nothing(run, tmp_path, capsys, monkeypatch):
    weights, out = str(run / "weights"), str(tmp_path / "out")
    for words, said in (
        (["no_such_weights"], "no architecture 'no_such_weights'"),
        ([str(tmp_path / "absent")], "there is no such folder"),
        ([weights, "--nodes", "3,x"], "no node 'x'; ids are such as 0, 1"),
        ([weights, "--data", "digits"], "features are (1797, 64)"),
        ([weights, "--sample", "0"], "sample must be at least 1"),
        ([weights, "--data-option", "nothing"], "must look like key=value"),
        (["gat_lip_universal_16.cora_citeseer_digits", "--data", "iris"], "without a head"),
    ):
        assert main(["report", *words, "--out", out]) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert said in line
        assert list(tmp_path.iterdir()) == []
    monkeypatch.setitem(__import__("sys").modules, "networkx", None)
    assert main(["report", weights, "--out", out]) == 2
    assert "pip install 'lipzoo[plots]'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_new_report_replaces_the_pictures_of_the_old_one_alone(tmp_path):
    task = random_task()
    full = make_report(model_for(task), task, radii="no", embedding="pca")
    bare = make_report(model_for(task), random_task(labels=False, masks=False), radii="no")
    folder = full.write(tmp_path / "out")
    (folder / "mine.png").write_text("the user's own")
    bare.write(folder, overwrite=True)
    names = {path.name for path in folder.iterdir()}
    assert "confusion.png" not in names
    assert names == {
        *json.loads((folder / "report.json").read_text())["files"],
        "report.json",
        "mine.png",
    }


# ---------------------------------------------------------- weights, and other data


@pytest.mark.slow
def test_weights_of_a_fine_tuning_have_curves(run, tmp_path, capsys):
    tuned, out = tmp_path / "tuned", tmp_path / "out"
    options = {"epochs": 3, "out": tuned, "verbose": False, "seed": 5}
    lipzoo.finetune(run / "weights", "wine", **options)
    command = ["report", str(tuned), "--out", str(out), "--radii", "no", "--nodes", "7,3"]
    assert main([*command, "--embedding", "pca", "--split", "val", "--json"]) == 0
    parts = json.loads(capsys.readouterr().out)["sections"]
    [[seed, curve]] = parts["curves"]["seeds"].items()
    assert (seed, curve["epochs"]) == ("5", 3)
    assert set(parts["attention"]) == {"7", "3"}
    assert parts["embedding"]["method"] == "pca"
    assert "not asked for" in parts["radii"]["not_drawn"]
    task = lipzoo.load_dataset("wine")
    assert parts["calibration"]["nodes"] == int(task.val_mask.sum())
    # The weights of a run, on other data, come with the curve of their own training.
    other = ["report", str(run / "weights"), "--data", "iris", "--data-option", "split=random"]
    assert main([*other, "--out", str(tmp_path / "x"), "--radii", "no", "--embedding", "pca"]) == 0
    assert "curves: Not drawn" not in capsys.readouterr().out


# ---------------------------------------------------- what cannot be drawn is said


def reasons(report):
    parts = report.to_dict()["sections"]
    assert set(parts) == set(SECTIONS)
    return {name: part["not_drawn"] for name, part in parts.items() if "not_drawn" in part}


def test_without_labels():
    task = random_task(labels=False, masks=False)
    found = reasons(make_report(model_for(task), task, embedding="pca", radii="no"))
    expected = {"figures", "curves", "confusion", "calibration", "degree", "homophily", "gradients"}
    assert set(found) == {*expected, "radii"}
    assert "no node of the data has a label" in found["calibration"]


def test_without_a_split():
    task = random_task(masks=False)
    drawn = make_report(model_for(task), task, embedding="pca", radii="no")
    assert "drawn at random" in drawn.facts["split_note"]
    assert "confusion" not in reasons(drawn)
    none = torch.zeros(task.num_nodes, dtype=torch.bool)
    masks = {"train_mask": ~none, "val_mask": none, "test_mask": none}
    report = make_report(model_for(task), task.with_ndata(**masks), embedding="pca", radii="no")
    found = reasons(report)
    assert "no test nodes with a label; --split takes others" in found["confusion"]
    assert "gradients" not in found
    of_all = reasons(make_report(model_for(task), task, split="all", radii="no"))
    assert set(of_all) == {"curves", "radii"}


def test_labels_without_masks_are_split_as_evaluate_splits_them(run, tmp_path, capsys):
    out = tmp_path / "out"
    command = ["report", str(run / "weights"), "--data", "iris", "--out", str(out), "--json"]
    assert main([*command, "--radii", "no", "--embedding", "pca"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert main(["evaluate", str(run / "weights"), "--data", "iris", "--json"]) == 0
    wanted = json.loads(capsys.readouterr().out)["metrics"]
    assert facts["sections"]["figures"] == pytest.approx(wanted, abs=1e-6)
    assert facts["split_note"] == "It was drawn at random (split_seed 0), as for the training."
    # Of three labelled nodes none can be spared.
    few = random_task(n=9, edges=20, masks=False)
    np.savez(
        tmp_path / "few.npz",
        src=[0, 1],
        dst=[1, 2],
        feat=few.feat.numpy(),
        label=np.array([0, 1, 2, *[-1] * 6]),
    )
    report = make_report(model_for(few), tmp_path / "few.npz", radii="no", embedding="pca")
    assert "no test nodes with a label" in reasons(report)["calibration"]


def test_several_labels_a_node():
    task = random_task(multilabel=True)
    model = model_for(task)
    report = make_report(model, task, embedding="pca")
    found = reasons(report)
    assert set(found) == {"curves", "confusion", "homophily", "radii"}
    assert all("several labels" in found[name] for name in ("confusion", "homophily", "radii"))
    parts = report.to_dict()["sections"]
    probability = torch.sigmoid(model(task.graph, task.feat).detach().double())[task.test_mask]
    decided = (probability > 0.5) == (task.labels[task.test_mask] > 0)
    assert parts["calibration"]["decisions"] == decided.numel()
    assert parts["calibration"]["accuracy"] == pytest.approx(decided.double().mean().item())
    sure = torch.maximum(probability, 1 - probability).mean().item()
    assert parts["calibration"]["mean_confidence"] == pytest.approx(sure, abs=1e-6)


def test_a_network_that_diverged():
    task = random_task()
    model = model_for(task)
    with torch.no_grad():
        model.head.weight.fill_(math.nan)
        model.layers[0].attn_l.fill_(math.nan)
    report = make_report(model, task, radii="no")
    found = reasons(report)
    assert all("diverged" in found[name] for name in ("confusion", "degree", "attention"))
    json.dumps(report.to_dict(), allow_nan=False)


def test_classes_of_ones_own_and_networks_in_context():
    class Mine(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.map = torch.nn.Linear(5, 3)

        def forward(self, graph, feat):
            return self.map(feat)

    task = random_task()
    found = reasons(make_report(Mine(), task))
    assert set(found) == {"curves", "embedding", "attention", "gradients", "entropy", "radii"}
    assert found["attention"].startswith("Not drawn: Mine hands out no attention weights")
    context = reasons(make_report(lipzoo.load_pretrained("gat_lip_context_8"), task))
    assert {"embedding", "attention", "gradients", "entropy", "bound", "radii"} <= set(context)
    assert "read what was made of labels" in context["bound"]


@pytest.mark.many
@pytest.mark.parametrize(
    ("sizes", "absent"),
    [
        ({"n": 10, "edges": 12}, {"curves"}),
        ({"n": 9, "edges": 0}, {"curves", "homophily"}),
    ],
    ids=["ten nodes", "no edges"],
)
def test_small_graphs(sizes, absent, tmp_path):
    task = random_task(**sizes)
    report = make_report(model_for(task), task)
    assert set(reasons(report)) == absent
    Page(report.write(tmp_path / "out").joinpath("report.html").read_text())


def test_no_edges_and_no_self_loops():
    task = random_task(n=9, edges=0)
    subject = subject_of(task, model=model_for(task, add_self_loops=False))
    for part in (layers.attention, layers.entropy):
        with pytest.raises(Absent, match="no edge reaches"):
            part(subject)


def test_uniform_attention_is_measured_as_uniform():
    """Where all nodes are alike, attention is uniform, and its entropy the largest there is."""
    task = random_task()
    alike = task.with_ndata(feat=torch.ones(task.num_nodes, 5))
    facts = layers.entropy(subject_of(alike)).facts
    assert [row["entropy"] for row in facts["layers"]] == pytest.approx([facts["uniform"]] * 2)


def test_large_graphs_are_sampled_and_not_certified():
    task = random_task(n=3000, edges=180_000)
    subject = subject_of(task, method="pca", sample=50)
    section = predictions.embedding(subject)
    assert section.facts["nodes"] == 50
    assert f"50 of the {int(task.test_mask.sum()):,} test nodes" in section.words
    assert "drawn at random" in section.words
    again = subject_of(task, sample=50, seed=0).drawn(task.test_mask, 50)
    assert torch.equal(subject.drawn(task.test_mask, 50), again)
    assert not torch.equal(subject_of(task, seed=1).drawn(task.test_mask, 50), again)
    assert bool(task.test_mask[again].all())
    *_, radii = layers.bound(subject)
    assert "would take more than a minute" in radii.words


def test_a_backward_pass_that_does_not_fit(monkeypatch):
    monkeypatch.setattr(layers, "available_memory", lambda: 1000)
    with pytest.raises(Absent, match="would need about"):
        layers.gradients(subject_of(random_task()))


@pytest.mark.slow
def test_names_are_escaped_and_cut(tmp_path):
    task = random_task()
    names = ["<script>alert(1)</script>", "a" * 300, "é€"]
    task = GraphTask.from_graph(task.graph, "<b>data", class_names=names)
    report = make_report(model_for(task), task, name="<img src=x>", radii="no", embedding="pca")
    text = (report.write(tmp_path / "out") / "report.html").read_text()
    assert "<script>" not in text
    assert "<img" not in text
    assert "a" * 30 not in text
    Page(text)


def test_a_hundred_classes_and_binary_ones(tmp_path):
    for classes, n in ((100, 900), (2, 30)):
        task = random_task(n=n, edges=3 * n, classes=classes)
        subject = subject_of(task)
        section = predictions.confusion(subject)
        assert np.sum(section.facts["counts"]) == int(task.test_mask.sum())
        assert len(section.tables) == (1 if classes > 12 else 2)
        assert section.pictures[0].files()["confusion.png"]


def test_what_does_not_belong_together():
    task = random_task(classes=5)
    with pytest.raises(DataError, match="has 5 classes, and the model tells 3 apart"):
        make_report(model_for(task, num_classes=3), task)
    with pytest.raises(DataError, match="no node 30; rows go from 0 to 29"):
        make_report(model_for(task), task, nodes=[30])
    with pytest.raises(ConfigError, match="split"):
        make_report(model_for(task), task, split="tset")
    with pytest.raises(ConfigError, match="radii"):
        make_report(model_for(task), task, radii="on")


def test_curves_that_are_cut_short_or_not_finite(tmp_path):
    from lipzoo.training.history import read_histories

    for seed, text in enumerate(
        (
            "epoch,lr,train_loss,val_loss,val_accuracy\n1,0.1,2,nan,0.5\n2,0.1,1,3,0.6\n3,0.1,0.",
            "epoch,lr,train_loss\n",
            "",
        )
    ):
        (tmp_path / f"seed_{seed}").mkdir()
        (tmp_path / f"seed_{seed}" / "metrics.csv").write_text(text)
    histories = read_histories(tmp_path)
    assert [row["epoch"] for row in histories[0]] == [1, 2]
    assert set(histories) == {0}
    section = predictions.curves(subject_of(random_task(), histories=histories))
    assert [picture.name for picture in section.pictures] == ["curves_loss", "curves_metric"]
    lost = {0: [{"epoch": 1.0, "train_loss": math.nan, "val_loss": math.inf}]}
    with pytest.raises(Absent, match="diverged in the first epoch"):
        predictions.curves(subject_of(random_task(), histories=lost))


def test_attention_and_its_entropy_need_one_forward_pass():
    task = random_task()
    model = model_for(task)
    passes, run = [], model.run

    def counted(graph, feat, seen=None, *rest):
        passes.extend([seen] * (seen is not None))
        return run(graph, feat, seen, *rest)

    model.run = counted
    subject = subject_of(task, model=model)
    both = [layers.attention(subject), layers.entropy(subject)]
    assert len(passes) == 1
    # The entropy first, which asks for no nodes, and the other nodes of a second question.
    again = subject_of(task, model=model)
    assert layers.entropy(again).facts == both[1].facts
    assert layers.attention(again).facts == both[0].facts
    assert len(passes) == 3


def test_masks_of_several_splits_are_refused_with_words():
    task = random_task()
    masks = {f"{name}_mask": getattr(task, f"{name}_mask") for name in ("train", "val", "test")}
    several = GraphTask.from_graph(task.with_ndata(**masks).graph)
    for name, mask in masks.items():
        several.graph.ndata[name] = mask.unsqueeze(1).expand(-1, 2)
    model = lipzoo.create_model("gat_lip_2", in_feats=5, num_classes=3).eval()
    with pytest.raises(DataError, match=r"holds several splits; choose with_split\(0\)"):
        make_report(model, several)
