"""ONNX, checked in ONNX Runtime."""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lipzoo._atomic import write_atomically
from lipzoo._output import output_file
from lipzoo.convert.checking import check_file
from lipzoo.convert.network import Source, quiet, read_network, trace, words
from lipzoo.errors import ConfigError

if TYPE_CHECKING:
    import onnx

Value = Any  # of onnxscript

__all__ = ["to_onnx"]

#: From here on ScatterElements takes maxima.
_OLDEST_OPSET = 18


def to_onnx(
    model: Source,
    path: str | os.PathLike,
    *,
    opset: int = _OLDEST_OPSET,
    overwrite: bool = False,
) -> Path:
    """Write a network as an ONNX file.

    Inputs ``feat`` (N, F), float32, and ``edge_index`` (2, E), int64: sources in row 0, targets in
    row 1, **the self-loops included**; output ``logits`` (N, C), float32. N and E may be any
    numbers, and edges be in any order. A node without in-edges, and one among rows of zeros, has
    what the network gives it.

    Parameters
    ----------
    model : torch.nn.Module, or what :func:`lipzoo.load_pretrained` takes
        A :class:`~lipzoo.models.DeepAttentionNet` with a head; not touched. Dropout is left out,
        and all is in float32.
    path : path
        In a folder that exists. The file is there whole or not at all, and only if ONNX Runtime
        computes with it what the network does. Its metadata say ``name``, ``feat``,
        ``edge_index``, ``logits`` and ``lipzoo``, the version; of a checkpoint's weights also
        ``sha256`` and ``card``.
    opset : int
        Version of ONNX's operators, at least 18.
    overwrite : bool
        Replace a file that is there.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ConfigError
        If the network reads something else than features, has no head, or cannot be exported; the
        opset is out of its range; or a package is missing.
    OutputError
        If the file exists and ``overwrite`` is false, or cannot be written.
    CheckpointError, UnknownNameError
        See :func:`lipzoo.load_pretrained`.
    """
    with output_file(path, overwrite) as target:
        runtime, *_ = map(_package, ("onnxruntime", "onnx", "onnxscript"))
        _check_opset(opset)
        network, facts = read_network(model)
        data = _to_bytes(trace(network), opset, facts)
        try:
            session = runtime.InferenceSession(data, providers=["CPUExecutionProvider"])
        except Exception as fault:  # its own errors share no class
            raise ConfigError(
                f"opset {opset}: ONNX Runtime {runtime.__version__} does not take it "
                f"({words(fault)}); choose an older one"
            ) from fault

        def run(feat: Tensor, edge_index: Tensor) -> Tensor:
            inputs = {"feat": feat.numpy(), "edge_index": edge_index.numpy()}
            return torch.from_numpy(session.run(["logits"], inputs)[0])

        check_file(run, network, str(target), takes_no_edges(runtime))
        write_atomically(target, data)
    return target


def takes_no_edges(runtime: ModuleType) -> bool:
    """Whether ONNX Runtime adds up no rows, as a graph without edges has: not before 1.24, which is
    the first that Python 3.10 lacks."""
    return tuple(map(int, runtime.__version__.split(".")[:2])) >= (1, 24)


def _package(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ConfigError(f"ONNX files need {name}: pip install 'lipzoo[onnx]'") from None


def _check_opset(opset: int) -> None:
    newest = _package("onnx").defs.onnx_opset_version()
    if type(opset) is not int or not _OLDEST_OPSET <= opset <= newest:
        raise ConfigError(
            f"opset: must be a whole number from {_OLDEST_OPSET}, where ScatterElements takes "
            f"maxima, to {newest}, got {opset!r}"
        )


def _index_add(self: Value, dim: int, index: Value, source: Value, alpha: float = 1) -> Value:
    """``index_add`` as ScatterElements.

    PyTorch writes a ScatterND with addition for it, and ONNX Runtime's threads overwrite each
    other's sums in that: right on small graphs, wrong on large ones, in no message.
    """
    op = _package("onnxscript").opset18
    shape = [1] * len(source.shape)
    shape[dim] = -1
    positions = op.Expand(op.Reshape(index, op.Constant(value_ints=shape)), op.Shape(source))
    if alpha != 1:
        source = op.Mul(source, op.CastLike(op.Constant(value_float=float(alpha)), source))
    return op.ScatterElements(self, positions, source, axis=dim, reduction="add")


def _to_bytes(program: torch.export.ExportedProgram, opset: int, facts: dict[str, str]) -> bytes:
    try:
        with torch.no_grad(), quiet(), _silent_loggers():
            made = torch.onnx.export(
                program,
                input_names=["feat", "edge_index"],
                output_names=["logits"],
                opset_version=opset,
                custom_translation_table={torch.ops.aten.index_add.default: _index_add},
                dynamo=True,
                verbose=False,
            )
            proto = made.model_proto
            _tidy(proto)
            for key, value in facts.items():
                proto.metadata_props.add(key=key, value=value)
            data = proto.SerializeToString()
    except Exception as fault:  # of PyTorch, onnxscript, onnx or protobuf
        raise ConfigError(f"PyTorch cannot export the network to ONNX ({words(fault)})") from fault
    _refuse_races(proto)
    versions = {entry.domain: entry.version for entry in proto.opset_import}
    if versions.get("") != opset:
        raise ConfigError(
            f"opset {opset}: PyTorch {torch.__version__} does not write it; choose an older one"
        )
    return data


def _tidy(proto: onnx.ModelProto) -> None:
    """Name the sizes, and leave out what names this machine's folders and PyTorch's insides."""
    graph = proto.graph
    sizes = ((graph.input[0], 0, "N"), (graph.input[1], 1, "E"), (graph.output[0], 0, "N"))
    for value, axis, name in sizes:
        value.type.tensor_type.shape.dim[axis].dim_param = name
    del graph.value_info[:]  # which names the sizes otherwise
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
        part.ClearField("doc_string")


def _refuse_races(proto: onnx.ModelProto) -> None:
    for node in (*proto.graph.node, *(n for f in proto.functions for n in f.node)):
        reductions = [a.s for a in node.attribute if a.name == "reduction"]
        if node.op_type == "ScatterND" and any(r != b"none" for r in reductions):
            raise ConfigError(
                "the network adds up with index_put(accumulate=True), which ONNX Runtime computes "
                "wrong on several threads; use index_add or scatter_add in its place"
            )


@contextmanager
def _silent_loggers() -> Iterator[None]:
    """Without remarks on packages that nobody asked for, such as torchvision."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    before = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        yield
    finally:
        for logger, level in zip(loggers, before):
            logger.setLevel(level)
