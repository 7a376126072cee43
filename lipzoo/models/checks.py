"""Arguments that models take, checked."""

from __future__ import annotations

from lipzoo.errors import ConfigError

__all__ = ["check_flags", "check_positive", "check_rates", "check_width"]


def check_positive(**arguments: int) -> None:
    """Refuse what is not at least 1."""
    for name, value in arguments.items():
        if value < 1:
            raise ConfigError(f"{name} must be at least 1, got {value}")


def check_width(hidden_feats: int, num_heads: int) -> None:
    """Refuse hidden features that the heads cannot share."""
    if hidden_feats < 1 or hidden_feats % num_heads:
        raise ConfigError(
            f"hidden_feats must be a positive multiple of num_heads, got {hidden_feats} "
            f"and {num_heads}"
        )


def check_flags(**arguments: bool) -> None:
    """Refuse what is neither true nor false."""
    for name, value in arguments.items():
        if not isinstance(value, bool):
            raise ConfigError(f"{name} must be true or false, got {value!r}")


def check_rates(**arguments: float) -> None:
    """Refuse what is no rate of a dropout."""
    for name, rate in arguments.items():
        if not 0 <= rate < 1:
            raise ConfigError(f"{name} must be in [0, 1), got {rate}")
