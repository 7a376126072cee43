"""Let the disk be full for each command that writes, and see that it says so and harms nothing.

Three kinds of full: each call that needs room fails once (ENOSPC); no file may grow beyond so many
bytes (RLIMIT_FSIZE: EFBIG); a small file system of the kernel's (tmpfs) has so much room left.
"""

from __future__ import annotations

import os
import random
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from adversary.children import Disturbance
from adversary.kills import Scene
from adversary.writers import Writer

__all__ = ["attack", "small_disk"]

DISK = 8 * 2**20


@contextmanager
def small_disk() -> Iterator[Path | None]:
    """A file system of 8 MiB, and None where this process may not mount one."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", folder]
        try:
            mounted = subprocess.run(command, capture_output=True).returncode == 0
        except OSError:
            mounted = False
        try:
            yield Path(folder) if mounted else None
        finally:
            if mounted:
                subprocess.run(["umount", folder], check=True)


def attack(
    writer: Writer, sources: Path, scratch: Path, cases: int, seed: int, *, disk: Path | None
) -> dict[str, Any]:
    """``cases`` full disks of each kind; what became of them, and all that is wrong."""
    began, rng = time.monotonic(), random.Random(f"{writer.name} {seed}")
    found: Counter[str] = Counter()
    findings: list[str] = []

    def attempt(scene: Scene, kind: str, start: str, disturbance: Disturbance) -> None:
        outcome = scene.child("new", start, disturbance)
        if kind == "tmpfs":
            (disk / "ballast").unlink(missing_ok=True)
        try:
            judge(scene, start, outcome)
            found[f"{kind}: {'refused' if outcome.code else 'enough room'}"] += 1
        except Exception as fault:
            words = f"{kind} {disturbance} from {start}: {type(fault).__name__}: {fault}"
            findings.append(words[:600])

    scene = Scene(writer, sources, scratch)
    needed = {start: _calls_that_need_room(scene, start) for start in writer.starts}
    longest = max(len(data) for whole in scene.wholes.values() for data in whole.values())
    for number in range(cases):
        start = writer.starts[number % len(writer.starts)]
        scene.begin(start)
        call = (
            rng.randint(1, needed[start]) if cases < needed[start] else 1 + number % needed[start]
        )
        attempt(scene, "ENOSPC", start, Disturbance(call=call, fails=True))
        scene.begin(start)
        attempt(scene, "EFBIG", start, Disturbance(file_size=rng.randint(0, longest)))
    if disk is not None:
        scene = Scene(writer, sources, disk)
        for number in range(cases):
            start = writer.starts[number % len(writer.starts)]
            scene.begin(start)
            fill(disk, rng.randint(0, 2 * longest + 4 * 4096))
            attempt(scene, "tmpfs", start, Disturbance())
    return {
        **dict(sorted(found.items())),
        "findings": findings[:20],
        "number of findings": len(findings),
        "seconds": round(time.monotonic() - began, 1),
    }


def _calls_that_need_room(scene: Scene, start: str) -> int:
    scene.begin(start)
    return scene.child("new", start, Disturbance(call=0, fails=True)).calls


def fill(disk: Path, room: int) -> None:
    """Leave so many bytes."""
    free = os.statvfs(disk)
    number = max(0, free.f_bavail * free.f_frsize - room)
    with (disk / "ballast").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, number))


def judge(scene: Scene, start: str, outcome) -> None:
    """Whether the outcome is right.

    Raises
    ------
    AssertionError
        If it is not.
    """
    writer = scene.writer
    if outcome.code == 0 and "taking what was fetched before" in outcome.words:
        assert scene.state(start) == "old"
        scene.complete(start)
        return
    if outcome.code == 0:
        found, wanted = writer.files(scene.out, writer.free), scene.wholes["new", start]
        assert found == wanted, "it says that all went well, and the output is not whole"
        return
    lines = [line for line in outcome.words.splitlines() if not line.startswith("lipzoo: note:")]
    assert outcome.code == 2, f"exit code {outcome.code}: {outcome.words[-400:]}"
    assert len(lines) == 1, f"not one line: {outcome.words[-400:]}"
    assert lines[0].startswith("lipzoo: "), lines[0]
    state = scene.state(start)
    hidden = [path.name for path in scene.out.parent.rglob(".*") if path.name != ".lock"]
    assert not hidden, f"left {hidden}"
    if start == "old" and state == "old" and not writer.may_lose_old:
        found, old = writer.result(scene.out), scene.results["old"]
        assert found == old, "the old output was changed"
    scene.complete(start)
