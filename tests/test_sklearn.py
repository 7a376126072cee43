"""scikit-learn's estimator: its own checks, graphs and hidden labels, what it keeps and refuses."""

import pickle
import pickletools

import networkx as nx
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from scipy.spatial.distance import cdist
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.semi_supervised import LabelSpreading
from sklearn.utils.estimator_checks import parametrize_with_checks

import lipzoo
from lipzoo._dgl import dgl
from lipzoo.context import ClosedFormStack
from lipzoo.datasets import GraphTask
from lipzoo.datasets.embedded import neighbour_graph
from lipzoo.errors import CheckpointError, ConfigError, DataError, UnknownNameError
from lipzoo.sklearn import NodeClassifier, cross_val_score_nodes
from lipzoo.sklearn.edges import edges_of, edges_to_new, neighbour_edges
from lipzoo.sklearn.labels import hold_out, read_labels

QUICK = {"model": "test_tiny", "epochs": 5, "n_neighbors": 3, "random_state": 0}
N = 40


@pytest.fixture(scope="module")
def moons():
    """Two bows of 20 nodes, each a path in the graph; features that show the class dimly."""
    rng = np.random.default_rng(0)
    y = np.arange(N) // 20
    X = rng.normal(size=(N, 3)) + y[:, None]
    links = np.array([[i, i + 1] for i in range(N - 1) if i != 19]).T
    edge_index = np.concatenate([links, links[::-1]], 1)
    return X, y, edge_index


@pytest.fixture(scope="module")
def fitted(moons):
    X, y, _ = moons
    return NodeClassifier(**QUICK).fit(X, y)


EXPECTED = {
    "check_classifiers_classes": "takes -1 as a class, which marks a node without a label; "
    "scikit-learn spares its own semi-supervised classifiers by name"
}

_READS_ALL = "evidence is made of all rows, new ones too, as if all were asked for at once"
STACK = {
    **EXPECTED,
    "check_class_weight_classifiers": "the stack has no training loss to weigh",
    "check_methods_subset_invariance": _READS_ALL,
    "check_methods_sample_order_invariance": _READS_ALL,
}
#: Without validation: what chooses the epoch does not look at class_weight, which is checked.
NETWORK = NodeClassifier("test_tiny", n_neighbors=3, epochs=15, lr=0.02, validation_fraction=0)


@parametrize_with_checks([NETWORK], expected_failed_checks=lambda _: EXPECTED)
def test_checks_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks(
    [NodeClassifier("stack", n_neighbors=3)], expected_failed_checks=lambda _: STACK
)
def test_checks_of_scikit_learn_with_the_stack(estimator, check):
    check(estimator)


@pytest.mark.slow
def test_the_default_learns():
    X, y = load_iris(return_X_y=True)
    model = make_pipeline(StandardScaler(), NodeClassifier(epochs=50, random_state=0))
    assert model.fit(X[::2], y[::2]).score(X[1::2], y[1::2]) > 0.9


def test_the_room_is_reached_by_name():
    assert lipzoo.sklearn.NodeClassifier is NodeClassifier


# ------------------------------------------------------------------- labels


def test_labels_that_are_words_may_be_unknown(moons):
    X, y, _ = moons
    names = np.array(["moon", "sun"])[y]
    for nothing in (None, float("nan"), "", -1, pd.NA):
        some = names.astype(object)
        some[::3] = nothing
        model = NodeClassifier(**QUICK).fit(X, some)
        assert model.classes_.tolist() == ["moon", "sun"]
        assert set(model.transduction_) <= {"moon", "sun"}
        assert not model._held_out[::3].any()
        assert (model._codes[::3] == -1).all()
    text = names.copy()
    text[::3] = "-1"  # as NumPy writes it
    assert (NodeClassifier(**QUICK).fit(X, text)._codes[::3] == -1).all()


