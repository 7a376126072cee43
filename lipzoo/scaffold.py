"""``lipzoo new NAME`` and ``lipzoo copy NAME``: starting points for architectures and recipes."""

from __future__ import annotations

import contextlib
import keyword
import os
import re
import shlex
from pathlib import Path

from lipzoo._atomic import remove_leftovers, write_all, write_atomically
from lipzoo._paths import is_path, packaged_folder
from lipzoo._writing import output_path, writing, writing_file
from lipzoo._yaml import to_yaml
from lipzoo.errors import ConfigError, OutputError, UnknownNameError, did_you_mean, shown
from lipzoo.registry import get_architecture, is_architecture, list_models
from lipzoo.registry.files import architectures_in

__all__ = ["copy_config", "new_architecture"]

_ARCHITECTURE = """\
# The architecture {name}. `lipzoo info gat_lip_16` shows what the zoo's own hold.
description: Deep GAT with LipschitzNorm on the attention scores.
source: ""
model: DeepGAT  # a class in lipzoo.models, or one of yours with @lipzoo.register_model
args:
  num_layers: 4
  hidden_feats: 32
  num_heads: 4
  score_norm: lipschitz
  residual: none
  input_drop: 0.2
  feat_drop: 0.2
  head_drop: 0.2
  attn_drop: 0.0
"""

_RECIPE = """\
# LIPZOO_CONFIG_PATH={folder} lipzoo train {folder}/recipes/{name}.wine.yaml --out runs/{name}
# lipzoo export runs/{name} --out runs/{name}.wine
# Put here what it reaches: mean ± standard deviation over the seeds.
description: {name} on the nearest-neighbour graph of scikit-learn's wines.
architecture: "{name}"
dataset: {{name: wine}}
optimizer: {{lr: 0.005, weight_decay: 5e-4}}
epochs: 200
early_stopping: {{patience: 50}}
seeds: 0..4
baselines:
  without_score_norm: {{overrides: {{score_norm: null}}}}
"""

_TEST = '''\
"""The architecture {name}: it is built, learns, and comes back from its weights."""

from pathlib import Path

import pytest
import torch

import lipzoo
from lipzoo.training import export_run, load_recipe, train

HERE = Path(__file__).parent
RECIPE = HERE / "recipes" / "{name}.wine.yaml"


@pytest.fixture(scope="module", autouse=True)
def _known():
    lipzoo.add_config_dir(HERE)


def test_every_parameter_learns():
    task = lipzoo.load_dataset("wine")
    model = lipzoo.create_model("{name}", in_feats=task.in_feats, num_classes=task.num_classes)
    logits = model(task.graph, task.feat)
    assert logits.shape == (task.num_nodes, task.num_classes)
    assert torch.isfinite(logits).all()
    logits.square().sum().backward()
    unused = [name for name, p in model.named_parameters() if p.grad is None]
    assert not unused


def test_the_recipe(tmp_path):
    recipe = load_recipe(RECIPE, ["epochs=30"])
    summary = train(recipe, tmp_path / "run", seeds=[0], verbose=False)
    # Three classes: a model that learns is far above chance.
    assert summary["metrics"]["test_accuracy"]["mean"] > 0.6
    folder = export_run(tmp_path / "run", tmp_path / "weights")
    assert lipzoo.load_pretrained(folder).card.full_name == "{name}.wine"
'''


def new_architecture(name: str, out: str | os.PathLike | None = None) -> list[Path]:
    """Write an architecture file, a recipe and a test to start from; they run as they are.

    Parameters
    ----------
    name : str
        Of the architecture: small letters, digits and ``_``, a letter first.
    out : path, optional
        The folder, by default one called ``name``; other architectures may be in it.

    Returns
    -------
    list of Path
        The files: ``<name>.yaml``, ``recipes/<name>.wine.yaml``, ``test_<name>.py``.

    Raises
    ------
    ConfigError
        If the name is odd, or an architecture of that name exists.
    OutputError
        If one of the files exists (nothing is written then), or they cannot be written.
    """
    _check_new_name(name)
    folder = output_path(name if out is None else out)
    _check_config_folder(folder)
    texts = {
        folder / "recipes" / f"{name}.wine.yaml": _RECIPE,
        folder / f"test_{name}.py": _TEST,
        folder / f"{name}.yaml": _ARCHITECTURE,
    }
    words = {"name": name, "folder": shlex.quote(str(folder))}
    files = {path: text.format(**words).encode() for path, text in texts.items()}
    architecture = folder / f"{name}.yaml"
    with writing(folder):
        # A call that was killed has left some of these very files, but no architecture.
        begun = [path for path in files if path != architecture and _is(path, files[path])]
        there = [str(path) for path in files if os.path.lexists(path) and path not in begun]
        if there:
            raise OutputError(f"{', '.join(there)}: already there; choose another name or --out")
        recipes = folder / "recipes"
        try:
            recipes.mkdir(exist_ok=True)
        except OSError as fault:
            raise OutputError(
                f"{folder}: cannot be made ({fault.strerror}); choose a folder that you may write "
                "to"
            ) from None
        for path in files:
            remove_leftovers(path.parent, path.name)
        try:
            write_all(files)
        except OutputError:
            with contextlib.suppress(OSError):
                recipes.rmdir()
            raise
    return [architecture, *(path for path in files if path != architecture)]


