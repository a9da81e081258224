from statewise.v1 import tensor_pb2 as _tensor_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Missing(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MISSING_UNSPECIFIED: _ClassVar[Missing]
    MISSING_REFUSE: _ClassVar[Missing]
    MISSING_MASK: _ClassVar[Missing]
MISSING_UNSPECIFIED: Missing
MISSING_REFUSE: Missing
MISSING_MASK: Missing

class ListModelsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models",)
    MODELS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[ModelSummary]
    def __init__(self, models: _Optional[_Iterable[_Union[ModelSummary, _Mapping]]] = ...) -> None: ...

class ModelSummary(_message.Message):
    __slots__ = ("name", "default_version", "canary_version", "canary_share", "versions")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_VERSION_FIELD_NUMBER: _ClassVar[int]
    CANARY_VERSION_FIELD_NUMBER: _ClassVar[int]
    CANARY_SHARE_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    name: str
    default_version: int
    canary_version: int
    canary_share: float
    versions: _containers.RepeatedCompositeFieldContainer[VersionSummary]
    def __init__(self, name: _Optional[str] = ..., default_version: _Optional[int] = ..., canary_version: _Optional[int] = ..., canary_share: _Optional[float] = ..., versions: _Optional[_Iterable[_Union[VersionSummary, _Mapping]]] = ...) -> None: ...

class VersionSummary(_message.Message):
    __slots__ = ("version", "ready", "refused", "sessions")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    version: int
    ready: bool
    refused: str
    sessions: int
    def __init__(self, version: _Optional[int] = ..., ready: _Optional[bool] = ..., refused: _Optional[str] = ..., sessions: _Optional[int] = ...) -> None: ...

class GetModelRequest(_message.Message):
    __slots__ = ("name", "version")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: int
    def __init__(self, name: _Optional[str] = ..., version: _Optional[int] = ...) -> None: ...

class GetModelResponse(_message.Message):
    __slots__ = ("model", "summary", "limits", "series")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    SERIES_FIELD_NUMBER: _ClassVar[int]
    model: Model
    summary: ModelSummary
    limits: Limits
    series: _containers.RepeatedCompositeFieldContainer[SeriesConstants]
    def __init__(self, model: _Optional[_Union[Model, _Mapping]] = ..., summary: _Optional[_Union[ModelSummary, _Mapping]] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., series: _Optional[_Iterable[_Union[SeriesConstants, _Mapping]]] = ...) -> None: ...

class SeriesConstants(_message.Message):
    __slots__ = ("series", "constants")
    SERIES_FIELD_NUMBER: _ClassVar[int]
    CONSTANTS_FIELD_NUMBER: _ClassVar[int]
    series: str
    constants: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.Tensor]
    def __init__(self, series: _Optional[str] = ..., constants: _Optional[_Iterable[_Union[_tensor_pb2.Tensor, _Mapping]]] = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("sessions", "pending_steps", "timesteps", "frame_rows", "message_bytes", "retained_replies")
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    PENDING_STEPS_FIELD_NUMBER: _ClassVar[int]
    TIMESTEPS_FIELD_NUMBER: _ClassVar[int]
    FRAME_ROWS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    RETAINED_REPLIES_FIELD_NUMBER: _ClassVar[int]
    sessions: int
    pending_steps: int
    timesteps: int
    frame_rows: int
    message_bytes: int
    retained_replies: int
    def __init__(self, sessions: _Optional[int] = ..., pending_steps: _Optional[int] = ..., timesteps: _Optional[int] = ..., frame_rows: _Optional[int] = ..., message_bytes: _Optional[int] = ..., retained_replies: _Optional[int] = ...) -> None: ...

class Model(_message.Message):
    __slots__ = ("name", "version", "spec", "digest")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: int
    spec: ModelSpec
    digest: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[int] = ..., spec: _Optional[_Union[ModelSpec, _Mapping]] = ..., digest: _Optional[str] = ...) -> None: ...

