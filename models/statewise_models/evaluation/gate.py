"""Whether the last version named is good enough to go live: limits → what they are broken by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from statewise_models.config import InvalidConfig
from statewise_models.evaluation.judged import Judged

OPTIONS = {"rmse": "--max-rmse", "accuracy": "--min-accuracy", "bits_per_token": "--max-bits"}


@dataclass(frozen=True, slots=True)
class Gate:
    """What the last version must keep to; `None` is no limit.

    Attributes:
        limits: of a measure, by its key, the last figure that passes.
        max_worse: by what share it may be worse than the first version.
        beat_baseline: whether it must be better than every baseline.
    """

    limits: dict[str, float]
    max_worse: float | None = None
    beat_baseline: bool = False

    @property
    def stands(self) -> bool:
        """Whether anything is asked at all."""
        return bool(self.limits) or self.max_worse is not None or self.beat_baseline

    def check(self, key: str, versions: Sequence[str]) -> None:
        """Raises `InvalidConfig` where a limit does not fit what is measured, or the versions that are named."""
        for wrong in self.limits.keys() - {key}:
            raise InvalidConfig(f"{OPTIONS[wrong]} is not for {versions[-1]}, which is measured by {key}: {OPTIONS[key]} is")
        if self.max_worse is not None and len(versions) < 2:
            raise InvalidConfig("--max-worse compares the last version named with the first: name two")

    def broken(self, judged: Judged) -> list[str]:
        """Returns, in words, what keeps the last version from passing; empty if it passes."""
        return list(self._broken(judged))

    def _broken(self, judged: Judged) -> Iterator[str]:
        measure, first, last = judged.decisive, judged.versions[0], judged.versions[-1]
        for subject, contest in judged.overall.items():
            figures = {name: float(scores[measure.key] or 0.0) for name, scores in contest.items()}
            told = {name: f"{figure:{measure.form}}" for name, figure in figures.items()}
            what = f"{subject}: {measure.name} {told[last]}"
            limit = self.limits.get(measure.key)
            if limit is not None and measure.worse(figures[last], limit) > 0:
                yield f"{what}; {OPTIONS[measure.key]} is {limit:{measure.form}}"
            worse, most = measure.worse(figures[last], figures[first]), self.max_worse
            if most is not None and worse > most:
                yield f"{what}, {worse:.1%} worse than {first} ({told[first]}); --max-worse is {100 * most:.4g}%"
            if self.beat_baseline:
                baselines = [name for name in figures if name not in judged.versions]
                if not baselines:
                    yield f"{what}, and no baseline is known where it is"
                for name in baselines:
                    if measure.worse(figures[last], figures[name]) >= 0:
                        yield f"{what}, no better than {name} ({told[name]})"
