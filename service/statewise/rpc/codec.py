"""Messages of the native protocol ↔ the server's values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from google.protobuf.duration_pb2 import Duration
from numpy.typing import NDArray

from statewise.config import Limits
from statewise.conversation import Answer, Array, Frame, Indices, Step
from statewise.durability import Durability
from statewise.errors import Reason, StatewiseError, error
from statewise.host import Closed, Found, Host
from statewise.models import Served
from statewise.opening import Mode, Open, Opened
from statewise.repository import RepositoryError, Serving
from statewise.rpc.status import to_status
from statewise.spec import ConstantSpec, ModelSpec, TensorSpec
from statewise.tensors import DATA_TYPES, NUMBERS, decode, encode
from statewise.v1 import model_pb2, sequence_pb2, tensor_pb2

UNNAMED = "(a tensor without a name)"
"""No model has an input of that name, so the step is refused, after it is known whether the session exists."""

_FARTHEST = 2**63 - 1
_MISSING = {"refuse": model_pb2.MISSING_REFUSE, "mask": model_pb2.MISSING_MASK}
_MODES = {
    sequence_pb2.OPEN_MODE_UNSPECIFIED: Mode.CREATE,
    sequence_pb2.OPEN_MODE_CREATE: Mode.CREATE,
    sequence_pb2.OPEN_MODE_RESUME: Mode.RESUME,
    sequence_pb2.OPEN_MODE_CREATE_OR_RESUME: Mode.CREATE_OR_RESUME,
    sequence_pb2.OPEN_MODE_RESTART: Mode.RESTART,
}


def step(request: sequence_pb2.StepRequest, only_input: Callable[[str], str | None]) -> Step:
    """Returns the step that a message asks for; raises `InvalidInput` for tensors that cannot be read.

    Args:
        only_input: tells the name of the input of a session's model where it has just one: a tensor without a name means that one.
    """
    return Step(
        request.session_id,
        _named(request.inputs, "inputs", request.session_id, only_input),
        min(request.position, _FARTHEST) if request.HasField("position") else None,
        seconds(request.timeout) if request.HasField("timeout") else None,
        request.output_timesteps == sequence_pb2.OUTPUT_TIMESTEPS_LAST,
    )


def frame(request: sequence_pb2.StepFrameRequest) -> Frame:
    """Returns the frame that a message asks for; raises `InvalidInput` for columns that cannot be read."""
    handles = _column(request.handles, "handles")
    if not len(handles):
        raise error(Reason.BAD_FIELD, "handles: a frame takes at least one session", field="handles")
    positions = None
    if request.positions:
        told = _column(request.positions, "positions")
        if len(told) != len(handles):
            raise error(Reason.BAD_FIELD, f"positions: {len(told)} of them for {len(handles)} handles", field="positions")
        positions = np.minimum(told, np.uint64(_FARTHEST)).astype(np.int64)
    return Frame(
        handles,
        _named(request.inputs, "inputs"),
        positions,
        seconds(request.timeout) if request.HasField("timeout") else None,
        request.output_timesteps == sequence_pb2.OUTPUT_TIMESTEPS_LAST,
    )


def seconds(duration: Duration) -> float:
    """Returns a duration in seconds; protobuf's own conversion refuses what is out of its range."""
    return duration.seconds + duration.nanos * 1e-9


def opening(request: sequence_pb2.OpenSessionRequest) -> Open:
    """Returns what a client asks to open; raises `InvalidInput`."""
    if request.version < 0:
        raise error(Reason.BAD_FIELD, "version: takes a positive integer, or 0 for the default", field="version")
    if request.mode not in _MODES:
        raise error(Reason.BAD_FIELD, f"mode: {request.mode} is not one of OpenMode", field="mode")
    mode = _MODES[request.mode]
    if mode in (Mode.RESUME, Mode.CREATE_OR_RESUME) and not request.session_id:
        raise error(Reason.BAD_FIELD, "session_id: to resume takes one", field="session_id")
    return Open(
        request.model,
        request.version,
        request.session_id,
        seconds(request.idle_timeout) if request.HasField("idle_timeout") else None,
        mode,
        request.retained_replies,
        request.open_token,
        request.snapshot,
        request.server_instance,
        _named(request.constants, "constants"),
        durability=_durability(request.durability),
        checkpoint_every=request.checkpoint_every,
        durable_position=min(request.durable_position, _FARTHEST),
    )


