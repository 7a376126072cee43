"""The folder of a pretraining: what was asked for, how far it is, and the weights at the end."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from lab.pretraining.recipe import WeightsRecipe
from lipzoo._atomic import write_atomically
from lipzoo._output import OutputFolder
from lipzoo._tables import to_csv
from lipzoo.card import ArchitectureEntry, Card, DatasetEntry, WeightsEntry, versions
from lipzoo.registry import Architecture, get_architecture
from lipzoo.training.run_architecture import (
    ARCHITECTURE_FILE,
    architecture_of_run,
    keep_architecture,
)
from lipzoo.training.state import STATE_FILE, load_state, save_state
from lipzoo.weights import CARD_FILE, write_checkpoint

__all__ = ["RunFolder"]

RECIPE_FILE, LOSS_FILE, CHECKPOINT = "recipe.yaml", "losses.csv", "checkpoint"
_OWN_FILES = (f"{CHECKPOINT}/{CARD_FILE}", STATE_FILE, LOSS_FILE, ARCHITECTURE_FILE)


class RunFolder:
    """Begun, or gone on with where ``resume`` says so.

    Raises
    ------
    ConfigError
        If the run in the folder has another recipe or architecture.
    OutputError
        If the folder holds something and neither ``resume`` nor ``overwrite`` is given.
    """

    def __init__(
        self, recipe: WeightsRecipe, out: str | os.PathLike, resume: bool, overwrite: bool
    ) -> None:
        output = OutputFolder(out, RECIPE_FILE, _OWN_FILES)
        self.recipe, self.resume = recipe, resume
        self.path: Path = output.begin(recipe.to_dict(), resume, overwrite)
        keep_architecture(output, get_architecture(recipe.architecture))

    @property
    def checkpoint(self) -> Path | None:
        """Where the weights are, once they are finished."""
        folder = self.path / CHECKPOINT
        return folder if self.resume and (folder / CARD_FILE).is_file() else None

    @property
    def architecture(self) -> Architecture:
        """What the run was begun with."""
        return architecture_of_run(self.path, self.recipe.architecture)

    def load(self, parts: Mapping[str, Any], make: Callable[[dict[str, Any]], Any]) -> Any:
        """See :func:`~lipzoo.training.state.load_state`; None where there is nothing yet.

        Raises
        ------
        CheckpointError
            If the state does not belong to the recipe.
        """
        file = self.path / STATE_FILE
        return load_state(file, parts, make) if self.resume and file.is_file() else None

    def save(
        self, parts: Mapping[str, Any], rows: Iterable[dict], names: list[str], **rest: Any
    ) -> None:
        """The state, and a table of the losses with the columns ``names``."""
        save_state(self.path / STATE_FILE, parts, **rest)
        write_atomically(self.path / LOSS_FILE, to_csv(list(rows), names))

    def finish(
        self,
        model: nn.Module,
        *,
        sizes: dict[str, int],
        epoch: int,
        entries: list[DatasetEntry],
        encoding: dict[str, Any],
        history: Sequence[Mapping[str, float]],
    ) -> Path:
        """Write the weights and their card; the folder that ``load_pretrained`` takes.

        ``entries`` are what was learnt from; the first one stands as the card's data, as the
        weights read it: the whole truth is in ``pretrained_on``. ``history`` becomes ``curve.csv``:
        ``epoch``, ``train_loss``, and what of the validation there is.
        """
        recipe, architecture = self.recipe, self.architecture
        first = entries[0]
        card = Card(
            name=recipe.architecture,
            tag=recipe.tag,
            description=recipe.description or architecture.description,
            source=architecture.source,
            architecture=ArchitectureEntry(
                model=architecture.model, args={**architecture.args, **recipe.overrides, **sizes}
            ),
            weights=WeightsEntry(seed=recipe.seed, epoch=epoch),
            dataset=first.model_copy(update={"options": {**first.options, "encoding": encoding}}),
            pretrained_on=entries,
            encoding=encoding,
            seeds=[recipe.seed],
            recipe=recipe.to_dict(),
            versions=versions(),
        )
        return write_checkpoint(
            self.path / CHECKPOINT, model, card, overwrite=True, history=history
        )
