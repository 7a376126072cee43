import contextlib
import copy
import csv
import json

import pytest
import torch

import lipzoo
from lipzoo._progress import say
from lipzoo.datasets import GraphTask
from lipzoo.errors import CheckpointError, ConfigError, OutputError
from lipzoo.training import loop
from lipzoo.training.loop import fit, make_optimizer
from lipzoo.training.metrics import evaluate, model_feat
from lipzoo.training.recipe import FitSettings
from lipzoo.training.schedules import make_scheduler


def tiny(task, seed=0, **overrides):
    torch.manual_seed(seed)
    return lipzoo.create_model(
        "test_tiny", in_feats=task.in_feats, num_classes=task.num_classes, **overrides
    )


def settings(**changes):
    return FitSettings.model_validate({"epochs": 20, **changes})


@pytest.mark.slow
def test_learns(iris):
    model = tiny(iris)
    before = evaluate(model, iris)["train_loss"]
    result = fit(model, iris, settings(epochs=60), verbose=False)
    assert result.metrics["train_loss"] < before / 2
    assert result.metrics["test_accuracy"] > 0.8


@pytest.mark.slow
@pytest.mark.parametrize("monitor", ["metric", "loss"])
def test_the_model_ends_with_the_best_validated_epoch(iris, monitor):
    model = tiny(iris)
    chosen = settings(early_stopping={"monitor": monitor, "patience": 1000})
    result = fit(model, iris, chosen, verbose=False)
    if monitor == "loss":
        best = min(result.history, key=lambda row: row["val_loss"])
    else:
        best = max(result.history, key=lambda row: (row["val_accuracy"], -row["val_loss"]))
    assert result.best_epoch == best["epoch"]
    assert evaluate(model, iris)["val_loss"] == pytest.approx(best["val_loss"], abs=1e-6)


@pytest.mark.slow
def test_the_test_nodes_decide_nothing(iris):
    """Scrambled test labels change the test metric and no weight."""
    scrambled = iris.with_ndata(label=iris.labels.clone())
    mask = scrambled.test_mask
    scrambled.graph.ndata["label"][mask] = (scrambled.labels[mask] + 1) % 3
    first, second = tiny(iris), tiny(iris)
    one = fit(first, iris, settings(), verbose=False)
    two = fit(second, scrambled, settings(), verbose=False)
    assert one.history == two.history
    assert one.metrics["test_accuracy"] != two.metrics["test_accuracy"]
    for a, b in zip(first.parameters(), second.parameters()):
        assert torch.equal(a, b)


@pytest.mark.slow
def test_stops_early(iris):
    chosen = settings(epochs=500, early_stopping={"patience": 5})
    result = fit(tiny(iris), iris, chosen, verbose=False)
    assert result.history[-1]["epoch"] == result.best_epoch + 5


@pytest.mark.slow
@pytest.mark.parametrize("feature_norm", [None, "batchnorm"])
def test_averaged_weights_are_those_of_the_equation(iris, feature_norm):
    """Fitted with an average, the model holds the mean; without one, the weights themselves."""
    decay, epochs = 0.6, 5
    weights = []
    model = tiny(iris, feature_norm=feature_norm)
    chosen = settings(epochs=epochs + 1, early_stopping={"patience": 50})

    def keep(epoch):  # called before the epoch of this number
        if epoch > 1:
            weights.append({k: v.clone().double() for k, v in model.state_dict().items()})

    fit(model, iris, chosen, verbose=False, on_epoch=keep)
    mean = weights[0]
    for later in weights[1:]:
        mean = {k: decay * mean[k] + (1 - decay) * later[k] for k in mean}

    averaged = tiny(iris, feature_norm=feature_norm)
    # Judged once, after the last epoch: that average is what is kept.
    chosen = settings(epochs=epochs, eval_every=epochs, ema_decay=decay)
    result = fit(averaged, iris, chosen, verbose=False)
    assert evaluate(averaged, iris) == result.metrics
    for name, value in averaged.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value.double(), mean[name], atol=1e-6, rtol=1e-5)


