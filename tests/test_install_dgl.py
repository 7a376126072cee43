"""``python -m lipzoo.install_dgl``, away from any package index."""

import importlib.metadata
import subprocess
import sys
import zipfile

import pytest

from lipzoo import install_dgl


def test_what_is_there_is_left_alone(capsys):
    assert install_dgl.main() == 0
    version = importlib.metadata.version("dgl")
    assert capsys.readouterr().out == f"DGL {version} is installed, and imports\n"


@pytest.fixture
def missing(monkeypatch):
    """As if DGL were not installed; what pip and wheel are asked for is noted, not done."""
    asked = []

    def version(name):
        raise importlib.metadata.PackageNotFoundError(name)

    def run(*command):
        asked.append(command)
        if "download" in command:
            folder = command[command.index("--dest") + 1]
            zipfile.ZipFile(f"{folder}/dgl-2.1.0-cp312-cp312-any.whl", "w").close()
        return "2.1.0\n"

    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setattr(install_dgl, "_run", run)
    return asked


@pytest.mark.parametrize(
    ("python", "wanted"),
    [((3, 10), "dgl==1.1.3"), ((3, 11), "dgl==1.1.3"), ((3, 12), "dgl==2.1.0")],
)
def test_pypi_has_a_wheel(missing, monkeypatch, python, wanted):
    monkeypatch.setattr(sys, "version_info", python)
    install_dgl.install()
    assert "install" in missing[0]
    assert wanted in missing[0]


def test_a_wheel_gets_another_tag(missing, monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 13))
    assert install_dgl.install() == "2.1.0"
    download, tags, install, check = missing
    assert {"download", "dgl==2.1.0", "3.12"} <= set(download)
    assert {"tags", "py3", "none"} <= set(tags)
    assert {"install", "--no-deps"} <= set(install)
    assert "lipzoo._dgl" in check[-1]


def test_what_fails_is_said_on_two_lines(missing, monkeypatch, capsys):
    def fails(*command):
        raise subprocess.CalledProcessError(1, command, stderr="a\nERROR: no such wheel\n")

    monkeypatch.setattr(install_dgl, "_run", fails)
    assert install_dgl.main() == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "install_dgl: ERROR: no such wheel"
    assert "Linux on x86-64" in lines[1]
