"""Programs that use tritonclient, each in a process of its own: it brings messages of the same names as the server's."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

PREAMBLE = """
import asyncio, json, queue, sys
import numpy as np
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException

def tensor(name, array):
    types = {"float32": "FP32", "float64": "FP64", "float16": "FP16", "int32": "INT32", "int64": "INT64", "bool": "BOOL"}
    made = triton.InferInput(name, list(array.shape), types[array.dtype.name])
    made.set_data_from_numpy(array)
    return made

address, told = sys.argv[1], json.loads(sys.argv[2])
"""


def with_tritonclient(program: str, address: str, **told: Any) -> Any:
    """Runs a program that finds `address` and `told`, and returns what it prints as JSON."""
    words = [sys.executable, "-W", "error", "-c", PREAMBLE + program, address, json.dumps(told)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=100, cwd=Path(__file__).parents[1])
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
