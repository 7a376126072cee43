"""What layers that run again in the backward pass need as it was."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from copy import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointError, get_device_states, set_device_states

__all__ = ["Draws", "SameModules"]

_WAYS = ("training", "_forward_pre_hooks", "_forward_hooks", "_score_hooks")


class SameModules:
    """What modules hold now, parameters, buffers, hooks and mode, for when they run again.

    In between somebody may have changed it, as ``torch.func.functional_call`` does, or who removes
    a hook. Buffers are copies, now and each time: a layer may move what it then reads, must begin
    from where it began, and must not move it again, in any of the backward passes, of which a
    second derivative has two.

    Parameters
    ----------
    modules : iterable of torch.nn.Module
        What runs again.
    inputs : iterable of Tensor
        What it reads beside, as edge features.

    Raises
    ------
    torch.utils.checkpoint.CheckpointError
        When it is entered: if a parameter or an input was changed in place meanwhile. What is
        written through ``.data`` is not seen, as elsewhere.
    """

    def __init__(self, modules: Iterable[nn.Module], inputs: Iterable[Tensor] = ()) -> None:
        modules = list(modules)
        self.held = [
            (module, dict(module._parameters), _copies(module._buffers))
            for module in modules
            if module._parameters or module._buffers
        ]
        parameters = (p for _, held, _ in self.held for p in held.values() if p is not None)
        # Tensors of inference mode have no version, and cannot be changed in place.
        tensors = [t for t in (*parameters, *inputs) if not t.is_inference()]
        self.versions = [(tensor, tensor._version) for tensor in tensors]
        self.ways = [(module, {n: copy(way) for n, way in _way(module)}) for module in modules]

    def __enter__(self) -> None:
        for tensor, version in self.versions:
            if tensor._version != version:
                raise CheckpointError(
                    f"a tensor {tuple(tensor.shape)} that the layers read was changed in place "
                    "since the forward pass (by an optimizer's step?), and the backward pass runs "
                    "them again: call backward() first"
                )
        self.own = [(m, dict(m._parameters), dict(m._buffers)) for m, *_ in self.held]
        self.own_ways = [(module, dict(_way(module))) for module, _ in self.ways]
        for module, parameters, buffers in self.held:
            module._parameters.update(parameters)
            module._buffers.update(_copies(buffers))
        _set_ways(self.ways)

    def __exit__(self, *exception) -> None:
        for module, parameters, buffers in self.own:
            module._parameters.update(parameters)
            module._buffers.update(buffers)
        _set_ways(self.own_ways)


def _copies(buffers: dict[str, Tensor | None]) -> dict[str, Tensor | None]:
    return {name: b if b is None else b.clone() for name, b in buffers.items()}


def _way(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """What decides, beside tensors, on what a module computes: its mode, and its hooks."""
    held = vars(module)
    return ((name, held[name]) for name in _WAYS if name in held)


def _set_ways(ways: list[tuple[nn.Module, dict[str, Any]]]) -> None:
    for module, way in ways:
        vars(module).update(way)


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
