from statewise.v1 import tensor_pb2 as _tensor_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Snapshot(_message.Message):
    __slots__ = ("model", "version", "model_digest", "spec_digest", "session_id", "position", "epoch", "states", "replies", "terms", "outputs")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    MODEL_DIGEST_FIELD_NUMBER: _ClassVar[int]
    SPEC_DIGEST_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    STATES_FIELD_NUMBER: _ClassVar[int]
    REPLIES_FIELD_NUMBER: _ClassVar[int]
    TERMS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: int
    model_digest: str
    spec_digest: str
    session_id: str
    position: int
    epoch: Epoch
    states: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.Tensor]
    replies: Replies
    terms: Terms
    outputs: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.Tensor]
    def __init__(self, model: _Optional[str] = ..., version: _Optional[int] = ..., model_digest: _Optional[str] = ..., spec_digest: _Optional[str] = ..., session_id: _Optional[str] = ..., position: _Optional[int] = ..., epoch: _Optional[_Union[Epoch, _Mapping]] = ..., states: _Optional[_Iterable[_Union[_tensor_pb2.Tensor, _Mapping]]] = ..., replies: _Optional[_Union[Replies, _Mapping]] = ..., terms: _Optional[_Union[Terms, _Mapping]] = ..., outputs: _Optional[_Iterable[_Union[_tensor_pb2.Tensor, _Mapping]]] = ...) -> None: ...

class Epoch(_message.Message):
    __slots__ = ("counter", "random")
    COUNTER_FIELD_NUMBER: _ClassVar[int]
    RANDOM_FIELD_NUMBER: _ClassVar[int]
    counter: int
    random: int
    def __init__(self, counter: _Optional[int] = ..., random: _Optional[int] = ...) -> None: ...

class Replies(_message.Message):
    __slots__ = ("starts", "timesteps", "digests", "lengths")
    STARTS_FIELD_NUMBER: _ClassVar[int]
    TIMESTEPS_FIELD_NUMBER: _ClassVar[int]
    DIGESTS_FIELD_NUMBER: _ClassVar[int]
    LENGTHS_FIELD_NUMBER: _ClassVar[int]
    starts: _containers.RepeatedScalarFieldContainer[int]
    timesteps: _containers.RepeatedScalarFieldContainer[int]
    digests: _containers.RepeatedScalarFieldContainer[int]
    lengths: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, starts: _Optional[_Iterable[int]] = ..., timesteps: _Optional[_Iterable[int]] = ..., digests: _Optional[_Iterable[int]] = ..., lengths: _Optional[_Iterable[int]] = ...) -> None: ...

class Terms(_message.Message):
    __slots__ = ("idle_timeout_seconds", "retained_replies", "durability", "checkpoint_every", "open_token", "number")
    IDLE_TIMEOUT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    RETAINED_REPLIES_FIELD_NUMBER: _ClassVar[int]
    DURABILITY_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_EVERY_FIELD_NUMBER: _ClassVar[int]
    OPEN_TOKEN_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    idle_timeout_seconds: float
    retained_replies: int
    durability: int
    checkpoint_every: int
    open_token: bytes
    number: int
    def __init__(self, idle_timeout_seconds: _Optional[float] = ..., retained_replies: _Optional[int] = ..., durability: _Optional[int] = ..., checkpoint_every: _Optional[int] = ..., open_token: _Optional[bytes] = ..., number: _Optional[int] = ...) -> None: ...

class Sealed(_message.Message):
    __slots__ = ("key_id", "session_id", "nonce", "data")
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    key_id: str
    session_id: str
    nonce: bytes
    data: bytes
    def __init__(self, key_id: _Optional[str] = ..., session_id: _Optional[str] = ..., nonce: _Optional[bytes] = ..., data: _Optional[bytes] = ...) -> None: ...
