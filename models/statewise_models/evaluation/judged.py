"""How good versions were on a file, as one value for all tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from statewise.spec import Vocabulary
from statewise_models.config import InvalidConfig
from statewise_models.evaluation.served import Served

Figures = Mapping[str, float | None]
Contest = Mapping[str, Mapping[str, Figures]]
"""What is judged (a target, the label, the next token) → contestant → figures."""


@dataclass(frozen=True, slots=True)
class Measure:
    """A figure by which versions are compared.

    Attributes:
        key: its name among the figures.
        name: what people call it.
        form: how it is written, as `format` takes it.
        more_is_better: whether it counts what is right, not what is wrong.
    """

    key: str
    name: str
    form: str
    more_is_better: bool = False

    def worse(self, figure: float, than: float) -> float:
        """Returns by what share `figure` is worse `than` another, both not negative; negative where it is better."""
        change = figure - than if not self.more_is_better else than - figure
        return change / than if than else (float("inf") if change > 0 else float("-inf") if change < 0 else 0.0)


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """How good versions were on a file.

    Attributes:
        versions: the words that name them, in the order in which they were named.
        measures: the figures that are shown; the first decides.
        overall: the contest over all of the file; contestants are the versions and then the baselines.
        groups: the same for each series, or each label.
        counted: what is scored.
        grouped_by: what a group is.
        notes: what a reader must know of how it was judged.
    """

    versions: tuple[str, ...]
    measures: tuple[Measure, ...]
    overall: Contest
    counted: str
    groups: Mapping[str, Contest] = field(default_factory=dict)
    grouped_by: str = ""
    notes: tuple[str, ...] = ()

    @property
    def decisive(self) -> Measure:
        """The measure by which versions are compared."""
        return self.measures[0]

    def as_dict(self) -> dict[str, Any]:
        """Returns all figures, as JSON knows them."""
        groups = [{self.grouped_by: name, "scores": contest} for name, contest in self.groups.items()]
        return {"measure": self.decisive.key, "overall": self.overall, "groups": groups, "notes": list(self.notes)}


def same(versions: Sequence[Served], what: str, values: Sequence[Any]) -> Any:
    """Returns what all versions share; raises `InvalidConfig` naming the first that differs."""
    for version, value in zip(versions, values, strict=True):
        if value != values[0]:
            told = [_told(each) for each in (values[0], value)]
            raise InvalidConfig(
                f"versions can be compared only with the same {what}: {versions[0]} has {told[0]}, {version} has {told[1]}"
            )
    return values[0]


def _told(value: Any) -> str:
    if isinstance(value, Vocabulary):
        return f"{len(value)} {'bytes' if value.bytes else 'characters'}"
    words = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return words if len(words) <= 60 else words[:59] + "…"
