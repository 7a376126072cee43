"""What layers that run again in the backward pass must leave as it is, and draw again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import get_device_states, set_device_states

__all__ = ["Draws", "SpareBuffers"]


class SpareBuffers:
    """Give modules copies of their buffers for a while.

    A layer that runs again in the backward pass must not update batch norm's statistics again. It
    does so in each backward pass: a second derivative has two.
    """

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        self.modules = list(modules)

    def __enter__(self) -> None:
        self.own = [(module, dict(module._buffers)) for module in self.modules if module._buffers]
        for module, buffers in self.own:
            copies = {name: b if b is None else b.clone() for name, b in buffers.items()}
            module._buffers.update(copies)

    def __exit__(self, *exception) -> None:
        for module, buffers in self.own:
            module._buffers.update(buffers)


class Draws:
    """The random numbers that come next, on the CPU and on the device of ``like``."""

    def __init__(self, like: Tensor) -> None:
        self.on_cpu = torch.get_rng_state()
        self.devices, self.on_devices = get_device_states(like)

    @contextmanager
    def again(self) -> Iterator[None]:
        """Draw them again; what comes afterwards is as if they had not been drawn."""
        with torch.random.fork_rng(self.devices):
            torch.set_rng_state(self.on_cpu)
            set_device_states(self.devices, self.on_devices)
            yield
