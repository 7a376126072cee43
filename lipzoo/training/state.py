"""The state of a training, from which a later process goes on as if nothing had happened."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch

from lipzoo._atomic import write_atomically
from lipzoo.errors import CheckpointError, ConfigError, LipzooError, OutputError, first_line
from lipzoo.settings import FitSettings

__all__ = [
    "STATE_FILE",
    "check_other_epochs",
    "check_processes",
    "check_same_data",
    "check_same_judge",
    "check_state_data",
    "load_state",
    "save_state",
]

STATE_FILE = "state.pt"

Rest = TypeVar("Rest")


def save_state(path: Path, parts: Mapping[str, Any], **rest: Any) -> None:
    """Write the ``state_dict`` of each part, those of the random generators, and plain values."""
    content = {name: part.state_dict() for name, part in parts.items()}
    content |= {**rest, "rng": torch.get_rng_state()}
    if torch.cuda.is_available():
        content["cuda_rng"] = torch.cuda.get_rng_state_all()
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomically(path, buffer.getvalue())


def load_state(
    path: Path,
    parts: Mapping[str, Any],
    make: Callable[[dict[str, Any]], Rest],
    data: bytes | None = None,
    fingerprint: str | None = None,
) -> Rest:
    """Set the parts and the random generators back; gives what ``make`` makes of the content.

    ``data`` is what the file holds, where another process has read it; ``fingerprint`` that of the
    graph to go on with, where the state was saved with one.

    Raises
    ------
    CheckpointError
        If the state is damaged, or of other parts.
    OutputError
        If it was begun on another graph.
    """
    try:
        content = _read(path, data)
        _check_content(path, content, fingerprint)
        for name, part in parts.items():
            part.load_state_dict(content[name])
        torch.set_rng_state(content["rng"])
        if torch.cuda.is_available() and "cuda_rng" in content:
            # There may be fewer devices now than there were.
            torch.cuda.set_rng_state_all(content["cuda_rng"][: torch.cuda.device_count()])
        return make(content)
    except LipzooError:
        raise
    except Exception as fault:
        raise _strange(path, fault) from None


def check_same_data(folder: Path, before: str | None, now: str | None) -> None:
    """Refuse to go on, or to call a training finished, on another graph than it was begun on.

    Parameters
    ----------
    folder : Path
        Of the training.
    before, now : str
        The fingerprints of both.

    Raises
    ------
    OutputError
    """
    if before != now:
        raise OutputError(
            f"{folder}: the data has changed since this training was begun; choose another folder, "
            "or train anew with --overwrite"
        )


def check_same_judge(folder: Path, before: str | None, now: str | None) -> None:
    """Refuse to go on where the epochs so far were chosen by something else.

    Parameters
    ----------
    folder : Path
        Of the training.
    before, now : str, optional
        The metrics on the validation nodes; None where these are not looked at.

    Raises
    ------
    OutputError
    """
    if before != now:
        raise OutputError(
            f"{folder}: its epochs were judged by {before or 'nothing'} on the validation nodes, "
            f"and now by {now or 'nothing'}; choose another folder, or train anew with --overwrite"
        )


def check_state_data(path: Path, fingerprint: str) -> None:
    """:func:`check_same_data` of a state, where there is one.

    Raises
    ------
    OutputError
    """
    if path.is_file():
        _check_content(path, _read(path), fingerprint)


def _check_content(path: Path, content: Mapping[str, Any], fingerprint: str | None) -> None:
    check_same_data(path.parent, content.get("fingerprint", fingerprint), fingerprint)


def check_processes(path: Path, content: Mapping[str, Any], now: int) -> None:
    """Refuse to go on with more processes, or fewer: they would draw other numbers.

    Parameters
    ----------
    path, content
        A state, and what it holds: ``draws``, where several processes began it.
    now : int
        How many there are.

    Raises
    ------
    ConfigError
    """
    before = len(content.get("draws", [0]))
    if before != now:
        raise ConfigError(
            f"{path.parent}: was begun by {before} process{'es' * (before > 1)}, and now there "
            f"{'are' if now > 1 else 'is'} {now}; start as many, or start anew with --overwrite"
        )


def check_other_epochs(
    path: Path, before: int, settings: FitSettings, is_finished: bool, processes: int = 1
) -> None:
    """Refuse to go on from a state for another number of epochs, where what comes out is not what
    that number gives from the start.

    Parameters
    ----------
    path : Path
        Of the state; where nothing was begun, there is none.
    before : int
        The epochs that it was begun for.
    settings : FitSettings
        Those to go on with.
    is_finished : bool
        Whether the training has come to an end.
    processes : int
        How many go on with it.

    Raises
    ------
    ConfigError
        Which says why.
    CheckpointError
        If the state is damaged.
    """
    now, every = settings.epochs, settings.eval_every
    if now == before:
        return
    words = f"{path.parent}: was begun for {before} epochs and cannot go on to {now}"
    instead = "start anew with --overwrite, or choose another folder"
    if not path.is_file():
        if is_finished:
            raise ConfigError(f"{words}: it keeps no state to go on from; {instead}")
        return
    try:
        content = _read(path)
        done = int(content["fit"]["epoch"])
    except Exception as fault:
        raise _strange(path, fault) from None
    check_processes(path, content, processes)
    reason = ""
    if settings.schedule.name == "cosine":
        reason = "the learning rates of the schedule 'cosine' depend on the number of epochs"
    elif done > now:
        reason = f"{done} epochs are done already"
    elif done in (before, now) and done % every:
        reason = (
            f"epoch {done}, the last of one of the two, is evaluated in that one alone (eval_every "
            f"is {every})"
        )
    if reason:
        raise ConfigError(f"{words}: {reason}; {instead}")


def _read(path: Path, data: bytes | None = None) -> dict[str, Any]:
    # weights_only: tensors and plain containers; no class is ever constructed.
    file = path if data is None else io.BytesIO(data)
    return torch.load(file, weights_only=True, map_location="cpu")


def _strange(path: Path, fault: Exception) -> CheckpointError:
    return CheckpointError(
        f"{path}: does not belong to this run ({first_line(fault)}); use the recipe it was begun "
        "with, or start anew with --overwrite"
    )
