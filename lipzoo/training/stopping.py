"""Which epoch the validation nodes choose, and when nothing better is waited for."""

from __future__ import annotations

from dataclasses import dataclass

from lipzoo.settings import EarlyStopping

__all__ = ["Chosen"]


@dataclass
class Chosen:
    """The best epoch so far, by keys of :func:`~lipzoo.training.metrics.selection_key`."""

    best_key: tuple[float, float] | None = None
    best_epoch: int = 0
    risen_epoch: int = 0  # when what is monitored was last better, ties left out

    def judge(self, epoch: int, key: tuple[float, float]) -> bool:
        """Whether this epoch is the best so far."""
        if self.best_key is None or key[0] > self.best_key[0]:
            self.risen_epoch = epoch
        is_best = self.best_key is None or key > self.best_key
        if is_best:
            self.best_key, self.best_epoch = key, epoch
        return is_best

    def is_over(self, epoch: int, stopping: EarlyStopping) -> bool:
        """Whether no epoch was better for long enough; not before one was judged."""
        better = self.best_epoch if stopping.ties == "improve" else self.risen_epoch
        return self.best_key is not None and epoch - better >= stopping.patience
