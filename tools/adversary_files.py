"""Attack every reader of files: with links, pipes, devices; with files that reach ever more code.

python tools/adversary_files.py --files 1000000 --minutes 600 --out results/trust

The same command goes on where it stopped: each reader gets what its share of the files still lacks.
Each reader runs in a process of its own, which may take 1 GiB more than it starts with. A finding
is: a crash, another exception than a LipzooError, words unfit for people, memory that runs out, a
file made or changed, content repeated that was outside, more than 5 s. Exit code 1 if there is one.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

#: Seconds of the processor that one file may take, and before the system ends the process. Not of
#: the clock: the machine may be busy, or the search paused.
MAX_SECONDS, HUNG = 5, 60
#: Seconds of the clock beyond its share after which a reader waits for something, and is ended.
_PATIENCE = 900
#: A reader whose process died this often has shown enough.
_MAX_DEATHS = 5
#: The row of a reader before anything is tried.
NOTHING = {"loaded": 0, "refused": 0, "seconds": 0.0, "slowest": 0.0, "memory": 0, "findings": []}
#: The modules whose branches guide the search.
_GUIDES = [
    *(f"lipzoo.{name}" for name in ("_yaml", "_files", "_schema", "registry.files", "card")),
    *("lipzoo.weights", "lipzoo.datasets", "lipzoo.training.recipe"),
    *("lipzoo.training.search_space", "lab.studies.sweep"),
    *("zipfile", "csv", "numpy.lib._format_impl"),
]
_LIBRARIES = (
    *("torch", "dgl", "numba", "scipy.sparse", "sklearn.neighbors", "sklearn.pipeline"),
    *("sklearn.model_selection", "sklearn.datasets", "pydantic", "safetensors.torch", "requests"),
    *("hypothesis", "filelock", "tqdm", "numba.typed"),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=100_000, help="of all readers together")
    parser.add_argument("--minutes", type=float, default=60, help="of all readers together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="readers that are attacked at once")
    parser.add_argument("--only", action="append", help="a reader, as the table names it")
    parser.add_argument("--out", type=Path, help="folder of files.json and files.md")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        return run_child(args.child, args.files, args.minutes * 60, args.seed)
    names = args.only or reader_names()
    begun = time.monotonic()
    rows = earlier_rows(args)
    if not args.only or "links" in args.only:
        rows["links, pipes, devices"] = watch("links", 0, 600, args.seed)
        names = [name for name in names if name != "links"]
    left = set(range(len(names)))
    lock = threading.Lock()

    def attack(number: int) -> None:
        name = names[number]
        files = args.files * (number + 1) // len(names) - args.files * number // len(names)
        with lock:
            waiting = max(len(left) // args.jobs, 1)
            share = (args.minutes * 60 - (time.monotonic() - begun)) / waiting
            left.remove(number)
        before = rows.get(name, NOTHING)
        done = before["loaded"] + before["refused"]
        if done < files:
            # Another seed than before, or the same files would come again.
            found = watch(name, files - done, max(share, 1), args.seed + done)
            with lock:
                rows[name] = added(before, found)
                report(rows, args)

    with ThreadPoolExecutor(args.jobs) as pool:
        list(pool.map(attack, range(len(names))))
    print(report(rows, args))
    return 1 if any(row["findings"] for row in rows.values()) else 0


def earlier_rows(args: argparse.Namespace) -> dict[str, dict]:
    """What an earlier run of the same seed found."""
    path = args.out and args.out / "files.json"
    content = json.loads(path.read_text()) if path and path.is_file() else {}
    return content["readers"] if content.get("seed") == args.seed else {}


def added(one: dict, other: dict) -> dict:
    """Two rows of a reader as one."""
    most = {key: max(one[key], other[key]) for key in ("slowest", "memory")}
    return {key: one[key] + other[key] for key in NOTHING} | most


def reader_names() -> list[str]:
    """Asked of a child, so that this process stays small."""
    code = "from trust.corpus import STARTS; import json; print(json.dumps(list(STARTS)))"
    path = os.pathsep.join(
        [str(ROOT / "tests"), str(ROOT / "tools"), str(ROOT), os.environ.get("PYTHONPATH", "")]
    )
    environment = {**os.environ, "PYTHONPATH": path}
    answer = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, check=True
    )
    return json.loads(answer.stdout.splitlines()[-1])


# ------------------------------------------------------------------- the parent


def watch(name: str, files: int, seconds: float, seed: int) -> dict:
    """Run one reader's process, again where it died, and add up what it told."""
    begun = time.monotonic()
    row = {**NOTHING, "findings": []}
    for attempt in range(_MAX_DEATHS):
        left, rest = files - row["loaded"] - row["refused"], seconds - (time.monotonic() - begun)
        if attempt and (left <= 0 or rest <= 0):
            break
        with tempfile.TemporaryDirectory(dir=_fast()) as place:
            log = Path(place, "log")
            command = [sys.executable, __file__, "--child", name, "--files", str(left)]
            command += ["--minutes", str(rest / 60), "--seed", str(seed + attempt)]
            with (Path(place) / "words").open("wb") as words:
                code = run(command, words, {**os.environ, "ADVERSARY": place}, rest + _PATIENCE)
            told = json.loads(log.read_text()) if log.exists() else {}
            for key in ("loaded", "refused"):
                row[key] += told.get(key, 0)
            for key in ("slowest", "memory"):
                row[key] = max(row[key], told.get(key, 0))
            row["findings"] += told.get("findings", [])
            if told.get("done"):
                break
            last = Path(place, "case")
            case = last.read_bytes() if last.exists() else b""
            tail = (Path(place) / "words").read_text(errors="replace")[-2000:]
            died = finding(f"the process died with code {code}", tail, case)
            row["findings"].append({**died, "after": round(time.monotonic() - begun, 1)})
    row["seconds"] = round(time.monotonic() - begun, 1)
    counts = {key: value for key, value in row.items() if key != "findings"}
    print(f"{name}: {counts}, {len(row['findings'])} findings", flush=True)
    for each in row["findings"]:
        print(f"  after {each['after']} s: {each['what']}\n{each['words']}")
    return row


