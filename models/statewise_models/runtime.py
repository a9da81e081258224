"""A graph in ONNX Runtime, opened in the same way for whatever export, evaluation and tests ask of it; torch is not needed."""

from __future__ import annotations

import onnxruntime

ERRORS_ONLY = 3


def open_runtime(model: str | bytes) -> onnxruntime.InferenceSession:
    """Opens a model, a file's path or its bytes, on the CPU in one thread; what is wrong is raised, and nothing is logged."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = ERRORS_ONLY
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
