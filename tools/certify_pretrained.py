"""Certify all pretrained weights on the data of their cards, and put the bounds on the cards.

python tools/certify_pretrained.py --out results/lipschitz [NAME …] [--search 20] [--write-cards]

With names, only those are certified; what the folder holds of the others stays.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import time
from pathlib import Path

import torch

import lipzoo
from lipzoo._atomic import write_all
from lipzoo._tables import read_csv, to_csv
from lipzoo._yaml import read_yaml, to_yaml
from lipzoo.card import Card
from lipzoo.lipschitz import Certificate, attack, bound, certify
from lipzoo.weights import CARD_FILE, list_checkpoints


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these weights")
    parser.add_argument("--out", type=Path, help="folder of pretrained.json, .csv")
    parser.add_argument("--search", type=int, default=0, help="steps that move the features")
    parser.add_argument("--attack", action="store_true", help="attack the certified radii")
    parser.add_argument(
        "--bounds-only", action="store_true", help="only put the bounds on the cards"
    )
    parser.add_argument("--write-cards", action="store_true", help="put the bound on each card")
    parser.add_argument("--raw-dir", help="where DGL's raw data lies")
    args = parser.parse_args()
    if args.out is None and not args.bounds_only:
        parser.error("--out says where the table goes; or choose --bounds-only")
    unknown = sorted(set(args.names) - set(list_checkpoints()))
    if unknown:
        parser.error(f"no pretrained weights {', '.join(unknown)}; see `lipzoo list --pretrained`")
    rows, certificates = kept(args.out) if args.names else ([], [])
    for name, folder in sorted(list_checkpoints().items()):
        if args.names and name not in args.names:
            continue
        model = lipzoo.load_pretrained(folder)
        if not model.num_classes:
            continue  # a body without a head decides nothing that could be certified
        data = model.card.dataset
        task = lipzoo.load_dataset(data.name, raw_dir=args.raw_dir, **data.options)
        if args.bounds_only:
            write_card(folder, certify(model, task, name=name, iterations=0, radii=False))
            continue
        certificate = certify(model, task, name=name, search=args.search)
        began = time.perf_counter()
        bound(model, task.graph)
        seconds = time.perf_counter() - began
        found = row(certificate, seconds)
        if args.attack:
            found.update(attacked(model, task, certificate))
        print(found, flush=True)
        rows = replaced(rows, found)
        certificates = replaced(certificates, certificate.to_dict())
        write(args.out, rows, certificates)  # each takes minutes
        if args.write_cards:
            write_card(folder, certificate)


def write(folder: Path, rows: list[dict], certificates: list[dict]) -> None:
    """The table, and all that was found."""
    columns = dict.fromkeys(name for row in rows for name in row)
    content = {"command": " ".join(["python", *sys.argv]), "certificates": certificates}
    folder.mkdir(parents=True, exist_ok=True)
    write_all(
        {
            folder / "pretrained.csv": to_csv(rows, list(columns)),
            folder / "pretrained.json": f"{json.dumps(content, indent=1)}\n".encode(),
        }
    )


def kept(folder: Path) -> tuple[list[dict], list[dict]]:
    """The rows and certificates that a folder holds."""
    if not (folder / "pretrained.csv").is_file():
        return [], []
    rows = read_csv(folder / "pretrained.csv")
    return rows, json.loads((folder / "pretrained.json").read_text())["certificates"]


def replaced(entries: list[dict], entry: dict) -> list[dict]:
    """The entries with this one in place of that of the same name, sorted by name."""
    others = [other for other in entries if other["name"] != entry["name"]]
    return sorted([*others, entry], key=lambda other: other["name"])


def row(certificate: Certificate, seconds: float) -> dict:
    """A line of the table."""
    radii = certificate.radii.summary()
    return {
        "name": certificate.name,
        "dataset": certificate.dataset,
        "layers": sum(layer.name.startswith("layer_") for layer in certificate.bound.layers),
        "bound": f"{certificate.bound.frobenius:.4g}",
        "bound_per_node": f"{certificate.bound.per_node:.4g}",
        "estimate": f"{certificate.estimate:.4g}",
        "estimate_over_bound": f"{certificate.tightness:.3g}",
        "radius_10%": f"{radii['radius_10%']:.3g}",
        "radius_median": f"{radii['radius_median']:.3g}",
        "radius_90%": f"{radii['radius_90%']:.3g}",
        "seconds_of_bound": f"{seconds:.2f}",
    }


def attacked(model, task, certificate: Certificate) -> dict:
    """Nodes that flip inside certified radii, of how many; and at 100 times the radius."""
    radius = certificate.radii.radius
    model, feat = copy.deepcopy(model).double().eval(), task.feat.double()
    inside = total = outside = reached = 0
    for share in (0.1, 0.5, 0.9):
        # All nodes that are certified at this radius, together; then one of them alone.
        size = torch.quantile(radius, share).item()
        nodes = (radius >= size).nonzero().squeeze(1)
        for chosen in (nodes, nodes[radius[nodes].argmin()]):
            found = attack(model, task.graph, feat, chosen, size, steps=10)
            inside, total = inside + int(found.flipped.sum()), total + found.flipped.numel()
        far = attack(model, task.graph, feat, nodes, 100 * size, steps=10)
        outside, reached = outside + int(far.flipped.sum()), reached + far.flipped.numel()
    return {"attacked": total, "flipped": inside, "flipped_at_100x": f"{outside / reached:.2f}"}


def write_card(folder: Path, certificate: Certificate) -> None:
    """The card with the bound of the weights beside it."""
    path = folder / CARD_FILE
    content = read_yaml(path)
    content["lipschitz"] = certificate.bound.to_card()
    Card.from_dict(content, where=str(path))
    write_all({path: to_yaml(content)})


if __name__ == "__main__":
    main()