class ModelSpec(_message.Message):
    __slots__ = ("task", "inputs", "outputs", "calendar", "vocabulary", "constants", "batch")
    TASK_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    CALENDAR_FIELD_NUMBER: _ClassVar[int]
    VOCABULARY_FIELD_NUMBER: _ClassVar[int]
    CONSTANTS_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    task: str
    inputs: _containers.RepeatedCompositeFieldContainer[TensorSpec]
    outputs: _containers.RepeatedCompositeFieldContainer[TensorSpec]
    calendar: Calendar
    vocabulary: Vocabulary
    constants: _containers.RepeatedCompositeFieldContainer[ConstantSpec]
    batch: int
    def __init__(self, task: _Optional[str] = ..., inputs: _Optional[_Iterable[_Union[TensorSpec, _Mapping]]] = ..., outputs: _Optional[_Iterable[_Union[TensorSpec, _Mapping]]] = ..., calendar: _Optional[_Union[Calendar, _Mapping]] = ..., vocabulary: _Optional[_Union[Vocabulary, _Mapping]] = ..., constants: _Optional[_Iterable[_Union[ConstantSpec, _Mapping]]] = ..., batch: _Optional[int] = ...) -> None: ...

class ConstantSpec(_message.Message):
    __slots__ = ("name", "data_type", "shape", "features", "required", "positive")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DATA_TYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    REQUIRED_FIELD_NUMBER: _ClassVar[int]
    POSITIVE_FIELD_NUMBER: _ClassVar[int]
    name: str
    data_type: _tensor_pb2.DataType
    shape: _containers.RepeatedScalarFieldContainer[int]
    features: _containers.RepeatedScalarFieldContainer[str]
    required: bool
    positive: bool
    def __init__(self, name: _Optional[str] = ..., data_type: _Optional[_Union[_tensor_pb2.DataType, str]] = ..., shape: _Optional[_Iterable[int]] = ..., features: _Optional[_Iterable[str]] = ..., required: _Optional[bool] = ..., positive: _Optional[bool] = ...) -> None: ...

class TensorSpec(_message.Message):
    __slots__ = ("name", "data_type", "shape", "features", "missing", "minimum", "maximum", "ahead")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DATA_TYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    MINIMUM_FIELD_NUMBER: _ClassVar[int]
    MAXIMUM_FIELD_NUMBER: _ClassVar[int]
    AHEAD_FIELD_NUMBER: _ClassVar[int]
    name: str
    data_type: _tensor_pb2.DataType
    shape: _containers.RepeatedScalarFieldContainer[int]
    features: _containers.RepeatedScalarFieldContainer[str]
    missing: _containers.RepeatedScalarFieldContainer[Missing]
    minimum: int
    maximum: int
    ahead: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, name: _Optional[str] = ..., data_type: _Optional[_Union[_tensor_pb2.DataType, str]] = ..., shape: _Optional[_Iterable[int]] = ..., features: _Optional[_Iterable[str]] = ..., missing: _Optional[_Iterable[_Union[Missing, str]]] = ..., minimum: _Optional[int] = ..., maximum: _Optional[int] = ..., ahead: _Optional[_Iterable[int]] = ...) -> None: ...

class Calendar(_message.Message):
    __slots__ = ("input", "step_seconds", "periods")
    INPUT_FIELD_NUMBER: _ClassVar[int]
    STEP_SECONDS_FIELD_NUMBER: _ClassVar[int]
    PERIODS_FIELD_NUMBER: _ClassVar[int]
    input: str
    step_seconds: float
    periods: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, input: _Optional[str] = ..., step_seconds: _Optional[float] = ..., periods: _Optional[_Iterable[int]] = ...) -> None: ...

class Vocabulary(_message.Message):
    __slots__ = ("characters", "bytes")
    CHARACTERS_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    characters: _containers.RepeatedScalarFieldContainer[str]
    bytes: bool
    def __init__(self, characters: _Optional[_Iterable[str]] = ..., bytes: _Optional[bool] = ...) -> None: ...
