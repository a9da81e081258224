"""Messages of the native protocol ↔ the server's values."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration

from statewise.conversation import Closed, Opened, Reply, Step
from statewise.errors import Reason, error
from statewise.spec import ModelSpec, TensorSpec
from statewise.tensors import DATA_TYPES, decode, encode
from statewise.v1 import model_pb2, sequence_pb2

UNNAMED = "(a tensor without a name)"
"""No model has an input of that name, so the step is refused, after it is known whether the session exists."""

_MISSING = {"refuse": model_pb2.MISSING_REFUSE, "mask": model_pb2.MISSING_MASK}


def step(request: sequence_pb2.StepRequest, only_input: str | None) -> Step:
    """Returns the step that a message asks for; raises `InvalidInput` for tensors that cannot be read.

    Args:
        only_input: the name of the model's input where it has just one: a tensor without a name means that one.
    """
    inputs = {}
    for tensor in request.inputs:
        name = tensor.name or only_input or UNNAMED
        if name in inputs:
            raise error(Reason.BAD_FIELD, f"inputs: {name!r} is there twice", field="inputs")
        inputs[name] = decode(tensor)
    return Step(
        request.session_id,
        inputs,
        request.position if request.HasField("position") else None,
        seconds(request.timeout) if request.HasField("timeout") else None,
        request.output_timesteps == sequence_pb2.OUTPUT_TIMESTEPS_LAST,
    )


def seconds(duration: Duration) -> float:
    """Returns a duration in seconds; protobuf's own conversion refuses what is out of its range."""
    return duration.seconds + duration.nanos * 1e-9


def step_response(request: sequence_pb2.StepRequest, reply: Reply) -> sequence_pb2.StepResponse:
    """Returns the answer to a step that ran."""
    outputs = [encode(name, array) for name, array in reply.outputs.items()]
    return sequence_pb2.StepResponse(
        request_id=request.request_id, session_id=request.session_id, position=reply.position, outputs=outputs
    )


def open_response(opened: Opened, server_instance: str) -> sequence_pb2.OpenSessionResponse:
    """Returns the answer to an open."""
    timeout = Duration()
    timeout.FromNanoseconds(round(opened.idle_timeout_seconds * 1e9))
    return sequence_pb2.OpenSessionResponse(
        session_id=opened.session_id,
        model=model_pb2.Model(name=opened.model, version=opened.version, spec=_spec(opened.spec)),
        position=opened.position,
        idle_timeout=timeout,
        server_instance=server_instance,
    )


def close_response(closed: Closed) -> sequence_pb2.CloseSessionResponse:
    """Returns the answer to a close."""
    return sequence_pb2.CloseSessionResponse(closed=closed.closed, position=closed.position)


def _spec(spec: ModelSpec) -> model_pb2.ModelSpec:
    message = model_pb2.ModelSpec(
        task=spec.task or "",
        inputs=[_tensor(tensor) for tensor in spec.inputs],
        outputs=[_tensor(tensor) for tensor in spec.outputs],
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
    )
