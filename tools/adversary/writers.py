"""The commands of lipzoo that write, and what is whole of what each of them wrote."""

from __future__ import annotations

import csv
import functools
import io
import json
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch
import yaml

from lipzoo._yaml import read_yaml
from lipzoo.cli import main
from lipzoo.errors import CheckpointError
from lipzoo.weights import parse_safetensors, read_checkpoint

__all__ = ["WRITERS", "Writer", "files_of", "make_sources"]

RECIPE = {
    "architecture": "test_tiny",
    "overrides": {"feat_drop": 0.3, "attn_drop": 0.2},
    "dataset": {"name": "iris"},
    "epochs": 6,
    "seeds": [0, 1],
    "eval_every": 2,
}


@dataclass(frozen=True)
class Writer:
    """One command.

    ``argv(sources, version, out)`` gives its words for the ``"old"`` or ``"new"`` output;
    ``state(out)`` says what is there: ``""`` (nothing that could be taken for a result), or a
    comparison key of the result. ``again`` are the words that complete what was stopped.
    """

    name: str
    argv: Callable[[Path, str, Path], list[str]]
    result: Callable[[Path], object]
    starts: tuple[str, ...] = ("nothing", "old")
    again: tuple[str, ...] = ("--overwrite",)
    #: Files that an undisturbed run does not repeat bit by bit.
    free: tuple[str, ...] = ("state.pt",)
    patches: Callable[[], None] = field(default=lambda: None)
    #: Whether a process that was stopped may have removed the old result, to go on with the new.
    may_lose_old: bool = False
    #: Which version a stopped process was at; that one is completed.
    version: Callable[[Path, Path], str] = field(default=lambda sources, out: "new")
    #: What else there is to do before the command for a version runs.
    before: Callable[[Path, str], None] = field(default=lambda sources, version: None)
    #: Whether an output that is there needs ``--overwrite``.
    overwrites: bool = True
    #: How its output is read, put aside, and brought back.
    files: Callable[..., dict[str, bytes]] = field(default=lambda *args: files_of(*args))
    keep: Callable[[Path, Path], None] = field(default=lambda out, place: keep(out, place))
    reset: Callable[[Path, Path | None], None] = field(default=lambda out, start: reset(out, start))

    def command(self, sources: Path, version: str, out: Path, *more: str) -> Callable[[], int]:
        """The work for a child."""

        def work() -> int:
            self.patches()
            return main([*self.argv(sources, version, out), *more])

        return work


def files_of(out: Path, free: tuple[str, ...] = ()) -> dict[str, bytes]:
    """All files, hidden ones too, but those that no two runs write alike."""
    paths = sorted(out.rglob("*")) if out.is_dir() else [out, *out.parent.glob(f".{out.name}*")]
    return {
        str(path.relative_to(out.parent)): path.read_bytes()
        for path in paths
        if path.is_file() and path.name not in free
    }


def check_readable(out: Path) -> None:
    """Every file that has its name can be read to its end."""
    for path in [out] if out.is_file() else out.rglob("*"):
        if path.name.startswith(".") or not path.is_file():
            continue
        if path.suffix == ".yaml":
            read_yaml(path)
        elif path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".csv" and path.name != "metrics.csv":  # a log that grows
            text = path.read_text()
            # A curve's first line is a comment, with the hash of the weights.
            rows = list(csv.reader(x for x in io.StringIO(text) if not x.startswith("#")))
            assert text.endswith("\n"), f"{path.name} is cut short"
            assert len({len(row) for row in rows}) == 1, f"{path.name} is cut short"
        elif path.suffix == ".safetensors":
            with suppress(FileNotFoundError):
                parse_safetensors(path.read_bytes(), path)
        elif path.suffix == ".html":
            assert path.read_text().rstrip().endswith("</html>"), f"{path.name} is cut short"
        elif path.name == "state.pt":
            torch.load(path, weights_only=True)


# ------------------------------------------------------------------ what is a result


def _checkpoint(out: Path) -> object:
    try:
        found = read_checkpoint(out)  # which checks length and hash
    except CheckpointError as fault:
        if (out / "card.yaml").exists():
            raise AssertionError(f"a card, but {fault}") from None
        return None
    return (out / "card.yaml").read_bytes(), {
        key: tensor.numpy().tobytes() for key, tensor in found.tensors.items()
    }


def _run(out: Path) -> object:
    for result in out.glob("**/seed_*/result.yaml"):
        assert result.with_name("model.safetensors").is_file(), "a result without weights"
    summary = out / "summary.yaml"
    if not summary.is_file():
        return None
    return (out / "recipe.yaml").read_bytes(), summary.read_bytes()


def _search(out: Path) -> object:
    """The best recipe; the database and the table hold times, and trials that were killed."""
    best = out / "best.yaml"
    if not best.is_file():
        return None
    with (out / "trials.csv").open(newline="") as file:
        done = [row for row in csv.DictReader(file) if row["state"] == "complete"]
    assert len(done) == 3, f"a best recipe after {len(done)} of 3 trials"
    return best.read_bytes()


def _file(out: Path) -> object:
    return out.read_bytes() if out.exists() else None


def _sealed(seal: str) -> Callable[[Path], object]:
    """All files, where the one that comes last is there."""

    def result(out: Path) -> object:
        if not (out / seal).exists():
            return None
        return {n: d for n, d in files_of(out).items() if "/." not in n}

    return result


def _demo(out: Path) -> object:
    return _checkpoint(out / "finetuned.breast_cancer")


# ----------------------------------------------------------------------- the commands


