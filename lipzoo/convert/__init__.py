"""A network as one file that runs without lipzoo and DGL: ONNX, or PyTorch's ``.pt2``."""

from lipzoo.convert.onnx_file import to_onnx
from lipzoo.convert.pt2_file import to_pt2

__all__ = ["FORMATS", "to_onnx", "to_pt2"]

#: What ``lipzoo convert --to`` takes.
FORMATS = {"onnx": to_onnx, "pt2": to_pt2}