@pytest.mark.parametrize("kind", [np.int8, np.float64, object, bool, "category", "Int64"])
def test_labels_of_every_type(moons, kind):
    X, y, _ = moons
    given = pd.Series(y).astype(kind) if isinstance(kind, str) else y.astype(kind)
    codes, classes = read_labels(np.asarray(given))
    assert codes.tolist() == y.tolist()
    assert classes.tolist() == [0, 1]
    assert (NodeClassifier(**QUICK).fit(X, given).transduction_ == given).any()


@pytest.mark.parametrize("some", [False, True])
@pytest.mark.parametrize("kind", ["ints", "floats", "truth", "words", "dates", "objects"])
def test_what_fit_takes_is_scored_too(moons, kind, some):
    """Labels of any kind, some of them unknown."""
    X, y, _ = moons
    years = np.array(["2026-01-01", "2027-01-01"], "datetime64[D]")
    y = {
        "ints": y.astype(object),
        "floats": y.astype(float).astype(object),
        "truth": (y > 0).astype(object),
        "words": np.array(["moon", "sun"], object)[y],
        "dates": years[y],
        "objects": np.array([*years, None])[y],
    }[kind]
    if some and kind != "dates":
        y = y.copy()
        y[::5] = None
    stack = NodeClassifier("stack", n_neighbors=3, random_state=0)
    fitted = stack.fit(X, y)
    known = np.array([cell is not None for cell in y.tolist()])
    right = np.mean([a == b for a, b in zip(fitted.transduction_[known], y[known], strict=True)])
    assert fitted.score(None, y) == right > 0.5
    assert (cross_val_score_nodes(stack, X, y, cv=3) > 0.5).all()


def test_a_share_of_each_class_is_held_out():
    codes = np.repeat([0, 1, 2, -1], [40, 11, 1, 20])
    held = hold_out(codes, 0.2, np.random.RandomState(0))
    assert [int(held[codes == c].sum()) for c in (0, 1, 2, -1)] == [8, 2, 0, 0]
    other = hold_out(codes, 0.2, np.random.RandomState(1))
    assert (held != other).any()
    few = np.repeat([0, 1, 2], [2, 2, 2])
    for fraction in (0, 0.1, 0.4):
        assert not hold_out(few, fraction, np.random.RandomState(0)).any()
    assert hold_out(few, 0.9, np.random.RandomState(0)).sum() == 3


def test_without_validation_nodes_the_last_epoch_is_kept(moons):
    X, y, _ = moons
    few = np.full(N, -1)
    few[[0, 39]] = 0, 1
    for labels, fraction in ((few, 0.5), (y, 0)):
        model = NodeClassifier(**QUICK, validation_fraction=fraction).fit(X, labels)
        assert model.best_epoch_ == 5 == len(model.history_)
        assert "val_loss" not in model.history_[0]
    shorter = NodeClassifier(**{**QUICK, "epochs": 4}, validation_fraction=0).fit(X, y)
    assert (shorter.label_distributions_ != model.label_distributions_).any()


# ------------------------------------------------------------------- graphs


def test_neighbours_are_those_of_the_embedded_data():
    X = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    wanted = set(zip(*(ends.tolist() for ends in neighbour_graph(X, 6).edges())))
    for made in (neighbour_edges(X, 6), neighbour_edges(sp.csr_matrix(X), 6)):
        assert set(zip(*made.tolist())) == wanted
        assert made.shape[1] == len(wanted)
    alike = neighbour_edges(np.zeros((5, 2), np.float32), 2)
    assert (alike[0] != alike[1]).all()


