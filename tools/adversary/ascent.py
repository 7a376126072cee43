"""Gradient ascent on features and weights at once, towards a larger ratio to the bound."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import Tensor, nn

from adversary.measure import Case, jacobian

__all__ = ["ascend"]


def ascend(case: Case, steps: int = 20, step: float = 0.2) -> Case:
    """Move features and weights to where the ratio of local constant and bound is larger."""
    best, best_ratio = case, max(case.ratios())
    for _ in range(steps):
        moved = _moved(best, step)
        if moved is None:
            break
        ratio = max(moved.ratios())
        if ratio > best_ratio:
            best, best_ratio, step = moved, ratio, step * 1.2
        else:
            step /= 2
    return best


def _moved(case: Case, step: float) -> Case | None:
    """One step up the logarithm of the local constant; each tensor keeps its length."""
    state = {k: p.detach().clone() for k, p in case.module.named_parameters()}
    names = list(state)
    rows = jacobian(case)
    if not rows.isfinite().all():
        return None
    u, _, v = torch.linalg.svd(rows.reshape(rows.shape[0] * rows.shape[1], -1))
    left, right = u[:, 0], v[0].view_as(case.feat)
    # functional_call leaves its tensors behind in a module that shares weights.
    scratch = copy.deepcopy(case.module)

    def stretch(feat: Tensor, *parameters: Tensor) -> Tensor:
        def function(x: Tensor) -> Tensor:
            args, options = case.arguments(x)
            named = dict(zip(names, parameters))
            out = torch.func.functional_call(scratch, named, args, options)
            return case.rows(out).flatten()

        return torch.func.jvp(function, (feat,), (right,))[1] @ left

    tensors = (case.feat, *state.values())
    slopes = torch.func.grad(stretch, argnums=tuple(range(len(tensors))))(*tensors)
    moved = [_step(tensor, slope, step) for tensor, slope in zip(tensors, slopes)]
    if not all(tensor.isfinite().all() for tensor in moved):
        return None
    module = _copy_with(case.module, dict(zip(names, moved[1:])))
    return replace(case, module=module, feat=moved[0])


def _step(tensor: Tensor, slope: Tensor, step: float) -> Tensor:
    size, length = slope.norm(), tensor.norm()
    if size == 0 or length == 0 or not size.isfinite():
        return tensor
    moved = tensor + step * length / size * slope
    return moved * (length / moved.norm())


def _copy_with(module: nn.Module, state: dict[str, Tensor]) -> nn.Module:
    other = copy.deepcopy(module)
    other.load_state_dict(state, strict=False)
    return other
