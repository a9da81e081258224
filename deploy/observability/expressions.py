"""PromQL that rules and board share, and the objectives that both are about."""

from __future__ import annotations

from statewise.errors import CLASS_OF_REASON, EngineFailed, NonFiniteState, Overloaded, StepExpired, Unavailable

STEP_OBJECTIVE = 0.999
"""The share of steps that are not failed by the server's own fault."""
LATENCY_OBJECTIVE = 0.99
"""The share of steps that are answered within `LATENCY_SECONDS`, a bound of the histogram's."""
LATENCY_SECONDS = 0.1
WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
OURS = (Overloaded, StepExpired, Unavailable, EngineFailed, NonFiniteState)
FAULTS = "|".join(sorted(reason for reason, kind in CLASS_OF_REASON.items() if issubclass(kind, OURS)))
"""The outcomes that are the server's fault, or its model's; what a client did wrong spends no budget."""


def share(part: str, whole: str) -> str:
    """Returns one sum of rates as a share of another: 0 where nothing happens at all."""
    return f"sum({part}) / clamp_min(sum({whole}), 1e-9)"


def step_errors(window: str) -> str:
    """Returns the share of steps that failed by the server's fault."""
    return share(f'rate(statewise_steps_total{{code=~"{FAULTS}"}}[{window}])', f"rate(statewise_steps_total[{window}])")


def slow_steps(window: str) -> str:
    """Returns the share of answered steps that took longer than they should."""
    count, fast = f"statewise_step_seconds_count[{window}]", f'statewise_step_seconds_bucket{{le="{LATENCY_SECONDS}"}}[{window}]'
    return f"(sum(rate({count})) - sum(rate({fast}))) / clamp_min(sum(rate({count})), 1e-9)"


def quantile(q: float, histogram: str, window: str, *by: str) -> str:
    """Returns a quantile of a histogram, by labels."""
    return f"histogram_quantile({q}, sum by ({', '.join(('le', *by))}) (rate({histogram}_bucket[{window}])))"


def mean(histogram: str, window: str, *by: str) -> str:
    """Returns the mean of what a histogram was given, by labels: 0 where it was given nothing."""
    grouped = f"sum by ({', '.join(by)})" if by else "sum"
    return f"{grouped} (rate({histogram}_sum[{window}])) / clamp_min({grouped} (rate({histogram}_count[{window}])), 1e-9)"


def forecast_error(window: str) -> str:
    """Returns the mean error of forecasts by version, in standard deviations of training."""
    return mean("statewise_forecast_error", window, "model", "version")


def persistence_error(window: str) -> str:
    """Returns what the mean error would be, had each forecast been the value of before, by version."""
    naive, count = "statewise_forecast_persistence_error_total", "statewise_forecast_error_count"
    return f"{_rate(naive, window)} / clamp_min({_rate(count, window)}, 1e-9)"


def beside_persistence(window: str) -> str:
    """Returns the error of forecasts as a share of persistence's, by version: below 1 the model is of use."""
    error, naive = "statewise_forecast_error_sum", "statewise_forecast_persistence_error_total"
    return f"{_rate(error, window)} / clamp_min({_rate(naive, window)}, 1e-9)"


def beside_validation(window: str) -> str:
    """Returns the error of forecasts as a multiple of what training found on its validation part, by version."""
    return f"{forecast_error(window)} / (max by (model, version) (statewise_forecast_validation_error))"


def outside_training(window: str) -> str:
    """Returns the share of input values outside the range that they had in training, by version."""
    outside, values = "statewise_input_values_outside_total", "statewise_input_values_total"
    return f"{_rate(outside, window)} / clamp_min({_rate(values, window)}, 1e-9)"


def forecasts(window: str) -> str:
    """Returns how many forecasts were judged, by version."""
    return f"sum by (model, version) (increase(statewise_forecast_error_count[{window}]))"


def _rate(counter: str, window: str) -> str:
    return f"sum by (model, version) (rate({counter}[{window}]))"
