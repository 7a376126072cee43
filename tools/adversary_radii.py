"""Look for a node that changes its class inside its certified radius.

python tools/adversary_radii.py --minutes 10 --seed 0 [--attacks 10000] --out results/trust

Small models on graphs of 2 to 12 nodes: random ones and trained ones of every architecture, score
norm, feature norm and residual scheme, their attention then sharpened by up to 1e4; saturated
softmaxes made by hand; logits so large that their difference is mostly rounding. With
--pretrained, weights of the zoo too. Each node and radius that is attacked counts once. Exits
with 1 if a node flipped.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path

from adversary.radii import Trial, attacked_pretrained, run_case
from lipzoo._yaml import write_all


def batches(args: argparse.Namespace) -> Iterator[list[Trial]]:
    """Trials of one case after the other, until the time or the attacks are spent."""
    first = args.seed * 1_000_003
    if args.case is not None:
        yield run_case(args.case)
        return
    for name in args.pretrained:
        yield attacked_pretrained(name, args.seed, args.pretrained_nodes)
    ends = time.monotonic() + 60 * args.minutes
    if args.jobs == 1:
        case = first
        while time.monotonic() < ends:
            yield run_case(case)
            case += 1
        return
    with ProcessPoolExecutor(args.jobs, mp_context=get_context("spawn")) as pool:
        case = first
        while time.monotonic() < ends:
            tasks = [pool.submit(run_case, case + k) for k in range(8 * args.jobs)]
            case += len(tasks)
            for task in as_completed(tasks):
                yield task.result()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=1.0, help="of the search")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--attacks", type=int, help="stop after so many")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--pretrained", nargs="*", default=[], metavar="NAME", help="weights too")
    parser.add_argument("--pretrained-nodes", type=int, default=20, help="nodes of each, a method")
    parser.add_argument("--case", type=int, help="only this case, as a finding names it")
    parser.add_argument("--first", action="store_true", help="stop at the first finding")
    parser.add_argument("--out", type=Path, required=True, help="folder of radii.json")
    args = parser.parse_args()
    began, counts, findings, cases = time.monotonic(), Counter(), [], 0
    closest: dict[str, float] = {}
    for trials in batches(args):
        cases += 1
        for trial in trials:
            counts[trial.kind] += 1
            left = trial.margin_found / trial.margin
            closest[trial.kind] = min(left, closest.get(trial.kind, math.inf))
            if trial.flipped:
                findings.append(asdict(trial))
                print(f"FLIPPED: {trial}", flush=True)
        total = counts.total()
        if (args.attacks and total >= args.attacks) or (args.first and findings):
            break
    seconds = time.monotonic() - began
    content = {
        "command": " ".join(["python", *sys.argv]),
        "seconds": round(seconds, 1),
        "cases": cases,
        "attacks": counts.total(),
        "flipped": len(findings),
        "attacks_by_kind": dict(sorted(counts.items())),
        "least_share_of_the_margin_left": {
            k: float(f"{v:.3g}") for k, v in sorted(closest.items())
        },
        "findings": findings[:100],
    }
    args.out.mkdir(parents=True, exist_ok=True)
    write_all({args.out / "radii.json": f"{json.dumps(content, indent=1)}\n".encode()})
    for kind, count in sorted(counts.items()):
        print(f"{kind:32} {count:6} attacks, {closest[kind]:.3g} of the margin left")
    print(f"{counts.total()} attacks on {cases} cases in {seconds:.0f} s: {len(findings)} flipped")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
