"""PyTorch's own format, ``.pt2``: `torch.export.load` runs it without lipzoo and DGL."""

from __future__ import annotations

import io
import os
from pathlib import Path

import torch

from lipzoo._atomic import write_atomically
from lipzoo._output import output_file
from lipzoo.convert.checking import check_file
from lipzoo.convert.network import Source, quiet, read_network, trace

__all__ = ["to_pt2"]


def to_pt2(model: Source, path: str | os.PathLike, *, overwrite: bool = False) -> Path:
    """Write a network as a ``.pt2`` file, which ``torch.export.load(path).module()`` runs.

    Parameters
    ----------
    model, path, overwrite
        See :func:`~lipzoo.convert.to_onnx`; so are inputs, output and what is raised. The
        metadata are its ``extra_files``.

    Returns
    -------
    Path
        The file.
    """
    with output_file(path, overwrite) as target:
        network, facts = read_network(model)
        program = trace(network)
        buffer = io.BytesIO()
        with quiet():
            torch.export.save(program, buffer, extra_files=facts)
        data = buffer.getvalue()
        with quiet():
            loaded = torch.export.load(io.BytesIO(data)).module()
        check_file(loaded, network, str(target))
        write_atomically(target, data)
    return target
