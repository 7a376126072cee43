"""What classes and nodes are called."""

import dgl
import numpy as np
import pytest
import torch

import lipzoo
from lipzoo.card import Card
from lipzoo.datasets import GraphTask, load_dataset, save_npz, scale_features
from lipzoo.encoding import encode_for
from lipzoo.errors import DataError
from lipzoo.lipschitz import certify
from lipzoo.training import evaluate, load_recipe, predict
from lipzoo.training.ranks_parts import Parts, write_parts


def graph(label=True):
    made = dgl.rand_graph(12, 40)
    made.ndata["feat"] = torch.randn(12, 4)
    if label:
        made.ndata["label"] = torch.arange(12) % 3
        for mask in ("train_mask", "val_mask", "test_mask"):
            made.ndata[mask] = torch.arange(12) >= 0
    return made


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ({"class_names": ("a", "b")}, "are 2, and there are 3 classes"),
        ({"class_names": ("a", "a", "b")}, "stands there twice"),
        ({"class_names": (1, 2, 3)}, "must be words"),
        ({"class_names": "abc"}, "must be a list"),
        ({"feature_names": ("a", "b")}, "are 2, and there are 4 columns"),
        ({"feature_names": ("a", "a", "b", "c")}, "a column stands there twice"),
        ({"feature_names": (1, 2, 3, 4)}, "must be words, one a column"),
        ({"node_ids": list(range(11))}, "are 11, and there are 12 nodes"),
        ({"node_ids": [0.5] * 12}, "whole numbers or words"),
        ({"node_ids": 5}, "must be a list"),
    ],
)
def test_names_that_do_not_fit(names, words):
    with pytest.raises(DataError, match=words):
        GraphTask.from_graph(graph(), **names)


@pytest.mark.parametrize("ids", [torch.arange(12), np.arange(12), range(12), map(int, range(12))])
def test_ids_become_plain_numbers(ids):
    found = GraphTask.from_graph(graph(), node_ids=ids).node_ids
    assert found == list(range(12))
    assert {type(node) for node in found} == {int}


def named_model(names, **sizes):
    torch.manual_seed(0)
    model = lipzoo.create_model("gat_lip_2", in_feats=4, num_classes=len(names)).eval()
    content = {
        "name": "gat_lip_2",
        "tag": "x",
        "architecture": {"model": "DeepGAT", "args": {"in_feats": 4, "num_classes": len(names)}},
        "dataset": {"name": "x", "fingerprint": "", "class_names": list(names)},
        "weights": {"metrics": {"test_accuracy": 0.5}},
    }
    model.card = Card.from_dict(content, where="here")
    return model


def test_an_unlabelled_graph_may_name_its_classes_in_another_order():
    model = named_model(("a", "b", "c"))
    bare = graph(label=False)
    named = GraphTask.from_graph(bare, class_names=("c", "b", "a"))
    assert predict(model, named).equal(predict(model, GraphTask.from_graph(bare)))
    with pytest.raises(DataError, match="know no class 'd'"):
        predict(model, GraphTask.from_graph(bare, class_names=("d", "b", "a")))


def test_labels_are_counted_as_the_weights_count_them():
    task = GraphTask.from_graph(graph(), class_names=("a", "b", "c"))
    turned = task.graph.local_var()
    turned.ndata["label"] = 2 - task.labels
    turned = GraphTask.from_graph(turned, class_names=("c", "b", "a"))
    model = named_model(("a", "b", "c"))
    assert evaluate(model, turned) == evaluate(model, task)
    assert turned.with_classes(("a", "b", "c")).labels.equal(task.labels)


def test_so_are_several_labels_a_node():
    several = graph()
    several.ndata["label"] = torch.nn.functional.one_hot(several.ndata["label"], 3).float()
    several.ndata["label"][0] = -1
    task = GraphTask.from_graph(several, class_names=("a", "b", "c"))
    found = task.with_classes(("c", "x", "b", "a"))
    assert found.num_classes == 4
    assert found.labels[0].tolist() == [-1] * 4
    assert found.labels[1:].equal(
        torch.stack(
            [task.labels[1:, 2], torch.zeros(11), task.labels[1:, 1], task.labels[1:, 0]], 1
        )
    )


def test_a_class_that_the_model_has_not():
    task = GraphTask.from_graph(graph())
    model = lipzoo.create_model("gat_lip_2", in_feats=4, num_classes=2)
    with pytest.raises(DataError, match="has 3 classes, and the model tells 2 apart"):
        evaluate(model, task)


