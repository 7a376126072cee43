"""Small searches for the tests."""

import csv

import optuna

from lipzoo.training import tune
from lipzoo.training.search_space import make_space

SPACE = {
    "optimizer.lr": {"low": 1e-4, "high": 0.1, "log": True},
    "overrides.feat_drop": [0.0, 0.3],
}


def search(recipe, out, trials=3, space=SPACE, verbose=False, **options):
    return tune(recipe, make_space(space, "test"), out, trials=trials, verbose=verbose, **options)


def rows_of(out):
    with (out / "trials.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def begun_elsewhere(file, values=None):
    """A trial that another process is making, as far as the storage knows."""
    study = optuna.load_study(study_name="lipzoo", storage=f"sqlite:///{file}")
    if values is not None:
        study.enqueue_trial(values)
    return study, study.ask()
