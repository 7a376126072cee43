"""Measure cases side by side, group after group; keep what is measured in a CSV file."""

from __future__ import annotations

import itertools
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import asdict
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from lab.benchmark.cases import SUBJECT, Case
from lab.benchmark.client import OutOfMemory, Worker
from lab.benchmark.graphs import load_graph, save_graph
from lipzoo._atomic import write_all
from lipzoo._output import OutputFolder
from lipzoo._progress import ProgressBar
from lipzoo._tables import read_csv, to_csv
from lipzoo._writing import one_writer
from lipzoo.errors import ConfigError

__all__ = ["CSV_FILE", "read_rows", "run_benchmark"]

CSV_FILE = "benchmark.csv"

#: Columns of the CSV file, and how each is read. One row a case and number of repeats.
COLUMNS: dict[str, type] = {
    **dict.fromkeys(("implementation", "graph"), str),
    **dict.fromkeys(("heads", "width", "depth", "threads", "repeats"), int),
    **dict.fromkeys(("num_nodes", "num_edges"), int),
    "status": str,
    **dict.fromkeys(("seconds", "fastest", "slowest"), float),
    **dict.fromkeys(("memory_mib", "held_mib", "first_call"), float),
    **dict.fromkeys(("first_call_cold", "first_call_cached"), float),
    **dict.fromkeys(("measured", "setting"), str),
}

#: Seconds that one case may take for its timed steps, and the repeats it gets even so.
_BUDGET, _FEWEST = 6.0, 3
#: Seconds that a turn lasts at least, so that a short step is not timed from cold caches only.
_TURN = 0.25


@one_writer
def run_benchmark(
    cases: Sequence[Case],
    out: str | Path,
    *,
    repeats: int = 7,
    memory_gib: float | None = None,
    raw_dir: str | None = None,
    force: bool = False,
    verbose: bool = True,
) -> list[dict]:
    """Measure cases: each one's memory in a process of its own, then their times in one process.

    The cases of a group (one graph, width, depth) take turns in one process, so that what else the
    machine does hits all alike. A case's time is the median over its turns. Steps that warm up are
    not counted. A slow case gets fewer turns, at least 3.

    Cases whose rows are in ``benchmark.csv`` are not measured again, unless ``force``.
    ``repeats`` are the turns of a case. ``memory_gib`` is for a process: three quarters of what is
    free by default, at most 16; a case that needs more is noted.

    Returns
    -------
    list of dict
        All rows of the file.

    Raises
    ------
    ConfigError
        If ``repeats`` or ``memory_gib`` is not positive, or the file is not of this format.
    OutputError
        If the folder holds other files, or cannot be written.
    LipzooError
        If a case fails for another reason than memory, or a data set is absent.

    Notes
    -----
    In a script, call it under ``if __name__ == "__main__":``, as always with processes.
    """
    if repeats < 1:
        raise ConfigError(f"repeats must be at least 1, got {repeats}")
    if memory_gib is not None and not memory_gib > 0:
        raise ConfigError(f"memory_gib must be > 0, got {memory_gib}")
    limit_mib = 1024 * (memory_gib or default_memory_gib())
    folder = OutputFolder(out, CSV_FILE).keep()
    rows = read_rows(folder) if (folder / CSV_FILE).exists() else {}
    wanted = [case for case in cases if force or (case, repeats) not in rows]
    # Sorting keeps the order of what is equal: a graph is loaded once.
    order = list(dict.fromkeys(case.graph for case in wanted))
    wanted.sort(key=lambda case: order.index(case.graph))
    compiled: set[tuple[int, int]] = set()
    bar = ProgressBar(total=len(wanted), desc="benchmark", disable=None if verbose else True)
    with bar, tempfile.TemporaryDirectory(prefix="lipzoo-benchmark-") as temporary:
        path = Path(temporary, "graph.npz")
        for name, on_graph in itertools.groupby(wanted, key=lambda case: case.graph):
            bar.set_postfix_str(f"loading {name}")
            graph = load_graph(name, raw_dir)
            save_graph(graph, path)
            size = graph.num_nodes(), graph.num_edges()
            del graph
            for _, group in itertools.groupby(on_graph, key=lambda case: case.group):
                start = partial(Worker, path, limit_mib=limit_mib)
                measured = _measure_group(start, size, list(group), repeats, bar, verbose)
                for (case, _), row in measured.items():
                    sizes = case.heads, case.width
                    is_layer = case.implementation == SUBJECT and not case.depth
                    if is_layer and row["status"] == "ok" and sizes not in compiled:
                        bar.set_postfix_str(f"compiling for D={case.width}")
                        row |= _measure_compilation(case, path)
                        compiled.add(sizes)
                rows.update(measured)
                write_all({folder / CSV_FILE: to_csv(map(_rounded, rows.values()), tuple(COLUMNS))})
    return list(rows.values())


