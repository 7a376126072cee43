import numpy as np
import pytest
import torch

import lipzoo
from lab.prior import Prior, draw_task
from lab.prior.blocks import block_pairs
from lab.prior.edges import attachment_pairs, heavy_tailed_pairs, tree_pairs, uniform_pairs
from lab.prior.labels import draw_mines, renumbered
from lab.prior.places import grid_places, near_places, street_places
from lab.prior.topology import Topology
from lipzoo._schema import validate
from lipzoo.errors import ConfigError

NUMBER = 200


@pytest.fixture(scope="module")
def tasks():
    return [draw_task(seed) for seed in range(NUMBER)]


def same_bits(one, other):
    columns = one.graph.ndata.keys()
    return (
        one.name == other.name
        and columns == other.graph.ndata.keys()
        and all(torch.equal(*ends) for ends in zip(one.graph.edges(), other.graph.edges()))
        and all(torch.equal(one.graph.ndata[key], other.graph.ndata[key]) for key in columns)
    )


def codes(task):
    src, dst = (ends.numpy() for ends in task.graph.edges())
    return src * task.num_nodes + dst, dst * task.num_nodes + src


def homophily(task):
    src, dst = task.graph.edges()
    return float((task.labels[src] == task.labels[dst]).float().mean())


def majority(task):
    return float(task.labels.bincount().max()) / task.num_nodes


def test_a_seed_gives_the_same_bits_and_another_seed_another_task(tasks):
    for seed in (0, 1, 17):
        assert same_bits(draw_task(seed), tasks[seed])
    assert len({(task.num_edges, task.in_feats, task.labels.sum().item()) for task in tasks}) > 190
    assert not same_bits(draw_task(0, Prior(nodes=(100, 600))), tasks[0])


def test_edges_go_both_ways_without_loops_and_once(tasks):
    for task in tasks:
        there, back = codes(task)
        assert len(np.unique(there)) == len(there)
        assert np.array_equal(np.sort(there), np.sort(back))
        assert not np.any(there == back)
        assert task.num_edges > 0


def test_tasks_are_whole(tasks):
    for task in tasks:
        task.validate(require_labels=False)
        data = task.graph.ndata
        assert data["feat"].dtype == torch.float32
        assert torch.isfinite(data["feat"]).all()
        assert data["label"].dtype == torch.int64
        assert 2 <= task.num_classes <= 20
        assert set(task.labels.tolist()) == set(range(task.num_classes))
        assert set(task.labels[task.train_mask].tolist()) == set(range(task.num_classes))
        assert torch.equal(task.test_mask, ~task.train_mask)
        assert not task.val_mask.any()
        assert task.train_mask.sum() >= 6
        assert task.test_mask.sum() >= 10


def test_tasks_are_as_varied_as_graphs_are(tasks):
    found = [homophily(task) for task in tasks]
    assert min(found) < 0.2
    assert max(found) > 0.8
    shares = [majority(task) for task in tasks]
    assert min(shares) < 0.2
    assert max(shares) > 0.9
    columns = [task.in_feats for task in tasks]
    assert min(columns) == 1
    assert max(columns) > 100
    degrees = [task.num_edges / task.num_nodes for task in tasks]
    assert min(degrees) < 2.5
    assert max(degrees) > 20
    given = [task.train_mask.float().mean().item() for task in tasks]
    assert min(given) < 0.05
    assert max(given) > 0.5
    assert max(task.num_nodes for task in tasks) >= 1500
    assert sum(150 <= task.num_nodes <= 600 for task in tasks) > 0.9 * NUMBER
    assert max(task.num_classes for task in tasks) > 10
    assert sum(task.num_classes == 2 for task in tasks) > 0.1 * NUMBER


def test_some_graphs_are_grids(tasks):
    assert any(is_grid(task) for task in tasks)
    without_mines = Prior(board_share=0.0, block_share=0.0)
    assert 2 < sum(is_grid(draw_task(seed, without_mines)) for seed in range(80)) < 40


def is_grid(task):
    """Whether the edges are those of a board, row by row, for some number of columns."""
    src, dst = (ends.numpy() for ends in task.graph.edges())
    steps = np.unique(np.abs(src - dst)).tolist()
    most = steps[-1]
    inside = task.graph.in_degrees().median()  # a street grid has the same steps, and 2 or 3
    return (inside, steps) in ((4, [1, most]), (8, [1, most - 2, most - 1, most]))


