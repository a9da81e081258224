"""Triton's words for what we call otherwise."""

from __future__ import annotations

from statewise.spec import Control

CONFIG_FILE = "config.pbtxt"
STATES_FOLDER = "initial_state"
DTYPES = {
    "TYPE_FP32": "float32",
    "TYPE_FP64": "float64",
    "TYPE_FP16": "float16",
    "TYPE_INT32": "int32",
    "TYPE_INT64": "int64",
    "TYPE_BOOL": "bool",
}
TYPES = {dtype: name for name, dtype in DTYPES.items()}
KINDS: dict[str, Control] = {
    "CONTROL_SEQUENCE_START": "start",
    "CONTROL_SEQUENCE_END": "end",
    "CONTROL_SEQUENCE_READY": "ready",
    "CONTROL_SEQUENCE_CORRID": "corrid",
}
FALSE_TRUE = {"int32": "int32_false_true", "float32": "fp32_false_true", "bool": "bool_false_true"}
