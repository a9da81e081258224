"""Learns to forecast: at each timestep, from the inputs so far, the targets of the next one.

table → cuts by time → scales of the training part → pieces (goals are scaled, as the network's head returns them) → lanes → `fit` →
one-step-ahead forecasts in the columns' own units → scores beside persistence and the naive seasonal forecasts → files.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from statewise_models.config import NetworkConfig, Target
from statewise_models.data.policy import InvalidData
from statewise_models.data.split import Cuts, split_table
from statewise_models.data.table import Series, Table
from statewise_models.network import Network
from statewise_models.scores import naive, score
from statewise_models.training.facts import facts_of_table
from statewise_models.training.history import Epoch, Judgement
from statewise_models.training.lanes import Lanes, Piece, Window, cut, lay
from statewise_models.training.loop import Observer, fit, walk
from statewise_models.training.progress import Bar
from statewise_models.training.scaling import check_missing, features, moments
from statewise_models.training.settings import TrainingSettings
from statewise_models.training.start import Start
from statewise_models.training.trained import Trained

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WARM_UP = 1024  # timesteps that a session has seen before its forecasts are judged
JUDGED_LANES = 64  # series judged side by side: more would only need more memory
SHORTEST = 2  # timesteps to learn from: one to read, one to predict
SHOWN = 336  # timesteps of the plot

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class ForecastLesson:
    """Mean squared error of the scaled targets; judged by the same on the validation part, with carried state."""

    training: Lanes
    validation: Lanes

    @property
    def windows_an_epoch(self) -> int:
        """How many windows an epoch has."""
        return len(self.training)

    def windows(self) -> Iterable[Window]:
        """Returns the windows in the order of time."""
        return self.training

    def loss(self, values: Tensor, window: Window) -> Tensor:
        """Returns the mean squared error where the goal is known."""
        total, count = _squares(values, window.goals)
        return total / count.clamp(min=1)

    @torch.no_grad()
    def judge(self, network: Network) -> Judgement:
        """Returns the validation loss, and ranks by it."""
        totals = [_squares(values, window.goals) for window, values in walk(network, self.validation)]
        total, count = (torch.stack(column).sum().item() for column in zip(*totals, strict=True))
        loss = total / max(count, 1)
        return Judgement(loss, (loss,))


def train_forecast(
    table: Table,
    settings: TrainingSettings,
    *,
    output: Path | None = None,
    resume: bool = False,
    observer: Observer | None = None,
    start: Start | None = None,
) -> Trained:
    """Trains a network to forecast a table's targets one timestep ahead.

    `metrics[split][target][method]` holds `rmse`, `mae`, `mape` and `count`; methods are `model`, `persistence` and, for each
    calendar period, `naive_<period>`.

    Args:
        output: a folder for checkpoint, metrics, evaluation and plots, or `None`.
        resume: go on from the checkpoint there.
        observer: watches the run; by default a progress bar where standard error is a terminal.
        start: a version to start from, instead of drawn weights.

    Raises:
        InvalidData, InvalidConfig: the table does not fit the settings.
        Diverged: the loss is no longer finite.
        OSError: `output` cannot be written.
    """
    check_missing(table.inputs, [series.x for series in table.series], settings)
    cuts = split_table(table, settings.validation, settings.test, minimum=max(settings.window, SHORTEST))
    config = configure(table, cuts, settings)
    lesson = _lesson(config, table, cuts, settings)
    with Bar.unless(observer, f"forecast {settings.cell}", settings.epochs, lesson.windows_an_epoch) as watcher:
        network, history = fit(config, lesson, settings, output=output, resume=resume, observer=watcher, start=start)
    forecasts = forecast_table(network, table, cuts)
    metrics = _evaluate(table, cuts, forecasts, settings.calendar)
    draw = partial(_draw, history, table, cuts, forecasts)
    held_back = replace(
        table, series=tuple(s.part(getattr(cut, settings.reported)) for s, cut in zip(table.series, cuts, strict=True))
    )
    trained = Trained(network, history, metrics, settings, facts_of_table(table, cuts, config), draw, held_back)
    if output:
        trained.write(output)
    return trained


def rescore_table(network: Network, table: Table, settings: TrainingSettings) -> dict[str, Any]:
    """Returns the `metrics` of another network on the splits of `train_forecast`."""
    cuts = split_table(table, settings.validation, settings.test, minimum=max(settings.window, SHORTEST))
    return _evaluate(table, cuts, forecast_table(network, table, cuts), settings.calendar)


def configure(table: Table, cuts: tuple[Cuts, ...], settings: TrainingSettings) -> NetworkConfig:
    """Returns the network for a table: its columns with the scales of the training part."""
    parts = [(series.x[part.train], series.y[part.train]) for series, part in zip(table.series, cuts, strict=True)]
    targets = []
    for place, name in enumerate(table.targets):
        columns = [y[:, place] for _, y in parts]
        values = [np.diff(column.astype(np.float64)) for column in columns] if settings.difference else columns
        mean, scale = moments(name, np.concatenate(values))
        targets.append(Target(name, mean, scale, settings.difference))
    columns_seen = features(table.inputs, [x for x, _ in parts], settings)
    return settings.network("forecast", table.step_seconds, features=columns_seen, targets=tuple(targets))


def forecast_table(network: Network, table: Table, cuts: tuple[Cuts, ...]) -> list[Floats]:
    """Returns for each series the forecasts of its timesteps `[timesteps, targets]`, each made one timestep before, in own units.

    They begin with the validation part (NaN before), made by one session a series that has seen the `WARM_UP` timesteps before.
    """
    spans = [(max(0, part.train_end - 1 - WARM_UP), part.length - 1) for part in cuts]
    pieces = [_piece(network.config, series).part(*span) for series, span in zip(table.series, spans, strict=True)]
    lanes = _judged(pieces)
    with torch.no_grad():
        raw = torch.cat([network.raw(values, window.inputs).cpu() for window, values in walk(network, lanes)])
    forecasts = []
    for values, (begin, end), part in zip(lanes.pick(raw), spans, cuts, strict=True):
        forecast = np.full((part.length, values.shape[1]), np.nan, np.float32)
        forecast[begin + 1 : end + 1] = values
        forecast[: part.train_end] = np.nan
        forecasts.append(forecast)
    return forecasts


def _lesson(config: NetworkConfig, table: Table, cuts: tuple[Cuts, ...], settings: TrainingSettings) -> ForecastLesson:
    whole = [_piece(config, series) for series in table.series]
    training = [piece.part(0, part.train_end - 1) for piece, part in zip(whole, cuts, strict=True)]
    judged = []
    for piece, part in zip(whole, cuts, strict=True):
        begin = max(0, part.train_end - 1 - WARM_UP)
        goals = piece.goals.copy()
        goals[: part.train_end - 1] = np.nan
        judged.append(Piece(piece.inputs, goals).part(begin, part.validation_end - 1))
    if all(np.isnan(piece.goals).all() for piece in judged):
        raise InvalidData("the validation part has no value of any target, so no epoch could be chosen by it")
    window, lanes = settings.window, settings.lanes
    return ForecastLesson(lay(cut(training, lanes, window), lanes, window), _judged(judged))


def _judged(pieces: list[Piece]) -> Lanes:
    """Lays whole pieces to walk through without learning, in windows no longer than the longest."""
    return lay(pieces, JUDGED_LANES, min(WARM_UP, max(map(len, pieces))))


def _piece(config: NetworkConfig, series: Series) -> Piece:
    """Returns a series with the scaled goals of its timesteps, but for the last, whose goal lies ahead."""
    base = np.zeros_like(series.y[:-1], dtype=np.float64)
    for place, source in enumerate(config.base_places):
        if source is not None:
            base[:, place] = series.x[:-1, source]
    mean = np.array([target.mean for target in config.targets])
    scale = np.array([target.scale for target in config.targets])
    inputs: dict[str, Any] = {"x": series.x[:-1]}
    if config.calendar:
        inputs["time"] = series.time[:-1]
    return Piece(inputs, ((series.y[1:] - base - mean) / scale).astype(np.float32))


def _squares(values: Tensor, goals: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the sum of squared errors where the goal is known, and how many are."""
    known = ~torch.isnan(goals)
    error = torch.where(known, values - goals.nan_to_num(), 0.0)
    return error.square().sum(), known.sum()


