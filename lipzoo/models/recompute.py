"""What layers that run again in the backward pass must leave as it is."""

from __future__ import annotations

from torch import nn

__all__ = ["SpareBuffers"]


class SpareBuffers:
    """Give ``model`` copies of its buffers for a while.

    A layer that runs again in the backward pass must not update batch norm's statistics again. It
    does so in each backward pass: a second derivative has two.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def __enter__(self) -> None:
        modules = (module for module in self.model.modules() if module._buffers)
        self.own = [(module, dict(module._buffers)) for module in modules]
        for module, buffers in self.own:
            copies = {name: b if b is None else b.clone() for name, b in buffers.items()}
            module._buffers.update(copies)

    def __exit__(self, *exception) -> None:
        for module, buffers in self.own:
            module._buffers.update(buffers)
