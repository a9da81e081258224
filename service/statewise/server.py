"""The server's life: start (load, bind), serve until told to stop, drain.

Not ready → refuse new work → let pending steps finish → end the streams → stop. A second signal ends it at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIServer

import grpc
import prometheus_client
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from statewise.access import AccessError
from statewise.config import ServeSettings
from statewise.durability import Durability, Keeping
from statewise.host import Durably, Host
from statewise.inference import open_inference_pb2, open_inference_pb2_grpc
from statewise.metrics import ServerMetrics
from statewise.probes import with_health
from statewise.repository import Repository
from statewise.rpc.certificates import server_credentials
from statewise.rpc.counted import CountCalls, methods
from statewise.rpc.inference.servicer import InferenceServicer
from statewise.rpc.keys import BearerKeys
from statewise.rpc.servicer import ModelServicer, SequenceServicer
from statewise.runtime import USUAL_BATCH, choose_provider, has_gpu
from statewise.sealing import KeyFilesError, Sealer
from statewise.stores import Store, StoreError
from statewise.stores.address import is_file, sqlite_file
from statewise.stores.opening import open_store
from statewise.tracing import StepTraces, exported
from statewise.v1 import model_pb2, model_pb2_grpc, sequence_pb2, sequence_pb2_grpc

if TYPE_CHECKING:
    from statewise.console import Console

SERVICES = (
    sequence_pb2.DESCRIPTOR.services_by_name["SequenceService"].full_name,
    model_pb2.DESCRIPTOR.services_by_name["ModelService"].full_name,
    open_inference_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name,
)
LIVENESS = "liveness"
"""The name by which `grpc.health.v1` says that the event loop turns: SERVING to the end, also while the server drains."""
CALLS_WAITING = 20_000
SWITCH_SECONDS = 2e-4
"""How long the loop waits for a thread that computes in Python, such as the one that seals snapshots; Python's own is 5 ms."""
EXIT_OK, EXIT_FORCED, EXIT_ENGINE_DIED = 0, 1, 70
log = structlog.get_logger()


class StartError(Exception):
    """The server cannot start; the message says why and is meant for the person who started it."""


