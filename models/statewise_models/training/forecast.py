"""Learns to forecast: at each timestep, from the inputs so far, the targets of the next one.

table → cuts by time → scales of the training part, of all series or of each → pieces (goals are scaled, as the network's head
returns them) → lanes → `fit` → one-step-ahead forecasts in the columns' own units → scores beside persistence and the naive
seasonal forecasts → files.
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

from statewise.spec import SERIES_MEAN, SERIES_SCALE
from statewise_models.config import NetworkConfig, Target
from statewise_models.data.policy import InvalidData
from statewise_models.data.split import Cuts, split_table
from statewise_models.data.table import Series, Table
from statewise_models.network import Network
from statewise_models.training.facts import facts_of_table
from statewise_models.training.history import Epoch, Judgement
from statewise_models.training.lanes import Lanes, Piece, Window, cut, lay
from statewise_models.training.loop import Observer, fit, walk
from statewise_models.training.panel import (
    SCALES_FILE,
    Scales,
    in_series_units,
    of_series,
    scaled_error,
    scales_of,
    score_all,
    score_each,
    series_scales,
    write_scales,
)
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
SPLITS = ("validation", "test")

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
    calendar period, `naive_<period>`. Of several series, `metrics["series"][split][series]` holds the same of each.
    `metrics["scaled_error"][split][method]` is the mean absolute error in standard deviations of training, over all targets.

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
    cuts = cut_table(table, settings)
    config = configure(table, cuts, settings)
    lesson = _lesson(config, table, cuts, settings)
    with Bar.unless(observer, f"forecast {settings.cell}", settings.epochs, lesson.windows_an_epoch) as watcher:
        network, history = fit(config, lesson, settings, output=output, resume=resume, observer=watcher, start=start)
    forecasts = forecast_table(network, table, cuts)
    metrics = _evaluate(table, cuts, forecasts, config, settings.calendar)
    draw = partial(_draw, history, table, cuts, forecasts)
    held_back = replace(
        table, series=tuple(s.part(getattr(cut, settings.reported)) for s, cut in zip(table.series, cuts, strict=True))
    )
    trained = Trained(network, history, metrics, settings, facts_of_table(table, cuts, config), draw, held_back)
    if output:
        trained.write(output)
        if config.series:
            write_scales(scales_of(config), output / SCALES_FILE)
    return trained


def rescore_table(network: Network, table: Table, settings: TrainingSettings) -> dict[str, Any]:
    """Returns the `metrics` of another network on the splits of `train_forecast`."""
    cuts = cut_table(table, settings)
    return _evaluate(table, cuts, forecast_table(network, table, cuts), network.config, settings.calendar)


def cut_table(table: Table, settings: TrainingSettings) -> tuple[Cuts, ...]:
    """Returns where the settings cut each series; raises as `split_table`."""
    minimum = max(settings.window, SHORTEST)
    when = {"cutoff": settings.cutoff, "validation_from": settings.validation_from}
    return split_table(table, settings.validation, settings.test, minimum, **when)


def configure(table: Table, cuts: tuple[Cuts, ...], settings: TrainingSettings) -> NetworkConfig:
    """Returns the network for a table: its columns with the scales of the training part."""
    scales = series_scales(table, cuts, max(settings.window, SHORTEST)) if settings.scale == "series" else ()
    values = in_series_units(table, {each.name: each for each in scales})
    parts = [(x[part.train], y[part.train]) for (x, y), part in zip(values, cuts, strict=True)]
    targets = []
    for place, name in enumerate(table.targets):
        columns = [y[:, place] for _, y in parts]
        learned = [np.diff(column) for column in columns] if settings.difference else columns
        mean, scale = moments(name, np.concatenate(learned))
        targets.append(Target(name, mean, scale, settings.difference))
    seen = features(table.inputs, [x for x, _ in parts], settings)
    seen = tuple(replace(feature, ahead=int(feature.name in table.known)) for feature in seen)
    return settings.network("forecast", table.step_seconds, features=seen, targets=tuple(targets), series=scales)


def forecast_table(network: Network, table: Table, cuts: tuple[Cuts, ...]) -> list[Floats]:
    """Returns for each series the forecasts of its timesteps `[timesteps, targets]`, each made one timestep before, in own units.

    They begin with the validation part (NaN before), made by one session a series that has seen the `WARM_UP` timesteps before. A
    series that ends before its validation has none, and the first timestep of one that begins after it has none.
    """
    forecasts = [np.full(series.y.shape, np.nan, np.float32) for series in table.series]
    judged = [number for number, part in enumerate(cuts) if max(part.train_end, 1) < part.length]
    begins = [max(0, cuts[number].train_end - 1 - WARM_UP) for number in judged]
    scales = scales_of(network.config)
    pieces = [piece_of(network.config, scales, table.series[number]) for number in judged]
    lanes = _judged([piece.part(begin, len(piece)) for piece, begin in zip(pieces, begins, strict=True)])
    with torch.no_grad():
        raw = torch.cat([network.raw(values, window.inputs).cpu() for window, values in walk(network, lanes)])
    for values, begin, number in zip(lanes.pick(raw), begins, judged, strict=True):
        forecasts[number][begin + 1 :] = values
        forecasts[number][: cuts[number].train_end] = np.nan
    return forecasts


def _lesson(config: NetworkConfig, table: Table, cuts: tuple[Cuts, ...], settings: TrainingSettings) -> ForecastLesson:
    scales = scales_of(config)
    whole = [piece_of(config, scales, series) for series in table.series]
    # A goal belongs to the part of the timestep after its own, so of n timesteps to learn from n − 1 have one.
    training = [piece.part(0, part.train_end - 1) for piece, part in zip(whole, cuts, strict=True) if part.train_end >= SHORTEST]
    judged = []
    for piece, part in zip(whole, cuts, strict=True):
        first, end = max(part.train_end - 1, 0), part.validation_end - 1
        if first < end:
            goals = piece.goals.copy()
            goals[:first] = np.nan
            judged.append(Piece(piece.inputs, goals).part(max(0, first - WARM_UP), end))
    if all(np.isnan(piece.goals).all() for piece in judged):
        raise InvalidData("the validation part has no value of any target, so no epoch could be chosen by it")
    window, lanes = settings.window, settings.lanes
    return ForecastLesson(lay(cut(training, lanes, window), lanes, window), _judged(judged))


def _judged(pieces: list[Piece]) -> Lanes:
    """Lays whole pieces to walk through without learning, in windows no longer than the longest."""
    return lay(pieces, JUDGED_LANES, min(WARM_UP, max(map(len, pieces))))


def piece_of(config: NetworkConfig, scales: Scales, series: Series) -> Piece:
    """Returns what a network sees of a series, and the scaled goals: all timesteps but the last, whose goal lies ahead."""
    own_mean, own_scale = of_series(scales, series)
    goals = series.y[1:].astype(np.float64)
    for place, source in enumerate(config.base_places):
        goals[:, place] -= own_mean[place] if source is None else series.x[:-1, source]
    mean = np.array([target.mean for target in config.targets])
    scale = np.array([target.scale for target in config.targets])
    inputs: dict[str, Any] = {"x": _seen(config, series)}
    if config.calendar:
        inputs["time"] = series.time[:-1]
    if scales:
        given = {SERIES_MEAN: own_mean, SERIES_SCALE: own_scale}
        inputs |= {name: np.tile(value.astype(np.float32), (len(goals), 1)) for name, value in given.items()}
    return Piece(inputs, ((goals / own_scale - mean) / scale).astype(np.float32))


def _seen(config: NetworkConfig, series: Series) -> Floats:
    """Returns the inputs of every timestep but the last: its own values, and what is known of the next one."""
    ahead = [place for place, feature in enumerate(config.features) if feature.ahead]
    x = series.x[:-1].copy()
    x[:, ahead] = series.x[1:, ahead]
    return x


def _squares(values: Tensor, goals: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the sum of squared errors where the goal is known, and how many are."""
    known = ~torch.isnan(goals)
    error = torch.where(known, values - goals.nan_to_num(), 0.0)
    return error.square().sum(), known.sum()


