"""What the processes of tests/training/test_ranks.py run: gradients against those of one process.

Prints a line a case that differs, in the first process.
"""

import itertools
import sys

import pytest
import torch
from graph_zoo import directed, homogeneous, int32, isolated, multigraph, no_edges, star

from lipzoo.datasets import GraphTask
from lipzoo.errors import ConfigError, DataError
from lipzoo.models import DeepGAT, DeepGATv2, DeepGraphTransformer
from lipzoo.nn.feature_norms import FEATURE_NORMS
from lipzoo.nn.residual import RESIDUAL_SCHEMES
from lipzoo.settings import Consistency, FitSettings
from lipzoo.training.metrics import infer
from lipzoo.training.ranks import joined
from lipzoo.training.step import train_step

SIZES = {"in_feats": 5, "num_classes": 3, "hidden_feats": 8, "num_heads": 2}
NORMS = {DeepGAT: "lipschitz", DeepGATv2: "lipschitz", DeepGraphTransformer: "dot_lipschitz"}
DROPS = dict.fromkeys(("input_drop", "feat_drop", "head_drop", "attn_drop"), 0.0)
PLAIN = FitSettings(grad_clip=0.5)
CONSISTENT = FitSettings(consistency=Consistency(warmup=1), grad_clip=0.5)


def cases():
    for kind, scheme in itertools.product(NORMS, RESIDUAL_SCHEMES):
        yield kind, {"residual": scheme}, PLAIN
    for norm, degree_norm in itertools.product(FEATURE_NORMS, ("none", "symmetric")):
        yield DeepGAT, {"feature_norm": norm, "degree_norm": degree_norm}, PLAIN
    for kind in NORMS:
        yield kind, {"num_layers": 16, "residual": "initial", "degree_norm": "symmetric"}, PLAIN
        yield kind, {"sep": True, "feature_norm": "batchnorm"}, CONSISTENT
        yield kind, {"checkpoint_layers": True, "feature_norm": "batchnorm"}, PLAIN
        yield kind, {"backend": "fused"}, PLAIN
        yield kind, {"edge_feats": 2, "sep": kind is DeepGAT}, PLAIN
    yield DeepGAT, {"residual": "reversible", "feature_norm": "batchnorm", "num_layers": 16}, PLAIN
    yield DeepGraphTransformer, {"score_norm": {"name": "dot_lipschitz", "scope": "graph"}}, PLAIN


#: Those whose layers, norms or losses depend on what a process has not.
ODD = (
    (DeepGAT, {"residual": "dense", "degree_norm": "symmetric"}, PLAIN),
    (DeepGATv2, {"feature_norm": "neighbornorm"}, CONSISTENT),
    (DeepGraphTransformer, {"feature_norm": "batchnorm", "degree_norm": "symmetric"}, PLAIN),
    (DeepGAT, {"feature_norm": "pairnorm", "residual": "reversible"}, PLAIN),
    (DeepGAT, {"edge_feats": 2, "backend": "fused", "checkpoint_layers": True}, PLAIN),
)


def tasks():
    """Tasks, and the cases on each; with one training node most processes have none."""
    yield task(homogeneous()), tuple(cases())
    for make in (directed, multigraph, isolated, no_edges, star, int32):
        for every in (3, 1000):
            yield task(make(), every), ODD


def task(graph, every=3):
    """Of each ``every`` nodes the first is to be learnt."""
    draw = torch.Generator().manual_seed(1)
    number = graph.num_nodes()
    graph.ndata["feat"] = torch.randn(number, 5, generator=draw)
    graph.edata["feat"] = torch.randn(graph.num_edges(), 2, generator=draw)
    graph.ndata["label"] = torch.arange(number) % 3
    graph.ndata["train_mask"] = torch.arange(number) % every == 0
    for k, name in enumerate(("val_mask", "test_mask"), 1):
        graph.ndata[name] = torch.arange(number) % 3 == k
    found = GraphTask.from_graph(graph, "small", num_classes=3)
    found.graph.ndata["feat"] = found.feat.double()
    return found


def learnt(kind, arguments, settings, ranks, whole):
    torch.manual_seed(0)
    model = kind(**SIZES, **DROPS, **{"score_norm": NORMS[kind], "num_layers": 4} | arguments)
    model = model.double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    weight = torch.tensor([1.0, 2.0, 3.0]).double()
    data = whole if ranks is None else ranks.part(model, whole, weight)
    losses = [
        train_step(model, data, optimizer, settings, weight, epoch, ranks) for epoch in (1, 2)
    ]
    gradients = {name: p.grad for name, p in model.named_parameters()}
    logits = infer(model, data)
    logits = logits if ranks is None else ranks.gathered(logits)
    return losses, gradients, dict(model.named_buffers()), logits


def refuse_other_data(ranks):
    """All refuse where one process has other data, or none; they agree on the same."""

    def load(is_there):
        if ranks.is_first:
            return task(homogeneous())
        if is_there:
            return task(star())
        raise DataError("there is none")

    for is_there, kind, words in (
        (True, ConfigError, "process 1 has other data"),
        (False, DataError, "there is none"),
    ):
        with pytest.raises(kind, match=words):
            ranks.same_task(lambda is_there=is_there: load(is_there))
    assert ranks.same_task(lambda: task(homogeneous())).num_nodes == 10


def main() -> None:
    torch.set_num_threads(1)
    with joined() as ranks:
        refuse_other_data(ranks)
        number = 0
        for whole, case in ((whole, case) for whole, cases in tasks() for case in cases):
            found = learnt(*case, ranks, whole)
            wanted = learnt(*case, None, whole)
            try:
                torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-11)
            except AssertionError as fault:
                if ranks.is_first:
                    print(whole, case[0].__name__, case[1], str(fault).splitlines()[0:6])
            number += 1
        if ranks.is_first:
            print(f"{number} cases")


if __name__ == "__main__":
    sys.exit(main())
