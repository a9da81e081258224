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

class OpenMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OPEN_MODE_UNSPECIFIED: _ClassVar[OpenMode]
    OPEN_MODE_CREATE: _ClassVar[OpenMode]
    OPEN_MODE_RESUME: _ClassVar[OpenMode]
    OPEN_MODE_CREATE_OR_RESUME: _ClassVar[OpenMode]
    OPEN_MODE_RESTART: _ClassVar[OpenMode]

class Durability(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DURABILITY_UNSPECIFIED: _ClassVar[Durability]
    DURABILITY_MEMORY: _ClassVar[Durability]
    DURABILITY_CHECKPOINT: _ClassVar[Durability]
    DURABILITY_COMMIT: _ClassVar[Durability]

class OutputTimesteps(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OUTPUT_TIMESTEPS_UNSPECIFIED: _ClassVar[OutputTimesteps]
    OUTPUT_TIMESTEPS_ALL: _ClassVar[OutputTimesteps]
    OUTPUT_TIMESTEPS_LAST: _ClassVar[OutputTimesteps]
OPEN_MODE_UNSPECIFIED: OpenMode
OPEN_MODE_CREATE: OpenMode
OPEN_MODE_RESUME: OpenMode
OPEN_MODE_CREATE_OR_RESUME: OpenMode
OPEN_MODE_RESTART: OpenMode
DURABILITY_UNSPECIFIED: Durability
DURABILITY_MEMORY: Durability
DURABILITY_CHECKPOINT: Durability
DURABILITY_COMMIT: Durability
OUTPUT_TIMESTEPS_UNSPECIFIED: OutputTimesteps
OUTPUT_TIMESTEPS_ALL: OutputTimesteps
OUTPUT_TIMESTEPS_LAST: OutputTimesteps

class OpenSessionRequest(_message.Message):
    __slots__ = ("model", "version", "session_id", "idle_timeout", "mode", "retained_replies", "open_token", "snapshot", "server_instance", "constants", "durability", "checkpoint_every", "durable_position")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    IDLE_TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    RETAINED_REPLIES_FIELD_NUMBER: _ClassVar[int]
    OPEN_TOKEN_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    SERVER_INSTANCE_FIELD_NUMBER: _ClassVar[int]
    CONSTANTS_FIELD_NUMBER: _ClassVar[int]
    DURABILITY_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_EVERY_FIELD_NUMBER: _ClassVar[int]
    DURABLE_POSITION_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: int
    session_id: str
    idle_timeout: _duration_pb2.Duration
    mode: OpenMode
    retained_replies: int
    open_token: bytes
    snapshot: bytes
    server_instance: str
    constants: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.Tensor]
    durability: Durability
    checkpoint_every: int
    durable_position: int
    def __init__(self, model: _Optional[str] = ..., version: _Optional[int] = ..., session_id: _Optional[str] = ..., idle_timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., mode: _Optional[_Union[OpenMode, str]] = ..., retained_replies: _Optional[int] = ..., open_token: _Optional[bytes] = ..., snapshot: _Optional[bytes] = ..., server_instance: _Optional[str] = ..., constants: _Optional[_Iterable[_Union[_tensor_pb2.Tensor, _Mapping]]] = ..., durability: _Optional[_Union[Durability, str]] = ..., checkpoint_every: _Optional[int] = ..., durable_position: _Optional[int] = ...) -> None: ...

class OpenSessionResponse(_message.Message):
    __slots__ = ("session_id", "model", "position", "idle_timeout", "server_instance", "handle", "retained_replies", "resumed", "durability", "checkpoint_every", "durable_position")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    IDLE_TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    SERVER_INSTANCE_FIELD_NUMBER: _ClassVar[int]
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    RETAINED_REPLIES_FIELD_NUMBER: _ClassVar[int]
    RESUMED_FIELD_NUMBER: _ClassVar[int]
    DURABILITY_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_EVERY_FIELD_NUMBER: _ClassVar[int]
    DURABLE_POSITION_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    model: _model_pb2.Model
    position: int
    idle_timeout: _duration_pb2.Duration
    server_instance: str
    handle: int
    retained_replies: int
    resumed: bool
    durability: Durability
    checkpoint_every: int
    durable_position: int
    def __init__(self, session_id: _Optional[str] = ..., model: _Optional[_Union[_model_pb2.Model, _Mapping]] = ..., position: _Optional[int] = ..., idle_timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., server_instance: _Optional[str] = ..., handle: _Optional[int] = ..., retained_replies: _Optional[int] = ..., resumed: _Optional[bool] = ..., durability: _Optional[_Union[Durability, str]] = ..., checkpoint_every: _Optional[int] = ..., durable_position: _Optional[int] = ...) -> None: ...

class GetSessionRequest(_message.Message):
    __slots__ = ("session_id",)
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    def __init__(self, session_id: _Optional[str] = ...) -> None: ...

class GetSessionResponse(_message.Message):
    __slots__ = ("model", "position", "tail", "pending", "idle", "retiring", "durable_position")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    TAIL_FIELD_NUMBER: _ClassVar[int]
    PENDING_FIELD_NUMBER: _ClassVar[int]
    IDLE_FIELD_NUMBER: _ClassVar[int]
    RETIRING_FIELD_NUMBER: _ClassVar[int]
    DURABLE_POSITION_FIELD_NUMBER: _ClassVar[int]
    model: _model_pb2.Model
    position: int
    tail: int
    pending: int
    idle: _duration_pb2.Duration
    retiring: bool
    durable_position: int
    def __init__(self, model: _Optional[_Union[_model_pb2.Model, _Mapping]] = ..., position: _Optional[int] = ..., tail: _Optional[int] = ..., pending: _Optional[int] = ..., idle: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., retiring: _Optional[bool] = ..., durable_position: _Optional[int] = ...) -> None: ...

class ForkSessionRequest(_message.Message):
    __slots__ = ("session_id", "new_session_id", "open_token")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    NEW_SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    OPEN_TOKEN_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    new_session_id: str
    open_token: bytes
    def __init__(self, session_id: _Optional[str] = ..., new_session_id: _Optional[str] = ..., open_token: _Optional[bytes] = ...) -> None: ...

class ForkSessionResponse(_message.Message):
    __slots__ = ("session",)
    SESSION_FIELD_NUMBER: _ClassVar[int]
    session: OpenSessionResponse
    def __init__(self, session: _Optional[_Union[OpenSessionResponse, _Mapping]] = ...) -> None: ...

class SnapshotSessionRequest(_message.Message):
    __slots__ = ("session_id", "states")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    STATES_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    states: bool
    def __init__(self, session_id: _Optional[str] = ..., states: _Optional[bool] = ...) -> None: ...

class SnapshotSessionResponse(_message.Message):
    __slots__ = ("snapshot", "position", "states")
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    STATES_FIELD_NUMBER: _ClassVar[int]
    snapshot: bytes
    position: int
    states: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.Tensor]
    def __init__(self, snapshot: _Optional[bytes] = ..., position: _Optional[int] = ..., states: _Optional[_Iterable[_Union[_tensor_pb2.Tensor, _Mapping]]] = ...) -> None: ...

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
    __slots__ = ("request_id", "session_id", "position", "outputs", "error", "retiring", "durable_position")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    RETIRING_FIELD_NUMBER: _ClassVar[int]
    DURABLE_POSITION_FIELD_NUMBER: _ClassVar[int]
    request_id: int
    session_id: str
    position: int
    outputs: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.Tensor]
    error: _status_pb2.Status
    retiring: bool
    durable_position: int
    def __init__(self, request_id: _Optional[int] = ..., session_id: _Optional[str] = ..., position: _Optional[int] = ..., outputs: _Optional[_Iterable[_Union[_tensor_pb2.Tensor, _Mapping]]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., retiring: _Optional[bool] = ..., durable_position: _Optional[int] = ...) -> None: ...

class StepFrameRequest(_message.Message):
    __slots__ = ("request_id", "handles", "positions", "timeout", "inputs", "output_timesteps")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    HANDLES_FIELD_NUMBER: _ClassVar[int]
    POSITIONS_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TIMESTEPS_FIELD_NUMBER: _ClassVar[int]
    request_id: int
    handles: bytes
    positions: bytes
    timeout: _duration_pb2.Duration
    inputs: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.Tensor]
    output_timesteps: OutputTimesteps
    def __init__(self, request_id: _Optional[int] = ..., handles: _Optional[bytes] = ..., positions: _Optional[bytes] = ..., timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., inputs: _Optional[_Iterable[_Union[_tensor_pb2.Tensor, _Mapping]]] = ..., output_timesteps: _Optional[_Union[OutputTimesteps, str]] = ...) -> None: ...

class StepFrameResponse(_message.Message):
    __slots__ = ("request_id", "rows", "positions", "outputs", "errors", "retiring", "durable_positions")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    POSITIONS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    RETIRING_FIELD_NUMBER: _ClassVar[int]
    DURABLE_POSITIONS_FIELD_NUMBER: _ClassVar[int]
    request_id: int
    rows: bytes
    positions: bytes
    outputs: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.Tensor]
    errors: _containers.RepeatedCompositeFieldContainer[RowError]
    retiring: bool
    durable_positions: bytes
    def __init__(self, request_id: _Optional[int] = ..., rows: _Optional[bytes] = ..., positions: _Optional[bytes] = ..., outputs: _Optional[_Iterable[_Union[_tensor_pb2.Tensor, _Mapping]]] = ..., errors: _Optional[_Iterable[_Union[RowError, _Mapping]]] = ..., retiring: _Optional[bool] = ..., durable_positions: _Optional[bytes] = ...) -> None: ...

class RowError(_message.Message):
    __slots__ = ("row", "position", "error")
    ROW_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    row: int
    position: int
    error: _status_pb2.Status
    def __init__(self, row: _Optional[int] = ..., position: _Optional[int] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...
