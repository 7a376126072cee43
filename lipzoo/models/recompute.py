"""What layers that run again in the backward pass need as it was."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import get_device_states, set_device_states

__all__ = ["Draws", "SameTensors"]


class SameTensors:
    """The parameters and buffers that modules hold now, for when they run again.

    In between ``torch.func.functional_call`` may have given them others. Buffers are copies each
    time: a layer that runs again must not update batch norm's statistics again, and it does so
    in each backward pass, of which a second derivative has two.
    """

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        self.held = [(m, *_tensors(m)) for m in modules if m._parameters or m._buffers]

    def __enter__(self) -> None:
        self.own = [(module, *_tensors(module)) for module, *_ in self.held]
        for module, parameters, buffers in self.held:
            module._parameters.update(parameters)
            copies = {name: b if b is None else b.clone() for name, b in buffers.items()}
            module._buffers.update(copies)

    def __exit__(self, *exception) -> None:
        for module, parameters, buffers in self.own:
            module._parameters.update(parameters)
            module._buffers.update(buffers)


def _tensors(module: nn.Module) -> tuple[dict, dict]:
    return dict(module._parameters), dict(module._buffers)


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
