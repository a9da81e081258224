"""Messages of the Open Inference Protocol, and what their answers say."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from statewise.inference import open_inference_pb2 as wire

Value = bool | int | str | float
DATATYPES = {"float32": "FP32", "float64": "FP64", "float16": "FP16", "int32": "INT32", "int64": "INT64", "bool": "BOOL"}
_FIELDS = {bool: "bool_param", int: "int64_param", str: "string_param", float: "double_param"}


def request(
    sequence: int | str | None = 7,
    x: object = (1.0, 0.0),
    *,
    model: str = "sum",
    version: str = "",
    id: str = "",  # noqa: A002 (the protocol's name)
    start: bool | None = None,
    end: bool | None = None,
    outputs: tuple[str, ...] = (),
    inputs: Mapping[str, np.ndarray] | None = None,
    **parameters: Value,
) -> wire.ModelInferRequest:
    """Returns a request with one timestep of `x`, or with `inputs`, `[1, …]` each, in raw contents."""
    message = wire.ModelInferRequest(model_name=model, model_version=version, id=id)
    for name, array in ({"x": np.array([x], np.float32)} if inputs is None else inputs).items():
        message.inputs.add(name=name, datatype=DATATYPES[array.dtype.name], shape=array.shape)
        message.raw_input_contents.append(array.tobytes())
    for name in outputs:
        message.outputs.add(name=name)
    told = {"sequence_id": sequence, "sequence_start": start, "sequence_end": end, **parameters}
    for name, value in told.items():
        if value is not None:
            setattr(message.parameters[name], _FIELDS[type(value)], value)
    return message


def outputs(response: wire.ModelInferResponse) -> dict[str, np.ndarray]:
    """Returns a reply's outputs as they travel."""
    dtypes = {name: dtype for dtype, name in DATATYPES.items()}
    return {
        tensor.name: np.frombuffer(raw, dtypes[tensor.datatype]).reshape(tensor.shape)
        for tensor, raw in zip(response.outputs, response.raw_output_contents, strict=True)
    }


def total(response: wire.ModelInferResponse) -> float:
    """Returns the first element of the last timestep of `total`."""
    return float(outputs(response)["total"].reshape(-1, 2)[-1, 0])


def position(response: wire.ModelInferResponse) -> int:
    """Returns where the sequence stands."""
    return response.parameters["position"].int64_param


def told(streamed: wire.ModelStreamInferResponse) -> tuple[str, float | str]:
    """Returns the id of an answer in a stream, and its total or its error."""
    reply = streamed.infer_response
    return reply.id, streamed.error_message or total(reply)
