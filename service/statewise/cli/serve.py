"""`statewise serve`."""

from __future__ import annotations

import asyncio
import logging
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from statewise.server import Server

EXIT_BAD_INPUT, EXIT_TROUBLE = 2, 1

# The help lists the options in these panels, in this order.
listening = partial(typer.Option, rich_help_panel="What is served, and where", show_default=False)
access = partial(typer.Option, rich_help_panel="Who may do what", show_default=False)
durable = partial(typer.Option, rich_help_panel="Sessions that outlive the server", show_default=False)
running = partial(typer.Option, rich_help_panel="Engine and limits", show_default=False)
ending = partial(typer.Option, rich_help_panel="The end of sessions and of the server", show_default=False)
watching = partial(typer.Option, rich_help_panel="Logs and traces", show_default=False)


def serve(
    repository: Annotated[Path | None, listening(help="The folder of models.", show_default="var/repository")] = None,
    listen: Annotated[str | None, listening(help="HOST:PORT for gRPC; port 0 picks one.", show_default="127.0.0.1:8001")] = None,
    metrics_listen: Annotated[
        str | None, listening(help="HOST:PORT for metrics and health over HTTP, in plaintext.", show_default="127.0.0.1:8002")
    ] = None,
    health_listen: Annotated[
        str | None, listening(help="HOST:PORT for grpc.health.v1 alone, in plaintext, for Kubernetes' probes; none unless given.")
    ] = None,
    console_listen: Annotated[
        str | None, listening(help="HOST:PORT for the console, a page open to whoever reaches it; none unless given.")
    ] = None,
    reflection: Annotated[bool | None, listening("--reflection", help="Answer gRPC reflection (for grpcurl and its like).")] = None,
    tls_certificate: Annotated[Path | None, access(help="The server's certificate chain, PEM; renewed files are followed.")] = None,
    tls_key: Annotated[Path | None, access(help="Its private key, PEM.")] = None,
    tls_client_ca: Annotated[Path | None, access(help="Take only clients whose certificates these authorities signed.")] = None,
    bearer_key_file: Annotated[
        Path | None, access(help="Take only calls with a key of this file, one a line; changes are followed.")
    ] = None,
    insecure: Annotated[bool | None, access("--insecure", help="Listen beyond this machine without TLS, or without keys.")] = None,
    model_control: Annotated[bool | None, access("--model-control", help="Let Triton's clients load and unload models.")] = None,
    store: Annotated[
        str | None,
        durable(help="Where sessions outlive the process: sqlite:PATH, redis://HOST:PORT/0 or rediss://…; none unless given."),
    ] = None,
    durability: Annotated[
        str | None,
        durable(
            help="Of sessions whose Open does not say: memory, checkpoint or commit (these two take a store).",
            show_default="memory",
        ),
    ] = None,
    checkpoint_every: Annotated[int | None, durable(help="Timesteps between two checkpoints.", show_default="64")] = None,
    seal_keys: Annotated[
        Path | None,
        durable(help="A key that seals snapshots and what the store holds, or a folder of them: the last by name seals."),
    ] = None,
    unsealed_snapshots: Annotated[
        bool | None,
        durable("--unsealed-snapshots", help="Without keys, give and take snapshots nevertheless: clients could alter them."),
    ] = None,
    store_password_file: Annotated[Path | None, durable(help="A file that holds the store's password.")] = None,
    store_timeout_seconds: Annotated[float | None, durable(help="For one answer of the store.", show_default="2")] = None,
    store_patience_seconds: Annotated[
        float | None, durable(help="A store that does not answer is tried again for so long.", show_default="5")
    ] = None,
    replicas: Annotated[
        int | None, durable(help="Servers behind one router; more than one take a store that they share.", show_default="1")
    ] = None,
    sessions_end_with_replica: Annotated[
        bool | None,
        durable("--sessions-end-with-replica", help="Run several replicas without a shared store: sessions are lost with theirs."),
    ] = None,
    rebalance_above: Annotated[
        int | None,
        durable(help="Hand over idle durable sessions while there are more than these here; 0: never.", show_default="0"),
    ] = None,
    rebalance_rate: Annotated[float | None, durable(help="Of them, how many a second.", show_default="10")] = None,
    provider: Annotated[str | None, running(help="auto, cpu or cuda; cuda refuses to fall back.", show_default="auto")] = None,
    threads: Annotated[int | None, running(help="Threads of one engine run.", show_default="1")] = None,
    max_batch: Annotated[int | None, running(help="Steps of one engine run.", show_default="256; 1024 on CUDA")] = None,
    max_sessions: Annotated[int | None, running(help="Sessions open at once.", show_default="10000")] = None,
    max_pending_steps: Annotated[int | None, running(help="Steps waiting, of all sessions.", show_default="20000")] = None,
    max_timesteps: Annotated[int | None, running(help="Timesteps of one step.", show_default="4096")] = None,
    max_message_bytes: Annotated[int | None, running(help="Bytes of one message.", show_default="4194304")] = None,
    memory_bytes: Annotated[
        int | None, running(help="Of models and the states they reserve; 0: no limit.", show_default="0")
    ] = None,
    idle_timeout_seconds: Annotated[
        float | None, ending(help="A session ends after this idle time, unless its Open says otherwise.", show_default="600")
    ] = None,
    drain_pause_seconds: Annotated[
        float | None, ending(help="Once told to stop: not ready, but serving, until routers know.", show_default="0")
    ] = None,
    drain_seconds: Annotated[float | None, ending(help="For pending steps and snapshots, after that.", show_default="30")] = None,
    log_level: Annotated[str | None, watching(help="debug, info, warning or error.", show_default="info")] = None,
    log_format: Annotated[
        str | None, watching(help="json, pretty, or auto: pretty where stderr is a terminal.", show_default="auto")
    ] = None,
    trace_to: Annotated[
        str | None, watching(help="HOST:PORT of an OpenTelemetry collector (OTLP, gRPC): traces of steps; none unless given.")
    ] = None,
    trace_share: Annotated[
        float | None, watching(help="Of the steps of streams that name no trace of their own.", show_default="0.001")
    ] = None,
) -> None:
    """Serve the models of a repository until SIGTERM or Ctrl-C.

    A version that is published while the server runs is served from the first session that asks for it. Every option is also an
    environment variable: --max-batch is STATEWISE_MAX_BATCH.

    **Examples**

    On this machine, with models from var/repository and a console in the browser:

    statewise serve --console-listen 127.0.0.1:8004

    Sessions that survive a kill of the server:

    statewise serve --store sqlite:var/sessions.db --durability checkpoint

    Beyond this machine, where TLS and keys (or --insecure) are asked for:

    statewise serve --listen 0.0.0.0:8001 --tls-certificate tls.crt --tls-key tls.key --bearer-key-file keys
    """
    given = {name: value for name, value in locals().items() if value is not None}
    import pydantic

    from statewise.config import ServeSettings
    from statewise.runtime import EngineError
    from statewise.server import StartError
    from statewise.server import serve as run

    try:
        settings = ServeSettings(**given)
        log_to_stderr(settings.log_level, settings.log_format)
        status = asyncio.run(run(settings, _announce))
    except pydantic.ValidationError as wrong:
        for problem in wrong.errors():
            typer.echo(f"error: {_told(problem)}", err=True)
        raise typer.Exit(EXIT_BAD_INPUT) from None
    except (StartError, EngineError) as problem:
        typer.echo(f"error: {problem}", err=True)
        raise typer.Exit(EXIT_TROUBLE) from None
    raise typer.Exit(status)


