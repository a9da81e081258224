"""How good forecasts are, in the column's own unit, beside what needs no model.

Every method is judged on the same timesteps: those where the truth and all methods' forecasts are known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Scores = dict[str, float | None]


def score(truth: Floats, methods: Mapping[str, Floats]) -> dict[str, Scores]:
    """Returns for each method `rmse`, `mae` (in the truth's unit), `mape` (percent; `None` if all truth is 0) and `count`.

    Args:
        truth: `[timesteps]`, NaN where unknown.
        methods: forecasts `[timesteps]` by name, NaN where the method has none; one that has none at all is left out.
    """
    able = {name: forecast for name, forecast in methods.items() if np.isfinite(forecast).any()}
    known = np.logical_and.reduce([np.isfinite(truth), *(np.isfinite(forecast) for forecast in able.values())])
    if not known.any():
        return {}
    exact = truth[known].astype(np.float64)
    return {name: _errors(exact, forecast[known].astype(np.float64)) for name, forecast in able.items()}


def naive(values: Floats, periods: Sequence[int]) -> dict[str, Floats]:
    """Returns the forecasts that need no model: the last value (persistence), and the one a period ago.

    Args:
        values: a column `[timesteps]`; forecasts have the same length, and that of a timestep stands at its own place.
        periods: in timesteps; of one as long as the values or longer, no forecast is known.
    """
    lags = {"persistence": 1} | {f"naive_{period}": period for period in periods}
    able = {name: min(lag, len(values)) for name, lag in lags.items()}
    return {name: np.concatenate([np.full(lag, np.nan), values[: len(values) - lag]]) for name, lag in able.items()}


def _errors(truth: Floats, forecast: Floats) -> Scores:
    error = forecast - truth
    nonzero = truth != 0
    mape = float(100 * np.mean(np.abs(error[nonzero] / truth[nonzero]))) if nonzero.any() else None
    rmse, mae = float(np.sqrt(np.mean(error**2))), float(np.mean(np.abs(error)))
    return {"rmse": rmse, "mae": mae, "mape": mape, "count": len(truth)}