def test_any_form_of_a_graph_gives_the_same(moons):
    X, y, edge_index = moons
    adjacency = sp.coo_array((np.ones(edge_index.shape[1]), edge_index), (N, N))
    graph = nx.Graph()
    graph.add_nodes_from(range(N))
    graph.add_edges_from(edge_index.T.tolist())
    forms = [
        *(adjacency, adjacency.tocsr(), sp.csc_matrix(adjacency), adjacency.toarray(), graph),
        *(torch.from_numpy(edge_index), edge_index.tolist(), tuple(edge_index)),
        dgl.graph(tuple(edge_index), num_nodes=N),
        dgl.graph(tuple(edge_index), num_nodes=N).formats("csc"),
    ]
    wanted = NodeClassifier(**QUICK).fit(X, y, edge_index)
    assert wanted.edge_index_.tolist() == edge_index.tolist()
    for form in forms:
        found = NodeClassifier(**QUICK).fit(X, y, adjacency=form)
        assert sorted(found.edge_index_.T.tolist()) == sorted(edge_index.T.tolist())
        np.testing.assert_allclose(
            found.label_distributions_, wanted.label_distributions_, atol=1e-4
        )


def test_pyg_data_is_a_graph(moons):
    data = pytest.importorskip("torch_geometric.data")
    edge_index = moons[2]
    given = data.Data(edge_index=torch.from_numpy(edge_index), num_nodes=N)
    assert edges_of(given, N).tolist() == edge_index.tolist()


def test_a_graph_without_edges_is_one(moons):
    X, y, _ = moons
    for empty in (np.empty((2, 0)), [[], []], sp.csr_matrix((N, N)), np.zeros((N, N))):
        model = NodeClassifier(**QUICK).fit(X, y, empty)
        assert model.edge_index_.shape == (2, 0)
        np.testing.assert_allclose(
            model.predict_proba(X[:3], np.empty((2, 0))), model.label_distributions_[:3], atol=1e-6
        )


def test_the_graph_is_read(moons):
    """Without telling features: labels spread along the paths alone."""
    _, y, edge_index = moons
    some = np.full(N, -1)
    some[::5] = y[::5]
    noise = np.random.default_rng(1).normal(size=(N, 3))
    model = NodeClassifier("stack", random_state=0).fit(noise, some, edge_index)
    assert (model.transduction_ == y)[some == -1].mean() > 0.9


@pytest.mark.parametrize(
    ("adjacency", "words"),
    [
        (np.zeros((N + 1, N + 1)), r"whole numbers \(2, E\)"),
        (sp.csr_matrix((N + 1, N + 1)), f"has {N + 1} nodes, and X {N} rows"),
        (sp.csr_matrix((N, N + 9)), "cross_val_score_nodes"),
        (nx.path_graph(3), "has 3 nodes"),
        (dgl.graph(([0], [1])), "has 2 nodes"),
        (np.array([[0], [N]]), f"names node {N}"),
        (np.array([[0], [-1]]), "names node -1"),
        (np.array([[0, 1], [1, 2], [2, 3]]), r"edge_index.t\(\)"),
        (np.array([[0.5], [1]]), "whole numbers"),
        ("a graph", "got str"),
        (np.full((N, N), np.nan), "holds NaN"),
        ([[0, 1], [2]], "got list"),
        (dgl.heterograph({("a", "to", "b"): ([0], [1])}), "dgl.to_homogeneous"),
    ],
)
def test_a_graph_that_does_not_fit_is_refused(moons, adjacency, words):
    X, y, _ = moons
    with pytest.raises(DataError, match=words) as fault:
        NodeClassifier(**QUICK).fit(X, y, adjacency)
    assert str(fault.value).startswith("adjacency: ")
    assert isinstance(fault.value, ValueError)


@pytest.mark.parametrize(
    ("array", "wanted"),
    [
        (np.array([[0.0, 1.0], [0.0, 0.0]]), {(0, 1)}),
        (np.array([[False, True], [True, True]]), {(0, 1), (1, 0), (1, 1)}),
        (np.array([[0, 7], [0, 0]]), {(0, 1)}),  # no node 7
        (np.array([[0, -1], [0, 0]]), {(0, 1)}),
        ([[0, 1], [1, 0]], {(0, 1), (1, 0)}),  # both say the same
        (torch.tensor([[0, 0], [1, 1]]), {(0, 1)}),  # a tensor is an edge_index
        (sp.coo_array(np.array([[0, 0], [1, 1]])), {(1, 0), (1, 1)}),
        ([[0], [1]], {(0, 1)}),
        ([[0, 1, 1], [0, 1, 1]], {(0, 0), (1, 1)}),
    ],
)
def test_what_an_array_beside_two_nodes_is(array, wanted):
    assert set(zip(*edges_of(array, 2).tolist())) == wanted


