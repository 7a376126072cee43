"""Pictures: their numbers against independent computations, and what is drawn of them."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from graph_zoo import GRAPHS, directed, homogeneous, isolated, multigraph
from sklearn.metrics import confusion_matrix as sklearn_confusion

import lipzoo
from lipzoo import plots
from lipzoo._dgl import dgl
from lipzoo._figures import rendered
from lipzoo.attention import as_structure
from lipzoo.errors import ConfigError, DataError
from lipzoo.plots.style import COLOURS, GREY, INK, MARKERS


def random_case(n=400, classes=5, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, n)
    predicted = np.where(rng.random(n) < 0.7, truth, rng.integers(0, classes, n))
    return truth, predicted, rng.random(n)


# ------------------------------------------------------------------------ calibration


def test_the_calibration_error_by_hand():
    """Two bins: 0.3 and 0.4, one of them right; 0.9 and 0.7, both right."""
    confidence, right = [0.3, 0.4, 0.9, 0.7], [1, 0, 1, 1]
    low, high = plots.reliability(confidence, right, bins=2)
    assert (low.low, low.high, low.count) == (0, 0.5, 2)
    assert (low.confidence, low.accuracy) == pytest.approx((0.35, 0.5))
    assert (high.confidence, high.accuracy) == pytest.approx((0.8, 1.0))
    wanted = 0.5 * 0.15 + 0.5 * 0.2
    assert plots.expected_calibration_error(confidence, right, bins=2) == pytest.approx(wanted)


@pytest.mark.parametrize("bins", [1, 7, 15])
def test_the_calibration_error_against_the_formula(bins):
    truth, predicted, confidence = random_case()
    right = truth == predicted
    wanted = 0.0
    for b in range(bins):
        inside = (confidence > b / bins) & (confidence <= (b + 1) / bins)
        inside |= (b == 0) & (confidence == 0)
        if inside.any():
            gap = abs(right[inside].mean() - confidence[inside].mean())
            wanted += inside.sum() / len(right) * gap
    assert plots.expected_calibration_error(confidence, right, bins) == pytest.approx(wanted)
    assert sum(each.count for each in plots.reliability(confidence, right, bins)) == len(right)


def test_ends_of_bins_belong_below():
    found = plots.reliability([0.0, 0.5, 1.0], [0, 1, 1], bins=2)
    assert [each.count for each in found] == [2, 1]
    assert plots.expected_calibration_error(torch.ones(3), torch.ones(3, dtype=bool)) == 0


# -------------------------------------------------------------------------- confusion


def test_confusion_against_scikit_learn_and_a_loop():
    truth, predicted, _ = random_case()
    counts = plots.confusion_counts(torch.from_numpy(truth), torch.from_numpy(predicted), 6)
    wanted = np.zeros((6, 6), int)
    for t, p in zip(truth, predicted):
        wanted[t, p] += 1
    assert (counts == wanted).all()
    assert (counts == sklearn_confusion(truth, predicted, labels=range(6))).all()


def test_a_confusion_matrix_shows_its_counts():
    ax = plots.confusion_matrix([[3, 1], [0, 5]], ["cat", "dog"])
    assert [text.get_text() for text in ax.texts] == ["3", "1", "5"]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["cat", "dog"]
    assert ax.yaxis_inverted()
    [mesh] = ax.collections
    assert mesh.get_array().ravel().tolist() == [0.75, 0.25, 0, 1]


# ------------------------------------------------------- degrees and homophily, by loops


@pytest.mark.parametrize("make", [homogeneous, directed, multigraph, isolated])
def test_degrees_and_homophily_against_loops(make):
    graph = make()
    n = graph.num_nodes()
    labels = torch.tensor([0, 1, 1, -1, 0, 2, 2, 0, 1, 1])[:n]
    src, dst = (ends.tolist() for ends in graph.edges())
    degrees, shares = [0] * n, []
    for i, j in zip(src, dst):
        degrees[j] += i != j
    for node in range(n):
        near = [labels[i] for i, j in zip(src, dst) if j == node and i != node and labels[i] >= 0]
        is_known = labels[node] >= 0 and near
        shares.append(sum(x == labels[node] for x in near) / len(near) if is_known else math.nan)
    assert plots.node_degrees(graph).tolist() == degrees
    found = plots.node_homophily(graph, labels).tolist()
    assert found == pytest.approx([float(share) for share in shares], nan_ok=True)
    # The same edges in another form.
    edges = torch.stack(graph.edges())
    assert plots.node_degrees(edges, n).tolist() == degrees
    assert plots.node_homophily(edges, labels).tolist() == pytest.approx(found, nan_ok=True)


def test_groups_by_degree():
    degrees = [0, 1, 2, 3, 4, 5, 8, 9, 16, 17, 1_000_000]
    groups = plots.by_degree(degrees, np.ones(len(degrees)))
    names = ["0", "1", "2", "3–4", "5–8", "9–16", "17–32", "524289–1048576"]
    assert [group.name for group in groups] == names
    assert [group.count for group in groups] == [1, 1, 1, 2, 2, 2, 1, 1]


def test_groups_by_homophily_and_their_intervals():
    shares = np.array([0.0, 0.2, 0.6, 3 / 5, 1.0, math.nan])
    groups = plots.by_homophily(shares, [1, 0, 1, 0, 1, 1])
    assert [(g.name, g.count, g.right) for g in groups] == [
        ("0.0–0.2", 1, 1),
        ("0.2–0.4", 1, 0),
        ("0.6–0.8", 2, 1),
        ("0.8–1.0", 1, 1),
    ]
    half = groups[2]
    assert half.accuracy == 0.5
    z, n = 1.959963984540054, 2  # Wilson's formula for k = n / 2: symmetric around one half
    reach = z * math.sqrt(1 / (4 * n) + z**2 / (4 * n**2)) / (1 + z**2 / n)
    assert (half.low, half.high) == pytest.approx((0.5 - reach, 0.5 + reach))
    thirds = plots.by_homophily(torch.tensor([1 / 3, 2 / 3], dtype=torch.float64), [1, 1], bins=3)
    assert [group.name for group in thirds] == ["0.3–0.7", "0.7–1.0"]


# ---------------------------------------------------------------------------- entropy


@pytest.mark.parametrize("name", [name for name in GRAPHS if name != "bipartite"])
def test_uniform_attention_has_the_entropy_log_k(name):
    structure = as_structure(GRAPHS[name]())
    degree = structure.in_degrees.double()
    weights = (1 / degree)[structure.dst].unsqueeze(1).expand(-1, 3)
    found = plots.attention_entropy(structure, weights)
    wanted = degree.clamp_min(1).log().unsqueeze(1).expand(-1, 3)
    assert torch.allclose(found, wanted, atol=1e-12)


def test_entropy_against_the_definition():
    structure = as_structure(directed())
    weights = torch.tensor([0.9, 0.1, 1.0, 0.25, 1.0, 0.75]).unsqueeze(1)
    found = plots.attention_entropy(structure, weights).squeeze(1).tolist()
    third = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1))
    zeroth = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    assert found == pytest.approx([zeroth, 0, 0, third], abs=1e-6)
    with pytest.raises(DataError, match=r"must be \(E, H\)"):
        plots.attention_entropy(structure, weights[:3])
    with pytest.raises(DataError, match="a list: pass those of one layer"):
        plots.attention_entropy(structure, [weights])


def test_entropy_of_what_a_model_gives():
    graph = dgl.graph(([0, 1, 2], [1, 2, 0]))
    model = lipzoo.create_model("gat_lip_2", in_feats=3, num_classes=2).eval()
    _, attention = model(graph, torch.randn(3, 3), return_attention=True)
    found = plots.attention_entropy(graph, attention[0])
    assert found.shape == (3, attention[0].shape[1])
    own = attention[0][3:].double()  # the self-loops that the model added come last
    wanted = -torch.special.xlogy(own, own) - torch.special.xlogy(1 - own, 1 - own)
    assert torch.allclose(found, wanted, atol=1e-6)


# ----------------------------------------------------------------------------- curves


HISTORIES = {
    0: [{"epoch": e, "train_loss": 1 / e, "val_loss": 2 / e} for e in (1, 2, 3)],
    4: [{"epoch": e, "train_loss": 3 / e, "val_loss": math.nan} for e in (1, 2)],
}


def test_the_mean_is_of_all_seeds_or_of_none():
    assert plots.mean_curve(HISTORIES, "train_loss") == [(1, 2.0), (2, 1.0)]
    assert plots.mean_curve(HISTORIES, "val_loss") == []
    assert plots.mean_curve({}, "val_loss") == []


def test_curves_show_each_seed_its_best_epoch_and_the_mean():
    ax = plots.training_curves(HISTORIES, ["train_loss"], best={0: 3})
    drawn = [line.get_xydata().tolist() for line in ax.lines]
    assert drawn == [
        [[1, 1.0], [2, 0.5], [3, 1 / 3]],
        [[3, 1 / 3]],
        [[1, 3.0], [2, 1.5]],
        [[1, 2.0], [2, 1.0]],
    ]
    assert ax.get_ylabel() == "training loss"
    alone = plots.training_curves(HISTORIES[0], ["train_loss"])
    assert alone.lines[0].get_xydata().tolist() == drawn[0]
    assert len(plots.training_curves(HISTORIES).get_legend().get_texts()) == 2
    with pytest.raises(DataError, match="no seed has a value of 'accuracy'"):
        plots.training_curves(HISTORIES, ["accuracy"])


# -------------------------------------------------------------------------- embedding


def test_pca_is_the_projection_on_the_first_two_directions():
    feat = np.random.default_rng(0).normal(size=(40, 6)) * [9, 5, 1, 1, 1, 1]
    points, method = plots.embed(feat, "pca")
    assert method == "pca"
    centred = feat - feat.mean(0)
    scale = np.abs(feat).max()
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    wanted = np.abs(centred @ directions[:2].T) / scale
    assert np.allclose(np.abs(points), wanted)


def test_tsne_keeps_two_far_groups_apart_and_repeats_itself():
    rng = np.random.default_rng(0)
    feat = np.concatenate([rng.normal(size=(20, 60)), rng.normal(size=(20, 60)) + 50])
    points, method = plots.embed(feat, seed=3)
    assert method == "tsne"
    centres = points[:20].mean(0), points[20:].mean(0)
    near = np.linalg.norm(points[:20] - centres[0], axis=1)
    far = np.linalg.norm(points[:20] - centres[1], axis=1)
    assert (near < far).all()
    assert (plots.embed(feat, seed=3)[0] == points).all()


@pytest.mark.parametrize(
    "feat",
    [
        np.ones((1, 4)),
        np.ones((30, 4)),
        np.eye(2),
        np.eye(3),
        np.arange(12.0).reshape(12, 1),
        np.eye(9),
        1e300 * np.eye(12),
        1e-300 * np.eye(12),
        np.zeros((20, 3), np.float32),
    ],
    ids=lambda feat: f"{feat.shape} {feat.max():.0e}",
)
def test_few_or_odd_nodes_are_embedded(feat):
    points, _ = plots.embed(feat)
    assert points.shape == (len(feat), 2)
    assert np.isfinite(points).all()
    plots.embedding(points, np.zeros(len(feat)), right=np.zeros(len(feat)))


def test_many_classes_share_grey_and_wrong_nodes_get_a_cross():
    classes = np.repeat(np.arange(12), np.arange(1, 13))
    right = np.ones(len(classes))
    right[:3] = 0
    ax = plots.embedding(
        np.random.default_rng(0).normal(size=(len(classes), 2)), classes, right=right
    )
    words = [text.get_text() for text in ax.get_legend().get_texts()]
    assert words == ["other classes", *map(str, range(4, 12)), "predicted wrong"]
    sizes = [len(group.get_offsets()) for group in ax.collections]
    assert sizes == [1 + 2 + 3 + 4, *range(5, 13), 3]


# ------------------------------------------------------------------ the other drawings


def test_attention_is_drawn_around_the_node():
    weights = [0.1, 0.6, 0.3]
    ax = plots.attention("a", ["b", "a", "b"], weights, classes=[1, 1, 0, -1], most=2, title="t")
    words = [text.get_text() for text in ax.texts]
    assert words == ["itself\n0.600", "b\n0.300"]
    assert ax.get_title() == "t\n1 more with less attention are not drawn"
    widths = [arrow.get_linewidth() for arrow in ax.patches]
    assert len(widths) == 2
    assert widths[0] > widths[1]


def test_layers_and_radii_show_their_numbers():
    rows = [{"x": None}, {"x": 1.0}, {"x": 50.0}]
    ax = plots.by_layer({"a": rows, "b": rows[:2]}, "x")
    assert [line.get_xydata().tolist() for line in ax.lines] == [[[1, 1], [2, 50]], [[1, 1]]]
    assert ax.get_yscale() == "log"
    assert plots.by_layer({"a": rows[:2]}, "x").get_yscale() == "linear"
    curve = [(0.1, 1.0), (1.0, 0.5)]
    ax = plots.certified_shares({"certified": curve, "right": curve})
    assert ax.lines[0].get_xydata().tolist() == [list(point) for point in curve]
    assert ax.get_xscale() == "log"
    assert plots.certified_shares({"": [(0.0, 1.0)]}).get_xscale() == "linear"


DRAWINGS = {
    "training_curves": lambda ax: plots.training_curves(HISTORIES, ax=ax),
    "confusion_matrix": lambda ax: plots.confusion_matrix(np.eye(30), ax=ax),
    "calibration": lambda ax: plots.calibration([0.2, 0.9], [0, 1], ax=ax),
    "accuracy_by_degree": lambda ax: plots.accuracy_by_degree(plots.by_degree([1], [1]), ax),
    "accuracy_by_homophily": lambda ax: plots.accuracy_by_homophily(
        plots.by_homophily([1.0], [1]), ax
    ),
    "embedding": lambda ax: plots.embedding(np.zeros((1, 2)), ax=ax),
    "attention": lambda ax: plots.attention(0, [0], [1.0], ax),
    "by_layer": lambda ax: plots.by_layer({"": [{"x": 1.0}]}, "x", ax),
    "certified_shares": lambda ax: plots.certified_shares({"": [(1.0, 1.0)]}, ax),
}


def test_every_drawing_is_tried():
    functions = {name for name in plots.__all__ if "ax" in signature_of(name)}
    assert functions == set(DRAWINGS)


def signature_of(name):
    import inspect

    return inspect.signature(getattr(plots, name)).parameters


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_drawing_takes_axes_and_returns_them(name):
    from matplotlib.figure import Figure

    ax = Figure().subplots()
    assert DRAWINGS[name](ax) is ax
    new = DRAWINGS[name](None)
    assert new is not ax
    first = rendered(new.figure, "svg")
    assert first == rendered(DRAWINGS[name](None).figure, "svg")
    assert rendered(new.figure, "png").startswith(b"\x89PNG")


BAD = {
    "confidence": lambda: plots.reliability([1.2], [1]),
    "nan": lambda: plots.reliability([math.nan], [1]),
    "outcome": lambda: plots.reliability([0.5], [2]),
    "length": lambda: plots.reliability([0.5, 0.2], [1]),
    "nothing": lambda: plots.reliability([], []),
    "bins": lambda: plots.reliability([0.5], [1], bins=0),
    "words": lambda: plots.reliability(["a"], [1]),
    "classes": lambda: plots.confusion_counts([0, 3], [0, 1], 3),
    "negative": lambda: plots.confusion_counts([0, -1], [0, 1], 3),
    "no classes": lambda: plots.confusion_counts([], [], 3),
    "not square": lambda: plots.confusion_matrix(np.ones((2, 3))),
    "names": lambda: plots.confusion_matrix(np.eye(2), ["a"]),
    "degrees": lambda: plots.by_degree([-1], [1]),
    "no nodes": lambda: plots.by_degree([], []),
    "no homophily": lambda: plots.by_homophily([math.nan], [1]),
    "labels": lambda: plots.node_homophily(homogeneous(), torch.zeros(9, dtype=torch.int64)),
    "several labels": lambda: plots.node_homophily(homogeneous(), torch.zeros(10, 2)),
    "no groups": lambda: plots.accuracy_by_degree([]),
    "features": lambda: plots.embed(np.full((3, 2), np.inf)),
    "no features": lambda: plots.embed(np.zeros((0, 2))),
    "points": lambda: plots.embedding(np.zeros((3, 2)), [0]),
    "no neighbours": lambda: plots.attention(0, [], []),
    "weights": lambda: plots.attention(0, [1], [0.5, 0.5]),
    "no curve": lambda: plots.certified_shares({"": []}),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_drawn_is_answered(case):
    with pytest.raises(DataError):
        BAD[case]()


def test_an_unknown_method():
    with pytest.raises(ConfigError, match="did you mean 'tsne'"):
        plots.embed(np.eye(3), "tsnee")


# ------------------------------------------------------------------------ how they look


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [x / 12.92 if x <= 0.03928 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
    return sum(w * x for w, x in zip((0.2126, 0.7152, 0.0722), linear))


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_colours_stand_out_on_white_and_in_the_dark():
    """Graphics need 3 : 1, text 4.5 : 1 (WCAG 2.2, 1.4.11 and 1.4.3)."""
    for colour in (*COLOURS, GREY):
        assert contrast(colour, "#ffffff") >= 3, colour
        assert contrast(colour, "#15181c") >= 3, colour
    assert contrast(INK, "#ffffff") >= 7
    assert contrast("#e6e9ec", "#15181c") >= 7
    assert len(set(COLOURS)) == len(COLOURS) == len(set(MARKERS))


def test_without_matplotlib_numbers_are_there_and_pictures_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert plots.expected_calibration_error([0.5], [1]) == 0.5
    with pytest.raises(ConfigError, match=r"need matplotlib: pip install 'lipzoo\[plots\]'"):
        plots.calibration([0.5], [1])


def test_without_networkx(monkeypatch):
    monkeypatch.setitem(sys.modules, "networkx", None)
    with pytest.raises(ConfigError, match=r"need networkx: pip install 'lipzoo\[plots\]'"):
        plots.attention(0, [0], [1.0])


def test_nothing_heavy_is_imported_before_it_is_drawn():
    code = (
        "import sys, lipzoo\nlipzoo.plots.reliability\nlipzoo.lipschitz.certify\n"
        "assert not {'matplotlib', 'networkx'} & sys.modules.keys()"
    )
    hidden = "import sys; sys.modules['dgl'] = None\n"  # DGL imports networkx itself
    subprocess.run([sys.executable, "-c", hidden + code], check=True)
    assert "plots" in lipzoo.__all__
