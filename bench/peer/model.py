"""The model in Triton's Python backend: states in one array, gathered and scattered by correlation id, ONNX Runtime on the batch.

It is what a careful user of Triton would write. Triton's stub runs this file; it has nothing of Statewise.
"""

import json
import sys

import numpy as np
import triton_python_backend_utils as pb_utils

SEQUENCES = 2048


class TritonPythonModel:
    """Triton calls `initialize` once and `execute` with the requests that its sequence batcher put together."""

    def initialize(self, args: dict) -> None:
        """Loads the plain graph."""
        told = {name: value["string_value"] for name, value in json.loads(args["model_config"])["parameters"].items()}
        sys.path[:0] = json.loads(told["path"])  # the stub ignores PYTHONPATH
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.runtime = onnxruntime.InferenceSession(told["model"], options, providers=["CPUExecutionProvider"])
        self.inputs, self.lengths, self.states = told["input"], told["lengths"], json.loads(told["states"])
        self.features = int(told["features"])
        self.outputs = [told["output"], *(state["output"] for state in self.states)]
        self.pool = [np.zeros((SEQUENCES, *state["shape"]), np.float32) for state in self.states]
        self.rows = {}

    def execute(self, requests: list) -> list:
        """Steps one sequence a request."""
        count = len(requests)
        x = np.empty((1, count, self.features), np.float32)
        rows = np.empty(count, np.int64)
        find = pb_utils.get_input_tensor_by_name
        for number, request in enumerate(requests):
            x[0, number] = find(request, "x").as_numpy()[0]
            sequence = int(find(request, "CORRID").as_numpy().flat[0])
            row = self.rows.setdefault(sequence, len(self.rows) % SEQUENCES)
            if find(request, "START").as_numpy().flat[0]:
                for pool in self.pool:
                    pool[row] = 0
            rows[number] = row
        feed = {self.inputs: x}
        if self.lengths:
            feed[self.lengths] = np.ones(count, np.int32)
        for state, pool in zip(self.states, self.pool, strict=True):
            feed[state["input"]] = np.ascontiguousarray(np.moveaxis(pool[rows], 0, state["batch_axis"]))
        y, *states = self.runtime.run(self.outputs, feed)
        for state, pool, new in zip(self.states, self.pool, states, strict=True):
            pool[rows] = np.moveaxis(new, state["batch_axis"], 0)
        return [pb_utils.InferenceResponse([pb_utils.Tensor("y", np.ascontiguousarray(y[:, number]))]) for number in range(count)]
