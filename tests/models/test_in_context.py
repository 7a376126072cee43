"""The network in context: what it computes, and that no weight belongs to a class or a node."""

import pytest
import torch
import torch.nn.functional as F

from lipzoo.attention import Structure
from lipzoo.errors import ConfigError, DataError
from lipzoo.models import InContextGATv2
from lipzoo.registry import create_model

K = 7


def make_model(**changes):
    torch.manual_seed(0)
    options = {"num_layers": 2, "hidden_feats": 8, "num_heads": 2, "score_norm": "lipschitz"}
    model = InContextGATv2(K, **{**options, **changes}).double()
    for parameter in model.parameters():  # the head begins as 0
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def make_graph(n=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    src, dst = torch.randint(n, (2, 40), generator=generator)
    pairs = sorted({(int(a), int(b)) for a, b in zip(src, dst) if a != b})
    src, dst = torch.tensor(pairs).T
    return Structure(src, dst, n, n)


def make_rows(n=12, *shape, seed=1):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(n, *shape, K, generator=generator, dtype=torch.float64)
    rows[..., 0] = (torch.arange(n) % 3 == 0).double().reshape(-1, *[1] * len(shape))
    own = torch.randint(shape[-1], (n, *shape[:-1]), generator=generator)
    rows[..., 1] = F.one_hot(own, shape[-1]) * rows[..., 0]
    return rows


def by_hand(model, graph, rows):
    """Class by class and node by node, with a layer's own conv on one copy of the graph."""
    n, classes = rows.shape[:2]
    loops = torch.arange(n)
    looped = Structure(torch.cat([graph.src, loops]), torch.cat([graph.dst, loops]), n, n)
    hidden = [model.input(rows[:, c]) for c in range(classes)]
    for layer in model.layers:
        for c in range(classes):
            read = layer.norm_local(hidden[c])
            if model.layers[0].conv.__class__ is torch.nn.Linear:
                said = layer.conv(read)
            else:
                said = layer.conv(looped, read).flatten(1)
            hidden[c] = hidden[c] + layer.out(said)
        read = [layer.norm(each) for each in hidden]
        of_node = layer.of_node(sum(read) / classes)
        for c in range(classes):
            known, own = rows[:, c, 0] > 0, rows[:, c, 1] > 0
            pools = [known & own, known & ~own, torch.ones(n, dtype=bool)]
            empty = torch.zeros(8, dtype=torch.float64)
            means = [read[c][pool].mean(0) if pool.any() else empty for pool in pools]
            z = read[c] + layer.of_class(torch.cat(means)) + of_node
            hidden[c] = hidden[c] + layer.narrow(F.gelu(layer.wide(z)))
    logits = [rows[:, c, 2] + 2 * model.head(model.norm(hidden[c]))[:, 0] for c in range(classes)]
    return torch.stack(logits, 1)


@pytest.mark.parametrize("attention", [True, False])
def test_it_is_what_is_written(attention):
    model, graph, rows = make_model(attention=attention), make_graph(), make_rows(12, 3)
    torch.testing.assert_close(model(graph, rows), by_hand(model, graph, rows))


def test_gradients_are_those_of_differences():
    model, graph, rows = make_model(), make_graph(), make_rows(12, 3)
    said, rest = rows[..., :2], rows[..., 2:].clone().requires_grad_()  # what is 0 or 1 stays so
    assert torch.autograd.gradcheck(
        lambda feat: model(graph, torch.cat([said, feat], -1)), (rest,), fast_mode=True
    )


def test_it_begins_as_what_it_is_given():
    model = create_model("gat_lip_context_6", in_feats=K, num_classes=0)
    rows = make_rows(12, 3).float()
    assert torch.equal(model(make_graph(), rows), rows[..., 2])


def test_classes_may_be_named_otherwise():
    model, graph, rows = make_model(), make_graph(), make_rows(12, 4)
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(model(graph, rows[:, order]), model(graph, rows)[:, order])


def test_nodes_may_be_named_otherwise():
    model, graph, rows = make_model(), make_graph(), make_rows(12, 3)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(2))
    place = order.argsort()
    moved = Structure(place[graph.src], place[graph.dst], 12, 12)
    torch.testing.assert_close(model(moved, rows[order]), model(graph, rows)[order])


def test_graphs_at_once_are_graphs_one_by_one():
    model = make_model()
    graphs = [
        (make_graph(), make_rows(12, 3)),
        (make_graph(9, 3), make_rows(9, 5)),
        (make_graph(), make_rows(12, 4, 2)),
    ]
    together = model.forward_together(graphs)
    assert [tuple(logits.shape) for logits in together] == [(12, 3), (9, 5), (12, 4)]
    for (graph, rows), logits in zip(graphs, together):
        torch.testing.assert_close(logits, model(graph, rows))


def test_each_of_several_labels_is_a_question_of_its_own():
    model, graph, rows = make_model(), make_graph(), make_rows(12, 4, 2)
    found = model(graph, rows)
    for question in range(4):
        logits = model(graph, rows[:, question])
        torch.testing.assert_close(found[:, question], logits[:, 1] - logits[:, 0])


def test_attention_is_what_reads_the_edges():
    rows = make_rows(12, 3)
    graphs = make_graph(), make_graph(seed=5)
    without, with_it = make_model(attention=False), make_model()
    assert torch.equal(without(graphs[0], rows), without(graphs[1], rows))
    assert not torch.allclose(with_it(graphs[0], rows), with_it(graphs[1], rows))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_classes": 3}, "any number of classes"),
        ({"num_layers": 0}, "num_layers must be at least 1"),
        ({"hidden_feats": 9}, "multiple of num_heads"),
        ({"score_norm": "lipshitz"}, "lipschitz"),
    ],
)
def test_arguments_that_are_refused(changes, words):
    with pytest.raises(ConfigError, match=words):
        make_model(**changes)


@pytest.mark.parametrize("shape", [(12, K), (11, 3, K), (12, 3, K + 1), (12, 2, 3, K)])
def test_rows_that_do_not_fit_are_refused(shape):
    with pytest.raises(DataError, match=r"rows are .*; this model needs"):
        make_model()(make_graph(), torch.zeros(shape, dtype=torch.float64))


def test_its_parameters_are_each_in_one_group():
    model = make_model()
    groups = model.layer_groups()
    assert list(groups) == ["input", "layer_1", "layer_2", "head"]
    found = [id(p) for group in groups.values() for p in group]
    assert sorted(found) == sorted(id(p) for p in model.parameters())


@pytest.mark.parametrize("depth", [6, 8, 12])
def test_the_zoo_has_it_in_three_depths(depth):
    model = create_model(f"gat_lip_context_{depth}", in_feats=K, num_classes=0)
    assert len(model.layers) == depth
    assert all(layer.conv.score_norm is not None for layer in model.layers)
    graph, rows = make_graph(), make_rows(12, 3).float()
    logits = model(graph, rows)
    assert logits.shape == (12, 3)
    assert torch.equal(model(graph, rows), logits)


@pytest.mark.parametrize("backend", ["dgl", "torch", "fused"])
def test_backends_agree(backend):
    graph, rows = make_graph(), make_rows(12, 3)
    state = make_model().state_dict()
    found = []
    for name in ("torch", backend):
        model = make_model(backend=name)
        model.load_state_dict(state)
        found.append(model(graph, rows))
    torch.testing.assert_close(*found)
