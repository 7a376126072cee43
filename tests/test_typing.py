"""The public names carry their types: a user's script passes ``mypy --strict``."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

SCRIPT = '''
from pathlib import Path

import torch

import lipzoo
from lipzoo.datasets import GraphTask, random_split
from lipzoo.lipschitz import bound, certify, estimate
from lipzoo.models import DeepAttentionNet, DeepGAT
from lipzoo.nn import GATConv
from lipzoo.training import (
    FitSettings,
    evaluate,
    export_run,
    finetune,
    fit,
    load_recipe,
    predict,
    train,
    write_predictions,
)


@lipzoo.register_model(name="mine")
class Mine(DeepGAT):
    """A class of the user's."""


def main(folder: Path) -> float:
    names = lipzoo.list_models("gat_lip*", pretrained=True)
    task = lipzoo.load_dataset("digits", split_seed=1)
    model = lipzoo.load_pretrained(names[0])
    fresh = lipzoo.create_model("gat_lip_16", in_feats=task.in_feats, num_classes=task.num_classes)
    result = lipzoo.finetune(names[0], task, epochs=2, out=folder)
    again = finetune(result.model, task, resume=True)
    metrics = evaluate(result.model, task)
    chances = predict(model, task)
    conv = GATConv(4, 8, 2, score_norm="lipschitz")
    net = DeepGAT(task.in_feats, task.num_classes, num_layers=2)
    hidden = net.forward_features(task.graph, task.feat)
    fitted = fit(net, task, FitSettings(epochs=2), verbose=False)
    summary = train(load_recipe("gat_lip_16.digits"), folder, seeds=[0], verbose="json")
    where = export_run(folder)
    limit = float(bound(net, task.graph))
    stack = lipzoo.ClosedFormStack().fit(task)
    table = write_predictions(folder / "p.csv", chances, False)
    certificate = certify(net, task)
    added = lipzoo.add_config_dir(folder)
    found = estimate(net, task.graph, task.feat)
    kept = lipzoo.registry.register_model(torch.nn.Identity)
    REVEALED
    if task.labels is None:
        raise lipzoo.DataError("no labels")
    net.reset_classifier(3)
    return metrics["test_accuracy"] + result.metrics["val_loss"]
'''
REVEALED = (
    *("names", "task", "task.feat", "model", "fresh", "result", "again", "metrics", "chances"),
    *("conv", "net", "hidden", "fitted", "summary", "where", "limit", "stack", "table"),
    *("certificate", "added", "found", "kept", "Mine", "lipzoo.finetune", "lipzoo.push_to_hub"),
    *("GraphTask.from_graph", "random_split", "DeepAttentionNet.layer_groups", "lipzoo.nn.GATConv"),
    *("lipzoo.lipschitzify", "lipzoo.models.DeepGAT", "lipzoo.training.train"),
    *("lipzoo.plots.calibration", "lipzoo.plots.embed", "lipzoo.report.make_report"),
)


def checked(tmp_path, script):
    pytest.importorskip("mypy")
    (tmp_path / "script.py").write_text(script)
    mypy = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "script.py"]
    mypy += ["--cache-dir", str(tmp_path / "cache")]
    environment = {**os.environ, "MYPYPATH": str(ROOT)}
    return subprocess.run(mypy, cwd=tmp_path, env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_a_users_script_is_typed(tmp_path):
    lines = "\n    ".join(f"reveal_type({name})" for name in REVEALED)
    run = checked(tmp_path, SCRIPT.replace("REVEALED", lines))
    assert run.returncode == 0, run.stdout
    types = re.findall(r'Revealed type is "(.*)"', run.stdout)
    assert len(types) == len(REVEALED)
    unknown = [n for n, t in zip(REVEALED, types, strict=True) if t in ("Any", "types.ModuleType")]
    assert unknown == []
    # A name that does not exist is a fault, though names are loaded lazily.
    wrong = checked(tmp_path, "import lipzoo\n\nlipzoo.load_pretraned('gat_lip_16')\n")
    assert wrong.returncode == 1
    assert "load_pretraned" in wrong.stdout


def test_the_mark_is_there():
    assert (ROOT / "lipzoo" / "py.typed").is_file()
