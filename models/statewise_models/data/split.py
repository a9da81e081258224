"""Cuts series by time: training first, then validation, then test.

Several series with a time column are cut at the same two times (`cutoff`); a series alone, or series that count their rows, by
shares of each. The cuts are places, not copies, since validation and test begin with a state that was warmed up on what came
before.
"""

from __future__ import annotations

from dataclasses import dataclass

from statewise_models.config import InvalidConfig
from statewise_models.data.cutoff import CommonTimes, common_times
from statewise_models.data.policy import InvalidData
from statewise_models.data.table import Table


@dataclass(frozen=True, slots=True)
class Cuts:
    """Where the parts of one series end: training is `[0, train_end)`, validation `[train_end, validation_end)`, test the rest.

    A forecast belongs to the part of the timestep that it is about, not of the one that it is made at.
    """

    train_end: int
    validation_end: int
    length: int

    def __post_init__(self) -> None:
        if not 0 <= self.train_end <= self.validation_end <= self.length:
            raise InvalidConfig(f"cuts must be ordered: {self}")

    @property
    def train(self) -> slice:
        """The timesteps to learn from."""
        return slice(0, self.train_end)

    @property
    def validation(self) -> slice:
        """The timesteps that choose the best weights."""
        return slice(self.train_end, self.validation_end)

    @property
    def test(self) -> slice:
        """The timesteps that only the last report sees."""
        return slice(self.validation_end, self.length)


def split_table(
    table: Table, validation: float = 0.125, test: float = 0.25, minimum: int = 1, *, cutoff: str = "", validation_from: str = ""
) -> tuple[Cuts, ...]:
    """Cuts every series of a table; returns its `Cuts` in the order of `table.series`.

    Args:
        table: the series.
        validation, test: shares, each at least 0 and together below 1; a share above 0 gives at least one timestep. They are of
            all timesteps together where series are cut at common times, and of each series otherwise.
        minimum: timesteps that a training part must have, the length of a window: of each series where each is cut by itself, of
            one of them where they are cut at common times. There a series that begins later is left to validation and test.
        cutoff, validation_from: the times at which test and validation begin in all series, instead of shares: ISO datetimes or
            integers, as the file has them; empty for none.

    Raises:
        InvalidData: a series is too short, or no series is long enough.
        InvalidConfig: shares, minimum or times out of range, or of another kind than the file's.
    """
    _check(validation, test, minimum)
    if cutoff or validation_from or (table.timed and len(table.series) > 1):
        times = common_times(table, validation, test, cutoff, validation_from)
        return _at(table, times, minimum)
    return tuple(cut(f"series {series.name!r}", len(series), validation, test, minimum) for series in table.series)


def _at(table: Table, times: CommonTimes, minimum: int) -> tuple[Cuts, ...]:
    cuts = tuple(Cuts(*times.places(series), len(series)) for series in table.series)
    longest = max(part.train_end for part in cuts)
    if longest < minimum:
        told = f"the longest has {longest} timesteps before {times.named}, and a window takes {minimum}"
        raise InvalidData(f"no series has enough to learn from: {told} (a smaller window, or later cut-offs, would fit)")
    return cuts


def cut(what: str, length: int, validation: float, test: float, minimum: int) -> Cuts:
    """Cuts one series or text of `length` timesteps, called `what` in errors; as `split_table`."""
    _check(validation, test, minimum)
    validation_end = min(round(length * (1 - test)), length - bool(test))
    train_end = min(round(length * (1 - test - validation)), validation_end - bool(validation))
    if train_end < minimum:
        left = f", which leaves {max(train_end, 0)} for training" if train_end < length else ""
        remedy = "a smaller window" + (", or smaller shares for validation and test, would fit" if left else " would fit")
        raise InvalidData(f"{what} is too short: it has {length} timesteps{left}, and a window takes {minimum} ({remedy})")
    return Cuts(train_end, validation_end, length)


def _check(validation: float, test: float, minimum: int) -> None:
    if validation < 0 or test < 0 or not validation + test < 1:
        raise InvalidConfig(f"validation and test must be at least 0 and together below 1, not {validation} and {test}")
    if minimum < 1:
        raise InvalidConfig(f"minimum must be at least 1 timestep, not {minimum}")