Rows = dict[tuple[Case, int], dict[str, Any]]


def _measure_group(
    start: Callable[..., Worker],
    size: tuple[int, int],
    cases: list[Case],
    repeats: int,
    bar: ProgressBar,
    verbose: bool,
) -> Rows:
    threads = cases[0].threads
    warm: dict[Case, dict] = {}
    for case in cases:
        bar.set_postfix_str(f"{case}: warming up")
        with suppress(OutOfMemory), closing(start(threads=threads)) as worker:
            warm[case] = worker.warm(case)
    bar.set_postfix_str(f"{cases[0].where}: {repeats} turns")
    turns = _take_turns(partial(start, threads=threads), warm, repeats)
    common = {
        "repeats": repeats,
        "num_nodes": size[0],
        "num_edges": size[1],
        "measured": time.strftime("%Y-%m-%d %H:%M:%S"),
        "setting": _setting(threads),
    }
    rows = {}
    for case in cases:
        row = dict.fromkeys(COLUMNS) | asdict(case) | common | {"status": "out of memory"}
        if case in turns:
            row |= {name: warm[case][name] for name in ("memory_mib", "held_mib", "first_call")}
            row |= {
                "status": "ok",
                "seconds": statistics.median(turns[case]),
                "fastest": min(turns[case]),
                "slowest": max(turns[case]),
            }
        if verbose:
            found = f"{row['seconds']:.4g} s" if case in turns else row["status"]
            bar.write(f"{case}: {found}", file=sys.stderr)
        bar.update()
        rows[case, repeats] = row
    return rows


def _take_turns(
    start: Callable[[], Worker], warm: dict[Case, dict], repeats: int
) -> dict[Case, list[float]]:
    """Seconds of a step in each turn of each case, all in one process.

    A case that has no room there, beside what the others hold, is left out.
    """
    cases = list(warm)
    while cases:
        turns = {case: [] for case in cases}
        with closing(start()) as worker:
            try:
                for case in cases:
                    worker.warm(case, measure_memory=False)
                for number, case in itertools.product(range(repeats), cases):
                    pace = warm[case]["pace"]
                    if number < max(_FEWEST, _BUDGET / pace):
                        steps = max(1, min(5, round(_TURN / pace)))
                        turns[case].append(statistics.median(worker.steps(case, steps)))
                return turns
            except OutOfMemory:
                cases.remove(case)
    return {}


def _measure_compilation(case: Case, graph: Path) -> dict[str, float]:
    """Seconds of the first call in a process that compiles, and in the next, which need not."""
    seconds = []
    with tempfile.TemporaryDirectory(prefix="lipzoo-benchmark-") as cache:
        for _ in range(2):
            with closing(Worker(graph, case.threads, numba_cache=Path(cache))) as worker:
                seconds.append(worker.warm(case, measure_memory=False)["first_call"])
    return {"first_call_cold": seconds[0], "first_call_cached": seconds[1]}


# ------------------------------------------------------------------ the file


def read_rows(folder: str | Path) -> Rows:
    """The rows of ``benchmark.csv`` in ``folder``, by case and number of repeats.

    Raises
    ------
    ConfigError
        If there is none, or it is not of this format.
    """
    path = Path(folder).expanduser() / CSV_FILE
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; tools/benchmark.py --out {folder} measures one")
    rows: Rows = {}
    for number, text in enumerate(read_csv(path, tuple(COLUMNS)), start=2):
        try:
            row = {n: kind(text[n]) if text[n] else None for n, kind in COLUMNS.items()}
            rows[Case.of(row), row["repeats"]] = row
        except (TypeError, ValueError) as fault:
            raise ConfigError(f"{path}, line {number}: {fault}; remove the line") from None
    return rows


def _rounded(row: dict) -> dict:
    return {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()}


def _setting(threads: int) -> str:
    """Threads, processor and versions that a row was measured with."""
    names = ["torch", "dgl", "numba", "torch_geometric"]
    versions = []
    for name in names:
        with suppress(metadata.PackageNotFoundError):
            versions.append(f"{name} {metadata.version(name)}")
    number = "1 thread" if threads == 1 else f"{threads} threads"
    return f"{number} of {_processor()}, {', '.join(versions)}"


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def default_memory_gib() -> float:
    """Three quarters of the memory that is free, at most 16 GiB."""
    with suppress(OSError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(line for line in lines if line.startswith("MemAvailable:"))
        return min(16.0, 0.75 * int(free.split()[1]) / 2**20)
    return 16.0
