"""Names -> YAML -> models, and how users extend the registry."""

import os

import numpy as np
import pytest
import torch
import yaml
from graph_zoo import homogeneous
from registry_state import fresh_registry
from torch import nn

import lipzoo
from lipzoo.errors import ConfigError, UnknownNameError
from lipzoo.models import DeepGAT
from lipzoo.registry import build_model, get_architecture, natural_key, split_name
from lipzoo.registry.classes import find_class
from lipzoo.registry.state import STATE

SIZES = {"in_feats": 4, "num_classes": 2}


@pytest.fixture(autouse=True)
def _fresh():
    """What a test adds is gone after it."""
    with fresh_registry():
        yield


@pytest.fixture
def folder(tmp_path):
    """``folder(name=content, …)`` writes architecture files and returns their folder."""

    def write(**files):
        for name, content in files.items():
            text = content if isinstance(content, str) else yaml.safe_dump(content)
            (tmp_path / f"{name}.yaml").write_text(text)
        return tmp_path

    return write


def architecture(**changes):
    return {"model": "DeepGAT", "description": "A test.", "args": {}} | changes


# ----------------------------------------------------------------------- names


def test_names_are_in_natural_order():
    names = lipzoo.list_models("gat_lip_*")
    assert names.index("gat_lip_2") < names.index("gat_lip_8") < names.index("gat_lip_16")
    assert names == sorted(names, key=natural_key)
    assert sorted(["b", "a_10", "a_9", "a", "a_9b"], key=natural_key) == [
        *("a", "a_9", "a_9b", "a_10", "b")
    ]


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ("gt_?", ["gt_2", "gt_8"]),
        ("gat_lip_16", ["gat_lip_16"]),
        ("gatv2*_3*", ["gatv2_lip_32", "gatv2_lip_rev_32"]),
        ("none*", []),
    ],
)
def test_patterns(pattern, wanted):
    assert lipzoo.list_models(pattern) == wanted


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("gat_lip_16", ("gat_lip_16", None)),
        ("gat_lip_16.cora", ("gat_lip_16", "cora")),
        ("gat_lip_16.cora.b", ("gat_lip_16", "cora.b")),
        ("gat_lip_16.", ("gat_lip_16", None)),
    ],
)
def test_split_name(name, wanted):
    assert split_name(name) == wanted


@pytest.mark.parametrize("name", lipzoo.list_models())
def test_what_is_known_of_an_architecture(name):
    found = get_architecture(name)
    assert found.name == name
    assert found.description
    assert found.path.is_file()
    assert bool(found.source) == (name != "test_tiny")
    tags = {"gat_lip": "cora", "gat_lip_res": "cora", "gt_lip": "cora"}
    tags |= {"gat_lip_universal": "cs_computers_digits", "gat_lip_context": "synthetic"}
    assert found.default_tag == tags.get(name.rpartition("_")[0])


# ---------------------------------------------------------------------- models


def test_overrides_go_over_the_yaml():
    model = lipzoo.create_model("gat_lip_16", **SIZES, num_layers=3, score_norm=None)
    assert model.num_layers == 3
    assert model.layers[0].score_norm is None
    assert model.training
    assert get_architecture("gat_lip_16").args["num_layers"] == 16, "the registry is not changed"


def test_unknown_architectures_name_the_nearest():
    with pytest.raises(UnknownNameError, match=r"'gat_lipp_16'; did you mean 'gat_lip_16'\?"):
        lipzoo.create_model("gat_lipp_16", **SIZES)
    with pytest.raises(UnknownNameError, match="no architecture 'gatt'"):
        lipzoo.create_model("gatt.cora", **SIZES)


def test_a_tag_needs_pretrained():
    with pytest.raises(ConfigError, match="pass pretrained=True, or 'gat_lip_16'"):
        lipzoo.create_model("gat_lip_16.cora", **SIZES)


@pytest.mark.parametrize("given", [{}, {"in_feats": 4}])
def test_sizes_must_be_given(given):
    missing = [f"{name}=..." for name in SIZES if name not in given]
    with pytest.raises(ConfigError, match=f"gat_2: pass {', '.join(missing)}"):
        lipzoo.create_model("gat_2", **given)


def test_all_faults_at_once():
    with pytest.raises(ConfigError) as caught:
        lipzoo.create_model("gat_2", **SIZES, num_layer=3, hidden_feats="64", feat_drop=None)
    message = str(caught.value)
    assert message.startswith("gat_2: ")
    assert "unknown key 'num_layer'; did you mean 'num_layers'?" in message
    assert "hidden_feats: input should be a valid integer, got '64'" in message
    assert "feat_drop: input should be a valid number, got None" in message


