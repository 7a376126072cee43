"""What the trainers of tests/training/test_distdgl.py do."""

import os
import signal
import threading
import time

import dgl
import pytest
import torch

from lipzoo._distdgl import serve
from lipzoo.datasets import GraphTask
from lipzoo.models import DeepGAT, DeepGATv2, DeepGraphTransformer
from lipzoo.settings import Consistency, FitSettings, Neighbours
from lipzoo.training.distdgl_trainers import SampledParts
from lipzoo.training.metrics import infer
from lipzoo.training.step import train_step

SIZES = {"in_feats": 5, "num_classes": 3, "hidden_feats": 8, "num_heads": 2, "num_layers": 2}
DROPS = dict.fromkeys(("input_drop", "feat_drop", "head_drop", "attn_drop"), 0.0)
PLAIN, CLIPPED = FitSettings(), FitSettings(grad_clip=0.5)
CONSISTENT = FitSettings(consistency=Consistency(warmup=1))
CASES = (
    (DeepGAT, {"score_norm": "lipschitz", "degree_norm": "symmetric"}, PLAIN),
    (DeepGAT, {"score_norm": "lipschitz", "residual": "reversible"}, CLIPPED),
    (DeepGAT, {"edge_feats": 2, "residual": "initial", "feature_norm": "layernorm"}, PLAIN),
    (DeepGATv2, {"score_norm": "lipschitz", "checkpoint_layers": True, "num_layers": 3}, PLAIN),
    (DeepGraphTransformer, {"score_norm": "dot_lipschitz", "degree_norm": "symmetric"}, CLIPPED),
)


def small_task(every=3):
    """Directed, with self-loops, an edge that is there twice, and a node without edges."""
    draw = torch.Generator().manual_seed(0)
    src, dst = torch.randint(59, (2, 240), generator=draw)
    graph = dgl.graph((torch.cat([src, src[:9]]), torch.cat([dst, dst[:9]])), num_nodes=60)
    graph.ndata["feat"] = torch.randn(60, 5, generator=draw)
    graph.edata["feat"] = torch.randn(249, 2, generator=draw)
    graph.ndata["label"] = torch.arange(60) % 3
    graph.ndata["train_mask"] = torch.arange(60) % every == 0
    for k, name in enumerate(("val_mask", "test_mask"), 1):
        graph.ndata[name] = torch.arange(60) % 3 == k
    task = GraphTask.from_graph(graph, "small", num_classes=3)
    task.graph.ndata["feat"] = task.feat.double()
    return task


def compare(trainers):
    """How many cases give what one process does on the whole graph; in float64."""
    torch.set_num_threads(1)
    whole, done = small_task(), 0
    feat = trainers.graph.ndata["feat"][torch.arange(60)]
    order = (feat[:, None, 0] == whole.feat[None, :, 0]).double().argmax(1)
    assert torch.equal(feat, whole.feat[order])
    task = whole.with_ndata(**{name: column[order] for name, column in whole.graph.ndata.items()})
    check_draws(trainers, task, whole, order)
    for kind, arguments, settings in CASES:
        found = learnt(kind, arguments, settings, task, trainers)
        losses, gradients, logits = learnt(kind, arguments, settings, whole, None)
        torch.testing.assert_close(found, (losses, gradients, logits[order]), rtol=1e-9, atol=1e-11)
        done += 1
    check_epochs(trainers, task, whole)
    lone = whole.with_ndata(train_mask=torch.arange(60) == 7)
    mask = lone.train_mask[order]
    found = learnt(*CASES[0], task.with_ndata(train_mask=mask), trainers)  # one of two has none
    wanted = learnt(*CASES[0], lone, None)
    torch.testing.assert_close(found[:2], wanted[:2], rtol=1e-9, atol=1e-11)
    return done


def learnt(kind, arguments, settings, task, trainers):
    """Losses and gradients of two steps, and logits then."""
    model = network(kind, arguments)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    weight = torch.tensor([1.0, 2.0, 3.0]).double()
    losses, logits_of = [], lambda model, _: infer(model, task)
    if trainers is not None:
        batches, logits_of = trainers.divided(model, task, everything(1000), weight)
    for epoch in (1, 2):
        [batch] = [task] if trainers is None else batches(task)
        losses.append(train_step(model, batch, optimizer, settings, weight, epoch, trainers))
    gradients = {name: p.grad for name, p in model.named_parameters()}
    return losses, gradients, logits_of(model, ("train", "val", "test"))


def network(kind, arguments):
    torch.manual_seed(0)
    return kind(**{**SIZES, **DROPS, **arguments}).double()


def everything(batch_size):
    return Neighbours(name="neighbours", sampler="uniform", fanouts=-1, batch_size=batch_size)


def check_epochs(trainers, task, whole):
    """The mean of the gradients of several steps, at the same weights, is that of the whole."""
    kind, arguments, settings = CASES[0]
    weight = torch.tensor([1.0, 2.0, 3.0]).double()
    found = {}
    for name in ("steps", "whole"):
        model = network(kind, arguments)
        still = torch.optim.SGD(model.parameters(), lr=0.0)
        steps = [whole]
        if name == "steps":
            steps = list(trainers.divided(model, task, everything(7), weight)[0](task))
            assert len(steps) == 3
        shared = trainers if name == "steps" else None
        total, gradients = 0.0, [torch.zeros_like(p) for p in model.parameters()]
        for batch in steps:
            total += train_step(model, batch, still, settings, weight, 1, shared) / len(steps)
            for gradient, p in zip(gradients, model.parameters(), strict=True):
                gradient += p.grad / len(steps)
        found[name] = total, gradients
    torch.testing.assert_close(found["steps"], found["whole"], rtol=1e-9, atol=1e-11)


def check_draws(trainers, task, whole, order):
    """Two edges a node at most, with their own features; the seeds are divided."""
    options = Neighbours(name="neighbours", sampler="uniform", fanouts=2, batch_size=6)
    kind, arguments, _ = CASES[2]
    batches = SampledParts(trainers, network(kind, arguments), task, options)
    edges = {}
    for src, dst, row in zip(*(e.tolist() for e in whole.graph.edges()), whole.edge_feat.tolist()):
        edges.setdefault((src, dst), []).append(row)
    seen = []
    for batch in batches(task):
        assert torch.equal(batch.feat, whole.feat[order[batch.graph[0].srcdata[dgl.NID]]])
        for block in batch.graph:
            assert int(block.in_degrees().max()) <= 2
            ends = block.edges()
            src = order[block.srcdata[dgl.NID][ends[0]]].tolist()
            dst = order[block.dstdata[dgl.NID][ends[1]]].tolist()
            for each, row in zip(zip(src, dst), block.edata["feat"].tolist(), strict=True):
                assert row in edges[each]
        seeds = batch.graph[-1].dstdata[dgl.NID]
        seen.append(seeds[batch.train_mask])
        assert torch.equal(batch.labels, whole.labels[order[seeds]])
    seen = torch.cat(trainers.each(torch.cat(seen)))
    assert torch.equal(seen.sort().values, task.train_mask.nonzero().squeeze(1))


def hang(trainers):
    time.sleep(600)


def fail(trainers, how):
    """The second one ends; the first waits for it."""
    if not trainers.is_first:
        if how == "raise":
            raise ZeroDivisionError("of the second")
        os.kill(os.getpid(), signal.SIGKILL)
    trainers.each(1)
    pytest.fail("went on alone")


def dies(plan, rank, pipe):
    """A server that answers for a while."""
    if rank:
        threading.Timer(6.0, os.kill, (os.getpid(), signal.SIGKILL)).start()
    serve(plan, rank, pipe)