def run(command: list[str], words, environment: dict[str, str], seconds: float) -> int | str:
    try:
        return subprocess.run(
            command, stdout=words, stderr=words, env=environment, timeout=seconds
        ).returncode
    except subprocess.TimeoutExpired:
        return f"none, after {seconds:.0f} s"


def finding(what: str, words: str, case: bytes) -> dict:
    return {
        "what": what,
        "words": words,
        "sha256": hashlib.sha256(case).hexdigest()[:16],
        "case": case[:20_000].hex(),
    }


def _fast() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def report(rows: dict[str, dict], args: argparse.Namespace) -> str:
    """The table, written with all findings to ``args.out``."""
    from lipzoo._tables import markdown_table

    total = sum(row["loaded"] + row["refused"] + len(row["findings"]) for row in rows.values())
    command = " ".join(
        ["python", "tools/adversary_files.py", *(f"'{a}'" if " " in a else a for a in sys.argv[1:])]
    )
    lines = [
        "# Attacked files",
        "",
        "Loaded: read right in spite of the damage. Refused: with one of lipzoo's exceptions and",
        "one line of words. Finding: anything else; see `tools/adversary_files.py`. Seconds: the",
        "most that one file took. Memory: the most above the start; 1 GiB is allowed.",
        "",
    ]
    header = ["reader", "files", "loaded", "refused", "findings", "slowest, s", "memory, MB"]
    cells = []
    for name, row in rows.items():
        counts = row["loaded"], row["refused"], len(row["findings"])
        sizes = f"{row['slowest']:.2f}", f"{row['memory'] / 2**20:.0f}"
        cells.append([name, *(f"{n:,}" for n in (sum(counts), *counts)), *sizes])
    lines += [*markdown_table(header, cells, figures=True), "", f"{total:,} files. `{command}`", ""]
    if args.out is not None:
        from lipzoo._atomic import write_all

        args.out.mkdir(parents=True, exist_ok=True)
        content = {"command": command, "seed": args.seed, "files": total, "readers": rows}
        write_all(
            {
                args.out / "files.json": (json.dumps(content, indent=1) + "\n").encode(),
                args.out / "files.md": "\n".join(lines).encode(),
            }
        )
    return "\n".join(lines)


# -------------------------------------------------------------------- the child


def run_child(name: str, files: int, seconds: float, seed: int) -> int:
    place = Path(os.environ["ADVERSARY"])
    if name == "links":
        from trust.links import attack

        log = Log(place)
        for what, words in attack(place):
            log.count(None if words is None else (what, words, b""), 0.0)
        log.write(done=True)
        return 0
    import atheris

    os.environ.setdefault("DGLBACKEND", "pytorch")
    for library in _LIBRARIES:  # before the hook, which looks at each of their modules
        importlib.import_module(library)
    if absent := [name for name in _GUIDES if find_spec(name) is None]:
        raise LookupError(f"no module {', '.join(absent)}: their branches would not guide")
    with atheris.instrument_imports(include=_GUIDES, enable_loader_override=False):
        from trust.corpus import FOLDER, STARTS
    start = STARTS[name]
    for number, case in enumerate(start.seeds):
        (place / "corpus").mkdir(exist_ok=True)
        (place / "corpus" / f"seed{number}").write_bytes(case)
    kept = FOLDER / "".join(letter if letter.isalnum() else "_" for letter in name)
    folders = [str(place / "corpus"), *([str(kept)] if kept.is_dir() else [])]
    warm_up(start)
    searcher = Searcher(start, place)

    def mutate(data: bytes, max_size: int, number: int) -> bytes:
        changed = atheris.Mutate(data, max_size) if number % 2 else start.mutate(data, number)
        return changed[:max_size]

    options = [f"-runs={files}", f"-seed={seed + 1}", f"-max_total_time={int(seconds) + 1}"]
    # A timeout of 0 is one of a second of the clock to atheris, on whatever else the machine does.
    options += ["-max_len=16384", f"-timeout={_PATIENCE}", "-rss_limit_mb=0", "-verbosity=0"]
    options += ["-len_control=0", "-detect_leaks=0", f"-artifact_prefix={place}/", "-print_pcs=0"]
    atheris.Setup([sys.argv[0], *options, *folders], searcher.take, custom_mutator=mutate)
    searcher.limit_memory()
    searcher.files = files
    searcher.until = time.monotonic() + seconds
    atheris.Fuzz()
    return 0


