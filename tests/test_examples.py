"""What ``examples/`` shows works: a folder, a class, an installed package."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"

#: Run where the package is installed: list, build, fine-tune, train, export, load, bound.
PROGRAM = """
import json, sys, warnings
warnings.simplefilter("error", UserWarning)
import lipzoo
assert "lipzoo_tied" not in sys.modules, "lazily"
from lipzoo.training import export_run, train
from lipzoo.training.recipe import make_recipe
names = lipzoo.list_models("tied*")
task = lipzoo.load_dataset("wine")
recipe = make_recipe(
    {"architecture": "tied_gat_4", "dataset": {"name": "wine"}, "epochs": 3}, where="here"
)
train(recipe, "run", seeds=[0], verbose=False)
model = lipzoo.load_pretrained(export_run("run", "weights"))
tuned = lipzoo.finetune("./weights", lipzoo.load_dataset("iris"), epochs=2, verbose=False)
deep = lipzoo.create_model("tied_gat_16", in_feats=task.in_feats, num_classes=3)
print(json.dumps({
    "names": names,
    "class": type(model).__module__,
    "shape": list(model(task.graph, task.feat).shape),
    "parameters": [sum(p.numel() for p in m.parameters()) for m in (model, deep)],
    "replaced": tuned.replaced,
    "finite": float(lipzoo.lipschitz.bound(model, task.graph)) < float("inf"),
}))
"""


def run(command, folder, **variables):
    """What the command prints; ``folder`` is where it runs."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "LIPZOO_BACKEND": "dgl", **variables}
    environment.setdefault("LIPZOO_CONFIG_PATH", "")
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_package_that_is_installed(tmp_path):
    source, site = tmp_path / "lipzoo_tied", tmp_path / "site"
    shutil.copytree(EXAMPLES / "lipzoo_tied", source)  # the build leaves nothing in the checkout
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
    options = ["--no-deps", "--no-build-isolation", "--target", str(site), str(source)]
    subprocess.run([*pip, *options], check=True)
    work = tmp_path / "work"
    work.mkdir()
    printed = run([sys.executable, "-c", PROGRAM], work, PYTHONPATH=str(site))
    facts = json.loads(printed.splitlines()[-1])
    assert facts["names"] == ["tied_gat_4", "tied_gat_16"]
    assert facts["class"] == "lipzoo_tied.model"
    assert facts["shape"] == [178, 3]
    assert facts["parameters"][0] == facts["parameters"][1], "depth costs no parameters"
    assert facts["replaced"] == ["input", "head"]
    assert facts["finite"]


def test_a_folder_of_architectures(tmp_path):
    program = "import lipzoo; print(lipzoo.list_models('gat_lip_narrow*'))"
    folder = str(EXAMPLES / "my_configs")
    printed = run([sys.executable, "-c", program], tmp_path, LIPZOO_CONFIG_PATH=folder)
    assert printed.strip() == "['gat_lip_narrow_4', 'gat_lip_narrow_8']"


def test_a_class_of_ones_own(tmp_path):
    printed = run([sys.executable, str(EXAMPLES / "own_class" / "noisy_gat.py")], tmp_path)
    assert "GaussianNoise" in printed
    assert "logits: (178, 3)" in printed


def test_the_readme_names_what_is_there():
    text = (EXAMPLES / "README.md").read_text()
    folders = {path.name for path in EXAMPLES.iterdir() if path.is_dir()}
    assert set(re.findall(r"^## .*\(`(\w+)/`\)", text, flags=re.M)) == folders - {"__pycache__"}
    for path in re.findall(r"examples/[\w/.]+", text):
        assert (EXAMPLES.parent / path).exists(), path
