"""The last minutes in figures: the registry's counts, read once a second, and what changed between two reads.

The metrics are the one source; nothing on the way of a step knows that somebody is looking.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Metric

SAMPLES = 300
STEPS, TIMESTEPS, REJECTED = "statewise_steps_total", "statewise_timesteps_total", "statewise_steps_rejected_total"
SECONDS, BATCHES = "statewise_step_seconds", "statewise_batch_steps"
WANTED = {name.removesuffix("_total") for name in (STEPS, TIMESTEPS, REJECTED, SECONDS, BATCHES)}
Refused = Mapping[tuple[str, str], float]


@dataclass(frozen=True, slots=True)
class Totals:
    """What the registry counts at one moment.

    Attributes:
        refused: steps of known sessions, by reason and model.
        rejected: steps that were refused before they were pending, by reason; some of them may be among `refused` as well.
        buckets: upper bound in seconds → steps that took at most so long.
    """

    steps: float = 0.0
    timesteps: float = 0.0
    refused: Refused = field(default_factory=dict)
    rejected: Refused = field(default_factory=dict)
    buckets: Mapping[float, float] = field(default_factory=dict)
    batches: float = 0.0
    batched: float = 0.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One second.

    Attributes:
        number: counts the samples from 1.
        at: Unix seconds.
        steps, timesteps, refused: a second; steps are those that ran.
        p50_seconds, p99_seconds: from arrival to reply; `None` where no step was answered.
        batch: the mean steps of an engine run; `None` where there was none.
        sessions, pending: at its end.
    """

    number: int
    at: float
    steps: float
    timesteps: float
    refused: float
    p50_seconds: float | None
    p99_seconds: float | None
    batch: float | None
    sessions: int
    pending: int


class Figures:
    """The last samples; `take` alone adds one."""

    def __init__(self, registry: CollectorRegistry, now: float) -> None:
        self._registry = registry
        self._samples: deque[Sample] = deque(maxlen=SAMPLES)
        self._number = 0
        self._then = now
        self._totals = read(registry.collect())

    def take(self, now: float, sessions: int, pending: int) -> Refused:
        """Adds the sample that ends `now`, in Unix seconds; returns what was refused in it, by reason and model.

        Args:
            sessions: that are open.
            pending: steps that are not answered.
        """
        before, self._totals = self._totals, read(self._registry.collect())
        self._number += 1
        seconds = max(now - self._then, 1e-3)
        self._samples.append(_between(before, self._totals, self._number, now, seconds, sessions, pending))
        self._then = now
        return _refused(before, self._totals)

    def after(self, number: int) -> list[Sample]:
        """Returns the samples after one; after 0, all that are kept."""
        return [sample for sample in self._samples if sample.number > number]


def read(families: Iterable[Metric]) -> Totals:
    """Returns the totals that families of metrics tell; labels that are not asked for are summed over."""
    found = {family.name: family.samples for family in families if family.name in WANTED}
    values = {name: sum(s.value for samples in found.values() for s in samples if s.name == name) for name in _SUMMED}
    refused: dict[tuple[str, str], float] = {}
    rejected: dict[tuple[str, str], float] = {}
    buckets: dict[float, float] = {}
    for sample in (sample for samples in found.values() for sample in samples):
        labels = sample.labels
        if sample.name == STEPS and labels["code"] != "OK":
            key = (labels["code"], labels["model"])
            refused[key] = refused.get(key, 0.0) + sample.value
        elif sample.name == REJECTED:
            key = (labels["reason"], "")
            rejected[key] = rejected.get(key, 0.0) + sample.value
        elif sample.name == f"{SECONDS}_bucket":
            bound = float(labels["le"])
            buckets[bound] = buckets.get(bound, 0.0) + sample.value
    return Totals(
        values[STEPS] - sum(refused.values()),
        values[TIMESTEPS],
        refused,
        rejected,
        dict(sorted(buckets.items())),
        values[f"{BATCHES}_count"],
        values[f"{BATCHES}_sum"],
    )


_SUMMED = (STEPS, TIMESTEPS, f"{BATCHES}_count", f"{BATCHES}_sum")


def quantile(share: float, bounds: Sequence[float], counts: Sequence[float]) -> float | None:
    """Returns the value below which a share of the observations lie, evenly spread within a bucket as Prometheus has it.

    Args:
        bounds: the buckets' upper bounds, the last of them infinite.
        counts: of each bucket by itself.
    """
    rank, below, lower = share * sum(counts), 0.0, 0.0
    if not rank:
        return None
    for bound, count in zip(bounds[:-1], counts, strict=False):
        if count and below + count >= rank:
            return lower + (bound - lower) * (rank - below) / count
        below, lower = below + count, bound
    return lower


def _between(before: Totals, after: Totals, number: int, now: float, seconds: float, sessions: int, pending: int) -> Sample:
    bounds = list(after.buckets)
    grown = [after.buckets[bound] - before.buckets.get(bound, 0.0) for bound in bounds]
    counts = [count - below for count, below in zip(grown, [0.0, *grown], strict=False)]
    batches = after.batches - before.batches
    return Sample(
        number,
        now,
        _rate(before.steps, after.steps, seconds),
        _rate(before.timesteps, after.timesteps, seconds),
        sum(_refused(before, after).values()) / seconds,
        quantile(0.5, bounds, counts),
        quantile(0.99, bounds, counts),
        (after.batched - before.batched) / batches if batches > 0 else None,
        sessions,
        pending,
    )


def _rate(before: float, after: float, seconds: float) -> float:
    """Returns a growth a second; the counts of a version that left memory are gone, which is no growth."""
    return max(after - before, 0.0) / seconds


def _refused(before: Totals, after: Totals) -> Refused:
    """Returns what was refused between two reads; of a step that is counted both ways, the model is known."""
    grown = dict(_grown(before.refused, after.refused))
    of_models = {why: sum(count for (reason, _), count in grown.items() if reason == why) for why, _ in grown}
    rest = {key: count - of_models.get(key[0], 0.0) for key, count in _grown(before.rejected, after.rejected).items()}
    return {**grown, **{key: count for key, count in rest.items() if count > 0}}


def _grown(before: Refused, after: Refused) -> Refused:
    return {key: count - before.get(key, 0.0) for key, count in after.items() if count > before.get(key, 0.0)}