def numbered(labels, **facts):
    """`graph` with these labels, again and again."""
    made = graph()
    made.ndata["label"] = torch.tensor(labels * 12)[:12]
    return GraphTask.from_graph(made, **facts)


def test_words_that_look_like_numbers_find_their_classes():
    # Where "3+" is not among them, the words of a table are numbers.
    model = named_model(("1", "2", "3+"))
    words = numbered([0, 1, -1], num_classes=3, class_names=("1", "2", "3+"))
    for mask in ("train_mask", "val_mask", "test_mask"):
        words.graph.ndata[mask] = words.labels >= 0
    numbers = words.with_ndata(label=torch.where(words.labels < 0, -1, words.labels + 1))
    numbers = GraphTask.from_graph(numbers.graph)
    assert numbers.class_names == ()
    assert evaluate(model, numbers) == evaluate(model, words)
    assert numbers.with_classes(("1", "2", "3+")).labels.equal(words.labels)


def test_numbers_that_are_no_names_are_refused_where_they_count():
    model, task = named_model(("bot", "human", "shop")), numbered([0, 1, 2])
    words = "are the numbers 0, 1, 2, and the weights call theirs bot, human, shop: .*class_names"
    with pytest.raises(DataError, match=words):
        evaluate(model, task)
    assert predict(model, task).shape == (12, 3), "which needs no labels"
    named = GraphTask.from_graph(task.graph, class_names=("bot", "human", "shop"))
    assert evaluate(model, named)


def test_words_are_refused_by_weights_of_numbers():
    model = named_model(("0", "1", "2"))
    model.card = model.card.model_copy(
        update={"dataset": model.card.dataset.model_copy(update={"class_names": None})}
    )
    words = "are called one, two, zero, and those of the weights are numbers from 0 on"
    task = numbered([0, 1, 2], class_names=("2", "0", "1"))
    counted = GraphTask.from_graph(task.with_ndata(label=(task.labels + 2) % 3).graph)
    assert evaluate(model, task) == evaluate(model, counted)
    task = GraphTask.from_graph(task.graph, class_names=("one", "two", "zero"))
    with pytest.raises(DataError, match=words):
        evaluate(model, task)
    assert predict(model, task).shape == (12, 3)


def test_columns_of_several_labels_stay_where_one_side_has_no_names():
    several = graph()
    several.ndata["label"] = torch.nn.functional.one_hot(several.ndata["label"], 3).float()
    task = GraphTask.from_graph(several)
    assert task.with_classes(("a", "b", "c")) is task


def columns_of(names):
    """A task from a table whose columns of features are these, in this order."""
    random = np.random.default_rng(0)
    values = {name: random.normal(size=12) for name in ("age", "posts", "words")}
    kinds = ["ham" if value > 0 else "spam" for value in values["age"]]
    nodes = {name: values[name] for name in names} | {"label": kinds}
    return GraphTask.from_edges(np.stack([np.arange(12), np.roll(np.arange(12), 1)]), nodes)


def test_columns_by_name(recwarn):
    """Weights know what they read: columns that have changed places are no others."""
    task = columns_of(("age", "posts"))
    assert task.feature_names == ("age", "posts")
    assert scale_features(task, "standard").feature_names == task.feature_names
    assert task.with_ndata(feat=task.feat.flip(1)).feature_names == ()
    model = lipzoo.finetune("gat_lip_2.cora", task, epochs=1, verbose=False).model
    assert model.card.dataset.feature_names == ["age", "posts"]
    recwarn.clear()
    predict(model, task)
    predict(model, graph_of(task))  # which names nothing
    assert not recwarn
    swapped = columns_of(("posts", "age"))
    for use in (predict, evaluate, certify):
        with pytest.raises(DataError, match=r"changed places: .*features=\[age, posts\]"):
            use(model, swapped)
    with pytest.raises(DataError, match="changed places"):
        encode_for(model, swapped, anew=True)
    others = columns_of(("words", "posts"))
    with pytest.warns(UserWarning, match="the weights read age, posts, and here is words, posts"):
        predict(model, others)
    recwarn.clear()
    encode_for(model, others, anew=True)  # which the weights are to learn
    assert not recwarn