@pytest.mark.many
@pytest.mark.parametrize("ema_decay", [None, 0.9])
@pytest.mark.parametrize("schedule", ["constant", "plateau", "cosine"])
def test_a_resumed_run_is_bit_identical(iris, tmp_path, schedule, ema_decay):
    chosen = settings(
        epochs=20,
        schedule={"name": schedule, "patience": 2},
        early_stopping={"patience": 50},
        ema_decay=ema_decay,
    )
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir(), parts.mkdir()
    undisturbed = tiny(iris, feat_drop=0.5)
    expected = fit(undisturbed, iris, chosen, folder=whole, verbose=False, save_every=4)

    class Killed(Exception):
        pass

    def die_at(last):
        def on_epoch(epoch):
            if epoch == last:
                raise Killed

        return on_epoch

    for last in (7, 18):  # between two saved states: the epochs since are done again
        with pytest.raises(Killed):
            fit(
                tiny(iris, feat_drop=0.5),
                iris,
                chosen,
                folder=parts,
                resume=True,
                verbose=False,
                save_every=4,
                on_epoch=die_at(last),
            )
    model = tiny(iris, seed=99, feat_drop=0.5)  # another start: all comes from the state
    torch.manual_seed(1234)
    result = fit(model, iris, chosen, folder=parts, resume=True, verbose=False, save_every=4)
    assert result == expected
    for a, b in zip(undisturbed.parameters(), model.parameters()):
        assert torch.equal(a, b)
    assert (whole / "metrics.csv").read_text() == (parts / "metrics.csv").read_text()


@pytest.mark.slow
def test_metrics_go_to_csv_and_tensorboard(iris, tmp_path):
    result = fit(tiny(iris), iris, settings(eval_every=5), folder=tmp_path, verbose=False)
    rows = list(csv.DictReader((tmp_path / "metrics.csv").open()))
    assert [int(row["epoch"]) for row in rows] == [5, 10, 15, 20]
    assert [float(row["val_loss"]) for row in rows] == [r["val_loss"] for r in result.history]
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("val_accuracy")] == [5, 10, 15, 20]


@pytest.mark.parametrize("seconds", [0.0, 1000.0])
def test_in_a_pipe_it_says_how_far_it_is_every_some_seconds(iris, capsys, monkeypatch, seconds):
    monkeypatch.setattr("lipzoo._progress.LINE_SECONDS", seconds)
    result = fit(tiny(iris), iris, settings(epochs=6, eval_every=3), title="tiny")
    printed = capsys.readouterr()
    assert printed.out == ""
    *lines, last = printed.err.splitlines()
    best = f"best val_accuracy {result.metrics['val_accuracy']:.4f} (epoch {result.best_epoch})"
    assert last == f"tiny: 6 epochs, {best}"
    assert len(lines) == (0 if seconds else 6)
    for number, line in enumerate(lines, 1):
        assert line.startswith(f"tiny: epoch {number} of 6, at most ")
        assert ("best val_accuracy" in line) == (number >= 3)


def test_progress_for_a_program(iris, capsys):
    result = fit(tiny(iris), iris, settings(epochs=6, eval_every=3), title="tiny", verbose="json")
    events = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [event["event"] for event in events] == ["stage", "evaluation", "evaluation", "end"]
    for event, row in zip(events[1:3], result.history, strict=True):
        assert event | row == event
        assert event["epochs"] == 6
        assert event["seconds_left"] >= 0
    best = {"val_accuracy": result.metrics["val_accuracy"]}
    assert (events[-1]["best"], events[-1]["best_epoch"]) == (best, result.best_epoch)


def test_what_diverges_is_json_too(capsys):
    say("json", "", "evaluation", val_loss=float("nan"), best={"val_loss": float("inf")})
    line = capsys.readouterr().err
    assert json.loads(line) == {"event": "evaluation", "val_loss": None, "best": {"val_loss": None}}
    assert "NaN" not in line


def test_a_metric_that_does_not_move_ends_the_training(iris):
    """Though the loss creeps on, where ties are to break nothing but ties."""
    same = iris.with_ndata(label=torch.zeros_like(iris.labels))  # right from the first epoch on
    model = tiny(same)
    with torch.no_grad():
        model.head.bias[0] = 5.0
    found = {}
    for ties in ("improve", "break"):
        rule = {"patience": 4, "ties": ties}
        chosen = settings(epochs=12, optimizer={"lr": 1e-3}, early_stopping=rule)
        found[ties] = fit(copy.deepcopy(model), same, chosen, verbose=False)
    rows = found["improve"].history
    assert {row["val_accuracy"] for row in rows} == {1.0}
    losses = [row["val_loss"] for row in rows]
    assert losses == sorted(losses, reverse=True)
    assert len(rows) == 12
    # The first epoch, and four without a better metric; ties still choose the lowest loss.
    assert found["break"].history == rows[:5]
    assert (found["improve"].best_epoch, found["break"].best_epoch) == (12, 5)