def _told(problem: ErrorDetails) -> str:
    """Returns what is wrong with one setting, or with several that do not go together."""
    why = problem["msg"].removeprefix("Value error, ")
    if not problem["loc"]:
        return why
    option = "--" + str(problem["loc"][0]).replace("_", "-")
    return f"{option}: {why}, not {problem['input']!r}"


def _announce(server: Server) -> None:
    """Says, in one line for people and scripts alike, where the server listens, once it does."""
    names = ", ".join(
        f"{name}@{version} ({served.loaded.provider.removesuffix('ExecutionProvider')})"
        for (name, version), served in sorted(server.host.models.ready.items())
    )
    for (model, _), why in server.host.models.refused.items():
        typer.echo(f"warning: {model} is not served: {why}", err=True)
    places = [f"statewise is ready on {server.address}", f"metrics on http://{server.metrics_address}/metrics"]
    places += [f"health on {server.health_address}"] if server.health_address else []
    places += [f"console on http://{server.console.address}/"] if server.console else []
    typer.echo(", ".join([*places, f"models: {names or 'none yet'}"]))
    sys.stdout.flush()


def log_to_stderr(level: str, form: str) -> None:
    """Has the log written to stderr, a line each event: JSON, or coloured text for people. See `ServeSettings`."""
    import structlog

    pretty = sys.stderr.isatty() if form == "auto" else form == "pretty"
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,  # the request id of the call
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[Any] = (
        [structlog.dev.ConsoleRenderer()] if pretty else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),  # the stderr of the moment
    )
