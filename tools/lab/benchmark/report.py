"""What a benchmark found: tables in Markdown, ratios first, and plots."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from lab.benchmark.cases import IMPLEMENTATIONS, LIMIT, SUBJECT, Case, curve_graph
from lab.benchmark.measurements import read_rows
from lab.benchmark.plots import plot_depth, plot_edges
from lipzoo._atomic import write_all
from lipzoo._tables import markdown_table

__all__ = ["absolute_table", "compilation_lines", "ratio_table", "write_report"]

#: Peers in the order of the columns of the ratio table: what the project is held against first.
_PEERS = (
    "DGL GATConv",
    "dgl + norm",
    "PyG GATConv",
    "PyG + norm",
    "PyG + norm on edges",
    "torch + norm",
    LIMIT,
)


def write_report(folder: str | Path) -> str:
    """Write ``benchmark.md`` and, with matplotlib, the plots from the CSV file in ``folder``.

    Returns what is in ``benchmark.md``: the ratios, the seconds and MiB, the compilation.

    Raises
    ------
    ConfigError
        If there is no such file, or it is not of this format.
    OutputError
        If the folder cannot be written.
    """
    folder = Path(folder).expanduser()
    rows = list(read_rows(folder).values())
    parts = [ratio_table(rows), compilation_lines(rows), absolute_table(rows), _settings(rows)]
    text = "\n\n".join(part for part in parts if part) + "\n"
    files = {"benchmark.md": text.encode(), **plot_depth(rows), **plot_edges(rows)}
    write_all({folder / name: data for name, data in files.items()})
    return text


def ratio_table(rows: Sequence[dict]) -> str:
    """Markdown: ``fused + norm`` against each peer, ``time × / memory ×`` a cell.

    ``3.1× / 4.2×``: the peer takes 3.1 times the time and, above what its process holds between
    steps, 4.2 times the memory. One row a graph, width and depth; generated graphs that are only
    there for the curve against E are left out.
    """
    peers = [name for name in _PEERS if any(row["implementation"] == name for row in rows)]
    lines = []
    for group in _groups(rows):
        subject = group.get(SUBJECT)
        first = next(iter(group.values()))
        if subject is None or subject["status"] != "ok" or _is_curve(first):
            continue
        cells = [_ratio(group.get(name), subject) for name in peers]
        own = [f"{subject['seconds']:.3g}", _mib(subject["memory_mib"])]
        lines.append([*_place(first), *cells, *own])
    header = ["graph (edges)", "D", "what", *map(_title, peers), "s", "MiB"]
    return "\n".join(markdown_table(header, lines))


def absolute_table(rows: Sequence[dict]) -> str:
    """Markdown: seconds (fastest to slowest turn) and MiB of every case.

    "MiB a step" is the peak of a step above what the process holds between steps; "MiB kept" is
    what it holds between steps since the first: indices, compiled code, the optimiser's state.
    """
    header = ["graph (edges)", "D", "what", "implementation", "seconds", "fastest – slowest"]
    lines = []
    for group in _groups(rows):
        for name in IMPLEMENTATIONS:
            if name not in group:
                continue
            row = group[name]
            cells = [row["status"], "-", "-", "-"]
            if row["status"] == "ok":
                span = f"{row['fastest']:.3g} – {row['slowest']:.3g}"
                memory = _mib(row["memory_mib"]), _mib(row["held_mib"])
                cells = [f"{row['seconds']:.3g}", span, *memory]
            lines.append([*_place(row), name, *cells])
    return "\n".join(markdown_table([*header, "MiB a step", "MiB kept"], lines))


def compilation_lines(rows: Iterable[dict]) -> str:
    """How long the fused kernels' first call takes: compiling, and loading what is compiled."""
    return "\n".join(
        f"* {row['graph']}, {row['heads']} heads of {row['width']}: the first call of `{SUBJECT}` "
        f"took {row['first_call_cold']:.1f} s on a machine that had not compiled it, "
        f"{row['first_call_cached']:.2f} s in the next process (a later one: "
        f"{row['seconds']:.3g} s)."
        for row in rows
        if row["first_call_cold"] is not None
    )


def _settings(rows: Iterable[dict]) -> str:
    found = dict.fromkeys(row["setting"] for row in rows)
    return "\n".join(f"Measured with {setting}." for setting in found)


# ------------------------------------------------------------------ helpers


def _groups(rows: Sequence[dict]) -> list[dict[str, dict]]:
    """Rows that were measured side by side, by implementation: graph for graph as they were first
    measured, layers before training steps, narrow heads before wide ones."""
    groups: dict[tuple, dict[str, dict]] = {}
    for row in rows:
        key = *Case.of(row).group, row["repeats"]
        groups.setdefault(key, {})[row["implementation"]] = row
    graphs = list(dict.fromkeys(row["graph"] for row in rows))

    def place(group: dict[str, dict]) -> tuple[int, ...]:
        row = next(iter(group.values()))
        return graphs.index(row["graph"]), row["depth"], row["width"]

    return sorted(groups.values(), key=place)


def _is_curve(row: dict) -> bool:
    kind, _, size = row["graph"].rpartition(":")
    return bool(kind) and not row["depth"] and row["graph"] == curve_graph(int(size))


def _ratio(peer: dict | None, subject: dict) -> str:
    if peer is None:
        return "-"
    if peer["status"] != "ok":
        return peer["status"]
    text = f"{peer['seconds'] / subject['seconds']:.2f}×"
    # The limit is one of time; its memory says nothing.
    if peer["memory_mib"] and subject["memory_mib"] and peer["implementation"] != LIMIT:
        text += f" / {peer['memory_mib'] / subject['memory_mib']:.2f}×"
    # Another run may have met a busier machine.
    return text if peer["measured"] == subject["measured"] else f"{text} (another run)"


def _title(name: str) -> str:
    library, _, rest = name.partition(" ")
    return f"{library} `{rest}`" if rest == "GATConv" else name


def _place(row: dict) -> list[str]:
    name = row["graph"].partition(":")[0]
    case = Case.of(row)
    return [f"{name} ({row['num_edges']:,})", str(row["width"]), case.what]


def _mib(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"
