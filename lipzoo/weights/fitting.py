"""Put the tensors of a checkpoint into a model, all of them or none."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from lipzoo.errors import CheckpointError, ConfigError
from lipzoo.weights.reading import Checkpoint

if TYPE_CHECKING:  # what lists names and reads cards needs no PyTorch
    from torch import Tensor, nn

__all__ = ["check_fit", "load_weights"]


def load_weights(
    model: nn.Module, checkpoint: Checkpoint, leave_out: set[str] | frozenset[str] = frozenset()
) -> list[str]:
    """Copy the tensors of ``checkpoint`` into ``model``.

    Parameters
    ----------
    model : torch.nn.Module
        Of the checkpoint's architecture.
    checkpoint : Checkpoint
        What :func:`read_checkpoint` returned.
    leave_out : set of {"input", "head"}
        Submodules that keep their fresh initialisation.

    Returns
    -------
    list of str
        The keys that were left out.

    Raises
    ------
    CheckpointError
        If keys or shapes do not fit, all of them named.
    """
    model.load_state_dict(_check_fit(model, checkpoint, leave_out), strict=False)
    return [key for key in checkpoint.tensors if key.split(".")[0] in leave_out]


def check_fit(
    build: Callable[[], nn.Module], checkpoint: Checkpoint, leave_out: set[str] = frozenset()
) -> None:
    """Refuse weights that do not fit before memory is taken for a model of any claimed size.

    ``build`` is called with all tensors on the device ``meta``, where they have no memory, and
    stopped where it makes far more parameters than the weights are.

    Raises
    ------
    CheckpointError
        See :func:`load_weights`.
    """
    from torch import nn

    from lipzoo._torch import without_numbers

    thread, made, limit = threading.get_ident(), 0, 4 * len(checkpoint.tensors) + 64

    def count(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal made
        made += threading.get_ident() == thread
        if made > limit:
            raise CheckpointError(
                f"{checkpoint.folder}: the card describes a model of more than {limit} parameter "
                f"tensors, the weights are {len(checkpoint.tensors)}; get card and weights again"
            )

    handle = nn.modules.module.register_module_parameter_registration_hook(count)
    try:
        with without_numbers():
            model = build()
    except ConfigError as fault:
        if isinstance(fault.__cause__, NotImplementedError):
            return  # a class that looks at its own values: it cannot be built without them
        raise
    finally:
        handle.remove()
    _check_fit(model, checkpoint, leave_out)


def _check_fit(
    model: nn.Module, checkpoint: Checkpoint, leave_out: set[str] | frozenset[str]
) -> dict[str, Tensor]:
    """The tensors to copy."""
    tensors = {
        key: t for key, t in checkpoint.tensors.items() if key.split(".")[0] not in leave_out
    }
    own = {key: t for key, t in model.state_dict().items() if key.split(".")[0] not in leave_out}
    faults = [f"{key} is missing" for key in own if key not in tensors]
    faults += [f"{key} is not part of the model" for key in tensors if key not in own]
    faults += [
        f"{key} is {tensors[key].dtype} instead of {t.dtype}"
        for key, t in own.items()
        if key in tensors and tensors[key].is_floating_point() != t.is_floating_point()
    ]
    faults += [
        f"{key} is {tuple(tensors[key].shape)} instead of {tuple(t.shape)}"
        for key, t in own.items()
        if key in tensors and tensors[key].shape != t.shape
    ]
    if faults:
        more = f" and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise CheckpointError(
            f"{checkpoint.folder}: the weights do not fit the model: {'; '.join(faults[:5])}"
            f"{more}; only in_feats and num_classes may differ from the card"
        )
    return tensors
