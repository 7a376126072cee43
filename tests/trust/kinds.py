"""The kinds of files that lipzoo reads: a good one, how it is damaged, how it is read."""

import hashlib
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import yaml
from checkpoints import card, small_model
from hypothesis import strategies as st
from trust import strategies as damage

import lipzoo
from lab.studies.sweep import load_sweep
from lipzoo._dgl import dgl
from lipzoo._yaml import to_yaml
from lipzoo.errors import LipzooError
from lipzoo.registry.building import build_model, check_architecture
from lipzoo.registry.files import read_architectures
from lipzoo.training.recipe import load_recipe
from lipzoo.training.search_space import load_space, to_dict
from lipzoo.training.tasks import load_task
from lipzoo.weights import read_checkpoint, read_curve, write_checkpoint

#: Stands for the file that harmful content would make.
TRACE = "the_trace"


@dataclass
class Kind:
    """``files(content)`` is what lies in the folder, ``read(folder)`` reads it."""

    damaged: st.SearchStrategy
    files: Callable[[object], dict[str, bytes]]
    read: Callable[[Path], object]


def attempt(kind: Kind, content: object) -> str:
    """``loaded`` or ``refused``; anything else that happens is a failure."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "outer", "inner")
        folder.mkdir(parents=True)
        for name, data in kind.files(content).items():
            (folder / name).write_bytes(data.replace(TRACE.encode(), f"{place}/trace".encode()))
        before = _listing(place)
        result = outcome(kind.read, folder)
        assert _listing(place) == before, "a file was made, changed or removed"
    return result


def outcome(read: Callable[[Path], object], folder: Path) -> str:
    """``loaded``, or ``refused`` in words that are fit for people."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read(folder)
    except LipzooError as fault:
        words = str(fault)
        assert len(words) > 20, "says nothing"
        assert "\n" not in words.replace(str(folder), ""), "more than one line"
        assert len(words) < 20_000, "says too much"
        # These files are small: what needs much memory for them was not refused, it ran out.
        assert "does not fit into memory" not in words, words
        return "refused"
    return "loaded"


def _listing(place: str) -> dict[str, bytes | None]:
    return {
        str(path): path.read_bytes() if path.is_file() else None
        for path in sorted(Path(place).rglob("*"))
    }


def _checkpoint() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        # Text that PyYAML's own writer does not leave looking like a number.
        data = {"name": "cora", "options": {"split": None}, "fingerprint": "abc"}
        write_checkpoint(Path(folder, "x"), small_model(), card(licence="mine", dataset=data))
        return {path.name: path.read_bytes() for path in Path(folder, "x").iterdir()}


CHECKPOINT = _checkpoint()
CARD = yaml.safe_load(CHECKPOINT["card.yaml"])


def _with_its_hash(data: bytes) -> dict[str, bytes]:
    """So that the hash, which would refuse all damage, refuses none."""
    weights = {**CARD["weights"], "sha256": hashlib.sha256(data).hexdigest()}
    return {"model.safetensors": data, "card.yaml": to_yaml({**CARD, "weights": weights})}


CURVE = b"# sha256 %s epoch 2\nepoch,train_loss,val_loss,val_accuracy\n" % (b"a" * 64)
CURVE += b"1,1.9,1.8,0.3\n2,1.5,1.6,0.5\n3,1.2,nan,0.4\n"


def _read_curve(folder: Path) -> None:
    lipzoo.load_pretrained(folder)  # which no damage may hinder
    curve = read_curve(folder)
    if curve is not None:
        assert len(curve.words(read_checkpoint(folder).card)) < 1000


RECIPE = {
    "description": "mine",
    "architecture": "gat_lip_2",
    "overrides": {"hidden_feats": 8, "num_heads": 2, "score_norm": {"name": "lipschitz"}},
    "dataset": {"name": "iris", "split_seed": 3, "missing_rate": 0.5},
    "tag": "mine",
    "epochs": 20,
    "optimizer": {"name": "adamw", "lr": 0.01, "weight_decay": 0.0005},
    "schedule": {"name": "plateau", "patience": 5},
    "early_stopping": {"patience": 10},
    "seeds": "0..3",
    "baselines": {"knn": {"estimator": "knn", "args": {"n_neighbors": 3}}},
}
SWEEP = {
    "kind": "depth",
    "depths": [2, 3],
    "seeds": [0, 1],
    "missing_rates": [0, 0.5],
    "recipe": {"dataset": {"name": "iris"}, "epochs": 6, "overrides": {"hidden_feats": 8}},
    "by_depth": {"3": {"epochs": 8}},
    "models": {"GAT": {"architecture": "gat_2"}, "Lip": {"architecture": "gat_lip_2"}},
    "reference": {"source": "a paper", "notes": ["a remark"]},
}
ARCHITECTURE = {
    "model": "DeepGAT",
    "description": "mine",
    "args": {"num_layers": 2, "hidden_feats": 8, "num_heads": 2, "score_norm": "lipschitz"},
    "family": {"num_layers": [2, 4]},
    "default_tag": "cora",
}


SPACE = {
    "optimizer.lr": {"low": 1e-4, "high": 0.1, "log": True},
    "overrides.feat_drop": {"low": 0.0, "high": 0.6, "step": 0.1},
    "epochs": {"low": 1, "high": 9},
    "overrides.residual": ["none", {"name": "initial", "initial": 0.1}],
}


def _read_space(folder: Path) -> None:
    to_yaml(to_dict(load_space(folder / "x.yaml")))