@pytest.mark.parametrize(
    ("argument", "value"),
    [("num_layers", 2.0), ("num_layers", True), ("add_self_loops", 1), ("residual", 3)],
)
def test_types_are_not_converted(argument, value):
    with pytest.raises(ConfigError, match=f"{argument}: input should be"):
        lipzoo.create_model("gat_2", **SIZES, **{argument: value})


def test_numbers_of_numpy_count_as_python_s():
    labels = np.array([0, 2, 1])
    args = {"in_feats": np.int32(5), "num_classes": labels.max() + 1, "feat_drop": np.float64(0.2)}
    model = lipzoo.create_model("gat_lip_2", **args)
    assert type(model.num_classes) is int
    assert model.num_classes == 3
    task = lipzoo.load_dataset("wine", k=np.int64(3), encoding={"width": np.int64(8)})
    assert task.options == lipzoo.load_dataset("wine", k=3, encoding={"width": 8}).options
    assert type(task.options["k"]) is int
    with pytest.raises(ConfigError, match="num_classes"):
        lipzoo.create_model("gat_lip_2", in_feats=5, num_classes=np.float64(3))


def test_an_integer_is_a_number():
    assert lipzoo.create_model("gat_2", **SIZES, feat_drop=0).layers[0].feat_drop.p == 0


def test_unknown_classes():
    with pytest.raises(UnknownNameError, match="here: no registered model class 'DeepGatt'; did"):
        build_model("DeepGatt", SIZES, where="here")


# -------------------------------------------------------------- add_config_dir


def test_a_folder_of_ones_own(folder):
    args = {"hidden_feats": 6, "num_heads": 3}
    path = folder(
        mine=architecture(args=args),
        deep=architecture(args=args, family={"num_layers": [10, 2]}, default_tag="x"),
    )
    assert lipzoo.add_config_dir(path) == ["deep_2", "deep_10", "mine"]
    assert lipzoo.create_model("deep_10", **SIZES).num_layers == 10
    assert lipzoo.create_model("mine", **SIZES).num_heads == 3
    assert lipzoo.list_models("deep*") == ["deep_2", "deep_10"]
    assert get_architecture("deep_2").default_tag == "x"
    assert "gat_lip_16" in lipzoo.list_models(), "the zoo's own are still there"


def test_a_folder_may_be_added_again_after_a_change(folder):
    lipzoo.add_config_dir(folder(mine=architecture(args={"num_layers": 3})))
    folder(mine=architecture(args={"num_layers": 5}), more=architecture())
    assert lipzoo.add_config_dir(os.fspath(folder())) == ["mine", "more"]
    assert lipzoo.create_model("mine", **SIZES).num_layers == 5


def test_a_name_that_is_taken_needs_force(folder):
    path = folder(test_tiny=architecture(args={"num_layers": 7}), other=architecture())
    before = lipzoo.list_models()
    with pytest.raises(ConfigError, match=r"test_tiny already exist; .*force=True"):
        lipzoo.add_config_dir(path)
    assert lipzoo.list_models() == before
    assert lipzoo.create_model("test_tiny", **SIZES).num_layers == 3
    lipzoo.add_config_dir(path, force=True)
    assert lipzoo.create_model("test_tiny", **SIZES).num_layers == 7


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("model: [", "is no valid YAML"),
        ("- a", "must hold a mapping"),
        ("x: !!python/object/apply:os.system ['true']", "is no valid YAML"),
        ({"description": "d"}, "key 'model' is missing"),
        (architecture(modle="DeepGAT"), "unknown key 'modle'; did you mean 'model'"),
        (architecture(model="DeepGATT"), "no registered class 'DeepGATT'; did you mean 'DeepGAT'"),
        (architecture(args={"num_layres": 3}), "'num_layres'; did you mean 'num_layers'"),
        (architecture(args={"num_layers": "3"}), "num_layers: input should be a valid integer"),
        (architecture(args={1: 2}), "args.1: input should be a valid string"),
        (architecture(family={"num_layers": ["a"]}), "num_layers: input should be a valid integer"),
        (architecture(family={"num_layers": []}), "must name one argument and its values"),
        (architecture(family={"num_layers": [1], "num_heads": [2]}), "must name one argument"),
        (architecture(family={"feat_drop": [0.5]}), "would be read as a tag"),
        (architecture(family={"depth": [1]}), "unknown key 'depth'"),
    ],
)
def test_a_broken_file_leaves_the_registry_as_it_was(folder, content, words, force):
    path = folder(fine=architecture(), wrong=content)
    before = lipzoo.list_models()
    with pytest.raises(ConfigError, match=words) as caught:
        lipzoo.add_config_dir(path, force=force)
    assert "wrong.yaml" in str(caught.value), "the message names the file"
    assert lipzoo.list_models() == before
    assert "fine" not in before


