"""Run by the Python of the environment that has tritonclient: prints messages of `ModelStreamInfer`, one sequence a stream."""

import base64
import json
import sys

import numpy as np
from tritonclient.grpc import service_pb2


def request(model: str, features: int, sequence: int, start: bool) -> str:
    """Returns a message in base64."""
    message = service_pb2.ModelInferRequest(model_name=model)
    message.inputs.add(name="x", datatype="FP32", shape=[1, features])
    message.raw_input_contents.append(np.ones(features, np.float32).tobytes())
    message.parameters["sequence_id"].int64_param = sequence
    if start:
        message.parameters["sequence_start"].bool_param = True
    return base64.b64encode(message.SerializeToString()).decode()


if __name__ == "__main__":
    model, features, streams, first = sys.argv[1], *map(int, sys.argv[2:])
    print(
        json.dumps(
            {
                "method": "/inference.GRPCInferenceService/ModelStreamInfer",
                "position_tag": None,
                "timesteps": 1,
                # An error is field 1 of the answer, and comes first.
                "failure": base64.b64encode(b"\x0a").decode(),
                "failure_within": 1,
                "streams": [
                    {"first": request(model, features, number, True), "request": request(model, features, number, False)}
                    for number in range(first, first + streams)
                ],
            }
        )
    )
