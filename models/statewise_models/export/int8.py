"""Float32 graph → int8 graph: LSTM weights rounded to int8, products in integers, by ONNX Runtime's dynamic quantisation.

ONNX Runtime has such a kernel for the LSTM op alone (`DynamicQuantizeLSTM`, domain com.microsoft), and on the CPU only. What one
has to know of it, seen with ONNX Runtime 1.31:

- On CPUs without VNNI instructions, sums of 8-bit products overflow: states came out wrong by half their scale. Weights therefore
  have 7 bits (`reduce_range`), with which all CPUs agree.
- Inputs are rounded by *one* scale for the whole batch. So what a session gets depends a little on who is beside it, and one wild
  value would round everybody else's to nothing. Inputs are therefore cut at `WIDEST` of their standard deviations.
- It is not always faster or smaller; `measure` tells.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from statewise_models.config import InvalidConfig
from statewise_models.export.conversation import Chunk, conversation
from statewise_models.export.runtime import RuntimeNetwork
from statewise_models.network import Network

QUANTISED_OP = "DynamicQuantizeLSTM"
CELLS_WITH_KERNEL = ("lstm",)
WIDEST = 8.0
BATCHES = (1, 16, 64, 256)
SECONDS = 0.1  # of each timing
BESIDE = 8  # rows of the batch in which a row is compared with itself alone


@dataclass(frozen=True, slots=True)
class Measured:
    """An int8 graph beside the float32 graph that it was made from.

    Attributes:
        float32_difference: the largest difference of the head's values over carried steps, as a share of their scale. (A forecast
            adds the present value to a change: its share of the forecast would look like nothing.)
        batch_difference: that of a session alone and the same one in a batch of `BESIDE`.
        bytes: of the files, `float32` and `int8`.
        microseconds: of one run of one timestep in one thread by the batch's size, `float32` and `int8` each.
    """

    float32_difference: float
    batch_difference: float
    bytes: dict[str, int]
    microseconds: dict[str, dict[str, float]]

    def as_dict(self) -> dict[str, Any]:
        """Returns the figures as JSON knows them."""
        return asdict(self)


def check_int8(cell: str) -> None:
    """Raises `InvalidConfig` for a cell of which ONNX Runtime has no int8 kernel."""
    if cell not in CELLS_WITH_KERNEL:
        raise InvalidConfig(
            f"int8 takes cell lstm, not {cell!r}: ONNX Runtime's dynamic quantisation has a kernel for its LSTM op only "
            "(leave --int8 out, or take --cell lstm)"
        )


def quantised(plain: onnx.ModelProto) -> onnx.ModelProto:
    """Returns the graph with its LSTM weights in int8; states, front and head stay float32. Metadata are those of `plain`."""
    from onnxruntime.quantization import quantize_dynamic

    with tempfile.TemporaryDirectory() as folder, _silence():
        file = Path(folder) / "model.onnx"
        quantize_dynamic(_cut(plain), file, op_types_to_quantize=["LSTM"], per_channel=True, reduce_range=True)
        model = onnx.load(str(file))
    onnx.checker.check_model(model, full_check=True)
    return model


def measure(network: Network, plain: onnx.ModelProto, model: onnx.ModelProto) -> Measured:
    """Compares the int8 graph of a network with the float32 graph that it was made from, on this machine."""
    exact, rounded = RuntimeNetwork(network, plain), RuntimeNetwork(network, model)
    chunks = conversation(network.config, [(BESIDE, length) for length in (5, 1, 7)], seed=1)
    beside = _values(rounded, chunks)
    return Measured(
        float32_difference=_difference(beside, _values(exact, chunks)),
        batch_difference=_difference(beside[:, :1], _values(rounded, [_row(chunk, 0) for chunk in chunks])),
        bytes={"float32": plain.ByteSize(), "int8": model.ByteSize()},
        microseconds={
            str(batch): {"float32": _microseconds(exact, batch), "int8": _microseconds(rounded, batch)} for batch in BATCHES
        },
    )


def _cut(plain: onnx.ModelProto) -> onnx.ModelProto:
    """Returns the graph with what the first layer sees cut at ± `WIDEST`; embeddings have no outliers, so they are left alone."""
    model = onnx.ModelProto()
    model.CopyFrom(plain)
    if any(info.name == "token" for info in model.graph.input):
        return model
    place, first = next((place, node) for place, node in enumerate(model.graph.node) if node.op_type == "LSTM")
    for name, value in (("least_input", -WIDEST), ("greatest_input", WIDEST)):
        model.graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), name))
    clip = helper.make_node("Clip", [first.input[0], "least_input", "greatest_input"], ["cut"], name="cut")
    first.input[0] = "cut"
    model.graph.node.insert(place, clip)
    return model


def _row(chunk: Chunk, row: int) -> Chunk:
    here = slice(row, row + 1)
    constants = {name: array[here] for name, array in chunk.constants.items()}
    return Chunk({name: array[:, here] for name, array in chunk.inputs.items()}, chunk.lengths[here], constants)


@torch.no_grad()
def _values(network: Network, chunks: Sequence[Chunk]) -> NDArray[np.float32]:
    """Returns the head's values over carried chunks `[timesteps, batch, head_size]`."""
    states, values = network.initial(len(chunks[0].lengths)), []
    for chunk in chunks:
        value, states = network(chunk.tensors(states[0].device), states)
        values.append(value.numpy())
    return np.concatenate(values)


def _difference(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> float:
    """Returns the largest difference as a share of the scale."""
    return float(np.abs(ours - theirs).max() / max(1e-6, float(np.abs(theirs).max())))


@torch.no_grad()
def _microseconds(network: RuntimeNetwork, batch: int) -> float:
    """Returns how long a run of one timestep takes: the least of three means."""
    (chunk,) = conversation(network.config, [(batch, 1)], seed=2, masked=False)
    states = network.initial(batch)
    inputs = chunk.tensors(states[0].device)
    network(inputs, states)
    means = []
    for _ in range(3):
        began, runs = time.perf_counter(), 0
        while (spent := time.perf_counter() - began) < SECONDS / 3 or not runs:
            network(inputs, states)
            runs += 1
        means.append(spent / runs)
    return round(1e6 * min(means), 1)


@contextmanager
def _silence() -> Iterator[None]:
    """Keeps the tool's advice on pre-processing, which does not concern LSTM, off the user's terminal."""
    root = logging.getLogger()
    before, root.disabled = root.disabled, True
    try:
        yield
    finally:
        root.disabled = before
