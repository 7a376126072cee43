import pytest
import torch

import lipzoo
from lipzoo.errors import ConfigError
from lipzoo.models.base import DeepAttentionNet
from lipzoo.training import evaluate, export_run, fit, train
from lipzoo.training.recipe import FitSettings
from lipzoo.training.unfreezing import thaw_epochs

NAMES = ["input", "layer_1", "layer_2", "layer_3", "head"]


@pytest.fixture
def other_iris():
    """The data that the weights were trained on, split otherwise: nothing is replaced."""
    return lipzoo.load_dataset("iris", split_seed=1)


def largest_steps(before, after):
    """How far the farthest parameter of each layer group moved."""
    return {
        name: max(((a - b).abs().max().item() for a, b in zip(group, before[name])), default=0.0)
        for name, group in after.items()
    }


def copies(groups):
    return {name: [p.detach().clone() for p in group] for name, group in groups.items()}


@pytest.mark.parametrize(
    ("freeze", "every", "fresh", "expected"),
    [
        ("none", None, [], dict.fromkeys(NAMES, 1)),
        ("body", None, [], {"input": 1, "head": 1}),
        ("all-but-head", None, [], {"head": 1}),
        ("all-but-head", None, ["input", "head"], {"input": 1, "head": 1}),
        ("none", 5, [], {"head": 1, "layer_3": 6, "layer_2": 11, "layer_1": 16, "input": 21}),
        ("none", 5, ["input"], {"head": 1, "input": 1, "layer_3": 6, "layer_2": 11, "layer_1": 16}),
        ("body", 2, [], {"head": 1, "input": 1, "layer_3": 3, "layer_2": 5, "layer_1": 7}),
    ],
)
def test_when_a_group_thaws(freeze, every, fresh, expected):
    assert thaw_epochs(NAMES, fresh, freeze, every) == expected


@pytest.mark.many
@pytest.mark.parametrize(
    ("epochs", "moved"),
    [
        (3, {"head"}),
        (4, {"head", "layer_3"}),
        (7, {"head", "layer_3", "layer_2"}),
        (13, set(NAMES)),
    ],
)
def test_layers_thaw_from_the_head_downwards(tiny_source, other_iris, tmp_path, epochs, moved):
    before = lipzoo.load_pretrained(tiny_source).state_dict()
    out = tmp_path / "out"
    options = {"unfreeze_every": 3, "epochs": epochs, "verbose": False}
    lipzoo.finetune(tiny_source, other_iris, out=out, **options)
    last = torch.load(out / "training/state.pt", weights_only=True)["model"]
    changed = {key for key in before if not torch.equal(before[key], last[key])}
    groups = {
        f"layer_{int(key.split('.')[1]) + 1}" if key[0] in "ln" else key.split(".")[0]
        for key in changed
    }
    assert groups == moved


def test_lower_layers_learn_more_slowly(tiny_source, other_iris):
    """Adam's first step is the learning rate, whatever the gradient."""
    before = copies(lipzoo.load_pretrained(tiny_source).layer_groups())
    result = lipzoo.finetune(
        tiny_source,
        other_iris,
        layer_lr_decay=0.5,
        lr=0.01,
        weight_decay=0,
        epochs=1,
        verbose=False,
    )
    steps = largest_steps(before, result.model.layer_groups())
    for distance, name in enumerate(reversed(NAMES)):
        assert steps[name] == pytest.approx(0.01 * 0.5**distance, rel=0.02), name
    assert result.history[0]["lr"] == 0.01


class TestLinearProbe:
    def test_the_body_runs_once_and_stays(self, tiny_source, other_iris, monkeypatch):
        runs = []
        run = DeepAttentionNet._read

        def noted(model, *args, **options):
            runs.append(model.training)
            return run(model, *args, **options)

        monkeypatch.setattr(DeepAttentionNet, "_read", noted)
        before = copies(lipzoo.load_pretrained(tiny_source).layer_groups())
        result = lipzoo.finetune(
            tiny_source, other_iris, freeze="all-but-head", epochs=30, verbose=False
        )
        assert runs == [False]
        steps = largest_steps(before, result.model.layer_groups())
        assert {name for name, step in steps.items() if step} == {"head"}
        assert all(p.requires_grad for p in result.model.parameters())
        assert evaluate(result.model, other_iris) == pytest.approx(result.metrics, abs=1e-6)

    @pytest.mark.slow
    def test_is_what_training_the_head_of_the_whole_model_gives(self, tiny_source, other_iris):
        probe = lipzoo.finetune(
            tiny_source, other_iris, freeze="all-but-head", epochs=20, verbose=False
        )
        model = lipzoo.load_pretrained(tiny_source)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.startswith("head"))
        whole = fit(
            model,
            other_iris,
            FitSettings(epochs=20),
            parameters=[{"params": list(model.head.parameters())}],
            verbose=False,
        )
        assert len(whole.history) == len(probe.history) == 20
        for one, other in zip(probe.history, whole.history):
            assert one == pytest.approx(other, abs=1e-5)

    def test_dropout_is_that_of_the_head_alone(self, tiny_source, other_iris):
        histories = [
            lipzoo.finetune(
                tiny_source,
                other_iris,
                freeze="all-but-head",
                epochs=3,
                verbose=False,
                **dropout,
            ).history
            for dropout in ({}, {"feat_drop": 0.9, "attn_drop": 0.9}, {"head_drop": 0.9})
        ]
        assert histories[0] == histories[1]
        assert histories[0] != histories[2]

    def test_a_class_with_a_forward_of_its_own_runs_whole(self, tiny_source, other_iris):
        kind = type(lipzoo.load_pretrained(tiny_source))
        calls = []

        def forward(self, graph, feat):
            calls.append(self.training)
            return super(kind, self).forward(graph, feat)

        kind.forward = forward
        try:
            lipzoo.finetune(tiny_source, other_iris, freeze="all-but-head", epochs=3, verbose=False)
        finally:
            del kind.forward
        assert calls.count(True) == 3


@pytest.mark.slow
@pytest.mark.parametrize("freeze", ["none", "body"])
def test_frozen_batch_norm_keeps_its_statistics(recipe, tmp_path, freeze):
    with_norm = recipe(overrides={"feature_norm": "batchnorm"}, epochs=3, seeds=[0])
    train(with_norm, tmp_path / "run", verbose=False)
    source = export_run(tmp_path / "run", tmp_path / "source")
    before = lipzoo.load_pretrained(source).norms.state_dict()
    wine = lipzoo.load_dataset("wine")
    result = lipzoo.finetune(source, wine, freeze=freeze, epochs=3, verbose=False)
    after = result.model.norms.state_dict()
    means = [key for key in before if key.endswith("running_mean")]
    assert means
    assert all(torch.equal(before[key], after[key]) for key in means) == (freeze == "body")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"unfreeze_every": 0}, "unfreeze_every"),
        ({"layer_lr_decay": 0}, "layer_lr_decay"),
        ({"layer_lr_decay": 1.5}, "layer_lr_decay"),
        ({"save_every": 0}, "save_every"),
        ({"seed": -1}, "seed"),
        ({"in_feats": 3}, "in_feats come from the task"),
    ],
)
def test_what_is_out_of_range_is_refused(tiny_source, iris, tmp_path, options, words):
    out = tmp_path / "out"
    with pytest.raises(ConfigError, match=words):
        lipzoo.finetune(tiny_source, iris, out=out, epochs=10**9, verbose=False, **options)
    assert not out.exists()