@pytest.mark.parametrize("array", [[[0, 0], [1, 1]], [[1, 1], [1, 1]], [[0, 1], [0, 0]]])
def test_an_array_that_may_be_either_is_refused(array):
    with pytest.raises(DataError, match=r"coo_array\(adjacency\), or torch.tensor\(edge_index\)"):
        edges_of(np.array(array), 2)
    assert edges_of(torch.tensor(array), 2).tolist() == array


# ------------------------------------------------------------------ new rows


def test_new_rows_do_not_change_each_other(fitted, moons):
    X = moons[0] + 0.1
    proba = fitted.predict_proba(X)
    assert proba.shape == (N, 2)
    np.testing.assert_allclose(fitted.predict_proba(X[7:9]), proba[7:9], atol=1e-6)
    assert (fitted.predict(X) == fitted.classes_[proba.argmax(1)]).all()
    edges = edges_to_new(fitted._X, X.astype(np.float32), 3)
    assert edges[0].max() < N <= edges[1].min()
    assert np.bincount(edges[1])[N:].tolist() == [3] * N


def test_new_rows_are_joined_to_their_nearest_known_ones(fitted, moons):
    """The network on both kinds of rows, joined by hand; what it says of known ones stays."""
    new = (moons[0][:6] + 0.3).astype(np.float32)
    known = fitted._X
    near = np.argsort(cdist(new, known), axis=1)[:, :3]
    links = np.stack([near.ravel(), N + np.repeat(np.arange(6), 3)])
    src, dst = np.concatenate([fitted.edge_index_, links], 1)
    graph = dgl.graph((src, dst), num_nodes=N + 6)
    with torch.no_grad():
        logits = fitted.model_(graph, torch.from_numpy(np.concatenate([known, new])))
    wanted = logits.softmax(1).numpy()
    np.testing.assert_allclose(fitted.predict_proba(new), wanted[N:], atol=1e-5)
    np.testing.assert_allclose(fitted.label_distributions_, wanted[:N], atol=1e-5)


def test_rows_of_fit_are_asked_for_without_x(fitted, moons):
    y = moons[1]
    assert (fitted.predict() == fitted.transduction_).all()
    assert (fitted.predict_proba() == fitted.label_distributions_).all()
    assert fitted.score(None, y) == np.mean(fitted.transduction_ == y)
    hidden = np.where(np.arange(N) < 30, -1, y)
    assert fitted.score(None, hidden) == np.mean((fitted.transduction_ == y)[30:])
    weight = np.arange(N)
    assert fitted.score(None, y, weight) == np.average(fitted.transduction_ == y, weights=weight)


def test_a_model_predicts_on_another_graph(moons):
    X, y, edge_index = moons
    for model in (NodeClassifier(**QUICK), NodeClassifier("stack", random_state=0)):
        model.fit(X, y, edge_index)
        half = edge_index[:, (edge_index < 20).all(0)]
        said = model.predict_proba(X[:20], adjacency=half)
        assert said.shape == (20, 2)
        assert model.score(X[:20], y[:20], adjacency=half) == np.mean(said.argmax(1) == 0)
        with pytest.raises(DataError, match=r"predict\(X, adjacency=...\)"):
            model.predict(X)
        with pytest.raises(DataError, match="has 40 nodes, and X 20 rows"):
            model.predict(X[:20], sp.csr_matrix((N, N)))
    # Both halves are graphs of their own, so that nothing else is seen.
    net = NodeClassifier(**QUICK).fit(X, y, edge_index)
    np.testing.assert_allclose(
        net.predict_proba(X[:20], half), net.label_distributions_[:20], atol=1e-6
    )