def test_one_class_for_every_node_is_said(iris):
    stuck = tiny(iris)
    with torch.no_grad():
        stuck.head.bias[1] = 1e4
    still = settings(epochs=1, optimizer={"lr": 1e-9})
    assert fit(stuck, iris, still, verbose=False).only_class == 1
    assert fit(tiny(iris), iris, settings(epochs=30), verbose=False).only_class is None


def test_a_strange_state_is_refused(iris, tmp_path):
    fit(tiny(iris), iris, settings(epochs=4), folder=tmp_path, verbose=False)
    with pytest.raises(CheckpointError, match="does not belong"):
        fit(tiny(iris, hidden_feats=16), iris, settings(), folder=tmp_path, resume=True)
    (tmp_path / "state.pt").write_bytes(b"\x80\x04junk")
    with pytest.raises(CheckpointError, match="does not belong"):
        fit(tiny(iris), iris, settings(), folder=tmp_path, resume=True)


def test_attention_layers_have_their_own_weight_decay(iris):
    model = tiny(iris)
    options = settings(optimizer={"weight_decay": 0.1, "attention_weight_decay": 0.2}).optimizer
    body, ends = make_optimizer(model, options).param_groups
    assert (body["weight_decay"], ends["weight_decay"]) == (0.2, 0.1)
    names = {id(p): name for name, p in model.named_parameters()}
    assert {names[id(p)].split(".")[0] for p in body["params"]} == {"layers", "norms"}
    assert {names[id(p)].split(".")[0] for p in ends["params"]} == {"input", "head"}


def test_warmup_rises(iris):
    chosen = settings(epochs=6, schedule={"name": "cosine", "warmup": 3}, optimizer={"lr": 0.3})
    result = fit(tiny(iris), iris, chosen, verbose=False)
    rates = [row["lr"] for row in result.history]
    assert rates[0] == pytest.approx(0.1)
    assert rates[:3] == sorted(rates[:3])
    assert rates[3:] == sorted(rates[3:], reverse=True)


@pytest.mark.slow
def test_bags_of_words_are_trained_on_as_sparse_features(iris):
    """And the metrics are those of the dense ones."""
    generator = torch.Generator().manual_seed(0)
    words = torch.rand(iris.num_nodes, 90, generator=generator) < 0.02
    words[:, :3] = torch.nn.functional.one_hot(iris.labels, 3).bool()
    task = iris.with_ndata(feat=words.float())
    model = tiny(task, input_drop=0.3)
    assert model_feat(model, task).layout is torch.sparse_csr
    assert model_feat(model, iris) is iris.feat
    assert model_feat(torch.nn.Linear(90, 3), task) is task.feat
    result = fit(model, task, settings(epochs=40), verbose=False)
    assert result.metrics["test_accuracy"] > 0.9
    model.takes_sparse_feat = False
    assert evaluate(model, task) == pytest.approx(result.metrics, abs=1e-5)


@pytest.mark.parametrize("ema_decay", [None, 0.5])
@pytest.mark.parametrize("schedule", ["constant", "plateau"])
def test_without_validation_nodes_the_last_epoch_is_kept(iris, ema_decay, schedule):
    """The weights are those of as many epochs that were validated but never left."""
    chosen = settings(epochs=4, ema_decay=ema_decay, schedule={"name": schedule})
    wanted = tiny(iris)
    result = fit(wanted, iris, settings(**chosen.model_dump() | {"eval_every": 4}), verbose=False)
    assert result.best_epoch == 4
    graph = iris.graph.local_var()
    del graph.ndata["val_mask"], graph.ndata["test_mask"]
    model = tiny(iris)
    result = fit(model, GraphTask.from_graph(graph), chosen, splits=("train",), verbose=False)
    assert result.best_epoch == 4
    assert result.metrics.keys() == {"train_accuracy", "train_loss"}
    assert [sorted(row) for row in result.history] == [["epoch", "lr", "train_loss"]] * 4
    for key, tensor in wanted.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[key]), key


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({}, False),
        ({"checkpoint_layers": True}, True),
        ({"residual": "reversible"}, True),
        ({"residual": {"name": "reversible", "keep_states": True}}, False),
    ],
)
def test_memory_goes_back_where_layers_run_again(iris, monkeypatch, options, wanted):
    found = []

    def giving_back(is_wanted):
        found.append(is_wanted)
        return contextlib.nullcontext()

    monkeypatch.setattr("lipzoo.training.loop.giving_back", giving_back)
    fit(tiny(iris, **options), iris, settings(epochs=2), verbose=False)
    assert found == [wanted, wanted]


