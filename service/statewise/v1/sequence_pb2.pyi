import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.rpc import status_pb2 as _status_pb2
from statewise.v1 import model_pb2 as _model_pb2
from statewise.v1 import tensor_pb2 as _tensor_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class OutputTimesteps(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OUTPUT_TIMESTEPS_UNSPECIFIED: _ClassVar[OutputTimesteps]
    OUTPUT_TIMESTEPS_ALL: _ClassVar[OutputTimesteps]
    OUTPUT_TIMESTEPS_LAST: _ClassVar[OutputTimesteps]
OUTPUT_TIMESTEPS_UNSPECIFIED: OutputTimesteps
OUTPUT_TIMESTEPS_ALL: OutputTimesteps
OUTPUT_TIMESTEPS_LAST: OutputTimesteps

class OpenSessionRequest(_message.Message):
    __slots__ = ("model", "version", "session_id", "idle_timeout")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    IDLE_TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: int
    session_id: str
    idle_timeout: _duration_pb2.Duration
    def __init__(self, model: _Optional[str] = ..., version: _Optional[int] = ..., session_id: _Optional[str] = ..., idle_timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class OpenSessionResponse(_message.Message):
    __slots__ = ("session_id", "model", "position", "idle_timeout", "server_instance")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    IDLE_TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    SERVER_INSTANCE_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    model: _model_pb2.Model
    position: int
    idle_timeout: _duration_pb2.Duration
    server_instance: str
    def __init__(self, session_id: _Optional[str] = ..., model: _Optional[_Union[_model_pb2.Model, _Mapping]] = ..., position: _Optional[int] = ..., idle_timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., server_instance: _Optional[str] = ...) -> None: ...

class CloseSessionRequest(_message.Message):
    __slots__ = ("session_id",)
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    def __init__(self, session_id: _Optional[str] = ...) -> None: ...

class CloseSessionResponse(_message.Message):
    __slots__ = ("closed", "position")
    CLOSED_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    closed: bool
    position: int
    def __init__(self, closed: _Optional[bool] = ..., position: _Optional[int] = ...) -> None: ...

class StepRequest(_message.Message):
    __slots__ = ("request_id", "session_id", "position", "timeout", "inputs", "output_timesteps")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TIMESTEPS_FIELD_NUMBER: _ClassVar[int]
    request_id: int
    session_id: str
    position: int
    timeout: _duration_pb2.Duration
    inputs: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.Tensor]
    output_timesteps: OutputTimesteps
    def __init__(self, request_id: _Optional[int] = ..., session_id: _Optional[str] = ..., position: _Optional[int] = ..., timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., inputs: _Optional[_Iterable[_Union[_tensor_pb2.Tensor, _Mapping]]] = ..., output_timesteps: _Optional[_Union[OutputTimesteps, str]] = ...) -> None: ...

class StepResponse(_message.Message):
    __slots__ = ("request_id", "session_id", "position", "outputs", "error")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    request_id: int
    session_id: str
    position: int
    outputs: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.Tensor]
    error: _status_pb2.Status
    def __init__(self, request_id: _Optional[int] = ..., session_id: _Optional[str] = ..., position: _Optional[int] = ..., outputs: _Optional[_Iterable[_Union[_tensor_pb2.Tensor, _Mapping]]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...