def make_sources(folder: Path) -> None:
    """What the commands read: two recipes, their runs and their checkpoints, a search space."""
    (folder / "space.yaml").write_text("optimizer.lr: {low: 1.0e-3, high: 0.1, log: true}\n")
    for version, epochs in (("old", 4), ("new", 6)):
        recipe = folder / f"{version}.yaml"
        recipe.write_text(yaml.safe_dump({**RECIPE, "epochs": epochs}))
        run, weights = folder / f"{version}_run", folder / f"{version}_weights"
        for words in (
            ["train", str(recipe), "--out", str(run), "--quiet"],
            ["export", str(run), "--out", str(weights)],
        ):
            if main(words):
                raise SystemExit(f"{words}: failed undisturbed")


def _train(sources: Path, version: str, out: Path) -> list[str]:
    return ["train", str(sources / f"{version}.yaml"), "--out", str(out), "--quiet"]


def _export(sources: Path, version: str, out: Path) -> list[str]:
    return ["export", str(sources / f"{version}_run"), "--out", str(out)]


def _finetune(sources: Path, version: str, out: Path) -> list[str]:
    words = ["--data", "wine", "--epochs", "5", "--save-every", "1", "--quiet"]
    return ["finetune", str(sources / f"{version}_weights"), *words, "--out", str(out)]


def _predict(sources: Path, version: str, out: Path) -> list[str]:
    return ["predict", str(sources / f"{version}_weights"), "--data", "iris", "--out", str(out)]


def _certify(sources: Path, version: str, out: Path) -> list[str]:
    words = ["--data", "iris", "--iterations", "2", "--out", str(out)]
    return ["certify", str(sources / f"{version}_weights"), *words]


def _report(sources: Path, version: str, out: Path) -> list[str]:
    words = ["--data", "iris", "--radii", "no", "--embedding", "pca", "--out", str(out)]
    return ["report", str(sources / f"{version}_weights"), *words]


def _new(sources: Path, version: str, out: Path) -> list[str]:
    return ["new", "my_gat", "--out", str(out)]


def _tune(sources: Path, version: str, out: Path) -> list[str]:
    words = ["--space", str(sources / "space.yaml"), "--trials", "3", "--quiet"]
    return ["tune", str(sources / f"{version}.yaml"), *words, "--out", str(out)]


def _demo_words(sources: Path, version: str, out: Path) -> list[str]:
    return ["demo", "--out", str(out)]


def _save_often() -> None:
    from lipzoo.training import run_seed

    run_seed.fit = functools.partial(run_seed.fit, save_every=2)


def _version_of_run(sources: Path, out: Path) -> str:
    recipe = out / "recipe.yaml"
    return _version(read_yaml(recipe) if recipe.exists() else {})


def _version_of_search(sources: Path, out: Path) -> str:
    study = out / "study.yaml"
    return _version(read_yaml(study)["recipe"] if study.exists() else {})


def _version(recipe: dict) -> str:
    return "old" if recipe.get("epochs") == 4 else "new"


def _version_of_finetuning(sources: Path, out: Path) -> str:
    settings = out / "training" / "settings.yaml"
    old = read_yaml(sources / "old_weights" / "card.yaml")["weights"]["sha256"]
    is_old = settings.exists() and read_yaml(settings)["recipe"]["weights_sha256"] == old
    return "old" if is_old else "new"


def _short_demo() -> None:
    """A demo that trains for three epochs: what it writes is the same."""
    from lipzoo import demo

    real = demo.finetune
    demo.finetune = lambda *args, **options: real(*args, **{**options, "epochs": 3})


def _without_plots() -> None:
    """Which take most of the time, and are written as the table is."""
    sys.modules["matplotlib.pyplot"] = None


#: What a search writes of its own hours, and of trials that were killed.
_OF_THE_MOMENT = (
    *("study.db", "study.db-journal", "study.db.lock"),
    *("trials.csv", "report.md"),
)

WRITERS = {
    writer.name: writer
    for writer in (
        Writer(
            "train",
            _train,
            _run,
            again=("--resume",),
            patches=_save_often,
            may_lose_old=True,
            version=_version_of_run,
        ),
        Writer("export", _export, _checkpoint),
        Writer(
            "tune",
            _tune,
            _search,
            again=(),
            free=_OF_THE_MOMENT,
            patches=_without_plots,
            may_lose_old=True,
            version=_version_of_search,
        ),
        Writer(
            "finetune", _finetune, _checkpoint, again=("--resume",), version=_version_of_finetuning
        ),
        Writer("predict", _predict, _file),
        Writer("certify", _certify, _sealed("certificate.json"), may_lose_old=True),
        Writer("report", _report, _sealed("report.json"), may_lose_old=True),
        Writer(
            "new", _new, _sealed("my_gat.yaml"), starts=("nothing",), again=(), overwrites=False
        ),
        Writer("demo", _demo_words, _demo, patches=_short_demo),
    )
}


def keep(out: Path, place: Path) -> None:
    """Put ``out`` aside."""
    shutil.copytree(out, place) if out.is_dir() else shutil.copy2(out, place)


def reset(out: Path, start: Path | None) -> None:
    """Let ``out`` be what ``start`` is, or nothing."""
    for path in (out, *out.parent.glob(f".{out.name}*")):
        if path.is_dir():
            shutil.rmtree(path)
        elif os.path.lexists(path):
            path.unlink()
    if start is not None:
        keep(start, out)


def warm_up(folder: Path) -> None:
    """Import what is imported late, with one thread: OpenMP's would not survive the fork."""
    torch.set_num_threads(1)
    sys.modules["torch.utils.tensorboard"] = None  # its events are not compared, and take time
    make_sources(folder)
