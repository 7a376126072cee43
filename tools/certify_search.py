"""Look for a case in which an estimate exceeds its bound, and write what was found.

python tools/certify_search.py --seeds 0..11999 --ascend-every 30 --out results/lipschitz
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from lipzoo._progress import ProgressBar
from lipzoo._yaml import write_atomically
from lipzoo.lipschitz.search import Case, ascend, random_case

#: Rounding of two float64 computations of the same number.
TOLERANCE = 1e-9


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", default="0..999", help="FIRST..LAST")
    parser.add_argument("--ascend-every", type=int, default=30, help="0: no gradient ascent")
    parser.add_argument("--steps", type=int, default=20, help="of gradient ascent")
    parser.add_argument("--out", type=Path, help="folder of search.json")
    args = parser.parse_args()
    first, last = map(int, args.seeds.split(".."))
    kinds: dict[str, dict] = {}
    violations = []
    for seed in ProgressBar(range(first, last + 1), disable=None):
        case = random_case(seed)
        cases = [("random", case)]
        if args.ascend_every and seed % args.ascend_every == 0:
            cases.append(("ascent", ascend(case, args.steps)))
        for how, each in cases:
            row, ratio = record(kinds, how, each, seed)
            if not ratio <= 1 + TOLERANCE:
                violations.append(row)
    cases = sum(kind["cases"] for kind in kinds.values())
    summary = {
        "command": " ".join(["python", *sys.argv]),
        "cases": cases,
        "violations": violations,
        "kinds": dict(sorted(kinds.items())),
    }
    text = json.dumps(summary, indent=2)
    print(f"{cases} cases, {len(violations)} violations")
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
        write_atomically(args.out / "search.json", f"{text}\n".encode())
    return 1 if violations else 0


def record(kinds: dict[str, dict], how: str, case: Case, seed: int) -> tuple[dict, float]:
    """Add a case to the summary of its kind; the largest of its two ratios."""
    frobenius, per_node = case.ratios()
    name = case.kind.split()[0] if case.kind.startswith("Deep") else case.kind
    kind = kinds.setdefault(
        name, {"cases": 0, "largest": 0.0, "largest_per_node": 0.0, "seed": None, "how": None}
    )
    kind["cases"] += 1
    # With one in-edge a node, attention is the identity and the bound exact: that shows nothing.
    if case.graph.in_degrees.min() > 1:
        if frobenius > kind["largest"]:
            kind.update(largest=frobenius, seed=seed, how=how)
        kind["largest_per_node"] = max(kind["largest_per_node"], per_node)
    row = {"seed": seed, "how": how, "kind": case.kind, "ratios": [frobenius, per_node]}
    return row, max(frobenius, per_node)


if __name__ == "__main__":
    sys.exit(main())
