"""Which columns of a file versions need, read from their specs, and what their inputs are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from statewise_models.config import InvalidConfig
from statewise_models.data.policy import InvalidData, Policy
from statewise_models.evaluation.served import Inputs, Served

TIME = "time"


@dataclass(frozen=True, slots=True)
class Columns:
    """A file, and what its columns are.

    Attributes:
        data: the file.
        series, time, label: columns, or `None`.
        renamed: feature → column, where the file calls a feature otherwise.
        gaps, duplicates, unsorted: what to do about faults (`Policy`).
    """

    data: Path
    series: str | None = None
    time: str | None = None
    label: str | None = None
    renamed: Mapping[str, str] = field(default_factory=dict)
    gaps: str = "refuse"
    duplicates: str = "refuse"
    unsorted: str = "refuse"

    def column(self, feature: str) -> str:
        """Returns the column that holds a feature."""
        return self.renamed.get(feature, feature)

    def inputs(self, versions: Sequence[Served]) -> list[str]:
        """Returns the columns that any version reads, each once; raises `InvalidConfig` for a renaming that fits none."""
        features = list(dict.fromkeys(feature for version in versions for feature in version.features))
        known = {*features, *(name for version in versions for name in version.spec.outputs[0].features)}
        for feature in self.renamed:
            if feature not in known:
                raise InvalidConfig(f"--column: no version has a feature {feature!r}; there are {', '.join(sorted(known))}")
        return [self.column(feature) for feature in features]

    def known(self, versions: Sequence[Served]) -> list[str]:
        """Returns the columns that any version reads one timestep ahead."""
        return [self.column(feature) for feature in dict.fromkeys(name for version in versions for name in version.ahead)]

    def time_for(self, versions: Sequence[Served]) -> str | None:
        """Returns the time column: the one that was named, or `time` where a version's calendar counts datetimes."""
        counted = any(version.spec.calendar and version.spec.calendar.step_seconds for version in versions)
        return self.time or (TIME if counted else None)

    def policy(self, versions: Sequence[Served]) -> Policy:
        """Returns what to do about faults: a value may be missing where no version reads it, or each that does takes NaN."""
        names = {feature for version in versions for feature in version.features}
        names |= {name for version in versions if version.spec.task == "forecast" for name in version.spec.outputs[0].features}
        masked = {self.column(name): "mask" for name in names if all(version.masks(name) for version in versions)}
        return Policy(self.gaps, self.duplicates, self.unsorted, masked)  # type: ignore[arg-type]

    def check_step(self, versions: Sequence[Served], step_seconds: float) -> None:
        """Raises `InvalidData` where the file's timestep is not the one that a version's calendar counts."""
        for version in versions:
            calendar = version.spec.calendar
            if calendar and calendar.step_seconds != step_seconds:
                wants, has = _step(calendar.step_seconds), _step(step_seconds)
                raise InvalidData(f"{self.data}: {version} counts {wants}; the file has {has}")

    def feed(
        self,
        version: Served,
        names: Sequence[str],
        x: NDArray[np.float32],
        time: NDArray[np.int64],
        following: NDArray[np.float32] | None = None,
    ) -> Inputs:
        """Returns a version's inputs `[timesteps, …]` of columns `x` `[timesteps, columns]`, called `names`, and their times.

        Args:
            following: `x` one timestep on, for what is read ahead.
        """
        made: dict[str, Any] = {}
        ahead, later = version.ahead, x if following is None else following
        for tensor in version.spec.inputs:
            if tensor.features:
                sources = [later if feature in ahead else x for feature in tensor.features]
                places = [names.index(self.column(feature)) for feature in tensor.features]
                columns = [source[:, place] for source, place in zip(sources, places, strict=True)]
                made[tensor.name] = np.stack(columns, axis=1).astype(tensor.dtype)
            else:
                made[tensor.name] = time.astype(tensor.dtype)
        return made


def _step(seconds: float) -> str:
    return f"timesteps of {seconds:g} s" if seconds else "rows or integers (no datetimes)"
