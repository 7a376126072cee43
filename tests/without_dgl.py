"""What people do with lipzoo and need no DGL for: each scenario gives numbers that are compared.

    python tests/without_dgl.py FOLDER [DATA]     # with DGL hidden, where LIPZOO_HIDE_DGL is set

FOLDER is written into; DATA holds the public graphs. The last line is JSON: name -> figures.
"""

from __future__ import annotations

import hashlib
import json
import os
import pkgutil
import sys
import time
import warnings
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

if os.environ.get("LIPZOO_HIDE_DGL"):
    sys.modules["dgl"] = None  # as if it were not installed

import numpy as np
import scipy.sparse as sp
import torch

import lipzoo
from lipzoo.cli import main

SCENARIOS = {}


def scenario(make):
    SCENARIOS[make.__name__] = make
    return make


def digest(*tensors):
    total = hashlib.sha256()
    for x in tensors:
        array = x.detach().cpu().numpy() if isinstance(x, torch.Tensor) else np.asarray(x)
        total.update(f"{array.dtype}{array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    return total.hexdigest()[:16]


def arrays(num_nodes=60, seed=0):
    rng = np.random.default_rng(seed)
    src, dst = rng.integers(0, num_nodes, (2, 4 * num_nodes))
    label = np.arange(num_nodes) % 3
    feat = (rng.normal(size=(num_nodes, 5)) + label[:, None]).astype(np.float32)
    part = rng.permutation(num_nodes) % 3
    masks = {f"{name}_mask": part == i for i, name in enumerate(("train", "val", "test"))}
    return {"src": src, "dst": dst, "feat": feat, "label": label, **masks}


def task(**options):
    held = arrays(**options)
    edges = np.stack([held.pop("src"), held.pop("dst")])
    return lipzoo.GraphTask.from_edges(edges, held, "random")


@scenario
def every_module_is_imported(folder, data):
    for info in pkgutil.walk_packages(lipzoo.__path__, "lipzoo."):
        try:
            import_module(info.name)
        except ModuleNotFoundError as fault:
            if fault.name == "dgl":
                raise
            # else it is of an extra


@scenario
def every_architecture_runs(folder, data):
    made = task(num_nodes=12)
    found = {}
    for name in sorted(lipzoo.list_models()):
        torch.manual_seed(0)
        if name.startswith("gat_lip_context"):
            continue
        model = lipzoo.create_model(name, in_feats=5, num_classes=3).eval()
        found[name] = digest(model(made.graph, made.feat))
    return found


@scenario
def weights_are_loaded_and_judged(folder, data):
    model = lipzoo.load_pretrained("gat_lip_16.digits")
    digits = lipzoo.load_dataset("digits")
    found = lipzoo.training.evaluate(model, digits)
    return digest(lipzoo.training.predict(model, digits)), found


@scenario
def models_take_other_graphs(folder, data):
    held = arrays()
    edges = torch.from_numpy(np.stack([held["src"], held["dst"]]))
    feat = torch.from_numpy(held["feat"])
    adjacency = sp.coo_array((np.ones(edges.shape[1]), edges.numpy()), shape=(60, 60))
    torch.manual_seed(0)
    model = lipzoo.create_model("gat_lip_2", in_feats=5, num_classes=3).eval()
    return [digest(model(graph, feat)) for graph in (edges, adjacency, task().graph)]


@scenario
def fine_tuning_and_new_nodes(folder, data):
    made = task()
    result = lipzoo.finetune("gat_lip_16.digits", made, epochs=4, seed=1)
    new = lipzoo.training.predict_new(
        result.model, made, np.zeros((2, 5), np.float32), [[0, 60, 3], [60, 61, 61]]
    )
    return result.metrics, digest(lipzoo.training.predict(result.model, made), new.proba)


@scenario
def training_in_parts(folder, data):
    made = task()
    options = {"name": "clusters", "parts": 5, "per_batch": 2}
    result = lipzoo.finetune("gat_lip_16.digits", made, epochs=3, batching=options)
    torch.manual_seed(0)
    model = lipzoo.create_model("gt_lip_2", in_feats=5, num_classes=3, degree_norm="symmetric")
    options = {**options, "method": "contiguous"}
    settings = lipzoo.training.FitSettings.model_validate({"epochs": 3, "batching": options})
    return result.metrics, lipzoo.training.fit(model, made, settings, verbose=False).metrics


@scenario
def starts_and_networks_in_context(folder, data):
    made = task()
    stack = lipzoo.ClosedFormStack().fit(made)
    context = lipzoo.load_pretrained("gat_lip_context_8")
    return (
        digest(stack.predict_proba()),
        digest(lipzoo.training.predict(context, made)),
        lipzoo.finetune("gat_lip_2", made, start="stack", epochs=3).metrics,
    )


@scenario
def bounds_and_certificates(folder, data):
    made = task()
    torch.manual_seed(0)
    model = lipzoo.create_model("gat_lip_2", in_feats=5, num_classes=3).eval()
    return lipzoo.lipschitz.bound(model, made.graph).per_node


@scenario
def layers_with_edge_features(folder, data):
    held = arrays()
    edges = torch.from_numpy(np.stack([held["src"], held["dst"]]))
    torch.manual_seed(0)
    layer = lipzoo.nn.GATv2Conv(5, 4, 2, edge_feats=3, allow_zero_in_degree=True)
    with_edges = layer(edges, torch.from_numpy(held["feat"]), edge_feat=torch.ones(240, 3))
    plain = lipzoo.nn.DotGatConv(5, 4, 2)
    try:
        plain(torch.zeros(2, 1, dtype=torch.int64), torch.ones(2, 5))
    except Exception as fault:
        return digest(with_edges), str(fault)


@scenario
def files_of_every_kind(folder, data):
    held = arrays()
    np.savez(folder / "mine.npz", **held)
    found = [lipzoo.load_dataset(str(folder / "mine.npz")).fingerprint]
    made = lipzoo.load_dataset(str(folder / "mine.npz"))
    lipzoo.datasets.save_npz(made, folder / "again.npz")
    found.append(lipzoo.load_dataset(str(folder / "again.npz")).fingerprint)
    (folder / "mine.gml").write_text(
        "graph [\n" + "".join(f"node [ id {i} label {i % 2} feat {i}.5 ]\n" for i in range(6))
        + "edge [ source 0 target 1 ]\nedge [ source 4 target 2 ]\n]\n"
    )  # fmt: skip
    found.append(lipzoo.load_dataset(str(folder / "mine.gml")).fingerprint)
    tables = folder / "tables"
    tables.mkdir(exist_ok=True)
    (tables / "edges.csv").write_text("src,dst\na,b\nb,c\n")
    (tables / "nodes.csv").write_text("id,x0,label,split\na,1,0,train\nb,2,1,val\nc,3,0,test\n")
    found.append(lipzoo.load_dataset(str(tables)).fingerprint)
    return found


@scenario
def inductive_tasks(folder, data):
    one, two, three = (task(seed=seed) for seed in range(3))
    made = lipzoo.GraphTask.from_graphs([one.graph], [two.graph], [three.graph])
    return made.fingerprint, lipzoo.datasets.grown(one, np.zeros((1, 5)), [[0], [60]]).fingerprint


@scenario
def public_graphs(folder, data):
    names = ("cora", "citeseer", "amazon_photo", "minesweeper", "huangpu") if data else ()
    return {name: lipzoo.load_dataset(name, raw_dir=data).fingerprint for name in names}


@scenario
def data_with_fewer_features(folder, data):
    wine = lipzoo.load_dataset("wine")
    erased = [
        lipzoo.datasets.erase_features(wine, 0.5, fill=fill) for fill in ("zero", "propagate")
    ]
    return [made.fingerprint for made in (*erased, lipzoo.datasets.encode_task(wine))]


@scenario
def scikit_learn(folder, data):
    held = arrays()
    known = np.where(held["train_mask"], held["label"], -1)
    model = lipzoo.sklearn.NodeClassifier("gat_lip_2", epochs=3, random_state=0)
    return digest(model.fit(held["feat"], known).predict_proba(held["feat"]))


@scenario
def export(folder, data):
    model = lipzoo.load_pretrained("gat_lip_16.digits")
    lipzoo.convert.to_pt2(model, folder / "model.pt2")
    return (folder / "model.pt2").is_file()


@scenario
def the_command_line(folder, data):
    np.savez(folder / "graph.npz", **arrays())
    graph = str(folder / "graph.npz")
    out = str(folder / "out")
    commands = [
        ["list", "--json"],
        ["info", "gat_lip_16.digits"],
        ["evaluate", "gat_lip_16.digits"],
        ["train", "--architecture", "gat_lip_2", "--data", graph, "--out", out, "--epochs", "3"],
        ["finetune", "gat_lip_16.digits", "--data", graph, "--out", f"{out}2", "--epochs", "2"],
        ["predict", f"{out}2", "--data", graph, "--out", f"{out}.csv"],
        ["certify", "gat_lip_16.digits", "--iterations", "0", "--no-radii"],
        ["predict", "gat_lip_context_8", "--data", graph, "--out", f"{out}3.csv"],
        ["partition", graph, "--parts", "2", "--out", f"{out}4"],
    ]
    codes = [main(command) for command in commands]
    return codes, digest(np.loadtxt(f"{out}.csv", delimiter=",", skiprows=1, usecols=(1,)))


@scenario
def a_report(folder, data):
    if not (find_spec("matplotlib") and find_spec("networkx")):
        return None
    context = lipzoo.load_pretrained("gat_lip_context_8")
    report = lipzoo.report.make_report(context, task())
    torch.manual_seed(0)
    model = lipzoo.create_model("gat_lip_2", in_feats=5, num_classes=3)
    other = lipzoo.report.make_report(model, task(), radii="no")
    other.write(folder / "report")
    return report.to_dict(), other.to_dict(), (folder / "report" / "report.json").is_file()


@scenario
def a_backend_is_found(folder, data):
    made, backend = task(num_nodes=12), os.environ.pop("LIPZOO_BACKEND", None)
    model = lipzoo.create_model("gt_lip_2", in_feats=5, num_classes=3)
    model(made.graph, made.feat).square().sum().backward()
    if backend:
        os.environ["LIPZOO_BACKEND"] = backend
    return all(p.grad.isfinite().all() for p in model.parameters())


@scenario
def dgl_where_it_is_needed(folder, data):
    if find_spec("dgl"):
        return None
    faults = []
    for need in (
        lambda: lipzoo.nn.GATConv(5, 4, 2, backend="dgl", allow_zero_in_degree=True)(
            task().graph, task().feat
        ),
        lambda: import_module("lipzoo._dgl").dgl,
    ):
        try:
            need()
        except lipzoo.LipzooError as fault:
            faults.append(str(fault))
    return faults


def run(folder: Path, data: str | None):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = {}
        for name, make in SCENARIOS.items():
            print(name, time.process_time(), file=sys.stderr)
            found[name] = make(folder, data)
    return json.dumps({"dgl": bool(find_spec("dgl")), **found}, sort_keys=True, default=str)


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(run(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None))
