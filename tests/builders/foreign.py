"""Foreign ONNX files, made by hand or by torch's own exporter, and what ONNX Runtime answers to them without a server."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper

from statewise.importing import Asked, prepare, publish, read
from statewise.importing.asked import Fed

CONTROLLED = Asked(
    initial={"sum": 7},
    controls={"START": Fed("start"), "READY": Fed("ready"), "END": Fed("end"), "CORRID": Fed("corrid")},
)
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
            module,
            example,
            str(file),
            dynamo=False,
            input_names=taken,
            output_names=returned,
            dynamic_axes=dynamic,
            opset_version=17,
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
    """A diagonal state-space model, `x' = a x + B u`, `y = C x' + D u`; a call is a timestep, and the batch axis has no name."""
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
    taken = [
        info("which", "bool", batch),
        info("factor", "float32", batch),
        info("count", "int64", batch),
        info("any", "bool", batch),
    ]
    returned = [info("total", "float32", batch), info("seen", "bool", batch)]
    return save(file, nodes, taken, [*returned, info("count_out", "int64", batch), info("any_out", "bool", batch)])


def voice(file, *, rate_axis=False):
    """As voice-activity models are: a chunk of samples, a scalar sample rate, a state `[2, batch, 4]`; speech is loud for long."""
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


def controlled(file, *, batch="batch"):
    """Control inputs as Triton's models have them: a sum that START resets, READY gates, and END and CORRID are told beside."""
    nodes = [
        node("Cast", "START", "fresh", to=TensorProto.FLOAT),
        node("Sub", "one fresh", "going"),
        node("Mul", "sum going", "kept"),
        node("Mul", "INPUT READY", "taken"),
        node("Add", "kept taken", "sum_out"),
        node("Cast", "END", "over", to=TensorProto.FLOAT),
        node("Cast", "CORRID", "number", to=TensorProto.FLOAT),
        node("Concat", "sum_out over number", "OUTPUT", axis=1),
    ]
    taken = [info("INPUT", "float32", batch, 1), info("sum", "float32", batch, 1), info("START", "int32", batch, 1)]
    taken += [info("READY", "float32", batch, 1), info("END", "bool", batch, 1), info("CORRID", "uint64", batch, 1)]
    returned = [info("OUTPUT", "float32", batch, 3), info("sum_out", "float32", batch, 1)]
    return save(file, nodes, taken, returned, {"one": np.float32(1)})


@dataclass(frozen=True)
class Case:
    """A foreign file, what is told of it, and how one timestep of one session is a call of it.

    Attributes:
        inputs: input → shape and dtype of a timestep, as it was imported.
        call: the inputs of a timestep → what the file takes, without its states.
        returned: the output of a call → of a timestep.
        states: state input → output, and its first value as the file takes it.
        constants: what some of the sessions are given at Open, `None` for a session of the default.
        tolerance: the largest difference, as a share of the scale.
    """

    name: str
    file: Path
    asked: Asked
    inputs: dict[str, tuple[tuple[int, ...], str]]
    call: Callable
    returned: Callable
    states: dict[str, tuple[str, np.ndarray]]
    constants: tuple = (None,)
    tolerance: float = 1e-5

    def draw(self, random, timesteps):
        """Returns inputs `[timesteps, …]` each."""
        return {name: _drawn(random, (timesteps, *shape), dtype) for name, (shape, dtype) in self.inputs.items()}

    def answers(self, inputs, constants=None):
        """Returns what the file answers by itself to a session's timesteps, `[timesteps, …]`."""
        timesteps = len(next(iter(inputs.values())))
        calls = [self.call({name: array[at] for name, array in inputs.items()}) for at in range(timesteps)]
        for number, call in enumerate(calls):
            call |= {} if constants is None else {name: np.array(value) for name, value in constants.items()}
            call |= {name: make(number) for name, make in self.per_call.items()}
        first = {taken: value for taken, (_, value) in self.states.items()}
        answers = alone(self.file, calls, {taken: given for taken, (given, _) in self.states.items()}, first)
        return np.stack([self.returned(answer) for answer in answers])

    @property
    def per_call(self):
        """What calls take by their number."""
        return {"START": lambda number: np.array([[number == 0]], np.int32)} if self.name == "controlled" else {}


def _drawn(random, shape, dtype):
    if dtype == "bool":
        return random.random(shape) < 0.5
    return random.standard_normal(shape).astype(dtype)