def _is(path: Path, data: bytes) -> bool:
    return path.is_file() and path.read_bytes() == data


def copy_config(name: str, out: str | os.PathLike | None = None) -> tuple[Path, str]:
    """Copy a recipe or an architecture that lipzoo knows, to edit it.

    Parameters
    ----------
    name : str
        Of a recipe that ships (``gat_lip_16.cora``), or of an architecture (``gat_lip_16``), of
        which the copy is one of its own, with all arguments: of its file's name.
    out : path, optional
        A file that is not there; by default ``NAME.yaml``, or ``my_NAME/my_NAME.yaml`` for an
        architecture (a folder for ``LIPZOO_CONFIG_PATH``).

    Returns
    -------
    Path, str
        The file, and ``"recipe"`` or ``"architecture"``.

    Raises
    ------
    UnknownNameError
        If there is nothing of that name.
    ConfigError
        If the file's name makes no new architecture.
    OutputError
        If the file exists, or cannot be written.
    """
    if is_path(name):
        raise ConfigError(f"'{shown(name)}': is a path; copy takes a name (lipzoo list)")
    recipes = {f.stem: f for f in (packaged_folder("zoo_configs") / "recipes").glob("*.yaml")}
    if name in recipes:
        return _copied(recipes[name].read_bytes(), out or f"{name}.yaml"), "recipe"
    if not is_architecture(name):
        hint = did_you_mean(name, [*recipes, *list_models()])
        raise UnknownNameError(f"no recipe and no architecture '{shown(name)}'{hint}")
    file = output_path(f"my_{name}/my_{name}.yaml" if out is None else out)
    _check_new_name(file.stem)
    _check_config_folder(file.parent)
    if file.suffix != ".yaml":
        raise ConfigError(f"{file}: an architecture's file must end in .yaml")
    _check_neighbours(file)
    found = get_architecture(name)
    content = {key: getattr(found, key) for key in ("description", "source", "model", "args")}
    data = f"# A copy of {name}.\n".encode() + to_yaml(content)
    with writing(file.parent) if out is None else contextlib.nullcontext():
        return _copied(data, file), "architecture"


def _copied(data: bytes, out: str | os.PathLike) -> Path:
    with writing_file(out) as file:
        if os.path.lexists(file):
            raise OutputError(f"{file}: exists; choose another file by --out")
        remove_leftovers(file.parent, file.name)
        write_atomically(file, data)
        return file


def _check_neighbours(file: Path) -> None:
    """Refuse a place beside YAML files that ``LIPZOO_CONFIG_PATH`` could not read with it."""
    if os.path.lexists(file) or not file.parent.is_dir():
        return
    try:
        architectures_in(file.parent)
        architectures_in.cache_clear()  # there will be one more
    except ConfigError as fault:
        raise ConfigError(
            f"{fault}; LIPZOO_CONFIG_PATH reads all YAML files of a folder: choose another one, or "
            "leave --out out, which makes one"
        ) from None


def _check_config_folder(folder: Path) -> None:
    """Refuse one that ``LIPZOO_CONFIG_PATH`` would read as two."""
    if os.pathsep in str(folder):
        raise ConfigError(
            f"{folder}: an architecture's folder must not have {os.pathsep!r} in its name, which "
            "separates folders in LIPZOO_CONFIG_PATH; choose another --out"
        )


def _check_new_name(name: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,63}", name):
        raise ConfigError(
            f"'{shown(name)}': a name is small letters, digits and '_', a letter first, 64 at "
            "most, such as my_gat"
        )
    if keyword.iskeyword(name):
        raise ConfigError(f"'{name}': is a word of Python's own; choose another name")
    if is_architecture(name):
        raise ConfigError(
            f"an architecture {name!r} already exists (lipzoo info {name}); choose another name"
        )
