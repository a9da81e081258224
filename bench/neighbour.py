"""A busy neighbour: does what a load generator does, in memory, until it is ended.

On a machine of two virtual cores a loop that runs beside nothing is up to twice as fast as beside anything. The server is always
measured beside its load generators, so the ceilings are measured beside this, and alone as well.
"""

from __future__ import annotations

import numpy as np

from statewise.tensors import decode, encode
from statewise.v1 import sequence_pb2

ROWS, FEATURES = 256, 64


def main() -> None:
    x = np.random.default_rng(0).standard_normal((ROWS, 1, FEATURES)).astype(np.float32)
    while True:
        raw = sequence_pb2.StepFrameRequest(request_id=1, inputs=[encode("x", x)]).SerializeToString()
        x = np.array(decode(sequence_pb2.StepFrameRequest.FromString(raw).inputs[0]))


if __name__ == "__main__":
    main()
