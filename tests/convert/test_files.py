"""Converted files compute what the network does, and say what they are."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from checkpoints import card, small_model
from convert_zoo import NETWORKS, F, assert_right, network, random_graphs, reference

import lipzoo
from lipzoo.convert import FORMATS, to_onnx, to_pt2
from lipzoo.convert.onnx_file import takes_no_edges
from lipzoo.weights import save_checkpoint

KEYS = ("name", "sha256", "card", "feat", "edge_index", "logits", "lipzoo")


def by_onnx(path):
    """By ONNX Runtime, with as many threads as it takes by itself."""
    session = onnxruntime.InferenceSession(path)
    return lambda feat, edges: session.run(None, {"feat": feat, "edge_index": edges})[0]


def by_pt2(path):
    run = torch.export.load(path).module()
    return lambda feat, edges: run(torch.from_numpy(feat), torch.from_numpy(edges)).numpy()


def graphs_for(kind):
    """Those that what runs a file of the kind takes."""
    for feat, edges, is_complete in random_graphs():
        has_edges = bool((edges[0] != edges[1]).any())
        if has_edges or kind != "onnx" or takes_no_edges(onnxruntime):
            yield feat, edges, is_complete


READERS = {"onnx": by_onnx, "pt2": by_pt2}


def metadata(path):
    if path.suffix == ".onnx":
        return {each.key: each.value for each in onnx.load(path).metadata_props}
    found = dict.fromkeys(KEYS, "")
    torch.export.load(path, extra_files=found)
    return {key: value for key, value in found.items() if value}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A checkpoint, and a file of it in each format."""
    folder = tmp_path_factory.mktemp("made")
    checkpoint = save_checkpoint(folder / "checkpoint", small_model(), card())
    files = {
        kind: convert(checkpoint, folder / f"small.{kind}") for kind, convert in FORMATS.items()
    }
    return checkpoint, files


@pytest.mark.many
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("kind", FORMATS)
def test_the_file_computes_what_the_network_does(kind, name, tmp_path):
    """On 20 graphs of other sizes, none and one node among them, to 1e-5 of DGL in float64."""
    model = network(name)
    path = FORMATS[kind](model, tmp_path / f"file.{kind}")
    assert model.training  # the caller's is not touched
    assert model.add_self_loops
    assert_right(READERS[kind](path), model, graphs_for(kind))


@pytest.mark.parametrize("kind", FORMATS)
def test_the_metadata(made, kind):
    checkpoint, files = made
    found = metadata(files[kind])
    assert set(found) == set(KEYS)
    assert found["name"] == "gat_lip_2.test"
    assert found["sha256"] == checkpoint.card.weights.sha256
    assert found["card"] == checkpoint.files["card.yaml"].decode()
    assert found["feat"] == "float32 (N, 4): features of the nodes"
    assert "self-loop at each node" in found["edge_index"]
    assert found["logits"] == "float32 (N, 2)"
    assert found["lipzoo"] == lipzoo.__version__


def test_names_and_sizes_of_the_onnx_file(made):
    graph = onnx.load(made[1]["onnx"]).graph
    sizes = {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output)
    }
    assert sizes == {"feat": ["N", 4], "edge_index": [2, "E"], "logits": ["N", 2]}
    assert not [node.op_type for node in graph.node if node.op_type == "ScatterND"]


@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_names_no_folder_of_this_machine(made, kind):
    data = made[1][kind].read_bytes()
    for folder in {Path(lipzoo.__file__).parents[1], Path(torch.__file__).parents[1], Path.home()}:
        assert str(folder).encode() not in data


PROGRAM = """
import sys
import numpy as np, torch
run = torch.export.load("small.pt2").module()
given = np.load("given.npz")
logits = run(torch.from_numpy(given["feat"]), torch.from_numpy(given["edges"]))
np.save("logits.npy", logits.numpy())
assert not {"lipzoo", "dgl"} & {name.split(".")[0] for name in sys.modules}
"""


def test_a_pt2_file_needs_no_lipzoo(made, tmp_path):
    checkpoint, files = made
    rng = np.random.default_rng(1)
    feat = rng.standard_normal((50, 4)).astype(np.float32)
    edges = np.concatenate([rng.integers(0, 50, (2, 200)), np.tile(np.arange(50), (2, 1))], 1)
    (tmp_path / "small.pt2").write_bytes(files["pt2"].read_bytes())
    np.savez(tmp_path / "given.npz", feat=feat, edges=edges)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    subprocess.run([sys.executable, "-c", PROGRAM], cwd=tmp_path, env=environment, check=True)
    wanted = reference(lipzoo.load_pretrained(checkpoint), feat, edges, True)
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), wanted, rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gat", "gt_graph", "gat_sep"])
def test_large_graphs_at_any_number_of_threads(name, tmp_path):
    """ONNX Runtime's ScatterND loses sums where threads meet: not each time, and not when small."""
    sizes = {"hidden_feats": 16, "num_heads": 2}
    model = network(name, **sizes)
    run = by_onnx(to_onnx(model, tmp_path / "file.onnx"))
    rng = np.random.default_rng(2)
    feat = rng.standard_normal((2000, F)).astype(np.float32)
    loops = np.tile(np.arange(2000), (2, 1))
    edges = np.concatenate([rng.integers(0, 2000, (2, 420_000)), loops], 1)
    wanted = reference(model, feat, edges, True)
    for _ in range(10):
        np.testing.assert_allclose(
            run(feat, edges), wanted, rtol=0, atol=1e-5 * max(1.0, np.abs(wanted).max())
        )


@pytest.mark.slow
@pytest.mark.parametrize("kind", FORMATS)
def test_deep_weights(kind, tmp_path):
    path = FORMATS[kind]("gat_lip_16.digits", tmp_path / f"deep.{kind}")
    task = lipzoo.load_dataset("digits")
    model = lipzoo.load_pretrained("gat_lip_16.digits")
    graph = task.graph.remove_self_loop().add_self_loop()
    edges = torch.stack(graph.edges(order="eid")).numpy()
    made = READERS[kind](path)(task.feat.numpy(), edges)
    np.testing.assert_allclose(
        made, reference(model, task.feat.numpy(), edges, True), rtol=0, atol=1e-3
    )


@pytest.mark.slow
def test_a_newer_opset(tmp_path):
    model = network("gat_plain")  # whose GELU is one operator from 20 on
    path = to_onnx(model, tmp_path / "file.onnx", opset=20)
    assert onnx.load(path).opset_import[0].version == 20
    assert_right(by_onnx(path), model, graphs_for("onnx"))


@pytest.mark.slow
def test_an_opset_that_pytorch_does_not_write(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx.defs, "onnx_opset_version", lambda: 10_000)
    with pytest.raises(lipzoo.ConfigError, match=r"opset 9999: .*choose an older one"):
        to_onnx(network(), tmp_path / "file.onnx", opset=9999)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_other_precisions_become_float32(tmp_path):
    model = network().double()
    path = to_pt2(model, tmp_path / "file.pt2")
    assert next(model.parameters()).dtype == torch.float64
    assert_right(by_pt2(path), model, random_graphs())