def _evaluate(
    table: Table, cuts: tuple[Cuts, ...], forecasts: list[Floats], config: NetworkConfig, periods: tuple[int, ...]
) -> dict[str, Any]:
    """Returns the scores by split, target and method over all series, and where there are several those of each."""
    parts = list(zip(table.series, cuts, forecasts, strict=True))
    metrics: dict[str, Any] = {split: score_all(table.targets, parts, periods, split) for split in SPLITS}
    if len(table.ids) > 1:
        metrics["series"] = {split: score_each(table.targets, parts, periods, split) for split in SPLITS}
    metrics["scaled_error"] = {split: scaled_error(config, parts, split) for split in SPLITS}
    return metrics


def _draw(
    history: tuple[Epoch, ...], table: Table, cuts: tuple[Cuts, ...], forecasts: list[Floats], width: float
) -> dict[str, Figure]:
    from statewise_models.plots import plot_forecast, plot_losses

    longest = max(range(len(cuts)), key=lambda number: cuts[number].length - cuts[number].train_end)
    series, part = table.series[longest], cuts[longest]
    split, whole = ("test", part.test) if part.validation_end < part.length else ("validation", part.validation)
    shown = slice(whole.start, min(whole.start + SHOWN, whole.stop))
    stamps = series.stamps if series.stamps is not None else series.time
    truth, forecast = series.y[shown], forecasts[longest][shown]
    return {
        "loss": plot_losses(history, "mean squared error (scaled)", width),
        "forecast": plot_forecast(stamps[shown], truth, forecast, table.targets, series.name, split, width),
    }
