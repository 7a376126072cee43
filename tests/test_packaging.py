"""``pip install .`` into a clean environment, away from the checkout."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

#: Run by the new environment's Python, in an empty folder.
PROGRAM = """
import json, pathlib, lipzoo
names = lipzoo.list_models(pretrained=True)
model = lipzoo.load_pretrained("gat_lip_16.digits")
task = lipzoo.load_dataset("digits")
logits = model(task.graph, task.feat)
print(json.dumps({
    "where": str(pathlib.Path(lipzoo.__file__).parent),
    "architectures": lipzoo.list_models(),
    "pretrained": names,
    "shape": list(logits.shape),
}))
"""

#: The rooms of the laboratory, and what they once were in the package.
LABORATORY = {"tools", "lab", "experiments"} | {
    path.name for path in (ROOT / "tools" / "lab").iterdir() if path.is_dir()
}


@pytest.mark.slow
def test_an_installed_wheel_finds_models_and_weights(tmp_path):
    # A copy, so that the build leaves nothing in the checkout.
    source = tmp_path / "source"
    ignored = shutil.ignore_patterns(".*", "runs", "build", "dist", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, source, ignore=ignored)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    wheels = tmp_path / "wheels"
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(wheels), str(source)],
        check=True,
    )
    [wheel] = wheels.glob("lipzoo-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert [name for name in names if LABORATORY & set(name.split("/"))] == []
    held = {n.removeprefix("lipzoo/") for n in names if n.startswith("lipzoo/zoo_configs/")}
    assert held == {str(path.relative_to(ROOT)) for path in (ROOT / "zoo_configs").rglob("*.yaml")}
    curves = {n.removeprefix("lipzoo/") for n in names if n.endswith("/curve.csv")}
    assert curves == {str(path.relative_to(ROOT)) for path in ROOT.glob("pretrained/*/curve.csv")}

    home = tmp_path / "env"
    venv.create(home, with_pip=True)
    python = home / "bin" / "python"
    pip_there = [python, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    # Python 3.11 puts an old setuptools there, which would hide the one that torch needs.
    subprocess.run([*pip_there, "uninstall", "--yes", "setuptools"], check=True)
    # The libraries that the tests run with, but not the checkout: a .pth inside a folder that a
    # .pth names is not followed, so the editable install stays out.
    [site] = home.glob("lib/python*/site-packages")
    (site / "libraries.pth").write_text(sysconfig.get_paths()["purelib"])
    subprocess.run([*pip_there, "install", "--no-index", str(wheel)], check=True)
    run = subprocess.run(
        [python, "-c", PROGRAM], cwd=home, capture_output=True, text=True, check=True
    )
    facts = json.loads(run.stdout.splitlines()[-1])
    assert Path(facts["where"]).is_relative_to(home)
    assert {"gat_2", "gat_lip_16", "gat_lip_res_32", "gt_lip_8"} <= set(facts["architectures"])
    assert "gat_lip_16.digits" in facts["pretrained"]
    assert facts["shape"] == [1797, 10]
    program = home / "bin" / "lipzoo"
    command = [program, "list", "--pretrained", "--json"]
    listed = subprocess.run(command, capture_output=True, text=True)
    assert json.loads(listed.stdout) == facts["pretrained"]
    assert "lipzoo/py.typed" in names
    [metadata] = [name for name in names if name.endswith(".dist-info/METADATA")]
    text = zipfile.ZipFile(wheel).read(metadata).decode()
    assert "Author: The lipzoo developers" in text
    assert "Project-URL: Paper, https://arxiv.org/abs/2103.04886" in text
    for minor in (10, 11, 12, 13):
        assert f"Classifier: Programming Language :: Python :: 3.{minor}" in text


@pytest.mark.slow
@pytest.mark.parametrize("without", ["", "1"])
def test_dgl_can_be_left_out(tmp_path, without):
    """Of the requirements that an installer is told, not of the extra."""
    for name in ("setup.py", "README.md", "lipzoo", "zoo_configs", "pretrained"):
        (tmp_path / name).symlink_to(ROOT / name)
    environment = {**os.environ, "LIPZOO_WITHOUT_DGL": without}
    command = [sys.executable, "setup.py", "-q", "dist_info", "-o", str(tmp_path)]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    [metadata] = tmp_path.glob("*.dist-info/METADATA")
    required = [
        line.removeprefix("Requires-Dist: ")
        for line in metadata.read_text().splitlines()
        if line.startswith("Requires-Dist: dgl")
    ]
    assert len([line for line in required if "extra ==" in line]) == 2
    assert len([line for line in required if "extra ==" not in line]) == (0 if without else 2)