def test_the_closed_form_takes_them_without_a_warning(tasks, recwarn):
    for task in tasks[:12]:
        recwarn.clear()
        predicted = lipzoo.context.ClosedFormStack(num_random=32).fit(task).predict()
        assert len(predicted) == task.num_nodes
        assert not recwarn.list, recwarn.list[0]


def test_labels_can_be_learnt_from_the_context(tasks):
    gains = []
    for task in tasks[12:36]:
        predicted = lipzoo.context.ClosedFormStack(num_random=32).fit(task).predict()
        asked = task.test_mask
        right = (predicted == task.labels)[asked].float().mean().item()
        gains.append(right - float(task.labels[asked].bincount().max()) / int(asked.sum()))
    assert np.mean(gains) > 0.04


def test_classes_are_numbered_in_random_order():
    labels = np.array([5, 5, 2, 9, 9, 5])
    found = {tuple(renumbered(np.random.default_rng(seed), labels)) for seed in range(60)}
    assert len(found) == 6
    for numbers in found:
        assert set(zip(labels, numbers)) == set(zip([5, 2, 9], numbers[1:4]))
        assert set(numbers) == {0, 1, 2}


def test_switches_are_heard():
    small = Prior(nodes=[60, 60], large_share=0.0)
    assert {draw_task(seed, small).num_nodes for seed in range(20)} == {60}
    constant = Prior(board_share=0.0, constant_share=1.0)
    assert {draw_task(seed, constant).in_feats for seed in range(20)} == {1}
    boards = Prior(board_share=1.0, noise_share=0.0)
    assert {(t.num_classes, t.in_feats) for t in (draw_task(s, boards) for s in range(9))} == {
        (2, 10)
    }
    few = Prior(per_class_share=1.0, shots=(3, 3))
    for seed in range(20):
        task = draw_task(seed, few)
        given = task.labels[task.train_mask].bincount()
        assert given.max() <= 3 or given.sum() == 6
    share = Prior(per_class_share=0.0, context_share=(0.3, 0.3))
    for seed in range(20):
        assert 0.2 < draw_task(seed, share).train_mask.float().mean() < 0.42


def test_a_clumped_context_sits_together():
    def given_neighbours(clump_share):
        prior = Prior(
            per_class_share=0.0, context_share=(0.2, 0.2), clump_share=clump_share, block_share=0.0
        )
        shares = []
        for task in (draw_task(seed, prior) for seed in range(30)):
            src, dst = task.graph.edges()
            shares.append(task.train_mask[src][task.train_mask[dst]].float().mean())
        return np.mean(shares)

    assert given_neighbours(1.0) > given_neighbours(0.0) + 0.2


@pytest.mark.parametrize("model", [uniform_pairs, attachment_pairs, heavy_tailed_pairs])
@pytest.mark.parametrize("degree", [3.0, 12.0])
def test_mean_degrees_are_about_those_asked_for(model, degree):
    rng = np.random.default_rng(0)
    topologies = [Topology.of(model(rng, 500, degree), 500) for _ in range(20)]
    assert 0.6 * degree < np.mean([t.degree.mean() for t in topologies]) < 1.4 * degree


def test_old_nodes_of_preferential_attachment_are_hubs():
    rng = np.random.default_rng(0)
    attached = Topology.of(attachment_pairs(rng, 2000, 4.0), 2000).degree
    uniform = Topology.of(uniform_pairs(rng, 2000, 4.0), 2000).degree
    assert attached.max() > 3 * uniform.max()
    assert attached[:20].mean() > 5 * attached[-1000:].mean()


@pytest.mark.parametrize(
    "draw",
    [
        lambda rng, n: tree_pairs(rng, n),
        lambda rng, n: street_places(rng, n)[0],
        lambda rng, n: grid_places(rng, n)[0],
        lambda rng, n: attachment_pairs(rng, n, 5.0),
    ],
)
def test_these_graphs_hang_together(draw):
    for seed in range(10):
        topology = Topology.of(draw(np.random.default_rng(seed), 300), 300)
        assert (topology.nearest(np.array([0]))[1] == 0).all()


