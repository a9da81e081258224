"""The Grafana board: rows of panels, each a question that somebody who is paged, or who watches a rollout, asks."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard, prometheus, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models.dashboard import DashboardCursorSync, DataSourceRef

from deploy.observability.expressions import (
    FAULTS,
    LATENCY_SECONDS,
    beside_persistence,
    forecast_error,
    mean,
    outside_training,
    persistence_error,
    quantile,
    slow_steps,
    step_errors,
)

UID = "statewise-server"
WINDOW = "$__rate_interval"
SOURCE = DataSourceRef("prometheus", "${datasource}")
BY_VERSION = ("model", "version")
NAMED = "{{model}}@{{version}}"


@dataclass(frozen=True, slots=True)
class Panel:
    """A graph.

    Attributes:
        queries: legend → expression.
        unit: in Grafana's words.
    """

    title: str
    description: str
    unit: str
    queries: dict[str, str]


def _rate(counter: str, *by: str) -> str:
    grouped = f"sum by ({', '.join(by)})" if by else "sum"
    return f"{grouped} (rate({counter}[{WINDOW}]))"


def _quantiles(histogram: str) -> dict[str, str]:
    return {f"p{round(q * 100)} {NAMED}": quantile(q, histogram, WINDOW, *BY_VERSION) for q in (0.5, 0.99)}


ROWS: dict[str, tuple[Panel, ...]] = {
    "Traffic": (
        Panel("Steps", "Answered, by model and version.", "ops", {NAMED: _rate("statewise_steps_total", *BY_VERSION)}),
        Panel("Timesteps", "Consumed by sessions.", "ops", {NAMED: _rate("statewise_timesteps_total", *BY_VERSION)}),
        Panel(
            "Sent again",
            "Steps that were answered with the reply of before, or joined one under way: clients that lost a connection.",
            "ops",
            {"repeated": _rate("statewise_steps_repeated_total"), "joined": _rate("statewise_steps_joined_total")},
        ),
        Panel(
            "Calls",
            "gRPC calls that ended, by status; a stream is one.",
            "ops",
            {"{{grpc_code}}": _rate("grpc_server_handled_total", "grpc_code")},
        ),
    ),
    "Latency": (
        Panel("Step", "From arrival to reply.", "s", _quantiles("statewise_step_seconds")),
        Panel("Queue", "From arrival to the first engine run.", "s", _quantiles("statewise_step_queue_seconds")),
        Panel("Compute", "An engine run.", "s", _quantiles("statewise_batch_compute_seconds")),
        Panel("Commit", "From the end of a run to its answers.", "s", _quantiles("statewise_batch_commit_seconds")),
        Panel("Slow steps", f"The share that took more than {LATENCY_SECONDS:g} s.", "percentunit", {"slow": slow_steps(WINDOW)}),
        Panel(
            "Unary calls",
            "gRPC calls, mean.",
            "s",
            {"{{grpc_method}}": mean("grpc_server_handling_seconds", WINDOW, "grpc_method")},
        ),
    ),
    "Sessions": (
        Panel(
            "Sessions",
            "By state, and those that could still be opened.",
            "short",
            {"{{state}}": "sum by (state) (statewise_sessions)", "free": "sum(statewise_sessions_free)"},
        ),
        Panel(
            "By version",
            "How a rollout goes: sessions pinned to each version.",
            "short",
            {NAMED: "sum by (model, version) (statewise_model_sessions)"},
        ),
        Panel(
            "Begun and ended",
            "A second.",
            "ops",
            {
                "opened": _rate("statewise_sessions_opened_total"),
                "resumed": _rate("statewise_sessions_resumed_total"),
                "{{how}}": _rate("statewise_sessions_ended_total", "how"),
            },
        ),
        Panel(
            "Refused",
            "Opens that were refused, by reason.",
            "ops",
            {"{{reason}}": _rate("statewise_sessions_refused_total", "reason")},
        ),
        Panel(
            "Age at the end",
            "How long sessions were open.",
            "s",
            {"median": quantile(0.5, "statewise_session_age_seconds", WINDOW)},
        ),
        Panel(
            "Length at the end",
            "Timesteps that sessions had consumed.",
            "short",
            {"median": quantile(0.5, "statewise_session_timesteps", WINDOW)},
        ),
    ),
    "Batching": (
        Panel("Steps a batch", "Mean.", "short", {NAMED: mean("statewise_batch_steps", WINDOW, *BY_VERSION)}),
        Panel(
            "Fill",
            "Mean steps of a batch, as a share of the largest batch.",
            "percentunit",
            {"fill": f"{mean('statewise_batch_steps', WINDOW)} / scalar(max(statewise_batch_steps_limit))"},
        ),
        Panel(
            "Pending",
            "Steps that wait or run, and the most that may.",
            "short",
            {"pending": "sum(statewise_steps_pending)", "limit": "sum(statewise_steps_pending_limit)"},
        ),
        Panel(
            "Engine busy",
            "Share of the time.",
            "percentunit",
            {"{{instance}}": "rate(statewise_engine_busy_seconds_total[$__rate_interval])"},
        ),
    ),
    "State memory": (
        Panel(
            "Rows",
            "Of the state pools, and those that are taken.",
            "short",
            {
                "pool {{pool}}: rows": "sum by (pool) (statewise_rows)",
                "pool {{pool}}: taken": "sum by (pool) (statewise_rows_used)",
            },
        ),
        Panel(
            "Reserved",
            "What the pools take if every row is used.",
            "bytes",
            {"pool {{pool}}": "sum by (pool) (statewise_rows_bytes)"},
        ),
        Panel(
            "Inputs of pending steps", "Held until they are answered.", "bytes", {"inputs": "sum(statewise_steps_pending_bytes)"}
        ),
        Panel(
            "Models",
            "Versions in memory, and those that could not be loaded.",
            "short",
            {"in memory": "count(statewise_model_info)", "refused": "sum(statewise_models_refused)"},
        ),
    ),
    "Durability": (
        Panel(
            "Lag",
            "Age of the oldest step that should be in the store and is not.",
            "s",
            {"lag": "max(statewise_durability_lag_seconds)"},
        ),
        Panel(
            "Lag in timesteps",
            "The most by which a session is ahead of the store.",
            "short",
            {"lag": "max(statewise_durability_lag_timesteps)"},
        ),
        Panel(
            "Store",
            "Mean time of an operation.",
            "s",
            {"{{operation}}": mean("statewise_store_seconds", WINDOW, "operation")},
        ),
        Panel(
            "Store errors",
            "A second, and snapshots that wait.",
            "short",
            {"{{operation}}": _rate("statewise_store_errors_total", "operation"), "waiting": "sum(statewise_store_pending)"},
        ),
        Panel(
            "Moved",
            "Sessions spilled to the store and brought back.",
            "ops",
            {"spilled": _rate("statewise_sessions_spilled_total"), "restored": _rate("statewise_sessions_restored_total")},
        ),
    ),
    "Errors": (
        Panel(
            "Failed by us",
            "The share of steps that failed by the server's fault: what the error budget is spent on.",
            "percentunit",
            {"errors": step_errors(WINDOW)},
        ),
        Panel(
            "By outcome",
            "Steps that failed, by reason.",
            "ops",
            {"{{code}}": f'sum by (code) (rate(statewise_steps_total{{code!="OK"}}[{WINDOW}]))'},
        ),
        Panel(
            "Ours, by version",
            "Steps that failed by the server's fault.",
            "ops",
            {NAMED: f'sum by (model, version) (rate(statewise_steps_total{{code=~"{FAULTS}"}}[{WINDOW}]))'},
        ),
        Panel(
            "Rejected",
            "Before they were pending; AHEAD is a gap.",
            "ops",
            {"{{reason}}": _rate("statewise_steps_rejected_total", "reason")},
        ),
    ),
    "Accuracy": (
        Panel(
            "Forecast error",
            "Mean distance of forecasts from what came, in standard deviations of training, beside that of validation and of the "
            "value of before (persistence), on the same timesteps.",
            "short",
            {
                NAMED: forecast_error(WINDOW),
                f"validation {NAMED}": "max by (model, version) (statewise_forecast_validation_error)",
                f"persistence {NAMED}": persistence_error(WINDOW),
            },
        ),
        Panel(
            "Error beside persistence",
            "1: no better than the value of before.",
            "short",
            {NAMED: beside_persistence(WINDOW)},
        ),
        Panel("Errors by size", "In standard deviations of training.", "short", _quantiles("statewise_forecast_error")),
        Panel(
            "Outside training",
            "The share of input values outside the range that they had in training.",
            "percentunit",
            {NAMED: outside_training(WINDOW)},
        ),
    ),
    "Process": (
        Panel(
            "Ready",
            "1 while work is taken on; and 1 where a GPU is there and unused.",
            "short",
            {"ready {{instance}}": "statewise_ready", "fell back {{instance}}": "statewise_provider_fell_back"},
        ),
        Panel("CPU", "Cores.", "short", {"{{instance}}": f"rate(process_cpu_seconds_total[{WINDOW}])"}),
        Panel("Memory", "Resident.", "bytes", {"{{instance}}": "process_resident_memory_bytes"}),
        Panel("Event loop", "By how much it is late, mean.", "s", {"late": mean("statewise_event_loop_lag_seconds", WINDOW)}),
        Panel(
            "Garbage collection",
            "Runs a second, by generation.",
            "ops",
            {"generation {{generation}}": _rate("python_gc_collections_total", "generation")},
        ),
        Panel("Files", "Open file descriptors.", "short", {"{{instance}}": "process_open_fds"}),
    ),
}


def expressions() -> list[str]:
    """Returns every expression of the board."""
    return [expression for panels in ROWS.values() for panel in panels for expression in panel.queries.values()]


def text() -> str:
    """Returns the board as Grafana imports it."""
    return json.dumps(_board(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


def _board() -> Any:
    source = dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")
    board = dashboard.Dashboard("Statewise").uid(UID).tags(["statewise"]).refresh("10s").time("now-30m", "now").timezone("browser")
    board = board.tooltip(DashboardCursorSync.CROSSHAIR).with_variable(source)
    number = 0
    for title, panels in ROWS.items():
        number += 1
        board = board.with_row(dashboard.Row(title).id(number))
        for panel in panels:
            number += 1
            board = board.with_panel(_drawn(panel).id(number))
    return board.build()


def _drawn(panel: Panel) -> timeseries.Panel:
    legend = common_builders.VizLegendOptions().display_mode(common.LegendDisplayMode.LIST).placement(common.LegendPlacement.BOTTOM)
    drawn = timeseries.Panel().title(panel.title).description(panel.description).unit(panel.unit).datasource(SOURCE)
    drawn = drawn.span(6).height(7).fill_opacity(10).line_width(1).min(0).legend(legend.show_legend(show_legend=True))
    for legend_text, expression in panel.queries.items():
        drawn = drawn.with_target(prometheus.Dataquery().expr(expression).legend_format(legend_text))
    return drawn
