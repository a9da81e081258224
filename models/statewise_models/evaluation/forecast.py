"""Versions that forecast: one step ahead, beside persistence and the value one calendar period ago, as training's report has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from statewise.spec import SERIES_MEAN, SERIES_SCALE
from statewise_models.data.policy import InvalidData
from statewise_models.data.table import Series, Table, read_table
from statewise_models.evaluation.columns import Columns
from statewise_models.evaluation.judged import Contest, Judged, Measure, same
from statewise_models.evaluation.served import Given, Served
from statewise_models.scores import naive, score

MEASURES = (Measure("rmse", "RMSE", ",.4g"), Measure("mae", "MAE", ",.4g"), Measure("mape", "MAPE %", ".2f"))

Forecasts = Mapping[str, NDArray[np.floating]]


def judge_forecasts(versions: Sequence[Served], columns: Columns, warm_up: int) -> Judged:
    """Returns how well versions forecast the series of a file, each from its first row on, in one session.

    Args:
        warm_up: timesteps of each series that are run but not scored. A seasonal forecast is shown where they cover its period.

    Raises:
        InvalidConfig: the versions forecast different columns.
        InvalidData: the file does not fit them, or nothing is left to score.
        RepositoryError: a version cannot be run.
    """
    targets: tuple[str, ...] = same(versions, "targets", [version.spec.outputs[0].features for version in versions])
    known = columns.known(versions)
    table = read_table(
        columns.data,
        targets=[columns.column(target) for target in targets],
        inputs=[name for name in columns.inputs(versions) if name not in known],
        known=known,
        series=columns.series,
        time=columns.time_for(versions),
        policy=columns.policy(versions),
    )
    columns.check_step(versions, table.step_seconds)
    first = max(warm_up, 1)  # nothing is forecast for the first timestep
    scored = [number for number, series in enumerate(table.series) if len(series) > first]
    if not scored:
        longest = max(map(len, table.series))
        raise InvalidData(
            f"{columns.data}: nothing is left to score: no series has more than {longest} timesteps, {first} are not scored"
        )
    answers = [_forecasts(version, columns, table, warm_up) for version in versions]
    periods = sorted({period for version in versions if version.spec.calendar for period in version.spec.calendar.periods})
    covered = [period for period in periods if period <= first]
    contests = [_methods(versions, [each[number] for each in answers], table.series[number], covered) for number in scored]
    groups = {
        table.series[number].name: _contest(targets, [(table.series[number], methods)], first)
        for number, methods in zip(scored, contests, strict=True)
    }
    overall = _contest(targets, [(table.series[number], methods) for number, methods in zip(scored, contests, strict=True)], first)
    if not overall:
        raise InvalidData(f"{columns.data}: nothing is left to score: no value of {', '.join(targets)} is known after the warm-up")
    notes = _notes(table, scored, first, sorted(set(periods) - set(covered)))
    return Judged(tuple(map(str, versions)), MEASURES, overall, "timesteps", groups, "series", notes)


def _forecasts(version: Served, columns: Columns, table: Table, warm_up: int) -> list[NDArray[np.floating]]:
    """Returns for each series the forecasts of its timesteps `[timesteps, targets]`, each made one before; NaN for the first."""
    fed = [columns.feed(version, table.inputs, each.x[:-1], each.time[:-1], each.x[1:]) for each in table.series]
    given = [_given(version, columns, series, warm_up) for series in table.series]
    return [np.concatenate([np.full((1, answer.shape[1]), np.nan), answer]) for answer in version.answers(fed, given)]


def _given(version: Served, columns: Columns, series: Series, warm_up: int) -> Given:
    """Returns what the session of a series is given: what the version knows of it, else mean and scale of its warm-up.

    Raises:
        InvalidData: the version must be given something that neither tells.
    """
    known: Given = version.spec.series.get(series.id, {})
    missing = [constant.name for constant in version.spec.constants if constant.required and constant.name not in known]
    if not missing:
        return known
    values = series.y[:warm_up]
    if not set(missing) <= {SERIES_MEAN, SERIES_SCALE} or not np.isfinite(values).any(axis=0).all():
        told = f"{version} does not know series {series.id!r}, whose session must be given {', '.join(missing)}"
        raise InvalidData(f"{columns.data}: {told}: --warm-up N takes its mean and scale from its first N timesteps")
    mean, scale = np.nanmean(values, axis=0), np.nanstd(values, axis=0)
    return {SERIES_MEAN: mean, SERIES_SCALE: np.where(scale > 0, scale, 1.0)}


def _methods(
    versions: Sequence[Served], answers: Sequence[NDArray[np.floating]], series: Series, periods: Sequence[int]
) -> list[Forecasts]:
    """Returns for each target the forecasts `[timesteps]` of all contestants."""
    made: list[Forecasts] = []
    for place in range(series.y.shape[1]):
        ours = {str(version): answer[:, place] for version, answer in zip(versions, answers, strict=True)}
        made.append({**ours, **naive(series.y[:, place], periods)})
    return made


def _contest(targets: Sequence[str], judged: Sequence[tuple[Series, list[Forecasts]]], first: int) -> Contest:
    """Returns the scores by target and method over some series; a target of which nothing is known is left out."""
    contest = {}
    for place, target in enumerate(targets):
        truth = np.concatenate([series.y[first:, place] for series, _ in judged])
        names = judged[0][1][place]
        joined = {name: np.concatenate([methods[place][name][first:] for _, methods in judged]) for name in names}
        if scores := score(truth, joined):
            contest[target] = scores
    return contest


def _notes(table: Table, scored: Sequence[int], first: int, uncovered: Sequence[int]) -> tuple[str, ...]:
    notes = []
    if uncovered:
        names = ", ".join(f"naive_{period}" for period in uncovered)
        notes.append(f"{names}: not shown, since the warm-up does not cover the period (--warm-up {uncovered[0]})")
    if len(scored) < len(table.series):
        left = len(table.series) - len(scored)
        notes.append(f"{left} of {len(table.series)} series have no more than {first} timesteps, and are not scored")
    return tuple(notes)
