"""Runs a published version as the server will: the plain graph in ONNX Runtime, from the initial state, the state carried on.

Sequences go side by side, at most `LANES` of them and `WINDOW` timesteps a run; what each gets is what it would get alone. Whatever
a version needs besides its inputs to begin (its initial states) is made in one place, `Served.initial`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from statewise.repository import Published, RepositoryError
from statewise.spec import METADATA_KEY, ModelSpec, SpecError
from statewise_models.runtime import open_runtime

LANES = 64
WINDOW = 256

Array = NDArray[Any]
Inputs = Mapping[str, Array]
Given = Mapping[str, Any]
"""What a session is given at Open: constant → values, without a batch axis."""


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """What one run returned.

    Attributes:
        members: the places of its sequences.
        begin: the first timestep of all of them.
        lengths: int64 `[members]`, the timesteps of each, from `begin` on.
        output: `[timesteps, members, …]`, the first output of the model; past its length, a member's values mean nothing.
    """

    members: Sequence[int]
    begin: int
    lengths: NDArray[np.int64]
    output: Array


@dataclass(frozen=True, slots=True, eq=False)
class Served:
    """A published version, ready to run.

    Attributes:
        published: which one it is.
        spec: what it takes, returns and remembers.
        digest: SHA-256 of its file, in hexadecimal.
    """

    published: Published
    spec: ModelSpec
    digest: str
    runtime: onnxruntime.InferenceSession

    def __str__(self) -> str:
        """Returns the words that name it: `demand@7`."""
        return str(self.published)

    @property
    def features(self) -> tuple[str, ...]:
        """The columns that it reads, in order."""
        return tuple(feature for tensor in self.spec.inputs for feature in tensor.features)

    @property
    def ahead(self) -> frozenset[str]:
        """The columns of which it reads the next timestep's value."""
        return frozenset(
            feature
            for tensor in self.spec.inputs
            if tensor.ahead
            for feature, ahead in zip(tensor.features, tensor.ahead, strict=True)
            if ahead
        )

    def masks(self, feature: str) -> bool:
        """Whether it takes NaN in a column, or does not read it at all."""
        asked = [tensor for tensor in self.spec.inputs if feature in tensor.features]
        return all(tensor.missing[tensor.features.index(feature)] == "mask" if tensor.missing else False for tensor in asked)

    def initial(self, given: Sequence[Given]) -> list[Array]:
        """Returns the states of sessions just opened, in the order of the spec; `given` has what each of them is given."""
        return [
            np.stack(
                [np.broadcast_to(each.get(state.input, state.initial), state.shape) for each in given], state.batch_axis
            ).astype(state.dtype)
            for state in self.spec.states
        ]

    def walk(self, sequences: Sequence[Inputs], given: Sequence[Given] = ()) -> Iterator[Chunk]:
        """Yields what the model answers to sequences of inputs `[timesteps, …]`, each run from its first timestep to its last.

        Args:
            given: what the session of each is given; nothing where it is left out.

        Raises:
            RepositoryError: an answer is not finite, or the graph cannot be run.
        """
        lengths = np.array([len(next(iter(inputs.values()))) for inputs in sequences])
        order = [place for place in np.argsort(-lengths, kind="stable").tolist() if lengths[place]]
        for first in range(0, len(order), LANES):
            group = order[first : first + LANES]
            yield from self._walk_group(sequences, lengths, group, self.initial([given[place] if given else {} for place in group]))

    def answers(self, sequences: Sequence[Inputs], given: Sequence[Given] = ()) -> list[Array]:
        """Returns the answers `[timesteps, …]` to each of the sequences; see `walk`."""
        width = self.spec.outputs[0].shape
        made = [np.empty((len(next(iter(inputs.values()))), *width), np.float32) for inputs in sequences]
        for chunk in self.walk(sequences, given):
            for column, (place, length) in enumerate(zip(chunk.members, chunk.lengths.tolist(), strict=True)):
                made[place][chunk.begin : chunk.begin + length] = chunk.output[:length, column]
        return made

    def _walk_group(
        self, sequences: Sequence[Inputs], lengths: NDArray[np.int64], group: Sequence[int], states: list[Array]
    ) -> Iterator[Chunk]:
        """Walks sequences side by side, the longest first; those that have ended leave, since a run of none would abort."""
        for begin in range(0, int(lengths[group[0]]), WINDOW):
            members = [place for place in group if lengths[place] > begin]
            states = [
                np.take(state, range(len(members)), each.batch_axis) for each, state in zip(self.spec.states, states, strict=True)
            ]
            left = np.minimum(lengths[members] - begin, WINDOW)
            feed = {
                name: _side_by_side([sequences[place][name] for place in members], begin, left) for name in sequences[members[0]]
            }
            output, states = self._run(feed, left, states)
            chunk = Chunk(members, begin, left, output)
            self._refuse_unfinished(chunk)
            yield chunk

    def _run(self, feed: dict[str, Array], lengths: NDArray[np.int64], states: Sequence[Array]) -> tuple[Array, list[Array]]:
        spec = self.spec
        fed = {**feed, **{state.input: value for state, value in zip(spec.states, states, strict=True)}}
        if spec.lengths:
            fed[spec.lengths] = lengths.astype(np.int32)
        try:
            output, *new = self.runtime.run([spec.outputs[0].name, *(state.output for state in spec.states)], fed)
        except Exception as error:  # onnxruntime raises many unrelated classes
            raise RepositoryError(f"{self}: ONNX Runtime cannot run it: {error}") from error
        return output, new

    def _refuse_unfinished(self, chunk: Chunk) -> None:
        inside = np.arange(len(chunk.output))[:, None] < chunk.lengths
        finite: NDArray[np.bool_] = np.logical_and.reduce(np.isfinite(chunk.output.reshape(*inside.shape, -1)), axis=2)
        if not finite[inside].all():
            timestep = chunk.begin + int(np.flatnonzero((~finite & inside).any(axis=1))[0])
            raise RepositoryError(f"{self}: its answer at timestep {timestep} is not finite; the server would refuse that step")