def _durability(asked: int) -> Durability | None:
    try:
        return Durability(asked) if asked else None
    except ValueError:
        raise error(Reason.BAD_FIELD, f"durability: {asked} is not one of Durability", field="durability") from None


def step_response(request: sequence_pb2.StepRequest, answer: Answer, row: int) -> sequence_pb2.StepResponse:
    """Returns the answer to a step that ran."""
    position, raw = answer.rows[row]
    outputs = [
        tensor_pb2.Tensor(name=name, data_type=NUMBERS[array.dtype], shape=array.shape[1:], data=raw[name])  # type: ignore[arg-type]
        for name, array in answer.outputs.items()
    ]
    return sequence_pb2.StepResponse(
        request_id=request.request_id,
        session_id=request.session_id,
        position=position,
        outputs=outputs,
        retiring=answer.retiring,
        durable_position=0 if answer.durable is None else int(answer.durable[row]),
    )


def step_refusal(request: sequence_pb2.StepRequest, position: int, problem: StatewiseError) -> sequence_pb2.StepResponse:
    """Returns the answer to a step that failed."""
    return sequence_pb2.StepResponse(
        request_id=request.request_id, session_id=request.session_id, position=position, error=to_status(problem)
    )


def frame_response(request_id: int, answer: Answer, rows: Indices | None) -> sequence_pb2.StepFrameResponse:
    """Returns the answer to rows of a frame that ran; to all of them, in order, if they are `None`."""
    return sequence_pb2.StepFrameResponse(
        request_id=request_id,
        rows=b"" if rows is None else rows.astype("<u4").tobytes(),
        positions=answer.positions.astype("<u8").tobytes(),
        outputs=[encode(name, array) for name, array in answer.outputs.items()],
        retiring=answer.retiring,
        durable_positions=b"" if answer.durable is None else answer.durable.astype("<u8").tobytes(),
    )


def frame_refusal(request_id: int, refused: Sequence[tuple[int, int, StatewiseError]]) -> sequence_pb2.StepFrameResponse:
    """Returns the answer to rows of a frame that failed: row, position and why."""
    errors = [sequence_pb2.RowError(row=row, position=position, error=to_status(problem)) for row, position, problem in refused]
    return sequence_pb2.StepFrameResponse(request_id=request_id, errors=errors)


def open_response(opened: Opened, server_instance: str) -> sequence_pb2.OpenSessionResponse:
    """Returns the answer to an open."""
    return sequence_pb2.OpenSessionResponse(
        session_id=opened.session_id,
        model=model(opened.model),
        position=opened.position,
        idle_timeout=duration(opened.idle_timeout_seconds),
        server_instance=server_instance,
        handle=opened.handle,
        retained_replies=opened.retained_replies,
        resumed=opened.resumed,
        durability=int(opened.keeping.durability),  # type: ignore[arg-type]
        checkpoint_every=opened.keeping.every if opened.keeping.durability is Durability.CHECKPOINT else 0,
        durable_position=opened.durable_position,
    )


def get_response(found: Found) -> sequence_pb2.GetSessionResponse:
    """Returns the answer to a get."""
    return sequence_pb2.GetSessionResponse(
        model=model_pb2.Model(name=found.model.name, version=found.model.version, digest=found.model.loaded.digest),
        position=found.position,
        tail=found.tail,
        pending=found.pending,
        idle=duration(found.idle_seconds),
        retiring=found.model.retiring,
        durable_position=found.durable_position,
    )


def close_response(closed: Closed) -> sequence_pb2.CloseSessionResponse:
    """Returns the answer to a close."""
    return sequence_pb2.CloseSessionResponse(closed=closed.closed, position=closed.position)


def model(served: Served) -> model_pb2.Model:
    """Returns a model version with its spec."""
    return model_pb2.Model(name=served.name, version=served.version, spec=_spec(served.spec), digest=served.loaded.digest)


