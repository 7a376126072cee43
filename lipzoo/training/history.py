"""What was recorded of trainings: their curves, read back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lipzoo._tables import read_csv
from lipzoo.card import Card
from lipzoo.errors import CheckpointError
from lipzoo.training.loop import CSV_FILE
from lipzoo.training.run_folder import read_results, seed_folders
from lipzoo.weights import CARD_FILE, CURVE_FILE, read_curve

__all__ = ["Recorded", "best_epochs", "read_histories", "read_history", "read_recorded"]


@dataclass(frozen=True)
class Recorded:
    """The curve of the training that gave some weights.

    Parameters
    ----------
    histories : dict
        By seed, a row an evaluation; empty where there is no curve.
    best : dict
        By seed, the epoch whose weights were kept.
    note : str
        What training it is of, or why there is none.
    """

    histories: dict[int, Sequence[dict[str, float]]] = field(default_factory=dict)
    best: dict[int, int] = field(default_factory=dict)
    note: str = ""


def read_recorded(folder: Path, card: Card) -> Recorded:
    """Of weights in a folder: of a fine-tuning all that was recorded, else ``curve.csv``."""
    seed, epoch = card.weights.seed or 0, card.weights.epoch
    if rows := read_history(folder / "training"):
        return Recorded({seed: rows}, {} if epoch is None else {seed: epoch})
    try:
        curve = read_curve(folder)
    except CheckpointError as fault:
        return Recorded(note=str(fault))
    if curve is None:
        return Recorded(note=_without(folder, card))
    return Recorded({seed: curve.rows}, {seed: curve.epoch}, curve.words(card))


def _without(folder: Path, card: Card) -> str:
    words = f"the weights come without the curve of their training (there is no {CURVE_FILE})"
    if "architecture" not in card.recipe or card.pretrained_on:
        return words
    seed = "" if card.weights.seed is None else f" --seeds {card.weights.seed}"
    return (
        f"{words}; `lipzoo train {folder / CARD_FILE}{seed} --out DIR` trains them again, and "
        "`lipzoo report DIR` or `lipzoo export DIR` then has it"
    )


def read_histories(folder: Path) -> dict[int, list[dict[str, float]]]:
    """By seed of a run's folder, a row an evaluation; a seed without rows is left out."""
    found = {seed: read_history(place) for seed, place in seed_folders(folder).items()}
    return {seed: rows for seed, rows in found.items() if rows}


def read_history(folder: Path) -> list[dict[str, float]]:
    """The rows of one training; none where it recorded none.

    What a killed process did not write to its end is left out.
    """
    path, rows = folder / CSV_FILE, []
    for row in read_csv(path) if path.is_file() else ():
        try:
            rows.append({key: float(value) for key, value in row.items()})
        except (TypeError, ValueError):  # cut short
            continue
    return rows


def best_epochs(folder: Path) -> dict[int, int]:
    """By finished seed of a run's folder, the epoch that its weights are of."""
    return {result["seed"]: result["best_epoch"] for result in read_results(folder)}
