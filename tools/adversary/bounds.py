"""The search for a local constant above its bound, in chunks, and its summary."""

from __future__ import annotations

import json
import math
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adversary.ascent import ascend
from adversary.draw import Draw, random_case
from adversary.measure import Case, Slope
from adversary.wild import wild_case
from lipzoo._atomic import write_atomically

__all__ = ["search"]

#: Rounding of two float64 computations of the same number.
TOLERANCE = 1e-9
CHUNK = 200
#: Every how many cases features and weights are moved by gradient ascent, and how many steps.
ASCEND_EVERY, STEPS = 40, 12
#: Findings that are written out; the rest is counted.
SHOWN = 50


def search(
    seed: int, path: Path, minutes: float, cases: int | None, jobs: int, command: str
) -> dict:
    """Try cases until the time is over or so many are done; what a file of the same seed holds
    is continued. The summary is written after each chunk.

    Raises
    ------
    ValueError
        If the file is of another seed.
    """
    summary = _start(path, seed)
    _try_again(summary)
    summary["command"] = command
    began, before = time.monotonic(), summary["seconds"]
    first = summary["cases"]
    chunks = (
        (seed, start, min(CHUNK, cases - start) if cases is not None else CHUNK)
        for start in range(first, cases if cases is not None else 2**40, CHUNK)
    )
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        # A few chunks ahead, so that little is thrown away at the end.
        while batch := list(islice(chunks, jobs)):
            for part in pool.map(run_chunk, *zip(*batch)):
                _merge(summary, part)
            summary["seconds"] = round(before + time.monotonic() - began, 1)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, f"{json.dumps(summary, indent=1)}\n".encode())
            print(_line(summary), flush=True)
            if time.monotonic() - began > 60 * minutes:
                break
    return summary


def _start(path: Path, seed: int) -> dict:
    if path.is_file():
        summary = json.loads(path.read_text())
        if summary["seed"] != seed:
            raise ValueError(f"{path} is of seed {summary['seed']}; choose that, or another --out")
        return summary
    return {"seed": seed, "cases": 0, "seconds": 0.0, "found": 0, "findings": [], "kinds": {}}


def _try_again(summary: dict) -> None:
    """Forget the findings that are none any more: a bound was mended, or its search."""
    still = [found for found in summary["findings"] if _try(found["case"], found["how"], {})]
    summary["found"] -= len(summary["findings"]) - len(still)
    summary["findings"] = still


def run_chunk(seed: int, start: int, count: int) -> dict:
    """Cases ``start`` to ``start + count``, and what came of them."""
    torch.set_num_threads(1)
    part: dict[str, Any] = {"cases": 0, "found": 0, "findings": [], "kinds": {}}
    began = time.monotonic()
    for index in range(start, start + count):
        part["cases"] += 1
        for how in ("random", "ascent"):
            if how == "ascent" and index % ASCEND_EVERY:
                continue
            number = seed * 2**32 + index
            found = _try(number, how, part["kinds"])
            if found:
                part["found"] += 1
                after = round(time.monotonic() - began, 1)
                part["findings"].append({"case": number, "how": how, **found, "after": after})
    return part


def make_case(number: int) -> Case | Slope:
    """The case of a number, as findings name it."""
    return random_case(number) if number % 4 == 0 else wild_case(number)


def moved(feat: Tensor, seed: int) -> Tensor:
    """Another point, near or far; some rows become zero."""
    draw = Draw(seed)
    size = feat.abs().max() if feat.numel() else 1.0
    other = feat + draw.normal(*feat.shape) * size * 10 ** draw.uniform(-6, 6)
    if draw.uniform(0, 1) < 0.3:
        other[torch.rand(len(feat), generator=draw.generator) < 0.5] = 0
    return other


def _try(number: int, how: str, kinds: dict[str, dict]) -> dict | None:
    """Count a case; what is wrong with it, if anything."""
    try:
        return _tried(kinds, number, how)
    except Exception as fault:  # any: the search goes on, and this is a finding
        return {"fault": f"{type(fault).__name__}: {fault}"[:500]}


def _tried(kinds: dict[str, dict], number: int, how: str) -> dict | None:
    case = make_case(number)
    if how == "ascent":
        if not isinstance(case, Case):
            return None
        case = ascend(case, STEPS)
    frobenius, per_node = case.ratios()
    if isinstance(case, Case):
        far = case.far_ratios(moved(case.feat, number))
        frobenius, per_node = max(frobenius, far[0]), max(per_node, far[1])
    words = case.kind.split()
    name = " ".join([words[0], *(w for w in words[1:] if w in ("block", "blocks", "weighted"))])
    kind = kinds.setdefault(name, _EMPTY.copy())
    kind["cases"] += 1
    kind["ascended"] += how == "ascent"
    if math.isnan(frobenius) or math.isnan(per_node):
        kind["beyond_float64"] += 1  # features or weights that the module itself cannot carry
        return None
    kind["no_bound_or_no_move"] += frobenius == per_node == 0
    if case.has_choice():
        kind["largest"] = max(kind["largest"], frobenius)
        kind["largest_per_node"] = max(kind["largest_per_node"], per_node)
    if max(frobenius, per_node) <= 1 + TOLERANCE:
        return None
    return {"kind": case.kind, "ratios": [frobenius, per_node]}


_EMPTY = {
    "cases": 0,
    "ascended": 0,
    "beyond_float64": 0,
    "no_bound_or_no_move": 0,
    "largest": 0.0,
    "largest_per_node": 0.0,
}


def _merge(summary: dict, part: dict) -> None:
    for found in part["findings"]:
        found["after"] = round(summary["seconds"] + found["after"], 1)
    for key in ("cases", "found"):
        summary[key] += part[key]
    summary["findings"] = [*summary["findings"], *part["findings"]][:SHOWN]
    for name, counts in part["kinds"].items():
        kind = summary["kinds"].setdefault(name, _EMPTY.copy())
        for key, value in counts.items():
            is_ratio = key.startswith("largest")
            kind[key] = max(kind[key], value) if is_ratio else kind[key] + value
    summary["kinds"] = dict(sorted(summary["kinds"].items()))


def _line(summary: dict) -> str:
    return f"{summary['cases']} cases, {summary['found']} found, {summary['seconds']:.0f} s"
