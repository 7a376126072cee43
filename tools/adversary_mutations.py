"""Put each mended fault back, one by one, and see whether its adversary finds it.

python tools/adversary_mutations.py --out results/trust [NAME …]

Each patch of tools/mutations/ is applied to a clone of the last commit in a temporary folder, and
the search that should find it runs there, until it ends or its minutes are over. It has found the
fault where it ends with an exit code of 1, which says so, and not because it broke itself.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lipzoo._atomic import write_all
from lipzoo._tables import markdown_table

ROOT = Path(__file__).resolve().parents[1]
BOUNDS = "tools/adversary_bounds.py --minutes 2 --seed 0 --out found"
RADII = "tools/adversary_radii.py --minutes 5 --seed 0 --first --out found"
KERNELS = "tools/adversary_kernels.py --minutes 3 --seed 0 --out found"
FILES = "tools/adversary_files.py --files 100000 --minutes 4 --out found --only"
TEST = "-m pytest -q -p no:cacheprovider"

#: What should find each fault, and how many minutes it has.
SEARCHES = {
    "block_nodes": (BOUNDS, 4),
    "large_alpha": (BOUNDS, 4),
    "softplus_slope": (BOUNDS, 4),
    "cancelled_sum": (RADII, 7),
    "margin_rounding": (RADII, 7),
    "second_derivatives": (KERNELS, 5),
    "lost_digits": (KERNELS, 5),
    "wrapping_indptr": (f"{FILES} 'graph of a .bin'", 6),
    "claimed_size": (f"{FILES} 'arrays of an .npz'", 6),
    "followed_link": (f"{FILES} links", 6),
    "raw_yaml": (f"{FILES} card.yaml", 6),
    "unlocked_folder": (f"{TEST} tests/test_writing.py", 6),
    "endless_body": (f"{TEST} tests/hub/test_url_refusals.py -k endless", 3),
    "torn_write": ("tools/adversary_kills.py --kills 20 --writers predict --out found", 8),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these (default: all)")
    parser.add_argument("--out", type=Path, required=True, help="folder of mutations.json and .md")
    args = parser.parse_args()
    patches = {path.stem: path for path in sorted((ROOT / "tools/mutations").glob("*.patch"))}
    unknown = sorted({*args.names} - {*patches} | {*patches} ^ {*SEARCHES})
    if unknown:
        parser.error(f"no patch and search for {', '.join(unknown)}; see tools/mutations/")
    file = args.out / "mutations.json"
    rows = json.loads(file.read_text()) if file.is_file() else {}
    for name in args.names or patches:
        rows[name] = tried(patches[name], *SEARCHES[name])
        print(name, rows[name], flush=True)
        lines = markdown_table(
            ["fault put back", "found", "seconds", "by"],
            [[n, *map(str, row.values())] for n, row in sorted(rows.items())],
        )
        args.out.mkdir(parents=True, exist_ok=True)
        write_all({file: f"{json.dumps(rows, indent=1)}\n".encode(), **_page(args.out, lines)})
    return 0 if all(row["found"] == "yes" for row in rows.values()) else 1


def _page(out: Path, lines: list[str]) -> dict[Path, bytes]:
    command = f"python tools/adversary_mutations.py --out {out}"
    head = f"# Mended faults, put back one by one\n\n`{command}`\n"
    return {out / "mutations.md": "\n".join([head, *lines, ""]).encode()}


def tried(patch: Path, command: str, minutes: float) -> dict[str, str | int]:
    """Whether a search finds a fault, and after how many seconds."""
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "lipzoo"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        subprocess.run(["git", "apply", str(patch)], cwd=clone, check=True)
        variables = {**os.environ, "PYTHONPATH": str(clone), "OMP_NUM_THREADS": "1"}
        began = time.monotonic()
        script = f"{sys.executable} {command}"
        with (
            (clone / "words").open("w+") as words,
            subprocess.Popen(
                ["bash", "-c", f"exec {script}"],
                cwd=clone,
                env=variables,
                stdout=subprocess.DEVNULL,
                stderr=words,
                start_new_session=True,
            ) as search,
        ):
            try:
                code = search.wait(60 * minutes)
            except subprocess.TimeoutExpired:
                os.killpg(search.pid, 9)
                code = None
            words.seek(0)
            if code == 1 and "Traceback (most recent call last)" in words.read():
                code = "broke"
    words_of = {1: "yes", 0: "no", None: "not in time", "broke": "the search broke"}
    found = words_of.get(code, f"exit code {code}")
    return {"found": found, "seconds": round(time.monotonic() - began), "by": f"`{command}`"}


if __name__ == "__main__":
    sys.exit(main())
