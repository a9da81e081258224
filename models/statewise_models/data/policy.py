"""What to do with data that is not as it should be: refuse it, unless told otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from statewise.spec import Missing
from statewise_models.config import InvalidConfig

Gaps = Literal["refuse", "fill", "split"]
Duplicates = Literal["refuse", "first", "last", "mean"]
Unsorted = Literal["refuse", "sort"]


class InvalidData(ValueError):
    """A file cannot be trained on; the message is one line that names the file, the column and the rows."""


@dataclass(frozen=True, slots=True)
class Policy:
    """How faults of a file are treated.

    Attributes:
        gaps: timesteps that a series lacks. fill: as rows of NaN, so every input must be masked; split: the series ends there
            and a new one begins, named `NAME/2`, `NAME/3`, …
        duplicates: several rows of one timestep. first, last: that row of the file; mean: of the values that are known.
        unsorted: rows of a series whose times go back.
        missing: for each column, what a NaN means; one word is for all columns, and columns not named refuse. `mask` keeps the
            NaN: a network masks it as an input, the loss skips it as a target.

    Raises:
        InvalidConfig: a choice that does not exist.
    """

    gaps: Gaps = "refuse"
    duplicates: Duplicates = "refuse"
    unsorted: Unsorted = "refuse"
    missing: Mapping[str, Missing] | Missing = "refuse"

    def __post_init__(self) -> None:
        _one_of("gaps", self.gaps, get_args(Gaps))
        _one_of("duplicates", self.duplicates, get_args(Duplicates))
        _one_of("unsorted", self.unsorted, get_args(Unsorted))
        if isinstance(self.missing, str):
            _one_of("missing", self.missing, get_args(Missing))
        else:
            for column, choice in self.missing.items():
                _one_of(f"missing of column {column!r}", choice, get_args(Missing))

    def missing_of(self, column: str) -> Missing:
        """Returns what a NaN in `column` means."""
        return self.missing if isinstance(self.missing, str) else self.missing.get(column, "refuse")

    def check_columns(self, columns: Sequence[str], inputs: Sequence[str]) -> None:
        """Refuses a policy that does not fit the columns to read.

        Raises:
            InvalidConfig: `missing` names a column that is not read, or gaps are to be filled while an input takes no NaN.
        """
        unknown = [] if isinstance(self.missing, str) else [name for name in self.missing if name not in columns]
        if unknown:
            raise InvalidConfig(f"missing names {unknown[0]!r}, which is not among the columns to read: {', '.join(columns)}")
        refusing = [name for name in inputs if self.missing_of(name) == "refuse"]
        if self.gaps == "fill" and refusing:
            raise InvalidConfig(f"gaps can be filled only where every input is masked (missing: mask); {refusing[0]!r} is not")


def _one_of(field: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InvalidConfig(f"{field} must be one of {', '.join(choices)}, not {value!r}")


REFUSE = Policy()