def test_all_faults_of_a_file_at_once(folder):
    args = {"num_layres": 3, "hidden_feats": "x", "num_heads": 1.5}
    with pytest.raises(ConfigError) as caught:
        lipzoo.add_config_dir(folder(wrong=architecture(args=args)))
    assert all(name in str(caught.value) for name in args)


def test_a_name_given_twice_in_a_folder(folder):
    path = folder(a=architecture(family={"num_layers": [2]}), a_2=architecture())
    with pytest.raises(ConfigError, match=r"'a_2' is already defined in .*a\.yaml"):
        lipzoo.add_config_dir(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (architecture(family={"residual": ["a/b"]}), "read as a path; write a file of its own"),
        (architecture(family={"feat_drop": [0.5]}), "read as a tag; write a file of its own"),
    ],
)
def test_names_that_nobody_could_ask_for(folder, content, words):
    with pytest.raises(ConfigError, match=words):
        lipzoo.add_config_dir(folder(deep=content))


@pytest.mark.parametrize("suffix", [".yml", ".YAML"])
def test_every_file_of_yaml_counts(folder, suffix):
    path = folder(one=architecture(), other=architecture())
    (path / "other.yaml").rename(path / f"other{suffix}")
    assert lipzoo.add_config_dir(path) == ["one", "other"]


def test_a_dot_in_a_name_would_be_a_tag(folder):
    with pytest.raises(ConfigError, match="would be read as a tag"):
        lipzoo.add_config_dir(folder(**{"a.b": architecture()}))


def test_folders_that_are_none(tmp_path):
    with pytest.raises(ConfigError, match="is no folder"):
        lipzoo.add_config_dir(tmp_path / "absent")
    with pytest.raises(ConfigError, match=r"holds no \.yaml file"):
        lipzoo.add_config_dir(tmp_path)


# -------------------------------------------------------------- register_model


def test_a_class_of_ones_own(folder):
    @lipzoo.register_model
    class Linear(nn.Module):
        def __init__(self, in_feats: int, num_classes: int, scale: float = 1.0):
            super().__init__()
            self.map, self.scale = nn.Linear(in_feats, num_classes), scale

        def forward(self, graph, feat):
            return self.scale * self.map(feat)

    lipzoo.add_config_dir(folder(line=architecture(model="Linear", args={"scale": 2.0})))
    model = lipzoo.create_model("line", **SIZES)
    assert type(model) is Linear
    assert model.scale == 2.0
    assert model(homogeneous(), torch.rand(10, 4)).shape == (10, 2)
    with pytest.raises(ConfigError, match="did you mean 'scale'"):
        lipzoo.create_model("line", **SIZES, scael=3.0)


def test_a_class_name_that_is_taken():
    class DeepGAT(nn.Module):
        def __init__(self, in_feats, num_classes):
            super().__init__()

    with pytest.raises(ConfigError, match="'DeepGAT' is already registered"):
        lipzoo.register_model(DeepGAT)
    assert find_class("DeepGAT") is not DeepGAT
    assert lipzoo.register_model(name="Other")(DeepGAT) is DeepGAT
    assert lipzoo.register_model(DeepGAT, force=True) is DeepGAT
    assert find_class("DeepGAT") is DeepGAT


def test_registering_a_class_twice_is_once():
    assert lipzoo.register_model(DeepGAT) is DeepGAT


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (nn.Linear, "missing: \\['in_feats', 'num_classes'\\]"),
        (type("Bare", (), {"__init__": lambda self, in_feats, num_classes: None}), "must be a"),
        (lambda in_feats, num_classes: None, "must be a torch.nn.Module"),
    ],
    ids=["arguments", "no module", "no class"],
)
def test_what_is_no_model_class(wrong, words):
    before = dict(STATE.classes)
    with pytest.raises(ConfigError, match=words):
        lipzoo.register_model(wrong, name="Wrong")
    assert before == STATE.classes
