"""Foreign ONNX files, made by hand or by torch's own exporter, and what ONNX Runtime answers to them without a server."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper

ELEMENTS = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "float64": TensorProto.DOUBLE,
    "int64": TensorProto.INT64,
    "int32": TensorProto.INT32,
    "bool": TensorProto.BOOL,
    "uint64": TensorProto.UINT64,
    "uint8": TensorProto.UINT8,
}


def info(name, dtype, *dims):
    """A tensor by its name, dtype and axes; a word is a dynamic axis, `None` one without a name."""
    return helper.make_tensor_value_info(name, ELEMENTS[dtype], list(dims))


def save(file, nodes, inputs, outputs, constants=None, opset=17, domains=(), ir_version=8):
    """Writes a file of nodes, and returns its path."""
    held = [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()]
    graph = helper.make_graph(nodes, "foreign", inputs, outputs, held)
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=ir_version), str(file))
    return Path(file)


def node(kind, inputs, outputs, **attributes):
    """A node, its inputs and outputs given as words."""
    return helper.make_node(kind, inputs.split(), outputs.split(), **attributes)


class Cell(torch.nn.Module):
    """A recurrent module of torch with a linear head."""

    def __init__(self, kind, batch_first):
        super().__init__()
        self.cell = getattr(torch.nn, kind)(3, 5, 2, batch_first=batch_first)
        self.head = torch.nn.Linear(5, 2)

    def forward(self, x, h, c=None):
        """Returns the outputs of all timesteps and the states."""
        y, state = self.cell(x, h if c is None else (h, c))
        return (self.head(y), *((state,) if c is None else state))


def torch_cell(file, kind, *, batch_first, names=None):
    """Exports a two-layer `RNN`, `LSTM` or `GRU` by torch's TorchScript-based exporter, as its users do."""
    torch.manual_seed(5)
    module = Cell(kind, batch_first).eval()
    batch, time = (0, 1) if batch_first else (1, 0)
    states = ["h", "c"] if kind == "LSTM" else ["h"]
    taken, returned = names or (["x", *(f"{s}0" for s in states)], ["y", *(f"{s}n" for s in states)])
    dynamic = {name: {batch: "batch", time: "time"} for name in (taken[0], returned[0])}
    dynamic |= {name: {1: "batch"} for name in (*taken[1:], *returned[1:])}
    example = (torch.zeros(4, 2, 3) if not batch_first else torch.zeros(2, 4, 3), *(torch.zeros(2, 2, 5) for _ in states))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module, example, str(file), dynamo=False, input_names=taken, output_names=returned, dynamic_axes=dynamic, opset_version=17
        )
    return Path(file)


def convolution(file, *, dtype="float32", batch="N"):
    """A causal convolution of width 4 whose cache is the last 3 timesteps, `[batch, channels, width]`; one call is one timestep."""
    weights = np.random.default_rng(1).standard_normal((2, 3, 4)).astype(dtype)
    nodes = [
        node("Unsqueeze", "frame two", "column"),
        node("Concat", "cache column", "window", axis=2),
        node("Conv", "window weights", "wide"),
        node("Squeeze", "wide two", "out"),
        node("Slice", "window one far two", "cache_out"),
    ]
    constants = {"weights": weights, "two": np.array([2]), "one": np.array([1]), "far": np.array([9])}
    taken = [info("frame", dtype, batch, 3), info("cache", dtype, batch, 3, 3)]
    return save(file, nodes, taken, [info("out", dtype, batch, 2), info("cache_out", dtype, batch, 3, 3)], constants)


def state_space(file, *, dtype="float32"):
    """A diagonal state-space model, `x' = a x + B u`, `y = C x' + D u`; one call is one timestep, and the batch axis has no name."""
    random = np.random.default_rng(2)
    constants = {
        "a": np.linspace(0.5, 0.99, 4),
        "B": random.standard_normal((3, 4)),
        "C": random.standard_normal((4, 2)),
        "D": random.standard_normal((3, 2)),
    }
    nodes = [
        node("Mul", "state a", "decayed"),
        node("MatMul", "u B", "driven"),
        node("Add", "decayed driven", "stateN"),
        node("MatMul", "stateN C", "seen"),
        node("MatMul", "u D", "through"),
        node("Add", "seen through", "y"),
    ]
    outputs = [info("y", dtype, None, 2), info("stateN", dtype, None, 4)]
    taken = [info("u", dtype, None, 3), info("state", dtype, None, 4)]
    return save(file, nodes, taken, outputs, {name: value.astype(dtype) for name, value in constants.items()})


def counting(file, *, batch="batch"):
    """Several inputs and states: an int64 count of the timesteps that were told to count, and a bool of whether any was."""
    nodes = [
        node("Cast", "which", "one", to=TensorProto.INT64),
        node("Add", "count one", "count_out"),
        node("Or", "any which", "any_out"),
        node("Cast", "count_out", "wide", to=TensorProto.FLOAT),
        node("Mul", "wide factor", "total"),
        node("Identity", "any_out", "seen"),
    ]
    taken = [info("which", "bool", batch), info("factor", "float32", batch), info("count", "int64", batch), info("any", "bool", batch)]
    returned = [info("total", "float32", batch), info("seen", "bool", batch)]
    return save(file, nodes, taken, [*returned, info("count_out", "int64", batch), info("any_out", "bool", batch)])


def voice(file, *, rate_axis=False):
    """As voice-activity models are: a chunk of samples, a scalar sample rate, a state `[2, batch, 4]`; speech is loudness carried."""
    nodes = [
        node("Cast", "sr", "rate", to=TensorProto.FLOAT),
        node("Div", "rate thousands", "scale"),
        node("Mul", "input input", "squares"),
        node("ReduceMean", "squares", "loud", axes=[1], keepdims=1),
        node("Mul", "loud scale", "level"),
        node("Mul", "state half", "old"),
        node("Unsqueeze", "level zero", "raised"),
        node("Add", "old raised", "stateN"),
        node("ReduceSum", "stateN firsts", "summed", keepdims=0),
        node("Sigmoid", "summed", "output"),
    ]
    constants = {
        "thousands": np.float32(16000),
        "half": np.float32(0.5),
        "zero": np.array([0]),
        "firsts": np.array([0, 2]),
    }
    nodes[8:10] = [
        node("ReduceSum", "stateN firsts", "summed", keepdims=0),
        node("Unsqueeze", "summed one", "column"),
        node("Sigmoid", "column", "output"),
    ]
    constants["one"] = np.array([1])
    taken = [info("input", "float32", "batch", "samples"), info("state", "float32", 2, "batch", 4)]
    taken += [info("sr", "int64", *(["batch", 1] if rate_axis else []))]
    outputs = [info("output", "float32", "batch", 1), info("stateN", "float32", 2, "batch", 4)]
    return save(file, nodes, taken, outputs, constants)


def alone(file, calls, states, initial):
    """Returns what a file answers to one session's calls, one by one in plain ONNX Runtime: the oracle of the tests.

    Args:
        calls: for each call, what the file takes besides its states.
        states: state input → output.
        initial: state input → its first value, as the file takes it.
    """
    runtime = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    names, carried, answers = [each.name for each in runtime.get_outputs()], dict(initial), []
    for call in calls:
        returned = dict(zip(names, runtime.run(names, {**call, **carried}), strict=True))
        carried = {taken: returned[given] for taken, given in states.items()}
        answers.append(returned)
    return answers
