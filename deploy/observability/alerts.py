"""When somebody is called, and the cases that prove it: each alert has series with which it fires and some with which it does not.

Burn rates are those of Google's SRE workbook (chapter 5): with the budget of 30 days, 2 % of it gone in an hour or 5 % in six page
somebody, 10 % in one or three days are work for the morning. The short window ends an alert soon after its cause.
"""

from __future__ import annotations

from dataclasses import dataclass

from deploy.observability.expressions import (
    LATENCY_OBJECTIVE,
    LATENCY_SECONDS,
    STEP_OBJECTIVE,
    beside_persistence,
    beside_validation,
    forecasts,
    mean,
    outside_training,
    quantile,
)

Series = dict[str, str]
STEP = 'statewise_steps_total{model="demand",version="1",code="%s"}'
TOOK = 'statewise_step_seconds_%s{model="demand",version="1"%s}'
VERSION = {"model": "demand", "version": "1"}
FAST = (("1h", "5m", 14.4), ("6h", "30m", 6.0))
SLOW = (("1d", "2h", 3.0), ("3d", "6h", 1.0))
ENOUGH = (forecasts("6h"), ">", 1000)
"""So many forecasts must have been judged before they are judged together."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert.

    Attributes:
        clauses: conditions `(expression, comparison, threshold)`, of which all in a tuple must hold, for one of the tuples.
        minutes: for how long.
        at_minute: when the test looks.
        every_minutes: how far apart the values of its series are.
        fires: series, in promtool's notation from minute 0 on, with which it fires.
        quiet: series with which it does not.
        labels: that it has when it fires in the test, beside its severity.
    """

    name: str
    severity: str
    summary: str
    clauses: tuple[tuple[tuple[str, str, float], ...], ...]
    minutes: int
    fires: Series
    quiet: Series
    at_minute: int = 30
    every_minutes: int = 1
    labels: tuple[tuple[str, str], ...] = ()

    @property
    def expression(self) -> str:
        """The whole condition."""
        told = [" and ".join(f"({left}) {sign} {limit:g}" for left, sign, limit in clause) for clause in self.clauses]
        return told[0] if len(told) == 1 else " or ".join(f"({clause})" for clause in told)

    @property
    def measures(self) -> tuple[str, ...]:
        """What is compared: each must have a value at any time."""
        return tuple(dict.fromkeys(left for clause in self.clauses for left, _, _ in clause))


def _burn(ratio: str, budget: float, pairs: tuple[tuple[str, str, float], ...]) -> tuple[tuple[tuple[str, str, float], ...], ...]:
    return tuple(
        tuple((f"statewise:{ratio}:rate{each}", ">", round(factor * budget, 6)) for each in pair) for *pair, factor in pairs
    )


def _above(expression: str, limit: float) -> tuple[tuple[tuple[str, str, float], ...], ...]:
    return (((expression, ">", limit),),)


def _steps(errors: str) -> Series:
    return {STEP % "OK": "0+6000x100", STEP % "ENGINE_FAILED": errors, STEP % "AHEAD": "0+600x100"}


def _took(fast: str) -> Series:
    return {TOOK % ("count", ""): "0+6000x100", TOOK % ("bucket", ',le="0.1"'): fast}


def _forecasts(error: str, persistence: str, count: str, version: str = "1") -> Series:
    of = f'model="demand",version="{version}"'
    return {
        f"statewise_forecast_error_sum{{{of}}}": error,
        f"statewise_forecast_error_count{{{of}}}": count,
        f"statewise_forecast_persistence_error_total{{{of}}}": persistence,
        f"statewise_forecast_validation_error{{{of}}}": "0.1x100",
    }


def _inputs(outside: str) -> Series:
    of = 'model="demand",version="1"'
    return {f"statewise_input_values_total{{{of}}}": "0+1000x100", f"statewise_input_values_outside_total{{{of}}}": outside}


