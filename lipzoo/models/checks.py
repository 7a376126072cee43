"""Arguments that models take, checked."""

from __future__ import annotations

from lipzoo.errors import ConfigError

__all__ = ["check_positive", "check_rates", "check_width"]


def check_positive(**arguments: int) -> None:
    """Refuse what is not at least 1."""
    for name, value in arguments.items():
        if value < 1:
            raise ConfigError(f"{name} must be at least 1, got {value}")


def check_rates(**arguments: float) -> None:
    """Refuse what is no rate of a dropout."""
    for name, rate in arguments.items():
        if not 0 <= rate < 1:
            raise ConfigError(f"{name} must be in [0, 1), got {rate}")


def check_width(hidden_feats: int, num_heads: int) -> None:
    """Refuse a width that is not parted among the heads."""
    if hidden_feats < 1 or hidden_feats % num_heads:
        raise ConfigError(
            f"hidden_feats must be a positive multiple of num_heads, got {hidden_feats} and "
            f"{num_heads}"
        )