def graph_of(task):
    """The same features as of a graph that has no names for them."""
    made = GraphTask.from_graph(task.graph, class_names=task.class_names)
    assert made.feature_names == ()
    return made


@pytest.mark.parametrize("names", [["feat"], ["x"], ["age", "age"]])
def test_columns_that_no_name_tells_apart(names):
    ring = np.stack([np.arange(12), np.roll(np.arange(12), 1)])
    nodes = {name: np.arange(12.0) for name in names}
    assert GraphTask.from_edges(ring, nodes, features=names).feature_names == ()


def test_columns_that_are_called_by_numbers():
    pandas = pytest.importorskip("pandas")
    ring = np.stack([np.arange(12), np.roll(np.arange(12), 1)])
    nodes = pandas.DataFrame(np.random.default_rng(0).normal(size=(12, 3)))
    assert GraphTask.from_edges(ring, nodes).feature_names == ("0", "1", "2")


def test_files_keep_the_names(tmp_path):
    """Also of columns: else weights would read swapped ones of a file without a word."""
    task = columns_of(("age", "posts"))
    model = lipzoo.finetune("gat_lip_2.cora", task, epochs=1, verbose=False).model
    swapped = save_npz(columns_of(("posts", "age")), tmp_path / "swapped.npz")
    with pytest.raises(DataError, match="changed places: the weights read age, posts"):
        predict(model, swapped)
    kept = load_dataset(save_npz(task, tmp_path / "kept.npz"))
    names = [(t.class_names, t.feature_names, t.node_ids) for t in (kept, task)]
    assert names[0] == names[1]
    assert torch.equal(predict(model, kept), predict(model, task))


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([["a", "b"]], "feature_names must be a list of words"),
        ([1, 2], "feature_names must be a list of words"),
        (["a", "a"], "feature_names holds a name twice"),
        (["a", "b", "c"], "are 3, and there are 2 columns"),
    ],
)
@pytest.mark.parametrize("form", ["npz", "folder"])
def test_names_of_columns_that_do_not_fit_a_file(names, words, form, tmp_path):
    arrays = {"src": np.arange(3), "dst": np.arange(3), "feat": np.eye(3, 2), "label": np.arange(3)}
    arrays["feature_names"] = np.array(names)
    path = tmp_path / "mine.npz" if form == "npz" else tmp_path
    if form == "npz":
        np.savez(path, **arrays)
    else:
        for name, array in arrays.items():
            np.save(path / f"{name}.npy", array)
    with pytest.raises(DataError, match=words):
        load_dataset(path, split="random", train_per_class=1, num_val=0, num_test=0)


def test_parts_keep_the_names_of_columns(tmp_path):
    path = save_npz(columns_of(("age", "posts")), tmp_path / "mine.npz")
    write_parts(load_dataset(path), {"name": str(path)}, 2, tmp_path / "parts")
    (tmp_path / "r.yaml").write_text(f"architecture: gat_lip_2\ndataset: {{name: {path}}}\n")
    task = Parts(tmp_path / "parts", 0, 2)(load_recipe(tmp_path / "r.yaml"), None, 0)
    assert task.feature_names == ("age", "posts")


@pytest.mark.parametrize("name", ["x", "X", "Feature", "y2"])
def test_one_column_among_several_may_be_called_anything(name):
    nodes = {key: np.random.default_rng(0).normal(size=12) for key in (name, "z")}
    ring = np.stack([np.arange(12), np.roll(np.arange(12), 1)])
    assert GraphTask.from_edges(ring, nodes).feature_names == (name, "z")


def test_decimal_commas(recwarn):
    ring = np.stack([np.arange(3), np.roll(np.arange(3), 1)])
    words = "column 'a' is read as lists of two numbers: '1,5'; write a decimal comma as a point"
    with pytest.warns(UserWarning, match=words):
        found = GraphTask.from_edges(ring, {"a": ["1,5", None, "2,25"], "b": [1, 2, 3]})
    assert found.feat[0].tolist() == [1, 5, 1]
    recwarn.clear()
    for name, cells in (("feat", ["1,5"] * 3), ("a", ["1, 5"] * 3), ("a", ["[1,5]"] * 3)):
        assert GraphTask.from_edges(ring, {name: cells}).feat.tolist() == [[1, 5]] * 3
    GraphTask.from_edges(ring, {"a": ["1,5", "2,2.5", "1,1"]})
    assert not recwarn
