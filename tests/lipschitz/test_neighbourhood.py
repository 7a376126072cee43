"""Bounds over all attention matrices, against matrices drawn at random and worst ones."""

import math

import pytest
import torch
from graph_zoo import GRAPHS, directed, homogeneous, star

from lipzoo.attention import Structure, as_structure
from lipzoo.lipschitz.neighbourhood import complete_neighbourhood, neighbourhood_of

NAMES = ["homogeneous", "directed", "multigraph", "isolated", "star", "block"]
SPREADS = [0.0, 0.3, 2.0, 40.0]


def attention_matrix(structure, spread, generator, extreme):
    """Dense softmax (N_dst, N_src) of random scores in an interval, several edges summed."""
    score = torch.rand(structure.num_edges, generator=generator, dtype=torch.float64) * spread
    if extreme:
        score = (score > spread / 2).double() * spread
    matrix = torch.zeros(structure.num_dst, structure.num_src, dtype=torch.float64)
    squares = torch.zeros_like(matrix)
    for i in range(structure.num_dst):
        edges = (structure.dst == i).nonzero().squeeze(1)
        for edge, weight in zip(edges, score[edges].softmax(0)):
            matrix[i, structure.src[edge]] += weight
            squares[i, structure.src[edge]] += weight * (1 - weight)
    return matrix, squares


@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize(
    "name", ["homogeneous", "directed", "multigraph", "isolated", "star", "block"]
)
def test_no_attention_matrix_is_above_the_bounds(name, spread):
    structure = as_structure(GRAPHS[name]())
    around = neighbourhood_of(structure, spread)
    generator = torch.Generator().manual_seed(0)
    several = (structure.in_degrees > 1).unsqueeze(1)
    for draw in range(20):
        matrix, squares = attention_matrix(structure, spread, generator, extreme=draw % 2)
        assert torch.linalg.matrix_norm(matrix, 2) <= around.average * (1 + 1e-9)
        assert torch.linalg.matrix_norm(squares, 2) <= around.contrast * (1 + 1e-9) + 1e-12
        column = (matrix * several).sum(0).max().sqrt().item()
        assert column <= around.column * (1 + 1e-9)
        others = [attention_matrix(structure, spread, generator, True)[0] for _ in range(3)]
        overlap = torch.stack([matrix, *others]).amax(0).sum(1).max().item()
        assert overlap <= around.overlap * (1 + 1e-9)


def test_without_spread_the_bounds_are_exact():
    structure = as_structure(homogeneous())
    around = neighbourhood_of(structure, 0.0)
    matrix, _ = attention_matrix(structure, 0.0, torch.Generator(), extreme=False)
    assert around.average == pytest.approx(torch.linalg.matrix_norm(matrix, 2).item(), rel=1e-3)
    assert around.column == pytest.approx(matrix.sum(0).max().sqrt().item())
    assert around.overlap == pytest.approx(1)


def test_degrees_and_reach():
    around = neighbourhood_of(as_structure(star(), add_self_loops=True), 0.3)
    assert around.selection == pytest.approx(math.sqrt(21))
    assert (around.min_degree, around.max_degree, around.num_edges) == (2, 21, 61)
    # Nodes with one in-edge have nothing to choose: only node 3 counts, and 0 and 1 reach it.
    assert neighbourhood_of(as_structure(directed()), 0.3).selection == pytest.approx(math.sqrt(2))


def test_graphs_without_a_choice():
    for structure in (
        as_structure(GRAPHS["no_edges"]()),
        as_structure(GRAPHS["one_node_with_loop"]()),
    ):
        around = neighbourhood_of(structure, 0.3)
        assert not around.has_choice
        assert around.contrast == around.column == around.selection == 0
    assert around.average == pytest.approx(1)


@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("tokens", [1, 2, 5])
def test_tokens_that_all_see_each_other_are_a_complete_graph(tokens, spread):
    src, dst = torch.cartesian_prod(torch.arange(tokens), torch.arange(tokens)).T
    wanted = neighbourhood_of(Structure(src, dst, tokens, tokens), spread)
    got = complete_neighbourhood(tokens, spread)
    for name in ("column", "selection", "overlap", "has_choice", "max_degree", "num_edges"):
        assert getattr(got, name) == pytest.approx(getattr(wanted, name)), name
    assert got.average == pytest.approx(wanted.average, rel=1e-6)
    assert got.contrast >= wanted.contrast * (1 - 1e-9)
