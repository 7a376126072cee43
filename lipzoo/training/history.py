"""What was recorded while a run was trained: its curves, read back."""

from __future__ import annotations

from pathlib import Path

from lipzoo._tables import read_csv
from lipzoo._yaml import read_yaml
from lipzoo.training.loop import CSV_FILE
from lipzoo.training.run_seed import RESULT_FILE

__all__ = ["best_epochs", "read_histories", "read_history"]


def read_histories(folder: Path) -> dict[int, list[dict[str, float]]]:
    """By seed of a run's folder, a row an evaluation; a seed without rows is left out."""
    found = {}
    for place in folder.glob("seed_*"):
        number, rows = place.name.removeprefix("seed_"), read_history(place)
        if rows and number.isdigit():
            found[int(number)] = rows
    return dict(sorted(found.items()))


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
    results = [read_yaml(path) for path in folder.glob(f"seed_*/{RESULT_FILE}")]
    return {result["seed"]: result["best_epoch"] for result in results}
