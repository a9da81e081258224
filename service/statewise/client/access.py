"""How a client reaches a server: plaintext or TLS, the key that it shows, and the key by which a router chooses the replica."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from statewise.access import HEADER, SCHEME, is_local
from statewise.errors import Reason, error

ROUTING_HEADER = "x-session-id"
CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.keepalive_time_ms", 30_000),  # a server whose machine vanished is noticed
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
)
Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Access:
    """What a client was told of the way to its server.

    Attributes:
        address: `host:port`.
        tls: speak TLS; the authorities are those of `tls_ca`, without it those that gRPC brings.
        tls_ca: certificates in PEM; implies `tls`.
        tls_certificate: what the client shows of itself, with `tls_key`, where the server asks for it.
        bearer_key: what the client shows on every call; sent in plaintext to this machine alone.
        routing_key: travels as `x-session-id`: a router brings all calls of one key to one replica.

    Raises:
        InvalidInput: these do not go together.
    """

    address: str
    tls: bool = False
    tls_ca: str | Path | None = None
    tls_certificate: str | Path | None = None
    tls_key: str | Path | None = None
    bearer_key: str = field(default="", repr=False)
    routing_key: str | None = None

    def __post_init__(self) -> None:
        if self.bearer_key and not self.encrypted and not self._local:
            raise error(
                Reason.BAD_FIELD,
                f"bearer_key: is sent to {self.address} over TLS only: give tls_ca, or tls=True",
                field="bearer_key",
            )
        if bool(self.tls_certificate) != bool(self.tls_key):
            raise error(Reason.BAD_FIELD, "tls_key: takes tls_certificate beside it, and the other way round", field="tls_key")
        if self.tls_certificate and not self.encrypted:
            raise error(Reason.BAD_FIELD, "tls_certificate: takes tls_ca, or tls=True", field="tls_certificate")

    @property
    def encrypted(self) -> bool:
        """Whether the client speaks TLS."""
        return self.tls or self.tls_ca is not None

    def channel(self, library: Any) -> Any:
        """Returns a channel of `grpc` or of `grpc.aio`; raises `InvalidInput` for a file that cannot be read."""
        if not self.encrypted:
            return library.insecure_channel(self.address, options=CHANNEL_OPTIONS)
        pair = (_bytes("tls_key", self.tls_key), _bytes("tls_certificate", self.tls_certificate))
        credentials = grpc.ssl_channel_credentials(_bytes("tls_ca", self.tls_ca), *pair)
        return library.secure_channel(self.address, credentials, options=CHANNEL_OPTIONS)

    def metadata(self) -> Metadata:
        """Returns what travels with every call; without a routing key, one that no other client has."""
        routing = ((ROUTING_HEADER, self.routing_key or secrets.token_hex(16)),)
        return (*routing, (HEADER, SCHEME + self.bearer_key)) if self.bearer_key else routing

    @property
    def _local(self) -> bool:
        return self.address.startswith("unix:") or is_local(self.address.rpartition(":")[0])


def _bytes(name: str, file: str | Path | None) -> bytes | None:
    if file is None:
        return None
    try:
        return Path(file).read_bytes()
    except OSError as problem:
        raise error(Reason.BAD_FIELD, f"{name}: cannot read {file}: {problem.strerror}", field=name) from problem