def _read_recipe(folder: Path) -> None:
    recipe = load_recipe(folder / "x.yaml")
    to_yaml(recipe.to_dict())
    load_task(recipe)


def _read_architectures(folder: Path) -> None:
    for found in read_architectures(folder / "x.yaml"):
        check_architecture(found)
        numbers = [value for value in found.args.values() if isinstance(value, int)]
        if max(numbers, default=0) < 1000:  # a size of one's own choice is one's own business
            build_model(found.model, {"in_feats": 4, "num_classes": 2, **found.args})


_NODE = np.arange(30)
ARRAYS = {
    "src": _NODE,
    "dst": (_NODE + 1) % 30,
    "feat": np.random.default_rng(0).normal(size=(30, 4)).astype("float32"),
    "label": _NODE % 3,
    "train_mask": _NODE < 10,
    "val_mask": (_NODE >= 10) & (_NODE < 20),
    "test_mask": _NODE >= 20,
    "num_classes": np.array(3),
}


def npz(**changes: np.ndarray | None) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        arrays = {key: value for key, value in {**ARRAYS, **changes}.items() if value is not None}
        np.savez_compressed(f"{folder}/x.npz", **arrays)
        return Path(folder, "x.npz").read_bytes()


#: Two splits, and what the task is judged by.
SPLITS = {
    **{
        f"{part}_mask": (_NODE[None] + np.array([[0], [1]])) % 3 == place
        for place, part in enumerate(("train", "val", "test"))
    },
    "metric": np.array("macro_f1"),
}


def public_npz() -> bytes:
    """A graph in the layout of Platonov et al., 30 nodes."""
    with tempfile.TemporaryDirectory() as folder:
        np.savez_compressed(
            f"{folder}/x.npz",
            node_features=ARRAYS["feat"],
            node_labels=_NODE % 2,
            edges=np.stack([ARRAYS["src"], ARRAYS["dst"]], 1),
            **{f"{part}_masks": SPLITS[f"{part}_mask"] for part in ("train", "val", "test")},
        )
        return Path(folder, "x.npz").read_bytes()


CSR = {
    "feat": None,
    "feat_data": np.ones(30),
    "feat_indices": _NODE % 4,
    "feat_indptr": np.arange(31),
    "feat_shape": np.array([30, 4]),
}


def graph_file(form: str) -> bytes:
    graph = dgl.graph((ARRAYS["src"], ARRAYS["dst"]))
    for key in ("feat", "label", "train_mask", "val_mask", "test_mask"):
        graph.ndata[key] = torch.from_numpy(ARRAYS[key])
    with tempfile.TemporaryDirectory() as folder:
        extra = {"num_classes": torch.tensor([3])}
        dgl.save_graphs(f"{folder}/x.bin", [graph.formats(form)], extra)
        return Path(folder, "x.bin").read_bytes()


CSV = {
    "meta.yaml": b"dataset_name: x\nedge_data:\n- file_name: edges.csv\n"
    b"node_data:\n- {file_name: nodes.csv, node_id_field: node_id}\n",
    "nodes.csv": b"node_id,label,weight,feat\n"
    + b"".join(b'%d,%d,0.5,"%d, 0.5"\n' % (node, node % 2, node) for node in range(12)),
    "edges.csv": b"src_id,dst_id\n" + b"".join(b"%d,%d\n" % (n, (n + 1) % 12) for n in range(12)),
}


def _yaml_kind(content: dict, read: Callable[[Path], object]) -> Kind:
    return Kind(damage.damaged_yaml(content, TRACE), lambda data: {"x.yaml": data}, read)


KINDS = {
    "model.safetensors": Kind(
        damage.damaged_safetensors(CHECKPOINT["model.safetensors"]),
        _with_its_hash,
        lipzoo.load_pretrained,
    ),
    "card.yaml": Kind(
        damage.damaged_yaml(CARD, TRACE),
        lambda data: {**CHECKPOINT, "card.yaml": data},
        lipzoo.load_pretrained,
    ),
    "curve.csv": Kind(
        damage.damaged_csv({"curve.csv": CURVE}, TRACE),
        lambda files: {**CHECKPOINT, **files},
        _read_curve,
    ),
    "architecture YAML": _yaml_kind(ARCHITECTURE, _read_architectures),
    "recipe YAML": _yaml_kind(RECIPE, _read_recipe),
    "search space YAML": _yaml_kind(SPACE, _read_space),
    "sweep YAML": _yaml_kind(SWEEP, lambda folder: load_sweep("depth", folder / "x.yaml")),
    ".npz": Kind(
        st.sampled_from([npz(), npz(**CSR), npz(**SPLITS)]).flatmap(
            lambda data: damage.damaged_npz(data, TRACE)
        ),
        lambda data: {"x.npz": data},
        lambda folder: lipzoo.load_dataset(folder / "x.npz"),
    ),
    "public .npz": Kind(
        damage.damaged_npz(public_npz(), TRACE),
        lambda data: {"minesweeper.npz": data},
        lambda folder: lipzoo.load_dataset("minesweeper", raw_dir=folder),
    ),
    "CSV folder": Kind(
        damage.damaged_csv(CSV, TRACE),
        lambda files: files,
        lambda folder: lipzoo.load_dataset(folder),
    ),
    ".bin": Kind(
        st.sampled_from([graph_file("coo"), graph_file("csr"), graph_file("csc")]).flatmap(
            damage.damaged_bytes
        ),
        lambda data: {"x.bin": data},
        lambda folder: lipzoo.load_dataset(folder / "x.bin"),
    ),
}