def test_what_fit_got_is_what_predict_takes(fitted, moons):
    with pytest.raises(DataError, match="leave out"):
        fitted.predict(moons[0], np.empty((2, 0)))
    with pytest.raises(DataError, match="pass these too"):
        fitted.predict(adjacency=np.empty((2, 0)))


# ------------------------------------------------------------- kinds of model


def test_the_stack_is_that_of_lipzoo(moons):
    X, y, edge_index = moons
    some = np.where(np.arange(N) % 4, -1, y)
    model = NodeClassifier("stack", random_state=0).fit(X, some, edge_index)
    graph = dgl.graph(tuple(edge_index), num_nodes=N)
    graph.ndata["feat"] = torch.from_numpy(X)
    graph.ndata["label"] = torch.from_numpy(some)
    graph.ndata["train_mask"] = torch.from_numpy(some >= 0)
    stack = ClosedFormStack(seed=model._seed).fit(GraphTask.from_graph(graph, num_classes=2))
    np.testing.assert_allclose(model.label_distributions_, stack.predict_proba(), atol=1e-6)
    assert model.model_ is None


@pytest.mark.parametrize(
    "options",
    [
        {"model": "gat_lip_16.digits"},
        {"model": "gat_lip_universal_16.cora_citeseer_digits"},
        {"model": "gat_lip_context_8.synthetic"},
        {"start": "stack"},
        {"model": "gat_lip_16.digits", "start": "context", "validation_fraction": 0},
    ],
    ids=str,
)
def test_weights_and_starts(moons, options):
    """What is fitted says the same once it was kept, of its nodes and of new ones."""
    X, y, _ = moons
    model = NodeClassifier(**{**QUICK, "epochs": 2, **options}).fit(X, y)
    assert model.transduction_.shape == (N,)
    kept = pickle.loads(pickle.dumps(model))
    assert (kept.predict_proba(X[:5]) == model.predict_proba(X[:5])).all()
    np.testing.assert_allclose(model.label_distributions_.sum(1), 1)


def test_a_folder_is_weights(moons, tmp_path):
    X, y, _ = moons
    task = lipzoo.load_dataset("iris")
    lipzoo.finetune("gat_lip_16.digits", task, epochs=1, verbose=False, out=tmp_path / "mine")
    model = NodeClassifier(tmp_path / "mine", n_neighbors=3, epochs=1).fit(X, y)
    assert model.model_.card.recipe["finetuned_from"].startswith("gat_lip_16.")


# ------------------------------------------------------------- what it keeps


def test_it_is_kept_without_code(fitted, moons):
    data = pickle.dumps(fitted)
    names = {arg for _, arg, _ in pickletools.genops(data) if isinstance(arg, str)}
    assert not [name for name in names if name.startswith(("torch", "dgl"))]
    kept = pickle.loads(data)
    assert (kept.predict_proba(moons[0]) == fitted.predict_proba(moons[0])).all()
    assert kept.model_.card == fitted.model_.card.model_copy(
        update={"weights": kept.model_.card.weights}
    )
    state = fitted.__getstate__()
    weights = bytearray(state["model_"]["model.safetensors"])
    weights[-1] ^= 1
    state["model_"]["model.safetensors"] = bytes(weights)
    with pytest.raises(CheckpointError, match="hash"):
        NodeClassifier().__setstate__(state)
    assert pickle.loads(pickle.dumps(clone(fitted))).get_params() == fitted.get_params()


def test_nothing_global_is_touched_and_seeds_say_all(moons):
    X, y, _ = moons
    before = torch.get_rng_state(), np.random.get_state()[1]  # noqa: NPY002
    found = [NodeClassifier(**QUICK).fit(X, y).label_distributions_ for _ in range(2)]
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002
    assert (found[0] == found[1]).all()
    state = np.random.RandomState(0)
    drawn = [
        NodeClassifier(**{**QUICK, "random_state": state}).fit(X, y).label_distributions_
        for _ in range(2)
    ]
    assert (drawn[0] == found[0]).all()
    assert (drawn[1] != found[0]).any()


