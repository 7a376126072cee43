"""Small weights in context, for tests of what reads them."""

import torch

from lipzoo.card import ArchitectureEntry, Card, DatasetEntry
from lipzoo.context import NUM_CHANNELS
from lipzoo.models import InContextGATv2
from lipzoo.weights import write_checkpoint


def context_weights(folder, seed=0, std=0.2, name="gat_lip_context_tiny"):
    """A network that corrects the stack at random; ``std=0``: not at all."""
    torch.manual_seed(seed)
    args = {"num_layers": 2, "hidden_feats": 8, "num_heads": 2, "score_norm": "lipschitz"}
    args |= {"in_feats": NUM_CHANNELS, "num_classes": 0}
    model = InContextGATv2(**args)
    torch.nn.init.normal_(model.head.weight, std=std)
    card = Card(
        name=name,
        tag="tiny",
        architecture=ArchitectureEntry(model="InContextGATv2", args=args),
        dataset=DatasetEntry(name="drawn tasks", fingerprint=""),
        pretrained_on=[DatasetEntry(name="drawn tasks", fingerprint="")],
        encoding={"kind": "context", "width": 16, "num_random": 32, "seed": 0},
    )
    return write_checkpoint(folder, model, card)
