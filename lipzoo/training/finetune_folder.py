"""The part of a fine-tuned checkpoint's folder that a killed process goes on from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from lipzoo._writing import LOCK_FILE, output_path
from lipzoo._yaml import leftovers, read_yaml, remove_leftovers, write_yaml
from lipzoo.errors import ConfigError
from lipzoo.training.loop import CSV_FILE, STATE_FILE
from lipzoo.weights import prepare_folder

__all__ = ["TRAINING_FOLDER", "prepare_training"]

TRAINING_FOLDER, SETTINGS_FILE = "training", "settings.yaml"


def prepare_training(
    out: str | os.PathLike, identity: dict[str, Any], *, resume: bool, overwrite: bool
) -> Path:
    """Make the folder of the state; on ``resume``, check that it is this fine-tuning's.

    Parameters
    ----------
    out : path
        The checkpoint's folder.
    identity : dict of dict
        What makes this fine-tuning; plain values.
    resume, overwrite : bool
        Go on with a state that is there; start anew in a folder that holds something.

    Raises
    ------
    OutputError
        If the folder holds something that neither allows, or cannot be written.
    ConfigError
        If the state belongs to another fine-tuning.
    """
    folder = output_path(out)
    training = folder / TRAINING_FOLDER
    file = training / SETTINGS_FILE
    if resume and file.is_file():
        _check_same(file, identity)
        remove_leftovers(training)
        return training
    prepare_folder(folder, overwrite or (resume and _was_just_begun(folder)))
    training.mkdir(exist_ok=True)
    # The state first: it must not be taken for that of the new settings.
    for path in (training / STATE_FILE, training / CSV_FILE, *training.glob("*/events.*")):
        path.unlink(missing_ok=True)
    remove_leftovers(training)
    write_yaml(file, identity)
    return training


def _was_just_begun(folder: Path) -> bool:
    """Whether a kill before the settings were written explains all that is there."""
    training = folder / TRAINING_FOLDER
    for place, ours in ((folder, {training, folder / LOCK_FILE}), (training, set())):
        if place.is_dir() and {*place.iterdir()} - ours - {*leftovers(place)}:
            return False
    return True


def _check_same(file: Path, identity: dict[str, Any]) -> None:
    begun = read_yaml(file)
    differing = sorted(
        f"{part}.{key}"
        for part in {*begun, *identity}
        for key in {*begun.get(part, {}), *identity.get(part, {})}
        if begun.get(part, {}).get(key) != identity.get(part, {}).get(key)
    )
    if differing:
        raise ConfigError(
            f"{file.parent.parent}: was begun with other arguments ({', '.join(differing)} "
            "differ); resume with the same, or choose another folder"
        )
