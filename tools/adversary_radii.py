"""Look for a node that changes its class inside its certified radius.

python tools/adversary_radii.py --minutes 10 --seed 0 [--attacks 10000] --out results/trust

Small models on graphs of 2 to 12 nodes: random ones and trained ones of every architecture, score
norm, feature norm and residual scheme, their attention then sharpened by up to 1e4; saturated
softmaxes made by hand; logits so large that their difference is mostly rounding. With
--pretrained, weights of the zoo too. Each node and radius that is attacked counts once.
`radii.json` holds what was tried and found; the same command goes on where it stopped. Exit code
1 if a node flipped or the library raised.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path

from adversary.radii import Fault, Trial, attacked_pretrained, run_case
from lipzoo._atomic import write_all


def batches(args: argparse.Namespace, state: State) -> Iterator[list[Trial | Fault]]:
    """Trials of one case after the other, until the time is spent."""
    if args.case is not None:
        yield run_case(args.case)
        return
    for name in args.pretrained:
        if not any(kind.endswith(name) for kind in state.attacks_by_kind):
            yield attacked_pretrained(name, args.seed, args.pretrained_nodes)
    ends = time.monotonic() + 60 * args.minutes
    first = args.seed * 1_000_003
    with ProcessPoolExecutor(args.jobs, mp_context=get_context("spawn")) as pool:
        while time.monotonic() < ends:
            cases = range(first + state.cases, first + state.cases + args.jobs)
            for trials in pool.map(run_case, cases) if args.jobs > 1 else map(run_case, cases):
                state.cases += 1
                yield trials


@dataclass
class State:
    """What was tried and found so far."""

    seed: int
    commands: list[str] = field(default_factory=list)
    seconds: float = 0.0
    cases: int = 0
    attacks: int = 0
    flipped: int = 0
    attacks_by_kind: dict[str, int] = field(default_factory=dict)
    least_share_of_the_margin_left: dict[str, float] = field(default_factory=dict)
    findings: list[dict] = field(default_factory=list)

    def add(self, trial: Trial | Fault) -> None:
        if isinstance(trial, Fault):
            self.findings.append(asdict(trial))
            print(f"FAULT: {trial}", flush=True)
            return
        kind, left = trial.kind, trial.margin_found / trial.margin
        self.attacks += 1
        self.attacks_by_kind[kind] = self.attacks_by_kind.get(kind, 0) + 1
        lefts = self.least_share_of_the_margin_left
        lefts[kind] = min(float(f"{left:.3g}"), lefts.get(kind, math.inf))
        if trial.flipped:
            self.flipped += 1
            self.findings.append(asdict(trial))
            print(f"FLIPPED: {trial}", flush=True)

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_all({path: f"{json.dumps(asdict(self), indent=1, sort_keys=False)}\n".encode()})


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10, help="stop after so many (10)")
    parser.add_argument("--seed", type=int, default=0, help="of the cases (0)")
    parser.add_argument("--attacks", type=int, help="stop when the file holds so many")
    parser.add_argument("--jobs", type=int, default=1, help="processes (1)")
    parser.add_argument("--pretrained", nargs="*", default=[], metavar="NAME", help="weights too")
    parser.add_argument("--pretrained-nodes", type=int, default=20, help="nodes of each (20)")
    parser.add_argument("--case", type=int, help="only this case, as a finding names it")
    parser.add_argument("--first", action="store_true", help="stop at the first finding")
    parser.add_argument("--out", type=Path, default=Path("results/trust"), help="of radii.json")
    args = parser.parse_args()
    path, state = args.out / "radii.json", State(args.seed)
    if path.is_file():
        state = State(**json.loads(path.read_text()))
        if state.seed != args.seed:
            parser.error(f"{path} holds another seed, {state.seed}: choose another folder")
    command = " ".join(["python", *sys.argv])
    state.commands = [*dict.fromkeys([*state.commands, command])]
    before, began, written = state.seconds, time.monotonic(), 0.0
    for trials in batches(args, state):
        for trial in trials:
            state.add(trial)
        state.seconds = round(before + time.monotonic() - began, 1)
        if time.monotonic() - written > 30:
            written = time.monotonic()
            state.write(path)
        if (args.attacks and state.attacks >= args.attacks) or (args.first and state.findings):
            break
    state.write(path)
    for kind, count in sorted(state.attacks_by_kind.items()):
        left = state.least_share_of_the_margin_left[kind]
        print(f"{kind:28} {count:6} attacks, {left:.3g} of the margin left")
    print(
        f"{state.attacks} attacks on {state.cases} cases in {state.seconds:.0f} s: "
        f"{state.flipped} flipped, {len(state.findings)} findings open"
    )
    return 1 if state.findings else 0


if __name__ == "__main__":
    sys.exit(main())
