"""What a search found: the best recipe, all trials, plots."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lipzoo._atomic import write_all
from lipzoo._figures import rendered
from lipzoo._tables import markdown_table, to_csv
from lipzoo._yaml import to_yaml
from lipzoo.errors import LipzooError
from lipzoo.training.recipe import make_recipe
from lipzoo.training.search_space import SearchSpace, make_space, with_values

__all__ = [
    "COUNTED",
    "FILES",
    "chosen",
    "complete",
    "count",
    "line",
    "not_killed",
    "quiet",
    "running",
    "write",
]

_PLOTS = ("history", "importance", "slices")
FILES = ("best.yaml", "trials.csv", "report.md", *(f"{name}.svg" for name in _PLOTS))
_FOUND = "Found by a search:"
#: Trials that the report shows.
_BEST = 20
_WIDTH, _HEIGHT = 6.0, 4.0


@contextmanager
def quiet() -> Iterator[None]:
    """Without Optuna's warnings of what it calls experimental."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def count(study) -> tuple[int, int]:
    """How many trials came to an end, and how many are being made, at one moment.

    A trial whose process was killed is neither, but for the first moments after that.
    """
    states = Counter(map(_state, study.get_trials(deepcopy=False)))
    return sum(states[each] for each in COUNTED), states["running"]


def complete(study) -> list:
    """Those that came to an end, by their number."""
    return [t for t in study.get_trials(deepcopy=False) if _state(t) == "complete"]


def running(study) -> list:
    """Those that are being made, or whose process was killed a moment ago."""
    return [t for t in study.get_trials(deepcopy=False) if _state(t) == "running"]


def not_killed(study, number: int) -> int:
    """How many of the first ``number`` trials run, wait, or came to an end."""
    return sum(_state(trial) != "killed" for trial in study.get_trials(deepcopy=False)[:number])


#: States of the trials that count.
COUNTED = ("complete", "pruned", "failed")


def _state(trial) -> str:
    """``complete``, ``pruned``, ``failed``, ``killed``, ``running`` or ``waiting``."""
    name = trial.state.name.lower()
    return {"fail": "failed" if "fault" in trial.user_attrs else "killed"}.get(name, name)


def line(trial, space: SearchSpace) -> str:
    """A trial in some words."""
    state = _state(trial)
    words = ", ".join(f"{key} {_short(value)}" for key, value in chosen(trial, space).items())
    if state == "failed":
        words = trial.user_attrs["fault"]
    value = f" {trial.value:.4f}" if state == "complete" else ""
    return f"trial {trial.number}: {state}{value}: {words}"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else _plain(value)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def write(folder: Path, study, asked: dict[str, Any], metric: str) -> dict[str, Any]:
    """Write the best recipe, the table, the report and its plots; what was found, in short.

    Raises
    ------
    LipzooError
        If no trial succeeded; the table is written first.
    """
    space = make_space(asked["space"], "study.yaml")
    rows = [_row(trial, space, metric) for trial in study.get_trials(deepcopy=False)]
    columns = ["trial", "state", metric, "seconds", *space, "fault"]
    table = to_csv(rows, columns)
    best = max(complete(study), key=lambda trial: trial.value, default=None)
    if best is None:
        write_all({folder / "trials.csv": table})
        faults = [row["fault"] for row in rows if row["fault"]]
        words = f"; the first: {faults[0]}" if faults else ""
        raise LipzooError(f"none of {len(rows)} trials succeeded{words}")
    recipe = make_recipe(asked["recipe"], "study.yaml")
    values = chosen(best, space)
    content = with_values(recipe, values, f"trial {best.number}").to_dict()
    earlier = recipe.description.partition(_FOUND)[0].rstrip()  # it may be that of another search
    content["description"] = f"{earlier} {_FOUND} {metric} {best.value:.4f}.".lstrip()
    counts = Counter(_state(trial) for trial in study.get_trials(deepcopy=False))
    plots = _plots(study, metric)
    found = {
        "name": recipe.full_name,
        "metric": metric,
        "value": best.value,
        "trial": best.number,
        "values": values,
        "trials": dict(sorted(counts.items())),
        "only_class": best.user_attrs.get("only_class"),
    }
    report = _report(found, study, asked["seeds"], space, plots)
    files = {folder / f"{name}.svg": data for name, data in plots.items()}
    files |= {folder / "trials.csv": table, folder / "report.md": report}
    write_all({**files, folder / "best.yaml": to_yaml(content)})
    return found


def chosen(trial, space: SearchSpace) -> dict[str, Any]:
    """The values of a trial, as they stand in a recipe."""
    return {key: space[key].read(value) for key, value in trial.params.items()}


def _row(trial, space: SearchSpace, metric: str) -> dict[str, Any]:
    length = trial.duration.total_seconds() if trial.duration else None
    values = {key: _plain(value) for key, value in chosen(trial, space).items()}
    return {
        "trial": trial.number,
        "state": _state(trial),
        metric: trial.value if _state(trial) == "complete" else "",
        "seconds": "" if length is None else f"{length:.1f}",
        **dict.fromkeys(space, ""),
        **values,
        "fault": trial.user_attrs.get("fault", ""),
    }


def _report(
    found: dict[str, Any], study, seeds: list[int], space: SearchSpace, plots: dict[str, bytes]
) -> bytes:
    counts = ", ".join(f"{number} {state}" for state, number in found["trials"].items())
    best = sorted(complete(study), key=lambda trial: -trial.value)[:_BEST]
    header = ["trial", found["metric"], *space]
    cells = [
        [str(t.number), f"{t.value:.4f}", *map(_short, chosen(t, space).values())] for t in best
    ]
    lines = [
        f"# Search for {found['name']}",
        "",
        f"Trials: {counts}. A trial is worth the mean {found['metric']} of {_seeds(seeds)}, at the",
        "epoch that the recipe chooses; test labels decided nothing. The best of many trials",
        "flatters itself: train `best.yaml` over seeds of its own to know what it is worth.",
        "",
        *markdown_table(header, cells, figures=True),
        "",
        *(f"![{name}]({name}.svg)" for name in plots),
        "" if plots else "No plots: matplotlib is not installed, or too few trials came to an end.",
    ]
    return "\n".join([*lines, ""]).encode()


def _seeds(seeds: list[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def _plots(study, metric: str) -> dict[str, bytes]:
    """SVG by name, as far as there are trials enough."""
    try:
        import matplotlib.pyplot as plt
        from optuna.visualization import matplotlib as draw
    except ImportError:
        return {}
    makers = {
        "history": draw.plot_optimization_history,
        "importance": draw.plot_param_importances,
        "slices": draw.plot_slice,
    }
    plots = {}
    for name in _PLOTS:
        with quiet():
            try:
                makers[name](study, target_name=metric)
            except (ValueError, RuntimeError, ZeroDivisionError):
                continue  # of one trial, or trials of one value, nothing can be said
            figure = plt.gcf()
            if name != "slices":
                figure.set_size_inches(_WIDTH, _HEIGHT)
            plots[name] = rendered(figure, "svg")
            plt.close(figure)
    return plots
