"""One recipe trained in one piece, in clusters, and by several processes."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import psutil

from lab.benchmark.process import rows_apart
from lipzoo._tables import read_csv
from lipzoo._yaml import read_yaml
from lipzoo.errors import LipzooError

__all__ = ["RECIPE", "measure_modes"]

RECIPE = Path(__file__).with_name("modes.yaml")

_CLUSTERS = ["--batching", "{name: clusters, parts: 32, per_batch: 4}"]
#: What `lipzoo train` is told, and the number of processes.
_MODES = {
    "full": ([], 1),
    "clusters": (_CLUSTERS, 1),
    "2 processes": ([], 2),
    "4 processes": ([], 4),
}


def measure_modes(
    file: Path, recipe: str, seeds: Iterable[int], raw_dir: str | None, say: Callable = print
) -> None:
    """Write a row a seed and mode: what ``lipzoo train`` reaches, and takes; rows there are kept.

    ``test`` and ``val``: the recipe's metric in %, of the epoch that is best in validation.
    ``seconds``: of the processor an epoch, evaluations with it and all processes summed, beyond
    what a run of one epoch takes. ``gib``: what the processes hold at their peaks, summed, with
    torch, and the data as each loads them. A process has one thread. The runs stay in a folder
    beside the file.

    Raises
    ------
    LipzooError
        If a training ends without a result; its own words stand before.
    """
    runs = file.with_suffix("")
    items = [(mode, seed) for seed in seeds for mode in _MODES]
    work = partial(_row, recipe=recipe, raw_dir=raw_dir, runs=runs)
    rows_apart(file, work, items, say, names=("mode", "seed"))


def _row(item: tuple[str, int], recipe: str, raw_dir: str | None, runs: Path) -> dict:
    begin = _seconds()
    mode, seed = item
    options, number = _MODES[mode]
    out = runs / f"{mode.replace(' ', '_')}_{seed}"
    command = ["-m", "lipzoo.cli", "train", recipe, "--seeds", str(seed), "--out", str(out)]
    command += ["--overwrite", "--quiet", *options]
    command += ["--raw-dir", raw_dir] if raw_dir else []
    if number > 1:
        launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(number)]
        command = launch + command
    _run([sys.executable, *command, "--epochs", "1"], number > 1)
    first, begin = _seconds() - begin, _seconds()
    peak = _run([sys.executable, *command], number > 1)
    more = _seconds() - begin - first
    result = read_yaml(out / f"seed_{seed}" / "result.yaml")
    last = read_csv(out / f"seed_{seed}" / "metrics.csv")[-1]
    metric = next(key for key in last if key.startswith("val_")).removeprefix("val_")
    return {
        "mode": mode,
        "seed": seed,
        "val": round(100 * result["metrics"][f"val_{metric}"], 2),
        "test": round(100 * result["metrics"][f"test_{metric}"], 2),
        "seconds": round(more / max(1, int(last["epoch"]) - 1), 3),
        "gib": round(peak / 2**30, 2),
    }


def _seconds() -> float:
    """Of the processor, by the children that ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _run(command: list[str], is_launcher: bool) -> int:
    """The bytes that the processes of a command hold at their peaks, summed."""
    peaks: dict[int, int] = {}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        started = psutil.Process(process.pid)
        while process.poll() is None:
            for each in _children(started) + [started] * (not is_launcher):
                try:
                    held = each.memory_info().rss
                except psutil.Error:  # it ended
                    continue
                peaks[each.pid] = max(held, peaks.get(each.pid, 0))
            try:
                process.wait(0.2)
            except subprocess.TimeoutExpired:
                continue
    if process.returncode:
        raise LipzooError(f"a training ended with code {process.returncode}")
    return sum(peaks.values())


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []
