"""The training curve beside weights: ``curve.csv``, for people to look at.

Nothing depends on it: weights load without it, and with a damaged one. Its first line says of which
weights it is::

    # sha256 <of the weights that the training gave> epoch <that they are of>
    epoch,train_loss,val_loss,val_accuracy
    1,1.94,1.93,0.318

A curve of other weights than those beside it comes from a replay that did not give the same bits.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lipzoo._files import read_regular
from lipzoo._tables import to_csv
from lipzoo.card import Card
from lipzoo.errors import CheckpointError

__all__ = ["CURVE_FILE", "Curve", "curve_bytes", "losses_words", "read_curve", "read_curve_bytes"]

CURVE_FILE = "curve.csv"
#: Evaluations that are kept of a long training.
MAX_ROWS = 200
#: Many times what that many rows take.
MAX_CURVE_BYTES = 2**20
_FIRST_LINE = re.compile(r"# sha256 ([0-9a-f]{64}) epoch (\d{1,18})")

#: ``epoch``, ``train_loss``, ``val_loss``, ``val_accuracy``: a row of ``metrics.csv``.
Row = Mapping[str, float]


@dataclass(frozen=True)
class Curve:
    """What was recorded of one training.

    Parameters
    ----------
    sha256 : str
        Of the weights that the training gave.
    epoch : int
        The epoch that these weights are of.
    rows : list of dict
        ``epoch``, ``train_loss``, and validation loss and metric, an evaluation each.
    """

    sha256: str
    epoch: int
    rows: list[dict[str, float]] = field(repr=False)

    def words(self, card: Card) -> str:
        """Which training this is the curve of, how far its figure is from the card's, and what
        was measured."""
        return f"{self._source(card)} {losses_words(card)}"

    def _source(self, card: Card) -> str:
        seed = "one seed" if card.weights.seed is None else f"seed {card.weights.seed}"
        if self.sha256 == card.weights.sha256:
            return (
                f"Recorded while these weights ({seed}) were trained. The weights of epoch "
                f"{self.epoch} were kept."
            )
        said = (
            f"Recorded in a replay of the recipe with {seed}, whose weights are not identical to "
            f"these. The replay kept the weights of epoch {self.epoch}"
        )
        kept = next((row for row in self.rows if row["epoch"] == self.epoch), {})
        name = next((k for k in kept if k.startswith("val_") and k != "val_loss"), "val_loss")
        ours, theirs = kept.get(name), card.weights.metrics.get(name)
        if ours is not None and theirs is not None:
            off = round(ours - theirs, 4) + 0.0  # which makes +0 of -0
            what = f"validation {name.removeprefix('val_').replace('_', ' ')}"
            said += (
                f", with a {what} of {ours:.4f}; these are of epoch {card.weights.epoch}, with "
                f"{theirs:.4f} (difference {off:+.4f})"
            )
        return f"{said}."


def losses_words(card: Card | None = None) -> str:
    """What the losses of a training are of: that of a card, or of `lipzoo train`."""
    if card is not None and card.reads_context:
        return (
            "An epoch is a step on a few synthetic tasks; the training loss is the mean of the "
            "steps before it, validation is over tasks that nothing was learnt from."
        )
    if card is not None and card.pretrained_on and "graphs" in card.recipe:
        return "The loss is the mean over the graphs that were learnt from; none was validated on."
    return (
        "The training loss is with dropout, over the training nodes; validation is without, over "
        "the validation nodes."
    )


def curve_bytes(history: Sequence[Row], epoch: int, digest: str) -> bytes | None:
    """The file of a training's curve; None where nothing was recorded.

    Parameters
    ----------
    history : sequence of dict
        ``fit(…).history``, or the rows of ``metrics.csv``. Of more than 200, the first, the last,
        that of ``epoch`` and others at equal steps are kept.
    epoch : int
        The epoch that the weights are of.
    digest : str
        SHA-256 of the weights.
    """
    if not history:
        return None
    judged = sorted((k for k in history[0] if k.startswith("val_")), key=lambda k: k != "val_loss")
    columns = ["epoch", "train_loss", *judged]
    rows = [
        {name: f"{float(row[name]):.6g}" for name in columns if name in row}
        | {"epoch": int(row["epoch"])}
        for row in _thinned(history, epoch)
    ]
    return f"# sha256 {digest} epoch {epoch}\n".encode() + to_csv(rows, columns)


def _thinned(history: Sequence[Row], epoch: int) -> list[Row]:
    last = len(history) - 1
    if last < MAX_ROWS:
        return list(history)
    kept = {round(step * last / (MAX_ROWS - 2)) for step in range(MAX_ROWS - 1)}
    kept |= {number for number, row in enumerate(history) if row["epoch"] == epoch}
    return [history[number] for number in sorted(kept)]


def read_curve_bytes(folder: Path) -> bytes | None:
    """The file in a folder of weights; None where there is none, or none that may be read."""
    try:
        return read_regular(folder / CURVE_FILE, MAX_CURVE_BYTES, folder)
    except OSError:
        return None


def read_curve(folder: Path) -> Curve | None:
    """The curve in a folder of weights; None where there is none.

    Raises
    ------
    CheckpointError
        If the file is damaged or may not be read. Weights load nevertheless.
    """
    file = folder / CURVE_FILE
    try:
        data = read_regular(file, MAX_CURVE_BYTES, folder)
    except FileNotFoundError:
        return None
    except OSError as fault:
        raise CheckpointError(f"{file}: cannot be read ({fault.strerror})") from None
    try:
        return _parsed(data)
    except (ValueError, TypeError, csv.Error) as fault:
        raise CheckpointError(
            f"{file}: is no training curve ({' '.join(str(fault).split())[:200]}); the weights "
            "load without it: remove it, or get it again"
        ) from None


def _parsed(data: bytes) -> Curve:
    first, _, table = data.decode("utf-8").partition("\n")
    found = _FIRST_LINE.fullmatch(first.rstrip("\r"))
    if found is None:
        raise ValueError("its first line does not say of which weights it is")
    reader = csv.DictReader(io.StringIO(table, newline=""))
    names = reader.fieldnames or []
    if names[:2] != ["epoch", "train_loss"] or len(set(names)) != len(names):
        raise ValueError("its columns are not epoch, train_loss and those of the validation")
    rows = [{name: float(value) for name, value in row.items()} for row in reader]
    epochs = [row["epoch"] for row in rows]
    if not rows or not all(a < b for a, b in zip([-1.0, *epochs], [*epochs, float("inf")])):
        raise ValueError("its epochs do not rise, or it has none")
    return Curve(found[1], int(found[2]), rows)
