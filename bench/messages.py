"""Prepared messages for the raw load: sessions are opened, and each stream gets the bytes of its step without the position."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import grpc
import numpy as np
from google.protobuf.message import Message

from bench.models import FEATURES
from statewise.inference import open_inference_pb2 as wire
from statewise.tensors import encode
from statewise.v1 import sequence_pb2, sequence_pb2_grpc

METHOD = "/statewise.v1.SequenceService/Step"
POSITION_TAG = sequence_pb2.StepRequest.DESCRIPTOR.fields_by_name["position"].number << 3  # a varint
FAILURE = b"google.rpc.ErrorInfo"  # no answer to a step that ran contains it
INFERENCE_METHOD = "/inference.GRPCInferenceService/ModelStreamInfer"
INFERENCE_FAILURE = b"\x0a"  # an error is field 1 of the answer, and comes first


def prepare(file: Path, address: str, model: str, streams: int, timesteps: int, *, open_sessions: bool = True) -> Path:
    """Writes the messages of a number of streams, one session each, and returns the file."""
    names = [f"bench-{file.stem}-{number}" for number in range(streams)]
    if open_sessions:
        _open(address, model, names)
    x = np.random.default_rng(0).standard_normal((timesteps, FEATURES[model])).astype(np.float32)
    requests = [sequence_pb2.StepRequest(request_id=1, session_id=name, inputs=[encode("x", x)]) for name in names]
    return _written(file, METHOD, POSITION_TAG, timesteps, FAILURE, 1_000, [{"request": _told(request)} for request in requests])


def prepare_inference(file: Path, model: str, streams: int) -> Path:
    """Writes the same for the Open Inference Protocol, whose first message of a stream starts its sequence."""
    x = np.random.default_rng(0).standard_normal(FEATURES[model]).astype(np.float32)
    made = []
    for number in range(streams):
        request = wire.ModelInferRequest(model_name=model, raw_input_contents=[x.tobytes()])
        request.inputs.add(name="x", datatype="FP32", shape=[1, len(x)])
        request.parameters["sequence_id"].string_param = f"{file.stem}-{number}"
        later = _told(request)
        request.parameters["sequence_start"].bool_param = True
        made.append({"first": _told(request), "request": later})
    return _written(file, INFERENCE_METHOD, None, 1, INFERENCE_FAILURE, 1, made)


def response_bytes(timesteps: int) -> int:
    """Returns the size of the answer to such a step."""
    output = encode("y", np.zeros((timesteps, 1), np.float32))
    response = sequence_pb2.StepResponse(request_id=1, session_id="bench-messages-00", position=100_000, outputs=[output])
    return len(response.SerializeToString())


def _written(
    file: Path, method: str, position_tag: int | None, timesteps: int, failure: bytes, within: int, streams: list[dict[str, str]]
) -> Path:
    told = {
        "method": method,
        "position_tag": position_tag,
        "timesteps": timesteps,
        "failure": base64.b64encode(failure).decode(),
        "failure_within": within,
        "streams": streams,
    }
    file.write_text(json.dumps(told))
    return file


def _told(request: Message) -> str:
    return base64.b64encode(request.SerializeToString()).decode()


def _open(address: str, model: str, names: list[str]) -> None:
    with grpc.insecure_channel(address) as channel:
        stub = sequence_pb2_grpc.SequenceServiceStub(channel)  # type: ignore[no-untyped-call]
        mode = sequence_pb2.OPEN_MODE_RESTART
        for name in names:
            stub.OpenSession(sequence_pb2.OpenSessionRequest(model=model, session_id=name, mode=mode))
