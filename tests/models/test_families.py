"""The families with a linear residual and with ego and neighbours apart: trained, exported, loaded,
fine-tuned and certified on a small graph whose neighbours differ."""

import pytest
import torch
from registry_state import fresh_registry

import lipzoo
from lipzoo._dgl import dgl
from lipzoo.lipschitz import bound, certify
from lipzoo.registry import get_architecture
from lipzoo.training import evaluate, export_run, train
from lipzoo.training.recipe import make_recipe

FAMILIES = [
    f"{kind}_{what}" for kind in ("gat", "gat_lip", "gt", "gt_lip") for what in ("lin", "sep")
]


@pytest.fixture
def data(tmp_path):
    """10 nodes of two classes and two features; each edge joins the classes, but for one."""
    src = torch.tensor([0, 1, 2, 3, 4, 0, 2, 4, 6, 8, 0])
    dst = torch.tensor([5, 6, 7, 8, 9, 3, 5, 1, 9, 1, 2])
    graph = dgl.graph((torch.cat([src, dst]), torch.cat([dst, src])), num_nodes=10)
    node = torch.arange(10)
    graph.ndata["label"] = node % 2
    graph.ndata["feat"] = torch.stack([node % 2 + 0.1 * node, (node * 7 % 5).float()], 1).float()
    for name, first, last in (("train_mask", 0, 6), ("val_mask", 6, 8), ("test_mask", 8, 10)):
        graph.ndata[name] = (node >= first) & (node < last)
    path = tmp_path / "contrary.bin"
    dgl.save_graphs(str(path), [graph])
    return path


@pytest.mark.many
@pytest.mark.parametrize("family", FAMILIES)
def test_from_training_to_certificate(family, data, tmp_path):
    recipe = make_recipe(
        {
            "architecture": f"{family}_4",
            "overrides": {"hidden_feats": 8},
            "dataset": {"name": str(data)},
            "epochs": 12,
            "seeds": [0],
        },
        "test",
    )
    train(recipe, tmp_path / "run", verbose=False)
    folder = export_run(tmp_path / "run", tmp_path / f"{family}_4.contrary")
    task = lipzoo.load_dataset(str(data))
    model = lipzoo.load_pretrained(folder)
    args = get_architecture(f"{family}_4").args
    assert model.sep == args.get("sep", False)
    assert all(isinstance(layer.res_fc, torch.nn.Linear) for layer in model.layers)
    assert evaluate(model, task)["val_loss"] >= 0

    limit = bound(model, task.graph)
    assert limit.is_finite == ("lip" in family)
    found = certify(model, task, iterations=3)
    assert found.bound == limit
    if limit.is_finite:
        assert found.estimate <= limit.frobenius
    before = {key: value.clone() for key, value in model.state_dict().items()}
    for freeze in ("body", "none"):
        result = lipzoo.finetune(
            folder, task, freeze=freeze, epochs=3, out=tmp_path / freeze, verbose=False
        )
        again = lipzoo.load_pretrained(tmp_path / freeze)
        with torch.no_grad():
            logits = result.model(task.graph, task.feat)
            assert torch.equal(again(task.graph, task.feat), logits)
        after = result.model.state_dict()
        trained = {key for key in before if not torch.equal(before[key], after[key])}
        assert any(key.startswith("head.") for key in trained)
        assert any(".res_fc." in key for key in trained) == (freeze == "none")


@pytest.mark.many
@pytest.mark.parametrize("family", ["gat_lip_rev", "gatv2_lip_rev", "gt_lip_rev"])
def test_reversible_from_training_to_certificate(family, data, tmp_path):
    recipe = make_recipe(
        {
            "architecture": f"{family}_16",
            "overrides": {"hidden_feats": 8, "feature_norm": "batchnorm"},
            "dataset": {"name": str(data)},
            "epochs": 3,
            "seeds": [0],
        },
        "test",
    )
    train(recipe, tmp_path / "run", verbose=False)
    folder = export_run(tmp_path / "run", tmp_path / f"{family}_16.contrary")
    task = lipzoo.load_dataset(str(data))
    model = lipzoo.load_pretrained(folder)
    assert model.residual.kept == get_architecture(f"{family}_16").args["residual"]["kept"]
    assert not model.residual.keep_states
    assert evaluate(model, task)["val_loss"] >= 0
    found = certify(model, task, iterations=3)
    assert 0 < found.estimate <= found.bound.frobenius < float("inf")
    for freeze in ("body", "none"):
        options = {"freeze": freeze, "epochs": 2, "verbose": False}
        changed = lipzoo.finetune(folder, task, **options).model.state_dict()
        trained = {k for k, v in model.state_dict().items() if not torch.equal(v, changed[k])}
        assert any(key.startswith("head.") for key in trained)
        assert any(key.startswith("layers.0.") for key in trained) == (freeze == "none")


@pytest.mark.parametrize("family", FAMILIES)
def test_yaml_round_trip(family, tmp_path):
    """What a file says is what a model has; a copy of the file gives the same model."""
    name = f"{family}_4"
    found = get_architecture(name)
    copied = tmp_path / f"mine_{family}.yaml"
    copied.write_text(found.path.read_text())
    with fresh_registry():
        lipzoo.add_config_dir(tmp_path)
        assert get_architecture(f"mine_{name}").args == found.args
        models = []
        for chosen in (name, f"mine_{name}"):
            torch.manual_seed(0)
            models.append(lipzoo.create_model(chosen, in_feats=2, num_classes=2))
    one, other = (model.state_dict() for model in models)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert found.args["num_heads"] == models[0].layers[0].num_heads == 1


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"sep": "true"}, "sep: .*bool"),
        ({"spe": True}, "did you mean 'sep'"),
        ({"residual": "linaer"}, "did you mean 'linear'"),
        ({"residual": {"name": "linear", "bias": False}}, "residual 'linear': .*bias"),
        ({"input_activation": "rleu"}, "did you mean 'relu'"),
        ({"input_activation": 3}, "input_activation: "),
    ],
)
def test_options_that_are_wrong(overrides, words):
    with pytest.raises(lipzoo.errors.ConfigError, match=words):
        lipzoo.create_model("gat_lip_sep_2", in_feats=2, num_classes=2, **overrides)