def _evaluate(table: Table, cuts: tuple[Cuts, ...], forecasts: list[Floats], periods: tuple[int, ...]) -> dict[str, Any]:
    """Returns the scores by split, target and method, over all series."""
    metrics: dict[str, Any] = {}
    for split in ("validation", "test"):
        metrics[split] = {}
        for place, target in enumerate(table.targets):
            columns: dict[str, list[NDArray[np.floating]]] = {}
            for series, part, forecast in zip(table.series, cuts, forecasts, strict=True):
                truth = series.y[:, place]
                methods = {"truth": truth, "model": forecast[:, place], **naive(truth, periods)}
                for method, values in methods.items():
                    columns.setdefault(method, []).append(values[getattr(part, split)])
            joined = {method: np.concatenate(parts) for method, parts in columns.items()}
            metrics[split][target] = score(joined.pop("truth"), joined)
    return metrics


def _draw(
    history: tuple[Epoch, ...], table: Table, cuts: tuple[Cuts, ...], forecasts: list[Floats], width: float
) -> dict[str, Figure]:
    from statewise_models.plots import plot_forecast, plot_losses

    longest = max(range(len(cuts)), key=lambda number: cuts[number].length)
    series, part = table.series[longest], cuts[longest]
    split, whole = ("test", part.test) if part.validation_end < part.length else ("validation", part.validation)
    shown = slice(whole.start, min(whole.start + SHOWN, whole.stop))
    stamps = series.stamps if series.stamps is not None else series.time
    truth, forecast = series.y[shown], forecasts[longest][shown]
    return {
        "loss": plot_losses(history, "mean squared error (scaled)", width),
        "forecast": plot_forecast(stamps[shown], truth, forecast, table.targets, series.name, split, width),
    }
