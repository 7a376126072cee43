"""Kill each command that writes, at any moment and at its writing calls, and read what it left."""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

from adversary.children import KILLED, Disturbance, run_child
from adversary.writers import Writer, check_readable
from lipzoo._writing import LOCK_FILE
from lipzoo.cli import main

__all__ = ["Scene", "attack"]


class Scene:
    """A folder with what a writer starts from, and what it makes of it undisturbed."""

    def __init__(self, writer: Writer, sources: Path, scratch: Path) -> None:
        self.writer, self.sources = writer, sources
        self.out = scratch / writer.name / "out"
        self.out.parent.mkdir()
        self.starts: dict[str, Path | None] = {"nothing": None}
        self.wholes: dict[tuple[str, str], dict[str, bytes]] = {}
        self.results: dict[str, object] = {}
        self.calls: dict[str, int] = {}
        self.seconds: dict[str, float] = {}
        # Once in this process: what is imported or compiled late, children find done.
        writer.before(sources, "new")
        if writer.name != "demo":  # which only takes long
            assert main(writer.argv(sources, "new", self.out)) == 0
        writer.reset(self.out, None)
        if "old" in writer.starts:
            self._run("old", "nothing")
            self.starts["old"] = self.out.parent / "old"
            writer.keep(self.out, self.starts["old"])
        for start in writer.starts:
            self._run("new", start)
            again = self.wholes["new", start]
            self._run("new", start)
            assert self.wholes["new", start] == again, f"{writer.name} repeats no bits"

    def _run(self, version: str, start: str) -> None:
        self.begin(start)
        outcome = self.child(version, start, Disturbance())
        assert outcome.code == 0, f"{self.writer.name} fails undisturbed: {outcome.words}"
        self.seconds[start] = outcome.seconds
        self.wholes[version, start] = self.writer.files(self.out, self.writer.free)
        self.results[version] = self.writer.result(self.out)
        if start not in self.calls:
            self.begin(start)
            self.calls[start] = self.child(version, start, Disturbance(call=0)).calls

    def begin(self, start: str) -> None:
        """Let the output be what it is at the start."""
        self.writer.reset(self.out, self.starts[start])

    def child(self, version: str, start: str, disturbance: Disturbance):
        """Run the command for a version from a start."""
        more = ("--overwrite",) if start == "old" and self.writer.overwrites else ()
        return self.run(version, disturbance, *more)

    def run(self, version: str, disturbance: Disturbance, *more: str):
        """Run the command for a version, with more words."""
        self.writer.before(self.sources, version)
        return run_child(self.writer.command(self.sources, version, self.out, *more), disturbance)

    def state(self, start: str) -> str:
        """``"old"``, ``"new"`` or ``"unfinished"``.

        Raises
        ------
        AssertionError
            If it is none of them, or half of something can be read.
        """
        check_readable(self.out)
        found = self.writer.result(self.out)
        if found is None:
            lost = start == "old" and not self.writer.may_lose_old
            assert not lost, "the old result is gone, and the new is not there"
            return "unfinished"
        for version, whole in self.results.items():
            if found == whole and (version == "new" or start == "old"):
                return version
        raise AssertionError("neither the old result nor the new can be read")

    def complete(self, start: str) -> None:
        """Give the command again, and see that it ends as if nothing had happened."""
        writer, out = self.writer, self.out
        version = writer.version(self.sources, out) if start == "old" else "new"
        named = out.is_file() or any(
            path.is_file() and "/." not in str(path.relative_to(out.parent))
            for path in out.rglob("*")
        )
        done = not writer.again and start != "old" and writer.result(out) is not None
        if not done:
            resumes = "--resume" in writer.again
            outcome = self.run(version, Disturbance(), *(writer.again if named or resumes else ()))
            assert outcome.code == 0, f"the same command again fails: {outcome.words}"
        # Where nothing is left to do, nobody removes the lock of a process that is no more.
        found = writer.files(out, (*writer.free, LOCK_FILE) if done else writer.free)
        # An old run that was gone on with is the old output.
        wanted = self.wholes["old", "nothing"] if version == "old" else self.wholes["new", start]
        odd = sorted(name for name in {*found, *wanted} if found.get(name) != wanted.get(name))
        assert not odd, f"once completed, other than undisturbed: {', '.join(odd)}"


def attack(writer: Writer, sources: Path, scratch: Path, kills: int, seed: int) -> dict[str, Any]:
    """Kill ``writer`` so many times; what became of it, and all that is wrong."""
    began, rng = time.monotonic(), random.Random(f"{writer.name} {seed}")
    scene = Scene(writer, sources, scratch)
    found: Counter[str] = Counter()
    findings: list[str] = []
    calls: dict[str, list[int]] = {}
    first = None
    for number in range(6 * kills):
        if found["killed"] == kills:
            break
        start = writer.starts[number // 2 % len(writer.starts)]
        if number % 2 or not scene.calls[start]:
            moment = Disturbance(seconds=rng.uniform(0, scene.seconds[start]))
        else:
            # Each call once, in some order, before any comes again.
            waiting = calls.setdefault(start, [])
            if not waiting:
                waiting += rng.sample(range(1, scene.calls[start] + 1), scene.calls[start])
            moment = Disturbance(call=waiting.pop())
        scene.begin(start)
        outcome = scene.child("new", start, moment)
        if outcome.code == KILLED:
            found["killed"] += 1
            found["at a writing call" if moment.call else "at a random moment"] += 1
        try:
            assert outcome.code in (KILLED, 0), f"exit code {outcome.code}: {outcome.words}"
            found[f"from {start}: {scene.state(start)}"] += outcome.code == KILLED
            scene.complete(start)
        except Exception as fault:
            first = first if first is not None else time.monotonic() - began
            findings.append(f"{moment} from {start}: {type(fault).__name__}: {fault}"[:600])
    return {
        **dict(sorted(found.items())),
        "writing calls": scene.calls,
        "findings": findings[:20],
        "number of findings": len(findings),
        "seconds to the first finding": None if first is None else round(first, 1),
        "seconds": round(time.monotonic() - began, 1),
    }