ALERTS = (
    Alert(
        "StatewiseErrorBudgetBurnsFast",
        "page",
        f"Steps fail at a rate that spends the month's budget ({1 - STEP_OBJECTIVE:.1%} of steps) within days.",
        _burn("step_errors", 1 - STEP_OBJECTIVE, FAST),
        2,
        _steps("0+300x100"),
        _steps("0+12x100"),
        at_minute=70,
    ),
    Alert(
        "StatewiseErrorBudgetBurnsSlowly",
        "ticket",
        f"Steps have failed for a day or three at a rate that spends the month's budget ({1 - STEP_OBJECTIVE:.1%}).",
        _burn("step_errors", 1 - STEP_OBJECTIVE, SLOW),
        60,
        _steps("0+24x100"),
        _steps("0+3x100"),
        at_minute=240,
        every_minutes=10,
    ),
    Alert(
        "StatewiseLatencyBudgetBurnsFast",
        "page",
        f"Steps take more than {LATENCY_SECONDS:g} s at a rate that spends the month's budget ({1 - LATENCY_OBJECTIVE:.0%}).",
        _burn("slow_steps", 1 - LATENCY_OBJECTIVE, FAST),
        2,
        _took("0+4800x100"),
        _took("0+5950x100"),
        at_minute=70,
    ),
    Alert(
        "StatewiseLatencyBudgetBurnsSlowly",
        "ticket",
        f"For a day or three, too many steps have taken more than {LATENCY_SECONDS:g} s.",
        _burn("slow_steps", 1 - LATENCY_OBJECTIVE, SLOW),
        60,
        _took("0+5700x100"),
        _took("0+5990x100"),
        at_minute=240,
        every_minutes=10,
    ),
    Alert(
        "StatewiseStepP99High",
        "ticket",
        "One step in a hundred of a version takes more than a quarter of a second.",
        _above(quantile(0.99, "statewise_step_seconds", "5m", "model", "version"), 0.25),
        10,
        {
            TOOK % ("bucket", ',le="0.25"'): "0+90x60",
            TOOK % ("bucket", ',le="0.5"'): "0+100x60",
            TOOK % ("bucket", ',le="+Inf"'): "0+100x60",
        },
        {TOOK % ("bucket", ',le="0.25"'): "0+100x60", TOOK % ("bucket", ',le="+Inf"'): "0+100x60"},
        labels=tuple(VERSION.items()),
    ),
    Alert(
        "StatewiseQueueGrows",
        "page",
        "More steps come than run: over half of the pending steps that the server takes are there, and they grow.",
        (
            (
                ("statewise_steps_pending / statewise_steps_pending_limit", ">", 0.5),
                ("deriv(statewise_steps_pending[5m])", ">", 0),
            ),
        ),
        3,
        {"statewise_steps_pending": "0+500x60", "statewise_steps_pending_limit": "20000x60"},
        {"statewise_steps_pending": "15000x60", "statewise_steps_pending_limit": "20000x60"},
    ),
    Alert(
        "StatewiseCapacityLow",
        "ticket",
        "Fewer than a tenth of the sessions that a server may hold are free.",
        ((("statewise_sessions_free / statewise_sessions_limit", "<", 0.1),),),
        5,
        {"statewise_sessions_free": "500x60", "statewise_sessions_limit": "10000x60"},
        {"statewise_sessions_free": "5000x60", "statewise_sessions_limit": "10000x60"},
    ),
    Alert(
        "StatewiseNewcomersRefused",
        "page",
        "Sessions are refused because the server is full.",
        _above('sum(rate(statewise_sessions_refused_total{reason="OVERLOADED"}[5m]))', 0),
        2,
        {'statewise_sessions_refused_total{reason="OVERLOADED"}': "0+1x60"},
        {
            'statewise_sessions_refused_total{reason="OVERLOADED"}': "7x60",
            'statewise_sessions_refused_total{reason="ALREADY_OPEN"}': "0+9x60",
        },
    ),
    Alert(
        "StatewiseDurabilityLags",
        "page",
        "Steps that should be in the store have not been for half a minute: a failure now would lose them.",
        _above("max(statewise_durability_lag_seconds)", 30),
        2,
        {"statewise_durability_lag_seconds": "0+10x60"},
        {"statewise_durability_lag_seconds": "12x60"},
    ),
    Alert(
        "StatewiseStoreFails",
        "ticket",
        "Operations of the store fail.",
        _above("sum by (operation) (rate(statewise_store_errors_total[5m]))", 0),
        5,
        {'statewise_store_errors_total{operation="write"}': "0+2x60"},
        {'statewise_store_errors_total{operation="write"}': "3x60"},
        labels=(("operation", "write"),),
    ),
    Alert(
        "StatewiseNotReady",
        "page",
        "A server runs and takes on nothing: it is starting, draining, or stuck in one of the two.",
        ((("statewise_ready", "<", 1),),),
        2,
        {"statewise_ready": "0x60"},
        {"statewise_ready": "0 1x60"},
    ),
    Alert(
        "StatewiseDown",
        "page",
        "Prometheus cannot scrape a server.",
        ((('up{job=~".*statewise.*"}', "<", 1),),),
        2,
        {'up{job="statewise"}': "0x60"},
        {'up{job="statewise"}': "1x60", 'up{job="other"}': "0x60"},
        labels=(("job", "statewise"),),
    ),
    Alert(
        "StatewiseProviderFellBack",
        "ticket",
        "A GPU is there, and models run on the CPU.",
        _above("statewise_provider_fell_back", 0),
        5,
        {"statewise_provider_fell_back": "1x60"},
        {"statewise_provider_fell_back": "0x60"},
    ),
    Alert(
        "StatewiseModelRefused",
        "ticket",
        "A version that new sessions should get cannot be loaded.",
        _above("statewise_models_refused", 0),
        5,
        {"statewise_models_refused": "1x60"},
        {"statewise_models_refused": "0x60"},
    ),
    Alert(
        "StatewiseNonFiniteResults",
        "ticket",
        "Steps of a version would leave NaN or infinity in its output or its state, and are refused.",
        _above('sum by (model, version) (rate(statewise_steps_total{code="NON_FINITE_STATE"}[10m]))', 0),
        5,
        {STEP % "NON_FINITE_STATE": "0+3x60"},
        {STEP % "NON_FINITE_STATE": "4x60", STEP % "OK": "0+60x60"},
        labels=tuple(VERSION.items()),
    ),
    Alert(
        "StatewiseForecastsNoBetterThanPersistence",
        "ticket",
        "For hours, a version's forecasts have been further from what came than the value of before was.",
        (((beside_persistence("6h"), ">", 1), ENOUGH),),
        60,
        _forecasts("0+120x100", "0+100x100", "0+1000x100"),
        _forecasts("0+60x100", "0+100x100", "0+1000x100") | _forecasts("0+12x100", "0+10x100", "0+20x100", version="2"),
        at_minute=480,
        every_minutes=10,
        labels=tuple(VERSION.items()),
    ),
    Alert(
        "StatewiseForecastErrorHigh",
        "ticket",
        "For hours, a version's forecasts have been more than twice as far from what came as in validation.",
        (((beside_validation("6h"), ">", 2), ENOUGH),),
        60,
        _forecasts("0+250x100", "0+400x100", "0+1000x100"),
        _forecasts("0+150x100", "0+400x100", "0+1000x100") | _forecasts("0+5x100", "0+8x100", "0+20x100", version="2"),
        at_minute=480,
        every_minutes=10,
        labels=tuple(VERSION.items()),
    ),
    Alert(
        "StatewiseInputsOutsideTraining",
        "ticket",
        "More than one in fifty values that a version is sent is outside the range that its input had in training.",
        _above(outside_training("1h"), 0.02),
        30,
        _inputs("0+50x100"),
        _inputs("0+10x100"),
        at_minute=100,
        labels=tuple(VERSION.items()),
    ),
    Alert(
        "StatewiseEventLoopLate",
        "ticket",
        "The event loop comes round late: every stream waits for it.",
        _above(mean("statewise_event_loop_lag_seconds", "5m"), 0.1),
        5,
        {"statewise_event_loop_lag_seconds_sum": "0+30x60", "statewise_event_loop_lag_seconds_count": "0+60x60"},
        {"statewise_event_loop_lag_seconds_sum": "0+0.3x60", "statewise_event_loop_lag_seconds_count": "0+60x60"},
    ),
)