def series(spec: ModelSpec) -> list[model_pb2.SeriesConstants]:
    """Returns what the sessions of the series are to be given that the model was trained on."""
    dtypes = {constant.name: constant.dtype for constant in spec.constants}
    return [
        model_pb2.SeriesConstants(
            series=name, constants=[encode(key, np.asarray(value, dtypes[key])) for key, value in given.items()]
        )
        for name, given in spec.series.items()
    ]


def summary(host: Host, name: str) -> model_pb2.ModelSummary:
    """Returns a model and its versions; raises `ModelUnknown`."""
    models = host.models
    try:
        versions = models.repository.versions(name)
    except RepositoryError as problem:
        raise error(Reason.MODEL_UNKNOWN, str(problem)) from problem
    try:
        serving = models.serving(name)
    except RepositoryError:
        serving = Serving(0)
    return model_pb2.ModelSummary(
        name=name,
        default_version=serving.default,
        canary_version=serving.canary or 0,
        canary_share=serving.share,
        versions=[_version(host, name, version) for version in versions],
    )


def limits(taken: Limits) -> model_pb2.Limits:
    """Returns what the server takes on."""
    return model_pb2.Limits(
        sessions=taken.sessions,
        pending_steps=taken.pending_steps,
        timesteps=taken.timesteps,
        frame_rows=taken.frame_rows,
        message_bytes=taken.message_bytes,
        retained_replies=taken.retained_replies,
    )


def _version(host: Host, name: str, version: int) -> model_pb2.VersionSummary:
    served = host.models.ready.get((name, version))
    return model_pb2.VersionSummary(
        version=version,
        ready=served is not None,
        refused=host.models.refused.get((name, version), ""),
        sessions=host.sessions.count(served.number) if served else 0,
    )


def duration(length_seconds: float) -> Duration:
    """Returns seconds as a duration."""
    made = Duration()
    made.FromNanoseconds(round(length_seconds * 1e9))
    return made


def _named(
    tensors: Iterable[tensor_pb2.Tensor],
    field: str,
    session_id: str = "",
    only_input: Callable[[str], str | None] = lambda _: None,
) -> dict[str, Array]:
    arrays: dict[str, Array] = {}
    for tensor in tensors:
        name = tensor.name or only_input(session_id) or UNNAMED
        if name in arrays:
            raise error(Reason.BAD_FIELD, f"{field}: {name!r} is there twice", field=field)
        arrays[name] = decode(tensor)
    return arrays


def _column(raw: bytes, field: str) -> NDArray[np.uint64]:
    if len(raw) % 8:
        raise error(Reason.BAD_FIELD, f"{field}: takes 8 bytes a row, not {len(raw)} bytes in all", field=field)
    return np.frombuffer(raw, "<u8")


def _spec(spec: ModelSpec) -> model_pb2.ModelSpec:
    message = model_pb2.ModelSpec(
        task=spec.task or "",
        inputs=[_tensor(tensor) for tensor in spec.inputs],
        outputs=[_tensor(tensor) for tensor in spec.outputs],
        constants=[_constant(constant) for constant in spec.constants],
        batch=spec.batch,
    )
    if spec.calendar:
        calendar = spec.calendar
        message.calendar.CopyFrom(
            model_pb2.Calendar(input=calendar.input, step_seconds=calendar.step_seconds, periods=calendar.periods)
        )
    if spec.vocabulary:
        vocabulary = spec.vocabulary
        message.vocabulary.CopyFrom(model_pb2.Vocabulary(characters=vocabulary.characters, bytes=vocabulary.bytes))
    return message


def _tensor(tensor: TensorSpec) -> model_pb2.TensorSpec:
    return model_pb2.TensorSpec(
        name=tensor.name,
        data_type=DATA_TYPES[tensor.dtype],  # type: ignore[arg-type]
        shape=tensor.shape,
        features=tensor.features,
        missing=[_MISSING[missing] for missing in tensor.missing],
        minimum=tensor.minimum,
        maximum=tensor.maximum,
        ahead=tensor.ahead,
    )


def _constant(constant: ConstantSpec) -> model_pb2.ConstantSpec:
    return model_pb2.ConstantSpec(
        name=constant.name,
        data_type=DATA_TYPES[constant.dtype],  # type: ignore[arg-type]
        shape=constant.shape,
        features=constant.features,
        required=constant.required,
        positive=constant.positive,
    )
