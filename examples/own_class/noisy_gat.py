"""A model class of your own, and the architecture file that gives it a name.

Run it: ``python examples/own_class/noisy_gat.py``.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

import lipzoo
from lipzoo.models import DeepGAT


class GaussianNoise(nn.Module):
    """Adds noise of standard deviation ``std`` while training."""

    def __init__(self, std: float) -> None:
        super().__init__()
        self.std = std

    def forward(self, feat: Tensor) -> Tensor:
        return feat + self.std * torch.randn_like(feat) if self.training else feat


@lipzoo.register_model
class NoisyGAT(DeepGAT):
    """Deep GAT that learns on noisy features; ``others`` are :class:`DeepGAT`'s arguments."""

    def __init__(self, in_feats: int, num_classes: int, noise: float = 0.1, **others) -> None:
        super().__init__(in_feats, num_classes, **others)
        self.input_drop = GaussianNoise(noise)


# After the class: the file names it, and is checked against its arguments.
lipzoo.add_config_dir(Path(__file__).parent / "configs")


if __name__ == "__main__":
    wine = lipzoo.load_dataset("wine")
    model = lipzoo.create_model("noisy_gat", in_feats=wine.in_feats, num_classes=wine.num_classes)
    print(model)
    print("logits:", tuple(model(wine.graph, wine.feat).shape))
