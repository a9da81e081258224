"""An int8 version in the real server: it is ready, and streams what its own graph computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch

from builders.served import config, start
from statewise.client import Client
from statewise_models.export import RuntimeNetwork, export
from statewise_models.export.conversation import conversation, torch_outputs
from statewise_models.network import Network


def test_an_int8_version_is_served(tmp_path: Path) -> None:
    """The server's checks (spec, opset, parity vectors) pass; a session alone gets the graph's own outputs, states carried."""
    torch.manual_seed(0)
    network = Network(config("forecast", "lstm", 3)).eval()
    exported = export(network, repository=tmp_path, model="rounded", int8=True)
    alone = RuntimeNetwork(network, onnx.load(str(exported.path)))
    chunks = conversation(network.config, [(1, length) for length in (4, 1, 1)], seed=5)
    expected = torch_outputs(alone, chunks)
    running = start(tmp_path)
    try:
        with Client(running.address) as client, client.open_session("rounded") as session:
            for chunk, output in zip(chunks, expected, strict=True):
                reply = session.step(chunk.inputs["x"][:, 0], time=chunk.inputs["time"][:, 0])
                np.testing.assert_allclose(np.atleast_2d(reply)[-1], output[-1, 0], rtol=1e-5)
    finally:
        running.stop()
