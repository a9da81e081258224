"""The scores of a forecast as people read them: all series together, and the few that need a look."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from statewise_models.sheet import Row, Sheet

MOST_SERIES = 10
"""Series that are shown by name; the file has all."""


def scores_sheets(metrics: Mapping[str, Any]) -> tuple[Sheet, ...]:
    """Returns the errors of the model beside those of the naive forecasts; of several series, also those it forecasts worst."""
    groups: list[tuple[Row, ...]] = []
    for split in ("validation", "test"):
        for target, methods in metrics[split].items():
            groups.append(tuple((split, target, method, *_errors(figures)) for method, figures in methods.items()))
    numbers = ("RMSE", "MAE", "MAPE %", "timesteps")
    whole = Sheet("One timestep ahead, in the target's own unit", ("split", "target", "forecast"), numbers, tuple(groups), "model")
    return (whole, *_by_series(metrics)) if "series" in metrics else (whole,)


def _by_series(metrics: Mapping[str, Any]) -> Iterator[Sheet]:
    """Yields, for each target, the series with the largest errors beside persistence, of the last split that has any."""
    split = "test" if metrics["series"]["test"] else "validation"
    for target in metrics[split]:
        rows = [(name, scored[target]) for name, scored in metrics["series"][split].items() if scored[target]]
        ratios = {name: _ratio(methods) for name, methods in rows}
        worst = sorted(rows, key=lambda row: -ratios[row[0]])[:MOST_SERIES]
        shown = f", the {len(worst)} worst of them (evaluation.json has all)" if len(worst) < len(rows) else ""
        title = f"{target}, {split}: {len(rows)} series{shown}; median RMSE is {np.median(list(ratios.values())):.2f} × persistence"
        numbers = ("RMSE", "persistence", "×", "MAPE %", "timesteps")
        yield Sheet(title, ("series",), numbers, (tuple(_row(name, methods, ratios[name]) for name, methods in worst),))


def _row(name: str, methods: Mapping[str, Any], ratio: float) -> Row:
    rmse, _, mape, count = _errors(methods["model"])
    return (name, rmse, _errors(methods["persistence"])[0], f"{ratio:.2f}", mape, count)


def _errors(figures: Mapping[str, Any]) -> Row:
    mape = "–" if figures["mape"] is None else f"{figures['mape']:.2f}"
    return (f"{figures['rmse']:,.4g}", f"{figures['mae']:,.4g}", mape, f"{figures['count']:,}")


def _ratio(methods: Mapping[str, Any]) -> float:
    """Returns the model's error as a share of persistence's; infinite where that has none and the model has."""
    model, naive = methods["model"]["rmse"], methods["persistence"]["rmse"]
    return float(model / naive) if naive else (float("inf") if model else 1.0)
