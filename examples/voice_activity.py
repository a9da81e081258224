"""Writes voice.onnx, a small voice-activity model made by hand, for docs/importing.md; onnx alone is needed.

It is shaped as such models are: a chunk of samples a call, the sample rate, and a state `[batch, 2]` that is returned one step on.
The state is the level of the sound and of the noise beneath it; speech is what stands out.
"""

import sys
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

STEPS = """
rate = Cast(sr)
chunk = Div(samples_a_chunk, rate)
quick = Exp(Mul(chunk, per_second_quick))
squares = Mul(input, input)
loud = ReduceMean(squares)
sound = Gather(state, zero)
noise = Gather(state, one)
kept = Mul(sound, quick)
rest = Sub(unit, quick)
heard = Mul(loud, rest)
level = Add(kept, heard)
risen = Mul(noise, slow)
floor = Add(risen, least)
noise_now = Min(level, floor)
stateN = Concat(level, noise_now)
safe = Add(noise_now, least)
above = Div(level, safe)
ratio = Log(Add(above, least))
centred = Sub(ratio, threshold)
output = Sigmoid(centred)
"""
CONSTANTS = {
    "samples_a_chunk": np.float32(512),
    "per_second_quick": np.float32(-20),
    "slow": np.float32(1.01),
    "least": np.float32(1e-6),
    "unit": np.float32(1),
    "threshold": np.float32(1.5),
    "zero": np.array([0]),
    "one": np.array([1]),
}
ATTRIBUTES: dict[str, dict[str, Any]] = {
    "Cast": {"to": TensorProto.FLOAT},
    "ReduceMean": {"axes": [1], "keepdims": 1},
    "Gather": {"axis": 1},
    "Concat": {"axis": 1},
}


def nodes(text: str) -> list[onnx.NodeProto]:
    """Reads `name = Op(a, Op(b, c))`, a node for each operator."""
    made: list[onnx.NodeProto] = []

    def add(call: str, name: str) -> str:
        kind, _, inside = call.partition("(")
        if not inside:
            return call.strip()
        taken = [add(part, f"{name}_{at}") for at, part in enumerate(split(inside[:-1]))]
        made.append(helper.make_node(kind.strip(), taken, [name], **ATTRIBUTES.get(kind.strip(), {})))
        return name

    for line in text.strip().splitlines():
        name, _, call = line.partition(" = ")
        add(call, name)
    return made


def split(arguments: str) -> list[str]:
    """Splits at the commas that no parenthesis holds."""
    parts, depth = [""], 0
    for letter in arguments:
        depth += (letter == "(") - (letter == ")")
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


def model() -> onnx.ModelProto:
    """Returns the model."""
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes(STEPS),
        "voice",
        [info("input", 1, ["batch", "samples"]), info("state", 1, ["batch", 2]), info("sr", TensorProto.INT64, [])],
        [info("output", 1, ["batch", 1]), info("stateN", 1, ["batch", 2])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in CONSTANTS.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


if __name__ == "__main__":
    file = sys.argv[1] if len(sys.argv) > 1 else "voice.onnx"
    onnx.save(model(), file)
    print(f"wrote {file}")
