"""Look for attention of which the fused kernels get a first or second derivative wrong.

python tools/adversary_kernels.py --minutes 10 --seed 0 --out results/trust

Random scores, score norms, slopes, dropout, shapes and graphs (hubs, edges that are there several
times, nodes without any), in float32 and float64, with features and attention vectors from 1e-30
to 1e30. First derivatives may be four times as far from float64 as the torch backend in the same
dtype; second ones are compared with the torch backend's. `kernels.json` holds what was tried and
found. Exit code 1 if something was found; `--case N` repeats one.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
import warnings
from pathlib import Path

import torch

from adversary.kernels import Verdict, draw, errors, second_derivatives
from lipzoo._atomic import write_atomically

#: Every so many cases, one for second derivatives.
TAME_EVERY = 4
#: Findings that are written down.
WRITTEN = 50


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10, help="stop after so many (10)")
    parser.add_argument("--seed", type=int, default=0, help="of the cases (0)")
    parser.add_argument("--cases", type=int, help="stop after so many, too")
    parser.add_argument("--case", type=int, help="show this one instead")
    parser.add_argument("--out", type=Path, help="folder of kernels.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.case is not None:
        return show(args.case)
    summary = search(args.seed, args.minutes, args.cases)
    summary["command"] = " ".join(["python", *sys.argv])
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
        text = json.dumps(summary, indent=1)
        write_atomically(args.out / "kernels.json", f"{text}\n".encode())
    for kind, row in summary["kinds"].items():
        print(kind, json.dumps(row))
    for finding in summary["findings"]:
        print("found:", json.dumps(finding))
    print(f"{summary['cases']} cases, {summary['found']} found")
    return 1 if summary["found"] else 0


def judge(number: int):
    """``(case, verdicts)`` of a number."""
    is_tame = number % TAME_EVERY == 0
    case = draw(number, is_tame)
    try:
        return case, [*errors(case), *(second_derivatives(case) if is_tame else [])]
    except Exception as fault:  # any: the search goes on, and this is a finding
        return case, [Verdict(f"{type(fault).__name__}: {fault}"[:300], 1e300, 0.0, 1.0)]


def search(seed: int, minutes: float, cases: int | None) -> dict:
    """Counts, the largest errors and the findings of what was tried."""
    began = time.monotonic()
    number = seed * 1_000_003
    last = math.inf if cases is None else number + cases
    summary = {"cases": 0, "results": 0, "found": 0, "seconds_to_first": None, "kinds": {}}
    findings = []
    while time.monotonic() - began < 60 * minutes and number < last:
        case, verdicts = judge(number)
        kind = " ".join(case.about.split()[:2])
        row = summary["kinds"].setdefault(
            kind, {"cases": 0, "first": 0, "second": 0, "worst": 0.0, "worst_case": None}
        )
        row["cases"] += 1
        summary["cases"] += 1
        for verdict in verdicts:
            row["second" if verdict.result.startswith("second") else "first"] += 1
            summary["results"] += 1
            share = verdict.error / verdict.allowed
            if not share <= row["worst"]:
                row["worst"], row["worst_case"] = share, number
            if verdict.is_fault:
                summary["found"] += 1
                if summary["seconds_to_first"] is None:
                    summary["seconds_to_first"] = round(time.monotonic() - began, 1)
                if len(findings) < WRITTEN:
                    findings.append({"case": number, "about": case.about, **vars(verdict)})
        number += 1
    summary["seconds"] = round(time.monotonic() - began, 1)
    summary["kinds"] = dict(sorted(summary["kinds"].items()))
    return {**summary, "findings": findings}


def show(number: int) -> int:
    case, verdicts = judge(number)
    print(case.about, f"slope {case.slope}, dropout {case.rate}, norm {case.norm}")
    for key, leaf in case.leaves.items():
        print(f"{key} {tuple(leaf.shape)}, rows", [f"{x:.1e}" for x in leaf.abs().amax((1, 2))])
    for verdict in verdicts:
        print(verdict, "FAULT" if verdict.is_fault else "")
    return int(any(verdict.is_fault for verdict in verdicts))


if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=RuntimeWarning)
    sys.exit(main())
