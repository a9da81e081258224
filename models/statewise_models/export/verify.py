"""torch against ONNX Runtime, and the trace against the served graph: several carried chunks at random batch sizes and lengths."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from statewise_models.config import NetworkConfig
from statewise_models.export.builder import LENGTHS, OUTPUT
from statewise_models.export.conversation import Chunk, conversation, torch_conversation
from statewise_models.network import Network
from statewise_models.runtime import open_runtime

TOLERANCE = 1e-5
CONVERSATIONS = 4
CHUNKS = 4
LARGEST_BATCH = 9
LONGEST_CHUNK = 12

Answers = list[tuple[NDArray[np.float32], list[NDArray[np.float32]]]]
"""Of each chunk the output `[timesteps, batch, …]` and the new states `[batch, size]`."""


class ParityError(Exception):
    """ONNX Runtime's outputs differ from torch's, or the trace's from the served graph's, by more than the tolerance."""


def verify(network: Network, file: Path, *, tolerance: float = TOLERANCE, seed: int = 0) -> float:
    """Returns the largest difference between torch and ONNX Runtime as a share of the scale of what differs.

    Raises:
        ParityError: an output or state of a valid timestep differs by more than `tolerance`.
    """
    runtime = open_runtime(str(file))
    random = np.random.default_rng(seed)
    worst = 0.0
    for number in range(CONVERSATIONS):
        batch = int(random.integers(1, LARGEST_BATCH + 1))
        shapes = [(batch, int(length)) for length in random.integers(1, LONGEST_CHUNK + 1, CHUNKS)]
        chunks = conversation(network.config, shapes, seed=seed + number, ragged=True)
        expected = torch_conversation(network, chunks)
        for place, (chunk, ours, theirs) in enumerate(
            zip(chunks, runtime_conversation(network.config, runtime, chunks), expected, strict=True)
        ):
            for name, difference in _differences(network.config, chunk, ours, theirs).items():
                if not difference <= tolerance:
                    where = f"output {name!r}, conversation {number}, chunk {place}, batch {batch}"
                    raise ParityError(
                        f"{where}: ONNX Runtime differs from torch by {difference:.1e} of its scale (allowed: {tolerance:.0e})"
                    )
                worst = max(worst, difference)
    return worst


def verify_trace(config: NetworkConfig, served: Path, traced: Path, *, tolerance: float = TOLERANCE, seed: int = 0) -> float:
    """Returns the largest difference between an explicit-gate graph and the served one as a share of the scale of what differs.

    The served graph goes through a conversation chunk by chunk; the trace runs it whole, and must have the same outputs, and at the
    end of each chunk the same states.

    Raises:
        ParityError: an output or state differs by more than `tolerance`.
    """
    random = np.random.default_rng(seed)
    batch = int(random.integers(1, LARGEST_BATCH + 1))
    chunks = conversation(config, [(batch, int(length)) for length in random.integers(1, LONGEST_CHUNK + 1, CHUNKS)], seed=seed)
    answers = runtime_conversation(config, open_runtime(str(served)), chunks)
    trace = _traced(open_runtime(str(traced)), chunks)
    ends = np.cumsum([chunk.lengths.max() for chunk in chunks])
    pairs = {OUTPUT[config.task]: (trace[OUTPUT[config.task]], np.concatenate([output for output, _ in answers]))}
    for place, name in enumerate(config.state_names):
        pairs[name] = (trace[name][ends - 1], np.stack([states[place] for _, states in answers]))
    differences = {name: _difference(*pair) for name, pair in pairs.items()}
    for name, difference in differences.items():
        if not difference <= tolerance:
            raise ParityError(f"{name!r} of the trace differs from the served graph's by {difference:.1e} of its scale")
    return max(differences.values())


def _traced(runtime: onnxruntime.InferenceSession, chunks: Sequence[Chunk]) -> dict[str, NDArray[np.float32]]:
    """Returns all outputs of an explicit-gate graph to the chunks laid end to end, `[timesteps, batch, size]` each."""
    names = [info.name for info in runtime.get_outputs()]
    whole = {name: np.concatenate([chunk.inputs[name] for chunk in chunks]) for name in chunks[0].inputs}
    return dict(zip(names, runtime.run(names, {**whole, **chunks[0].constants}), strict=True))


def runtime_conversation(config: NetworkConfig, runtime: onnxruntime.InferenceSession, chunks: Sequence[Chunk]) -> Answers:
    """Returns ONNX Runtime's outputs and new states to each chunk, the state carried from one to the next."""
    answers = []
    states = [np.zeros((len(chunks[0].lengths), size), np.float32) for size in config.state_sizes.values()]
    names = [OUTPUT[config.task], *(f"{name}_next" for name in config.state_names)]
    given = dict(chunks[0].constants)
    names += [f"{name}_next" for name in given]
    for chunk in chunks:
        carried = {**dict(zip(config.state_names, states, strict=True)), **given}
        feed = {**chunk.inputs, LENGTHS: chunk.lengths.astype(np.int32), **carried}
        output, *new = runtime.run(names, feed)
        states, kept = new[: len(states)], new[len(states) :]
        given = dict(zip(given, kept, strict=True))
        answers.append((output, states))
    if any(not np.array_equal(given[name], array) for name, array in chunks[0].constants.items()):
        raise ParityError("the graph does not return what it was given as it was")
    return answers


def _differences(
    config: NetworkConfig,
    chunk: Chunk,
    ours: tuple[NDArray[np.float32], list[NDArray[np.float32]]],
    theirs: tuple[NDArray[np.float32], list[NDArray[np.float32]]],
) -> dict[str, float]:
    valid = np.arange(len(ours[0]))[:, None] < chunk.lengths
    pairs = {OUTPUT[config.task]: (ours[0][valid], theirs[0][valid])}
    for name, mine, other in zip(config.state_names, ours[1], theirs[1], strict=True):
        pairs[name] = (mine, other)
    return {name: _difference(mine, other) for name, (mine, other) in pairs.items()}


def _difference(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> float:
    """Returns the largest difference as a share of the scale."""
    return float(np.abs(ours - theirs).max() / max(1e-6, np.abs(theirs).max()))