def rates(losses, eval_every=1, **schedule):
    """The rate of each epoch, beginning with 1; ``losses`` are those behind them, or None."""
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    options = settings(schedule={"name": "plateau", **schedule}).schedule
    scheduler, found = make_scheduler(optimizer, options, len(losses), eval_every), []
    for loss in losses:
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step(loss)
    return found


def test_a_plateau_is_told_of_evaluations_alone():
    """A loss that falls at each of them keeps the rate, however many epochs lie between."""
    falls = [loss if epoch % 4 == 3 else None for epoch, loss in enumerate(range(40, 0, -1))]
    assert set(rates(falls, 4, patience=2)) == {1.0}
    still = [5.0 if epoch % 4 == 3 else None for epoch in range(24)]
    # 8 epochs of patience are two evaluations without a better one; the third lets the rate fall.
    assert rates(still, 4, patience=8) == [1.0] * 16 + [0.5] * 8
    assert rates([5.0] * 5, patience=2) == [1.0] * 4 + [0.5]


def test_a_plateau_takes_no_training_loss_for_one_of_validation(iris):
    changes = {"epochs": 12, "eval_every": 4, "optimizer": {"lr": 0.01}}
    chosen = settings(**changes, schedule={"name": "plateau", "patience": 1})
    found = fit(tiny(iris), iris, chosen, verbose=False).history
    losses = [row["val_loss"] for row in found]
    assert losses == sorted(losses, reverse=True), "each is better"
    assert {row["lr"] for row in found} == {0.01}


def test_warmup_rises_before_a_plateau():
    """And what is told of during it does not count."""
    assert rates([9.0, 9.0, 9.0, 9.0, 5.0, 5.0, 5.0], warmup=4, patience=1) == pytest.approx(
        [0.25, 0.4375, 0.625, 0.8125, 1, 1, 1]
    )
    assert rates([5.0] * 7, warmup=2, patience=1, factor=0.1)[-2:] == pytest.approx([0.1, 0.1])


def test_patience_is_no_shorter_than_what_lies_between_evaluations():
    with pytest.raises(ValueError, match="must be at least eval_every"):
        settings(eval_every=10, early_stopping={"patience": 9})
    assert settings(eval_every=10, early_stopping={"patience": 10})
    assert settings(eval_every=20, early_stopping={"patience": 1}), "the only evaluation"


def test_attention_layers_that_nobody_can_tell_have_no_weight_decay_of_their_own(iris):
    options = settings(optimizer={"attention_weight_decay": 0.2}).optimizer
    with pytest.raises(ConfigError, match=r"attention_weight_decay: a Linear has no layer_groups"):
        make_optimizer(torch.nn.Linear(2, 2), options)


def test_a_state_that_was_judged_by_something_else_is_refused(iris, tmp_path):
    for splits in (("train",), ("train", "val")):
        folder = tmp_path / splits[-1]
        folder.mkdir()
        fit(tiny(iris), iris, settings(epochs=2), folder=folder, splits=splits, verbose=False)
    begun = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    other = copy.copy(iris)
    other.metric = "macro_f1"
    for name, task, words in (
        ("train", iris, "nothing on the validation nodes, and now by accuracy"),
        ("val", other, "accuracy on the validation nodes, and now by macro_f1"),
    ):
        with pytest.raises(OutputError, match=words):
            fit(tiny(task), task, settings(), folder=tmp_path / name, resume=True, verbose=False)
    assert begun == {path: path.read_bytes() for path in tmp_path.rglob("*.*")}


@pytest.mark.parametrize("fault", [KeyboardInterrupt, ValueError])
def test_a_training_that_is_ended_lets_go_of_its_files(iris, tmp_path, monkeypatch, fault):
    closed, real = [], loop._Log.close
    monkeypatch.setattr(loop._Log, "close", lambda log: closed.append(log) or real(log))

    def ends(row):
        raise fault

    with pytest.raises(fault):
        fit(tiny(iris), iris, settings(), folder=tmp_path, verbose=False, on_evaluation=ends)
    [log] = closed
    assert log.file.closed
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 2, "what it had recorded"