def serve(published: Published) -> Served:
    """Opens a version.

    Raises:
        RepositoryError: its file cannot be read or run, or describes no model that can be fed from columns or text.
    """
    try:
        raw = published.path.read_bytes()
        runtime = open_runtime(raw)
        told = runtime.get_modelmeta().custom_metadata_map
        spec = ModelSpec.from_json(told.get(METADATA_KEY, ""))
    except (OSError, SpecError) as error:
        raise RepositoryError(f"{published}: {published.path} cannot be read: {error}") from error
    except Exception as error:  # onnxruntime raises many unrelated classes
        raise RepositoryError(f"{published}: ONNX Runtime cannot load {published.path}: {error}") from error
    _check_inputs(published, spec)
    return Served(published, spec, hashlib.sha256(raw).hexdigest(), runtime)


def _check_inputs(published: Published, spec: ModelSpec) -> None:
    """Raises `RepositoryError` where an input is neither columns, nor the calendar's time, nor tokens."""
    for tensor in spec.inputs:
        known = tensor.features or (spec.calendar and tensor.name == spec.calendar.input) or spec.vocabulary
        if not known or (tensor.time_axis, tensor.batch_axis) != (0, 1):
            raise RepositoryError(f"{published}: nothing in a file is known to be its input {tensor.name!r}")


def _side_by_side(arrays: Sequence[Array], begin: int, lengths: NDArray[np.int64]) -> Array:
    """Returns `[timesteps, members, …]` of the timesteps from `begin` on, padded with zeros."""
    laid = np.zeros((int(lengths.max()), len(arrays), *arrays[0].shape[1:]), arrays[0].dtype)
    for column, (array, length) in enumerate(zip(arrays, lengths.tolist(), strict=True)):
        laid[:length, column] = array[begin : begin + length]
    return laid
