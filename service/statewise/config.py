"""The server's settings: parsed once, from options or the environment (`STATEWISE_…`), and rejected loudly."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from statewise.access import is_local
from statewise.stores.address import check, leaves_the_machine

Provider = Literal["auto", "cpu", "cuda"]
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["auto", "json", "pretty"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one server takes on. Past a limit it refuses with OVERLOADED, or BAD_FIELD where a request can never fit.

    Attributes:
        sessions: open at once.
        pending_steps: admitted and not yet answered, of all sessions.
        pending_bytes: of the inputs of these.
        timesteps: of one step.
        batch: steps of one engine run.
        frame_rows: of one frame.
        retained_replies: the most that a session may ask for.
        reply_bytes: of retained replies longer than a timestep, of all sessions.
        memory_bytes: of models and the states that they reserve; 0 is no limit.
        idle_timeout_seconds: of a session whose Open names none.
        longest_idle_timeout_seconds: the most that an Open may ask for.
        store_line: snapshots that wait for the store; 0 where there is none.
    """

    sessions: int = 10_000
    pending_steps: int = 20_000
    pending_bytes: int = 512 * 1024 * 1024
    timesteps: int = 4_096
    batch: int = 256
    frame_rows: int = 4_096
    retained_replies: int = 16
    reply_bytes: int = 256 * 1024 * 1024
    memory_bytes: int = 0
    message_bytes: int = 4 * 1024 * 1024
    idle_timeout_seconds: float = 600.0
    longest_idle_timeout_seconds: float = 86_400.0
    store_line: int = 0


class ServeSettings(BaseSettings):
    """Everything that `statewise serve` can be told; every field is an option and an environment variable."""

    model_config = SettingsConfigDict(env_prefix="STATEWISE_", extra="ignore", frozen=True)

    repository: Path = Path("var/repository")
    listen: str = "127.0.0.1:8001"
    metrics_listen: str = "127.0.0.1:8002"
    health_listen: str = ""
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    bearer_key_file: Path | None = None
    insecure: bool = False
    console_listen: str = ""
    provider: Provider = "auto"
    threads: int = Field(1, ge=1, le=256, description="threads of one engine run")
    reflection: bool = False
    max_sessions: int = Field(10_000, ge=1, le=10_000_000)
    max_pending_steps: int = Field(20_000, ge=1)
    max_timesteps: int = Field(4_096, ge=1)
    max_batch: int | None = Field(None, ge=1, le=4_096, description="steps of one engine run; what suits the provider unless given")
    max_message_bytes: int = Field(4 * 1024 * 1024, ge=1024, le=2**31 - 1)
    memory_bytes: int = Field(0, ge=0)
    unsealed_snapshots: bool = False
    seal_keys: Path | None = None
    store: str = ""
    store_password_file: Path | None = None
    store_timeout_seconds: float = Field(2.0, gt=0, le=60)
    store_patience_seconds: float = Field(5.0, ge=0, le=600)
    durability: Literal["memory", "checkpoint", "commit"] = "memory"
    checkpoint_every: int = Field(64, ge=1, le=1_000_000)
    replicas: int = Field(1, ge=1, le=10_000)
    sessions_end_with_replica: bool = False
    rebalance_above: int = Field(0, ge=0)
    rebalance_rate: float = Field(10.0, gt=0, le=10_000)
    model_control: bool = False
    idle_timeout_seconds: float = Field(600.0, gt=0, le=86_400)
    drain_seconds: float = Field(30.0, ge=0)
    drain_pause_seconds: float = Field(0.0, ge=0, le=600)
    trace_to: str = ""
    trace_share: float = Field(0.001, ge=0, le=1)
    log_level: LogLevel = "info"
    log_format: LogFormat = "auto"

    @field_validator("listen", "metrics_listen", "health_listen", "console_listen", "trace_to")
    @classmethod
    def _address(cls, value: str, field: ValidationInfo) -> str:
        if not value and field.field_name not in ("listen", "metrics_listen"):
            return value
        host, colon, port = value.rpartition(":")
        if not (host and colon and port.isdigit() and int(port) < 65_536):
            raise ValueError("takes HOST:PORT, such as 127.0.0.1:8001; port 0 picks a free one")
        return value

    @field_validator("store")
    @classmethod
    def _store(cls, value: str) -> str:
        if value:
            check(value)
        return value

    @model_validator(mode="after")
    def _kept(self) -> Self:
        """Refuses durability that has no store, and a store in the network that would be handed sessions in the clear."""
        if self.durability != "memory" and not self.store:
            raise ValueError(f"--durability {self.durability} takes a --store beside it, such as sqlite:var/sessions.db")
        if leaves_the_machine(self.store) and not self.seal_keys:
            raise ValueError(
                "--store in Redis takes --seal-keys beside it: what is kept there is sealed (openssl rand -hex 32 > FOLDER/1)"
            )
        return self

    @model_validator(mode="after")
    def _access(self) -> Self:
        """Refuses half a certificate, and to be open to a network without TLS and a way to know who calls."""
        if bool(self.tls_certificate) != bool(self.tls_key):
            raise ValueError("--tls-certificate and --tls-key take a file each, or neither is given")
        if self.tls_client_ca and not self.tls_certificate:
            raise ValueError("--tls-client-ca takes --tls-certificate and --tls-key beside it")
        closed = self.tls_certificate and (self.bearer_key_file or self.tls_client_ca)
        if not (closed or self.insecure or is_local(self.listen.rpartition(":")[0])):
            needed = "--tls-certificate, --tls-key and --bearer-key-file (or --tls-client-ca)"
            raise ValueError(
                f"--listen {self.listen} is open to the network: give {needed}, or --insecure if all in it may be trusted"
            )
        if self.console_listen and not (self.insecure or is_local(self.console_listen.rpartition(":")[0])):
            raise ValueError(f"--console-listen {self.console_listen} is open to the network without TLS: give --insecure too")
        return self

    @model_validator(mode="after")
    def _shared(self) -> Self:
        """Refuses replicas of which none can go on with what another has, and to hand over what nobody could take."""
        if leaves_the_machine(self.store):
            return self
        if self.replicas > 1 and not self.sessions_end_with_replica:
            raise ValueError(
                f"--replicas {self.replicas} takes a --store that all of them share (redis://… or rediss://…), or "
                "--sessions-end-with-replica if sessions may be lost whenever a replica goes or a router sends them elsewhere"
            )
        if self.rebalance_above:
            raise ValueError("--rebalance-above takes a --store that other replicas share: redis://… or rediss://…")
        return self

    def limits(self, usual_batch: int) -> Limits:
        """Returns the limits that these settings ask for, with batches of the usual size unless they name another."""
        return Limits(
            sessions=self.max_sessions,
            pending_steps=self.max_pending_steps,
            timesteps=self.max_timesteps,
            batch=self.max_batch or usual_batch,
            memory_bytes=self.memory_bytes,
            message_bytes=self.max_message_bytes,
            idle_timeout_seconds=self.idle_timeout_seconds,
        )
