"""The README stays true: its commands run, its table is that of the cards."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    found = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    assert found
    return found


@pytest.fixture
def environment():
    """Where ``lipzoo`` is the program of the Python that runs the tests."""
    programs = str(Path(sys.executable).parent)
    return {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}


@pytest.mark.parametrize("number", range(len(blocks("bash"))))
def test_commands_run(number, tmp_path, environment):
    (tmp_path / "runs").mkdir()
    script = "set -euo pipefail\n" + blocks("bash")[number]
    run = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "runs/wine.csv").is_file()
    assert (tmp_path / "runs/exported/card.yaml").is_file()


def test_python_runs(tmp_path, monkeypatch):
    """One block after the other, as who reads from top to bottom types them."""
    monkeypatch.chdir(tmp_path)
    scope = {}
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), scope)
    assert scope["logits"].shape == (1797, 10)
    assert (tmp_path / "runs/tuned/card.yaml").is_file()


def test_the_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", README, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    assert "exec make test" in (ROOT / ".ci/run").read_text()


def test_the_table_is_that_of_the_cards():
    with_table = runpy.run_path(str(ROOT / "tools/table.py"))["with_table"]
    assert with_table(README) == README, "run tools/table.py"


def test_every_file_that_is_named_exists():
    names = re.findall(r"`((?:lipzoo|zoo_configs|pretrained|tools|tests)/[\w./-]*)`", README)
    assert names
    for name in names:
        assert (ROOT / name).exists(), name


def test_every_environment_variable_is_documented():
    text = (ROOT / "docs/environment.md").read_text(encoding="utf-8")
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "lipzoo").rglob("*.py")]
    used = {name for source in sources for name in re.findall(r"\bLIPZOO_[A-Z_]+\b", source)}
    assert {"LIPZOO_PRETRAINED_PATH", "LIPZOO_HOME"} <= used
    documented = set(re.findall(r"^\| `(\w+)`", text, re.MULTILINE))
    assert documented == used
    assert "docs/environment.md" in README


def test_what_the_tests_cite_exists():
    for path in (ROOT / "tests").rglob("*.py"):
        for name in re.findall(r"\b[A-Z]{4,}\.md\b", path.read_text(encoding="utf-8")):
            assert (ROOT / name).is_file(), f"{path} cites {name}"
