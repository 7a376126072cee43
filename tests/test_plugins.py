"""``LIPZOO_CONFIG_PATH``, and installed packages in the entry-point group ``lipzoo.models``."""

import os
import sys
import warnings

import pytest
import yaml
from registry_state import fresh_registry

import lipzoo
from lipzoo import registry
from lipzoo.errors import ConfigError, UnknownNameError
from lipzoo.registry.state import SHIPPED, STATE

SIZES = {"in_feats": 4, "num_classes": 2}

#: A package that works: a class and an architecture.
GOOD = """
import lipzoo
from pathlib import Path
from lipzoo.models import DeepGAT

class {kind}(DeepGAT):
    pass

def add_models():
    lipzoo.register_model({kind})
    lipzoo.add_config_dir(Path(__file__).parent / "{module}_configs")
"""


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    """No packages loaded yet; what a test adds is gone after it."""
    monkeypatch.delenv("LIPZOO_CONFIG_PATH", raising=False)
    modules = set(sys.modules)
    with fresh_registry():
        STATE.folders, STATE.plugins_are_loaded = [SHIPPED], False
        yield
    for name in set(sys.modules) - modules:
        if name.startswith("plugin_"):
            del sys.modules[name]


@pytest.fixture
def install(tmp_path, monkeypatch):
    """``install("plugin_a", code)`` puts a package where Python looks for packages."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))

    def write(module, code=GOOD, kind=None, entry="add_models", **architectures):
        kind = kind or module.title().replace("_", "")
        (site / f"{module}.py").write_text(code.format(module=module, kind=kind))
        info = site / f"{module}-1.5.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.5\n")
        entries = f"[lipzoo.models]\nx = {module}:{entry}\n"
        (info / "entry_points.txt").write_text(entries)
        write_configs(site / f"{module}_configs", **{module: kind, **architectures})

    return write


def write_configs(folder, **architectures):
    folder.mkdir(parents=True, exist_ok=True)
    for name, kind in architectures.items():
        content = {"model": kind, "description": "A test.", "args": {"num_layers": 2}}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))
    return folder


# ---------------------------------------------------------------- LIPZOO_CONFIG_PATH


def test_folders_in_the_environment(tmp_path, monkeypatch):
    folders = [
        write_configs(tmp_path / "a", mine="DeepGAT"),
        write_configs(tmp_path / "b", mine_too="DeepGATv2"),
    ]
    monkeypatch.setenv("LIPZOO_CONFIG_PATH", os.pathsep.join(["", *map(str, folders), ""]))
    assert lipzoo.list_models("mine*") == ["mine", "mine_too"]
    assert lipzoo.create_model("mine", **SIZES).num_layers == 2
    assert type(lipzoo.create_model("mine_too", **SIZES)).__name__ == "DeepGATv2"


def test_a_folder_that_is_named_later(tmp_path, monkeypatch):
    assert lipzoo.list_models("mine") == []
    monkeypatch.setenv("LIPZOO_CONFIG_PATH", str(write_configs(tmp_path / "a", mine="DeepGAT")))
    assert lipzoo.list_models("mine") == ["mine"]
    assert lipzoo.list_models("mine") == ["mine"], "a folder is added once"


@pytest.mark.parametrize(
    ("architectures", "words"),
    [
        ({"gat_2": "DeepGAT"}, r"LIPZOO_CONFIG_PATH: .*gat_2 already exist"),
        ({"mine": "DeepGAAT"}, r"LIPZOO_CONFIG_PATH: .*did you mean 'DeepGAT'"),
        ({}, r"LIPZOO_CONFIG_PATH: .*holds no \.yaml file"),
        (None, r"LIPZOO_CONFIG_PATH: .*is no folder"),
    ],
)
def test_a_folder_that_is_wrong(tmp_path, monkeypatch, architectures, words):
    if architectures is not None:
        write_configs(tmp_path / "a", **architectures)
    monkeypatch.setenv("LIPZOO_CONFIG_PATH", str(tmp_path / "a"))
    with pytest.raises(ConfigError, match=words):
        lipzoo.list_models()
    # What ships with lipzoo does not depend on it.
    assert lipzoo.create_model("gat_2", **SIZES).num_layers == 2
    assert lipzoo.load_pretrained("gat_lip_16.digits").num_layers == 16


# --------------------------------------------------------------------------- packages


def test_a_package_that_offers_models(install):
    install("plugin_a")
    assert lipzoo.list_models("plugin_*") == ["plugin_a"]
    model = lipzoo.create_model("plugin_a", **SIZES)
    assert type(model).__module__ == "plugin_a"


def test_a_package_is_imported_only_where_it_may_be_meant(install):
    install("plugin_a")
    lipzoo.create_model("gat_2", **SIZES)
    lipzoo.load_pretrained("gat_lip_16.digits")
    assert "plugin_a" not in sys.modules
    lipzoo.create_model("plugin_a", **SIZES)
    assert "plugin_a" in sys.modules


def test_a_folder_of_ones_own_may_use_a_packages_class(install, tmp_path, monkeypatch):
    install("plugin_a")
    folder = write_configs(tmp_path / "mine", mine="PluginA")
    monkeypatch.setenv("LIPZOO_CONFIG_PATH", str(folder))
    assert type(lipzoo.create_model("mine", **SIZES)).__name__ == "PluginA"
    assert registry.build_model("PluginA", SIZES).num_layers == 2


BROKEN = {
    "an import": ("import absent_library\n", "ModuleNotFoundError.*absent_library"),
    "syntax": ("def add_models(:\n", "SyntaxError"),
    "no function": ("", "AttributeError.*add_models"),
    "a value": ("add_models = 3\n", "TypeError.*not a function that registers"),
    "an exception": ("def add_models():\n    1 / 0\n", "ZeroDivisionError"),
    "an exit": ("def add_models():\n    raise SystemExit(3)\n", "SystemExit: 3"),
    "halfway": (GOOD + "    raise RuntimeError('too late')\n", "RuntimeError: too late"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_package_breaks_nothing(install, kind):
    code, words = BROKEN[kind]
    install("plugin_bad", code)
    install("plugin_good")
    classes = set(STATE.classes)
    named = rf"the installed package plugin_bad 1\.5 offers models, but.*{words}.*uninstall"
    with pytest.warns(UserWarning, match=named):
        assert lipzoo.list_models("plugin_*") == ["plugin_good"]
    assert set(STATE.classes) == classes | {"PluginGood"}, "nothing of it stays"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "gat_lip_16" in lipzoo.list_models(), "said once"
    with pytest.raises(UnknownNameError):
        lipzoo.create_model("plugin_bad", **SIZES)


def test_names_that_are_taken_are_refused(install):
    install("plugin_a", kind="DeepGAT")
    install("plugin_b", gat_lip_16="PluginB")
    install("plugin_c")
    install("plugin_d", kind="PluginC")
    with pytest.warns(UserWarning, match="the installed package") as caught:
        names = lipzoo.list_models()
    assert {name for name in names if name.startswith("plugin")} == {"plugin_c"}
    words = sorted(str(warning.message) for warning in caught)
    assert len(words) == 3
    for text, (package, reason) in zip(
        words,
        [
            ("plugin_a 1.5", "the model class 'DeepGAT' is already registered"),
            ("plugin_b 1.5", "gat_lip_16 already exist"),
            ("plugin_d 1.5", "the model class 'PluginC' is already registered"),
        ],
    ):
        assert package in text
        assert reason in text
    assert lipzoo.create_model("gat_lip_16", **SIZES).num_layers == 16
    assert registry.get_architecture("gat_lip_16").path.parent == SHIPPED


def test_a_package_may_ask_for_names(install):
    code = GOOD + "    assert 'gat_2' in lipzoo.list_models()\n"
    install("plugin_a", code)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "plugin_a" in lipzoo.list_models()


def test_without_packages():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "gat_2" in lipzoo.list_models()
