"""Values as JSON has them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

__all__ = ["plain"]


def plain(value: Any) -> Any:
    """Without NumPy's types, and with None for what is NaN or infinite, which JSON has not."""
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if (
        type(value).__module__ == "numpy"
    ):  # without importing it, which takes longer than a help text
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
