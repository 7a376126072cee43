"""Run cases in turn, round after round; write CSV, a table of ratios, a plot."""

from __future__ import annotations

import csv
import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from lipzoo.benchmark.cases import Case
from lipzoo.errors import LipzooError
from lipzoo.weights import prepare_folder

__all__ = ["ratio_table", "run_benchmark"]

#: What ratios are against.
PEER = "DGL GATConv"


def run_benchmark(
    cases: list[Case],
    out: str | Path,
    *,
    rounds: int = 3,
    repeats: int = 5,
    raw_dir: str | None = None,
    overwrite: bool = False,
    verbose: bool = True,
) -> list[dict]:
    """Measure each case once a round, each time in a process of its own.

    Rounds are interleaved, so that what else the machine does hits all cases alike. A case's
    time is the median over all repeats of all rounds, its memory the median over the rounds.

    Parameters
    ----------
    cases : list of Case
        See :func:`~lipzoo.benchmark.default_cases`.
    out : path
        Folder for ``benchmark.csv``, ``benchmark.md`` and, with matplotlib, ``benchmark.svg``.
    rounds, repeats : int
        Processes a case, timed steps a process.
    raw_dir : str, optional
        Where DGL's raw data lies.
    overwrite : bool
        Write into a folder that holds something.
    verbose : bool
        Show a progress bar.

    Returns
    -------
    list of dict
        A row a case: its fields, ``seconds``, ``memory_mib``, ``first_call``.

    Raises
    ------
    OutputError
        If the folder holds something and ``overwrite`` is false.
    LipzooError
        If a case fails.
    """
    folder = prepare_folder(out, overwrite)
    measured: dict[Case, list[dict]] = {case: [] for case in cases}
    work = [case for _ in range(rounds) for case in cases]
    for case in tqdm(work, desc="benchmark", disable=None if verbose else True):
        measured[case].append(_measure(case, repeats, raw_dir))
    rows = [_summary(case, runs) for case, runs in measured.items()]
    with (folder / "benchmark.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    (folder / "benchmark.md").write_text(ratio_table(rows) + "\n", encoding="utf-8")
    _plot(rows, folder / "benchmark.svg")
    return rows


def _measure(case: Case, repeats: int, raw_dir: str | None) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        request = Path(folder, "case.json")
        content = {"case": asdict(case), "repeats": repeats, "raw_dir": raw_dir}
        request.write_text(json.dumps(content))
        program = [sys.executable, "-m", "lipzoo.benchmark.cases", str(request)]
        run = subprocess.run(program, capture_output=True, text=True)
    if run.returncode:
        last = run.stderr.strip().splitlines()[-1:] or ["killed"]
        raise LipzooError(f"benchmark: {case} failed: {last[0]}")
    return json.loads(run.stdout.splitlines()[-1])


def _summary(case: Case, runs: list[dict]) -> dict:
    memory = [run["memory_mib"] for run in runs if run["memory_mib"] is not None]
    return {
        **asdict(case),
        "num_nodes": runs[0]["num_nodes"],
        "num_edges": runs[0]["num_edges"],
        "seconds": statistics.median(s for run in runs for s in run["seconds"]),
        "memory_mib": statistics.median(memory) if memory else None,
        "first_call": runs[0]["first_call"],
    }


def ratio_table(rows: list[dict]) -> str:
    """Markdown: how many times as fast as DGL's ``GATConv``, and the share of its memory."""
    lines = [
        f"| graph | D | what | implementation | times as fast as {PEER} | memory beside it | "
        "seconds | MiB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    groups: dict[tuple, list[dict]] = {}
    for row in rows:
        groups.setdefault((row["graph"], row["width"], row["layers"]), []).append(row)
    for (graph, width, layers), group in groups.items():
        peer = next((row for row in group if row["implementation"] == PEER), None)
        what = f"{layers}-layer training step" if layers else "one layer"
        for row in group:
            speed = memory = "-"
            if peer is not None:
                speed = f"{peer['seconds'] / row['seconds']:.2f}"
                if row["memory_mib"] is not None and peer["memory_mib"]:
                    memory = f"{row['memory_mib'] / peer['memory_mib']:.2f}"
            mib = "-" if row["memory_mib"] is None else f"{row['memory_mib']:.0f}"
            lines.append(
                f"| {graph} ({row['num_edges']:,} edges) | {width} | {what} | "
                f"{row['implementation']} | {speed} | {memory} | {row['seconds']:.3f} | {mib} |"
            )
    return "\n".join(lines)


def _plot(rows: list[dict], path: Path) -> None:
    try:
        from matplotlib.figure import Figure
    except ImportError:  # an optional extra
        return
    groups = sorted({(r["graph"], r["width"], r["layers"]) for r in rows})
    names = list(dict.fromkeys(row["implementation"] for row in rows))
    figure = Figure(figsize=(4 + 2 * len(groups), 4), layout="constrained")
    axis = figure.add_subplot()
    for number, name in enumerate(names):
        places, heights = [], []
        for index, group in enumerate(groups):
            for row in rows:
                same = (row["graph"], row["width"], row["layers"]) == group
                if same and row["implementation"] == name:
                    places.append(index + 0.8 * number / len(names))
                    heights.append(row["seconds"])
        axis.bar(places, heights, width=0.8 / len(names), label=name)
    axis.set_xticks(
        [index + 0.35 for index in range(len(groups))],
        [f"{g}\nD={d}, {f'{n} layers' if n else 'one layer'}" for g, d, n in groups],
    )
    axis.set_yscale("log")
    axis.set_ylabel("seconds")
    figure.legend(loc="outside upper center", ncols=3, fontsize="small")
    figure.savefig(path)