def test_a_fit_that_fails_leaves_what_was(moons):
    X, y, _ = moons
    model = NodeClassifier(**QUICK).fit(X, y)
    before = model.predict_proba()
    with pytest.raises(UnknownNameError):
        model.set_params(model="gat_lip_17").fit(X + 1, y)
    assert (model.predict_proba() == before).all()
    with pytest.raises(DataError, match="one class"):
        model.set_params(model="test_tiny").fit(X[:, :2], np.zeros(N))
    assert model.n_features_in_ == 3
    assert len(model.predict(X[:2])) == 2


def test_names_of_columns_are_those_of_the_last_fit(moons):
    X, y, _ = moons
    model = NodeClassifier(**QUICK).fit(pd.DataFrame(X, columns=["a", "b", "c"]), y)
    assert list(model.feature_names_in_) == ["a", "b", "c"]
    with pytest.raises(DataError, match="one class"):
        model.fit(X, np.zeros(N))
    assert list(model.feature_names_in_) == ["a", "b", "c"]
    assert not hasattr(model.fit(X, y), "feature_names_in_")


@pytest.mark.parametrize("name", ["test_tiny", "gat_lip_2.cora"])
def test_a_model_of_one_class_is_told_of(moons, name):
    X, y, _ = moons
    with pytest.warns(UserWarning, match=r"predicts class . for every node"):
        NodeClassifier(**{**QUICK, "model": name}).fit(0 * X, y)


def test_columns_in_their_own_units_are_told_of(moons):
    X, y, _ = moons
    with pytest.warns(UserWarning, match="of very different sizes"):
        NodeClassifier(**QUICK).fit(X * [1, 1, 1e6], y)


def test_a_score_of_no_labels_is_refused(fitted):
    with pytest.raises(DataError, match="nothing to score"):
        fitted.score(None, [-1] * N)


# ---------------------------------------------------------- with scikit-learn


def test_pipelines_and_searches():
    X, y = load_iris(return_X_y=True)
    pipe = make_pipeline(StandardScaler(), NodeClassifier("stack"))
    assert cross_val_score(pipe, X, y, cv=3).mean() > 0.9
    grid = {"nodeclassifier__n_neighbors": np.array([3, 8])}
    search = GridSearchCV(pipe, grid, cv=2).fit(X, y)
    assert search.best_score_ > 0.9
    net = NodeClassifier(**QUICK).set_params(epochs=np.int64(2), lr=np.float32(0.01))
    assert net.fit(X, y).best_epoch_ in (1, 2)


def test_sliced_graphs_are_said():
    X, y = load_iris(return_X_y=True)
    search = GridSearchCV(NodeClassifier("stack"), {"n_neighbors": [3]}, error_score="raise")
    with pytest.raises(DataError, match="cross_val_score_nodes"):
        search.fit(X, y, adjacency=sp.eye(150, format="csr"))


@pytest.mark.parametrize("words", [False, True])
def test_labels_are_hidden_and_nodes_are_kept(moons, words):
    X, y, edge_index = moons
    y = np.array(["moon", "sun"])[y] if words else y
    y = y.astype(object) if words else y
    y[:4] = -1
    stack = NodeClassifier("stack", random_state=0)
    found = cross_val_score_nodes(stack, X, y, edge_index, cv=3)
    assert found.shape == (3,)
    known = np.flatnonzero(y != -1)
    wanted = []
    for _, fold in StratifiedKFold(3).split(known, y[known].astype(str)):
        seen = y.copy()
        seen[known[fold]] = -1
        said = clone(stack).fit(X, seen, edge_index).transduction_
        wanted.append(np.mean(said[known[fold]] == y[known[fold]]))
    assert found.tolist() == wanted
    pipe = make_pipeline(StandardScaler(), stack)
    for scoring in ("neg_log_loss", "roc_auc", "balanced_accuracy"):
        scores = cross_val_score_nodes(pipe, X, y, edge_index, cv=2, scoring=scoring)
        assert np.isfinite(scores).all()


