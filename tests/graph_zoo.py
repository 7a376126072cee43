"""Tiny graphs of every kind that attention has to cope with."""

import torch

from lipzoo._dgl import dgl


def homogeneous():
    """10 nodes, random undirected edges, self-loops."""
    generator = torch.Generator().manual_seed(0)
    src, dst = torch.randint(10, (2, 18), generator=generator)
    return dgl.add_self_loop(dgl.remove_self_loop(dgl.to_bidirected(dgl.graph((src, dst)))))


def directed():
    """0 and 1 reach 3, 3 reaches 2, 2 reaches 0 and 1, and 0 reaches itself."""
    return dgl.graph(([0, 1, 3, 2, 2, 0], [3, 3, 2, 0, 1, 0]))


def multigraph():
    """The edge 0→1 three times, 1→0 twice, two self-loops on 0."""
    return dgl.graph(([0, 1, 0, 2, 0, 1, 0, 0], [1, 0, 1, 1, 1, 0, 0, 0]))


def isolated():
    """Nodes 3, 4, 5 have no edge at all; nothing reaches 0."""
    return dgl.graph(([0, 1, 2, 0], [1, 2, 1, 2]), num_nodes=6)


def one_node():
    return dgl.graph(([], []), num_nodes=1)


def one_node_with_loop():
    return dgl.graph(([0], [0]))


def no_edges():
    return dgl.graph(([], []), num_nodes=4)


def block():
    """What a sampler gives: 3 destination nodes, first among more source nodes."""
    return dgl.to_block(dgl.in_subgraph(homogeneous(), [7, 2, 5]), torch.tensor([7, 2, 5]))


def bipartite():
    """4 users, 3 items; nothing reaches item 2."""
    edges = {("user", "rates", "item"): ([0, 1, 2, 3, 0], [0, 0, 1, 1, 1])}
    return dgl.heterograph(edges, num_nodes_dict={"user": 4, "item": 3})


def int32():
    return homogeneous().int()


def star():
    """20 leaves reach the hub 0, and the hub reaches them."""
    leaves = torch.arange(1, 21)
    hub = torch.zeros(20, dtype=torch.long)
    return dgl.graph((torch.cat([leaves, hub]), torch.cat([hub, leaves])))


GRAPHS = {
    "homogeneous": homogeneous,
    "directed": directed,
    "multigraph": multigraph,
    "isolated": isolated,
    "zero_rows": homogeneous,
    "zero_neighbourhood": directed,
    "one_node": one_node,
    "one_node_with_loop": one_node_with_loop,
    "no_edges": no_edges,
    "block": block,
    "bipartite": bipartite,
    "int32": int32,
    "star": star,
}

#: Nodes whose features are zero. In ``directed``, 0 and 1 are all that node 3 hears.
ZERO_NODES = {"zero_rows": [1, 4, 6], "zero_neighbourhood": [0, 1, 3]}


def has_lonely_nodes(graph):
    return bool((graph.in_degrees() == 0).any())


def is_pair(graph):
    """Whether source and destination nodes are different nodes."""
    return not graph.is_block and len(graph.ntypes) == 2
