"""The scores of a forecast as people read them: all series together, and the few that need a look."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

MOST_SERIES = 10
"""Series that are shown by name; the file has all."""


def scores_table(metrics: Mapping[str, Any]) -> RenderableType:
    """Returns the errors of the model beside those of the naive forecasts; of several series, also those it forecasts worst."""
    table = Table("split", "target", "forecast", title="One timestep ahead, in the target's own unit")
    for heading in ("RMSE", "MAPE %", "timesteps"):
        table.add_column(heading, justify="right")
    for split in ("validation", "test"):
        for target, methods in metrics[split].items():
            for method, figures in methods.items():
                mape = "–" if figures["mape"] is None else f"{figures['mape']:.2f}"
                table.add_row(split, target, method, f"{figures['rmse']:,.4g}", mape, f"{figures['count']:,}")
            table.add_section()
    return Group(table, *_by_series(metrics)) if "series" in metrics else table


def _by_series(metrics: Mapping[str, Any]) -> Iterator[Table]:
    """Yields, for each target, the series with the largest errors beside persistence, of the last split that has any."""
    split = "test" if metrics["series"]["test"] else "validation"
    for target in metrics[split]:
        rows = [(name, scored[target]) for name, scored in metrics["series"][split].items() if scored[target]]
        ratios = {name: _ratio(methods) for name, methods in rows}
        worst = sorted(rows, key=lambda row: -ratios[row[0]])[:MOST_SERIES]
        shown = f", the {len(worst)} worst of them" if len(worst) < len(rows) else ""
        title = f"{target}, {split}: {len(rows)} series{shown}; median RMSE is {np.median(list(ratios.values())):.2f} × persistence"
        table = Table("series", title=title, caption="evaluation.json has all of them" if shown else None)
        for heading in ("RMSE", "persistence", "×", "MAPE %", "timesteps"):
            table.add_column(heading, justify="right")
        for name, methods in worst:
            model, mape = methods["model"], methods["model"]["mape"]
            errors = [f"{methods[method]['rmse']:,.4g}" for method in ("model", "persistence")]
            cells = ("–" if mape is None else f"{mape:.2f}", f"{model['count']:,}")
            table.add_row(escape(name), *errors, f"{ratios[name]:.2f}", *cells)
        yield table


def _ratio(methods: Mapping[str, Any]) -> float:
    """Returns the model's error as a share of persistence's; infinite where that has none and the model has."""
    model, naive = methods["model"]["rmse"], methods["persistence"]["rmse"]
    return float(model / naive) if naive else (float("inf") if model else 1.0)
