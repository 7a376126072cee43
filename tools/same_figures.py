"""Record what a change of the code must not change, and hold a later version to it, bit by bit.

python tools/same_figures.py --write before.json --raw-dir DATA     # before the change
python tools/same_figures.py --against before.json --raw-dir DATA   # after it, on the same machine

Logits and metrics of all pretrained weights on the data of their cards, their Lipschitz bounds,
and the weights of three short runs: a recipe with its baseline, a graph transformer, a fine-tuning.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
from pathlib import Path

import torch

import lipzoo
from lipzoo.training import evaluate, finetune, load_recipe, train

#: Recipes, and how many epochs of each.
RUNS = {"gat_lip_2.cora": 4, "gt_lip_8.cora": 3}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--write", type=Path, metavar="FILE", help="record the figures")
    what.add_argument("--against", type=Path, metavar="FILE", help="compare with a record")
    parser.add_argument("--raw-dir", help="where DGL's raw data lies")
    args = parser.parse_args()
    torch.set_num_threads(1)
    figures = {**pretrained(args.raw_dir), **runs(args.raw_dir)}
    if args.write is not None:
        args.write.write_text(json.dumps(figures, indent=1))
        print(f"{len(figures)} figures recorded in {args.write}")
        return 0
    before = json.loads(args.against.read_text())
    differing = sorted(key for key in {*before, *figures} if before.get(key) != figures.get(key))
    for key in differing:
        print(f"{key}: {before.get(key)} is now {figures.get(key)}")
    print(f"{len(figures)} figures, {len(differing)} differ")
    return 1 if differing else 0


def pretrained(raw_dir: str | None) -> dict:
    """Of each set of weights: hash of the outputs, metrics, bound."""
    figures = {}
    for name in lipzoo.list_models(pretrained=True):
        model = lipzoo.load_pretrained(name)
        if not model.num_classes:  # a body without a head
            continue
        data = model.card.dataset
        task = lipzoo.load_dataset(data.name, raw_dir=raw_dir, **data.options)
        with torch.no_grad():
            figures[f"{name} logits"] = digest([model(task.graph, task.feat)])
        figures[f"{name} metrics"] = evaluate(model, task)
        limit = lipzoo.lipschitz.bound(model, task.graph)
        figures[f"{name} bound"] = [limit.frobenius, limit.per_node]
    return figures


def runs(raw_dir: str | None) -> dict:
    """Hashes of the weights that short runs end with."""
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, epochs in RUNS.items():
            recipe = load_recipe(name).model_copy(update={"epochs": epochs, "seeds": [0]})
            train(recipe, Path(folder) / name, raw_dir=raw_dir, verbose=False)
            for file in sorted((Path(folder) / name).rglob("model.safetensors")):
                figures[f"run {file.relative_to(folder)}"] = sha256(file.read_bytes())
    wine = lipzoo.load_dataset("wine")
    tuned = finetune("gat_lip_16.digits", wine, epochs=6, unfreeze_every=2, verbose=False)
    figures["fine-tuning"] = digest(tuned.model.state_dict().values())
    return figures


def digest(tensors) -> str:
    """Of the bytes of all tensors in a row."""
    return sha256(b"".join(t.detach().contiguous().numpy().tobytes() for t in tensors))


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
