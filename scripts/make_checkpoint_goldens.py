#!/usr/bin/env python3
"""Writes tests/data/checkpoint/python.safetensors with the Python safetensors package (no torch)."""
from pathlib import Path

import numpy as np
from safetensors import TensorSpec, serialize_file

path = Path(__file__).resolve().parent.parent / "tests/data/checkpoint/python.safetensors"
tensors = {
    "double": np.array([0.5, -2.0], dtype=np.float64),
    "float": np.arange(6, dtype=np.float32).reshape(2, 3) / 4,
    "half": np.array([[1.5], [-0.25]], dtype=np.float16),
    "brain": np.array([0x3FC0, 0xC040], dtype=np.uint16),  # 1.5, -3
    "long": np.array(-(2**40), dtype=np.int64),
    "int": np.array([7, -7], dtype=np.int32),
    "bytes": np.array([0, 127, 255], dtype=np.uint8),
    "flags": np.array([True, False, True], dtype=np.bool_),
    "empty": np.zeros((0, 4), dtype=np.float32),
}
specs = {
    name: TensorSpec(dtype="bfloat16" if name == "brain" else t.dtype.name, shape=t.shape,
                     data_ptr=t.ctypes.data, data_len=t.nbytes)
    for name, t in tensors.items()
}
serialize_file(specs, str(path), metadata={"note": "from Python: 台湾"})
path.chmod(0o644)
