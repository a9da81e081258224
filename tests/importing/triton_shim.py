"""Runs an exported model.onnx in Triton's Python backend: the Triton of PyPI has no other. Triton's stub runs this file.

Triton gives every request its inputs, its controls, and at a sequence's start the initial states of the config; the states of a
sequence under way are kept here by its correlation id, which Triton's ONNX backend would do.
"""

import json
import pathlib
import sys

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Triton calls `initialize` once and `execute` with the requests that its sequence batcher put together."""

    def initialize(self, args):
        """Loads the model beside this file."""
        config = json.loads(args["model_config"])
        sys.path[:0] = json.loads(config["parameters"]["path"]["string_value"])
        import onnxruntime

        file = pathlib.Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        self.runtime = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        self.states = [(each["input_name"], each["output_name"]) for each in config["sequence_batching"]["state"]]
        self.outputs = [each["name"] for each in config["output"]]
        self.kept = {}

    def execute(self, requests):
        """Runs each request by itself."""
        return [self.answer(request) for request in requests]

    def answer(self, request):
        """Runs one request."""
        find = pb_utils.get_input_tensor_by_name
        names = [each.name for each in self.runtime.get_inputs()]
        sequence = int(find(request, "CORRID").as_numpy().flat[0])
        feed = {name: find(request, name).as_numpy() for name in names if find(request, name) is not None}
        if not find(request, "START").as_numpy().flat[0]:
            feed.update(self.kept[sequence])
        names = [each.name for each in self.runtime.get_outputs()]
        returned = dict(zip(names, self.runtime.run(names, feed), strict=True))
        self.kept[sequence] = {taken: returned[given] for taken, given in self.states}
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, np.ascontiguousarray(returned[name])) for name in self.outputs])
