"""The README stays true: its commands run, its table is that of the cards."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from registry_state import fresh_registry, names_removed

import lipzoo
from lipzoo._tables import read_csv
from lipzoo.attention import SCORE_NORMS
from lipzoo.datasets import DATASETS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
#: What is there after a reader has typed what a page shows.
MADE = {
    "README.md": ("runs/wine.csv", "runs/exported/card.yaml", "runs/tuned/card.yaml"),
    "docs/command_line.md": (
        *("runs/wine.csv", "runs/exported/card.yaml", "runs/certificate", "runs/search/best.yaml"),
        *("runs/report/report.html", "runs/report/confusion.png"),
    ),
    "docs/pictures.md": (
        *("runs/report/report.html", "runs/run_report/curves_loss.svg", "calibration.png"),
    ),
    "docs/fine_tuning.md": ("runs/tuned/card.yaml",),
    "docs/own_graphs.md": ("users.pt",),
    "docs/export.md": ("runs/cora.onnx", "runs/cora.pt2"),
    "docs/howto/certify.md": ("runs/certificate",),
    "docs/howto/extend.md": ("my_net/my_net.yaml",),
    "docs/howto/new_nodes.md": ("predictions.csv",),
    "docs/howto/share.md": ("runs/exported/card.yaml",),
    "docs/howto/tune.md": ("runs/search/best.yaml",),
}
#: Pages on graphs that do not come with the package.
PUBLIC = ("docs/context.md", "docs/data.md", "docs/transfer.md")
#: What the build of the site writes, or runs itself.
BUILT = ("_build", "api", "gallery", "tutorials")


def pages() -> list[Path]:
    """The README and the pages of the site, each as it is written."""
    written = sorted((ROOT / "docs").rglob("*.md"))
    return [ROOT / "README.md", *(path for path in written if not {*BUILT} & {*path.parts})]


def shown() -> list[str]:
    """The pages that show something to type."""
    names = [str(path.relative_to(ROOT)) for path in pages()]
    return [name for name in names if blocks(name, "bash") or blocks(name, "python")]


def blocks(document: str, language: str) -> list[str]:
    text = (ROOT / document).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.fixture
def environment():
    """Where ``lipzoo`` is the program of the Python that runs the tests."""
    programs = str(Path(sys.executable).parent)
    return {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}


@pytest.mark.parametrize("document", shown())
def test_what_is_shown_runs(document, tmp_path, environment, monkeypatch, request):
    """Commands, then the Python blocks one after the other, as who reads them types them."""
    if document in PUBLIC:
        folder = str(request.getfixturevalue("raw_dir"))
        monkeypatch.setenv("DGL_DOWNLOAD_DIR", folder)
        environment["DGL_DOWNLOAD_DIR"] = folder
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    scope: dict = {}
    for block in blocks(document, "bash"):
        script = ["bash", "-c", f"set -euo pipefail\n{block}"]
        run = subprocess.run(script, env=environment, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
    with fresh_registry(), names_removed(SCORE_NORMS, DATASETS):
        for block in blocks(document, "python"):
            exec(compile(block, document, "exec"), scope)
    for name in MADE.get(document, ()):
        assert (tmp_path / name).exists(), name


def test_the_pages_that_are_named_are_there():
    assert {*MADE, *PUBLIC} <= set(shown())
    assert len(shown()) >= 20


def test_the_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"make ([\w-]+)", README):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    assert "exec make test-all" in (ROOT / ".ci/run").read_text()


def test_the_table_is_that_of_the_cards():
    table = runpy.run_path(str(ROOT / "tools/table.py"))
    for file in table["TABLES"]:
        text = (ROOT / file).read_text(encoding="utf-8")
        assert table["with_table"](file) == text, "run tools/table.py"
    models = (ROOT / "results/models.csv").read_bytes()
    assert table["models_csv"]() == models, "run tools/table.py"


def test_the_speed_of_all_weights_was_measured():
    names = [row["name"] for row in read_csv(ROOT / "results/speed_cpu.csv")]
    assert names == lipzoo.list_models(pretrained=True), "run tools/weights_speed.py"


def test_every_file_that_is_named_exists():
    documents = [*pages(), ROOT / "CONTRIBUTING.md", *(ROOT / "docs/tutorials").glob("*.md")]
    for document in documents:
        text = document.read_text(encoding="utf-8")
        folders = "lipzoo|zoo_configs|pretrained|tools|tests|docs"
        for name in re.findall(rf"`((?:{folders})/[\w./-]*)`", text):
            assert (ROOT / name).exists(), f"{document.name}: {name}"
        for link in re.findall(r"\]\(([\w./-]+)\)", text):
            assert (document.parent / link).exists(), f"{document.name}: {link}"


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 150


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
