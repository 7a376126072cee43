"""What layers that run again in the backward pass need as it was."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointError, get_device_states, set_device_states

__all__ = ["Draws", "SameTensors"]

_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_score_hooks")


class SameTensors:
    """The parameters and buffers that modules hold now, for when they run again.

    In between ``torch.func.functional_call`` may have given them others. Buffers are copies, now
    and each time: a layer may move what it then reads, must begin from where it began, and must not
    move it again, in any of the backward passes, of which a second derivative has two.

    Parameters
    ----------
    modules : iterable of torch.nn.Module
        What runs again.
    inputs : iterable of Tensor
        What it reads beside, as edge features.

    Raises
    ------
    torch.utils.checkpoint.CheckpointError
        When it is entered: if a parameter or an input was changed in place meanwhile, or a mode or
        a hook of a module is another. What is written through ``.data`` is not seen, as elsewhere.
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
        self.ways = [(module, *_way(module)) for module in modules]

    def __enter__(self) -> None:
        self._check()
        self.own = [(m, dict(m._parameters), dict(m._buffers)) for m, *_ in self.held]
        for module, parameters, buffers in self.held:
            module._parameters.update(parameters)
            module._buffers.update(_copies(buffers))

    def __exit__(self, *exception) -> None:
        for module, parameters, buffers in self.own:
            module._parameters.update(parameters)
            module._buffers.update(buffers)

    def _check(self) -> None:
        way_out = (
            "the backward pass runs the layers again, as they were in the forward pass: call "
            "backward() first"
        )
        for tensor, version in self.versions:
            if tensor._version != version:
                raise CheckpointError(
                    f"a tensor {tuple(tensor.shape)} that the layers read was changed in place "
                    f"since the forward pass (by an optimizer's step?); {way_out}"
                )
        for module, training, hooks in self.ways:
            name, (training_now, hooks_now) = type(module).__name__, _way(module)
            if training != training_now:
                called = "train()" if training_now else "eval()"
                raise CheckpointError(f"{called} was called on {name} meanwhile; {way_out}")
            if hooks != hooks_now:
                raise CheckpointError(f"{name} has other hooks than before; {way_out}")


def _copies(buffers: dict[str, Tensor | None]) -> dict[str, Tensor | None]:
    return {name: b if b is None else b.clone() for name, b in buffers.items()}


def _way(module: nn.Module) -> tuple[bool, list[list[int]]]:
    """What decides, beside tensors, on what a module computes: its mode, and its hooks."""
    held = vars(module)
    return module.training, [list(held.get(name, ())) for name in _HOOKS]


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
