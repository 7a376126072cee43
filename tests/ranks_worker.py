"""What the processes of tests/training/test_ranks.py run: gradients against those of one process.

Prints a line a case that differs, in the first process.
"""

import itertools
import sys

import torch
from graph_zoo import homogeneous

from lipzoo.datasets import GraphTask
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


def task():
    graph = homogeneous()
    draw = torch.Generator().manual_seed(1)
    number = graph.num_nodes()
    graph.ndata["feat"] = torch.randn(number, 5, generator=draw)
    graph.edata["feat"] = torch.randn(graph.num_edges(), 2, generator=draw)
    graph.ndata["label"] = torch.arange(number) % 3
    for k, name in enumerate(("train_mask", "val_mask", "test_mask")):
        graph.ndata[name] = torch.arange(number) % 3 == k
    return GraphTask.from_graph(graph, "small")


def learnt(kind, arguments, settings, ranks, whole):
    torch.manual_seed(0)
    model = kind(**SIZES, **DROPS, **{"score_norm": NORMS[kind], "num_layers": 4} | arguments)
    model = model.double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    weight = torch.tensor([1.0, 2.0, 3.0]).double()
    data, options = whole, {}
    if ranks is not None:
        data = ranks.part(model, whole, weight)
        options = {"share": data.share, "ranks": ranks}
    losses = [
        train_step(model, data, optimizer, settings, weight, epoch, **options) for epoch in (1, 2)
    ]
    gradients = {name: p.grad for name, p in model.named_parameters()}
    logits = infer(model, data)
    logits = logits if ranks is None else ranks.gathered(logits)
    return losses, gradients, dict(model.named_buffers()), logits


def main() -> None:
    torch.set_num_threads(1)
    whole = task()
    whole.graph.ndata["feat"] = whole.feat.double()
    with joined() as ranks:
        number = 0
        for case in cases():
            found = learnt(*case, ranks, whole)
            wanted = learnt(*case, None, whole)
            try:
                torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-11)
            except AssertionError as fault:
                if ranks.is_first:
                    print(case[0].__name__, case[1], str(fault).splitlines()[0:6])
            number += 1
        if ranks.is_first:
            print(f"{number} cases")


if __name__ == "__main__":
    sys.exit(main())