def test_label_spreading_is_compared_alike():
    X, y = load_iris(return_X_y=True)
    assert cross_val_score_nodes(LabelSpreading(), X, y, cv=3).mean() > 0.8
    with pytest.raises(ConfigError, match="no transduction_"):
        cross_val_score_nodes(StandardScaler(), X, y)
    with pytest.raises(DataError, match="nothing to score"):
        cross_val_score_nodes(NodeClassifier("stack"), X, np.full(150, -1))
    for kind in (bool, np.uint8, np.float64):
        labels = (y > 0).astype(kind)
        assert cross_val_score_nodes(NodeClassifier("stack"), X, labels, cv=2).mean() > 0.9


def test_weights_of_classes(moons):
    X, _, _ = moons
    y = np.array(["moon", "sun"])[(np.arange(N) > 35).astype(int)]
    few = NodeClassifier(**QUICK).fit(X, y).label_distributions_[:, 1].mean()
    for weight in ("balanced", {"sun": 9.0}):
        model = NodeClassifier(**QUICK, class_weight=weight).fit(X, y)
        assert model.label_distributions_[:, 1].mean() > few
        assert ("val_macro_f1" in model.history_[0]) == (weight == "balanced")


# ------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (np.full(N, -1), "no node has a label"),
        (np.where(np.arange(N) < 9, 1, -1), "one class only"),
        (np.where(np.arange(N) < 9, np.nan, 1), "-1 marks a node"),
        ([""] * N, "no node has a label"),
        (["a", 1] * (N // 2), "words and other things"),
        ([{"a": 1}, {"b": 1}] * (N // 2), "no classes|Unknown label type"),
        ([b"a", b"b"] * (N // 2), "no classes"),
        (np.linspace(0, 1, N), "Unknown label type"),
        (np.zeros((N, 2)), "1d array"),
        (np.zeros(N - 1), "inconsistent numbers"),
        (None, "y"),
    ],
)
def test_labels_that_do_not_fit_are_refused(moons, y, words):
    y = np.array(y, object) if isinstance(y, list) else y
    with pytest.raises(ValueError, match=words) as fault:
        NodeClassifier(**QUICK).fit(moons[0], y)
    assert "\n" not in str(fault.value)


@pytest.mark.parametrize(
    ("options", "fault", "words"),
    [
        ({"n_neighbors": N}, ConfigError, r"1\.\.39"),
        ({"n_neighbors": 0}, ConfigError, r"1\.\.39"),
        ({"n_neighbors": 2.5}, ConfigError, r"1\.\.39"),
        ({"graph": "kn"}, ConfigError, "did you mean 'knn'"),
        ({"graph": None}, ConfigError, "choices: knn"),
        ({"epochs": 0}, ConfigError, "epochs"),
        ({"epochs": "many"}, ConfigError, "epochs"),
        ({"lr": -1.0}, ConfigError, "lr"),
        ({"lr": "fast"}, ConfigError, "lr"),
        ({"patience": 0}, ConfigError, "patience"),
        ({"validation_fraction": 1}, ConfigError, r"\[0, 1\)"),
        ({"validation_fraction": float("nan")}, ConfigError, r"\[0, 1\)"),
        ({"class_weight": "even"}, ConfigError, "balanced"),
        ({"class_weight": {5: 1.0}}, ConfigError, "names 5"),
        ({"class_weight": {1: "x"}}, ConfigError, "numbers"),
        ({"model_params": {"feat_dorp": 0.1}}, ConfigError, "feat_drop"),
        ({"model_params": [1]}, ConfigError, "must be a dict"),
        ({"model_params": {3: 1}}, ConfigError, "must be a dict"),
        ({"model": "gat_lip_16.digits", "model_params": {"out": "x"}}, ConfigError, "out"),
        ({"model_params": {"seed": 1}}, ConfigError, "seed"),
        ({"model_params": {"in_feats": 3}}, ConfigError, "in_feats"),
        ({"start": "stock"}, UnknownNameError, "stock"),
        ({"model": "gat_lip_17"}, UnknownNameError, "did you mean 'gat_lip_16'"),
        ({"model": "gat_lip_16.cra"}, UnknownNameError, "gat_lip_16.cora"),
        ({"model": "gat_lip_context_8"}, ConfigError, "gat_lip_context_8.synthetic"),
        ({"model": "/no/such/folder"}, CheckpointError, "there is no such folder"),
        ({"model": 3}, ConfigError, "got a int"),
        ({"model": None}, ConfigError, "got a NoneType"),
    ],
    ids=str,
)
def test_parameters_that_do_not_fit_are_refused(moons, options, fault, words):
    X, y, _ = moons
    with pytest.raises(fault, match=words) as found:
        NodeClassifier(**{**QUICK, **options}).fit(X, y)
    assert "\n" not in str(found.value)


@pytest.mark.filterwarnings("ignore:overflow")
def test_features_that_do_not_fit_are_refused(fitted, moons):
    X, y, _ = moons
    for bad in (np.nan, np.inf, 1e300):
        broken = X.copy()
        broken[3, 1] = bad
        with pytest.raises(ValueError, match=r"NaN|infinity"):
            NodeClassifier(**QUICK).fit(broken, y)
    with pytest.raises(ValueError, match="features"):
        fitted.predict(X[:, :2])
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    named = NodeClassifier(**QUICK).fit(frame, y)
    assert named.feature_names_in_.tolist() == ["a", "b", "c"]
    with pytest.raises(ValueError, match="feature names"):
        named.predict(frame[["b", "a", "c"]])


def test_sparse_features_give_the_same(moons):
    X, y, _ = moons
    dense = NodeClassifier(**QUICK).fit(X, y)
    sparse = NodeClassifier(**QUICK).fit(sp.csr_matrix(X), y)
    for rows in (X[:4], sp.csc_matrix(X[:4])):
        np.testing.assert_allclose(sparse.predict_proba(rows), dense.predict_proba(rows), atol=1e-4)


def test_the_card_keeps_the_words():
    X = np.random.default_rng(0).normal(size=(30, 3))
    y = np.array(["low", "high"])[(X[:, 0] > 0).astype(int)]
    settings = {"model": "test_tiny", "epochs": 3, "n_neighbors": 3, "random_state": 0}
    fitted = NodeClassifier(**settings).fit(X, y)
    assert fitted.model_.card.dataset.class_names == ["high", "low"]
    numbers = NodeClassifier(**settings).fit(X, (y == "low").astype(int))
    assert numbers.model_.card.dataset.class_names is None


def test_nodes_of_networkx_in_another_order(recwarn):
    """Its first node is the first row; who numbers them by rows is told."""
    X, y = np.arange(8.0).reshape(4, 2), [0, 1, 0, 1]
    for edges in ([(0, 2), (3, 1)], [("a", "c"), ("d", "b")]):
        graph = nx.Graph()
        graph.add_nodes_from(sorted({node for edge in edges for node in edge}))
        graph.add_edges_from(edges)
        model = NodeClassifier("stack").fit(X, y, adjacency=graph)
        assert {(0, 2), (3, 1)} <= {*map(tuple, model.edge_index_.T.tolist())}
    assert not [each for each in recwarn if "order" in str(each.message)]
    with pytest.warns(UserWarning, match=r"nodes 0\.\.3 in another order \(3, 1, 0, 2, …\)"):
        NodeClassifier("stack").fit(X, y, adjacency=nx.Graph([(3, 1), (0, 2)]))
