"""All metrics of the server in one place. Label children are made once and kept, since making one doubles an update's cost."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from functools import cache
from itertools import accumulate

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from statewise.errors import Reason

SECONDS = (50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
VERSION = ("model", "version")


class CountedHistogram(Collector):
    """A histogram that takes a value many times at once: a batch's steps cost one update. prometheus_client's own takes one."""

    def __init__(self, name: str, documentation: str, registry: CollectorRegistry) -> None:
        self._name = name
        self._documentation = documentation
        self._counts = [0] * (len(SECONDS) + 1)
        self._sum = 0.0
        registry.register(self)

    def observe(self, value: float, count: int = 1) -> None:
        """Enters a value `count` times."""
        self._counts[bisect_left(SECONDS, value)] += count
        self._sum += value * count

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Yields the family that is exposed."""
        bounds = [*map(floatToGoString, SECONDS), "+Inf"]
        buckets = list(zip(bounds, accumulate(self._counts), strict=True))
        yield HistogramMetricFamily(self._name, self._documentation, buckets, self._sum)


class ServerMetrics:
    """The server's counters, gauges and histograms, in the registry that is given."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.sessions_open = Gauge("statewise_sessions_open", "Sessions open now.", registry=registry)
        self.sessions_opened = Counter("statewise_sessions_opened_total", "Sessions opened.", VERSION, registry=registry)
        self.sessions_ended = Counter(
            "statewise_sessions_ended_total", "Sessions ended, by how: closed, expired.", ["how"], registry=registry
        )
        self.steps_pending = Gauge("statewise_steps_pending", "Steps admitted and not yet answered.", registry=registry)
        self._steps = Counter(
            "statewise_steps_total",
            "Steps answered, by outcome: OK or the reason of the error.",
            [*VERSION, "code"],
            registry=registry,
        )
        self._timesteps = Counter("statewise_timesteps_total", "Timesteps that sessions have consumed.", VERSION, registry=registry)
        self.steps_rejected = Counter(
            "statewise_steps_rejected_total", "Steps refused before they were pending, by reason.", ["reason"], registry=registry
        )
        self.steps_repeated = Counter(
            "statewise_steps_repeated_total", "Steps sent again and answered with the retained reply.", registry=registry
        )
        self.queue_seconds = CountedHistogram("statewise_step_queue_seconds", "From arrival to the first engine run.", registry)
        self.step_seconds = CountedHistogram("statewise_step_seconds", "From arrival to the reply.", registry)
        self._compute_seconds = Histogram(
            "statewise_batch_compute_seconds", "One engine run.", VERSION, buckets=SECONDS, registry=registry
        )
        self._batch_steps = Histogram(
            "statewise_batch_steps", "Steps of one engine run.", VERSION, buckets=SIZES, registry=registry
        )
        self.sessions_spilled = Counter(
            "statewise_sessions_spilled_total", "Sessions moved from memory to the store.", registry=registry
        )
        self.sessions_restored = Counter(
            "statewise_sessions_restored_total", "Sessions taken over from the store.", registry=registry
        )
        self._store_seconds = {
            operation: CountedHistogram(f"statewise_store_{operation}_seconds", "One answer of the store.", registry)
            for operation in ("write", "read", "claim", "delete")
        }
        self.store_seconds = self._store_seconds.__getitem__
        self.store_errors = Counter(
            "statewise_store_errors_total", "Times that the store did not answer.", ["operation"], registry=registry
        )
        for operation in self._store_seconds:
            self.store_errors.labels(operation)
        self.store_pending = Gauge("statewise_store_pending", "Snapshots that wait for the store.", registry=registry)
        self.durability_lag_seconds = Gauge(
            "statewise_durability_lag_seconds", "Age of the oldest snapshot that waits for the store.", registry=registry
        )
        self.durability_lag_timesteps = Gauge(
            "statewise_durability_lag_timesteps", "The most timesteps that a session is ahead of the store.", registry=registry
        )
        self.rows_used = Gauge("statewise_rows_used", "Rows of a state pool that are taken.", ["pool"], registry=registry)
        self.rows = Gauge("statewise_rows", "Rows of a state pool.", ["pool"], registry=registry)
        self.model_info = Gauge(
            "statewise_model_info", "1 for every model version in memory.", [*VERSION, "provider"], registry=registry
        )
        self.steps = cache(self._steps.labels)
        self.timesteps = cache(self._timesteps.labels)
        self.compute_seconds = cache(self._compute_seconds.labels)
        self.batch_steps = cache(self._batch_steps.labels)

    def forget(self, model: str, version: int) -> None:
        """Exposes nothing more of a version that there is no more."""
        for metric in (self.sessions_opened, self._timesteps, self._compute_seconds, self._batch_steps):
            metric.remove(model, str(version))
        for code in ("OK", *Reason):
            self._steps.remove(model, str(version), code)
        for children in (self.steps, self.timesteps, self.compute_seconds, self.batch_steps):
            children.cache_clear()