def _torch_case(folder, kind, batch_first):
    file = torch_cell(folder / f"{kind}{batch_first}.onnx", kind, batch_first=batch_first)
    zero = np.zeros((2, 1, 5), np.float32)
    states = {f"{each}0": (f"{each}n", zero) for each in ("h", "c")[: 2 if kind == "LSTM" else 1]}
    name = f"{kind.lower()}-{'batch' if batch_first else 'time'}-first"
    return Case(name, file, Asked(), {"x": ((3,), "float32")}, lambda t: {"x": t["x"][None, None]}, lambda r: r["y"][0, 0], states)


def cases(folder):
    """Returns a file of every kind that can be imported."""
    voice_file = voice(folder / "voice.onnx")
    voices = ({"input": ((8,), "float32")}, lambda r: r["output"][0], {"state": ("stateN", np.zeros((2, 1, 4), np.float32))})
    half = convolution(folder / "half.onnx", dtype="float16")
    frames = ({"frame": ((3,), "float32")}, lambda t: {"frame": t["frame"][None]}, lambda r: r["out"][0])
    return [
        *(_torch_case(folder, kind, first) for kind in ("RNN", "LSTM", "GRU") for first in (False, True)),
        Case(
            "conv", convolution(folder / "conv.onnx"), Asked(), *frames, {"cache": ("cache_out", np.zeros((1, 3, 3), np.float32))}
        ),
        Case(
            "conv-half",
            half,
            Asked(),
            {"frame": ((3,), "float16")},
            *frames[1:],
            {"cache": ("cache_out", np.zeros((1, 3, 3), np.float16))},
            tolerance=2e-3,
        ),
        Case(
            "conv-alone",
            convolution(folder / "alone.onnx", batch=1),
            Asked(initial={"cache": np.arange(9.0)}),
            *frames,
            {"cache": ("cache_out", np.arange(9, dtype=np.float32).reshape(1, 3, 3))},
        ),
        Case(
            "state-space",
            state_space(folder / "space.onnx"),
            Asked(initial={"state": 0.5}),
            {"u": ((3,), "float32")},
            lambda t: {"u": t["u"][None]},
            lambda r: r["y"][0],
            {"state": ("stateN", np.full((1, 4), 0.5, np.float32))},
        ),
        Case(
            "counting",
            counting(folder / "counting.onnx"),
            Asked(initial={"count": 2**40}),
            {"which": ((), "bool"), "factor": ((), "float32")},
            lambda t: {name: t[name][None] for name in ("which", "factor")},
            lambda r: np.array([r["total"][0], r["seen"][0]]),
            {"count": ("count_out", np.array([2**40])), "any": ("any_out", np.array([False]))},
        ),
        Case(
            "voice",
            voice_file,
            Asked(constants={"sr": 16000}, dims={"samples": 8}),
            voices[0],
            lambda t: {"input": t["input"][None], "sr": np.array(16000)},
            *voices[1:],
            constants=(None, {"sr": 8000}),
        ),
        Case(
            "voice-fixed",
            voice_file,
            Asked(fixed={"sr": 8000}, dims={"samples": 8}),
            voices[0],
            lambda t: {"input": t["input"][None], "sr": np.array(8000)},
            *voices[1:],
        ),
        Case(
            "voice-axis",
            voice(folder / "axis.onnx", rate_axis=True),
            Asked(constants={"sr": 16000}, dims={"samples": 8}),
            voices[0],
            lambda t: {"input": t["input"][None], "sr": np.array([[16000]])},
            *voices[1:],
            constants=(None, {"sr": [[8000]]}),
        ),
        Case(
            "controlled",
            controlled(folder / "controlled.onnx"),
            CONTROLLED,
            {"INPUT": ((1,), "float32")},
            lambda t: {
                "INPUT": t["INPUT"][None],
                "READY": np.array([[1]], np.float32),
                "END": np.array([[False]]),
                "CORRID": np.array([[0]], np.uint64),
            },
            lambda r: r["OUTPUT"][0, :2],
            {"sum": ("sum_out", np.full((1, 1), 7, np.float32))},
        ),
    ]


def import_all(root, every):
    """Imports files into a repository, each under its name."""
    for case in every:
        publish(prepare(read(case.file), case.asked), root, case.name)
