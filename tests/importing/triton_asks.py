"""Run by the Python that has tritonclient: steps sequences of a model, interleaved, and prints what they were answered."""

import json
import sys

import numpy as np
import tritonclient.grpc as triton

address, model, name, values = sys.argv[1], sys.argv[2], sys.argv[3], json.loads(sys.argv[4])
answers = [[] for _ in values]
with triton.InferenceServerClient(address) as client:
    for at in range(len(values[0])):
        for sequence, each in enumerate(values):
            row = np.array([each[at]], np.float32)
            tensor = triton.InferInput(name, list(row.shape), "FP32")
            tensor.set_data_from_numpy(row)
            ends = at == len(each) - 1
            answer = client.infer(model, [tensor], sequence_id=sequence + 1, sequence_start=at == 0, sequence_end=ends)
            answers[sequence].append(answer.as_numpy(answer.get_response().outputs[0].name)[0].tolist())
sys.stdout.write(json.dumps(answers))
