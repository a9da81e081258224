"""Cuts series by time: training first, then validation, then test.

The cuts are places, not copies, since validation and test begin with a state that was warmed up on what came before.
"""

from __future__ import annotations

from dataclasses import dataclass

from statewise_models.config import InvalidConfig
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
        if not 0 < self.train_end <= self.validation_end <= self.length:
            raise InvalidConfig(f"cuts must be ordered, with something to train on: {self}")

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


def split_table(table: Table, validation: float = 0.125, test: float = 0.25, minimum: int = 1) -> tuple[Cuts, ...]:
    """Cuts every series of a table; returns its `Cuts` in the order of `table.series`.

    Args:
        table: the series.
        validation, test: shares of each series, each at least 0 and together below 1; a share above 0 gives at least one timestep.
        minimum: timesteps that each series' training part must have, the length of a window.

    Raises:
        InvalidData: a series is too short.
        InvalidConfig: shares or minimum out of range.
    """
    return tuple(cut(f"series {series.name!r}", len(series), validation, test, minimum) for series in table.series)


def cut(what: str, length: int, validation: float, test: float, minimum: int) -> Cuts:
    """Cuts one series or text of `length` timesteps, called `what` in errors; as `split_table`."""
    if validation < 0 or test < 0 or not validation + test < 1:
        raise InvalidConfig(f"validation and test must be at least 0 and together below 1, not {validation} and {test}")
    if minimum < 1:
        raise InvalidConfig(f"minimum must be at least 1 timestep, not {minimum}")
    validation_end = min(round(length * (1 - test)), length - bool(test))
    train_end = min(round(length * (1 - test - validation)), validation_end - bool(validation))
    if train_end < minimum:
        left = f", which leaves {max(train_end, 0)} for training" if train_end < length else ""
        remedy = "a smaller window" + (", or smaller shares for validation and test, would fit" if left else " would fit")
        raise InvalidData(f"{what} is too short: it has {length} timesteps{left}, and a window takes {minimum} ({remedy})")
    return Cuts(train_end, validation_end, length)
