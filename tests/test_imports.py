"""What is imported when: names cost no PyTorch, and nothing is loaded that was not asked for."""

import ast
import graphlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

import lipzoo

ROOT = Path(__file__).parents[1]
#: Loaded by what computes, or talks to a network.
HEAVY = {
    *(
        "dgl",
        "huggingface_hub",
        "matplotlib",
        "numba",
        "numpy",
        "pandas",
        "requests",
        "safetensors",
    ),
    *("scipy", "sklearn", "torch", "urllib3"),
}
REPORT = f"\nimport sys\nprint('LOADED', *sorted({HEAVY!r} & sys.modules.keys()))"


def loaded(code: str, **environment: str) -> set[str]:
    """The heavy packages that a process has loaded after running ``code``."""
    run = subprocess.run(
        [sys.executable, "-c", code + REPORT], capture_output=True, text=True, env=environment
    )
    assert run.returncode == 0, run.stderr
    words = run.stdout.splitlines()[-1].split()
    assert words[0] == "LOADED"
    return set(words[1:])


@pytest.fixture
def environment(monkeypatch):
    """Without folders of one's own."""
    for name in ("LIPZOO_CONFIG_PATH", "LIPZOO_PRETRAINED_PATH"):
        monkeypatch.delenv(name, raising=False)
    return dict(os.environ)


COMMANDS = [
    ["--help"],
    ["--version"],
    ["list"],
    ["list", "gat*", "--json"],
    ["list", "--pretrained"],
    ["info", "gat_lip_16"],
    ["info", "gat_lip_16.cora", "--json"],
    ["info", "gat_lip_17"],
    ["completion", "bash"],
    *(
        [command, "--help"]
        for command in ("train", "tune", "evaluate", "finetune", "export", "convert", "report")
    ),
]


@pytest.mark.parametrize("argv", COMMANDS, ids=" ".join)
def test_commands_that_need_no_pytorch(argv, environment):
    code = f"from lipzoo.cli import main\ntry:\n    main({argv})\nexcept SystemExit:\n    pass"
    assert loaded(code, **environment) == set()


@pytest.mark.parametrize(
    "code",
    [
        "import lipzoo",
        "import lipzoo; dir(lipzoo); lipzoo.LipzooError",
        "import lipzoo; assert 'gat_lip_16' in lipzoo.list_models()",
        "import lipzoo; assert 'gat_lip_16.cora' in lipzoo.list_models(pretrained=True)",
        "from lipzoo.registry import find_checkpoint; find_checkpoint('gat_lip_16.cora')",
    ],
)
def test_names_need_no_pytorch(code, environment):
    assert loaded(code, **environment) == set()


def test_folders_of_ones_own_need_none_either(tmp_path, environment):
    content = "model: DeepGAT\ndescription: Mine.\nargs: {num_layers: 2}\n"
    (tmp_path / "mine.yaml").write_text(content)
    environment["LIPZOO_CONFIG_PATH"] = str(tmp_path)
    assert loaded("import lipzoo; assert 'mine' in lipzoo.list_models()", **environment) == set()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gat_lip_16.digits", "gat_lip_context_8.synthetic"])
def test_weights_that_are_here_need_neither_hub_nor_compiler(name, environment):
    """DGL itself loads ``requests``; what of ours downloads is not loaded. PyTorch loads its
    compiler, which takes as long as PyTorch itself, when numbers are drawn that are not kept."""
    code = (
        f"import lipzoo, sys\nlipzoo.load_pretrained({name!r})\n"
        "assert not [name for name in sys.modules if name.startswith('lipzoo.hub.')]\n"
        "assert 'torch._dynamo' not in sys.modules"
    )
    assert "huggingface_hub" not in loaded(code, **environment)


def test_every_public_name_is_there():
    for name in lipzoo.__all__:
        assert getattr(lipzoo, name) is not None
        assert name in dir(lipzoo)
    from lipzoo import registry

    for name in registry.__all__:
        assert getattr(registry, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'load_pretraned'"):
        _ = lipzoo.load_pretraned


@pytest.mark.slow
def test_rooms_are_there_without_an_import_of_their_own(environment):
    code = "import lipzoo; lipzoo.training.Recipe; lipzoo.nn.GATConv; lipzoo.lipschitz.bound"
    assert "torch" in loaded(code, **environment)


def test_dgl_may_be_imported_after_lipzoo(environment):
    environment.pop("DGLBACKEND", None)
    code = "import lipzoo, os\nassert os.environ['DGLBACKEND'] == 'pytorch'\nimport dgl"
    assert "dgl" in loaded(code, **environment)


def module_arrows(root):
    """Which module imports from which, also late and for types alone; what a package hands on is
    followed to the module that defines it."""
    trees, handed_on = {}, {}
    for path in sorted(root.rglob("*.py")):
        name = ".".join(path.relative_to(root.parent).with_suffix("").parts)
        package = name.removesuffix(".__init__")
        found = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.ImportFrom)]
        trees[package] = [(n.module, alias) for n in found for alias in n.names]
        if package != name:
            handed_on |= {(package, a.asname or a.name): (m, a.name) for m, a in trees[package]}

    def home(module, name):
        if f"{module}.{name}" in trees:
            return f"{module}.{name}"
        return home(*handed_on[module, name]) if (module, name) in handed_on else module

    packages = {package for package, _ in handed_on}
    return {
        name: {home(m, a.name) for m, a in imports if m.split(".")[0] == root.name} - {name}
        for name, imports in trees.items()
        if name not in packages
    }


@pytest.mark.parametrize("root", ["lipzoo", "tools/lab"])
def test_no_module_imports_itself_through_others(root):
    arrows = module_arrows(ROOT / root)
    assert sum(map(len, arrows.values())) > 30
    graphlib.TopologicalSorter(arrows).prepare()  # which raises, and names the circle
