"""A deep GAT whose layers share their weights."""

from torch import nn

from lipzoo.models import DeepGAT


class TiedGAT(DeepGAT):
    """One attention layer, applied ``num_layers`` times: depth without more parameters.

    ``others`` are the arguments of :class:`~lipzoo.models.DeepGAT`.
    """

    def __init__(self, in_feats: int, num_classes: int, num_layers: int = 8, **others) -> None:
        super().__init__(in_feats, num_classes, num_layers=num_layers, **others)
        self.layers = nn.ModuleList([self.layers[0]] * num_layers)

    def layer_groups(self) -> dict[str, list[nn.Parameter]]:
        """``input``, ``layer_1`` (all layers, since they are one) and ``head``."""
        groups = super().layer_groups()
        body = {id(p): p for name, ps in groups.items() if name.startswith("layer_") for p in ps}
        return {
            "input": groups["input"],
            "layer_1": list(body.values()),
            "head": groups["head"],
        }
