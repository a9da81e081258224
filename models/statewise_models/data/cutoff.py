"""Times at which all series of a table are cut: given, or taken so that the parts have their shares of all timesteps.

A share of each series would put one series' test into the time of another's training, and what moves them all (weather, a crisis)
would be known before it comes.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from statewise_models.config import InvalidConfig
from statewise_models.data.policy import InvalidData
from statewise_models.data.table import Series, Table

Times = NDArray[np.datetime64] | NDArray[np.int64]
Time = np.datetime64 | np.int64


@dataclass(frozen=True, slots=True)
class CommonTimes:
    """When validation and test begin in every series: datetimes in UTC where the file has datetimes, else its integers.

    Attributes:
        validation: the first time that is not for training; `None` if all is.
        test: the first time that only the report sees; `None` if there is no test part.
    """

    validation: Time | None
    test: Time | None

    @property
    def named(self) -> str:
        """The time before which there is training."""
        return "their end" if self.validation is None else _told(self.validation)

    def places(self, series: Series) -> tuple[int, int]:
        """Returns the first timestep of validation and of test in a series; its length where it ends before."""
        times = _times(series)
        places = [len(times) if each is None else int(np.searchsorted(times, each)) for each in (self.validation, self.test)]
        return places[0], places[1]


def common_times(table: Table, validation: float, test: float, cutoff: str, validation_from: str) -> CommonTimes:
    """Returns the times to cut all series at.

    Args:
        validation, test: shares of the timesteps of all series; each stands back where its time is given.
        cutoff: when test begins, as the file writes times; or empty.
        validation_from: when validation begins; or empty.

    Raises:
        InvalidConfig: a time that the file's column cannot hold, outside the data, or after the other.
        InvalidData: the data cannot be cut so that something is left to train on.
    """
    if validation_from and not cutoff:
        raise InvalidConfig(
            "--validation-from is when validation begins, and takes --cutoff beside it, when it ends and test begins"
        )
    times = np.sort(np.concatenate([_times(series) for series in table.series]))
    second = _given(table, times, "--cutoff", cutoff) if cutoff else _share(times, len(times) * test if test else 0)
    before = times if second is None else times[times < second]
    first = _given(table, times, "--validation-from", validation_from) if validation_from else None
    if first is not None and second is not None and first >= second:
        raise InvalidConfig(f"--validation-from {validation_from} must be before --cutoff {cutoff}")
    if first is None and validation:
        # At times that many series share a part can be empty: the last time before the test is then for validation.
        first = _share(before, len(times) * validation)
    first = second if first is None else first
    if first is not None and first <= times[0]:
        raise InvalidData(
            "the series are too short to be cut at common times: nothing is left to train on (later cut-offs would fit)"
        )
    return CommonTimes(first, second)


def _share(times: Times, count: float) -> Time | None:
    """Returns the time from which on there are about `count` of the sorted `times`; `None` if `count` is 0 or nothing is there."""
    if not count or not len(times):
        return None
    found: Time = times[max(len(times) - max(round(count), 1), 0)]
    return found


def _given(table: Table, times: Times, option: str, text: str) -> Time:
    if not table.timed and len(table.series) > 1:
        raise InvalidConfig(f"{option} takes --time: without a time column the series have no time in common")
    made = _datetime(option, text) if table.step_seconds else _integer(option, text)
    if not times[0] < made <= times[-1]:
        raise InvalidConfig(f"{option} {text} is outside the data, which go from {_told(times[0])} to {_told(times[-1])}")
    return made


def _datetime(option: str, text: str) -> np.datetime64:
    try:
        if text.strip().isdigit():
            raise ValueError
        stamp = datetime.datetime.fromisoformat(text.strip())
    except ValueError:
        raise InvalidConfig(
            f"{option} takes an ISO date or datetime, since the time column holds datetimes, not {text!r}"
        ) from None
    stamp = stamp if stamp.tzinfo else stamp.replace(tzinfo=datetime.UTC)
    return np.datetime64(stamp.astimezone(datetime.UTC).replace(tzinfo=None), "us")


def _integer(option: str, text: str) -> np.int64:
    try:
        return np.int64(text)
    except (ValueError, OverflowError):
        raise InvalidConfig(f"{option} takes an integer, since time counts timesteps here, not {text!r}") from None


def _times(series: Series) -> Times:
    return series.time if series.stamps is None else series.stamps


def _told(time: Time) -> str:
    return np.datetime_as_string(time, unit="m") if isinstance(time, np.datetime64) else str(time)