def warm_up(start) -> None:
    """Let libraries load what they load late: it is not the files that take this."""
    for case in start.seeds:
        with tempfile.TemporaryDirectory(dir=_fast()) as place:
            folder = Path(place, "inner")
            folder.mkdir()
            for name, data in start.files(case).items():
                (folder / name).write_bytes(data)
            start.read(folder)


class Log:
    """What came of each file, written where the parent finds it if this process dies."""

    def __init__(self, place: Path) -> None:
        self.place, self.begun, self.seen = place, time.monotonic(), set()
        self.told = {"loaded": 0, "refused": 0, "slowest": 0.0, "memory": 0, "findings": []}
        self.before = _peak()

    def count(self, found: tuple[str, str, bytes] | None, seconds: float, result="refused") -> None:
        self.told["slowest"] = max(self.told["slowest"], round(seconds, 3))
        if found is None:
            self.told[result] += 1
            return
        what, words, case = found
        key = (what.split(":")[0], words.rsplit("File ", 1)[-1][:200])
        if key not in self.seen:
            self.seen.add(key)
            after = round(time.monotonic() - self.begun, 1)
            self.told["findings"].append({**finding(what, words, case), "after": after})
            self.write()

    def write(self, done: bool = False) -> None:
        self.told["memory"] = max(_peak() - self.before, 0)
        temporary = self.place / "log.new"
        temporary.write_text(json.dumps({**self.told, "done": done}))
        temporary.replace(self.place / "log")


class Searcher:
    """Reads one case after the other, each as files of the same folder."""

    def __init__(self, start, place: Path) -> None:
        from trust.kinds import TRACE, outcome

        self.start, self.outcome, self.log = start, outcome, Log(place)
        self.folder = place / "outer" / "inner"
        self.folder.mkdir(parents=True)
        self.trace, self.trace_path = TRACE.encode(), str(place / "trace").encode()
        self.there: dict[str, bytes] = {}
        self.last = os.open(place / "case", os.O_RDWR | os.O_CREAT)
        self.number, self.files, self.until = 0, 0, 0.0
        self.names: list[str] = []

    def limit_memory(self) -> None:
        from trust.limits import ROOM

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + ROOM
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    def take(self, case: bytes) -> None:
        self.number += 1
        os.pwrite(self.last, case, 0)
        os.ftruncate(self.last, len(case))
        self.lay(self.start.files(case))
        result, found, begun = "refused", None, time.process_time()
        signal.setitimer(signal.ITIMER_PROF, HUNG)  # nobody handles it: it ends the process
        try:
            result = self.outcome(self.start.read, self.folder)
        except BaseException as fault:
            where = "".join(traceback.format_exception(fault))[-1500:]
            found = f"{type(fault).__name__}: {fault}"[:300], where, case
        seconds = time.process_time() - begun
        if found is None and seconds > MAX_SECONDS:
            found = "more than 5 s", f"{seconds:.1f} s", case
        if found is None and os.listdir(self.folder.parent.parent) != self.names:
            found = self.look()
        self.log.count(found and (found[0], found[1], case), seconds, result)
        if self.number % 500 == 0:
            self.log.write()
        if self.number >= self.files or time.monotonic() > self.until:
            self.log.write(done=True)
            os._exit(0)

    def lay(self, files: dict[str, bytes]) -> None:
        for name, data in files.items():
            if self.there.get(name) != data:
                content = data.replace(self.trace, self.trace_path)
                (self.folder / name).write_bytes(content)
                self.there[name] = data
        if not self.names:
            self.log.write()
            self.names = os.listdir(self.folder.parent.parent)

    def look(self) -> tuple[str, str] | None:
        """Whether a file came to be that no reader should make."""
        if Path(os.fsdecode(self.trace_path)).exists():
            os.unlink(self.trace_path)
            return "code in a file was run", "the trace is there"
        return None


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    sys.exit(main())