def test_trees_and_streets_have_few_edges_and_long_ways():
    rng = np.random.default_rng(0)
    assert len(Topology.of(tree_pairs(rng, 400), 400).pairs) == 2 * 399
    for _ in range(10):
        streets = Topology.of(street_places(rng, 900)[0], 900)
        assert 1.9 < streets.degree.mean() < 3.1
        assert streets.steps(np.array([0])).max() > 20


def test_edges_that_come_twice_are_one():
    pairs = np.array([[0, 1], [1, 0], [0, 1], [2, 2], [1, 2]])
    dense = Topology.of(pairs, 3).adjacency.toarray()
    assert dense.tolist() == [[0, 1, 0], [1, 0, 1], [0, 1, 0]]


def test_a_board_joins_fields_side_by_side():
    numbers = set()
    for seed in range(10):
        pairs, position = grid_places(np.random.default_rng(seed), 230)
        away = np.abs(position[pairs[:, 0]] - position[pairs[:, 1]])
        assert away.max() == 1
        numbers.add(Topology.of(pairs, 230).degree.max())
    assert numbers == {4, 8}


def test_near_places_join_near_nodes():
    rng = np.random.default_rng(0)
    pairs, position = near_places(rng, 400, 8.0)
    length = np.linalg.norm(position[pairs[:, 0]] - position[pairs[:, 1]], axis=1)
    anywhere = np.linalg.norm(position - position[rng.permutation(400)], axis=1)
    assert length.max() < anywhere.mean()


def test_blocks_have_any_compatibility():
    rng = np.random.default_rng(0)
    community = rng.integers(0, 4, 400)
    inside = []
    for _ in range(60):
        pairs = block_pairs(rng, community, 10.0)
        assert len(np.unique(pairs)) > 200
        inside.append((community[pairs[:, 0]] == community[pairs[:, 1]]).mean())
    assert min(inside) < 0.15
    assert max(inside) > 0.85
    assert np.isfinite(block_pairs(rng, np.full(50, 7), 3.0)).all()


def test_copies_have_the_same_neighbours():
    rng = np.random.default_rng(0)
    topology = Topology.of(uniform_pairs(rng, 50, 4.0), 50)
    source = np.arange(50)
    source[[3, 9]] = 20
    copied = topology.copied(source).adjacency.toarray()
    assert copied[3].any()
    assert np.array_equal(copied[3], copied[20])
    assert np.array_equal(copied[9], copied[20])
    assert np.array_equal(copied, copied.T)
    assert not copied.diagonal().any()


def test_open_fields_of_a_board_tell_the_mines_around():
    rng = np.random.default_rng(0)
    topology = Topology.of(grid_places(rng, 200)[0], 200)
    is_mine, seen = draw_mines(rng, topology)
    around = topology.adjacency.toarray() @ is_mine
    is_open = seen[:, 9] == 0
    assert 0.1 < is_open.mean() < 0.9
    assert np.array_equal(seen[is_open].argmax(1), around[is_open])
    assert not seen[~is_open, :9].any()


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ({"nodes": [0, 5]}, "nodes"),
        ({"nodes": [600, 150]}, "lower bound is above"),
        ({"nodes": [150.5, 600]}, "nodes"),
        ({"nodes": [150]}, "nodes"),
        ({"large_share": 1.5}, "large_share"),
        ({"clump_share": -0.1}, "clump_share"),
        ({"context_share": [0.1, 0.95]}, "context_share"),
        ({"shots": [0, 3]}, "shots"),
        ({"max_classes": 1}, "max_classes"),
        ({"many_classes": [10, 40]}, "many_classes"),
        ({"degree": [2.0, float("nan")]}, "degree"),
        ({"node": [150, 600]}, "did you mean 'nodes'"),
    ],
)
def test_nonsense_is_refused(content, fault):
    with pytest.raises(ConfigError, match=fault):
        validate(Prior, content, "test")


def test_settings_come_back_from_plain_values():
    prior = Prior(nodes=(60, 80), clump_share=0.5)
    content = prior.model_dump(mode="json")
    assert content["nodes"] == [60, 80]
    assert validate(Prior, content, "test") == prior