class Server:
    """One server process: a host of sessions behind gRPC, metrics on a port of their own, and a console where one is asked for.

    Attributes:
        address: where gRPC listens, once started.
        health_address: where health alone is told, once started; empty if nowhere.
        metrics_address: where Prometheus finds the metrics, once started.
        console: a page about the server; `None` unless the settings name an address for it.
    """

    def __init__(self, settings: ServeSettings, metrics: ServerMetrics | None = None) -> None:
        self.settings = settings
        self.address = ""
        self.health_address = ""
        self.metrics_address = ""
        registry = prometheus_client.CollectorRegistry()
        prometheus_client.ProcessCollector(registry=registry)
        prometheus_client.PlatformCollector(registry=registry)
        prometheus_client.GCCollector(registry=registry)
        self.metrics = metrics or ServerMetrics(registry)
        provider = choose_provider(settings.provider)
        self.metrics.provider_fell_back.set(settings.provider != "cpu" and provider == "CPUExecutionProvider" and has_gpu())
        self._store = _store(settings)
        self.host = Host(
            Repository(settings.repository),
            settings.limits(USUAL_BATCH[provider]),
            provider,
            self.metrics,
            settings.threads,
            durably=Durably(
                self._store,
                _sealer(settings),
                Keeping(Durability[settings.durability.upper()], settings.checkpoint_every),
                settings.store_patience_seconds,
                settings.rebalance_above,
                settings.rebalance_rate,
            ),
        )
        self.host.batcher.answering.traces = _traces(settings)
        self._servicer = SequenceServicer(self.host, snapshots=settings.unsealed_snapshots)
        self._inference = InferenceServicer(self.host, model_control=settings.model_control)
        self._started = False
        self._health = health.aio.HealthServicer()
        self._grpc: grpc.aio.Server | None = None
        self._probed: grpc.aio.Server | None = None
        self._metrics_server: tuple[WSGIServer, threading.Thread] | None = None
        self._keys: BearerKeys | None = None
        self.console = self._console() if settings.console_listen else None

    async def start(self) -> None:
        """Loads the models and binds both ports; raises `StartError`."""
        if not self.settings.repository.is_dir():
            raise StartError(f"the repository {self.settings.repository} is not a folder: train a model first, or name another")
        await self._connect()
        self._bind_metrics()
        self._grpc = self._made()
        self._probed = self._made_for_probes()
        await self.host.start()
        if self.host.models.refused and not self.host.models.ready:
            raise StartError("; ".join(f"{model}: {why}" for (model, _), why in self.host.models.refused.items()))
        await self._grpc.start()
        if self._probed:
            await self._probed.start()
        if self.console:
            await self._start(self.console)
        gc.collect()
        gc.freeze()  # what is there now stays; the collector need not look at it again and again
        self._started = True
        for service in (LIVENESS, "", *SERVICES):
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)
        self.metrics.ready.set(1)

    async def drain(self) -> None:
        """Says that it is not ready, refuses new work after a pause, lets pending steps finish in their time, and stops."""
        assert self._grpc
        self.metrics.ready.set(0)
        for service in ("", *SERVICES):
            await self._health.set(service, health_pb2.HealthCheckResponse.NOT_SERVING)
        await asyncio.sleep(self.settings.drain_pause_seconds)
        await self.host.drain(self.settings.drain_seconds)
        self._servicer.end_streams()
        self._inference.end_streams()
        await self._grpc.stop(1.0)
        await self.stop()

    async def stop(self) -> None:
        """Ends at once."""
        for server in (self._grpc, self._probed):
            if server:
                await server.stop(None)
        if self.console:
            await self.console.stop()
        await self.host.stop()
        if self._store:
            await self._store.close()
            self._store = None
        if self.host.batcher.answering.traces:
            await asyncio.to_thread(self.host.batcher.answering.traces.shutdown)
            self.host.batcher.answering.traces = None
        if self._metrics_server:
            metrics, thread = self._metrics_server
            self._metrics_server = None
            await asyncio.to_thread(metrics.shutdown)
            metrics.server_close()
            thread.join()

    async def _connect(self) -> None:
        if self._store:
            try:
                await self._store.start()
            except StoreError as problem:
                raise StartError(f"--store: {problem}") from problem

    def _made(self) -> grpc.aio.Server:
        size = self.settings.max_message_bytes
        options = [
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", size),
            ("grpc.max_send_message_length", -1),
            ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.keepalive_time_ms", 30_000),  # a client whose machine vanished is noticed, and its steps are dropped
            ("grpc.keepalive_timeout_ms", 10_000),
            # Calls that the loop has not come to yet; with the defaults, of 1,500 opened at once some were cancelled.
            ("grpc.server.max_pending_requests", CALLS_WAITING),
            ("grpc.server.max_pending_requests_hard_limit", CALLS_WAITING),
        ]
        settings = self.settings
        try:
            self._keys = BearerKeys(settings.bearer_key_file) if settings.bearer_key_file else None
            credentials = _credentials(settings)
        except AccessError as problem:
            raise StartError(str(problem)) from problem
        counted = CountCalls(self.metrics.calls)
        server = grpc.aio.server(options=options, interceptors=[counted, self._keys] if self._keys else [counted])
        for file in (sequence_pb2, model_pb2, open_inference_pb2):
            for service in file.DESCRIPTOR.services_by_name.values():
                for method in methods(service):
                    self.metrics.calls.know(*method)
        sequence_pb2_grpc.add_SequenceServiceServicer_to_server(self._servicer, server)  # type: ignore[no-untyped-call]
        model_pb2_grpc.add_ModelServiceServicer_to_server(ModelServicer(self.host), server)  # type: ignore[no-untyped-call]
        open_inference_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self._inference, server)  # type: ignore[no-untyped-call]
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        if settings.reflection:
            reflection.enable_server_reflection((*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
        self.address = _bound(server, settings.listen, credentials)
        return server

    def _made_for_probes(self) -> grpc.aio.Server | None:
        """Returns a server of health alone: Kubernetes' probes speak no TLS, and bring no key."""
        if not self.settings.health_listen:
            return None
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        self.health_address = _bound(server, self.settings.health_listen, None)
        return server

    def _console(self) -> Console:
        from statewise.console import Addresses, Console  # an extra of its own

        def addresses() -> Addresses:
            return Addresses(self.address, self.metrics_address)

        def admits(key: str) -> bool:
            return self._keys is None or self._keys.knows(key)

        closed = admits if self.settings.bearer_key_file else None
        return Console(self.host, self.metrics.registry, self.settings.console_listen, addresses, closed)

    async def _start(self, console: Console) -> None:
        try:
            await console.start()
        except OSError as error:
            raise StartError(f"cannot listen on {self.settings.console_listen} for the console: {error.strerror}") from error

    def _bind_metrics(self) -> None:
        host, _, port = self.settings.metrics_listen.rpartition(":")
        try:
            self._metrics_server = prometheus_client.start_http_server(int(port), host.strip("[]"), self.metrics.registry)
        except OSError as error:
            raise StartError(f"cannot listen on {self.settings.metrics_listen} for metrics: {error.strerror}") from error
        pages = self._metrics_server[0]
        metrics = pages.get_app()
        assert metrics
        pages.set_app(with_health(metrics, lambda: self._started and self.host.accepts))
        self.metrics_address = f"{host}:{self._metrics_server[0].server_port}"


def _store(settings: ServeSettings) -> Store | None:
    if not settings.store:
        return None
    try:
        password = settings.store_password_file.read_text("utf-8").strip() if settings.store_password_file else None
    except OSError as problem:
        raise StartError(f"--store-password-file: {problem.filename}: {problem.strerror}") from problem
    return open_store(settings.store, password, settings.store_timeout_seconds)


def _sealer(settings: ServeSettings) -> Sealer | None:
    """Returns what seals snapshots. A file's key lies beside it, made with it: it holds damage off, and who has not that key."""
    option = "--seal-keys" if settings.seal_keys else "--store"
    try:
        if settings.seal_keys:
            return Sealer.of_files(settings.seal_keys)
        if is_file(settings.store):
            file = sqlite_file(settings.store)
            return Sealer.of_its_own(file.with_name(f"{file.name}.key"))
    except KeyFilesError as problem:
        raise StartError(f"{option}: {problem}") from problem
    return None


def _credentials(settings: ServeSettings) -> grpc.ServerCredentials | None:
    """Returns the credentials that settings name; raises `AccessError`."""
    if not (settings.tls_certificate and settings.tls_key):
        return None
    return server_credentials(settings.tls_certificate, settings.tls_key, settings.tls_client_ca)


def _bound(server: grpc.aio.Server, listen: str, credentials: grpc.ServerCredentials | None) -> str:
    """Binds HOST:PORT and returns it with the port that was found; raises `StartError`."""
    try:
        port = server.add_secure_port(listen, credentials) if credentials else server.add_insecure_port(listen)
    except RuntimeError as error:
        raise StartError(f"cannot listen on {listen}: is the port taken, or the address not of this host?") from error
    return f"{listen.rpartition(':')[0]}:{port}"


def _traces(settings: ServeSettings) -> StepTraces | None:
    if not settings.trace_to:
        return None
    try:
        return exported(settings.trace_to, settings.trace_share)
    except ModuleNotFoundError as missing:
        raise StartError(f"--trace-to needs statewise[otel]: pip install 'statewise[otel]' ({missing.name} is missing)") from None


async def serve(settings: ServeSettings, announce: Callable[[Server], None], server: Server | None = None) -> int:
    """Runs a server until SIGTERM or SIGINT, or until its engine dies, and returns the process's exit status."""
    sys.setswitchinterval(SWITCH_SECONDS)
    _allow_files()
    server = server or Server(settings)
    stop = asyncio.Event()
    _catch_signals(stop)
    try:
        await server.start()
        announce(server)
        waits = {asyncio.create_task(event.wait()) for event in (stop, server.host.failed)}
        _, others = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for other in others:
            other.cancel()
        if server.host.failed.is_set():
            return EXIT_ENGINE_DIED
        log.info("draining")
        await server.drain()
        log.info("stopped")
        return EXIT_OK
    finally:
        await server.stop()


def _allow_files() -> None:
    """Lets the process open as many files as it may: connections are files, and CUDA opens some for each model.

    Systemd and others start processes with 1,024, of which they may make what the hard limit says.
    """
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource  # not on Windows

        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _catch_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()

    def caught() -> None:
        if stop.is_set():
            os._exit(EXIT_FORCED)  # nothing is waited for, not even a run of the engine that may never end
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError):  # Windows
            loop.add_signal_handler(number, caught)
