"""Several series as one panel: the scale of each, and the scores of each beside those of all.

With `scale="series"` each target is scaled by its own mean and scale in the training part of its series, as an input and as what is
to be forecast; the network then sees series of any size alike. Other columns have one scale for all series.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from statewise.spec import SERIES_MEAN, SERIES_SCALE
from statewise_models.config import NetworkConfig, SeriesScale
from statewise_models.data.policy import InvalidData
from statewise_models.data.split import Cuts
from statewise_models.data.table import Series, Table
from statewise_models.files import replace_bytes
from statewise_models.scores import Scores, naive, score
from statewise_models.training.scaling import moments

SCALES_FILE = "scales.json"

Floats = NDArray[np.floating]
Parts = Iterable[tuple[Series, Cuts, Floats]]
Scales = Mapping[str, SeriesScale]


def series_scales(table: Table, cuts: Sequence[Cuts], minimum: int) -> tuple[SeriesScale, ...]:
    """Returns the mean and scale of every series' targets in its training part, all its pieces together.

    Raises:
        InvalidData: a series has fewer than `minimum` known values of a target there.
    """
    learned: dict[str, list[Floats]] = {name: [] for name in table.ids}
    for series, part in zip(table.series, cuts, strict=True):
        learned[series.id].append(series.y[part.train])
    return tuple(_scale(name, table.targets, np.concatenate(parts), minimum) for name, parts in learned.items())


def _scale(name: str, targets: Sequence[str], values: Floats, minimum: int) -> SeriesScale:
    pairs = []
    for place, target in enumerate(targets):
        known = int(np.isfinite(values[:, place]).sum())
        if known < minimum:
            has = f"series {name!r} has {known} values of {target!r} to learn from, and its own scale takes a window of {minimum}"
            raise InvalidData(f"{has} (--scale global, a smaller window or later cut-offs would fit, or leave it out)")
        pairs.append(moments(target, values[:, place]))
    means, scales = zip(*pairs, strict=True)
    # The values that sessions are given are float32, so training takes the same.
    return SeriesScale(name, tuple(float(np.float32(mean)) for mean in means), tuple(float(np.float32(each)) for each in scales))


def scales_of(config: NetworkConfig) -> Scales:
    """Returns the scales of the series that a network was trained on, by name; none where all have one."""
    return {each.name: each for each in config.series}


def of_series(scales: Scales, series: Series) -> tuple[Floats, Floats]:
    """Returns mean and scale of a series' targets, `[targets]` each: 0 and 1 without `scales`.

    Raises:
        InvalidData: there are scales, and none of this series.
    """
    if not scales:
        return np.zeros(series.y.shape[1]), np.ones(series.y.shape[1])
    if series.id not in scales:
        raise InvalidData(f"series {series.id!r} is not one that the network was trained on, so its own scale is not known")
    return np.array(scales[series.id].mean), np.array(scales[series.id].scale)


def in_series_units(table: Table, scales: Scales) -> list[tuple[Floats, Floats]]:
    """Returns `x` and `y` of each series with the targets' columns in its own units; as they are without `scales`."""
    places = [table.targets.index(name) if name in table.targets else None for name in table.inputs]
    made: list[tuple[Floats, Floats]] = []
    for series in table.series:
        mean, scale = of_series(scales, series)
        x = series.x.astype(np.float64)
        for at, place in enumerate(places):
            if place is not None:
                x[:, at] = (x[:, at] - mean[place]) / scale[place]
        made.append((x, (series.y - mean) / scale))
    return made


def score_all(targets: Sequence[str], parts: Parts, periods: Sequence[int], split: str) -> dict[str, dict[str, Scores]]:
    """Returns the scores of one split over all `parts` together, by target and method.

    Args:
        parts: series, their cuts and their forecasts `[timesteps, targets]`.

    The naive forecasts are each series' own. Where there are several, a series that is too young for a period is forecast by
    persistence in its stead, so that every method is judged on all series.
    """
    parts = list(parts)
    scored = {}
    for place, target in enumerate(targets):
        columns: dict[str, list[Floats]] = {}
        for series, part, forecast in parts:
            methods = _methods(series, forecast, place, periods)
            for method, values in methods.items():
                known = values if len(parts) == 1 else np.where(np.isnan(values), methods["persistence"], values)
                chosen = known if method.startswith("naive_") else values
                columns.setdefault(method, []).append(chosen[getattr(part, split)])
        joined = {method: np.concatenate(each) for method, each in columns.items()}
        scored[target] = score(joined.pop("truth"), joined)
    return scored


def score_each(targets: Sequence[str], parts: Parts, periods: Sequence[int], split: str) -> dict[str, dict[str, dict[str, Scores]]]:
    """Returns the scores of one split by series (all its pieces together), target and method; without series that have none."""
    pieces: dict[str, list[tuple[Series, Cuts, Floats]]] = {}
    for part in parts:
        pieces.setdefault(part[0].id, []).append(part)
    each = {name: score_all(targets, of_one, periods, split) for name, of_one in pieces.items()}
    return {name: scored for name, scored in each.items() if any(scored.values())}


def scaled_error(config: NetworkConfig, parts: Parts, split: str) -> dict[str, float]:
    """Returns the mean absolute error of the model and of persistence in one split, in standard deviations of training.

    So a server tells of live forecasts: of all targets that are inputs too, over all series together; empty where there is none.
    """
    scales = scales_of(config)
    places = [(place, config.features[at].scale) for at, place in enumerate(config.target_places) if place is not None]
    errors: dict[str, list[Floats]] = {"model": [], "persistence": []}
    for series, part, forecast in parts:
        _, own = of_series(scales, series)
        for place, scale in places:
            truth = series.y[:, place].astype(np.float64)
            made = {"model": forecast[:, place], "persistence": naive(truth, ())["persistence"]}
            off = {method: np.abs(each - truth)[getattr(part, split)] / (own[place] * scale) for method, each in made.items()}
            known = np.logical_and.reduce([np.isfinite(each) for each in off.values()])
            for method, each in off.items():
                errors[method].append(each[known])
    joined = {method: np.concatenate(each) if each else np.empty(0) for method, each in errors.items()}
    return {method: float(each.mean()) for method, each in joined.items() if len(each)}


def write_scales(scales: Scales, path: Path) -> None:
    """Writes what the sessions of each series are to be given, as JSON: series → constant → values; raises `OSError`."""
    given = {name: {SERIES_MEAN: each.mean, SERIES_SCALE: each.scale} for name, each in scales.items()}
    replace_bytes(path, (json.dumps(given, indent=2, ensure_ascii=False) + "\n").encode())


def _methods(series: Series, forecast: Floats, place: int, periods: Sequence[int]) -> dict[str, Floats]:
    truth = series.y[:, place]
    return {"truth": truth, "model": forecast[:, place], **naive(truth, periods)}
